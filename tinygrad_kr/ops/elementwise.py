"""Elementwise operations. At a kink: PyTorch's choice (minimum-norm subgradient: relu'(0) = 0).

Each op is one record: its function, its rules and its docstring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops import kernels
from tinygrad_kr.ops.error_function import erf as error_function
from tinygrad_kr.ops.node import OFF, Node, current_mode
from tinygrad_kr.ops.op import Op, alias, op
from tinygrad_kr.ops.tracing import is_expanding

__all__ = [
    "abs",
    "absolute",
    "acos",
    "acosh",
    "arccos",
    "arccosh",
    "arcsin",
    "arcsinh",
    "arctan",
    "arctan2",
    "arctanh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "copysign",
    "cos",
    "cosh",
    "deg2rad",
    "eq",
    "equal",
    "erf",
    "exp",
    "exp2",
    "expm1",
    "fix",
    "floor",
    "floor_divide",
    "fmax",
    "fmin",
    "fmod",
    "ge",
    "greater",
    "greater_equal",
    "gt",
    "heaviside",
    "hypot",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "less",
    "less_equal",
    "log",
    "log1p",
    "log2",
    "log10",
    "logaddexp",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "multiply",
    "ne",
    "neg",
    "negative",
    "not_equal",
    "positive",
    "pow",
    "power",
    "rad2deg",
    "reciprocal",
    "relu",
    "remainder",
    "round",
    "sigmoid",
    "sign",
    "sin",
    "sinc",
    "sinh",
    "softplus",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "true_divide",
    "trunc",
    "where",
]  # fmt: skip

# ------------------------------------------------------------------ docstrings

_ONE_INPUT = """Elementwise {formula}.

x: a Tensor, array or number of any shape.
Dtype: {dtype}
Gradient: {gradient}.
Source: {source}.

>>> {example}
{output}
"""
_TWO_INPUTS = """Elementwise {formula}.

a, b: Tensors, arrays or numbers whose shapes broadcast.
Dtype: {dtype}
Gradient: {gradient}.
Raises ValueError if the shapes do not broadcast, TypeError for anything but real numbers.
Source: {source}.

>>> {example}
{output}
"""
_FLOAT = "floats keep theirs; integers become float32."
_SAME = "that of `x`."
_TRUTH = "bool."
_COMMON = "the common one; a Python number widens no Tensor."
_QUOTIENT = "the common one; integers become float32, a Python number widens no Tensor."

_NONE = "none; the result is a constant"


def _help(
    template: str,
    dtype: str,
    name: str,
    formula: str,
    gradient: str,
    inputs: str,
    output: str,
    source: str = "",
) -> str:
    """The docstring of an op, with the example `inputs` -> `output`.

    inputs: the first one, which becomes a Tensor, and the others after a semicolon. "to 3" at the
        end rounds the result.
    """
    inputs, _, digits = inputs.partition(" to ")
    first, _, others = inputs.partition(";")
    call = f"tk.{name}(tk.tensor({first}){',' * bool(others)}{others})"
    return template.format(
        formula=formula,
        dtype=dtype,
        gradient=gradient,
        source=source or f"np.{name}",
        example=f"{call}.round({digits})" if digits else call,
        output=f"Tensor({output})",
    )


_one, _two = partial(_help, _ONE_INPUT), partial(_help, _TWO_INPUTS)


# ------------------------------------------------------------------ arithmetic

# fmt: off
add       = op(np.add,         lambda g, y, a, b: g,     lambda g, y, a, b: g,
    doc=_two(_COMMON, "add", "a + b", "1 for a, 1 for b", "[1.0, 2.0]; 3", "[4., 5.]"))
subtract  = op(np.subtract,    lambda g, y, a, b: g,     lambda g, y, a, b: -g,
    doc=_two(_COMMON, "subtract", "a - b", "1 for a, -1 for b", "[1.0, 2.0]; 3", "[-2., -1.]"))
multiply  = op(np.multiply,    lambda g, y, a, b: g * b, lambda g, y, a, b: g * a,
    doc=_two(_COMMON, "multiply", "a b", "b for a, a for b", "[1.0, 2.0]; 3", "[3., 6.]"))
divide    = op(np.true_divide, lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b,
    doc=_two(_QUOTIENT, "divide", "a / b",
             "1 / b for a, -a / b^2 for b", "[1.0, 2.0]; 4", "[0.25, 0.5 ]"))
remainder = op(np.remainder,   lambda g, y, a, b: g,     lambda g, y, a, b: -g * floor_divide(a, b),
    doc=_two(_COMMON, "remainder", "a - b floor(a / b), with the sign of b",
             "1 for a, -floor(a / b) for b", "[5.0, -5.0]; 3", "[2., 1.]"))
fmod      = op(np.fmod,        lambda g, y, a, b: g,     lambda g, y, a, b: -g * rint((a - y) / b),
    doc=_two(_COMMON, "fmod", "a - b trunc(a / b), with the sign of a",
             "1 for a, -trunc(a / b) for b", "[5.0, -5.0]; 3", "[ 2., -2.]"))

negative   = op(np.negative,   lambda g, y, x: -g,
    doc=_one(_SAME, "negative", "-x", "-1", "[1.0, -2.0]", "[-1.,  2.]"))
positive   = op(np.positive,   lambda g, y, x: g,
    doc=_one(_SAME, "positive", "x, as a copy", "1", "[1.0, -2.0]", "[ 1., -2.]"))
absolute   = op(np.absolute,   lambda g, y, x: g * sign(x), numpy=[np.fabs],
    doc=_one(_SAME, "absolute", "|x|", "sign(x), 0 at 0", "[-2.0, 3.0]", "[2., 3.]"))
square     = op(np.square,     lambda g, y, x: g * (2 * x),
    doc=_one(_SAME, "square", "x^2", "2 x", "[-2.0, 3.0]", "[4., 9.]"))



def _reciprocal(x: Any) -> Any:
    """NumPy's; of integers not its quotients without their fractions."""
    return np.reciprocal(x) if np.asarray(x).dtype.kind == "f" else np.true_divide(1, x)


reciprocal = op(_reciprocal, lambda g, y, x: -g * y * y, numpy=[np.reciprocal],
    doc=_one(_FLOAT, "reciprocal", "1 / x; inf at 0", "-1 / x^2", "[2.0, 4.0]", "[0.5 , 0.25]"))
sqrt       = op(np.sqrt,       lambda g, y, x: g / (2 * y),
    doc=_one(_FLOAT, "sqrt", "sqrt(x); NaN below 0",
             "1 / (2 sqrt(x)), inf at 0", "[4.0, 9.0]", "[2., 3.]"))
cbrt       = op(np.cbrt,       lambda g, y, x: g / (3 * y * y),
    doc=_one(_FLOAT, "cbrt", "cube root of x",
             "1 / (3 cbrt(x)^2), inf at 0", "[8.0, -27.0] to 3", "[ 2., -3.]"))

exp   = op(np.exp,   lambda g, y, x: g * y,
    doc=_one(_FLOAT, "exp", "e^x", "e^x", "[0.0, 1.0] to 3", "[1.   , 2.718]"))
exp2  = op(np.exp2,  lambda g, y, x: g * y * math.log(2),
    doc=_one(_FLOAT, "exp2", "2^x", "2^x log(2)", "[0.0, 3.0] to 3", "[1., 8.]"))
expm1 = op(np.expm1, lambda g, y, x: g * exp(x),
    doc=_one(_FLOAT, "expm1", "e^x - 1, exact near 0", "e^x", "[0.0, 1.0] to 3", "[0.   , 1.718]"))
log   = op(np.log,   lambda g, y, x: g / x,
    doc=_one(_FLOAT, "log", "natural logarithm; -inf at 0, NaN below",
             "1 / x", "[1.0, 2.0] to 3", "[0.   , 0.693]"))
log1p = op(np.log1p, lambda g, y, x: g / (1 + x),
    doc=_one(_FLOAT, "log1p", "log(1 + x), exact near 0",
             "1 / (1 + x)", "[0.0, 1.0] to 3", "[0.   , 0.693]"))
log2  = op(np.log2,  lambda g, y, x: g / (x * math.log(2)),
    doc=_one(_FLOAT, "log2", "logarithm to base 2",
             "1 / (x log(2))", "[1.0, 8.0] to 3", "[0., 3.]"))
log10 = op(np.log10, lambda g, y, x: g / (x * math.log(10)),
    doc=_one(_FLOAT, "log10", "logarithm to base 10",
             "1 / (x log(10))", "[1.0, 100.0] to 3", "[0., 2.]"))

sin     = op(np.sin,     lambda g, y, x: g * cos(x),
    doc=_one(_FLOAT, "sin", "sine; x in radians", "cos(x)", "[0.0, 1.0] to 3", "[0.   , 0.841]"))
cos: Op = op(np.cos,     lambda g, y, x: -g * sin(x),
    doc=_one(_FLOAT, "cos", "cosine; x in radians", "-sin(x)", "[0.0, 1.0] to 3", "[1.  , 0.54]"))
tan     = op(np.tan,     lambda g, y, x: g * (1 + y * y),
    doc=_one(_FLOAT, "tan", "tangent; x in radians",
             "1 + tan(x)^2", "[0.0, 1.0] to 3", "[0.   , 1.557]"))
arcsin  = op(np.arcsin,  lambda g, y, x: g / sqrt((1 - x) * (1 + x)),
    doc=_one(_FLOAT, "arcsin", "inverse of sin, in [-pi/2, pi/2]; NaN outside [-1, 1]",
             "1 / sqrt(1 - x^2), inf at -1 and 1", "[0.0, 1.0] to 3", "[0.   , 1.571]"))
arccos  = op(np.arccos,  lambda g, y, x: -g / sqrt((1 - x) * (1 + x)),
    doc=_one(_FLOAT, "arccos", "inverse of cos, in [0, pi]; NaN outside [-1, 1]",
             "-1 / sqrt(1 - x^2), -inf at -1 and 1", "[1.0, 0.0] to 3", "[0.   , 1.571]"))
arctan  = op(np.arctan,  lambda g, y, x: g / _root(x) / _root(x),
    doc=_one(_FLOAT, "arctan", "inverse of tan, in (-pi/2, pi/2)",
             "1 / (1 + x^2)", "[0.0, 1.0] to 3", "[0.   , 0.785]"))
sinh    = op(np.sinh,    lambda g, y, x: g * cosh(x),
    doc=_one(_FLOAT, "sinh", "(e^x - e^-x) / 2", "cosh(x)", "[0.0, 1.0] to 3", "[0.   , 1.175]"))
cosh: Op = op(np.cosh,   lambda g, y, x: g * sinh(x),
    doc=_one(_FLOAT, "cosh", "(e^x + e^-x) / 2", "sinh(x)", "[0.0, 1.0] to 3", "[1.   , 1.543]"))
tanh    = op(np.tanh,    lambda g, y, x: _tanh_rule(g, y),
    doc=_one(_FLOAT, "tanh", "(e^x - e^-x) / (e^x + e^-x), in [-1, 1]",
             "1 - tanh(x)^2", "[0.0, 1.0] to 3", "[0.   , 0.762]"))
arcsinh = op(np.arcsinh, lambda g, y, x: g / _root(x),
    doc=_one(_FLOAT, "arcsinh", "inverse of sinh",
             "1 / sqrt(1 + x^2)", "[0.0, 1.0] to 3", "[0.   , 0.881]"))
arccosh = op(np.arccosh, lambda g, y, x: g / sqrt(x - 1) / sqrt(x + 1),
    doc=_one(_FLOAT, "arccosh", "inverse of cosh, at least 0; NaN below 1",
             "1 / sqrt(x^2 - 1), inf at 1", "[1.0, 2.0] to 3", "[0.   , 1.317]"))
arctanh = op(np.arctanh, lambda g, y, x: g / ((1 - x) * (1 + x)),
    doc=_one(_FLOAT, "arctanh", "inverse of tanh; NaN outside [-1, 1]",
             "1 / (1 - x^2), inf at -1 and 1", "[0.0, 0.5] to 3", "[0.   , 0.549]"))
deg2rad = op(np.deg2rad, lambda g, y, x: g * (math.pi / 180), numpy=[np.radians],
    doc=_one(_FLOAT, "deg2rad", "degrees in radians, x pi / 180",
             "pi / 180", "[0.0, 180.0] to 3", "[0.   , 3.142]"))
rad2deg = op(np.rad2deg, lambda g, y, x: g * (180 / math.pi), numpy=[np.degrees],
    doc=_one(_FLOAT, "rad2deg", "radians in degrees, x 180 / pi",
             "180 / pi", "[0.0, 3.0] to 1", "[  0. , 171.9]"))

# No derivative: piecewise constant.
def _sign(x: Any) -> Any:
    return x if np.asarray(x).dtype.kind == "b" else np.sign(x)


sign: Op = op(_sign, numpy=[np.sign],
    doc=_one(_SAME, "sign", "sign of x: -1, 0 or 1", _NONE, "[-2.0, 0.0, 3.0]", "[-1.,  0.,  1.]"))
floor = op(np.floor,
    doc=_one(_SAME, "floor", "largest integer not above x", _NONE, "[-1.5, 1.5]", "[-2.,  1.]"))
ceil = op(np.ceil,
    doc=_one(_SAME, "ceil", "smallest integer not below x", _NONE, "[-1.5, 1.5]", "[-1.,  2.]"))
trunc = op(np.trunc, numpy=[np.fix],
    doc=_one(_SAME, "trunc", "x without its fraction, rounded towards 0",
             _NONE, "[-1.5, 1.5]", "[-1.,  1.]"))
rint: Op = op(np.rint)
round = op(np.round, numpy=[np.around], like=lambda x, decimals=0: None,
    doc=_one(_SAME, "round", "x rounded to `decimals` places, halves to even",
             _NONE, "[0.5, 1.26]; 1", "[0.5, 1.3]"))
floor_divide: Op = op(np.floor_divide,
    doc=_two(_COMMON, "floor_divide", "floor(a / b)", _NONE, "[5.0, -5.0]; 3", "[ 1., -2.]"))
signbit = op(np.signbit)

copysign: Op = op(np.copysign, lambda g, y, a, b: g * sign(a) * copysign(sign(a), b),
                               None,  # type: ignore[arg-type]
    doc=_two(_QUOTIENT, "copysign", "|a| with the sign of b; that of -0.0 is minus",
             "sign(a) times the sign of b for a, 0 at 0; none for b",
             "[1.0, -2.0]; -1", "[-1., -2.]"))



def _heaviside(a: Any, b: Any) -> Any:
    """NumPy's; of integers and booleans without its float64, as in PyTorch."""
    if np.result_type(a, b).kind == "f":
        return np.heaviside(a, b)
    return np.where(np.equal(a, 0), b, np.greater(a, 0)).astype(np.result_type(a, b))


heaviside = op(_heaviside, None,  # type: ignore[arg-type]
                           lambda g, y, a, b: where_or_zero(g, a == 0), numpy=[np.heaviside],
    doc=_two(_COMMON, "heaviside", "step: 0 for a < 0, b for a = 0, 1 for a > 0",
             "none for a; 1 for b where a = 0, else 0", "[-1.0, 0.0, 2.0]; 0.5", "[0. , 0.5, 1. ]"))

equal = op(np.equal,
    doc=_two(_TRUTH, "equal", "a == b", _NONE, "[1, 2, 3]; 2", "[False,  True, False]"))
not_equal = op(np.not_equal,
    doc=_two(_TRUTH, "not_equal", "a != b", _NONE, "[1, 2, 3]; 2", "[ True, False,  True]"))
less = op(np.less,
    doc=_two(_TRUTH, "less", "a < b", _NONE, "[1, 2, 3]; 2", "[ True, False, False]"))
less_equal = op(np.less_equal,
    doc=_two(_TRUTH, "less_equal", "a <= b", _NONE, "[1, 2, 3]; 2", "[ True,  True, False]"))
greater = op(np.greater,
    doc=_two(_TRUTH, "greater", "a > b", _NONE, "[1, 2, 3]; 2", "[False, False,  True]"))
greater_equal = op(np.greater_equal,
    doc=_two(_TRUTH, "greater_equal", "a >= b", _NONE, "[1, 2, 3]; 2", "[False,  True,  True]"))
logical_and = op(np.logical_and,
    doc=_two(_TRUTH, "logical_and", "test that a and b are both nonzero",
             _NONE, "[0, 2]; 1", "[False,  True]"))
logical_or = op(np.logical_or,
    doc=_two(_TRUTH, "logical_or", "test that a or b is nonzero",
             _NONE, "[0, 2]; 0", "[False,  True]"))
logical_xor = op(np.logical_xor,
    doc=_two(_TRUTH, "logical_xor", "test that one of a and b is nonzero",
             _NONE, "[0, 2]; 1", "[ True, False]"))
logical_not = op(np.logical_not,
    doc=_one(_TRUTH, "logical_not", "x == 0", _NONE, "[0.0, 2.0]", "[ True, False]"))
bitwise_and = op(np.bitwise_and)
bitwise_or = op(np.bitwise_or)
bitwise_xor = op(np.bitwise_xor)
invert = op(np.invert)
isnan = op(np.isnan,
    doc=_one(_TRUTH, "isnan", "test for NaN", _NONE, "[1.0, np.nan]", "[False,  True]"))
isinf = op(np.isinf,
    doc=_one(_TRUTH, "isinf", "test for inf and -inf", _NONE, "[1.0, -np.inf]", "[False,  True]"))
isfinite = op(np.isfinite,
    doc=_one(_TRUTH, "isfinite", "test for numbers that are neither infinite nor NaN",
             _NONE, "[1.0, np.nan]", "[ True, False]"))

# fmt: on
# ------------------------------------------------------------------ selection

_ZERO = {np.dtype(t): np.zeros((), t) for t in (np.float16, np.float32, np.float64)}
_ONE = {dtype: np.ones((), dtype) for dtype in _ZERO}
_NAN = {dtype: np.full((), np.nan, dtype) for dtype in _ZERO}
_INTEGER = {2: np.int16, 4: np.int32, 8: np.int64}


def _where_or_zero(x: Any, mask: Any) -> Any:
    """`x` where `mask` is nonzero, exactly 0 elsewhere, also where `x` is infinite or NaN.

    `np.where` mispredicts branches. On large arrays it is 15 times faster to multiply the bits,
    read as an integer, by 0 or 1.
    """
    zero = _ZERO.get(x.dtype)
    if x.size < 4096 or zero is None:
        return np.where(mask, x, 0.0 if zero is None else zero)
    if x.size >= kernels.MIN_SELECTED and type(mask) is ndarray:
        found = kernels.choose(mask, x, 0.0)
        if found is None and mask.dtype == x.dtype:
            found = kernels.elementwise("relu_vjp", x, mask, header="selection")
        if found is not None:
            return found
    kept = np.asarray(mask, bool).view(np.int8)
    return (x.view(_INTEGER[x.dtype.itemsize]) * kept).view(x.dtype)


def _where(condition: Any, *chosen: Any) -> Any:
    """`np.where`, which gives the positions of a condition alone."""
    if len(chosen) != 2:
        raise TypeError(
            f"expected a condition, a and b, got {1 + len(chosen)} inputs. "
            "tk.nonzero(condition, as_tuple=True) gives positions"
        )
    if type(condition) is ndarray and condition.size >= kernels.MIN_SELECTED:
        found = kernels.choose(condition, *chosen)
        if found is not None:
            return found
    return np.where(condition, *chosen)


# fmt: off
where_or_zero: Op = op(_where_or_zero, lambda g, y, x, mask: where_or_zero(g, mask))
where: Op = op(_where,
           None,  # type: ignore[arg-type]
           lambda g, y, condition, a, b: where_or_zero(g, condition),
           lambda g, y, condition, a, b: where_or_zero(g, logical_not(condition)),
           name="where", like=lambda condition, a, b: None,
           doc="""`a` where `condition` is nonzero, else `b`.

condition, a, b: Tensors, arrays or numbers whose shapes broadcast.
Dtype: the common one of `a` and `b`; a Python number widens no Tensor.
Gradient: 1 for the one that is taken, 0 for the other, also where that is infinite or NaN.
Raises ValueError if the shapes do not broadcast; TypeError for a condition alone, whose positions
    `tk.nonzero(condition, as_tuple=True)` gives.
Source: np.where.

>>> tk.where([True, False], tk.tensor([1.0, 2.0]), 0.0)
Tensor([1., 0.])
""")
# fmt: on


def _undefined(x: Any, mask: Any) -> Any:
    """0, but NaN where `mask` and `x` are nonzero.

    It stands for a derivative that does not exist where `mask` is true: a cotangent or a tangent
    of 0 passes as 0, any other becomes NaN.
    """
    return np.where(mask & (x != 0), _NAN.get(x.dtype, np.nan), _ZERO.get(x.dtype, 0.0))


def _kink(x: ndarray, mask: Any) -> Any:
    """0, without a derivative where `mask` is true."""
    return np.zeros(np.broadcast_shapes(x.shape, np.shape(mask)), x.dtype)


def _kink_vjp(g: Any, again: Any) -> Any:
    return g * (1 + again)


undefined: Op = op(_undefined, lambda g, y, x, mask: undefined(g, mask))
kink: Op = op(_kink, lambda g, y, x, mask: _kink_vjp(undefined(g, mask), kink(x, mask)))


def _subgradient_product(g: Any, slope: Any, link: Any, *, transposed: bool = False) -> Any:
    """g slope, where `slope` is a subgradient; it has no derivative where `link` has none.

    link: 0, from `kink`. Its cotangent is not 0 where that of the product is not, also where `g` is
        0: another derivative may come there.
    transposed: `g` is a tangent, and decides in place of the cotangent.
    """
    return g * slope


def _link_vjp(deciding: Any, other: Any) -> Any:
    """0 where `deciding` is, else not; with a derivative by both."""
    return deciding * where(other < 0, 1 - other, 1 + other)


subgradient_product: Op = op(
    _subgradient_product,
    lambda c, y, g, slope, link, transposed=False: subgradient_product(
        c, slope, link, transposed=not transposed
    ),
    lambda c, y, g, slope, link, transposed=False: c * g,
    lambda c, y, g, slope, link, transposed=False: (
        _link_vjp(g, c) if transposed else _link_vjp(c, g)
    ),
)


def times_subgradient(
    g: Any, slope: Any, mask: Any, *inputs: Any, axis: Any = (), joint: Any = None
) -> Any:
    """g slope, where `slope` is a subgradient without a derivative by `inputs` if `mask` is true.

    axis: the axes over which what one input lacks, every other lacks too; where `joint` is true,
        by default where `mask` is.
    """
    recorded = [x for x in inputs if isinstance(x, Node) and x._requires_grad]
    if not recorded or current_mode() == OFF:
        return g * slope
    link = kink(recorded[0], mask)
    for x in recorded[1:]:
        link = link + kink(x, mask)
    if axis != ():
        joint = mask if joint is None else joint
        link = link + undefined(link + 0.0 * link.sum(axis=axis, keepdims=True), joint)
    return subgradient_product(g, slope, link)


# fmt: off
def _tied(g: Any, wins: Any, ties: Any) -> Any:
    """The cotangent of the larger of two; a tie is split evenly."""
    return where(wins, g, where_or_zero(g / 2, ties))


maximum = op(np.maximum,
             lambda g, y, a, b: _tied(g, (a > b) | isnan(a), a == b),
             lambda g, y, a, b: _tied(g, (b > a) | isnan(b), a == b),
    doc=_two(_COMMON, "maximum", "larger of a and b; NaN wins",
             "1 for the larger, 1/2 for both where they are equal", "[1.0, 4.0]; 3", "[3., 4.]"))
minimum = op(np.minimum,
             lambda g, y, a, b: _tied(g, (a < b) | isnan(a), a == b),
             lambda g, y, a, b: _tied(g, (b < a) | isnan(b), a == b),
    doc=_two(_COMMON, "minimum", "smaller of a and b; NaN wins",
             "1 for the smaller, 1/2 for both where they are equal", "[1.0, 4.0]; 3", "[1., 3.]"))
fmax    = op(np.fmax,
             lambda g, y, a, b: _tied(g, (a > b) | isnan(b), a == b),
             lambda g, y, a, b: _tied(g, (b > a) | isnan(a), a == b),
    doc=_two(_COMMON, "fmax", "larger of a and b; NaN loses",
             "1 for the larger, 1/2 for both where they are equal", "[np.nan, 4.0]; 3", "[3., 4.]"))
fmin    = op(np.fmin,
             lambda g, y, a, b: _tied(g, (a < b) | isnan(b), a == b),
             lambda g, y, a, b: _tied(g, (b < a) | isnan(a), a == b),
    doc=_two(_COMMON, "fmin", "smaller of a and b; NaN loses",
             "1 for the smaller, 1/2 for both where they are equal",
             "[np.nan, 4.0]; 3", "[3., 3.]"))
# fmt: on


def _clip(x: ndarray, *, low: Any = None, high: Any = None) -> Any:
    """`x` limited to [low, high]; the gradient passes inside, bounds included."""
    if low is None and high is None:
        raise ValueError("expected a lower or an upper bound, got neither. Give min= or max=")
    return np.clip(x, low, high)


def _inside(x: Any, low: Any, high: Any) -> Any:
    inside = x == x
    if low is not None:
        inside = inside & (x >= low)
    if high is not None:
        inside = inside & (x <= high)
    return inside


clip = op(_clip, lambda g, y, x, low=None, high=None: where_or_zero(g, _inside(x, low, high)))


def _tanh_vjp(g: Any, y: Any) -> Any:
    """g (1 - y^2), the cotangent of x where y = tanh(x)."""
    return g * (1 - y * y)


tanh_vjp: Op = op(
    _tanh_vjp, lambda c, z, g, y: _tanh_rule(c, y), lambda c, z, g, y: c * g * (-2 * y)
)


def _tanh_rule(g: Any, y: Any) -> Any:
    """One op where the derivative is recorded; `tk.compile` gets ops that it knows."""
    if type(g) is ndarray is type(y) or is_expanding():
        return _tanh_vjp(g, y)
    return tanh_vjp(g, y)


def _root(x: Any) -> Any:
    """sqrt(1 + x^2), which is |x| from 1e9 on; x^2 would overflow."""
    size = absolute(x)
    large = size > 1e9
    return where(large, size, sqrt(1 + square(where(large, 1.0, x))))


# ------------------------------------------------------------------ activations


def _floating(x: Any) -> Any:
    """An array of floats: integers and booleans as float32. Some of them have no -x."""
    x = np.asarray(x)
    return x if x.dtype.kind == "f" else x.astype(np.float32)


@np.errstate(over="ignore")
def _sigmoid(x: ndarray) -> Any:
    """1 / (1 + exp(-x)): exact in both tails, since exp(-x) = inf gives the true limit 0."""
    one = _ONE.get(x.dtype) if type(x) is ndarray else None
    if one is not None and x.size >= kernels.MIN_SELECTED:
        found = kernels.elementwise("sigmoid", x)
        if found is not None:
            return found
    if one is None:
        x = _floating(x)
        one = np.ones((), x.dtype)
    return np.reciprocal(np.exp(-x) + one)


def _sigmoid_rule(g: Any, y: Any, x: Any) -> Any:
    """g y (1 - y)."""
    if y.size >= kernels.MIN_SELECTED and type(g) is ndarray is type(y):
        found = kernels.elementwise("sigmoid_vjp", g, y)
        if found is not None:
            return found
    return g * y * (1 - y)


def _softplus(x: ndarray) -> Any:
    """log(1 + exp(x)), without overflow."""
    x = _floating(x)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _relu(x: ndarray) -> Any:
    if x.size >= kernels.MIN_SELECTED and type(x) is ndarray:
        found = kernels.elementwise("relu", x, header="selection")
        if found is not None:
            return found
    return np.maximum(x, _ZERO.get(x.dtype, 0))


def _gelu(x: Any) -> Any:
    """x (1 + erf(x / sqrt 2)) / 2."""
    y = error_function(x * math.sqrt(0.5))
    y += 1
    y *= 0.5
    y *= x
    return y


def _gelu_vjp(x: Any, y: Any) -> Any:
    """Phi(x) + x phi(x); on arrays Phi(x) is y / x."""
    if type(x) is not ndarray:
        phi = exp(square(x) * -0.5) * math.sqrt(0.5 / math.pi)
        return 0.5 * (1 + erf(x * math.sqrt(0.5))) + x * phi
    slope = np.square(x, out=np.empty_like(x))
    slope *= -0.5
    np.exp(slope, out=slope)
    slope *= x
    slope *= math.sqrt(0.5 / math.pi)
    share = np.divide(y, x, out=np.empty_like(x))
    np.copyto(share, 0.5, where=x == 0)
    slope += share
    return slope


def _gelu_rule(g: Any, y: Any, x: Any) -> Any:
    """g (Phi(x) + x phi(x))."""
    found = kernels.elementwise("gelu_vjp", g, x) if type(g) is ndarray is type(x) else None
    return g * _gelu_vjp(x, y) if found is None else found


# fmt: off
logistic: Op = op(_sigmoid, lambda g, y, x: g * logistic(x) * logistic(-x),
    name="logistic")
"""The sigmoid, as a derivative: its own derivatives keep their digits in both tails."""
sigmoid  = op(_sigmoid,  _sigmoid_rule,
    doc=_one(_FLOAT, "sigmoid", "1 / (1 + e^-x), in [0, 1]",
             "sigmoid(x) (1 - sigmoid(x))",
             "[0.0, 1.0] to 3", "[0.5  , 0.731]", source="torch.sigmoid"))
softplus = op(_softplus, lambda g, y, x: g * logistic(x),
    doc=_one(_FLOAT, "softplus", "log(1 + e^x), without overflow",
             "sigmoid(x)",
             "[0.0, 1.0] to 3", "[0.693, 1.313]", source="torch.nn.functional.softplus"))
relu     = op(_relu,     lambda g, y, x: where_or_zero(g, y),
    doc=_one(_SAME, "relu", "max(x, 0)",
             "1 above 0, 0 below and at 0",
             "[-2.0, 3.0]", "[0., 3.]", source="torch.nn.functional.relu"))
erf      = op(error_function, lambda g, y, x: g * exp(-x * x) * (2 / math.sqrt(math.pi)),
    doc=_one(_FLOAT, "erf", "2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x",
             "2 / sqrt(pi) e^(-x^2)", "[0.0, 1.0] to 3", "[0.   , 0.843]", source="torch.erf"),
    kernel=partial(kernels.elementwise, "erf_"))
gelu     = op(_gelu,     _gelu_rule, kernel=partial(kernels.elementwise, "gelu"))
sinc     = op(np.sinc,   lambda g, y, x: g * _sinc_vjp(x),
    doc=_one(_FLOAT, "sinc", "sin(pi x) / (pi x), 1 at 0",
             "(cos(pi x) - sinc(x)) / x, 0 at 0", "[0.0, 0.5] to 3", "[1.   , 0.637]"))
# fmt: on


def _sinc_vjp(x: Any) -> Any:
    """d/dx sin(pi x) / (pi x); 0 at 0, by its series near there."""
    near = absolute(x) < 1e-2
    safe = where(near, 1.0, x)
    t = square(math.pi * x)
    series = -(math.pi**2) * x * (1 / 3 - t * (1 / 30 - t * (1 / 840 - t / 45360)))
    return where(near, series, (cos(math.pi * safe) - sinc(safe)) / safe)


# ------------------------------------------------------------------ powers and two-input functions


def _power(a: Any, b: Any) -> Any:
    """a^b. A whole exponent takes no logarithm: NumPy's power is slow where `a` is negative."""
    if isinstance(b, _NUMBERS) and isinstance(a, ndarray) and a.dtype in _WIDE_FLOATS:
        if (product := _PRODUCTS.get(b)) is not None:
            return product(a)
        if abs(b) < 2**53 and b == int(b) and b not in (-1, 0, 1):
            size = np.absolute(a) ** b
            return np.copysign(size, a) if b % 2 else size
    return a**b


_WIDE_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
_NUMBERS = (int, float)
_PRODUCTS: dict[float, Callable[[ndarray], ndarray]] = {
    2: np.square,
    3: lambda a: a * a * a,
    4: lambda a: np.square(np.square(a)),
    -2: lambda a: np.square(np.reciprocal(a)),
}
"""Powers by products: relative error below 1.5 eps."""


@np.errstate(all="ignore")
def _power_derivative(a: Any, b: Any, *, by_base: int, by_exponent: int) -> Any:
    """The derivative of a^b, `by_base` times by a and `by_exponent` times by b.

    With n = by_exponent, m = by_base, (b)_m = b (b - 1) ... (b - m + 1) and its k-th derivative
    (b)_m^(k): sum over k of binomial(n, k) (b)_m^(k) a^(b - m) log(a)^(n - k). At a = 0 it is the
    limit from above. By convention the first derivative by b is 0 at a = b = 0; so others by b are
    NaN there.
    """
    dtype = np.result_type(a, b)
    dtype = dtype if dtype.kind == "f" else np.dtype(np.float64)
    a, b = np.asarray(a, dtype), np.asarray(b, dtype)
    terms = [_falling(b, by_base, k) for k in range(min(by_base, by_exponent) + 1)]
    power = a ** (b - by_base)
    terms = [np.where(factor == 0, 0, factor * power) for factor in terms] if by_base else [power]
    if not by_exponent:
        return terms[0]
    logarithm = np.log(a)
    total = sum(
        math.comb(by_exponent, k) * term * logarithm ** (by_exponent - k)
        for k, term in enumerate(terms)
    )
    return _at_base_0(total, a, b, by_base, by_exponent) if (a == 0).any() else total


def _falling(b: Any, m: int, k: int) -> Any:
    """The k-th derivative of b (b - 1) ... (b - m + 1)."""
    if not m:
        return float(k == 0)
    return np.polyval(np.polyder(np.poly(range(m)), k).astype(b.dtype), b)


def _at_base_0(total: Any, a: ndarray, b: ndarray, m: int, n: int) -> ndarray:
    """The derivative with the limits at a = 0: those of the highest power of log(a)."""
    first, second = _falling(b, m, 0), _falling(b, m, 1)
    sign = np.where(first == 0, -np.sign(second), np.sign(first)) * (-1.0) ** n
    limit = np.where(b > m, 0, sign * math.inf)
    limit = np.where(b == 0, 0 if (m, n) == (0, 1) else math.nan, limit)
    return np.where(a == 0, limit, total).astype(b.dtype, copy=False)


power_derivative: Op = op(
    _power_derivative,
    lambda g, y, a, b, by_base, by_exponent: (
        g * power_derivative(a, b, by_base=by_base + 1, by_exponent=by_exponent)
    ),
    lambda g, y, a, b, by_base, by_exponent: (
        g * power_derivative(a, b, by_base=by_base, by_exponent=by_exponent + 1)
    ),
)


def _power_base(g: Any, a: Any, b: Any) -> Any:
    """b a^(b-1), which is 0 at exponent 0 whatever the base."""
    if isinstance(b, _NUMBERS):
        if b == 2:  # most powers are squares
            return g * (2 * a)
        return g * (b * power(a, b - 1)) if b else where_or_zero(g, False)
    return g * power_derivative(a, b, by_base=1, by_exponent=0)


def _safe(y: Any) -> tuple[Any, Any]:
    """Where `y` is 0, and `y` with 1 there: to divide by if the numerator is 0 as well."""
    origin = y == 0
    return origin, where(origin, 1.0, y)


def _turned(g: Any, side: Any, a: Any, b: Any) -> Any:
    """g side / (a^2 + b^2), which neither overflows nor vanishes on the way; 0 at the origin."""
    origin, r = _safe(hypot(a, b))
    return times_subgradient(g, side / r / r, origin, a, b)


def _hypot_vjp(g: Any, y: Any, side: Any, a: Any, b: Any) -> Any:
    origin, r = _safe(y)
    return times_subgradient(g, side / r, origin, a, b)


def _careful_share(a: Any, b: Any, scale: float) -> Any:
    """`exp_share` of ops that have rules."""
    apart = where_or_zero(a - b, logical_not((a == b) & isinf(a)))
    return where_or_zero(logistic(apart * scale), not_equal(a, -math.inf))


@np.errstate(invalid="ignore")
def _exp_share(a: Any, b: Any, *, scale: float) -> Any:
    """e^(scale a) / (e^(scale a) + e^(scale b)); 1/2 where both are +inf, 0 where both are -inf."""
    apart = a - b
    if np.isnan(apart).any():
        return _careful_share(a, b, scale)
    return _sigmoid(apart if scale == 1 else apart * scale)


@np.errstate(invalid="ignore")
def _exp_share_slope(a: Any, b: Any, *, scale: float) -> Any:
    """s(a, b) s(b, a), where s is `exp_share`: its derivative by a; 0 at equal infinities."""
    apart = a - b if scale == 1 else (a - b) * scale
    slope = _sigmoid(apart) * _sigmoid(-apart)
    return where_or_zero(slope, np.logical_not(np.isnan(apart) & np.isinf(a)))


def _careful_share_slope(a: Any, b: Any, scale: float) -> Any:
    """`exp_share_slope` of ops that have rules."""
    slope = _careful_share(a, b, scale) * _careful_share(b, a, scale)
    return where_or_zero(slope, logical_not((a == b) & isinf(a)))


def _share_slope(a: Any, b: Any, scale: float) -> Any:
    if is_expanding():
        return _careful_share_slope(a, b, scale)
    return exp_share_slope(a, b, scale=scale)


def _bend(y: Any, a: Any, b: Any, scale: float) -> Any:
    """The derivative of `exp_share_slope` by a."""
    return scale * y * (_share(b, a, scale) - _share(a, b, scale))


# fmt: off
exp_share: Op = op(_exp_share,
                   lambda c, y, a, b, scale: c * (scale * _share_slope(a, b, scale)),
                   lambda c, y, a, b, scale: c * (-scale * _share_slope(a, b, scale)))
exp_share_slope: Op = op(_exp_share_slope,
                   lambda c, y, a, b, scale: c * _bend(y, a, b, scale),
                   lambda c, y, a, b, scale: -c * _bend(y, a, b, scale))
# fmt: on


def _share(a: Any, b: Any, scale: float = 1.0) -> Any:
    """One op where it is recorded; `tk.compile` gets ops that it knows."""
    return _careful_share(a, b, scale) if is_expanding() else exp_share(a, b, scale=scale)


# fmt: off
power      = op(_power,        lambda g, y, a, b: _power_base(g, a, b),
                               lambda g, y, a, b:
                               g * power_derivative(a, b, by_base=0, by_exponent=1),
                numpy=[np.power, np.float_power],
    doc=_two(_COMMON, "power", "a^b",
             "b a^(b - 1) for a, 0 where b = 0; a^b log(a) for b, 0 where a = 0 and b >= 0",
             "[2.0, 3.0]; 2", "[4., 9.]"))
arctan2    = op(np.arctan2,    lambda g, y, a, b: _turned(g, b, a, b),
                               lambda g, y, a, b: -_turned(g, a, a, b),
    doc=_two(_QUOTIENT, "arctan2", "angle of the point (b, a), in [-pi, pi]",
             "b / (a^2 + b^2) for a, -a / (a^2 + b^2) for b, 0 at the origin (NaN to second order)",
             "[0.0, 1.0]; 1 to 3", "[0.   , 0.785]"))
hypot      = op(np.hypot,      lambda g, y, a, b: _hypot_vjp(g, y, a, a, b),
                               lambda g, y, a, b: _hypot_vjp(g, y, b, a, b),
    doc=_two(_QUOTIENT, "hypot", "sqrt(a^2 + b^2), without overflow",
             "a / hypot(a, b) for a, b / hypot(a, b) for b, 0 at the origin (NaN to second order)",
             "[3.0, 5.0]; [4.0, 12.0] to 3", "[ 5., 13.]"))
logaddexp  = op(np.logaddexp,  lambda g, y, a, b: g * _share(a, b),
                               lambda g, y, a, b: g * _share(b, a),
    doc=_two(_QUOTIENT, "logaddexp", "log(e^a + e^b), without overflow",
             "e^a / (e^a + e^b) for a, e^b / (e^a + e^b) for b",
             "[0.0, 1.0]; 0 to 3", "[0.693, 1.313]"))
logaddexp2 = op(np.logaddexp2, lambda g, y, a, b: g * _share(a, b, math.log(2)),
                               lambda g, y, a, b: g * _share(b, a, math.log(2)))
# fmt: on

# ------------------------------------------------------------------ PyTorch's other names

abs, neg = alias("abs", absolute), alias("neg", negative)
mul, true_divide = alias("mul", multiply), alias("true_divide", divide)
pow, eq = alias("pow", power), alias("eq", equal)
ne, lt = alias("ne", not_equal), alias("lt", less)
le, gt = alias("le", less_equal), alias("gt", greater)
ge, asin = alias("ge", greater_equal), alias("asin", arcsin)
acos, atan = alias("acos", arccos), alias("atan", arctan)
atan2, asinh = alias("atan2", arctan2), alias("asinh", arcsinh)
acosh, atanh = alias("acosh", arccosh), alias("atanh", arctanh)
fix = alias("fix", trunc)
