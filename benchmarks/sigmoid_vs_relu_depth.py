"""How deep can a net be and still learn XOR? Sigmoid, tanh, ReLU, Leaky ReLU and ELU, by depth.

Each extra sigmoid layer multiplies the gradient by slopes of at most 1/4, so the first layers of a
deep sigmoid net stand still and it answers 0.5 to everything. ReLU has slope 1, but units that are
0 for all four points are dead, so a ReLU net of ten narrow layers learns XOR less than every other
time: rates are shown, not one lucky seed.

The lecture's nets: 2 inputs, hidden layers 5 wide, 1 sigmoid output; weights U(-1, 1), biases 0;
mean binary cross-entropy, full batch, SGD with rate 0.1, 10,001 steps, float64; 100 seeds each, and
a seed gives every activation the same weights. "Solved" is accuracy 1.0, "stuck" accuracy 0.5 or
less, "dead" a net whose weights all have gradient 0 before the first step. Intervals are Wilson's.

    python benchmarks/sigmoid_vs_relu_depth.py --quick   # seconds
    python benchmarks/sigmoid_vs_relu_depth.py           # all depths: under a minute on two cores
    python benchmarks/sigmoid_vs_relu_depth.py --depths 10 --activations relu --inits he --widths 32
    python benchmarks/sigmoid_vs_relu_depth.py --agree   # against rates measured elsewhere
    python benchmarks/sigmoid_vs_relu_depth.py --rerun out/depth.json   # the same once more
    python benchmarks/sigmoid_vs_relu_depth.py --path out/depth.jsonl   # go on with what is there
    python benchmarks/sigmoid_vs_relu_depth.py --on dask --jobs 2       # or --on tcp://HOST:8786
    mpirun -n 3 python -m mpi4py.futures benchmarks/sigmoid_vs_relu_depth.py --on mpi

Several values of an option are all tried in combination. The picture is saved as out/depth.png
(needs matplotlib), every setting and result as out/depth.json. Ctrl-C keeps what is done. From
Python, `measure_all(recipes, executor=...)` takes any executor, a cluster's included. The figures
are the same wherever the nets are trained.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy import ndarray

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim, seed_sweep, wilson_interval
from tinygrad_kr.fingerprint import parts
from tinygrad_kr.journal import Journal
from tinygrad_kr.language import Text
from tinygrad_kr.sweep import Rate, stack_modules
from tinygrad_kr.sweep import versions as versions_of_results
from tinygrad_kr.workers import WorkerDiedError, finished

sys.path.append(str(Path(__file__).resolve().parents[1] / "examples"))
from lectures.common import (
    DEFAULT,
    OURS,
    XOR_ANSWERS,
    XOR_POINTS,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    positive,
    progress_bar,
    right,
    save,
    whole,
)

if TYPE_CHECKING:
    from concurrent.futures import Executor

AT_ONCE = 500
"""Steps between two movements of the progress bar."""
POINTS, ANSWERS = Tensor(XOR_POINTS.astype(float)), Tensor(XOR_ANSWERS.astype(float))
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
}
OPTIMIZERS: dict[str, tuple[Callable[..., optim.Optimizer], float]] = {
    "sgd": (optim.SGD, 0.1),
    "momentum": (partial(optim.SGD, momentum=0.9), 0.01),
    "rmsprop": (optim.RMSprop, 0.01),
    "adam": (optim.Adam, 0.01),
}
"""Each with the rate that it has where none is asked for."""

# ------------------------------------------------------------------ the nets


class Recipe(NamedTuple):
    """How a net is made and trained; all but the seed. The defaults are the lecture's."""

    depth: int = 10
    activation: str = "relu"
    init: str = "uniform"
    width: int = 5
    optimizer: str = "sgd"
    rate: float = 0.1
    steps: int = 10_001

    def work(self, nets: int) -> int:
        """Matrix products of a training, which its time goes with."""
        return nets * self.steps * (self.depth + 1)


def uniform(layer: nn.Linear, generator: np.random.Generator) -> None:
    nn.init.uniform_(layer.weight, -1, 1, generator)


def normal(layer: nn.Linear, generator: np.random.Generator) -> None:
    for parameter in layer.parameters():
        nn.init.normal_(parameter, generator=generator)


def xavier(layer: nn.Linear, generator: np.random.Generator) -> None:
    nn.init.xavier_uniform_(layer.weight, generator=generator)


def he(layer: nn.Linear, generator: np.random.Generator) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)


def zeros(layer: nn.Linear, generator: np.random.Generator) -> None:
    pass


INITS = {"uniform": uniform, "normal": normal, "xavier": xavier, "he": he, "zeros": zeros}
"""U(-1, 1), N(0, 1) (biases too), Glorot's uniform, He's normal, 0; biases 0 where not said."""


def build(recipe: Recipe, generator: np.random.Generator) -> nn.Sequential:
    """One net: 2 inputs, the hidden layers, the logit of the answer."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([2, *[recipe.width] * recipe.depth, 1]):
        layer = nn.Linear(inputs, outputs, dtype=np.float64, generator=generator)
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
        INITS[recipe.init](layer, generator)
        layers += [layer, ACTIVATIONS[recipe.activation]()]
    return nn.Sequential(*layers[:-1])


def train(recipe: Recipe, advance: Callable[[int], Any], nets: nn.Sequential) -> dict[str, ndarray]:
    """Full-batch training of all nets at once; what is returned has a first axis of nets.

    advance: is told of the work that was done.
    """
    # As a decorator it would be a function that cloudpickle, and so Dask, cannot send.
    with np.errstate(all="ignore"):  # a net that diverges is counted, not warned of
        return trained(recipe, advance, nets)


def trained(
    recipe: Recipe, advance: Callable[[int], Any], nets: nn.Sequential
) -> dict[str, ndarray]:
    optimizer = OPTIMIZERS[recipe.optimizer][0](nets.parameters(), lr=recipe.rate)
    answers = ANSWERS.expand_as(nets(POINTS))

    @tk.compile
    def step() -> Any:
        # The nets share no weight, so the sum of their losses gives each the gradient of its own.
        loss = F.binary_cross_entropy_with_logits(nets(POINTS), answers, reduction="sum") / 4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    norms = []
    for first, last in pairwise([0, 1, *range(AT_ONCE, recipe.steps - 1, AT_ONCE), recipe.steps]):
        step.repeat(last - first)
        if first == 0 or last == recipe.steps:
            norms.append(gradient_norms(nets))
        advance((last - first) * len(answers) * (recipe.depth + 1))
    logits = nets(POINTS).detach()
    losses = F.binary_cross_entropy_with_logits(logits, answers, reduction="none")
    return {
        "right": count_right(logits.sigmoid().numpy()),
        "loss": losses.numpy().mean((-2, -1)),
        "first_norms": norms[0],
        "last_norms": norms[-1],
    }


def count_right(outputs: ndarray) -> ndarray:
    """How many of the four points each net gets right; an output of exactly 0.5 is a no."""
    right = (outputs > 0.5) == (ANSWERS.numpy() > 0.5)
    return np.asarray(right.sum((-2, -1)))


def gradient_norms(nets: nn.Sequential) -> ndarray:
    """The length of the gradient of each layer's weights: (nets, layers)."""
    gradients = [layer.weight.grad for layer in nets if isinstance(layer, nn.Linear)]
    norms = [np.sqrt(np.square(g.numpy()).sum((-2, -1))) for g in gradients if g is not None]
    return np.stack(norms, axis=-1)


# ------------------------------------------------------------------ the sweep


class Result(NamedTuple):
    """What became of the nets of one recipe."""

    recipe: Recipe
    seeds: range
    right: ndarray
    """Of the four points, by net."""
    loss: ndarray
    """By net; infinite for one that diverged."""
    rates: dict[str, Rate]
    """Of nets that were solved, stuck, dead, diverged."""
    dead: ndarray
    """The seeds of those that were dead at the start."""
    first_norms: ndarray
    """Quartiles over the nets of the gradient's length by layer, at the first step: (3, layers)."""
    last_norms: ndarray
    seconds: float
    """Of processor time."""


def measure(
    recipe: Recipe, seeds: range, advance: Callable[[int], Any] = lambda work: None
) -> Result:
    """Train the nets of all seeds together."""
    start = processor_seconds()
    sweep = seed_sweep(
        partial(build, recipe),
        partial(train, recipe, advance),
        len(seeds),
        seed=seeds.start,
        progress=False,
    )
    arrays = {
        "right": sweep["right"],
        "loss": np.where(np.isfinite(sweep["loss"]), sweep["loss"], np.inf),
        "dead": sweep.seeds[(sweep["first_norms"] == 0).all(axis=1)],
        "first_norms": quartiles(sweep["first_norms"]),
        "last_norms": quartiles(sweep["last_norms"]),
        "seconds": np.array(processor_seconds() - start),
    }
    return result_of(recipe, seeds, arrays)


def result_of(recipe: Recipe, seeds: range, arrays: dict[str, ndarray]) -> Result:
    """The result that has these arrays, which a file keeps."""
    counts = {
        "solved": (arrays["right"] == 4).sum(),
        "stuck": (arrays["right"] <= 2).sum(),
        "dead": len(arrays["dead"]),
        "diverged": np.isinf(arrays["loss"]).sum(),
    }
    rates = {name: rate_of(int(count), len(seeds)) for name, count in counts.items()}
    seconds = float(arrays["seconds"])
    return Result(recipe, seeds, **{**arrays, "rates": rates, "seconds": seconds})  # type: ignore[arg-type]


def arrays_of(result: Result) -> dict[str, ndarray]:
    """What `result_of` makes the result of."""
    names = ("right", "loss", "dead", "first_norms", "last_norms", "seconds")
    return {name: np.asarray(getattr(result, name)) for name in names}


def rate_of(successes: int, trials: int) -> Rate:
    return Rate(successes, trials, *wilson_interval(successes, trials))


def processor_seconds() -> float:
    """Of this process and of the C compilers that it started."""
    return sum(os.times()[:4])


def quartiles(norms: ndarray) -> ndarray:
    """Over the nets that have not diverged; NaN if all have."""
    finite = norms[np.isfinite(norms).all(axis=1)]
    if not len(finite):
        return np.full((3, norms.shape[1]), np.nan)
    return np.asarray(np.quantile(finite, [0.25, 0.5, 0.75], axis=0))


def measure_all(
    recipes: Sequence[Recipe],
    seeds: range | Sequence[range] = range(100),
    jobs: int = 1,
    executor: Executor | None = None,
    show: Callable[[Result], str] | None = None,
    path: str | os.PathLike[str] | None = None,
) -> list[Result]:
    """The results of all recipes, in their order; of those that are done where Ctrl-C ends it.

    Where a worker dies, they are the `done` of the WorkerDiedError that is raised.

    seeds: of every recipe, or of each its own. jobs: processes to work in. executor: any executor
    of `concurrent.futures` (a cluster's, say) to work in their place. show: a line for each
    result, which is printed as soon as those before it are there. path: a file to which each
    result is written as it arrives; what it holds is not trained again.
    """
    each = [seeds] * len(recipes) if isinstance(seeds, range) else list(seeds)
    everything: list[tuple[Any, ...]] = list(zip(recipes, each, strict=True))
    bar = progress_bar(sum(recipe.work(len(own)) for recipe, own in everything), unit="")
    results: dict[int, Result] = {}
    shown = 0

    def arrived(index: int, result: Result) -> None:
        nonlocal shown
        results[index] = result
        while show is not None and shown in results:
            bar.write(show(results[shown]))
            shown += 1

    try:
        with kept_in(path) as journal:
            for index, call in enumerate(everything):
                if journal is not None and (arrays := journal.done.get(key_of(*call))):
                    bar.update(call[0].work(len(call[1])))
                    arrived(index, result_of(*call, arrays))
            wanted = [index for index in range(len(everything)) if index not in results]
            calls = [everything[index] for index in wanted]
            jobs = max(1, min(jobs, len(calls)))
            here = executor is None and jobs == 1
            work = finished(
                measure, [(*call, bar.update) for call in calls] if here else calls,
                executor=executor, jobs=jobs,
                name=lambda index: str(calls[index][0]),
            )  # fmt: skip
            with closing(work) as done:
                for place, result in done:
                    if journal is not None:
                        journal.add({key_of(*calls[place]): arrays_of(result)})
                    if not here:
                        bar.update(result.recipe.work(len(result.seeds)))
                    arrived(wanted[place], result)
    except (KeyboardInterrupt, WorkerDiedError) as reason:
        for index in sorted(results)[shown:] if show is not None else ():
            bar.write(show(results[index]))
        bar.write("\n" + STOPPED.say(done=len(results), all=len(recipes)))
        if isinstance(reason, WorkerDiedError):
            reason.done = [results[index] for index in sorted(results)]
            raise
    finally:
        bar.close()
    return [results[index] for index in sorted(results)]


def key_of(recipe: Recipe, seeds: range) -> tuple[Any, ...]:
    """Under which a file keeps a result."""
    return (*recipe, seeds.start, len(seeds))


@contextmanager
def kept_in(path: str | os.PathLike[str] | None) -> Iterator[Journal | None]:
    """The file of results, open; None without a path."""
    if path is None:
        yield None
        return
    with closing(Journal(path, versions_of_results() | parts("measure", measure), "depth")) as file:
        yield file


@contextmanager
def executor_on(where: str, jobs: int) -> Iterator[Executor | None]:
    """What `--on` names: Dask's workers here or at an address, the ranks of mpirun, or None."""
    if where == "processes":
        yield None
    elif where == "mpi":
        from mpi4py.futures import MPIPoolExecutor

        with MPIPoolExecutor() as executor:
            yield executor
    else:
        from distributed import Client, LocalCluster

        local = {"n_workers": jobs, "threads_per_worker": 1, "dashboard_address": ":0"}
        with (
            LocalCluster(**local) if where == "dask" else nullcontext(where) as cluster,
            Client(cluster) as client,
        ):
            yield client.get_executor()


# ------------------------------------------------------------------ tables


STOPPED = Text(
    "stopped: {done} of {all} recipes are done", "중단했습니다: 설정 {all}개 중 {done}개를 마침"
)
SOLVED, STUCK = Text("solved", "배움"), Text("stuck", "머묾")
NET, LOSS, MEDIAN = Text("net", "신경망"), Text("loss", "손실"), Text("median", "중앙값")
DEAD, DIVERGED = Text("dead", "죽음"), Text("diverged", "발산")
GRADIENT = Text("gradient of the", "기울기의 비율")
FIRST_LAST = Text("first / last layer", "첫 층 / 마지막 층")
ALL_ZERO, REFERENCE = Text("all 0", "모두 0"), Text("reference", "기준값")


def heading() -> str:
    """Above the table."""
    top = columns(NET, SOLVED, STUCK, DEAD, DIVERGED, LOSS, GRADIENT)
    return f"{top}\n{columns('', '', '', '', '', MEDIAN, FIRST_LAST)}"


def columns(*cells: Text | str) -> str:
    """The cells of a line of the table, each in its column."""
    net, solved, stuck, dead, diverged, loss, ratio = (
        cell.say() if isinstance(cell, Text) else cell for cell in cells
    )
    return (
        f"{left(net, 38)} {left(solved, 20)} {left(stuck, 20)} {right(dead, 4)}  "
        f"{right(diverged, 8)}  {right(loss, 7)}  {ratio}"
    )


def line(result: Result) -> str:
    """A result as a line of the table."""
    r, rates = result.recipe, result.rates
    net = f"{r.activation:<10} {r.depth:>2} x {r.width:<3} {r.init:<7} {r.optimizer} {r.rate:g}"
    first, last = result.first_norms[1, 0], result.first_norms[1, -1]
    vanished = f"{first / last:.1e}" if last else ALL_ZERO
    loss = float(np.median(result.loss))
    shares = (f"{rates['dead'].share:.0%}", f"{rates['diverged'].share:>8.0%}")
    shown = f"{loss:7.{'4f' if loss < 99 else '1e'}}"
    return columns(net, str(rates["solved"]), str(rates["stuck"]), *shares, shown, vanished)


def print_norms(results: Iterable[Result]) -> None:
    """The gradient's length in every layer, from the first to the last: medians."""
    for result in results:
        recipe = result.recipe
        print(f"{recipe.activation} {recipe.depth} x {recipe.width} {recipe.init}")
        for step, norms in ((FIRST, result.first_norms), (LAST, result.last_norms)):
            print(f"  {right(step.say(), 11)}  " + " ".join(f"{norm:.1e}" for norm in norms[1]))


FIRST, LAST = Text("first step", "첫 스텝"), Text("last step", "마지막 스텝")


# ------------------------------------------------------------------ files


def versions() -> dict[str, str]:
    return {
        "tinygrad_kr": tk.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


def as_record(result: Result) -> dict[str, Any]:
    """A result as JSON can hold it."""
    return {
        **result.recipe._asdict(),
        "first_seed": result.seeds.start,
        "seeds": len(result.seeds),
        **{
            name: {"share": rate.share, "wilson_95": [round(rate.low, 4), round(rate.high, 4)]}
            for name, rate in result.rates.items()
        },
        "median_loss": significant(np.median(result.loss)),
        "gradient_norm_quartiles_by_layer": {
            "first_step": significant(result.first_norms),
            "last_step": significant(result.last_norms),
        },
        "right_of_4_by_seed": result.right.tolist(),
        "dead_seeds": result.dead.tolist(),
        "loss_by_seed": significant(result.loss),
        "processor_seconds": round(result.seconds, 2),
    }


def significant(values: Any) -> Any:
    """Six digits of each number; None for NaN and infinity, which JSON does not have."""
    if np.ndim(values):
        return [significant(value) for value in values]
    return float(f"{values:.6g}") if np.isfinite(values) else None


def save_record(results: list[Result], wanted: int, path: Path, **more: Any) -> None:
    """Every setting, seed, version and result: what `--rerun` repeats."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(as_record(result)) for result in results)
    head = {"program": Path(__file__).name, "versions": versions(), **more}
    head["partial"] = len(results) < wanted
    path.write_text(json.dumps(head)[:-1] + f',\n"results": [\n{rows}\n]}}\n', encoding="utf-8")
    print(SAVED.say(path=path))


SAVED = Text("settings and results saved: {path}", "설정과 결과 저장: {path}")


def rerun(file: Path, **where: Any) -> None:
    """Train what a file describes once more, and say where the outcome is another."""
    record = json.loads(file.read_text(encoding="utf-8"))
    rows = record["results"]
    recipes = [Recipe(**{name: row[name] for name in Recipe._fields}) for row in rows]
    seeds = [range(row["first_seed"], row["first_seed"] + row["seeds"]) for row in rows]
    for name, version in versions().items():
        if record["versions"][name] != version:
            print(OTHER_VERSION.say(name=name, here=version, there=record["versions"][name]))
    print(heading())
    results = measure_all(recipes, seeds, show=line, **where)
    same = 0
    for result, row in zip(results, rows, strict=False):
        old, new = np.array(row["right_of_4_by_seed"]), result.right
        same += bool((old == new).all())
        if (old != new).any():
            found = {"different": (old != new).sum(), "all": len(new), "recipe": result.recipe}
            print(OTHERWISE.say(**found))
    print("\n" + AS_BEFORE.say(same=same, all=len(results), path=file))


OTHER_VERSION = Text(
    "note: {name} {here} here, {there} in the file",
    "참고: {name}, 여기는 {here}, 파일에는 {there}",
)
OTHERWISE = Text(
    "{different} of {all} nets ended otherwise: {recipe}",
    "신경망 {all}개 중 {different}개가 다르게 끝났습니다: {recipe}",
)
AS_BEFORE = Text(
    "{same} of {all} recipes: every seed ended as in {path}",
    "설정 {all}개 중 {same}개: 모든 시드가 파일과 같게 끝났습니다. {path}",
)


# ------------------------------------------------------------------ the picture

LOOKS = {
    "sigmoid": ("#D55E00", "s"),
    "tanh": ("#CC79A7", "v"),
    "relu": ("#0072B2", "o"),
    "leaky_relu": ("#56B4E9", "D"),
    "elu": ("#009E73", "^"),
}
NAMES = {"relu": "ReLU", "leaky_relu": "Leaky ReLU", "elu": "ELU"}


def save_picture(results: list[Result], path: Path) -> None:
    """Solved nets against depth, and the gradient against the layer; a row for each kind of net."""
    kinds = list(dict.fromkeys(kind_of(result.recipe) for result in results))
    figure = new_figure(9, 3.9 * len(kinds) + 0.4)
    if figure is None:
        return
    rows = figure.subplots(len(kinds), 2, squeeze=False)
    for kind, (solved, gradient) in zip(kinds, rows, strict=True):
        mine = [result for result in results if kind_of(result.recipe) == kind]
        draw_solved(solved, mine)
        draw_gradients(gradient, at_one_depth(mine))
    handles = [
        gradient.plot([], [], color=colour, marker=marker, label=label(NAMES.get(name, name)))[0]
        for name, (colour, marker) in LOOKS.items()
        if any(result.recipe.activation == name for result in results)
    ]
    handles += gradient.plot([], [], color="0.3", label=label(FIRST))
    handles += gradient.plot([], [], color="0.3", linestyle=":", label=label(LAST))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    save(figure, path)


def kind_of(recipe: Recipe) -> Recipe:
    """The recipe without what the picture itself tells apart."""
    return recipe._replace(depth=0, activation="")


def describe(result: Result) -> str:
    """What all nets of a row of panels share."""
    recipe = result.recipe
    start = {"uniform": "U(-1, 1)", "normal": "N(0, 1)", "zeros": label(ZEROS)}
    return label(
        SHARED,
        width=recipe.width,
        init=start.get(recipe.init, recipe.init.capitalize()),
        optimizer=f"{recipe.optimizer} {recipe.rate:g}",
        steps=recipe.steps,
    )


ZEROS = Text("zeros", "0에서 출발")
SHARED = Text(
    "{width} wide, {init}, {optimizer}, {steps:,} steps",
    "폭 {width}, {init}, {optimizer}, {steps:,}스텝",
)
WHO = Text("Who learns XOR? {nets}", "누가 XOR를 배우는가? {nets}")
HIDDEN = Text("hidden layers", "은닉층의 수")
LEARNED = Text("nets that learned XOR, %", "XOR를 배운 신경망, %")
LAYER = Text("layer (the last is the output)", "층 (마지막은 출력층)")
LENGTH = Text("length of the gradient", "기울기의 크기")
OF_WEIGHTS = Text(
    "Gradient of the weights, {depth} hidden layers", "가중치의 기울기, 은닉층 {depth}개"
)
NOWHERE = Text("exactly 0 in every layer", "모든 층에서 정확히 0")


def at_one_depth(results: list[Result]) -> list[Result]:
    """The results for the lecture's ten hidden layers, or the most there are."""
    depths = {result.recipe.depth for result in results}
    depth = 10 if 10 in depths else max(depths)
    return [result for result in results if result.recipe.depth == depth]


def draw_solved(axes: Any, results: list[Result]) -> None:
    """A line and the band of its 95% intervals for each activation."""
    for activation in dict.fromkeys(result.recipe.activation for result in results):
        mine = [result for result in results if result.recipe.activation == activation]
        depths = [result.recipe.depth for result in mine]
        low, high, share = (
            [100 * getattr(result.rates["solved"], bound) for result in mine]
            for bound in ("low", "high", "share")
        )
        colour, marker = LOOKS[activation]
        axes.fill_between(depths, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(depths, share, marker=marker, color=colour, markersize=4.5)
    axes.set(xlabel=label(HIDDEN), ylabel=label(LEARNED), ylim=(-3, 103))
    axes.set_title(label(WHO, nets=describe(results[0])), fontsize=9.5)
    finish(axes)


def draw_gradients(axes: Any, results: list[Result]) -> None:
    """Medians by layer; where a median is 0, most nets being dead, there is no point to draw."""
    for result in results:
        colour, marker = LOOKS[result.recipe.activation]
        first, last = (
            np.where(n[1] > 0, n[1], np.nan) for n in (result.first_norms, result.last_norms)
        )
        layers = range(1, len(first) + 1)
        axes.plot(layers, first, marker=marker, color=colour, markersize=4.5)
        axes.plot(layers, last, ":", color=colour)
    if not any(result.first_norms[1].any() for result in results):
        axes.text(0.5, 0.5, label(NOWHERE), transform=axes.transAxes, ha="center")
        axes.set(xlim=(0.5, results[0].recipe.depth + 1.5), ylim=(1e-9, 1))
    axes.set(xlabel=label(LAYER), ylabel=label(LENGTH), yscale="log")
    axes.set_title(label(OF_WEIGHTS, depth=results[0].recipe.depth), fontsize=9.5)
    finish(axes)


def finish(axes: Any) -> None:
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)


# ------------------------------------------------------------------ agreement


class Reference(NamedTuple):
    """Shares of 1.0 and of 0.5 or less that hand-written NumPy, without this package, gave."""

    name: str
    recipe: Recipe
    solved: float
    stuck: float
    nets: int = 100


LECTURE = Recipe()
REFERENCES = [
    Reference("sigmoid", LECTURE._replace(activation="sigmoid"), 0.00, 0.97),
    Reference("sigmoid, 9 hidden", LECTURE._replace(activation="sigmoid", depth=9), 0.00, 0.95),
    Reference("ReLU", LECTURE, 0.43, 0.45),
    Reference("ReLU, 9 hidden", LECTURE._replace(depth=9), 0.51, 0.40),
    Reference("ReLU, rate 0.01", LECTURE._replace(rate=0.01), 0.73, 0.19),
    Reference("ReLU, He", LECTURE._replace(init="he"), 0.44, 0.35),
    Reference("ReLU, Xavier", LECTURE._replace(init="xavier"), 0.35, 0.57),
    Reference("Leaky ReLU", LECTURE._replace(activation="leaky_relu"), 0.66, 0.13),
    Reference("Leaky ReLU, He", LECTURE._replace(activation="leaky_relu", init="he"), 0.68, 0.12),
    Reference("ReLU, 32 wide, He", LECTURE._replace(width=32, init="he"), 1.00, 0.00, 40),
    Reference("tanh, Xavier", LECTURE._replace(activation="tanh", init="xavier"), 1.00, 0.00),
    Reference(
        "sigmoid, Adam 0.01",
        LECTURE._replace(activation="sigmoid", optimizer="adam", rate=0.01), 0.45, 0.00,
    ),
    Reference("ReLU, zeros", LECTURE._replace(init="zeros"), 0.00, 1.00),
    Reference("2-2-1 sigmoid, zeros", Recipe(1, "sigmoid", "zeros", 2), 0.00, 1.00),
    Reference("2-2-1 sigmoid, N(0, 1)", Recipe(1, "sigmoid", "normal", 2), 0.70, 0.26),
    Reference("2-10-10-10-1 sigmoid, N(0, 1)", Recipe(3, "sigmoid", "normal", 10), 1.00, 0.00),
    Reference(
        "2-2-1 sigmoid, N(0, 1), Adam 0.01", Recipe(1, "sigmoid", "normal", 2, "adam", 0.01),
        0.57, 0.18,
    ),
    Reference("one sigmoid unit", Recipe(0, "sigmoid"), 0.00, 1.00),
]  # fmt: skip
"""The table "What really happens with XOR" of the lectures' checklist, ten hidden layers of 5,
U(-1, 1) and SGD 0.1 where not said."""


def agrees(ours: Rate, share: float, trials: int) -> bool:
    """Whether two samples can have one probability: the two-proportion test at 99%."""
    pooled = (ours.successes + share * trials) / (ours.trials + trials)
    error = (pooled * (1 - pooled) * (1 / ours.trials + 1 / trials)) ** 0.5
    return bool(abs(ours.share - share) <= Z_99 * error)


Z_99 = 2.5758
"""A normal variable lies this many standard deviations from its mean, or less, in 99%."""


def agree(references: Sequence[Reference], seeds: range, **where: Any) -> tuple[list[Result], bool]:
    """Train every reference's recipe and print ours beside it; the results and whether all agree.

    where: as for `measure_all`.
    Where the reference had fewer nets, so have we: 40 of 100.
    """
    print(f"{'':<33} {left(SOLVED.say(), 32)} {left(STUCK.say(), 32)}")
    pair = f"{left(OURS.say(), 18)} {left(REFERENCE.say(), 13)} "
    print(f"{'':<33} " + pair * 2)
    each = [seeds[: len(seeds) * reference.nets // 100] for reference in references]
    by_recipe = {reference.recipe: reference for reference in references}
    verdicts = []

    def compared(result: Result) -> str:
        reference = by_recipe[result.recipe]
        text = f"{left(said(reference.name), 33)} "
        for outcome in ("solved", "stuck"):
            ours, share = result.rates[outcome], getattr(reference, outcome)
            verdicts.append(agrees(ours, share, reference.nets))
            differs = "" if verdicts[-1] else DIFFERS.say()
            text += f"{left(ours, 18)} {share:>4.0%} {left(differs, 9)}"
        return text.rstrip()

    recipes = [reference.recipe for reference in references]
    results = measure_all(recipes, each, show=compared, **where)
    return results, all(verdicts) and len(results) == len(recipes)


DIFFERS = Text("differs", "다름")
WORDS = (
    Text("one sigmoid unit", "시그모이드 유닛 하나"),
    Text("zeros", "0에서 출발"),
    Text("median loss", "손실의 중앙값"),
    Text("first/last mean |gradient|, median", "첫/마지막 층의 평균 |기울기|, 중앙값"),
    Text("from 0, nets with any gradient at step 0", "0에서 출발, 첫 스텝에 기울기가 있는 신경망"),
    Text("dead of", "죽은 비율, 전체"),
)


def said(name: str) -> str:
    """The name of a net or a figure in the language of the program."""
    return in_words(name, WORDS)


class Note(NamedTuple):
    """A figure of the reference beside ours, and the 99% interval that ours leaves for it."""

    name: str
    reference: float
    ours: float
    low: float
    high: float

    @property
    def agrees(self) -> bool:
        return self.low <= self.reference <= self.high

    def __str__(self) -> str:
        ours = RANGE.say(ours=self.ours, low=self.low, high=self.high)
        differs = f"   {DIFFERS.say()}" * (not self.agrees)
        return f"{left(said(self.name), 57)} {left(ours, 38)} {self.reference:g}{differs}"


RANGE = Text("{ours:.4g} ({low:.4g} to {high:.4g})", "{ours:.4g} ({low:.4g}에서 {high:.4g})")


def notes_on_the_start(draws: int = 2_000) -> list[Note]:
    """What the reference says of nets that have not been trained, from as many draws as there."""
    dead = np.mean(start_gradients(LECTURE, draws).max(axis=1) == 0)
    error = Z_99 * (2 * dead * (1 - dead) / draws) ** 0.5
    found = [Note(f"ReLU, dead of {draws:,}", 0.15, dead, dead - error, dead + error)]
    for depth, reference in ((10, 7.6e-7), (9, 2.6e-6)):
        sizes = start_gradients(LECTURE._replace(activation="sigmoid", depth=depth), draws)
        # The reference is a median of 100 nets: 99% of such medians lie between these quantiles.
        half = Z_99 * 0.5 / 100**0.5
        low, ours, high = np.quantile(sizes[:, 0] / sizes[:, -1], [0.5 - half, 0.5, 0.5 + half])
        found.append(
            Note(f"sigmoid {depth}, first/last mean |gradient|, median", reference, ours, low, high)
        )
    return found


def start_gradients(recipe: Recipe, draws: int) -> ndarray:
    """The mean |gradient| of each layer's weights before the first step: (nets, layers)."""
    nets = stack_modules([build(recipe, np.random.default_rng(k)) for k in range(draws)])
    logits = nets(POINTS)
    answers = ANSWERS.expand_as(logits)
    F.binary_cross_entropy_with_logits(logits, answers, reduction="sum").backward()
    layers = [layer for layer in nets.modules() if isinstance(layer, nn.Linear)]
    sizes = [np.abs(np.asarray(layer.weight.grad)).mean((-2, -1)) / 4 for layer in layers]
    return np.stack(sizes, axis=-1)


def notes_on_the_end(results: Iterable[Result]) -> list[Note]:
    """The loss of those that learn nothing, log 2, and zero weights that never move."""
    found = []
    for result in results:
        recipe, loss = result.recipe, float(np.median(result.loss))
        if recipe in (LECTURE._replace(activation="sigmoid"), Recipe(0, "sigmoid")):
            name = f"sigmoid, {recipe.depth} hidden, median loss"
            found.append(Note(name, 0.6931, loss, loss - 5e-5, loss + 5e-5))
        if recipe.init == "zeros":
            name = f"{recipe.activation} {recipe.depth} from 0, nets with any gradient at step 0"
            moved = 1 - result.rates["dead"].share
            found.append(Note(name, 0.0, moved, moved, moved))
    return found


# ------------------------------------------------------------------ the command


FULL = {"depths": [*range(1, 11), 12, 14, 16, 18, 20], "seeds": 100, "steps": 10_001}
QUICK = {"depths": [1, 2, 3, 5, 10], "seeds": 20, "steps": 4_001}


KOREAN = """
얼마나 깊은 신경망까지 XOR를 배우는가? 시그모이드, tanh, ReLU, Leaky ReLU, ELU를 깊이별로.

시그모이드 층이 하나 늘 때마다 기울기에 1/4 이하의 미분이 곱해지므로, 깊은 시그모이드 신경망의 첫
층들은 제자리에 머물고 신경망은 무엇을 물어도 0.5라고 답합니다. ReLU의 미분은 1이지만 네 점 모두에
0을 내는 유닛은 죽은 것이어서, 좁은 층 열 개인 ReLU 신경망이 XOR를 배우는 비율은 절반이 안 됩니다.
그래서 운 좋은 시드 하나가 아니라 비율을 보여 줍니다.

강의의 신경망: 입력 2개, 폭 5인 은닉층, 시그모이드 출력 1개. 가중치 U(-1, 1), 편향 0. 이진 교차
엔트로피의 평균, 스텝마다 네 점 모두, SGD 학습률 0.1, 10,001스텝, float64. 시드 100개씩이고, 같은
시드는 모든 활성화 함수에 같은 가중치를 줍니다. "배움"은 정확도 1.0, "머묾"은 정확도 0.5 이하,
"죽음"은 첫 스텝 전에 모든 가중치의 기울기가 0인 신경망입니다. 구간은 윌슨 구간입니다.

    python benchmarks/sigmoid_vs_relu_depth.py --quick   # 몇 초
    python benchmarks/sigmoid_vs_relu_depth.py           # 모든 깊이: 코어 두 개로 1분 이내
    python benchmarks/sigmoid_vs_relu_depth.py --depths 10 --activations relu --inits he --widths 32
    python benchmarks/sigmoid_vs_relu_depth.py --agree   # 다른 곳에서 잰 비율과 비교
    python benchmarks/sigmoid_vs_relu_depth.py --rerun out/depth.json   # 같은 것을 한 번 더
    python benchmarks/sigmoid_vs_relu_depth.py --path out/depth.jsonl   # 파일에 있는 데서 이어서
    python benchmarks/sigmoid_vs_relu_depth.py --on dask --jobs 2       # 또는 --on tcp://HOST:8786
    mpirun -n 3 python -m mpi4py.futures benchmarks/sigmoid_vs_relu_depth.py --on mpi

한 옵션에 값을 여럿 주면 모든 조합을 해 봅니다. 그림은 out/depth.png에(matplotlib 필요), 모든 설정과
결과는 out/depth.json에 저장합니다. Ctrl-C를 눌러도 끝난 것은 남습니다. 파이썬에서는
`measure_all(recipes, executor=...)`에 클러스터를 포함한 어떤 실행기든 줄 수 있습니다. 어디서
학습하든 숫자는 같습니다.
"""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = options(__doc__, KOREAN, argv, out="out")
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help=Text(
            "fewer depths (1 2 3 5 10), seeds and steps", "깊이(1 2 3 5 10), 시드, 스텝을 줄입니다"
        ).say(),
    )
    add(
        "--agree",
        action="store_true",
        help=Text(
            "the recipes of a reference table instead", "기준 표의 설정으로 실행합니다"
        ).say(),
    )
    add(
        "--rerun",
        type=Path,
        metavar="JSON",
        help=Text(
            "what a saved file describes instead", "저장된 파일에 적힌 그대로 다시 실행합니다"
        ).say(),
    )
    add(
        "--depths",
        type=whole(0),
        nargs="+",
        help=Text(
            "hidden layers (default: 1 to 10, 12 to 20)",
            "은닉층의 수 (기본값: 1부터 10까지와 12부터 20까지)",
        ).say(),
    )
    add("--activations", choices=ACTIVATIONS, nargs="+", default=list(ACTIVATIONS))
    add("--inits", choices=INITS, nargs="+", default=["uniform"])
    add("--widths", type=whole(1), nargs="+", default=[5], help=DEFAULT.say(default=5))
    add("--optimizers", choices=OPTIMIZERS, nargs="+", default=["sgd"])
    add(
        "--rates",
        type=positive,
        nargs="+",
        help=Text(
            "default: 0.1 for sgd, 0.01 for the others", "학습률 (기본값: sgd는 0.1, 나머지는 0.01)"
        ).say(),
    )
    add(
        "--seeds",
        type=whole(1),
        help=Text(
            "nets of each recipe (default: 100; quick: 20)",
            "설정마다 신경망의 수 (기본값: 100, --quick: 20)",
        ).say(),
    )
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text("the first of them (default: 0)", "첫 시드 (기본값: 0)").say(),
    )
    add(
        "--steps",
        type=whole(1),
        help=Text(
            "default: 10001; quick: 4001", "학습 스텝 수 (기본값: 10001, --quick: 4001)"
        ).say(),
    )
    add(
        "--jobs",
        type=whole(1),
        default=os.cpu_count() or 1,
        help=Text("processes (default: cores)", "프로세스의 수 (기본값: 코어의 수)").say(),
    )
    add(
        "--on",
        default="processes",
        metavar="WHERE",
        help=Text(
            "processes (the default), mpi, dask, or the address of Dask's scheduler",
            "processes(기본값), mpi, dask 또는 Dask 스케줄러의 주소",
        ).say(),
    )
    add(
        "--path",
        type=Path,
        metavar="JSONL",
        help=Text(
            "a file to which results are written as they arrive, and from which a run resumes",
            "결과를 나오는 대로 적는 파일. 있으면 거기서 이어서 합니다",
        ).say(),
    )
    args = parser.parse_args(argv)
    if args.on not in ("processes", "mpi", "dask") and "://" not in args.on:
        parser.error(f"--on: expected processes, mpi, dask or tcp://HOST:PORT, got {args.on}")
    if args.rerun and not args.rerun.is_file():
        parser.error(f"--rerun: there is no file {args.rerun}")
    for option, value in (QUICK if args.quick else FULL).items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    return args


def recipes_of(args: argparse.Namespace) -> list[Recipe]:
    """Every combination of what the options name."""
    return [
        Recipe(depth, activation, init, width, optimizer, rate, args.steps)
        for init, width, optimizer in product(args.inits, args.widths, args.optimizers)
        for rate in args.rates or [OPTIMIZERS[optimizer][1]]
        for activation in args.activations
        for depth in sorted(set(args.depths))
    ]


def compare(seeds: range, args: argparse.Namespace, where: dict[str, Any]) -> None:
    """The mode --agree."""
    results, agreement = agree(REFERENCES, seeds, **where)
    notes = notes_on_the_start() + notes_on_the_end(results)
    print(f"\n{'':<57} {left(WHERE.say(), 38)} {REFERENCE.say()}")
    print(*notes, sep="\n")
    agreement = agreement and all(note.agrees for note in notes)
    print("\n" + WITHIN.say(answer=(YES if agreement else NO).say()))
    save_record(
        results, len(REFERENCES), args.out / "depth_agree.json", agreement=agreement,
        references={r.name: [r.solved, r.stuck, r.nets] for r in REFERENCES},
        notes=[note._asdict() for note in notes],
    )  # fmt: skip


WHERE = Text("ours, and where a sample may lie", "우리 값과 표본이 놓일 수 있는 범위")
WITHIN = Text(
    "all within the 99% interval of the two samples: {answer}",
    "모두 두 표본의 99% 구간 안에 있는가: {answer}",
)
YES, NO = Text("yes", "예"), Text("NO", "아니요")
BEGUN = Text(
    "XOR, {seeds} seeds, {steps:,} steps; intervals of 95%",
    "XOR, 시드 {seeds}개, {steps:,}스텝. 95% 구간",
)
TRAINED = Text(
    "{nets:,} nets trained in {elapsed} s ({processor} s of processor time)",
    "신경망 {nets:,}개를 {elapsed}초에 학습 (프로세서 시간 {processor}초)",
)
NORMS = Text(
    "length of the gradient of each layer's weights, first layer first (medians)",
    "층별 가중치의 기울기 크기, 첫 층부터 (중앙값)",
)
FEWER = Text(
    "These are fewer steps than the lecture's 10,001: sigmoid nets with 2 or 3 hidden\n"
    "layers are still on their way; deeper ones are stuck with 10,001 steps as well.",
    "강의의 10,001스텝보다 적습니다. 은닉층이 2개나 3개인 시그모이드 신경망은 아직 배우는\n"
    "중이고, 더 깊은 것은 10,001스텝 뒤에도 그대로 머뭅니다.",
)


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    with executor_on(args.on, args.jobs) as executor:
        run(args, {"jobs": args.jobs, "executor": executor, "path": args.path})


def run(args: argparse.Namespace, where: dict[str, Any]) -> None:
    seeds = range(args.seed, args.seed + args.seeds)
    if args.rerun:
        rerun(args.rerun, **where)
        return
    start = time.perf_counter()
    if args.agree:
        compare(seeds, args, where)
        return
    recipes = recipes_of(args)
    print(f"{BEGUN.say(seeds=args.seeds, steps=args.steps)}\n\n{heading()}")
    failure = None
    try:
        results = measure_all(recipes, seeds, show=line, **where)
    except WorkerDiedError as error:
        results, failure = error.done, str(error)
    seconds = {
        "elapsed_seconds": round(time.perf_counter() - start, 1),
        "processor_seconds": round(sum(result.seconds for result in results), 1),
    }
    elapsed, processor = seconds.values()
    nets = len(results) * args.seeds
    print("\n" + TRAINED.say(nets=nets, elapsed=elapsed, processor=processor))
    if not results:
        raise SystemExit(failure)
    print("\n" + NORMS.say())
    print_norms(at_one_depth(results))
    if args.steps < FULL["steps"]:
        print(FEWER.say())
    save_record(results, len(recipes), args.out / "depth.json", **seconds)
    save_picture(results, args.out / "depth.png")
    if failure:
        raise SystemExit(failure)


if __name__ == "__main__":
    launch(main)
