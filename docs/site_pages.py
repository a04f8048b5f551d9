"""The pages of the documentation site, which MkDocs builds: see `mkdocs.yml`.

The site has the pages that the repository has, with their links led to other pages of the site. A
linked source file becomes a page too. The API reference has a page for each public module.

    mkdocs build --strict        # into out/site
"""

from __future__ import annotations

import html
import importlib
import inspect
import re
import shutil
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "out" / "site-pages"
"""Where the pages are written for MkDocs to read."""

PAGES = {
    "README": "index",
    "examples/README": "course",
    "tinygrad_kr/compile/README": "compile",
    "tinygrad_kr/data/files/README": "digits",
    "CONTRIBUTING": "contributing",
    "CHANGELOG": "changelog",
}
"""Pages outside `docs/`, without suffix, and their names on the site."""

GUIDES = [
    "guides/first_net",
    "guides/training",
    "guides/compile",
    "guides/numpy_derivatives",
    "guides/save_and_exchange",
    "guides/explain",
    "guides/draw",
    "guides/monitor",
    "tour",
]
COMING_FROM = [
    "guides/from_pytorch",
    "guides/from_numpy",
    "guides/from_keras",
    "guides/from_jax",
    "guides/from_micrograd",
    "tensorflow1",
]
ENGINE = ["reading", "compile", "scale", "speed", "measured", "tests"]
PROJECT = ["contributing", "changelog", "digits"]

STARRED = [
    "arrays",
    "ops.elementwise",
    "creation",
    "random",
    "transformations",
    "grad_mode",
    "tree",
    "saving",
]
"""Modules whose public names are also names of `tinygrad_kr`, and the one for containers."""

APART = {"compile": "numpy", "explain": "numpy", "interop.sklearn": "sklearn"}
"""Modules that no `__all__` names, each with the package that it needs."""

LANGUAGE_LINK = re.compile(
    r"^ *\[(한국어|English)\]\([^)]*\)\n\n?| *\[(한국어|English)\]\([^)]*\)$", re.M
)
LINK = re.compile(r"(!?\[(?:[^\[\]]|\[[^\]]*\])*\])\(([^)\s]+)\)")
CODE = re.compile(r"(^```.*?^```$)", re.M | re.S)

LABELLED = re.compile(r"(?<=[.:;)])\n(?=[\w`][\w`, *.()]{0,40}: |Raises )")
"""A new line of a docstring that starts with a label, such as `Source:`, stays a new line. A label
follows the end of a sentence."""


def pages() -> dict[str, str]:
    """The repository's pages, by path from its root, and their paths on the site."""
    found = {}
    for suffix in (".md", ".ko.md"):
        for page, name in PAGES.items():
            if (ROOT / f"{page}{suffix}").exists():
                found[f"{page}{suffix}"] = f"{name}{suffix}"
    for path in sorted((ROOT / "docs").rglob("*.md")):
        found[path.relative_to(ROOT).as_posix()] = path.relative_to(ROOT / "docs").as_posix()
    return found


def target_on_site(target: str, known: dict[str, str]) -> str:
    """Where a file or folder of the repository is found on the site."""
    if target in known:
        return known[target].replace(".ko.md", ".md")
    if target.startswith("docs/pictures/"):
        return target.removeprefix("docs/")
    if (ROOT / target).is_dir():
        return f"source/{target}/index.md"
    return f"source/{without_dots(target)}.md"


def without_dots(name: str) -> str:
    """A name for a page: what follows a dot would be read as a language."""
    return name.replace(".", "-")


def with_links_of_the_site(text: str, page: str, known: dict[str, str]) -> tuple[str, set[str]]:
    """A page's text with its relative links led to the site, and the sources that it links."""
    sources: set[str] = set()
    here = PurePosixPath(known[page]).parent.as_posix()

    def led(match: re.Match[str]) -> str:
        path, mark, part = match[2].partition("#")
        if not path or re.match(r"\w+:", path):
            return match[0]
        target = normpath((PurePosixPath(page).parent / path).as_posix())
        if not (ROOT / target).exists():
            raise ValueError(f"{page}: expected a link to a file of the repository, got {path}")
        place = target_on_site(target, known)
        if place.startswith("source/"):
            sources.add(target)
        return f"{match[1]}({relpath(place, here)}{mark}{part})"

    parts = CODE.split(LANGUAGE_LINK.sub("", text, count=1))
    parts[::2] = [LINK.sub(led, part) for part in parts[::2]]
    return "".join(parts).replace("<details>", '<details markdown="1">'), sources


def source_page(path: str) -> str:
    """A page that shows a source file, or lists a folder's; the search leaves it out."""
    head = f"---\nsearch:\n  exclude: true\n---\n\n# {path}\n\n"
    file = ROOT / path
    if file.is_dir():
        return head + "".join(
            f"- [{name}]({without_dots(name)}.md)\n" for name in source_files(file)
        )
    language = {".py": "python", ".h": "c", ".c": "c"}.get(file.suffix, "text")
    return f"{head}````{language}\n{file.read_text(encoding='utf-8').rstrip()}\n````\n"


def source_files(folder: Path) -> list[str]:
    """The names of the sources in a folder."""
    return sorted(p.name for p in folder.iterdir() if p.suffix in (".py", ".h", ".c"))


def public_modules() -> list[str]:
    """The modules with a page in the API reference, the package first."""
    package = importlib.import_module("tinygrad_kr")
    found = [f"{package.__name__}.{name}" for name in STARRED]
    waiting: list[ModuleType] = [package]
    while waiting:
        module = waiting.pop(0)
        inner = [getattr(module, name) for name in module.__all__]
        inner = [value for value in inner if isinstance(value, ModuleType)]
        waiting += inner
        found += [value.__name__ for value in inner]
    found += [f"{package.__name__}.{name}" for name, need in APART.items() if find_spec(need)]
    return [package.__name__, *dict.fromkeys(found)]


def public_names(module: str) -> list[str]:
    """The functions and classes that a module's page describes."""
    names: list[str] = importlib.import_module(module).__all__
    if module == "tinygrad_kr":
        starred = (importlib.import_module(f"{module}.{name}").__all__ for name in STARRED)
        elsewhere = {name for names in starred for name in names}
        names = [name for name in dict.fromkeys(names) if name not in elsewhere]
    values = {name: getattr(importlib.import_module(module), name) for name in names}
    return [name for name, value in values.items() if callable(value) and value.__doc__]


def members(value: type) -> dict[str, Any]:
    """What a class's page describes: its own members, those of private bases, and `__init__`."""
    found: dict[str, Any] = {}
    for base in reversed(value.__mro__):
        if not base.__module__.startswith("tinygrad_kr"):
            continue
        shown = base is value or base.__name__.startswith("_")
        found |= {k: v for k, v in vars(base).items() if shown or k == "__init__"}
    return found


def reference_place(module: str) -> str:
    """Where the site has the reference of a module."""
    return f"reference/{without_dots(module)}.md"


def reference_page(module: str) -> str:
    """mkdocstrings' directives for the public names of a module; the search lists it first."""
    head = "---\nsearch:\n  boost: 3\n---\n\n"
    summary = (importlib.import_module(module).__doc__ or "").strip()
    entries = (f"::: {module}.{name}\n" for name in public_names(module))
    return f"{head}# {module}\n\n{summary}\n\n" + "\n".join(entries)


def as_markdown(doc: str) -> str:
    """A docstring as Markdown: examples and indented text become code."""
    return "\n\n".join(_paragraph(part) for part in re.split(r"\n\s*\n", inspect.cleandoc(doc)))


def _paragraph(text: str) -> str:
    if text.startswith(">>>"):
        return f"```pycon\n{text}\n```"
    if text.startswith("    "):
        return f"```text\n{inspect.cleandoc(text)}\n```"
    prose, mark, example = text.partition("\n>>>")
    pieces = re.split(r"(`[^`]+`)", LABELLED.sub("  \n", prose))
    pieces[::2] = [re.sub(r"([\\*_\[\]])", r"\\\1", html.escape(p, False)) for p in pieces[::2]]
    prose = "".join(pieces)
    return f"{prose}\n\n{_paragraph(mark[1:] + example)}" if mark else prose


def assemble(folder: Path) -> None:
    """Write all pages of the site into a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    written: dict[str, str] = {}
    sources: set[str] = set()
    known = pages()
    for page, place in known.items():
        text = (ROOT / page).read_text(encoding="utf-8")
        written[place], linked = with_links_of_the_site(text, page, known)
        sources |= linked
    for path in list(sources):
        if (ROOT / path).is_dir():
            sources |= {f"{path}/{name}" for name in source_files(ROOT / path)}
    written |= {target_on_site(path, known): source_page(path) for path in sources}
    written |= {reference_place(name): reference_page(name) for name in public_modules()}
    for place, text in written.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "docs" / "pictures", folder / "pictures")
    shutil.copy(ROOT / "docs" / "site.css", folder)


def navigation() -> list[Any]:
    """The menu; a page of `docs/` that no list names is under "Look up"."""
    named = {*GUIDES, *COMING_FROM, *ENGINE}
    docs = (p for p in pages().values() if not p.endswith(".ko.md"))
    other = [p for p in docs if p.removesuffix(".md") not in {*named, *PROJECT, "index", "course"}]
    return [
        {"Home": "index.md"},
        {"Guides": [f"{name}.md" for name in GUIDES]},
        {"Coming from": [f"{name}.md" for name in COMING_FROM]},
        {"Course": "course.md"},
        {"Look up": other},
        {"API": [{name: reference_place(name)} for name in public_modules()]},
        {"The engine": [f"{name}.md" for name in ENGINE]},
        {"The project": [f"{name}.md" for name in PROJECT]},
    ]


def on_config(config: Any) -> Any:
    """MkDocs' hook: the pages and the menu, before anything is read."""
    if Path(config.docs_dir) != SOURCES:
        assemble(SOURCES)
        config.docs_dir = str(SOURCES)
        config.nav = navigation()
    return config
