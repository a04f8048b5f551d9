"""The C of elementwise ops: `{0}`, `{1}` stand for the inputs, `F` for the f of float32 functions.

An op that is not here runs as a NumPy call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_kr.compile.ir.ops import _assigned, _logistic_term
from tinygrad_kr.compile.ir.program import Instruction, Value
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import network
from tinygrad_kr.ops.op import astype

# fmt: off
FLOAT_OPS: dict[Any, str] = {
    e.add: "({0} + {1})",           e.subtract: "({0} - {1})",
    e.multiply: "({0} * {1})",      e.divide: "({0} / {1})",
    e.negative: "(-{0})",           e.positive: "({0})",
    e.square: "({0} * {0})",        e.reciprocal: "(1 / {0})",
    e.absolute: "tk_absF({0})",     e.sqrt: "tk_sqrtF({0})",
    e.exp: "tk_expF({0})",          e.expm1: "tk_expm1F({0})",
    e.log: "tk_logF({0})",          e.log1p: "tk_log1pF({0})",
    e.exp2: "tk_exp2F({0})",        e.log2: "tk_log2F({0})",
    e.log10: "tk_log10F({0})",      e.sin: "tk_sinF({0})",
    e.cos: "tk_cosF({0})",          e.tanh: "tk_tanhF({0})",
    e.sigmoid: "tk_sigmoidF({0})",  e.logistic: "tk_sigmoidF({0})",
    e.softplus: "tk_softplusF({0})", e.erf: "tk_erfF({0})",
    e.relu: "tk_reluF({0})",
    e.maximum: "tk_maxF({0}, {1})", e.minimum: "tk_minF({0}, {1})",
    e.power: "tk_powF({0}, {1})",   e.sign: "tk_signF({0})",
    e.floor: "tk_floorF({0})",      e.ceil: "tk_ceilF({0})",
    e.rint: "tk_rintF({0})",        e.remainder: "tk_remainderF({0}, {1})",
    e.fmax: "tk_fmaxF({0}, {1})",   e.fmin: "tk_fminF({0}, {1})",
    e.logaddexp: "tk_logaddexpF({0}, {1})",
    e.floor_divide: "tk_floor_divideF({0}, {1})",
}
"""Inputs and output of one float type."""

LESS_COMMON_OPS: dict[Any, str] = {
    e.tan: "tk_tanF({0})",          e.arctan: "tk_arctanF({0})",
    e.arcsin: "tk_arcsinF({0})",    e.arccos: "tk_arccosF({0})",
    e.sinh: "tk_sinhF({0})",        e.cosh: "tk_coshF({0})",
    e.arcsinh: "tk_arcsinhF({0})",  e.arccosh: "tk_arccoshF({0})",
    e.arctanh: "tk_arctanhF({0})",  e.cbrt: "tk_cbrtF({0})",
    e.trunc: "tk_truncF({0})",      e.sinc: "tk_sincF({0})",
    e.deg2rad: "tk_deg2radF({0})",  e.rad2deg: "tk_rad2degF({0})",
    e.hypot: "tk_hypotF({0}, {1})", e.arctan2: "tk_arctan2F({0}, {1})",
    e.fmod: "tk_fmodF({0}, {1})",   e.copysign: "tk_copysignF({0}, {1})",
    e.heaviside: "tk_heavisideF({0}, {1})",
    e.logaddexp2: "tk_logaddexp2F({0}, {1})",
}
"""The same, of `trigonometry.h`."""

FLOAT_OPS |= LESS_COMMON_OPS

INTEGER_OPS: dict[Any, str] = {
    e.add: "({T})(({U}){0} + ({U}){1})",
    e.subtract: "({T})(({U}){0} - ({U}){1})",
    e.multiply: "({T})(({U}){0} * ({U}){1})",
    e.negative: "({T})(0 - ({U}){0})",
    e.square: "({T})(({U}){0} * ({U}){0})",
    e.absolute: "({0} < 0 ? ({T})(0 - ({U}){0}) : {0})",
    e.sign: "({T})(({0} > 0) - ({0} < 0))",
    e.maximum: "({0} > {1} ? {0} : {1})",
    e.minimum: "({0} < {1} ? {0} : {1})",
    e.fmax: "({0} > {1} ? {0} : {1})",
    e.fmin: "({0} < {1} ? {0} : {1})",
    e.relu: "({0} > 0 ? {0} : 0)",
    e.remainder: "tk_remainder_{N}({0}, {1})",
    e.floor_divide: "tk_floor_divide_{N}({0}, {1})",
    e.fmod: "tk_fmod_{N}({0}, {1})",
    e.floor: "{0}",                 e.ceil: "{0}",
    e.trunc: "{0}",                 e.rint: "{0}",
    e.heaviside: "({0} == 0 ? {1} : {0} > 0)",
    e.bitwise_and: "({0} & {1})",   e.bitwise_or: "({0} | {1})",
    e.bitwise_xor: "({0} ^ {1})",   e.invert: "(~{0})",
}
"""Integers or bools, and an output of integers: `{T}` is its type, `{U}` without a sign, of which
sums wrap around, `{N}` NumPy's name of it."""

COMPARISON_OPS: dict[Any, str] = {
    e.equal: "({0} == {1})",        e.not_equal: "({0} != {1})",
    e.less: "({0} < {1})",          e.less_equal: "({0} <= {1})",
    e.greater: "({0} > {1})",       e.greater_equal: "({0} >= {1})",
    e.isnan: "({0} != {0})",        e.isfinite: "({0} - {0} == 0)",
    e.isinf: "(({0} == INFINITY) | ({0} == -INFINITY))",
    e.signbit: "tk_signbitF({0})",
}
"""Inputs of any type, a bool output; they are compared in their common type."""

BOOL_OPS: dict[Any, str] = {
    e.logical_and: "({0} && {1})",  e.logical_or: "({0} || {1})",
    e.logical_not: "(!{0})",        e.logical_xor: "(!{0} != !{1})",
}
"""Inputs of any type, a bool output."""

BIT_OPS: dict[Any, str] = {
    e.bitwise_and: "({0} & {1})",   e.bitwise_or: "({0} | {1})",
    e.bitwise_xor: "({0} ^ {1})",   e.invert: "(!{0})",
}
"""Bool inputs and output."""

SELECT_OPS: dict[Any, str] = {
    e.where_or_zero: "({1} ? {0} : 0)",
    e.where: "({0} ? {1} : {2})",
}
"""One of the inputs, selected by another."""

CASTS: dict[Any, str] = {
    astype: "(({T}){0})",
    _logistic_term: "tk_logistic_term({0}, {1})",
    network.bce_with_logits_vjp: "(({T})tk_logistic_slope({0}, {1}))",
    e.undefined: "(({T})({1} && {0} != 0 ? NAN : 0))",
    e.kink: "(({T})0)",
}

ELEMENTWISE = {*FLOAT_OPS, *INTEGER_OPS, *COMPARISON_OPS, *BOOL_OPS, *BIT_OPS, *SELECT_OPS, *CASTS}
ELEMENTWISE |= {e.clip}
OF_TRIGONOMETRY = {*LESS_COMMON_OPS, e.signbit}
"""Ops whose functions are in `trigonometry.h`."""

POWERS = {0.5: "tk_sqrtF({0})", -0.5: "tk_inverse_rootF({0})", 2.0: "({0} * {0})",
          3.0: "({0} * {0} * {0})", 4.0: "tk_fourth_powerF({0})", -1.0: "(1 / {0})",
          -2.0: "tk_inverse_squareF({0})", 1.0: "({0})", 0.0: "1"}
"""Powers of a constant exponent that need no power function."""
# fmt: on

C_TYPES = {
    np.dtype(np.float32): "float",
    np.dtype(np.float64): "double",
    np.dtype(np.int64): "int64_t",
    np.dtype(np.int32): "int32_t",
    np.dtype(np.bool_): "uint8_t",
}


def expression(instruction: Instruction) -> str | None:
    """The C expression of an elementwise op, with `{0}`, ... for its inputs; None for any other op
    and for types that C lacks."""
    if instruction.output.dtype not in C_TYPES or not instruction.inputs:
        return None
    values = [x for x in instruction.inputs if isinstance(x, Value)]
    numbers = [x for x in instruction.inputs if not isinstance(x, Value)]
    if any(value.dtype not in C_TYPES for value in values):
        return None
    if not all(isinstance(x, int | float) for x in numbers):
        return None
    return _spelled(instruction, [value.dtype for value in values])


def _spelled(instruction: Instruction, dtypes: list[Any]) -> str | None:
    op, output = instruction.op, instruction.output.dtype
    if op is _assigned or op is astype:
        if output == np.bool_:
            return "({0} != 0)"
        # GCC 12 does not vectorise a cast of a comparison: it took ten times as long.
        given = "({0} ? 1 : 0)" if dtypes == [np.dtype(np.bool_)] else "{0}"
        return f"(({C_TYPES[output]}){given})"
    if op is e.clip:
        return _clip(instruction, dtypes)
    if instruction.params:
        return None
    if op is e.positive and dtypes == [output]:
        return "({0})"
    if op in CASTS:
        if len(instruction.inputs) > 2:
            return None
        return CASTS[op].replace("{T}", C_TYPES[output])
    if op in INTEGER_OPS and output.kind == "i":
        return _of_integers(instruction, dtypes)
    if op in FLOAT_OPS:
        if output.kind != "f" or any(dtype != output for dtype in dtypes):
            return None
        return _of_floats(instruction, output)
    if op in COMPARISON_OPS:
        return _comparison(instruction, dtypes)
    if op in BOOL_OPS:
        return BOOL_OPS[op]
    if op in BIT_OPS:
        return BIT_OPS[op] if output == np.bool_ and set(dtypes) == {np.dtype(bool)} else None
    if op in SELECT_OPS:
        chosen = instruction.inputs[1:] if len(instruction.inputs) == 3 else instruction.inputs[:1]
        kinds = {x.dtype for x in chosen if isinstance(x, Value)}
        if kinds - {output}:
            return None
        spelled = SELECT_OPS[op]
        return f"(({C_TYPES[output]}){spelled})"
    return None


def _of_integers(instruction: Instruction, dtypes: list[Any]) -> str | None:
    output, given = instruction.output.dtype, instruction.inputs
    if not all(isinstance(x, Value) or type(x) in (int, bool) for x in given):
        return None
    if any(dtype.kind not in "ib" for dtype in dtypes) or np.result_type(*dtypes) != output:
        return None
    kind = C_TYPES[output]
    spelled = INTEGER_OPS[instruction.op]
    for name, meaning in ("T", kind), ("U", f"u{kind}"), ("N", output.name):
        spelled = spelled.replace(f"{{{name}}}", meaning)
    return f"(({kind}){_in_type(spelled, instruction, output)})"


def _clip(instruction: Instruction, dtypes: list[Any]) -> str | None:
    """A clip by numbers; by one alone it is a maximum or a minimum."""
    low, high = (instruction.params.get(name) for name in ("low", "high"))
    output = instruction.output.dtype
    kinds = (int, float) if output.kind == "f" else (int,)
    if dtypes != [output] or output.kind not in "fi":
        return None
    if not all(x is None or type(x) in kinds for x in (low, high)):
        return None
    bounds = [None if x is None else literal(x, output) for x in (low, high)]
    if output.kind == "i":
        spelled = "{0}"
        for compared, bound in zip("<>", bounds, strict=True):
            if bound is not None:
                spelled = f"({spelled} {compared} {bound} ? {bound} : {spelled})"
        return spelled
    single = "f" if output == np.float32 else ""
    if None not in bounds:
        return f"tk_clip{single}({{0}}, {bounds[0]}, {bounds[1]})"
    name, bound = ("min", bounds[1]) if low is None else ("max", bounds[0])
    return f"tk_{name}{single}({{0}}, {bound})"


def _comparison(instruction: Instruction, dtypes: list[Any]) -> str | None:
    """The comparison of inputs in the type in which NumPy compares them."""
    op, numbers = instruction.op, [x for x in instruction.inputs if not isinstance(x, Value)]
    common = np.result_type(*dtypes)
    if any(isinstance(x, float) for x in numbers) > (common.kind == "f"):
        return None
    if common not in C_TYPES:
        return None
    spelled = COMPARISON_OPS[op] if op is not e.signbit or common.kind == "f" else "({0} < 0)"
    spelled = spelled.replace("F(", "f(" if common == np.float32 else "(")
    for i, x in enumerate(instruction.inputs):
        if isinstance(x, Value) and x.dtype != common:
            spelled = spelled.replace(f"{{{i}}}", f"(({C_TYPES[common]}){{{i}}})")
    return _in_type(spelled, instruction, common)


def _of_floats(instruction: Instruction, dtype: Any) -> str:
    single = "f" if dtype == np.float32 else ""
    exponent = instruction.inputs[1] if len(instruction.inputs) > 1 else None
    spelled = FLOAT_OPS[instruction.op]
    if (
        isinstance(exponent, int | float)
        and POWERS.get(float(exponent))
        and spelled[:6] == "tk_pow"
    ):
        spelled = POWERS[float(exponent)]
    return _in_type(spelled.replace("F(", f"{single}("), instruction, dtype)


def _in_type(spelled: str, instruction: Instruction, dtype: Any) -> str:
    """The expression with its numbers as literals of the other operand's type."""
    for i, x in enumerate(instruction.inputs):
        if not isinstance(x, Value):
            spelled = spelled.replace(f"{{{i}}}", literal(x, dtype))
    return spelled


def literal(x: Any, dtype: Any) -> str:
    """A C literal of a number, rounded to the type as in NumPy."""
    if dtype.kind != "f":
        return str(int(x))
    number = float(dtype.type(x))
    suffix = "f" if dtype == np.float32 else ""
    if number != number:
        return "NAN"
    if number in (float("inf"), float("-inf")):
        return "INFINITY" if number > 0 else "(-INFINITY)"
    text = f"{number.hex()}{suffix}"
    return f"({text})" if number < 0 else text
