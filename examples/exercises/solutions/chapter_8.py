"""8장의 정답. Solutions of chapter 8."""

from __future__ import annotations

import numpy as np


def lotka_volterra(hares, lynxes, birth, hunted, death, fed):
    meetings = hares * lynxes
    return (birth * hares - hunted * meetings, fed * meetings - death * lynxes)


def standard_errors(hessian):
    return np.sqrt(np.diag(np.linalg.inv(hessian)))
