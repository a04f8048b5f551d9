"""Labs 07-4 to 10-6: the steps up from softmax regression on MNIST, one line apart.

The lecture climbs: one layer 0.92 of the test images, two hidden layers of ReLU 0.9455, the same
net started by Xavier's rule 0.9783, deeper and wider 0.9742 ("overfitting"), with dropout 0.9804,
and a small net with batch norm 0.9737 instead of 0.9513. Beside it the accident of the notes:
softmax in place of ReLU, "about 85%".

What really happens, over seeds (a mean without a range is of three):
- 10-1 from N(0, 1), as the lab's file has it, ends at 0.897; 0.9194 needs a small start (0.926).
- 10-4 ends at 0.9816, within 0.001 of dropout's 0.9826. On the way it wobbles between 0.9736 and
  0.9828 (epochs 6 to 15), so the lecture's 0.9742 says where one run stopped, not "overfitting".
- Softmax as hidden activation ends between 0.84 and 0.92. The outputs of a layer sum to 1, and one
  unit takes nearly all: 1.9 units an image at the start, 1.1 at the end. So the net is a table of
  64 to 97 kinds of images, its logits are means and nearly equal at first, and the first weights
  get a gradient of norm 0.02 where ReLU gives 300. Digits are learned one by one. If 15 epochs are
  over before the last one is, which mostly is 9, it is wrong: that is what "about 85%" is.
  With --epochs 30 the two lowest seeds (4 and 6) reach 0.9216 and 0.9235.

    python examples/lectures/mnist_ladder.py                    # every lab, about 4 minutes
    python examples/lectures/mnist_ladder.py --lab 10-3         # one of them, 15 seconds
    python examples/lectures/mnist_ladder.py --lab 10-5 --drop 0.4 --seed 7   # or --keep 0.6
    python examples/lectures/mnist_ladder.py --show             # table and picture of what is saved

One recipe, of which each lab changes a line: Adam 0.001, batches of 100, 15 epochs over 55,000
images, biases N(0, 1). Results go to benchmarks/results/mnist_ladder.json.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    BLUE,
    EPOCHS,
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
    rounded,
    save,
    whole,
    with_run,
    write_json,
)
from numpy.typing import NDArray

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn, no_grad, optim
from tinygrad_kr.language import Text

TABLE = RESULTS / "mnist_ladder.json"
OUT = Path("out/lectures")


class Recipe(NamedTuple):
    """What a lab trains. The defaults are common to the labs; each lab names what it changes."""

    what: str
    published: float
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    weights: str = "xavier"  # "normal" is N(0, 1), "xavier" is Glorot's uniform
    biases: str = "normal"  # N(0, 1), or "zeros"
    batch_norm: bool = False  # before each activation
    keep: float = 1.0  # the share of hidden units that dropout KEEPS: keep 0.7 is rate 0.3
    optimizer: str = "adam"
    rate: float = 0.001
    batch: int = 100
    epochs: int = 15
    train_images: int = 55_000


DEEP = (512, 512, 512, 512)
WORDS = (
    Text("softmax regression", "소프트맥스 회귀"),
    Text("small start", "작은 초깃값"),
    Text("softmax hidden", "은닉층에 소프트맥스"),
    Text("five layers", "다섯 층"),
    Text("512 wide", "폭 512"),
    Text("dropout keeps 0.7", "드롭아웃으로 0.7을 남김"),
    Text("no batch norm", "배치 정규화 없음"),
    Text("batch norm", "배치 정규화"),
    Text("two convolutions", "합성곱 둘"),
    Text("three convolutions", "합성곱 셋"),
    Text("dropout", "드롭아웃"),
    Text("deep CNN", "깊은 CNN"),
    Text("ensemble of deep CNNs", "깊은 CNN 앙상블"),
    Text("seed", "시드"),
    Text("final cost", "마지막 비용"),
)
SMALL = Recipe("", 0, hidden=(32, 32), biases="zeros", rate=0.01, batch=32, epochs=10)
RECIPES = {
    "7-4": Recipe("softmax regression, SGD", 0.8951, weights="normal", optimizer="sgd", rate=0.1),
    "10-1-normal": Recipe("softmax regression, N(0, 1)", 0.9194, weights="normal"),
    "10-1": Recipe("softmax regression, small start", 0.9194),
    "10-2-softmax": Recipe("softmax hidden, N(0, 1)", 0.85, (256, 256), "softmax", "normal"),
    "10-2": Recipe("256-256 ReLU, N(0, 1)", 0.9455, (256, 256), weights="normal"),
    "10-3": Recipe("256-256 ReLU, Xavier", 0.9783, (256, 256)),
    "10-4": Recipe("five layers, 512 wide", 0.9742, DEEP),
    "10-5": Recipe("five layers, dropout keeps 0.7", 0.9804, DEEP, keep=0.7),
    "10-6-none": SMALL._replace(what="32-32, no batch norm", published=0.9513),
    "10-6": SMALL._replace(what="32-32, batch norm", published=0.9737, batch_norm=True),
}  # fmt: skip
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "softmax": partial(nn.Softmax, dim=1),
}
START: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": nn.init.normal_,
    "xavier": nn.init.xavier_uniform_,
    "zeros": nn.init.zeros_,
}
OPTIMIZERS = {"adam": optim.Adam, "sgd": optim.SGD}

Array = NDArray[Any]


class Digits(NamedTuple):
    """Images (N, 784) from 0 to 1 with their labels, to learn from and to be tested on."""

    images: Array
    labels: Array
    test_images: Array
    test_labels: Array


def load(train_images: int) -> Digits:
    """The first `train_images` of MNIST's 60,000 (the labs leave the last 5,000 out)."""
    images, labels = data.mnist("train")
    test_images, test_labels = data.mnist("test")
    rows = images[:train_images].reshape(-1, 784)
    return Digits(rows, labels[:train_images], test_images.reshape(-1, 784), test_labels)


def make_net(recipe: Recipe) -> nn.Sequential:
    """Images (N, 784) to logits (N, 10)."""
    sizes = (784, *recipe.hidden)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers.append(linear(inputs, outputs, recipe))
        if recipe.batch_norm:  # TensorFlow's settings: running averages keep 0.99 of themselves
            layers.append(nn.BatchNorm1d(outputs, eps=1e-3, momentum=0.01))
        layers.append(ACTIVATIONS[recipe.activation]())
        if recipe.keep < 1:
            layers.append(nn.Dropout(keep=recipe.keep))
    return nn.Sequential(*layers, linear(sizes[-1], 10, recipe))


def linear(inputs: int, outputs: int, recipe: Recipe) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    weight, bias = layer.parameters()
    START[recipe.weights](weight)
    START[recipe.biases](bias)
    return layer


class Epoch(NamedTuple):
    """Mean cost while training; after it the share of the test images right, all and by digit."""

    cost: float
    accuracy: float
    by_digit: list[float]


def train(net: nn.Sequential, recipe: Recipe, digits: Digits, name: str) -> list[Epoch]:
    """Mean cross-entropy on shuffled batches, and after every epoch the test images."""
    loader = data.DataLoader((digits.images, digits.labels), recipe.batch, shuffle=True)
    optimizer = OPTIMIZERS[recipe.optimizer](net.parameters(), lr=recipe.rate)
    history: list[Epoch] = []
    bar = progress_bar(recipe.epochs * len(loader), in_words(name, WORDS))
    try:
        while len(history) < recipe.epochs:
            total, seen = 0.0, 0
            net.train()
            for images, labels in loader:
                loss = F.cross_entropy(net(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(labels)
                seen += len(labels)
                bar.set_postfix_str(f"cost {total / seen:.4f}", refresh=False)
                bar.update()
            right = outputs_of(net, digits.test_images).argmax(axis=1) == digits.test_labels
            by_digit = [float(right[digits.test_labels == digit].mean()) for digit in range(10)]
            history.append(Epoch(total / seen, float(right.mean()), by_digit))
    finally:
        bar.close()
    return history


def outputs_of(net: nn.Module, images: Array, batch: int = 1000) -> Array:
    """What a net makes of images, in eval mode and in batches, so that memory stays small."""
    net.eval()
    with no_grad():
        parts = [net(Tensor(images[i : i + batch])).numpy() for i in range(0, len(images), batch)]
    return np.concatenate(parts)


# ------------------------------------------------------------------ why softmax hides digits


def first_gradient_norm(net: nn.Sequential, digits: Digits) -> float:
    """The norm of the cost's gradient by the first weights, over 1,000 training images."""
    net.eval()
    F.cross_entropy(net(Tensor(digits.images[:1000])), digits.labels[:1000]).backward()
    gradient = next(net.parameters()).grad
    assert gradient is not None
    net.zero_grad()
    return float(np.linalg.norm(gradient.numpy()))


def shares(net: nn.Sequential, digits: Digits) -> dict[str, float]:
    """How a layer whose outputs sum to 1 spends them, for each of two softmax layers.

    units an image: exp of the mean entropy, so 1 where one unit takes all, 256 where all are equal.
    units that ever win: how many have the largest share for at least one test image.
    """
    figures = {}
    for layer, end in ((1, 2), (2, 4)):
        share = outputs_of(net[:end], digits.test_images)
        entropy = -(share * np.log(np.maximum(share, 1e-30))).sum(axis=1)
        figures[f"layer {layer} units an image"] = float(np.exp(entropy.mean()))
        winners = np.unique(share.argmax(axis=1))
        figures[f"layer {layer} units that ever win"] = float(len(winners))
    return figures


# ------------------------------------------------------------------ labs


class Result(NamedTuple):
    """What a lab gave: its figures, its epochs, and processor seconds, all cores together."""

    figures: dict[str, float]
    history: list[Epoch]
    seconds: float


def run_lab(lab: str, seed: int, recipe: Recipe) -> Result:
    digits = load(recipe.train_images)
    tk.manual_seed(seed)
    net = make_net(recipe)
    found = {"first gradient norm at the start": first_gradient_norm(net, digits)}
    sums_to_one = recipe.activation == "softmax"
    if sums_to_one:
        found |= {f"{name}, start": value for name, value in shares(net, digits).items()}
    began = time.process_time()
    history = train(net, recipe, digits, f"lab {lab}, seed {seed}")
    seconds = time.process_time() - began
    if sums_to_one:
        found |= {f"{name}, end": value for name, value in shares(net, digits).items()}
        found["digits right less than half of the time"] = float(
            sum(share < 0.5 for share in history[-1].by_digit)
        )
    found = {"accuracy": history[-1].accuracy, "cost": history[-1].cost, **found}
    return Result({f"lab {lab} {name}": v for name, v in found.items()}, history, seconds)


def run(lab: str = "10-3", seed: int = 0, **changes: Any) -> dict[str, float]:
    """Train a lab's net and return its figures, among them "lab 10-3 accuracy".

    lab: a key of `RECIPES` ("07-4" is "7-4"). changes: other values for fields of `Recipe`, such
        as `epochs=5`; `drop=0.3` is the other spelling of `keep=0.7`.

    Raises DatasetNotFoundError where MNIST is not to be had, ValueError for another lab.
    """
    lab, recipe = recipe_of(lab, **changes)
    return run_lab(lab, seed, recipe).figures


def recipe_of(lab: str, **changes: Any) -> tuple[str, Recipe]:
    lab = lab.removeprefix("0")
    if lab not in RECIPES:
        raise ValueError(f"the labs here are {', '.join(RECIPES)}, not {lab!r}")
    if "drop" in changes:
        if "keep" in changes:
            raise ValueError("give keep, the share kept, or drop, the share dropped, not both")
        changes["keep"] = 1 - changes.pop("drop")
    return lab, RECIPES[lab]._replace(**changes)


# ------------------------------------------------------------------ results


def write(lab: str, seed: int, result: Result, path: Path = TABLE) -> None:
    """Put one run beside those that are saved already, with its settings and versions."""
    everything = read_json(path)
    recipe = RECIPES[lab]
    entry = everything.setdefault(lab, {"runs": {}})
    entry |= {"published": recipe.published, "settings": recipe._asdict()}
    kept: dict[str, Any] = {
        "figures": {name: rounded(value) for name, value in result.figures.items()},
        "processor seconds": rounded(result.seconds),
        "cost by epoch": [rounded(epoch.cost) for epoch in result.history],
        "accuracy by epoch": [epoch.accuracy for epoch in result.history],
    }
    if recipe.activation == "softmax":
        kept["accuracy by epoch and digit"] = [
            [round(share, 3) for share in epoch.by_digit] for epoch in result.history
        ]
    entry["runs"] = with_run(entry["runs"], seed, kept | made_with())
    write_json(path, everything)


def saved(lab: str, seed: int = 0, path: Path = TABLE) -> dict[str, Any] | None:
    """One saved run: figures, seconds, settings, versions; None where there is none."""
    lab, _ = recipe_of(lab)
    entry = read_json(path).get(lab, {"runs": {}})
    if str(seed) not in entry["runs"]:
        return None
    common = {"published": entry["published"], "settings": entry["settings"]}
    return {"lab": lab, "seed": seed, **common, **entry["runs"][str(seed)]}


def accuracies(lab: str, path: Path = TABLE) -> list[float]:
    """The test accuracy of every saved seed."""
    runs = read_json(path).get(lab, {"runs": {}})["runs"].values()
    return [run["figures"][f"lab {lab} accuracy"] for run in runs]


def print_table(path: Path = TABLE) -> None:
    what, seeds = Text("what", "신경망").say(), Text("over seeds", "시드에 따라").say()
    published, own = Text("published", "공개된 값").say(), Text("ours", "우리 값").say()
    names = f"{left(in_words('lab'), 13)}{left(what, 34)}"
    print(f"\n{names}{right(published, 9)}{right(own, 8)}   {seeds}")
    several = Text("{low:.4f} to {high:.4f} ({count})", "{low:.4f}에서 {high:.4f} ({count}개)")
    for lab, recipe in RECIPES.items():
        if found := accuracies(lab, path):
            known = {"low": min(found), "high": max(found), "count": len(found)}
            spread = several.say(**known) if found[1:] else ""
            mean = sum(found) / len(found)
            what = left(in_words(recipe.what, WORDS), 34)
            print(f"{lab:<13}{what}{recipe.published:>9}{mean:>8.4f}   {spread}")
    print(NOTES.say())


NOTES = Text(
    """
10-1          from N(0, 1) softmax regression is not done after 15 epochs; a small start is
10-2-softmax  digits are learned one by one; one that is still to come is wrong, and costs 0.08
10-4, 10-5    one run stopped in a dip looks like overfitting; over seeds dropout gains 0.001
10-5          dropout keeps 0.7, which the second series of labs writes as rate 0.3
""",
    """
10-1          N(0, 1)에서는 소프트맥스 회귀가 15 에포크 안에 끝나지 않고, 작은 초깃값에서는 끝난다
10-2-softmax  숫자를 하나씩 차례로 배운다. 아직 차례가 오지 않은 숫자는 틀리고, 0.08을 잃는다
10-4, 10-5    내려간 순간에 멈춘 한 번은 과적합처럼 보인다. 시드를 바꾸면 드롭아웃의 이득은 0.001
10-5          드롭아웃은 0.7을 남긴다. 둘째 실습에서는 지우는 비율 0.3으로 적는다
""",
)


# ------------------------------------------------------------------ picture


def save_picture(path: Path, results: Path = TABLE) -> None:
    """Test errors by lab, ours beside the published one; and what softmax makes of the digits."""
    figure = new_figure(8, 6.6)
    if figure is None:
        return
    top, bottom = figure.subfigures(2, 1, height_ratios=[3, 2])
    draw_ladder(top.subplots(), results)
    draw_digits(bottom, results)
    save(figure, path)


DOTS = Text(
    "ours, one dot a seed (right: mean accuracy)", "우리 값, 시드마다 점 하나 (오른쪽: 평균 정확도)"
)


def draw_ladder(axes: Any, results: Path) -> None:
    """A row for each lab: a dot for each seed, a diamond where the lecture published its own."""
    rows = [(lab, recipe.what, recipe.published) for lab, recipe in RECIPES.items()]
    found = {lab: accuracies(lab, results) for lab in RECIPES}
    for lab, what in CNN_LABS.items():
        files = [read_json(file) for file in cnn_files(lab, results.parent)]
        found[lab] = [file["figures"][f"lab {lab} accuracy"] for file in files]
        rows.append((lab, what, files[0]["published"] if files else 0))
    rows = [row for row in rows if found[row[0]]]
    for place, (lab, _, published) in enumerate(rows):
        errors = [100 * (1 - accuracy) for accuracy in found[lab]]
        axes.plot(errors, [place] * len(errors), "o", color=BLUE, markersize=5, alpha=0.7)
        axes.plot(100 * (1 - published), place, "D", color=ORANGE, markersize=7, fillstyle="none")
        best = 100 * (1 - sum(found[lab]) / len(found[lab]))
        axes.annotate(f"{100 - best:.1f}%", (1.01, place), xycoords=("axes fraction", "data"),
                      va="center", fontsize=8)  # fmt: skip
    axes.plot([], [], "o", color=BLUE, label=label(DOTS))
    axes.plot(
        [], [], "D", color=ORANGE, fillstyle="none", label=label(Text("published", "공개된 값"))
    )
    axes.legend(loc="upper left", fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{label(what, WORDS)}   {lab.split('-n')[0].split('-s')[0]}"
                                       for lab, what, _ in rows], fontsize=8)  # fmt: skip
    axes.invert_yaxis()
    axes.set(
        xscale="log",
        xlabel=label(Text("test images wrong, % (log scale)", "틀린 테스트 이미지, % (로그 눈금)")),
        title=label(Text("MNIST, lab by lab", "MNIST, 실습별로")),
    )
    axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


CNN_LABS = {
    "11-1-normal": "CNN, N(0, 0.01^2)",
    "11-1": "CNN, Xavier",
    "11-2": "deep CNN",
    "11-5": "ensemble of deep CNNs",
}


def cnn_files(lab: str, folder: Path) -> list[Path]:
    """The results of examples/lectures/mnist_cnn.py with the labs' own settings."""
    return sorted(folder.glob(f"mnist_{lab}_seed*.json"))


def draw_digits(figure: Any, results: Path) -> None:
    """For the luckiest and the unluckiest seed of 10-2-softmax, when each digit is learned."""
    runs = read_json(results).get("10-2-softmax", {"runs": {}})["runs"]
    ordered = sorted(runs.items(), key=lambda item: item[1]["accuracy by epoch"][-1])
    title = Text(
        "softmax as hidden activation: whole digits wait for their turn",
        "은닉층에 소프트맥스를 쓰면 숫자가 차례를 기다린다",
    )
    figure.suptitle(label(title), fontsize=10)
    if not ordered:
        return
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (seed, run) in zip(panels, (ordered[-1], ordered[0]), strict=True):
        table = np.array(run["accuracy by epoch and digit"]).T
        image = axes.imshow(table, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        epochs = table.shape[1]
        axes.set_xticks(range(0, epochs, 2), range(1, epochs + 1, 2))
        text = Text("seed {seed}: {share:.3f}", "시드 {seed}: {share:.3f}")
        title = label(text, seed=seed, share=run["accuracy by epoch"][-1])
        axes.set(xlabel=label(Text("epoch", "에포크")), title=title)
    panels[0].set(ylabel=label(Text("digit", "숫자")), yticks=range(10))
    figure.colorbar(image, ax=panels, label=label(Text("share right", "맞힌 비율")))


# ------------------------------------------------------------------ command line


WHICH = Text("all, or one of {labs}", "all 또는 다음 중 하나: {labs}")
KOREAN = """
실습 07-4에서 10-6까지: MNIST 소프트맥스 회귀에서 한 줄씩 올라가는 계단.

강의의 계단: 한 층은 테스트 이미지의 0.92, ReLU 은닉층 두 개는 0.9455, 같은 신경망을 Xavier
방식으로 초기화하면 0.9783, 더 깊고 넓으면 0.9742("과적합"), 드롭아웃을 더하면 0.9804, 작은
신경망은 배치 정규화로 0.9513에서 0.9737. 그리고 노트의 실수, ReLU 자리에 소프트맥스를 쓰면 "약
85%".

실제로는, 시드 여럿에서 (범위가 없는 평균은 시드 세 개):
- 실습 파일대로 N(0, 1)에서 시작한 10-1은 0.897로 끝납니다. 0.9194에는 작은 초깃값이
  필요합니다(0.926).
- 10-4는 0.9816으로 끝나고 드롭아웃의 0.9826과 0.001도 차이가 나지 않습니다. 도중에 0.9736과
  0.9828 사이를 오르내리므로(에포크 6에서 15), 강의의 0.9742는 과적합이 아니라 한 번의 실행이 멈춘
  자리입니다.
- 은닉층의 활성화 함수가 소프트맥스이면 0.84에서 0.92 사이로 끝납니다. 한 층의 출력은 더해서 1인데
  유닛 하나가 거의 다 가집니다. 이미지마다 처음에는 유닛 1.9개, 끝에는 1.1개입니다. 그래서
  신경망은 이미지를 64에서 97가지로 나눈 표와 같고, 로짓은 평균이어서 처음에는 거의 같으며, 첫
  층의 가중치가 받는 기울기의 노름은 ReLU의 300과 달리 0.02입니다. 숫자를 하나씩 차례로 배우고, 15
  에포크가 끝날 때까지 차례가 오지 않은 숫자(대개 9)는 틀립니다. 그것이 "약 85%"입니다. --epochs
  30이면 가장 낮은 두 시드(4와 6)도 0.9216과 0.9235가 됩니다.

    python examples/lectures/mnist_ladder.py                    # 모든 실습, 약 4분
    python examples/lectures/mnist_ladder.py --lab 10-3         # 하나만, 15초
    python examples/lectures/mnist_ladder.py --lab 10-5 --drop 0.4 --seed 7   # 또는 --keep 0.6
    python examples/lectures/mnist_ladder.py --show             # 저장된 것의 표와 그림

설정은 하나이고 실습마다 한 줄씩 바꿉니다. Adam 0.001, 배치 100, 이미지 55,000장으로 15 에포크,
편향 N(0, 1). 결과는 benchmarks/results/mnist_ladder.json에 저장합니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add("--lab", default="all", help=WHICH.say(labs=", ".join(RECIPES)))
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text(
            "of start, shuffling and dropout (default: 0)",
            "초깃값, 섞기, 드롭아웃의 시드 (기본값: 0)",
        ).say(),
    )
    add(
        "--seeds",
        type=whole(1),
        default=1,
        help=Text(
            "how many seeds from there on (default: 1)", "거기서부터 시드 몇 개 (기본값: 1)"
        ).say(),
    )
    add(
        "--epochs",
        type=whole(1),
        help=EPOCHS.say(),
    )
    add(
        "--keep",
        type=float,
        help=Text(
            "the share of hidden units that dropout keeps", "드롭아웃이 남기는 은닉 유닛의 비율"
        ).say(),
    )
    add(
        "--drop",
        type=float,
        help=Text("the share that it drops, 1 - keep", "드롭아웃이 버리는 비율, 1 - keep").say(),
    )
    add(
        "--show",
        action="store_true",
        help=Text(
            "train nothing: table and picture of what is saved",
            "학습하지 않고 저장된 것의 표와 그림만",
        ).say(),
    )
    args = parser.parse_args(argv)
    changes = {
        name: getattr(args, name)
        for name in ("epochs", "keep", "drop")
        if getattr(args, name) is not None
    }
    labs = list(RECIPES) if args.lab == "all" else [args.lab]
    try:
        if not args.show:
            for lab in labs:
                for seed in range(args.seed, args.seed + args.seeds):
                    train_and_tell(lab, seed, changes)
    except (ValueError, data.DatasetNotFoundError, data.IdxError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        line = Text(
            "\nstopped; the labs that were done are kept",
            "\n중단했습니다. 끝난 실습은 저장되어 있습니다",
        )
        print(line.say())
    print_table()
    save_picture(args.out / "mnist_ladder.png")


def train_and_tell(lab: str, seed: int, changes: dict[str, Any]) -> None:
    """Run one lab, say what came of it, and keep it if it was the lab's own recipe."""
    lab, recipe = recipe_of(lab, **changes)
    result = run_lab(lab, seed, recipe)
    line = Text(
        "lab {lab}, {what}, seed {seed}: published {published}",
        "실습 {lab}, {what}, 시드 {seed}: 공개된 값 {published}",
    )
    what = in_words(recipe.what, WORDS)
    print(line.say(lab=lab, what=what, seed=seed, published=recipe.published))
    for name, value in result.figures.items():
        shown = in_words(name.removeprefix(f"lab {lab} "), WORDS)
        print(f"    {left(shown, 40)}{value:.6g}")
    if recipe == RECIPES[lab]:
        write(lab, seed, result)
    else:
        line = Text(
            "    not kept beside the others, because the recipe is not the lab's",
            "    실습의 설정이 아니므로 다른 결과 곁에 저장하지 않습니다",
        )
        print(line.say())


if __name__ == "__main__":
    launch(main)
