"""README and docs/: the Python runs, the links lead somewhere, the two languages agree."""

from __future__ import annotations

import contextlib
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.arrays import indexing
from tinygrad_kr.testing import check_grads

ROOT = Path(__file__).parents[2]
LANGUAGES = ["", ".ko"]
PAGES = [
    "README",
    *sorted(
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in (ROOT / "docs").rglob("*.md")
        if not path.stem.endswith(".ko")
    ),
]
FIGURE = re.compile(r"\d+(?:,\d{3})+|\d+\.\d+|\d{2,}")


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text_of(name), re.S)


def without_comments(code: str) -> str:
    return re.sub(r" *#.*", "", code)


def links(name: str) -> list[str]:
    return re.findall(r"\]\(([^)]*)\)", text_of(name))


def anchor(heading: str) -> str:
    """The name that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


# ------------------------------------------------------------------ programs


@pytest.fixture(scope="module", params=LANGUAGES)
def names(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the README's program and then the tour's leave behind."""
    found: dict[str, Any] = {}
    with contextlib.chdir(tmp_path_factory.mktemp("files")):
        run(request.param, found)
    assert found["epoch"] == 0
    assert found["step"] == 300
    return found


def run(language: str, found: dict[str, Any]) -> None:
    for page in (f"README{language}.md", f"docs/tour{language}.md"):
        for code in blocks(page, "python"):
            exec(compile(code, page, "exec"), found)


def test_the_operation_and_the_function_of_contributing_run() -> None:
    operation, function, _ = blocks("CONTRIBUTING.md", "python")
    found: dict[str, Any] = {"op": tk.op}
    exec(operation, found)
    check_grads(found["cube"], (np.array([-2.0, 0.5]),), order=2)
    found = {**vars(indexing)}
    exec(textwrap.dedent(function.rstrip(" ")), found)
    assert found["sort"]([3.0, 1.0]).values.tolist() == [1.0, 3.0]
    assert found["sort"](tk.tensor([3.0, 1.0]), dim=0).indices.tolist() == [1, 0]


@pytest.mark.trains
def test_the_first_net_learns_xor(names: dict[str, Any]) -> None:
    assert names["loss"].item() < 0.1
    outputs = names["net"](Tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]))
    assert (outputs.sigmoid() > 0.5).tolist() == [[False], [True], [True], [False]]


def test_the_derivatives_are_those_of_the_function(names: dict[str, Any]) -> None:
    x, f = names["x"], names["rosenbrock"]
    assert isinstance(x, np.ndarray)
    numeric = [(f(x + e) - f(x - e)) / 2e-6 for e in 1e-6 * np.eye(3)]
    np.testing.assert_allclose(tk.grad(f)(x), numeric, rtol=1e-6)
    np.testing.assert_allclose(tk.hvp(f, (x,), (x,))[0], tk.hessian(f)(x) @ x, rtol=1e-12)


def pass_four_by_seven() -> None:
    nn.Sequential(nn.Linear(7, 7), nn.ReLU(), nn.Linear(5, 3))(Tensor(np.ones((4, 7))))


def compare_column_with_row() -> None:
    F.mse_loss(Tensor(np.ones((4, 1))), Tensor(np.ones(4)))


def step_before_backward() -> None:
    w = Tensor([1.0, 2.0], requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)
    before, now = (w * w).sum(), (w * w).sum()
    now.backward()
    optimizer.step()
    before.backward()


MISTAKES = [pass_four_by_seven, compare_column_with_row, step_before_backward]


def test_the_tour_shows_every_mistake() -> None:
    (text,) = blocks("docs/tour.md", "text")
    assert len(re.findall(r"^\w+Error: ", text, re.M)) == len(MISTAKES)


@pytest.mark.parametrize(("number", "mistake"), [*enumerate(MISTAKES)])
def test_the_tour_shows_the_errors_that_are_raised(
    number: int, mistake: Callable[[], None]
) -> None:
    (text,) = blocks("docs/tour.md", "text")
    kind, shown = re.findall(r"^(\w+Error): (.*(?:\n  .*)*)", text, re.M)[number]
    with pytest.raises(Exception) as caught:
        mistake()
    assert caught.type.__name__ == kind

    def plain(message: str) -> str:
        return re.sub(r"\S+\.py:\d+ \(in \w+\)", "LINE", re.sub(r"\s+", " ", message))

    assert plain(str(caught.value)).startswith(plain(shown).removesuffix(" ..."))


# ------------------------------------------------------------------ what is not there

ABSENT: dict[str, Callable[[Tensor], Any]] = {
    "np.fft": np.fft.fft,
    "eig": lambda t: np.linalg.eig(np.outer(t, t)),
    "scipy.special": lambda t: tk.special.gammaln(t),  # type: ignore[attr-defined]
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ABSENT)
def test_what_is_not_there_raises_and_the_pages_say_so(name: str, language: str) -> None:
    with pytest.raises((TypeError, AttributeError)):
        ABSENT[name](Tensor([1.0, 2.0], requires_grad=True))
    page, heading = (
        f"docs/overview{language}.md",
        "아직 없는 것" if language else "What is not there",
    )
    section = text_of(page).partition(f"## {heading}")[2].partition("\n## ")[0]
    assert name in section
    assert {"eig": "FFT", "np.fft": "FFT"}.get(name, name) in text_of(f"README{language}.md")


def test_a_complex_number_is_refused() -> None:
    with pytest.raises(TypeError, match="complex"):
        Tensor(np.array([1j]))


# ------------------------------------------------------------------ pages


def test_the_readme_is_short() -> None:
    for language in LANGUAGES:
        assert len(text_of(f"README{language}.md").splitlines()) <= 150


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", [*PAGES, "tinygrad_kr/compile/README"])
def test_lines_of_prose_are_short(page: str, language: str) -> None:
    prose = re.sub(r"```.*?```", "", text_of(f"{page}{language}.md"), flags=re.S)
    assert max(len(line) for line in prose.splitlines() if not line.startswith("|")) <= 120


TRANSLATED = ("docs/guides/explain", "docs/guides/monitor")
"""Pages whose programs print in the language of the page; tests of their own run them."""

SUMMARISED = ("docs/names",)
"""Pages whose Korean sentences are not those of the English page."""


@pytest.mark.parametrize("page", PAGES)
def test_both_languages_show_the_same_programs_commands_pictures_and_figures(page: str) -> None:
    english, korean = (
        [
            *(without_comments(code).replace('"ko"', '"en"') for code in blocks(name, "python")),
            *blocks(name, "sh"),
            *([] if page in TRANSLATED else blocks(name, "text")),
            *(link.replace(".ko.", ".").partition("#")[0] for link in links(name)),
        ]
        for name in (f"{page}.md", f"{page}.ko.md")
    )
    other = Path(page).name + ".md"
    assert sorted(english) == sorted(korean)
    assert other in english
    figures = [
        sorted(FIGURE.findall(re.sub(r"```.*?```", "", text_of(name), flags=re.S)))
        for name in (f"{page}.md", f"{page}.ko.md")
    ]
    assert figures[0] == figures[1] or page in SUMMARISED


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", [*PAGES, "tinygrad_kr/compile/README"])
def test_every_link_leads_somewhere(page: str, language: str) -> None:
    name = f"{page}{language}.md"
    for link in links(name):
        if link.startswith("https://"):
            continue
        path, _, part = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if part:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.M)
            assert part in map(anchor, headings), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), ["README.md"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        for link in links(name):
            path = (ROOT / name).parent / link.partition("#")[0]
            if path.suffix == ".md" and path.is_file():
                found = path.resolve().relative_to(ROOT).as_posix()
                waiting += [found] if found not in reached else []
    pages = {f"{page}{language}.md" for page in PAGES for language in LANGUAGES}
    assert pages <= reached


# ------------------------------------------------------------------ commands


def recipe(target: str) -> list[str]:
    """The commands of a target of the Makefile, with the names that they have on Linux."""
    match = re.search(rf"^{re.escape(target)}:.*\n((?:\t.*\n)+)", text_of("Makefile"), re.M)
    assert match is not None
    plain = match[1].replace("$(BIN)", ".venv/bin").replace("$(PYTHON)", "python3")
    return [line.strip() for line in plain.splitlines()]


def marked(name: str) -> list[str]:
    """The commands after `<!-- newcomer: name -->`, as `.ci/run` finds them."""
    after = text_of("README.md").partition(f"<!-- newcomer: {name} -->")[2]
    return after.partition("```sh\n")[2].partition("```")[0].splitlines()


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_runs_what_the_readme_says_for_those_without_it(target: str) -> None:
    assert marked(target) == [f"make {target}"]
    assert marked(f"{target} without make") == [*recipe("$(BIN)/activate"), *recipe(target)]
