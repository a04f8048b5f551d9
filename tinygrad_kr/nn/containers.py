"""Modules made of modules: in a row, in a list, by name."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, SupportsIndex, overload

from tinygrad_kr.nn.error_path import locate
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.parameter import Parameter


class _Numbered(Module):
    """Members of one kind under the attribute names "0", "1", ...: what the lists share."""

    _member: type = Module

    def _names(self) -> list[str]:
        return [name for name, value in vars(self).items() if isinstance(value, self._member)]

    def _members(self) -> list[Any]:
        member = self._member
        return [value for value in vars(self).values() if isinstance(value, member)]

    def _rename(self, members: Iterable[Any]) -> None:
        """Hold these members, numbered from 0."""
        members = [self._checked(member) for member in members]
        for name in self._names():
            delattr(self, name)
        for number, member in enumerate(members):
            setattr(self, str(number), member)

    def _checked(self, member: Any) -> Any:
        if not isinstance(member, self._member):
            hint = ""
            if isinstance(member, type) and issubclass(member, self._member):
                hint = f": write {member.__name__}() with brackets"
            elif isinstance(member, list | tuple):
                hint = f": write {type(self).__name__}(*layers) with a star"
            raise TypeError(
                f"{type(self).__name__} holds {self._member.__name__}s, not "
                f"{type(member).__name__}{hint}"
            )
        return member

    def _name_at(self, index: SupportsIndex) -> str:
        names = self._names()
        position = operator.index(index)
        if not -len(names) <= position < len(names):
            raise IndexError(f"{type(self).__name__}: index {position} of {len(names)} members")
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
        """Add one at the end."""
        return self.extend([member])

    def extend(self, members: Iterable[Any]) -> Self:
        """Add several at the end."""
        members = [self._checked(member) for member in members]
        for member in members:
            name = str(len(self))
            self._check_name(name)
            if name in vars(self):
                raise KeyError(f"{type(self).__name__} already has a member {name!r}")
            setattr(self, name, member)
        return self

    def insert(self, index: SupportsIndex, member: Any) -> Self:
        """Add one before `index`; those after it are numbered anew."""
        members = self._members()
        members.insert(index, member)
        self._rename(members)
        return self

    def pop(self, index: SupportsIndex = -1) -> Any:
        """Take one out and return it."""
        member = getattr(self, self._name_at(index))
        del self[index]
        return member


class Sequential(_Numbered):
    """Modules one after the other: `Sequential(f, g)(x) = g(f(x))`.

    modules: in order, named "0", "1", ...; or one dict of names and modules.

    `net[1]` is a module, `net[:2]` a Sequential of the same modules. Source: `torch.nn.Sequential`.
    """

    def __init__(self, *modules: Any) -> None:
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self.add_module(name, self._checked(module))
        else:
            self.extend(modules)

    def forward(self, x: Any) -> Any:
        """A layer without hooks is not called but run: a small net spends its time on calls."""
        for module in vars(self).values():
            if not isinstance(module, Module):
                continue
            if module._hooks is not None:
                x = module(x)
                continue
            try:
                x = module.forward(x)
            except Exception as error:
                locate(error, module, (x,), {})
                raise
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
    """A list whose modules are registered, for a `forward` that loops over them itself.

    Indexing, slicing, `append`, `extend`, `insert`, `pop`, `len` and iteration as in a list.
    """

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self.extend(modules)

    @overload
    def __getitem__(self, index: slice) -> ModuleList: ...
    @overload
    def __getitem__(self, index: SupportsIndex) -> Any: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        if isinstance(index, slice):
            return ModuleList(self._members()[index])
        return vars(self)[self._name_at(index)]


class ParameterList(_Numbered):
    """A list whose parameters are registered; as `ModuleList` otherwise."""

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
    """A dict whose modules are registered, in the order in which they came."""

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] = ()) -> None:
        self.update(modules)

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace several."""
        for name, module in dict(modules).items():
            self[name] = module

    def __getitem__(self, name: str) -> Module:
        found = vars(self).get(name)
        if not isinstance(found, Module):
            raise KeyError(f"no module {name!r} (there are: {', '.join(self) or 'none'})")
        return found

    def __setitem__(self, name: str, module: Module) -> None:
        self.add_module(name, module)

    def __delitem__(self, name: str) -> None:
        self.pop(name)

    def pop(self, name: str) -> Module:
        """Take one out and return it."""
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
        """Names and modules."""
        return ((name, self[name]) for name in self.keys())
