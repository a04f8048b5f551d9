"""How the answers of chapter 2 are judged."""

from __future__ import annotations

import numpy as np
from exercise import Exercise, Slip, by_derivation

import tinygrad_kr.functional as F
from tinygrad_kr.language import Text

GENERATOR = np.random.default_rng(0)
SHAPES = {"W1": (2, 3), "b1": (3,), "W2": (3, 1), "b2": (1,), "X": (5, 2)}
NET = {name: GENERATOR.normal(size=shape) for name, shape in SHAPES.items()}
NET["Y"] = np.array([[0.0], [1.0], [1.0], [0.0], [1.0]])
IS_OR = Text(
    "this neuron computes OR: it says 1 for 01 and 10 too. The bias must be lower",
    "이 뉴런은 OR를 계산합니다. 01과 10에도 1이라고 답합니다. 편향을 더 낮추세요",
)
NO_AND = Text(
    "for {a}{b} the neuron gives {output:.3f}, and AND is {wanted}: XW + b = {z:g}",
    "입력 {a}{b}: 뉴런의 출력 {output:.3f}, AND의 답 {wanted}. 여기서 XW + b = {z:g}",
)


def wrong_neuron(answer):
    wa, wb, bias = (float(number) for number in answer())
    z = {(a, b): wa * a + wb * b + bias for a in (0, 1) for b in (0, 1)}
    said = {point: value > 0 for point, value in z.items()}
    if said == {(a, b): bool(a or b) for a, b in z}:
        return IS_OR.say()
    for (a, b), value in z.items():
        if said[a, b] != bool(a and b):
            output = float(F.sigmoid(np.array(value)))
            return NO_AND.say(a=a, b=b, output=output, wanted=a & b, z=value)
    return None


def log_loss(p):
    hidden = F.tanh(p["X"] @ p["W1"] + p["b1"])
    return F.binary_cross_entropy_with_logits(hidden @ p["W2"] + p["b2"], p["Y"].detach())


def delta_of_squares(z, t):
    a = 1 / (1 + np.exp(-z))
    return {"z": (a - t) * a * (1 - a) / len(z)}


def delta_not_averaged(z, t):
    return {"z": 1 / (1 + np.exp(-z)) - t}


def without_tanh(W1, b1, W2, b2, X, Y):
    A1 = np.tanh(X @ W1 + b1)
    A2 = 1 / (1 + np.exp(-(A1 @ W2 + b2)))
    dZ1 = (A2 - Y) / len(X) @ W2.T
    return {"W1": X.T @ dZ1, "b1": dZ1.sum(axis=0)}


EXERCISES = (
    Exercise(
        "and_neuron",
        Text("a neuron that computes AND", "AND를 계산하는 뉴런"),
        wrong_neuron,
        (Slip(lambda: (10, 10, -5), IS_OR),),
    ),
    by_derivation(
        "output_delta",
        Text("the delta of the output", "출력층의 델타"),
        lambda p: F.binary_cross_entropy_with_logits(p["z"], p["t"].detach()),
        {"z": np.array([0.5, -1.0, 2.0, 0.1]), "t": np.array([1.0, 0.0, 0.0, 1.0])},
        Slip(delta_not_averaged, Text("not averaged", "평균을 내지 않았습니다")),
        Slip(
            delta_of_squares, Text("it is wrong in 4 of 4 elements", "4개 가운데 4개가 틀렸습니다")
        ),
    ),
    by_derivation(
        "backpropagation",
        Text("backpropagation through tanh", "tanh를 지나는 역전파"),
        log_loss,
        NET,
        Slip(
            without_tanh, Text("the derivative of tanh is missing", "tanh 함수의 미분이 빠졌습니다")
        ),
    ),
)
