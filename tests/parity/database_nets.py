"""PyTorch's samples of layers and losses, and of optimizers and schedules, run through ours.

`python tests/parity/database_nets.py [name ...]` prints a table: layer, samples, agree, differ.
The samples are those of `module_db` and `optim_db` in `torch.testing._internal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import databases
import numpy as np
import torch
from databases import Case, Entry, Expected, attempt, first_difference, numbers_of, rebuilt
from optimizer_peers import peer_named
from torch.testing._internal.common_methods_invocations import SampleInput
from torch.testing._internal.common_modules import module_db
from torch.testing._internal.common_optimizers import optim_db

import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.compile import Compiled

MOST_COMPILED = {torch.float64: 6, torch.float32: 1}
GROUP = 4
"""Whole layers make long functions: few are compiled, and first derivatives alone."""
FEWER = {
    "MultiheadAttention": 3,
    "TransformerEncoder": 5,
    "TransformerDecoderLayer": 5,
    "Transformer": 17,
}
"""Of entries with many slow samples, every n-th is taken."""
STEPS = 12
ELSEWHERE = {"LBFGS", "Muon"}
"""Compared in `test_parity_optim.py`: L-BFGS enlarges rounding; PyTorch's Muon has bfloat16."""

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
            for one in given[:: FEWER.get(name, 1)]:
                yield layer_case(info.module_cls, getattr(nn, name), one, dtype, training)

    return Entry(
        name,
        cases,
        (torch.float64, torch.float32),
        derivatives,
        never_compiled=name in databases.LONG,
        most_compiled=MOST_COMPILED,
        group=GROUP,
        compiled_order=1,
    )


def layer_case(theirs: Any, ours: Any, given: Any, dtype: torch.dtype, training: bool) -> Case:
    """A call as a function of the state and the inputs. It gives the new buffers too."""
    args, kwargs = given.constructor_input.args, given.constructor_input.kwargs
    their_module = theirs(*args, **kwargs).to(dtype).train(training)
    state = dict(their_module.state_dict(keep_vars=True))
    forward = given.forward_input
    sample = SampleInput(state, args=(forward.args, forward.kwargs))
    our_args, our_kwargs = rebuilt((args, kwargs), lambda t: Tensor(databases.array_of(t)), ours_of)
    our_module = ours(*our_args, **our_kwargs).to(databases.DTYPES[dtype]).train(training)
    buffers = [key for key, value in state.items() if not isinstance(value, torch.nn.Parameter)]

    def call_theirs(state: Any, args: Any, kwargs: Any) -> Any:
        copied = state | {key: state[key].clone() for key in buffers}
        result = torch.func.functional_call(their_module, copied, args, kwargs)
        return result, [copied[key] for key in buffers]

    def call_ours(state: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(our_module, nn.CTCLoss):  # PyTorch's gradient is that of the logits
            args = (F.log_softmax(args[0], 2), *args[1:])
        copied = state | {key: state[key].detach().clone() for key in buffers}
        result = nn.functional_call(our_module, copied, args, kwargs)
        return result, [copied[key] for key in buffers]

    return Case(sample, call_theirs, call_ours)


def ours_of(value: Any) -> Any:
    """A setting as we take it: functions and layers are ours."""
    if isinstance(value, torch.nn.TransformerEncoderLayer):
        attention, norm = value.self_attn, value.norm1
        settings = (value.linear1.out_features, value.dropout.p, ours_of(value.activation))
        flags = (attention.batch_first, value.norm_first, value.linear1.bias is not None)
        sizes = (attention.embed_dim, attention.num_heads)
        return nn.TransformerEncoderLayer(*sizes, *settings, norm.eps, *flags)
    if callable(value) and getattr(torch.nn.functional, getattr(value, "__name__", ""), 0) is value:
        return getattr(F, value.__name__)
    return databases.ours_of(value)


# ------------------------------------------------------------------ optimizers and schedules


def optimizers() -> dict[str, Any]:
    """PyTorch's record of each optimizer that both have."""
    return {
        info.name: info
        for info in optim_db
        if hasattr(optim, info.name) and info.name not in ELSEWHERE
    }


def start(dtype: torch.dtype) -> list[torch.Tensor]:
    """Parameters of a small net, the same at each call."""
    shapes = [(2, 3), (3,), (3, 1), ()]
    return [
        torch.tensor(databases.random_like(np.empty(shape), 5, i), dtype=dtype)
        for i, shape in enumerate(shapes)
    ]


def loss_of(parameters: list[Any], x: Any) -> Any:
    """Of a net of two layers, for both libraries."""
    w, b, v, c = parameters
    return (((x @ w + b).tanh() @ v + c) ** 2).mean()


class Training:
    """A net, its optimizer and schedules, in one of the libraries."""

    def __init__(self, parameters: list[Any], x: Any, make: Callable[..., Any]) -> None:
        self.parameters, self.x = parameters, x
        self.optimizer = make(self.parameters)
        self.schedules: list[Any] = []

    def step(self) -> Any:
        self.optimizer.zero_grad()
        loss = loss_of(self.parameters, self.x)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def move_on(self, loss: Any) -> None:
        """A step of each schedule."""
        for schedule in self.schedules:
            plateau = type(schedule).__name__ == "ReduceLROnPlateau"
            schedule.step(float(loss)) if plateau else schedule.step()

    def state(self) -> list[Any]:
        rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        return [*map(numbers_of, self.parameters), np.array(rates)]


def theirs_and_ours(info: Any, kwargs: dict[str, Any], dtype: torch.dtype) -> list[Training]:
    """The same start in both libraries, and in PyTorch in the other precision."""

    def theirs(dtype: torch.dtype) -> Training:
        options = rebuilt(kwargs, lambda t: t.clone(), lambda v: v)
        leaves = [t.requires_grad_() for t in start(dtype)]
        return Training(leaves, x.to(dtype), lambda p: peer_named(info.name)(p, **options))

    x = torch.tensor(databases.random_like(np.empty((5, 2)), 6, 0), dtype=dtype)
    ours = rebuilt(kwargs, lambda t: Tensor(databases.array_of(t)), databases.ours_of)
    leaves = [Tensor(databases.array_of(t), requires_grad=True) for t in start(dtype)]
    return [
        theirs(dtype),
        Training(
            leaves, Tensor(databases.array_of(x)), lambda p: getattr(optim, info.name)(p, **ours)
        ),
        theirs(databases.OTHER[dtype]),
    ]


def ours_for(make: Callable[..., Any]) -> Callable[..., Any]:
    """The database's function that makes a schedule, with our classes for PyTorch's."""
    assert isinstance(make, FunctionType)
    names = {name: getattr(optim.lr_scheduler, name) for name in make.__code__.co_names}
    return FunctionType(make.__code__, names)


def trained(theirs: Training, ours: Training, other: Training, compiled: bool) -> str:
    """In words, the first step after which weights or rates differ."""
    step = Compiled(ours.step) if compiled else ours.step
    single = theirs.x.dtype == torch.float32
    for i in range(STEPS):
        for one in (theirs, other):
            with default_dtype(one.x.dtype):
                one.move_on(one.step())
        ours.move_on(step().item())
        expected = Expected(theirs.state(), other.state(), single)
        words = first_difference(ours.state(), expected)
        if words:
            return f"step {i}: {words}"
    if compiled and not step.programs:
        return f"not compiled: {step.explain()}"
    return ""


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """PyTorch keeps the numbers of NAdam and ASGD in its default dtype, whatever the parameters."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def in_words(compare: Callable[..., str], *args: Any) -> str:
    """The words of a comparison, or of the error that stopped it."""
    words, error = attempt(lambda: compare(*args))
    return error or words


def optimizer_differences(name: str) -> Iterator[tuple[str, str]]:
    """How an optimizer or its schedules differ, for each set of options."""
    info = optimizers()[name]
    for dtype in (torch.float64, torch.float32):
        for one in info.optim_inputs_func("cpu", dtype):
            for what, compiled in {"steps": False, "compiled": True}.items():
                words = in_words(optimized, info, one.kwargs, dtype, compiled)
                if words:
                    yield f"{databases.DTYPES[dtype]} {what}", f"{name}({one.kwargs}): {words}"
    for makers in info.scheduler_inputs:
        words = in_words(scheduled, info, makers)
        if words:
            yield "float64 schedule", f"{name}: {words}"


def optimized(info: Any, kwargs: dict[str, Any], dtype: torch.dtype, compiled: bool) -> str:
    """How training with these options differs."""
    return trained(*theirs_and_ours(info, kwargs, dtype), compiled=compiled)


def scheduled(info: Any, makers: list[Callable[..., Any]]) -> str:
    """How training with schedules differs."""
    theirs, ours, other = theirs_and_ours(info, {"lr": 0.01}, torch.float64)
    for one in (theirs, other):
        one.schedules = [make(one.optimizer) for make in makers]
    ours.schedules = [ours_for(make)(ours.optimizer) for make in makers]
    words = trained(theirs, ours, other, compiled=False)
    return words and f"{[type(one).__name__ for one in theirs.schedules]}: {words}"


if __name__ == "__main__":
    databases.print_table(modules(), __doc__)
