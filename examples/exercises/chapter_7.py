"""7장. 도구. Chapter 7. Tools.

`...`을 지우고 빈칸을 채운 다음 확인하세요. Fill in each blank in place of `...`, then check:

    python examples/exercises/check.py 7
"""

from __future__ import annotations


def epoch_loss(losses, sizes):
    """7.1 배치마다 평균 손실 losses와 크기 sizes가 있습니다. 에포크 전체의 평균 손실을 구하세요.

    The mean loss over all examples of an epoch, from the mean loss and the size of each batch.
    """
    return ...  # 빈칸


def stopped_after(losses, patience):
    """7.2 조기 종료: patience번 이어서 최저 기록을 깨지 못하면 멈춥니다. 멈춘 에포크 수를 구하세요.

    Early stopping: how many epochs are trained if training stops after `patience` epochs in a row
    without a new lowest loss.
    """
    best, waited = float("inf"), 0
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, waited = loss, ...  # 빈칸
        else:
            waited = waited + 1
        if ...:  # 빈칸
            return epoch
    return len(losses)
