"""What a traced step may read is a closed list: never compiled and unwatched.

Each case is a function, a change of something that it reads, and whether it is compiled before the
change. After the change a call must do what the function as written does.
"""

from __future__ import annotations

import argparse
import array
import builtins
import collections
import contextlib
import contextvars
import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import itertools
import math
import operator
import os
import random
import sys
import threading
import time
import types
import typing
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from harness import backend as backend

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim

pytestmark = pytest.mark.parametrize(
    "backend", ["numpy", pytest.param("c", marks=pytest.mark.slow)], indirect=True
)

X = Tensor(np.array([1.0, 2.0, 3.0], np.float32))


class Case(NamedTuple):
    """A function, a change of what it reads, whether it is compiled; made anew for each test."""

    function: Callable[[Any], Any]
    change: Callable[[], Any]
    compiled: bool | None = True


CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__] = make
    return make


# ------------------------------------------------------------------ plain objects and classes


def config(**values: Any) -> Any:
    """An object of a class of its own, so that each test may change the class."""

    class Config:
        scale = 2.0

        def factor(self) -> float:
            return self.scale

    made = Config()
    vars(made).update(values)
    return made


@case
def an_attribute_that_hides_the_class_s() -> Case:
    c = config()
    return Case(lambda x: x * c.scale, lambda: setattr(c, "scale", 7.0))


def constructed(box: Any) -> tuple[type, type]:
    """A class whose constructor reads `box`, and one that calls it by `super()`."""

    class Base:
        def __init__(self) -> None:
            self.scale = box.scale

    class Derived(Base):
        def __init__(self) -> None:
            super().__init__()

    return Base, Derived


@case
def what_a_constructor_that_is_called_reads() -> Case:
    box = config(scale=3.0)
    base, _ = constructed(box)
    return Case(lambda x: x * base().scale, lambda: setattr(box, "scale", 7.0), None)


@case
def what_a_constructor_called_by_super_reads() -> Case:
    box = config(scale=3.0)
    _, derived = constructed(box)
    return Case(lambda x: x * derived().scale, lambda: setattr(box, "scale", 7.0), None)


@case
def what_a_constructor_called_by_its_class_reads() -> Case:
    box = config(scale=3.0)
    base, derived = constructed(box)
    made = derived()

    def again(x: Any) -> Any:
        base.__init__(made)
        return x * made.scale

    return Case(again, lambda: setattr(box, "scale", 7.0), None)


@case
def what_a_constructor_called_on_its_object_reads() -> Case:
    box = config(scale=3.0)
    made = constructed(box)[0]()

    def again(x: Any) -> Any:
        made.__init__()
        return x * made.scale

    return Case(again, lambda: setattr(box, "scale", 7.0), None)


@case
def what_a_constructor_called_by_the_type_reads() -> Case:
    box = config(scale=3.0)
    made = constructed(box)[1]()
    return Case(lambda x: x * type(made)().scale, lambda: setattr(box, "scale", 7.0), None)


@case
def an_attribute_removed_from_the_object() -> Case:
    c = config(scale=3.0)
    return Case(lambda x: x * c.scale, lambda: delattr(c, "scale"))


@case
def an_attribute_of_the_class() -> Case:
    c = config()
    return Case(lambda x: x * c.scale, lambda: setattr(type(c), "scale", 7.0))


@case
def an_attribute_of_a_base_class() -> Case:
    base = type(config())
    derived = type("Derived", (base,), {})
    c = derived()
    return Case(lambda x: x * c.scale, lambda: setattr(base, "scale", 7.0))


@case
def an_attribute_of_a_class_between() -> Case:
    base = type(config())
    derived = type("Derived", (base,), {})
    c = derived()
    return Case(lambda x: x * c.scale, lambda: setattr(derived, "scale", 7.0))


@case
def a_property_put_over_an_attribute() -> Case:
    c = config(scale=3.0)
    change = lambda: setattr(type(c), "scale", property(lambda self: 8.0))  # noqa: E731
    return Case(lambda x: x * c.scale, change)


@case
def a_method_replaced_in_the_class() -> Case:
    c = config()
    return Case(lambda x: x * c.factor(), lambda: setattr(type(c), "factor", lambda self: 9.0))


@case
def a_method_replaced_on_the_object() -> Case:
    c = config()
    return Case(lambda x: x * c.factor(), lambda: setattr(c, "factor", lambda: 9.0))


@case
def what_a_method_reads() -> Case:
    c = config(scale=1.5)
    return Case(lambda x: x * c.factor(), lambda: setattr(c, "scale", 9.0))


@case
def the_class_of_an_object() -> Case:
    c, other = config(), type("Other", (), {"scale": 5.0})
    return Case(lambda x: x * c.scale, lambda: setattr(c, "__class__", other))


@case
def an_attribute_asked_for_with_hasattr() -> Case:
    c = config()
    return Case(lambda x: x * (5.0 if hasattr(c, "late") else 1.0), lambda: setattr(c, "late", 1))


@case
def an_attribute_with_a_default() -> Case:
    c = config()
    return Case(lambda x: x * getattr(c, "late", 1.0), lambda: setattr(c, "late", 4.0))


@case
def an_attribute_that_is_caught() -> Case:
    c = config()

    def f(x: Any) -> Any:
        try:
            return x * c.late
        except AttributeError:
            return x

    return Case(f, lambda: setattr(c, "late", 4.0))


@case
def an_attribute_with_a_computed_name() -> Case:
    c = config(ab=2.0)
    return Case(lambda x: x * getattr(c, "".join("ab")), lambda: setattr(c, "ab", 4.0), False)


@case
def an_attribute_with_a_name_from_a_list() -> Case:
    c, names = config(ab=2.0), ["ab"]
    return Case(lambda x: x * getattr(c, names[0]), lambda: setattr(c, "ab", 4.0), False)


@case
def getattr_under_another_name() -> Case:
    c, get = config(ab=2.0), getattr
    return Case(lambda x: x * get(c, "".join("ab")), lambda: setattr(c, "ab", 4.0), False)


@case
def an_attribute_through_dict() -> Case:
    c = config(ab=2.0)
    return Case(lambda x: x * c.__dict__["".join("ab")], lambda: setattr(c, "ab", 4.0), False)


@case
def an_attribute_through_vars() -> Case:
    c = config(ab=2.0)
    return Case(lambda x: x * sum(vars(c).values()), lambda: setattr(c, "ab", 4.0), False)


@case
def an_attribute_through_attrgetter() -> Case:
    c, get = config(ab=2.0), operator.attrgetter("ab")
    return Case(lambda x: x * get(c), lambda: setattr(c, "ab", 4.0), False)


@case
def an_attribute_set_through_dict() -> Case:
    c = config(scale=2.0)
    return Case(lambda x: x * c.scale, lambda: vars(c).update(scale=4.0))


@case
def an_attribute_through_getattr_of_the_class() -> Case:
    class Attributes:
        def __init__(self) -> None:
            self.__dict__["held"] = {"a": 2.0}

        def __getattr__(self, name: str) -> Any:
            return self.held[name]

    c = Attributes()
    return Case(lambda x: x * c.a, lambda: c.held.update(a=4.0))


@case
def a_slot() -> Case:
    class Slotted:
        __slots__ = ("late", "scale")

    c = Slotted()
    c.scale = 2.0
    return Case(lambda x: x * c.scale, lambda: setattr(c, "scale", 4.0))


@case
def a_slot_that_is_empty() -> Case:
    class Slotted:
        __slots__ = ("late", "scale")

    c = Slotted()
    return Case(lambda x: x * getattr(c, "late", 1.0), lambda: setattr(c, "late", 4.0))


@case
def a_dataclass() -> Case:
    @dataclasses.dataclass
    class Rates:
        rate: float = 2.0

    c = Rates()
    return Case(lambda x: x * c.rate, lambda: setattr(c, "rate", 4.0))


@case
def a_frozen_dataclass_made_in_the_call() -> Case:
    c = config()

    @dataclasses.dataclass(frozen=True)
    class Rates:
        rate: float = 2.0

    return Case(lambda x: x * Rates(c.scale).rate, lambda: setattr(c, "scale", 4.0))


@case
def all_fields_of_a_dataclass() -> Case:
    @dataclasses.dataclass
    class Rates:
        rate: float = 2.0

    c = Rates()
    f = lambda x: x * dataclasses.astuple(c)[0]  # noqa: E731
    return Case(f, lambda: setattr(c, "rate", 4.0), False)


@case
def a_named_tuple_with_a_list() -> Case:
    class Pair(NamedTuple):
        items: list[float]

    c = Pair([2.0])
    return Case(lambda x: x * c.items[0], lambda: c.items.__setitem__(0, 4.0))


@case
def a_pattern() -> Case:
    @dataclasses.dataclass
    class Rates:
        rate: float = 2.0

    c: Any = Rates()

    def f(x: Any) -> Any:
        match c:
            case Rates(rate=2.0):
                return x
            case Rates(other):
                return x * other

    return Case(f, lambda: setattr(c, "rate", 4.0))


@case
def a_simple_namespace() -> Case:
    c = types.SimpleNamespace(scale=2.0)
    return Case(lambda x: x * c.scale, lambda: setattr(c, "scale", 4.0))


@case
def options_of_a_command_line() -> Case:
    c = argparse.Namespace(scale=2.0)
    return Case(lambda x: x * c.scale, lambda: setattr(c, "scale", 4.0))


@case
def what_two_objects_equal() -> Case:
    @dataclasses.dataclass
    class Rates:
        rate: float = 2.0

    a, b = Rates(), Rates()
    return Case(lambda x: x + 1 if a == b else x - 1, lambda: setattr(a, "rate", 4.0))


@case
def the_truth_of_an_object() -> Case:
    class Switch:
        on = True

        def __bool__(self) -> bool:
            return self.on

    c = Switch()
    return Case(lambda x: x + 1 if c else x - 1, lambda: setattr(c, "on", False))


@case
def a_property() -> Case:
    class Half:
        def __init__(self) -> None:
            self.whole = 4.0

        @property
        def half(self) -> float:
            return self.whole / 2

    c = Half()
    return Case(lambda x: x * c.half, lambda: setattr(c, "whole", 10.0))


@case
def a_descriptor_of_the_user_s() -> Case:
    class Doubled:
        factor = 2.0

        def __get__(self, thing: Any, owner: Any = None) -> float:
            return self.factor * 2

    class Holder:
        value = Doubled()

    c = Holder()
    return Case(lambda x: x * c.value, lambda: setattr(vars(Holder)["value"], "factor", 5.0))


@case
def an_attribute_of_a_metaclass() -> Case:
    class Meta(type):
        scale = 2.0

    class Made(metaclass=Meta):
        pass

    return Case(lambda x: x * Made.scale, lambda: setattr(Meta, "scale", 4.0))


@case
def a_class_attribute_read_by_a_class_method() -> Case:
    class Made:
        scale = 2.0

        @classmethod
        def get(cls) -> float:
            return cls.scale

    return Case(lambda x: x * Made.get(), lambda: setattr(Made, "scale", 4.0))


@case
def a_subclass_of_float() -> Case:
    class Rate(float):
        extra = 1.0

    c = Rate(2.0)
    return Case(lambda x: x * c.extra, lambda: setattr(c, "extra", 4.0))


# ------------------------------------------------------------------ containers


@case
def an_item_of_a_dict() -> Case:
    c = {"a": 2.0}
    return Case(lambda x: x * c["a"], lambda: c.update(a=4.0))


@case
def the_order_of_a_dict() -> Case:
    c = collections.OrderedDict(a=1.0, b=2.0)
    return Case(lambda x: x * next(iter(c.values())), lambda: c.move_to_end("a"))


@case
def the_order_of_a_plain_dict() -> Case:
    c = {"a": 1.0, "b": 2.0}

    def change() -> None:
        c["a"] = c.pop("a")

    return Case(lambda x: x * next(iter(c.values())), change)


@case
def the_only_key_of_a_dict() -> Case:
    c = {"a": 2.0}

    def change() -> None:
        c["b"] = c.pop("a")

    return Case(lambda x: x * c.get("a", 5.0), change)


@case
def the_only_key_of_a_dict_that_fills_itself() -> Case:
    c = collections.defaultdict(lambda: 7.0, a=2.0)

    def change() -> None:
        c["b"] = c.pop("a")

    return Case(lambda x: x * len(c) * c["b"], change, None)


@case
def a_new_key() -> Case:
    c = {"a": 2.0}
    return Case(lambda x: x * c.get("b", 1.0), lambda: c.update(b=4.0))


@case
def a_key_in_place_of_another() -> Case:
    c = {"a": 2.0}

    def change() -> None:
        c["b"] = c.pop("a")

    return Case(lambda x: x * c.get("b", 1.0), change)


@case
def a_default_dict() -> Case:
    c = collections.defaultdict(float, a=2.0)
    return Case(lambda x: x * c["a"], lambda: c.update(a=4.0))


@case
def a_counter() -> Case:
    c = collections.Counter("aab")
    return Case(lambda x: x * c["a"], lambda: c.update("a"))


@case
def a_user_dict() -> Case:
    c = collections.UserDict(a=2.0)
    return Case(lambda x: x * c["a"], lambda: c.update(a=4.0), False)


@case
def a_user_list() -> Case:
    c = collections.UserList([2.0])
    return Case(lambda x: x * c[0], lambda: c.__setitem__(0, 4.0), False)


@case
def a_chain_map() -> Case:
    c = collections.ChainMap({}, {"a": 2.0})
    return Case(lambda x: x * c["a"], lambda: c.update(a=4.0), False)


@case
def a_mapping_proxy() -> Case:
    held = {"a": 2.0}
    c = types.MappingProxyType(held)
    return Case(lambda x: x * c["a"], lambda: held.update(a=4.0), False)


@case
def an_array_of_the_standard_library() -> Case:
    c = array.array("d", [2.0])
    return Case(lambda x: x * c[0], lambda: c.__setitem__(0, 4.0), False)


@case
def a_bytearray() -> Case:
    c = bytearray(b"\2")
    return Case(lambda x: x * c[0], lambda: c.__setitem__(0, 4), False)


@case
def a_view_of_bytes() -> Case:
    held = bytearray(b"\2")
    c = memoryview(held)
    return Case(lambda x: x * c[0], lambda: held.__setitem__(0, 4), False)


@case
def a_deque() -> Case:
    c = collections.deque([2.0, 3.0])
    return Case(lambda x: x * c[0], lambda: c.rotate(1))


@case
def a_set() -> Case:
    c = {"on"}
    return Case(lambda x: x + 1 if "on" in c else x - 1, lambda: c.clear())


@case
def a_set_of_objects() -> Case:
    key = config()
    c = {key}
    return Case(lambda x: x + 1 if key in c else x - 1, lambda: c.clear())


@case
def a_list_of_lists() -> Case:
    c = [[1.0], [2.0]]
    return Case(lambda x: x * c[1][0], lambda: c[1].__setitem__(0, 4.0))


@case
def a_long_list() -> Case:
    c = [2.0] * 1000
    return Case(lambda x: x * c[900], lambda: c.__setitem__(900, 4.0), False)


@case
def a_long_dict() -> Case:
    c = dict.fromkeys(range(1000), 2.0)
    return Case(lambda x: x * c[900], lambda: c.__setitem__(900, 4.0), False)


@case
def a_dict_with_a_default_of_its_own() -> Case:
    class Default(dict[str, float]):
        default = 2.0

        def __missing__(self, key: str) -> float:
            return self.default

    c = Default()
    return Case(lambda x: x * c["a"], lambda: setattr(c, "default", 4.0))


@case
def a_dict_of_functions() -> Case:
    scale = [2.0]
    c = {"double": lambda x: x * scale[0]}
    return Case(lambda x: c["double"](x), lambda: scale.__setitem__(0, 4.0))


@case
def a_number_in_place_of_a_truth_value() -> Case:
    c: list[Any] = [True]
    return Case(lambda x: x if c[0] is True else x * 2, lambda: c.__setitem__(0, 1))


# ------------------------------------------------------------------ functions


@case
def the_code_of_a_function() -> Case:
    def scale() -> float:
        return 2.0

    def other() -> float:
        return 4.0

    return Case(lambda x: x * scale(), lambda: setattr(scale, "__code__", other.__code__))


@case
def the_default_of_a_function() -> Case:
    def scale(by: float = 2.0) -> float:
        return by

    return Case(lambda x: x * scale(), lambda: setattr(scale, "__defaults__", (4.0,)))


@case
def the_default_of_a_keyword() -> Case:
    def scale(*, by: float = 2.0) -> float:
        return by

    return Case(lambda x: x * scale(), lambda: setattr(scale, "__kwdefaults__", {"by": 4.0}))


@case
def an_item_of_the_defaults_of_keywords() -> Case:
    def scale(*, by: float = 2.0) -> float:
        return by

    return Case(lambda x: x * scale(), lambda: scale.__kwdefaults__.update(by=4.0))


@case
def a_list_as_default() -> Case:
    def scale(by: list[float] = [2.0]) -> float:  # noqa: B006
        return by[0]

    return Case(lambda x: x * scale(), lambda: scale.__defaults__[0].__setitem__(0, 4.0))


@case
def an_attribute_of_a_function() -> Case:
    def scale() -> float:
        return scale.by  # type: ignore[attr-defined, no-any-return]

    scale.by = 2.0  # type: ignore[attr-defined]
    return Case(lambda x: x * scale(), lambda: setattr(scale, "by", 4.0))


@case
def a_closure_variable() -> Case:
    by = 2.0

    def change() -> None:
        nonlocal by
        by = 4.0

    return Case(lambda x: x * by, change)


@case
def a_partial() -> Case:
    c = functools.partial(lambda x, by: x * by, by=2.0)
    return Case(lambda x: c(x), lambda: c.keywords.update(by=4.0))


@case
def a_bound_method_of_a_dict() -> Case:
    held = {"a": 2.0}
    get = held.get
    return Case(lambda x: x * get("a"), lambda: held.update(a=4.0))


@case
def a_bound_method_of_an_object() -> Case:
    factor = config(scale=3.0).factor
    return Case(lambda x: x * factor(), lambda: setattr(factor.__self__, "scale", 4.0))


@case
def a_cached_function() -> Case:
    held = [2.0]

    @functools.cache
    def scale() -> float:
        return held[0]

    def change() -> None:
        held[0] = 4.0
        scale.cache_clear()

    return Case(lambda x: x * scale(), change)


@case
def a_cached_function_cleared_later() -> Case:
    held = [2.0]

    @functools.cache
    def scale() -> float:
        return held[0]

    def change() -> None:
        held[0] = 4.0
        for _ in range(4):
            compiled_of[0](X)
        scale.cache_clear()

    return Case(lambda x: x * scale(), change)


@case
def a_function_for_each_type() -> Case:
    held = [2.0]

    @functools.singledispatch
    def scale(x: Any) -> float:
        return 1.0

    @scale.register
    def _(x: int) -> float:
        return held[0]

    return Case(lambda x: x * scale(1), lambda: held.__setitem__(0, 4.0))


@case
def a_context_manager_of_the_user_s() -> Case:
    held = [2.0]

    @contextlib.contextmanager
    def scaled() -> Iterator[float]:
        yield held[0]

    def f(x: Any) -> Any:
        with scaled() as by:
            return x * by

    return Case(f, lambda: held.__setitem__(0, 4.0))


@case
def a_generator_of_the_user_s() -> Case:
    held = [2.0]

    def each() -> Iterator[float]:
        yield from held

    return Case(lambda x: x * sum(each()), lambda: held.append(4.0))


@case
def a_key_of_a_sort() -> Case:
    held = {"a": 2.0, "b": 1.0}
    f = lambda x: x * (1 + "ab".index(sorted(held, key=held.get)[0]))  # type: ignore[arg-type]  # noqa: E731
    return Case(f, lambda: held.update(a=0.0))


@case
def a_builtin_hidden_by_a_global() -> Case:
    namespace: dict[str, Any] = {"__builtins__": builtins}
    exec("def f(x): return x * len([1, 2])", namespace)
    return Case(namespace["f"], lambda: namespace.update(len=lambda x: 9))


@case
def a_global_that_is_missing() -> Case:
    namespace: dict[str, Any] = {"__builtins__": builtins}
    lines = "def f(x):\n try:\n  return x * late\n except NameError:\n  return x\n"
    exec(lines, namespace)
    return Case(namespace["f"], lambda: namespace.update(late=4.0))


@case
def globals_by_computed_names() -> Case:
    namespace: dict[str, Any] = {"__builtins__": builtins, "ab": 2.0}
    exec("def f(x): return x * globals()[''.join('ab')]", namespace)
    return Case(namespace["f"], lambda: namespace.update(ab=4.0), False)


@case
def evaluated_text() -> Case:
    namespace: dict[str, Any] = {"__builtins__": builtins, "ab": 2.0}
    exec("def f(x): return x * eval('a' 'b')", namespace)
    return Case(namespace["f"], lambda: namespace.update(ab=4.0), False)


# ------------------------------------------------------------------ modules and the world


def module(name: str, **values: Any) -> Any:
    made = types.ModuleType(name)
    made.__file__ = __file__
    vars(made).update(values)
    return made


@case
def a_variable_of_a_module() -> Case:
    m = module("settings", rate=2.0)
    return Case(lambda x: x * m.rate, lambda: setattr(m, "rate", 4.0))


@case
def a_variable_that_a_module_gets_later() -> Case:
    m = module("settings")
    return Case(lambda x: x * getattr(m, "rate", 1.0), lambda: setattr(m, "rate", 4.0))


@case
def a_module_imported_in_the_function() -> Case:
    sys.modules["settings_of_a_test"] = module("settings_of_a_test", rate=2.0)

    def f(x: Any) -> Any:
        from settings_of_a_test import rate  # type: ignore[import-not-found]

        return x * rate

    return Case(f, lambda: setattr(sys.modules["settings_of_a_test"], "rate", 4.0))


@case
def another_module_of_the_same_name() -> Case:
    sys.modules["settings_of_a_test"] = module("settings_of_a_test", rate=2.0)

    def f(x: Any) -> Any:
        import settings_of_a_test

        return x * settings_of_a_test.rate

    other = module("settings_of_a_test", rate=4.0)
    return Case(f, lambda: sys.modules.update(settings_of_a_test=other))


@case
def code_that_is_installed(tmp: Any = None) -> Case:
    namespace: dict[str, Any] = {"__builtins__": builtins, "rate": 2.0}
    file = os.path.join(os.path.dirname(pytest.__file__), "installed.py")
    exec(compile("def scaled(x): return x * rate", file, "exec"), namespace)
    scaled = namespace["scaled"]
    return Case(lambda x: scaled(x), lambda: namespace.update(rate=4.0))


@case
def an_environment_variable() -> Case:
    os.environ["RATE_OF_A_TEST"] = "2"
    f = lambda x: x * float(os.environ["RATE_OF_A_TEST"])  # noqa: E731
    return Case(f, lambda: os.environ.update(RATE_OF_A_TEST="4"), False)


@case
def an_environment_variable_by_a_function() -> Case:
    os.environ["RATE_OF_A_TEST"] = "2"
    f = lambda x: x * float(os.getenv("RATE_OF_A_TEST", "1"))  # noqa: E731
    return Case(f, lambda: os.environ.update(RATE_OF_A_TEST="4"), False)


@case
def a_file() -> Case:
    path = os.path.join(os.environ["TMPDIR_OF_A_TEST"], "rate.txt")

    def write(text: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    def f(x: Any) -> Any:
        with open(path, encoding="utf-8") as file:
            return x * float(file.read())

    write("2")
    return Case(f, lambda: write("4"), False)


@case
def a_file_by_numpy() -> Case:
    path = os.path.join(os.environ["TMPDIR_OF_A_TEST"], "rate.npy")
    np.save(path, 2.0)
    return Case(lambda x: x * float(np.load(path)), lambda: np.save(path, 4.0), False)


@case
def an_argument_of_the_command_line() -> Case:
    sys.argv.append("2")
    return Case(lambda x: x * float(sys.argv[-1]), lambda: sys.argv.__setitem__(-1, "4"))


@case
def a_context_variable() -> Case:
    c = contextvars.ContextVar("c", default=2.0)
    return Case(lambda x: x * c.get(), lambda: c.set(4.0), False)


@case
def a_variable_of_a_thread() -> Case:
    c = threading.local()
    c.rate = 2.0
    return Case(lambda x: x * c.rate, lambda: setattr(c, "rate", 4.0), False)


@case
def a_weak_reference() -> Case:
    held = [config(scale=2.0)]
    c = weakref.ref(held[0])
    return Case(lambda x: x * (c().scale if c() else 9.0), lambda: held.clear(), False)


@case
def a_decimal() -> Case:
    c = [decimal.Decimal(2)]
    return Case(lambda x: x * float(c[0]), lambda: c.__setitem__(0, decimal.Decimal(4)), False)


@case
def a_string_s_format_of_an_object() -> Case:
    class Rate:
        value = 2.0

        def __str__(self) -> str:
            return str(self.value)

    c = Rate()
    return Case(lambda x: x * float(str(c)), lambda: setattr(c, "value", 4.0))


# ------------------------------------------------------------------ arrays


@case
def a_small_array_in_numpy() -> Case:
    c = np.array([2.0, 3.0])
    return Case(lambda x: x * float(c[0]), lambda: c.__setitem__(0, 4.0))


@case
def a_small_array_read_anew_and_in_numpy() -> Case:
    c = np.ones(3, np.float32)
    return Case(lambda x: x * c + float(c.sum()), lambda: c.__setitem__(0, 4.0))


@case
def a_large_array_in_numpy() -> Case:
    c = np.full(1000, 2.0)
    return Case(lambda x: x * float(c.mean()), lambda: c.fill(4.0), False)


@case
def a_large_array_read_anew_and_in_numpy() -> Case:
    c = np.full((3, 1000), 2.0, np.float32)
    return Case(lambda x: x @ c * float(c.mean()), lambda: c.fill(4.0), False)


@case
def a_large_array_copied() -> Case:
    c = np.full((3, 1000), 2.0, np.float32)
    return Case(lambda x: x @ tk.tensor(c), lambda: c.fill(4.0), False)


@case
def a_large_array_read_anew() -> Case:
    c = np.full((3, 1000), 2.0, np.float32)
    return Case(lambda x: x @ c, lambda: c.fill(4.0))


@case
def a_view_of_a_large_array() -> Case:
    c = np.full((3, 1000), 2.0, np.float32)
    return Case(lambda x: x @ c[:, :10], lambda: c.fill(4.0))


@case
def the_elements_of_an_array_exchanged() -> Case:
    c = np.arange(9, dtype=np.float32).reshape(3, 3)
    return Case(lambda x: x @ c, lambda: c.__setitem__(..., c.T.copy()))


@case
def the_layout_of_an_array() -> Case:
    c = np.arange(6, dtype=np.float32).reshape(3, 2)
    return Case(lambda x: x.sum() * c, lambda: c.resize((2, 3), refcheck=False))


@case
def an_array_of_objects() -> Case:
    c = np.array([2.0, 3.0], object)
    return Case(lambda x: x * c[0], lambda: c.__setitem__(0, 4.0), False)


@case
def a_number_of_numpy() -> Case:
    c = [np.float32(2.0)]
    return Case(lambda x: x * c[0], lambda: c.__setitem__(0, np.float32(4.0)))


@case
def a_mask_made_in_the_call() -> Case:
    c = [1.0]

    def f(x: Any) -> Any:
        mask = np.triu(np.full((40, 40), c[0], np.float32))
        return x.sum() * mask

    return Case(f, lambda: c.__setitem__(0, 4.0))


# ------------------------------------------------------------------ Tensors and layers


@case
def the_data_of_a_tensor() -> Case:
    w = tk.ones(3)
    return Case(lambda x: x * w, lambda: setattr(w, "data", np.full(3, 4, np.float32)))


@case
def the_data_of_a_tensor_that_is_detached() -> Case:
    w = nn.Parameter(np.ones(3, np.float32))
    return Case(lambda x: x * w.detach(), lambda: setattr(w, "data", np.full(3, 4, np.float32)))


@case
def the_data_of_a_tensor_of_a_tensor() -> Case:
    w = tk.ones(3)
    return Case(lambda x: x * Tensor(w), lambda: setattr(w, "data", np.full(3, 4, np.float32)))


@case
def the_data_of_a_copied_tensor() -> Case:
    w = tk.ones(3)
    return Case(lambda x: x * tk.tensor(w), lambda: setattr(w, "data", np.full(3, 4, np.float32)))


@case
def the_elements_of_a_copied_tensor() -> Case:
    w = tk.ones(3)
    return Case(lambda x: x * tk.tensor(w), lambda: w.fill_(4.0))


@case
def the_elements_of_a_tensor_of_another_dtype() -> Case:
    w = tk.ones(3)
    return Case(lambda x: x * Tensor(w, dtype=np.float64), lambda: w.fill_(4.0))


@case
def the_elements_of_a_copied_mask() -> Case:
    w = tk.tensor([True, False, True])
    return Case(lambda x: tk.where(w.clone(), x, 0.0), lambda: w.fill_(False))


@case
def the_elements_of_a_deep_copy() -> Case:
    w = tk.ones(3)
    return Case(lambda x: x * copy.deepcopy(w), lambda: w.fill_(4.0), False)


@case
def the_elements_of_a_view() -> Case:
    w = tk.ones(4, 3)
    return Case(lambda x: x * w[1], lambda: w.fill_(4.0))


@case
def the_data_of_a_tensor_of_which_a_part_is_read() -> Case:
    w = tk.ones(4, 3)
    change = lambda: setattr(w, "data", np.full((4, 3), 4, np.float32))  # noqa: E731
    return Case(lambda x: x * w[1] + w.detach()[2].reshape(3), change)


def index(change: str) -> Any:
    i = tk.tensor([0, 1])
    if change == "fill":
        return i, lambda: i.fill_(2)
    return i, lambda: setattr(i, "data", np.array([2, 2]))


for how in ("fill", "data"):
    for what, f in {
        "an_index": lambda x, i: x[i],
        "take": lambda x, i: tk.take(x, i),
        "gather": lambda x, i: tk.gather(x, 0, i),
        "one_hot": lambda x, i: tk.functional.one_hot(i, 4) * x.sum(),
        "embedding": lambda x, i: tk.functional.embedding(i, tk.stack([x, x * 2, x * 3])),
        "labels": lambda x, i: tk.functional.cross_entropy(tk.stack([x, x * 2]), i),
        "repeats": lambda x, i: tk.repeat_interleave(x[:2], i),
        "bounds": lambda x, i: tk.clip(x, i[0], None),
        "a_condition": lambda x, i: tk.where(i[0] > 1, x, 0.0),
        "a_sum": lambda x, i: x + i.sum(),
        "classes": lambda x, i: tk.functional.one_hot(i) * x.sum(),
        "a_split": lambda x, i: tk.split(x, 1)[0] * i[0],
        "a_mask": lambda x, i: x[i > 0] if len(i) == 3 else x[:2][i > 0],
        "a_search": lambda x, i: tk.nonzero(i) if hasattr(tk, "nonzero") else x * i[0],
        "lengths": lambda x, i: tk.functional.sequence_loss(
            tk.stack([x, x]).reshape(2, 1, 3), np.array([[1], [0]]), lengths=i.clip(0, 1)
        ),
        "a_sort": lambda x, i: x * tk.sort(i).values[0],
        "a_unit": lambda x, i: x * i.max(),
    }.items():

        def make(f: Any = f, how: str = how) -> Case:
            i, change = index(how)
            return Case(lambda x: f(x, i), change, None)  # type: ignore[arg-type]

        CASES[f"{what}_of_a_tensor_by_{how}"] = make


@case
def the_data_of_a_tensor_that_is_differentiated() -> Case:
    w = tk.ones(3)
    f = lambda x: x * tk.grad(lambda w: (w * w).sum())(w)  # noqa: E731
    return Case(f, lambda: setattr(w, "data", np.full(3, 4, np.float32)))


@case
def the_data_of_a_tensor_in_an_array_function() -> Case:
    w = tk.ones(3)
    f = lambda x: x * tk.stack([w, w])[0]  # noqa: E731
    return Case(f, lambda: setattr(w, "data", np.full(3, 4, np.float32)))


@case
def the_data_of_a_buffer() -> Case:
    net = nn.BatchNorm1d(3).eval()
    x = Tensor(np.ones((4, 3), np.float32))
    change = lambda: setattr(net.running_mean, "data", np.full(3, 4, np.float32))  # noqa: E731
    return Case(lambda _: net(x).detach(), change)


@case
def an_attribute_of_a_layer_through_dict() -> Case:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.scale = 2.0

        def forward(self, x: Any) -> Any:
            return x * self.scale

    net = Scaled()
    return Case(lambda x: net(x), lambda: vars(net).update(scale=4.0))


@case
def a_list_on_a_layer_of_ours() -> Case:
    net: Any = nn.Linear(3, 2)
    net.sizes = [2.0]
    return Case(lambda x: x * net.sizes[0], lambda: net.sizes.__setitem__(0, 4.0))


@case
def a_hook_of_a_layer() -> Case:
    net = nn.Sequential(nn.Tanh())
    change = lambda: net.register_forward_hook(lambda module, args, y: y + 1)  # noqa: E731
    return Case(lambda x: net(x), change)


@case
def what_a_hook_of_a_layer_reads() -> Case:
    net, held = nn.Sequential(nn.Tanh()), [1.0]
    net.register_forward_hook(lambda module, args, y: y * held[0])
    return Case(lambda x: net(x), lambda: held.__setitem__(0, 4.0))


@case
def a_hook_of_a_parameter() -> Case:
    w = nn.Parameter(np.ones(3, np.float32))

    def f(x: Any) -> Any:
        w.grad = None
        (x * w).sum().backward()
        return w.grad

    return Case(f, lambda: w.register_hook(lambda g: g * 4))


@case
def what_a_hook_of_a_parameter_reads() -> Case:
    w, held = nn.Parameter(np.ones(3, np.float32)), [1.0]
    w.register_hook(lambda g: g * held[0])

    def f(x: Any) -> Any:
        w.grad = None
        (x * w).sum().backward()
        return w.grad

    return Case(f, lambda: held.__setitem__(0, 4.0))


@case
def a_removed_hook_of_a_parameter() -> Case:
    w = nn.Parameter(np.ones(3, np.float32))
    handle = w.register_hook(lambda g: g * 4)

    def f(x: Any) -> Any:
        w.grad = None
        (x * w).sum().backward()
        return w.grad

    return Case(f, handle.remove)


@case
def training_and_evaluation() -> Case:
    net = nn.Sequential(nn.Dropout(1.0), nn.Linear(3, 2)).eval()
    return Case(lambda x: net(x).detach(), net.train)


@case
def a_step_replaced_on_the_optimizer() -> Case:
    w = nn.Parameter(np.ones(3, np.float32))
    optimizer: Any = optim.SGD([w], lr=0.5)

    def f(x: Any) -> Any:
        with tk.no_grad():
            w.fill_(1.0)
        optimizer.zero_grad()
        (x * w).sum().backward()
        optimizer.step()
        return w.detach() + 0

    return Case(f, lambda: setattr(optimizer, "step", lambda: None))


@case
def the_rate_of_an_optimizer() -> Case:
    w = nn.Parameter(np.ones(3, np.float32))
    optimizer = optim.SGD([w], lr=0.5)

    def f(x: Any) -> Any:
        with tk.no_grad():
            w.fill_(1.0)
        optimizer.zero_grad()
        (x * w).sum().backward()
        optimizer.step()
        return w.detach() + 0

    return Case(f, lambda: optimizer.param_groups[0].update(lr=0.25))


@case
def the_rate_of_an_optimizer_read_by_the_function() -> Case:
    optimizer = optim.SGD([nn.Parameter(np.ones(3, np.float32))], lr=0.5)
    f = lambda x: x * optimizer.param_groups[0]["lr"]  # noqa: E731
    return Case(f, lambda: optimizer.param_groups[0].update(lr=0.25))


@case
def the_state_of_an_optimizer() -> Case:
    w = nn.Parameter(np.ones(3, np.float32))
    optimizer = optim.Adam([w])

    def f(x: Any) -> Any:
        optimizer.zero_grad()
        (x * w).sum().backward()
        optimizer.step()
        return x * float(optimizer.state[w]["step"])

    return Case(f, lambda: None, False)


@case
def the_state_dict_of_an_optimizer() -> Case:
    w = nn.Parameter(np.ones(3, np.float32))
    optimizer = optim.Adam([w])

    def f(x: Any) -> Any:
        optimizer.zero_grad()
        (x * w).sum().backward()
        optimizer.step()
        return x * float(optimizer.state_dict()["state"][0]["step"])

    return Case(f, lambda: None, False)


@case
def the_state_dict_of_a_layer() -> Case:
    net = nn.Linear(3, 3)
    change = lambda: tk.nn.init.ones_(net.weight)  # noqa: E731
    return Case(lambda x: x * np.asarray(net.state_dict()["weight"]).sum(), change, None)


@case
def the_rate_of_a_schedule() -> Case:
    optimizer = optim.SGD([nn.Parameter(np.ones(3, np.float32))], lr=0.5)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1)

    def change() -> None:
        optimizer.param_groups[0]["params"][0].grad = tk.ones(3)
        optimizer.step()
        schedule.step()

    return Case(lambda x: x * schedule.get_last_lr()[0], change)


@case
def the_length_of_a_tensor() -> Case:
    w = tk.ones(3)
    return Case(lambda x: x * len(w), lambda: setattr(w, "data", np.ones(5, np.float32)))


@case
def the_dtype_of_a_tensor() -> Case:
    w = tk.ones(3)
    change = lambda: setattr(w, "data", np.ones(3))  # noqa: E731
    return Case(lambda x: x + 1 if w.dtype == np.float32 else x - 1, change)


@case
def the_shape_of_an_array_that_is_not_read() -> Case:
    c = np.ones((2, 3))
    return Case(lambda x: x * c.shape[0], lambda: c.resize((3, 2), refcheck=False))


@case
def whether_a_tensor_has_a_gradient() -> Case:
    w = nn.Parameter(np.ones(3, np.float32))
    f = lambda x: x + 1 if w.grad is None else x - 1  # noqa: E731
    return Case(f, lambda: setattr(w, "grad", tk.ones(3)))


@case
def an_operation_of_the_user_s() -> Case:
    held = [2.0]
    scaled = tk.op(lambda x: x * held[0], lambda g, y, x: g * held[0], name="scaled")
    return Case(lambda x: scaled(x), lambda: held.__setitem__(0, 4.0))


@case
def the_rule_of_an_operation_of_the_user_s() -> Case:
    held = [2.0]
    scaled = tk.op(lambda x: x * 2.0, lambda g, y, x: g * held[0], name="scaled")
    f = lambda x: tk.grad(lambda x: scaled(x).sum())(x)  # noqa: E731
    return Case(f, lambda: held.__setitem__(0, 4.0))


@case
def a_function_that_is_differentiated() -> Case:
    held = [2.0]
    inner = tk.grad(lambda x: (x * x * held[0]).sum())
    return Case(lambda x: inner(x), lambda: held.__setitem__(0, 4.0))


@case
def a_compiled_function_inside() -> Case:
    held = [2.0]
    inner = tk.compile(lambda x: x * held[0])
    return Case(lambda x: inner(x) + 1, lambda: held.__setitem__(0, 4.0))


@case
def an_attribute_of_an_enum_s_member() -> Case:
    class Mode(enum.Enum):
        UP = 1

    mode: Any = Mode.UP
    mode.scale = 2.0
    return Case(lambda x: x * mode.scale, lambda: setattr(mode, "scale", 4.0))


@case
def a_module_with_getattr() -> Case:
    held = {"rate": 2.0}
    m = module("settings", __getattr__=lambda name: held[name])
    return Case(lambda x: x * m.rate, lambda: held.update(rate=4.0))


@case
def a_builtin_of_the_user_s() -> Case:
    vars(builtins)["rate_of_a_test"] = 2.0
    f = eval("lambda x: x * rate_of_a_test")
    return Case(f, lambda: vars(builtins).update(rate_of_a_test=4.0))


@case
def a_view_of_a_dict() -> Case:
    held = {"a": 2.0}
    c = held.values()
    return Case(lambda x: x * sum(c), lambda: held.update(a=4.0), False)


@case
def a_default_dtype() -> Case:
    c = np.dtype(np.float32)
    held = [c]
    return Case(lambda x: x.astype(held[0]), lambda: held.__setitem__(0, np.dtype(np.float64)))


@case
def an_abstract_class() -> Case:
    import abc

    class Base(abc.ABC):
        @abc.abstractmethod
        def scale(self) -> float: ...

    class Made(Base):
        by = 2.0

        def scale(self) -> float:
            return self.by

    c = Made()
    return Case(lambda x: x * c.scale(), lambda: setattr(c, "by", 4.0))


@case
def a_generic_class() -> Case:
    T = typing.TypeVar("T")

    class Box(typing.Generic[T]):
        def __init__(self, held: T) -> None:
            self.held = held

    c = Box(2.0)
    return Case(lambda x: x * c.held, lambda: setattr(c, "held", 4.0))


@case
def an_argument_of_a_call() -> Case:
    c = config(scale=2.0)
    step = lambda x, c=c: x * c.scale  # noqa: E731
    return Case(step, lambda: setattr(c, "scale", 4.0))


@case
def the_generator_s_numbers() -> Case:
    c = np.random.default_rng(0)
    return Case(lambda x: x * c.integers(2, 9), lambda: None, False)


@case
def a_generator_of_ours() -> Case:
    c = np.random.default_rng(0)
    return Case(lambda x: x * tk.rand(3, generator=c), lambda: None, None)


@case
def an_enum_s_member() -> Case:
    class Mode(enum.Enum):
        UP = 2.0
        DOWN = 4.0

    c = [Mode.UP]
    return Case(lambda x: x * c[0].value, lambda: c.__setitem__(0, Mode.DOWN))


@case
def a_slice() -> Case:
    c = [slice(0, 2)]
    return Case(lambda x: x[c[0]], lambda: c.__setitem__(0, slice(1, 3)))


@case
def an_iterator() -> Case:
    c = itertools.count(2)
    return Case(lambda x: x * next(c), lambda: None, False)


# ------------------------------------------------------------------ found by a review


def array_case(f: Callable[[Any, Any], Any], size: int = 3, compiled: bool | None = True) -> Any:
    def make() -> Case:
        c = np.linspace(1, 2, size).astype(np.float32)
        return Case(lambda x: f(x, c), lambda: c.fill(5.0), compiled)

    return make


def helper_norm(m: Any) -> Any:
    return np.sqrt((m * m).sum())


CASES |= {
    f"an_array_read_anew_and_{name}": array_case(f)
    for name, f in {
        "in_a_logarithm": lambda x, c: 0.5 * (np.log(2 * np.pi * c) + (x - 1) ** 2 / c),
        "in_a_sum_of_two": lambda x, c: x / c + np.log(c + 1e-3),
        "subtracted": lambda x, c: x * c + (c - x.shape[0]),
        "under_another_name": lambda x, c: (lambda a: x * a + float(a.sum()))(c),
        "in_a_helper": lambda x, c: x * c / helper_norm(c),
        "in_python_s_sum": lambda x, c: (x * c).sum() / sum(c),
        "in_a_branch": lambda x, c: x * c if (c > 3).any() else x * c + 1,
        "in_a_loop": lambda x, c: x * c + max([float(v) for v in c]),
        "to_a_power": lambda x, c: x * c + (c**2).sum(),
        "by_a_keyword": lambda x, c: x * c + np.sum(a=c),
        "in_where": lambda x, c: tk.where(c > 3, x * c, 9.0),
    }.items()
}
CASES |= {
    "labels_in_an_array": lambda: labels_case(lambda x, y: tk.functional.cross_entropy(x, y)),
    "labels_in_nll": lambda: labels_case(lambda x, y: tk.functional.nll_loss(x, y)),
    "labels_smoothed": lambda: labels_case(
        lambda x, y: tk.functional.cross_entropy(x, y, label_smoothing=0.1)
    ),
    "labels_one_hot": lambda: labels_case(lambda x, y: tk.functional.one_hot(y, 3) * x),
}


def labels_case(f: Callable[[Any, Any], Any]) -> Case:
    y = np.array([0, 1, 2])
    return Case(lambda x: f(tk.stack([x, x * 2, x * 3]), y), lambda: y.fill(1))


@case
def an_array_that_the_function_counts_in() -> Case:
    c = np.zeros(1)

    def f(x: Any) -> Any:
        c[0] += 1
        return x * float(c[0])

    return Case(f, lambda: None, False)


@case
def an_array_that_the_function_averages_in() -> Case:
    c = np.zeros(1000, np.float32)

    def f(x: Any) -> Any:
        c[:] = 0.9 * c + 0.1
        return x + c[:3]

    return Case(f, lambda: None, False)


@case
def an_object_made_in_the_call_with_methods_of_python_s() -> Case:
    held = [2.0]

    class Scale:
        def __enter__(self) -> float:
            return held[0]

        def __exit__(self, *error: Any) -> None:
            return None

        def __mul__(self, other: Any) -> Any:
            return other * held[0]

    def f(x: Any) -> Any:
        with Scale() as by:
            return Scale() * x * by

    return Case(f, lambda: held.__setitem__(0, 4.0))


@case
def a_generator_of_python_s() -> Case:
    c = random.Random(0)
    return Case(lambda x: -x if c.random() < 0.5 else x, lambda: None, False)


@case
def a_generator_of_numpy_s_old_kind() -> Case:
    c = np.random.RandomState(0)
    return Case(lambda x: -x if c.rand() < 0.5 else x, lambda: None, False)


@case
def a_method_of_a_named_tuple_among_the_arguments() -> Case:
    held = [2.0]

    class Pair(NamedTuple):
        x: Any

        def scaled(self) -> Any:
            return self.x * held[0]

    step = tk.compile(lambda pair: pair.scaled())
    f = lambda x: step(Pair(x)) if compiled_of[0] is not None else None  # noqa: E731
    return Case(f, lambda: held.__setitem__(0, 4.0), None)


@case
def an_attribute_that_a_function_gets_later() -> Case:
    def scale() -> float:
        return getattr(scale, "by", 1.0)

    return Case(lambda x: x * scale(), lambda: setattr(scale, "by", 4.0))


@case
def an_attribute_under_a_bare_except() -> Case:
    c = config()

    def f(x: Any) -> Any:
        try:
            return x * c.late
        except:  # noqa: E722
            return x

    return Case(f, lambda: setattr(c, "late", 4.0))


@case
def a_private_slot() -> Case:
    class Slotted:
        __slots__ = ("__scale",)

        def __init__(self) -> None:
            self.__scale = 2.0

        def set(self, scale: float) -> None:
            self.__scale = scale

        def get(self) -> float:
            return self.__scale

    c = Slotted()
    return Case(lambda x: x * c.get(), lambda: c.set(4.0))


@case
def an_attribute_of_the_user_s_optimizer() -> Case:
    class Scaled(optim.SGD):
        _scale = 1.0

        def scale(self) -> float:
            return self._scale

    c = Scaled([nn.Parameter(np.ones(3, np.float32))], lr=0.1)
    return Case(lambda x: x * c.scale(), lambda: setattr(c, "_scale", 4.0))


@case
def a_table_read_from_a_file() -> Case:
    path = os.path.join(os.environ["TMPDIR_OF_A_TEST"], "rate.csv")

    def write(text: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    write("2,3\n")
    f = lambda x: x * float(tk.data.read_csv(path).x[0][0])  # noqa: E731
    return Case(f, lambda: write("4,3\n"), False)


@case
def globals_through_a_function() -> Case:
    namespace: dict[str, Any] = {"__builtins__": builtins, "rate": 2.0}
    exec("def f(x): return x * f.__globals__['rate']", namespace)
    return Case(namespace["f"], lambda: namespace.update(rate=4.0), False)


# ------------------------------------------------------------------ the tests

compiled_of: list[Any] = [None]


@pytest.fixture(autouse=True)
def as_before(tmp_path: Any) -> Iterator[None]:
    os.environ["TMPDIR_OF_A_TEST"] = str(tmp_path)
    arguments = list(sys.argv)
    yield
    sys.argv[:] = arguments
    for name in ("TMPDIR_OF_A_TEST", "RATE_OF_A_TEST"):
        os.environ.pop(name, None)
    sys.modules.pop("settings_of_a_test", None)
    vars(builtins).pop("rate_of_a_test", None)


def numbers(y: Any) -> np.ndarray:
    return np.asarray(y.detach() if isinstance(y, Tensor) else y)


def agree(step: Any, written: Any) -> None:
    """One more call of each: they return the same, or raise the same."""
    try:
        expected = numbers(written(X))
    except Exception as error:
        with pytest.raises(type(error)):
            step(X)
    else:
        np.testing.assert_allclose(numbers(step(X)), expected, rtol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_never_stale(backend: str, name: str) -> None:
    tk.manual_seed(0)
    written = CASES[name]()
    tk.manual_seed(0)
    compiled = CASES[name]()
    step = compiled_of[0] = tk.compile(compiled.function)
    for _ in range(4):
        agree(step, written.function)
    if compiled.compiled is not None:
        assert bool(step.programs) == compiled.compiled, step.explain()
    compiled.change()
    compiled_of[0] = written.function
    written.change()
    for _ in range(4):
        agree(step, written.function)


def test_the_reason_names_the_object_its_type_and_the_line(backend: str) -> None:
    clock = datetime.datetime
    step = tk.compile(lambda x: x * (clock.now().year > 0))
    first = step.function.__code__.co_firstlineno
    for _ in range(3):
        step(X)
    said = step.explain()
    assert "'clock'" in said
    assert "datetime" in said
    assert f"{__file__}:{first}" in said


@pytest.mark.parametrize(
    "function",
    [time.time, time.perf_counter, os.getpid, random.random, threading.get_ident, os.listdir],
)
def test_a_function_of_the_world_runs_as_written(backend: str, function: Callable[[], Any]) -> None:
    calls = 0

    def f(x: Any) -> Any:
        return x * (function() is not None)

    step = tk.compile(f)
    for _ in range(4):
        step(X)
    assert not step.programs, calls


def test_a_buffer_that_each_call_fills_is_read_anew(backend: str) -> None:
    buffer = np.zeros(3, np.float32)
    step = tk.compile(lambda x: x * buffer)
    for i in range(40):
        buffer[:] = i
        agree(step, lambda x: x * buffer)
    assert step.programs, step.explain()
    assert len(list(step._specialisations())) < 4


def test_class_weights_in_an_array(backend: str) -> None:
    weight = np.array([1.0, 2.0, 3.0], np.float32)
    x, y = tk.randn(4, 3), Tensor(np.array([0, 1, 2, 1]))
    for loss in (tk.functional.cross_entropy, tk.functional.nll_loss):
        step = tk.compile(lambda x, y, loss=loss: loss(x, y, weight=weight))
        for _ in range(3):
            expected = loss(x, y, weight=weight)
            np.testing.assert_allclose(numbers(step(x, y)), numbers(expected), rtol=1e-6)


def test_changes_of_arguments_reach_the_caller(backend: str) -> None:
    def f(x: Any, metrics: Any, history: Any) -> Any:
        metrics["n"] += 1
        history.append(metrics["n"])
        return x * metrics["n"]

    step = tk.compile(f)
    mine, theirs = ({"n": 0, "a": np.ones(2)}, [X]), ({"n": 0, "a": np.ones(2)}, [X])
    array = mine[0]["a"]
    for _ in range(5):
        np.testing.assert_array_equal(numbers(step(X, *mine)), numbers(f(X, *theirs)))
    assert mine[0]["n"] == 5
    assert mine[1][1:] == theirs[1][1:]
    assert mine[0]["a"] is array
    assert mine[1][0] is X
    assert "changes a list or dict among its arguments" in step.explain()


@pytest.mark.parametrize("kind", [collections.OrderedDict, collections.defaultdict, list])
def test_containers_of_other_classes_as_arguments(backend: str, kind: Any) -> None:
    class Own(kind):  # type: ignore[misc, valid-type]
        rate = 2.0

    given = Own([X]) if kind is list else Own()
    if kind is not list:
        given["x"] = X
    f = lambda c: c.rate * (c[0] if kind is list else c["x"])  # noqa: E731
    step = tk.compile(f)
    for _ in range(3):
        np.testing.assert_array_equal(numbers(step(given)), numbers(f(given)))


def test_annotations_and_contexts_are_compiled(backend: str) -> None:
    context = contextlib.nullcontext(2.0)

    @dataclasses.dataclass
    class Batch:
        x: Any
        names: list[str] = dataclasses.field(default_factory=list)

    def f(x: Any) -> Any:
        def inner(x: typing.Optional[Tensor], how: typing.Union[int, str] = 1) -> Any:  # noqa: UP007, UP045
            return typing.cast(typing.Optional[Tensor], x)  # noqa: UP045

        with context as by:
            return inner(Batch(x).x) * by

    step = tk.compile(f)
    for _ in range(3):
        agree(step, f)
    assert step.programs, step.explain()


def test_what_a_layer_holds_and_does_not_use_is_not_read(backend: str) -> None:
    class Recording(nn.Module):
        def __init__(self) -> None:
            self.linear = nn.Linear(3, 2)
            self.losses = [0.0] * 1000
            self.table = np.zeros(1000)
            self.lock = threading.Lock()
            self.started = datetime.datetime(2020, 1, 1)

        def forward(self, x: Any) -> Any:
            return self.linear(x).detach()

    net: Any = Recording()
    net.linear.path = decimal.Decimal(1)
    step = tk.compile(lambda x: net(x))
    for _ in range(3):
        agree(step, net)
    assert step.programs, step.explain()


def test_constructors_that_do_not_run_are_not_read(backend: str) -> None:
    """What made the net and its trainer may do anything: both are there already."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3, 1)
            self.opened = time.time()

        def forward(self, x: Any) -> Any:
            return self.linear(x)

    @dataclasses.dataclass(frozen=True)
    class Recipe:
        rule: str = "SGD"

    class Trainer:
        def __init__(self, rule: str) -> None:
            super().__init__()
            self.net = Net()
            self.recipe = Recipe()
            self.optimizer = getattr(optim, rule)(self.net.parameters(), lr=0.1)

        def step(self, x: Any) -> Any:
            assert self.recipe.rule == "SGD"
            self.optimizer.zero_grad()
            loss = (self.net(x) ** 2).mean()
            loss.backward()
            self.optimizer.step()
            return loss

    step = tk.compile(Trainer("SGD").step)
    for _ in range(3):
        step(X)
    assert step.explain() == "every call is compiled"


@pytest.mark.parametrize("f", [lambda i: X[: i[1]], lambda i: tk.zeros(int(i[0]) + 1) + X[0]])
def test_numbers_taken_out_of_a_tensor_are_refused(backend: str, f: Callable[[Any], Any]) -> None:
    i = tk.tensor([0, 1])
    with pytest.raises(RuntimeError, match="needs the elements of a Tensor"):
        tk.compile(lambda x: f(i))(X)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x * math.sqrt(math.pi),
        lambda x: x * max(map(abs, [1, -2])),
        lambda x: x * functools.reduce(operator.mul, [1.0, 2.0]),
        lambda x: x * np.log(2.0) + np.arange(3),
        lambda x: x * len(list(itertools.chain([1], [2]))),
        lambda x: typing.cast(Any, x) * float("2"),
        lambda x: copy.copy([x])[0] * 2,
        lambda x: sum(x * i for i in range(3)),
        lambda x: [print("", end=""), x][1] * 2,
    ],
)
def test_pure_functions_are_compiled(backend: str, f: Callable[[Any], Any]) -> None:
    step = tk.compile(f)
    for _ in range(3):
        np.testing.assert_allclose(numbers(step(X)), numbers(f(X)), rtol=1e-6)
    assert step.programs, step.explain()
