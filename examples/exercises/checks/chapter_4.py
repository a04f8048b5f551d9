"""How the answers of chapter 4 are judged."""

from __future__ import annotations

import numpy as np
from exercise import FOLDER, Slip, by_cases, load

from tinygrad_kr.language import Text

solution = load(FOLDER / "solutions/chapter_4.py")
GENERATOR = np.random.default_rng(0)
SQUARE = [GENERATOR.normal(size=shape) for shape in ((4, 3), (3, 3), (3,), (3,))]
WIDE = [GENERATOR.normal(size=shape) for shape in ((2, 3), (3, 5), (3,), (5,))]
PAIRS = tuple(GENERATOR.uniform(size=shape) for shape in ((6, 3), (6, 2), (6, 3), (6, 2)))
sigmoid = solution.sigmoid

EXERCISES = (
    by_cases(
        "reconstruction",
        Text("the reconstruction of an RBM", "RBM의 재구성"),
        solution.reconstruction,
        [tuple(SQUARE), tuple(WIDE)],
        Slip(
            lambda v, W, b, c: sigmoid(v @ W + c) @ W.T + b,
            Text(
                "these are not probabilities yet: a sigmoid belongs around them",
                "아직 확률이 아닙니다. 시그모이드를 취해야 합니다",
            ),
        ),
        Slip(
            lambda v, W, b, c: sigmoid(sigmoid(v @ W + c) @ W.T),
            Text(
                "the biases b of the visible units are missing", "가시 유닛의 편향 b가 빠졌습니다"
            ),
        ),
    ),
    by_cases(
        "contrastive_divergence",
        Text("contrastive divergence, CD-1", "대조 발산, CD-1"),
        solution.contrastive_divergence,
        [PAIRS],
        Slip(
            lambda v0, h0, v1, h1: (v1.T @ h1 - v0.T @ h0) / len(v0),
            Text(
                "the sign is wrong: the data are made likelier, the reconstruction less likely",
                "부호가 반대입니다. 데이터의 확률을 높이고 재구성의 확률을 낮추어야 합니다",
            ),
        ),
        Slip(
            lambda v0, h0, v1, h1: v0.T @ h0 - v1.T @ h1,
            Text("not averaged over the rows", "행에 대해 평균을 내지 않았습니다"),
        ),
    ),
)
