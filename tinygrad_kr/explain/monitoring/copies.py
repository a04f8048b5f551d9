"""Running a function on copies: the user's Tensors hold other arrays meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import Node, constant
from tinygrad_kr.optim.blocks import ParamState
from tinygrad_kr.optim.lr_scheduler import LRScheduler
from tinygrad_kr.optim.optimizer import Optimizer


class State:
    """A copy of the state of Tensors, modules, optimizers, schedules and generators.

    `with state.in_force():` puts it in place of the present one. At the end of the block the
    present one is back, the same arrays in the same Tensors, and the copy is as the block left it.
    No array of the user's is written.
    """

    def __init__(self, things: Iterable[Any]) -> None:
        unique = list({id(thing): thing for thing in things}.values())
        self._nodes = [x for x in unique if isinstance(x, Node)]
        self._objects = [x for x in unique if isinstance(x, Module | LRScheduler | Optimizer)]
        self._generators = [x for x in unique if isinstance(x, np.random.Generator)]
        copied: dict[int, Any] = {}
        nodes, objects, states = self._present()
        self._held = (
            [
                (
                    _copy(array, copied),
                    None if g is None else constant(_copy(g._data, copied)),
                    *rest,
                )
                for array, g, *rest in nodes
            ],
            [_copied(x, attributes) for x, attributes in zip(self._objects, objects, strict=True)],
            states,
        )

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Let a block compute with the copies."""
        outside = self._present()
        try:
            self._put(self._held)
            yield
            self._held = self._present()
        finally:
            try:
                self._put(outside)
            except BaseException:  # an interrupt: what is there already is put there again
                self._put(outside)
                raise

    def _present(self) -> tuple[list[Any], list[Any], list[Any]]:
        return (
            [(x._data, x._grad, x._requires_grad) for x in self._nodes],
            [dict(vars(x)) for x in self._objects],
            [x.bit_generator.state for x in self._generators],
        )

    def _put(self, state: tuple[list[Any], list[Any], list[Any]]) -> None:
        nodes, objects, generators = state
        for x, (array, g, requires_grad) in zip(self._nodes, nodes, strict=True):
            x._data, x._grad, x._requires_grad = array, g, requires_grad
        for thing, attributes in zip(self._objects, objects, strict=True):
            own = vars(thing)  # `setattr` would tell compiled steps of a change
            if len(own) != len(attributes) or any(
                own.get(name, own) is not value for name, value in attributes.items()
            ):
                own.clear()
                own.update(attributes)
        for generator, bits in zip(self._generators, generators, strict=True):
            generator.bit_generator.state = bits


def _copy(array: Any, copied: dict[int, Any]) -> Any:
    if id(array) not in copied:
        copied[id(array)] = np.array(array, order="K"), array  # keeps the array, and so its id
    return copied[id(array)][0]


def _copy_of_gradient(g: Any, copied: dict[int, Any]) -> Any:
    return None if g is None else constant(_copy(g._data, copied))


def _copied(thing: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(thing, Optimizer):
        return dict(attributes)
    thing._write_back()
    param_states = {}
    for p, state in attributes["_param_states"].items():
        new = ParamState(p)
        new.shape = state.shape
        new.keep({name: array.copy() for name, array in state.arrays.items()}, dict(state.numbers))
        param_states[p] = new
    return {
        **attributes,
        "_param_states": param_states,
        "_plan": None,
        "_warned": True,
        "param_groups": [dict(group) for group in attributes["param_groups"]],
    }
