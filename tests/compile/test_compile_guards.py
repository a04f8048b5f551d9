"""What a compiled function reads besides its arguments is never stale."""

from __future__ import annotations

import copy
import functools
import gc
import pickle
import random
import sys
import timeit
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from harness import backend as backend
from harness import replayed, settled

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, compile, nn, optim
from tinygrad_kr.compile import Compiled, function
from tinygrad_kr.compile.trace.guards import Guards, same

pytestmark = pytest.mark.usefixtures("backend")

X = Tensor(np.array([1.0, 2.0, 3.0], np.float32))
RATE = 2.0
FLAG = True
MODE = "up"
TABLE: dict[str, Any] = {"rate": 2.0, "inner": {"shift": 1.0}}
STACK = [1.0, 2.0]
ARRAY = np.array([1.0, 2.0, 3.0], np.float32)


@dataclass
class Config:
    scale: float = 2.0
    unread: float = 0.0


class Slotted:
    __slots__ = ("scale",)

    def __init__(self) -> None:
        self.scale = 2.0


CONFIG, SLOTTED = Config(), Slotted()


def helper(x: Tensor) -> Tensor:
    return x * RATE


def by_global(x: Tensor) -> Tensor:
    return x * RATE


def by_flag(x: Tensor) -> Tensor:
    return x + 1 if FLAG else x - 1


def by_string(x: Tensor) -> Tensor:
    return {"up": x + 1, "down": x - 1}[MODE]


def by_table(x: Tensor) -> Any:
    return x * TABLE["rate"] + TABLE["inner"]["shift"]


def by_list(x: Tensor) -> Tensor:
    for number in STACK:
        x = x * number
    return x


def by_object(x: Tensor) -> Tensor:
    return x * CONFIG.scale


def by_slot(x: Tensor) -> Tensor:
    return x * SLOTTED.scale


def by_helper(x: Tensor) -> Tensor:
    return helper(x) + 1


def by_array_in_numpy(x: Tensor) -> Tensor:
    return x * float(ARRAY.sum())


def by_array(x: Tensor) -> Tensor:
    return x * ARRAY


def by_getattr(x: Tensor) -> Any:
    return x * getattr(CONFIG, "scale")  # noqa: B009


def rebind(name: str, value: Any) -> Callable[[], None]:
    return lambda: globals().__setitem__(name, value)


CHANGES: list[tuple[Callable[[Tensor], Any], Callable[[], None]]] = [
    (by_global, rebind("RATE", 5.0)),
    (by_global, rebind("RATE", 2)),
    (by_flag, rebind("FLAG", False)),
    (by_string, rebind("MODE", "down")),
    (by_table, lambda: TABLE.__setitem__("rate", 7.0)),
    (by_table, lambda: TABLE["inner"].__setitem__("shift", 7.0)),
    (by_table, rebind("TABLE", {"rate": 4.0, "inner": {"shift": 0.0}})),
    (by_list, lambda: STACK.append(3.0)),
    (by_list, lambda: STACK.__setitem__(0, 3.0)),
    (by_object, lambda: setattr(CONFIG, "scale", 9.0)),
    (by_object, rebind("CONFIG", Config(3.0))),
    (by_getattr, lambda: setattr(CONFIG, "scale", 9.0)),
    (by_slot, lambda: setattr(SLOTTED, "scale", 9.0)),
    (by_helper, rebind("RATE", 5.0)),
    (by_helper, rebind("helper", lambda x: x - 3)),
    (by_array_in_numpy, lambda: ARRAY.__setitem__(0, 9.0)),
    (by_array, lambda: ARRAY.__setitem__(0, 9.0)),
    (by_array, rebind("ARRAY", np.ones(3, np.float32))),
]


@pytest.fixture(autouse=True)
def globals_as_they_were() -> Iterator[None]:
    before = {
        name: globals()[name] for name in ("RATE", "FLAG", "MODE", "STACK", "CONFIG", "TABLE")
    }
    saved = copy.deepcopy(before)
    array, function_, values = ARRAY, helper, ARRAY.copy()
    yield
    globals().update(saved)
    SLOTTED.scale = 2.0
    array[...] = values
    globals().update(ARRAY=array, helper=function_)


@pytest.mark.parametrize(("read", "change"), CHANGES)
def test_what_is_read_is_never_stale(
    read: Callable[[Tensor], Any], change: Callable[[], None]
) -> None:
    compiled = compile(read)
    np.testing.assert_array_equal(settled(compiled, X).numpy(), read(X).numpy())
    before = read(X).numpy()
    change()
    for _ in range(4):
        np.testing.assert_array_equal(compiled(X).numpy(), read(X).numpy())
    np.testing.assert_array_equal(replayed(compiled, X).numpy(), read(X).numpy())
    if change is not CHANGES[1][1]:
        assert not np.array_equal(read(X).numpy(), before)


def test_what_is_not_read_does_not_count() -> None:
    compiled = compile(by_object)
    settled(compiled, X)
    CONFIG.unread = 5.0
    globals()["FLAG"] = False
    replayed(compiled, X)


def test_an_equal_number_is_the_same_number() -> None:
    compiled = compile(by_global)
    settled(compiled, X)
    globals()["RATE"] = float("2" + ".0")
    replayed(compiled, X)


def test_numbers_that_compare_equal_may_differ() -> None:
    assert same(float("nan"), float("nan"))
    assert same((1, 2.0), (1, 2.0))
    for a, b in [(0.0, -0.0), (1, 1.0), (True, 1), ((1,), (1.0,)), ([1], [1])]:
        assert not same(a, b)


def closure_over(rate: float) -> tuple[Callable[[Tensor], Tensor], Callable[[float], None]]:
    def read(x: Tensor) -> Tensor:
        return x * rate

    def change(value: float) -> None:
        nonlocal rate
        rate = value

    return read, change


def test_a_variable_of_the_function_around() -> None:
    read, change = closure_over(2.0)
    compiled = compile(read)
    assert settled(compiled, X).tolist() == [2, 4, 6]
    change(3.0)
    assert compiled(X).tolist() == settled(compiled, X).tolist() == [3, 6, 9]


def test_what_wrapped_functions_read() -> None:
    read, change = closure_over(2.0)
    bound = types.MethodType(lambda self, x: read(x), object())
    for wrapped in (
        partial(read),
        tk.no_grad()(read),
        bound,
        tk.vmap(read) if hasattr(tk, "vmap") else partial(read),
        compile(read),
        lambda x: read(x),
    ):
        change(2.0)
        compiled = compile(wrapped)
        assert settled(compiled, X).tolist() == [2, 4, 6]
        change(3.0)
        assert compiled(X).tolist() == [3, 6, 9]


@functools.lru_cache
def cached(number: int) -> float:
    return RATE * number


def test_what_a_cached_function_reads() -> None:
    cached.cache_clear()
    compiled = compile(lambda x: x * cached(2))
    assert settled(compiled, X).tolist() == [4, 8, 12]
    globals()["RATE"] = 3.0
    cached.cache_clear()
    assert compiled(X).tolist() == [6, 12, 18]


def test_what_a_transformed_function_reads() -> None:
    read, change = closure_over(2.0)
    compiled = compile(tk.grad(lambda x: read(x).sum()))
    x = np.ones(3)
    np.testing.assert_array_equal(settled(compiled, x), [2, 2, 2])
    change(3.0)
    np.testing.assert_array_equal(compiled(x), [3, 3, 3])


def test_a_module_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = types.ModuleType("settings")
    settings.RATE = 2.0  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "settings", settings)

    def read(x: Tensor) -> Tensor:
        from settings import RATE  # type: ignore[import-not-found]

        return x * RATE  # type: ignore[no-any-return]

    settings.__file__ = __file__
    compiled = compile(read)
    assert settled(compiled, X).tolist() == [2, 4, 6]
    settings.RATE = 3.0  # type: ignore[attr-defined]
    assert compiled(X).tolist() == [3, 6, 9]


class Scaled(nn.Module):
    factor = 1.0

    def __init__(self) -> None:
        self.scale = 2.0
        self.config = Config()
        self.inner = nn.Dropout(0.5)
        self.weight = nn.Parameter(np.ones(3, np.float32))
        self.sizes = [1.0]

    def forward(self, x: Tensor) -> Any:
        y = x * self.scale * self.config.scale * self.weight * self.factor * self.sizes[0] * RATE
        return self.inner(y)


def rescale(net: Scaled) -> None:
    net.scale = 3.0


def reconfigure(net: Scaled) -> None:
    net.config.scale = 3.0


def reweigh(net: Scaled) -> None:
    net.weight = nn.Parameter(np.full(3, 5, np.float32))


def reweigh_data(net: Scaled) -> None:
    net.weight.data = np.full(3, 5, np.float32)


def rate(net: Scaled) -> None:
    globals()["RATE"] = 9.0


def resize(net: Scaled) -> None:
    net.sizes.append(1.0)
    net.sizes[0] = 4.0


def refactor(net: Scaled) -> None:
    Scaled.factor = 3.0


def drop_nothing(net: Scaled) -> None:
    net.train()
    net.inner.p = 0.0
    net.scale = 4.0


def replace_inner(net: Scaled) -> None:
    net.inner = nn.Tanh()  # type: ignore[assignment]


def hook(net: Scaled) -> None:
    net.inner.register_forward_hook(lambda module, args, y: y + 1)


def forward(net: Scaled) -> None:
    net.forward = lambda x: x + 5  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "change",
    [
        rescale,
        reconfigure,
        reweigh,
        reweigh_data,
        rate,
        resize,
        refactor,
        drop_nothing,
        replace_inner,
        hook,
        forward,
    ],
)
def test_modules_are_never_stale(
    change: Callable[[Scaled], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scaled, "factor", 1.0)
    net = Scaled().eval()

    @compile
    @tk.no_grad()
    def step(x: Tensor) -> Any:
        return net(x)

    before = settled(step, X).numpy()
    change(net)
    with tk.no_grad():
        expected = net(X).numpy()
    assert not np.array_equal(before, expected)
    for _ in range(3):
        np.testing.assert_array_equal(step(X).numpy(), expected)
    np.testing.assert_array_equal(replayed(step, X).numpy(), expected)


def test_a_removed_hook_is_gone() -> None:
    net = nn.Sequential(nn.Tanh())
    handle = net[0].register_forward_hook(lambda module, args, y: y + 1)
    step = compile(lambda x: net(x))
    before = settled(step, X).numpy()
    handle.remove()
    np.testing.assert_allclose(step(X).numpy(), before - 1, 1e-6)


def test_freezing_a_parameter_is_seen() -> None:
    net = nn.Linear(3, 2)

    @compile
    def step(x: Tensor) -> Any:
        net.zero_grad()
        loss = net(x).sum()
        loss.backward()
        return loss

    settled(step, X)
    net.weight.requires_grad_(False)
    step(X)
    assert net.weight.grad is None
    assert net.bias.grad is not None
    net.weight.requires_grad_()
    step(X)
    assert net.weight.grad is not None


def test_two_modes_are_both_kept() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))

    @compile
    @tk.no_grad()
    def step(x: Tensor) -> Any:
        return net(x)

    x = Tensor(np.random.default_rng(0).random((5, 3), np.float32))
    for _ in range(2):
        net.train()
        settled(step, x)
        net.eval()
        settled(step, x)
    for _ in range(20):
        net.train()
        replayed(step, x)
        net.eval()
        np.testing.assert_allclose(replayed(step, x), net(x).detach(), 1e-5, 1e-6)
    assert len(step.programs) == 2


def test_a_module_given_as_an_argument() -> None:
    nets = [nn.Linear(3, 2), nn.Linear(3, 2)]
    step = compile(lambda net, x: net(x).detach())
    for _ in range(4):
        for net in nets:
            np.testing.assert_allclose(step(net, X).numpy(), net(X).detach().numpy(), 1e-6)
    nets[0].bias = None
    np.testing.assert_allclose(step(nets[0], X).numpy(), nets[0](X).detach().numpy(), 1e-6)


# ------------------------------------------------------------------ what a function does itself


def test_what_the_function_changes_itself_is_run_as_written() -> None:
    history: list[float] = []
    count = 0

    def appends(x: Tensor) -> Tensor:
        history.append(1.0)
        return x + 1

    def counts(x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return x * count

    def stores(x: Tensor) -> Tensor:
        CONFIG.last = x + 1  # type: ignore[attr-defined]
        return x + 1

    for f, name in ((appends, "history"), (counts, "count"), (stores, "last")):
        step = compile(f)
        for _ in range(5):
            step(X)
        assert name in step.explain()
        assert not step.programs
    assert (len(history), count) == (5, 5)
    assert step(X).tolist() == [2, 3, 4]


def test_a_module_that_counts_is_run_as_written() -> None:
    class Counting(nn.Module):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x * self.calls

    net = Counting()
    step = compile(lambda x: net(x))
    assert [step(X).tolist()[0] for _ in range(40)] == list(range(1, 41))
    assert "calls" in step.explain()


def test_numbers_drawn_by_python_or_numpy_are_not_frozen() -> None:
    generator = np.random.default_rng(0)
    for draw in (
        lambda: random.randrange(2),
        lambda: int(np.random.randint(2)),  # noqa: NPY002
        lambda: int(generator.integers(2)),
    ):
        step = compile(lambda x, draw=draw: x + draw())
        assert len({step(X).tolist()[0] for _ in range(64)}) == 2
        assert not step.programs
        assert "draws" in step.explain()


def test_an_iterator_is_not_frozen() -> None:
    numbers = iter(range(100))
    step = compile(lambda x: x * next(numbers))
    assert [step(X).tolist()[0] for _ in range(5)] == [0, 1, 2, 3, 4]
    assert "iterator" in step.explain()


def test_a_number_that_is_another_at_each_call_ends_the_recording() -> None:
    step = compile(by_global)
    for i in range(30):
        globals()["RATE"] = float(i)
        assert step(X).tolist() == [i, 2 * i, 3 * i]
    assert "'RATE'" in step.explain()
    assert len(step._signatures) == 1
    assert (
        len(next(iter(step._signatures.values())).specialisations) <= function.MAX_SPECIALISATIONS
    )


def test_arguments_that_are_others_at_each_call_end_the_recording() -> None:
    step = compile(lambda x, rate: x * rate)
    for i in range(100):
        assert step(X, float(i)).tolist() == [i, 2 * i, 3 * i]
    assert "kind" in step.explain()
    assert len(step._signatures) <= function.MANY_SIGNATURES


@pytest.mark.exact
@pytest.mark.trains
def test_a_schedule_that_changes_now_and_then_is_recorded_again() -> None:
    step = compile(by_global)
    for i in range(20):
        globals()["RATE"] = float(i)
        for _ in range(10):
            assert step(X).tolist() == [i, 2 * i, 3 * i]
    assert step.explain() == "every call is compiled"


# ------------------------------------------------------------------ methods


class Learner:
    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.net = nn.Linear(3, 1)
        self.optimizer = optim.SGD(self.net.parameters(), lr=0.1)

    @compile
    def step(self, x: Tensor) -> Any:
        """One step."""
        self.optimizer.zero_grad()
        loss = (self.net(x) ** 2).sum() * self.rate
        loss.backward()
        self.optimizer.step()
        return loss

    @staticmethod
    @compile
    def double(x: Tensor) -> Tensor:
        return x * 2


class Net(nn.Module):
    def __init__(self) -> None:
        self.linear = nn.Linear(3, 2)

    @compile
    def forward(self, x: Tensor) -> Any:
        return self.linear(x).detach()


def test_methods_of_two_instances_are_kept_apart() -> None:
    a, b = Learner(1.0), Learner(2.0)
    expected = [copy.deepcopy(a), copy.deepcopy(b)]
    for _ in range(5):
        for mine, other in zip((a, b), expected, strict=True):
            loss = Learner.step.function(other, X)
            np.testing.assert_allclose(mine.step(X).numpy(), loss.detach().numpy(), 1e-5)
    assert a.step is not b.step
    assert len(a.step.programs) == len(b.step.programs) == 1
    assert Learner.step.__doc__ == a.step.__doc__ == "One step."
    a.rate = 5.0
    expected[0].rate = 5.0
    loss = Learner.step.function(expected[0], X)
    np.testing.assert_allclose(a.step(X).numpy(), loss.detach().numpy(), 1e-5)
    assert a.double(X).tolist() == Learner.double(X).tolist() == [2, 4, 6]


def test_a_copy_of_a_module_has_a_compiled_method_of_its_own() -> None:
    net = Net()
    settled(net.forward, X)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        with tk.no_grad():
            other.linear.weight.fill_(0.0)
            other.linear.bias.fill_(1.0)
        assert other(X).tolist() == settled(other.forward, X).tolist() == [1, 1]
        assert other.forward is not net.forward
    assert net(X).tolist() != [1, 1]
    assert net.state_dict().keys() == {"linear.weight", "linear.bias"}


def test_an_instance_can_be_collected() -> None:
    learner = Learner(1.0)
    settled(learner.step, X)
    there = weakref.ref(learner)
    del learner
    gc.collect()
    assert there() is None


def test_generators_and_coroutines_are_refused() -> None:
    async def coroutine(x: Tensor) -> Tensor:
        return x

    def generator(x: Tensor) -> Iterator[Tensor]:
        yield x

    for refused in (coroutine, generator, 3):
        with pytest.raises(TypeError, match="expected a function that returns its result"):
            compile(refused)  # type: ignore[arg-type]


# ------------------------------------------------------------------ cost


def test_guards_cost_less_than_a_microsecond() -> None:
    net = nn.Sequential(nn.Linear(2, 10), nn.Sigmoid(), nn.Linear(10, 1))
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    def step(x: Tensor, y: Tensor) -> Any:
        optimizer.zero_grad()
        loss = F.mse_loss(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    guards = Guards([step])
    assert guards.hold()
    assert min(timeit.repeat(guards.hold, number=1000, repeat=20)) < 1e-3


def test_every_compiled_function_here_is_one() -> None:
    assert isinstance(compile(by_global), Compiled)


# ------------------------------------------------------------------ copies of compiled functions


def module_level(x: Any) -> Any:
    return 2 * x


@tk.compile
def decorated(x: Any) -> Any:
    return 3 * x


class Holder:
    @tk.compile
    def method(self, x: Any) -> Any:
        return self.scale * x

    scale = 1.0


def again(x: Any) -> Any:
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, again])
@pytest.mark.parametrize("given", [module_level, nn.Linear(2, 2)])
def test_a_copy_of_a_compiled_function_is_not_compiled(duplicate: Any, given: Any) -> None:
    compiled = tk.compile(given)
    x = tk.ones(1, 2)
    with tk.no_grad():
        expected = [compiled(x) for _ in range(3)][-1]
        found = duplicate(compiled)
        assert compiled.programs and type(found) is Compiled and not found.programs
        for _ in range(3):
            assert found(x).tolist() == expected.tolist()
        assert found.programs
    if duplicate is not copy.copy and isinstance(given, nn.Module):
        assert found.function is not given


@pytest.mark.parametrize("compiled", [decorated, Holder.method])
def test_a_decorated_function_is_pickled_by_its_name(compiled: Any) -> None:
    assert again(compiled) is compiled
    assert copy.deepcopy(compiled) is not compiled
    assert copy.copy(compiled).function is compiled.function


def test_a_compiled_function_is_pickled_where_its_function_is() -> None:
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(tk.compile(lambda x: x))
    copied = copy.deepcopy(tk.compile(lambda x: 2 * x))
    assert copied(tk.ones(2)).tolist() == [2, 2]


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, again])
def test_a_compiled_method_of_a_copy_reads_the_copy(duplicate: Any) -> None:
    one = Holder()
    assert one.method(tk.ones(1)).item() == 1
    other = duplicate(one)
    other.scale = 5.0
    for _ in range(3):
        assert (one.method(tk.ones(1)).item(), other.method(tk.ones(1)).item()) == (1, 5)
    method = duplicate(one.method)
    assert method(tk.ones(1)).item() == 1
