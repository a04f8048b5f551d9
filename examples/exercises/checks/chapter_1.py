"""How the answers of chapter 1 are judged."""

from __future__ import annotations

import numpy as np
from exercise import FOLDER, Slip, by_cases, by_derivation, load

from tinygrad_kr.language import Text

solution = load(FOLDER / "solutions/chapter_1.py")
POINTS, TARGETS = np.array([1.0, 2.0, 4.0]), np.array([3.0, 2.0, 7.0])


def square(x):
    return x * x


def fourth_power(x):
    return x**4


def sums_in_place_of_means(w, b, x, t):
    error = w * x + b - t
    return {"w": np.sum(2 * error * x), "b": np.sum(2 * error)}


def turned_around(w, b, x, t):
    error = t - (w * x + b)
    return {"w": np.mean(2 * error * x), "b": np.mean(2 * error)}


EXERCISES = (
    by_cases(
        "slope_both_ways",
        Text("the slope from a small change", "작은 변화로 기울기 구하기"),
        solution.slope_both_ways,
        [(square, 3.0, 0.01), (fourth_power, 1.0, 0.1), (np.exp, 0.0, 0.5)],
        Slip(
            lambda f, x, dx: (f(x + dx) - f(x - dx)) / dx,
            Text(
                "twice the slope: from x - dx to x + dx, x changes by 2 dx",
                "기울기의 2배입니다. x - dx에서 x + dx까지 x의 변화량은 2 dx입니다",
            ),
        ),
        Slip(
            lambda f, x, dx: (f(x + dx) - f(x)) / dx,
            Text(
                "x changes one way only: use f(x - dx) too, and the error is squared",
                "x를 한쪽으로만 바꾸었습니다. f(x - dx)도 쓰면 오차가 제곱으로 줄어듭니다",
            ),
        ),
    ),
    by_derivation(
        "line_gradients",
        Text("the gradients of a line", "직선의 기울기를 손으로 유도하기"),
        lambda p: ((p["w"] * p["x"] + p["b"] - p["t"]) ** 2).mean(),
        {"w": np.array(0.5), "b": np.array(-1.0), "x": POINTS, "t": TARGETS},
        Slip(sums_in_place_of_means, Text("not averaged", "평균을 내지 않았습니다")),
        Slip(turned_around, Text("its sign is wrong", "부호가 반대입니다")),
    ),
    by_cases(
        "log_probability",
        Text("a log probability without NaN", "NaN 없는 로그 확률"),
        solution.log_probability,
        [(np.array([0.5, 2.0, -1.0]), 0), (np.array([1000.0, 0.0]), 1), (np.array([3.0, 3.0]), 1)],
        Slip(
            lambda z, label: np.log(np.exp(z - z.max()) / np.exp(z - z.max()).sum())[label],
            Text(
                "log(0): an exponential became 0. Write z - log(sum of exp(z)) "
                "and take no logarithm of a quotient",
                "log(0)이 생겼습니다. 지수 함수의 값이 0이 되었습니다. 나눗셈의 로그 대신 "
                "z - log(exp(z)의 합)으로 쓰세요",
            ),
        ),
        Slip(
            lambda z, label: np.exp(z - z.max())[label] / np.exp(z - z.max()).sum(),
            Text(
                "this is the probability: its logarithm is asked for",
                "이것은 확률입니다. 로그를 취해야 합니다",
            ),
        ),
    ),
)
