"""Every lab of the lectures in one table: what was published, what we get, how long it takes.

    python examples/lectures/replay.py                  # short labs are run, long ones looked up
    python examples/lectures/replay.py --lab 10-3       # one lab, run anew, long or not
    python examples/lectures/replay.py --lab 07 --lab 09-2     # all labs 07-x, and 09-2
    python examples/lectures/replay.py --all            # everything anew: an hour or more

Long labs (all of MNIST) show the results that earlier runs have left in benchmarks/results: the
mean and the range of their seeds, marked "saved" with the version of tinygrad_kr that made them.
A lab that fails is shown as failed and the rest goes on; the exit status is then 1. Ctrl-C stops
and shows what is done. A picture of ours against the published figures is saved in out/lectures.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from common import (
    BLUE,
    ORANGE,
    OURS,
    PUBLISHED,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    picture_language,
    progress_bar,
    save,
)

from tinygrad_kr.language import Text

HERE = Path(__file__).resolve().parent
Figures = dict[str, float]


class Lab(NamedTuple):
    """A row: what the lecture published, and which figures of which program stand beside it."""

    name: str
    what: str
    published: str
    program: str
    shown: tuple[tuple[str, str], ...]  # (a figure's key, how it is written)
    arguments: dict[str, Any] = {}  # for the program's run()  # noqa: RUF012
    long: bool = False
    compared: tuple[str, float] | None = None  # a share of right answers, ours and the published


def mnist(name: str, what: str, published: float, *, key: str = "") -> Lab:
    """A row of mnist_ladder.py or mnist_cnn.py, all of which have the same form."""
    key = key or name.removeprefix("0")
    program = "mnist_cnn" if name.startswith("11") else "mnist_ladder"
    accuracy = f"lab {key} accuracy"
    shown = ((accuracy, "accuracy {:.4f}"),)
    text = f"accuracy {published}" if published else "-"
    compared = (accuracy, published) if published else None
    return Lab(name, what, text, program, shown, {"lab": key}, True, compared)


def keras(name: str, what: str, published: float) -> Lab:
    accuracy = f"lab Keras {name} accuracy"
    shown = ((accuracy, "accuracy {:.4f}"),)
    compared = (accuracy, published)
    text = f"accuracy {published}"
    return Lab(f"Keras {name}", what, text, "fit", shown, {"lab": name}, True, compared)


LABS = (
    Lab("activations", "every activation and its slope", "sigmoid's at most 0.25", "activations",
        (("sigmoid: highest slope", "{:.2f}"),)),
    Lab("gates", "AND, OR, XOR by one line", "AND, OR yes, XOR no", "gates",
        (("best line, AND", "best line: AND {:g},"), ("best line, OR", "OR {:g},"),
         ("best line, XOR", "XOR {:g}"))),
    Lab("by hand", "hand-set XOR weights", "0.0112 0.9949 0.9949 0.0244", "by_hand",
        tuple((f"hand-set XOR of {pair}", "{:.4f}") for pair in ("00", "01", "10", "11"))),
    Lab("by hand", "dW and db derived by hand", "-", "by_hand",
        (("largest gradient difference", "off autodiff's by {:.1e}"),)),
    Lab("linear layers", "1 = 10 = 100 layers", "equal", "linear_collapse",
        (("10 linear layers: difference to one layer", "10: off by {:.0e},"),
         ("100 linear layers: difference to one layer", "100: {:.0e}"))),
    Lab("vanishing", "0.5 through 4 layers", "0.000025", "vanishing",
        (("0.5 through 4 layers", "{:g}"),)),
    Lab("vanishing", "XOR, 10 hidden: first gradient / last", "7.6e-7", "vanishing",
        (("XOR, 10 hidden: first over last", "{:.1e}"),)),
    Lab("dying ReLU", "XOR, 10 x 5 ReLU: dead at the start", "15%", "dying_relu",
        (("XOR, 10 hidden, 5 wide: dead at the start", "{:.1%}"),), {"seeds": 1, "epochs": 1}),
    Lab("Xavier, He", "standard deviations, 784 -> 256", "0.0357, 0.0439, 0.0472", "initialisation",
        (("xavier_2010: standard deviation", "{:.4f},"),
         ("xavier_init: standard deviation", "{:.4f},"),
         ("xavier_init, normal: standard deviation", "{:.4f};"),
         ("he_2015: standard deviation", "He {:.4f}")), {"steps": 60, "data_name": "digits"}),
    Lab("zeros", "a ReLU net started with zeros", "all gradients 0", "initialisation",
        (("ReLU, zeros: first gradient of 0.weight", "first weights {:g},"),
         ("ReLU, zeros: first gradient of 4.bias", "last bias {:.3f}")),
        {"steps": 60, "data_name": "digits"}),
    Lab("derivative", "x^2 at 1, changed by 0.01", "slope 2", "small_change",
        (("f = x^2, by x, at 1: small change", "{:g},"),
         ("f = x^2, by x, at 1: backward", "by backward() {:g}"))),
    Lab("deep XOR", "ten hidden sigmoid layers", "accuracy 0.5", "deep_xor",
        (("sigmoid: learned", "learned by {:.0%} of 100 starts,"),
         ("sigmoid: median cost", "cost {:.4f}"))),
    Lab("deep XOR", "the same with ReLU", "accuracy 1.0", "deep_xor",
        (("ReLU: learned", "1.0 from {:.0%} of 100 starts"),)),
    Lab("over-fitting", "15 points, tanh nets 2 and 64 wide", "-", "width",
        (("15 points, 2 wide: error", "2 wide: off by {:.2f},"),
         ("15 points, 64 wide: error", "64: {:.2f}")),
        {"widths": (2, 64), "nets": 10, "steps": 2_000}),
    Lab("pre-training", "autoencoders, small digits", "-", "autoencoder",
        (("sigmoid, N(0, 0.01^2), all labels: accuracy", "no {:.2f},"),
         ("the same, pre-trained, all labels: accuracy", "yes {:.2f}")), {"seeds": 1}),
    Lab("02-1", "a line, from the lab's first step", "W 1.00403607, b -0.00917497",
        "deterministic", (("lab 02-1 W", "W {:.9g},"), ("lab 02-1 b", "b {:.6g}"))),
    Lab("02-3", "a line through four points", "W -0.9999969, b 0.9999908", "deterministic",
        (("lab 02-3 W", "W {:.7f},"), ("lab 02-3 b", "b {:.7f}"))),
    Lab("03-3", "one weight by hand-set steps", "W 5.0, 1.26667, 1.01778", "deterministic",
        (("lab 03-3 W at step 0", "W {:.1f},"), ("lab 03-3 W at step 1", "{:.5f},"),
         ("lab 03-3 W at step 2", "{:.5f}"))),
    Lab("03-X", "its gradient, steps 0 to 100", "37.3333 to 0.0020739", "deterministic",
        (("lab 03-X gradient at step 0", "{:.4f} to"),
         ("lab 03-X gradient at step 100", "{:.7f}"))),
    Lab("04-1", "three scores, five students", "cost 4.89449", "linear_regression",
        (("lab 04-1 cost, median", "median {:.2f},"), ("lab 04-1 cost, lowest", "{:.2f} to"),
         ("lab 04-1 cost, highest", "{:.1f}"))),
    Lab("04-3", "25 students from a csv", "cost 24.7225", "linear_regression",
        (("lab 04-3 cost, median", "median {:.1f},"), ("lab 04-3 cost, lowest", "{:.2f} to"),
         ("lab 04-3 cost, highest", "{:.1f};"),
         ("lab 04-3 cost of the best plane", "best {:.2f}"))),
    Lab("05-1", "logistic regression, six points", "accuracy 1.0", "logistic_regression",
        (("lab 05-1 accuracy, mean", "accuracy {:.1f}"),),
        compared=("lab 05-1 accuracy, mean", 1.0)),
    Lab("05-2", "diabetes csv", "accuracy 0.762846", "logistic_regression",
        (("lab 05-2 accuracy, mean", "accuracy {:.4f},"),
         ("lab 05-2 accuracy, lowest", "{:.4f} to"),
         ("lab 05-2 accuracy, highest", "{:.4f}")),
        compared=("lab 05-2 accuracy, mean", 0.762846)),
    Lab("06-1", "softmax, eight points", "cost 0.15216", "softmax_regression",
        (("lab 06-1 cost, median", "median {:.4f},"), ("lab 06-1 cost, lowest", "{:.4f} to"),
         ("lab 06-1 cost, highest", "{:.4f}"))),
    Lab("06-2", "zoo csv", "100%", "softmax_regression",
        (("lab 06-2 accuracy, mean", "{:.0%},"),
         ("lab 06-2 accuracy on animals left out", "left out {:.0%}")),
        compared=("lab 06-2 accuracy, mean", 1.0)),
    Lab("07-1", "learning rate 1.5", "NaN, accuracy 0", "learning_rate",
        (("lab 07-1 rate 1.5 cost 200", "cost {},"),
         ("lab 07-1 rate 1.5 test accuracy", "accuracy {:g}")),
        compared=("lab 07-1 rate 1.5 test accuracy", 0.0)),
    Lab("07-1", "learning rate 1e-10", "cost stays 5.73203", "learning_rate",
        (("lab 07-1 rate 1e-10 cost 0", "{:.5f} to"), ("lab 07-1 rate 1e-10 cost 200", "{:.5f}"))),
    Lab("07-1", "learning rate 0.1", "cost 0.670909, accuracy 1", "learning_rate",
        (("lab 07-1 rate 0.1 cost 200", "cost {:.6f},"),
         ("lab 07-1 rate 0.1 test accuracy", "accuracy {:g}")),
        compared=("lab 07-1 rate 0.1 test accuracy", 1.0)),
    Lab("07-2", "stock prices as they are", "diverges", "learning_rate",
        (("lab 07-2 unscaled: steps until infinity or NaN", "infinite after {:g} steps"),)),
    Lab("07-3", "scaled to 0..1, rate 1e-5, 101 steps", "cost 0.15231 to 0.15225", "learning_rate",
        (("lab 07-3 scaled, rate 1e-5: share of the cost left", "{:.1%} of the cost left;"),
         ("lab 07-3 scaled, rate 0.1: cost 100, median", "rate 0.1: {:.3f}"))),
    mnist("07-4", "MNIST, softmax regression, SGD", 0.8951),
    Lab("09-1", "XOR by one unit", "accuracy 0.5", "xor_labs",
        (("lab 09-1 best accuracy", "accuracy {:.1f} at best"),),
        compared=("lab 09-1 best accuracy", 0.5)),
    Lab("09-2", "XOR by 2-2-1", "accuracy 1.0", "xor_labs",
        (("lab 09-2 solved", "1.0 from {:.0%} of 100 starts"),)),
    Lab("09-3", "XOR by 2-10-10-10-1", "accuracy 1.0", "xor_labs",
        (("lab 09-3 solved", "1.0 from {:.0%} of 100 starts"),)),
    Lab("09-4", "XOR by Adam (1 start in 2 learns it)", "accuracy 1.0", "event_files",
        (("lab 09-4 accuracy", "accuracy {:g},"),
         ("lab 09-4 largest error", "off by {:.0e} at most")),
        compared=("lab 09-4 accuracy", 1.0)),
    mnist("10-1", "softmax regression, Adam", 0.9194),
    mnist("10-1", "the same from N(0, 1)", 0.9194, key="10-1-normal"),
    mnist("10-2", "256-256 ReLU, N(0, 1)", 0.9455),
    mnist("10-2", "the same, softmax as activation", 0.85, key="10-2-softmax"),
    mnist("10-3", "256-256 ReLU, Xavier", 0.9783),
    mnist("10-4", "five layers of 512", 0.9742),
    mnist("10-5", "with dropout, keep 0.7 (rate 0.3)", 0.9804),
    mnist("10-6", "32-32 without batch norm", 0.9513, key="10-6-none"),
    mnist("10-6", "32-32 with batch norm", 0.9737),
    Lab("11-0", "CNN basics: a convolution, SAME", "12 16 9, 24 28 15, 15 17 9", "deterministic",
        tuple((f"CNN basics {i} {j}", "{:g}" + ("," if j == 2 and i < 2 else ""))
              for i in range(3) for j in range(3))),
    mnist("11-1", "CNN, the lab's N(0, 0.01^2) start", 0.9885, key="11-1-normal"),
    mnist("11-1", "CNN, Xavier start", 0.9885),
    mnist("11-2", "deep CNN", 0.9938),
    mnist("11-5", "ensemble of three deep CNNs (the lab: seven)", 0.9952),
    Lab("12-1", "LSTM: hihell to ihello, step 10", "loss 0.676005", "characters",
        (("lab 12-1 loss at step 10", "median {:.3f},"),
         ("lab 12-1 loss at step 10, best tenth", "{:.3f} to"),
         ("lab 12-1 loss at step 10, worst tenth", "{:.3f}"))),
    Lab("12-2", "LSTM: if you want you, step 12", "loss 0.208561", "characters",
        (("lab 12-2 loss at step 12", "median {:.3f},"),
         ("lab 12-2 loss at step 12, best tenth", "{:.3f} to"),
         ("lab 12-2 loss at step 12, worst tenth", "{:.3f}"))),
    Lab("12-3", "the same without memory", "loss 0.277323", "characters",
        (("lab 12-3 loss", "loss {:.6f},"), ("lab 12-3 floor", "none below {:.6f}"))),
    Lab("12-4", "two LSTMs, a sentence of 180", "loss 0.229616", "characters",
        (("lab 12-4 loss", "loss {:.6f},"), ("lab 12-4 floor", "none below {:.6f}"))),
    Lab("12-5", "sequence loss of three steps", "0.596759, 0.513015, 0.371101", "sequences",
        (("sequence loss, unsure", "{:.6f},"), ("sequence loss, 0.7", "{:.6f},"),
         ("sequence loss, 0.9", "{:.6f}")), {"walks": 2}),
    Lab("12-5", "stock prices (made up), LSTM", "follows the price", "sequences",
        (("walk, lab's scaling: RMSE over naive RMSE", "error {:.2f} of today's price's,"),
         ("wave, lab's scaling: RMSE over naive RMSE", "with a wave {:.2f}")), {"walks": 2}),
    keras("10-1", "fit: softmax regression", 0.9268),
    keras("10-2", "fit: four layers of 256, dropout", 0.9811),
    keras("13-2", "fit: CNN", 0.9894),
    Lab("RBM", "small digits, error per pixel", "-", "rbm",
        (("CD-1 reconstruction error", "CD-1 {:.4f},"),
         ("persistent reconstruction error", "persistent chains {:.4f}")), {"name": "digits"}),
    Lab("DBN", "six sigmoid layers, pre-trained or not", "-", "dbn",
        (("sigmoid, N(0, 0.01^2) accuracy", "no {:.3f},"),
         ("the same, pre-trained accuracy", "yes {:.3f}")), long=True),
    Lab("lego", "XOR, 10 x 5 sigmoid, with skips", "-", "lego",
        (("XOR, ten sigmoid layers, plain: learned", "learned by {:.0%} of starts,"),
         ("XOR, ten sigmoid layers, skips: learned", "with skips {:.0%}")),
        {"starts": 30, "depths": (10,), "seeds": 1, "epochs": 2}),
)  # fmt: skip
NOT_LABS = {"common", "replay"}

TEXTS = {text.en: text for text in (
    Text("activations", "활성화 함수"),
    Text("every activation and its slope", "모든 활성화 함수와 그 미분"),
    Text("sigmoid's at most 0.25", "시그모이드는 0.25 이하"),
    Text("gates", "게이트"),
    Text("AND, OR, XOR by one line", "직선 하나로 가르는 AND, OR, XOR"),
    Text("AND, OR yes, XOR no", "AND, OR: 됨, XOR: 안 됨"),
    Text("best line: AND {:g}, OR {:g}, XOR {:g}", "가장 좋은 직선: AND {:g}, OR {:g}, XOR {:g}"),
    Text("by hand", "손으로"),
    Text("hand-set XOR weights", "손으로 정한 XOR 가중치"),
    Text("dW and db derived by hand", "손으로 유도한 dW와 db"),
    Text("off autodiff's by {:.1e}", "자동 미분과의 차이 {:.1e}"),
    Text("linear layers", "선형 층"),
    Text("1 = 10 = 100 layers", "1 = 10 = 100층"),
    Text("equal", "같음"),
    Text("10: off by {:.0e}, 100: {:.0e}", "10층의 차이 {:.0e}, 100층의 차이 {:.0e}"),
    Text("vanishing", "기울기 소실"),
    Text("0.5 through 4 layers", "4개 층을 지난 0.5"),
    Text("XOR, 10 hidden: first gradient / last", "XOR, 은닉층 10개: 첫 / 끝 층 기울기"),
    Text("dying ReLU", "죽은 ReLU"),
    Text("XOR, 10 x 5 ReLU: dead at the start", "XOR, 10 x 5 ReLU: 처음부터 죽은 비율"),
    Text("standard deviations, 784 -> 256", "표준편차, 784 -> 256"),
    Text("zeros", "0에서 출발"),
    Text("a ReLU net started with zeros", "가중치 0에서 출발한 ReLU 신경망"),
    Text("all gradients 0", "모든 기울기 0"),
    Text("first weights {:g}, last bias {:.3f}", "첫 가중치 {:g}, 마지막 편향 {:.3f}"),
    Text("derivative", "미분"),
    Text("x^2 at 1, changed by 0.01", "1에서 x^2의 미분, 변화량 0.01"),
    Text("{:g}, by backward() {:g}", "{:g}, backward()로는 {:g}"),
    Text("deep XOR", "깊은 XOR"),
    Text("ten hidden sigmoid layers", "시그모이드 은닉층 열 개"),
    Text("learned by {:.0%} of 100 starts, cost {:.4f}",
         "초깃값 100개 중 {:.0%} 학습, 비용 {:.4f}"),
    Text("the same with ReLU", "같은 신경망, ReLU"),
    Text("1.0 from {:.0%} of 100 starts", "초깃값 100개 중 {:.0%}에서 1.0"),
    Text("over-fitting", "과적합"),
    Text("15 points, tanh nets 2 and 64 wide", "점 15개, 폭 2와 64인 tanh 신경망"),
    Text("2 wide: off by {:.2f}, 64: {:.2f}", "폭 2의 오차 {:.2f}, 폭 64의 오차 {:.2f}"),
    Text("pre-training", "사전 학습"),
    Text("autoencoders, small digits", "오토인코더, 작은 숫자"),
    Text("no {:.2f}, yes {:.2f}", "안 하면 {:.2f}, 하면 {:.2f}"),
    Text("no {:.3f}, yes {:.3f}", "안 하면 {:.3f}, 하면 {:.3f}"),
    Text("a line, from the lab's first step", "직선, 실습의 첫 스텝부터"),
    Text("a line through four points", "점 네 개를 지나는 직선"),
    Text("one weight by hand-set steps", "식을 직접 쓴 스텝, 가중치 하나"),
    Text("its gradient, steps 0 to 100", "그 기울기, 스텝 0에서 100까지"),
    Text("37.3333 to 0.0020739", "37.3333에서 0.0020739"),
    Text("{:.4f} to {:.7f}", "{:.4f}에서 {:.7f}"),
    Text("three scores, five students", "시험 점수 세 개, 학생 다섯 명"),
    Text("median {:.2f}, {:.2f} to {:.1f}", "중앙값 {:.2f}, {:.2f}에서 {:.1f}"),
    Text("25 students from a csv", "csv의 학생 25명"),
    Text("median {:.1f}, {:.2f} to {:.1f}; best {:.2f}",
         "중앙값 {:.1f}, {:.2f}에서 {:.1f}, 최선 {:.2f}"),
    Text("logistic regression, six points", "로지스틱 회귀, 점 여섯 개"),
    Text("diabetes csv", "당뇨병 csv"),
    Text("accuracy {:.4f}, {:.4f} to {:.4f}", "정확도 {:.4f}, {:.4f}에서 {:.4f}"),
    Text("softmax, eight points", "소프트맥스, 점 여덟 개"),
    Text("median {:.4f}, {:.4f} to {:.4f}", "중앙값 {:.4f}, {:.4f}에서 {:.4f}"),
    Text("zoo csv", "동물원 csv"),
    Text("{:.0%}, left out {:.0%}", "{:.0%}, 학습에서 뺀 동물은 {:.0%}"),
    Text("learning rate 1.5", "학습률 1.5"),
    Text("learning rate 1e-10", "학습률 1e-10"),
    Text("cost stays 5.73203", "비용이 그대로 5.73203"),
    Text("{:.5f} to {:.5f}", "{:.5f}에서 {:.5f}"),
    Text("learning rate 0.1", "학습률 0.1"),
    Text("stock prices as they are", "주가를 그대로"),
    Text("diverges", "발산"),
    Text("infinite after {:g} steps", "{:g}스텝 뒤에 무한대"),
    Text("scaled to 0..1, rate 1e-5, 101 steps", "0..1로 정규화, 학습률 1e-5, 101스텝"),
    Text("cost 0.15231 to 0.15225", "비용 0.15231에서 0.15225"),
    Text("{:.1%} of the cost left; rate 0.1: {:.3f}", "남은 비용 {:.1%}, 학습률 0.1: {:.3f}"),
    Text("MNIST, softmax regression, SGD", "MNIST, 소프트맥스 회귀, SGD"),
    Text("XOR by one unit", "유닛 하나로 XOR"),
    Text("accuracy {:.1f} at best", "정확도 최고 {:.1f}"),
    Text("XOR by 2-2-1", "2-2-1로 XOR"),
    Text("XOR by 2-10-10-10-1", "2-10-10-10-1로 XOR"),
    Text("XOR by Adam (1 start in 2 learns it)", "Adam으로 XOR (초깃값 절반이 배움)"),
    Text("accuracy {:g}, off by {:.0e} at most", "정확도 {:g}, 가장 큰 오차 {:.0e}"),
    Text("softmax regression, Adam", "소프트맥스 회귀, Adam"),
    Text("the same from N(0, 1)", "같은 신경망, N(0, 1)에서"),
    Text("the same, softmax as activation", "같은 신경망, 활성화 함수로 소프트맥스"),
    Text("five layers of 512", "폭 512인 층 다섯 개"),
    Text("with dropout, keep 0.7 (rate 0.3)", "드롭아웃으로 0.7을 남김 (비율 0.3)"),
    Text("32-32 without batch norm", "32-32, 배치 정규화 없음"),
    Text("32-32 with batch norm", "32-32, 배치 정규화"),
    Text("CNN basics: a convolution, SAME", "CNN 기초: 합성곱, SAME"),
    Text("CNN, the lab's N(0, 0.01^2) start", "CNN, 실습의 초기화 N(0, 0.01^2)"),
    Text("CNN, Xavier start", "CNN, Xavier 초기화"),
    Text("deep CNN", "깊은 CNN"),
    Text("ensemble of three deep CNNs (the lab: seven)", "깊은 CNN 셋의 앙상블 (실습은 일곱)"),
    Text("LSTM: hihell to ihello, step 10", "LSTM: hihell에서 ihello, 스텝 10"),
    Text("median {:.3f}, {:.3f} to {:.3f}", "중앙값 {:.3f}, {:.3f}에서 {:.3f}"),
    Text("LSTM: if you want you, step 12", "LSTM: if you want you, 스텝 12"),
    Text("the same without memory", "같은 문제, 기억 없이"),
    Text("loss {:.6f}, none below {:.6f}", "손실 {:.6f}, 바닥 {:.6f}"),
    Text("two LSTMs, a sentence of 180", "LSTM 두 층, 180글자짜리 문장"),
    Text("sequence loss of three steps", "세 스텝의 시퀀스 손실"),
    Text("stock prices (made up), LSTM", "주가(지어낸 것), LSTM"),
    Text("follows the price", "가격을 따라감"),
    Text("error {:.2f} of today's price's, with a wave {:.2f}",
         "오차가 '오늘과 같다'의 {:.2f}배, 물결이 있으면 {:.2f}배"),
    Text("fit: softmax regression", "fit: 소프트맥스 회귀"),
    Text("fit: four layers of 256, dropout", "fit: 폭 256인 층 네 개, 드롭아웃"),
    Text("small digits, error per pixel", "작은 숫자, 픽셀당 오차"),
    Text("CD-1 {:.4f}, persistent chains {:.4f}", "CD-1 {:.4f}, 지속적 사슬 {:.4f}"),
    Text("six sigmoid layers, pre-trained or not", "시그모이드 여섯 층, 사전 학습"),
    Text("lego", "레고"),
    Text("XOR, 10 x 5 sigmoid, with skips", "XOR, 10 x 5 시그모이드, 건너뛰기"),
    Text("learned by {:.0%} of starts, with skips {:.0%}",
         "초깃값 중 {:.0%} 학습, 건너뛰기가 있으면 {:.0%}"),
)}  # fmt: skip
"""Names, texts and figures of the rows, by the English."""


def said(text: str, lang: str | None = None) -> str:
    """A text of a row in a language; what is no text of `TEXTS` word by word."""
    return TEXTS[text].say(lang) if text in TEXTS else in_words(text, lang=lang)


def form_of(lab: Lab) -> str:
    """How the figures of a row are written, in English."""
    return " ".join(form for _, form in lab.shown)


# ------------------------------------------------------------------ running


@cache
def program(name: str) -> ModuleType:
    """One of the programs beside this one, as a module."""
    spec = importlib.util.spec_from_file_location(f"lectures_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


FAILED = Text("FAILED: {error}", "실패: {error}")
NOT_RUN = Text("not run yet: --lab {lab}", "아직 실행하지 않음: --lab {lab}")
SEEDS = Text(
    ", {low:.4f} to {high:.4f}, {seeds} seeds", ", {low:.4f}에서 {high:.4f}, 시드 {seeds}개"
)
SAVED = Text("{text} (saved, {version})", "{text} (저장된 값, {version})")


class Row(NamedTuple):
    """What came of a lab: its figures, their text, the seconds it took (None: not run now)."""

    lab: Lab
    ours: str
    seconds: float | None = None
    figures: Figures = {}  # noqa: RUF012
    failed: bool = False


def saved_runs(lab: Lab) -> list[dict[str, Any]]:
    """What earlier runs of seeds 0 to 9 have left; empty where there is none."""
    module = program(lab.program)
    found = (module.saved(**lab.arguments, seed=seed) for seed in range(10))
    return [result for result in found if result is not None]


def written(lab: Lab, figures: Figures) -> str:
    """The figures of a row in the way the row wants them."""
    return said(form_of(lab)).format(*(figures[key] for key, _ in lab.shown)).replace(" ,", ",")


class Replay:
    """Runs labs; labs that share a program and its settings share a run."""

    def __init__(self, anew: bool) -> None:
        self.anew = anew
        self.done: dict[tuple[str, str], Figures] = {}

    def row(self, lab: Lab) -> Row:
        """The row of a lab; one that fails says why."""
        try:
            if lab.long and not self.anew:
                return self.looked_up(lab)
            return self.run(lab)
        except Exception as error:
            reason = str(error).partition("\n")[0]
            said_of_it = FAILED.say(error=f"{type(error).__name__}: {reason}")
            return Row(lab, said_of_it, failed=True)

    def looked_up(self, lab: Lab) -> Row:
        runs = saved_runs(lab)
        if not runs:
            return Row(lab, NOT_RUN.say(lab=lab.name.split()[-1]))
        figures = runs[0]["figures"]
        versions = runs[0]["versions"]
        text = written(lab, figures)
        if len(runs) > 1 and lab.compared:
            values = [run["figures"][lab.compared[0]] for run in runs]
            figures = figures | {lab.compared[0]: sum(values) / len(values)}
            text = written(lab, figures)
            text += SEEDS.say(low=min(values), high=max(values), seeds=len(values))
        text = SAVED.say(text=text, version=versions["tinygrad_kr"])
        return Row(lab, text, None, figures)

    def run(self, lab: Lab) -> Row:
        key = lab.program, repr(lab.arguments)
        seconds = None
        if key not in self.done:
            module = program(lab.program)
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                self.done[key] = module.run(**lab.arguments)
            seconds = time.perf_counter() - start
        figures = self.done[key]
        return Row(lab, written(lab, figures), seconds, figures)


def chosen(patterns: list[str]) -> list[Lab]:
    """The labs whose name is, or begins like, one of the patterns; all of them without one."""
    if not patterns:
        return list(LABS)
    return [lab for lab in LABS if any(matches(lab.name, pattern) for pattern in patterns)]


def matches(name: str, pattern: str) -> bool:
    """Whether a lab's name, in either language, is or begins like the pattern."""
    names = {name, said(name, "ko")}
    return any(one == pattern or one.startswith((f"{pattern}-", f"{pattern} ")) for one in names)


def table_line(row: Row) -> str:
    lab = row.lab
    seconds = "" if row.seconds is None else f"{row.seconds:7.1f}"
    return in_columns(said(lab.name), said(lab.what), said(lab.published), row.ours, seconds)


def in_columns(*texts: str) -> str:
    """The cells of a line of the table, each in its column."""
    widths = (14, 38, 28, 58, 0)
    return " ".join(left(text, width) for text, width in zip(texts, widths, strict=True)).rstrip()


HEAD = (Text("lab", "실습"), Text("what", "내용"), PUBLISHED, OURS, Text("seconds", "초"))


def replay(labs: list[Lab], anew: bool, say: Callable[[str], object] = print) -> list[Row]:
    """A line for each lab as soon as it is done; after Ctrl-C, the rows that are."""
    rows: list[Row] = []
    runner, bar = Replay(anew), progress_bar(len(labs), "", unit="lab")
    if not bar.disable:
        say = bar.write
    say(in_columns(*(text.say() for text in HEAD)))
    try:
        for lab in labs:
            bar.set_description(f"{said(lab.name)}, {said(lab.what)}")
            rows.append(runner.row(lab))
            say(table_line(rows[-1]))
            bar.update()
    finally:
        bar.close()
        print_sum(rows, len(labs))
    return rows


def print_sum(rows: list[Row], wanted: int) -> None:
    failed = [row.lab.name for row in rows if row.failed]
    seconds = sum(row.seconds or 0.0 for row in rows)
    print("\n" + DONE.say(done=len(rows), wanted=wanted, seconds=seconds), end="")
    print(f"; {FAILED.say(error=', '.join(failed))}" if failed else "")


DONE = Text(
    "{done} of {wanted} rows in {seconds:.0f} s", "{wanted}줄 가운데 {done}줄, {seconds:.0f}초"
)


# ------------------------------------------------------------------ picture


WRONG = Text("MNIST: test images wrong, % (log scale)", "MNIST: 틀린 테스트 이미지, % (로그 눈금)")
RIGHT = Text("other labs: share of right answers", "다른 실습: 맞힌 비율")
OURS_MEAN = Text("ours (mean of the saved seeds)", "우리 값 (저장된 시드들의 평균)")


def save_picture(rows: list[Row], path: Path) -> None:
    """Shares of right answers, ours beside the published: MNIST by errors, the rest as they are."""
    shown = [(row, row.lab.compared) for row in rows if row.lab.compared and row.figures]
    groups = {
        WRONG: [r for r in shown if r[0].lab.long],
        RIGHT: [r for r in shown if not r[0].lab.long],
    }
    groups = {title: group for title, group in groups.items() if group}
    figure = new_figure(8, 0.3 + len(groups) + 0.2 * len(shown)) if groups else None
    if figure is None:
        return
    heights = [len(group) + 3 for group in groups.values()]
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, group) in zip(panels, groups.items(), strict=True):
        wrong = title is WRONG
        for place, (row, (key, published)) in enumerate(group):
            pair = [row.figures[key], published]
            ours, theirs = (100 * (1 - share) for share in pair) if wrong else pair
            axes.plot([ours, theirs], [place, place], color="0.7", zorder=1)
            axes.plot(theirs, place, "D", color=ORANGE, fillstyle="none", ms=8)
            axes.plot(ours, place, "o", color=BLUE, ms=5)
        lang = picture_language()
        names = [f"{said(row.lab.name, lang)}  {said(row.lab.what, lang)}" for row, _ in group]
        axes.set_yticks(range(len(group)), names, fontsize=8)
        axes.set(xlabel=label(title), ylim=(len(group) - 0.5, -0.5))
        if wrong:
            axes.set_xscale("log")
            axes.set_xticks([0.5, 1, 2, 5, 10, 20], ["0.5", "1", "2", "5", "10", "20"])
            axes.minorticks_off()
        axes.grid(alpha=0.3)
    panels[0].plot([], [], "o", color=BLUE, label=label(OURS_MEAN))
    panels[0].plot([], [], "D", color=ORANGE, fillstyle="none", ms=8, label=label(PUBLISHED))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    save(figure, path)


KOREAN = """
강의의 모든 실습을 한 표에: 공개된 값, 우리 값, 걸린 시간.

    python examples/lectures/replay.py                  # 짧은 실습은 실행하고 긴 실습은 찾아옴
    python examples/lectures/replay.py --lab 10-3       # 실습 하나를 길든 짧든 새로 실행
    python examples/lectures/replay.py --lab 07 --lab 09-2     # 07-x 모두와 09-2
    python examples/lectures/replay.py --all            # 전부 새로 실행: 한 시간 넘게

긴 실습(MNIST 모두)은 앞선 실행이 benchmarks/results에 남긴 결과를 보여 줍니다. 시드들의 평균과
범위이고, "저장된 값"이라는 표시와 그 값을 만든 tinygrad_kr의 버전을 붙입니다. 실패한 실습은
실패라고 적고 계속하며, 이때 종료 코드는 1입니다. Ctrl-C를 누르면 멈추고 그때까지의 결과를 보여
줍니다. 우리 값과 공개된 값을 비교한 그림은 out/lectures에 저장합니다.
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    add = parser.add_argument
    add(
        "--lab",
        action="append",
        default=[],
        help=Text(
            "only this lab, or all that begin so; run anew",
            "이 실습만, 또는 이렇게 시작하는 실습 모두. 새로 실행합니다",
        ).say(),
    )
    add(
        "--all",
        action="store_true",
        help=Text("run the long labs too", "긴 실습도 실행합니다").say(),
    )
    args = parser.parse_args(argv)
    labs = chosen(args.lab)
    if not labs:
        names = ", ".join(dict.fromkeys(lab.name for lab in LABS))
        parser.error(f"no lab {', '.join(args.lab)!r}; there are {names}")
    rows = replay(labs, anew=args.all or bool(args.lab))
    save_picture(rows, args.out / "replay.png")
    if any(row.failed for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    launch(main)
