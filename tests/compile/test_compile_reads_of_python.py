"""More of what a traced step may read: special methods, caches, formats, Python's own classes.

Cases as in `test_compile_reads.py`.
"""

from __future__ import annotations

import abc
import collections
import collections.abc
import contextlib
import copy
import dataclasses
import enum
import fractions
import functools
import heapq
import importlib
import itertools
import logging
import operator
import re
import string
import sys
import types
import typing
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from harness import backend as backend
from test_compile_reads import Case, X, agree, numbers

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim

pytestmark = pytest.mark.parametrize(
    "backend", ["numpy", pytest.param("c", marks=pytest.mark.slow)], indirect=True
)

CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__] = make
    return make


def thing(**values: Any) -> Any:
    """An object of a class of its own."""
    made = type("Thing", (), {})()
    vars(made).update(values)
    return made


def setter(holder: Any, name: str, value: Any) -> Callable[[], Any]:
    return lambda: setattr(holder, name, value)


def put(holder: Any, key: Any, value: Any) -> Callable[[], Any]:
    return lambda: holder.__setitem__(key, value)


@dataclasses.dataclass
class Rate:
    value: float


@dataclasses.dataclass(order=True, unsafe_hash=True)
class Ordered:
    value: float


# ------------------------------------------------------------------ text

SCALE = "{0.scale}"


def formatted(f: Callable[[Any], Any]) -> Callable[[], Case]:
    def make() -> Case:
        c = thing(scale=2.0)
        return Case(lambda x: x * float(f(c)), setter(c, "scale", 4.0), False)

    return make


bound, unbound = SCALE.format, str.format
CASES |= {
    "an_attribute_by_format": formatted(lambda c: "{0.scale}".format(c)),  # noqa: UP030, UP032
    "an_attribute_by_a_format_elsewhere": formatted(lambda c: SCALE.format(c)),
    "an_attribute_by_a_bound_format": formatted(lambda c: bound(c)),
    "an_attribute_by_an_unbound_format": formatted(lambda c: unbound(SCALE, c)),
    "an_attribute_by_str_format": formatted(lambda c: str.format("{0.scale}", c)),
    "an_attribute_by_format_map": formatted(lambda c: "{c.scale}".format_map({"c": c})),
    "an_attribute_by_a_formatter": formatted(lambda c: string.Formatter().vformat(SCALE, [c], {})),
    "an_item_by_format": formatted(lambda c: "{0[0].scale}".format([c])),  # noqa: UP030, UP032
}


def printed(f: Callable[[Any], Any]) -> Callable[[], Case]:
    def make() -> Case:
        c = Rate(1.0)
        return Case(lambda x: x * len(f(c)), setter(c, "value", 1.25))

    return make


PERCENT = "%s"


class Written:
    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


def printed_to_a_file(c: Any) -> str:
    file = Written()
    print(c, file=file)  # type: ignore[call-overload]
    return file.text


CASES |= {
    "the_str_of_a_dataclass": printed(str),
    "the_repr_of_a_dataclass": printed(lambda c: repr(c)),
    "a_dataclass_in_an_f_string": printed(lambda c: f"{c}"),
    "a_dataclass_in_a_list_that_is_printed": printed(lambda c: str([c])),
    "a_dataclass_by_percent": printed(lambda c: "%s" % (c,)),  # noqa: UP031
    "a_dataclass_by_percent_elsewhere": printed(lambda c: PERCENT % (c,)),
    "a_dataclass_printed_to_a_file": printed(printed_to_a_file),
}


@case
def a_simple_format() -> Case:
    held = [2.0]
    return Case(lambda x: x * float("{:.1f}".format(held[0])), put(held, 0, 4.0))  # noqa: UP032


@case
def the_format_of_an_object() -> Case:
    class Scaled:
        scale = 2.0

        def __format__(self, how: str) -> str:
            return str(self.scale)

    c = Scaled()
    return Case(lambda x: x * float(f"{c:x}"), setter(c, "scale", 4.0))


# ------------------------------------------------------------------ comparisons


def compared(f: Callable[[list[Ordered]], float]) -> Callable[[], Case]:
    def make() -> Case:
        c = [Ordered(1.0), Ordered(2.0)]
        return Case(lambda x: x * (1 + f(c)), setter(c[0], "value", 2.0))

    return make


SECOND = Ordered(2.0)


def in_a_dict_made(c: list[Ordered]) -> int:
    made: dict[Any, int] = {}
    for one in c:
        made[one] = 1
    return len(made)


CASES |= {
    "dataclasses_by_index": compared(lambda c: c.index(SECOND)),
    "dataclasses_by_count": compared(lambda c: c.count(SECOND)),
    "dataclasses_by_in": compared(lambda c: SECOND in (c[0],)),
    "dataclasses_by_min": compared(lambda c: min(c[0], Ordered(1.5)).value),
    "dataclasses_by_max": compared(lambda c: max(c[0], Ordered(1.5)).value),
    "dataclasses_by_sorted": compared(lambda c: sorted([Ordered(1.5), c[0]])[0].value),
    "dataclasses_in_a_heap": compared(lambda c: heapq.nsmallest(1, [Ordered(1.5), c[0]])[0].value),
    "dataclasses_in_a_set": compared(lambda c: len({c[0], c[1]})),
    "dataclasses_in_sets": compared(lambda c: len({c[0]} & {c[1]})),
    "dataclasses_in_a_dict": compared(lambda c: {SECOND: 3.0}.get(c[0], 5.0)),
    "dataclasses_in_a_dict_made": compared(in_a_dict_made),
    "dataclasses_by_an_operator": compared(lambda c: operator.eq(c[:1], [SECOND])),
}


@case
def objects_ordered_by_a_method() -> Case:
    @functools.total_ordering
    class Version:
        def __init__(self, number: float) -> None:
            self.number = number

        def __eq__(self, other: Any) -> bool:
            return bool(self.number == other.number)

        def __lt__(self, other: Any) -> bool:
            return bool(self.number < other.number)

    a, b = Version(1.0), Version(2.0)
    return Case(lambda x: x * 2 if a >= b else x, setter(a, "number", 3.0))


# ------------------------------------------------------------------ classes


@case
def a_class_registered_with_an_abstract_one() -> Case:
    class Base(abc.ABC):  # noqa: B024
        pass

    c = thing()
    f = lambda x: x * (2 if isinstance(c, Base) else 1)  # noqa: E731
    return Case(f, lambda: Base.register(type(c)))


@case
def a_class_registered_with_one_of_python_s() -> Case:
    c = thing()
    f = lambda x: x * (2 if isinstance(c, collections.abc.Sequence) else 1)  # noqa: E731
    return Case(f, lambda: collections.abc.Sequence.register(type(c)))


@case
def a_class_asked_by_its_hook() -> Case:
    held = [False]

    class Base(abc.ABC):  # noqa: B024
        @classmethod
        def __subclasshook__(cls, other: type) -> Any:
            return held[0] or NotImplemented

    def change() -> None:
        held[0] = True
        Base.register(bytes)

    return Case(lambda x: x * (2 if issubclass(str, Base) else 1), change)


@case
def an_instance_by_the_metaclass() -> Case:
    held = [True]

    class Meta(type):
        def __instancecheck__(cls, thing: Any) -> bool:
            return held[0]

    class Made(metaclass=Meta):
        pass

    return Case(lambda x: x * (2 if isinstance(3, Made) else 1), put(held, 0, False))


@case
def a_protocol_of_attributes() -> Case:
    @typing.runtime_checkable
    class Scaled(typing.Protocol):
        scale: float

    c = thing()
    f = lambda x: x * (2 if isinstance(c, Scaled) else 1)  # noqa: E731
    return Case(f, setter(c, "scale", 1.0), False)


@case
def the_bases_of_a_class() -> Case:
    first, second = (type("Base", (), {"scale": value}) for value in (2.0, 4.0))
    derived = type("Derived", (first,), {})
    c: Any = derived()
    return Case(lambda x: x * c.scale, setter(derived, "__bases__", (second,)))


@case
def an_attribute_in_place_of_another() -> Case:
    base: Any = type("Base", (), {"scale": 2.0})
    derived: Any = type("Derived", (base,), {"other": 1.0})
    c = derived()

    def change() -> None:
        del derived.other
        derived.scale = 4.0

    return Case(lambda x: x * c.scale, change)


@case
def the_name_of_a_class() -> Case:
    c = thing()
    return Case(lambda x: x * len(type(c).__name__), setter(type(c), "__name__", "Other"))


@case
def the_attributes_of_an_object_replaced() -> Case:
    c = thing(scale=2.0)
    return Case(lambda x: x * c.scale, setter(c, "__dict__", {"scale": 4.0}))


@case
def the_attributes_of_a_function_replaced() -> Case:
    def scale() -> Any:
        return scale.by  # type: ignore[attr-defined]

    scale.by = 2.0  # type: ignore[attr-defined]
    return Case(lambda x: x * scale(), setter(scale, "__dict__", {"by": 4.0}))


@case
def a_descriptor_that_comes_to_set() -> Case:
    class Two:
        def __get__(self, thing: Any, owner: Any = None) -> float:
            return 2.0

    c = type("Holder", (), {"scale": Two()})()
    vars(c)["scale"] = 4.0
    change = setter(Two, "__set__", lambda self, thing, value: None)
    return Case(lambda x: x * c.scale, change)


@case
def an_object_on_a_layer_through_dict() -> Case:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.options = thing(scale=2.0)

        def forward(self, x: Any) -> Any:
            return x * self.options.scale

    net = Scaled()
    return Case(lambda x: net(x), lambda: vars(net).update(options=thing(scale=4.0)))


@case
def members_of_an_enum_in_a_loop() -> Case:
    class Mode(enum.Enum):
        UP: Any = [1.0]  # noqa: RUF012
        DOWN: Any = [2.0]  # noqa: RUF012

    return Case(lambda x: x * sum(m.value[0] for m in Mode), put(Mode.UP.value, 0, 4.0))


@case
def what_an_enum_gives_for_missing_values() -> Case:
    held = [2]

    class Mode(enum.Enum):
        UP = 1
        DOWN = 2

        @classmethod
        def _missing_(cls, value: object) -> Any:
            return cls(held[0])

    return Case(lambda x: x * Mode(9).value, put(held, 0, 1))


@case
def the_fields_of_a_copy() -> Case:
    c = Rate(2.0)
    return Case(lambda x: x * dataclasses.replace(c).value, setter(c, "value", 4.0))


@case
def how_an_object_is_copied() -> Case:
    held = [2.0]

    class Copied:
        def __reduce__(self) -> Any:
            return list, ((held[0],),)

    c = Copied()
    return Case(lambda x: x * copy.copy(c)[0], put(held, 0, 4.0))  # type: ignore[index]


# ------------------------------------------------------------------ containers with own methods


def own(kind: Any, method: str, given: Any, f: Callable[[Any], float]) -> Callable[[], Case]:
    """A container whose class has a method of its own, which gives what a list holds."""

    def make() -> Case:
        held = [2.0]
        body = {
            "__iter__": lambda self: iter(held),
            "__getitem__": lambda self, key: held[0],
            "__len__": lambda self: int(held[0]),
            "__contains__": lambda self, key: held[0] == 2.0,
            "keys": lambda self: list(held),
        }
        c = type("Own", (kind,), {method: body[method]})(given)
        return Case(lambda x: x * f(c), put(held, 0, 4.0), False)

    return make


CASES |= {
    "a_tuple_that_iterates_otherwise": own(tuple, "__iter__", [1.0], sum),
    "a_tuple_with_other_items": own(tuple, "__getitem__", [1.0], lambda c: c[0]),
    "a_list_of_another_length": own(list, "__len__", [1.0], lambda c: len(c)),
    "a_list_with_other_items": own(list, "__getitem__", [1.0], lambda c: c[0]),
    "a_dict_that_contains_more": own(dict, "__contains__", {}, lambda c: 2.0 if "a" in c else 1.0),
    "a_dict_with_other_keys": own(dict, "keys", {}, lambda c: c.keys()[0]),
}


@case
def a_tuple_whose_own_iteration_hides_a_list() -> Case:
    class Hiding(tuple):  # type: ignore[type-arg]
        def __iter__(self) -> Iterator[Any]:
            return iter([])

    c = Hiding(([2.0],))
    return Case(lambda x: x * c[0][0], put(c[0], 0, 4.0), False)


@case
def a_string_of_another_length() -> Case:
    class Long(str):
        length = 2

        def __len__(self) -> int:
            return self.length

    c = Long("abc")
    return Case(lambda x: x * len(c), setter(Long, "length", 4))


# ------------------------------------------------------------------ functions


@case
def the_name_of_a_function() -> Case:
    def scale() -> None:
        """Two."""

    return Case(lambda x: x * len(scale.__name__), setter(scale, "__name__", "s"))


@case
def the_docstring_of_a_function() -> Case:
    def scale() -> None:
        """Two."""

    return Case(lambda x: x * len(scale.__doc__ or ""), setter(scale, "__doc__", "s"))


@case
def the_qualified_name_of_a_function() -> Case:
    def scale() -> None:
        """Two."""

    return Case(lambda x: x * len(scale.__qualname__), setter(scale, "__qualname__", "s"))


@case
def an_attribute_of_a_partial() -> Case:
    c: Any = functools.partial(operator.mul, 2.0)
    c.scale = 3.0
    return Case(lambda x: c(x) * c.scale, setter(c, "scale", 4.0))


@case
def an_attribute_that_a_partial_gets_later() -> Case:
    c: Any = functools.partial(operator.mul, 2.0)
    return Case(lambda x: c(x) * getattr(c, "scale", 1.0), setter(c, "scale", 4.0))


@case
def the_state_of_a_partial() -> Case:
    c: Any = functools.partial(operator.mul, 2.0)
    return Case(lambda x: c(x), lambda: c.__setstate__((operator.mul, (4.0,), {}, {})))


def cached(wrap: Any, value: Callable[[], Any], read: Any, write: Any) -> Callable[[], Case]:
    def make() -> Case:
        get = wrap(lambda n: value())
        return Case(lambda x: x * read(get(3)), lambda: write(get(3)))

    return make


def float_array() -> np.ndarray:
    return np.full(3, 2.0, np.float32)


CASES |= {
    "an_array_in_a_cache": cached(
        functools.lru_cache, float_array, lambda c: c, lambda c: c.fill(4.0)
    ),
    "an_array_in_a_cache_in_numpy": cached(
        functools.lru_cache, float_array, lambda c: float(c.sum()), lambda c: c.fill(4.0)
    ),
    "a_list_in_a_cache": cached(
        functools.cache, lambda: [2.0], lambda c: c[0], lambda c: c.append(c.pop() + 2)
    ),
    "an_object_in_a_small_cache": cached(
        functools.lru_cache(maxsize=1),
        lambda: Rate(2.0),
        lambda c: c.value,
        lambda c: setattr(c, "value", 4.0),
    ),
    "a_tensor_in_a_cache": cached(
        functools.lru_cache, lambda: tk.ones(3), lambda c: c, lambda c: c.fill_(4.0)
    ),
}


@case
def a_cache_that_is_filled_again() -> Case:
    held = [2.0]

    @functools.cache
    def scale() -> float:
        return held[0] if isinstance(held, list) else 0.0

    hidden = [scale]

    def change() -> None:
        held[0] = 4.0
        hidden[0].cache_clear()
        scale()

    return Case(lambda x: x * scale(), change)


@case
def an_attribute_of_a_cached_function() -> Case:
    @functools.cache
    def scale() -> float:
        return 1.0

    scale.by = 2.0  # type: ignore[attr-defined]
    return Case(lambda x: x * scale() * scale.by, setter(scale, "by", 4.0))  # type: ignore[attr-defined]


@case
def a_partial_method() -> Case:
    class Scaled:
        factor: ClassVar = [2.0]

        def scale(self, by: float) -> float:
            return by * self.factor[0]

        twice = functools.partialmethod(scale, 2.0)

    c = Scaled()
    return Case(lambda x: x * c.twice(), put(Scaled.factor, 0, 4.0))


@case
def the_arguments_of_a_partial_method() -> Case:
    class Scaled:
        def scale(self, by: float) -> float:
            return by

        twice = functools.partialmethod(scale, by=2.0)

    c = Scaled()
    return Case(lambda x: x * c.twice(), lambda: vars(Scaled)["twice"].keywords.update(by=4.0))


@case
def a_method_for_each_type() -> Case:
    class Scaled:
        @functools.singledispatchmethod
        def scale(self, by: Any) -> float:
            return 1.0

    c = Scaled()
    change = lambda: Scaled.scale.register(int, lambda self, by: 4.0)  # type: ignore[attr-defined]  # noqa: E731
    return Case(lambda x: x * c.scale(3), change)


@case
def a_method_that_closes() -> Case:
    class Closed:
        total = 0.0

        def close(self) -> None:
            self.total = 2.0

    def close(self: Any) -> None:
        self.total = 4.0

    def f(x: Any) -> Any:
        c = Closed()
        with contextlib.closing(c):
            pass
        return x * c.total

    return Case(f, setter(Closed, "close", close))


# ------------------------------------------------------------------ Python's classes, followed


@case
def a_sequence_of_the_user_s() -> Case:
    class Rates(collections.abc.Sequence):  # type: ignore[type-arg]
        def __init__(self) -> None:
            self.held = [2.0, 3.0]

        def __len__(self) -> int:
            return len(self.held)

        def __getitem__(self, i: Any) -> Any:
            return self.held[i]

    c = Rates()
    return Case(lambda x: x * (c.index(3.0) + sum(c)), put(c.held, 0, 4.0))


@case
def a_mapping_of_the_user_s() -> Case:
    class Rates(collections.abc.Mapping):  # type: ignore[type-arg]
        def __init__(self) -> None:
            self.held = {"a": 2.0}

        def __len__(self) -> int:
            return len(self.held)

        def __iter__(self) -> Iterator[str]:
            return iter(self.held)

        def __getitem__(self, key: str) -> float:
            return self.held[key]

    c = Rates()
    return Case(lambda x: x * sum(c.values()) * len({**c}), lambda: c.held.update(b=4.0))


@case
def an_abstract_context_manager() -> Case:
    class Scaled(contextlib.AbstractContextManager):  # type: ignore[type-arg]
        scale = 2.0

        def __exit__(self, *error: Any) -> None:
            return None

    c = Scaled()

    def f(x: Any) -> Any:
        with c as by:
            return x * by.scale

    return Case(f, setter(Scaled, "scale", 4.0))


@case
def a_regular_expression() -> Case:
    held = ["a2"]
    f = lambda x: x * float(re.search(r"\d", held[0])[0])  # type: ignore[index]  # noqa: E731
    return Case(f, put(held, 0, "a4"))


@case
def a_compiled_regular_expression() -> Case:
    held = [re.compile("a+")]
    return Case(lambda x: x * len(held[0].findall("aba")), put(held, 0, re.compile(".")))


@case
def what_a_log_is_told() -> Case:
    log, held = logging.getLogger("of_a_test"), [2.0]

    def f(x: Any) -> Any:
        log.debug("scale %s", held[0])
        return x * held[0]

    return Case(f, put(held, 0, 4.0))


@case
def the_level_of_a_log() -> Case:
    log = logging.Logger("of_a_test", 2)
    return Case(lambda x: x * log.level, lambda: log.setLevel(4))


@case
def whether_a_log_is_on() -> Case:
    log = logging.Logger("of_a_test", 2)
    return Case(lambda x: x * (2 if log.isEnabledFor(3) else 1), lambda: log.setLevel(4), False)


@case
def a_fraction() -> Case:
    held = [fractions.Fraction(1, 2)]
    return Case(lambda x: x * float(held[0] * 4), put(held, 0, fractions.Fraction(3)))


@case
def an_item_getter() -> Case:
    get, held = operator.itemgetter("a"), {"a": 2.0}
    return Case(lambda x: x * get(held), lambda: held.update(a=4.0))


@case
def the_limits_of_a_dtype() -> Case:
    held = [np.iinfo(np.int8)]
    f = lambda x: x * held[0].max + float(np.finfo(np.float32).eps)  # noqa: E731
    return Case(f, put(held, 0, np.iinfo(np.int16)))


@case
def a_generic_alias() -> Case:
    def f(x: Any) -> Any:
        def inner(y: typing.List[Any]) -> typing.Dict[str, Any]:  # noqa: UP006
            return {"y": y[0] * held[0]}

        return inner([x])["y"]

    held = [2.0]
    return Case(f, put(held, 0, 4.0))


# ------------------------------------------------------------------ modules and generators


def named(name: str, **values: Any) -> Any:
    made = types.ModuleType(name)
    vars(made).update(values)
    return made


@case
def a_module_with_a_name_of_python_s() -> Case:
    m = named("statistics", __file__=__file__, rate=2.0)
    return Case(lambda x: x * m.rate, setter(m, "rate", 4.0))


@case
def a_module_with_the_name_of_a_builtin_one() -> Case:
    m = named("itertools", rate=2.0)
    return Case(lambda x: x * m.rate, setter(m, "rate", 4.0))


@case
def code_of_a_file_named_like_a_frozen_one() -> Case:
    namespace: dict[str, Any] = {"rate": 2.0}
    exec(compile("def f(x): return x * rate", "<frozen lake>", "exec"), namespace)
    return Case(namespace["f"], lambda: namespace.__setitem__("rate", 4.0))


@case
def a_module_of_a_class_of_its_own() -> Case:
    class Settings(types.ModuleType):
        held: ClassVar = [2.0]

        @property
        def rate(self) -> float:
            return self.held[0]

    m = Settings("settings")
    m.__file__ = __file__
    return Case(lambda x: x * m.rate, put(Settings.held, 0, 4.0), False)


@case
def a_list_in_a_module_of_python_s() -> Case:
    import warnings

    change = lambda: warnings.filters.insert(0, warnings.filters[0])  # type: ignore[attr-defined]  # noqa: E731
    return Case(lambda x: x * len(warnings.filters), change)


def drawing(f: Callable[[Any, Any], Any], compiled: bool) -> Callable[[], Case]:
    def make() -> Case:
        generator = np.random.default_rng(0)
        return Case(lambda x: f(x, generator), lambda: None, compiled)

    return make


def with_its_state_restored(x: Any, g: Any) -> Any:
    state = g.bit_generator.state
    y = x + tk.rand(3, generator=g)
    g.bit_generator.state = state
    return y


CASES |= {
    "a_generator_of_which_only_tensors_are_drawn": drawing(
        lambda x, g: (
            x
            + tk.rand(3, generator=g)
            + tk.randint(0, 5, (3,), generator=g)
            + tk.bernoulli(tk.full((3,), 0.5), generator=g)
        ),
        True,
    ),
    "a_generator_of_which_numbers_are_drawn_too": drawing(
        lambda x, g: x + tk.rand(3, generator=g) + g.integers(0, 5), False
    ),
    "a_generator_that_has_children": drawing(lambda x, g: x + g.spawn(1)[0].random(), False),
    "a_generator_whose_state_is_restored": drawing(with_its_state_restored, False),
}


@case
def the_flags_of_an_array() -> Case:
    c = np.ones(3)
    f = lambda x: x * (2 if c.flags.writeable else 1)  # noqa: E731
    return Case(f, lambda: c.setflags(write=False))


@case
def a_weak_dict() -> Case:
    held = thing(scale=2.0)
    c = weakref.WeakValueDictionary(a=held)
    return Case(lambda x: x * c["a"].scale, setter(held, "scale", 4.0), False)


@case
def an_iterator_over_a_list() -> Case:
    c = iter([float(i) for i in range(20)])
    return Case(lambda x: x * next(c), lambda: None, False)


@case
def an_iterator_as_default() -> Case:
    def f(x: Any, c: Any = itertools.cycle([1.0, 2.0])) -> Any:  # noqa: B008
        return x * next(c)

    same = itertools.cycle([1.0, 2.0])
    f.__defaults__ = (same,)
    return Case(f, lambda: None, False)


@case
def the_rates_of_groups_added_later() -> Case:
    first, second = (nn.Parameter(np.ones(3, np.float32)) for _ in range(2))
    optimizer = optim.SGD([first], lr=0.5)

    def f(x: Any) -> Any:
        optimizer.zero_grad()
        (x * first * second).sum().backward()
        optimizer.step()
        return first.detach() + second.detach()

    return Case(f, lambda: optimizer.add_param_group({"params": [second]}))


@case
def a_layer_shared_later() -> Case:
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    for p in net.parameters():
        nn.init.constant_(p, 0.5)
    optimizer = optim.SGD(net.parameters(), lr=0.001)

    def f(x: Any) -> Any:
        optimizer.zero_grad()
        loss = net(x).square().sum()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Case(f, lambda: net.__setitem__(1, net[0]))


# ------------------------------------------------------------------ the tests


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_never_stale(backend: str, name: str) -> None:
    written, compiled = CASES[name](), CASES[name]()
    step = tk.compile(compiled.function)
    for _ in range(4):
        agree(step, written.function)
    assert bool(step.programs) == compiled.compiled, step.explain()
    compiled.change()
    written.change()
    for _ in range(4):
        agree(step, written.function)


def test_a_module_that_is_loaded_again(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "reloaded_by_a_test.py"
    file.write_text("def scale(): return 2.0\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("reloaded_by_a_test")
    step = tk.compile(lambda x: x * module.scale())
    for _ in range(4):
        agree(step, lambda x: x * 2)
    assert step.programs, step.explain()
    file.write_text("def scale(): return 4.00\n#\n", encoding="utf-8")
    importlib.reload(module)
    agree(step, lambda x: x * 4)
    sys.modules.pop("reloaded_by_a_test")


def pair(a: Any, b: Any, number: float = 2.0) -> Any:
    return a * number if a is b else a + b


@pytest.mark.parametrize("inside", [False, True])
def test_one_tensor_given_twice(backend: str, inside: bool) -> None:
    f = (lambda c: pair(*c)) if inside else pair
    step, other = tk.compile(f), Tensor(np.ones(3, np.float32))
    for a, b in [(X, other), (X, X), (X, other), (X, other), (X, other), (X, X), (X, other)]:
        given = ([a, b],) if inside else (a, b)
        np.testing.assert_array_equal(numbers(step(*given)), numbers(f(*given)))
    assert step.programs, step.explain()


def test_a_tensor_given_that_the_function_knows(backend: str) -> None:
    known, other = tk.ones(3), tk.ones(3)
    step = tk.compile(lambda x: x * 2 if x is known else x)
    for x in (other, other, other, known, other, known):
        np.testing.assert_array_equal(numbers(step(x)), numbers(x) * (2 if x is known else 1))


def test_the_gradient_of_an_argument(backend: str) -> None:
    step = tk.compile(lambda x: x if x.grad is None else x * x.grad)
    with_gradient = tk.ones(3)
    with_gradient.grad = tk.full((3,), 4.0)
    for x, expected in [(X, X), (X, X), (with_gradient, [4, 4, 4]), (X, X)]:
        np.testing.assert_array_equal(numbers(step(x)), numbers(expected))
    assert "the .grad of an argument" in step.explain()


def test_the_method_of_a_base_class_is_compiled_too(backend: str) -> None:
    class Base:
        @tk.compile
        def step(self, x: Any) -> Any:
            return x * 2

    class Derived(Base):
        @tk.compile
        def step(self, x: Any) -> Any:
            return super().step(x) + 1

    c = Derived()
    for _ in range(4):
        np.testing.assert_array_equal(numbers(c.step(X)), [3, 5, 7])
    assert c.step.programs, c.step.explain()


def test_another_compiled_method_of_the_same_name(backend: str) -> None:
    class Trainer:
        @tk.compile
        def step(self, x: Any) -> Any:
            return x * 2

    c = Trainer()
    for _ in range(4):
        np.testing.assert_array_equal(numbers(c.step(X)), [2, 4, 6])

    def step(self: Any, x: Any) -> Any:
        return x * 4

    step.__qualname__ = Trainer.step.__qualname__
    Trainer.step = tk.compile(step)  # type: ignore[method-assign]
    for _ in range(4):
        np.testing.assert_array_equal(numbers(c.step(X)), [4, 8, 12])


def test_what_is_not_on_the_list_runs_as_written_from_the_first_call(backend: str) -> None:
    environment = weakref.ref(thing)
    step = tk.compile(lambda x: x.numpy() * (environment() is not None))
    for _ in range(3):
        np.testing.assert_array_equal(step(X), [1, 2, 3])
