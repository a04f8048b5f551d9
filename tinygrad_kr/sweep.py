"""Does a recipe work, or did one seed? Many nets from many seeds, and rates with intervals."""

from __future__ import annotations

import copy
import importlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr import nn, random
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.workers import WorkerDiedError, finished

if TYPE_CHECKING:
    from concurrent.futures import Executor

Build = Callable[[random.Generator], nn.Module]
Train = Callable[[Any], Mapping[str, Any]]

# ------------------------------------------------------------------ rates


class Rate(NamedTuple):
    """How often something happened, and the interval that holds its probability."""

    successes: int
    trials: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """successes / trials."""
        return self.successes / self.trials

    def __str__(self) -> str:
        return f"{self.share:.0%} ({self.low:.0%} to {self.high:.0%})"


def wilson_interval(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The probabilities that `successes` of `count` are compatible with; it holds at 0 and at all.

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), where p = successes / n
    and z is the normal quantile of (1 + confidence) / 2.

    Raises ValueError unless 0 <= successes <= count, count > 0 and 0 < confidence < 1.
    Source: Wilson, Probable inference, the law of succession, and statistical inference (1927).

    >>> wilson_interval(43, 100)
    (0.337..., 0.527...)
    """
    if not 0 <= successes <= count or not count:
        raise ValueError(f"wilson_interval: {successes} successes of {count}")
    if not 0 < confidence < 1:
        raise ValueError(f"wilson_interval: confidence lies between 0 and 1, not {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, scale = successes / count, 1 + z**2 / count
    centre = (p + z**2 / (2 * count)) / scale
    half = z / scale * (p * (1 - p) / count + z**2 / (4 * count**2)) ** 0.5
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


class Sweep:
    """What `seed_sweep` found: one value of every result for each net.

    `sweep["loss"]` is an array with an entry for each net, in the order of `sweep.seeds`.
    To keep it: `np.savez("sweep.npz", seeds=sweep.seeds, **sweep.results)`.

    seeds: of the nets that are done. n: how many were asked for. partial: it was interrupted, so
    that there are fewer. stacked: the nets were trained together.
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
            raise KeyError(f"no result {name!r}; train returned {', '.join(self.results)}")
        return self.results[name]

    def rate(self, outcome: Any, confidence: float = 0.95) -> Rate:
        """How many nets had an outcome, with Wilson's interval.

        outcome: a truth value for each net: `sweep.rate(sweep["accuracy"] == 1)`. ValueError for
        another shape, TypeError for anything but truth values.
        """
        happened = np.asarray(outcome.data if isinstance(outcome, Tensor) else outcome)
        if happened.dtype != bool:
            raise TypeError(
                f"rate: outcomes are true or false, not {happened.dtype}; compare, as in "
                'sweep.rate(sweep["accuracy"] == 1)'
            )
        if happened.shape != self.seeds.shape:
            raise ValueError(f"rate: outcomes {happened.shape} for nets {self.seeds.shape}")
        successes, trials = int(happened.sum()), happened.size
        return Rate(successes, trials, *wilson_interval(successes, trials, confidence))

    def __repr__(self) -> str:
        done = f"{len(self.seeds)} of {self.n} nets, interrupted" if self.partial else f"{self.n}"
        lines = [f"Sweep of {done}, trained {'together' if self.stacked else 'one by one'}"]
        for name, values in self.results.items():
            if values.ndim == 1 and values.dtype.kind in "fiub":
                lines.append(f"  {name}: {_spread(values.astype(np.float64))}")
            else:
                lines.append(f"  {name}: {values.dtype}{values.shape}")
        return "\n".join(lines)


def _spread(values: ndarray) -> str:
    """The median and the range of what is a number, and how many are none."""
    numbers = values[~np.isnan(values)]
    missing = f"NaN in {values.size - numbers.size} of {values.size}"
    if not numbers.size:
        return missing
    low, middle, high = np.sort(numbers)[[0, (numbers.size - 1) // 2, -1]]
    if np.isfinite(numbers).all():
        middle = np.median(numbers)
    shown = f"median {middle:.4g} (from {low:.4g} to {high:.4g})"
    return shown if numbers.size == values.size else f"{shown}, {missing}"


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
    progress: bool = True,
) -> Sweep:
    """Train a net from `n` seeds and keep what came of each: one lucky seed proves nothing.

    build: a function of a `np.random.Generator` that makes one net. The net of seed k is
        `build(manual_seed(k))` whatever `n`, `chunk` and `jobs` are: the generator is the default
        one, so a layer that is given none is seeded as well.
    train: a function of the nets that trains them and returns a dict of results. The nets come as
        one module of ordinary layers whose parameters have a first axis of nets: a batch (batch,
        in) gives (nets, batch, out), and each result has one entry per net. **Their loss is the
        sum of every net's own loss**: the sum has the gradients that each net would have alone,
        a mean over all would divide them by the number of nets. With axes counted from the end,
        as below, the same function trains a single net too.
    n: how many. seed: the first of that many consecutive seeds.
    stacked: train them together. Default: where every layer is known to allow it (`Linear` and
        elementwise activations in a `Sequential`); other nets are trained one by one, `train`
        getting an ordinary net each time. True: also modules of your own, whose `forward` then has
        to broadcast over a first axis of their parameters; ValueError for layers that cannot
        (convolution, batch norm, dropout). False: one by one.
    chunk: how many to stack. Default: 100, fewer if `jobs` are to share them or if they are large
        (2^20 parameters in all).
    jobs: processes to share the work, each with one BLAS thread. `build` and `train` must then be
        functions of a file, and a script guard its start by `if __name__ == "__main__":`.
    executor: a `concurrent.futures.Executor` to work in the place of these processes (a cluster's,
        say); it is not shut down. Threads of one process take turns, since they share the default
        generator.
    progress: a bar on the terminal where tqdm is installed.

    All nets of a stack share what `train` draws from the default generator (the order of batches,
    say), which starts at `seed`; a net trained by itself goes on where `build` stopped.

    Ctrl-C ends it with the nets that are done, `partial` being True (KeyboardInterrupt if there are
    none). An error in `build` or `train` ends it and names the seeds. WorkerDiedError if a process
    ends in the middle of its work; the nets that were done are `error.done`, a partial Sweep.

    >>> x = Tensor(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], np.float32))
    >>> y = Tensor(np.array([[0.0], [1.0], [1.0], [0.0]], np.float32))
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
    >>> sweep = seed_sweep(build, train, n=100)
    >>> print("solved:", sweep.rate(sweep["accuracy"] == 1))
    solved: 94% (88% to 97%)
    """
    for name, value, lowest in (("n", n, 1), ("seed", seed, 0), ("jobs", jobs, 1)):
        _whole(name, value, lowest)
    if chunk is not None:
        _whole("chunk", chunk, 1)
    with _turn():
        example = _built(build, seed)
    if stacked is not False and (obstacle := _obstacle(example, all_known=stacked is None)):
        if stacked:
            raise ValueError(
                f"seed_sweep: {obstacle} does not compute one net for each entry of a first axis, "
                "so it cannot be stacked; stacked=False trains one net after the other"
            )
        stacked = False
    together = stacked is not False
    if chunk is None:
        size = sum(parameter.size for parameter in example.parameters())
        chunk = max(1, min(100, -(-n // jobs), 2**20 // max(size, 1))) if together else 1
    chunks = [range(k, min(k + chunk, seed + n)) for k in range(seed, seed + n, chunk)]
    done: dict[int, dict[str, ndarray]] = {}

    def found() -> Sweep:
        order = sorted(done)
        names = done[order[0]] if order else ()
        return Sweep(
            np.concatenate([chunks[index] for index in order] or [chunks[0][:0]]),
            {name: np.concatenate([done[index][name] for index in order]) for name in names},
            n,
            together,
        )

    bar = _progress_bar(n) if progress else None
    calls = [(build, train, seeds, together, seed) for seeds in chunks]
    work = finished(
        _trained, calls, executor=executor, jobs=jobs, name=lambda index: _seeds(chunks[index])
    )
    try:
        with closing(work) as results:
            for index, values in results:
                for other, before in islice(done.items(), 1):
                    _check_alike(before, chunks[other], values, chunks[index])
                done[index] = values
                if bar is not None:
                    bar.update(len(chunks[index]))
    except KeyboardInterrupt:
        if not done:
            raise
    except WorkerDiedError as error:
        error.done = found()
        raise
    finally:
        if bar is not None:
            bar.close()
    return found()


def _seeds(seeds: range) -> str:
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {seeds[0]} to {seeds[-1]}"


def _whole(name: str, value: Any, lowest: int) -> None:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"seed_sweep: {name} must be an integer, not {type(value).__name__}")
    if value < lowest:
        raise ValueError(f"seed_sweep: {name} must be at least {lowest}, not {value}")


def _progress_bar(total: int) -> Any:
    try:
        tqdm = importlib.import_module("tqdm")
    except ImportError:
        return None
    return tqdm.tqdm(total=total, unit="net", disable=None, leave=False)


# ------------------------------------------------------------------ what a worker does

_TURN = threading.RLock()


@contextmanager
def _turn() -> Iterator[None]:
    """The default generator to oneself; afterwards it is where it was."""
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
        raise TypeError(f"seed_sweep: build must return an nn.Module, not a {type(net).__name__}")
    return net


def _trained(
    build: Build, train: Train, seeds: range, together: bool, first: int
) -> dict[str, ndarray]:
    """The results of the nets of `seeds`, each with a first axis of nets."""
    with _turn():
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
            f"seed_sweep: train must return a dict of results, not {type(results).__name__}; write "
            'return {"accuracy": accuracy}'
        )
    return {
        name: np.array(value.data if isinstance(value, Tensor) else value)
        for name, value in results.items()
    }


def _per_net(results: Any, count: int) -> dict[str, ndarray]:
    arrays = _arrays(results)
    for name, array in arrays.items():
        if array.shape[:1] != (count,):
            raise ValueError(
                f"seed_sweep: train returned {name!r} of shape {array.shape} for {count} nets; it "
                "needs a first axis of nets, so reduce over the last axes: values.mean((-2, -1))"
            )
    return arrays


def _joined(results: list[dict[str, ndarray]], seeds: range) -> dict[str, ndarray]:
    singles = [{name: array[None] for name, array in each.items()} for each in results]
    for single, seed in zip(singles, seeds, strict=True):
        _check_alike(singles[0], seeds[:1], single, range(seed, seed + 1))
    return {name: np.concatenate([each[name] for each in singles]) for name in singles[0]}


def _check_alike(
    before: dict[str, ndarray], its_seeds: range, results: dict[str, ndarray], seeds: range
) -> None:
    """ValueError unless the results of some nets can be put beside those of others."""
    forms = [{name: array.shape[1:] for name, array in each.items()} for each in (before, results)]
    if forms[0] != forms[1]:
        raise ValueError(
            f"seed_sweep: train returned results of shapes {forms[1]} for seed {seeds[0]}, but "
            f"{forms[0]} for seed {its_seeds[0]}; all nets need the same names and shapes"
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

    all_known: modules of the caller's own count as obstacles too.
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
    """One module made of many: parameters and buffers get a first axis, an entry for each.

    A copy of the first module, of the same layers. `Linear` and elementwise activations then
    compute all nets at once, each with its own weights: (batch, in), or (nets, batch, in), becomes
    (nets, batch, out).

    Raises ValueError if the modules differ in more than the values of parameters and buffers.
    Source: `torch.func.stack_module_state`.
    """
    if not modules:
        raise ValueError("stack_modules: no modules")
    tables = [_tensors(module) for module in modules]
    shown, forms = repr(modules[0]), _forms(tables[0])
    for place, (module, table) in enumerate(zip(modules, tables, strict=True)):
        if place and module is modules[0]:
            raise ValueError(
                f"stack_modules: modules 0 and {place} are one and the same; build a new one each "
                "time"
            )
        if repr(module) != shown or _forms(table) != forms:
            raise ValueError(
                f"stack_modules: modules 0 and {place} differ in more than the values of their "
                f"parameters:\n{shown}\n{module!r}"
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


# ------------------------------------------------------------------ sharing the work
