"""mathematics.h and trigonometry.h: as accurate as their tables say, right at every
end, vectorised, NumPy's ways."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

HEADER = Path(__file__).parents[2] / "tinygrad_kr" / "native" / "include" / "mathematics.h"
HEADERS = [HEADER, HEADER.with_name("trigonometry.h")]
FLAGS = ["-std=c99", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fPIC"]
BUILDS = {"native": ["-march=native"], "plain": []}  # the plain x86 has no fused multiply-add

inf, nan = math.inf, math.nan
FLOATS = (np.float32, np.float64)

LIKE_NUMPYS = [
    "exp",
    "exp2",
    "expm1",
    "tanh",
    "log",
    "log2",
    "log10",
    "log1p",
    "sin",
    "cos",
    "sqrt",
]
LESS_COMMON = [
    "tan",
    "arcsin",
    "arccos",
    "arctan",
    "sinh",
    "cosh",
    "arcsinh",
    "arccosh",
    "arctanh",
    "cbrt",
]
LENGTHS = ["arctan2", "hypot"]
BY_RULES = ["trunc", "deg2rad", "rad2deg", "sinc"]
UNARY = [*LIKE_NUMPYS, *LESS_COMMON, *BY_RULES]
UNARY += ["sigmoid", "softplus", "erf", "rint", "relu", "sign"]
BINARY = ["pow", "logaddexp", "max", "min", "fmax", "fmin", "remainder", "floor_divide"]
BINARY += [*LENGTHS, "fmod", "copysign", "heaviside", "logaddexp2"]
NAMES = {**dict.fromkeys(UNARY, 1), **dict.fromkeys(BINARY, 2), "clip": 3}
CALL_THE_LIBRARY = ["sin", "cos", "pow", "remainder", "floor_divide", "tan", "sinc", "fmod"]
CALL_THE_LIBRARY += ["remainderf", "floor_dividef", "fmodf"]
INTEGERS = ["remainder_int32", "remainder_int64", "floor_divide_int32", "floor_divide_int64"]


def function_name(name: str, dtype: Any) -> str:
    return name + ("f" if dtype == np.float32 else "")


# ------------------------------------------------------------------------------ the built library


def loop(name: str, real: str, count: int) -> str:
    """One line of C: a loop over arrays, so that a compiler's remark on its line names it."""
    arrays = "".join(f"const {real} *restrict x{i}, " for i in range(count))
    values = ", ".join(f"x{i}[j]" for i in range(count))
    return (
        f"void loop_{name}({arrays}{real} *restrict y, long n) "
        f"{{ for (long j = 0; j < n; j++) y[j] = tk_{name}({values}); }}"
    )


def single(name: str, real: str, count: int) -> str:
    parameters = ", ".join(f"{real} x{i}" for i in range(count))
    values = ", ".join(f"x{i}" for i in range(count))
    return f"{real} one_{name}({parameters}) {{ return tk_{name}({values}); }}"


def functions() -> Iterator[tuple[str, str, int]]:
    for name, count in NAMES.items():
        yield name, "double", count
        yield f"{name}f", "float", count
    for name in INTEGERS:
        yield name, f"int{name[-2:]}_t", 2


SOURCE = '#include "trigonometry.h"\n' + "\n".join(
    [loop(*function) for function in functions()] + [single(*function) for function in functions()]
)
LINE = {name: 2 + i for i, (name, _, _) in enumerate(functions())}


@dataclass
class Built:
    library: ctypes.CDLL
    remarks: str
    fused: bool
    truncates: bool
    """Whether the processor has an instruction that rounds towards 0."""

    def __call__(self, name: str, *arrays: ndarray) -> ndarray:
        """tk_`name` of arrays of one type, by the loop."""
        dtype = arrays[0].dtype
        full = name if dtype.kind == "i" else function_name(name, dtype.type)
        broadcast = [np.ascontiguousarray(a) for a in np.broadcast_arrays(*arrays)]
        y = np.empty_like(broadcast[0])
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in (*broadcast, y)]
        getattr(self.library, f"loop_{full}")(*pointers, ctypes.c_long(y.size))
        return y

    def one(self, name: str, dtype: Any, *values: float) -> float:
        function = getattr(self.library, f"one_{function_name(name, dtype)}")
        real = ctypes.c_float if dtype == np.float32 else ctypes.c_double
        function.restype, function.argtypes = real, [real] * len(values)
        return float(function(*values))


def system_compiler() -> list[str] | None:
    if given := os.environ.get("CC"):
        return shlex.split(given)
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    return [found] if found else None


@pytest.fixture(scope="module", params=BUILDS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    compiler = system_compiler()
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("mathematics")
    source, library = folder / "loops.c", folder / "loops.so"
    source.write_text(SOURCE, encoding="utf-8")
    version = subprocess.run(
        [*compiler, "--version"], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    clang = "clang" in version.stdout
    flags = [*FLAGS, *BUILDS[request.param], "-Wall", "-Wextra", "-Werror", f"-I{HEADER.parent}"]
    flags.append("-Rpass=loop-vectorize" if clang else "-fopt-info-vec-optimized")
    done = subprocess.run(
        [*compiler, *flags, "-shared", str(source), "-o", str(library), "-lm"],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    macros = [*compiler, *BUILDS[request.param], "-dM", "-E", "-x", "c", os.devnull]
    defined = subprocess.run(
        macros, capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout
    fused = any(macro in defined for macro in ("__FMA__", "__FP_FAST_FMAF ", "__aarch64__"))
    truncates = any(macro in defined for macro in ("__SSE4_1__", "__aarch64__"))
    return Built(ctypes.CDLL(str(library)), done.stdout + done.stderr, fused, truncates)


@pytest.mark.one_in(2)
def test_loops_are_vectorised(built: Built) -> None:
    lines = re.findall(r"loops\.c:(\d+):.*vectorized", built.remarks)
    vectorised = {name for name, line in LINE.items() if str(line) in lines}
    calls = {*CALL_THE_LIBRARY, *([] if built.truncates else ["trunc", "truncf"])}
    assert set(LINE) - {*calls, *INTEGERS} - vectorised == set()


# --------------------------------------------------------------------------------------- accuracy


def table() -> dict[str, list[float]]:
    """The tables of the headers: by function the bounds in ulp for float and double, twice."""
    row = re.compile(r"^ +([a-z0-9]+)" + r" +(\d\.\d\d)" * 4 + " ", re.MULTILINE)
    return {
        name: [float(b) for b in bounds]
        for header in HEADERS
        for name, *bounds in row.findall(header.read_text(encoding="utf-8"))
    }


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softplus(x: Any) -> Any:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def exact_erf(x: Any) -> Any:
    """2 / sqrt(pi) e^(-x^2) (x + 2 x^3 / 3 + 4 x^5 / 15 + ...): terms of one sign."""
    if x.dtype != np.longdouble:
        return np.array(list(map(math.erf, x.tolist())))
    a = np.minimum(np.abs(x), 7)
    term = total = a
    for n in range(1, 250):
        term = term * (2 * a * a / (2 * n + 1))
        total = total + term
    scale = np.longdouble("1.12837916709551257389615890312154517")
    return np.copysign(scale * np.exp(-a * a) * total, x)


EXACT: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in [*LIKE_NUMPYS, *LESS_COMMON, *LENGTHS]},
    "sigmoid": sigmoid,
    "softplus": softplus,
    "erf": exact_erf,
    "pow": np.power,
}


def largest_error(y: ndarray, exact: ndarray) -> float:
    """In units in the last place of `exact`, which has more digits; what is not finite is equal."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(y.dtype)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(rounded))
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(y[~finite], rounded[~finite])
    np.testing.assert_array_equal(np.signbit(y[finite]), np.signbit(exact[finite]))
    kind = np.finfo(y.dtype)
    _, exponent = np.frexp(np.maximum(np.abs(exact[finite]), kind.tiny))
    off = np.abs(y[finite] - exact[finite])
    return float(np.max(np.ldexp(off, kind.nmant + 1 - exponent)))


def around(values: list[float], dtype: Any) -> ndarray:
    """Each value, its negative, and four neighbours on each side of both."""
    x = np.array(values, dtype)
    integers = x.view(np.int32 if dtype == np.float32 else np.int64)
    near = (integers[:, None] + np.arange(-4, 5, dtype=integers.dtype)).view(dtype).ravel()
    return np.concatenate([near, -near])


def many_floats() -> ndarray:
    strided = np.arange(0, 2**32, 4099, dtype=np.uint32).view(np.float32)
    ends = [1.0, 0.55, 0.4142135, 0.70710677, 1.4142135, 88.72284, 103.97208, 9.1, 3.95, 16.6]
    ends += [2.0**-126, 2.0**-149 * 5, 2.0**50, 2.0**77, 2.0**103, 3.4028234e38, 0.7853982]
    return np.concatenate([strided, around(ends, np.float32)])


def many_doubles(rng: np.random.Generator, count: int) -> ndarray:
    bits = rng.integers(0, 2**64, count, dtype=np.uint64).view(np.float64)
    parts = [
        bits,
        rng.uniform(-750, 750, count),
        rng.uniform(-3, 3, count),
        rng.uniform(0, 2, count),
    ]
    ends = [1.0, 0.55, math.sqrt(0.5), math.sqrt(2), 709.782712893384, 745.13, 19.06, 36.7]
    ends += [2.0**-1022, 2.0**-1074 * 5, 1.797e308]
    return np.concatenate([*parts, around(ends, np.float64)])


def column(built: Built, dtype: Any) -> int:
    return (0 if built.fused else 2) + (1 if dtype == np.float64 else 0)


@pytest.mark.one_in(3)
@pytest.mark.parametrize("name", [name for name in EXACT if name not in BINARY])
def test_floats_are_within_the_bound_of_the_table(built: Built, name: str) -> None:
    x = many_floats()
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.float64))
        if name == "sigmoid":
            exact[np.exp(-x.astype(np.float64)).astype(np.float32) == inf] = 0
    assert 0.4 < largest_error(built(name, x), exact) <= table()[name][column(built, np.float32)]


def test_powers_of_floats_are_within_the_bound_of_the_table(built: Built) -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([many_floats()[::5], rng.uniform(0, 4, 200_000).astype(np.float32)])
    y = np.concatenate([rng.uniform(-8, 8, x.size // 2), rng.integers(-9, 9, x.size - x.size // 2)])
    y = rng.permutation(y).astype(np.float32)
    with np.errstate(all="ignore"):
        exact = np.power(x.astype(np.float64), y.astype(np.float64))
    assert (
        0.4 < largest_error(built("pow", x, y), exact) <= table()["pow"][column(built, np.float32)]
    )


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no longer here")
@pytest.mark.parametrize(
    "name", [name for name in EXACT if name not in (*BINARY, "sin", "cos", "tan")]
)
def test_doubles_are_within_the_bound_of_the_table(built: Built, name: str) -> None:
    x = many_doubles(np.random.default_rng(1), 30_000)
    with np.errstate(all="ignore"):
        exact = EXACT[name](x.astype(np.longdouble))
        if name == "sigmoid":
            exact[np.exp(-x.astype(np.longdouble)).astype(np.float64) == inf] = 0
    assert 0.4 < largest_error(built(name, x), exact) <= table()[name][column(built, np.float64)]


@pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="long double is no longer here")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", LENGTHS)
def test_angles_and_lengths_are_within_the_bound_of_the_table(
    built: Built, name: str, dtype: Any
) -> None:
    rng = np.random.default_rng(6)
    x = many_floats()[::20] if dtype == np.float32 else many_doubles(rng, 10_000)
    y = rng.permutation(x)
    near = (rng.standard_normal((2, 50_000)) * 10 ** rng.uniform(-2, 2, 50_000)).astype(dtype)
    ends = np.array([0.0, -0.0, 1.0, -1.0, inf, -inf, nan], dtype)
    grids = [grid.ravel() for grid in np.meshgrid(ends, ends)]
    a, b = (np.concatenate(parts) for parts in zip((x, y), near, grids, strict=True))
    with np.errstate(all="ignore"):
        exact = EXACT[name](a.astype(np.longdouble), b.astype(np.longdouble))
    assert 0.4 < largest_error(built(name, a, b), exact) <= table()[name][column(built, dtype)]


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_library_doubles_are_the_librarys(built: Built, name: str) -> None:
    x = np.random.default_rng(2).uniform(-20, 20, 1000)
    expected = [getattr(math, name)(v) for v in x.tolist()]
    np.testing.assert_array_max_ulp(built(name, x), np.array(expected), 1)


# ------------------------------------------------------------------------------------------- ends

ENDS: dict[str, list[tuple[float, float]]] = {
    "exp": [(0.0, 1), (-0.0, 1), (inf, inf), (-inf, 0.0), (-1e30, 0.0), (1e30, inf)],
    "exp2": [(0.0, 1), (-0.0, 1), (inf, inf), (-inf, 0.0), (10, 1024), (-3, 0.125), (1e30, inf)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -1), (-1e30, -1), (1e30, inf)],
    "log": [(1, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-1, nan), (-inf, nan)],
    "log2": [(1, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-1, nan), (8, 3), (2**-126, -126)],
    "log10": [(1, 0.0), (0.0, -inf), (-0.0, -inf), (inf, inf), (-1, nan), (1000, 3), (100, 2)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1, -inf), (inf, inf), (-1.5, nan), (-inf, nan)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (inf, 1), (-inf, -1), (40, 1), (-1e30, -1)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (inf, 1), (-inf, 0.0), (1e30, 1), (-1e30, 0.0)],
    "softplus": [(inf, inf), (-inf, 0.0), (1e30, 1e30), (-1e30, 0.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (inf, 1), (-inf, -1), (7, 1), (-1e30, -1)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (inf, nan), (-inf, nan)],
    "cos": [(0.0, 1), (-0.0, 1), (inf, nan), (-inf, nan)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-1, nan), (-inf, nan), (9, 3)],
    "rint": [(0.5, 0.0), (-0.5, -0.0), (1.5, 2), (2.5, 2), (-0.0, -0.0), (inf, inf), (1e9, 1e9)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (inf, nan), (-inf, nan)],
    "arcsin": [(0.0, 0.0), (-0.0, -0.0), (1.5, nan), (-1.5, nan), (inf, nan), (-inf, nan)],
    "arccos": [(1, 0.0), (1.5, nan), (-1.5, nan), (inf, nan), (-inf, nan)],
    "arctan": [(0.0, 0.0), (-0.0, -0.0), (inf, math.pi / 2), (-inf, -math.pi / 2)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -inf), (-1e30, -inf), (1e30, inf)],
    "cosh": [(0.0, 1), (-0.0, 1), (inf, inf), (-inf, inf), (-1e30, inf), (1e30, inf)],
    "arcsinh": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -inf)],
    "arccosh": [(1, 0.0), (0.0, nan), (-1, nan), (-3, nan), (inf, inf), (-inf, nan)],
    "arctanh": [(0.0, 0.0), (-0.0, -0.0), (1, inf), (-1, -inf), (1.5, nan), (inf, nan)],
    "cbrt": [(0.0, 0.0), (-0.0, -0.0), (8, 2), (-27, -3), (inf, inf), (-inf, -inf)],
    "trunc": [(-0.0, -0.0), (-0.5, -0.0), (2.7, 2), (-2.7, -2), (inf, inf), (-inf, -inf)],
    "sinc": [(0.0, 1), (-0.0, 1), (inf, nan), (-inf, nan)],
    "relu": [(-0.0, 0.0), (-inf, 0.0), (inf, inf), (3, 3)],
    "sign": [(-0.0, 0.0), (0.0, 0.0), (-inf, -1), (inf, 1), (-1e-30, -1)],
}  # fmt: skip


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ENDS)
def test_ends(built: Built, name: str, dtype: Any) -> None:
    assert_identical(*end_values(built, name, dtype))


def end_values(built: Built, name: str, dtype: Any) -> tuple[ndarray, ndarray]:
    x, expected = np.array([*ENDS[name], (nan, nan), (-nan, nan)], dtype).T
    return built(name, x), expected


def assert_identical(y: ndarray, expected: ndarray) -> None:
    """Equal, NaN where NaN is expected, and zeros of the same sign."""
    np.testing.assert_array_equal(y, expected)
    number = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(y[number]), np.signbit(expected[number]))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "name",
    [
        *("expm1", "tanh", "log1p", "sin", "rint", "sqrt"),
        *("tan", "arcsin", "arctan", "sinh", "arcsinh", "arctanh", "trunc"),
    ],
)
def test_of_denormals(built: Built, name: str, dtype: Any) -> None:
    tiny, least = np.finfo(dtype).tiny, np.finfo(dtype).smallest_subnormal
    x = np.array([tiny, tiny / 2, *(n * least for n in (1, 2, 3, 5, 1001))], dtype)
    x = np.concatenate([x, -x])
    if name in ("rint", "trunc"):
        expected = np.copysign(np.zeros_like(x), x)
    elif name == "sqrt":
        with np.errstate(invalid="ignore"):
            expected = np.sqrt(x)
    else:
        expected = x
    assert_identical(built(name, x), expected)


@pytest.mark.parametrize("dtype", FLOATS)
def test_overflow_and_underflow_come_at_the_right_argument(built: Built, dtype: Any) -> None:
    kind = np.finfo(dtype)
    wide = np.float64 if dtype == np.float32 else np.longdouble
    top = np.log(wide(kind.max)).astype(dtype)
    top = top if wide(top) <= np.log(wide(kind.max)) else np.nextafter(top, dtype(0))
    bottom = (np.log(wide(kind.smallest_subnormal)) - np.log(wide(2))).astype(dtype)
    x = np.array([top, np.nextafter(top, dtype(inf))], dtype)
    for name in "exp", "expm1":
        assert np.isinf(built(name, x)).tolist() == [False, True]
    assert (built("sigmoid", -x) == 0).tolist() == [False, True]
    x = np.array([bottom * dtype(1 - 1e-6), bottom * dtype(1 + 1e-6)], dtype)
    assert built("exp", x).tolist() == [kind.smallest_subnormal, 0]
    x = np.array([kind.maxexp - 1, kind.maxexp, kind.minexp - kind.nmant, -10000], dtype)
    assert built("exp2", x).tolist() == [2.0 ** (kind.maxexp - 1), inf, kind.smallest_subnormal, 0]


# ----------------------------------------------------------------------------- vectors and scalars


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NAMES)
def test_loops_of_any_length_give_what_single_calls_give(
    built: Built, name: str, dtype: Any
) -> None:
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((NAMES[name], 40)) * np.geomspace(1e-3, 1e3, 40)).astype(dtype)
    x[0, ::9] = [0.0, inf, -inf, nan, 88.9]
    single = [built.one(name, dtype, *values) for values in x.T.tolist()]
    for length in range(1, 41):
        y = built(name, *x[:, -length:])
        assert_identical(y, np.array(single, dtype)[-length:])


# ------------------------------------------------------------------------------- NumPy's semantics

X86 = platform.machine().lower() in ("x86_64", "amd64")


def grid(dtype: Any) -> ndarray:
    kind = np.finfo(dtype)
    sizes = [
        0.0,
        kind.smallest_subnormal,
        kind.tiny,
        0.1,
        0.5,
        1,
        1.5,
        2,
        3,
        7.25,
        1e6,
        kind.max,
        inf,
    ]
    values = np.array(sizes, dtype)
    return np.concatenate([values, -values, [dtype(nan)]])


def pairs(dtype: Any) -> tuple[ndarray, ndarray]:
    rng = np.random.default_rng(4)
    a, b = np.array(list(product(grid(dtype), repeat=2)), dtype).T
    c, d = (rng.standard_normal((2, 4000)) * 10 ** rng.uniform(-3, 3, (2, 4000))).astype(dtype)
    e, f = rng.integers(-12, 13, (2, 2000)).astype(dtype)
    return np.concatenate([a, c, e]), np.concatenate([b, d, f])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["remainder", "floor_divide"])
def test_division_is_numpys(built: Built, name: str, dtype: Any) -> None:
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        assert_identical(built(name, a, b), getattr(np, name)(a, b))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["fmod", "copysign", "heaviside"])
def test_other_rules_are_numpys(built: Built, name: str, dtype: Any) -> None:
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        assert_identical(built(name, a, b), getattr(np, name)(a, b))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BY_RULES)
def test_other_functions_are_numpys(built: Built, name: str, dtype: Any) -> None:
    x = np.concatenate([pairs(dtype)[0], np.arange(-40, 40, dtype=dtype) / 4])
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    y, eps = built(name, x), np.finfo(dtype).eps
    np.testing.assert_allclose(y, expected, rtol=4 * eps, atol=4 * eps)
    assert_identical(y[np.isnan(x)], x[np.isnan(x)])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin"])
def test_larger_and_smaller_are_numpys(built: Built, name: str, dtype: Any) -> None:
    a, b = pairs(dtype)
    y, expected = built(name.removesuffix("imum"), a, b), getattr(np, name)(a, b)
    np.testing.assert_array_equal(y, expected)
    # Of +0 and -0 NumPy's fmax takes now one, now the other; its maximum takes the second on x86.
    known = ~np.isnan(expected)
    if name.startswith("f") or not X86:
        known &= (a != 0) | (b != 0)
    np.testing.assert_array_equal(np.signbit(y[known]), np.signbit(expected[known]))


@pytest.mark.parametrize("dtype", FLOATS)
def test_relu_is_numpys_maximum_with_zero(built: Built, dtype: Any) -> None:
    x = pairs(dtype)[0]
    assert_identical(built("relu", x), np.maximum(x, dtype(0)) + dtype(0))


@pytest.mark.parametrize("dtype", FLOATS)
def test_sign_and_rint_are_numpys(built: Built, dtype: Any) -> None:
    x = np.concatenate([pairs(dtype)[0], np.arange(-40, 40, dtype=dtype) / 4])
    x = np.concatenate([x, around([2.0**22, 2.0**23, 2.0**51, 2.0**52, 0.5], dtype)])
    with np.errstate(invalid="ignore"):
        assert_identical(built("sign", x), np.sign(x))
    assert_identical(built("rint", x), np.rint(x))


@pytest.mark.parametrize("dtype", FLOATS)
def test_clip_is_numpys_with_two_numbers(built: Built, dtype: Any) -> None:
    x = pairs(dtype)[0]
    for low, high in product([-inf, -1.5, -0.0, 0.0, 2, inf, nan], repeat=2):
        low, high = dtype(low), dtype(high)
        assert_identical(built("clip", x, low, high), np.clip(x, low, high))


@pytest.mark.parametrize("dtype", FLOATS)
def test_powers_of_special_values_are_numpys(built: Built, dtype: Any) -> None:
    sizes = [0.0, 0.5, 1, 1.5, 2, 3, 2.0**24, 2.0**24 - 1, inf]
    values = np.array([*sizes, *(-v for v in sizes), nan], dtype)
    a, b = np.array(list(product(values, repeat=2)), dtype).T
    with np.errstate(all="ignore"):
        exact = np.power(a.astype(np.longdouble), b.astype(np.longdouble))
    bound = table()["pow"][column(built, dtype)] if dtype == np.float32 else 1.0
    assert largest_error(built("pow", a, b), exact) <= bound


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["logaddexp", "logaddexp2"])
def test_logaddexp_is_numpys(built: Built, name: str, dtype: Any) -> None:
    a, b = pairs(dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(a, b)
    scale = np.finfo(dtype).eps
    np.testing.assert_allclose(built(name, a, b), expected, rtol=4 * scale, atol=4 * scale)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("name", ["remainder", "floor_divide"])
def test_division_of_integers_is_numpys(built: Built, name: str, dtype: Any) -> None:
    ends = np.iinfo(dtype)
    values = [ends.min, ends.min + 1, -7, -3, -2, -1, 0, 1, 2, 3, 7, ends.max]
    a, b = np.array(list(product(values, repeat=2)), dtype).T
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(a, b)
    np.testing.assert_array_equal(built(f"{name}_{np.dtype(dtype).name}", a, b), expected)


def test_the_header_travels_with_the_package() -> None:
    project = (HEADER.parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^"tinygrad_kr\.native" = \[.*"include/\*\.h"', project, re.MULTILINE)
