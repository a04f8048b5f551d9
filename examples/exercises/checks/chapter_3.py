"""How the answers of chapter 3 are judged."""

from __future__ import annotations

import numpy as np
from exercise import FOLDER, Slip, by_cases, by_diagnosis, load

import tinygrad_kr.functional as F
from tinygrad_kr import nn, optim
from tinygrad_kr.language import Text

solution = load(FOLDER / "solutions/chapter_3.py")
POINTS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
ANSWERS = np.array([[0], [1], [1], [0]], np.float32)
SHALLOW = Text(
    "the net must keep its 11 layers of weights; it has {layers}",
    "가중치 층 11개를 그대로 두어야 합니다. 지금은 {layers}개입니다",
)


def shallow(net):
    layers = sum(isinstance(layer, nn.Linear) for layer in net.modules())
    return None if layers == 11 else SHALLOW.say(layers=layers)


def on_xor(net):
    """What `tk.diagnose` is given."""
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    return net, F.binary_cross_entropy_with_logits, (POINTS, ANSWERS), optimizer


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
    by_diagnosis(
        "deep_net",
        Text("a deep net whose gradient stays", "기울기가 살아 있는 깊은 신경망"),
        on_xor,
        Slip(
            net_of(nn.Sigmoid, nn.init.xavier_normal_),
            Text("vanishing_gradient: layer 0:", "vanishing_gradient: 층 0: 기울기 소실"),
        ),
        Slip(
            net_of(nn.ReLU, nn.init.normal_),
            Text("exploding_gradient: layer", "exploding_gradient: 층"),
        ),
        Slip(
            net_of(nn.Tanh, nn.init.normal_),
            Text("saturated_units: layer", "saturated_units: 층"),
        ),
        Slip(
            net_of(nn.ReLU, nn.init.zeros_),
            Text("zero_initialization: layer 0", "zero_initialization: 층 0"),
        ),
        Slip(
            net_of(nn.Identity, nn.init.xavier_normal_),
            Text("no_nonlinearity: layer 0", "no_nonlinearity: 층 0"),
        ),
        refused=shallow,
    ),
)
