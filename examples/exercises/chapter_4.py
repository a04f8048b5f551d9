"""4장. 사전 학습, 2006년에 찾은 길. Chapter 4. Pre-training, the way found in 2006.

`...`을 지우고 빈칸을 채운 다음 확인하세요. Fill in each blank in place of `...`, then check:

    python examples/exercises/check.py 4
"""

from __future__ import annotations

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def reconstruction(v, W, b, c):
    """4.1 RBM이 v를 한 번 재구성한 확률을 구하세요. 은닉 유닛은 뽑지 말고 확률을 그대로 씁니다.

    The probabilities of the visible units after one pass up and down, hidden probabilities taken
    as they are. v: (n, visible), W: (visible, hidden), b of the visible units, c of the hidden.
    """
    h = sigmoid(v @ W + c)
    return ...  # 빈칸


def contrastive_divergence(v0, h0, v1, h1):
    """4.2 CD-1에서 W에 더할 방향을 구하세요. 데이터는 (v0, h0), 재구성은 (v1, h1)입니다.

    The direction that CD-1 adds to W: from the data (v0, h0) and the reconstruction (v1, h1), all
    of shape (n, units), on average over the rows.
    """
    return ...  # 빈칸
