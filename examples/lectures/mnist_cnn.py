"""Labs 11-1, 11-2 and 11-5: convolutions on MNIST, one net, a deeper one, and several that vote.

The lecture: a net that looks at small windows needs no luck. Two 3x3 convolutions reach 0.9885 of
the 10,000 test images, three with dropout and a dense layer 0.9938, and several such nets, their
logits summed, 0.9952 (members 0.9933 to 0.9949; the lab's program trains 2, its log shows 7).

What really happens: 11-1 as the lab's file has it, filters from N(0, 0.01^2), is not done after
15 epochs (0.9874 and 0.9871, two seeds; cost 0.015, the lab's log says 0.009). Filters from
Xavier's rule are (0.9911; cost 0.008), so 11-1 starts by it here and "11-1-normal" is the file's.
Lab 11-2, from N(0, 0.01^2) as in its file, keeps pace with the lab: 0.9934, 0.9946, 0.9933. Two of
its nets together reach 0.9947, three 0.9951. Lab 11-5's file says "rate 0.7", which drops 0.7; here
all nets keep 0.7.

    python examples/lectures/mnist_cnn.py                      # lab 11-1, about 5 minutes
    python examples/lectures/mnist_cnn.py --lab 11-2 --seed 3  # one deep net, about 11 minutes
    python examples/lectures/mnist_cnn.py --lab 11-5           # trains the members still missing
    python examples/lectures/mnist_cnn.py --show               # tables and picture of what is saved

The labs' recipe: convolutions without biases, dense weights Xavier uniform, dense biases N(0, 1),
Adam 0.001, batches of 100, 15 epochs over 55,000 images, dropout that KEEPS 0.7 (that is, rate
0.3). Each net is kept after every epoch in out/lectures/mnist_cnn, so Ctrl-C loses at most one
epoch and the same command goes on from there; results go to benchmarks/results.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    BLUE,
    GREEN,
    ORANGE,
    RESULTS,
    in_words,
    label,
    launch,
    left,
    made_with,
    new_figure,
    options,
    progress_bar,
    read_json,
    right,
    save,
    whole,
    write_json,
)
from numpy.typing import NDArray

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn, no_grad, optim
from tinygrad_kr.files import replacing
from tinygrad_kr.language import Text
from tinygrad_kr.random import default_generator

OUT = Path("out/lectures")
PUBLISHED = {"11-1": 0.9885, "11-1-normal": 0.9885, "11-2": 0.9938, "11-5": 0.9952}
AMBER, GREY = "#E69F00", "#666666"


class Recipe(NamedTuple):
    """What a lab trains; everything else is common to all."""

    filters: tuple[int, ...]  # 3x3 convolutions, each followed by ReLU and 2x2 pooling
    dense: int  # units of a hidden layer after them, 0 for none
    keep: float  # the share that dropout keeps, after each pooling and after the hidden layer
    start: str = "normal"  # of the filters: N(0, 0.01^2), or "xavier", Glorot's uniform
    epochs: int = 15
    batch: int = 100
    rate: float = 0.001
    train_images: int = 55_000
    test_images: int = 10_000


RECIPES = {
    "11-1-normal": Recipe(filters=(32, 64), dense=0, keep=1.0),
    "11-1": Recipe(filters=(32, 64), dense=0, keep=1.0, start="xavier"),
    "11-2": Recipe(filters=(32, 64, 128), dense=625, keep=0.7),
}
RECIPES["11-5"] = RECIPES["11-2"]
MEMBERS = 3

Images = NDArray[np.float32]
Labels = NDArray[np.int64]


class Digits(NamedTuple):
    """Images (N, 1, 28, 28) from 0 to 1 with their labels, to learn from and to be tested on."""

    images: Images
    labels: Labels
    test_images: Images
    test_labels: Labels


def load(recipe: Recipe) -> Digits:
    images, labels = data.mnist("train")
    test_images, test_labels = data.mnist("test")
    n, m = recipe.train_images, recipe.test_images
    return Digits(images[:n, None], labels[:n], test_images[:m, None], test_labels[:m])


def make_net(recipe: Recipe) -> nn.Sequential:
    """Images (N, 1, 28, 28) to logits (N, 10); the sides go 28, 14, 7, 4."""
    layers: list[nn.Module] = []
    channels, side = 1, 28
    for filters in recipe.filters:
        convolution = nn.Conv2d(channels, filters, 3, padding="same", bias=False)
        if recipe.start == "xavier":
            nn.init.xavier_uniform_(convolution.weight)
        else:
            nn.init.normal_(convolution.weight, std=0.01)
        # ReLU of the largest is the largest ReLU, and here it works on a quarter of the numbers.
        layers += [convolution, nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()]
        layers += dropout(recipe)
        channels, side = filters, (side + 1) // 2
    layers.append(nn.Flatten())
    inputs = channels * side * side
    if recipe.dense:
        layers += [dense(inputs, recipe.dense), nn.ReLU(), *dropout(recipe)]
    return nn.Sequential(*layers, dense(recipe.dense or inputs, 10))


def dropout(recipe: Recipe) -> list[nn.Module]:
    return [nn.Dropout(keep=recipe.keep)] if recipe.keep < 1 else []


def dense(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    weight, bias = layer.parameters()
    nn.init.xavier_uniform_(weight)
    nn.init.normal_(bias)
    return layer


class Epoch(NamedTuple):
    """Mean cost while training, accuracy on the test images after it, and what it took.

    seconds: on the clock; processor: of all cores together, which neighbours do not lengthen.
    """

    cost: float
    accuracy: float
    seconds: float
    processor: float


class Run:
    """A net, its optimizer and how far they have come: what a checkpoint holds."""

    def __init__(self, recipe: Recipe, seed: int) -> None:
        tk.manual_seed(seed)
        self.net = make_net(recipe)
        self.optimizer = optim.Adam(self.net.parameters(), lr=recipe.rate)
        self.history: list[Epoch] = []

    def save(self, path: Path) -> None:
        """Arrays and JSON in one file, whole or not at all; nothing in it is ever unpickled."""
        state = self.optimizer.state_dict()
        arrays: dict[str, Any] = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        for index, entries in state["state"].items():
            arrays |= {f"adam.{index}.{k}": np.array(v) for k, v in entries.items()}
        about = {
            "param_groups": state["param_groups"],
            "history": self.history,
            "generator": default_generator().bit_generator.state,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            np.savez(stream, about=np.array(json.dumps(about)), **arrays)

    def load(self, path: Path) -> None:
        """Go on exactly where `save` was: the same batches and the same dropout follow."""
        with np.load(path, allow_pickle=False) as file:
            about = json.loads(str(file["about"]))
            state: dict[str, dict[str, Any]] = {}
            for key in file.files:
                if key.startswith("adam."):
                    _, index, name = key.split(".")
                    state.setdefault(index, {})[name] = file[key]
            net = {key.removeprefix("net."): file[key] for key in file.files if key[:4] == "net."}
        self.net.load_state_dict(net)
        self.optimizer.load_state_dict({"state": state, "param_groups": about["param_groups"]})
        self.history = [Epoch(*epoch) for epoch in about["history"]]
        default_generator().bit_generator.state = about["generator"]


def train(run: Run, recipe: Recipe, digits: Digits, path: Path, name: str) -> None:
    """Adam on shuffled batches, epoch by epoch, from wherever the run is; saved after each."""
    loader = data.DataLoader((digits.images, digits.labels), recipe.batch, shuffle=True)
    bar = progress_bar(
        recipe.epochs * len(loader), in_words(name, WORDS), len(run.history) * len(loader)
    )
    try:
        while len(run.history) < recipe.epochs:
            start, began, total, seen = time.perf_counter(), time.process_time(), 0.0, 0
            run.net.train()
            for images, labels in loader:
                loss = F.cross_entropy(run.net(images), labels)
                run.optimizer.zero_grad()
                loss.backward()
                run.optimizer.step()
                total += loss.item() * len(labels)
                seen += len(labels)
                bar.set_postfix_str(f"cost {total / seen:.4f}", refresh=False)
                bar.update()
            accuracy = share_right(logits_of(run.net, digits.test_images), digits.test_labels)
            seconds = time.perf_counter() - start
            processor = time.process_time() - began
            run.history.append(Epoch(total / seen, accuracy, seconds, processor))
            run.save(path)
            place = f"{name}, epoch {len(run.history):>2}/{recipe.epochs}"
            bar.write(f"{place}: cost {total / seen:.5f}, test {accuracy:.4f}, {seconds:.1f} s")
    finally:
        bar.close()


def logits_of(net: nn.Sequential, images: Images, batch: int = 200) -> Images:
    """The logits (N, 10), in batches so that memory stays small, without dropout."""
    net.eval()
    with no_grad():
        parts = [net(Tensor(images[i : i + batch])).numpy() for i in range(0, len(images), batch)]
    return np.concatenate(parts)


def share_right(logits: Images, labels: Labels) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


# ------------------------------------------------------------------ labs


def run(
    lab: str = "11-1",
    seed: int = 0,
    *,
    members: int = MEMBERS,
    out: Path = OUT,
    results: Path = RESULTS,
    fresh: bool = False,
    **changes: Any,
) -> dict[str, float]:
    """Train what is not trained yet, write the result, and return its figures.

    lab: "11-1", "11-1-normal", "11-2", or "11-5", which sums the logits of `members` nets of lab
        11-2 with the seeds seed, seed + 1, ...
    fresh: begin anew instead of going on from a checkpoint in `out`/mnist_cnn.
    changes: other values for fields of `Recipe`: `keep=0.5`, `epochs=20`.

    Raises DatasetNotFoundError where MNIST is not to be had, ValueError for another lab.
    """
    if lab not in RECIPES:
        raise ValueError(f"the labs here are {', '.join(RECIPES)}, not {lab!r}")
    recipe = RECIPES[lab]._replace(**changes)
    digits = load(recipe)
    if lab == "11-5":
        result = ensemble(seed, members, recipe, digits, out, results, fresh)
    else:
        result = member(lab, seed, recipe, digits, out, results, fresh)[0]
    figures: dict[str, float] = result["figures"]
    return figures


def member(
    lab: str, seed: int, recipe: Recipe, digits: Digits, out: Path, results: Path, fresh: bool
) -> tuple[dict[str, Any], Images]:
    """One trained net's result, which is also written, and its logits on the test images."""
    name = name_of(lab, seed, recipe)
    path = (
        out / "mnist_cnn" / f"{name_of(lab, seed, recipe._replace(epochs=RECIPES[lab].epochs))}.npz"
    )
    trained = Run(recipe, seed)
    if path.exists() and not fresh:
        trained.load(path)
    if len(trained.history) < recipe.epochs:
        train(trained, recipe, digits, path, f"lab {lab}, seed {seed}")
    logits = logits_of(trained.net, digits.test_images)
    figures = {f"lab {lab} accuracy": share_right(logits, digits.test_labels)}
    result = described(lab, seed, recipe, figures)
    result["seconds"] = round(sum(epoch.seconds for epoch in trained.history), 3)
    result["processor seconds"] = round(sum(epoch.processor for epoch in trained.history), 3)
    result["cost by epoch"] = [epoch.cost for epoch in trained.history]
    result["test accuracy by epoch"] = [epoch.accuracy for epoch in trained.history]
    result["mistakes (image, said, label)"] = mistakes(logits, digits.test_labels)
    filters = trained.net.get_parameter("0.weight").detach().numpy()
    result["first filters"] = np.round(filters.astype(float), 4).reshape(-1, 9).tolist()
    write_json(results / f"{name}.json", result)
    return result, logits


def ensemble(
    seed: int,
    members: int,
    recipe: Recipe,
    digits: Digits,
    out: Path,
    results: Path,
    fresh: bool,
) -> dict[str, Any]:
    """Nets of lab 11-2 that differ only in their seed; the logits of all are summed."""
    seeds = range(seed, seed + members)
    trained = [member("11-2", s, recipe, digits, out, results, fresh) for s in seeds]
    sums = np.cumsum([logits for _, logits in trained], axis=0)
    together = [share_right(logits, digits.test_labels) for logits in sums]
    alone = [one["figures"]["lab 11-2 accuracy"] for one, _ in trained]
    figures = {
        "lab 11-5 accuracy": together[-1],
        "lab 11-5 member mean": float(np.mean(alone)),
        "lab 11-5 member lowest": min(alone),
        "lab 11-5 member highest": max(alone),
    }
    result = described("11-5", seed, recipe, figures)
    for clock in ("seconds", "processor seconds"):
        result[clock] = round(sum(one[clock] for one, _ in trained), 3)
    result["member seeds"] = list(seeds)
    result["members alone"] = alone
    result["first 1, 2, ... members together"] = together
    result["mistakes (image, said, label)"] = mistakes(sums[-1], digits.test_labels)
    write_json(results / f"{name_of('11-5', seed, recipe)}.json", result)
    return result


def mistakes(logits: Images, labels: Labels) -> list[list[int]]:
    said = logits.argmax(axis=1)
    return [[int(i), int(said[i]), int(labels[i])] for i in np.flatnonzero(said != labels)]


# ------------------------------------------------------------------ results


def name_of(lab: str, seed: int, recipe: Recipe) -> str:
    """mnist_11-2_seed3; what differs from the lab's recipe is part of the name."""
    usual = RECIPES[lab]._asdict()
    changed = [f"_{k}{v}" for k, v in recipe._asdict().items() if v != usual[k]]
    return f"mnist_{lab}{''.join(changed)}_seed{seed}".replace(" ", "")


def described(lab: str, seed: int, recipe: Recipe, figures: dict[str, float]) -> dict[str, Any]:
    return {
        "lab": lab,
        "seed": seed,
        "published": PUBLISHED[lab],
        "figures": figures,
        "settings": {**recipe._asdict(), "dropout": f"keeps {recipe.keep:g} of the units"},
    } | made_with()


def saved(lab: str, seed: int = 0, results: Path = RESULTS) -> dict[str, Any] | None:
    """What `run` wrote for a lab's own recipe: figures, settings, versions; None before that."""
    return read_json(results / f"{name_of(lab, seed, RECIPES[lab])}.json") or None


def all_saved(lab: str, results: Path = RESULTS) -> list[dict[str, Any]]:
    """The results of all seeds of a lab's own recipe, in the order of the seeds."""
    found = [read_json(file) for file in results.glob(f"mnist_{lab}_seed*.json")]
    return sorted(found, key=lambda result: result["seed"])


WORDS = (Text("seed", "시드"),)


def print_table(results: Path = RESULTS) -> None:
    columns = (Text("seed", "시드"), Text("published", "공개된 값"), Text("ours", "우리 값"),
               Text("minutes of processor", "프로세서 시간(분)"))  # fmt: skip
    shown = (right(text.say(), width) for text, width in zip(columns, (6, 11, 9, 22), strict=True))
    print("\n" + left(in_words("lab"), 13) + "".join(shown))
    for lab in RECIPES:
        for result in all_saved(lab, results):
            ours, minutes = (
                result["figures"][f"lab {lab} accuracy"],
                result["processor seconds"] / 60,
            )
            row = f"{lab:<13}{result['seed']:>6}{result['published']:>11}{ours:>9.4f}"
            print(f"{row}{minutes:>22.1f}")
            if lab == "11-5":
                together = [f"{x:.4f}" for x in result["first 1, 2, ... members together"]]
                line = Text(
                    "1, 2, ... nets that vote: {shares}", "신경망 1, 2, ...개의 투표: {shares}"
                )
                print(" " * 13 + line.say(shares=", ".join(together)))


# ------------------------------------------------------------------ picture


def save_picture(path: Path, results: Path = RESULTS) -> None:
    """Errors by epoch, what voting gains, the first filters, and the digits that stay wrong."""
    figure = new_figure(8, 7.4)
    if figure is None:
        return
    parts = figure.subfigures(3, 1, height_ratios=[4, 1.6, 2.4])
    if all_saved("11-5", results):
        curves, votes = parts[0].subplots(1, 2, width_ratios=[3, 2], sharey=True)
        draw_votes(votes, results)
    else:
        curves = parts[0].subplots()
    draw_errors(curves, results)
    draw_filters(parts[1], results)
    draw_mistakes(parts[2], results)
    save(figure, path)


def draw_errors(axes: Any, results: Path) -> None:
    two = Text("11-1, two convolutions", "11-1, 합성곱 둘")
    three = Text("11-2, three, dropout", "11-2, 합성곱 셋, 드롭아웃")
    for lab, what, colour in (("11-1-normal", f"{label(two)}, N(0, 0.01^2)", AMBER),
                              ("11-1", f"{label(two)}, Xavier", ORANGE),
                              ("11-2", label(three), BLUE)):  # fmt: skip
        for place, result in enumerate(all_saved(lab, results)):
            errors = [100 * (1 - x) for x in result["test accuracy by epoch"]]
            name = what if place == 0 else None
            axes.plot(range(1, len(errors) + 1), errors, color=colour, alpha=0.8, label=name)
        axes.axhline(100 * (1 - PUBLISHED[lab]), color=colour, linestyle=":", linewidth=1)
    axes.plot([], [], ":", color=GREY, label=label(Text("published", "공개된 값")))
    axes.set(
        xlabel=label(Text("epoch", "에포크")),
        ylabel=label(Text("test images wrong, %", "틀린 테스트 이미지, %")),
        yscale="log",
        title=label(Text("while learning", "학습하는 동안")),
    )
    axes.set_yticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def draw_votes(axes: Any, results: Path) -> None:
    axes.set(
        xlabel=label(Text("nets whose logits are summed", "로짓을 더한 신경망의 수")),
        title=label(Text("11-5, deep nets that vote", "11-5, 투표하는 깊은 신경망")),
    )
    axes.axhline(100 * (1 - PUBLISHED["11-5"]), color=GREEN, linestyle=":", linewidth=1)
    for result in all_saved("11-5", results):
        alone = [100 * (1 - x) for x in result["members alone"]]
        together = [100 * (1 - x) for x in result["first 1, 2, ... members together"]]
        counts = range(1, len(together) + 1)
        axes.plot(counts, together, "s-", color=GREEN, label=label(Text("together", "함께")))
        places = 1 + 0.12 * (np.arange(len(alone)) - (len(alone) - 1) / 2)  # side by side
        axes.plot(
            places,
            alone,
            "o",
            color=BLUE,
            mec="white",
            zorder=3,
            label=label(Text("each net alone", "저마다 혼자")),
        )
        axes.set_xticks(counts)
        axes.set_xlim(0.6, len(together) + 0.4)
        axes.legend(fontsize=8)
    axes.grid(alpha=0.3)


def draw_filters(figure: Any, results: Path) -> None:
    """The 3x3 weights of lab 11-1's first convolution, each on its own scale."""
    title = Text(
        "the 32 first filters of lab 11-1: purple adds, orange subtracts",
        "실습 11-1의 첫 층 필터 32개: 보라는 더하고 주황은 뺀다",
    )
    figure.suptitle(label(title), fontsize=10)
    grid = figure.subplots(2, 16)
    for axes in grid.flat:
        axes.set_axis_off()
    for result in all_saved("11-1", results)[:1]:
        for axes, weights in zip(grid.flat, result["first filters"], strict=False):
            largest = max(map(abs, weights))
            axes.imshow(np.reshape(weights, (3, 3)), cmap="PuOr", vmin=-largest, vmax=largest)


def draw_mistakes(figure: Any, results: Path) -> None:
    """Test images that the best there is gets wrong: the ensemble, or else the net of 11-1."""
    found = all_saved("11-5", results) or all_saved("11-2", results) or all_saved("11-1", results)
    if not found:
        return
    wrong = found[0]["mistakes (image, said, label)"]
    lab, total = found[0]["lab"], found[0]["settings"]["test_images"]
    title = Text(
        "lab {lab} gets {wrong} of {total:,} test images wrong; what it says of 20 of them",
        "실습 {lab}: 테스트 이미지 {total:,}장 중 {wrong}장을 틀린다. 그 가운데 20장과 신경망의 답",
    )
    figure.suptitle(label(title, lab=lab, wrong=len(wrong), total=total), fontsize=10)
    images = data.mnist("test")[0]
    grid = figure.subplots(2, 10)
    for axes in grid.flat:
        axes.set_axis_off()
    mistake = Text("{said}, not {truth}", "{said} (정답 {truth})")
    for axes, (place, said, truth) in zip(
        grid.flat, wrong[:: max(1, len(wrong) // 20)], strict=False
    ):
        axes.imshow(images[place], cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        text = label(mistake, said=said, truth=truth)
        axes.set_title(text, fontsize=8, color=ORANGE)


# ------------------------------------------------------------------ command line


OF_ENSEMBLE = Text("of the ensemble (default: {default})", "앙상블의 신경망 수 (기본값: {default})")
KOREAN = """
실습 11-1, 11-2, 11-5: MNIST의 합성곱 신경망 하나, 더 깊은 것 하나, 그리고 투표하는 여럿.

강의: 작은 창으로 들여다보는 신경망에는 운이 필요 없습니다. 3x3 합성곱 두 개가 테스트 이미지
10,000장의 0.9885를, 세 개에 드롭아웃과 완전 연결 층을 더한 것이 0.9938을, 그런 신경망 여럿의
로짓을 더한 것이 0.9952를 맞힙니다(하나씩은 0.9933에서 0.9949. 실습의 프로그램은 2개를 학습하고
기록에는 7개가 있습니다).

실제로는: 실습 파일대로 필터를 N(0, 0.01^2)에서 시작한 11-1은 15 에포크 뒤에도 끝나지
않았습니다(시드 두 개에서 0.9874와 0.9871, 비용 0.015. 실습의 기록은 0.009). Xavier 방식으로
초기화하면 끝납니다(0.9911, 비용 0.008). 그래서 여기의 11-1은 Xavier로 시작하고 "11-1-normal"이
파일 그대로입니다. 파일대로 N(0, 0.01^2)에서 시작한 11-2는 실습에 뒤지지 않습니다. 0.9934, 0.9946,
0.9933. 둘을 합치면 0.9947, 셋이면 0.9951입니다. 실습 11-5의 파일에는 0.7을 버리는 "rate 0.7"이
적혀 있지만, 여기서는 모두 0.7을 남깁니다.

    python examples/lectures/mnist_cnn.py                      # 실습 11-1, 약 5분
    python examples/lectures/mnist_cnn.py --lab 11-2 --seed 3  # 깊은 신경망 하나, 약 11분
    python examples/lectures/mnist_cnn.py --lab 11-5           # 아직 없는 신경망을 학습
    python examples/lectures/mnist_cnn.py --show               # 저장된 것의 표와 그림

실습의 설정: 편향 없는 합성곱, 완전 연결 층의 가중치는 Xavier 균등 분포, 편향은 N(0, 1), Adam
0.001, 배치 100, 이미지 55,000장으로 15 에포크, 0.7을 남기는 드롭아웃(비율 0.3). 신경망은
에포크마다 out/lectures/mnist_cnn에 저장하므로 Ctrl-C를 눌러도 잃는 것은 한 에포크이고, 같은
명령으로 거기서부터 이어 갑니다. 결과는 benchmarks/results에 저장합니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add("--lab", choices=list(RECIPES), default="11-1")
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text(
            "of start, shuffling and dropout (default: 0)",
            "초깃값, 섞기, 드롭아웃의 시드 (기본값: 0)",
        ).say(),
    )
    add("--members", type=whole(1), default=MEMBERS, help=OF_ENSEMBLE.say(default=MEMBERS))
    add(
        "--epochs",
        type=whole(1),
        help=Text(
            "default: 15; more go on from a net that is kept",
            "에포크 수 (기본값: 15). 더 많으면 저장된 신경망에서 이어 갑니다",
        ).say(),
    )
    add(
        "--keep",
        type=float,
        help=Text(
            "the share of units that dropout keeps (default: the lab's)",
            "드롭아웃이 남기는 유닛의 비율 (기본값: 실습의 값)",
        ).say(),
    )
    add(
        "--drop",
        type=float,
        help=Text("the share that it drops, 1 - keep", "드롭아웃이 버리는 비율, 1 - keep").say(),
    )
    add(
        "--fresh",
        action="store_true",
        help=Text("begin anew, whatever is kept", "저장된 것이 있어도 처음부터 다시 합니다").say(),
    )
    add(
        "--show",
        action="store_true",
        help=Text(
            "train nothing: table and picture of what is saved",
            "학습하지 않고 저장된 것의 표와 그림만",
        ).say(),
    )
    add(
        "--results",
        type=Path,
        default=RESULTS,
        help=Text(
            "folder for results (default: the project's)",
            "결과를 저장할 폴더 (기본값: 프로젝트의 폴더)",
        ).say(),
    )
    args = parser.parse_args(argv)
    try:
        if not args.show:
            train_and_tell(args)
        print_table(args.results)
        save_picture(args.out / "mnist_cnn.png", args.results)
    except (ValueError, data.DatasetNotFoundError, data.IdxError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        line = Text(
            "\nstopped; the same command goes on after the last epoch that is done",
            "\n중단했습니다. 같은 명령이 마지막으로 끝난 에포크 다음부터 이어 갑니다",
        )
        sys.exit(line.say())


def train_and_tell(args: argparse.Namespace) -> None:
    changes = {k: v for k, v in (("epochs", args.epochs), ("keep", args.keep)) if v is not None}
    if args.drop is not None:
        if args.keep is not None:
            raise ValueError("give --keep, the share kept, or --drop, the share dropped, not both")
        changes["keep"] = 1 - args.drop
    figures = run(args.lab, args.seed, members=args.members, out=args.out, results=args.results,
                  fresh=args.fresh, **changes)  # fmt: skip
    for name, value in figures.items():
        print(f"{left(in_words(name), 26)}{value:.4f}")
    print(f"{left(Text('published', '공개된 값').say(), 26)}{PUBLISHED[args.lab]}")


if __name__ == "__main__":
    launch(main)
