"""Matrix products by our C kernel or by NumPy's BLAS: measured once on each machine.

The answer depends on the processor, BLAS and the number of threads, so the cache keeps one for each
of them. Within a process it never changes: both round differently.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy import ndarray

from tinygrad_kr._version import __version__
from tinygrad_kr.native import cpu, kernels
from tinygrad_kr.native.cache import digest, read_note, trusted_cache, write_note
from tinygrad_kr.native.foreign import ctypes

VARIABLE = "TINYGRAD_KR_PRODUCTS"
DTYPES = ("float32", "float64")
SECONDS = 0.3
"""Most seconds of a measurement."""
LOCK_SECONDS = 5.0
"""Most seconds to wait for another process that measures. It may have been stopped."""
_TOLERANCE = 1.1
"""BLAS may be so much faster: its threads spin after a call, and slow the C beside it."""
_SHAPES = ((128, 64, 128), (128, 784, 100), (256, 256, 256), (512, 512, 512))
"""Rows, depth and columns of the products that are measured, smallest first."""
_STACK = (128, 32, 16, 32)
"""Products, rows, depth and columns of the stack that is measured."""
_ROUNDS = (2, 5, 5)
"""Calls of each product, of C and then of BLAS."""
_SETTLING_SECONDS = 0.02
"""How long threads of BLAS spin after a product."""


class Choice(NamedTuple):
    """From how many multiply-adds on C computes single products, and stacks; None: BLAS does.

    Eager mode leaves small ones to BLAS in any case (`ops.products`).
    """

    single: int | None
    stacked: int | None

    def least(self, stacked: bool) -> int | None:
        """From how many multiply-adds on C computes products in a compiled program.

        Stacks are C's there if any products are: a call from Python costs more than it gains.
        """
        return self.single if self.single is not None or not stacked else self.stacked

    @property
    def text(self) -> str:
        """As `$TINYGRAD_KR_PRODUCTS` has it."""
        return "/".join("numpy" if least is None else str(least) for least in self)


BLAS = Choice(None, None)
OURS = Choice(0, 0)

_made: dict[str, Choice] = {}
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
    said = (f"{name} by {'BLAS' if least is None else 'C'}" for name, least in words.items())
    return f"{dtype}={known.text} ({', '.join(said)}; {source})"


def are_as_expected(dtypes: Collection[str]) -> bool:
    """Whether the choices are what `expected` said. Measures those that were not made."""
    before = [expected(dtype) for dtype in dtypes]
    return before == [made(dtype) for dtype in dtypes]


def settled() -> str:
    """The choices that were made or are pinned, for `$TINYGRAD_KR_PRODUCTS` of another process."""
    if os.environ.get(VARIABLE) or not _made:
        return os.environ.get(VARIABLE, "")
    return ",".join(f"{dtype}={choice.text}" for dtype, choice in sorted(_made.items()))


def pinned(dtype: str) -> Choice | None:
    """What `$TINYGRAD_KR_PRODUCTS` says of a dtype. Raises ValueError if it cannot be read."""
    text = os.environ.get(VARIABLE, "")
    if text in ("numpy", "c"):
        return BLAS if text == "numpy" or not kernels.has_kernels() else OURS
    found = {}
    for part in filter(None, text.split(",")):
        matched = _PINNED.fullmatch(part)
        if matched is None:
            raise ValueError(
                f"${VARIABLE}: expected 'numpy', 'c', 'float32=0/numpy' or nothing, got "
                f"{text!r}. Unset it, and the machine is measured."
            )
        name, *leasts = matched.groups()
        found[name] = Choice(*(None if least == "numpy" else int(least) for least in leasts))
    return found.get(dtype)


_PINNED = re.compile(r"(float32|float64)=(\d{1,18}|numpy)/(\d{1,18}|numpy)")


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
            known, whole = measured(dtype, built)
            if folder is not None and whole:
                with suppress(OSError):
                    write_note(_note(folder, dtype), [known.text])
    return known


def _shared(dtype: str) -> Any:
    suffix = suffix_of(dtype)
    return kernels.products_of(kernels.library(f64=bool(suffix)), suffix)


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
    _, *leasts = matched.groups()
    return Choice(*(None if least == "numpy" else int(least) for least in leasts))


def _note(folder: Path, dtype: str) -> Path:
    return folder / f"{_key(dtype)}.products"


def _key(dtype: str) -> str:
    """The digest of all that the answer depends on."""
    config = cast(dict[str, Any], np.show_config(mode="dicts") or {})
    blas = config.get("Build Dependencies", {}).get("blas", {})
    tuned = [f"{name}={value}" for name, value in sorted(os.environ.items()) if _tunes(name)]
    own = [cpu.machine(), cpu.vectors(), str(cpu.helpers()), __version__]
    return digest([dtype, *own, np.__version__, str(sorted(blas.items())), *tuned])


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
    """Both in turn, the median time of each, within SECONDS; and whether there was time for all.

    The best time would be that of an idle machine: where the cores are busy, BLAS waits for its
    threads, some milliseconds for each product, and C does without.
    """
    end = time.perf_counter() + SECONDS
    cases = [_Case(dtype, library, 0, *shape) for shape in _SHAPES] + [
        _Case(dtype, library, *_STACK)
    ]
    for times in _ROUNDS:
        for case in cases:
            case.ours.measure(end, times)
        for case in cases:
            case.blas.measure(end, times)
        time.sleep(max(0.0, min(_SETTLING_SECONDS, end - time.perf_counter())))
    *singles, stack = cases
    blas = [case.multiply_adds for case in singles if not case.is_ours]
    largest = max(blas, default=-1)
    single = None if largest == singles[-1].multiply_adds else largest + 1
    return Choice(single, 0 if stack.is_ours else None), all(case.is_known for case in cases)


class _Timer:
    """The times of calls of a function."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function, self.times = function, list[float]()

    @property
    def median(self) -> float:
        """Infinite without calls."""
        return sorted(self.times)[len(self.times) // 2] if self.times else float("inf")

    def measure(self, end: float, times: int) -> None:
        """Some calls, of which the first wakes threads; none after `end`."""
        for _ in range(times):
            start = time.perf_counter()
            if start > end:
                return
            self.function()
            self.times.append(time.perf_counter() - start)


class _Case:
    """One product, or a stack of them, by C and by BLAS."""

    def __init__(
        self, dtype: str, library: Any, products: int, rows: int, depth: int, columns: int
    ) -> None:
        stack = (products,) * (products > 0)
        random = np.random.default_rng(0)
        a = random.standard_normal((*stack, rows, depth)).astype(dtype)
        b = random.standard_normal((*stack, depth, columns)).astype(dtype)
        c = np.empty((*stack, rows, columns), dtype)
        self.multiply_adds = rows * depth * columns
        self.blas = _Timer(lambda: np.matmul(a, b, out=c))
        write = write_stack if products else write_product
        self.ours = _Timer(lambda: write(library, a, b, c))

    @property
    def is_ours(self) -> bool:
        """Whether C is as fast."""
        return self.ours.median <= _TOLERANCE * self.blas.median

    @property
    def is_known(self) -> bool:
        """Whether there was time for both."""
        return max(self.ours.median, self.blas.median) < float("inf")


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
