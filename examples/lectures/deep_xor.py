"""The deep XOR net of the lecture: a cost that does not fall, and ReLU instead of sigmoid.

The lecture makes the net deep, 2 inputs, ten hidden layers of 5, 1 output, all sigmoid, weights
U(-1, 1), biases 0, rate 0.1, and prints cost and accuracy: 0.6931 from beginning to end, accuracy
0.5. TensorBoard's curve of the cost is a level line. Then it writes ReLU in place of sigmoid, but
for the output, and the cost falls: accuracy 1.0, "slightly different each run".

The first half is right of every start. 0.6931 is log 2, the cost of the answer 0.5 to everything.
The curve has a step at its beginning: the last bias learns that half of the answers are 1. After
that nothing moves: the first layer's gradient is a millionth of the last one's (vanishing.py).

The second half is right of 4 starts in 10. Of 100 ReLU nets about 40 learn XOR and nearly as many
end at 0.5 or below, 17 of them because a layer is 0 for all four points before the first step
(dying_relu.py). The others get three points right: they give one answer, 1/3 or 2/3, to three of
the four points, for ever.
"Slightly different each run" is what these outcomes look like in a few runs.
`tk.diagnose` sees both before the first step: a vanishing gradient in every sigmoid net, dead units
in those 17 ReLU nets. benchmarks/sigmoid_vs_relu_depth.py has other depths and activations.

    python examples/lectures/deep_xor.py
    python examples/lectures/deep_xor.py --hidden 9    # the notes' text says nine, their code ten

The picture is saved as out/lectures/deep_xor.png (needs matplotlib).
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common import (
    BLUE,
    GREEN,
    ORANGE,
    SEED,
    STEPS,
    XOR_ANSWERS,
    XOR_POINTS,
    UniformStarts,
    bar,
    in_words,
    kinds_of,
    label,
    launch,
    left,
    new_figure,
    options,
    print_diagnosis,
    right,
    save,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, no_grad, optim
from tinygrad_kr.language import Text

ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "ReLU": nn.ReLU}
PUBLISHED = {"sigmoid": 0.5, "ReLU": 1.0}
WORDS = (Text("sigmoid, best", "시그모이드 최고"), Text("best", "최고"))


class Nets(NamedTuple):
    """The costs (steps, starts) of nets side by side, and what they answer at the end."""

    costs: np.ndarray
    outputs: np.ndarray
    """(starts, 4), for 00, 01, 10 and 11."""

    @property
    def accuracies(self) -> np.ndarray:
        """The share of the four points that each start gets right.

        An output says yes above 0.501: those of a stuck net are 0.5, give or take a rounding error.
        """
        right: np.ndarray = (self.outputs > 0.501) == (XOR_ANSWERS[:, 0] > 0.5)
        return right.mean(axis=1)


def make_nets(activation: str, hidden: int, starts: int, width: int = 5) -> nn.Sequential:
    """One net from each start; the last layer gives logits, for a sigmoid output."""
    layers: list[nn.Module] = [UniformStarts(starts, 2, width), ACTIVATIONS[activation]()]
    for _ in range(hidden - 1):
        layers += [UniformStarts(starts, width, width), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, UniformStarts(starts, width, 1))


def train(activation: str, hidden: int, starts: int, steps: int, rate: float, seed: int) -> Nets:
    """Gradient descent on the mean cross-entropy, from the same weights for each activation."""
    tk.manual_seed(seed)
    nets = make_nets(activation, hidden, starts)
    points, answers = Tensor(XOR_POINTS), Tensor(XOR_ANSWERS).broadcast_to(starts, 4, 1)
    optimizer = optim.SGD(nets.parameters(), lr=rate)

    @tk.compile
    def step() -> Any:
        losses = F.binary_cross_entropy_with_logits(nets(points), answers, reduction="none")
        costs = losses.mean(axis=(1, 2))
        optimizer.zero_grad()
        costs.sum().backward()
        optimizer.step()
        return costs

    costs = np.array([step().numpy() for _ in bar(steps, in_words(activation))])
    with no_grad():
        return Nets(costs, nets(points).sigmoid().numpy()[..., 0])


def train_all(hidden: int, starts: int, steps: int, rate: float, seed: int) -> dict[str, Nets]:
    return {kind: train(kind, hidden, starts, steps, rate, seed) for kind in ACTIVATIONS}


def run(
    *, hidden: int = 10, starts: int = 100, steps: int = 10_001, rate: float = 0.1, seed: int = 0
) -> dict[str, float]:
    """For each activation the shares of starts that learn XOR and that are stuck, and costs."""
    return figures_of(train_all(hidden, starts, steps, rate, seed))


def figures_of(nets: dict[str, Nets]) -> dict[str, float]:
    figures = {}
    for kind, found in nets.items():
        figures[f"{kind}: learned"] = float((found.accuracies == 1).mean())
        figures[f"{kind}: at 0.5 or below"] = float((found.accuracies <= 0.5).mean())
        figures[f"{kind}: median cost"] = float(np.median(found.costs[-1]))
        figures[f"{kind}: lowest cost"] = float(found.costs[-1].min())
    return figures


def best_start(found: Nets) -> int:
    """The start with the lowest cost at the end."""
    return int(found.costs[-1].argmin())


def print_as_the_lecture(nets: dict[str, Nets]) -> None:
    """Step and cost, then outputs and accuracy: of sigmoid the best start, of ReLU two."""
    steps = len(nets["sigmoid"].costs)
    relu = nets["ReLU"]
    columns = {
        "sigmoid, best": (nets["sigmoid"], best_start(nets["sigmoid"])),
        "ReLU, best": (relu, best_start(relu)),
        "ReLU, median": (relu, int(np.argsort(relu.costs[-1])[relu.costs.shape[1] // 2])),
    }
    names = [right(in_words(name, WORDS), 16) for name in columns]
    print(right(Text("step", "스텝").say(), 8) + "".join(names))
    for step in sorted({0, *range(0, steps, max(1, steps // 5)), steps - 1}):
        costs = [found.costs[step, start] for found, start in columns.values()]
        print(f"{step:8,}" + "".join(f"{cost:16.6f}" for cost in costs))
    for row, point in enumerate(("00", "01", "10", "11")):
        cells = [found.outputs[start, row] for found, start in columns.values()]
        print(f"{point:>8}" + "".join(f"{output:16.4f}" for output in cells))
    accuracies = [found.accuracies[start] for found, start in columns.values()]
    print(right(in_words("accuracy"), 8) + "".join(f"{accuracy:16.2f}" for accuracy in accuracies))


# ------------------------------------------------------------------ before the first step

ONE_NET = Text("{kind}, start {start}", "{kind}, 초깃값 {start}번")


def ordinary_nets(activation: str, hidden: int, starts: int, seed: int) -> list[nn.Sequential]:
    """The nets before their training, each of its own, with `nn.Linear`."""
    tk.manual_seed(seed)
    nets = make_nets(activation, hidden, starts)
    found = []
    for start in range(starts):
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([2, *[5] * hidden, 1]):
            layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
        for one, many in zip(layers[::2], nets[::2], strict=True):
            weight, bias = many.weight.data[start].T, many.bias.data[start, 0]
            one.load_state_dict({"weight": weight, "bias": bias})
        found.append(nn.Sequential(*layers[:-1]))
    return found


def diagnose(net: nn.Sequential, rate: float = 0.1) -> Any:
    """`tk.diagnose` with the lecture's data and optimizer."""
    points = (XOR_POINTS, XOR_ANSWERS)
    optimizer = optim.SGD(net.parameters(), lr=rate)
    return tk.diagnose(net, F.binary_cross_entropy_with_logits, points, optimizer)


def print_diagnoses(hidden: int, starts: int, seed: int) -> None:
    """How often which kind is found; for each activation the first net in which one is."""
    title = Text("\ntk.diagnose, before the first step", "\ntk.diagnose, 첫 스텝 전")
    print(title.say())
    examples = []
    for activation in ACTIVATIONS:
        reports = [diagnose(net) for net in ordinary_nets(activation, hidden, starts, seed)]
        counts = Counter(map(kinds_of, reports)).most_common()
        shown = ", ".join(f"{kind} {count}" for kind, count in counts)
        print(f"  {left(in_words(activation), 10)} {shown}")
        wrong = next((start for start, report in enumerate(reports) if report.findings), None)
        if wrong is not None:
            examples.append((activation, wrong, reports[wrong]))
    for activation, start, report in examples:
        print_diagnosis(ONE_NET, report, kind=in_words(activation), start=start)


LEARNED = Text("{count} learned XOR", "XOR를 배운 {count}개")
THREE_RIGHT = Text("{count} with 3 of 4 right", "넷 중 셋만 맞힌 {count}개")
HALF_RIGHT = Text("{count} with half right or less", "절반 이하만 맞힌 {count}개")


def save_picture(nets: dict[str, Nets], path: Path) -> None:
    """The cost of every start, as TensorBoard draws that of one; log 2 dotted."""
    figure = new_figure(8, 3.7)
    if figure is None:
        return
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (kind, found) in zip(panels, nets.items(), strict=True):
        outcomes = ((LEARNED, found.accuracies == 1, BLUE),
                    (THREE_RIGHT, found.accuracies == 0.75, GREEN),
                    (HALF_RIGHT, found.accuracies <= 0.5, ORANGE))  # fmt: skip
        look = {"linewidth": 0.7, "alpha": 0.5}
        places = np.unique(np.geomspace(1, len(found.costs), 300).astype(int)) - 1
        for name, chosen, colour in outcomes:
            if chosen.any():
                axes.plot(places + 1, found.costs[places][:, chosen], color=colour, **look)
                axes.plot([], [], color=colour, label=label(name, count=chosen.sum()))
        axes.axhline(np.log(2), color="black", linestyle=":", linewidth=1, label="log 2")
        starts = Text("{kind}, {starts} starts", "{kind}, 초깃값 {starts}개")
        title = label(starts, kind=label(kind), starts=found.costs.shape[1])
        axes.set(xscale="log", xlabel=label(Text("step", "스텝")), title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper left" if kind == "ReLU" else "lower left")
    cost = label(Text("mean cross-entropy", "교차 엔트로피의 평균"))
    panels[0].set(ylabel=cost, ylim=(-0.03, 1.25))
    save(figure, path)


KOREAN = """
강의의 깊은 XOR 신경망: 내려가지 않는 비용, 그리고 시그모이드 대신 ReLU.

강의는 입력 2개, 폭 5인 은닉층 열 개, 출력 1개를 모두 시그모이드로 만들고(가중치 U(-1, 1), 편향 0,
학습률 0.1) 비용과 정확도를 출력합니다. 처음부터 끝까지 0.6931, 정확도 0.5. TensorBoard의 비용
곡선은 수평선입니다. 그다음 출력층만 빼고 ReLU로 바꾸면 비용이 내려가고 정확도는 1.0, "실행할
때마다 조금씩 다르다"고 합니다.

앞 절반은 모든 초깃값에서 맞습니다. 0.6931은 log 2, 곧 무엇을 물어도 0.5라고 답할 때의 비용입니다.
곡선은 처음에 한 번 내려갑니다. 마지막 편향이 답의 절반이 1이라는 것을 배우는 것입니다. 그 뒤로는
아무것도 움직이지 않습니다. 첫 층의 기울기가 마지막 층의 백만분의 일입니다(vanishing.py).

뒤 절반은 초깃값 10개 중 4개에서 맞습니다. ReLU 신경망 100개 중 약 40개가 XOR를 배우고, 거의
그만큼이 0.5 이하로 끝나며, 그중 17개는 첫 스텝 전부터 한 층이 네 점 모두에 0을 내기
때문입니다(dying_relu.py). 나머지는 세 점만 맞힙니다. 네 점 중 세 점에 1/3이나 2/3이라는 한 답만
되풀이합니다. "실행할 때마다 조금씩 다르다"는 말은 몇 번의 실행에서 본 이런 결과입니다. 다른
깊이와 활성화 함수는 benchmarks/sigmoid_vs_relu_depth.py에 있습니다.

    python examples/lectures/deep_xor.py
    python examples/lectures/deep_xor.py --hidden 9    # 노트의 글은 아홉, 코드는 열

그림은 out/lectures/deep_xor.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add(
        "--hidden",
        type=whole(1),
        default=10,
        help=Text("hidden layers (default: 10)", "은닉층의 수 (기본값: 10)").say(),
    )
    add(
        "--starts",
        type=whole(1),
        default=100,
        help=Text("nets of each kind (default: 100)", "종류마다 신경망의 수 (기본값: 100)").say(),
    )
    add("--steps", type=whole(1), default=10_001, help=STEPS.say(default="10001"))
    add("--seed", type=whole(0), default=0, help=SEED.say(default="0"))
    args = parser.parse_args(argv)
    nets = train_all(args.hidden, args.starts, args.steps, 0.1, args.seed)
    print_as_the_lecture(nets)
    figures = figures_of(nets)
    title = Text(
        "\n           the lecture's accuracy   of {starts} starts",
        "\n           강의의 정확도            초깃값 {starts}개 중",
    )
    line = Text(
        "{kind} {published:<24} {learned:.0%} learned XOR, {stuck:.0%} at 0.5 or below",
        "{kind} {published:<24} XOR를 배운 것 {learned:.0%}, 0.5 이하에 머문 것 {stuck:.0%}",
    )
    print(title.say(starts=args.starts))
    for kind, published in PUBLISHED.items():
        learned, stuck = figures[f"{kind}: learned"], figures[f"{kind}: at 0.5 or below"]
        name = left(in_words(kind), 10)
        print(line.say(kind=name, published=published, learned=learned, stuck=stuck))
    print_diagnoses(args.hidden, args.starts, args.seed)
    save_picture(nets, args.out / "deep_xor.png")


if __name__ == "__main__":
    launch(main)
