"""`Optimizer`: an update rule applied to the parameters of a model, under PyTorch's names."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray

from tinygrad_kr.grad_mode import enable_grad
from tinygrad_kr.ops import anomaly
from tinygrad_kr.ops.node import constant
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.ops.writes import bump_again, bump_versions
from tinygrad_kr.optim.blocks import Cohort, Slot
from tinygrad_kr.optim.lowering import Program, Rule, lower, structure_of
from tinygrad_kr.tensor import Tensor

Parameters = Iterable[Tensor] | Iterable[dict[str, Any]]

_INTERVALS: dict[str, Callable[[float], bool]] = {
    "[0, inf)": lambda x: 0 <= x < math.inf,
    "[0, 1)": lambda x: 0 <= x < 1,
    "[0, 1]": lambda x: 0 <= x <= 1,
    "(-inf, inf)": math.isfinite,
}


def _total(gradient: Any) -> float:
    """What tells a gradient from the next one, which a compiled step may write where it was."""
    with np.errstate(all="ignore"):
        return float(np.add.reduce(gradient._data, axis=None))


class _Plan:
    """How a step is carried out, while parameters, options and gradients stay of one kind."""

    def __init__(
        self, cohorts: list[Cohort], absent: list[Tensor], once: bool, writer: str
    ) -> None:
        self.cohorts, self.absent, self.once = cohorts, absent, once
        self.params: list[Any] = [slot.param for cohort in cohorts for slot in cohort.slots]
        self.pairs = [(p, p._data) for p in self.params]
        self.noted = bump_versions(self.params, writer)
        self.ran = False
        self.whole = True
        """Whether the latest step was finished: an interrupt leaves blocks of different ages."""

    def gradients(self, check_options: Callable[[dict[str, Any]], None]) -> list[ndarray] | None:
        """The gradients to apply, or None where this plan no longer fits; options that have
        changed are checked."""
        if (self.ran and self.once) or not self.whole:
            return None
        for p in self.absent:
            if p._grad is not None:
                return None
        for cohort in self.cohorts:
            if tuple(cohort.group.values()) != cohort.group_values:
                check_options(cohort.group)
                if not self._follows(cohort):
                    return None
        gradients = []
        for p, array in self.pairs:
            g = p._grad
            if g is None or p._data is not array:
                return None
            gradients.append(g._data)
        return gradients

    @staticmethod
    def _follows(cohort: Cohort) -> bool:
        """Take over options that have changed, where the program stays the same."""
        values, options = tuple(cohort.group.values()), cohort.current_options()
        if options != cohort.options:
            names = cohort.names
            if structure_of(names, options) != structure_of(names, cohort.options):
                return False
            cohort.options = options
        cohort.group_values = values  # last, since equal values are not looked at again
        return True

    def run(self, gradients: list[ndarray]) -> None:
        """Update every parameter."""
        self.ran, self.whole = True, False
        for cohort in self.cohorts:
            cohort.update(gradients)
        self.whole = True


class Optimizer:
    """Applies an update rule to parameters that have gradients.

    params: Tensors, or dicts {"params": Tensors, option: value, ...}, one per group: an option that
        a group does not give is the one given to the optimizer. `param_groups[i]["lr"]` may be
        changed at any time.
    defaults: the options of the rule and their values.

    A subclass names its `rule` (see `optim.rules`), and the `intervals` its options must lie in.
    State is kept per parameter from the first step in which it has a gradient; without one it is
    left alone, state and all.

    Raises ValueError for no parameter, one given twice, one that was computed, or an option out of
    range; TypeError for what is not a floating-point Tensor.
    """

    rule: ClassVar[Rule]
    intervals: ClassVar[Mapping[str, str]] = {}

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self.param_groups: list[dict[str, Any]] = []
        self._slots: dict[Tensor, Slot] = {}
        self._plan: _Plan | None = None
        self._writer = f"{type(self).__name__}.step()"
        self._warned = False
        self._first_gradients: list[tuple[weakref.ref[Any], float]] | None = None
        self._stepped = False
        if isinstance(params, Tensor) or not isinstance(params, Iterable):
            raise TypeError(
                f"{type(self).__name__} takes a list of Tensors, or of dicts for groups, not "
                f"{type(params).__name__}; of a module, pass .parameters()"
            )
        given: list[Any] = list(params)
        if not given:
            raise ValueError(
                f"{type(self).__name__} got no parameters: modules in a plain list are not found "
                "(use nn.ModuleList), and a generator of parameters can be used up only once"
            )
        groups = given if isinstance(given[0], dict) else [{"params": given}]
        for group in groups:
            self.add_param_group(group)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {i}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
        return "\n".join([*lines, ")"])

    # -------------------------------------------------------------- groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimize further parameters as well, with options of their own: {"params": ..., "lr":
        0.1}."""
        if not isinstance(param_group, dict) or "params" not in param_group:
            raise TypeError(f'a parameter group is a dict with "params", not {param_group!r:.60}')
        params = param_group["params"]
        if isinstance(params, set | frozenset):
            raise TypeError(
                "parameters need an order that is the same in every run: a list, not a set"
            )
        params = [params] if isinstance(params, Tensor) else list(params)
        group = {**param_group, "params": params}
        for name, default in self.defaults.items():
            group.setdefault(name, default)
        self._check_parameters(params)
        self._check_options(group)
        self._settle()
        self._plan = None
        self._slots |= {p: Slot(p) for p in params}
        self.param_groups.append(group)

    def _check_parameters(self, params: list[Any]) -> None:
        seen = set(self._slots)
        for i, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(
                    f"parameter {i} is not a Tensor but {type(p).__name__}; of a module, pass "
                    ".parameters()"
                )
            if not p.is_leaf:
                raise ValueError(
                    f"parameter {i} of shape {p.shape} was computed: only a leaf can be optimized"
                )
            if p.dtype.kind != "f":
                raise TypeError(f"parameter {i} of shape {p.shape} holds {p.dtype}, not floats")
            if p in seen:
                raise ValueError(
                    f"parameter {i} of shape {p.shape} appears twice: it would be updated twice"
                )
            seen.add(p)

    def _check_options(self, group: Mapping[str, Any]) -> None:
        for name, interval in self.intervals.items():
            value = group[name]
            for x in value if isinstance(value, tuple | list) else (value,):
                if isinstance(x, bool) or not isinstance(x, int | float | np.integer | np.floating):
                    raise TypeError(
                        f"{type(self).__name__}: {name} must be a number, not {x!r:.60}"
                    )
                if not _INTERVALS[interval](float(x)):
                    raise ValueError(
                        f"{type(self).__name__}: {name} must be in {interval}, not {value}"
                    )

    def _parameters(self) -> Iterator[Tensor]:
        for group in self.param_groups:
            yield from group["params"]

    # -------------------------------------------------------------- steps

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients, which backward would add to, or set them to 0."""
        if tracer := tracing():
            tracer.touch_gradients(self._slots, set_to_none)
        for p in self._slots:
            if set_to_none:
                p._grad = None
            elif p._grad is not None:
                p._grad = constant(np.zeros_like(p._data))

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient, once.

        closure: computes the loss and its gradients first; what it returns is returned.

        Warns, once, where no parameter has a gradient, or the second step finds those of the first.
        Raises ValueError for a parameter that cannot be written to, or whose shape is no longer
        that of its gradient or state.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        if tracer := tracing():
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
                self._check_writable(self._slots[p])
            raise
        self._stepped = True
        return loss

    def _planned(self) -> tuple[_Plan, list[ndarray]]:
        """A plan for the parameters, options and gradients of this moment."""
        self._settle()
        cohorts: list[Cohort] = []
        absent: list[Tensor] = []
        names = tuple(self.defaults)
        once = not self._stepped
        for group in self.param_groups:
            self._check_options(group)
            structure = structure_of(names, tuple(map(group.__getitem__, names)))
            for alike in self._alike(group["params"], absent):
                numbers, arrays = tuple(alike[0].numbers), tuple(alike[0].arrays)
                program = lower(type(self).rule, structure, numbers, arrays)
                once |= program.number_state != numbers or set(program.array_state) != set(arrays)
                start = sum(len(cohort.slots) for cohort in cohorts)
                cohorts.append(Cohort(group, names, alike, program, start))
        plan = self._plan = _Plan(cohorts, absent, once, self._writer)
        gradients = plan.gradients(self._check_options)
        if gradients is None:  # another thread has given or taken a gradient meanwhile
            return self._planned()
        self._warn_of_old_gradients(plan.params)
        return plan, gradients

    def _alike(self, params: list[Tensor], absent: list[Tensor]) -> Iterable[list[Slot]]:
        """The parameters that have gradients, those of one dtype and equally old state together."""
        found: dict[Any, list[Slot]] = {}
        for p in params:
            if p._grad is None:
                absent.append(p)
                continue
            slot = self._slots[p]
            self._check_writable(slot)
            key = (p._data.dtype, *slot.arrays, *slot.numbers.items())
            found.setdefault(key, []).append(slot)
        return found.values()

    def _check_writable(self, slot: Slot) -> None:
        array, gradient = slot.param._data, slot.param._grad
        wrong = ""
        if gradient is not None and array.shape != gradient.shape:
            wrong = f"has a gradient of shape {gradient.shape}"
        elif slot.arrays and array.shape != slot.shape:
            wrong = f"has a state of shape {slot.shape}; after such a change, make a new optimizer"
        elif not array.flags.writeable:
            wrong = "is read-only; copy it, or, in anomaly mode, free the graph that still needs it"
        if wrong:
            index = [id(p) for p in self._parameters()].index(id(slot.param))
            raise ValueError(f"{self._writer}: parameter {index} of shape {array.shape} {wrong}")
        slot.shape = array.shape

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

    def _settle(self) -> None:
        """Let the slots know what the steps so far have left."""
        if self._plan is not None and self._plan.ran:
            for cohort in self._plan.cohorts:
                cohort.settle()

    # -------------------------------------------------------------- state

    @property
    def state(self) -> dict[Tensor, dict[str, Any]]:
        """The state of every updated parameter, its arrays in the parameter's shape."""
        self._settle()
        return {
            p: {**slot.numbers}
            | {name: array.reshape(slot.shape) for name, array in slot.arrays.items()}
            for p, slot in self._slots.items()
            if slot.numbers or slot.arrays
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of what a later run needs to go on from here: arrays, and plain values that JSON
        can hold.

        {"state": {index of the parameter: {"step": 3, "exp_avg": array, ...}},
         "param_groups": [{"lr": 0.1, ..., "params": [indices]}]}, as in PyTorch.
        """
        index = {p: i for i, p in enumerate(self._parameters())}
        state = {
            index[p]: {k: v.copy() if isinstance(v, ndarray) else v for k, v in entries.items()}
            for p, entries in self.state.items()
        }
        groups = [
            {**group, "params": [index[p] for p in group["params"]]} for group in self.param_groups
        ]
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict()`, PyTorch's included; the parameters themselves are not in it.

        Floating-point arrays are copied, in the dtype of the parameter. All or nothing: raises
        ValueError, saying what is missing, unexpected or of another shape, before anything is
        changed.
        """
        if not isinstance(state_dict, Mapping) or not {"state", "param_groups"} <= set(state_dict):
            raise ValueError(
                'the state dict of an optimizer has the keys "state" and "param_groups"'
            )
        groups = self._loaded_groups(state_dict["param_groups"])
        slots = self._loaded_slots(groups, state_dict["state"])
        self._plan, self._first_gradients, self._slots = None, None, slots
        for group, new in zip(self.param_groups, groups, strict=True):
            group.update(new)
            for name in group.keys() - new.keys():
                del group[name]

    def _loaded_groups(self, saved: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        groups = [dict(group) for group in saved]
        have, want = ([len(g.get("params", ())) for g in s] for s in (groups, self.param_groups))
        if have != want:
            raise ValueError(
                f"the state dict has groups of {have} parameters, the optimizer {want}"
            )
        for i, (group, mine) in enumerate(zip(groups, self.param_groups, strict=True)):
            if missing := [name for name in self.defaults if name not in group]:
                raise ValueError(f"group {i} of the state dict lacks {', '.join(missing)}")
            for name, default in self.defaults.items():
                if isinstance(default, tuple):
                    group[name] = tuple(group[name])
            self._check_options(group)
            group["params"] = mine["params"]
        return groups

    def _loaded_slots(
        self, groups: list[dict[str, Any]], saved: Mapping[Any, Mapping[str, Any]]
    ) -> dict[Tensor, Slot]:
        state = {int(index): entries for index, entries in saved.items()}
        slots: dict[Tensor, Slot] = {}
        for group in groups:
            needed = self._made_with({name: group[name] for name in self.defaults})
            for p in group["params"]:
                slots[p] = _loaded_slot(p, state.pop(len(slots), {}), needed, self._most_state())
        if state:
            raise ValueError(
                f"the state dict has state for parameters {sorted(state)} of {len(slots)}"
            )
        return slots

    def _most_state(self) -> Program:
        return self._made_with({name: _switched_on(value) for name, value in self.defaults.items()})

    def _made_with(self, options: dict[str, Any]) -> Program:
        """The program of a first step with these options: what state it makes."""
        return lower(type(self).rule, structure_of(tuple(options), tuple(options.values())), (), ())

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        return {**self.__dict__, "_plan": None, "_first_gradients": None}


def _switched_on(option: Any) -> Any:
    """A value of an option that has a rule keep all the state it can."""
    if isinstance(option, tuple):
        return tuple(map(_switched_on, option))
    return True if isinstance(option, bool) else 0.5


def _loaded_slot(p: Tensor, entries: Mapping[str, Any], needed: Program, most: Program) -> Slot:
    """The state of one parameter, from a state dict."""
    slot = Slot(p)
    given = {name: np.asarray(value) for name, value in entries.items() if value is not None}
    missing = {*needed.number_state, *needed.array_state} - set(given) if given else set()
    unexpected = set(given) - {*most.number_state, *most.array_state}
    if missing or unexpected:
        raise ValueError(
            f"the state of a parameter of shape {p.shape} lacks {sorted(missing) or 'nothing'} "
            f"and has {sorted(unexpected) or 'nothing'} that this optimizer does not know"
        )
    for name, value in given.items():
        shape = p.shape if name in most.array_state else ()
        if value.shape != shape or value.dtype.kind not in "fiu":
            raise ValueError(
                f"{name} must be numbers of shape {shape}, not {value.dtype}{value.shape}"
            )
    numbers = {name: given[name].item() for name in most.number_state if name in given}
    arrays = {
        name: given[name].astype(p.dtype).reshape(-1) for name in most.array_state if name in given
    }
    slot.keep(arrays, numbers)
    return slot
