"""Recurrent layers: nets that read a sequence step by step and carry a state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tinygrad_kr.functional as F
from tinygrad_kr.arrays.joining import cat, stack
from tinygrad_kr.arrays.operands import warn_user
from tinygrad_kr.functional import recurrent
from tinygrad_kr.nn import init
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import Parameter, parameter, size
from tinygrad_kr.random import Generator

_NONLINEARITIES = ("tanh", "relu")


def _uniform_by_hidden_size(module: Module, hidden_size: int, generator: Generator | None) -> None:
    bound = 1 / math.sqrt(hidden_size)
    for each in module.parameters():
        init.uniform_(each, -bound, bound, generator)


def _known_nonlinearity(name: str, nonlinearity: str) -> str:
    if nonlinearity not in _NONLINEARITIES:
        raise ValueError(f'{name}: expected nonlinearity "tanh" or "relu", got {nonlinearity!r}.')
    return nonlinearity


# ------------------------------------------------------------------ layers over whole sequences


class _Recurrent(Module):
    """Base class of RNN, LSTM and GRU: layers, directions, the layout of inputs and states."""

    _function: Any  # one direction of one layer
    _gates = 1
    _states = 1
    proj_size = 0

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        name = type(self).__name__
        self.input_size = size("input_size", input_size)
        self.hidden_size = size("hidden_size", hidden_size)
        self.proj_size = self._known_projection(proj_size)
        self.num_layers = size("num_layers", num_layers)
        self.bias, self.batch_first, self.bidirectional = bias, batch_first, bidirectional
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(
                f"{name}: expected dropout, the share dropped, in [0, 1], got {dropout!r}."
            )
        if dropout and num_layers == 1:
            warn_user(
                f"{name}: dropout={dropout} has no effect with num_layers=1: it acts between "
                "layers",
                UserWarning,
            )
        self.dropout = dropout
        for layer in range(self.num_layers):
            features = self._state_sizes[0] * self.num_directions if layer else input_size
            for suffix in self._suffixes(layer):
                self._add_parameters(suffix, features, dtype)
        self.reset_parameters(generator)

    def _known_projection(self, proj_size: int) -> int:
        if not proj_size:
            return 0
        raise ValueError(
            f"{type(self).__name__}: expected proj_size=0, got {proj_size}. Use an LSTM, or "
            f"nn.Linear({self.hidden_size}, {proj_size}) after the net"
        )

    @property
    def _state_sizes(self) -> list[int]:
        """The features of each kind of state."""
        return [self.proj_size or self.hidden_size, self.hidden_size][: self._states]

    @property
    def num_directions(self) -> int:
        """2 if bidirectional, else 1."""
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"][: self.num_directions]

    def _add_parameters(self, suffix: str, features: int, dtype: Any) -> None:
        rows = self._gates * self.hidden_size
        setattr(self, f"weight_ih_{suffix}", parameter((rows, features), dtype))
        setattr(self, f"weight_hh_{suffix}", parameter((rows, self._state_sizes[0]), dtype))
        if self.bias:
            setattr(self, f"bias_ih_{suffix}", parameter((rows,), dtype))
            setattr(self, f"bias_hh_{suffix}", parameter((rows,), dtype))
        if self.proj_size:
            shape = (self.proj_size, self.hidden_size)
            setattr(self, f"weight_hr_{suffix}", parameter(shape, dtype))

    def _parameters_of(self, suffix: str) -> list[Parameter | None]:
        kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        found = [getattr(self, f"{kind}_{suffix}") for kind in kinds[: 4 if self.bias else 2]]
        if self.proj_size:
            found += [None] * (4 - len(found)) + [getattr(self, f"weight_hr_{suffix}")]
        return found

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again: U(+-1 / sqrt(hidden_size)), biases too."""
        _uniform_by_hidden_size(self, self.hidden_size, generator)

    def flatten_parameters(self) -> None:
        """Does nothing: for code written for PyTorch on a GPU."""

    # -------------------------------------------------------------- forward

    def forward(self, input: Any, hx: Any = None, lengths: Any = None) -> tuple[Any, Any]:
        """The states of the last layer at every step, and the last states of every layer.

        hx: the initial states, (layers x directions, batch, hidden); zeros if None.
        lengths: the number of steps of each sequence, (batch,); the rest is padding. The output is
            0 there, the last state is that of the sequence's own last step, and the reverse
            direction starts there.
        """
        batched = self._check_input(input)
        steps = input if batched else input[:, None]
        if batched and self.batch_first:
            steps = steps.swapaxes(0, 1)
        states = self._initial(hx, steps, batched)
        mask = self._mask(lengths, steps, batched)
        if mask is not None:
            steps = recurrent.hold_out(steps, mask)
        output, last = self._run(steps, states, mask)
        if mask is not None:
            output = recurrent.hold_out(output, mask)
        if not batched:
            output, last = output[:, 0], [state[:, 0] for state in last]
        elif self.batch_first:
            output = output.swapaxes(0, 1)
        return output, last[0] if self._states == 1 else tuple(last)

    def _run(self, steps: Any, states: list[Any], mask: Any) -> tuple[Any, list[Any]]:
        """All layers, time first; each kind of last state, (layers x directions, batch, hidden)."""
        last: list[tuple[Any, ...]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout:
                steps = F.dropout(steps, self.dropout, self.training)
            found = []
            for suffix in self._suffixes(layer):
                first = [state[len(last)] for state in states]
                backwards = suffix.endswith("_reverse")
                output, *final = self._function(
                    steps, *first, *self._parameters_of(suffix), mask=mask, reverse=backwards
                )
                found.append(output)
                last.append(tuple(final))
            steps = found[0] if len(found) == 1 else cat(found, axis=2)
        return steps, [stack(kind) for kind in zip(*last, strict=True)]

    # -------------------------------------------------------------- checks

    def _check_input(self, input: Any) -> bool:
        """Whether there is a batch axis."""
        if input.ndim not in (2, 3):
            raise ValueError(
                f"{type(self).__name__}: expected 2 axes, or 3 with a batch, got {input.ndim}."
            )
        if input.shape[-1] != self.input_size:
            raise ValueError(
                f"{type(self).__name__}: expected input_size={self.input_size} features, got "
                f"{input.shape[-1]}."
            )
        if not input.shape[1 if self.batch_first and input.ndim == 3 else 0]:
            raise ValueError(f"{type(self).__name__}: expected at least one step, got none.")
        return bool(input.ndim == 3)

    def _initial(self, hx: Any, steps: Any, batched: bool) -> list[Any]:
        count, batch = self.num_layers * self.num_directions, steps.shape[1]
        if hx is None:
            return [np.zeros((count, batch, n), steps.dtype) for n in self._state_sizes]
        states = [hx] if self._states == 1 else hx
        if self._states > 1 and not (isinstance(hx, tuple | list) and len(hx) == self._states):
            raise TypeError(f"{type(self).__name__}: expected a pair (h_0, c_0), got one state.")
        for state, features in zip(states, self._state_sizes, strict=True):
            expected = (count, batch, features) if batched else (count, features)
            if state.shape != expected:
                name = "hidden_size" if features == self.hidden_size else "proj_size"
                raise ValueError(
                    f"{type(self).__name__}: expected an initial state of shape {expected} (layers "
                    f"x directions, {'batch, ' * batched}{name}), got {state.shape}."
                )
        return [state if batched else state[:, None] for state in states]

    def _mask(self, lengths: Any, steps: Any, batched: bool) -> Any:
        if lengths is None:
            return None
        if not batched:
            raise ValueError(
                f"{type(self).__name__}: expected a batch with lengths, got a single sequence. "
                "Shorten it instead: x[:n]"
            )
        mask = recurrent.length_mask(lengths, steps.shape[0], steps.shape[1], type(self).__name__)
        return None if mask.all() else mask[:, :, None]

    # -------------------------------------------------------------- repr

    def extra_repr(self) -> str:
        said = f"{self.input_size}, {self.hidden_size}"
        for name, default in (
            ("proj_size", 0),
            ("num_layers", 1),
            ("bias", True),
            ("batch_first", False),
            ("dropout", 0.0),
            ("bidirectional", False),
        ):
            value = getattr(self, name)
            said += f", {name}={value}" if value != default else ""
        return said

    def wanted_input(self) -> str:
        axes = "batch, steps" if self.batch_first else "steps, batch"
        return f"({axes}, {self.input_size}) or (steps, {self.input_size})"


class RNN(_Recurrent):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh): a state that is updated from each step.

    `net(x, h_0=zeros, lengths=None)` returns `(output, h_n)`. Shapes: x (steps, batch, input_size),
    output (steps, batch, directions x hidden_size), h_0 and h_n (layers x directions, batch,
    hidden_size). A single sequence has no batch axis anywhere.
    Parameters: `weight_ih_l0` (hidden, input), `weight_hh_l0` (hidden, hidden), `bias_ih_l0`,
    `bias_hh_l0`, then `l1` and so on, with `_reverse` for the second direction. All start as
    U(+-1 / sqrt(hidden_size)).

    num_layers: each layer reads the states of the one below.
    nonlinearity: "tanh" or "relu". bias: False for none.
    batch_first: input and output are (batch, steps, ...); states are not.
    dropout: the share of each layer's output, but the last's, that is dropped in training.
    bidirectional: a second net reads each sequence backwards; its states come after the first's.
    dtype: of the parameters, default float32. generator: for the initial values.

    Raises ValueError for shapes and settings that do not fit. Source: Elman (1990).

    >>> output, last = nn.RNN(3, 5)(tk.ones(7, 2, 3))
    >>> output.shape, last.shape
    ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self.nonlinearity = _known_nonlinearity("RNN", nonlinearity)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dtype=dtype, generator=generator,
        )  # fmt: skip

    def _function(self, *given: Any, **settings: Any) -> tuple[Any, ...]:
        return recurrent.rnn(*given, nonlinearity=self.nonlinearity, **settings)


class LSTM(_Recurrent):
    """A recurrent net with a gated memory cell c beside its state h.

    c_t = f c_{t-1} + i g and h_t = o tanh(c_t), where i, f, o = sigmoid and g = tanh of
    W_ih x_t + b_ih + W_hh h_{t-1} + b_hh, rows in the order i, f, g, o.
    `net(x, (h_0, c_0)=zeros, lengths=None)` returns `(output, (h_n, c_n))`. Shapes, options and
    parameter names as in `RNN`; weights have 4 hidden_size rows.

    proj_size: if not 0, less than hidden_size: h_t = W_hr (o tanh(c_t)) has proj_size features,
        with one more parameter `weight_hr_l0` (proj_size, hidden_size) a layer and direction. So
        have the output, h_0 and h_n; c_0 and c_n have hidden_size.
    Sources: Hochreiter and Schmidhuber (1997); the forget gate: Gers et al. (2000); the projection:
    Sak et al. (2014).

    >>> output, (h, c) = nn.LSTM(3, 5)(tk.ones(7, 2, 3))
    >>> output.shape, h.shape, c.shape
    ((7, 2, 5), (1, 2, 5), (1, 2, 5))
    >>> output, (h, c) = nn.LSTM(3, 5, proj_size=2)(tk.ones(7, 2, 3))
    >>> output.shape, h.shape, c.shape
    ((7, 2, 2), (1, 2, 2), (1, 2, 5))
    """

    _gates = 4
    _states = 2
    _function = staticmethod(recurrent.lstm)

    def _known_projection(self, proj_size: int) -> int:
        if isinstance(proj_size, bool) or not isinstance(proj_size, int):
            raise TypeError(f"LSTM: expected an integer proj_size, got {type(proj_size).__name__}.")
        if not 0 <= proj_size < self.hidden_size:
            raise ValueError(
                f"LSTM: expected proj_size in [0, {self.hidden_size}), less than hidden_size, got "
                f"{proj_size}."
            )
        return proj_size


class GRU(_Recurrent):
    """A gated recurrent net with one state: as an LSTM with three quarters of its parameters.

    h_t = (1 - z) n + z h_{t-1}, where r, z = sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh) and
    n = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn)), rows in the order r, z, n.
    `net(x, h_0=zeros, lengths=None)` returns `(output, h_n)`. Shapes, options and parameter names
    as in `RNN`; weights have 3 hidden_size rows. Source: Cho et al. (2014), as in PyTorch.

    >>> output, last = nn.GRU(3, 5, bidirectional=True)(tk.ones(7, 2, 3))
    >>> output.shape, last.shape
    ((7, 2, 10), (2, 2, 5))
    """

    _gates = 3
    _function = staticmethod(recurrent.gru)


# ------------------------------------------------------------------ cells: one step


class _Cell(Module):
    """Base class of the three cells."""

    _function: Any
    _gates = 1
    _states = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self.input_size = size("input_size", input_size)
        self.hidden_size = size("hidden_size", hidden_size)
        rows = self._gates * hidden_size
        self.weight_ih = parameter((rows, input_size), dtype)
        self.weight_hh = parameter((rows, hidden_size), dtype)
        self.bias_ih = parameter((rows,), dtype) if bias else None
        self.bias_hh = parameter((rows,), dtype) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: Generator | None = None) -> None:
        """Draw the initial values again: U(+-1 / sqrt(hidden_size)), biases too."""
        _uniform_by_hidden_size(self, self.hidden_size, generator)

    def forward(self, input: Any, hx: Any = None) -> Any:
        """The next state, (batch, hidden) or (hidden,). hx: the state before, zeros if None."""
        self._check_input(input)
        step = input if input.ndim == 2 else input[None]
        states = self._before(hx, input)
        states = [state if state.ndim == 2 else state[None] for state in states]
        parameters = self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh
        _, *found = self._function(step[None], *states, *parameters)
        if input.ndim == 1:
            found = [state[0] for state in found]
        return found[0] if self._states == 1 else tuple(found)

    def _check_input(self, input: Any) -> None:
        if input.ndim not in (1, 2):
            raise ValueError(
                f"{type(self).__name__}: expected 1 axis, or 2 with a batch, got {input.ndim}."
            )
        if input.shape[-1] != self.input_size:
            raise ValueError(
                f"{type(self).__name__}: expected input_size={self.input_size} features, got "
                f"{input.shape[-1]}."
            )

    def _before(self, hx: Any, input: Any) -> list[Any]:
        expected = (*input.shape[:-1], self.hidden_size)
        if hx is None:
            return [np.zeros(expected, input.dtype)] * self._states
        if self._states > 1 and not (isinstance(hx, tuple | list) and len(hx) == self._states):
            raise TypeError(f"{type(self).__name__}: expected a pair (h, c), got one state.")
        states = [hx] if self._states == 1 else list(hx)
        for state in states:
            if state.shape != expected:
                raise ValueError(
                    f"{type(self).__name__}: expected a state of shape {expected}, got "
                    f"{state.shape}."
                )
        return states

    def extra_repr(self) -> str:
        bias = "" if self.bias_ih is not None else ", bias=False"
        return f"{self.input_size}, {self.hidden_size}{bias}"

    def wanted_input(self) -> str:
        return f"(batch, {self.input_size}) or ({self.input_size},)"


class RNNCell(_Cell):
    """One step of an `RNN`: h' = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu.

    `cell(x, h=zeros)`: x (batch, input_size), h and h' (batch, hidden_size), or without the batch
    axis.
    Parameters: `weight_ih`, `weight_hh`, `bias_ih`, `bias_hh`, started as in `RNN`.
    For whole sequences the layer is faster.

    >>> cell, h = nn.RNNCell(3, 5), tk.zeros(2, 5)
    >>> for x in tk.ones(7, 2, 3).unbind():
    ...     h = cell(x, h)
    >>> h.shape
    (2, 5)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        *,
        dtype: Any = None,
        generator: Generator | None = None,
    ) -> None:
        self.nonlinearity = _known_nonlinearity("RNNCell", nonlinearity)
        super().__init__(input_size, hidden_size, bias, dtype=dtype, generator=generator)

    def _function(self, *given: Any) -> tuple[Any, ...]:
        return recurrent.rnn(*given, nonlinearity=self.nonlinearity)

    def extra_repr(self) -> str:
        other = self.nonlinearity != "tanh"
        return super().extra_repr() + (f", nonlinearity={self.nonlinearity}" if other else "")


class LSTMCell(_Cell):
    """One step of an `LSTM`: `cell(x, (h, c)=zeros)` returns `(h', c')`; otherwise as `RNNCell`.

    >>> h, c = nn.LSTMCell(3, 5)(tk.ones(2, 3))
    >>> h.shape, c.shape
    ((2, 5), (2, 5))
    """

    _gates = 4
    _states = 2
    _function = staticmethod(recurrent.lstm)


class GRUCell(_Cell):
    """One step of a `GRU`: `cell(x, h=zeros)` returns `h'`; otherwise as `RNNCell`.

    >>> nn.GRUCell(3, 5)(tk.ones(2, 3)).shape
    (2, 5)
    """

    _gates = 3
    _function = staticmethod(recurrent.gru)
