"""`Tensor`: a NumPy array that remembers how it was made."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from opcode import opmap
from operator import index
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray
from numpy.lib.array_utils import normalize_axis_tuple

from tinygrad_kr.grad_mode import is_transforming
from tinygrad_kr.ops import (
    arrangement,
    elementwise,
    indexing,
    linalg,
    reduction,
    selection,
    shape,
)
from tinygrad_kr.ops.node import (
    OFF,
    LastChange,
    Node,
    constant,
    current_mode,
    last_write,
    note_created,
    note_writes,
    recorder,
    recorders,
    tick,
)
from tinygrad_kr.ops.op import astype, make_results_of, numpy_table


def as_array(data: Any, dtype: Any = None) -> ndarray:
    """`data` as a real array: Python floats become float32, ints int64; an ndarray keeps its dtype.

    Raises TypeError for complex, text and object data, and for lists that hold Tensors.
    """
    if isinstance(data, Node):
        data = data._data
    if isinstance(data, ndarray | np.generic):
        array = np.asarray(data, dtype=dtype)
    else:
        if _holds_tensor(data):
            raise TypeError(
                "a list of Tensors is not a Tensor: use tk.stack(...) or tk.concatenate(...)"
            )
        array = np.asarray(data, dtype=dtype)
        if dtype is None and array.dtype.kind == "f":
            array = array.astype(np.float32)
    if array.dtype.kind == "c":
        raise TypeError(
            "complex numbers are not supported: make two real Tensors of .real and .imag"
        )
    if array.dtype.kind not in "fiub":
        raise TypeError(
            f"a Tensor holds real numbers, not {array.dtype} (from {type(data).__name__})"
        )
    return array


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """What `to` was given; TypeError, that there is none, for a device."""
    if isinstance(dtype, str) and dtype.partition(":")[0] in {"cpu", "cuda", "gpu", "mps"}:
        raise TypeError(
            f"to() takes a dtype, not the device {dtype!r}: everything is in NumPy arrays on the "
            "CPU, so leave it out"
        )
    found: np.dtype[Any] = np.dtype(dtype)
    return found


@cache
def _numpy_functions() -> dict[Any, Callable[..., Any]]:
    """NumPy's functions on Tensors, registered when the first of them is called."""
    from tinygrad_kr import numpy_protocol as numpy_protocol

    return numpy_table


def _holds_tensor(data: Any) -> bool:
    return isinstance(data, list | tuple) and any(
        isinstance(item, Node) or _holds_tensor(item) for item in data
    )


def note_change() -> None:
    """Have compiled functions look at modules and leaves again: one of them has changed."""
    LastChange.time = tick()


def _refuse(what: str) -> None:
    """In a function that is being compiled, a Tensor's values are not known."""
    recording = recorder()
    if recording is not None:
        recording.refuse(what)


def _escapes(what: str) -> None:
    """A function that does this cannot be compiled: a recorder would lose track of the values."""
    recording = recorder()
    if recording is not None:
        recording.give_up(what)


def _flipped(binary: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: binary(other, self)


def _in_place(binary: Callable[..., Any], name: str) -> Callable[[Any, Any], Any]:
    """`t += x`: writes into a leaf or constant; makes a new Tensor where a gradient must flow."""

    def assign(self: Tensor, other: Any) -> Any:
        tracked = self._requires_grad or (isinstance(other, Node) and other._requires_grad)
        if tracked and current_mode() != OFF:
            if self._requires_grad and self._op is None:
                raise RuntimeError(
                    f"{name} would overwrite a leaf that requires grad; write it under "
                    "`with no_grad():`, or make a new Tensor (`w = w - ...`)"
                )
            return binary(self, other)
        result = binary(self, other)
        if not np.can_cast(result.dtype, self.dtype, "same_kind"):
            raise TypeError(
                f"{name} cannot write a result of {result.dtype} into a Tensor of {self.dtype}; "
                f"write t = t {name[:-1]} ... for a new Tensor"
            )
        self._overwrite(..., result._data, name)
        return self

    return assign


class Tensor(Node):
    """An array whose history can be differentiated.

    data: Python numbers and lists become float32, int64 or bool; an ndarray keeps its dtype and is
        not copied; a Tensor is detached.
    requires_grad: record what is computed from it, and have `backward()` fill `.grad`. Floats only.

    >>> x = Tensor([1.0, 2.0], requires_grad=True)
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
        if recorders:
            note_created(self)

    # -------------------------------------------------------------- what it is

    @property
    def data(self) -> ndarray:
        """The ndarray itself (not a copy). Assigning another array is noticed by `backward()`."""
        if recorders:
            _escapes(".data")
        return self._data

    @data.setter
    def data(self, value: Any) -> None:
        array = as_array(value)
        if self._op is not None:
            raise RuntimeError("only a leaf's data can be replaced; use .detach() first")
        if self._requires_grad and array.dtype.kind != "f":
            raise TypeError(f"only floating-point Tensors can require grad, not {array.dtype}")
        if recorders:
            _escapes(".data = ...")
        self._data = array
        note_writes([self], ".data = ...", rebound=True)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward()` accumulated, or None."""
        if recorders and (recording := recorder()):
            recording.read_gradient(self)
        gradient = self._grad
        last_write.read = object()  # after that: a step of another thread may come between
        return gradient  # type: ignore[no-any-return]

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            value = value if isinstance(value, Tensor) else Tensor(value)
            if value.shape != self.shape:
                raise ValueError(f"a gradient of shape {value.shape} for a Tensor of {self.shape}")
            if value.dtype != self.dtype:
                raise TypeError(f"a gradient of {value.dtype} for a Tensor of {self.dtype}")
        if recorders and (recording := recorder()):
            recording.touch_gradient(self)
        self._grad = value

    @property
    def requires_grad(self) -> bool:
        """Whether gradients flow to or through it."""
        return self._requires_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if value:
            self._check_floats()
        if not value and self._op is not None:
            raise RuntimeError("a computed Tensor cannot stop requiring grad; use .detach()")
        if value != self._requires_grad:
            note_change()
            self._requires_grad = bool(value)

    def _check_floats(self) -> None:
        if self._data.dtype.kind != "f":
            raise TypeError(
                f"only floating-point Tensors can require grad, not {self._data.dtype}; "
                "use dtype=np.float32 or write 1.0 for 1"
            )

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` and return the Tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether it was given rather than computed."""
        return self._op is None

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self._data.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self._data.ndim

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._data.size

    @property
    def dtype(self) -> np.dtype[Any]:
        """NumPy dtype of the elements."""
        return self._data.dtype

    @property
    def T(self) -> Tensor:
        """The axes reversed."""
        return shape.transpose(self)

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        if self._data.ndim < 2:
            raise ValueError(f"mT needs at least 2 axes, not shape {self.shape}")
        return shape.swapaxes(self, axis1=-1, axis2=-2)

    def dim(self) -> int:
        """Number of axes (PyTorch's name for `ndim`)."""
        return self._data.ndim

    def numel(self) -> int:
        """Number of elements (PyTorch's name for `size`)."""
        return self._data.size

    def numpy(self) -> ndarray:
        """The array of a Tensor that requires no gradient; raises RuntimeError otherwise."""
        return self.__array__()

    def item(self) -> float | int | bool:
        """The Python number in a Tensor of one element."""
        if self._data.size != 1:
            raise ValueError(f"item() needs one element, not shape {self.shape}; use .tolist()")
        if recorders:
            _refuse(".item()")
        return self._data.item()  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        """The elements as nested Python lists."""
        if recorders:
            _refuse(".tolist()")
        return self._data.tolist()

    def detach(self) -> Tensor:
        """The same memory without the history."""
        return constant(self._data)  # type: ignore[no-any-return]

    def clone(self) -> Tensor:
        """A copy with its own memory, through which gradients flow."""
        if self._data.dtype == np.bool_:
            return constant(self._data.copy("K"))  # type: ignore[no-any-return]
        return elementwise.positive(self)

    copy = clone

    def contiguous(self) -> Tensor:
        """Itself: memory layout is NumPy's business."""
        return self

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        if not self._data.ndim:
            raise TypeError("a 0-d Tensor cannot be iterated over")
        return (self[i] for i in range(len(self._data)))

    def __bool__(self) -> bool:
        if recorders:
            _refuse("bool() or `if`")
        return bool(self._data)

    def __float__(self) -> float:
        number = float(self._number("float"))
        if self._requires_grad and is_transforming():
            raise TypeError(
                "a number has no history, so the derivative would be wrong: take NumPy's function "
                "for one of `math` (np.sin for math.sin), and .item() for float() where a mere "
                "number is wanted"
            )
        return number

    def __int__(self) -> int:
        return int(self._number("int"))

    def __index__(self) -> int:
        if recorders:
            _refuse("an index")
        return self._data.__index__()

    def __complex__(self) -> complex:
        raise TypeError("complex numbers are not supported")

    def _number(self, kind: str) -> float | int | bool:
        if self._data.size != 1:
            raise TypeError(f"{kind}() needs one element, not shape {self.shape}")
        if recorders:
            _refuse(f"{kind}()")
        if self._requires_grad and _assigned_by_index(sys._getframe(2)):
            raise RuntimeError(
                "a Tensor that requires grad would lose its history in an ndarray: assign its "
                ".detach(), or make a new Tensor with tk.stack or tk.where"
            )
        return self._data.item()  # type: ignore[no-any-return]

    def __contains__(self, value: Any) -> bool:
        if recorders:
            _refuse("`in`")
        return bool((self._data == (value._data if isinstance(value, Node) else value)).any())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec and self.size == 1 else format(str(self), spec)

    def __repr__(self) -> str:
        if recorders:
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
        if self._op is not None:
            raise RuntimeError(
                f"{what} would overwrite the result of {self._op.__name__}, part of a graph; "
                "use .detach().clone() first, or tk.where to make a new Tensor"
            )
        if self._requires_grad and current_mode() != OFF:
            raise RuntimeError(
                f"{what} would overwrite a leaf that requires grad; do it under `with no_grad():`"
            )
        given = value
        if isinstance(value, Node):
            if value._requires_grad and current_mode() != OFF:
                raise RuntimeError(
                    "writing a Tensor that requires grad into another would lose its gradient; "
                    "use tk.where, tk.stack or tk.concatenate, or write its .detach()"
                )
            value = value._data
        recording = recorder() if recorders else None
        if recording is not None:
            recording.about_to_write(self)
        self._data[key] = value
        note_writes([self], what)
        if recording is not None:
            recording.written(self, key, given, what)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._overwrite(plain_key(key), value, "t[...] = ...")

    def copy_(self, source: Any) -> Tensor:
        """Overwrite the elements with those of `source`."""
        self._overwrite(..., source, "copy_")
        return self

    def fill_(self, value: float) -> Tensor:
        """Overwrite every element with `value`."""
        self._overwrite(..., value, "fill_")
        return self

    def zero_(self) -> Tensor:
        """Overwrite every element with 0."""
        return self.fill_(0)

    __iadd__ = _in_place(elementwise.add, "+=")
    __isub__ = _in_place(elementwise.subtract, "-=")
    __imul__ = _in_place(elementwise.multiply, "*=")
    __itruediv__ = _in_place(elementwise.divide, "/=")
    __ipow__ = _in_place(elementwise.power, "**=")

    # -------------------------------------------------------------- NumPy's protocols

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        if self._requires_grad:
            raise RuntimeError(
                "this Tensor requires grad and an ndarray has no history: call .detach() first, or "
                "make one Tensor of several with tk.stack"
            )
        if recorders:
            _refuse("np.asarray() or .numpy()")
        return np.array(self._data, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if kwargs.pop("out", None) is not None:
            raise TypeError(
                f"np.{ufunc.__name__} cannot write a Tensor into an ndarray (`out=` or `a += t`): "
                "its history would be lost. Make a new Tensor, or use .detach().numpy()"
            )
        table = _numpy_functions()
        function = table.get(ufunc)
        if method != "__call__":
            function = table.get(getattr(ufunc, method, None))
        if function is None or kwargs.keys() - {"axis", "keepdims"}:
            extra = f" with {', '.join(kwargs)}" if function is not None else ""
            dot = "" if method == "__call__" else f".{method}"
            raise TypeError(f"np.{ufunc.__name__}{dot}{extra} is not supported on Tensors")
        return function(*inputs, **kwargs)

    def __array_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        function = _numpy_functions().get(func)
        if function is None:
            module = getattr(func, "__module__", "numpy").replace("numpy", "np", 1)
            raise TypeError(
                f"{module}.{func.__name__} is not supported on Tensors; "
                "use .detach().numpy() where no gradient is needed"
            )
        if kwargs.get("out") is not None:
            raise TypeError(f"np.{func.__name__} cannot write a Tensor into an ndarray (`out=`)")
        return function(*args, **kwargs)

    # -------------------------------------------------------------- copying

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy: Tensor = type(self).__new__(type(self))
        memo[id(self)] = copy
        self._copy_into(copy)
        return copy

    def _copy_into(self, copy: Tensor) -> None:
        if self._op is not None:
            raise RuntimeError("only leaf Tensors can be copied with copy.deepcopy; use .clone()")
        Tensor.__init__(copy, self._data.copy("K"), requires_grad=self._requires_grad)
        gradient = self._grad  # once: another thread may set it to None meanwhile
        if gradient is not None:
            copy._grad = Tensor(gradient._data.copy("K"))

    def __copy__(self) -> Tensor:
        return self.__deepcopy__({})

    def __reduce__(self) -> Any:
        if self._op is not None:
            raise RuntimeError("only leaf Tensors can be pickled; use .detach()")
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
    __matmul__, __rmatmul__ = linalg.matmul, _flipped(linalg.matmul)
    __and__, __rand__ = elementwise.bitwise_and, _flipped(elementwise.bitwise_and)
    __or__, __ror__ = elementwise.bitwise_or, _flipped(elementwise.bitwise_or)
    __xor__, __rxor__ = elementwise.bitwise_xor, _flipped(elementwise.bitwise_xor)
    __invert__ = elementwise.invert
    __neg__, __pos__, __abs__ = elementwise.negative, elementwise.positive, elementwise.absolute
    __eq__, __ne__ = elementwise.equal, elementwise.not_equal  # type: ignore[assignment]
    __lt__, __le__ = elementwise.less, elementwise.less_equal
    __gt__, __ge__ = elementwise.greater, elementwise.greater_equal

    # -------------------------------------------------------------- methods: elementwise

    abs, neg = elementwise.absolute, elementwise.negative
    sign = elementwise.sign
    exp, expm1 = elementwise.exp, elementwise.expm1
    log, log1p = elementwise.log, elementwise.log1p
    log2, log10 = elementwise.log2, elementwise.log10
    sqrt, square = elementwise.sqrt, elementwise.square
    sin, cos, tan = elementwise.sin, elementwise.cos, elementwise.tan
    arcsin, arccos, arctan = elementwise.arcsin, elementwise.arccos, elementwise.arctan
    arctan2 = elementwise.arctan2
    sinh, cosh, tanh = elementwise.sinh, elementwise.cosh, elementwise.tanh
    sigmoid, softplus = elementwise.sigmoid, elementwise.softplus
    relu, erf = elementwise.relu, elementwise.erf
    maximum, minimum = elementwise.maximum, elementwise.minimum
    floor, ceil = elementwise.floor, elementwise.ceil
    isnan, isinf, isfinite = elementwise.isnan, elementwise.isinf, elementwise.isfinite
    pow = elementwise.power

    def softmax(self, dim: int) -> Tensor:
        """exp(x) over its sum along `dim`: positive, with sum 1."""
        from tinygrad_kr.functional import softmax

        return softmax(self, dim)  # type: ignore[no-any-return]

    def log_softmax(self, dim: int) -> Tensor:
        """The logarithm of `softmax`, exact where that is 0."""
        from tinygrad_kr.functional import log_softmax

        return log_softmax(self, dim)  # type: ignore[no-any-return]

    def reciprocal(self) -> Tensor:
        """1 / x."""
        return 1 / self  # type: ignore[no-any-return]

    def round(self, decimals: int = 0) -> Tensor:
        """Rounded to `decimals` places, halves to even; detached."""
        return elementwise.round(self, decimals=decimals)

    def clip(self, min: Any = None, max: Any = None) -> Tensor:
        """Limited to [min, max]; the gradient passes where it was inside, bounds included.

        A bound that is a Tensor gets its gradient too (half of it where they are equal).
        """
        if not isinstance(min, Node) and not isinstance(max, Node):
            return elementwise.clip(self, low=min, high=max)
        y = self if min is None else elementwise.maximum(self, min)
        return y if max is None else elementwise.minimum(y, max)

    clamp = clip

    def where(self, condition: Any, other: Any) -> Tensor:
        """Its own elements where `condition` holds, those of `other` elsewhere."""
        return elementwise.where(condition, self, other)

    def masked_fill(self, mask: Any, value: float) -> Tensor:
        """`value` where `mask` holds."""
        return elementwise.where(mask, value, self)

    def astype(self, dtype: Any) -> Tensor:
        """In another dtype; a gradient returns in this one."""
        return astype(self, dtype=np.dtype(dtype))

    def to(self, dtype: Any) -> Tensor:
        """In another dtype (itself, if it has it already)."""
        return self if self._data.dtype == as_dtype(dtype) else self.astype(dtype)

    def type_as(self, other: Tensor) -> Tensor:
        """In the dtype of `other`."""
        return self.to(other.dtype)

    def float(self) -> Tensor:
        """As float32."""
        return self.to(np.float32)

    def double(self) -> Tensor:
        """As float64."""
        return self.to(np.float64)

    def long(self) -> Tensor:
        """As int64 (detached)."""
        return self.to(np.int64)

    # -------------------------------------------------------------- methods: reductions

    sum, mean, prod = reduction.sum, reduction.mean, reduction.prod
    max, min = selection.max, selection.min
    amax, amin = reduction.amax, reduction.amin
    var, std = reduction.var, reduction.std
    logsumexp = reduction.logsumexp
    argmax, argmin = reduction.argmax, reduction.argmin
    cumsum, cumprod = reduction.cumsum, reduction.cumprod
    any, all = reduction.any, reduction.all

    # -------------------------------------------------------------- methods: shape

    def reshape(self, *sizes: Any) -> Tensor:
        """The same elements in another shape; one size may be -1."""
        return shape.reshape(self, shape=_sizes(sizes))

    view = reshape

    def ravel(self) -> Tensor:
        """All elements in one axis."""
        return shape.reshape(self, shape=(-1,))

    def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor:
        """The axes from `start_dim` to `end_dim` merged into one."""
        if not self.ndim:
            return self.reshape(1)
        start, end = normalize_axis_tuple((start_dim, end_dim), self.ndim, "flatten", True)
        if start > end:
            raise ValueError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim}")
        merged = int(np.prod(self.shape[start : end + 1]))
        return self.reshape(*self.shape[:start], merged, *self.shape[end + 1 :])

    def unflatten(self, dim: int, sizes: tuple[int, ...]) -> Tensor:
        """One axis split into several."""
        (dim,) = normalize_axis_tuple(dim, self.ndim, "unflatten")
        if -1 in sizes:
            known = int(np.prod([n for n in sizes if n != -1]))
            sizes = tuple(self.shape[dim] // known if n == -1 else n for n in sizes)
        return self.reshape(*self.shape[:dim], *sizes, *self.shape[dim + 1 :])

    def transpose(self, *axes: Any) -> Tensor:
        """All axes reversed if none is named, two exchanged (PyTorch), or all in a new order."""
        order = _sizes(axes) if axes and axes != (None,) else None
        if order is not None and len(order) == 2 and not isinstance(axes[0], tuple | list):
            return shape.swapaxes(self, axis1=order[0], axis2=order[1])
        return shape.transpose(self, axes=order)

    def permute(self, *axes: Any) -> Tensor:
        """The axes in another order."""
        return shape.transpose(self, axes=_sizes(axes))

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Two axes exchanged."""
        return shape.swapaxes(self, axis1=axis1, axis2=axis2)

    def squeeze(self, axis: Any = None, *, dim: Any = None) -> Tensor:
        """Without the axes of size 1, or those of them that `axis` names (PyTorch's rule)."""
        axis = axis if dim is None else dim
        if axis is not None:
            axes = axis if isinstance(axis, tuple | list) else (axis,)
            axis = tuple(a for a in normalize_axis_tuple(axes, self.ndim) if self.shape[a] == 1)
        return self.reshape(np.squeeze(np.broadcast_to(0, self.shape), axis).shape)

    def unsqueeze(self, axis: int | None = None, *, dim: int | None = None) -> Tensor:
        """With a new axis of size 1."""
        axis = axis if dim is None else dim
        return self.reshape(np.expand_dims(np.broadcast_to(0, self.shape), axis or 0).shape)

    def expand(self, *sizes: Any) -> Tensor:
        """Axes of size 1 repeated to `sizes` without copying; -1 keeps a size."""
        sizes = _sizes(sizes)
        extra = len(sizes) - self.ndim
        target = tuple(
            self.shape[i - extra] if n == -1 and i >= extra else n for i, n in enumerate(sizes)
        )
        return shape.broadcast_to(self, shape=target)

    def expand_as(self, other: Tensor) -> Tensor:
        """Broadcast to the shape of `other`."""
        return shape.broadcast_to(self, shape=other.shape)

    def broadcast_to(self, *sizes: Any) -> Tensor:
        """Broadcast to a shape without copying."""
        return shape.broadcast_to(self, shape=_sizes(sizes))

    def flip(self, *axes: Any) -> Tensor:
        """The order reversed along some axes (all, if none is named)."""
        return shape.flip(self, axis=_sizes(axes) if axes and axes != (None,) else None)

    def roll(self, shift: Any, axis: Any = None) -> Tensor:
        """Moved along an axis, what is pushed out coming in at the other end."""
        return shape.roll(self, shift=shift, axis=axis)

    repeat, tile = arrangement.repeat, arrangement.tile
    repeat_interleave = arrangement.repeat_interleave
    split, chunk, unbind = arrangement.split, arrangement.chunk, arrangement.unbind
    moveaxis, movedim = arrangement.moveaxis, arrangement.movedim

    # -------------------------------------------------------------- methods: indexing and products

    def __getitem__(self, key: Any) -> Tensor:
        return indexing.getitem(self, key=plain_key(key))

    take, gather, scatter_add = selection.take, selection.gather, selection.scatter_add
    index_select, take_along_axis = selection.index_select, selection.take_along_axis
    sort, argsort, topk = selection.sort, selection.argsort, selection.topk
    nonzero = selection.nonzero
    triu, tril, diag = selection.triu, selection.tril, selection.diag

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """The diagonal of two axes, as the last axis."""
        return indexing.diagonal(self, offset=offset, axis1=axis1, axis2=axis2)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """Sum of a diagonal."""
        return self.diagonal(offset, axis1, axis2).sum(axis=-1)  # type: ignore[no-any-return]

    matmul = linalg.matmul

    def dot(self, other: Any) -> Tensor:
        """NumPy's `dot`: sum over its last axis and the last but one of `other`."""
        if self.ndim and 1 <= np.ndim(getattr(other, "_data", other)) <= 2:
            return linalg.matmul(self, other)
        from tinygrad_kr.arrays import dot

        return dot(self, other)  # type: ignore[no-any-return]

    def outer(self, other: Any) -> Tensor:
        """All products of an element of this with one of `other`, as a matrix."""
        from tinygrad_kr.arrays import outer

        return outer(self, other)  # type: ignore[no-any-return]

    def norm(
        self, p: Any = "fro", axis: Any = None, keepdims: bool = False, **torch_names: Any
    ) -> Tensor:
        """PyTorch's `norm`: (sum |x|^p)^(1/p) over `axis`, Euclidean by default; 0 at 0."""
        from tinygrad_kr.arrays import norm

        return norm(self, p, axis, keepdims, **torch_names)  # type: ignore[no-any-return]


make_results_of(Tensor)


def _sizes(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    if len(sizes) == 1 and isinstance(sizes[0], tuple | list):
        sizes = tuple(sizes[0])
    return tuple(map(index, sizes))


def _assigned_by_index(frame: FrameType) -> bool:
    """Whether a frame is at `a[i] = ...`: NumPy then asks for a number, not for an array."""
    return frame.f_code.co_code[frame.f_lasti] == opmap["STORE_SUBSCR"]


def plain_key(key: Any) -> Any:
    """An index without Tensors and lists, its arrays copied since backward will read them.

    Raises IndexError for an index that is neither integer nor boolean.
    """
    if isinstance(key, tuple):
        return tuple(_plain_part(part) for part in key)
    return _plain_part(key)


def _plain_part(part: Any) -> Any:
    recording = recorder() if recorders else None
    if isinstance(part, Node):
        if recording is not None:
            recording.read(part)
        part = part._data
    elif isinstance(part, list):
        part = np.asarray(part, dtype=None if part else np.int64)
    elif isinstance(part, slice):
        ends = (part.start, part.stop, part.step)
        return slice(*(e._data.item() if isinstance(e, Node) else e for e in ends))
    if not isinstance(part, ndarray):
        return part
    if part.dtype.kind not in "iub":
        raise IndexError(f"an index must be of integers or booleans, not {part.dtype}")
    return part.copy() if recording is None else part
