"""Many nets from many seeds, and success rates with intervals: one lucky seed proves nothing."""

from __future__ import annotations

import copy
import importlib
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr import nn, random
from tinygrad_kr._version import __version__
from tinygrad_kr.grad_mode import enable_grad
from tinygrad_kr.language import Text
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.workers import WorkerDiedError, finished

if TYPE_CHECKING:
    import os
    from concurrent.futures import Executor

    from tinygrad_kr.journal import Journal

__all__ = ["Rate", "Sweep", "WorkerDiedError", "seed_sweep", "stack_modules", "wilson_interval"]


def __dir__() -> list[str]:
    return __all__


Build = Callable[[random.Generator], nn.Module]
Train = Callable[[Any], Mapping[str, Any]]
LARGEST_STACK = 100
"""Most nets of a stack."""
STACKED_PARAMETERS = 2**18
"""Most parameters of a stack: larger nets gain little from being trained together."""

# ------------------------------------------------------------------ rates


class Rate(NamedTuple):
    """How often an outcome occurred, and the interval of its probability.

    >>> tk.sweep.Rate(43, 100, 0.34, 0.53).share
    0.43
    """

    successes: int
    trials: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """successes / trials."""
        return self.successes / self.trials

    def __str__(self) -> str:
        return _RATE.say(share=self.share, low=self.low, high=self.high)

    def _repr_html_(self) -> str:
        """In a notebook: the numbers, and the interval between 0 and 1."""
        from tinygrad_kr import html

        title = f"{self.successes} / {self.trials}: {self}"
        return html.block(title, html.interval(self.low, self.share, self.high, str(self)))


def wilson_interval(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of probabilities that are compatible with `successes` of `count`.

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),  p = successes / n

    z is the normal quantile of (1 + confidence) / 2. The interval is valid at 0 and at n as well.

    Raises ValueError unless 0 <= successes <= count, count > 0 and 0 < confidence < 1.
    Source: Wilson, Probable inference, the law of succession, and statistical inference (1927).

    >>> tk.wilson_interval(43, 100)
    (0.337..., 0.527...)
    """
    if not 0 <= successes <= count or not count:
        raise ValueError(
            f"wilson_interval: expected 0 <= successes <= count and count > 0, got {successes} of "
            f"{count}."
        )
    if not 0 < confidence < 1:
        raise ValueError(f"wilson_interval: expected confidence in (0, 1), got {confidence}.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, scale = successes / count, 1 + z**2 / count
    centre = (p + z**2 / (2 * count)) / scale
    half = z / scale * (p * (1 - p) / count + z**2 / (4 * count**2)) ** 0.5
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


class Sweep:
    """The result of `seed_sweep`: one value of every result per net.

    `sweep["loss"]` is an array with one entry per net, in the order of `sweep.seeds`.
    Save it with `np.savez("sweep.npz", seeds=sweep.seeds, **sweep.results)`.

    seeds: of the nets that are done. n: the number asked for.
    partial: the sweep was interrupted, and nets are missing. stacked: the nets were trained
        together.

    >>> sweep = tk.sweep.Sweep(np.arange(4), {"loss": np.array([0.1, 0.2, 0.3, 2.0])}, 4, True)
    >>> sweep.rate(sweep["loss"] < 1).successes
    3
    """

    def __init__(self, seeds: ndarray, results: dict[str, ndarray], n: int, stacked: bool) -> None:
        self.seeds, self.results = seeds, results
        self.n, self.stacked = n, stacked

    @property
    def partial(self) -> bool:
        """Whether nets are missing because the sweep was interrupted."""
        return len(self.seeds) < self.n

    def __getitem__(self, name: str) -> ndarray:
        if name not in self.results:
            raise KeyError(f"Sweep: expected one of {', '.join(self.results)}, got {name!r}.")
        return self.results[name]

    def rate(self, outcome: Any, confidence: float = 0.95) -> Rate:
        """The share of nets with an outcome, with Wilson's interval.

        outcome: one boolean per net: `sweep.rate(sweep["accuracy"] == 1)`.

        Raises ValueError for another shape, TypeError for anything but booleans.
        """
        happened = np.asarray(outcome.data if isinstance(outcome, Tensor) else outcome)
        if happened.dtype != bool:
            raise TypeError(
                f"Sweep.rate: expected booleans, got {happened.dtype}. Compare, as in "
                'sweep.rate(sweep["accuracy"] == 1)'
            )
        if happened.shape != self.seeds.shape:
            raise ValueError(
                f"Sweep.rate: expected outcomes of shape {self.seeds.shape}, one per net, got "
                f"{happened.shape}."
            )
        successes, trials = int(happened.sum()), happened.size
        return Rate(successes, trials, *wilson_interval(successes, trials, confidence))

    def __repr__(self) -> str:
        lines = [_title(self)]
        for name, values in self.results.items():
            if values.ndim == 1 and values.dtype.kind in "fiub":
                lines.append(f"  {name}: {_spread(values.astype(np.float64))}")
            else:
                lines.append(f"  {name}: {values.dtype}{values.shape}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """In a notebook: a table of the results. Of booleans, the share with Wilson's interval."""
        from tinygrad_kr import html

        names = (
            Text("result", "결과").say(),
            Text("median", "중앙값").say(),
            Text("least", "최솟값").say(),
            Text("greatest", "최댓값").say(),
            "NaN",
        )
        rows, rates = [], ""
        for name, values in self.results.items():
            if values.ndim != 1 or values.dtype.kind not in "fiub" or not values.size:
                rows.append((name, f"{values.dtype}{values.shape}", "", "", ""))
            elif values.dtype.kind == "b":
                rates += html.block(name, self.rate(values)._repr_html_())
            else:
                numbers = values[~np.isnan(values)].astype(np.float64)
                range_of = _range_of(numbers) if numbers.size else (np.nan,) * 3
                low, middle, high = map(html.number, range_of)
                rows.append((name, middle, low, high, str(values.size - numbers.size)))
        table = html.table(names, rows, numeric=4) if rows else ""
        return html.block(_title(self), table, rates)


_RATE = Text("{share:.0%} ({low:.0%} to {high:.0%})", "{share:.0%} ({low:.0%}에서 {high:.0%})")
_TOGETHER = Text("Sweep of {done}, trained together", "스윕, 신경망 {done}, 함께 학습")
_ONE_BY_ONE = Text("Sweep of {done}, trained one by one", "스윕, 신경망 {done}, 하나씩 학습")
_ALL = Text("{n}", "{n}개")
_PARTIAL = Text("{done} of {n} nets, interrupted", "{n}개 중 {done}개에서 중단")
_SPREAD = Text(
    "median {middle:.4g} (from {low:.4g} to {high:.4g})",
    "중앙값 {middle:.4g} ({low:.4g}에서 {high:.4g})",
)
_MISSING = Text("NaN in {missing} of {size}", "{size}개 중 {missing}개가 NaN")


def _title(sweep: Sweep) -> str:
    """How many nets, and how they were trained."""
    text = _PARTIAL if sweep.partial else _ALL
    done = text.say(done=len(sweep.seeds), n=sweep.n)
    return (_TOGETHER if sweep.stacked else _ONE_BY_ONE).say(done=done)


def _spread(values: ndarray) -> str:
    """The median and the range of the numbers, and the number of NaNs."""
    numbers = values[~np.isnan(values)]
    missing = _MISSING.say(missing=values.size - numbers.size, size=values.size)
    if not numbers.size:
        return missing
    low, middle, high = _range_of(numbers)
    shown = _SPREAD.say(middle=middle, low=low, high=high)
    return shown if numbers.size == values.size else f"{shown}, {missing}"


def _range_of(numbers: ndarray) -> tuple[float, float, float]:
    """The least, the median and the greatest of numbers without NaN."""
    low, middle, high = np.sort(numbers)[[0, (numbers.size - 1) // 2, -1]]
    if np.isfinite(numbers).all():
        middle = np.median(numbers)
    return float(low), float(middle), float(high)


# ------------------------------------------------------------------ the sweep


def seed_sweep(
    build: Build,
    train: Train,
    n: int = 100,
    *,
    seed: int = 0,
    stacked: bool | None = None,
    chunk: int | None = None,
    jobs: int = 1,
    executor: Executor | None = None,
    path: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Sweep:
    """Train a net from `n` seeds and keep the results of each: one lucky seed proves nothing.

    build: a function of a `np.random.Generator` that makes one net. The net of seed k is
        `build(manual_seed(k))`, whatever the other arguments are. The generator is the default
        one, so layers without a `generator=` are seeded too.
    train: a function of the nets that trains them and returns a dict of results. The nets are one
        module of ordinary layers, whose parameters have a first axis of nets: a batch (batch, in)
        gives (nets, batch, out). Each result has one entry per net. **Their loss is the sum of the
        losses of all nets.** The sum gives each net the gradients it would have alone; a mean over
        all would divide them by the number of nets. With axes counted from the end, as below, the
        same function trains a single net too.
    n: the number of nets. seed: the first of `n` consecutive seeds.
    stacked: train the nets together. Default: if every layer is known to allow it (`Linear` and
        elementwise activations in a `Sequential`). True: also for other modules, whose `forward`
        must broadcast over a first axis of their parameters; ValueError for layers that cannot
        (convolution, batch norm, dropout). False: train the nets one by one, as ordinary nets.
    chunk: the number of nets to stack, which one worker trains. Default: 100; fewer if they have
        more than 2^18 parameters in all; 1 for nets that are not stacked. Fewer occupy more
        workers. Another number may change the last digits of results.
    jobs: the number of processes. `build` and `train` must then be functions of a file, and a
        script must guard its start with `if __name__ == "__main__":`.
    executor: a `concurrent.futures.Executor` in place of these processes, such as Dask's
        `client.get_executor()` or `mpi4py.futures.MPIPoolExecutor()`; it is not shut down. Threads
        of one process take turns, since they share the default generator.
    path: a file to which each result is written as it arrives, a line of JSON per net. If the file
        is there, its nets are not trained again, and it may be of fewer or more nets. See below.
    progress: show a bar on the terminal if tqdm is installed.

    All nets of a stack share the random numbers that `train` draws from the default generator, for
    example the order of batches. It starts at `seed`. A net that is trained alone continues where
    `build` stopped.

    Results have the same bits whatever `jobs`, `executor` and the number of workers are: every
    worker uses one BLAS thread, as this process does meanwhile, and this process's choice between
    C and BLAS. A warning says so where a worker's processor or versions differ.

    Ctrl-C ends the sweep with the nets that are done, and `partial` is True; without any it raises
    KeyboardInterrupt. An error in `build` or `train` ends it and names the seeds. Raises
    WorkerDiedError if a worker ends in the middle of its work and the executor does not repeat it,
    or if the executor itself fails five times at the same nets, whose work is submitted again each
    time; `error.done` is a partial Sweep. Raises ValueError for functions that cannot be sent to a
    process, and for a file that another `build` or `train`, other global constants that these
    read, or other versions have made; BlockingIOError if another run writes to the file.

    >>> x = tk.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> y = tk.tensor([[0.0], [1.0], [1.0], [0.0]])
    >>> def build(generator):
    ...     hidden = nn.Linear(2, 4, generator=generator)
    ...     return nn.Sequential(hidden, nn.Tanh(), nn.Linear(4, 1, generator=generator))
    >>> def train(nets):
    ...     optimizer = optim.Adam(nets.parameters(), lr=0.05)
    ...     for step in range(300):
    ...         z = nets(x)
    ...         loss = F.binary_cross_entropy_with_logits(z, y.expand_as(z), reduction="none")
    ...         loss = loss.mean((-2, -1))
    ...         optimizer.zero_grad()
    ...         loss.sum().backward()
    ...         optimizer.step()
    ...     right = (nets(x).data > 0) == (y.data > 0.5)
    ...     return {"accuracy": right.mean((-2, -1)), "loss": loss}
    >>> sweep = tk.seed_sweep(build, train, n=100, progress=False)
    >>> print("solved:", sweep.rate(sweep["accuracy"] == 1))
    solved: 9...% (...% to ...%)
    """
    for name, value, lowest in (("n", n, 1), ("seed", seed, 0), ("jobs", jobs, 1)):
        _whole(name, value, lowest)
    if chunk is not None:
        _whole("chunk", chunk, 1)
    with _turn():
        example = _built(build, seed)
    together = _is_stacked(example, stacked)
    chunk = chunk or _default_chunk(example, together)
    done: dict[int, dict[str, ndarray]] = {}
    with _journal(path, build, train, seed, together) as journal:
        if journal is not None:
            done |= {k: journal.done[k] for k in range(seed, seed + n) if k in journal.done}
        chunks = [range(k, min(k + chunk, seed + n)) for k in range(seed, seed + n, chunk)]
        chunks = [seeds for seeds in chunks if not done.keys() >= set(seeds)]
        calls = [(build, train, seeds, together, seed) for seeds in chunks]
        work = finished(
            _trained, calls, executor=executor, jobs=jobs, names=partial(_names, chunks)
        )
        bar = _progress_bar(n, len(done)) if progress else None
        try:
            with closing(work) as results:
                for index, values in results:
                    found = _by_seed(values, chunks[index])
                    _check_alike(done, found)
                    if journal is not None:
                        journal.add(found)
                    done |= found
                    if bar is not None:
                        bar.update(len(found))
        except KeyboardInterrupt:
            if not done:
                raise
        except WorkerDiedError as error:
            error.done = _sweep(done, n, together)
            raise
        finally:
            if bar is not None:
                bar.close()
    return _sweep(done, n, together)


def _is_stacked(example: nn.Module, stacked: bool | None) -> bool:
    """Whether the nets are trained together. ValueError if they were to be and cannot."""
    if stacked is False:
        return False
    obstacle = _obstacle(example, all_known=stacked is None)
    if obstacle and stacked:
        raise ValueError(
            f"seed_sweep: expected layers that broadcast over a first axis of nets, got "
            f"{obstacle}. stacked=False trains one net after the other"
        )
    return not obstacle


def _default_chunk(example: nn.Module, together: bool) -> int:
    """It depends on the nets alone, so that the number of workers does not change any result."""
    size = sum(parameter.size for parameter in example.parameters())
    return max(1, min(LARGEST_STACK, STACKED_PARAMETERS // max(size, 1))) if together else 1


def _sweep(done: dict[int, dict[str, ndarray]], n: int, together: bool) -> Sweep:
    seeds = sorted(done)
    names = done[seeds[0]] if seeds else ()
    results = {name: np.stack([done[seed][name] for seed in seeds]) for name in names}
    return Sweep(np.array(seeds, np.int64), results, n, together)


def _by_seed(values: dict[str, ndarray], seeds: range) -> dict[int, dict[str, ndarray]]:
    return {
        seed: {name: array[place, ...] for name, array in values.items()}
        for place, seed in enumerate(seeds)
    }


def _names(chunks: Sequence[range], lost: Sequence[int]) -> str:
    """The seeds of chunks, as "seeds 3 to 5, seed 9"."""
    joined: list[range] = []
    for seeds in (chunks[index] for index in lost):
        if joined and joined[-1].stop == seeds.start:
            joined[-1] = range(joined[-1].start, seeds.stop)
        else:
            joined.append(seeds)
    return ", ".join(map(_seeds, joined))


@contextmanager
def _journal(
    path: str | os.PathLike[str] | None, build: Build, train: Train, seed: int, together: bool
) -> Iterator[Journal | None]:
    """The file of results, open; None without a path."""
    if path is None:
        yield None
        return
    from tinygrad_kr.fingerprint import parts
    from tinygrad_kr.journal import Journal

    made_by = {**versions(), "seed": str(seed), "stacked": str(together)}
    made_by |= parts("build", build) | parts("train", train)
    journal = Journal(path, made_by, "seed_sweep")
    try:
        yield journal
    finally:
        journal.close()


def versions() -> dict[str, str]:
    """The versions that results depend on: of this package, NumPy and Python."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"tinygrad_kr": __version__, "NumPy": np.__version__, "Python": python}


def _seeds(seeds: range) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _whole(name: str, value: Any, lowest: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"seed_sweep: expected an integer {name}, got {type(value).__name__}.")
    if value < lowest:
        raise ValueError(f"seed_sweep: expected {name} >= {lowest}, got {value}.")


def _progress_bar(total: int, done: int) -> Any:
    try:
        tqdm = importlib.import_module("tqdm")
    except ImportError:
        return None
    return tqdm.tqdm(total=total, initial=done, unit="net", disable=None, leave=False)


# ------------------------------------------------------------------ the work of one call

_TURN = threading.RLock()


@contextmanager
def _turn() -> Iterator[None]:
    """Hold the default generator alone; afterwards its state is restored."""
    with _TURN:
        generator = random.default_generator().bit_generator
        state = generator.state
        try:
            yield
        finally:
            generator.state = state


def _built(build: Build, seed: int) -> nn.Module:
    net = build(random.manual_seed(seed))
    if not isinstance(net, nn.Module):
        raise TypeError(
            f"seed_sweep: expected build to return an nn.Module, got {type(net).__name__}."
        )
    return net


def _trained(
    build: Build, train: Train, seeds: range, together: bool, first: int
) -> dict[str, ndarray]:
    """The results of the nets of `seeds`, each with a first axis of nets."""
    from tinygrad_kr.native import blas

    with _turn(), enable_grad(), blas.one_thread():
        try:
            if together:
                nets = stack_modules([_built(build, seed) for seed in seeds])
                random.manual_seed(first)
                return _per_net(train(nets), len(seeds))
            return _joined([_arrays(train(_built(build, seed))) for seed in seeds], seeds)
        except Exception as error:
            note = f"in seed_sweep, {_seeds(seeds)}"
            if together:
                note += (
                    f": {len(seeds)} nets trained together, whose parameters have a first axis of "
                    "nets (stacked=False trains them one by one)"
                )
            error.add_note(note)
            raise


def _arrays(results: Any) -> dict[str, ndarray]:
    if not isinstance(results, Mapping):
        raise TypeError(
            f"seed_sweep: expected train to return a dict of results, got "
            f'{type(results).__name__}. Write return {{"accuracy": accuracy}}'
        )
    return {name: _as_array(name, value) for name, value in results.items()}


def _as_array(name: str, value: Any) -> ndarray:
    try:
        return np.array(value.data if isinstance(value, Tensor) else value)
    except ValueError as error:
        raise ValueError(
            f"seed_sweep: expected {name!r} as an array, got {type(value).__name__}: {error} Pad it"
        ) from error


def _per_net(results: Any, count: int) -> dict[str, ndarray]:
    arrays = _arrays(results)
    for name, array in arrays.items():
        if array.shape[:1] != (count,):
            raise ValueError(
                f"seed_sweep: expected {name!r} with a first axis of {count} nets, got shape "
                f"{array.shape}. Reduce over the last axes: values.mean((-2, -1))"
            )
    return arrays


def _joined(results: list[dict[str, ndarray]], seeds: range) -> dict[str, ndarray]:
    done: dict[int, dict[str, ndarray]] = {}
    for seed, each in zip(seeds, results, strict=True):
        _check_alike(done, {seed: each})
        done[seed] = each
    return {name: np.stack([each[name] for each in results]) for name in results[0]}


def _check_alike(done: dict[int, dict[str, ndarray]], found: dict[int, dict[str, ndarray]]) -> None:
    """Raise ValueError unless new results have the names and shapes of those before."""
    for before, new in zip(list(done)[:1], list(found)[:1], strict=False):
        forms = [
            {name: array.shape for name, array in each.items()}
            for each in (done[before], found[new])
        ]
        if forms[0] != forms[1]:
            raise ValueError(
                f"seed_sweep: expected results {forms[0]}, as for seed {before}, got {forms[1]} "
                f"for seed {new}."
            )


# ------------------------------------------------------------------ stacking

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList)
_ELEMENTWISE = (
    nn.ELU, nn.GELU, nn.Hardtanh, nn.Identity, nn.LeakyReLU, nn.ReLU, nn.SELU, nn.Sigmoid, nn.SiLU,
    nn.Softplus, nn.Tanh,
)  # fmt: skip
_ALONG_AN_AXIS = (nn.LogSoftmax, nn.Maxout, nn.Softmax)


def _obstacle(net: nn.Module, all_known: bool) -> str:
    """The first module that does not broadcast over an axis of nets, or "".

    all_known: treat modules that are not the package's as obstacles too.
    """
    for path, part in net.named_modules():
        kind = type(part)
        ours = kind.__module__.startswith("tinygrad_kr.")
        if kind in (nn.Linear, nn.Sequential, *_ELEMENTWISE):
            continue
        if isinstance(part, _ALONG_AN_AXIS) and part.dim < 0:
            continue
        if not all_known and (not ours or kind in _CONTAINERS):
            continue
        return f"{path}: {part!r}" if path else repr(part)
    return ""


def stack_modules(modules: Sequence[nn.Module]) -> nn.Module:
    """One module of many: its parameters and buffers get a first axis with one entry per module.

    The result is a copy of the first module, of the same layers. `Linear` and elementwise
    activations then compute all nets at once, each with its own weights: (batch, in), or (nets,
    batch, in), becomes (nets, batch, out).

    Raises ValueError if the modules differ in more than the values of parameters and buffers.
    Source: `torch.func.stack_module_state`.

    >>> nets = tk.sweep.stack_modules([nn.Linear(2, 1) for _ in range(5)])
    >>> nets(tk.ones(3, 2)).shape
    (5, 3, 1)
    """
    if not modules:
        raise ValueError("stack_modules: expected at least one module, got none.")
    tables = [_tensors(module) for module in modules]
    shown, forms = repr(modules[0]), _forms(tables[0])
    for i, (module, table) in enumerate(zip(modules, tables, strict=True)):
        if i and module is modules[0]:
            raise ValueError(
                f"stack_modules: expected different modules, got the same as 0 and {i}. Build a "
                "new one each time"
            )
        if repr(module) != shown or _forms(table) != forms:
            raise ValueError(
                f"stack_modules: expected modules that differ in parameter values alone, got 0 and "
                f"{i}:\n{shown}\n{module!r}"
            )
    stack = copy.deepcopy(modules[0])
    for path, tensor in _tensors(stack).items():
        tensor.grad = None
        tensor.data = np.stack([table[path].data for table in tables])
    return stack


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _forms(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {path: (t.shape, t.dtype, t.requires_grad) for path, t in tensors.items()}
