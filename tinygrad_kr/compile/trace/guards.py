"""Guards: whether what a function read besides its arguments is as it was when it was traced.

A trace holds the numbers, flags and choices of one run. `reads` finds what the function's code can
read. Guards compare it before each call: numbers, strings and tuples by value, all else by
identity. What is not on the list of `reads` makes the function run as written.

Side effects, such as `print` or a progress bar, happen only while tracing, not on replay.
"""

from __future__ import annotations

import random
import sys
import zlib
from collections.abc import Iterable
from copy import deepcopy
from types import MethodType
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.bindings import Constant, Leaf
from tinygrad_kr.compile.ir.program import Program, Value
from tinygrad_kr.compile.trace.condition import GONE, Condition
from tinygrad_kr.compile.trace.reads import (
    ATOMS,
    BY_IDENTITY,
    LARGEST,
    OF_CACHES,
    SPELLING,
    is_short,
    reads_of,
    settings_of,
)
from tinygrad_kr.ops.writes import last_change, owner


class Guards:
    """The guards of a program: all that its trace depends on. `hold()` is tested before replay."""

    def __init__(self, roots: Iterable[Any]) -> None:
        walk = reads_of(roots)
        self._watches = walk.watches
        self._unset = walk.unset
        self.walk = walk if walk.asks_identity else None
        """Where the code compares identities: what it can reach."""
        self._modules = [(module, settings_of(module)) for module in walk.modules]
        self._leaves = [(leaf, _leaf_settings(leaf)) for leaf in walk.leaves]
        self._shapes = [(leaf, _kind_of(leaf)) for leaf in walk.leaves]
        self.leaves = walk.leaves
        self._arrays = list(walk.arrays.values())
        self._functions = walk.functions
        self._held = [_checksum(array) for array, _, _ in self._arrays]
        self._computed: set[int] = set()
        """The ids of arrays with which not ops alone compute."""
        self._layouts: list[tuple[ndarray, Any, str]] = []
        self._cached = walk.caches
        self.is_outdated = False
        self._elements: list[tuple[ndarray, bytes, str]] = []
        self._absent: list[Any] = []
        self._present: list[Any] = []
        self.reason = walk.reason
        self._generators = walk.generators
        self._draws_elsewhere = walk.draws_elsewhere
        self.about_to_run()
        self._write()

    def learn(self, tracer: Any) -> None:
        """What only a run shows: which `.grad` mattered, and which arrays are read anew at each
        call, so that it does not matter what they hold."""
        live = {
            id(owner(source.array))
            for source in tracer.program.inputs.values()
            if isinstance(source, Constant) and not source.fixed
        }
        read = {id(s.node) for s in tracer.program.inputs.values() if isinstance(s, Leaf)}
        # The program itself looks at the shapes of what it reads.
        self._shapes = [pair for pair in self._shapes if id(pair[0]) not in read]
        self._absent, self._present = tracer.absent, tracer.present
        self._elements, self._layouts = [], []
        self._computed.clear()
        for array, where, names in self._arrays:
            beside = [one for one, _, others in self._arrays if others & names]
            noted = tracer.places.are_all_noted(array, names, beside, self._functions)
            anew = id(owner(array)) in live or noted is True
            self._layouts.append((array, _layout(array), where))
            if not anew or noted is False:
                self._computed.add(id(array))
            if array.size <= LARGEST:
                self._elements.append((array, array.tobytes(), where))
            elif id(array) in self._computed:
                self.reason = self.reason or (
                    f"it may compute with {where} (ndarray of shape {array.shape}) outside "
                    f"Tensors, and more than {LARGEST} elements are not compared before each call. "
                    "Pass it as an argument, or make a Tensor of it outside the function"
                )
        self._write()

    @property
    def arrays(self) -> list[ndarray]:
        """The arrays from outside."""
        return [array for array, _, _ in self._arrays]

    def differs_in_elements_only(self, other: Guards) -> bool:
        """Whether all but elements of arrays is the same."""
        mine, others = self._watches, other._watches
        return len(mine) == len(others) and all(
            a.holder is b.holder and a.kind == b.kind and same(a.expected, b.expected)
            for a, b in zip(mine, others, strict=True)
        )

    def forget(self, other: Guards) -> None:
        """Stop comparing arrays whose other elements gave the same program."""
        before = {id(array): held for array, held, _ in other._elements}
        self._elements = [
            element
            for element in self._elements
            if id(element[0]) in self._computed
            or before.get(id(element[0]), element[1]) == element[1]
        ]
        self._write()

    # -------------------------------------------------------------- before each call

    def hold(self) -> bool:
        """Whether a replay is valid."""
        if self.is_outdated:
            return False
        try:
            if self._test(()):
                return True
        except GONE:
            pass
        return self._hold_by_value()

    def _write(self) -> None:
        """Everything as one expression of identities, of some ten nanoseconds for each; it raises
        one of `GONE` where something is gone."""
        names: dict[str, Any] = {"last_change": last_change, "guards": self}
        self.seen = last_change.time
        known: dict[int, str] = {}

        def name(thing: Any) -> str:
            spelled = known.setdefault(id(thing), f"watched{len(known)}")
            names[spelled] = thing
            return spelled

        terms = ["last_change.time is guards.seen"]
        for kind, holder, key, expected, _ in self._watches:
            if kind in ("keys", "identities"):
                expected = list(expected)  # made faster than a tuple
            place = repr(key) if type(key) is str or is_short(key) else name(key)
            terms.append(SPELLING[kind].format(name(holder), place, name(expected), key))
        terms += [f"{name(a)}.tobytes() == {name(held)}" for a, held, _ in self._elements]
        for array, layout, _ in self._layouts:
            spelled = name(array)
            terms.append(f"({spelled}.shape, {spelled}.strides, {spelled}.dtype) == {name(layout)}")
        terms += [f"{name(leaf)}._grad is None" for leaf in self._absent]
        terms += [f"{name(leaf)}._grad is not None" for leaf in self._present]
        self.condition = Condition(" and ".join(terms), names)
        self._test = self.condition.test()

    def _hold_by_value(self) -> bool:
        time = last_change.time
        if self._first_change() is not None:
            return False
        if any(leaf._grad is not None for leaf in self._absent):
            return False
        if any(leaf._grad is None for leaf in self._present):
            return False
        found = [
            watch._replace(expected=watch.fetch()) if watch.kind in BY_IDENTITY else watch
            for watch in self._watches
        ]
        if any(a.expected is not b.expected for a, b in zip(found, self._watches, strict=True)):
            self._watches = found
            self._write()
        self.seen = time
        return True

    # -------------------------------------------------------------- after a recorded run

    def _first_change(self, but: Iterable[str] = ()) -> str | None:
        """What differs first, leaving out some kinds of watches."""
        for watch in self._watches:
            if watch.kind not in but and not same(watch.fetch(), watch.expected):
                return watch.where
        for module, settings in self._modules:
            now = settings_of(module)
            if now.keys() != settings.keys():
                return f"the attributes of a {type(module).__name__}"
            for name, value in settings.items():
                if not same(now[name], value):
                    return f"{name!r} of a {type(module).__name__}"
        for array, held, where in self._elements:
            if array.tobytes() != held:
                return where
        for array, layout, where in self._layouts:
            if _layout(array) != layout:
                return where
        for leaf, before in self._leaves:
            if not same(_leaf_settings(leaf), before):
                return f"requires_grad or a hook of a {type(leaf).__name__}{leaf.shape}"
        for leaf, kind in self._shapes:
            if _kind_of(leaf) != kind:
                return f"the shape or dtype of a {type(leaf).__name__}{leaf.shape}"
        return None

    def about_to_run(self) -> None:
        """Called before the function is traced."""
        self._randomness = [(g, where, _copy(g)) for g, where in self._generators]
        self._elsewhere = _elsewhere() if self._draws_elsewhere else None
        self._filled = [cached.cache_info()[1:] for cached, _ in self._cached]

    def changed_by_the_run(self, program: Program) -> str | None:
        """What the function itself has changed, so that it is not what a replay of `program` would
        do."""
        if self.reason is not None:
            return self.reason
        changed = self._first_change(but=OF_CACHES)
        leaves = {id(owner(leaf._data)) for leaf in self.leaves}
        for (array, where, _), held in zip(self._arrays, self._held, strict=True):
            if changed is None and id(owner(array)) not in leaves and _checksum(array) != held:
                changed = f"the elements of {where}"
        for holder, name, where in self._unset:
            if changed is None and name in holder:
                changed = where
        if changed is not None:
            return f"it changes {changed} itself, which a replay would not do"
        # What a cache has got in this run, the next walk sees.
        self.is_outdated = self._filled != [cached.cache_info()[1:] for cached, _ in self._cached]
        for generator, where, before in self._randomness:
            draw_again(program, generator, before)
            if _state(generator) != _state(before):
                return f"it draws from {where} by itself: use tk.rand and the like, with generator="
        if self._elsewhere is not None and _elsewhere() != self._elsewhere:
            return "it draws random numbers that are not Tensors: use tk.rand and the like"
        return None

    def difference(self, other: Guards) -> str:
        """The first difference between the two, in words."""
        mine = {(id(w.holder), w.kind, w.key): w for w in self._watches}
        for watch in other._watches:
            before = mine.get((id(watch.holder), watch.kind, watch.key))
            if before is not None and not same(before.expected, watch.expected):
                return f"{watch.where} was {before.expected!r:.40}, then {watch.expected!r:.40}"
        return "the mode, settings or parameters of a module"


def same(a: Any, b: Any) -> bool:
    """Whether two things are identical, or equal numbers, strings or tuples of one type."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float | np.floating):
        return repr(a) == repr(b)
    if type(a) in _BY_VALUE or isinstance(a, np.generic | np.dtype):
        return bool(a == b)
    return False


_BY_VALUE = {*ATOMS, frozenset, MethodType, slice}


def _leaf_settings(leaf: Any) -> tuple[Any, ...]:
    """What a trace depends on in a Tensor besides its elements."""
    return (leaf._requires_grad, *(leaf._hooks or {}).values())


def _kind_of(leaf: Any) -> tuple[Any, ...]:
    return leaf._data.shape, leaf._data.dtype


def _layout(array: ndarray) -> tuple[Any, ...]:
    return array.shape, array.strides, array.dtype


def _checksum(array: ndarray) -> int:
    """To tell whether the elements have changed, also of a large array."""
    return zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data)


def _copy(generator: Any) -> Any:
    """A copy of a generator; one without a state equals no other."""
    return None if isinstance(generator, random.SystemRandom) else deepcopy(generator)


def draw_again(program: Program, generator: Any, copy: Any) -> None:
    """Draw from a copy of a generator what a program draws from it: as many numbers."""
    for instruction in program.instructions:
        if any(param is generator for param in instruction.params.values()):
            inputs = [np.ones(x.shape, x.dtype) for x in instruction.inputs if isinstance(x, Value)]
            instruction.op.forward(*inputs, **(instruction.params | {"generator": copy}))


def _state(generator: Any) -> Any:
    if generator is None or isinstance(generator, random.SystemRandom):
        return object()
    if isinstance(generator, random.Random):
        return generator.getstate()
    if isinstance(generator, np.random.RandomState):
        return repr(generator.get_state())
    bits = generator.bit_generator
    return repr(bits.state), getattr(bits.seed_seq, "n_children_spawned", 0)


def _elsewhere() -> Any:
    """The state of the generators of `random` and `numpy.random`."""
    numpys = sys.modules.get("numpy.random")
    return random.getstate(), None if numpys is None else repr(numpys.get_state())
