"""`Tensor`: a NumPy array with the graph that computed it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from opcode import opmap
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.arrays import (
    comparison,
    reduction,
    statistics,
)
from tinygrad_kr.arrays import (
    elementwise as array_elementwise,
)
from tinygrad_kr.arrays import (
    indexing as array_indexing,
)
from tinygrad_kr.arrays import (
    products as array_products,
)
from tinygrad_kr.arrays import (
    shape as array_shape,
)
from tinygrad_kr.arrays.indexing import plain_key
from tinygrad_kr.arrays.operands import (
    as_array,
    as_dtype,
    cast_floating,
    either_name,
    number_as_vector,
    without_device,
)
from tinygrad_kr.grad_mode import is_transforming
from tinygrad_kr.ops import elementwise, indexing, network, shape
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.ops.node import (
    OFF,
    Node,
    constant,
    current_mode,
    note_created,
    notes_of,
    own_notes,
    tick,
)
from tinygrad_kr.ops.op import (
    alias,
    astype,
    begin_with,
    has_float_tensor,
    make_results_of,
    numpy_table,
    refuse_masked,
)
from tinygrad_kr.ops.tracing import tracers, tracing
from tinygrad_kr.ops.writes import bump_versions, last_change, last_write

__all__ = ["Tensor"]


@cache
def _numpy_functions() -> dict[Any, Callable[..., Any]]:
    """NumPy's functions on Tensors, registered when the first of them is called."""
    from tinygrad_kr import numpy_protocol as numpy_protocol

    return numpy_table


@cache
def _of_integers() -> Callable[..., Any]:
    from tinygrad_kr.numpy_protocol import of_integers

    return of_integers


def note_change() -> None:
    """Invalidate the guards of compiled functions: a module or a leaf has changed."""
    last_change.time = tick()


now: Callable[[], int] = tick
"""The time, on the clock that orders ops."""


def note_call(output: Any, module: Any, start: int | list[int]) -> None:
    """Note on the results that a module's call, begun at `start`, computed that they end it.

    What was there before, an input or a parameter, is left alone: it may be returned at each step.
    """
    if isinstance(output, Node):
        began = start if type(start) is int else start[0]  # type: ignore[index]
        if output._requires_grad and output._op is not None and output._made > began:
            output._call = module, start, output._call
    elif isinstance(output, tuple | list):
        for part in output:
            note_call(part, module, start)
    elif isinstance(output, dict):
        for part in output.values():
            note_call(part, module, start)


def _refuse(what: str) -> None:
    """Stop a trace that needs a Tensor's values, which are not known while tracing."""
    if tracer := tracing():
        tracer.refuse(what)


def _no_history(name: str) -> str:
    return (
        f"{name}: expected a constant, got a Tensor that requires grad; an ndarray has no history. "
        "Call .detach() first, or make one Tensor of several with tk.stack"
    )


_CPU = (1, 0)
"""The only device, in DLPack's numbers."""
_EXPORTS_NO_VERSION = np.lib.NumpyVersion(np.__version__) < "2.1.0"
"""Whether NumPy knows DLPack before 1.0 alone."""
_UNSTATED: Any = object()
"""No `copy` at all, where NumPy says None."""


def _escapes(what: str) -> None:
    """Give up a trace that would lose track of a Tensor's values."""
    if tracer := tracing():
        tracer.give_up(what)


_softmax = number_as_vector(network.softmax)
_log_softmax = number_as_vector(network.log_softmax)


def _flipped(binary: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: binary(other, self)


def _in_place(binary: Callable[..., Any], name: str) -> Callable[[Any, Any], Any]:
    """`t += x`: writes into a leaf or constant; makes a new Tensor where a gradient must flow."""

    def assign(self: Tensor, other: Any) -> Any:
        tracked = self._requires_grad or (isinstance(other, Node) and other._requires_grad)
        if tracked and current_mode() != OFF:
            if self._requires_grad and self._op is None:
                raise RuntimeError(
                    f"{name}: expected a constant, got a leaf that requires grad. Write it under "
                    "`with no_grad():`, or make a new Tensor (`w = w - ...`)"
                )
            return binary(self, other)
        result = binary(self, other)
        if not np.can_cast(result.dtype, self.dtype, "same_kind"):
            raise TypeError(
                f"{name}: expected a result of {self.dtype}, got {result.dtype}. Write "
                f"t = t {name[:-1]} ... for a new Tensor"
            )
        self._overwrite(..., result._data, name)
        return self

    return assign


def method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays as a method of `Tensor`: without the check whether `x` is a list."""
    unwrapped: Callable[..., Any] = getattr(function, "__wrapped__")  # noqa: B009
    unwrapped.__module__, unwrapped.__qualname__ = __name__, f"Tensor.{unwrapped.__name__}"
    return unwrapped


def _written_by(name: str, formula: str) -> Callable[..., Any]:
    """A method that overwrites a leaf or constant with the result of the method `name`."""

    def write(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        self._refuse_write(f"{name}_")
        try:
            result = getattr(self, name)(*args, **kwargs)
        except Exception as error:
            begin_with(error, f"{name}_", name)
            raise
        if not np.can_cast(result.dtype, self.dtype, "same_kind"):
            raise TypeError(
                f"{name}_: expected a result of {self.dtype}, got {result.dtype}. Write "
                f"t = t.{name}(...) for a new Tensor"
            )
        if result.shape != self.shape:
            raise ValueError(
                f"{name}_: expected a result of shape {self.shape}, got {result.shape}. Write "
                f"t = t.{name}(...) for a new Tensor"
            )
        self._overwrite(..., result, f"{name}_")
        return self

    write.__name__, write.__qualname__ = f"{name}_", f"Tensor.{name}_"
    write.__doc__ = _IN_PLACE.format(
        name=name, formula=formula, arguments=_IN_PLACE_ARGUMENTS.get(name, "")
    )
    return write


_IN_PLACE = """Overwrite the elements with {formula}, and return the Tensor: `{name}` in place.

The arguments are those of `{name}`.
Raises RuntimeError for a computed Tensor, for a leaf that requires grad outside `no_grad()`, and
    for a result that requires grad; TypeError for a result that its dtype does not hold.
Source: torch.Tensor.{name}_.

>>> w = tk.tensor([[0.25, 0.5], [1.0, 2.0]], requires_grad=True)
>>> with tk.no_grad():
...     w.{name}_({arguments}) is w
True
"""


_IN_PLACE_ARGUMENTS = {
    **dict.fromkeys(("add", "sub", "mul", "div", "pow", "remainder"), "2.0"),
    **dict.fromkeys(("addcmul", "addcdiv"), "2.0, 4.0, value=0.5"),
    "addmm": "tk.ones(2, 1), tk.ones(1, 2)",
    "lerp": "1.0, 0.5",
    "clamp": "0.0, 1.0",
    "masked_fill": "[True, False], 0.0",
    "scatter": "1, [[0], [1]], 7.0",
    "scatter_add": "1, [[0], [1]], tk.ones(2, 1)",
    "scatter_reduce": '1, [[0], [1]], tk.ones(2, 1), "amax"',
}
"""The arguments of the examples in docstrings."""


class Tensor(Node):
    """An array whose history can be differentiated.

    data: Python numbers and lists become float32, int64 or bool; an ndarray keeps its dtype and is
        not copied; a Tensor is detached.
    dtype: of the elements, that of `data` by default.
    requires_grad: record computations with it, so that `backward()` fills `.grad`. Floats only.
    Raises TypeError for anything but real numbers, and for a gradient of integers.

    >>> x = tk.Tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    Tensor([2., 4.])
    """

    __slots__ = ()

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False) -> None:
        self._data = as_array(data, dtype)
        self._grad = self._hooks = self._op = None
        self._requires_grad = False
        if requires_grad:
            self._check_floats()
            self._requires_grad = True
        if tracers:
            note_created(self)
            if isinstance(data, Node) and (tracer := tracing()):
                tracer.copied(self, data)
                tracer.gives_tensor(self)

    # -------------------------------------------------------------- properties

    @property
    def data(self) -> ndarray:
        """The ndarray itself, not a copy. `backward()` notices when another array is assigned.

        Assigning raises RuntimeError for a computed Tensor, TypeError for anything but real
        numbers.

        >>> tk.tensor([1.0, 2.0]).data
        array([1., 2.], dtype=float32)
        """
        _escapes(".data")
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        array = as_array(value)
        if self._op is not None:
            raise RuntimeError("data: expected a leaf, got a computed Tensor. Use .detach() first")
        if self._requires_grad and array.dtype.kind != "f":
            raise TypeError(f"data: expected floats where grad is required, got {array.dtype}.")
        _escapes(".data = ...")
        if array.shape != self._data.shape or array.dtype != self._data.dtype:
            note_change()
        self._data = array
        bump_versions([self], ".data = ...", rebound=True)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` accumulated, of the Tensor's shape and dtype, or None.

        Assigning raises ValueError for another shape, TypeError for another dtype.

        >>> x = tk.tensor(3.0, requires_grad=True)
        >>> (x * x).backward()
        >>> x.grad
        Tensor(6.)
        """
        if tracer := tracing():
            tracer.read_gradient(self)
        gradient = self._grad
        last_write.read = object()  # after that: a step of another thread may come between
        return gradient  # type: ignore[no-any-return]

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            value = value if isinstance(value, Tensor) else Tensor(value)
            if value.shape != self.shape:
                raise ValueError(f"grad: expected shape {self.shape}, got {value.shape}.")
            if value.dtype != self.dtype:
                raise TypeError(f"grad: expected {self.dtype}, got {value.dtype}.")
        if tracer := tracing():
            tracer.touch_gradient(self)
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through it.

        Assigning raises TypeError for integers, RuntimeError to stop a computed Tensor.

        >>> x = tk.tensor([1.0], requires_grad=True)
        >>> (x + 1).requires_grad
        True
        """
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value:
            self._check_floats()
        if not value and self._op is not None:
            raise RuntimeError(
                "requires_grad: expected a leaf, got a computed Tensor. Use .detach()"
            )
        if value != self._requires_grad:
            note_change()
            self._requires_grad = bool(value)

    def _check_floats(self) -> None:
        if self._data.dtype.kind != "f":
            raise TypeError(
                f"requires_grad: expected floats, got {self._data.dtype}. Use dtype=np.float32 or "
                "write 1.0 for 1"
            )

    @property
    def name(self) -> str | None:
        """What explanations and pictures call the Tensor; None if they find a name themselves.

        Assign a string, or None. Raises TypeError for anything else. Source: tf.Variable.name.

        >>> x = tk.tensor(2.0, requires_grad=True)
        >>> x.name = "weight"
        >>> x.name
        'weight'
        """
        _escapes("it reads the name of a Tensor")
        return notes_of(self).name

    @name.setter
    def name(self, value: str | None) -> None:
        if value is not None and (not isinstance(value, str) or not value):
            raise TypeError(f"name: expected a name, got {value!r:.60}. Assign a string or None")
        _escapes("it names a Tensor")
        own_notes(self).name = value

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` and return the Tensor itself.

        Raises TypeError for integers, RuntimeError to stop a computed Tensor.
        Source: torch.Tensor.requires_grad_.

        >>> tk.tensor([1.0]).requires_grad_()
        Tensor([1.], requires_grad=True)
        """
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether it was made rather than computed; `backward()` fills `.grad` of leaves alone.

        >>> x = tk.tensor([1.0], requires_grad=True)
        >>> x.is_leaf, (x + 1).is_leaf
        (True, False)
        """
        return self._op is None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes, a tuple.

        >>> tk.zeros(2, 3).shape
        (2, 3)
        """
        return self._data.shape

    @property
    def ndim(self) -> int:
        """Number of axes.

        >>> tk.zeros(2, 3).ndim
        2
        """
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of elements, as in NumPy (PyTorch's `size()` is `shape`).

        >>> tk.zeros(2, 3).size
        6
        """
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy dtype of the elements.

        >>> tk.zeros(2, 3).dtype
        dtype('float32')
        """
        return self._data.dtype

    @property
    def T(self) -> Tensor:
        """The axes in reverse order: the transpose of a matrix.

        Gradient: g.T.

        >>> tk.zeros(2, 3).T.shape
        (3, 2)
        """
        return shape.transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged: the transpose of each matrix.

        Gradient: g.mT. Raises ValueError for less than two axes.

        >>> tk.zeros(5, 2, 3).mT.shape
        (5, 3, 2)
        """
        if self._data.ndim < 2:
            raise ValueError(f"mT: expected at least 2 axes, got shape {self.shape}.")
        return shape.swapaxes(self, axis1=-1, axis2=-2)

    @property
    def mH(self) -> Tensor:
        """The conjugate transpose of each matrix: `mT`, as our numbers are real.

        Gradient: g.mT. Raises ValueError for less than two axes. Source: torch.Tensor.mH.

        >>> tk.zeros(5, 2, 3).mH.shape
        (5, 3, 2)
        """
        return self.mT

    def dim(self) -> int:
        """Number of axes; PyTorch's name for `ndim`.

        >>> tk.zeros(2, 3).dim()
        2
        """
        return self._data.ndim

    def numel(self) -> int:
        """Number of elements; PyTorch's name for `size`.

        >>> tk.zeros(2, 3).numel()
        6
        """
        return self._data.size

    def numpy(self) -> ndarray:
        """The elements as an ndarray, which shares their memory.

        Raises RuntimeError if the Tensor requires grad: an ndarray has no history.

        >>> tk.tensor([1.0, 2.0]).numpy()
        array([1., 2.], dtype=float32)
        """
        if self._requires_grad:
            raise RuntimeError(_no_history(".numpy()"))
        _refuse(".numpy()")
        return np.array(self._data, copy=None)

    def __dlpack__(
        self,
        *,
        stream: None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = _UNSTATED,
    ) -> Any:
        """The elements as a DLPack capsule, for `from_dlpack` of NumPy, PyTorch or JAX.

        The capsule shares the memory, unless `copy` is True. `backward()` does not notice what the
        consumer writes. A read-only array needs a `max_version` of at least (1, 0), or a copy.
        A consumer that says nothing of `copy` is PyTorch or JAX. It gets a copy of an array with
        negative strides, such as `x.flip(0)`: PyTorch ends the process at these, of NumPy's arrays
        too. NumPy 2.1 and later says `copy`, and shares.
        stream: None, as memory of the CPU has none. dl_device: (1, 0), the CPU, or None.
        Raises BufferError for a Tensor that requires grad, another device, and what NumPy does not
            export: a read-only array without a version, swapped bytes, long double; RuntimeError
            for a stream.
        Source: the Python array API standard.

        >>> t = tk.tensor([1.0, 2.0])
        >>> a = np.from_dlpack(t)
        >>> np.shares_memory(a, t.data)
        True
        """
        if self._requires_grad:
            raise BufferError(
                "__dlpack__: expected a constant, got a Tensor that requires grad; shared memory "
                "has no history. Call .detach() first"
            )
        if stream is not None:
            raise RuntimeError(f"__dlpack__: expected no stream, got {stream!r}. Leave it out")
        if dl_device is not None and tuple(dl_device) != _CPU:
            raise BufferError(
                f"__dlpack__: expected the CPU, {_CPU}, got {tuple(dl_device)}. Leave it out"
            )
        _escapes("__dlpack__")
        array = self._data
        if copy is _UNSTATED:
            copy = not _EXPORTS_NO_VERSION and min(array.strides, default=0) < 0
        array = array.copy() if copy else array
        if max_version is None or _EXPORTS_NO_VERSION:
            return array.__dlpack__()
        return array.__dlpack__(max_version=max_version)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The device of the memory in DLPack's numbers: always (1, 0), the CPU.

        Source: the Python array API standard.

        >>> tk.tensor([1.0]).__dlpack_device__()
        (1, 0)
        """
        return _CPU

    def item(self) -> float | int | bool:
        """The Python number in a Tensor of one element.

        Raises ValueError for another number of elements.

        >>> tk.tensor([[3]]).item()
        3
        """
        if self._data.size != 1:
            raise ValueError(f"item: expected one element, got shape {self.shape}. Use .tolist()")
        _refuse(".item()")
        return self._data.item()  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        """The elements as nested Python lists, or as a number.

        >>> tk.tensor([[1, 2], [3, 4]]).tolist()
        [[1, 2], [3, 4]]
        """
        _refuse(".tolist()")
        return self._data.tolist()

    def detach(self) -> Tensor:
        """The same memory without the history; gradients stop here.

        >>> x = tk.tensor([1.0], requires_grad=True)
        >>> x.detach()
        Tensor([1.])
        """
        return constant(self._data)  # type: ignore[no-any-return]

    @property
    def is_sparse(self) -> bool:
        """Whether it has the values of some rows alone: the gradient of a sparse embedding.

        >>> tk.ones(2).is_sparse
        False
        """
        return False

    def to_dense(self) -> Tensor:
        """The Tensor itself; of a sparse gradient, all its elements.

        >>> tk.ones(2).to_dense()
        Tensor([1., 1.])
        """
        return self

    def clone(self) -> Tensor:
        """A copy with its own memory, through which gradients flow.

        Gradient: g.

        >>> x = tk.tensor([1.0, 2.0])
        >>> y = x.clone()
        >>> y[0] = 9.0
        >>> x
        Tensor([1., 2.])
        """
        if self._data.dtype == np.bool_:
            copy: Tensor = constant(self._data.copy("K"))
            if tracer := tracing():
                tracer.copied(copy, self)
            return copy
        return elementwise.positive(self)

    copy = clone

    def contiguous(self) -> Tensor:
        """The Tensor itself, for PyTorch's sake: NumPy reads any memory layout.

        >>> x = tk.zeros(2, 3).T
        >>> x.contiguous() is x
        True
        """
        return self

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if not self._data.ndim:
            raise TypeError("iter: expected at least 1 axis, got a 0-d Tensor. Use .item()")
        return (self[i] for i in range(len(self._data)))

    def __bool__(self) -> bool:
        _refuse("bool() or `if`")
        return bool(self._data)

    def __float__(self) -> float:
        number = float(self._number("float"))
        if self._requires_grad and is_transforming():
            raise TypeError(
                "float: expected a constant, got a Tensor that is differentiated; a number has no "
                "history. Use NumPy's function for one of `math` (np.sin for math.sin), or .item() "
                "for a mere number"
            )
        return number

    def __int__(self) -> int:
        return int(self._number("int"))

    def __index__(self) -> int:
        _refuse("an index")
        return self._data.__index__()

    def __complex__(self) -> complex:
        raise TypeError("complex: expected real numbers, got a complex one. Use two real Tensors")

    def _number(self, kind: str) -> float | int | bool:
        if self._data.size != 1:
            raise TypeError(f"{kind}: expected one element, got shape {self.shape}.")
        _refuse(f"{kind}()")
        if self._requires_grad and _assigned_by_index(sys._getframe(2)):
            raise RuntimeError(
                "a[...] = t: expected a constant, got a Tensor that requires grad, whose history "
                "an ndarray would lose. Assign t.detach(), or use tk.stack or tk.where"
            )
        return self._data.item()  # type: ignore[no-any-return]

    def __contains__(self, value: Any) -> bool:
        _refuse("`in`")
        return bool((self._data == (value._data if isinstance(value, Node) else value)).any())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(str(self), spec)

    def __repr__(self) -> str:
        _refuse("repr() or print()")
        body = np.array2string(self._data, separator=", ", prefix="Tensor(", threshold=100)
        notes = []
        if self._data.dtype not in (np.float32, np.int64, np.bool_) or not self._data.size:
            notes.append(f"dtype={self._data.dtype}")
        if not self._data.size:
            notes.append(f"shape={self.shape}")
        if self._op is not None:
            notes.append(f"op={self._op.__name__}")
        elif self._requires_grad:
            notes.append("requires_grad=True")
        return f"Tensor({', '.join([body, *notes])})"

    def _repr_html_(self) -> str:
        """In a notebook: shape and dtype, what the elements are, a heat map of a matrix."""
        _refuse("a display")
        from tinygrad_kr import html
        from tinygrad_kr.language import Text

        array, notes = self._data, [f"Tensor {self.shape}", str(self._data.dtype)]
        if self._op is not None:
            notes.append(f"op={self._op.__name__}")
        elif self._requires_grad:
            notes.append("requires_grad=True")
        if not array.size:
            return html.block(", ".join(notes), html.line(Text("empty", "비어 있음").say()))
        found = html.facts(array)
        range_of = Text("from {low} to {high}, mean {mean}", "{low} ~ {high}, 평균 {mean}")
        numbers = {name: html.number(getattr(found, name)) for name in ("low", "high", "mean")}
        told = range_of.say(**numbers) if found.finite and array.size > 1 else ""
        if found.nans or found.infinite:
            told += f"{'; ' * bool(told)}NaN: {found.nans:,}, inf: {found.infinite:,}"
        heat = Text("heat map of {shape}: {told}", "{shape} 열지도: {told}")
        picture = ""
        if array.ndim == 2 and array.size > 1:
            picture = html.heat_map(array, heat.say(shape=self.shape, told=told))
        values = html.plain(np.array2string(array, separator=", ", threshold=100))
        if array.size > (36 if picture else 100):
            values = html.folded(Text("values", "값").say(), values)
        return html.block(", ".join(notes), html.line(told), picture, values)

    # -------------------------------------------------------------- differentiation

    # `backward`, `retain_grad` and `register_hook` are functions of `autodiff`, which adds them.
    if TYPE_CHECKING:

        def backward(
            self,
            gradient: Any = None,
            retain_graph: bool | None = None,
            create_graph: bool = False,
        ) -> None: ...

        def retain_grad(self) -> None: ...

        def register_hook(self, hook: Callable[[Tensor], Any]) -> Any: ...

    # -------------------------------------------------------------- writing

    def _overwrite(self, key: Any, value: Any, what: str) -> None:
        """Write into the array, unless gradients flow through it; `backward()` takes notice."""
        self._refuse_write(what)
        given = value
        if isinstance(value, Node):
            if value._requires_grad and current_mode() != OFF:
                raise RuntimeError(
                    f"{what}: expected a constant value, got a Tensor that requires grad. Use "
                    "tk.where, tk.stack or tk.concatenate, or write its .detach()"
                )
            value = value._data
        elif type(value) is not ndarray:
            refuse_masked(value, what)
        tracer = tracing()
        if tracer is not None:
            tracer.about_to_write(self)
        self._data[key] = value
        bump_versions([self], what)
        if tracer is not None:
            tracer.written(self, key, given, what)

    def _refuse_write(self, what: str) -> None:
        """Raise RuntimeError where gradients flow through the Tensor."""
        if self._op is not None:
            raise RuntimeError(
                f"{what}: expected a leaf, got the result of {self._op.__name__}, part of a graph. "
                "Use .detach().clone() first, or tk.where to make a new Tensor"
            )
        if self._requires_grad and current_mode() != OFF:
            raise RuntimeError(
                f"{what}: expected a constant, got a leaf that requires grad. Write it under "
                "`with no_grad():`"
            )

    def __setitem__(self, key: Any, value: Any) -> None:
        self._overwrite(plain_key(key), value, "t[...] = ...")

    def copy_(self, source: Any) -> Tensor:
        """Overwrite the elements with those of `source`, which broadcasts, and return the Tensor.

        Raises RuntimeError for a computed Tensor, and for a leaf that requires grad outside
            `no_grad()`.
        Source: torch.Tensor.copy_.

        >>> tk.zeros(2).copy_([1.0, 2.0])
        Tensor([1., 2.])
        """
        self._overwrite(..., source, "copy_")
        return self

    def fill_(self, value: float) -> Tensor:
        """Overwrite every element with `value` and return the Tensor.

        Raises RuntimeError for a computed Tensor, and for a leaf that requires grad outside
            `no_grad()`.
        Source: torch.Tensor.fill_.

        >>> tk.zeros(2).fill_(3.0)
        Tensor([3., 3.])
        """
        self._overwrite(..., value, "fill_")
        return self

    def zero_(self) -> Tensor:
        """Overwrite every element with 0 and return the Tensor.

        Raises RuntimeError for a computed Tensor, and for a leaf that requires grad outside
            `no_grad()`.
        Source: torch.Tensor.zero_.

        >>> tk.ones(2).zero_()
        Tensor([0., 0.])
        """
        return self.fill_(0)

    add_ = _written_by("add", "x + other")
    sub_ = _written_by("sub", "x - other")
    subtract_ = alias("subtract_", sub_, owner="Tensor")
    mul_ = _written_by("mul", "x other")
    multiply_ = alias("multiply_", mul_, owner="Tensor")
    div_ = _written_by("div", "x / other")
    divide_ = alias("divide_", div_, owner="Tensor")
    true_divide_ = alias("true_divide_", div_, owner="Tensor")
    pow_ = _written_by("pow", "x^other")
    remainder_ = _written_by("remainder", "x - other floor(x / other)")
    addcmul_ = _written_by("addcmul", "x + value a b")
    addcdiv_ = _written_by("addcdiv", "x + value a / b")
    addmm_ = _written_by("addmm", "beta x + alpha a b")
    lerp_ = _written_by("lerp", "x + weight (end - x)")
    clamp_ = _written_by("clamp", "x limited to [min, max]")
    clip_ = alias("clip_", clamp_, owner="Tensor")
    masked_fill_ = _written_by("masked_fill", "`value` where `mask` holds")
    nan_to_num_ = _written_by("nan_to_num", "numbers in place of NaN and infinities")
    abs_ = _written_by("abs", "|x|")
    absolute_ = alias("absolute_", abs_, owner="Tensor")
    neg_ = _written_by("neg", "-x")
    negative_ = alias("negative_", neg_, owner="Tensor")
    exp_, log_ = _written_by("exp", "e^x"), _written_by("log", "log(x)")
    sqrt_, square_ = _written_by("sqrt", "sqrt(x)"), _written_by("square", "x^2")
    reciprocal_ = _written_by("reciprocal", "1 / x")
    sin_, cos_ = _written_by("sin", "sin(x)"), _written_by("cos", "cos(x)")
    tanh_, sigmoid_ = _written_by("tanh", "tanh(x)"), _written_by("sigmoid", "1 / (1 + e^-x)")
    relu_ = _written_by("relu", "max(x, 0)")
    floor_, ceil_ = _written_by("floor", "floor(x)"), _written_by("ceil", "ceil(x)")
    round_, trunc_ = _written_by("round", "x rounded"), _written_by("trunc", "trunc(x)")
    sign_ = _written_by("sign", "the sign of x")
    tril_ = _written_by("tril", "the lower triangle of x")
    triu_ = _written_by("triu", "the upper triangle of x")
    scatter_ = _written_by("scatter", "x with `src` at an index")
    scatter_add_ = _written_by("scatter_add", "x with `src` added at an index")
    scatter_reduce_ = _written_by("scatter_reduce", "x with `src` reduced into it")

    __iadd__ = _in_place(elementwise.add, "+=")
    __isub__ = _in_place(elementwise.subtract, "-=")
    __imul__ = _in_place(elementwise.multiply, "*=")
    __itruediv__ = _in_place(elementwise.divide, "/=")
    __ipow__ = _in_place(elementwise.power, "**=")

    # -------------------------------------------------------------- NumPy's protocols

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        if self._requires_grad:
            raise RuntimeError(_no_history("np.asarray"))
        _refuse("np.asarray()")
        return np.array(self._data, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        out = kwargs.pop("out", None)
        if out is not None:
            return _into_arrays(ufunc, method, inputs, out, kwargs)
        called = ufunc if method == "__call__" else getattr(ufunc, method, None)
        function = _numpy_functions().get(called)
        if self._data.dtype.kind != "f" and not has_float_tensor(inputs):
            found = _of_integers()(called, function, inputs, kwargs)
            if found is not NotImplemented:
                return found
        if function is None or (kwargs and kwargs.keys() - {"axis", "keepdims"}):
            extra = f" with {', '.join(kwargs)}" if function is not None else ""
            dot = "" if method == "__call__" else f".{method}"
            name, fix = _name_and_fix(ufunc)
            raise TypeError(f"{name}{dot}{extra} is not supported on Tensors. {fix}")
        return function(*inputs, **kwargs)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        function = _numpy_functions().get(func)
        if self._data.dtype.kind != "f" and not has_float_tensor((args, kwargs)):
            found = _of_integers()(func, function, args, kwargs)
            if found is not NotImplemented:
                return found
        if function is None:
            module = getattr(func, "__module__", "numpy").replace("numpy", "np", 1)
            raise TypeError(
                f"{module}.{func.__name__} is not supported on Tensors. Use .detach().numpy() "
                "where no gradient is needed"
            )
        if kwargs.get("out") is not None:
            raise TypeError(
                f"np.{func.__name__}: expected no `out=`, got one, and an ndarray has no history. "
                "Make a new Tensor, or use .detach().numpy()"
            )
        return function(*args, **kwargs)

    @property
    def _mask(self) -> Any:
        """Read by `np.ma`: its operators take the array out of a Tensor, without the gradient."""
        if sys._getframe(1).f_code.co_name == "getmask":
            raise TypeError(
                "np.ma: expected arrays, got a Tensor. Use .filled(value) of the masked array, or "
                ".detach().numpy() of the Tensor"
            )
        raise AttributeError("'Tensor' object has no attribute '_mask'")

    # -------------------------------------------------------------- copying

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy: Tensor = type(self).__new__(type(self))
        memo[id(self)] = copy
        self._copy_into(copy)
        return copy

    def _copy_into(self, copy: Tensor) -> None:
        if self._op is not None:
            raise RuntimeError(
                "copy: expected a leaf, got a computed Tensor. Use .detach() or .clone()"
            )
        _escapes("copy")
        Tensor.__init__(copy, self._data.copy("K"), requires_grad=self._requires_grad)
        gradient = self._grad  # once: another thread may set it to None meanwhile
        if gradient is not None:
            copy._grad = Tensor(gradient._data.copy("K"))

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __reduce__(self) -> Any:
        if self._op is not None:
            raise RuntimeError("pickle: expected a leaf, got a computed Tensor. Use .detach()")
        _escapes("pickle")
        return type(self), (self._data, None, self._requires_grad)

    # -------------------------------------------------------------- operators

    __hash__ = object.__hash__
    __add__, __radd__ = elementwise.add, _flipped(elementwise.add)
    __sub__, __rsub__ = elementwise.subtract, _flipped(elementwise.subtract)
    __mul__, __rmul__ = elementwise.multiply, _flipped(elementwise.multiply)
    __truediv__, __rtruediv__ = elementwise.divide, _flipped(elementwise.divide)
    __mod__, __rmod__ = elementwise.remainder, _flipped(elementwise.remainder)
    __pow__, __rpow__ = elementwise.power, _flipped(elementwise.power)
    __floordiv__, __rfloordiv__ = elementwise.floor_divide, _flipped(elementwise.floor_divide)
    __matmul__, __rmatmul__ = matmul, _flipped(matmul)
    __and__, __rand__ = elementwise.bitwise_and, _flipped(elementwise.bitwise_and)
    __or__, __ror__ = elementwise.bitwise_or, _flipped(elementwise.bitwise_or)
    __xor__, __rxor__ = elementwise.bitwise_xor, _flipped(elementwise.bitwise_xor)
    __invert__ = elementwise.invert
    __neg__, __pos__, __abs__ = elementwise.negative, elementwise.positive, elementwise.absolute
    __eq__, __ne__ = elementwise.equal, elementwise.not_equal  # type: ignore[assignment]
    __lt__, __le__ = elementwise.less, elementwise.less_equal
    __gt__, __ge__ = elementwise.greater, elementwise.greater_equal

    # -------------------------------------------------------------- methods: elementwise

    abs, absolute = elementwise.abs, elementwise.absolute
    neg, negative = elementwise.neg, elementwise.negative
    positive, sign, reciprocal = elementwise.positive, elementwise.sign, elementwise.reciprocal
    exp, exp2, expm1 = elementwise.exp, elementwise.exp2, elementwise.expm1
    log, log1p = elementwise.log, elementwise.log1p
    log2, log10 = elementwise.log2, elementwise.log10
    sqrt, square = elementwise.sqrt, elementwise.square
    sin, cos, tan = elementwise.sin, elementwise.cos, elementwise.tan
    arcsin, asin = elementwise.arcsin, elementwise.asin
    arccos, acos = elementwise.arccos, elementwise.acos
    arctan, atan = elementwise.arctan, elementwise.atan
    arctan2, atan2 = elementwise.arctan2, elementwise.atan2
    sinh, cosh, tanh = elementwise.sinh, elementwise.cosh, elementwise.tanh
    arcsinh, asinh = elementwise.arcsinh, elementwise.asinh
    arccosh, acosh = elementwise.arccosh, elementwise.acosh
    arctanh, atanh = elementwise.arctanh, elementwise.atanh
    deg2rad, rad2deg, sinc = elementwise.deg2rad, elementwise.rad2deg, elementwise.sinc
    sigmoid, softplus = elementwise.sigmoid, elementwise.softplus
    relu, erf = elementwise.relu, elementwise.erf
    floor, ceil = elementwise.floor, elementwise.ceil
    trunc, fix = elementwise.trunc, elementwise.fix
    isnan, isinf, isfinite = elementwise.isnan, elementwise.isinf, elementwise.isfinite

    add, sub, subtract = array_elementwise.add, array_elementwise.sub, array_elementwise.subtract
    div, divide = array_elementwise.div, array_elementwise.divide
    mul, multiply = elementwise.mul, elementwise.multiply
    true_divide, pow = elementwise.true_divide, elementwise.pow
    remainder, fmod = elementwise.remainder, elementwise.fmod
    floor_divide = elementwise.floor_divide
    maximum, minimum = elementwise.maximum, elementwise.minimum
    fmax, fmin = elementwise.fmax, elementwise.fmin
    hypot, logaddexp = elementwise.hypot, elementwise.logaddexp
    copysign, heaviside = elementwise.copysign, elementwise.heaviside
    eq, ne = elementwise.eq, elementwise.ne
    not_equal = elementwise.not_equal
    lt, less = elementwise.lt, elementwise.less
    le, less_equal = elementwise.le, elementwise.less_equal
    gt, greater = elementwise.gt, elementwise.greater
    ge, greater_equal = elementwise.ge, elementwise.greater_equal
    logical_and, logical_or = elementwise.logical_and, elementwise.logical_or
    logical_xor, logical_not = elementwise.logical_xor, elementwise.logical_not
    lerp = method(array_elementwise.lerp)
    addcmul, addcdiv = method(array_elementwise.addcmul), method(array_elementwise.addcdiv)
    nan_to_num = method(array_elementwise.nan_to_num)
    isclose, allclose = method(comparison.isclose), method(comparison.allclose)

    @either_name
    def softmax(self, dim: int, dtype: Any = None, *, axis: int | None = None) -> Tensor:
        """The softmax along `dim`: e^x / sum(e^x), positive and with sum 1.

        dtype: a floating dtype to convert to first.
        Gradient: y (g - sum(g y)). Raises IndexError if there is no such axis, TypeError for
        integers without a `dtype`.
        Source: torch.softmax.

        >>> tk.tensor([0.0, 0.0]).softmax(0)
        Tensor([0.5, 0.5])
        """
        return _softmax(cast_floating(self, dtype, "softmax"), axis=dim)

    @either_name
    def log_softmax(self, dim: int, dtype: Any = None, *, axis: int | None = None) -> Tensor:
        """The logarithm of `softmax` along `dim`: x - log(sum(e^x)).

        Finite where the softmax itself rounds to 0.

        dtype: a floating dtype to convert to first.
        Gradient: g - e^y sum(g). Raises IndexError if there is no such axis, TypeError for
        integers without a `dtype`.
        Source: torch.log_softmax.

        >>> tk.tensor([0.0, 1000.0]).log_softmax(0)
        Tensor([-1000.,     0.])
        """
        return _log_softmax(cast_floating(self, dtype, "log_softmax"), axis=dim)

    def round(self, decimals: int = 0) -> Tensor:
        """The elements rounded to `decimals` places, halves to even.

        Gradient: none; the result is a constant. Source: torch.round.

        >>> tk.tensor([0.5, 1.26]).round(1)
        Tensor([0.5, 1.3])
        """
        return elementwise.round(self, decimals=decimals)

    clip = method(array_elementwise.clip)
    clamp = alias("clamp", clip, owner="Tensor")
    masked_fill = method(array_elementwise.masked_fill)

    def where(self, condition: Any, other: Any) -> Tensor:
        """The Tensor's own elements where `condition` holds, those of `other` elsewhere.

        condition, other: Tensors, arrays or numbers that broadcast.
        Gradient: g for the one that is taken, 0 for the other.
        Raises ValueError if the shapes do not broadcast. Source: torch.Tensor.where.

        >>> tk.tensor([1.0, 2.0]).where([True, False], 0.0)
        Tensor([1., 0.])
        """
        return elementwise.where(condition, self, other)

    def astype(self, dtype: Any) -> Tensor:
        """A copy in another dtype, or the same memory where it has this one.

        Gradient: g in the Tensor's own dtype; none for integers and booleans.
        Raises TypeError for anything that is not a dtype of real numbers. Source:
            np.ndarray.astype.

        >>> tk.tensor([1.7]).astype(int)
        Tensor([1])
        """
        return astype(self, dtype=np.dtype(dtype))

    @without_device
    def to(self, dtype: Any) -> Tensor:
        """The Tensor in another dtype; itself where it has that dtype.

        Gradient: g in the Tensor's own dtype.
        Raises TypeError for a device: all arrays are NumPy's, on the CPU. Source: torch.Tensor.to.

        >>> tk.tensor([1, 2]).to(np.float32)
        Tensor([1., 2.])
        """
        return self if self._data.dtype == as_dtype(dtype) else self.astype(dtype)

    def cuda(self, device: Any = None) -> Tensor:
        """PyTorch's move to a GPU, which raises TypeError: there are no devices.

        >>> tk.ones(2).cuda()
        Traceback (most recent call last):
        TypeError: to: expected a dtype, got the device 'cuda'. Leave it out: ...
        """
        return self.to("cuda")

    def cpu(self) -> Tensor:
        """PyTorch's move from a GPU, which raises TypeError: there are no devices.

        >>> tk.ones(2).cpu()
        Traceback (most recent call last):
        TypeError: to: expected a dtype, got the device 'cpu'. Leave it out: ...
        """
        return self.to("cpu")

    def type_as(self, other: Tensor) -> Tensor:
        """The Tensor in the dtype of `other`; itself where it has that dtype.

        Gradient: g in the Tensor's own dtype. Source: torch.Tensor.type_as.

        >>> tk.tensor([1, 2]).type_as(tk.zeros(1))
        Tensor([1., 2.])
        """
        return self.to(other.dtype)

    def float(self) -> Tensor:
        """The Tensor as float32; itself where it is.

        Gradient: g in the Tensor's own dtype.

        >>> tk.tensor([1, 2]).float()
        Tensor([1., 2.])
        """
        return self.to(np.float32)

    def double(self) -> Tensor:
        """The Tensor as float64; itself where it is.

        Gradient: g in the Tensor's own dtype.

        >>> tk.tensor([1.0]).double()
        Tensor([1.], dtype=float64)
        """
        return self.to(np.float64)

    def long(self) -> Tensor:
        """The elements as int64, rounded towards 0.

        Gradient: none; the result is a constant.

        >>> tk.tensor([1.7]).long()
        Tensor([1])
        """
        return self.to(np.int64)

    # -------------------------------------------------------------- methods: reductions

    sum, mean, prod = reduction.sum, reduction.mean, reduction.prod
    max, min = method(array_indexing.max), method(array_indexing.min)
    median, mode = method(array_indexing.median), method(array_indexing.mode)
    cummax, cummin = method(array_indexing.cummax), method(array_indexing.cummin)
    kthvalue = method(array_indexing.kthvalue)
    amax, amin = reduction.amax, reduction.amin
    var, std = reduction.var, reduction.std
    logsumexp = reduction.logsumexp
    argmax, argmin = reduction.argmax, reduction.argmin
    cumsum, cumprod = reduction.cumsum, reduction.cumprod
    any, all = reduction.any, reduction.all
    count_nonzero = reduction.count_nonzero
    nansum, nanmean = method(statistics.nansum), method(statistics.nanmean)
    quantile = method(statistics.quantile)
    cov, corrcoef = method(statistics.cov), method(statistics.corrcoef)
    histc, histogram = method(statistics.histc), method(statistics.histogram)

    # -------------------------------------------------------------- methods: shape

    reshape = method(array_shape.reshape)
    view = alias("view", reshape, owner="Tensor")
    ravel = method(array_shape.ravel)
    flatten = method(array_shape.flatten)
    unflatten = method(array_shape.unflatten)
    transpose = method(array_shape.transpose)
    permute = method(array_shape.permute)
    swapaxes = method(array_shape.swapaxes)
    swapdims = alias("swapdims", swapaxes, owner="Tensor")
    squeeze = method(array_shape.squeeze)
    unsqueeze = method(array_shape.unsqueeze)
    expand = method(array_shape.expand)
    expand_as = method(array_shape.expand_as)
    broadcast_to = method(array_shape.broadcast_to)
    flip = method(array_shape.flip)
    roll = method(array_shape.roll)
    rot90 = method(array_shape.rot90)
    repeat = method(array_shape.repeat)
    tile = method(array_shape.tile)
    repeat_interleave = method(array_shape.repeat_interleave)
    split = method(array_shape.split)
    chunk = method(array_shape.chunk)
    unbind = method(array_shape.unbind)
    diagonal = method(array_shape.diagonal)
    trace = method(array_shape.trace)
    moveaxis = method(array_shape.moveaxis)
    movedim = alias("movedim", moveaxis, owner="Tensor")

    # -------------------------------------------------------------- methods: indexing and products

    def __getitem__(self, key: Any) -> Tensor:
        return indexing.getitem(self, key=plain_key(key))

    take = method(array_indexing.take)
    gather = method(array_indexing.gather)
    scatter = method(array_indexing.scatter)
    scatter_add = method(array_indexing.scatter_add)
    scatter_reduce = method(array_indexing.scatter_reduce)
    index_select = method(array_indexing.index_select)
    take_along_axis = method(array_indexing.take_along_axis)
    sort = method(array_indexing.sort)
    argsort = method(array_indexing.argsort)
    topk = method(array_indexing.topk)
    nonzero = method(array_indexing.nonzero)
    unique = method(array_indexing.unique)
    triu = method(array_indexing.triu)
    tril = method(array_indexing.tril)
    diag = method(array_indexing.diag)
    matmul = matmul
    mm, bmm = method(array_products.mm), method(array_products.bmm)
    mv, addmm = method(array_products.mv), method(array_products.addmm)

    @either_name
    def norm(
        self,
        p: Any = "fro",
        axis: Any = None,
        keepdims: bool = False,
        *,
        dim: Any = None,
        keepdim: bool = False,
    ) -> Tensor:
        """(sum |x|^p)^(1/p) over `axis`, Euclidean by default: see `tk.norm`.

        p: "fro" or 2 Euclidean, 1, inf, -inf, 0, another number, or "nuc" for a matrix. The result
        has the shape without the axis, or with 1 for `keepdims`. `dim` and `keepdim` are PyTorch's
        names. Gradient: 0 where the norm is 0. Source: `torch.norm`.

        >>> tk.tensor([3.0, 4.0]).norm()
        Tensor(5.)
        """
        from tinygrad_kr.linalg import p_norm

        return p_norm(self, p, axis, keepdims)  # type: ignore[no-any-return]

    def outer(self, other: Any) -> Tensor:
        """y[i, j] = x[i] other[j], of the flattened arrays.

        other: of any shape. The result has the shape (number of elements, number of others).
        Gradient: by each factor, the sum of g times the other. Source: `torch.outer`.

        >>> tk.tensor([1.0, 2.0]).outer([3.0, 4.0])
        Tensor([[3., 4.],
                [6., 8.]])
        """
        return array_products.outer(self, other)  # type: ignore[no-any-return]

    def dot(self, other: Any) -> Tensor:
        """NumPy's `dot`: the sum over the last axis and the last but one of `other`.

        Gradient: through both. Raises ValueError if the sizes differ.

        >>> tk.tensor([1.0, 2.0]).dot([3.0, 4.0])
        Tensor(11.)
        """
        array = other._data if isinstance(other, Node) else other
        if self._data.ndim and 1 <= (array.ndim if type(array) is ndarray else np.ndim(array)) <= 2:
            return matmul(self, other)
        return array_products.dot(self, other)  # type: ignore[no-any-return]


make_results_of(Tensor)


_INSTEAD = {"erf": "tk.erf", "expit": "tk.sigmoid", "log_expit": "F.logsigmoid"}
"""What to write for a ufunc of `scipy.special`."""


def _name_and_fix(ufunc: np.ufunc) -> tuple[str, str]:
    """The name of a ufunc that is not served, and what to write instead of it."""
    plain = ".detach().numpy() where no gradient is needed"
    if getattr(np, ufunc.__name__, None) is ufunc:
        return f"np.{ufunc.__name__}", f"Use {plain}"
    instead = _INSTEAD.get(ufunc.__name__)
    fix = f"Use {instead}(t), or {plain}" if instead else f"Use {plain}"
    return f"scipy.special.{ufunc.__name__}" if instead else ufunc.__name__, fix


def _into_arrays(
    ufunc: np.ufunc, method: str, inputs: Any, out: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """`array -= t`: NumPy's ufunc writes into an ndarray where no Tensor has a history."""
    given = [x for x in inputs if isinstance(x, Node)]
    if any(isinstance(array, Node) for array in out) or (
        current_mode() != OFF and any(x._requires_grad for x in given)
    ):
        raise TypeError(
            f"np.{ufunc.__name__}: expected no `out=` (or `a += t`) beside a Tensor that requires "
            "grad, got one, and an ndarray has no history. Make a new Tensor, or write the "
            "Tensor's .detach()"
        )
    _escapes("an ndarray that is written")
    arrays = [x._data if isinstance(x, Node) else x for x in inputs]
    return getattr(ufunc, method)(*arrays, out=out[0] if len(out) == 1 else out, **options)


def _assigned_by_index(frame: FrameType) -> bool:
    """Whether a frame is at `a[i] = ...`, where NumPy calls for a number, not an array."""
    return frame.f_code.co_code[frame.f_lasti] == opmap["STORE_SUBSCR"]
