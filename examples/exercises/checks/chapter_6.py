"""How the answers of chapter 6 are judged."""

from __future__ import annotations

import numpy as np
from exercise import FOLDER, Slip, by_cases, load

from tinygrad_kr.language import Text

solution = load(FOLDER / "solutions/chapter_6.py")
PRICES = np.random.default_rng(0).normal(size=30).cumsum()


def entropy(counts, log):
    p = np.array([count for count in counts if count > 0]) / sum(counts)
    return -np.sum(p * log(p))


EXERCISES = (
    by_cases(
        "skip_gradient",
        Text("the gradient through skips", "건너뛰기를 지난 기울기"),
        solution.skip_gradient,
        [(0.25, 10), (0.01, 40), (-0.5, 3)],
        Slip(
            lambda slope, layers: slope**layers,
            Text(
                "this is the net without skips: the derivative of h + f(h) is 1 + f'(h)",
                "이것은 건너뛰기가 없는 신경망입니다. h + f(h)의 미분은 1 + f'(h)입니다",
            ),
        ),
        Slip(
            lambda slope, layers: 1 + slope**layers,
            Text(
                "each layer has its own skip: (1 + slope) is multiplied layer by layer",
                "층마다 건너뛰기가 있습니다. 1 + slope를 층마다 곱해야 합니다",
            ),
        ),
    ),
    by_cases(
        "floor_of_the_loss",
        Text("the loss that cannot be learned away", "아무리 배워도 남는 손실"),
        solution.floor_of_the_loss,
        [([1, 1],), ([3, 1, 0],), ([5],)],
        Slip(
            lambda counts: entropy(counts, np.log2),
            Text(
                "this is in bits: use the natural logarithm", "비트 단위입니다. 자연로그를 쓰세요"
            ),
        ),
        Slip(
            lambda counts: -entropy(counts, np.log),
            Text(
                "the sign is wrong: a logarithm of p is negative",
                "부호가 반대입니다. log p는 음수입니다",
            ),
        ),
    ),
    by_cases(
        "naive_error",
        Text("the forecast to beat", "이겨야 할 예측"),
        solution.naive_error,
        [(PRICES,), (PRICES[:5],)],
        Slip(
            lambda prices: np.mean((prices - prices.mean()) ** 2),
            Text(
                "this is the forecast of the mean price, which no one knows beforehand",
                "이것은 평균 가격이라는 예측입니다. 평균은 미리 알 수 없습니다",
            ),
        ),
        Slip(
            lambda prices: np.mean(np.abs(prices[1:] - prices[:-1])),
            Text("these are absolute errors: square them", "절댓값의 평균입니다. 제곱하세요"),
        ),
    ),
)
