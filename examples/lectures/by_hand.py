"""Backpropagation derived by hand, beside what `backward()` finds: the same to the last digits.

The lecture derives dW and db of a net with one tanh layer, a sigmoid output and the log loss, over
all m examples at once (rows are examples here):

    Z1 = X W1 + b1     A1 = tanh(Z1)     Z2 = A1 W2 + b2     A2 = sigmoid(Z2)
    L = -mean(Y log A2 + (1 - Y) log(1 - A2))

    dZ2 = (A2 - Y) / m                   the output's delta is that of logistic regression, a - y
    dW2 = A1^T dZ2                       db2 = sum of dZ2 over the examples
    dZ1 = dZ2 W2^T * (1 - A1^2)          tanh' = 1 - tanh^2
    dW1 = X^T dZ1                        db1 = sum of dZ1 over the examples

`tk.explain` derives the same lines by itself. `tk.check_derivation` finds the lecture's gradients
right, and names the slip of a derivation that forgets tanh'.

It is right: in float64 it differs from autodiff by less than 1e-12, at the start and in each of
the steps of a training in which both nets go their own way. The second part needs no learning at
all: weights set by hand with which three sigmoid units compute XOR, as the lecture does.

    python examples/lectures/by_hand.py

The picture is saved as out/lectures/by_hand.png (needs matplotlib).
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import STEPS, in_words, label, launch, left, new_figure, options, right, save, whole

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, no_grad
from tinygrad_kr.language import Text

Arrays = dict[str, np.ndarray]
BY_HAND, BY_AUTODIFF = Text("by hand", "손으로"), Text("by autodiff", "자동 미분")
WORDS = (
    Text("largest gradient difference", "기울기 차이의 최댓값"),
    Text("largest output delta difference", "출력층 델타 차이의 최댓값"),
    Text("largest parameter difference at the end", "마지막 파라미터 차이의 최댓값"),
    Text("loss at the start", "처음의 손실"),
    Text("loss at the end, by hand", "마지막 손실, 손으로"),
    Text("loss at the end, by autodiff", "마지막 손실, 자동 미분"),
    Text("accuracy at the end", "마지막 정확도"),
    Text("hand-set XOR of", "손으로 정한 XOR, 입력"),
)
PUBLISHED_XOR = {"00": 0.0112, "01": 0.9949, "10": 0.9949, "11": 0.0244}


# ------------------------------------------------------------------ the net, by hand


def forward_by_hand(p: Arrays, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The activations of the hidden layer and of the output."""
    A1 = np.tanh(X @ p["W1"] + p["b1"])
    A2 = 1 / (1 + np.exp(-(A1 @ p["W2"] + p["b2"])))
    return A1, A2


def loss_by_hand(A2: np.ndarray, Y: np.ndarray) -> float:
    return float(-np.mean(Y * np.log(A2) + (1 - Y) * np.log(1 - A2)))


def gradients_by_hand(p: Arrays, X: np.ndarray, Y: np.ndarray) -> Arrays:
    """The lecture's formulas."""
    A1, A2 = forward_by_hand(p, X)
    dZ2 = (A2 - Y) / len(X)
    dZ1 = dZ2 @ p["W2"].T * (1 - A1**2)
    return {
        "W1": X.T @ dZ1,
        "b1": dZ1.sum(axis=0),
        "W2": A1.T @ dZ2,
        "b2": dZ2.sum(axis=0),
        "Z2": dZ2,
    }


# ------------------------------------------------------------------ the same net, by autodiff


def gradients_by_autodiff(p: dict[str, Tensor], X: Tensor, Y: Tensor) -> tuple[float, Arrays]:
    """The loss, and its gradient for every parameter and for Z2."""
    for parameter in p.values():
        parameter.grad = None
    A1 = F.tanh(X @ p["W1"] + p["b1"])
    Z2 = A1 @ p["W2"] + p["b2"]
    Z2.retain_grad()
    loss = F.binary_cross_entropy(F.sigmoid(Z2), Y)
    loss.backward()
    gradients = {name: t.grad.numpy() for name, t in {**p, "Z2": Z2}.items() if t.grad is not None}
    return loss.item(), gradients


def explained(p: Arrays, X: Tensor, Y: Tensor, *others: Arrays) -> tuple[Any, list[Any]]:
    """`tk.explain` of the loss, and what `tk.check_derivation` says of gradients found by hand.

    others: gradients, each with those of W1, b1, W2 and b2.
    """
    W1, b1, W2, b2 = (Tensor(p[name], requires_grad=True) for name in ("W1", "b1", "W2", "b2"))
    Z1 = X @ W1 + b1
    A1 = F.tanh(Z1)
    Z2 = A1 @ W2 + b2
    A2 = F.sigmoid(Z2)
    L = F.binary_cross_entropy(A2, Y)
    explanation = tk.explain(L, [W1, b1, W2, b2])
    return explanation, [
        tk.check_derivation(L, {W1: by_hand["W1"], b1: by_hand["b1"], W2: by_hand["W2"],
                                b2: by_hand["b2"]})
        for by_hand in others
    ]  # fmt: skip


def without_tanh_slope(p: Arrays, X: np.ndarray, Y: np.ndarray) -> Arrays:
    """A slip: dZ1 = dZ2 W2^T, without 1 - A1^2."""
    gradients = gradients_by_hand(p, X, Y)
    dZ1 = gradients["Z2"] @ p["W2"].T
    return {**gradients, "W1": X.T @ dZ1, "b1": dZ1.sum(axis=0)}


def start(hidden: int, seed: int) -> Arrays:
    """Weights N(0, 1), biases 0, in float64."""
    generator = np.random.default_rng(seed)
    shapes = {"W1": (2, hidden), "b1": (hidden,), "W2": (hidden, 1), "b2": (1,)}
    return {
        name: generator.standard_normal(shape) if name[0] == "W" else np.zeros(shape)
        for name, shape in shapes.items()
    }


def petals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 2) of a four-petalled flower, and (count, 1): 1 on every second petal."""
    generator = np.random.default_rng(seed)
    angle = generator.uniform(0, 2 * np.pi, count)
    radius = 4 * np.abs(np.sin(2 * angle)) + generator.normal(0, 0.15, count)
    points = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)]) / 2
    return points, (np.sin(2 * angle) > 0).astype(float)[:, None]


class Training(NamedTuple):
    """What both ways of training gave, and how far apart they ever were."""

    by_hand: Arrays
    losses_by_hand: list[float]
    losses_by_autodiff: list[float]
    gradient_difference: float
    delta_difference: float
    parameter_difference: float


def train(
    X: np.ndarray, Y: np.ndarray, hidden: int, steps: int, rate: float, seed: int
) -> Training:
    """Full-batch gradient descent twice from one start, each with its own gradients."""
    mine = start(hidden, seed)
    theirs = {name: Tensor(array.copy(), requires_grad=True) for name, array in mine.items()}
    inputs, targets = Tensor(X), Tensor(Y)
    losses: tuple[list[float], list[float]] = ([], [])
    gradient_difference = delta_difference = 0.0
    for _ in range(steps):
        by_hand = gradients_by_hand(mine, X, Y)
        loss, by_autodiff = gradients_by_autodiff(theirs, inputs, targets)
        losses[0].append(loss_by_hand(forward_by_hand(mine, X)[1], Y))
        losses[1].append(loss)
        gradient_difference = max(gradient_difference, largest_difference(by_hand, by_autodiff))
        delta_difference = max(delta_difference, np.abs(by_hand["Z2"] - by_autodiff["Z2"]).max())
        with no_grad():
            for name, parameter in theirs.items():
                mine[name] -= rate * by_hand[name]
                parameter -= rate * by_autodiff[name]
    parameters = {name: parameter.detach().numpy() for name, parameter in theirs.items()}
    return Training(
        mine, *losses, gradient_difference, delta_difference, largest_difference(mine, parameters)
    )


def largest_difference(some: Arrays, others: Arrays) -> float:
    return max(float(np.abs(some[name] - others[name]).max()) for name in some)


# ------------------------------------------------------------------ XOR with weights set by hand


def xor_by_hand(a: Any, b: Any) -> Any:
    """Three sigmoid units: h1 is nearly AND, h2 nearly NOR, and the output is neither of them."""
    h1 = F.sigmoid(5 * a + 5 * b - 8)
    h2 = F.sigmoid(-7 * a - 7 * b + 3)
    return F.sigmoid(-11 * h1 - 11 * h2 + 6)


def xor_outputs() -> dict[str, float]:
    """The outputs for the inputs 00, 01, 10 and 11."""
    pairs = [(a, b) for a in (0.0, 1.0) for b in (0.0, 1.0)]
    return {f"{a:.0f}{b:.0f}": float(xor_by_hand(np.array(a), np.array(b))) for a, b in pairs}


# ------------------------------------------------------------------ the program


def train_on_petals(hidden: int, steps: int, rate: float, seed: int) -> Training:
    return train(*petals(400, seed), hidden, steps, rate, seed)


def run(
    *, hidden: int = 4, steps: int = 2_000, rate: float = 1.0, seed: int = 0
) -> dict[str, float]:
    """Differences between the hand's numbers and autodiff's, and the hand-set XOR outputs."""
    return figures_of(train_on_petals(hidden, steps, rate, seed), seed)


def figures_of(training: Training, seed: int) -> dict[str, float]:
    X, Y = petals(400, seed)
    answers = forward_by_hand(training.by_hand, X)[1] > 0.5
    return {
        "largest gradient difference": training.gradient_difference,
        "largest output delta difference": training.delta_difference,
        "largest parameter difference at the end": training.parameter_difference,
        "loss at the start": training.losses_by_hand[0],
        "loss at the end, by hand": training.losses_by_hand[-1],
        "loss at the end, by autodiff": training.losses_by_autodiff[-1],
        "accuracy at the end": float((answers == (Y > 0.5)).mean()),
        **{f"hand-set XOR of {pair}": output for pair, output in xor_outputs().items()},
    }


def print_first_step(hidden: int, seed: int) -> None:
    """Each gradient at the start, once by hand and once by autodiff."""
    X, Y = petals(400, seed)
    p = start(hidden, seed)
    by_hand = gradients_by_hand(p, X, Y)
    tensors = {name: Tensor(array, requires_grad=True) for name, array in p.items()}
    by_autodiff = gradients_by_autodiff(tensors, Tensor(X), Tensor(Y))[1]
    title = Text(
        "2-{hidden}-1 tanh net, log loss, {points} points, float64: the first element of each\n",
        "2-{hidden}-1 tanh 신경망, 로그 손실, 점 {points}개, float64: 저마다 첫 원소\n",
    )
    print(title.say(hidden=hidden, points=len(X)))
    columns = right(BY_HAND.say(), 22), right(BY_AUTODIFF.say(), 22)
    print(f"{'':4} {' '.join(columns)}   {Text('largest difference', '차이의 최댓값').say()}")
    for name, array in by_hand.items():
        other = by_autodiff[name]
        difference = np.abs(array - other).max()
        print(f"d{name:3} {array.flat[0]:22.17f} {other.flat[0]:22.17f}   {difference:.1e}")


def print_explanation(hidden: int, seed: int) -> None:
    """The derivation by `tk.explain`; then the lecture's gradients judged, and a slip."""
    X, Y = petals(400, seed)
    p = start(hidden, seed)
    candidates = gradients_by_hand(p, X, Y), without_tanh_slope(p, X, Y)
    explanation, verdicts = explained(p, Tensor(X), Tensor(Y), *candidates)
    print(Text("\nthe derivation by tk.explain", "\ntk.explain이 한 유도").say())
    print(textwrap.indent(explanation.text(), "  "))
    titles = (
        Text("\ntk.check_derivation, the lecture's formulas", "\ntk.check_derivation, 강의의 공식"),
        Text(
            "\ntk.check_derivation, a slip: dZ1 = dZ2 W2^T",
            "\ntk.check_derivation, 실수: dZ1 = dZ2 W2^T",
        ),
    )
    for title, verdict in zip(titles, verdicts, strict=True):
        print(title.say())
        print(textwrap.indent(verdict.text(), "  "))


def print_figures(figures: dict[str, float], steps: int) -> None:
    title = Text("over {steps:,} steps, both ways", "{steps:,}스텝 동안, 두 방법으로")
    ours, lecture = Text("ours", "우리 값").say(), Text("the lecture", "강의").say()
    print(f"\n{left(title.say(steps=steps), 42)} {left(ours, 10)} {lecture}")
    for name, value in figures.items():
        shown = left(in_words(name, WORDS), 42)
        if name.startswith("hand-set"):
            print(f"{shown} {value:<10.4f} {PUBLISHED_XOR[name[-2:]]:.4f}")
        elif "difference" in name:
            print(f"{shown} {value:<10.1e} {'a - y' if 'delta' in name else '0'}")
        else:
            print(f"{shown} {value:<10.4f}")


def save_picture(training: Training, seed: int, path: Path) -> None:
    """Both losses, what the net trained by hand answers, and the hand-set XOR."""
    figure = new_figure(8, 3.1)
    if figure is None:
        return
    losses, plane, xor = figure.subplots(1, 3)
    count = len(training.losses_by_hand)
    steps = np.arange(count)
    losses.plot(steps, training.losses_by_hand, color="#0072B2", linewidth=4, label=label(BY_HAND))
    losses.plot(
        steps,
        training.losses_by_autodiff,
        color="#E69F00",
        linestyle="--",
        label=label(BY_AUTODIFF),
    )
    losses.set(
        xlabel=label(Text("step", "스텝")),
        ylabel=label(Text("log loss", "로그 손실")),
        title=label(Text("two trainings, one curve", "두 학습, 한 곡선")),
    )
    losses.legend()
    losses.grid(alpha=0.3)
    X, Y = petals(400, seed)
    draw_plane(plane, -2.2, 2.2, lambda a, b: by_hand_on(training.by_hand, a, b))
    for value, marker, colour in ((0, "o", "white"), (1, "s", "black")):
        chosen = X[Y[:, 0] == value]
        plane.plot(*chosen.T, marker, color=colour, markeredgecolor="black", markersize=3)
    plane.set(
        xlabel="$x_1$",
        ylabel="$x_2$",
        title=label(Text("learned by hand", "손으로 유도해 배운 것")),
    )
    draw_plane(xor, -0.5, 1.5, xor_by_hand)
    for pair, output in xor_outputs().items():
        a, b = map(int, pair)
        marker, colour = ("s", "black") if a != b else ("o", "white")
        xor.plot(a, b, marker, color=colour, markeredgecolor="black", markersize=8)
        xor.annotate(f"{output:.4f}", (a, b), (0, 9), textcoords="offset points", ha="center")
    xor.set(
        xlabel="a",
        ylabel="b",
        title=label(Text("XOR, set by hand", "손으로 정한 XOR")),
        xticks=[0, 1],
        yticks=[0, 1],
    )
    save(figure, path)


def by_hand_on(p: Arrays, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return forward_by_hand(p, np.column_stack([a.ravel(), b.ravel()]))[1].reshape(a.shape)


def draw_plane(axes: Any, low: float, high: float, output: Any) -> None:
    """Where the output is below 0.5 (blue) and above (orange), and the line between."""
    a, b = np.meshgrid(*[np.linspace(low, high, 201)] * 2)
    heights = output(a, b)
    axes.contourf(a, b, heights, [0, 0.5, 1], colors=["#56B4E9", "#E69F00"], alpha=0.6)
    axes.contour(a, b, heights, [0.5], colors="black")


KOREAN = """
손으로 유도한 역전파를 `backward()`의 결과와 비교합니다. 마지막 자리까지 같습니다.

강의는 tanh 층 하나, 시그모이드 출력, 로그 손실로 된 신경망의 dW와 db를 예제 m개에 대해 한꺼번에
유도합니다(여기서는 행 하나가 예제 하나).

    Z1 = X W1 + b1     A1 = tanh(Z1)     Z2 = A1 W2 + b2     A2 = sigmoid(Z2)
    L = -mean(Y log A2 + (1 - Y) log(1 - A2))

    dZ2 = (A2 - Y) / m                   출력층의 델타는 로지스틱 회귀와 같은 a - y
    dW2 = A1^T dZ2                       db2 = dZ2를 예제에 대해 더한 것
    dZ1 = dZ2 W2^T * (1 - A1^2)          tanh' = 1 - tanh^2
    dW1 = X^T dZ1                        db1 = dZ1을 예제에 대해 더한 것

맞습니다. float64에서 자동 미분과의 차이는 출발점에서도, 두 신경망이 따로 학습하는 모든 스텝에서도
1e-12보다 작습니다. 둘째 부분에는 학습이 없습니다. 강의처럼 손으로 정한 가중치로 시그모이드 유닛
세 개가 XOR를 계산합니다.

    python examples/lectures/by_hand.py

그림은 out/lectures/by_hand.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add(
        "--hidden",
        type=whole(1),
        default=4,
        help=Text("tanh units (default: 4)", "tanh 유닛의 수 (기본값: 4)").say(),
    )
    add("--steps", type=whole(1), default=2_000, help=STEPS.say(default="2000"))
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text("of the points and the weights", "점과 가중치의 시드").say(),
    )
    args = parser.parse_args(argv)
    print_first_step(args.hidden, args.seed)
    print_explanation(args.hidden, args.seed)
    training = train_on_petals(args.hidden, args.steps, 1.0, args.seed)
    print_figures(figures_of(training, args.seed), args.steps)
    save_picture(training, args.seed, args.out / "by_hand.png")


if __name__ == "__main__":
    launch(main)
