"""What a compiled function may read besides its arguments: a closed list.

`reads_of(function)` walks all that the function's code can reach: the globals and closure
variables that it names, the attributes with names in its code, items of containers, and the same
for the functions that it calls. For each thing on the list it notes how a change is seen:

| read | watched by |
|---|---|
| numbers, strings, bytes, None, range, slice, dtypes, enum members | value |
| list, tuple, dict with its order, set, deque | their items |
| functions, methods, partials | code, defaults, closure, and what they read |
| plain objects, dataclasses, named tuples | attributes with names in the code; absence too |
| the user's classes, modules as namespaces | attributes with names in the code |
| abstract classes | how many classes were ever registered with one |
| functions with `functools.lru_cache` | code, and the results that the cache holds |
| arrays that ops alone read, anew at each call (`uses`) | identity and layout; the elements of |
| | small ones too, until other elements have given the same program |
| other arrays, up to `LARGEST` elements | value |
| Tensors, layers, optimizers, schedules, generators | what they announce (`last_change`) |

Anything else stops the walk: `reason` names the object, its type and the line, and the function
runs as written. Python's library, NumPy and this package count as fixed; of functions in C,
those of `PURE` modules are on the list.
"""

from __future__ import annotations

import abc
import builtins
import collections.abc
import contextlib
import dataclasses
import dis
import enum
import functools
import gc
import importlib.machinery
import inspect
import logging
import operator
import os
import random
import re
import string
import sys
import sysconfig
import types
import typing
from argparse import Namespace
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy import ndarray

from tinygrad_kr.compile.trace.condition import GONE
from tinygrad_kr.compile.trace.uses import Name, codes_of
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.node import PACKAGE, Node
from tinygrad_kr.ops.tracing import Fixed
from tinygrad_kr.optim.lr_scheduler import LRScheduler
from tinygrad_kr.optim.optimizer import Optimizer

LARGEST = 256
"""Most items of a container, or elements of a folded array, that are compared."""
MOST = 20_000
"""Most things that a function may read."""

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "nothing"})()
ATOMS = frozenset(
    {int, float, complex, bool, str, bytes, range, type(None), type(...), type(NotImplemented)}
)

# ------------------------------------------------------------------ watching one place


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
            return MISSING


_FETCH: dict[str, Callable[[Any, Any], Any]] = {
    "item": lambda holder, key: holder[key],
    "absent": lambda holder, key: holder[key],
    "cell": lambda holder, key: holder.cell_contents,
    "field": getattr,
    "flags": lambda holder, key: holder.flags.writeable,
    "method": getattr,
    "slot": lambda holder, key: key.__get__(holder),
    "type": lambda holder, key: type(holder),
    "registrations": lambda holder, key: abc.get_cache_token(),
    "length": lambda holder, key: len(holder),
    "keys": lambda holder, key: tuple(holder),
    "identities": lambda holder, key: tuple(map(id, holder)),
    "set": lambda holder, key: frozenset(holder),
    "result": lambda holder, key: holder[key],
    "results": lambda holder, key: len(holder),
    "disjoint": lambda holder, key: key if holder.keys().isdisjoint(key) else MISSING,
}
SPELLING = {
    "item": "{0}[{1}] is {2}",
    "absent": "{1} not in {0}",
    "cell": "{0}.cell_contents is {2}",
    "field": "{0}.{3} is {2}",
    "flags": "{0}.flags.writeable is {2}",
    "method": "{0}.{3} is {2}",
    "slot": "{1}.__get__({0}) is {2}",
    "type": "type({0}) is {2}",
    "registrations": "{0}.get_cache_token() == {2}",
    "length": "len({0}) == {2}",
    "keys": "[*{0}] == {2}",
    "identities": "[*map(id, {0})] == {2}",
    "set": "{0} == {2}",
    "result": "{0}[{1}] is {2}",
    "results": "len({0}) == {2}",
    "disjoint": "{0}.keys().isdisjoint({2})",
}
BY_IDENTITY = {"item", "cell", "field", "method", "slot"}
OF_CACHES = {"result", "results"}

# ------------------------------------------------------------------ what counts as fixed

PURE = frozenset(
    {
        *("builtins", "math", "cmath", "operator", "_operator", "itertools", "functools"),
        *("_functools", "collections", "_collections", "_collections_abc", "dataclasses", "enum"),
        *("typing", "typing_extensions", "annotationlib", "types", "abc", "_abc", "contextlib"),
        *("copy", "copyreg", "numbers", "fractions", "statistics", "string", "warnings"),
        *("_warnings", "bisect", "_bisect", "heapq", "_heapq", "__future__", "re", "_sre"),
    }
)
"""Modules of Python's library whose functions depend on their arguments alone."""
IMPURE = frozenset(
    {
        *("open", "input", "eval", "exec", "compile", "globals", "locals", "vars", "dir", "id"),
        *("__import__", "breakpoint", "memoryview", "help"),  # of the builtins
        *("attrgetter", "methodcaller", "asdict", "astuple", "Formatter"),
        *("load", "loadtxt", "genfromtxt", "fromfile", "fromregex", "memmap", "geterr"),
        *("get_printoptions", "set_printoptions", "array2string", "array_str", "array_repr"),
        *("getbufsize", "setbufsize", "seterr", "geterrcall", "seterrcall"),  # and of NumPy
    }
)
"""What is not, in these modules and in NumPy: it reads files or variables, or attributes by
computed names."""
_BUILTINS = frozenset(name for name in dir(builtins) if type(getattr(builtins, name)) not in ATOMS)
_BY_NAME = frozenset({"getattr", "setattr", "hasattr", "delattr"})

_BY_OTHER_WAYS = frozenset({"__dict__", "__globals__", "__getattribute__", "__subclasses__"})
_READERS = frozenset({"read_csv", "read_idx", "mnist", "digits", "download"})
"""Functions of `tk.data` that read files."""

_PACKAGE = os.path.normcase(os.path.abspath(PACKAGE) + os.sep)
_NUMPY = os.path.normcase(os.path.dirname(os.path.abspath(np.__file__)) + os.sep)


def library_folders() -> tuple[str, ...]:
    """The folders of Python's library. Pyodide's archive is not named by `sysconfig`."""
    paths = sysconfig.get_paths()
    folders = {paths["stdlib"], paths["platstdlib"], os.path.dirname(sysconfig.__file__)}
    return tuple(os.path.normcase(os.path.abspath(folder) + os.sep) for folder in folders)


_LIBRARY = library_folders()
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_EXTENSIONS = tuple(importlib.machinery.EXTENSION_SUFFIXES)


def _is_frozen(file: str) -> bool:
    """Whether it is the name of the file of a module that is part of the interpreter."""
    name = file.removeprefix("<frozen ").removesuffix(">")
    if file != f"<frozen {name}>":
        return False
    own = name.startswith("importlib._bootstrap")
    return own or importlib.machinery.FrozenImporter.find_spec(name) is not None


@functools.cache
def home_of(file: str | None) -> str:
    """Whose code a file holds: "python", "numpy" or "ours", which count as fixed; "c"; "user"."""
    if file is None or _is_frozen(file):
        return "python"
    path = os.path.normcase(os.path.abspath(file))  # Windows may spell a drive "c:" or "C:"
    if path.startswith(_PACKAGE):
        return "ours"
    if path.startswith(_NUMPY):
        return "numpy"
    if path.startswith(_LIBRARY) and not any(part in path for part in _INSTALLED):
        return "python"
    return "c" if path.endswith(_EXTENSIONS) else "user"


def _home(thing: Any) -> str:
    """Whose a class or a module is."""
    name = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
    if name == "builtins":
        return "python"
    module = thing if isinstance(thing, ModuleType) else sys.modules.get(name)
    if module is None:
        return "user"
    file = vars(module).get("__file__")
    if file is None and name in sys.builtin_module_names and module is sys.modules.get(name):
        return "python"
    return home_of(file or "<no file>")


def _is_fixed(home: str) -> bool:
    return home in ("python", "numpy", "ours")


# ------------------------------------------------------------------ the walk


class _Unlisted(Exception):
    """The function reads something that is not on the list."""


def reads_of(roots: Iterable[Any]) -> Reads:
    """All that the code of these functions and objects can read.

    A walk is repeated until it knows all attribute names in the code that it reaches.
    """
    roots = list(roots)
    names: set[str] = set()
    while True:
        walk = Reads(names)
        try:
            for root in roots:
                walk.visit(root, "an argument")
            walk.finish()
        except _Unlisted as unlisted:
            walk.reason = str(unlisted)
            return walk
        if walk.found <= names:
            return walk
        names = names | walk.found


class Reads:
    """Collects what code reads; `names` are the attributes that it reads.

    watches: the places to compare. reason: what is not on the list, None if all is.
    """

    def __init__(self, names: set[str]) -> None:
        self.names = names
        self.asked = {name.removeprefix(_ASKED) for name in names if name.startswith(_ASKED)}
        if "*" in self.asked:
            self.asked = {name for name in names if name.isidentifier()}
        self.found: set[str] = set()
        self.watches: list[Watch] = []
        self.unset: list[tuple[Any, str, str]] = []
        self.modules: list[Module | Optimizer] = []
        self.leaves: list[Any] = []
        self.arrays: dict[int, tuple[ndarray, str, set[Name]]] = {}
        """By id, arrays, where they are read, and the names by which the code does."""
        self.functions: list[FunctionType] = []
        """The user's functions whose code was looked at."""
        self._names: tuple[Name, ...] = ()
        self._seen_by_name: set[tuple[int, tuple[Name, ...]]] = set()
        self.generators: list[tuple[Any, str]] = []
        self.caches: list[tuple[Any, str]] = []
        """Functions with `functools.lru_cache`."""
        self.draws_elsewhere = "random" in names
        self.asks_identity = False
        """Whether the code asks if two objects, one of which may be an argument, are the same."""
        if not names.isdisjoint(_COMPARERS) or {"print", "file"} <= names:
            self.found.add(_COMPARES)
        self.reason: str | None = None
        self.line: str | None = None
        self._seen: dict[int, Any] = {}
        self._seen_globals: set[tuple[int, str]] = set()
        self._classes: set[tuple[type, bool]] = set()
        self._shadowable: dict[int, tuple[dict[str, Any], set[str]]] = {}

    def unlisted(self, thing: Any, where: str, why: str = "", fix: str = "") -> NoReturn:
        """Stop: the function runs as written."""
        kind = type(thing).__name__ if not isinstance(thing, type) else "class"
        name = getattr(thing, "__qualname__", None) if callable(thing) else None
        shown = f"{kind} {name}" if isinstance(name, str) else kind
        place = "" if self.line is None else f", at {self.line}"
        why = why or "which is not watched for changes"
        fix = fix or "Pass what the function needs of it as an argument"
        raise _Unlisted(f"it reads {where} ({shown}){place}, {why}. {fix}")

    def visit(self, thing: Any, where: str, *names: Name) -> None:
        """Look at a value that the code can reach. names: how it does, if not as before."""
        if type(thing) in ATOMS or type(thing) in _VALUES:
            return
        before = self._names
        self._names = names or before
        try:
            self._visit(thing, where)
        finally:
            self._names = before

    def _visit(self, thing: Any, where: str) -> None:
        if id(thing) in self._seen:
            self._seen_again(thing)
            return
        self._seen[id(thing)] = thing
        if len(self._seen) > MOST:
            self.unlisted(thing, where, f"after {MOST:,} other things")
        if type(thing) is ndarray:
            self._array(thing, where)
            return
        for kind, look in _KINDS:
            if isinstance(thing, kind):
                look(self, thing, where)
                return
        self._object(thing, where)

    def _seen_again(self, thing: Any) -> None:
        """Note other names of the arrays in it."""
        if id(thing) in self.arrays:
            self.arrays[id(thing)][2].update(self._names)
            return
        by_name = (id(thing), self._names)
        if isinstance(thing, dict | list | tuple) and by_name not in self._seen_by_name:
            self._seen_by_name.add(by_name)
            for item in thing.values() if isinstance(thing, dict) else thing:
                if id(item) in self._seen:
                    self._seen_again(item)

    def watch(self, kind: str, holder: Any, key: Any, where: str, *names: Name) -> None:
        """Compare what is there before each call, and look at it now."""
        watch = Watch(kind, holder, key, None, where)
        value = watch.fetch()
        self.watches.append(watch._replace(expected=value))
        if kind in BY_IDENTITY and value is not MISSING:
            self.visit(value, where, *names)

    def watch_fields(self, thing: Any, names: Iterable[str], of: str) -> None:
        """Compare attributes that are not in a `__dict__`."""
        for name in names:
            self.watch("field", thing, name, f"{name!r} of {of}")

    def knows(self, thing: Any) -> bool:
        """Whether the code can reach an object."""
        return id(thing) in self._seen

    def finish(self) -> None:
        """Watch that no global hides a builtin that the code names."""
        for namespace, names in self._shadowable.values():
            self.watch("disjoint", namespace, tuple(sorted(names)), "a name of a builtin")

    # -------------------------------------------------------------- values

    def _array(self, array: ndarray, where: str) -> None:
        if array.dtype.hasobject:
            self.unlisted(array, where, "whose elements are objects")
        self.arrays[id(array)] = array, where, set(self._names)
        if not self.names.isdisjoint(("flags", "writeable")):
            self.watch("flags", array, None, f"the flags of {where}")

    def _enum(self, member: enum.Enum, where: str) -> None:
        self.visit(member._value_, where)
        self._attributes(member, where)
        self._class(type(member))

    def _slice(self, thing: slice, where: str) -> None:
        for part in (thing.start, thing.stop, thing.step):
            self.visit(part, where)

    def _fixed(self, thing: Any, where: str) -> None:
        """Nothing in it can change."""

    def _method(self, thing: MethodType, where: str) -> None:
        self.visit(thing.__self__, where)
        self.visit(thing.__func__, where)

    def _partial(self, thing: Any, where: str) -> None:
        self.watch_fields(thing, ("func", "args", "keywords"), where)
        self._attributes(thing, where)
        if type(thing) is not functools.partial:
            self._class(type(thing))

    def _itemgetter(self, thing: Any, where: str) -> None:
        self.visit(thing.__reduce__()[1], where)

    def _logger(self, logger: logging.Logger, where: str) -> None:
        """Writing to a log is a side effect, as `print` is. What it holds may be read."""
        asked = self.names & set(dir(logging.Logger)) - _LOGGING
        if asked or type(logger) is not logging.Logger:
            self.unlisted(logger, where)
        for name in sorted(self.names & vars(logger).keys()):
            self.watch("item", vars(logger), name, f"{name!r} of {where}")

    def _node(self, node: Any, where: str) -> None:
        self.leaves.append(node)
        for hook in (node._hooks or {}).values():
            self.visit(hook, f"a hook of {where}")
        self._attributes(node, where)
        self._class(type(node))

    def _generator(self, generator: Any, where: str) -> None:
        self.generators.append((generator, where))

    def _random(self, thing: Any, where: str) -> None:
        self.draws_elsewhere = True
        self.generators.append((thing, where))

    def _wrapper(self, thing: Any, where: str) -> None:
        """A property, a static method and the like."""
        for name in ("__func__", "fget", "fset"):
            if inspect.getattr_static(type(thing), name, None) is not None:
                self.visit(getattr(thing, name), where)
        attributes = getattr(thing, "__dict__", {})
        for name in ("func", "args", "keywords", "dispatcher"):
            if name in attributes:
                self.watch("item", attributes, name, where)
        if _home(type(thing)) == "user":
            self._class(type(thing))

    # -------------------------------------------------------------- functions in C

    def _c_function(self, function: Any, where: str) -> None:
        self._named(function.__name__)
        owner = getattr(function, "__self__", None)
        if isinstance(owner, ModuleType) or owner is None:
            module = (getattr(function, "__module__", None) or "").partition(".")[0]
            impure = function.__name__ in IMPURE or function.__name__ in _BY_NAME
            of = owner if owner is not None else sys.modules.get(module)
            fixed = isinstance(of, ModuleType) and _home(of) in ("python", "numpy")
            if (module not in PURE and module != "numpy") or impure or not fixed:
                self.unlisted(function, where, "a function in C that may give another result")
        elif isinstance(owner, str) and function.__name__ in _FORMATS and _reaches_in(owner):
            self.unlisted(function, where, "which reads attributes by computed names")
        else:
            self.visit(owner, where)

    def _ufunc(self, function: Any, where: str) -> None:
        known = vars(np).get(function.__name__)
        if known is not function:
            self.unlisted(function, where, "a function in C that may give another result")

    def _descriptor(self, thing: Any, where: str) -> None:
        self._named(thing.__name__)
        if thing.__objclass__ is str and thing.__name__ in _FORMATS:
            self.unlisted(thing, where, "which reads attributes by computed names")
        if _home(thing.__objclass__) == "c":
            self.unlisted(thing, where)

    def _named(self, name: str) -> None:
        """Note what a function of Python's does with the methods of its arguments."""
        if name in _COMPARERS:
            self.found.add(_COMPARES)
        if name in ("isinstance", "issubclass"):
            self._registrations()

    def _cached(self, function: Any, where: str) -> None:
        self.caches.append((function, where))
        self.visit(function.__wrapped__, where)
        self._attributes(function, where)
        held = [one for one in gc.get_referents(function) if one is not vars(function)]
        cache: dict[Any, Any] = next((one for one in held if type(one) is dict), {})
        if len(cache) > LARGEST:
            self.unlisted(function, where, f"which holds more than {LARGEST} results")
        self.watch("results", cache, None, f"the number of results of {where}")
        for key, entry in cache.items():
            self.watches.append(Watch("result", cache, key, entry, f"a result of {where}"))
        bounded = function.cache_parameters()["maxsize"] is not None
        for result in held if bounded else cache.values():
            if result is not cache and not isinstance(result, type):
                self.visit(result, f"a result of {where}")

    # -------------------------------------------------------------- functions in Python

    def _function(self, function: FunctionType, where: str) -> None:
        home = home_of(function.__code__.co_filename)
        if _is_fixed(home):
            self._library_function(function, home, where)
            return
        name = function.__qualname__
        before, self.line = self.line, _line(function.__code__, function.__code__.co_firstlineno)
        self.watch("field", function, "__code__", f"the code of {name}")
        self.functions.append(function)
        parameters = _parameters(function.__code__)
        for defaults in ("__defaults__", "__kwdefaults__"):
            if getattr(function, defaults):
                self.watch("field", function, defaults, f"a default of {name}", *parameters)
        stored: set[str] = set()
        for code in codes_of(function.__code__):
            self._code(code, function, stored)
        for variable, cell in _cells(function).items():
            if cell.__class__ is CellType:
                where = f"{variable!r}, a variable around {name}"
                self.watch("cell", cell, None, where, ("variable", variable))
        self.watch_fields(function, sorted(self.names & _NAMES_OF_FUNCTIONS), name)
        read = self.names & vars(function).keys()
        if read:
            self._dict_of(function, name)
        for attribute in read:
            where = f"{attribute!r} of {name}"
            self.watch("item", vars(function), attribute, where, ("attribute", attribute))
        for attribute in self.asked - vars(function).keys():
            self.watch("absent", vars(function), attribute, f"{attribute!r} of {name}")
        self._stores(vars(function), name)
        self.line = before

    def _library_function(self, function: FunctionType, home: str, where: str) -> None:
        """A function of Python's, NumPy's or ours, which may hold functions of the user's."""
        cells = _cells(function)
        module = (function.__module__ or "").partition(".")[0]
        logs = module == "logging" and function.__name__ in _LOGGING
        if home == "python" and module not in PURE and not cells and not logs:
            self.unlisted(function, where, "a function of Python's that is not known as pure")
        if home != "ours" and function.__name__ in IMPURE:
            self.unlisted(function, where, "which reads more than its arguments")
        if home == "ours" and function.__name__ in _READERS:
            self.unlisted(function, where, "which reads a file")
        if home == "ours":  # of an op, the forward function and the rules
            for part in vars(function).values():
                for rule in part if isinstance(part, tuple) else (part,):
                    if isinstance(rule, FunctionType):
                        self.visit(rule, f"a rule of {function.__name__}")
        for variable, cell in cells.items():
            content = Watch("cell", cell, None, None, "").fetch()
            registry = home == "python" and isinstance(content, list | dict)
            if registry or isinstance(content, _WRAPPED) or _home(type(content)) == "user":
                self.visit(content, f"{variable!r} of {function.__qualname__}")

    def _code(self, code: CodeType, function: FunctionType, stored: set[str]) -> None:
        left_out = set(_MAKING)
        if code.co_filename == _OF_DATACLASS:
            left_out.add("__class__")  # which is only compared there
        self.found.update(name for name in code.co_names if name not in left_out)
        self.found.update(_identifiers(code.co_consts))
        instructions = list(dis.get_instructions(code))
        for i, instruction in enumerate(instructions):
            name, opname = instruction.argval, instruction.opname
            if instruction.positions is not None and instruction.positions.lineno is not None:
                self.line = _line(code, instruction.positions.lineno)
            if opname in _GLOBALS:
                self._global(name, opname, function, stored)
                if name in _BY_NAME and name not in function.__globals__:
                    self._by_name(name, instructions, i)
            elif name in _BY_OTHER_WAYS and opname in ("LOAD_ATTR", "LOAD_METHOD"):
                raise _Unlisted(f"it reads a {name}, at {self.line}. Write the attribute out")
            elif name in _FORMATS and opname in ("LOAD_ATTR", "LOAD_METHOD"):
                self._format(instructions[i - 1])
            elif opname == "IS_OP" and self._may_be_argument(instructions, i - 1, function):
                self.asks_identity = True
            elif _is_by_hash_or_format(instruction):
                self.found.add(_COMPARES)
            elif name in _MAKING and not _is_of_super(instructions, i):
                self.found.add(name)
            elif opname == "STORE_ATTR":
                self.found.add(_STORED + name)
            elif opname == "IMPORT_NAME":
                self._import(name, code, function)
            elif opname in _COMPARISONS:
                self.found.add(_COMPARES)
            elif opname == "PUSH_EXC_INFO" and instructions[i + 1].opname == "POP_TOP":
                self.found.add(_ASKED + "*")  # a bare except: what is not there may be asked for
            elif opname == "MATCH_CLASS":
                self._registrations()
                self.found.add("__match_args__")

    def _global(self, name: str, opname: str, function: FunctionType, stored: set[str]) -> None:
        namespace = function.__globals__
        if name in stored or not name.isidentifier():  # such as what pytest adds for an assert
            return
        stored.add(name)
        where = f"the global {name!r}"
        if (id(namespace), name) in self._seen_globals:
            return
        self._seen_globals.add((id(namespace), name))
        if name in namespace:
            self.watch("item", namespace, name, where, ("global", name))
        elif opname == "STORE_GLOBAL":
            self.unset.append((namespace, name, where))
        elif hasattr(builtins, name):
            if name in ("AttributeError", "Exception", "BaseException"):
                self.found.add(_ASKED + "*")
            names = self._shadowable.setdefault(id(namespace), (namespace, set()))[1]
            names.add(name)
            if _home(type(getattr(builtins, name))) == "user" or name not in _BUILTINS:
                self.watch("item", vars(builtins), name, f"the builtin {name!r}")
            elif name not in _BY_NAME:
                self.visit(getattr(builtins, name), f"the builtin {name!r}")
        else:
            self.watch("absent", namespace, name, where)

    def _by_name(self, name: str, instructions: Sequence[Any], i: int) -> None:
        attribute = _second_argument(instructions, i)
        if attribute is None:
            raise _Unlisted(
                f"it calls {name} with a computed name, at {self.line}. Write the attribute out"
            )
        self.found.add(_ASKED + attribute)
        if name in ("setattr", "delattr"):
            self.found.add(_STORED + attribute)

    @staticmethod
    def _may_be_argument(instructions: Sequence[Any], i: int, function: FunctionType) -> bool:
        """Whether what an instruction loads may also be given to the function."""
        name = instructions[i].argval
        if instructions[i].opname.startswith("LOAD_FAST"):
            return not instructions[i - 1].opname.startswith("CALL")  # as type(x) is kind
        if instructions[i].opname == "LOAD_DEREF" and name in _cells(function):
            held = Watch("cell", _cells(function)[name], None, None, "").fetch()
        else:
            held = function.__globals__.get(name) if instructions[i].opname in _GLOBALS else None
        return isinstance(held, Node | ndarray | list | dict)

    def _format(self, before: Any) -> None:
        """A call of `format`, of what the instruction before has loaded."""
        text = before.argval if before.opname == "LOAD_CONST" else None
        if not isinstance(text, str) or _reaches_in(text):
            raise _Unlisted(
                f"it calls format, which may read attributes by computed names, at {self.line}. "
                "Write an f-string"
            )

    def _import(self, name: str, code: CodeType, function: FunctionType) -> None:
        package = function.__globals__.get("__package__") or ""
        for full in {name, name.partition(".")[0], f"{package}.{name}"}:
            if full and (full in sys.modules or full == name):
                self.watch("item", sys.modules, full, f"the module {full!r}")

    # -------------------------------------------------------------- classes and modules

    def _class_value(self, cls: type, where: str) -> None:
        home = _home(cls)
        if home == "python":
            module = cls.__module__.partition(".")[0]
            if module not in PURE or cls.__name__ in IMPURE:
                self.unlisted(cls, where, "a class of Python's that is not known as pure")
        elif home == "c":
            self.unlisted(cls, where, "a class in C")
        elif home == "numpy" and cls.__name__ in IMPURE:
            self.unlisted(cls, where, "which reads more than its arguments")
        self._named(cls.__name__)
        self._class(cls, made=True)
        if isinstance(cls, abc.ABCMeta):
            self._registrations()
            if home == "user" and getattr(cls, "_is_runtime_protocol", False):
                self.unlisted(cls, where, "a protocol, which looks for attributes by name")
        if home == "user" and issubclass(cls, enum.Enum):
            self._container(cls._member_map_, where)

    def _registrations(self) -> None:
        """Watch which classes are registered with abstract ones."""
        if id(abc) not in self._seen:
            self._seen[id(abc)] = abc
            self.watch("registrations", abc, None, "a class registered with an abstract one")

    def _class(self, cls: type, made: bool = False) -> None:
        """What code may read of a class: what it names, and methods with names of Python's own.

        made: instances of it may be made too.
        """
        if (cls, made) in self._classes or _home(cls) != "user":
            return
        self._classes.add((cls, made))
        for base in cls.__bases__:
            if made and _home(base) == "python" and base not in _PLAIN:
                self._class_value(base, f"the class {base.__name__}")
            self._class(base, made)
        self._class(type(cls))
        attributes = vars(cls)
        if (cls, not made) not in self._classes:
            of = f"the class {cls.__name__}"
            self._absent_of_class(cls, of)
            if cls.__bases__ != (object,):  # else they cannot be assigned
                self.watch("field", cls, "__bases__", f"the bases of {of}")
            self.watch_fields(cls, sorted(self.names & _NAMES_OF_CLASSES), of)
        for name, value in list(attributes.items()):
            where = f"{name!r} of the class {cls.__name__}"
            if name in self.names or name in _CALLED_BY_C:
                if type(value) is FunctionType and type(cls) is type:
                    self.watch("method", cls, name, where)  # read faster than an item
                else:
                    self.watch("item", attributes, name, where, ("attribute", name))
                if name == "__match_args__":
                    self.found.update(value)
            elif _is_special(name, made) or self._is_compared(name, value):
                self.visit(value, where)

    def _absent_of_class(self, cls: type, of: str) -> None:
        """Watch that a class gets no attribute, above all none in place of an inherited one."""
        attributes = vars(cls)
        inherited = [vars(base) for base in cls.__mro__[1:] if _home(base) == "user"]
        absent = [
            name
            for name in sorted(self.names)
            if name not in attributes
            and name.isidentifier()
            and (name in self.asked or any(name in others for others in inherited))
        ]
        many = len(absent) > 3
        self.watch("keys" if many else "length", attributes, None, f"the attributes of {of}")
        for name in () if many else absent:
            self.watch("absent", attributes, name, f"{name!r} of {of}")

    def _is_compared(self, name: str, method: Any) -> bool:
        """Whether code may call a method that dataclasses get by themselves: those that dataclasses
        made are followed only where the code compares or prints."""
        copied = name in _OF_COPIES and not self.names.isdisjoint(("copy", "deepcopy"))
        if not (copied or name in _COMPARING) or not isinstance(method, FunctionType):
            return False
        written = method.__code__.co_filename != _OF_DATACLASS and not hasattr(
            method, "__wrapped__"
        )
        return written or _COMPARES in self.names

    def _namespace(self, module: ModuleType, where: str) -> None:
        if module is random or module.__name__ == "numpy.random":
            self.draws_elsewhere = True
        home = _home(module)
        if home == "user" and type(module) is not ModuleType:
            self.unlisted(module, where, "a module of a class of its own")
        pure = home == "python" and module.__name__.partition(".")[0] in PURE
        if home in ("ours", "numpy") or module is random or pure:
            looked_at = _READERS | {"data"} if home == "ours" else IMPURE
            for name in sorted(self.names & vars(module).keys()):
                value, where = vars(module)[name], f"{name!r} of the module {module.__name__}"
                if name in looked_at:
                    self.visit(value, where)
                elif home != "ours" and isinstance(value, list | dict | set):
                    self.watch("item", vars(module), name, where)
            return
        for name in sorted((self.names | {"__getattr__"}) & vars(module).keys()):
            where = f"{name!r} of the module {module.__name__}"
            self.watch("item", vars(module), name, where, ("attribute", name), ("global", name))
        missing = self.names if "__getattr__" in vars(module) else self.asked
        for name in sorted(n for n in missing - vars(module).keys() if n.isidentifier()):
            self.watch("absent", vars(module), name, f"{name!r} of the module {module.__name__}")

    # -------------------------------------------------------------- layers, optimizers

    def _module(self, module: Module, where: str) -> None:
        self.modules.append(module)
        kind = type(module).__name__
        own = _home(type(module)) == "user"
        if own:
            self.found.add("forward")
            self._slots_of(module, kind)
            self._class(type(module))
        for name, value in settings_of(module).items():
            if own and name in self.names and name in vars(module) and not _announces(value):
                # Written to `vars(module)` it changes unannounced.
                self.watch("item", vars(module), name, f"{name!r} of a {kind}", ("attribute", name))
            if name in self.names or name == "_hooks" or _is_called(value, own):
                self.visit(value, f"{name!r} of a {kind}", ("attribute", name))

    def _nothing_entered(self, context: Any, where: str) -> None:
        self.visit(context.enter_result, where)

    def _optimizer(self, optimizer: Any, where: str) -> None:
        self.modules.append(optimizer)
        kind = type(optimizer).__name__
        for name, value in settings_of(optimizer).items():
            if name in self.names:
                self.visit(value, f"{name!r} of a {kind}", ("attribute", name))
        if _home(type(optimizer)) == "user":
            self._attributes(optimizer, where)
        self._class(type(optimizer))

    def _schedule(self, schedule: Any, where: str) -> None:
        self._attributes(schedule, where, everything=True)
        self._class(type(schedule))

    # -------------------------------------------------------------- containers

    def _container(self, items: Any, where: str) -> None:
        if len(items) > LARGEST and not self._is_constant(items):
            self.unlisted(
                items, where, f"of {len(items):,} items, of which at most {LARGEST} are compared"
            )
        if type(items) not in _CONTAINERS:
            self._own_methods(items, where)
            self._attributes(items, where)
            self._class(type(items))
        if isinstance(items, dict):
            self._dict(items, where)
        elif isinstance(items, list | deque):
            self.watch("length", items, None, f"the number of items in {where}")
            for i in range(len(items)):
                self.watch("item", items, i, f"[{i}] of {where}")
        else:
            if isinstance(items, set | frozenset):
                self.found.add(_COMPARES)
            if isinstance(items, set):
                by_value = all(type(item) in ATOMS for item in items)
                alive = None if by_value else tuple(items)  # else their ids are used again
                self.watch("set" if by_value else "identities", items, alive, where)
            for item in items:
                self.visit(item, f"an item of {where}")

    def _own_methods(self, items: Any, where: str) -> None:
        """Refuse a container whose class reads its items in another way."""
        kind = type(items)
        base = next(one for one in kind.__mro__ if one in _CONTAINERS)
        for name in _READING:
            if hasattr(base, name) and getattr(kind, name) is not getattr(base, name):
                self.unlisted(items, where, f"whose class has a {name} of its own")

    @staticmethod
    def _is_constant(items: Any) -> bool:
        """Whether nothing in a large container can change."""
        return type(items) in (tuple, frozenset) and all(type(item) in ATOMS for item in items)

    def _dict(self, items: dict[Any, Any], where: str) -> None:
        by_value = all(type(key) in ATOMS for key in items)
        kind = "keys" if by_value else "identities"
        if by_value and len(items) == 1 and type(items) is dict:
            kind = "length"  # which is faster: with it the item alone tells that key
        self.watch(kind, items, None, f"the keys of {where}")
        for key in list(items):
            if type(key) not in ATOMS:
                self.found.add(_COMPARES)
            spelled = "a long number" if type(key) is int and not is_short(key) else repr(key)
            self.visit(key, f"a key of {where}")
            self.watch("item", items, key, f"[{spelled}] of {where}")

    # -------------------------------------------------------------- objects

    def _object(self, thing: Any, where: str) -> None:
        """An object of any other class."""
        cls = type(thing)
        if hasattr(cls, "__next__"):
            self.unlisted(thing, where, "an iterator, which gives something else at each call")
        homes = {_home(base): base for base in cls.__mro__ if base not in _PLAIN}
        if homes.keys() <= {"ours"} and homes:
            wrapped = inspect.getattr_static(thing, "__wrapped__", None)
            self.visit(wrapped, where)
            if wrapped is None:  # else a compiled function inside a compiled one
                self._attributes(thing, where, everything=True)
            return
        if not homes.keys() <= {"user", "ours"}:
            self.unlisted(thing, where)
        self.watch("type", thing, None, f"the class of {where}")
        self._attributes(thing, where)
        self._class(cls)

    def _attributes(self, thing: Any, where: str, everything: bool = False) -> None:
        """The attributes of an object whose names are in the code."""
        kind = type(thing).__name__
        attributes = getattr(thing, "__dict__", None)
        if isinstance(attributes, dict):
            self._dict_of(thing, f"a {kind}")
            for name in list(attributes):
                if name in self.names or everything or name in _CALLED_BY_C:
                    where = f"{name!r} of a {kind}"
                    self.watch("item", attributes, name, where, ("attribute", name))
            self._absences(attributes, type(thing), kind)
            self._stores(attributes, f"a {kind}")
        self._slots_of(thing, kind)

    def _dict_of(self, thing: Any, name: str) -> None:
        """Watch that an object keeps the dict of its attributes, where one can be assigned."""
        if _home(type(thing)) == "user" or isinstance(thing, FunctionType):
            where = f"the attributes of {name}"
            self.watches.append(Watch("field", thing, "__dict__", vars(thing), where))

    def _stores(self, attributes: dict[str, Any], of: str) -> None:
        """Note the attributes to which code may store and that are not there."""
        for mark in self.names:
            name = mark.removeprefix(_STORED)
            if mark.startswith(_STORED) and name not in attributes:
                self.unset.append((attributes, name, f"{name!r} of {of}"))

    def _slots_of(self, thing: Any, kind: str) -> None:
        for cls in type(thing).__mro__:
            for name in _slots(cls):
                member = vars(cls).get(name)
                if name in self.names and hasattr(type(member), "__get__") and cls is not Node:
                    self.watch("slot", thing, member, f"{name!r} of a {kind}", ("attribute", name))

    def _absences(self, attributes: dict[str, Any], cls: type, kind: str) -> None:
        """Names that an attribute of the object itself would hide, or that the code asks for."""
        absent = [
            name
            for name in self.names
            if name not in attributes
            and name.isidentifier()
            and not name.startswith("__")
            and (name in self.asked or _is_in_class(cls, name))
        ]
        if len(absent) > 3:
            self.watch("keys", attributes, None, f"the attributes of a {kind}")
        else:
            for name in sorted(absent):
                self.watch("absent", attributes, name, f"{name!r} of a {kind}")


def settings_of(module: Module | Optimizer) -> dict[str, Any]:
    """Everything that a module's forward or an optimizer's methods may depend on and that they
    announce, but what parameters and options hold."""
    if isinstance(module, Optimizer):
        return {name: value for name, value in vars(module).items() if not name.startswith("_")}
    settings = {**vars(module), "training": module.training, "__class__": type(module)}
    hooks = module._hooks
    if hooks is not None:
        settings["_hooks"] = (*hooks.before.values(), None, *hooks.after.values())
    return settings


_WRAPPED = (FunctionType, MethodType, type, functools.partial, functools._lru_cache_wrapper, Module)
"""What a function of a library's that wraps another holds: the function."""
_CONTAINERS = (list, tuple, dict, set, frozenset, deque, OrderedDict, defaultdict, Counter)
_PLAIN = {
    *(object, types.SimpleNamespace, typing.Generic, typing.Protocol, abc.ABC),
    *(getattr(collections.abc, name) for name in collections.abc.__all__),
    *(contextlib.AbstractContextManager, contextlib.ContextDecorator),
    *(int, float, complex, str, bytes, *_CONTAINERS, *Namespace.__mro__),
}
_TUPLE_FIELD = type(vars(Watch)["kind"])
_OF_DATACLASSES: tuple[type, ...] = (
    type(dataclasses.field(default_factory=list)),
    type(getattr(dataclasses, "_HAS_DEFAULT_FACTORY", None)),
)
_OF_TYPING = (
    *(type(typing.Any), type(typing.Optional), type(typing.Literal), typing.ForwardRef),
    *(typing.NewType, type(typing.List[int]), type(typing.Callable)),  # noqa: UP006
    type(typing.Union[int, str]),  # noqa: UP007
    *(type(typing.List), type(typing.Tuple)),  # noqa: UP006
)
_VALUES = (Fraction, re.Pattern, re.Match, np.finfo, np.iinfo)
"""Classes of Python's and NumPy's whose objects nothing changes."""
_READING = (
    *("__iter__", "__getitem__", "__len__", "__contains__", "__reversed__"),
    *("keys", "values", "items", "get"),
)
"""How code reads a container."""


_FIXED = (*_OF_TYPING, *_OF_DATACLASSES, _TUPLE_FIELD)
_KINDS: list[tuple[Any, Callable[[Reads, Any, str], None]]] = [
    ((np.generic, np.dtype), Reads._fixed),
    (enum.Enum, Reads._enum),
    (slice, Reads._slice),
    (FunctionType, Reads._function),
    (MethodType, Reads._method),
    (Node, Reads._node),
    (Module, Reads._module),
    (type, Reads._class_value),
    (ModuleType, Reads._namespace),
    (_CONTAINERS, Reads._container),
    (np.random.Generator, Reads._generator),
    ((random.Random, np.random.RandomState), Reads._random),
    (functools.partial, Reads._partial),
    (functools._lru_cache_wrapper, Reads._cached),
    (contextlib.nullcontext, Reads._nothing_entered),
    (Optimizer, Reads._optimizer),
    (LRScheduler, Reads._schedule),
    (operator.itemgetter, Reads._itemgetter),
    (logging.Logger, Reads._logger),
    (
        (
            *(property, staticmethod, classmethod, functools.cached_property),
            *(functools.partialmethod, functools.singledispatchmethod),
        ),
        Reads._wrapper,
    ),
    (np.ufunc, Reads._ufunc),
    (
        (types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType),
        Reads._descriptor,
    ),
    ((types.GetSetDescriptorType, types.MemberDescriptorType), Reads._descriptor),
    ((types.BuiltinFunctionType, types.MethodWrapperType), Reads._c_function),
    (type(np.dot), Reads._c_function),
    ((CodeType, types.GenericAlias, types.UnionType, typing.TypeVar), Reads._fixed),
    ((*_FIXED, Fixed), Reads._fixed),
]

# ------------------------------------------------------------------ code

_GLOBALS = {"LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"}
_STORED, _ASKED = "to ", "? "
"""Marks of names: code stores to such an attribute, or asks for it."""
_OF_DATACLASS = "<string>"
"""File of the methods that `dataclass` writes."""
_MAKING = {"__new__", "__init__", "__post_init__"}
_NEVER = frozenset(
    {
        *("__doc__", "__module__", "__dict__", "__weakref__", "__qualname__", "__annotations__"),
        *("__slots__", "__match_args__", "__orig_bases__", "__parameters__", "__type_params__"),
        *("__dataclass_fields__", "__dataclass_params__", "__abstractmethods__", "__del__"),
        *("__static_attributes__", "__firstlineno__", "__getstate__", "__setstate__"),
        *("__reduce__", "__reduce_ex__", "__annotate__", "__annotate_func__"),
        *("__annotations_cache__", "__annotate_func__", "__classdictcell__"),
    }
)
"""What is in a class under such a name and is not called in a step."""
_COMPARING = {"__eq__", "__hash__", "__str__", "__repr__", "__lt__", "__le__", "__gt__", "__ge__"}
_OF_COPIES = {"__getstate__", "__setstate__", "__reduce__", "__reduce_ex__"}
_COMPARISONS = {
    *("COMPARE_OP", "CONTAINS_OP", "FORMAT_VALUE", "FORMAT_SIMPLE", "FORMAT_WITH_SPEC"),
    *("BUILD_SET", "SET_ADD", "MAP_ADD", "STORE_SUBSCR"),
}
_COMPARERS = frozenset(
    {
        *("str", "repr", "ascii", "format", "hash", "sorted", "min", "max", "set", "frozenset"),
        *("dict", "index", "count", "remove", "sort", "setdefault", "fromkeys"),
        *("eq", "ne", "lt", "le", "gt", "ge", "contains", "indexOf", "countOf", "join", "mod"),
        *("bisect", "bisect_left", "bisect_right", "insort", "heappush", "heapify", "merge"),
        *("nlargest", "nsmallest", "groupby", "Counter", "copy", "deepcopy", "reduce"),
    }
)
"""Functions and methods that may compare, hash, print or copy what they are given."""
_COMPARES = "== "
_FORMATS = {"format", "format_map"}
_LOGGING = {"debug", "info", "warning", "warn", "error", "critical", "exception", "log"}
_CALLED_BY_C = frozenset(
    {
        *("keys", "insert", "add", "discard", "write", "flush", "close", "send", "throw"),
        *("_missing_", "numerator", "denominator", "as_integer_ratio"),
    }
)
"""Methods of the user's that Python's library calls though no code names them."""
_NAMES_OF_FUNCTIONS = frozenset(
    {"__name__", "__qualname__", "__doc__", "__module__", "__annotations__"}
)
_NAMES_OF_CLASSES = frozenset({"__name__", "__qualname__", "__doc__", "__mro__", "__base__"})
_SKIPPED = {"CACHE", "PRECALL", "PUSH_NULL", "EXTENDED_ARG", "NOP", "RESUME", "COPY_FREE_VARS"}


def _line(code: CodeType, number: int) -> str:
    return f"{code.co_filename}:{number}"


def _cells(function: FunctionType) -> dict[str, Any]:
    """The variables around a function."""
    names = function.__code__.co_freevars
    return dict(zip(names, function.__closure__ or (), strict=True))


def _parameters(code: CodeType) -> list[Name]:
    """The names of a function's parameters, which hold its defaults."""
    number = code.co_argcount + code.co_kwonlyargcount
    return [("parameter", name) for name in code.co_varnames[:number]]


def _identifiers(constants: Iterable[Any]) -> Iterator[str]:
    """The strings among constants that may be names of attributes."""
    for constant in constants:
        if isinstance(constant, str) and constant.isidentifier():
            yield constant
        elif isinstance(constant, tuple):
            yield from _identifiers(constant)


def _second_argument(instructions: Sequence[Any], i: int) -> str | None:
    """The constant that is the second argument of the function loaded at `i`; None if it is no
    constant, or if that is hard to tell."""
    depth, second = 0, None
    for instruction in instructions[i + 1 :]:
        name, before = instruction.opname, depth
        if name in ("PRECALL", "CALL") and instruction.arg == depth:
            return second if isinstance(second, str) else None
        if "JUMP" in name:
            return None
        depth += dis.stack_effect(instruction.opcode, instruction.arg)
        if before == 1 and depth == 2:
            second = instruction.argval if name == "LOAD_CONST" else None
        elif (name not in _SKIPPED and (depth < 2 or before == 2 == depth)) or depth == 2 < before:
            second = None
        if depth < 0:
            return None
    return None


def _is_of_super(instructions: Sequence[Any], i: int) -> bool:
    """Whether an attribute is read from `super()`: only the constructor of a subclass does so, and
    a class whose constructor may run is followed with its bases."""
    if "SUPER" in instructions[i].opname:  # from Python 3.12 on
        return True
    before = [one for one in instructions[:i] if one.opname not in _SKIPPED]
    if not before or before[-1].opname != "CALL" or len(before) < 2 + before[-1].arg:
        return False
    callee, *arguments = before[-2 - before[-1].arg : -1]
    simple = all(one.opname.startswith("LOAD") for one in arguments)
    return simple and callee.opname == "LOAD_GLOBAL" and callee.argval == "super"


def _is_by_hash_or_format(instruction: Any) -> bool:
    """Whether an instruction makes a dict with keys of any kind, or may format text with `%`."""
    if instruction.opname == "BUILD_MAP":
        return bool(instruction.arg)
    return instruction.opname == "BINARY_OP" and instruction.argrepr in ("%", "%=")


def _reaches_in(text: str) -> bool:
    """Whether a format reads an attribute or an item of what it is given."""
    try:
        fields = [field for field in string.Formatter().parse(text) if field[1] is not None]
    except ValueError:
        return False  # which raises
    return any(
        "." in (name or "") or "[" in (name or "") or _reaches_in(spec or "")
        for _, name, spec, _ in fields
    )


def is_short(key: Any) -> bool:
    """Whether a key is an integer that Python writes down: not one of thousands of digits."""
    return type(key) is int and key.bit_length() < 64


def _slots(cls: type) -> tuple[str, ...]:
    slots = vars(cls).get("__slots__", ())
    slots = (slots,) if isinstance(slots, str) else tuple(slots)
    kind = cls.__name__.lstrip("_")
    return tuple(f"_{kind}{s}" if s.startswith("__") and not s.endswith("__") else s for s in slots)


def _is_called(value: Any, own: bool) -> bool:
    """Whether a layer may use an attribute that the user's code does not name: parts, parameters,
    and what a layer of ours was given to call."""
    if isinstance(value, Node | Module | np.random.Generator):
        return True
    return not own and (isinstance(value, _WRAPPED) or _home(type(value)) == "user")


def _announces(value: Any) -> bool:
    """Whether another object in its place is seen by what the program reads."""
    return isinstance(value, Module | Node)


def _is_special(name: str, made: bool) -> bool:
    """Whether Python may call a method without its name in the code."""
    special = name.startswith("__") and name.endswith("__") and name not in _NEVER | _COMPARING
    return special and (made or name not in _MAKING)


def _is_in_class(cls: type, name: str) -> bool:
    return any(name in vars(base) for base in cls.__mro__)
