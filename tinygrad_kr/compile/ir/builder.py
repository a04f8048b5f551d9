"""Building instructions that replace a traced one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.program import Instruction, Value
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops.kernels import on_one_core
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.ops.op import astype


class Builder:
    """Builds the instructions that replace one, and infers their results."""

    def __init__(self, source_line: str, numbers: Callable[[], int]) -> None:
        self.source_line, self.numbers = source_line, numbers
        self.instructions: list[Instruction] = []

    def __call__(self, record: Any, *inputs: Any, **params: Any) -> Value:
        """The value of `record(*inputs, **params)`."""
        made = sample_result(record, inputs, params)
        output = Value(self.numbers(), made.shape, made.dtype, made.strides)
        self.instructions.append(Instruction(record, inputs, params, output, self.source_line))
        return output

    def finish(self, value: Value, as_value: Value) -> list[Instruction]:
        """The instructions; the last one outputs `as_value` instead of `value`."""
        if value.dtype != as_value.dtype:
            value = self(astype, value, dtype=as_value.dtype)
        if self.instructions and self.instructions[-1].output is value:
            self.instructions[-1] = self.instructions[-1]._replace(output=as_value)
        else:
            last = Instruction(e.positive, (value,), {}, as_value, self.source_line)
            self.instructions.append(last)
        return self.instructions


@np.errstate(all="ignore")
def sample_result(record: Any, inputs: tuple[Any, ...], params: dict[str, Any]) -> ndarray:
    """Shape inference: the op's result for ones of these shapes and dtypes."""
    arrays = [np.ones(x.shape, x.dtype) if isinstance(x, Value) else x for x in inputs]
    if record is matmul and min(x.ndim for x in arrays) > 1:
        arrays = [arrays[0][..., :0], arrays[1][..., :0, :]]  # nothing to multiply
    with on_one_core():  # the pool of threads is built beside the program
        return np.asarray(record.forward(*arrays, **params))
