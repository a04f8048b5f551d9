"""Modules that hold modules: in sequence, in a list, by name."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, SupportsIndex, overload

from numpy import ndarray

from tinygrad_kr.nn.error_path import locate
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import Parameter
from tinygrad_kr.tensor import Tensor, note_call, now


class _Numbered(Module):
    """Base class of the lists: members of one type, under the attribute names "0", "1", ..."""

    _member: type = Module

    def _names(self) -> list[str]:
        return [name for name, value in vars(self).items() if isinstance(value, self._member)]

    def _members(self) -> list[Any]:
        member = self._member
        return [value for value in vars(self).values() if isinstance(value, member)]

    def _rename(self, members: Iterable[Any]) -> None:
        """Replace the members, numbered from 0."""
        members = [self._checked(member) for member in members]
        for name in self._names():
            delattr(self, name)
        for number, member in enumerate(members):
            setattr(self, str(number), member)

    def _checked(self, member: Any) -> Any:
        if not isinstance(member, self._member):
            hint = ""
            if isinstance(member, type) and issubclass(member, self._member):
                hint = f" Write {member.__name__}() with parentheses"
            elif isinstance(member, list | tuple):
                hint = f" Write {type(self).__name__}(*layers) with a star"
            raise TypeError(
                f"{type(self).__name__}: expected a {self._member.__name__}, got "
                f"{type(member).__name__}.{hint}"
            )
        return member

    def _name_at(self, index: SupportsIndex) -> str:
        names = self._names()
        position = operator.index(index)
        if not -len(names) <= position < len(names):
            raise IndexError(
                f"{type(self).__name__}: expected an index of {len(names)} members, got {position}."
            )
        return names[position]

    def __len__(self) -> int:
        return len(self._names())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members())

    def __contains__(self, member: Any) -> bool:
        return any(member is mine for mine in self._members())

    def __setitem__(self, index: SupportsIndex, member: Any) -> None:
        setattr(self, self._name_at(index), self._checked(member))

    def __delitem__(self, index: SupportsIndex | slice) -> None:
        members = self._members()
        del members[index]
        self._rename(members)

    def append(self, member: Any) -> Self:
        """Add one member at the end."""
        return self.extend([member])

    def extend(self, members: Iterable[Any]) -> Self:
        """Add several members at the end."""
        members = [self._checked(member) for member in members]
        for member in members:
            name = str(len(self))
            self._check_name(name)
            if name in vars(self):
                raise KeyError(f"{type(self).__name__}: expected a new name, got {name!r} again.")
            setattr(self, name, member)
        return self

    def __iadd__(self, members: Iterable[Any]) -> Self:
        return self.extend(members)

    def insert(self, index: SupportsIndex, member: Any) -> Self:
        """Add one member before `index`; the members after it are renumbered."""
        members = self._members()
        members.insert(index, member)
        self._rename(members)
        return self

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Remove the member at `index` and return it."""
        member = getattr(self, self._name_at(index))
        del self[index]
        return member


class Sequential(_Numbered):
    """Modules in sequence: `Sequential(f, g)(x) = g(f(x))`.

    modules: in order, named "0", "1", ...; or one dict of names and modules.

    `net[1]` is a module, `net[:2]` a Sequential of the same modules.
    Raises TypeError for a member that is not a Module. Source: `torch.nn.Sequential`.

    >>> net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    >>> net(tk.ones(3, 2)).shape
    (3, 1)
    """

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, self._checked(module))
        else:
            self.extend(modules)

    def forward(self, x: Any) -> Any:
        """Apply the modules in order. A layer without hooks is run directly, which saves a call."""
        marks = []
        for module in vars(self).values():
            if not isinstance(module, Module):
                continue
            marks.append(now())
            if module._hooks is not None:
                x = module(x)
                continue
            try:
                x = module.forward(x)
            except Exception as error:
                locate(error, module, (x,), {})
                raise
        if marks:
            note_call(x, self, marks)
        return x

    @overload
    def __getitem__(self, index: slice) -> Sequential: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            return Sequential({name: vars(self)[name] for name in self._names()[index]})
        return vars(self)[self._name_at(index)]


class ModuleList(_Numbered):
    """A list whose modules are registered, for a `forward` with a loop of its own.

    modules: any iterable. Indexing, slicing, `append`, `extend`, `+=`, `+`, `insert`, `pop`, `len`
    and iteration as in a list. Raises TypeError for a member that is not a Module.

    >>> layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(3))
    >>> len(list(layers.parameters()))
    6
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            return ModuleList(self._members()[index])
        return vars(self)[self._name_at(index)]


class ParameterList(_Numbered):
    """A list whose parameters are registered; otherwise as `ModuleList`.

    >>> weights = nn.ParameterList([nn.Parameter(tk.ones(2)), nn.Parameter(tk.zeros(3))])
    >>> [name for name, _ in weights.named_parameters()]
    ['0', '1']
    """

    _member = Parameter

    def __init__(self, values: Iterable[Parameter] = ()) -> None:
        self.extend(values)

    @overload
    def __getitem__(self, index: slice) -> ParameterList: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> Parameter: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            return ParameterList(self._members()[index])
        return vars(self)[self._name_at(index)]

    def extra_repr(self) -> str:
        return "\n".join(
            f"({name}): Parameter of {p.dtype}{p.shape}"
            for name, p in zip(self._names(), self._members(), strict=True)
        )


class ModuleDict(Module):
    """A dict whose modules are registered, in order of insertion.

    >>> heads = nn.ModuleDict({"mean": nn.Linear(4, 1), "scale": nn.Linear(4, 1)})
    >>> heads["mean"]
    Linear(in_features=4, out_features=1, bias=True)
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace several modules."""
        for name, module in dict(modules).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        found = vars(self).get(name)
        if not isinstance(found, Module):
            raise KeyError(f"ModuleDict: expected one of {list(self)}, got {name!r}.")
        return found

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def pop(self, name: str) -> Module:
        """Remove a module and return it."""
        found = self[name]
        delattr(self, name)
        return found

    def __len__(self) -> int:
        return len(list(self.keys()))

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and isinstance(vars(self).get(name), Module)

    def keys(self) -> Iterator[str]:
        """The names."""
        return (name for name, value in vars(self).items() if isinstance(value, Module))

    def values(self) -> Iterator[Module]:
        """The modules."""
        return (self[name] for name in self.keys())

    def items(self) -> Iterator[tuple[str, Module]]:
        """The names and modules."""
        return ((name, self[name]) for name in self.keys())


class ParameterDict(Module):
    """A dict whose parameters are registered, in order of insertion.

    parameters: names and values. A Tensor or array becomes a `Parameter`.
    The names contain no dot. `get`, `pop`, `update`, `keys`, `values`, `items`, `in`, `len` and
    iteration as in a dict. Raises TypeError for a value of another type.

    >>> scales = nn.ParameterDict({"left": tk.ones(2), "right": tk.zeros(3)})
    >>> [name for name, _ in scales.named_parameters()]
    ['left', 'right']
    """

    def __init__(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        self.update(parameters)

    def update(self, parameters: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> None:
        """Add or replace several parameters."""
        for name, value in dict(parameters).items():
            self[name] = value

    def __getitem__(self, name: str) -> Parameter:
        found = vars(self).get(name)
        if not isinstance(found, Parameter):
            raise KeyError(f"ParameterDict: expected one of {list(self)}, got {name!r}.")
        return found

    def __setitem__(self, name: str, value: Any) -> None:
        if not isinstance(value, Tensor | ndarray):
            raise TypeError(
                f"ParameterDict: expected a Parameter, Tensor or array, got {type(value).__name__}."
            )
        value = value if isinstance(value, Parameter) else Parameter(value)
        self.register_parameter(name, value)

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def get(self, name: str, default: Any = None) -> Any:
        """The parameter of a name, or `default`."""
        found = vars(self).get(name)
        return found if isinstance(found, Parameter) else default

    def pop(self, name: str) -> Parameter:
        """Remove a parameter and return it."""
        found = self[name]
        delattr(self, name)
        return found

    def __len__(self) -> int:
        return len(list(self.keys()))

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and isinstance(vars(self).get(name), Parameter)

    def keys(self) -> Iterator[str]:
        """The names."""
        return (name for name, value in vars(self).items() if isinstance(value, Parameter))

    def values(self) -> Iterator[Parameter]:
        """The parameters."""
        return (self[name] for name in self.keys())

    def items(self) -> Iterator[tuple[str, Parameter]]:
        """The names and parameters."""
        return ((name, self[name]) for name in self.keys())

    def extra_repr(self) -> str:
        return "\n".join(f"({name}): Parameter of {p.dtype}{p.shape}" for name, p in self.items())
