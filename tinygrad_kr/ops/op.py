"""The record of an operation: a NumPy forward function and one derivative rule per input.

    multiply = op(np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: g * a)

A rule receives the cotangent of the output `g`, the output `y`, then the inputs, and static
parameters by keyword. It returns the cotangent of its input, in that input's shape or in one that
broadcasts with it (the walker sums or expands). A rule is ordinary NumPy: the same line runs on
arrays in `backward()`, and on Tensors where the derivative is itself differentiated.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

import numpy as np
from numpy import ndarray

from tinygrad_kr.ops.anomaly import inspect, shapes_of
from tinygrad_kr.ops.axes import AxisError, reason
from tinygrad_kr.ops.node import (
    ON,
    Node,
    NodeType,
    constant,
    current_mode,
    grad_mode,
    passed_over,
    tick,
)
from tinygrad_kr.ops.tracing import tracers, tracing

P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:
    from tinygrad_kr.tensor import Tensor


class Op(Protocol):
    """A differentiable function of Tensors, arrays and numbers.

    Without a Tensor among them it computes an array.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]
    forward: Callable[..., Any]
    rules: tuple[Callable[..., Any], ...]
    variadic: bool
    one_rule_for_all: bool
    shared: bool
    """Whether one rule serves every input: `variadic or one_rule_for_all`."""
    promote: bool
    kernel: Callable[..., Any] | None
    has_effect: bool
    """Whether `forward` does more than compute, so that a compiled program calls it every time."""

    def __call__(self, *inputs: Any, **params: Any) -> Tensor: ...


numpy_table: dict[Any, Callable[..., Any]] = {}
"""The function that serves each of NumPy's when an argument is a Tensor."""

_TAKES_MORE = 0x04 | 0x08
"""Flags of a code object: it takes *args, it takes **kwargs."""
_NO_PARAMS: dict[str, Any] = {}
_UNMASKED: set[type] = {ndarray, float, int, bool}
"""Frequent types of inputs that have no mask."""
_new = object.__new__
_asarray = np.asarray
_tensor: type[Node] = Node
_get_mode = grad_mode.get
_get_frame = sys._getframe


def make_results_of(cls: type[Node]) -> None:
    """Set the class of the results of ops: `Tensor`, once it is defined."""
    global _tensor
    _tensor = NodeType.cls = cls
    _UNMASKED.add(cls)


def op(
    forward: Callable[..., Any],
    *rules: Callable[..., Any],
    name: str | None = None,
    numpy: Iterable[Callable[..., Any]] = (),
    variadic: bool = False,
    one_rule_for_all: bool = False,
    promote: bool = True,
    finite: bool = False,
    variable: str | None = None,
    like: Callable[..., Any] | None = None,
    doc: str | None = None,
    kernel: Callable[..., Any] | None = None,
    joint: bool | None = None,
    regular: bool | None = None,
) -> Op:
    """Make a differentiable function from a NumPy function and its derivative rules.

    `forward(*arrays, **params)` computes an array. `rules[i](g, y, *inputs, **params)` gives the
    cotangent of input `i`, g . (d y / d input_i). Its shape is the input's, or broadcasts with it.
    Inputs past the last rule have no gradient; neither have those of an op without rules.

    forward: where it is a NumPy ufunc or function, NumPy's own name works on Tensors as well.
    name: shown by messages and graphs, `forward`'s without underscores around it by default.
    numpy: further NumPy functions of the same signature that this op serves.
    variadic: any number of inputs share one rule. The keyword `index` is the input's number.
    one_rule_for_all: the one rule returns a sequence with every input's cotangent, or None.
        The keyword `needs` is a tuple of booleans: which are needed.
    promote: give the result the inputs' common floating dtype (PyTorch's promotion).
    variable: the global variable that will hold the op, `name` by default; pickle looks there.
    like: a function whose signature `help` shows, `forward` by default.
    doc: the docstring, `forward`'s by default.
    kernel: a faster `forward`, which returns None for what it does not compute (see `kernels`).
    joint: the name of `one_rule_for_all` in version 0.1.0.
    finite, regular: without effect; rules no longer make NumPy warn.

    Errors of `forward` are raised with the op's name, the shapes and the parameters.

    >>> cube = tk.op(lambda x: x**3, lambda g, y, x: g * 3 * x**2, name="cube")
    >>> x = tk.tensor([1.0, 2.0], requires_grad=True)
    >>> cube(x).sum().backward()
    >>> x.grad
    Tensor([ 3., 12.])
    """
    one_rule_for_all = _renamed("joint", joint, "one_rule_for_all", one_rule_for_all)
    if regular is not None:
        warnings.warn("op: regular has no effect. Leave it out", DeprecationWarning, stacklevel=2)
    if kernel is not None:
        forward = _with_kernel(forward, kernel)
    if rules and isinstance(forward, np.ufunc) and forward.nin == 2:
        apply = _binary(forward)
    else:
        apply = _general(forward, promote, bool(rules))
    record = cast(Op, apply)
    name = name or getattr(forward, "__name__", "op").strip("_<>")
    record.__name__, record.__qualname__ = name, variable or name
    record.__module__ = _get_frame(1).f_globals.get("__name__", "__main__")
    record.__wrapped__ = like or _signature_of(forward)
    record.__doc__ = doc or (None if _is_numpys(forward) else forward.__doc__)
    record.forward = forward
    record.rules = rules
    record.variadic, record.one_rule_for_all = variadic, one_rule_for_all
    record.shared = variadic or one_rule_for_all
    record.promote, record.kernel = promote, kernel
    record.has_effect = False
    for function in (forward, *numpy):
        if _is_numpys(function):
            numpy_table[function] = record
    return record


def _renamed(old: str, given: bool | None, new: str, value: bool) -> bool:
    if given is None:
        return value
    warnings.warn(f"op: {old} is now called {new}", DeprecationWarning, stacklevel=3)
    return given


def _with_kernel(forward: Callable[..., Any], kernel: Callable[..., Any]) -> Callable[..., Any]:
    """`forward`, or its kernel where that computes the inputs."""

    @wraps(forward)
    def computed(*arrays: Any, **params: Any) -> Any:
        y = kernel(*arrays, **params)
        return forward(*arrays, **params) if y is None else y

    return computed


def _is_numpys(function: Callable[..., Any]) -> bool:
    module = getattr(function, "__module__", None) or ""
    return isinstance(function, np.ufunc) or module.startswith("numpy")


_FLOAT32 = np.dtype(np.float32)
_UNARY: Callable[..., Any] = lambda x: None  # noqa: E731
_BINARY: Callable[..., Any] = lambda a, b: None  # noqa: E731
"""The signatures of most ops, without annotations."""


def _signature_of(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the signature that an op of `forward` shows."""
    if isinstance(forward, np.ufunc):
        return _UNARY if forward.nin == 1 else _BINARY
    code = getattr(forward, "__code__", None)
    if code is None or code.co_kwonlyargcount or code.co_flags & _TAKES_MORE:
        return forward
    names = code.co_varnames[: code.co_argcount]
    return _UNARY if names == ("x",) else _BINARY if names == ("a", "b") else forward


def _binary(forward: Callable[..., Any]) -> Callable[..., Any]:
    """`_general` for a ufunc of two inputs: the hot path of the engine, written out."""

    def apply(a: Any, b: Any) -> Any:
        if isinstance(a, Node):
            x = a._data
            dtype = x.dtype
            tracked = a._requires_grad
            if isinstance(b, Node):
                z = b._data
                if z.dtype is not dtype:
                    return _promoted(record, (a, b), _NO_PARAMS)
                tracked = tracked or b._requires_grad
            elif type(b) is list:
                return apply(*_without_lists((a, b)))
            else:
                z = b
        elif isinstance(b, Node):
            if type(a) is list:
                return apply(*_without_lists((a, b)))
            x, z = a, b._data
            dtype = z.dtype
            tracked = b._requires_grad
        else:
            try:
                return forward(a, b)
            except Exception as error:
                raise explained(record, (a, b), _NO_PARAMS, error) from error
        try:
            y = forward(x, z)
        except Exception as error:
            raise explained(record, (a, b), _NO_PARAMS, error) from error
        if type(y) is not ndarray:
            y = _plain(record, y)
        if y.dtype is not dtype:
            return _promoted(record, (a, b), _NO_PARAMS)
        out = _new(_tensor)
        out._data = y
        out._grad = out._hooks = out._call = None
        if tracked and (mode := _get_mode() or current_mode()):
            frame = _get_frame(1)
            code = frame.f_code
            while passed_over[code.co_filename]:
                frame = frame.f_back  # type: ignore[assignment]
                code = frame.f_code
            out._code = code
            out._instruction = frame.f_lasti
            out._requires_grad = True
            out._op = record
            out._inputs = (a, b)
            out._values = (x, z)
            out._params = _NO_PARAMS
            out._made = tick()
            if mode > ON:
                inspect(out, mode)
        else:
            out._requires_grad = False
            out._op = None
            if tracers:
                _note(record, (a, b), _NO_PARAMS, out)
        return out

    record = cast(Op, apply)
    return apply


def _general(
    forward: Callable[..., Any], promote: bool, differentiable: bool
) -> Callable[..., Any]:
    """Any op. The result of one without derivative rules is a constant, of any dtype."""
    most = forward.nin if isinstance(forward, np.ufunc) else sys.maxsize

    def apply(*inputs: Any, **params: Any) -> Any:
        tracked = mixed = False
        dtype = None
        arrays = []
        for x in inputs:
            if isinstance(x, Node):
                a = x._data
                arrays.append(a)
                if x._requires_grad:
                    tracked = True
                if a.dtype is not dtype:
                    if dtype is None or dtype.kind != "f":
                        dtype = a.dtype
                    elif a.dtype.kind == "f":
                        mixed = True
            elif type(x) is list:
                return apply(*_without_lists(inputs), **params)
            else:
                if type(x) not in _UNMASKED:
                    if differentiable:
                        refuse_masked(x, record.__name__)
                    mixed = mixed or not differentiable
                arrays.append(x)
        if dtype is not None and (
            (dtype.kind != "f" and (promote or not differentiable))
            or (mixed and not differentiable)
        ):
            return _promoted(record, inputs, params)
        try:
            if dtype is None:
                return forward(*inputs, **params)
            if len(arrays) > most:  # NumPy would write its result into the next one
                raise TypeError(f"expected {most} input, got {len(arrays)}.")
            y = forward(*arrays, **params)
        except Exception as error:
            raise explained(record, inputs, params, error) from error
        if type(y) is not ndarray:
            y = _plain(record, y)
        if (mixed or y.dtype is not dtype) and (
            (promote or y.dtype.kind != "f") and (differentiable or y.dtype.kind not in "iub")
        ):
            return _promoted(record, inputs, params)
        out = _new(_tensor)
        out._data = y
        out._grad = out._hooks = out._call = None
        if tracked and differentiable and (mode := _get_mode() or current_mode()):
            frame = _get_frame(1)
            code = frame.f_code
            while passed_over[code.co_filename]:
                frame = frame.f_back  # type: ignore[assignment]
                code = frame.f_code
            out._code = code
            out._instruction = frame.f_lasti
            out._requires_grad = True
            out._op = record
            out._inputs = inputs
            out._values = arrays
            out._params = params
            out._made = tick()
            if mode > ON:
                inspect(out, mode)
        else:
            out._requires_grad = False
            out._op = None
            if tracers:
                _note(record, inputs, params, out)
        return out

    record = cast(Op, apply)
    return apply


def refuse_masked(x: Any, name: str = "Tensor") -> None:
    """TypeError for a masked array: a Tensor has no mask, and what lies under one may be wrong."""
    if type(x) not in _UNMASKED and hasattr(x, "_mask"):
        raise TypeError(
            f"{name}: expected an array without a mask, got a {type(x).__name__}. Convert it with "
            "np.asarray(x.filled(value)), or with x.compressed() to leave out what is masked"
        )


def _plain(record: Op, y: Any) -> ndarray:
    """A result as an ndarray; TypeError for a subclass, whose `*` may be another product."""
    if isinstance(y, np.generic):
        return _asarray(y)
    refuse_masked(y, record.__name__)
    if isinstance(y, ndarray):
        raise TypeError(
            f"{record.__name__}: expected an array, got a {type(y).__name__} with operators of its "
            "own. Convert it with np.asarray first"
        )
    return _asarray(y)


def record_result(
    record: Op, y: ndarray, inputs: tuple[Any, ...], params: dict[str, Any], tracked: bool
) -> Any:
    """The node of a result, with the source line of the call."""
    out = _new(_tensor)
    out._data = y
    out._grad = out._hooks = out._call = None
    if tracked and (mode := _get_mode() or current_mode()):
        frame = _get_frame(1)
        code = frame.f_code
        while passed_over[code.co_filename]:
            frame = frame.f_back  # type: ignore[assignment]
            code = frame.f_code
        out._code = code
        out._instruction = frame.f_lasti
        out._requires_grad = True
        out._op = record
        out._inputs = inputs
        out._values = _arrays(inputs)
        out._params = params
        out._made = tick()
        if mode > ON:
            inspect(out, mode)
    else:
        out._requires_grad = False
        out._op = None
        if tracers:
            _note(record, inputs, params, out)
    return out


def _note(record: Op, inputs: tuple[Any, ...], params: dict[str, Any], out: Node) -> None:
    tracer = tracing()
    if tracer is not None:
        tracer.note(record, inputs, params, out)


# ------------------------------------------------------------------ dtypes: PyTorch's promotion


def _promoted(record: Op, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """Run an op whose inputs or output are not all arrays of one dtype.

    Integers and booleans count as float32 where the result has a fraction. What NumPy gives as
    int8 for booleans, their square say, is int64. NumPy computes the exp of a bool or an int8 in
    float16: the result is computed again, without the warnings of the first time.
    """
    try:
        inputs = tuple(_tensor_like(record, x) for x in _without_lists(inputs))
        arrays = _arrays(inputs)
        if isinstance(record.forward, np.ufunc) and len(arrays) > record.forward.nin:
            raise TypeError(f"expected {record.forward.nin} inputs, got {len(arrays)}.")
        whole = not any(isinstance(x, ndarray) and x.dtype.kind == "f" for x in arrays)
        if not whole and record.promote and record.forward in _ARITHMETIC:
            dtype, wider = common_dtype(inputs), np.result_type(*arrays)
            if wider.kind == "f" and wider != dtype:  # NumPy would compute twice the bytes
                inputs = tuple(_in_dtype(x, dtype, True) for x in inputs)
                arrays = _arrays(inputs)
        with np.errstate(all="ignore") if whole and record.rules else nullcontext():
            y = np.asarray(record.forward(*arrays, **params))
        if record.promote and y.dtype.kind == "f":
            dtype = common_dtype(inputs)
            if y.dtype != dtype or whole:
                inputs = tuple(
                    _in_dtype(x, dtype, _is_number(record, i)) for i, x in enumerate(inputs)
                )
                y = np.asarray(record.forward(*_arrays(inputs), **params)).astype(dtype, copy=False)
        if y.dtype.kind not in "fiub":
            raise TypeError(f"expected real numbers, got a result of {y.dtype}.")
        if record.promote and y.dtype == np.int8 and np.result_type(*arrays) == np.bool_:
            y = y.astype(np.int64)
    except Exception as error:
        raise explained(record, inputs, params, error) from error
    tracked = y.dtype.kind == "f" and any(isinstance(x, Node) and x._requires_grad for x in inputs)
    return record_result(record, y, inputs, params, tracked and bool(record.rules))


_ARITHMETIC = (np.add, np.subtract, np.multiply, np.true_divide)
"""Functions that compute in the dtype of their result; no comparison does."""


def _arrays(inputs: Iterable[Any]) -> list[Any]:
    return [x._data if isinstance(x, Node) else x for x in inputs]


def _without_lists(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Lists of numbers as arrays; floats take the common dtype of the inputs."""
    return tuple(
        _array_of(x, common_dtype(inputs)) if isinstance(x, list | tuple) else x for x in inputs
    )


def _array_of(numbers: Any, dtype: np.dtype[Any]) -> ndarray:
    array = np.asarray(numbers)
    return array.astype(dtype) if array.dtype.kind == "f" else array


def _tensor_like(record: Op, x: Any) -> Any:
    refuse_masked(x, record.__name__)
    if x is None or isinstance(x, Node | ndarray | np.generic | int | float | bool):
        return x
    raise TypeError(f"expected a Tensor, array or number, got a {type(x).__name__}.")


def common_dtype(inputs: Iterable[Any]) -> np.dtype[Any]:
    """The floating dtype of a result: of the arrays, else of the 0-d Tensors, else float32.

    A number, NumPy scalar or 0-d array beside a Tensor never widens the result (PyTorch's rule).
    """
    arrays, scalars = [], []
    for x in inputs:
        value = x._data if isinstance(x, Node) else x
        if isinstance(value, ndarray) and value.dtype.kind == "f":
            if value.ndim:
                arrays.append(value.dtype)
            elif isinstance(x, Node):
                scalars.append(value.dtype)
    return np.result_type(*(arrays or scalars or [np.dtype(np.float32)]))


def has_float_tensor(value: Any) -> bool:
    """Whether a Tensor of floats is among arguments."""
    if isinstance(value, Node):
        return value._data.dtype.kind == "f"
    if isinstance(value, dict):
        return any(map(has_float_tensor, value.values()))
    return isinstance(value, list | tuple) and any(map(has_float_tensor, value))


def _is_number(record: Op, i: int) -> bool:
    """Whether input `i` is a number to compute with, not an index or a condition."""
    rules = record.rules
    return record.shared or not rules or (i < len(rules) and rules[i] is not None)


def _in_dtype(x: Any, dtype: np.dtype[Any], number: bool) -> Any:
    """A float or a number of another kind in a floating dtype; an index or condition as it is."""
    array = x._data if isinstance(x, Node) else x
    if not isinstance(array, ndarray | np.generic) or array.dtype == dtype:
        return x
    if array.dtype.kind != "f" and not number:
        return x
    return astype(x, dtype=dtype)


def _astype(x: ndarray, *, dtype: Any) -> ndarray:
    return x.astype(dtype, copy=False)


# The walker gives every cotangent the dtype of its input.
astype = op(_astype, lambda g, y, x, dtype: g, promote=False)


FLOAT16 = np.dtype(np.float16)


def widened(x: Any) -> Any:
    """A float16 array or Tensor as float32, anything else as it is."""
    if getattr(x, "dtype", None) == FLOAT16:
        return x.astype(np.float32)
    return x


def in_float32(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A function that adds or multiplies many elements; it computes float16 in float32."""

    @wraps(forward)
    def carried(x: Any, *inputs: Any, **params: Any) -> Any:
        if getattr(x, "dtype", None) is not FLOAT16:
            return forward(x, *inputs, **params)
        y = forward(widened(x), *map(widened, inputs), **params)
        return y.astype(FLOAT16) if y.dtype == np.float32 else y

    return carried


# ------------------------------------------------------------------ errors


def alias(name: str, function: Callable[P, R], *inner: str, owner: str = "") -> Callable[P, R]:
    """`function` under another name, with which its errors begin.

    inner: further functions whose errors it passes on. owner: the class of a method.
    """
    heads = (function.__name__, *inner)

    @wraps(function, updated=())
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            begin_with(error, name, *heads)
            raise

    called.__name__, called.__qualname__ = name, f"{owner}.{name}".lstrip(".")
    return called


def passes_on(*inner: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let errors of `inner` functions begin with the name of the decorated one."""
    return lambda function: alias(function.__name__, function, *inner)


def begin_with(error: Exception, name: str, *heads: str) -> None:
    """Put `name` for one of `heads` at the beginning of a message."""
    said = error.args[0] if len(error.args) == 1 else str(error)
    for head in heads:
        if isinstance(said, str) and said.startswith((f"{head}:", f"{head}(")):
            error.args = (name + said[len(head) :],)
            if isinstance(error, AxisError):
                error._msg = error.args[0]  # type: ignore[attr-defined]
            return


def explained(
    record: Op, inputs: Sequence[Any], params: dict[str, Any], error: Exception
) -> Exception:
    """The error of an op's forward function, naming the op, its inputs and its parameters."""
    said = ", ".join([shapes_of(inputs), *(f"{k}={v!r:.60}" for k, v in params.items())])
    message = f"{record.__name__}({said}): {reason(error)}"
    for kind in (AxisError, np.linalg.LinAlgError, IndexError, TypeError, ValueError, MemoryError):
        if isinstance(error, kind):
            return kind(message)
    error.add_note(f"in {record.__name__}({said})")
    return error


__all__ = ["Op", "astype", "common_dtype", "constant", "explained", "numpy_table", "op"]
