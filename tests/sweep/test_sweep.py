"""Many nets from many seeds: each is itself however the work is divided, and rates are honest."""

from __future__ import annotations

import doctest
import importlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim, seed_sweep, sweep, wilson_interval
from tinygrad_kr.sweep import stack_modules
from tinygrad_kr.workers import WorkerDiedError, finished

X = Tensor(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
Y = Tensor(np.array([[0.0], [1.0], [1.0], [0.0]]))


def build(generator: np.random.Generator) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(2, 3, dtype=np.float64, generator=generator),
        nn.ReLU(),
        nn.Linear(3, 1, dtype=np.float64, generator=generator),
    )


def train(nets: Any) -> dict[str, Any]:
    """Written with axes from the end, so for one net and for many."""
    optimizer = optim.Adam(nets.parameters(), lr=0.05)
    start = nets[0].weight.data.copy()
    for _ in range(20):
        z = nets(X)
        loss = F.binary_cross_entropy_with_logits(z, Y.expand_as(z), reduction="none")
        loss = loss.mean((-2, -1))
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    return {"start": start, "loss": loss, "weight": nets[2].weight}


def same(mine: sweep.Sweep, other: sweep.Sweep) -> None:
    np.testing.assert_array_equal(mine.seeds, other.seeds)
    assert mine.results.keys() == other.results.keys()
    for name in mine.results:
        np.testing.assert_array_equal(mine[name], other[name])


# ------------------------------------------------------------------ rates


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        (0, 10, 0.0, 0.27753),
        (5, 10, 0.23659, 0.76341),
        (10, 10, 0.72247, 1.0),
        (43, 100, 0.33733, 0.52785),
    ],
)
def test_wilson_interval(successes: int, count: int, low: float, high: float) -> None:
    """Against `scipy.stats.binomtest(...).proportion_ci(method="wilson")`."""
    assert wilson_interval(successes, count) == pytest.approx((low, high), abs=1e-5)
    narrow = wilson_interval(successes, count, confidence=0.5)
    assert low <= narrow[0] <= successes / count <= narrow[1] <= high


@pytest.mark.parametrize("count", [1, 20, 100])
def test_wilson_interval_holds_its_share_and_stays_within_0_and_1(count: int) -> None:
    for successes in range(count + 1):
        low, high = wilson_interval(successes, count)
        assert 0 <= low <= successes / count <= high <= 1
        assert high - low > 0.03


@pytest.mark.parametrize(
    "arguments", [(-1, 3), (4, 3), (0, 0), (1, 2, 0.0), (1, 2, 1.0), (1, 2, 95)]
)
def test_wilson_interval_of_nonsense(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"wilson_interval: .*"):
        wilson_interval(*arguments)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(0).binomial(50, 0.3, size=4000)
    covered = [low <= 0.3 <= high for low, high in (wilson_interval(int(k), 50) for k in drawn)]
    assert 0.94 < np.mean(covered) < 0.965


def test_a_rate_counts_and_prints() -> None:
    found = seed_sweep(build, train, n=8, progress=False)
    rate = found.rate(found["loss"] < np.sort(found["loss"])[2])
    assert (rate.successes, rate.trials, rate.share) == (2, 8, 0.25)
    assert (rate.low, rate.high) == wilson_interval(2, 8)
    assert str(rate) == "25% (7% to 59%)"
    assert found.rate(Tensor(found["loss"]) < 100).share == 1
    assert found.rate(found["loss"] < 0, confidence=0.5).high < found.rate(found["loss"] < 0).high


def test_rate_refuses_what_is_no_outcome_per_net() -> None:
    found = seed_sweep(build, train, n=3, progress=False)
    with pytest.raises(TypeError, match=r"Sweep\.rate: expected booleans, got float64\."):
        found.rate(found["loss"])
    with pytest.raises(ValueError, match=r"of shape \(3,\), one per net, got \(3, 3, 2\)\."):
        found.rate(found["start"] > 0)
    with pytest.raises(KeyError, match="expected one of start, loss, weight, got 'accuracy'"):
        found["accuracy"]


def test_what_it_looks_like() -> None:
    shown = repr(seed_sweep(build, train, n=3, progress=False))
    assert shown.startswith(
        "Sweep of 3, trained together\n  start: float64(3, 3, 2)\n  loss: media"
    )


def test_nets_that_diverged_do_not_hide_the_others() -> None:
    losses = np.array([np.nan, 1.0, 3.0, np.nan])
    found = seed_sweep(build, lambda nets: {"loss": losses}, n=4, progress=False)
    assert "loss: median 2 (from 1 to 3), NaN in 2 of 4" in repr(found)
    found.results["loss"][:] = np.nan
    assert repr(found).endswith("loss: NaN in 4 of 4")
    found.results["loss"][:] = [1.0, np.inf, np.inf, np.inf]
    assert repr(found).endswith("loss: median inf (from 1 to inf)")


@pytest.mark.trains
@pytest.mark.parametrize("function", [seed_sweep, wilson_interval])
def test_the_examples_in_docstrings_run(function: Callable[..., Any]) -> None:
    names = {"np": np, "tk": tk, "F": F, "nn": nn, "optim": optim, "Tensor": Tensor}
    names |= {"seed_sweep": seed_sweep, "wilson_interval": wilson_interval}
    (example,) = doctest.DocTestFinder(recurse=False).find(function, globs=names)
    assert example.examples
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example)
    assert outcome.failed == 0


def test_it_is_public() -> None:
    assert tk.seed_sweep is seed_sweep
    assert tk.wilson_interval is wilson_interval
    assert tk.sweep is sweep


# ------------------------------------------------------------------ each net is itself


@pytest.mark.parametrize(
    "options",
    [{"chunk": 1}, {"chunk": 2}, {"chunk": 5}, {"stacked": False}, {"stacked": False, "chunk": 3}],
    ids=str,
)
def test_a_net_is_the_same_however_the_work_is_divided(options: dict[str, Any]) -> None:
    together = seed_sweep(build, train, n=6, progress=False)
    assert together.stacked
    divided = seed_sweep(build, train, n=6, progress=False, **options)
    assert divided.stacked == options.get("stacked", True)
    same(together, divided)
    assert len(np.unique(together["loss"])) == 6


def test_a_net_is_the_same_whatever_n_is() -> None:
    many = seed_sweep(build, train, n=6, progress=False)
    few = seed_sweep(build, train, n=2, seed=3, progress=False)
    np.testing.assert_array_equal(few.seeds, [3, 4])
    for name in many.results:
        np.testing.assert_array_equal(few[name], many[name][3:5])


@pytest.mark.trains
def test_a_net_is_that_of_its_seed_trained_by_itself() -> None:
    found = seed_sweep(build, train, n=4, progress=False)
    for seed in found.seeds:
        alone = train(build(tk.manual_seed(int(seed))))
        for name, value in alone.items():
            np.testing.assert_array_equal(
                found[name][seed], np.asarray(getattr(value, "data", value))
            )


def test_a_layer_that_is_given_no_generator_is_seeded_too() -> None:
    def build_plainly(generator: np.random.Generator) -> nn.Sequential:
        return nn.Sequential(*(layer for layer in build(tk.default_generator())))

    same(
        seed_sweep(build, train, n=3, progress=False),
        seed_sweep(build_plainly, train, n=3, progress=False),
    )


def test_all_nets_of_a_stack_share_the_order_of_batches() -> None:
    def shuffled(nets: Any) -> dict[str, Any]:
        order = tk.randperm(50).data
        single = nets[0].weight.ndim == 2
        return {"order": order if single else np.tile(order, (len(nets[0].weight), 1))}

    whole = seed_sweep(build, shuffled, n=4, seed=7, progress=False)
    halves = seed_sweep(build, shuffled, n=4, seed=7, chunk=3, progress=False)
    same(whole, halves)
    assert (whole["order"] == whole["order"][0]).all()
    each = seed_sweep(build, shuffled, n=4, seed=7, stacked=False, progress=False)
    assert len({tuple(order) for order in each["order"]}) == 4
    later = seed_sweep(build, shuffled, n=2, seed=9, stacked=False, progress=False)
    np.testing.assert_array_equal(each["order"][2:], later["order"])


def test_the_default_generator_is_where_it_was() -> None:
    def drawing(nets: Any) -> dict[str, Any]:
        tk.rand(3)
        return {"seed": np.zeros(2)}

    def failing(nets: Any) -> dict[str, Any]:
        tk.rand(3)
        raise ZeroDivisionError

    tk.manual_seed(5)
    expected = tk.rand(4).data
    tk.manual_seed(5)
    seed_sweep(build, drawing, n=2, progress=False)
    with pytest.raises(ZeroDivisionError):
        seed_sweep(build, failing, n=2, progress=False)
    np.testing.assert_array_equal(tk.rand(4).data, expected)


# ------------------------------------------------------------------ stacking


def test_a_stack_computes_every_module_with_its_own_weights() -> None:
    nets = [build(np.random.default_rng(seed)) for seed in range(4)]
    stack = stack_modules(nets)
    assert isinstance(stack, nn.Sequential)
    assert type(stack[0]) is nn.Linear
    assert stack[0].weight.shape == (4, 3, 2)
    np.testing.assert_array_equal(stack(X).data, [net(X).data for net in nets])
    own = Tensor(np.random.default_rng(9).normal(size=(4, 5, 2)))
    expected = [net(own[k]).data for k, net in enumerate(nets)]
    np.testing.assert_array_equal(stack(own).data, expected)
    stack(X).sum().backward()
    nets[2](X).sum().backward()
    np.testing.assert_array_equal(stack[0].weight.grad.data[2], nets[2][0].weight.grad.data)
    before = nets[0][0].weight.data.copy()
    optim.SGD(stack.parameters(), lr=1.0).step()
    np.testing.assert_array_equal(nets[0][0].weight.data, before)


def test_what_is_shared_or_frozen_stays_so() -> None:
    def tied() -> nn.Sequential:
        net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2))
        net[2].weight = net[0].weight
        net[0].bias.requires_grad_(False)
        return net

    stack = stack_modules([tied(), tied()])
    assert stack[2].weight is stack[0].weight
    assert stack[0].weight.shape == (2, 2, 2)
    assert not stack[0].bias.requires_grad
    assert stack[2].bias.requires_grad


def test_modules_that_differ_are_not_stacked() -> None:
    with pytest.raises(ValueError, match="that differ in parameter values alone, got 0 and 1:"):
        stack_modules([nn.Linear(2, 3), nn.Linear(2, 4)])
    with pytest.raises(ValueError, match=r"differ.*\n.*negative_slope=0\.01.*\n.*0\.2"):
        stack_modules([nn.LeakyReLU(0.01), nn.LeakyReLU(0.2)])
    with pytest.raises(ValueError, match="differ"):
        stack_modules([nn.Linear(2, 3), nn.Linear(2, 3, dtype=np.float64)])
    one = nn.Linear(2, 3)
    with pytest.raises(ValueError, match=r"different modules, got the same as 0 and 1\."):
        seed_sweep(lambda generator: one, train, n=2, progress=False)
    with pytest.raises(ValueError, match="expected at least one module, got none"):
        stack_modules([])


class Scaled(nn.Module):
    """A net of one's own: its forward broadcasts over a first axis of nets."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.inner = build(generator)
        self.scale = nn.Parameter(generator.normal(size=(1, 1)))

    def __getitem__(self, index: int) -> Any:
        return self.inner[index]

    def forward(self, x: Tensor) -> Any:
        return self.inner(x) * self.scale


def test_own_modules_are_stacked_on_request_only() -> None:
    by_default = seed_sweep(Scaled, train, n=3, progress=False)
    assert not by_default.stacked
    together = seed_sweep(Scaled, train, n=3, stacked=True, progress=False)
    assert together.stacked
    same(by_default, together)


def norm_net(generator: np.random.Generator) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, generator=generator), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(),
        nn.Dropout(0.5), nn.Linear(8, 2, generator=generator),
    )  # fmt: skip


def train_images(net: nn.Sequential) -> dict[str, Any]:
    images = Tensor(np.random.default_rng(1).random((6, 1, 4, 4), np.float32))
    labels = Tensor(np.arange(6) % 2)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        loss = F.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {"loss": loss, "running_mean": net[1].running_mean}


def test_nets_that_cannot_be_stacked_are_trained_one_by_one() -> None:
    found = seed_sweep(norm_net, train_images, n=4, progress=False)
    assert not found.stacked
    assert found["loss"].shape == (4,)
    assert found["running_mean"].shape == (4, 2)
    later = seed_sweep(norm_net, train_images, n=2, seed=2, progress=False)
    np.testing.assert_array_equal(found["loss"][2:], later["loss"])
    assert len(np.unique(found["loss"])) == 4


@pytest.mark.parametrize(
    ("layer", "shown"),
    [
        (lambda: nn.Conv2d(1, 2, 3), r"1: Conv2d\(1, 2"),
        (lambda: nn.BatchNorm1d(2), r"1: BatchNorm1d\(2"),
        (lambda: nn.LayerNorm(2), r"1: LayerNorm"),
        (lambda: nn.Dropout(0.5), r"1: Dropout\(p=0.5\)"),
        (lambda: nn.Embedding(3, 2), r"1: Embedding\(3, 2\)"),
        (lambda: nn.Softmax(dim=1), r"1: Softmax\(dim=1\)"),
        (lambda: nn.Flatten(), r"1: Flatten\(start_dim=1"),
    ],
)
def test_a_layer_that_cannot_be_stacked_is_named(layer: Any, shown: str) -> None:
    with pytest.raises(ValueError, match=f"over a first axis of nets, got {shown}.*stacked=False"):
        seed_sweep(
            lambda generator: nn.Sequential(nn.Linear(2, 2), layer()), train, n=2, stacked=True
        )


def test_softmax_along_the_last_axis_and_maxout_are_stacked() -> None:
    def peaked(generator: np.random.Generator) -> nn.Sequential:
        net = build(generator)
        net[1] = nn.Softmax(dim=-1)
        return net.append(nn.Maxout(1))

    found = seed_sweep(peaked, train, n=3, progress=False)
    assert found.stacked
    same(found, seed_sweep(peaked, train, n=3, stacked=False, progress=False))


def test_large_nets_are_stacked_in_small_numbers() -> None:
    sizes = []

    def count(nets: Any) -> dict[str, Any]:
        sizes.append(len(nets[0].weight))
        return {"nothing": np.zeros(sizes[-1])}

    large = partial_build(100, 800)
    seed_sweep(large, count, n=7, progress=False)
    assert sizes == [3, 3, 1]
    sizes.clear()
    seed_sweep(partial_build(2, 2), count, n=250, progress=False)
    assert sizes == [100, 100, 50]


def partial_build(inputs: int, outputs: int) -> Callable[[np.random.Generator], nn.Sequential]:
    return lambda generator: nn.Sequential(nn.Linear(inputs, outputs, generator=generator))


# ------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": 0}, ValueError, r"expected n >= 1, got 0\."),
        ({"n": 2.0}, TypeError, r"expected an integer n, got float\."),
        ({"seed": -1}, ValueError, r"expected seed >= 0, got -1\."),
        ({"jobs": 0}, ValueError, r"expected jobs >= 1, got 0\."),
        ({"chunk": 0}, ValueError, r"expected chunk >= 1, got 0\."),
        ({"chunk": True}, TypeError, r"expected an integer chunk, got bool\."),
    ],
)
def test_bad_counts(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"seed_sweep: {message}"):
        seed_sweep(build, train, **options)


def test_build_and_train_that_return_something_else() -> None:
    with pytest.raises(TypeError, match=r"build to return an nn\.Module, got NoneType\."):
        seed_sweep(lambda generator: None, train, n=2)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"train to return a dict of results, got float\."):
        seed_sweep(build, lambda nets: 0.5, n=2, progress=False)  # type: ignore[arg-type, return-value]
    with pytest.raises(
        ValueError, match=r"expected 'loss' with a first axis of 2 nets, got shape \(\)"
    ):
        seed_sweep(build, lambda nets: {"loss": nets(X).mean()}, n=2, progress=False)
    with pytest.raises(ValueError, match=r"expected 'losses' as an array, got list: .* Pad it"):
        seed_sweep(build, lambda nets: {"losses": [[1], [1, 2]]}, n=2, progress=False)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("stacked", [True, False])
def test_results_that_differ_between_nets_end_it_at_once(chunk: int, stacked: bool) -> None:
    calls = []

    def renamed(nets: Any) -> dict[str, Any]:
        calls.append(nets)
        return {f"loss {len(calls)}": np.zeros(chunk if stacked else ())}

    def longer(nets: Any) -> dict[str, Any]:
        calls.append(nets)
        return {"losses": np.zeros((chunk if stacked else 1, len(calls)))}

    options: dict[str, Any] = {"n": 12, "chunk": chunk, "stacked": stacked, "progress": False}
    second = chunk if stacked else 1
    with pytest.raises(
        ValueError, match=rf"'loss 1': .*as for seed 0, got .*'loss 2': .* for seed {second}\."
    ):
        seed_sweep(build, renamed, **options)
    assert len(calls) == (2 if stacked else max(2, chunk))
    calls.clear()
    with pytest.raises(
        ValueError,
        match=r"expected results \{'losses': \(.*1.*\)\}, as for seed 0, got .*2.*\)\} for seed",
    ):
        seed_sweep(build, longer, **options)


def test_an_error_says_which_seeds_and_that_the_nets_are_stacked() -> None:
    def ordinary(net: Any) -> dict[str, Any]:
        return {"loss": nn.BCEWithLogitsLoss()(net(X), Y)}

    with pytest.raises(ValueError, match="expected input and target of one shape") as caught:
        seed_sweep(build, ordinary, n=5, seed=10, progress=False)
    (note,) = caught.value.__notes__
    assert note.startswith("in seed_sweep, seeds 10 to 14: 5 nets trained together")
    assert "stacked=False" in note
    alone = seed_sweep(build, ordinary, n=2, stacked=False, progress=False)
    assert alone["loss"].shape == (2,)


# ------------------------------------------------------------------ executors


class Immediate(Executor):
    """Runs each call when it is handed in: the least that an executor must be."""

    def __init__(self) -> None:
        self.calls = 0
        self.closed = False

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        try:
            future.set_result(function(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.closed = True


def test_any_executor_does_the_work_and_stays_open() -> None:
    expected = seed_sweep(build, train, n=6, progress=False)
    executor = Immediate()
    same(expected, seed_sweep(build, train, n=6, chunk=2, executor=executor, progress=False))
    assert (executor.calls, executor.closed) == (3, False)
    with ThreadPoolExecutor(3) as threads:
        same(expected, seed_sweep(build, train, n=6, chunk=1, executor=threads, progress=False))
        assert threads.submit(int, "3").result() == 3


def test_threads_take_turns_at_the_default_generator() -> None:
    def drawing(net: Any) -> dict[str, Any]:
        first = tk.rand(2).data
        threading.Event().wait(0.01)
        return {"drawn": np.concatenate([first, tk.rand(2).data])}

    expected = seed_sweep(build, drawing, n=6, stacked=False, progress=False)
    with ThreadPoolExecutor(3) as threads:
        same(
            expected,
            seed_sweep(build, drawing, n=6, stacked=False, executor=threads, progress=False),
        )


def thread_settings(nets: Any) -> dict[str, Any]:
    own = [int(os.environ[name]) for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")]
    return train(nets) | {"threads": [own] * len(nets[0].weight), "process": [os.getpid()] * 3}


def test_processes_give_the_same_with_one_blas_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = seed_sweep(build, thread_settings, n=6, chunk=3, jobs=2, progress=False)
    assert "OPENBLAS_NUM_THREADS" not in os.environ
    assert (found["threads"] == [1, 3]).all()
    assert len({*found["process"].tolist(), os.getpid()}) >= 2
    expected = seed_sweep(build, train, n=6, progress=False)
    for name in expected.results:
        np.testing.assert_array_equal(found[name], expected[name])


BLAS_THREADS = """
import hashlib
import numpy as np
import tinygrad_kr as tk
from tinygrad_kr import nn
from tinygrad_kr.native import blas

inputs = tk.tensor(np.random.default_rng(0).normal(size=(100, 784)))

def build(generator):
    return nn.Linear(784, 256, dtype=np.float64, generator=generator)

def train(net):
    return {"outputs": net(inputs), "threads": blas.threads() or 1}

before = blas.threads()
found = tk.seed_sweep(build, train, n=2, stacked=False, progress=False)
assert (found["threads"] == 1).all()
assert blas.threads() == before
print(hashlib.sha256(found["outputs"].tobytes()).hexdigest())
"""


def test_the_number_of_blas_threads_decides_nothing() -> None:
    """OpenBLAS with two threads rounds this product otherwise than with one."""
    shown = {
        subprocess.run(
            [sys.executable, "-c", BLAS_THREADS],
            env=os.environ | {"OPENBLAS_NUM_THREADS": count, "TINYGRAD_KR_PRODUCTS": "numpy"},
            capture_output=True, text=True, timeout=120, check=True, encoding="utf-8",
        ).stdout
        for count in ("1", "2")
    }  # fmt: skip
    assert len(shown) == 1


def failing(nets: Any) -> dict[str, Any]:
    raise ZeroDivisionError("no such rate")


def test_an_error_in_a_process_arrives_with_its_seeds() -> None:
    with pytest.raises(ZeroDivisionError, match="no such rate") as caught:
        seed_sweep(build, failing, n=40, chunk=1, jobs=2, progress=False)
    assert any(note.startswith("in seed_sweep, seed ") for note in caught.value.__notes__)


def killed_at_seed_3(nets: Any) -> dict[str, Any]:
    if np.array_equal(nets[0].weight.data[0], build(np.random.default_rng(3))[0].weight.data):
        os.kill(os.getpid(), signal.SIGKILL)
    return train(nets)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal 9")
def test_a_process_that_dies_leaves_what_was_done_and_an_error_that_names_the_seeds() -> None:
    with pytest.raises(WorkerDiedError, match=r"died \(signal 9\) at .*fewer jobs") as caught:
        seed_sweep(build, killed_at_seed_3, n=8, chunk=1, jobs=2, progress=False)
    at, fix = str(caught.value).split(": ", 1)
    named = {int(word.strip(":")) for word in at.split() if word.isdigit()}
    assert 3 in named
    assert len(named) <= 2
    assert "use fewer jobs or smaller chunks" in fix
    kept = caught.value.done
    assert kept.partial
    assert len(kept.seeds) >= 2
    assert not named & set(kept.seeds.tolist())
    assert sorted([*kept.seeds, *caught.value.lost]) == list(range(8))
    whole = seed_sweep(build, train, n=8, progress=False)
    for name in whole.results:
        np.testing.assert_array_equal(kept[name], whole[name][kept.seeds])


class Breaking(Immediate):
    """Breaks down at its third call, as a pool whose process has died."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self.calls == 2:
            raise BrokenExecutor("no longer usable")
        return super().submit(function, *args, **kwargs)


def test_an_executor_that_breaks_leaves_what_was_done() -> None:
    with pytest.raises(WorkerDiedError, match=r"without a result: seeds 4 to 6\.") as caught:
        seed_sweep(build, train, n=7, chunk=2, executor=Breaking(), progress=False)
    assert caught.value.lost == [2, 3]
    assert caught.value.done.seeds.tolist() == [0, 1, 2, 3]
    with pytest.raises(WorkerDiedError) as caught:
        list(finished(abs, [(-1,)], executor=broken_from_the_start()))
    assert (caught.value.lost, caught.value.done) == ([0], None)


def broken_from_the_start() -> Breaking:
    executor = Breaking()
    executor.calls = 2
    return executor


UNGUARDED = """
from tinygrad_kr import nn
from tinygrad_kr.sweep import seed_sweep

def build(generator):
    return nn.Linear(1, 1, generator=generator)

def train(net):
    return {"done": 1.0}

seed_sweep(build, train, n=4, jobs=2, stacked=False)
"""


def test_a_script_that_does_not_guard_its_start_is_told_to(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(UNGUARDED, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, encoding="utf-8"
    )
    lines = done.stderr.strip().splitlines()
    (told,) = [line for line in lines if "WorkerDiedError: a process died (exit code 1)" in line]
    assert "at seed 0" in told
    assert 'a script must guard its start with `if __name__ == "__main__":`' in told


def test_what_no_process_can_be_sent_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"what can be pickled .*: define functions at"):
        seed_sweep(build, lambda nets: train(nets), n=4, jobs=2, progress=False)


def test_functions_typed_at_a_prompt_cannot_be_imported_by_a_process() -> None:
    start = "from tinygrad_kr.workers import finished\n"
    code = f"{start}def f(): pass\nnext(finished(f, [(), ()], jobs=2))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, encoding="utf-8"
    )
    assert "a function of a file, which other processes can import" in done.stderr


# ------------------------------------------------------------------ Ctrl-C and the bar


def interrupted_at(call: int) -> Callable[[Any], dict[str, Any]]:
    calls = []

    def train_until(nets: Any) -> dict[str, Any]:
        calls.append(nets)
        if len(calls) == call:
            raise KeyboardInterrupt
        return train(nets)

    return train_until


def test_ctrl_c_keeps_what_is_done() -> None:
    found = seed_sweep(build, interrupted_at(3), n=8, chunk=2, progress=False)
    assert found.partial
    assert (found.n, found.seeds.tolist()) == (8, [0, 1, 2, 3])
    assert "4 of 8 nets, interrupted" in repr(found)
    assert found.rate(found["loss"] > 0).trials == 4
    whole = seed_sweep(build, train, n=8, progress=False)
    assert not whole.partial
    np.testing.assert_array_equal(found["loss"], whole["loss"][:4])


def test_ctrl_c_before_anything_is_done_is_passed_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        seed_sweep(build, interrupted_at(1), n=8, progress=False)


def test_work_not_begun_is_cancelled() -> None:
    begun: list[int] = []
    gate = threading.Event()

    def work(index: int) -> int:
        begun.append(index)
        if index == 1:
            gate.wait()
        return index

    with ThreadPoolExecutor(1) as threads:
        results = finished(work, [(k,) for k in range(5)], executor=threads)
        assert next(results) == (0, 0)
        results.close()
        gate.set()
    assert begun in ([0], [0, 1])


INTERRUPTED = """
import os
import time
import numpy as np
from tinygrad_kr import nn
from tinygrad_kr.sweep import seed_sweep

def build(generator):
    return nn.Linear(1, 1, generator=generator)

def train(net):
    if net.weight.item() != build(np.random.default_rng(0)).weight.item():
        os.write(1, b"waiting\\n")
        time.sleep(600)
    return {"done": 1.0}

if __name__ == "__main__":
    found = seed_sweep(build, train, n=5, jobs=2, stacked=False)
    print(found.partial, found.seeds.tolist(), flush=True)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has another way to interrupt")
def test_ctrl_c_ends_processes_at_once_and_keeps_what_is_done(tmp_path: Path) -> None:
    script = tmp_path / "interrupted.py"
    script.write_text(textwrap.dedent(INTERRUPTED), encoding="utf-8")
    program = subprocess.Popen(
        [sys.executable, "-W", "error", str(script)],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), encoding="utf-8",
    )  # fmt: skip
    try:
        assert program.stdout is not None
        lines = [program.stdout.readline(), program.stdout.readline()]
        assert lines == ["waiting\n", "waiting\n"]
        time.sleep(0.2)
        os.killpg(program.pid, signal.SIGINT)
        shown, errors = program.communicate(timeout=30)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()
    assert program.returncode == 0, errors
    assert shown.splitlines()[-1] == "True [0]"
    assert errors == ""


def test_a_bar_counts_nets_and_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[SimpleNamespace] = []

    def tqdm(total: int, **settings: Any) -> SimpleNamespace:
        bar = SimpleNamespace(total=total, counted=0, closed=False, **settings)
        bar.update = lambda count: setattr(bar, "counted", bar.counted + count)
        bar.close = lambda: setattr(bar, "closed", True)
        bars.append(bar)
        return bar

    monkeypatch.setitem(sys.modules, "tqdm", SimpleNamespace(tqdm=tqdm))
    seed_sweep(build, train, n=5, chunk=2)
    seed_sweep(build, interrupted_at(2), n=5, chunk=2)
    seed_sweep(build, train, n=5, progress=False)
    assert [(bar.total, bar.counted, bar.closed) for bar in bars] == [(5, 5, True), (5, 2, True)]


def test_without_tqdm_there_is_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with pytest.raises(ImportError):
        importlib.import_module("tqdm")
    assert len(seed_sweep(build, train, n=2).seeds) == 2
