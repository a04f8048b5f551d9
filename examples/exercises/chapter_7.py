"""7장. 도구. Chapter 7. Tools.

`...`을 지우고 빈칸을 채운 다음 확인하세요. Fill in each blank in place of `...`, then check:

    python examples/exercises/check.py 7
"""

from __future__ import annotations

from tinygrad_kr import nn, optim


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


def digits_recipe():
    """7.3 작은 숫자 이미지를 배우는 신경망입니다. 손실 함수는 F.cross_entropy입니다. tk.diagnose가
    아무 이상도 찾지 못하도록 빈칸을 채우세요.

    A net for the small digits; the loss is F.cross_entropy. Fill in what lets tk.diagnose find
    nothing wrong.
    """
    last = ...  # 빈칸: nn.Softmax(1), nn.Sigmoid(), nn.Identity(), ...
    rate = ...  # 빈칸
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), last)
    return net, optim.SGD(net.parameters(), lr=rate)
