"""docs/names.md and docs/names.ko.md have every public name that the course uses."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from lecture_programs import module

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim

DOCS = Path(__file__).parents[2] / "docs"
names: ModuleType = module(DOCS / "names_page.py")
COURSE, KOREAN = names.course_names(), names.korean()
PAGES = {lang: (DOCS / f"names{suffix}.md") for lang, suffix in (("en", ""), ("ko", ".ko"))}


def entries(lang: str) -> dict[str, str]:
    """What a page says of each name."""
    parts = re.split(r"^## `(.+)`\n", PAGES[lang].read_text(encoding="utf-8"), flags=re.M)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_no_name_of_the_course_is_missing_and_none_is_too_many() -> None:
    assert set(KOREAN) == set(COURSE)
    assert len(COURSE) > 100
    assert {"F.relu", "tk.compile", "nn.init.xavier_init", "Tensor.backward"} <= set(COURSE)
    assert not {"Tensor.mean", "Tensor.split", "Tensor.scatter"} & set(COURSE)


@pytest.mark.parametrize("lang", PAGES)
def test_the_pages_are_as_they_are_written(lang: str) -> None:
    """Anew by `python docs/names_page.py`."""
    assert PAGES[lang].read_text(encoding="utf-8") == names.page(lang)


@pytest.mark.parametrize("name", COURSE)
def test_a_name_has_a_korean_summary_and_an_example(name: str) -> None:
    said = entries("ko")[name]
    text, example = said.split("```pycon")
    assert re.search("[가-힣]", text) or "`" in text
    assert ">>> " in example
    formulas = re.findall(r"`[^`]*`", text)
    assert text.count("`") == 2 * len(formulas)


@pytest.mark.parametrize("name", COURSE)
def test_its_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in test_docstrings.py: these globals, an empty folder."""
    if "SummaryWriter" in name:
        pytest.importorskip("tensorboardX")
    if ".scipy." in name:
        pytest.importorskip("scipy")
    monkeypatch.chdir(tmp_path)
    example = entries("ko")[name].split("```pycon\n")[1].split("```")[0]
    globals_ = {"tk": tk, "np": np, "nn": nn, "F": F, "optim": optim, "data": data,
                "Tensor": tk.Tensor}  # fmt: skip
    test = doctest.DocTestParser().get_doctest(example, globals_, name, name, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(test).failed == 0


def test_names_are_read_from_the_syntax(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy as np\nimport tinygrad_kr.functional as F\nfrom tinygrad_kr import nn\n"
        "h = F.relu(np.log(x)); nn.init.zeros_(h); h.backward(); h.mean(); y = h.sigmoid\n",
        encoding="utf-8",
    )
    found = {names.shown(name) for name in names.names_in(program) if names.is_public(name)}
    assert found == {"F.relu", "nn.init.zeros_", "Tensor.backward", "Tensor.sigmoid"}
