"""AND, OR and XOR: what one neuron can do, and what needs a hidden layer.

A neuron is act(XW + b). With a sigmoid it answers 0.5 where XW + b = 0, which is a straight line,
so one neuron (logistic regression) learns AND and OR. No line has XOR's points on the right sides:
of 100,000 random ones the best is right about three of the four, and the neuron with the least mean
log loss has W = 0, b = 0 and answers 0.5 to everything (loss log 2 = 0.6931, accuracy 0.5). A
hidden layer draws two lines, and that is enough.

All as in the lecture: weights and biases N(0, 1), SGD with rate 0.1, 10,001 steps. The net 2-2-1
has luck with seed 0, which the lecture does not say: `python examples/xor.py --seeds 100` finds 61
of 100 starts that learn XOR. The deep net 2-10-10-10-1 needs none: seeds 0 to 19 all learn it.

Last, a slip in the lecture's deep XOR program: an output bias of shape (5,) for one output.
Broadcasting makes five outputs of it without a word; our loss refuses them.

    python examples/lectures/gates.py

The picture is saved as out/lectures/gates.png (needs matplotlib).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from common import (
    RATE,
    SEED,
    STEPS,
    XOR_POINTS,
    bar,
    in_words,
    label,
    launch,
    left,
    options,
    positive,
    save_planes,
    whole,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, no_grad, optim
from tinygrad_kr.language import Text

GATES = {"AND": (0, 0, 0, 1), "OR": (0, 1, 1, 1), "XOR": (0, 1, 1, 0)}
NETS = {
    "perceptron 2-1": (2, 1),
    "shallow 2-2-1": (2, 2, 1),
    "deep 2-10-10-10-1": (2, 10, 10, 10, 1),
}
WORDS = (
    Text("perceptron", "퍼셉트론"),
    Text("shallow", "얕은 신경망"),
    Text("deep", "깊은 신경망"),
    Text("gates", "게이트"),
    Text("outputs with a bias of shape (5,)", "편향 (5,)일 때의 출력 수"),
    Text("bias gradient, (5,) over (1,)", "편향의 기울기, (5,) / (1,)"),
    Text("weight gradient, (5,) over (1,)", "가중치의 기울기, (5,) / (1,)"),
    Text("loss, (5,) minus (1,)", "손실, (5,) - (1,)"),
)
LABS = dict(zip(NETS, ("lab 09-1", "lab 09-2", "lab 09-3"), strict=True))
PUBLISHED = {"lab 09-1 accuracy": 0.5, "lab 09-2 accuracy": 1.0, "lab 09-3 accuracy": 1.0}


def make_net(sizes: tuple[int, ...], seed: int) -> nn.Sequential:
    """Linear and sigmoid in turn; two numbers make a perceptron, five a deep net."""
    tk.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layer = nn.Linear(inputs, outputs)
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        layers += [layer, nn.Sigmoid()]
    return nn.Sequential(*layers)


def column(gate: str) -> np.ndarray:
    """What the gate answers to the four points, of shape (4, 1)."""
    return np.array(GATES[gate], np.float32)[:, None]


def train(net: nn.Sequential, gate: str, steps: int, rate: float) -> float:
    """Full-batch gradient descent; returns the last loss."""
    inputs, targets = Tensor(XOR_POINTS), Tensor(column(gate))
    optimizer = optim.SGD(net.parameters(), lr=rate)
    for _ in range(steps):
        loss = F.binary_cross_entropy(net(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss.item())


def outputs_of(net: nn.Sequential, points: np.ndarray) -> np.ndarray:
    with no_grad():
        outputs: np.ndarray = net(Tensor(points.astype(np.float32))).numpy()
    return outputs[:, 0]


def accuracy(net: nn.Sequential, gate: str) -> float:
    """The share of the four points on the right side of 0.5; exactly 0.5 counts as no."""
    return float(((outputs_of(net, XOR_POINTS) > 0.5) == (column(gate)[:, 0] > 0.5)).mean())


def best_line(gate: str, lines: int = 100_000, seed: int = 0) -> float:
    """The best accuracy of random lines w1 a + w2 b + c = 0, by whichever side says yes."""
    w1, w2, c = np.random.default_rng(seed).uniform(-1, 1, (3, lines, 1))
    yes = w1 * XOR_POINTS[:, 0] + w2 * XOR_POINTS[:, 1] + c > 0
    return float((yes == (column(gate)[:, 0] > 0.5)).mean(axis=1).max())


def output_on_line(neuron: nn.Sequential) -> float:
    """The largest distance from 0.5 of a neuron's outputs at points where XW + b = 0."""
    weight, bias = neuron[0].weight.data[0].astype(float), float(neuron[0].bias.data[0])
    a = np.linspace(-1, 2, 50)
    points = np.column_stack([a, -(weight[0] * a + bias) / weight[1]])
    return float(np.abs(outputs_of(neuron, points) - 0.5).max())


# ------------------------------------------------------------------ the bias of shape (5,)


def bias_of_five(seed: int = 0) -> tuple[str, dict[str, float]]:
    """Our loss's complaint about the lecture's slip, and what happens where nobody complains.

    The five outputs are equal at the start and stay so. Each bias gets a fifth of the gradient, so
    the program runs, with a learning rate for its bias that is five times too small.
    """
    generator = np.random.default_rng(seed)
    hidden = Tensor(generator.uniform(0, 1, (4, 5)))
    weight = generator.uniform(-1, 1, (5, 1))
    targets = np.array([[0.0], [1.0], [1.0], [1.0]])
    gradients, losses = {}, {}
    for size in (1, 5):
        w, bias = Tensor(weight, requires_grad=True), Tensor(np.zeros(size), requires_grad=True)
        answers = F.sigmoid(hidden @ w + bias)
        try:
            loss = F.binary_cross_entropy(answers, Tensor(targets))
        except ValueError as error:
            complaint = str(error)
            silently = np.broadcast_to(targets, answers.shape)  # what other frameworks do
            loss = F.binary_cross_entropy(answers, Tensor(silently))
        loss.backward()
        assert w.grad is not None and bias.grad is not None
        losses[size], gradients[size] = loss.item(), (w.grad.numpy(), bias.grad.numpy())
    return complaint, {
        "outputs with a bias of shape (5,)": float(answers.shape[1]),
        "bias gradient, (5,) over (1,)": float((gradients[5][1] / gradients[1][1]).mean()),
        "weight gradient, (5,) over (1,)": float((gradients[5][0] / gradients[1][0]).mean()),
        "loss, (5,) minus (1,)": losses[5] - losses[1],
    }


# ------------------------------------------------------------------ the program


def train_all(
    names: list[str], steps: int, rate: float, seed: int
) -> tuple[dict[tuple[str, str], nn.Sequential], dict[str, float]]:
    """Each net on each gate, and the figures."""
    nets, figures = {}, {}
    pairs = [(name, gate) for name in names for gate in GATES]
    for _, (name, gate) in zip(
        bar(len(pairs), in_words("gates", WORDS), "net"), pairs, strict=True
    ):
        net = nets[name, gate] = make_net(NETS[name], seed)
        figures[f"{name}, {gate}: loss"] = train(net, gate, steps, rate)
        figures[f"{name}, {gate}: accuracy"] = accuracy(net, gate)
    for name in names:
        figures[f"{LABS[name]} accuracy"] = figures[f"{name}, XOR: accuracy"]
    return nets, figures


def run(
    *, steps: int = 10_001, rate: float = 0.1, seed: int = 0, nets: tuple[str, ...] = tuple(NETS)
) -> dict[str, float]:
    """Losses and accuracies by net and gate, the best of all lines, and the bias of shape (5,)."""
    return all_figures(*train_all(list(nets), steps, rate, seed))


def all_figures(
    nets: dict[tuple[str, str], nn.Sequential], figures: dict[str, float]
) -> dict[str, float]:
    lines = {f"best line, {gate}": best_line(gate) for gate in GATES}
    on_line = {
        f"largest distance from 0.5 where XW + b = 0, {gate}": output_on_line(net)
        for (name, gate), net in nets.items()
        if NETS[name] == (2, 1) and gate != "XOR"
    }
    return {**figures, **lines, **on_line, **bias_of_five()[1]}


def print_neuron() -> None:
    """One neuron as a formula and as layers, and the tables of three nets."""
    X, W, b = XOR_POINTS, np.array([[5.0], [5.0]], np.float32), np.array([-8.0], np.float32)
    line = Text(
        "a neuron, act(XW + b), on 00, 01, 10, 11:", "뉴런 하나, act(XW + b), 입력 00, 01, 10, 11:"
    )
    print(line.say())
    print("  NumPy  ", *(f"{y:.4f}" for y in (1 / (1 + np.exp(-(X @ W + b))))[:, 0]))
    neuron = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    neuron.load_state_dict({"0.weight": W.T, "0.bias": b})
    print(
        f"  {left(Text('layers', '층').say(), 7)}",
        *(f"{y:.4f}" for y in outputs_of(neuron, X)),
        end="\n\n",
    )
    for name, sizes in NETS.items():
        print(f"{in_words(name, WORDS)}: {make_net(sizes, 0).summary((4, 2))}\n")


def print_figures(figures: dict[str, float], names: list[str]) -> None:
    title, last = in_words("accuracy (loss)"), Text("published, XOR", "공개된 값, XOR").say()
    print(left(title, 26) + "".join(f"{gate:16}" for gate in GATES) + last)
    for name in names:
        cells = [
            f"{figures[f'{name}, {gate}: accuracy']:.2f} ({figures[f'{name}, {gate}: loss']:.4f})"
            for gate in GATES
        ]
        lab = LABS[name]
        print(
            left(in_words(name, WORDS), 26) + "".join(f"{cell:16}" for cell in cells),
            f"{PUBLISHED[f'{lab} accuracy']} ({in_words(lab)})",
            sep="",
        )
    lines = [f"{figures[f'best line, {gate}']:.2f}" for gate in GATES]
    title = Text("best of 100,000 lines", "직선 100,000개 중 최고").say()
    print(left(title, 26) + "".join(f"{line:16}" for line in lines).rstrip())


def print_bias_of_five() -> None:
    complaint, figures = bias_of_five()
    line = Text(
        "\nan output bias of shape (5,) on (4, 1) makes (4, 5). Our loss:",
        "\n출력층의 편향을 (5,) 모양으로 쓰면 (4, 1)이 (4, 5)가 됩니다. 우리 손실 함수의 답:",
    )
    print(line.say())
    print(f"  ValueError: {complaint}")
    line = Text("where it is broadcast without a word:", "말없이 브로드캐스팅하는 경우:")
    print(line.say())
    for name, value in figures.items():
        print(f"  {left(in_words(name, WORDS), 34)} {value:.4g}")


KOREAN = """
AND, OR, XOR: 뉴런 하나로 되는 것, 그리고 은닉층이 있어야 하는 것.

뉴런은 act(XW + b)입니다. 시그모이드를 쓰면 XW + b = 0인 직선 위에서 0.5라고 답하므로 뉴런
하나(로지스틱 회귀)는 AND와 OR를 배웁니다. XOR의 점을 바르게 가르는 직선은 없습니다. 무작위 직선
100,000개 중 가장 좋은 것도 네 점 중 세 점만 맞히고, 로그 손실의 평균이 가장 작은 뉴런은 W = 0, b
= 0이며 무엇을 물어도 0.5라고 답합니다(손실 log 2 = 0.6931, 정확도 0.5). 은닉층은 직선을 두 개
긋고, 그것으로 충분합니다.

모두 강의대로입니다. 가중치와 편향 N(0, 1), SGD 학습률 0.1, 10,001스텝. 신경망 2-2-1이 시드 0에서
성공하는 것은 운입니다. 강의는 이 말을 하지 않지만, `python examples/xor.py --seeds 100`으로 해
보면 초깃값 100개 중 61개만 XOR를 배웁니다. 깊은 신경망 2-10-10-10-1에는 운이 필요 없습니다. 시드
0에서 19까지 모두 배웁니다.

끝으로 강의의 깊은 XOR 프로그램에 있는 실수 하나: 출력이 하나인데 출력층의 편향 모양이 (5,)입니다.
브로드캐스팅은 말없이 출력 다섯 개를 만들지만, 우리 손실 함수는 받아 주지 않습니다.

    python examples/lectures/gates.py

그림은 out/lectures/gates.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add("--steps", type=whole(1), default=10_001, help=STEPS.say(default="10001"))
    add("--rate", type=positive, default=0.1, help=RATE.say(default="0.1"))
    add("--seed", type=whole(0), default=0, help=SEED.say(default="0"))
    args = parser.parse_args(argv)
    print_neuron()
    nets, figures = train_all(list(NETS), args.steps, args.rate, args.seed)
    print_figures(all_figures(nets, figures), list(NETS))
    neuron = nets["perceptron 2-1", "AND"][0]
    w1, w2 = neuron.weight.data[0]
    line = Text(
        "AND's line: {w1:.2f} a {w2:+.2f} b {bias:+.2f} = 0, where sigmoid is 0.5",
        "AND의 직선: {w1:.2f} a {w2:+.2f} b {bias:+.2f} = 0, 시그모이드가 0.5인 곳",
    )
    print(line.say(w1=w1, w2=w2, bias=neuron.bias.data[0]))
    print_bias_of_five()
    planes = {
        label(f"{name}: {gate}", WORDS): (net, column(gate)[:, 0])
        for (name, gate), net in nets.items()
    }
    save_planes(planes, args.out / "gates.png", columns=len(GATES))


if __name__ == "__main__":
    launch(main)
