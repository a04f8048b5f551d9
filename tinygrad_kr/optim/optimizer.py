"""`Optimizer`: an update rule applied to the parameters of a model, with PyTorch's interface."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray

from tinygrad_kr.autodiff import RowGradient
from tinygrad_kr.changes import Change, make_all
from tinygrad_kr.files import refuse_torch_file
from tinygrad_kr.grad_mode import enable_grad
from tinygrad_kr.ops import anomaly
from tinygrad_kr.ops.node import constant
from tinygrad_kr.ops.op import refuse_masked
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.ops.writes import bump_again, bump_versions
from tinygrad_kr.optim.blocks import ParamBlock, ParamState
from tinygrad_kr.optim.lowering import Rule, UpdateProgram, lower, structure_of
from tinygrad_kr.optim.row_updates import RowUpdate
from tinygrad_kr.tensor import Tensor, note_change

Parameters = Iterable[Tensor] | Iterable[dict[str, Any]]

_INTERVALS: dict[str, Callable[[float], bool]] = {
    "[0, inf)": lambda x: 0 <= x < math.inf,
    "[0, 1)": lambda x: 0 <= x < 1,
    "[0, 1]": lambda x: 0 <= x <= 1,
    "(-inf, inf)": math.isfinite,
}


_MANY = 1 << 53
"""Limit: a step counter beyond it does not count exactly."""


def _total(gradient: Any) -> float:
    """The sum of a gradient: detects that a compiled step wrote a new one into the same array."""
    with np.errstate(all="ignore"):
        return float(np.add.reduce(gradient._data, axis=None))


class UpdatePlan:
    """How a step runs while parameters, options and gradients keep their form."""

    def __init__(
        self,
        blocks: list[ParamBlock],
        row_updates: list[RowUpdate],
        absent: list[Tensor],
        once: bool,
        writer: str,
    ) -> None:
        self.blocks, self.row_updates = blocks, row_updates
        self.absent, self.once = absent, once
        self.params: list[Any] = [
            param_state.param for block in blocks for param_state in block.param_states
        ]
        self.pairs = [(p, p._data) for p in self.params]
        self.made_dense = {p for p in self.params if type(p._grad) is RowGradient}
        """Parameters whose sparse gradients are applied as dense ones."""
        self.params += [update.param for update in row_updates]
        self.noted = bump_versions(self.params, writer)
        self.ran = False
        self.finished = True
        """Whether the last step was finished: an interrupt leaves parts at different steps."""

    def gradients(self, check_options: Callable[[dict[str, Any]], None]) -> list[ndarray] | None:
        """The gradients to apply; None where the plan no longer fits. Checks changed options."""
        if (self.ran and self.once) or not self.finished:
            return None
        for p in self.absent:
            if p._grad is not None:
                return None
        for block in self.blocks:
            if tuple(block.group.values()) != block.group_values:
                check_options(block.group)
                if not self._follows(block):
                    return None
        gradients = []
        for p, array in self.pairs:
            g = p._grad
            if g is None or p._data is not array:
                return None
            if type(g) is RowGradient and p not in self.made_dense:
                return None
            gradients.append(g._data)
        for update in self.row_updates:
            p = update.param
            if type(p._grad) is not RowGradient or p._data is not update.array:
                return None
            if tuple(update.group.values()) != update.group_values:
                return None
        return gradients

    @staticmethod
    def _follows(block: ParamBlock) -> bool:
        """Take over changed options; False where they need another program."""
        values, options = tuple(block.group.values()), block.current_options()
        if options != block.options:
            names = block.names
            if structure_of(names, options) != structure_of(names, block.options):
                return False
            block.options = options
        block.group_values = values  # last: equal values are not compared again
        return True

    def run(self, gradients: list[ndarray]) -> None:
        """Update every parameter."""
        self.ran, self.finished = True, False
        for block in self.blocks:
            block.update(gradients)
        for update in self.row_updates:
            update.update()
        self.finished = True

    def write_back(self) -> None:
        """Store the state of every block in its `ParamState`s."""
        for block in self.blocks:
            block.write_back()


class Optimizer:
    """Base class of the optimizers: applies an update rule to parameters that have gradients.

    params: Tensors, or one dict per group: {"params": Tensors, option: value, ...}. An option that
        a group leaves out has the optimizer's value. `param_groups[i]["lr"]` may be changed at any
        time.
    defaults: the options of the rule and their values. Of a number of NumPy's or a 0-d Tensor, the
        present value is taken.

    A subclass sets `rule` (see `optim.rules`) and `intervals`, the permitted range of each option.
    State begins with the first step in which a parameter has a gradient. A parameter without a
    gradient is left alone, and so is its state.

    Raises ValueError for no parameter, a repeated one, a computed one, or an option out of range;
    TypeError for a parameter that is not a floating-point Tensor.

    >>> net = nn.Linear(2, 1)
    >>> optimizer = optim.SGD([{"params": net.weight, "lr": 0.1}, {"params": net.bias}], lr=0.01)
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.1, 0.01]
    """

    rule: ClassVar[Rule]
    row_rule: ClassVar[Rule | None] = None
    """The rule for the rows of a sparse gradient; None if the optimizer takes none."""
    intervals: ClassVar[Mapping[str, str]] = {}
    exchange: Any = None
    """What averages the gradients over ranks (`tk.distributed`); None on one process."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "rule" in cls.__dict__ and "row_rule" not in cls.__dict__:
            cls.row_rule = None

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        self.defaults = {name: _plain(value) for name, value in defaults.items()}
        self.param_groups: list[dict[str, Any]] = []
        self._param_states: dict[Tensor, ParamState] = {}
        self._plan: UpdatePlan | None = None
        self._writer = f"{type(self).__name__}.step()"
        self._warned = False
        self._first_gradients: list[tuple[weakref.ref[Any], float]] | None = None
        self._stepped = False
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            raise TypeError(
                f"{type(self).__name__}: expected a list of Tensors, or of dicts for groups, got "
                f"{type(params).__name__}. Of a module, pass .parameters()"
            )
        given: list[Any] = list(params)
        if not given:
            raise ValueError(
                f"{type(self).__name__}: expected parameters, got none. Modules in a plain list "
                "are not registered (use nn.ModuleList), and a generator yields its parameters once"
            )
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            note_change()  # such as a `step` of the object's own, which a wrapper puts there
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        note_change()
        super().__delattr__(name)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])

    # -------------------------------------------------------------- groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters with options of their own: {"params": ..., "lr": 0.1}.

        Raises as the class does.
        """
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(
                f'add_param_group: expected a dict with "params", got {param_group!r:.60}.'
            )
        params = param_group["params"]
        if isinstance(params, set | frozenset):
            raise TypeError(
                f"{type(self).__name__}: expected parameters in a list, got a set. A set has "
                "another order in every run"
            )
        params = [params] if isinstance(params, Tensor) else list(params)
        options = {name: _plain(value) for name, value in param_group.items() if name != "params"}
        group = {"params": params, **options}
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        self._check_parameters(params)
        self._check_options(group)
        self._write_back()
        self._plan = None
        self._param_states |= {p: ParamState(p) for p in params}
        self.param_groups.append(group)

    def _check_parameters(self, params: list[Any]) -> None:
        seen = set(self._param_states)
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"{type(self).__name__}: expected a Tensor for parameter {i}, got "
                    f"{type(p).__name__}. Of a module, pass .parameters()"
                )
            if not p.is_leaf:
                raise ValueError(
                    f"{type(self).__name__}: expected a leaf for parameter {i}, got a computed "
                    f"Tensor of shape {p.shape}."
                )
            if p.dtype.kind != "f":
                raise TypeError(
                    f"{type(self).__name__}: expected floats for parameter {i}, got "
                    f"{p.dtype}{p.shape}."
                )
            if p in seen:
                raise ValueError(
                    f"{type(self).__name__}: expected each parameter once, got parameter {i} of "
                    f"shape {p.shape} twice."
                )
            seen.add(p)

    def _check_options(self, group: dict[str, Any]) -> None:
        for name, interval in self.intervals.items():
            value = _plain(group[name])
            if not isinstance(value, tuple | list):
                group[name] = value
            for x in value if isinstance(value, tuple | list) else (value,):
                if isinstance(x, bool) or not isinstance(x, int | float | np.integer | np.floating):
                    raise TypeError(
                        f"{type(self).__name__}: expected a number for {name}, got {x!r:.60}."
                    )
                if not _INTERVALS[interval](float(x)):
                    raise ValueError(
                        f"{type(self).__name__}: expected {name} in {interval}, got {value}."
                    )

    def _parameters(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]

    # -------------------------------------------------------------- steps

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set every gradient to None, or to 0 with `set_to_none=False`: backward adds to it."""
        if tracer := tracing():
            tracer.touch_gradients(self._param_states, set_to_none)
        for p in self._param_states:
            if set_to_none:
                p._grad = None
            elif p._grad is not None:
                p._grad = constant(np.zeros_like(p._data))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, once.

        closure: computes the loss and its gradients first; its result is returned.

        Warns once where no parameter has a gradient, or where the second step finds the first one's
        gradients. Raises ValueError for a read-only parameter, or one whose shape is no longer that
        of its gradient or state.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        if self.exchange is not None:
            self.exchange.check_step()
        if tracer := tracing():
            if any(type(p._grad) is RowGradient for p in self._param_states):
                tracer.give_up(f"{self._writer} applies a sparse gradient from before the call")
            tracer.step(self)
            return loss
        plan = self._plan
        gradients = (
            None
            if plan is None or (anomaly._families and anomaly.are_arrays_locked())
            else plan.gradients(self._check_options)
        )
        if plan is None or gradients is None:
            plan, gradients = self._planned()
        bump_again(plan.noted)
        try:
            plan.run(gradients)
        except ValueError:
            for p in plan.params:
                self._check_writable(self._param_states[p])
            raise
        if not self._stepped:
            self._stepped = True
        return loss

    def _planned(self) -> tuple[UpdatePlan, list[ndarray]]:
        """A plan for the current parameters, options and gradients."""
        self._write_back()
        blocks: list[ParamBlock] = []
        row_updates: list[RowUpdate] = []
        absent: list[Tensor] = []
        names = tuple(self.defaults)
        once = not self._stepped
        for group in self.param_groups:
            self._check_options(group)
            structure = structure_of(names, tuple(map(group.__getitem__, names)))
            others = []
            for p in group["params"]:
                if not self._is_by_rows(p, group):
                    others.append(p)
                    continue
                self._check_writable(self._param_states[p])
                row_rule: Any = type(self).row_rule
                row_updates.append(RowUpdate(group, names, self._param_states[p], row_rule))
            for alike in self._alike(others, absent):
                numbers, arrays = tuple(alike[0].numbers), tuple(alike[0].arrays)
                program = lower(type(self).rule, structure, numbers, arrays)
                once |= program.number_state != numbers or set(program.array_state) != set(arrays)
                start = sum(len(block.param_states) for block in blocks)
                blocks.append(ParamBlock(group, names, alike, program, start))
        plan = self._plan = UpdatePlan(blocks, row_updates, absent, once, self._writer)
        gradients = plan.gradients(self._check_options)
        if gradients is None:  # another thread has changed a gradient meanwhile
            return self._planned()
        self._warn_of_old_gradients(plan.params)
        return plan, gradients

    def _is_by_rows(self, p: Any, group: dict[str, Any]) -> bool:
        """Whether the gradient is applied to the rows that it names; refuses what cannot be."""
        if type(p._grad) is not RowGradient:
            return False
        name = type(self).__name__
        if type(self).row_rule is None:
            raise RuntimeError(
                f"{self._writer}: expected dense gradients, got a sparse one. {name} does not "
                "support sparse gradients: use SparseAdam, or Embedding(sparse=False)"
            )
        if group.get("weight_decay"):
            raise RuntimeError(
                f"{self._writer}: expected dense gradients with weight_decay="
                f"{group['weight_decay']}, got a sparse one. The weight_decay option is not "
                "compatible with sparse gradients"
            )
        return not group.get("momentum")

    def _alike(self, params: list[Tensor], absent: list[Tensor]) -> Iterable[list[ParamState]]:
        """The parameters with gradients, in lists of one dtype and equal numbers in the state."""
        found: dict[Any, list[ParamState]] = {}
        for p in params:
            if p._grad is None:
                absent.append(p)
                continue
            param_state = self._param_states[p]
            self._check_writable(param_state)
            key = (p._data.dtype, *param_state.arrays, *param_state.numbers.items())
            found.setdefault(key, []).append(param_state)
        return found.values()

    def _check_writable(self, param_state: ParamState) -> None:
        array, gradient = param_state.param._data, param_state.param._grad
        wrong = ""
        if gradient is not None and array.shape != gradient.shape:
            wrong = f"shape {gradient.shape}, as its gradient has, got {array.shape}."
        elif param_state.arrays and array.shape != param_state.shape:
            wrong = (
                f"shape {param_state.shape}, as its state has, got {array.shape}. Make a new "
                "optimizer after such a change"
            )
        elif not array.flags.writeable:
            wrong = (
                f"writable memory, got a read-only array of shape {array.shape}. Copy it; in "
                "anomaly mode, free the graph that still needs it"
            )
        if wrong:
            index = [id(p) for p in self._parameters()].index(id(param_state.param))
            raise ValueError(f"{self._writer}: expected for parameter {index} {wrong}")
        param_state.shape = array.shape

    def _warn_of_old_gradients(self, params: list[Any]) -> None:
        stale = ""
        if not params:
            stale = "no parameter has a gradient, so it changed nothing"
        elif self._first_gradients is None:
            gradients = [g for p in params if (g := p._grad) is not None]
            self._first_gradients = [(weakref.ref(g), _total(g)) for g in gradients]
        else:
            kept = self._first_gradients
            if len(kept) == len(params) and all(
                reference() is (g := p._grad) and g is not None and total == _total(g)
                for (reference, total), p in zip(kept, params, strict=True)
            ):
                stale = "it applied the gradients of the step before again"
            self._first_gradients = []
        if stale and not self._warned:
            self._warned = True
            warnings.warn(
                f"{self._writer}: {stale}; call loss.backward() before each step", stacklevel=4
            )

    def _write_back(self) -> None:
        """Store the results of the steps so far in the `ParamState`s."""
        if self._plan is not None and self._plan.ran:
            self._plan.write_back()

    # -------------------------------------------------------------- state

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """The state of every updated parameter, its arrays in the parameter's shape."""
        self._write_back()
        return {
            p: {**param_state.numbers}
            | {name: array.reshape(param_state.shape) for name, array in param_state.arrays.items()}
            for p, param_state in self._param_states.items()
            if param_state.numbers or param_state.arrays
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of options and state, to continue from later: arrays, and plain values.

        {"state": {index of the parameter: {"step": 3, "exp_avg": array, ...}},
         "param_groups": [{"lr": 0.1, ..., "params": [indices]}]}, as in PyTorch.
        """
        described = self._described()
        for entries in described["state"].values():
            entries.update({k: v.copy() for k, v in entries.items() if isinstance(v, ndarray)})
        return described

    def _described(self) -> dict[str, Any]:
        """`state_dict()` with the arrays themselves, which the next step overwrites."""
        index = {p: i for i, p in enumerate(self._parameters())}
        state = {index[p]: entries for p, entries in self.state.items()}
        groups = [
            {name: _plain(value) for name, value in group.items() if name != "params"}
            | {"params": [index[p] for p in group["params"]]}
            for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a `state_dict()`, also PyTorch's. Parameters are not part of it.

        Floating-point arrays are copied, in the dtype of the parameter. An option that an older
        state lacks is filled in with the class's default, if that is False, True or 0. All or
        nothing: raises ValueError that lists entries that are missing, unexpected, of another shape
        or no count, before anything is changed.
        """
        make_all(self._loading(state_dict))

    def _loading(self, state_dict: Mapping[str, Any]) -> Iterator[Change]:
        """The change that loads a state, after all its checks."""
        refuse_torch_file(f"{type(self).__name__}.load_state_dict", state_dict)
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            raise ValueError(
                f'{type(self).__name__}.load_state_dict: expected the keys "state" and '
                f'"param_groups", got {_keys(state_dict)}.'
            )
        groups = self._loaded_groups(state_dict["param_groups"])
        param_states = self._loaded_states(groups, state_dict["state"])
        before = [dict(group) for group in self.param_groups]
        present = (self._plan, self._first_gradients, self._param_states, before)
        loaded = (None, None, param_states, groups)
        return iter([(partial(self._replace, *loaded), partial(self._replace, *present))])

    def _replace(
        self,
        plan: UpdatePlan | None,
        first_gradients: list[tuple[weakref.ref[Any], float]] | None,
        param_states: dict[Tensor, ParamState],
        groups: list[dict[str, Any]],
    ) -> None:
        self._plan, self._first_gradients, self._param_states = plan, first_gradients, param_states
        if self.exchange is not None:
            self.exchange.compare_values()
        for group, new in zip(self.param_groups, groups, strict=True):
            group.update(new)
            for name in group.keys() - new.keys():
                del group[name]

    def _loaded_groups(self, saved: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        groups = [{**self._older_defaults(), **group} for group in saved]
        got, expected = ([len(g.get("params", ())) for g in s] for s in (groups, self.param_groups))
        name_of_load = f"{type(self).__name__}.load_state_dict"
        if got != expected:
            raise ValueError(
                f"{name_of_load}: expected groups of {expected} parameters, got {got}."
            )
        for i, (group, mine) in enumerate(zip(groups, self.param_groups, strict=True)):
            if missing := [name for name in self.defaults if name not in group]:
                raise ValueError(
                    f"{name_of_load}: expected {', '.join(missing)} in group {i}, got none. "
                    "Load it into the kind of optimizer that was saved"
                )
            for name, default in self.defaults.items():
                if isinstance(default, tuple):
                    group[name] = tuple(group[name])
                else:
                    group[name] = _plain(group[name])
            self._check_options(group)
            group["params"] = mine["params"]
        return groups

    def _older_defaults(self) -> dict[str, Any]:
        """The options that a state may lack: switched off, unless the class switches them on."""
        import inspect

        parameters = inspect.signature(type(self)).parameters
        defaults = {
            name: parameters[name].default if name in parameters else value
            for name, value in self.defaults.items()
        }
        return {k: v for k, v in defaults.items() if isinstance(v, bool) or v == 0}

    def _loaded_states(
        self, groups: list[dict[str, Any]], saved: Mapping[Any, Mapping[str, Any]]
    ) -> dict[Tensor, ParamState]:
        state = {int(index): entries for index, entries in saved.items()}
        param_states: dict[Tensor, ParamState] = {}
        most = self._most_state()
        for group in groups:
            needed = self._made_with({name: group[name] for name in self.defaults})
            for p in group["params"]:
                entries = state.pop(len(param_states), {})
                param_states[p] = _loaded_state(p, entries, needed, most)
        if state:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: expected state for {len(param_states)} "
                f"parameters, got some for {sorted(state)} as well."
            )
        return param_states

    def _most_state(self) -> UpdateProgram:
        return self._made_with({name: _switched_on(value) for name, value in self.defaults.items()})

    def _made_with(self, options: dict[str, Any]) -> UpdateProgram:
        """The program of a first step with these options."""
        return lower(type(self).rule, structure_of(tuple(options), tuple(options.values())), (), ())

    def __getstate__(self) -> dict[str, Any]:
        self._write_back()
        return {**self.__dict__, "_plan": None, "_first_gradients": None}


def _keys(state_dict: Any) -> str:
    if isinstance(state_dict, Mapping):
        return ", ".join(map(repr, state_dict)) or "none"
    return f"a {type(state_dict).__name__}"


def _plain(value: Any) -> Any:
    """A number of NumPy's, or of a 0-d array or Tensor (PyTorch's too), as Python's."""
    if isinstance(value, tuple | list):
        return type(value)(map(_plain, value))
    if isinstance(value, np.generic | np.ndarray) or hasattr(value, "requires_grad"):
        return value.item() if value.shape == () else value
    return value


def _check_number(name: str, value: float) -> None:
    kind = "an integer" if name == "step" else "a number"
    if not 0 <= value < _MANY or (name == "step" and value != int(value)):
        raise ValueError(f"load_state_dict: expected {kind} in [0, 2^53) for {name}, got {value}.")


def _switched_on(option: Any) -> Any:
    """A value of the option with which a rule keeps all the state that it can."""
    if isinstance(option, tuple):
        return tuple(map(_switched_on, option))
    return True if isinstance(option, bool) else 0.5


def _loaded_state(
    p: Tensor, entries: Mapping[str, Any], needed: UpdateProgram, most: UpdateProgram
) -> ParamState:
    """The state of one parameter, from a state dict."""
    param_state = ParamState(p)
    for name, value in entries.items():
        refuse_masked(value, f"load_state_dict: {name}")
    given = {name: np.asarray(value) for name, value in entries.items() if value is not None}
    missing = {*needed.number_state, *needed.array_state} - set(given) if given else set()
    unexpected = set(given) - {*most.number_state, *most.array_state}
    if missing or unexpected:
        raise ValueError(
            "load_state_dict: expected what this optimizer keeps of a parameter of shape "
            f"{p.shape}, got others: missing {sorted(missing) or 'nothing'}, unexpected "
            f"{sorted(unexpected) or 'nothing'}. Load it into the kind of optimizer that was saved"
        )
    for name, value in given.items():
        shape = p.shape if name in most.array_state else ()
        if value.shape != shape or value.dtype.kind not in "fiu":
            raise ValueError(
                f"load_state_dict: expected numbers of shape {shape} for {name}, got "
                f"{value.dtype}{value.shape}."
            )
        if name not in most.array_state:
            _check_number(name, value.item())
    numbers = {name: given[name].item() for name in most.number_state if name in given}
    arrays = {
        name: given[name].astype(p.dtype).reshape(-1) for name in most.array_state if name in given
    }
    param_state.keep(arrays, numbers)
    return param_state
