"""PyTorch's samples of layers and losses, and of optimizers and schedules, run through ours.

`python tests/parity/database_nets.py [name ...]` prints a table: layer, samples, agree, differ.
The samples are those of `module_db` and `optim_db` in `torch.testing._internal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import databases
import numpy as np
import torch
from databases import Case, Entry, OURS, first_difference, flat, numbers_of, rebuilt
from torch.testing._internal.common_methods_invocations import SampleInput
from torch.testing._internal.common_modules import module_db
from torch.testing._internal.common_optimizers import optim_db

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.compile import Compiled

# ------------------------------------------------------------------ layers and losses


def modules() -> dict[str, Entry]:
    """Each layer and loss that both have."""
    names = {info.module_cls.__name__: info for info in module_db}
    return {name: layer(name, info) for name, info in names.items() if hasattr(nn, name)}


def layer(name: str, info: Any) -> Entry:
    """The entry of a class: its samples in training and in evaluation."""
    derivatives = ["first", "jvp", *(["second"] if info.supports_gradgrad else [])]

    def cases(dtype: torch.dtype) -> Iterator[Case]:
        for training in (True, False):
            torch.manual_seed(0)
            given = info.module_inputs_func(
                info, device="cpu", dtype=dtype, requires_grad=True, training=training
            )
            for one in given:
                yield layer_case(info.module_cls, getattr(nn, name), one, dtype, training)

    return Entry(name, cases, (torch.float64, torch.float32), derivatives)


def layer_case(theirs: Any, ours: Any, given: Any, dtype: torch.dtype, training: bool) -> Case:
    """A call as a function of parameters, buffers and inputs; it gives the buffers afterwards too."""
    args, kwargs = given.constructor_input.args, given.constructor_input.kwargs
    their_module = theirs(*args, **kwargs).to(dtype).train(training)
    our_args, our_kwargs = rebuilt(
        (args, kwargs), lambda t: Tensor(databases.array_of(t)), databases.ours_of
    )
    our_module = ours(*our_args, **our_kwargs).to(databases.DTYPES[dtype]).train(training)
    state = dict(their_module.state_dict(keep_vars=True))
    buffers = [key for key, value in state.items() if not isinstance(value, torch.nn.Parameter)]
    forward = given.forward_input

    def call_theirs(state: Any, args: Any, kwargs: Any) -> Any:
        copied = state | {key: state[key].clone() for key in buffers}
        result = torch.func.functional_call(their_module, copied, args, kwargs)
        return result, [copied[key] for key in buffers]

    def call_ours(state: Any, args: Any, kwargs: Any) -> Any:
        copied = state | {key: state[key].detach().clone() for key in buffers}
        result = nn.functional_call(our_module, copied, args, kwargs)
        return result, [copied[key] for key in buffers]

    sample = SampleInput(state, args=(forward.args, forward.kwargs))
    return Case(sample, call_theirs, call_ours)


if __name__ == "__main__":
    databases.print_table(modules(), __doc__)
