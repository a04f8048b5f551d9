"""Why deep sigmoid nets do not learn: gradients that vanish, and others that explode.

1. One product. With g = x y, the chain rule says df/dx = df/dg * y: where y = 0.01, a hundredth of
   the gradient goes on to x.
2. Many products. 0.5 through 4 layers is 0.5 ** 4 = 0.0625 (one of the notes says 0.000025), and
   through 20 it is 1e-6. A sigmoid layer does something else to a *value*: it does not fade but
   runs to 0.6590 = sigmoid(0.6590), from wherever it came. What fades is the difference between
   two inputs, and with it the gradient: by 0.25 a layer or more.
3. The chain rule in numbers, factor by factor, for a net of four sigmoid neurons in a row: their
   product is the gradient that `backward()` finds. Then ten neurons: `tk.explain` finds the path
   from the loss to the first weight, and the ten slopes sigmoid' on it leave a millionth.
4. A net of 20 layers of 100 units on 200 digits: what is left of the difference between the digits,
   and of the gradient, layer by layer, for three activations and five initialisations.
   - vanishing: sigmoid, with nearly every start. Xavier does not rescue it: weights that keep the
     size of a signal are multiplied by slopes of 0.25 at most. N(0, 0.01^2): everything vanishes.
   - exploding: tanh and ReLU with U(-1, 1) or N(0, 1), 7.1 times a layer in the last case.
   - steady: tanh with Xavier, ReLU with He, as their inventors promise. And sigmoid with N(0, 1),
     since weights of 1 from 100 units make up for the small slopes.
   - knocked out: ReLU units that are 0 for all 200 digits, a fifth of them at the start, whatever
     the size of the weights (see dying_relu.py).
5. The lecture's XOR nets, 5 wide, U(-1, 1): a first weight's gradient over a last one's.

    python examples/lectures/vanishing.py

The picture is saved as out/lectures/vanishing.png (needs matplotlib).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    SEED,
    XOR_ANSWERS,
    XOR_POINTS,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    right,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, data, nn
from tinygrad_kr.language import Text

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "ReLU": F.relu,
}
STARTS: dict[str, Callable[[Tensor], Tensor]] = {
    "N(0, 1)": nn.init.normal_,
    "U(-1, 1)": lambda weight: nn.init.uniform_(weight, -1, 1),
    "He": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "Xavier": nn.init.xavier_normal_,
    "N(0, 0.01^2)": lambda weight: nn.init.normal_(weight, 0.0, 0.01),
}
PUBLISHED_XOR = {9: 2.6e-6, 10: 7.6e-7}
WORDS = (
    Text("exploding", "폭발"),
    Text("vanishing", "소실"),
    Text("steady", "유지"),
)


# ------------------------------------------------------------------ one product, many products


def gradient_through_a_product(y: float) -> float:
    """df/dx over df/dg for f = sigmoid(g), g = x y."""
    x = Tensor(np.array(3.0), requires_grad=True)
    g = x * y
    g.retain_grad()
    F.sigmoid(g).backward()
    assert x.grad is not None and g.grad is not None
    return float(x.grad.item() / g.grad.item())


def through_sigmoids(value: float, layers: int) -> tuple[float, float]:
    """A value after so many sigmoids (weights 1, biases 0), and its slope in the first value."""
    x = Tensor(np.array(value), requires_grad=True)
    h = x
    for _ in range(layers):
        h = F.sigmoid(h)
    h.backward()
    assert x.grad is not None
    return float(h.item()), float(x.grad.item())


# ------------------------------------------------------------------ the chain rule, by factors


class Chain(NamedTuple):
    """The factors of dL/dw1 from the loss down to w1, and what `backward()` says dL/dw1 is."""

    factors: list[tuple[str, float]]
    gradient: float

    @property
    def product(self) -> float:
        return float(np.prod([factor for _, factor in self.factors]))


def chain_rule(weights: list[float], x: float = 1.0, target: float = 1.0) -> Chain:
    """Sigmoid neurons in a row, h_k = sigmoid(w_k h_(k-1)), h_0 = x, and their log loss."""
    parameters = [Tensor(np.array(weight), requires_grad=True) for weight in weights]
    outputs = [Tensor(np.array(x))]
    for parameter in parameters:
        outputs.append(F.sigmoid(parameter * outputs[-1]))
    F.binary_cross_entropy(outputs[-1], Tensor(np.array(target))).backward()
    h = [output.item() for output in outputs]
    depth = len(weights)
    factors = [(f"dL/dh{depth} = (h{depth} - t) / (h{depth} (1 - h{depth}))",
                (h[-1] - target) / (h[-1] * (1 - h[-1])))]  # fmt: skip
    for k in range(depth, 0, -1):
        factors.append((f"dh{k}/dz{k} = h{k} (1 - h{k})", h[k] * (1 - h[k])))
        factors.append((f"dz{k}/dh{k - 1} = w{k}", weights[k - 1]) if k > 1 else ("dz1/dw1 = x", x))
    assert parameters[0].grad is not None
    return Chain(factors, float(parameters[0].grad.item()))


class Deep(NamedTuple):
    """The path from the loss to the first weight: by layer, from the last to the first, the slope
    of sigmoid and the weight that it meets; the product of all; dL/dw1 by `backward()`."""

    slopes: list[float]
    weights: list[float]
    product: float
    gradient: float


def path_to_the_first_weight(weights: list[float], x: float = 1.0, target: float = 1.0) -> Deep:
    """The same net as in `chain_rule`. The factors are those that `tk.explain` finds."""
    parameters = [Tensor(np.array(weight), requires_grad=True) for weight in weights]
    h = Tensor(np.array(x))
    for parameter in parameters:
        h = F.sigmoid(parameter * h)
    loss = F.binary_cross_entropy(h, Tensor(np.array(target)))
    (path,) = tk.explain(loss, parameters[0]).paths
    by_op: dict[str | None, list[float]] = {}
    for factor, node in zip(path.factors, path.nodes, strict=False):  # by the node that it leaves
        by_op.setdefault(node.op, []).append(factor)
    loss.backward()
    assert parameters[0].grad is not None
    return Deep(by_op["sigmoid"], by_op["multiply"], path.product, float(parameters[0].grad.item()))


def example_chain(seed: int) -> Chain:
    """Four neurons with weights U(-1, 1)."""
    return chain_rule(np.random.default_rng(seed).uniform(-1, 1, 4).tolist())


def example_path(seed: int) -> Deep:
    """Ten neurons, as many as the lecture's deep net has hidden layers."""
    return path_to_the_first_weight(np.random.default_rng(seed).uniform(-1, 1, 10).tolist())


# ------------------------------------------------------------------ layer by layer


class Layers(NamedTuple):
    """By layer: how much outputs differ between digits, the gradient's norm, units that are 0."""

    spread: np.ndarray
    gradient: np.ndarray
    silent: np.ndarray

    @property
    def spread_factor(self) -> float:
        """By what the spread is multiplied in each layer."""
        return float((self.spread[-1] / self.spread[0]) ** (1 / (len(self.spread) - 1)))

    @property
    def gradient_factor(self) -> float:
        """By what the gradient is multiplied in each layer on its way back."""
        return float((self.gradient[0] / self.gradient[-1]) ** (1 / (len(self.gradient) - 1)))

    @property
    def name(self) -> str:
        """exploding or vanishing if the first layer's gradient is 100 times or 1% of the last's."""
        ratio = self.gradient[0] / self.gradient[-1]
        return "exploding" if ratio > 100 else "vanishing" if ratio < 0.01 else "steady"


def some_digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Small digits with mean 0 and standard deviation 1 over all pixels, and their labels."""
    images, labels = data.digits("train")
    rows = images[:count].reshape(count, -1).astype(float)
    return (rows - rows.mean()) / rows.std(), labels[:count]


def measure(activation: str, start: str, depth: int, width: int, seed: int) -> Layers:
    """One forward and one backward pass, before any training."""
    tk.manual_seed(seed)
    images, labels = some_digits(200)
    h, outputs = Tensor(images, requires_grad=True), list[Tensor]()
    for inputs, units in pairwise([images.shape[1], *[width] * depth]):
        h = ACTIVATIONS[activation](h @ STARTS[start](Tensor(np.empty((units, inputs)))).T)
        h.retain_grad()
        outputs.append(h)
    F.cross_entropy(h @ STARTS[start](Tensor(np.empty((10, width)))).T, labels).backward()
    gradients = [np.linalg.norm(h.grad.data) for h in outputs if h.grad is not None]
    return Layers(
        np.array([h.data.std(axis=0).mean() for h in outputs]),
        np.array(gradients),
        np.array([(h.data == 0).all(axis=0).mean() for h in outputs]),
    )


def first_over_last(depth: int, seed: int) -> float:
    """The lecture's deep XOR net: a first weight's mean gradient over a last one's, in size."""
    tk.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, units in pairwise([2, *[5] * depth, 1]):
        layer = nn.Linear(inputs, units, dtype=np.float64)
        nn.init.uniform_(layer.weight, -1, 1)
        nn.init.zeros_(layer.get_parameter("bias"))
        layers += [layer, nn.Sigmoid()]
    net = nn.Sequential(*layers)
    points, answers = Tensor(XOR_POINTS.astype(float)), Tensor(XOR_ANSWERS.astype(float))
    F.binary_cross_entropy(net(points), answers).backward()
    first, last = net[0].weight.grad.data, net[-2].weight.grad.data
    return float(np.abs(first).mean() / np.abs(last).mean())


# ------------------------------------------------------------------ the program


def measure_all(depth: int, width: int, seed: int) -> dict[tuple[str, str], Layers]:
    return {
        (activation, start): measure(activation, start, depth, width, seed)
        for activation in ACTIVATIONS
        for start in STARTS
    }


def run(
    *, depth: int = 20, width: int = 100, seed: int = 0, xor_seeds: int = 200
) -> dict[str, float]:
    """Factors a layer, by activation and start; the chain rule; 0.5 through 4, 10 and 20 layers."""
    return figures_of(measure_all(depth, width, seed), seed, xor_seeds)


def figures_of(nets: dict[tuple[str, str], Layers], seed: int, xor_seeds: int) -> dict[str, float]:
    chain = example_chain(seed)
    figures = {
        "df/dx over df/dg, y = 0.01": gradient_through_a_product(0.01),
        "chain rule: product of the factors": chain.product,
        "chain rule: gradient by backward": chain.gradient,
        "chain rule: relative difference": abs(chain.product / chain.gradient - 1),
    }
    for layers in (4, 10, 20):
        value, slope = through_sigmoids(0.5, layers)
        figures[f"0.5 through {layers} layers"] = 0.5**layers
        figures[f"0.5 through {layers} sigmoids"] = value
        figures[f"slope of {layers} sigmoids"] = slope
    for (activation, start), net in nets.items():
        figures[f"{activation}, {start}: gradient a layer"] = net.gradient_factor
        figures[f"{activation}, {start}: spread a layer"] = net.spread_factor
        figures[f"{activation}, {start}: silent units"] = float(net.silent.mean())
    for depth in PUBLISHED_XOR:
        ratios = [first_over_last(depth, seed) for seed in range(xor_seeds)]
        figures[f"XOR, {depth} hidden: first over last"] = float(np.median(ratios))
    return figures


def print_products(figures: dict[str, float], seed: int) -> None:
    """Parts 1 to 3."""
    ratio = figures["df/dx over df/dg, y = 0.01"]
    line = Text(
        "1. df/dx = df/dg * y: with y = 0.01, df/dx is {ratio:.4g} df/dg (the lecture: 0.01)\n",
        "1. df/dx = df/dg * y: y = 0.01이면 df/dx = {ratio:.4g} df/dg (강의: 0.01)\n",
    )
    print(line.say(ratio=ratio))
    print(
        Text(
            "2. layers   0.5 ** layers   0.5 and -0.5 through so many sigmoids   slope   at most",
            "2.   층수     0.5 ** 층수   그만큼 시그모이드를 지난 0.5와 -0.5    기울기    최대",
        ).say()
    )
    for layers in (1, 2, 3, 4, 10, 20):
        (some, slope), (other, _) = (through_sigmoids(value, layers) for value in (0.5, -0.5))
        print(
            f"   {layers:6} {0.5**layers:15.3g}   {some:14.10f} {other:13.10f}   "
            f"{slope:18.1e} {0.25**layers:9.1e}"
        )
    line = Text(
        "   the note says 0.000025 for 4 layers: it is 0.0625\n",
        "   노트에는 4개 층에 0.000025라고 적혀 있지만 0.0625가 맞습니다\n",
    )
    print(line.say())
    chain, product = example_chain(seed), 1.0
    title = Text("four sigmoid neurons in a row", "한 줄로 이은 시그모이드 뉴런 네 개").say()
    factor, so_far = Text("factor", "인수").say(), Text("product so far", "여기까지의 곱").say()
    print(f"3. {left(title, 34)} {right(factor, 10)} {right(so_far, 16)}")
    for name, factor in chain.factors:
        product *= factor
        print(f"   {name:34} {factor:10.5f} {product:16.3e}")
    name = Text("dL/dw1 by backward()", "backward()가 구한 dL/dw1").say()
    print(f"   {left(name, 34)} {'':10} {chain.gradient:16.3e}")
    line = Text("   relative difference {error:.1e}\n", "   상대 오차 {error:.1e}\n")
    print(line.say(error=figures["chain rule: relative difference"]))
    print_path(example_path(seed))


def print_path(path: Deep) -> None:
    """Of part 3, the factors of a deep net: slopes, then weights."""
    print(
        Text(
            "   ten in a row: the path from L to w1 by tk.explain, from the last layer on",
            "   열 개를 한 줄로: tk.explain이 찾은 L에서 w1까지의 경로, 마지막 층부터",
        ).say()
    )
    rows = (
        (Text("slopes sigmoid'", "기울기 sigmoid'"), path.slopes),
        (Text("weights, and x", "가중치, 그리고 x"), path.weights),
    )
    for title, factors in rows:
        shown = " ".join(f"{factor:6.3f}" for factor in factors)
        print(f"   {left(title.say(), 16)} {shown}   {np.prod(factors):8.1e}")
    line = Text(
        "   their product, times dL/dh10: {product:.3e}. dL/dw1 by backward(): {gradient:.3e}\n",
        "   모두 곱하고 dL/dh10을 곱하면 {product:.3e}. backward()가 구한 dL/dw1: {gradient:.3e}\n",
    )
    print(line.say(product=path.product, gradient=path.gradient))


def print_layers(nets: dict[tuple[str, str], Layers], figures: dict[str, float]) -> None:
    """Parts 4 and 5."""
    print(
        Text(
            "4. a layer multiplies      the spread   the gradient   which is    units knocked out",
            "4. 한 층이 곱하는 배수       출력의 퍼짐      기울기     곧                죽은 유닛",
        ).say()
    )
    for (activation, start), layers in nets.items():
        name, kind = left(in_words(activation), 10), left(in_words(layers.name, WORDS), 11)
        silent = f"{layers.silent.mean():.1%}" if activation == "ReLU" else "-"
        print(
            f"   {name} {start:12} {layers.spread_factor:10.3f} "
            f"{layers.gradient_factor:14.3f}   {kind} {silent:>17}"
        )
    title = Text(
        "\n5. sigmoid XOR, U(-1, 1): a first weight's gradient over a last one's, median of 200",
        "\n5. 시그모이드 XOR, U(-1, 1): 첫 층 가중치의 기울기 / 마지막 층의 기울기, 200개의 중앙값",
    )
    line = Text(
        "   {depth:2} hidden layers   ours {ours:.1e}   reference {published:.1e}",
        "   은닉층 {depth:2}개   우리 값 {ours:.1e}   기준 측정값 {published:.1e}",
    )
    print(title.say())
    for depth, published in PUBLISHED_XOR.items():
        ours = figures[f"XOR, {depth} hidden: first over last"]
        print(line.say(depth=depth, ours=ours, published=published))


def save_picture(nets: dict[tuple[str, str], Layers], path: Path) -> None:
    """Spread and gradient against the layer, a column for each activation."""
    figure = new_figure(8, 5.4)
    if figure is None:
        return
    grid = figure.subplots(2, len(ACTIVATIONS), sharex=True, sharey="row")
    colours = ["#D55E00", "#E69F00", "#009E73", "#0072B2", "#CC79A7"]
    styles = ["-", "--", "-", "--", ":"]
    for column, activation in zip(grid.T, ACTIVATIONS, strict=True):
        column[0].set_title(label(activation))
        for start, colour, style in zip(STARTS, colours, styles, strict=True):
            layers = nets[activation, start]
            places = np.arange(1, len(layers.spread) + 1)
            for axes, values in zip(column, (layers.spread, layers.gradient), strict=True):
                axes.plot(places, values, color=colour, linestyle=style, linewidth=2, label=start)
        for axes, limits in zip(column, ((1e-12, 1e12), (1e-15, 1e18)), strict=True):
            axes.set(yscale="log", ylim=limits)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(alpha=0.3)
        column[1].set_xlabel(label(Text("layer", "층")))
    grid[0, 0].set_ylabel(label(Text("spread of outputs over digits", "숫자에 따른 출력의 퍼짐")))
    grid[1, 0].set_ylabel(label(Text("norm of the gradient", "기울기의 크기")))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    save(figure, path)


KOREAN = """
깊은 시그모이드 신경망은 왜 배우지 못하는가: 사라지는 기울기, 그리고 폭발하는 기울기.

1. 곱 하나. g = x y이면 연쇄 법칙은 df/dx = df/dg * y입니다. y = 0.01이면 기울기의 100분의 1만 x로
   갑니다.
2. 여러 곱. 0.5가 4개 층을 지나면 0.5 ** 4 = 0.0625이고(0.000025라고 적은 노트가 있습니다), 20개
   층이면 1e-6입니다. 시그모이드 층에서 *값*은 사라지지 않고 어디서 왔든 0.6590 =
   sigmoid(0.6590)으로 갑니다. 사라지는 것은 두 입력의 차이, 그리고 그와 함께 기울기입니다. 층마다
   0.25배 이하로 줄어듭니다.
3. 시그모이드 뉴런 네 개를 이은 신경망에서 연쇄 법칙을 인수마다 숫자로. 그 곱이 `backward()`가
   구한 기울기입니다.
4. 숫자 200개를 넣은 20층, 폭 100인 신경망: 숫자들의 차이와 기울기가 층마다 얼마나 남는지. 활성화
   함수 셋, 초기화 다섯.
   - 소실: 거의 모든 초기화의 시그모이드. Xavier만으로는 막지 못합니다. 신호의 크기를 지키는
     가중치에 0.25 이하의 미분이 곱해지기 때문입니다. N(0, 0.01^2): 모두 소실됩니다.
   - 폭발: U(-1, 1)이나 N(0, 1)의 tanh와 ReLU. 마지막 경우는 층마다 7.1배.
   - 유지: tanh와 Xavier, ReLU와 He. 만든 이들의 말대로입니다. 그리고 N(0, 1)의 시그모이드. 유닛
     100개에서 오는 크기 1의 가중치가 작은 미분을 메웁니다.
   - 죽음: 숫자 200개 모두에 0을 내는 ReLU 유닛. 가중치의 크기와 상관없이 처음부터 5분의 1입니다
     (dying_relu.py).
5. 강의의 XOR 신경망, 폭 5, U(-1, 1): 첫 가중치의 기울기를 마지막 가중치의 기울기로 나눈 값.

    python examples/lectures/vanishing.py

그림은 out/lectures/vanishing.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add(
        "--depth",
        type=whole(2),
        default=20,
        help=Text("layers of part 4 (default: 20)", "4번의 층 수 (기본값: 20)").say(),
    )
    add(
        "--width",
        type=whole(1),
        default=100,
        help=Text("units in each (default: 100)", "층마다 유닛의 수 (기본값: 100)").say(),
    )
    add("--seed", type=whole(0), default=0, help=SEED.say(default="0"))
    args = parser.parse_args(argv)
    nets = measure_all(args.depth, args.width, args.seed)
    figures = figures_of(nets, args.seed, 200)
    print_products(figures, args.seed)
    print_layers(nets, figures)
    save_picture(nets, args.out / "vanishing.png")


if __name__ == "__main__":
    launch(main)
