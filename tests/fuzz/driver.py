"""Runs the fuzz targets of this folder, with atheris or with Hypothesis.

A target is a function of bytes in a file `fuzz_NAME.py`. It returns for whatever input. An
exception that it lets through is a fault. `corpus/NAME/` holds inputs to begin with, and those of
old faults.

    python tests/fuzz/fuzz_csv.py -max_total_time=60      # atheris; options are libFuzzer's
    python tests/fuzz/fuzz_csv.py --examples=100000       # Hypothesis, where atheris is missing

New inputs of interest go to `out/fuzz/NAME/`. atheris comes with `pip install -e ".[test,proof]"`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
Target = Callable[[bytes], None]


def corpus(name: str) -> list[bytes]:
    """The inputs that a target begins with."""
    return [file.read_bytes() for file in sorted((HERE / "corpus" / name).iterdir())]


def instrumented() -> AbstractContextManager[Any]:
    """Where the target is the program: count the branches of what is imported inside."""
    if Path(sys.argv[0]).resolve().parent != HERE or is_given("--examples"):
        return nullcontext()
    import atheris

    context: AbstractContextManager[Any] = atheris.instrument_imports(include=["tinygrad_kr"])
    return context


def is_given(option: str) -> bool:
    return any(argument.startswith(option) for argument in sys.argv[1:])


def scratch(name: str) -> Path:
    """A file of this process, for readers that take a path."""
    import os

    return Path(gettempdir()) / f"tinygrad_kr-fuzz-{os.getpid()}-{name}"


def damaged(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    """Samples that are cut, repeated, joined and overwritten in places; and any bytes."""

    @st.composite
    def draw_damaged(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from(samples)))
        for _ in range(draw(st.integers(0, 3))):
            start = draw(st.integers(0, len(data)))
            stop = min(len(data), start + draw(st.integers(0, 8)))
            other = draw(st.sampled_from(samples))
            at = draw(st.integers(0, len(other)))
            piece = draw(st.binary(max_size=4) | st.just(other[at : at + 8]))
            data[start:stop] = piece
        return bytes(data[: draw(st.just(len(data)) | st.integers(0, len(data)))])

    return draw_damaged() | st.binary(max_size=64)


def check(target: Target, name: str, examples: int) -> None:
    """Give a target that many inputs of Hypothesis's."""
    samples = corpus(name)
    options = settings(
        max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck)
    )
    options(given(data=damaged(samples))(lambda data: target(data)))()


def fuzz(target: Target, name: str) -> None:
    """The command of a target."""
    if is_given("--examples"):
        check(target, name, int(sys.argv[1].partition("=")[2]))
        return
    import atheris

    found = ROOT / "out" / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    arguments = [*sys.argv, f"-artifact_prefix={found}/", str(found), str(HERE / "corpus" / name)]
    atheris.Setup(arguments, target)
    atheris.Fuzz()
