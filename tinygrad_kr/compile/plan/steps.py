"""What a plan consists of: each step is a loop in C, a call, or a check."""

from __future__ import annotations

from dataclasses import dataclass, field

from tinygrad_kr.compile.ir.program import Check, Statement, Value
from tinygrad_kr.ops import linalg


@dataclass(slots=True)
class Pooling:
    """Maxima of windows, which elements they are, or values put back there, as loops in C."""

    statement: Statement


@dataclass(slots=True)
class Convolution:
    """The products of a convolution and what surrounds them, a few samples at a time.

    statements: in order; inside: the values that only these read, and that have no memory.
    """

    statements: list[Statement]
    inside: set[Value]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a convolution over two axes (one of length 1 added where there is only one).

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
    def places(self) -> int:
        """Windows in a sample."""
        return self.counts[0] * self.counts[1]


@dataclass(slots=True)
class TiledConvolution:
    """A `Convolution` that is wholly C, products too, of which each core does pieces.

    scratch: memory that is used only meanwhile.
    """

    statements: list[Statement]
    inside: set[Value]
    scratch: Value


@dataclass(slots=True)
class Loop:
    """Elementwise ops of one shape, fused: everything between loads and stores is in registers."""

    shape: tuple[int, ...]
    statements: list[Statement] = field(default_factory=list)


@dataclass(slots=True)
class Reduction:
    """A sum or an extreme along axes."""

    statement: Statement


@dataclass(slots=True)
class Product:
    """A matrix product that is small enough for loops."""

    statement: Statement


@dataclass(slots=True)
class TiledProduct:
    """A matrix product that is large, and better in C than by BLAS."""

    statement: Statement


@dataclass(slots=True)
class Labels:
    """The elements that labels name, or zeros with elements put there."""

    statement: Statement


@dataclass(slots=True)
class Assembly:
    """An array whose parts lie in it already: of what they leave out, the elements."""

    statement: Statement


@dataclass(slots=True)
class Call:
    """An op that stays a NumPy call."""

    statement: Statement


Step = (
    Loop
    | Reduction
    | Product
    | TiledProduct
    | Labels
    | Assembly
    | Pooling
    | Convolution
    | TiledConvolution
    | Call
    | Check
)


OUTSIDE = Convolution | Call | Check
"""Steps that Python runs, each by itself."""


def may_raise(step: Step) -> bool:
    """Whether an error in a step must leave everything as it was."""
    if isinstance(step, Call):
        record = step.statement.op
        return record is not linalg.matmul and record in vars(linalg).values()
    return isinstance(step, Check)


def _outputs(loop: Loop) -> set[Value]:
    return {statement.output for statement in loop.statements}


def statements_of(step: Step) -> list[Statement]:
    """The ops of a step."""
    if isinstance(step, Loop | Convolution | TiledConvolution):
        return step.statements
    return [] if isinstance(step, Check) else [step.statement]


def read_by(step: Step) -> set[Value]:
    """What a step reads from memory."""
    if isinstance(step, Check):
        return {step.value}
    statements = statements_of(step)
    made = {statement.output for statement in statements}
    return {value for s in statements for value in s.reads() if value not in made}


def values_of_params(statement: Statement) -> list[Value]:
    """The values among an op's parameters."""
    direct = [x for x in statement.inputs if isinstance(x, Value)]
    return [value for value in statement.reads() if value not in direct]
