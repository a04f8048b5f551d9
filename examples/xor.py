"""XOR: the four points that one line cannot separate, and that a hidden layer can.

Two sigmoid nets, 2-2-1 and 2-10-1, learn them by full-batch gradient descent, as in the lectures:
weights and biases N(0, 1), mean binary cross-entropy, learning rate 0.1, 10,001 steps.

    python examples/xor.py
    python examples/xor.py --hidden 2 10 10,10,10    # a third net with three hidden layers
    python examples/xor.py --seeds 20                # how often does each net get there?

The picture of what they learned is saved in out/ (needs matplotlib).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from lectures import common
from lectures.common import XOR_ANSWERS, XOR_POINTS

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, no_grad, optim
from tinygrad_kr.language import Text

POINTS, TARGETS = Tensor(XOR_POINTS), Tensor(XOR_ANSWERS)
NOT_EVERY_START = Text(
    "Not every start ends so well: of 100, about 6 in 10 of the 2-2-1 nets learn XOR, and\n"
    "all of the 2-10-1 nets. --seeds 20 counts for you.",
    "늘 이렇게 잘 끝나지는 않습니다. 초깃값 100개 가운데 2-2-1은 열에 여섯쯤만 XOR를 배우고,\n"
    "2-10-1은 모두 배웁니다. --seeds 20으로 직접 세어 볼 수 있습니다.",
)


def make_net(hidden: tuple[int, ...], seed: int) -> nn.Sequential:
    """2 inputs, sigmoid layers as wide as `hidden` says, 1 sigmoid output."""
    tk.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise((2, *hidden, 1)):
        layers += [nn.Linear(inputs, outputs), nn.Sigmoid()]
        for parameter in layers[-2].parameters():
            nn.init.normal_(parameter)
    return nn.Sequential(*layers)


def train(net: nn.Sequential, steps: int, rate: float, show: bool = True) -> None:
    """Full-batch gradient descent; prints the loss at the start, the end and between."""
    loss_function, optimizer = nn.BCELoss(), optim.SGD(net.parameters(), lr=rate)
    shown = {0, steps // 100, steps // 10, steps // 5, steps // 2, steps - 1}
    for step in range(steps):
        loss = loss_function(net(POINTS), TARGETS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if show and step in shown:
            line = Text(
                "  step {step:>6,}   loss {loss:.4f}", "  스텝 {step:>6,}   손실 {loss:.4f}"
            )
            print(line.say(step=step, loss=loss.item()))


def outputs_of(net: nn.Sequential) -> np.ndarray:
    """The four outputs, each between 0 and 1."""
    with no_grad():
        return net(POINTS).numpy()[:, 0]


def accuracy(net: nn.Sequential) -> float:
    """The share of the four points that lie on the right side of 0.5."""
    return float(((outputs_of(net) > 0.5) == XOR_ANSWERS[:, 0]).mean())


def print_truth_table(net: nn.Sequential) -> None:
    """Inputs, what XOR says, what the net says."""
    print(Text("   a  b   XOR   output   answer", "   a  b   XOR   출력     답").say())
    right, wrong = Text("right", "맞음"), Text("WRONG", "틀림")
    for (a, b), (xor,), output in zip(XOR_POINTS, XOR_ANSWERS, outputs_of(net), strict=True):
        verdict = (right if (output > 0.5) == xor else wrong).say()
        print(f"   {a:.0f}  {b:.0f}    {xor:.0f}    {output:.4f}     {output > 0.5:d} {verdict}")
    print(Text("  accuracy {share:.2f}\n", "  정확도 {share:.2f}\n").say(share=accuracy(net)))


def print_success_rate(hidden: tuple[int, ...], seeds: range, steps: int, rate: float) -> None:
    """The same training from many starts: + is a net that learned XOR, - one that got stuck."""
    print(f"  {name_of(hidden):12} ", end="", flush=True)
    solved = 0
    for seed in seeds:
        net = make_net(hidden, seed)
        train(net, steps, rate, show=False)
        solved += accuracy(net) == 1
        print("+" if accuracy(net) == 1 else "-", end="", flush=True)
    line = Text(
        "  {solved} of {starts} solved ({share:.0%})",
        "  {starts}개 중 {solved}개 성공 ({share:.0%})",
    )
    print(line.say(solved=solved, starts=len(seeds), share=solved / len(seeds)))


def name_of(hidden: tuple[int, ...]) -> str:
    """The net's sizes, 2-10-1."""
    return "-".join(map(str, (2, *hidden, 1)))


KOREAN = """
XOR: 직선 하나로는 가를 수 없고 은닉층이 있으면 가를 수 있는 점 네 개.

시그모이드 신경망 2-2-1과 2-10-1이 강의처럼 경사 하강법으로 배웁니다. 스텝마다 네 점을 모두
씁니다. 가중치와 편향 N(0, 1), 이진 교차 엔트로피의 평균, 학습률 0.1, 10,001스텝.

    python examples/xor.py
    python examples/xor.py --hidden 2 10 10,10,10    # 은닉층이 세 개인 셋째 신경망도
    python examples/xor.py --seeds 20                # 초깃값 20개 중 몇 개가 성공하는지

배운 것을 그린 그림은 out/에 저장합니다 (matplotlib 필요).
"""


def main() -> None:
    parser = common.options(__doc__, KOREAN, out="out")
    add, whole = parser.add_argument, common.whole
    add(
        "--hidden",
        type=common.widths,
        nargs="+",
        default=[(2,), (10,)],
        help=Text("a net for each", "신경망마다 은닉층의 폭").say(),
    )
    add("--steps", type=whole(1), default=10_001, help=common.STEPS.say(default="10001"))
    add("--rate", type=common.positive, default=0.1, help=common.RATE.say(default="0.1"))
    add(
        "--seed",
        type=whole(0),
        default=0,
        help=Text("of the initial weights", "초깃값의 시드").say(),
    )
    add(
        "--seeds",
        type=whole(0),
        default=0,
        help=Text(
            "also train from N starts and count", "초깃값 N개에서도 학습하고 성공을 셉니다"
        ).say(),
        metavar="N",
    )
    args = parser.parse_args()
    nets = {}
    for hidden in args.hidden:
        net = nets[name_of(hidden)] = make_net(hidden, args.seed)
        count = sum(parameter.size for parameter in net.parameters())
        line = Text(
            "{name} sigmoid net, {count} parameters, seed {seed}",
            "{name} 시그모이드 신경망, 파라미터 {count}개, 시드 {seed}",
        )
        print(line.say(name=name_of(hidden), count=count, seed=args.seed))
        train(net, args.steps, args.rate)
        print_truth_table(net)
    if args.seeds:
        seeds = range(args.seed, args.seed + args.seeds)
        line = Text(
            "{starts} starts each, seeds {first} to {last}:",
            "초깃값 {starts}개씩, 시드 {first}부터 {last}까지:",
        )
        print(line.say(starts=args.seeds, first=seeds[0], last=seeds[-1]))
        for hidden in args.hidden:
            print_success_rate(hidden, seeds, args.steps, args.rate)
    else:
        print(NOT_EVERY_START.say())
    planes = {name: (net, XOR_ANSWERS[:, 0]) for name, net in nets.items()}
    common.save_planes(planes, args.out / "xor.png", columns=len(planes), lines=True)


if __name__ == "__main__":
    common.launch(main)
