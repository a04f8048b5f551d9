"""5장. MNIST. Chapter 5. MNIST.

`...`을 지우고 빈칸을 채운 다음 확인하세요. Fill in each blank in place of `...`, then check:

    python examples/exercises/check.py 5
"""

from __future__ import annotations

import numpy as np


def dropout(x, keep, mask):
    """5.1 드롭아웃을 완성하세요. keep은 남길 확률, mask는 남길 자리가 1, 지울 자리가 0입니다.

    Dropout while training: keep is the share that stays, mask is 1 where an element stays. The
    mean of the output must be that of the input.
    """
    return ...  # 빈칸


def batch_norm(x, gamma, beta, eps=1e-5):
    """5.2 배치 정규화를 완성하세요. x는 (배치, 유닛) 모양입니다.

    Batch normalisation of x, (batch, units), in training mode.
    """
    mean = ...  # 빈칸
    variance = ...  # 빈칸
    return gamma * (x - mean) / np.sqrt(variance + eps) + beta


def vote(logits):
    """5.3 앙상블의 답을 구하세요. logits의 모양은 (신경망, 이미지, 10)입니다.

    The classes that an ensemble answers, (images,), by the sum of the logits of its nets.
    """
    return ...  # 빈칸
