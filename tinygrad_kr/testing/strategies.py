"""Hypothesis strategies of shapes, arrays, indices and axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def shapes(
    min_dims: int = 0, max_dims: int = 3, min_side: int = 0, max_side: int = 4
) -> SearchStrategy[tuple[int, ...]]:
    """Shapes of arrays, empty and 0-d ones included.

    min_dims, max_dims: bounds of the number of axes. min_side, max_side: bounds of each size.

    >>> from hypothesis import find
    >>> len(find(tk.testing.shapes(min_dims=2), lambda shape: True)) >= 2
    True
    """
    from hypothesis.extra import numpy as hnp

    return hnp.array_shapes(
        min_dims=min_dims, max_dims=max_dims, min_side=min_side, max_side=max_side
    )


def broadcastable_shapes(
    count: int = 2, max_dims: int = 3, min_side: int = 0, max_side: int = 3
) -> SearchStrategy[tuple[tuple[int, ...], ...]]:
    """`count` shapes that NumPy broadcasts with each other.

    max_dims: the largest number of axes. min_side, max_side: bounds of each size.

    >>> from hypothesis import find
    >>> first, second = find(tk.testing.broadcastable_shapes(2), lambda shapes: True)
    >>> len(np.broadcast_shapes(first, second)) <= 3
    True
    """
    from hypothesis.extra import numpy as hnp

    return hnp.mutually_broadcastable_shapes(
        num_shapes=count, max_dims=max_dims, min_side=min_side, max_side=max_side
    ).map(lambda drawn: drawn.input_shapes)


def arrays(
    shape: Any, low: float = -2.0, high: float = 2.0, dtype: Any = np.float64
) -> SearchStrategy[ndarray]:
    """Float arrays of well-scaled elements in [low, high].

    The elements are multiples of 1/64: they shrink to simple numbers, and central differences keep
    their precision.
    shape: a shape, or a strategy of shapes. dtype: a floating dtype.

    >>> from hypothesis import find
    >>> find(tk.testing.arrays((2,)), lambda x: x[0] > 0.5).shape
    (2,)
    """
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    steps = st.integers(math.ceil(low * 64), math.floor(high * 64))
    return hnp.arrays(dtype, shape, elements=steps.map(lambda n: n / 64))


def indices(shape: tuple[int, ...]) -> SearchStrategy[Any]:
    """Keys for an array of `shape`.

    Basic ones (integers, slices of any step, `...`, None), integer arrays with repeats and negative
    entries, boolean masks, and mixtures.

    >>> from hypothesis import find
    >>> key = find(tk.testing.indices((3,)), lambda key: isinstance(key, np.ndarray))
    >>> np.zeros(3)[key].ndim <= 2
    True
    """
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    found: list[SearchStrategy[Any]] = [
        hnp.basic_indices(shape, allow_newaxis=True),
        hnp.arrays(bool, shape),
    ]
    if shape and 0 not in shape:
        found.append(hnp.integer_array_indices(shape, result_shape=shapes(max_dims=2, max_side=3)))
        whole = st.just(slice(None)) | st.just(slice(None, None, -1))
        parts = [
            st.integers(-n, n - 1)
            | whole
            | st.lists(st.integers(-n, n - 1), min_size=2, max_size=2)
            for n in shape
        ]
        found.append(st.tuples(*parts))
    return st.one_of(found)


def axes(ndim: int) -> SearchStrategy[int | tuple[int, ...] | None]:
    """The `axis` argument of a reduction of `ndim` axes: None, one axis (negative too), or a tuple.

    >>> from hypothesis import find
    >>> len(find(tk.testing.axes(2), lambda axis: isinstance(axis, tuple))) <= 2
    True
    """
    from hypothesis import strategies as st
    from hypothesis.extra import numpy as hnp

    if not ndim:
        return st.none() | st.just(())
    return st.one_of(
        st.none(), st.integers(-ndim, ndim - 1), hnp.valid_tuple_axes(ndim, min_size=0)
    )
