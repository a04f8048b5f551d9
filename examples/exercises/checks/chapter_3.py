"""How the answers of chapter 3 are judged."""

from __future__ import annotations

import numpy as np
from exercise import FOLDER, Exercise, Slip, by_cases, load

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn
from tinygrad_kr.language import Text

solution = load(FOLDER / "solutions/chapter_3.py")
POINTS = Tensor(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32))
ANSWERS = Tensor(np.array([[0], [1], [1], [0]], np.float32))
VANISHING = Text(
    "vanishing gradient: the first layer's has a norm of {size:.0e}",
    "기울기 소실: 첫 층 기울기의 크기 = {size:.0e}",
)
EXPLODING = Text(
    "exploding gradient: the first layer's has a norm of {size:.0e}",
    "기울기 폭발: 첫 층 기울기의 크기 = {size:.0e}",
)
SHALLOW = Text(
    "the net must keep its 11 layers of weights; it has {layers}",
    "가중치 층 11개를 그대로 두어야 합니다. 지금은 {layers}개입니다",
)
LINEAR = Text(
    "without an activation function, 11 layers are one: the net is linear",
    "활성화 함수가 없으면 11개 층이 한 층과 같습니다. 선형 신경망입니다",
)


def first_gradient(net):
    """The norm of the gradient of the first layer's weight, on XOR."""
    F.binary_cross_entropy_with_logits(net(POINTS), ANSWERS).backward()
    return float(np.linalg.norm(net[0].weight.grad.data))


def wrong_net(answer):
    """Told by the median over three starts."""
    sizes = []
    for seed in range(3):
        tk.manual_seed(seed)
        net = answer()
        layers = sum(isinstance(layer, nn.Linear) for layer in net.modules())
        if layers != 11:
            return SHALLOW.say(layers=layers)
        sizes.append(first_gradient(net))
    size = float(np.median(sizes))
    if size < 1e-4:
        return VANISHING.say(size=size)
    if size > 1e3:
        return EXPLODING.say(size=size)
    middle = net(Tensor(np.array([[0.5, 0.5]], np.float32))).item()
    ends = net(Tensor(np.array([[0, 0], [1, 1]], np.float32))).mean().item()
    return LINEAR.say() if abs(middle - ends) < 1e-5 * abs(ends) else None


def net_of(activation, start):
    def make():
        layers = []
        for inputs in (2, *[32] * 9):
            layers += [nn.Linear(inputs, 32), activation()]
        net = nn.Sequential(*layers, nn.Linear(32, 1))
        for layer in net[::2]:
            start(layer.weight)
        return net

    return make


def weights(std):
    return lambda n, m, generator: std(n, m) * generator.standard_normal((n, m))


class Draws:
    """A generator that always starts again, so that two answers draw the same numbers."""

    def standard_normal(self, shape):
        return np.random.default_rng(0).standard_normal(shape)


EXERCISES = (
    by_cases(
        "most_that_is_left",
        Text("what sigmoid layers leave of a gradient", "시그모이드 층을 지난 기울기"),
        solution.most_that_is_left,
        [(1,), (4,), (10,)],
        Slip(
            lambda layers: 0.5**layers,
            Text(
                "0.5 is sigmoid's value at 0. Its slope there is 0.5 * (1 - 0.5)",
                "0.5는 0에서의 시그모이드의 값입니다. 그 기울기는 0.5 * (1 - 0.5)입니다",
            ),
        ),
        Slip(
            lambda layers: 0.25 * layers,
            Text(
                "the chain rule multiplies the slopes: a power, not a multiple",
                "연쇄 법칙은 기울기를 곱합니다. 배수가 아니라 거듭제곱입니다",
            ),
        ),
    ),
    by_cases(
        "he_weights",
        Text("He's start", "He 초기화"),
        solution.he_weights,
        [(784, 256, Draws()), (8, 5, Draws())],
        Slip(
            weights(lambda n, m: 1 / np.sqrt(n)),
            Text(
                "this is Xavier's rule of 2010. ReLU lets half of the signal through: 2 / inputs",
                "이것은 2010년의 Xavier 규칙입니다. ReLU는 신호의 절반만 통과시킵니다: 2 / inputs",
            ),
        ),
        Slip(
            weights(lambda n, m: 2 / n),
            Text(
                "2 / inputs is the variance: the standard deviation is its square root",
                "2 / inputs는 분산입니다. 표준편차는 그 제곱근입니다",
            ),
        ),
        Slip(
            weights(lambda n, m: np.sqrt(2 / m)),
            Text(
                "count the inputs of a unit, not the outputs of the layer",
                "층의 출력 수가 아니라 유닛에 들어오는 입력 수를 세어야 합니다",
            ),
        ),
    ),
    Exercise(
        "deep_net",
        Text("a deep net whose gradient stays", "기울기가 살아 있는 깊은 신경망"),
        wrong_net,
        (
            Slip(
                net_of(nn.Sigmoid, nn.init.xavier_normal_),
                Text("vanishing gradient", "기울기 소실"),
            ),
            Slip(net_of(nn.ReLU, nn.init.normal_), Text("exploding gradient", "기울기 폭발")),
            Slip(net_of(nn.Identity, nn.init.xavier_normal_), LINEAR),
        ),
    ),
)
