"""How the answers of chapter 8 are judged."""

from __future__ import annotations

import numpy as np
from exercise import FOLDER, Slip, by_cases, load

from tinygrad_kr.language import Text

solution = load(FOLDER / "solutions/chapter_8.py")
HESSIANS = [(np.array([[2.0, 1.0], [1.0, 3.0]]),), (np.diag([4.0, 25.0]),)]

EXERCISES = (
    by_cases(
        "lotka_volterra",
        Text("hares and lynxes", "토끼와 스라소니"),
        solution.lotka_volterra,
        [(30.0, 4.0, 0.5, 0.02, 0.8, 0.03), (20.0, 35.0, 1.0, 0.1, 0.5, 0.2)],
        Slip(
            lambda h, x, birth, hunted, death, fed: (birth * h - hunted * x, fed * h - death * x),
            Text(
                "hares are hunted where they meet lynxes: both numbers are multiplied",
                "토끼는 스라소니와 마주칠 때 잡힙니다. 두 수를 곱해야 합니다",
            ),
        ),
        Slip(
            lambda h, x, birth, hunted, death, fed: (
                birth * h + hunted * h * x,
                death * x - fed * h * x,
            ),
            Text(
                "signs are wrong: meetings cost hares and feed lynxes",
                "부호가 반대입니다. 마주치면 토끼는 줄고 스라소니는 늘어납니다",
            ),
        ),
    ),
    by_cases(
        "standard_errors",
        Text("standard errors", "표준 오차"),
        solution.standard_errors,
        HESSIANS,
        Slip(
            lambda hessian: 1 / np.sqrt(np.diag(hessian)),
            Text(
                "the other parameters are held still: invert the matrix, then take its diagonal",
                "다른 파라미터를 고정했습니다. 행렬 전체의 역행렬을 구한 다음 대각 원소를 꺼내세요",
            ),
        ),
        Slip(
            lambda hessian: np.diag(np.linalg.inv(hessian)),
            Text("these are variances: take the square root", "분산입니다. 제곱근을 구하세요"),
        ),
    ),
)
