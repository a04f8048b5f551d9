"""6장. 다르게 쌓는 법. Chapter 6. Other ways to build.

`...`을 지우고 빈칸을 채운 다음 확인하세요. Fill in each blank in place of `...`, then check:

    python examples/exercises/check.py 6
"""

from __future__ import annotations

import numpy as np


def skip_gradient(slope, layers):
    """6.1 층이 h + f(h)이고 f의 기울기가 slope일 때, layers개 층을 지난 기울기를 구하세요.

    The derivative behind so many layers h + f(h), where f has this slope everywhere.
    """
    return ...  # 빈칸


def floor_of_the_loss(counts):
    """6.2 다음 글자의 횟수가 counts일 때, 교차 엔트로피가 내려갈 수 있는 가장 낮은 값을 구하세요.

    The lowest cross-entropy of predicting a letter that was followed so often by each letter: the
    entropy, by the natural logarithm. A count of 0 adds nothing.
    """
    p = np.array([count for count in counts if count > 0]) / sum(counts)
    return ...  # 빈칸


def naive_error(prices):
    """6.3 "내일 가격은 오늘과 같다"는 예측의 평균 제곱 오차를 구하세요.

    The mean square error of the forecast "tomorrow's price is today's".
    """
    return ...  # 빈칸
