"""Constructors of Tensors: float32 and int64 by default."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_kr.arrays.indexing import peek
from tinygrad_kr.arrays.operands import as_array, without_device
from tinygrad_kr.arrays.shape import sizes_of
from tinygrad_kr.ops.op import common_dtype, passes_on
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.tensor import Tensor

__all__ = [
    "arange", "as_tensor", "empty", "empty_like", "eye", "from_dlpack", "from_numpy", "full",
    "full_like", "linspace", "logspace", "ones", "ones_like", "rand_like", "randint_like",
    "randn_like", "tensor", "zeros",
    "zeros_like",
]  # fmt: skip


@without_device
def tensor(
    data: Any, dtype: Any = None, requires_grad: bool = False, name: str | None = None
) -> Tensor:
    """A Tensor with its own copy of `data`: numbers, nested lists, an array or a Tensor.

    dtype: by default float32 for Python floats, int64 for ints, and that of an array or Tensor.
    requires_grad: record computations with it. Floats only.
    name: what explanations and pictures call it.
    Raises TypeError for anything but real numbers. Source: torch.tensor.

    >>> tk.tensor([[1.0, 2.0], [3.0, 4.0]])
    Tensor([[1., 2.],
            [3., 4.]])
    """
    made = Tensor(np.array(as_array(data, dtype)), requires_grad=requires_grad)
    if name is not None:
        made.name = name
    if isinstance(data, Tensor) and (tracer := tracing()):
        tracer.copied(made, data)
        tracer.gives_tensor(made)
    return made


@without_device
def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """`data` as a Tensor, which shares its memory where it can.

    A Tensor stays itself, with its history; in another dtype it is converted. An array is not
    copied unless its dtype changes; Python numbers and lists are.
    dtype: by default float32 for Python floats, int64 for ints, and that of an array or Tensor.
    Raises TypeError for anything but real numbers. Source: torch.as_tensor.

    >>> a = np.array([1.0, 2.0])
    >>> tk.as_tensor(a).data is a
    True
    """
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    return Tensor(as_array(data, dtype))


def from_numpy(array: Any) -> Tensor:
    """A Tensor of an ndarray, whose memory it shares.

    Raises TypeError for anything but an ndarray of real numbers. Source: torch.from_numpy.

    >>> a = np.array([1.0, 2.0])
    >>> tk.from_numpy(a).data is a
    True
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(
            f"from_numpy: expected an ndarray, got {type(array).__name__}. Use tk.as_tensor"
        )
    return Tensor(array)


def from_dlpack(x: Any, /, *, device: str | None = None, copy: bool | None = None) -> Tensor:
    """A Tensor of the elements of `x`, an array of another library, whose memory it shares.

    x: has `__dlpack__`: an array of NumPy, PyTorch, JAX or CuPy, in the memory of the CPU.
    device: None or "cpu". copy: True copies the elements, False and None share them.

    The Tensor does not require grad. Its array is read-only where the producer says so, and where
    the producer writes a version of DLPack before 1.0, which cannot say.
    Raises TypeError for an object without `__dlpack__`, and for complex numbers; ValueError for
        another `device`; BufferError for memory of another device, an array that requires grad, and
        a dtype that NumPy lacks (bfloat16).
    Source: torch.from_dlpack, np.from_dlpack.

    >>> a = np.array([1.0, 2.0])
    >>> t = tk.from_dlpack(a)
    >>> a[0] = 5.0
    >>> t
    Tensor([5., 2.], dtype=float64)
    """
    if not hasattr(x, "__dlpack__") or not hasattr(x, "__dlpack_device__"):
        raise TypeError(
            f"from_dlpack: expected an array with __dlpack__, got {type(x).__name__}. Use "
            "tk.as_tensor"
        )
    if device not in (None, "cpu"):
        raise ValueError(f"from_dlpack: expected the device 'cpu' or None, got {device!r}.")
    if tracer := tracing():
        tracer.give_up("from_dlpack")  # the array is a new one at each call
    kind, number = x.__dlpack_device__()
    if int(kind) not in _MEMORY_OF_CPU:
        raise BufferError(
            f"from_dlpack: expected memory of the CPU, got the device ({int(kind)}, {number}). "
            "Copy it to the CPU first (x.cpu() in PyTorch)"
        )
    try:
        array = np.from_dlpack(x)
    except RuntimeError as error:  # NumPy's, for a dtype that it lacks
        raise BufferError(
            f"from_dlpack: expected a dtype of NumPy's, got {getattr(x, 'dtype', 'another')}. "
            "Convert it first"
        ) from error
    return Tensor(array.copy() if copy else array)


_MEMORY_OF_CPU = {1, 3, 11, 13}
"""Devices in DLPack's numbers that the CPU reads: itself, pinned for CUDA and ROCm, managed."""


@without_device
def zeros(*sizes: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A Tensor of the given shape, all 0.

    sizes: integers one by one, or one tuple. dtype: float32 by default.
    Raises ValueError for a negative size. Source: torch.zeros.

    >>> tk.zeros(2, 3)
    Tensor([[0., 0., 0.],
            [0., 0., 0.]])
    """
    return Tensor(np.zeros(sizes_of(sizes), dtype), requires_grad=requires_grad)


@without_device
def ones(*sizes: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A Tensor of the given shape, all 1.

    sizes: integers one by one, or one tuple. dtype: float32 by default.
    Raises ValueError for a negative size. Source: torch.ones.

    >>> tk.ones(3)
    Tensor([1., 1., 1.])
    """
    return Tensor(np.ones(sizes_of(sizes), dtype), requires_grad=requires_grad)


@without_device
def empty(*sizes: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A Tensor of the given shape whose elements are not initialised: any numbers.

    sizes: integers one by one, or one tuple. dtype: float32 by default.
    Raises ValueError for a negative size. Source: torch.empty.

    >>> tk.empty(2, 3).shape
    (2, 3)
    """
    return Tensor(np.empty(sizes_of(sizes), dtype), requires_grad=requires_grad)


@without_device
def full(size: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of shape `size`, all `fill_value`.

    size: an integer or a tuple. dtype: that of `fill_value` by default, float32 for a Python float.
    Raises ValueError for a negative size. Source: torch.full.

    >>> tk.full((2, 2), 7.0)
    Tensor([[7., 7.],
            [7., 7.]])
    """
    value = as_array(fill_value, dtype)
    if isinstance(fill_value, Tensor) and (tracer := tracing()):
        tracer.give_up("full with a Tensor as its value")
    return Tensor(np.full(sizes_of((size,)), value), requires_grad=requires_grad)


@without_device
def eye(
    n: int, m: int | None = None, dtype: Any = np.float32, requires_grad: bool = False
) -> Tensor:
    """The identity matrix: an (n, m) Tensor, 1 on the diagonal and 0 elsewhere.

    m: `n` by default. dtype: float32 by default.
    Raises ValueError for a negative size. Source: np.eye, torch.eye.

    >>> tk.eye(2)
    Tensor([[1., 0.],
            [0., 1.]])
    """
    return Tensor(np.eye(n, m, dtype=dtype), requires_grad=requires_grad)


@without_device
def arange(
    start: float,
    end: float | None = None,
    step: float = 1,
    dtype: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """The numbers from `start` up to `end`, exclusive, in steps of `step`.

    With one bound, `start` is 0. dtype: int64 for integers, else float32. With an integer dtype
    the bounds and the step lose their fractions first.
    start, end, step: numbers, or Tensors of one; the result has no gradient.
    Raises ZeroDivisionError for a step of 0, ValueError for other shapes.
    Source: np.arange, torch.arange.

    >>> tk.arange(3)
    Tensor([0, 1, 2])
    """
    start, end = (0, start) if end is None else (start, end)
    numbers = [_number(x, "arange") for x in (start, end, step)]
    if _is_integer(dtype):
        numbers = [int(x) for x in numbers]
    return Tensor(_default(np.arange(*numbers), dtype), requires_grad=requires_grad)


@without_device
def linspace(
    start: float, end: float, steps: int, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """`steps` evenly spaced numbers from `start` to `end`, both included.

    start, end, steps: numbers, or Tensors of one; the result has no gradient.
    dtype: float32 by default. Computed in float64. With an integer dtype the ends lose their
        fractions first, the numbers between them afterwards.
    Raises ValueError if `steps` is negative, or for other shapes.
    Source: torch.linspace.

    >>> tk.linspace(0, 1, 3)
    Tensor([0. , 0.5, 1. ])
    """
    start, end, steps = (_number(x, "linspace") for x in (start, end, steps))
    if _is_integer(dtype):
        start, end = int(start), int(end)
    return Tensor(_default(np.linspace(start, end, steps), dtype), requires_grad=requires_grad)


def _number(x: Any, name: str) -> Any:
    """The Python number in a Tensor, array or NumPy scalar, so that NumPy counts in float64."""
    if not isinstance(x, Tensor | np.ndarray | np.generic):
        return x
    if x.ndim:
        raise ValueError(f"{name}: expected numbers, got shape {x.shape}.")
    return peek(x).item()


@without_device
def logspace(
    start: Any,
    end: Any,
    steps: int,
    base: float = 10.0,
    dtype: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """`steps` numbers from base^start to base^end, both included, with evenly spaced exponents.

    start, end: numbers, or 0-d Tensors, through which gradients flow.
    dtype: float32 by default. With an integer dtype the ends lose their fractions first, the
        numbers between them afterwards. Raises ValueError if `steps` is negative.
    Source: torch.logspace, np.logspace.

    >>> tk.logspace(0, 2, 3)
    Tensor([  1.,  10., 100.])
    """
    if steps < 0:
        raise ValueError(f"logspace: expected steps of at least 0, got {steps}.")
    if _is_integer(dtype):
        start, end = (int(_number(x, "logspace")) for x in (start, end))
    if isinstance(start, Tensor) or isinstance(end, Tensor):
        share = np.arange(steps) / max(steps - 1, 1)
        y: Tensor = base ** (start * (1 - share) + end * share)
        y = y.to(common_dtype((start, end)) if dtype is None else dtype)
        return y.requires_grad_(requires_grad or y.requires_grad)
    return Tensor(_default(np.logspace(start, end, steps, base=base), dtype), None, requires_grad)


def _is_integer(dtype: Any) -> bool:
    return dtype is not None and np.dtype(dtype).kind in "iu"


def _default(array: Any, dtype: Any) -> Any:
    if dtype is not None:
        return array.astype(dtype)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


@without_device
def zeros_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of the shape of `x`, all 0.

    dtype: that of `x` by default. Source: torch.zeros_like.

    >>> tk.zeros_like(tk.tensor([1, 2]))
    Tensor([0, 0])
    """
    return Tensor(np.zeros_like(as_array(x), dtype), requires_grad=requires_grad)


@without_device
def ones_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of the shape of `x`, all 1.

    dtype: that of `x` by default. Source: torch.ones_like.

    >>> tk.ones_like(tk.tensor([1, 2]))
    Tensor([1, 1])
    """
    return Tensor(np.ones_like(as_array(x), dtype), requires_grad=requires_grad)


@without_device
def empty_like(x: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of the shape of `x` whose elements are not initialised: any numbers.

    dtype: that of `x` by default. Source: torch.empty_like.

    >>> tk.empty_like(tk.tensor([1, 2])).shape
    (2,)
    """
    return Tensor(np.empty_like(as_array(x), dtype), requires_grad=requires_grad)


@without_device
def full_like(x: Any, fill_value: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A Tensor of the shape of `x`, all `fill_value`.

    dtype: that of `x` by default. Source: torch.full_like.

    >>> tk.full_like(tk.tensor([1, 2]), 7)
    Tensor([7, 7])
    """
    return Tensor(np.full_like(as_array(x), fill_value, dtype), requires_grad=requires_grad)


@passes_on("rand")
@without_device
def rand_like(
    x: Any, generator: Any = None, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform random numbers on [0, 1), of the shape and dtype of `x`.

    generator: a np.random.Generator, the default one if none is given.
    dtype: a floating one, that of `x` by default.
    Raises TypeError for another dtype. Source: torch.rand_like.

    >>> tk.rand_like(tk.zeros(2, 3)).shape
    (2, 3)
    """
    from tinygrad_kr.random import rand

    x = as_array(x)
    dtype = x.dtype if dtype is None else dtype
    return rand(x.shape, generator=generator, dtype=dtype, requires_grad=requires_grad)


@passes_on("randn")
@without_device
def randn_like(
    x: Any, generator: Any = None, *, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Standard normal random numbers, of the shape and dtype of `x`.

    generator: a np.random.Generator, the default one if none is given.
    dtype: a floating one, that of `x` by default.
    Raises TypeError for another dtype. Source: torch.randn_like.

    >>> tk.randn_like(tk.zeros(2, 3)).shape
    (2, 3)
    """
    from tinygrad_kr.random import randn

    x = as_array(x)
    dtype = x.dtype if dtype is None else dtype
    return randn(x.shape, generator=generator, dtype=dtype, requires_grad=requires_grad)


@passes_on("randint")
@without_device
def randint_like(
    x: Any,
    low: int,
    high: int | None = None,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    generator: Any = None,
) -> Tensor:
    """Random integers from `low` up to `high`, exclusive, of the shape and dtype of `x`.

    With one bound, `low` is 0. dtype: that of `x` by default.
    generator: a np.random.Generator, the default one if none is given.
    Raises ValueError if no integer lies between the bounds. Source: torch.randint_like.

    >>> tk.randint_like(tk.zeros(2, 3), 10).shape
    (2, 3)
    """
    from tinygrad_kr.random import randint

    x = as_array(x)
    low, high = (0, low) if high is None else (low, high)
    drawn = {"dtype": x.dtype if dtype is None else dtype, "requires_grad": requires_grad}
    return randint(low, high, x.shape, generator=generator, **drawn)


def __dir__() -> list[str]:
    return __all__
