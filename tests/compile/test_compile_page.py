"""What the page on `tk.compile` says is so: its listing, its picture, and what is not compiled."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from itertools import repeat
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor
from tinygrad_kr.native.build import find_compiler

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tinygrad_kr" / "compile"
PAGE = (FOLDER / "README.md").read_text(encoding="utf-8")
KOREAN = (FOLDER / "README.ko.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "docs"))
    import compile_page

    yield compile_page
    sys.path.remove(str(ROOT / "docs"))


# ------------------------------------------------------------------ what is generated


@pytest.mark.skipif(find_compiler() is None, reason="the source is C where there is a compiler")
def test_the_listing_is_what_is_generated(page: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shown = page.LISTING.read_text(encoding="utf-8")
    assert shown == page.generated(), "run: python docs/compile_page.py"
    assert "1 C function" in capsys.readouterr().out
    lines = set(re.findall(r"/\* \w+, (\S+):\d+ \*/", shown))
    assert lines == {"xor_step.py"}


@pytest.mark.parametrize("text", [PAGE, KOREAN], ids=["en", "ko"])
def test_the_page_explains_names_that_the_listing_has(page: Any, text: str) -> None:
    shown = page.LISTING.read_text(encoding="utf-8")
    (name,) = re.findall(r"`(leaf_\d+)`", text)
    assert re.search(rf"\b{name}\b", shown)


def test_the_page_is_short_and_both_languages_show_the_same() -> None:
    python = re.compile(r"```python\n(.*?)```", re.S)
    figures = re.compile(r"\d+(?:,\d{3})+|\d{3,}")
    assert max(len(text.splitlines()) for text in (PAGE, KOREAN)) <= 100
    assert python.findall(PAGE) == python.findall(KOREAN)
    assert sorted(figures.findall(PAGE)) == sorted(figures.findall(KOREAN))


@pytest.mark.parametrize("text", [PAGE, KOREAN], ids=["en", "ko"])
def test_the_step_of_the_page_trains(text: str) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", text, re.S)
    tk.manual_seed(0)
    net = tk.nn.Linear(2, 2)
    optimizer = tk.optim.SGD(net.parameters(), lr=0.5)
    names: dict[str, Any] = {"tk": tk, "F": tk.functional, "net": net, "optimizer": optimizer}
    exec(compile(program, "README.md", "exec"), names)
    x, y = tk.tensor([[1.0, 0.0], [0.0, 1.0]]), np.array([1, 0])
    losses = [names["step"](x, y).item() for _ in range(4)]
    assert losses == sorted(losses, reverse=True)
    assert names["step"].explain()


def test_the_picture_says_of_its_example_what_is_so(page: Any) -> None:
    plan = page.Plan(page.simplified(page.expanded(page.example())))
    loop = plan.steps[1]
    made = {s.output.number for s in loop.instructions}
    assert {4, 5, 6, 11, 12, 13, 14, 15} == made
    assert {value.number for value in plan.read_outside(loop)} == {6, 15}
    ((new, old),) = plan.in_place.items()
    assert (new.number, old.number) == (22, 2)
    assert [
        s.output.number
        for s in page.expanded(page.example()).instructions
        if s.op.__name__ == "sum"
    ]


def test_the_picture_is_what_is_drawn(page: Any, tmp_path: Path) -> None:
    page.draw(tmp_path / "compile.svg")
    drawn = (tmp_path / "compile.svg").read_text(encoding="utf-8")
    assert page.PICTURE.read_text(encoding="utf-8") == drawn, "run: python docs/compile_page.py"
    text = ElementTree.fromstring(drawn).itertext()
    assert "1 traced: 18 ops" in text


# ------------------------------------------------------------------ what is not compiled

W = Tensor(np.ones(3, np.float32), requires_grad=True)
COUNT = 0
RATES = [0.0]
ENDLESS = repeat(2.0)
VARIABLE = ContextVar("VARIABLE", default=2.0)
NAMES = ["ndim"]
LARGE = np.ones(1000)


def counting(x: Tensor) -> Tensor:
    global COUNT
    COUNT += 1
    return x * COUNT


def write_a_part(x: Tensor) -> Tensor:
    with tk.no_grad():
        W[0] = 1.0
    return x * 2


def write_to_argument(x: Tensor) -> Tensor:
    x += 1
    return x * 1


def draw_by_random(x: Tensor) -> Tensor:
    return x * random.random()


CHANGING = Tensor(np.ones(3), requires_grad=True)


def double_what_changes(x: Tensor) -> Tensor:
    with tk.no_grad():
        CHANGING.copy_(CHANGING * 2)
    return x + 1


def another_number(_: Tensor) -> Tensor:
    return Tensor([1.0]) * np.random.default_rng().random()


ROWS: dict[str, tuple[Callable[..., Any], Callable[[int], Any]]] = {
    "needs the elements of a Tensor": (lambda x: x * x.sum().item(), lambda i: X),
    ".data": (lambda x: Tensor(x.data * 2), lambda i: X),
    "looks otherwise at the elements": (lambda x: tk.sort(x), lambda i: X),
    "t[...] = ... with an index": (write_a_part, lambda i: X),
    "it writes to an argument": (write_to_argument, lambda i: Tensor(X.data.copy())),
    "an argument requires grad": (lambda x: x * 2, lambda i: W),
    "returns a Tensor with its history": (lambda x: x * W, lambda i: X),
    "which is not watched for changes": (lambda x: x * VARIABLE.get(), lambda i: X),
    "with a computed name": (lambda x: x * getattr(X, NAMES[0]), lambda i: X),
    "outside Tensors": (lambda x: x * float(LARGE.sum()), lambda i: X),
    "which a replay would not do": (counting, lambda i: X),
    "draws random numbers that are not Tensors": (draw_by_random, lambda i: X),
    "an iterator": (lambda x: x * next(ENDLESS), lambda i: X),
    "two runs in a row did not do the same": (another_number, lambda i: X),
    "another thing at nearly each call": (lambda x: x * RATES[0], lambda i: X),
    "changes at nearly every call": (double_what_changes, lambda i: X),
    "of a new kind at nearly each call": (lambda x: x * 2, lambda i: Tensor(np.ones(i + 1))),
    "an argument is a MaskedArray": (lambda x: 1, lambda i: np.ma.ones(3)),
    "detect_anomaly() is on": (lambda x: x * 2, lambda i: X),
    "expected a function that returns its result": (lambda x: (yield x), lambda i: X),
}
X = Tensor(np.arange(3, dtype=np.float32))
ERRORS = {
    "needs the elements of a Tensor": tk.compile.CaptureError,
    "expected a function that returns its result": TypeError,
}
CALLS = {
    "of a new kind at nearly each call": 200,
    "another thing at nearly each call": 40,
    "changes at nearly every call": 80,
}


def rows_of(text: str) -> list[str]:
    table = text.split("<!-- what is not compiled -->")[1].split("\n\n")[0]
    return [line.split("|")[-2].strip() for line in table.strip().splitlines()[2:]]


def test_every_row_of_the_table_is_tried() -> None:
    assert rows_of(PAGE) == list(ROWS) == rows_of(KOREAN)


@pytest.mark.parametrize("reason", ROWS)
def test_what_is_not_compiled_says_so(reason: str) -> None:
    function, argument = ROWS[reason]
    if error := ERRORS.get(reason):
        with pytest.raises(error, match=re.escape(reason)):
            tk.compile(function)(argument(0))
        return
    step = tk.compile(function)
    for i in range(CALLS.get(reason, 8)):
        RATES[0] = float(i)
        if i % 2:
            CHANGING.data = np.ones(3, np.float32 if i % 4 == 1 else np.float64)
        if reason == "detect_anomaly() is on":
            with tk.detect_anomaly():
                step(argument(i))
        else:
            found = step(argument(i))
    assert reason in step.explain()
    assert step.last_runner is None
    if reason == "which a replay would not do":
        assert COUNT == 8
        np.testing.assert_array_equal(found.data, X.data * 8)
