"""Updates of the rows of a table that a sparse gradient names, and of no others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.optim.blocks import ParamState
from tinygrad_kr.optim.lowering import Rule


class RowUpdate:
    """One parameter whose gradient is a `RowGradient`: the rule runs on the named rows.

    The state has the parameter's shape. Of a row that was never named it is what the rule makes of
    a gradient of zeros.
    """

    def __init__(
        self, group: dict[str, Any], names: tuple[str, ...], param_state: ParamState, rule: Rule
    ) -> None:
        self.group, self.names, self.param_state, self.rule = group, names, param_state, rule
        self.param: Any = param_state.param
        self.array: ndarray = self.param._data
        self.group_values = tuple(group.values())

    @np.errstate(all="ignore")
    def update(self) -> None:
        """One step of the rows."""
        rows, g = self.param._grad.summed()
        options = {name: self.group[name] for name in self.names}
        p, kept = self.array, self.param_state
        arrays = {name: x.reshape(p.shape) for name, x in kept.arrays.items()}
        state = {**kept.numbers, **{name: x.take(rows, 0) for name, x in arrays.items()}}
        p[rows], entries = self.rule(p.take(rows, 0), g, state, **options)
        numbers = {name: x for name, x in entries.items() if not isinstance(x, ndarray)}
        if entries.keys() - numbers.keys() - arrays.keys():
            arrays = self._first_state(options)
        for name, array in arrays.items():
            array[rows] = entries[name]
        kept.keep({name: x.reshape(-1) for name, x in arrays.items()}, numbers)

    def _first_state(self, options: dict[str, Any]) -> dict[str, ndarray]:
        zeros = np.zeros(self.array.shape, self.array.dtype)
        _, entries = self.rule(self.array, zeros, {}, **options)
        return {name: np.array(x) for name, x in entries.items() if isinstance(x, ndarray)}
