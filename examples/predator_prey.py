"""Hares and lynxes: rates of a differential equation from data, with standard errors.

The Hudson's Bay Company counted pelts from 1900 to 1920. Lotka and Volterra's model says

    hares'  = a hares  - b hares lynxes
    lynxes' = d hares lynxes - c lynxes

Runge and Kutta's method solves it in ordinary NumPy style. `tk.interop.scipy.objective` gives
SciPy's least squares the Jacobian through all its steps: of the four rates and the two numbers of
1900. With n residuals r of p parameters, the covariance is (r r / (n - p)) (J^T J)^-1.

Carpenter (2018, "Predator-prey population dynamics: the Lotka-Volterra model in Stan") has the same
data and model, with priors. His posterior means are a = 0.55, b = 0.028, c = 0.80, d = 0.024.

    python examples/predator_prey.py
    python examples/predator_prey.py --until 1910    # from half of the data

The picture is saved in out/ (needs matplotlib). The fit needs SciPy.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lectures.common import (
    BLUE,
    ORANGE,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    save,
    whole,
)

import tinygrad_kr as tk
from tinygrad_kr.language import Text

YEARS = np.arange(1900, 1921)
WORDS = (Text("hares", "토끼"), Text("lynxes", "스라소니"))
HARES = np.array([30.0, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22.0, 25.4, 27.1, 40.3, 57.0,
                  76.6, 52.3, 19.5, 11.2, 7.6, 14.6, 16.2, 24.7])  # fmt: skip
LYNXES = np.array([4.0, 6.1, 9.8, 35.2, 59.4, 41.7, 19.0, 13.0, 8.3, 9.1, 7.4, 8.0, 12.3, 19.5,
                   45.7, 51.1, 29.7, 15.8, 9.7, 10.1, 8.6])  # fmt: skip
COUNTS = np.stack([HARES, LYNXES], axis=1)
"""Pelts in thousands, (21, 2)."""
STEPS = 8
"""Steps of Runge and Kutta's method in a year."""
START = {"a": 0.5, "b": 0.03, "c": 0.8, "d": 0.03, "counts of 1900": np.array([30.0, 4.0])}


def logarithms(tree: Any) -> Any:
    """The parameters are positive: their logarithms are what is fitted."""
    return tk.tree.tree_map(np.log, tree)


def solution(log_parameters: Any, years: int) -> Any:
    """The logarithms of both counts after each step, (years * STEPS + 1, 2)."""
    rates = {name: tk.exp(log_parameters[name]) for name in "abcd"}
    growth = tk.stack([rates["a"], -rates["c"]])
    coupling = tk.stack([-rates["b"], rates["d"]])

    def slope(z: Any) -> Any:  # of log(hares) and log(lynxes)
        return growth + coupling * tk.exp(z[::-1])

    z, h = log_parameters["counts of 1900"], 1 / STEPS
    states = [z]
    for _ in range(years * STEPS):
        k1 = slope(z)
        k2 = slope(z + h / 2 * k1)
        k3 = slope(z + h / 2 * k2)
        k4 = slope(z + h * k3)
        z = z + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        states.append(z)
    return tk.stack(states)


class Fit(NamedTuple):
    """Parameters and standard errors in the structure of `START`."""

    parameters: Any
    errors: Any
    scatter: float
    """The standard deviation of log(count) about the model."""
    evaluations: int


def fit(until: int) -> Fit:
    """Least squares on the logarithms of the counts up to the year `until`."""
    from scipy.optimize import least_squares

    years = until - YEARS[0]
    observed = np.log(COUNTS[: years + 1])

    def residuals(log_parameters: Any) -> Any:
        return (solution(log_parameters, years)[::STEPS] - observed).reshape(-1)

    fun, jac, _, x0 = problem = tk.interop.scipy.objective(residuals, logarithms(START))
    found = least_squares(fun, x0, jac, x_scale=0.1)
    variance = (found.fun**2).sum() / (found.fun.size - found.x.size)
    covariance = variance * np.linalg.inv(found.jac.T @ found.jac)
    parameters = np.exp(found.x)
    errors = parameters * np.sqrt(np.diag(covariance))  # d exp(x) = exp(x) dx
    return Fit(
        problem.unflatten(parameters),
        problem.unflatten(errors),
        float(np.sqrt(variance)),
        found.nfev,
    )


def show(result: Fit) -> None:
    """One line per parameter."""
    for name in "abcd":
        line = Text(
            "{name:8} {rate:8.4f} +- {error:.4f} per year",
            "{name:8} 연간 {rate:8.4f} +- {error:.4f}",
        )
        print(line.say(name=name, rate=result.parameters[name], error=result.errors[name]))
    counts = zip(
        ("hares", "lynxes"),
        result.parameters["counts of 1900"],
        result.errors["counts of 1900"],
        strict=True,
    )
    for name, count, error in counts:
        line = Text(
            "{name} {count:8.2f} +- {error:.2f} thousand in 1900",
            "{name} 1900년에 {count:8.2f} +- {error:.2f} (천)",
        )
        print(line.say(name=left(in_words(name, WORDS), 8), count=count, error=error))
    line = Text(
        "counts scatter by a factor of about {factor:.2f}",
        "센 수는 약 {factor:.2f}배로 흩어져 있습니다",
    )
    print(line.say(factor=np.exp(result.scatter)))
    line = Text("{count} evaluations of the model", "모델을 계산한 횟수: {count}")
    print(line.say(count=result.evaluations))


def save_picture(result: Fit, until: int, path: Path) -> None:
    """The counts, and the model through all 20 years."""
    figure = new_figure(7.5, 3.8)
    if figure is None:
        return
    axes = figure.subplots()
    model = np.exp(solution(logarithms(result.parameters), 20))
    times = YEARS[0] + np.arange(len(model)) / STEPS
    for i, (name, colour) in enumerate((("hares", BLUE), ("lynxes", ORANGE))):
        axes.plot(
            YEARS,
            COUNTS[:, i],
            "o",
            color=colour,
            label=label(Text("{name}, counted", "{name}, 센 수"), name=label(name, WORDS)),
            markersize=5,
        )
        axes.plot(
            times,
            model[:, i],
            color=colour,
            label=label(Text("{name}, the model", "{name}, 모델"), name=label(name, WORDS)),
        )
    if until < YEARS[-1]:
        axes.axvspan(until, YEARS[-1], color="0.93", zorder=0)
        axes.text(
            until + 0.2,
            82,
            label(Text("not in the fit", "맞추지 않은 해")),
            color="0.4",
            fontsize=9,
        )
    axes.set(
        xlabel=label(Text("year", "연도")),
        ylabel=label(Text("pelts, thousands", "모피, 천 장")),
        xticks=YEARS[::4],
        ylim=(0, 100),
    )
    axes.legend(fontsize=8, ncols=2, loc="upper right")
    axes.grid(alpha=0.3)
    save(figure, path)


KOREAN = """
토끼와 스라소니: 데이터에서 구한 미분방정식의 계수와 표준 오차.

허드슨 베이 회사가 1900년부터 1920년까지 모피의 수를 세었습니다. 로트카와 볼테라의 모델은
이렇습니다.

    토끼'     = a 토끼  - b 토끼 스라소니
    스라소니' = d 토끼 스라소니 - c 스라소니

룽게-쿠타 방법을 평범한 NumPy 방식으로 써서 풉니다. `tk.interop.scipy.objective`는 그 모든 스텝을
거친 야코비 행렬을 SciPy의 최소제곱법에 건네줍니다. 구하는 것은 계수 네 개와 1900년의 두 수입니다.
잔차 r이 n개, 파라미터가 p개이면 공분산은 (r r / (n - p)) (J^T J)^-1입니다.

Carpenter(2018, Stan 사례 연구)는 같은 데이터와 모델에 사전 분포를 썼습니다. 그의 사후 평균은 a =
0.55, b = 0.028, c = 0.80, d = 0.024입니다.

    python examples/predator_prey.py
    python examples/predator_prey.py --until 1910    # 데이터의 절반으로

그림은 out/에 저장합니다 (matplotlib 필요). 계산에는 SciPy가 필요합니다.
"""


def main() -> None:
    parser = options(__doc__, KOREAN, out="out")
    parser.add_argument(
        "--until",
        type=whole(1905),
        default=1920,
        help=Text("last year of the fit", "계산에 쓸 마지막 해").say(),
    )
    args = parser.parse_args()
    until = min(args.until, 1920)
    try:
        result = fit(until)
    except ImportError:
        sys.exit('error: SciPy is missing (pip install "tinygrad_kr[scipy]")')
    show(result)
    save_picture(result, until, args.out / "predator_prey.png")


if __name__ == "__main__":
    launch(main)
