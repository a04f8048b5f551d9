"""3장. 깊이, 그리고 실패의 까닭. Chapter 3. Depth, and why it failed.

`...`을 지우고 빈칸을 채운 다음 확인하세요. Fill in each blank in place of `...`, then check:

    python examples/exercises/check.py 3
"""

from __future__ import annotations

import numpy as np

from tinygrad_kr import nn


def most_that_is_left(layers):
    """3.1 가중치가 1인 시그모이드 층을 layers개 지나면 기울기는 많아야 몇 배가 남습니까?

    What is left of a gradient behind so many sigmoid layers of weight 1, at most.
    """
    return ...  # 빈칸


def he_weights(inputs, outputs, generator):
    """3.2 He 초기화로 가중치 (inputs, outputs)를 만드세요. ReLU에 알맞은 표준편차는 얼마입니까?

    Weights by He's rule: which standard deviation does ReLU need?
    """
    std = ...  # 빈칸
    return std * generator.standard_normal((inputs, outputs))


def deep_net():
    """3.3 은닉층이 10개여도 기울기가 사라지지 않도록 활성화 함수와 초기화를 고르세요.
    nn.Sigmoid()과 nn.init.xavier_normal_은 기울기 소실을 일으킵니다. tk.diagnose로 채점합니다.

    With nn.Sigmoid() and nn.init.xavier_normal_ the gradient vanishes: choose what keeps it. The
    answer is judged by tk.diagnose, which must find nothing wrong.
    """
    activation = ...  # 빈칸: nn.Sigmoid(), nn.Tanh(), nn.ReLU(), ...
    start = ...  # 빈칸: nn.init.normal_, nn.init.xavier_normal_, nn.init.kaiming_normal_, ...
    layers = []
    for inputs in (2, *[32] * 9):
        layers += [nn.Linear(inputs, 32), activation]
    net = nn.Sequential(*layers, nn.Linear(32, 1))
    for layer in net[::2]:
        start(layer.weight)
    return net
