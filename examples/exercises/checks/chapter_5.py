"""How the answers of chapter 5 are judged."""

from __future__ import annotations

import numpy as np
from exercise import FOLDER, Slip, by_cases, load

from tinygrad_kr.language import Text

solution = load(FOLDER / "solutions/chapter_5.py")
GENERATOR = np.random.default_rng(0)
X, MASK = GENERATOR.normal(size=(4, 5)), GENERATOR.integers(0, 2, (4, 5))
LOGITS = GENERATOR.normal(size=(5, 40, 10)) * np.array([5.0, 1, 1, 1, 1])[:, None, None]


def normalised(x, gamma, beta, axis, ddof=0, eps=1e-5):
    mean, variance = x.mean(axis, keepdims=True), x.var(axis, ddof=ddof, keepdims=True)
    return gamma * (x - mean) / np.sqrt(variance + eps) + beta


def majority(logits):
    votes = np.eye(10)[np.argmax(logits, axis=2)].sum(axis=0)
    return np.argmax(votes, axis=1)


EXERCISES = (
    by_cases(
        "dropout",
        Text("dropout", "드롭아웃"),
        solution.dropout,
        [(X, 0.7, MASK), (X, 0.9, MASK)],
        Slip(
            lambda x, keep, mask: x * mask,
            Text(
                "the output is smaller on average than the input: divide by keep",
                "출력의 평균이 입력보다 작습니다. keep으로 나누세요",
            ),
        ),
        Slip(
            lambda x, keep, mask: x * mask / (1 - keep),
            Text(
                "1 - keep is the share that is dropped: divide by the share that stays",
                "1 - keep은 지우는 비율입니다. 남기는 비율로 나누어야 합니다",
            ),
        ),
    ),
    by_cases(
        "batch_norm",
        Text("batch normalisation", "배치 정규화"),
        solution.batch_norm,
        [(X, 1.0, 0.0), (X[:3], np.arange(5.0), np.ones(5))],
        Slip(
            lambda x, gamma, beta: normalised(x, gamma, beta, None),
            Text(
                "mean and variance are those of all elements: each unit has its own, axis 0",
                "모든 원소의 평균과 분산을 썼습니다. 유닛마다 따로 구해야 합니다 (axis=0)",
            ),
        ),
        Slip(
            lambda x, gamma, beta: normalised(x, gamma, beta, 1),
            Text(
                "mean and variance are those of a row: that is layer normalisation",
                "행마다 평균과 분산을 구했습니다. 그것은 층 정규화입니다",
            ),
        ),
        Slip(
            lambda x, gamma, beta: normalised(x, gamma, beta, 0, ddof=1),
            Text(
                "the variance is divided by n - 1: in a batch it is divided by n",
                "분산을 n - 1로 나누었습니다. 배치 정규화에서는 n으로 나눕니다",
            ),
        ),
    ),
    by_cases(
        "vote",
        Text("nets that vote", "투표하는 신경망"),
        solution.vote,
        [(LOGITS,)],
        Slip(
            majority,
            Text(
                "each net has one vote here: sum the logits first, so that sure nets count more",
                "신경망마다 한 표씩 주었습니다. 로짓을 먼저 더해야 확신하는 신경망의 몫이 커집니다",
            ),
        ),
        Slip(
            lambda logits: np.argmax(logits.sum(axis=0), axis=0),
            Text(
                "the largest over the images: the classes are on the last axis",
                "이미지 가운데 최댓값을 골랐습니다. 클래스는 마지막 축에 있습니다",
            ),
        ),
    ),
)
