"""The documentation site: its pages, its API reference, its docstrings, the check of its links.

`.ci/run` builds it. Here is what needs no MkDocs.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from test_docstrings import MODULES, PUBLIC

ROOT = Path(__file__).parents[2]


def program(name: str) -> ModuleType:
    """A program of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


site_pages, site_links = program("site_pages"), program("site_links")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, written."""
    folder: Path = tmp_path_factory.mktemp("site")
    site_pages.assemble(folder)
    return folder


# ------------------------------------------------------------------ pages


def test_every_page_of_the_repository_is_on_the_site_and_in_the_menu(folder: Path) -> None:
    def entries(item: object) -> list[str]:
        if isinstance(item, str):
            return [item]
        parts = item.values() if isinstance(item, dict) else item
        assert not isinstance(parts, str)
        return [entry for part in parts for entry in entries(part)]  # type: ignore[attr-defined]

    menu = entries(site_pages.navigation())
    assert len(menu) == len(set(menu))
    for entry in menu:
        assert (folder / entry).is_file(), entry
    for page, place in site_pages.pages().items():
        assert place in menu or page.endswith(".ko.md"), page
    assert "guides/first_net.md" in menu
    assert (folder / "guides" / "first_net.ko.md").is_file()


def test_links_lead_to_pages_of_the_site(folder: Path) -> None:
    sources = {*folder.glob("source/**/*-*.md")}
    for page in {*folder.rglob("*.md")} - sources:
        text = "".join(site_pages.CODE.split(page.read_text(encoding="utf-8"))[::2])
        for _, address in site_pages.LINK.findall(text):
            path = address.partition("#")[0]
            if path and ":" not in path:
                assert (page.parent / path).is_file(), (page.name, path)


def led(text: str, page: str = "docs/tour.ko.md") -> str:
    result: str = site_pages.with_links_of_the_site(text, page, site_pages.pages())[0]
    return result


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("[a](overview.ko.md#x)", "[a](overview.md#x)"),
        ("[a](../README.md)", "[a](index.md)"),
        ("[a](../examples/README.ko.md)", "[a](course.md)"),
        ("[a](../examples/xor.py)", "[a](source/examples/xor-py.md)"),
        ("[a](../tinygrad_kr/nn)", "[a](source/tinygrad_kr/nn/index.md)"),
        ("![a](pictures/xor.png)", "![a](pictures/xor.png)"),
        ("[a](https://example.org/b.md)", "[a](https://example.org/b.md)"),
        ("[a](#part)", "[a](#part)"),
        ("```python\nf[a](b.md)\n```", "```python\nf[a](b.md)\n```"),
    ],
)
def test_a_link_of_the_repository_becomes_one_of_the_site(here: str, there: str) -> None:
    assert led(here) == there


def test_the_link_to_the_other_language_is_left_to_the_menu() -> None:
    assert led("# A\n\n[English](tour.md)\n\nText.\n") == "# A\n\nText.\n"
    assert led("The walk. [English](tour.md)\n") == "The walk.\n"


def test_a_link_to_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"docs/tour\.ko\.md: expected a link to a file"):
        led("[a](nowhere.md)")


def test_a_source_is_shown_whole(folder: Path) -> None:
    text = (folder / "source" / "tinygrad_kr" / "autodiff-py.md").read_text(encoding="utf-8")
    assert (ROOT / "tinygrad_kr" / "autodiff.py").read_text(encoding="utf-8").rstrip() in text


# ------------------------------------------------------------------ API reference


def test_the_reference_has_a_page_for_every_public_module() -> None:
    assert set(MODULES) <= set(site_pages.public_modules())


def test_every_public_name_is_on_one_of_its_pages() -> None:
    shown = set()
    for module in site_pages.public_modules():
        for name in site_pages.public_names(module):
            shown.add(id(getattr(sys.modules[module], name)))
    missing = {
        name
        for name, value in PUBLIC.items()
        if not name.startswith("tk.Tensor.") and callable(value) and id(value) not in shown
    }
    assert missing == set()


def test_a_class_shows_what_private_bases_give_it() -> None:
    class _Base:
        def __init__(self, size: int) -> None:
            """The size."""

        def fit(self) -> None:
            """Fit."""

    class Public(_Base):
        def predict(self) -> None:
            """Predict."""

    class Derived(Public):
        pass

    for each in (_Base, Public, Derived):
        each.__module__ = "tinygrad_kr.example"
    assert {"__init__", "fit", "predict"} <= set(site_pages.members(Public))
    assert set(site_pages.members(Derived)) & {"__init__", "fit", "predict"} == {"__init__", "fit"}
    assert "with_traceback" not in site_pages.members(ValueError)


def test_docstrings_become_markdown() -> None:
    doc = "x**2 of `a_b`.\n\nx: a[i] as it was\nwritten: b.\nSource: y.\n>>> f(1)\n1\n\n    a * b\n"
    assert site_pages.as_markdown(doc) == (
        "x\\*\\*2 of `a_b`.\n\nx: a\\[i\\] as it was\nwritten: b.  \nSource: y.\n\n"
        "```pycon\n>>> f(1)\n1\n```\n\n"
        "```text\na * b\n```"
    )


# ------------------------------------------------------------------ links of the built site


@pytest.mark.parametrize(
    ("element", "wrong"),
    [
        ('<a href="b/c.html#part">', None),
        ('<a href="b/">', None),
        ('<a href="https://example.org/x">', None),
        ('<a href="#top">', None),
        ('<a href="b/d.html">', "no such file"),
        ('<a href="b/c.html#other">', "no such part"),
        ('<a href="#other">', "no such part"),
        ('<img src="missing.png">', "no such file"),
        ('<script src="https://example.org/x.js">', "loaded from another server"),
        ('<link rel="stylesheet" href="//example.org/x.css">', "loaded from another server"),
    ],
)
def test_a_wrong_link_is_found(element: str, wrong: str | None, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.html").write_text(f'<p id="top"></p>{element}', encoding="utf-8")
    (tmp_path / "b" / "c.html").write_text('<p id="part"></p>', encoding="utf-8")
    (tmp_path / "b" / "index.html").write_text("", encoding="utf-8")
    found = site_links.faults(tmp_path)
    assert [line.rpartition(": ")[2] for line in found] == ([] if wrong is None else [wrong])
    assert site_links.main(tmp_path) == (wrong is not None)


def test_a_site_without_pages_is_wrong(tmp_path: Path) -> None:
    assert site_links.main(tmp_path) == 1
