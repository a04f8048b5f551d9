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
from numpy_alone import find_anew

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
    find_anew(monkeypatch)
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
    return choice.Choice(sys.argv[2] == "1", False), True

choice.measured = measured
print(choice.made("float32", object).text)
"""


@needs_kernels
def test_processes_that_begin_at_once_agree(afresh: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(log), str(number % 2)],
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
    """In place of `time`: it goes on by what is told, and threads of BLAS spin after a product."""

    SPIN = 0.1

    def __init__(self) -> None:
        self.now = self.used = self.spinning = 0.0

    def perf_counter(self) -> float:
        return self.now

    def process_time(self) -> float:
        return self.used

    def sleep(self, seconds: float) -> None:
        self.used += max(0.0, min(self.now + seconds, self.spinning) - self.now)
        self.now += seconds

    def spin(self) -> None:
        self.spinning = self.now + self.SPIN


class Taking:
    """Functions of products by C that take some seconds; of single ones by their rows."""

    def __init__(self, clock: Clock, single: dict[int, float], stacked: float) -> None:
        self.clock, self.single, self.stacked = clock, single, stacked
        self.slowed = 0
        """Calls beside threads that spin."""

    def product(self, rows: int, *_: Any) -> None:
        self._take(self.single[rows])

    def products(self, *_: Any) -> None:
        self._take(self.stacked)

    def _take(self, seconds: float) -> None:
        self.slowed += self.clock.now < self.clock.spinning
        self.clock.sleep(seconds)


BLAS_SECONDS = 0.001
BESIDE = 4
"""Rows of the product that comes after each. It takes no time."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """Of four shapes; BLAS takes BLAS_SECONDS for each but the first."""
    made = Clock()

    def matmul(a: Any, b: Any, out: Any) -> None:
        made.sleep(0 if len(a) == BESIDE else BLAS_SECONDS)
        made.spin()

    sizes = (BESIDE, 8, 16, 32)
    monkeypatch.setattr(choice, "time", made)
    monkeypatch.setattr(choice, "_SHAPES", tuple((size,) * 3 for size in sizes))
    monkeypatch.setattr(np, "matmul", matmul)
    monkeypatch.setattr(choice._Case, "ratio", ratio)
    yield made


def ratio(case: Any, number: int) -> float:
    """The product that comes after each takes no time: 0 by 0 is 1."""
    ours, blas = (case.medians[key][number] for key in (True, False))
    return float((ours + 1e-12) / (blas + 1e-12))


def taking(clock: Clock, single: tuple[float, ...], stacked: float) -> Taking:
    """Shares of the seconds of BLAS for products of 8, 16 and 32 rows, and for the stack."""
    seconds = {rows: share * BLAS_SECONDS for rows, share in zip((8, 16, 32), single, strict=True)}
    return Taking(clock, {BESIDE: 0.0, **seconds}, stacked * BLAS_SECONDS)


@pytest.mark.parametrize(
    ("single", "stacked", "expected"),
    [
        ((0.5, 0.5, 0.5), 0.5, OURS),
        ((1.05, 1.05, 1.05), 1.05, OURS),
        ((1.4, 0.8, 0.8), 1.2, Choice(True, False)),
        ((1.3, 1.3, 1.3), 0.5, Choice(False, True)),
        ((0.9, 1.5, 1.5), 2.0, BLAS),
    ],
)
def test_the_faster_is_chosen(
    single: tuple[float, ...], stacked: float, expected: Choice, clock: Clock
) -> None:
    """BLAS where C takes more than a tenth longer, by the geometric mean of all shapes."""
    assert choice.measured("float32", taking(clock, single, stacked)) == (expected, True)
    assert clock.now < choice.SECONDS


def test_c_is_not_measured_beside_threads_that_spin(clock: Clock) -> None:
    """But for the product that comes after each by BLAS: it is what BLAS pays for."""
    clock.spin()
    functions = taking(clock, (0.5, 0.5, 0.5), 0.5)
    choice.measured("float32", functions)
    assert functions.slowed == choice._CALLS * 5


@pytest.mark.parametrize(("share", "rounds"), [(0.95, 1), (1.05, 3), (1.3, 3)])
def test_a_round_in_which_c_is_as_fast_decides(share: float, rounds: int, clock: Clock) -> None:
    functions = taking(clock, (share,) * 3, share)
    found = choice.measured("float32", functions)
    assert found == (BLAS if share > 1.1 else OURS, True)
    assert functions.slowed == rounds * choice._CALLS * 5


def test_a_call_that_was_held_up_counts_little(clock: Clock) -> None:
    """The median does not see two late calls of five."""
    functions = taking(clock, (0.5, 0.5, 0.5), 0.5)
    late = iter([0.02, 0.02])
    real = functions.product
    functions.product = lambda *given: (  # type: ignore[method-assign]
        clock.sleep(next(late, 0.0)),
        real(*given),
    )[1]
    assert choice.measured("float32", functions) == (OURS, True)


@pytest.mark.parametrize("late", [0, 2])
def test_rounds_that_differ_choose_c_and_keep_nothing(
    late: int, afresh: Path, clock: Clock
) -> None:
    """Other programs run for a while: the next process measures again."""
    functions, calls = taking(clock, (1.05, 1.05, 1.05), 1.05), []
    real = functions.product

    def product(rows: int, *given: Any) -> None:
        calls.append(rows)
        singles = (calls.count(8) - 1) // choice._CALLS
        clock.sleep(3 * BLAS_SECONDS if rows != BESIDE and singles == late else 0)
        real(rows, *given)

    functions.product = product  # type: ignore[method-assign]
    assert choice.measured("float32", functions) == (OURS, False)
    calls.clear()
    clock.monotonic = clock.perf_counter  # type: ignore[attr-defined]
    assert choice.made("float32", lambda: functions) == OURS
    assert not [*afresh.glob("*.products")]


@pytest.mark.parametrize("each", [0.004, 0.09])
def test_it_ends_in_time_and_is_not_kept_if_that_was_too_short(
    each: float, afresh: Path, clock: Clock
) -> None:
    functions = taking(clock, (each / BLAS_SECONDS,) * 3, each / BLAS_SECONDS)
    assert not choice.measured("float32", functions)[1]
    assert choice.SECONDS <= clock.now < choice.SECONDS + each + 0.001
    clock.monotonic = clock.perf_counter  # type: ignore[attr-defined]
    choice.made("float32", lambda: functions)
    assert not [*afresh.glob("*.products")]


@needs_kernels
@pytest.mark.parametrize("dtype", choice.DTYPES)
def test_both_are_measured(dtype: str, afresh: Path) -> None:
    start = time.perf_counter()
    found, _ = choice.measured(dtype, choice._shared(dtype))
    assert {type(ours) for ours in found} == {bool}
    assert time.perf_counter() - start < 60


# ------------------------------------------------------------------ what it is for


def squares(a: Any) -> Any:
    return a @ a


@needs_kernels
def test_a_program_is_planned_anew_where_blas_was_faster(
    afresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "measured", lambda *_: (BLAS, True))
    a = np.random.default_rng(0).standard_normal((128, 128), np.float32)
    sources = []
    for _ in range(2):
        compiled = tk.compile(squares)
        for _ in range(3):
            np.testing.assert_array_equal(compiled(a), a @ a)
        sources.append(compiled.source)
    assert not any("tk_gemm(" in source for source in sources)
    assert choice._made == {"float32": BLAS}


@needs_kernels
def test_a_program_is_not_planned_anew_for_a_choice_that_changes_none(
    afresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where C computes single products, it computes stacks too, whatever eager mode does."""
    monkeypatch.setattr(choice, "measured", lambda *_: (Choice(True, False), True))
    assert choice.are_as_expected(["float32"])
    forget()
    monkeypatch.setattr(choice, "measured", lambda *_: (Choice(False, True), True))
    assert not choice.are_as_expected(["float64"])


@needs_kernels
@pytest.mark.parametrize("shape", [(70, 70), (400, 3, 50)])
def test_a_program_of_small_products_measures_nothing(
    shape: tuple[int, ...], afresh: Path, measurements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One product, and a stack of matrices times vectors: C's, whatever the machine."""
    a = np.random.default_rng(0).standard_normal(shape, np.float32)
    b = np.random.default_rng(1).standard_normal((shape[-1], shape[-1]), np.float32)
    if a.ndim == 3:
        b = np.random.default_rng(1).standard_normal((400, 50, 1), np.float32)
    measured = "float32=numpy/numpy,float64=numpy/numpy"
    for pin, ours in (("", True), (measured, True), ("numpy", False)):
        monkeypatch.setenv(choice.VARIABLE, pin)
        compiled = tk.compile(np.matmul)
        for _ in range(3):
            np.testing.assert_allclose(compiled(a, b), a @ b, 1e-4, 1e-4)
        assert (compiled.last_runner.products == 0) == (ours or a.ndim == 3)
    assert not measurements
    assert not choice._made


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
    monkeypatch.setattr(choice, "measured", lambda *_: (Choice(True, False), True))
    if not kernels.has_kernels():
        choice._made["float32"] = Choice(True, False)
    choice.made("float32", library)
    found = dict(workers.finished(pinned_here, [()], jobs=2))
    assert found == {0: choice.settled()}
    assert found[0].startswith("float32=c/numpy,float64=")
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
        ("float32=c/numpy", Choice(True, False), OURS),
        ("float64=numpy/c,float32=c/c", OURS, Choice(False, True)),
    ]:
        forget()
        monkeypatch.setenv(choice.VARIABLE, text)
        assert choice.made("float32", library) == single
        assert choice.made("float64", library) == double
    assert measurements == ["float64"]


@pytest.mark.parametrize("text", ["blas", "float32", "float32=c", "float16=c/c", "float32=1/c"])
def test_what_cannot_be_read(text: str, afresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.VARIABLE, text)
    with pytest.raises(ValueError, match=r"TINYGRAD_KR_PRODUCTS: expected .* got '" + text):
        choice.made("float32", library)


def test_show_config(
    afresh: Path, measurements: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not measured yet" in tk.show_config("dicts")["products float32"]
    choice._made["float32"] = Choice(True, False)
    found = tk.show_config("dicts")
    assert found["products float32"] == "float32=c/numpy (single by C, stacks by BLAS; measured)"
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
