"""`Module`: a function with named parameters."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial, wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, Self, TypeVar

import numpy as np
from numpy import ndarray
from numpy.lib.npyio import NpzFile

from tinygrad_kr.arrays.operands import as_array, as_dtype, begin_with, without_device
from tinygrad_kr.changes import Change, make_all
from tinygrad_kr.files import refuse_path
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.nn import init
from tinygrad_kr.nn.copying import deepcopied, rebuilt, refuse_unpicklable
from tinygrad_kr.nn.error_path import locate
from tinygrad_kr.nn.parameter import Parameter
from tinygrad_kr.tensor import Tensor, note_call, note_change, now

if TYPE_CHECKING:
    from tinygrad_kr.nn.summary import Summary

P = ParamSpec("P")
Hook = Callable[..., Any]
Held = TypeVar("Held")
_NPY_HEADER = 1 << 14
"""Limit: the header of an array in a file, of which NumPy reads 10,000 characters; bytes."""
_NO_BUFFERS: Mapping[str, bool] = MappingProxyType({})


def _naming_the_layer(make: Callable[P, None]) -> Callable[P, None]:
    """A layer's `__init__` whose errors begin with the layer, not with what it calls."""

    @wraps(make)
    def named(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            make(*args, **kwargs)
        except (TypeError, ValueError) as error:
            name = type(args[0]).__name__
            layers = (base.__name__ for base in type(args[0]).__mro__)
            begin_with(error, name, *layers, *init.__all__, "bernoulli", "Parameter")
            said = error.args[0] if len(error.args) == 1 else None
            if isinstance(said, str) and not said.startswith((f"{name}:", f"{name}.")):
                error.args = (f"{name}: {said}",)
            raise

    return named


class LoadResult(NamedTuple):
    """The result of `load_state_dict(strict=False)`: the keys that did not fit."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class Module:
    """Base class of layers and nets: define `forward`, call the module.

    An attribute that is a `Parameter`, a `Module` or (by `register_buffer`) a Tensor belongs to the
    module: `parameters()`, `state_dict()` and `to()` find it under the attribute's name. Nothing
    else is registered, neither a plain Tensor nor a list of modules (use `ModuleList`).

    An exception in `forward` keeps its type and cause. Its message starts with the path of the
    module in the net, the module, and the shapes:
    `net.2: Linear(in_features=5, out_features=3, bias=True): expected (..., 5), got (4, 7): ...`.

    >>> class Square(nn.Module):
    ...     def __init__(self):
    ...         self.scale = nn.Parameter(tk.ones(1))
    ...     def forward(self, x):
    ...         return self.scale * x**2
    >>> Square()(tk.tensor([3.0]))
    Tensor([9.], op=multiply)
    """

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the package's own layers say what to write for PyTorch's `device=`.

        The errors of their construction begin with the layer.
        """
        super().__init_subclass__(**options)
        if cls.__module__.startswith("tinygrad_kr.") and "__init__" in vars(cls):
            made = without_device(cls.__init__)
            cls.__init__ = _naming_the_layer(made)  # type: ignore[method-assign]

    # Class defaults that an instance replaces on demand: a subclass need not call __init__.
    training: bool = True
    _persistent: Mapping[str, bool] = _NO_BUFFERS
    _hooks: _Hooks | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            start = now()
            if self._hooks is None:
                output = self.forward(*args, **kwargs)
            else:
                output = self._hooks.around(self, args, kwargs)
            note_call(output, self, start)
            return output
        except Exception as error:
            locate(error, self, args, kwargs)
            raise

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the output; every subclass defines it."""
        raise NotImplementedError(f"{type(self).__name__} defines no forward()")

    # -------------------------------------------------------------- copying

    def __copy__(self) -> Self:
        return rebuilt(self, lambda x: x, {})  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return deepcopied(self, memo)  # type: ignore[no-any-return]

    def __reduce_ex__(self, protocol: Any) -> Any:
        reduced = super().__reduce_ex__(protocol)
        refuse_unpicklable(self, reduced, protocol)
        return reduced

    # -------------------------------------------------------------- registration

    def __setattr__(self, name: str, value: Any) -> None:
        held = self.__dict__.get(name)
        if held is not None and value is not None:
            kind = self._kind(name, held)
            if kind is not None and not isinstance(value, kind):
                raise TypeError(
                    f"{type(self).__name__}.{name}: expected a {kind.__name__}, as is registered, "
                    f"got {type(value).__name__}. Assign a {kind.__name__} or None, or `del` it "
                    "first"
                )
        if held is not value or value is None:
            note_change()
        super().__setattr__(name, value)

    def _kind(self, name: str, held: Any) -> type | None:
        if name in self._persistent:
            return Tensor
        return next((kind for kind in (Parameter, Module) if isinstance(held, kind)), None)

    def __delattr__(self, name: str) -> None:
        note_change()
        super().__delattr__(name)
        if name in self._persistent:
            self._persistent = {key: kept for key, kept in self._persistent.items() if key != name}

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Make a Tensor (or None) part of the module though it is not trained: a running mean.

        persistent: keep it in `state_dict()`.

        Raises TypeError for anything else, KeyError for a name that is taken.
        """
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(
                f"register_buffer: expected a Tensor or None for {name!r}, got "
                f"{type(tensor).__name__}."
            )
        self._check_name(name)
        self._persistent = {**self._persistent, name: persistent}
        setattr(self, name, tensor)

    def register_parameter(self, name: str, parameter: Parameter | None) -> None:
        """`module.name = parameter`, for a computed name."""
        if parameter is not None and not isinstance(parameter, Parameter):
            raise TypeError(
                f"register_parameter: expected a Parameter or None for {name!r}, got "
                f"{type(parameter).__name__}. Wrap it: nn.Parameter(...)"
            )
        self._check_name(name)
        setattr(self, name, parameter)

    def add_module(self, name: str, module: Module | None) -> None:
        """`module.name = module`, for a computed name."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(
                f"add_module: expected a Module or None for {name!r}, got {type(module).__name__}."
            )
        self._check_name(name)
        setattr(self, name, module)

    register_module = add_module

    def _check_name(self, name: str) -> None:
        if not isinstance(name, str):
            raise TypeError(
                f"{type(self).__name__}: expected a string as name, got {type(name).__name__}."
            )
        if not name or "." in name:
            raise KeyError(
                f"{type(self).__name__}: expected a name without a dot, not empty, got {name!r}."
            )
        if name not in self.__dict__ and hasattr(self, name):
            raise KeyError(
                f"{type(self).__name__}: expected a new name, got the attribute {name!r}."
            )

    # -------------------------------------------------------------- members

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The modules among the attributes, with their names, each once."""
        seen: set[int] = set()
        for name, value in vars(self).items():
            if isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                yield name, value

    def children(self) -> Iterator[Module]:
        """The modules among the attributes, each once."""
        return (child for _, child in self.named_children())

    def named_modules(
        self, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Module]]:
        """This module, then those inside it, depth first, with their paths (`"layers.0"`).

        remove_duplicate: yield a module with several paths once, by the first.
        """
        return _walk(self, prefix, set() if remove_duplicate else None, ())

    def modules(self) -> Iterator[Module]:
        """This module and all modules inside it, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their paths. A shared one comes once, by its first path."""
        seen: set[int] = set()
        for path, module in self._holders(prefix, recurse, remove_duplicate):
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and not (remove_duplicate and id(value) in seen):
                    seen.add(id(value))
                    yield _joined(path, name), value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters, shared ones once: the argument of an optimizer.

        Warns of modules or parameters in a plain list, which are not registered.
        """
        for module in self.modules() if recurse else ():
            for name, value in vars(module).items():
                if value.__class__ is list and value and isinstance(value[0], Module | Parameter):
                    self._warn_of_list(module, name, value[0])
        return (parameter for _, parameter in self.named_parameters(recurse=recurse))

    def _warn_of_list(self, module: Module, name: str, held: Module | Parameter) -> None:
        own = self.modules() if isinstance(held, Module) else dict(self.named_parameters()).values()
        if not any(held is one for one in own):
            kind = "ModuleList" if isinstance(held, Module) else "ParameterList"
            warnings.warn(
                f"{type(module).__name__}.{name} is a plain list: its members are not registered, "
                f"so they are neither trained nor saved. Make it an nn.{kind} (or a tuple, if that "
                "is meant)",
                stacklevel=3,
            )

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """The registered buffers with their paths, persistent or not."""
        seen: set[int] = set()
        for path, module in self._holders(prefix, recurse, remove_duplicate):
            for name in module._persistent:
                value = vars(module).get(name)
                if value is not None and not (remove_duplicate and id(value) in seen):
                    seen.add(id(value))
                    yield _joined(path, name), value

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The registered buffers, each once."""
        return (buffer for _, buffer in self.named_buffers(recurse=recurse))

    def _holders(
        self, prefix: str, recurse: bool, remove_duplicate: bool
    ) -> Iterator[tuple[str, Module]]:
        if recurse:
            return self.named_modules(prefix, remove_duplicate)
        return iter([(prefix, self)])

    def get_submodule(self, target: str) -> Module:
        """The module at a path; `""` is this one.

        Raises AttributeError that names the missing part.
        """
        module = self
        for name in target.split(".") if target else ():
            found = vars(module).get(name)
            if not isinstance(found, Module):
                names = ", ".join(name for name, _ in module.named_children()) or "none"
                raise AttributeError(
                    f"get_submodule({target!r}): expected a module of {type(module).__name__} "
                    f"({names}), got {name!r}."
                )
            module = found
        return module

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a path such as `"layers.0.weight"`."""
        table = dict(self.named_parameters(remove_duplicate=False))
        return self._get(target, table, "parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer at a path such as `"norm.running_mean"`."""
        return self._get(target, dict(self.named_buffers(remove_duplicate=False)), "buffer")

    def _get(self, target: str, table: dict[str, Held], kind: str) -> Held:
        if target not in table:
            raise AttributeError(
                f"get_{kind}: expected a {kind} of {type(self).__name__} "
                f"({', '.join(table) or 'none'}), got {target!r}."
            )
        return table[target]

    # -------------------------------------------------------------- settings

    def train(self, mode: bool = True) -> Self:
        """Switch to training, with all modules inside: dropout drops, batch norm uses the batch."""
        if not isinstance(mode, bool):
            raise TypeError(f"Module.train: expected a bool, got {type(mode).__name__}.")
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch to evaluation: `train(False)`."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set the gradients to None; with `set_to_none=False`, write 0 into their arrays."""
        for _, parameter in self.named_parameters():
            if set_to_none or parameter.grad is None:
                parameter.grad = None
            else:
                parameter.grad = parameter.grad.detach().zero_()

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call `function` on every module, innermost first: for initialisation."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    @without_device
    def to(self, dtype: Any) -> Self:
        """Convert the floating-point parameters, gradients and buffers to `dtype`, in place.

        Parameters keep their identity, so an optimizer still holds them. Integers stay.
        Raises TypeError for a dtype that is not floating.
        """
        dtype = as_dtype(dtype)
        if dtype.kind != "f":
            raise TypeError(f"Module.to: expected a floating dtype, got {dtype}.")
        for tensor in (*self.parameters(), *self.buffers()):
            if tensor.dtype.kind == "f" and tensor.dtype != dtype:
                gradient, tensor.grad = tensor.grad, None
                tensor.data = tensor.data.astype(dtype)
                tensor.grad = None if gradient is None else gradient.detach().astype(dtype)
        return self

    def cuda(self, device: Any = None) -> Self:
        """PyTorch's move to a GPU, which raises TypeError: there are no devices."""
        return self.to("cuda")

    def cpu(self) -> Self:
        """PyTorch's move from a GPU, which raises TypeError: there are no devices."""
        return self.to("cpu")

    def float(self) -> Self:
        """`to(np.float32)`."""
        return self.to(np.float32)

    def double(self) -> Self:
        """`to(np.float64)`."""
        return self.to(np.float64)

    # -------------------------------------------------------------- state

    def _state(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """The Tensors of `state_dict()`, with PyTorch's keys and order."""
        for path, module in self.named_modules(prefix, remove_duplicate=False):
            yield from module.named_parameters(path, recurse=False, remove_duplicate=False)
            for name, persistent in module._persistent.items():
                value = vars(module).get(name)
                if persistent and value is not None:
                    yield _joined(path, name), value

    def state_dict(self) -> dict[str, ndarray]:
        """Copies of all parameters and persistent buffers as arrays, by path (PyTorch's keys).

        A shared parameter appears under each of its paths, as in PyTorch.
        """
        return {path: tensor.data.copy() for path, tensor in self._state()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Write saved values into the parameters and buffers: all of them, or none.

        state: from `state_dict()`, or PyTorch's own: path -> ndarray, Tensor or anything with
            `__array__`, of the same shape and dtype. Of an open `.npz`, `np.load(path)`, no member
            is read that is longer than its parameter. The keys of PyTorch's
            `parametrizations.weight_norm` are read as those of `nn.utils.weight_norm`.
        strict: refuse missing and unexpected keys. False returns them.

        Raises RuntimeError that lists every missing or unexpected key and every wrong shape or
        dtype, before anything is written; TypeError for a masked array. A later backward through an
        older graph raises MutationError. The path of a `.pt` file raises ValueError with the code
        that converts it in PyTorch.
        """
        changes, result = self._loading(state, strict)
        make_all(changes)
        return result

    def _loading(
        self, state: Mapping[str, Any], strict: bool = True, of_file: bool = False
    ) -> tuple[Iterator[Change], LoadResult]:
        """The changes that load a state, after all its checks.

        of_file: the arrays of `state` are nobody else's, and are let go one by one; a Tensor with
            several names may be there under one of them.
        """
        refuse_path("load_state_dict", state, "a dict of arrays")
        if not isinstance(state, Mapping):
            raise TypeError(
                f"load_state_dict: expected a dict of arrays, got {type(state).__name__}."
            )
        own = dict(self._state())
        names = {_our_key(key, own, state): key for key in state}
        there = {id(own[key]) for key in own if key in names} if of_file else set()
        missing = [key for key in own if key not in names and id(own[key]) not in there]
        unexpected = [key for key in names if key not in own]
        trouble = [f"missing: {key} {_form(own[key].data)}" for key in missing if strict]
        trouble += [f"unexpected: {key}{_HINTS.get(key, '')}" for key in unexpected if strict]
        arrays: dict[str, ndarray] = {}
        masked = False
        for key, tensor in own.items():
            if key in names:
                try:
                    value = _saved(state, names[key], tensor)
                    masked |= isinstance(value, ndarray) and hasattr(value, "_mask")
                    arrays[key] = _fitting(value, tensor, copy=not of_file)
                except (TypeError, ValueError, RuntimeError) as error:
                    trouble.append(f"{key}: {error}")
        if trouble:
            trouble += _wrapped(own, names)
            path = f"{state.zip.filename}: " if isinstance(state, NpzFile) and state.zip else ""
            raise (TypeError if masked else RuntimeError)(
                f"{type(self).__name__}.load_state_dict: {path}changed nothing:\n  "
                + "\n  ".join(trouble)
            )
        return _overwritings(own, arrays), LoadResult(missing, unexpected)

    # -------------------------------------------------------------- hooks

    def register_forward_pre_hook(self, hook: Hook) -> Handle:
        """Call `hook(module, args)` before forward; a result other than None replaces `args`."""
        hooks = self._with_hooks()
        return hooks.register(hooks.before, hook)

    def register_forward_hook(self, hook: Hook) -> Handle:
        """Call `hook(module, args, output)` after forward; a result not None replaces `output`."""
        hooks = self._with_hooks()
        return hooks.register(hooks.after, hook)

    def _with_hooks(self) -> _Hooks:
        if self._hooks is None:
            self._hooks = _Hooks()
        return self._hooks

    # -------------------------------------------------------------- repr

    def extra_repr(self) -> str:
        """The settings in `repr`, between the parentheses."""
        return ""

    def wanted_input(self) -> str:
        """The input shape for error messages, such as `(..., 5)`; empty if any shape fits."""
        return ""

    def __repr__(self) -> str:
        name, extra = type(self).__name__, self.extra_repr()
        children = [f"({key}): {child!r}" for key, child in _listed(self)]
        if not children:
            return f"{name}({extra})"
        lines = "\n".join([extra, *children] if extra else children).replace("\n", "\n  ")
        return f"{name}(\n  {lines}\n)"

    def _repr_html_(self) -> str:
        """In a notebook: the table of `summary()`, and `repr` below it."""
        from tinygrad_kr import html
        from tinygrad_kr.nn.summary import summary

        table, shown = summary(self)._repr_html_(), repr(self)
        return table + html.folded(type(self).__name__ + "(...)", html.plain(shown))

    def summary(self, example: Any = None) -> Summary:
        """A table of the modules: path, type, output shape, parameters, bytes, multiply-adds.

        example: an input's shape with the batch axis, `(1, 784)`; or an input itself (a Tensor, an
            array, or a tuple of several). It is run in eval mode without recording. Without an
            example there are no columns of output shapes and multiply-adds. These are counted for
            matrix products and convolutions, for each module without those inside it.

        The result is a string in the language in force; a notebook shows it as a table.

        >>> print(nn.Sequential(nn.Linear(2, 1)).summary((4, 2)))
        Sequential
        -------------------------------------------------------
        layer  type    output  parameters  bytes  multiply-adds
        -------------------------------------------------------
        0      Linear  (4, 1)           3     12              8
        -------------------------------------------------------
        parameters: 3 (3 trained, 0 frozen), float32
        buffers: 0; all together 12 bytes
        multiply-adds of products and convolutions: 8
        """
        from tinygrad_kr.nn.summary import summary

        return summary(self, example)


def _walk(
    module: Module, prefix: str, seen: set[int] | None, above: tuple[Module, ...]
) -> Iterator[tuple[str, Module]]:
    if seen is None:
        if any(module is holder for holder in above):
            raise RuntimeError(f"Module: expected a tree of modules, got {prefix!r} inside itself.")
    elif id(module) in seen:
        return
    else:
        seen.add(id(module))
    yield prefix, module
    for name, child in _listed(module):
        yield from _walk(child, _joined(prefix, name), seen, (*above, module))


def _listed(module: Module) -> list[tuple[str, Module]]:
    """The modules among the attributes, under every name they have."""
    return [(name, value) for name, value in vars(module).items() if isinstance(value, Module)]


def _joined(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


_HINTS = {"__metadata__": " (tk.load reads a file of tk.save with more than a model)"}
"""What to do with keys that are no parameter's."""


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in this machine's byte order."""
    return dtype.newbyteorder("=")


def _form(array: ndarray) -> str:
    return f"{array.dtype}{array.shape}"


def _fitting(value: Any, target: Tensor, copy: bool) -> ndarray:
    """`value` as an array of the target's shape and dtype; raises with the reason."""
    array = as_array(value if isinstance(value, Tensor | ndarray) else np.asarray(value))
    if array.shape != target.shape or _native(array.dtype) != _native(target.dtype):
        hint = "" if array.dtype == target.dtype else " (module.to(dtype) changes a module's dtype)"
        raise ValueError(f"expected {_form(target.data)}, got {_form(array)}{hint}")
    if not target.is_leaf:
        raise ValueError("expected a leaf, got a computed Tensor, part of a graph")
    if not target.data.flags.writeable:
        raise ValueError("expected writable memory, got a read-only array")
    return array.copy() if copy else array


def _overwritings(own: Mapping[str, Tensor], arrays: dict[str, ndarray]) -> Iterator[Change]:
    """A change for each array. The array is let go as soon as it is written."""
    for key in list(arrays):
        write, tensor = _overwriting(own[key]), own[key]
        yield partial(write, arrays.pop(key)), partial(write, tensor._data.copy())


def _overwriting(tensor: Tensor) -> Callable[[ndarray], None]:
    @no_grad()
    def write(array: ndarray) -> None:
        tensor._overwrite(..., array, "load_state_dict")

    return write


def _wrapped(own: Collection[str], given: Collection[Any]) -> list[str]:
    """What to do where all keys, or those of the state, begin with the name of a wrapper."""
    for prefix in _beginnings(given, own):
        stripped = f"{{key.removeprefix({prefix!r}): value for key, value in state.items()}}"
        return [f"Every key begins with {prefix!r}: load {stripped}"]
    for prefix in _beginnings(own, given):
        return [f"Load it into the module {prefix.rstrip('.')!r} inside of this one"]
    return []


def _beginnings(longer: Collection[Any], shorter: Collection[Any]) -> Iterator[str]:
    """What stands before each key of `shorter` in `longer`, if that is all that differs."""
    first = next(iter(shorter), "")
    for key in longer:
        if first and isinstance(key, str) and key.endswith(f".{first}"):
            prefix = key.removesuffix(first)
            if len(longer) == len(shorter) and all(f"{prefix}{x}" in longer for x in shorter):
                yield prefix


def _our_key(key: Any, own: Collection[str], state: Mapping[str, Any]) -> Any:
    """The key that a length or direction has here, `weight_g` or `weight_v`; any other as it is."""
    found = _PARAMETRIZED.fullmatch(key) if isinstance(key, str) else None
    if found is None or key in own:
        return key
    ours = f"{found[1]}{found[2]}_{'gv'[int(found[3])]}"
    return ours if ours in own and ours not in state else key


_PARAMETRIZED = re.compile(r"((?:.*\.)?)parametrizations\.(\w+)\.original([01])", re.S)
"""The keys of `torch.nn.utils.parametrizations.weight_norm`."""


def _saved(state: Mapping[str, Any], key: str, target: Tensor) -> Any:
    """`state[key]`. Of a file, whose members may inflate to any size, only what can fit."""
    if not isinstance(state, NpzFile):
        return state[key]
    if state.zip is None:
        raise ValueError("expected an open file, got a closed one")
    member = state.zip.NameToInfo.get(key) or state.zip.getinfo(f"{key}.npy")
    most = target.data.nbytes + _NPY_HEADER
    if member.file_size > most:
        raise ValueError(
            f"expected {_form(target.data)}, at most {most:,} bytes, got {member.file_size:,}"
        )
    try:
        return state[key]
    except Exception as error:
        raise ValueError(f"expected an array, got {type(error).__name__}: {error}") from error


# ------------------------------------------------------------------ hooks


class Handle:
    """Removes a hook: with `remove()`, or at the end of a `with` block."""

    def __init__(self, hooks: dict[int, Hook], key: int) -> None:
        self._registry, self._key = hooks, key

    def remove(self) -> None:
        """Remove the hook; a second call does nothing."""
        note_change()
        self._registry.pop(self._key, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.remove()


class _Hooks:
    """The hooks of one module, in order of registration."""

    def __init__(self) -> None:
        self.before: dict[int, Hook] = {}
        self.after: dict[int, Hook] = {}
        self.registered = 0

    def register(self, registry: dict[int, Hook], hook: Hook) -> Handle:
        note_change()
        self.registered += 1
        registry[self.registered] = hook
        return Handle(registry, self.registered)

    def around(self, module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for hook in list(self.before.values()):
            given = hook(module, args)
            if given is not None:
                args = given if isinstance(given, tuple) else (given,)
        output = module.forward(*args, **kwargs)
        for hook in list(self.after.values()):
            given = hook(module, args, output)
            if given is not None:
                output = given
        return output
