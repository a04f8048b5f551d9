"""How the answers of chapter 7 are judged."""

from __future__ import annotations

import numpy as np
from exercise import FOLDER, Slip, by_cases, by_diagnosis, load

import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim
from tinygrad_kr.language import Text

solution = load(FOLDER / "solutions/chapter_7.py")


def never_patient_again(losses, patience):
    best, waited = float("inf"), 0
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best = loss
        else:
            waited = waited + 1
        if waited == patience:
            return epoch
    return len(losses)


def one_too_late(losses, patience):
    return solution.stopped_after(losses, patience + 1)


def on_digits(given):
    """What `tk.diagnose` is given."""
    net, optimizer = given
    images, labels = data.digits("train")
    return net, F.cross_entropy, (images[:256].reshape(256, 64), labels[:256]), optimizer


def recipe_of(last, rate):
    def make():
        net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), last())
        return net, optim.SGD(net.parameters(), lr=rate)

    return make


EXERCISES = (
    by_cases(
        "epoch_loss",
        Text("the mean of an epoch", "에포크의 평균"),
        solution.epoch_loss,
        [([1.0, 2.0, 6.0], [100, 100, 10]), ([0.5], [3])],
        Slip(
            lambda losses, sizes: np.mean(losses),
            Text(
                "the small last batch counts as much as the others: weight each by its size",
                "작은 마지막 배치를 다른 배치와 똑같이 셌습니다. 크기만큼 가중하세요",
            ),
        ),
        Slip(
            lambda losses, sizes: np.dot(losses, sizes),
            Text(
                "this is the sum: divide by the number of examples", "합입니다. 예제 수로 나누세요"
            ),
        ),
    ),
    by_cases(
        "stopped_after",
        Text("early stopping", "조기 종료"),
        solution.stopped_after,
        [([3, 2, 4, 1, 5, 5, 5], 2), ([3, 4, 2, 3, 1, 2, 0, 9], 3), ([1, 1, 1], 2), ([3, 2, 1], 1)],
        Slip(
            never_patient_again,
            Text(
                "the count goes on after a new best loss: it must begin again at 0",
                "최저 기록을 깬 뒤에도 계속 셉니다. 0부터 다시 세어야 합니다",
            ),
        ),
        Slip(
            one_too_late,
            Text(
                "an epoch too late: stop when waited == patience",
                "한 에포크 늦었습니다. waited == patience일 때 멈추세요",
            ),
        ),
    ),
    by_diagnosis(
        "digits_recipe",
        Text("a recipe that tk.diagnose finds sound", "tk.diagnose가 이상을 찾지 못하는 설정"),
        on_digits,
        Slip(
            recipe_of(lambda: nn.Softmax(1), 0.1),
            Text("softmax_before_cross_entropy: layer 3", "softmax_before_cross_entropy: 층 3"),
        ),
        Slip(
            recipe_of(nn.Sigmoid, 0.1),
            Text("output_range: The output ends in sigmoid", "output_range: 출력이 sigmoid"),
        ),
        Slip(
            recipe_of(nn.Identity, 1e-6),
            Text("learning_rate_too_low: The", "learning_rate_too_low: 학습률"),
        ),
        Slip(
            recipe_of(nn.Identity, 100.0),
            Text("learning_rate_too_high: The", "learning_rate_too_high: 학습률"),
        ),
    ),
)
