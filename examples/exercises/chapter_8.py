"""8장. 강의를 넘어서. Chapter 8. Beyond the lectures.

`...`을 지우고 빈칸을 채운 다음 확인하세요. Fill in each blank in place of `...`, then check:

    python examples/exercises/check.py 8
"""

from __future__ import annotations

import numpy as np


def lotka_volterra(hares, lynxes, birth, hunted, death, fed):
    """8.1 로트카-볼테라 방정식의 (토끼의 변화율, 스라소니의 변화율)을 쓰세요.

    The rates of change of hares and lynxes: hares are born (birth) and hunted by lynxes (hunted),
    lynxes die (death) and are fed by hares (fed).
    """
    meetings = hares * lynxes
    return (..., ...)  # 빈칸


def standard_errors(hessian):
    """8.2 음의 로그 가능도의 헤세 행렬에서 파라미터마다 표준 오차를 구하세요.

    The standard error of each parameter, from the Hessian of the negative log likelihood.
    """
    return ...  # 빈칸
