"""What a plan consists of: each step is a loop in C, a call, or a check.

A step holds all that was decided about it. The later stages read it and decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeGuard

from tinygrad_kr.compile.ir.program import Check, Instruction, Value
from tinygrad_kr.ops import linalg
from tinygrad_kr.ops import window as w

Key = tuple[Any, ...]
Range = tuple[int, list[tuple[int, int]]]
"""Numbers along an axis: the first, and how many there are how far apart, outermost first."""


@dataclass(slots=True, eq=False)
class Pooling:
    """Max pooling, its argmax or its adjoint, as loops in C."""

    instruction: Instruction


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a convolution over two axes; over one axis, the other has length 1.

    x (samples, channels, *sizes), weight (outputs, channels, *kernel), y (samples, outputs,
    *counts). padding: zeros before the first element of each axis.
    """

    samples: int
    channels: int
    outputs: int
    sizes: tuple[int, int]
    kernel: tuple[int, int]
    counts: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]

    @property
    def features(self) -> int:
        """Elements of a filter."""
        return self.channels * self.kernel[0] * self.kernel[1]

    @property
    def n_windows(self) -> int:
        """Windows in a sample."""
        return self.counts[0] * self.counts[1]


def panels(s: Geometry, forward: bool) -> tuple[int, int]:
    """How many rows and columns the filters have as the second factor."""
    return (s.features, s.outputs) if forward else (s.outputs, s.features)


@dataclass(slots=True, eq=False)
class ConvolutionGroup:
    """The products of a convolution and what surrounds them, a few samples at a time.

    instructions: in order; inside: the values that only these read, and that have no memory.
    """

    instructions: list[Instruction]
    inside: set[Value]
    geometry: Geometry

    @property
    def dtype(self) -> Any:
        """Of all its arrays but indices."""
        return self.instructions[0].output.dtype

    @property
    def is_forward(self) -> bool:
        """Whether it computes the result, and not gradients."""
        return self.instructions[0].op is w.convolve


class Division(NamedTuple):
    """pieces: parts of all samples, shared by the cores. samples: of a piece, whose products are
    computed at once. lines: of windows, whose columns are copied at once."""

    pieces: int
    samples: int
    lines: int


class Array(NamedTuple):
    """start: where an array begins in the scratch memory, in float32. apart: the distance from the
    array of one `each`, a piece or a thread, to that of the next."""

    start: int
    apart: int
    each: str


@dataclass(slots=True, eq=False)
class TiledConvolution(ConvolutionGroup):
    """A group in C, products too. Cores share its pieces.

    scratch: memory that is used only meanwhile; arrays: where in it each array begins.
    """

    division: Division
    arrays: dict[str, Array]
    scratch: Value


@dataclass(slots=True, eq=False)
class Loop:
    """Elementwise ops of one shape, fused: everything between loads and stores is in registers."""

    shape: tuple[int, ...]
    instructions: list[Instruction] = field(default_factory=list)
    expressions: dict[Value, str] = field(default_factory=dict)
    """By output, the C of each op, with `{0}`, ... for its inputs."""
    stored: list[Value] = field(default_factory=list)
    """Results that another step reads or that outlive the call."""
    parallel: bool = False
    """Whether several threads share it."""


@dataclass(slots=True, eq=False)
class Reduction:
    """A sum or an extreme along axes."""

    instruction: Instruction


@dataclass(slots=True, eq=False)
class Product:
    """A small matrix product, as loops."""

    instruction: Instruction


@dataclass(slots=True, eq=False)
class TiledProduct:
    """A large matrix product that is faster in C than in BLAS."""

    instruction: Instruction


@dataclass(slots=True, eq=False)
class Labels:
    """A gather or a scatter by labels."""

    instruction: Instruction


@dataclass(slots=True, eq=False)
class Rows:
    """Rows of an array at integers, or the sum of rows at integers: an embedding, its adjoint."""

    instruction: Instruction


@dataclass(slots=True, eq=False)
class Triangle:
    """A triangle of matrices, or matrices made of a diagonal: zeros elsewhere."""

    instruction: Instruction


@dataclass(slots=True, eq=False)
class Concat:
    """A concatenation. The parts lie in the array already; the step fills the gaps between them.

    gaps: in boxes, what no part covers. fill_value: the number there.
    """

    instruction: Instruction
    gaps: list[list[Range]]
    fill_value: Any


@dataclass(slots=True, eq=False)
class Solution:
    """A linear system or a decomposition, by a function of `solving.h`.

    function: its name. number: what it writes to `status` if there is no solution; None if there
    always is one.
    """

    instruction: Instruction
    function: str
    number: int
    status: Value | None


NO_MEMORY = 1
"""What it writes to `status` if it gets no memory."""
FIRST_REFUSAL = 100
"""What checks write to `status` is larger."""


@dataclass(slots=True, eq=False)
class Scan:
    """All steps of a `scan` whose body is one C function.

    body: its `BodyPlan`. copied: by argument that does not lie as the body reads it, the byte at
    which its copy begins in `scratch`; other: the same by result that is of another dtype than the
    array of this step. arena: where the memory of the body begins there.
    status: where its linear systems note that they have no solution; None if it has none.
    """

    instruction: Instruction
    body: Any
    scratch: Value
    copied: dict[int, int]
    other: dict[int, int]
    arena: int
    status: Value | None


@dataclass(slots=True, eq=False)
class Refusal:
    """A check in C. Where it refuses an element, it writes `number` to `status`, and the C function
    returns.

    condition: the C for an element `{0}` that is refused.
    """

    check: Check
    condition: str
    number: int
    status: Value


@dataclass(slots=True, eq=False)
class Call:
    """An op that NumPy computes."""

    instruction: Instruction


Step = (
    Loop
    | Reduction
    | Product
    | TiledProduct
    | Labels
    | Rows
    | Triangle
    | Concat
    | Pooling
    | TiledConvolution
    | Solution
    | Scan
    | Refusal
    | Call
    | Check
)


OUTSIDE = Call | Check
"""Steps that Python runs, each by itself."""


@dataclass(slots=True, eq=False)
class Segment:
    """What Python runs at once: a C function of several workers, or one step by itself.

    workers: the steps of each function that works. roots: the memory that a call hands over, in
    order. in_arena: by root, the byte at which other memory begins in the arena.
    """

    name: str
    workers: list[list[Step]]
    roots: list[int]
    in_arena: dict[int, int]

    @property
    def steps(self) -> list[Step]:
        """All steps, in order."""
        return [step for worker in self.workers for step in worker]

    @property
    def is_c(self) -> bool:
        """Whether it is one C function."""
        return not isinstance(self.workers[0][0], OUTSIDE)


class Lifetime(NamedTuple):
    """How many bytes a piece of memory has, and the moments from which and up to which it is
    used, both included."""

    size: int
    first: int
    last: int


@dataclass(slots=True, eq=False)
class ArenaLayout:
    """By root, each piece of memory that no call leaves behind, and the byte at which it begins."""

    pieces: dict[int, Lifetime]
    starts: dict[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole."""
        return max((self.starts[r] + piece.size for r, piece in self.pieces.items()), default=0)


def may_raise(step: Step) -> bool:
    """Whether a step can raise, so that nothing may be overwritten before it."""
    if isinstance(step, Call):
        record = step.instruction.op
        return record is not linalg.matmul and record in vars(linalg).values()
    return isinstance(step, Check | Refusal) or is_noting(step)


def is_noting(step: Step) -> bool:
    """Whether a step may note that a linear system has no solution."""
    return isinstance(step, Solution | Scan) and step.status is not None


def is_returned(step: Step) -> TypeGuard[Call]:
    """Whether NumPy makes the array of a step's result."""
    return isinstance(step, Call) and step.instruction.op is not linalg.matmul


def _outputs(loop: Loop) -> set[Value]:
    return {instruction.output for instruction in loop.instructions}


def instructions_of(step: Step | ConvolutionGroup) -> list[Instruction]:
    """The ops of a step."""
    if isinstance(step, Loop | ConvolutionGroup):
        return step.instructions
    return [] if isinstance(step, Check | Refusal) else [step.instruction]


def read_by(step: Step | ConvolutionGroup) -> set[Value]:
    """What a step reads from memory."""
    if isinstance(step, Check | Refusal):
        return {(step if isinstance(step, Check) else step.check).value}
    instructions = instructions_of(step)
    made = {instruction.output for instruction in instructions}
    return {value for s in instructions for value in s.reads() if value not in made}


def written_by(step: Step) -> list[Value]:
    """What a step stores: of a loop, what anything else reads or what outlives the call."""
    if isinstance(step, Loop):
        return step.stored
    if isinstance(step, TiledConvolution):
        stored = [s.output for s in step.instructions if s.output not in step.inside]
        return [*stored, step.scratch]
    written = [instruction.output for instruction in instructions_of(step)]
    if isinstance(step, Scan):
        written.append(step.scratch)
    if isinstance(step, Solution | Scan | Refusal) and step.status is not None:
        written.append(step.status)
    return written


def values_of_params(instruction: Instruction) -> list[Value]:
    """The values among an op's parameters."""
    direct = [x for x in instruction.inputs if isinstance(x, Value)]
    return [value for value in instruction.reads() if value not in direct]
