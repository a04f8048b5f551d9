"""Products by C or by BLAS: measured once on a machine, kept, handed on, shown and pinned."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import workers
from tinygrad_kr.native import cache, choice, cpu, kernels
from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.native.choice import BLAS, OURS, Choice

needs_kernels = pytest.mark.skipif(
    find_compiler() is None or not kernels.has_kernels(),
    reason="needs a C compiler and POSIX threads",
)


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A machine on which nothing was measured; the folder of its notes."""
    before = dict(choice._made)
    choice._made.clear()
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.setenv("TINYGRAD_KR_CACHE", str(tmp_path))
    yield tmp_path / "compile"
    choice._made.clear()
    choice._made.update(before)


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The dtypes that were measured; C is found to be faster."""
    found: list[str] = []

    def measured(dtype: str, library: Any) -> tuple[Choice, bool]:
        found.append(dtype)
        return OURS, True

    monkeypatch.setattr(choice, "measured", measured)
    yield found


def forget() -> None:
    """As in another process."""
    choice._made.clear()


def library() -> Any:
    return object()


# ------------------------------------------------------------------ kept


def test_one_measurement_for_all_processes(afresh: Path, measurements: list[str]) -> None:
    for _ in range(2):
        assert choice.made("float32", library) == OURS
        assert choice.made("float32", library) == OURS
        forget()
    assert choice.expected("float32") == OURS
    assert "float32" in choice._made
    assert measurements == ["float32"]
    choice.made("float64", library)
    assert measurements == ["float32", "float64"]


@pytest.mark.parametrize("what", ["vectors", "helpers", "machine", "OPENBLAS_CORETYPE"])
def test_what_the_answer_depends_on(
    what: str, afresh: Path, measurements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choice.made("float32", library)
    forget()
    if what == "OPENBLAS_CORETYPE":
        monkeypatch.setenv(what, "another")
    else:
        monkeypatch.setattr(cpu, what, lambda: 7 if what == "helpers" else "another")
    choice.made("float32", library)
    assert len(measurements) == 2


def test_it_never_changes_within_a_process(
    afresh: Path, measurements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choice.made("float32", library)
    monkeypatch.setenv(choice.VARIABLE, "numpy")
    tk.compile.clear_cache()
    assert choice.made("float32", library) == choice.expected("float32") == OURS


@pytest.mark.parametrize("damage", ["torn", "nonsense"])
def test_a_damaged_note_is_measured_anew(
    damage: str, afresh: Path, measurements: list[str]
) -> None:
    choice.made("float32", library)
    (note,) = afresh.glob("*.products")
    if damage == "torn":
        note.write_bytes(note.read_bytes()[:-1])
    else:
        cache.write_note(note, ["many/few"])
    forget()
    assert choice.made("float32", library) == OURS
    assert len(measurements) == 2


def test_notes_and_locks_are_files_of_the_cache(afresh: Path, measurements: list[str]) -> None:
    choice.made("float32", library)
    assert {path.suffix for path in afresh.iterdir()} == {".products", ".lock"}
    assert tk.compile.clear_cache() == 2


@pytest.mark.parametrize("failing", ["trusted_cache", "write_note"])
def test_a_cache_that_cannot_be_used(
    failing: str, afresh: Path, measurements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(choice, failing, fail)
    assert choice.made("float32", library) == OURS
    assert choice.made("float32", library) == OURS
    assert measurements == ["float32"]


def test_without_kernels_blas_multiplies(afresh: Path, measurements: list[str]) -> None:
    def no_compiler() -> Any:
        raise RuntimeError("there is none")

    assert choice.made("float32", no_compiler) == BLAS
    assert choice.made("float64", lambda: None) == BLAS
    assert not measurements
    assert not afresh.exists() or not [*afresh.glob("*.products")]


# ------------------------------------------------------------------ interrupted, and at once


def test_ctrl_c_keeps_nothing_and_holds_nothing(
    afresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(choice, "measured", interrupted)
        with pytest.raises(KeyboardInterrupt):
            choice.made("float32", library)
    assert not choice._made
    assert not [*afresh.glob("*.products")]
    start = time.monotonic()
    monkeypatch.setattr(choice, "measured", lambda *_: (BLAS, True))
    assert choice.made("float32", library) == BLAS
    assert time.monotonic() - start < choice.LOCK_SECONDS


PROCESS = """
import sys, time
from tinygrad_kr.native import choice

def measured(dtype, library):
    with open(sys.argv[1], "a") as log:
        log.write(dtype)
    time.sleep(0.3)
    return choice.Choice(int(sys.argv[2]), None), True

choice.measured = measured
print(choice.made("float32", object).text)
"""


@needs_kernels
def test_processes_that_begin_at_once_agree(afresh: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(log), str(number)],
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        for number in range(3)
    ]
    found = {process.communicate(timeout=60)[0] for process in processes}
    assert len(found) == 1
    assert log.read_text(encoding="utf-8") == "float32"


@needs_kernels
def test_a_process_that_was_stopped_is_not_awaited_for_ever(
    afresh: Path, measurements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "LOCK_SECONDS", 0.05)
    with choice._locked(cache.trusted_cache(), "float32"):
        assert choice.made("float32", library) == OURS


# ------------------------------------------------------------------ the measurement


class Clock:
    """In place of `time`: it goes on by what is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Taking:
    """Functions of products by C that take some seconds; of single ones by their rows."""

    def __init__(self, clock: Clock, single: dict[int, float], stacked: float) -> None:
        self.clock, self.single, self.stacked = clock, single, stacked

    def product(self, rows: int, *_: Any) -> None:
        self.clock.sleep(self.single[rows])

    def products(self, *_: Any) -> None:
        self.clock.sleep(self.stacked)


BLAS_SECONDS = 0.001


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Of three shapes; BLAS takes BLAS_SECONDS for each."""
    made = Clock()
    monkeypatch.setattr(choice, "time", made)
    monkeypatch.setattr(choice, "_SHAPES", ((8, 8, 8), (16, 16, 16), (32, 32, 32)))
    monkeypatch.setattr(np, "matmul", lambda a, b, out: made.sleep(BLAS_SECONDS))
    yield made


@pytest.mark.parametrize(
    ("single", "stacked", "expected"),
    [
        ((0.5, 0.5, 0.5), 0.5, Choice(0, 0)),
        ((1.05, 1.05, 1.05), 1.05, Choice(0, 0)),
        ((1.2, 0.5, 0.5), 1.2, Choice(8**3 + 1, None)),
        ((0.5, 1.2, 0.5), 0.5, Choice(16**3 + 1, 0)),
        ((0.5, 0.5, 1.2), 0.5, Choice(None, 0)),
    ],
)
def test_the_faster_is_chosen(
    single: tuple[float, ...], stacked: float, expected: Choice, clock: Clock
) -> None:
    """C from beyond the largest product that BLAS won by more than a tenth."""
    seconds = dict(zip((8, 16, 32), (share * BLAS_SECONDS for share in single), strict=True))
    functions = Taking(clock, seconds, stacked * BLAS_SECONDS)
    assert choice.measured("float32", functions) == (expected, True)
    assert clock.now < choice.SECONDS


def test_a_call_that_was_held_up_counts_little(clock: Clock) -> None:
    """The median does not see two late calls of twelve."""
    functions = Taking(clock, dict.fromkeys((8, 16, 32), BLAS_SECONDS / 2), BLAS_SECONDS / 2)
    late = iter([0.02, 0.02])
    real = functions.product
    functions.product = lambda *given: (  # type: ignore[method-assign]
        clock.sleep(next(late, 0.0)),
        real(*given),
    )[1]
    assert choice.measured("float32", functions)[0] == Choice(0, 0)


def test_it_ends_in_time_and_is_not_kept_if_that_was_too_short(afresh: Path, clock: Clock) -> None:
    functions = Taking(clock, dict.fromkeys((8, 16, 32), 0.09), 0.09)
    assert not choice.measured("float32", functions)[1]
    assert choice.SECONDS <= clock.now < choice.SECONDS + 0.09 + 0.01
    clock.monotonic = clock.perf_counter  # type: ignore[attr-defined]
    choice.made("float32", lambda: functions)
    assert not [*afresh.glob("*.products")]


@needs_kernels
@pytest.mark.parametrize("dtype", choice.DTYPES)
def test_both_are_measured(dtype: str, afresh: Path) -> None:
    found = choice.made(dtype)
    for least in found:
        assert least is None or 0 <= least < 512**3


# ------------------------------------------------------------------ what it is for


def squares(a: Any) -> Any:
    return a @ a


@needs_kernels
def test_a_program_is_planned_anew_where_blas_was_faster(
    afresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "measured", lambda *_: (BLAS, True))
    a = np.random.default_rng(0).standard_normal((70, 70), np.float32)
    sources = []
    for _ in range(2):
        compiled = tk.compile(squares)
        for _ in range(3):
            np.testing.assert_array_equal(compiled(a), a @ a)
        sources.append(compiled.source)
    assert not any("tk_gemm(" in source for source in sources)
    assert choice._made == {"float32": BLAS}


@needs_kernels
def test_a_program_without_products_measures_nothing(afresh: Path, measurements: list[str]) -> None:
    compiled = tk.compile(np.tanh)
    for _ in range(3):
        compiled(np.ones(5, np.float32))
    assert not measurements
    assert not choice._made


def pinned_here() -> str:
    return os.environ.get(choice.VARIABLE, "")


def test_worker_processes_get_the_choice(afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "measured", lambda *_: (Choice(7, None), True))
    if not kernels.has_kernels():
        choice._made["float32"] = Choice(7, None)
    choice.made("float32", library)
    found = dict(workers.finished(pinned_here, [()], jobs=2))
    assert found == {0: "float32=7/numpy"}
    assert choice.VARIABLE not in os.environ
    monkeypatch.setenv(choice.VARIABLE, "numpy")
    assert dict(workers.finished(pinned_here, [()], jobs=2)) == {0: "numpy"}


@needs_kernels
def test_what_is_pinned(
    afresh: Path, measurements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for text, single, double in [
        ("numpy", BLAS, BLAS),
        ("c", OURS, OURS),
        ("float32=5/numpy", Choice(5, None), OURS),
        ("float64=numpy/9,float32=0/0", OURS, Choice(None, 9)),
    ]:
        forget()
        monkeypatch.setenv(choice.VARIABLE, text)
        assert choice.made("float32", library) == single
        assert choice.made("float64", library) == double
    assert measurements == ["float64"]


@pytest.mark.parametrize("text", ["blas", "float32", "float32=1", "float16=0/0", "float32=-1/0"])
def test_what_cannot_be_read(text: str, afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, text)
    with pytest.raises(ValueError, match=r"TINYGRAD_KR_PRODUCTS: expected .* got '" + text):
        choice.made("float32", library)


def test_show_config(
    afresh: Path, measurements: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not measured yet" in tk.show_config("dicts")["products float32"]
    choice._made["float32"] = Choice(0, None)
    found = tk.show_config("dicts")
    assert found["products float32"] == "float32=0/numpy (single by C, stacks by BLAS; measured)"
    assert found["threads of C"] == str(cpu.helpers() + 1)
    tk.show_config()
    printed = capsys.readouterr().out
    assert all(value in printed for value in found.values())
    with pytest.raises(ValueError, match="show_config: expected mode"):
        tk.show_config("table")  # type: ignore[call-overload]


# ------------------------------------------------------------------ vectors


@pytest.mark.skipif(cpu.vectors() == "neon", reason="x86-64 alone is limited")
def test_vectors_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    has = "vendor_id: any\nflags: fma avx2 avx512f"
    monkeypatch.setattr(cpu, "machine", lambda: has)
    for limit, expected in [
        ("", "avx512"),
        ("avx512", "avx512"),
        ("avx2", "avx2"),
        ("none", "none"),
    ]:
        monkeypatch.setenv("TINYGRAD_KR_VECTORS", limit)
        assert cpu.vectors() == expected
    monkeypatch.setattr(cpu, "machine", lambda: "flags: fma avx2")
    for limit, expected in [("", "avx2"), ("avx512", "avx2"), ("none", "none")]:
        monkeypatch.setenv("TINYGRAD_KR_VECTORS", limit)
        assert cpu.vectors() == expected
    monkeypatch.setenv("TINYGRAD_KR_VECTORS", "sse")
    with pytest.raises(ValueError, match=r"TINYGRAD_KR_VECTORS: expected 'avx512', .* got 'sse'"):
        cpu.vectors()
