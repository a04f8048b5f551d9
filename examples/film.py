"""A training on film: a deep sigmoid net beside a ReLU net, on two spirals.

Both have eight hidden layers of 16 units and He's start. SGD gives them the same batches. The
Monitor warns that the gradient of the sigmoid net vanishes on its way back: an element of the first
layer gets less than a ten thousandth of the last one's. The ReLU net learns.

    python examples/film.py             # out/film.html, which any browser plays, also offline
    python examples/film.py --lang ko   # 한국어

The film needs plotly: pip install "tinygrad_kr[film]".
"""

from __future__ import annotations

import sys
import warnings

import numpy as np
from lectures.common import STEPS, launch, options, whole

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.language import Text

ENDED = Text(
    "{net:8} loss {loss:.4f}, accuracy {accuracy:.2f}, first / last gradient {ratio:.1e}",
    "{net:8} 손실 {loss:.4f}, 정확도 {accuracy:.2f}, 첫 층 / 마지막 층의 기울기 {ratio:.1e}",
)
SAVED = Text("saved {path}", "저장: {path}")


def spirals(n: int) -> tuple[np.ndarray, np.ndarray]:
    """n points on each of two spirals, (2 n, 2), and which one each lies on, (2 n, 1)."""
    t = np.linspace(0.2, 1, n)
    arm = t[:, None] * np.stack([np.cos(6.5 * t), np.sin(6.5 * t)], axis=1)
    noise = np.random.default_rng(0).normal(0, 0.02, (2 * n, 2))
    points = np.concatenate([arm, -arm]) + noise
    return points.astype(np.float32), np.repeat(np.float32([[0], [1]]), n, axis=0)


def train(activation: type[nn.Module], steps: int) -> tk.Monitor:
    """SGD on batches of 50, with a look at every hundredth of the steps."""
    tk.manual_seed(1)
    layers: list[nn.Module] = []
    for inputs in (2, *[16] * 7):
        layers += [nn.Linear(inputs, 16), activation()]
    net = nn.Sequential(*layers, nn.Linear(16, 1))
    for parameter in net.parameters():
        (nn.init.kaiming_normal_ if parameter.ndim > 1 else nn.init.zeros_)(parameter)
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    points, arms = spirals(150)
    batches = np.random.default_rng(1).integers(0, len(points), (steps, 50))
    with tk.Monitor(net, optimizer, every=max(1, steps // 100)) as monitor:
        for rows in batches:
            loss = F.binary_cross_entropy_with_logits(net(Tensor(points[rows])), arms[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    history = monitor.history
    first, *_, last = history["gradient_norm"].values()
    print(
        ENDED.say(
            net=activation.__name__,
            loss=history["loss"]["value"][-1],
            accuracy=history["accuracy"]["value"][-1],
            ratio=first[0] / last[0],
        )
    )
    for told in monitor.warnings:
        print(f"  {told['message']}")
    return monitor


KOREAN = """
영상으로 보는 학습: 두 나선을 배우는 깊은 시그모이드 신경망과 ReLU 신경망을 나란히 봅니다.

둘 다 유닛 16개짜리 은닉층 여덟 개를 He 방식으로 초기화하고, SGD로 같은 배치를 배웁니다.
시그모이드 신경망에서는 기울기가 뒤로 가면서 사라진다고 Monitor가 경고합니다. 첫 층의 기울기는
원소 하나당 마지막 층의 만분의 일도 되지 않습니다. ReLU 신경망은 배웁니다.

    python examples/film.py             # out/film.html. 어떤 브라우저로든 인터넷 없이 열립니다
    python examples/film.py --lang ko   # 한국어

영상을 만들려면 plotly가 필요합니다: pip install "tinygrad_kr[film]"
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv, out="out")
    parser.add_argument("--steps", type=whole(10), default=1000, help=STEPS.say(default="1000"))
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore", tk.MonitorWarning)  # they are printed, and in the film
    sigmoid, relu = (train(activation, args.steps) for activation in (nn.Sigmoid, nn.ReLU))
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        sigmoid.save_html(args.out / "film.html", beside=relu)
    except ImportError as error:
        sys.exit(f"error: {error}")
    print(SAVED.say(path=args.out / "film.html"))


if __name__ == "__main__":
    launch(main)
