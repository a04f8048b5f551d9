"""Matrix products by our C kernel or by NumPy's BLAS: measured once on each machine.

The answer depends on the processor, BLAS and the number of threads, so the cache keeps one for each
of them. Within a process it never changes: both round differently.
"""

from __future__ import annotations

import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy import ndarray

from tinygrad_kr._version import __version__
from tinygrad_kr.native import blas, cpu, kernels
from tinygrad_kr.native.cache import digest, read_note, trusted_cache, write_note
from tinygrad_kr.native.foreign import ctypes

VARIABLE = "TINYGRAD_KR_PRODUCTS"
DTYPES = ("float32", "float64")
SECONDS = 0.3
"""Most seconds of a measurement."""
LOCK_SECONDS = 5.0
"""Most seconds to wait for another process that measures. It may have been stopped."""
_TOLERANCE = 1.1
"""BLAS is chosen if C takes so much longer."""
_SHAPES = ((128, 64, 128), (128, 784, 100), (256, 256, 256), (512, 512, 512))
"""Rows, depth and columns of the products that are measured, smallest first."""
_STACK = (128, 32, 16, 32)
"""Products, rows, depth and columns of the stack that is measured."""
_ROUNDS = 3
_CALLS = 5
"""Calls of each product in a round."""
_LOOK_SECONDS = 0.012
_LOOKS = 12
"""How often to look for threads that spin, and for how long each time: some clock ticks."""
_QUIET = 0.5
"""Threads that wait use less than this share of a core."""


class Choice(NamedTuple):
    """Whether C computes single products, and stacks of them; else BLAS does.

    Eager mode leaves small ones to BLAS in any case (`ops.products`).
    """

    single: bool
    stacked: bool

    def compiled(self, stacked: bool) -> bool:
        """Whether C computes products in a compiled program.

        Stacks are C's there if single ones are: a call from Python costs more than it gains.
        """
        return self.single or (stacked and self.stacked)

    @property
    def text(self) -> str:
        """As `$TINYGRAD_KR_PRODUCTS` has it."""
        return "/".join("c" if ours else "numpy" for ours in self)


BLAS = Choice(False, False)
OURS = Choice(True, True)

_made: dict[str, Choice] = {}
_adopted: str | None = None
"""The choices that this process has taken over from another one, as `adopt` was given them."""
_choosing = threading.RLock()


def made(dtype: str, library: Callable[[], Any] | None = None) -> Choice:
    """The choice for products of a dtype: pinned, kept in the cache, or measured now.

    library: gives the functions of products, or None where they cannot be built; by default the
    shared library of compiled programs.
    """
    known = _made.get(dtype)
    if known is None:
        with _choosing:
            known = _made.get(dtype) or pinned(dtype) or _chosen(dtype, library)
            _made[dtype] = known
    return known


def expected(dtype: str) -> Choice:
    """The choice if it is known without a measurement, else that for C."""
    known = _made.get(dtype)
    if known is None:
        with _choosing:
            known = _made.get(dtype) or pinned(dtype) or _kept(dtype)
            if known is not None:
                _made[dtype] = known
    return known or (OURS if kernels.has_kernels() else BLAS)


def unmeasured(dtype: str) -> Choice:
    """The choice for convolutions and for small compiled products: C, unless NumPy has all.

    No measurement is needed. C convolves without copies of the windows. A small product gains
    less by BLAS than a call from Python costs. A measurement that is pinned changes neither.
    Raises ValueError if `$TINYGRAD_KR_PRODUCTS` cannot be read.
    """
    pinned(dtype)
    asked = os.environ.get(VARIABLE) if _adopted is None else _adopted
    return BLAS if asked == "numpy" or not kernels.has_kernels() else OURS


def described(dtype: str) -> str:
    """The choice as `$TINYGRAD_KR_PRODUCTS` has it, in words, and where it comes from."""
    if os.environ.get(VARIABLE) and pinned(dtype) is not None:
        source = f"pinned by ${VARIABLE}"
    else:
        source = "measured"
    known = expected(dtype)
    if dtype not in _made:
        return "not measured yet: the first large product does that"
    words = {"single": known.single, "stacks": known.stacked}
    said = (f"{name} by {'C' if ours else 'BLAS'}" for name, ours in words.items())
    return f"{dtype}={known.text} ({', '.join(said)}; {source})"


def text_of(dtype: str) -> str:
    """The choice for a dtype as `$TINYGRAD_KR_PRODUCTS` has it; measured now if need be."""
    return f"{dtype}={made(dtype).text}"


def are_as_expected(dtypes: Collection[str]) -> bool:
    """Whether compiled programs are planned as by `expected`. Measures choices not yet made."""
    before = [expected(dtype) for dtype in dtypes]
    made_now = [made(dtype) for dtype in dtypes]
    return all(
        one.compiled(stacked) == other.compiled(stacked)
        for one, other in zip(before, made_now, strict=True)
        for stacked in (False, True)
    )


def settled() -> str:
    """The choices that were made or are pinned, for `$TINYGRAD_KR_PRODUCTS` of another process."""
    if os.environ.get(VARIABLE) or not _made:
        return os.environ.get(VARIABLE, "")
    return ",".join(f"{dtype}={choice.text}" for dtype, choice in sorted(_made.items()))


def adopt(text: str) -> None:
    """Take over the choices of another process: what `$TINYGRAD_KR_PRODUCTS` would say there.

    They count for more than this process's own variable. Raises RuntimeError if this process has
    chosen otherwise: within a process a choice never changes. Raises ValueError for another text.
    """
    global _adopted
    whole = {"numpy": BLAS, "c": OURS}.get(text)
    given = text_parts(text) if whole is None else dict.fromkeys(DTYPES, whole)
    with _choosing:
        for dtype, asked in given.items():
            wanted = asked if kernels.has_kernels() else BLAS
            known = _made.setdefault(dtype, wanted)
            if known != wanted:
                raise RuntimeError(
                    f"this process (pid {os.getpid()}) multiplies {dtype} by {known.text}, and its "
                    f"work asks for {wanted.text}, which rounds differently. Start new workers "
                    "(with Dask: client.restart())"
                )
        _adopted = text


def pinned(dtype: str) -> Choice | None:
    """What `$TINYGRAD_KR_PRODUCTS` says of a dtype. Raises ValueError if it cannot be read."""
    text = os.environ.get(VARIABLE, "")
    if text in ("numpy", "c"):
        return BLAS if text == "numpy" or not kernels.has_kernels() else OURS
    return text_parts(text).get(dtype)


def text_parts(text: str) -> dict[str, Choice]:
    """The choices in a text such as 'float32=c/numpy,float64=c/c', by dtype."""
    found = {}
    for part in filter(None, text.split(",")):
        matched = _PINNED.fullmatch(part)
        if matched is None:
            raise ValueError(
                f"${VARIABLE}: expected 'numpy', 'c', 'float32=c/numpy' or nothing, got "
                f"{text!r}. Unset it, and the machine is measured."
            )
        name, *words = matched.groups()
        found[name] = Choice(*(word == "c" for word in words))
    return found


_PINNED = re.compile(r"(float32|float64)=(c|numpy)/(c|numpy)")


# ------------------------------------------------------------------ kept in the cache


def _chosen(dtype: str, library: Callable[[], Any] | None) -> Choice:
    """The kept choice, or a measurement, which one process makes at a time."""
    if not kernels.has_kernels():
        return BLAS
    try:
        built = (library or (lambda: _shared(dtype)))()
    except RuntimeError:  # no compiler, or it fails
        built = None
    if built is None:
        return BLAS
    folder = _folder()
    with _locked(folder, dtype):
        known = _kept(dtype)
        if known is None:
            known, is_sure = measured(dtype, built)
            if folder is not None and is_sure:
                with suppress(OSError):
                    write_note(_note(folder, dtype), [known.text])
    return known


def _shared(dtype: str) -> Any:
    suffix = suffix_of(dtype)
    return kernels.products_of(kernels.library(suffix), suffix)


def suffix_of(dtype: str) -> str:
    """What the names of the functions for a dtype end with."""
    return kernels.F64 if dtype == "float64" else ""


def _folder() -> Path | None:
    try:
        return trusted_cache()
    except (OSError, RuntimeError):
        return None


def _kept(dtype: str) -> Choice | None:
    folder = _folder()
    if folder is None:
        return None
    try:
        (text,) = read_note(_note(folder, dtype))
        matched = _PINNED.fullmatch(f"{dtype}={text}")
    except (OSError, ValueError):
        return None
    if matched is None:
        return None
    _, *words = matched.groups()
    return Choice(*(word == "c" for word in words))


def _note(folder: Path, dtype: str) -> Path:
    return folder / f"{_key(dtype)}.products"


def _key(dtype: str) -> str:
    """The digest of all that the answer depends on."""
    config = cast(dict[str, Any], np.show_config(mode="dicts") or {})
    library = config.get("Build Dependencies", {}).get("blas", {})
    tuned = [f"{name}={value}" for name, value in sorted(os.environ.items()) if _tunes(name)]
    own = [cpu.machine(), cpu.vectors(), str(cpu.helpers()), str(blas.threads()), __version__]
    return digest([dtype, *own, np.__version__, str(sorted(library.items())), *tuned])


def _tunes(name: str) -> bool:
    """Whether an environment variable affects a BLAS."""
    return name.startswith(("OPENBLAS_", "MKL_", "OMP_", "BLIS_", "GOTO_", "VECLIB_"))


@contextmanager
def _locked(folder: Path | None, dtype: str) -> Iterator[None]:
    """While one process measures, the others wait. A killed process holds nothing."""
    if folder is None:
        yield
        return
    try:
        lock = os.open(folder / f"{_key(dtype)}.lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError:
        yield
        return
    try:
        end = time.monotonic() + LOCK_SECONDS
        while not _take(lock) and time.monotonic() < end:
            time.sleep(0.01)
        yield
    finally:
        os.close(lock)


def _take(lock: int) -> bool:
    """Lock an open file if no other process has; whether the wait is over."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


# ------------------------------------------------------------------ the measurement


def measured(dtype: str, library: Any) -> tuple[Choice, bool]:
    """The choice, within SECONDS; and whether it is sure: all rounds gave the same.

    Products are timed as programs use them: after each comes a loop in C. So BLAS pays for its
    threads, which spin after a call and take a core from the C beside it. Hence C is timed first.
    It is chosen unless BLAS is faster in every round. A round in which C is as fast as BLAS
    decides, so the others are not made.
    """
    end = time.perf_counter() + SECONDS
    beside = _Case(dtype, library, 0, *_SHAPES[0]).ours
    singles = [_Case(dtype, library, 0, *shape) for shape in _SHAPES]
    stacks = [_Case(dtype, library, *_STACK)]
    cases = (*singles, *stacks)
    for rounds in (1, _ROUNDS - 1):
        _wait_for_threads()
        for ours in (True, False):
            for _ in range(rounds):
                for case in cases:
                    case.measure(ours, beside, end)
        if time.perf_counter() > end:
            return OURS, False
        if all(_ratio(group, 0) <= 1 for group in (singles, stacks)):
            return OURS, True
    found = [Choice(_is_ours(singles, i), _is_ours(stacks, i)) for i in range(_ROUNDS)]
    choice = Choice(*(any(each) for each in zip(*found, strict=True)))
    return choice, found == [choice] * _ROUNDS


def _wait_for_threads() -> None:
    """Until no thread of this process spins: those of OpenBLAS do for 25 to 110 ms."""
    for _ in range(_LOOKS):
        start, used = time.perf_counter(), time.process_time()
        time.sleep(_LOOK_SECONDS)
        if time.process_time() - used < _QUIET * (time.perf_counter() - start):
            return


def _is_ours(cases: Sequence[_Case], number: int) -> bool:
    """Whether C is as fast in a round."""
    return _ratio(cases, number) <= _TOLERANCE


def _ratio(cases: Sequence[_Case], number: int) -> float:
    """The geometric mean of the ratios of medians in a round."""
    ratio: float = math.prod(case.ratio(number) for case in cases) ** (1 / len(cases))
    return ratio


class _Case:
    """One product, or a stack of them, by C and by BLAS."""

    def __init__(
        self, dtype: str, library: Any, products: int, rows: int, depth: int, columns: int
    ) -> None:
        stack = (products,) * (products > 0)
        random = np.random.default_rng(0)
        a = random.random((*stack, rows, depth)).astype(dtype)
        b = random.random((*stack, depth, columns)).astype(dtype)
        c = np.empty((*stack, rows, columns), dtype)
        write = write_stack if products else write_product
        self.ours: Callable[[], Any] = lambda: write(library, a, b, c)
        self.blas: Callable[[], Any] = lambda: np.matmul(a, b, out=c)
        self.medians: dict[bool, list[float]] = {True: [], False: []}

    def measure(self, ours: bool, beside: Callable[[], Any], end: float) -> None:
        """One round of calls, of which the first wakes threads; none after `end`."""
        function = self.ours if ours else self.blas
        times = []
        for _ in range(_CALLS):
            start = time.perf_counter()
            if start > end:
                return
            function()
            beside()
            times.append(time.perf_counter() - start)
        self.medians[ours].append(sorted(times)[_CALLS // 2])

    def ratio(self, number: int) -> float:
        """Of the time by C to that by BLAS in one round."""
        return self.medians[True][number] / self.medians[False][number]


def write_product(library: Any, a: ndarray, b: ndarray, c: ndarray) -> None:
    """c = a @ b by C, for aligned matrices and a dense c."""
    function = library.product if c.itemsize == 4 else library.product_f64
    function(*a.shape, b.shape[1], *_matrix(a), *_matrix(b), _address(c))


def write_stack(library: Any, a: ndarray, b: ndarray, c: ndarray) -> None:
    """c = a @ b by C, for aligned arrays of three or four axes and a dense c."""
    function = library.products if c.itemsize == 4 else library.products_f64
    size, short = c.itemsize, c.ndim == 3
    one, none = ((1,), (0,)) if short else ((), ())
    steps = [step // size for step in a.strides], [step // size for step in b.strides]
    sizes = _stack_type()(*one, *a.shape, c.shape[-1], *none, *steps[0], *none, *steps[1])
    function(ctypes.addressof(sizes), _address(a), _address(b), _address(c))


@cache
def _stack_type() -> Any:
    """`tk_stack` of gemm.h. Where there is no ctypes, there is none."""
    return ctypes.c_int64 * 13


def _matrix(x: ndarray) -> tuple[int, int, int]:
    """Address of a matrix and its strides in elements, down and across."""
    down, across = x.strides
    return _address(x), down // x.itemsize, across // x.itemsize


def _address(x: ndarray) -> int:
    start: int = x.__array_interface__["data"][0]
    return start


def _forget_lock() -> None:
    """After fork: another thread may have held the lock, and the child lacks that thread."""
    global _choosing
    _choosing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
