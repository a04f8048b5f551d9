"""Guards: whether what a function read besides its arguments is as it was when it was traced.

A trace holds the numbers, flags and choices of one run. So guards watch what the function's code
can read: the globals and closure variables that it names, the items of lists and dicts among them,
the attributes that its code names, and the same for the functions that it calls and for modules
(mode, settings, parameters, hooks). Numbers, strings and tuples are compared by value, all else by
identity.

Code of the standard library and of installed packages is assumed constant and is not inspected.
Guards miss what only running code can find. Pass such things as arguments:

- an attribute whose name is computed (`getattr(config, "l" + "r")`);
- items of a container, or elements of an ndarray given to NumPy itself, beyond `LARGEST`;
- what a function written in C returns (`os.environ`).

Side effects, such as `print` or a progress bar, happen only while tracing, not on replay.
"""

from __future__ import annotations

import dis
import functools
import os
import random
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.ir.bindings import Constant
from tinygrad_kr.compile.trace.condition import GONE, Condition
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import PACKAGE, Node
from tinygrad_kr.ops.writes import LastChange, owner
from tinygrad_kr.optim.lr_scheduler import LRScheduler

LARGEST = 256
"""Most items of a list or dict that are compared; of a longer one only the length is."""

_ATOMS = (int, float, str, bytes, complex, bool, type(None), type(...), np.generic, np.dtype, range)
_MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing"})()
_PACKAGE = os.path.normcase(os.path.abspath(PACKAGE) + os.sep)
_INSTALLED = tuple(
    {
        os.path.normcase(os.path.abspath(path) + os.sep)
        for name, path in sysconfig.get_paths().items()
        if name in ("stdlib", "platstdlib", "purelib", "platlib")
    }
)


class Watch(NamedTuple):
    """One location that the function reads, and what it held."""

    kind: str
    holder: Any
    key: Any
    expected: Any
    where: str

    def fetch(self) -> Any:
        """What it holds now."""
        try:
            return _FETCH[self.kind](self.holder, self.key)
        except GONE:
            return _MISSING


_FETCH: dict[str, Any] = {
    "item": lambda holder, key: holder[key],
    "cell": lambda holder, key: holder.cell_contents,
    "attribute": getattr,
    "length": lambda holder, key: len(holder),
    "set": lambda holder, key: frozenset(holder),
}
_SPELLING = {
    "item": "{0}[{1}] is {2}",
    "cell": "{0}.cell_contents is {2}",
    "attribute": "getattr({0}, {1}) is {2}",
    "length": "len({0}) == {2}",
    "set": "{0} == {2}",
}


class Guards:
    """The guards of a program: all that its trace depends on. `hold()` is tested before replay."""

    def __init__(self, roots: Iterable[Any]) -> None:
        walk = _walked(roots)
        self._watches = walk.watches
        self._unset = walk.unset
        self._modules = [(module, _settings(module)) for module in walk.modules]
        self._leaves = [(leaf, leaf._requires_grad) for leaf in walk.leaves]
        self._arrays = walk.arrays
        self._elements: list[tuple[ndarray, bytes, str]] = []
        self._absent: list[Any] = []
        self._present: list[Any] = []
        self.reason = walk.reason
        self._randomness = [(g, where, _state(g)) for g, where in walk.generators]
        self._elsewhere = _elsewhere() if walk.draws_elsewhere else None
        self._write()

    def learn(self, tracer: Any) -> None:
        """What only a run shows: which `.grad` mattered, and which arrays are read anew at each
        call, so that it does not matter what they hold."""
        live = {
            id(owner(source.array))
            for source in tracer.program.inputs.values()
            if isinstance(source, Constant) and not source.fixed
        }
        self._absent, self._present = tracer.absent, tracer.present
        self._elements = [
            (array, array.tobytes(), where)
            for array, where in self._arrays
            if id(owner(array)) not in live
        ]
        self._write()

    # -------------------------------------------------------------- before each call

    def hold(self) -> bool:
        """Whether a replay is valid."""
        try:
            if self._test(()):
                return True
        except GONE:
            pass
        return self._hold_by_value()

    def _write(self) -> None:
        """Everything as one expression of identities, of some ten nanoseconds for each; it raises
        one of `GONE` where something is gone."""
        names: dict[str, Any] = {"LastChange": LastChange, "guards": self}
        self.seen = LastChange.time
        known: dict[int, str] = {}

        def name(thing: Any) -> str:
            spelled = known.setdefault(id(thing), f"watched{len(known)}")
            names[spelled] = thing
            return spelled

        terms = ["LastChange.time is guards.seen"]
        for kind, holder, key, expected, _ in self._watches:
            place = repr(key) if type(key) is str or _is_short(key) else name(key)
            terms.append(_SPELLING[kind].format(name(holder), place, name(expected)))
        terms += [f"{name(a)}.tobytes() == {name(held)}" for a, held, _ in self._elements]
        terms += [f"{name(leaf)}._grad is None" for leaf in self._absent]
        terms += [f"{name(leaf)}._grad is not None" for leaf in self._present]
        self.condition = Condition(" and ".join(terms), names)
        self._test = self.condition.test()

    def _hold_by_value(self) -> bool:
        time = LastChange.time
        if self._first_change() is not None:
            return False
        if any(leaf._grad is not None for leaf in self._absent):
            return False
        if any(leaf._grad is None for leaf in self._present):
            return False
        found = [watch._replace(expected=watch.fetch()) for watch in self._watches]
        if any(a.expected is not b.expected for a, b in zip(found, self._watches, strict=True)):
            self._watches = found
            self._write()
        self.seen = time
        return True

    # -------------------------------------------------------------- after a recorded run

    def _first_change(self) -> str | None:
        for watch in self._watches:
            if not same(watch.fetch(), watch.expected):
                return watch.where
        for module, settings in self._modules:
            now = _settings(module)
            if now.keys() != settings.keys():
                return f"the attributes of a {type(module).__name__}"
            for name, value in settings.items():
                if not same(now[name], value):
                    return f"{name!r} of a {type(module).__name__}"
        for array, held, where in self._elements:
            if array.tobytes() != held:
                return where
        for leaf, required in self._leaves:
            if leaf._requires_grad != required:
                return f"requires_grad of a {type(leaf).__name__} of shape {leaf.shape}"
        return None

    def changed_by_the_run(self, drawn_from: set[int]) -> str | None:
        """What the function itself has changed, so that it is not what a replay would do.

        drawn_from: the ids of the generators whose draws were recorded.
        """
        if self.reason is not None:
            return self.reason
        changed = self._first_change()
        for holder, name, where in self._unset:
            if changed is None and name in holder:
                changed = where
        if changed is not None:
            return f"it changes {changed} itself, which a replay would not do"
        for generator, where, state in self._randomness:
            if id(generator) not in drawn_from and _state(generator) != state:
                return f"it draws from {where} by itself: use tk.rand and the like, with generator="
        if self._elsewhere is not None and _elsewhere() != self._elsewhere:
            return "it draws random numbers that are not Tensors: use tk.rand and the like"
        return None

    def difference(self, other: Guards) -> str:
        """The first difference between the two, in words."""
        mine = {(id(w.holder), w.kind, w.key): w for w in self._watches}
        for watch in other._watches:
            before = mine.get((id(watch.holder), watch.kind, watch.key))
            if before is not None and not same(before.expected, watch.expected):
                return f"{watch.where} was {before.expected!r:.40}, then {watch.expected!r:.40}"
        return "the mode, settings or parameters of a module"


def same(a: Any, b: Any) -> bool:
    """Whether two things are identical, or equal numbers, strings or tuples of one type."""
    if a is b:
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float | np.floating):
        return repr(a) == repr(b)
    if isinstance(a, _ATOMS) or type(a) in (frozenset, MethodType, slice):
        return bool(a == b)
    return False


def _is_short(key: Any) -> bool:
    """Whether a key is an integer that Python writes down: not one of thousands of digits."""
    return type(key) is int and key.bit_length() < 64


def _settings(module: Module) -> dict[str, Any]:
    """Everything that a module's forward may depend on, but what its parameters hold."""
    settings = {**vars(module), "training": module.training}
    hooks = module._hooks
    if hooks is not None:
        settings["_hooks"] = (*hooks.before.values(), None, *hooks.after.values())
    return settings


def _state(generator: Any) -> str:
    return repr(generator.bit_generator.state)


def _elsewhere() -> Any:
    """The state of the generators of `random` and `numpy.random`."""
    numpys = sys.modules.get("numpy.random")
    return random.getstate(), None if numpys is None else repr(numpys.get_state())


# ------------------------------------------------------------------ finding what is read


def _walked(roots: Iterable[Any]) -> _Walk:
    """A walk repeated until it knows all attribute names that the code it reaches reads."""
    roots = list(roots)
    names: set[str] = set()
    while True:
        walk = _Walk(names)
        for root in roots:
            walk.visit(root, "an argument")
        if walk.found <= names:
            return walk
        names = names | walk.found


class _Walk:
    """Collects the locations that code reads; `names` are the attributes that it reads."""

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.found: set[str] = set()
        self.watches: list[Watch] = []
        self.unset: list[tuple[Any, str, str]] = []
        self.modules: list[Module] = []
        self.leaves: list[Any] = []
        self.arrays: list[tuple[ndarray, str]] = []
        self.generators: list[tuple[Any, str]] = []
        self.draws_elsewhere = "random" in names
        self.reason: str | None = None
        self._seen: dict[int, Any] = {}
        self._seen_globals: set[tuple[int, str]] = set()
        self._classes: set[tuple[type, bool]] = set()

    def visit(self, thing: Any, where: str) -> None:
        """Look at a value that the code can reach."""
        if isinstance(thing, _ATOMS) or id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing
        if isinstance(thing, ndarray):
            if thing.size <= LARGEST:
                self.arrays.append((thing, where))
            return
        if isinstance(thing, FunctionType):
            self._function(thing)
        elif isinstance(thing, MethodType):
            self.visit(thing.__self__, where)
            self.visit(thing.__func__, where)
        elif isinstance(thing, Node):
            self.leaves.append(thing)
        elif isinstance(thing, Module):
            self._module(thing, where)
        elif isinstance(thing, type):
            self._class(thing, made=True)
        elif isinstance(thing, ModuleType):
            self._namespace(thing)
        elif isinstance(thing, list | dict | set | deque | tuple | frozenset):
            self._container(thing, where)
        elif isinstance(thing, np.random.Generator):
            self.generators.append((thing, where))
        elif isinstance(thing, random.Random):
            self.draws_elsewhere = True
        elif hasattr(type(thing), "__next__"):
            self.reason = f"it reads {where}, an iterator, which gives something else at each call"
        else:
            self._object(thing, where)

    def watch(self, kind: str, holder: Any, key: Any, where: str) -> None:
        """Compare what is there before each call, and look at it now."""
        watch = Watch(kind, holder, key, None, where)
        value = watch.fetch()
        self.watches.append(watch._replace(expected=value))
        if kind not in ("length", "set"):
            self.visit(value, where)

    # -------------------------------------------------------------- code

    def _function(self, function: FunctionType) -> None:
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        if is_library(function.__code__.co_filename):
            for cell in cells.values():
                content = Watch("cell", cell, None, None, "").fetch()
                if callable(content):
                    self.visit(content, "a function")
            return
        name = function.__qualname__
        stored: set[str] = set()
        for code in _codes(function.__code__):
            self._code(code, function, stored)
        for variable, cell in cells.items():
            if cell.__class__ is CellType:
                self.watch("cell", cell, None, f"{variable!r}, a variable around {name}")
        for i, value in enumerate(function.__defaults__ or ()):
            self.visit(value, f"default {i} of {name}")
        for key, value in (function.__kwdefaults__ or {}).items():
            self.visit(value, f"the default of {key!r} of {name}")

    def _code(self, code: CodeType, function: FunctionType, stored: set[str]) -> None:
        self.found.update(code.co_names)
        self.found.update(c for c in code.co_consts if isinstance(c, str) and c.isidentifier())
        namespace = function.__globals__
        for instruction in dis.get_instructions(code):
            name = instruction.argval
            if instruction.opname in _GLOBALS and name not in stored:
                stored.add(name)
                where = f"the global {name!r}"
                if name in namespace:
                    if (id(namespace), name) not in self._seen_globals:
                        self._seen_globals.add((id(namespace), name))
                        self.watch("item", namespace, name, where)
                elif instruction.opname == "STORE_GLOBAL":
                    self.unset.append((namespace, name, where))
            elif instruction.opname == "STORE_ATTR":
                self.found.add(_STORED + name)
            elif instruction.opname == "IMPORT_NAME" and name in sys.modules:
                self.visit(sys.modules[name], f"the module {name!r}")

    # -------------------------------------------------------------- objects

    def _class(self, cls: type, made: bool = False) -> None:
        """What code may read of a class: what it names, and methods with names of Python's own.

        made: instances of it may be made too.
        """
        if (cls, made) in self._classes or is_library(_file_of(cls)):
            return
        self._classes.add((cls, made))
        for base in cls.__bases__:
            self._class(base, made)
        attributes = vars(cls)
        for name, value in list(attributes.items()):
            where = f"{name!r} of the class {cls.__name__}"
            if name in self.names:
                self.watch("item", attributes, name, where)
                self._visit_method(value, where)
            elif name in (_MAKING if made else _WORKING):
                self._visit_method(value, where)

    def _visit_method(self, value: Any, where: str) -> None:
        if isinstance(value, staticmethod | classmethod):
            value = value.__func__
        elif isinstance(value, property):
            for function in (value.fget, value.fset):
                self.visit(function, where)
        elif isinstance(value, functools.cached_property):
            value = value.func
        self.visit(value, where)

    def _namespace(self, module: ModuleType) -> None:
        if module is random or module.__name__ == "numpy.random":
            self.draws_elsewhere = True
        if is_library(getattr(module, "__file__", None)):
            return
        for name in sorted(self.names & vars(module).keys()):
            self.watch("item", vars(module), name, f"{name!r} of the module {module.__name__}")

    def _module(self, module: Module, where: str) -> None:
        self.modules.append(module)
        own = not is_library(_file_of(type(module)))
        if own:
            self.found.add("forward")
            self._class(type(module))
        for name, value in _settings(module).items():
            if own or not isinstance(value, list | dict | set):
                self.visit(value, f"{name!r} of a {type(module).__name__}")

    def _container(self, items: Any, where: str) -> None:
        fixed = isinstance(items, tuple | frozenset)
        if not fixed:
            self.watch("length", items, None, f"the number of items in {where}")
        if len(items) > LARGEST:
            return
        inside = f"an item of {where}"
        if isinstance(items, dict):
            for key in list(items):
                spelled = "a long number" if type(key) is int and not _is_short(key) else repr(key)
                self.watch("item", items, key, f"[{spelled}] of {where}")
        elif isinstance(items, list | deque):
            for i in range(len(items)):
                self.watch("item", items, i, f"[{i}] of {where}")
        else:
            if not fixed and all(isinstance(item, _ATOMS) for item in items):
                self.watch("set", items, None, where)
            for item in items:
                self.visit(item, inside)

    def _object(self, thing: Any, where: str) -> None:
        """An object of any other class."""
        if isinstance(thing, functools.partial):
            for part in (thing.func, thing.args, thing.keywords):
                self.visit(part, where)
            return
        wrapped = getattr(thing, "__wrapped__", None)
        self.visit(wrapped, where)
        if wrapped is not None and type(thing).__module__.startswith("tinygrad_kr."):
            return  # a compiled function inside a compiled one
        kind = type(thing).__name__
        attributes = getattr(thing, "__dict__", None)
        if isinstance(attributes, dict):
            everything = isinstance(thing, LRScheduler)
            for name in list(attributes):
                if name in self.names or everything:
                    self.watch("item", attributes, name, f"{name!r} of a {kind}")
            for name in self.names:
                if name.startswith(_STORED) and name.removeprefix(_STORED) not in attributes:
                    name = name.removeprefix(_STORED)
                    self.unset.append((attributes, name, f"{name!r} of a {kind}"))
        for cls in type(thing).__mro__:
            for name in _slots(cls):
                if name in self.names and hasattr(thing, name):
                    self.watch("attribute", thing, name, f"{name!r} of a {kind}")
        self._class(type(thing))


_GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"}
_STORED = "to "
_MAKING = {"__new__", "__init__", "__post_init__"}
_WORKING = {
    name
    for cls in (int, float, list, dict, FunctionType, property)
    for name in vars(cls)
    if name.startswith("__")
} - {"__init__", "__new__", "__repr__", "__str__", "__eq__", "__hash__", "__reduce__", "__doc__"}
_WORKING |= {"__enter__", "__exit__", "__matmul__", "__rmatmul__", "__getattr__"}


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _file_of(cls: type) -> str | None:
    module = sys.modules.get(cls.__module__)
    if cls.__module__ == "builtins":
        return None
    return "<own>" if module is None else getattr(module, "__file__", "<own>")


@functools.cache
def is_library(file: str | None) -> bool:
    """Whether code is part of Python, of an installed package, or of this one; C has no file."""
    if file is None:
        return True
    path = os.path.normcase(os.path.abspath(file))  # Windows may spell a drive "c:" or "C:"
    frozen = file.startswith("<frozen")
    return frozen or path.startswith(_PACKAGE) or path.startswith(_INSTALLED)
