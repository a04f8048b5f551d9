"""Labs 07-1 to 07-3: rates too large, too small and right; numbers too large to learn from.

The lecture: with rate 1.5 the cost becomes NaN, with 1e-10 nothing is learned, with 0.1 the test
accuracy is 1.0. Then a table of stock prices whose cost grows to NaN at rate 1e-5, until every
column is scaled to 0..1 (lab 07-3).

    python examples/lectures/learning_rate.py

What really happens at 1.5: from the lab's own start we get its costs, 5.73, 23.1, 27.3, 8.67, 5.77,
infinity, NaN. The steps do jump across the valley, but the NaN is the formula's. The lab writes
log(softmax(z)); after five steps a probability is 3e-39, which TensorFlow rounds to 0, log(0) is
infinite, and 0 * infinity NaN. So end all of 100 starts, and none with the same cost computed from
the logits (`cross_entropy`).

The test accuracy of 1.0 is luck: the test set is three points of one class, and whoever always says
2 gets it. From 100 starts rate 0.1 gets it 96 times, but so does rate 1.5 (99 times), as long as
it is not NaN, with 0.61 of the training points right against 0.75. And scaling alone prevents the
NaN and no more: at rate 1e-5 the lab's cost goes from 0.15231 to 0.15225 in 101 steps, and of ours
at least 99% is left. What learns is scaling together with a rate of 0.1, which it now allows: cost
0.011 after 100 steps.

At the end `tk.Monitor` watches the lab's training at 1.5 and names the step, the op and the line of
the first infinity. `tk.diagnose` judges the three rates, and the prices, before any training.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    BLUE,
    GREEN,
    INITIAL,
    ORANGE,
    Starts,
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

POINTS = Tensor(
    [[1, 2, 1], [1, 3, 2], [1, 3, 4], [1, 5, 5], [1, 7, 5], [1, 2, 5], [1, 6, 6], [1, 7, 7]],
    dtype=np.float32,
)
LABELS = np.array([2, 2, 2, 1, 1, 1, 0, 0])
TEST_POINTS = Tensor([[2, 1, 1], [3, 1, 2], [3, 3, 4]], dtype=np.float32)
TEST_LABEL = 2  # of all three
ONE_HOT = F.one_hot(LABELS, 3).astype(np.float32)
# The lab's own start: it prints the weight; its biases, up to a constant that softmax does not see,
# follow from the first costs and weights that it prints.
LAB_WEIGHT = [[0.80269563, 0.67861295, -1.21728313], [-0.3051686, -0.3032113, 1.50825703],
              [0.75722361, -0.7008909, -2.10820389]]  # fmt: skip
LAB_BIAS = [1.3263248, -0.0761683, -1.2501564]
PUBLISHED = {1.5: {0: 5.73203, 1: 23.1494, 2: 27.2798, 3: 8.668, 4: 5.77111, 5: np.inf, 6: np.nan},
             1e-10: {0: 5.73203, 1: 5.73203, 199: 5.73203, 200: 5.73203},
             0.1: {0: 5.73203, 1: 3.318, 199: 0.672261, 200: 0.670909}}  # fmt: skip

PRICES = np.array(
    [[828.659973, 833.450012, 908100, 828.349976, 831.659973],
     [823.02002, 828.070007, 1828100, 821.655029, 828.070007],
     [819.929993, 824.400024, 1438100, 818.97998, 824.159973],
     [816, 820.958984, 1008100, 815.48999, 819.23999],
     [819.359985, 823, 1188100, 818.469971, 818.97998],
     [819, 823, 1198100, 816, 820.450012],
     [811.700012, 815.25, 1098100, 809.780029, 813.669983],
     [809.51001, 816.659973, 1398100, 804.539978, 809.559998]],
)  # fmt: skip

Costs = Callable[[Tensor], Tensor]
WORDS = (
    Text("many starts", "초깃값 여러 개"),
    Text("the lab's cost", "실습의 비용"),
    Text("from logits", "로짓에서 계산"),
    Text("unscaled", "정규화 없음"),
    Text("scaled", "정규화"),
    Text("steps until infinity or NaN", "무한대나 NaN이 되기까지의 스텝"),
    Text("share of the cost left", "남은 비용의 비율"),
)


def as_the_lab_computes_it(logits: Tensor) -> Tensor:
    """-sum of y log(softmax(z)) for each start, numbers below 1.2e-38 being 0 as in TensorFlow."""
    p = F.softmax(logits, dim=2)
    normal = p.detach().numpy() >= np.finfo(np.float32).tiny
    costs: Tensor = -(ONE_HOT * tk.log(p * normal)).sum(axis=2).mean(axis=1)
    return costs


def from_logits(logits: Tensor) -> Tensor:
    """The same in exact arithmetic: z is never turned into a probability."""
    costs: Tensor = -(ONE_HOT * F.log_softmax(logits, dim=2)).sum(axis=2).mean(axis=1)
    return costs


def train(net: Starts, costs_of: Costs, rate: float, steps: int = 201) -> np.ndarray:
    """Gradient descent from all starts of `net`; the costs before each step, (steps, starts)."""
    optimizer = optim.SGD(net.parameters(), lr=rate)
    history = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):  # NaN is the subject
        for _ in range(steps):
            costs = costs_of(net(POINTS))
            optimizer.zero_grad()
            costs.sum().backward()
            optimizer.step()
            history.append(costs.detach().numpy())
    return np.array(history)


def share_right(net: Starts, points: Tensor, labels: np.ndarray | int) -> np.ndarray:
    """Of each start; a NaN counts as class 0, as argmax does in the lab."""
    with no_grad():
        said = net(points).argmax(axis=2).numpy()
    shares: np.ndarray = (said == labels).mean(axis=1)
    return shares


def the_labs_start() -> Starts:
    net = Starts(1, 3, 3)
    with no_grad():
        net.weight.copy_(Tensor([LAB_WEIGHT]))
        net.bias.copy_(Tensor([[LAB_BIAS]]))
    return net


def min_max(table: np.ndarray) -> np.ndarray:
    """Every column from 0 to 1."""
    low, high = table.min(axis=0), table.max(axis=0)
    scaled: np.ndarray = (table - low) / (high - low)
    return scaled


def fit_prices(table: np.ndarray, rate: float, steps: int, starts: int) -> np.ndarray:
    """Linear regression of the last column on the others; the costs, (steps, starts)."""
    x, y = Tensor(table[:, :-1].astype(np.float32)), Tensor(table[:, -1:].astype(np.float32))
    net = Starts(starts, 4, 1)
    optimizer = optim.SGD(net.parameters(), lr=rate)
    history = []
    with np.errstate(invalid="ignore", over="ignore"):  # running away is the subject
        for _ in range(steps):
            costs = ((net(x) - y) ** 2).mean(axis=(1, 2))
            optimizer.zero_grad()
            costs.sum().backward()
            optimizer.step()
            history.append(costs.detach().numpy())
    return np.array(history)


def first_infinity(rate: float = 1.5, steps: int = 8) -> list[dict[str, Any]]:
    """What `tk.Monitor` warns of while the lab's cost is trained from the lab's start."""
    net = the_labs_start()
    optimizer = optim.SGD(net.parameters(), lr=rate)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", tk.MonitorWarning)  # they are returned
        with tk.Monitor(net, optimizer, every=1) as monitor:
            for _ in range(steps):
                cost = as_the_lab_computes_it(net(POINTS)).sum()
                optimizer.zero_grad()
                cost.backward()
                optimizer.step()
    return list(monitor.warnings)


def diagnose_rate(rate: float) -> Any:
    """`tk.diagnose` of lab 07-1 from the lab's own start, the cost from logits."""
    net = nn.Linear(3, 3)
    weight, bias = np.array(LAB_WEIGHT, np.float32).T, np.array(LAB_BIAS, np.float32)
    net.load_state_dict({"weight": weight, "bias": bias})
    optimizer = optim.SGD(net.parameters(), lr=rate)
    return tk.diagnose(net, F.cross_entropy, (POINTS.numpy(), LABELS), optimizer)


def diagnose_prices(table: np.ndarray, rate: float) -> Any:
    """`tk.diagnose` of labs 07-2 and 07-3."""
    tk.manual_seed(0)
    net = nn.Linear(4, 1)
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    x, y = table[:, :-1].astype(np.float32), table[:, -1:].astype(np.float32)
    return tk.diagnose(net, F.mse_loss, (x, y), optim.SGD(net.parameters(), lr=rate))


def run(*, starts: int = 100, seed: int = 0, histories: dict[str, np.ndarray] | None = None
        ) -> dict[str, float]:  # fmt: skip
    """The lab's costs from its own start, and what the three rates do from many starts.

    histories: is given the costs by step, for the picture.
    """
    tk.manual_seed(seed)
    kept: dict[str, np.ndarray] = {} if histories is None else histories
    figures: dict[str, float] = {}
    for rate, published in PUBLISHED.items():
        net = the_labs_start()
        history = train(net, as_the_lab_computes_it, rate)[:, 0]
        kept[f"{rate:g}"] = history
        figures |= {f"lab 07-1 rate {rate:g} cost {n}": float(history[n]) for n in published}
        figures[f"lab 07-1 rate {rate:g} cost 200"] = float(history[200])
        test = share_right(net, TEST_POINTS, TEST_LABEL)
        figures[f"lab 07-1 rate {rate:g} test accuracy"] = float(test[0])
        for name, costs_of in (
            ("the lab's cost", as_the_lab_computes_it),
            ("from logits", from_logits),
        ):
            many = Starts(starts, 3, 3)
            last = train(many, costs_of, rate)[-1]
            test, right = share_right(many, TEST_POINTS, 2), share_right(many, POINTS, LABELS)
            start = f"many starts, {name}, rate {rate:g}"
            figures[f"{start}: NaN"] = float(np.isnan(last).mean())
            figures[f"{start}: test accuracy 1.0"] = float((test == 1).mean())
            figures[f"{start}: training accuracy"] = float(right.mean())
    kept["1.5, from logits"] = train(the_labs_start(), from_logits, 1.5)[:, 0]
    raw = kept["raw"] = fit_prices(PRICES, 1e-5, 101, starts)
    scaled = kept["scaled"] = fit_prices(min_max(PRICES), 1e-5, 101, starts)
    faster = kept["scaled, 0.1"] = fit_prices(min_max(PRICES), 0.1, 1_001, starts)
    return figures | {
        "lab 07-2 unscaled: NaN": float(np.isnan(raw[-1]).mean()),
        "lab 07-2 unscaled: steps until infinity or NaN": float(np.isfinite(raw).sum(0).max()),
        "lab 07-3 scaled, rate 1e-5: share of the cost left": float((scaled[-1] / scaled[0]).min()),
        "lab 07-3 scaled, rate 0.1: cost 100, median": float(np.median(faster[100])),
        "lab 07-3 scaled, rate 0.1: cost 1000, highest": float(faster[-1].max()),
    }


INFINITE = Text(", infinite at {step}, then NaN", ", 스텝 {step}에서 무한대, 그다음 NaN")


def save_picture(histories: dict[str, np.ndarray], path: Path) -> None:
    """Lab 07-1 from the lab's own start beside its printed costs; the prices, raw and scaled."""
    figure = new_figure(8, 3.9)
    if figure is None:
        return
    rates, prices = figure.subplots(1, 2)
    styles = {"1.5": (ORANGE, "-"), "1.5, from logits": (ORANGE, ":"), "1e-10": ("0.4", "-"),
              "0.1": (BLUE, "-")}  # fmt: skip
    for name, (colour, line) in styles.items():
        costs = histories[name]
        ends = "" if np.isfinite(costs).all() else label(INFINITE, step=np.isfinite(costs).sum())
        name = label(f"rate {name}", WORDS)
        rates.plot(costs[:26], line, color=colour, label=name + ends)
    dots = [(n, cost) for costs in PUBLISHED.values() for n, cost in costs.items() if n < 26]
    name = label(Text("published, lab 07-1", "공개된 값, 실습 07-1"))
    rates.plot(*zip(*dots, strict=True), "D", color=GREEN, ms=5, label=name)
    rates.set(
        xlabel=label(Text("step", "스텝")),
        ylabel=label(Text("mean cross-entropy", "교차 엔트로피의 평균")),
        title=label(Text("lab 07-1, the lab's own start", "실습 07-1, 실습의 초깃값")),
    )
    rates.set_ylim(0, 45)
    for name, colour, text in (
        (
            "raw",
            ORANGE,
            Text("raw, rate 1e-5, then infinite", "그대로, 학습률 1e-5, 그다음 무한대"),
        ),
        ("scaled", "0.4", Text("scaled, rate 1e-5", "정규화, 학습률 1e-5")),
        ("scaled, 0.1", BLUE, Text("scaled, rate 0.1", "정규화, 학습률 0.1")),
    ):
        costs = np.median(histories[name], axis=1)
        costs = costs[np.isfinite(costs)]
        prices.loglog(np.arange(1, len(costs) + 1), costs, color=colour, label=label(text))
    prices.set(
        xlabel=label(Text("step", "스텝")),
        ylabel=label(Text("median cost of the starts", "초깃값들의 비용의 중앙값")),
        title=label(Text("labs 07-2, 07-3, prices", "실습 07-2, 07-3, 주가")),
    )
    prices.set_ylim(1e-4, 1e40)
    for axes in (rates, prices):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    save(figure, path)


def print_causes() -> None:
    """Where the NaN of lab 07-1 begins; what is wrong with rates and prices, before training."""
    print(Text("tk.Monitor, lab 07-1, rate 1.5:", "tk.Monitor, 실습 07-1, 학습률 1.5:").say())
    for warning in first_infinity():
        print(f"  {warning['message']}")
    cases = {
        "lab 07-1 rate 1.5": diagnose_rate(1.5),
        "lab 07-1 rate 1e-10": diagnose_rate(1e-10),
        "lab 07-1 rate 0.1": diagnose_rate(0.1),
        "lab 07-2 unscaled, rate 1e-5": diagnose_prices(PRICES, 1e-5),
        "lab 07-3 scaled, rate 1e-5": diagnose_prices(min_max(PRICES), 1e-5),
        "lab 07-3 scaled, rate 0.1": diagnose_prices(min_max(PRICES), 0.1),
    }
    print("\ntk.diagnose")
    for name, report in cases.items():
        print(f"  {left(in_words(name, WORDS), 34)} {kinds_of(report)}")
    for name in ("lab 07-1 rate 1e-10", "lab 07-2 unscaled, rate 1e-5"):
        print_diagnosis(in_words(name, WORDS), cases[name])
    print()


KOREAN = """
실습 07-1에서 07-3까지: 너무 큰 학습률, 너무 작은 학습률, 알맞은 학습률, 그리고 너무 큰 입력.

강의: 학습률 1.5에서는 비용이 NaN이 되고, 1e-10에서는 아무것도 배우지 못하며, 0.1에서는 테스트
정확도가 1.0입니다. 다음은 주가 표입니다. 학습률 1e-5에서 비용이 NaN까지 커지다가, 모든 열을
0..1로 정규화하면 괜찮아집니다(실습 07-3).

    python examples/lectures/learning_rate.py

1.5에서 실제로는: 실습의 초깃값에서 실습의 비용 5.73, 23.1, 27.3, 8.67, 5.77, 무한대, NaN이 그대로
나옵니다. 스텝이 골짜기를 가로질러 튀는 것은 맞지만 NaN은 식 때문입니다. 실습은
log(softmax(z))라고 씁니다. 다섯 스텝 뒤에 확률 하나가 3e-39가 되는데 TensorFlow는 이를 0으로
반올림하고, log(0)은 무한대, 0 * 무한대는 NaN입니다. 초깃값 100개가 모두 그렇게 끝나고, 같은
비용을 로짓에서 계산하면(`cross_entropy`) 하나도 그렇지 않습니다.

테스트 정확도 1.0은 운입니다. 테스트는 한 클래스의 점 세 개뿐이라 언제나 2라고만 답해도 다
맞힙니다. 초깃값 100개 중 학습률 0.1은 96개, 1.5도 NaN만 아니면 99개가 다 맞히지만, 학습 데이터의
정확도는 0.75 대 0.61입니다. 그리고 정규화는 NaN을 막을 뿐입니다. 학습률 1e-5에서 실습의 비용은
101스텝 동안 0.15231에서 0.15225가 되고, 우리의 비용도 99% 넘게 남습니다. 정규화 덕분에 쓸 수 있게
된 학습률 0.1이 있어야 배웁니다. 100스텝 뒤의 비용은 0.011입니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    parser.add_argument("--starts", type=whole(1), default=100, help=INITIAL.say(default="100"))
    args = parser.parse_args(argv)
    histories: dict[str, np.ndarray] = {}
    figures = run(starts=args.starts, histories=histories)
    published = {
        f"lab 07-1 rate {rate:g} cost {step}": cost
        for rate, costs in PUBLISHED.items()
        for step, cost in costs.items()
    }
    published |= {f"lab 07-1 rate {rate} test accuracy": float(rate == "0.1")
                  for rate in ("1.5", "1e-10", "0.1")}  # fmt: skip
    ours, other = Text("ours", "우리 값").say(), Text("published", "공개된 값").say()
    print(f"{'':58} {right(ours, 9)}   {other}")
    for name, value in figures.items():
        end = f"   {published[name]:g}" if name in published else ""
        print(f"{left(in_words(name, WORDS), 58)} {value:9.6g}{end}")
    print()
    print_causes()
    save_picture(histories, args.out / "learning_rate.png")


if __name__ == "__main__":
    launch(main)
