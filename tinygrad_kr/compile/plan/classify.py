"""What C can do with each instruction: decided here, once for a program."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

from tinygrad_kr.compile.ir.c_ops import expression
from tinygrad_kr.compile.ir.layout import FLOAT_DTYPES, extent
from tinygrad_kr.compile.ir.program import Instruction, Program, Value
from tinygrad_kr.compile.plan.concat import part_keys
from tinygrad_kr.compile.plan.convolution import geometry, grouped, is_pooling
from tinygrad_kr.compile.plan.rows import rows_of_inputs
from tinygrad_kr.compile.plan.scans import body_of
from tinygrad_kr.compile.plan.solutions import is_solved
from tinygrad_kr.compile.plan.steps import (
    Call,
    Concat,
    ConvolutionGroup,
    Key,
    Labels,
    Loop,
    Pooling,
    Product,
    Reduction,
    Rows,
    Scan,
    Solution,
    Step,
    TiledConvolution,
    TiledProduct,
    Triangle,
    values_of_params,
)
from tinygrad_kr.native import choice, kernels
from tinygrad_kr.ops import indexing, linalg, network
from tinygrad_kr.ops.reduction import max_, min_, sum_

MAX_PADDED_PRODUCT = 500_000
"""Multiplications up to which idle parts of tiles cost less than a call of NumPy."""
MAX_LOOP_PRODUCT = 12_000
"""Multiplications up to which a loop in C is as fast as a call of BLAS."""
MAX_SMALL_PRODUCT = 2**20
"""Multiplications up to which C is as fast as a call of BLAS, without a measurement of the machine:
one core does them."""
MAX_THIN_PRODUCTS = 4_000_000
"""Multiplications of a stack of matrices times vectors up to which one core does them in C."""


@dataclass(frozen=True, slots=True, eq=False)
class Lowering:
    """What an instruction becomes: the type of step that computes it (a view needs none).

    expression: the C of an elementwise op, in whatever step. keys: where the parts of an
    `Concat` lie in it. group: the convolution with which the instruction runs.
    """

    kind: type[Step]
    expression: str | None = None
    keys: list[Key] | None = None
    group: ConvolutionGroup | None = None

    @property
    def spelled(self) -> str:
        """The C of an elementwise op."""
        assert self.expression is not None
        return self.expression

    @property
    def is_single(self) -> bool:
        """Whether C computes it, in no group."""
        return self.kind is not Call and self.group is None


Lowerings = dict[Value, Lowering]
"""By output."""


def classify(program: Program, views: Container[object] = ()) -> Lowerings:
    """What each instruction becomes. views: ops that give views of what they read."""
    found = {instruction.output: lowering_of(instruction) for instruction in program.instructions}
    for instruction in rows_of_inputs(program, views):
        found[instruction.output] = Lowering(Rows)
    pooling = {output for output, lowering in found.items() if lowering.kind is Pooling}
    sizes = {s.output: size for s in program.instructions if (size := geometry(s)) is not None}
    for group in grouped(program, sizes, pooling):
        for instruction in group.instructions:
            spelled = found[instruction.output].expression
            found[instruction.output] = Lowering(TiledConvolution, spelled, None, group)
    return found


def lowering_of(instruction: Instruction) -> Lowering:
    """What an instruction becomes by itself."""
    spelled = expression(instruction)
    if spelled is not None:
        return Lowering(Loop, spelled)
    keys = part_keys(instruction)
    if keys is not None:
        return Lowering(Concat, keys=keys)
    return Lowering(_single_kind(instruction))


def _single_kind(instruction: Instruction) -> Any:
    op, output = instruction.op, instruction.output
    if op in (sum_, max_, min_):
        (x,) = instruction.inputs
        floats = isinstance(x, Value) and x.dtype == output.dtype and x.dtype in FLOAT_DTYPES
        full = floats and (x.size > 0 or op is sum_)
        return Reduction if full and not values_of_params(instruction) else Call
    if is_pooling(instruction):
        return Pooling
    if op is linalg.matmul:
        if _is_small_product(instruction):
            return Product
        return TiledProduct if _is_tiled(instruction) else Call
    if op in (network.gather_labels, network.scatter_labels):
        x, labels = instruction.inputs
        fits = isinstance(x, Value) and isinstance(labels, Value) and x.dtype == output.dtype
        return Labels if fits and labels.dtype.kind == "i" and output.size else Call
    if is_solved(instruction):
        return Solution
    if body_of(instruction) is not None:
        return Scan
    if op in (indexing.tril, indexing.triu, indexing.put_diagonal):
        return Triangle if _is_of_matrices(instruction) else Call
    return Call


def _is_of_matrices(instruction: Instruction) -> bool:
    """Whether what is kept lies in the last two axes, in order, of floats."""
    (x,), output = instruction.inputs, instruction.output
    n = len(output.shape)
    if not isinstance(x, Value) or x.dtype != output.dtype or values_of_params(instruction):
        return False
    if n < 2 or not output.size or x.dtype not in FLOAT_DTYPES:
        return False
    if instruction.op is not indexing.put_diagonal:
        return True
    axes = instruction.params["axis1"] % n, instruction.params["axis2"] % n
    return axes == (n - 2, n - 1)


def _is_small_product(instruction: Instruction) -> bool:
    a, b = instruction.inputs
    if not isinstance(a, Value) or not isinstance(b, Value):
        return False
    if len(a.shape) < 2 or len(b.shape) < 2 or not a.size or not b.size:
        return False
    if a.dtype != b.dtype or a.dtype not in FLOAT_DTYPES or instruction.output.dtype != a.dtype:
        return False
    return extent(instruction.output.shape) * a.shape[-1] <= MAX_LOOP_PRODUCT


def is_chosen(instruction: Instruction) -> bool:
    """Whether C or BLAS computes a matrix product by `choice`, which measures large ones."""
    *stack, rows, columns = instruction.output.shape
    if stack and 1 in (rows, columns):
        return False
    multiply_adds: int = extent(instruction.output.shape) * instruction.inputs[0].shape[-1]
    return multiply_adds > MAX_SMALL_PRODUCT


def is_for_library(instruction: Instruction) -> bool:
    """Whether a product, as it was recorded, will probably be one for `gemm.h`."""
    if instruction.op not in (linalg.matmul, linalg.linear):
        return False
    x, output = instruction.inputs[0], instruction.output
    if not isinstance(x, Value):
        return False
    if len(output.shape) < 2 or 1 in output.shape[-2:] or output.dtype not in FLOAT_DTYPES:
        return False
    if x.dtype != output.dtype or extent(output.shape) * x.shape[-1] <= MAX_LOOP_PRODUCT:
        return False
    expected = choice.expected if is_chosen(instruction) else choice.unmeasured
    return expected(output.dtype.name).compiled(len(output.shape) > 2)


def _is_tiled(instruction: Instruction) -> bool:
    """Whether a matrix product or a stack of them is one for `gemm.h`: of few idle parts.

    Ten columns of 32 are enough: one call of BLAS between such products leaves its threads
    spinning, and takes a core from the next ones (a wide net's step took 25 ms, not 14).
    """
    a, b = instruction.inputs
    if not isinstance(a, Value) or not isinstance(b, Value) or not kernels.has_kernels():
        return False
    output = instruction.output
    if len(a.shape) < 2 or len(b.shape) < 2 or not (a.size and b.size):
        return False
    if a.dtype not in FLOAT_DTYPES or not a.dtype == b.dtype == output.dtype:
        return False
    *stack, rows, columns = output.shape
    multiply_adds = extent(output.shape) * a.shape[-1]
    if stack and 1 in (rows, columns):
        return multiply_adds <= MAX_THIN_PRODUCTS
    expected = choice.expected if is_chosen(instruction) else choice.unmeasured
    if not expected(output.dtype.name).compiled(bool(stack)):
        return False
    tile_rows, tile_columns = kernels.tile(output.dtype.itemsize)
    whole = -(-rows // tile_rows) * tile_rows * -(-columns // tile_columns) * tile_columns
    return 4 * rows * columns >= whole or multiply_adds <= MAX_PADDED_PRODUCT
