"""A Gaussian process: length scale, amplitude and noise from data, with standard errors.

The values y at the points x are normal with the covariance K,

    K_ij = amplitude^2 exp(-(x_i - x_j)^2 / (2 length^2)) + noise^2 [i = j].

Half of log det K + y K^-1 y + n log(2 pi) is minus the log likelihood. The logarithms of the three
parameters are fitted: `tk.interop.scipy.objective` gives SciPy the gradient and the product of the
Hessian with a vector, both through the Cholesky factor of K. At the minimum the inverse of the
Hessian is the covariance of the estimates: their standard errors are the roots of its diagonal.

The data are drawn from a process with known parameters, so the program can say how far off it is.

    python examples/gaussian_process.py
    python examples/gaussian_process.py --points 100 --seed 3

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
    right,
    save,
    whole,
)

import tinygrad_kr as tk
from tinygrad_kr.language import Text

Parameters = dict[str, float]
WORDS = (Text("amplitude", "진폭"), Text("length", "길이"), Text("noise", "잡음"))
TRUTH = {"amplitude": 1.5, "length": 1.0, "noise": 0.2}
WIDTH = 10.0
"""The points lie between 0 and this."""
FIRST_GUESS = {"amplitude": 1.0, "length": 0.5, "noise": 0.5}


def kernel(p: Any, a: np.ndarray, b: np.ndarray) -> Any:
    """The covariance of the noiseless values at `a` and at `b`, (len(a), len(b))."""
    distance = a[:, None] - b
    return p["amplitude"] ** 2 * tk.exp(-(distance**2) / (2 * p["length"] ** 2))


def covariance(p: Any, x: np.ndarray) -> Any:
    """K: of the values at `x`, with their noise."""
    return kernel(p, x, x) + p["noise"] ** 2 * np.eye(len(x))


def draw(points: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points and values of the process with the parameters `TRUTH`."""
    generator = np.random.default_rng(seed)
    x = np.sort(generator.uniform(0, WIDTH, points))
    return x, np.linalg.cholesky(covariance(TRUTH, x)) @ generator.standard_normal(points)


def exponentials(log_parameters: Any) -> Any:
    return tk.tree.tree_map(tk.exp, log_parameters)


def minus_log_likelihood(log_parameters: Any, x: np.ndarray, y: np.ndarray) -> Any:
    factor = tk.linalg.cholesky(covariance(exponentials(log_parameters), x))
    z = tk.linalg.solve_triangular(factor, y[:, None], upper=False)  # y K^-1 y = z z
    half_log_det = tk.log(tk.diagonal(factor)).sum()
    return half_log_det + (z * z).sum() / 2 + len(x) / 2 * np.log(2 * np.pi)


class Fit(NamedTuple):
    """Estimates, the standard errors of their logarithms, and the solver's steps."""

    parameters: Parameters
    log_errors: Parameters
    log_likelihood: float
    steps: int


def fit(x: np.ndarray, y: np.ndarray) -> Fit:
    """Maximum likelihood by Newton's method in a trust region."""
    from scipy.optimize import minimize

    start = tk.tree.tree_map(np.log, FIRST_GUESS)
    problem = tk.interop.scipy.objective(minus_log_likelihood, start)
    fun, jac, hessp, x0 = problem
    found = minimize(fun, x0, args=(x, y), jac=jac, hessp=hessp, method="trust-krylov")
    hessian = np.stack([hessp(found.x, v, x, y) for v in np.eye(len(x0))])
    errors = np.sqrt(np.diag(np.linalg.inv(hessian)))
    return Fit(problem.unflatten(np.exp(found.x)), problem.unflatten(errors), -found.fun, found.nit)


def predict(
    p: Parameters, x: np.ndarray, y: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the noiseless process at `at`, given the values `y`."""
    across = kernel(p, at, x)
    weights = np.linalg.solve(covariance(p, x), across.T)
    variance = p["amplitude"] ** 2 - (across * weights.T).sum(axis=1)
    return weights.T @ y, np.sqrt(np.maximum(variance, 0))


def show(result: Fit) -> None:
    """One line per parameter. The errors are of logarithms, so they are factors."""
    columns = (Text("estimate", "추정값"), Text("one standard error", "표준 오차 한 번"),
               Text("truth", "참값"), Text("off by", "빗나감"))  # fmt: skip
    widths = (9, 21, 6, 9)
    shown = (right(text.say(), width) for text, width in zip(columns, widths, strict=True))
    print(f"{'':10} " + " ".join(shown))
    for name, estimate in result.parameters.items():
        error = result.log_errors[name]
        low, high = estimate * np.exp(-error), estimate * np.exp(error)
        off = np.log(estimate / TRUTH[name]) / error
        to = Text("{low:.3f} to {high:.3f}", "{low:.3f}에서 {high:.3f}").say(low=low, high=high)
        title, unit = left(in_words(name, WORDS), 10), Text("se", "배").say()
        print(f"{title} {estimate:9.3f} {right(to, 21)} {TRUTH[name]:6.2f} {off:+6.1f} {unit}")
    line = Text(
        "log likelihood {value:.2f}, {steps} steps of Newton's method",
        "로그 가능도 {value:.2f}, 뉴턴법 {steps}스텝",
    )
    print(line.say(value=result.log_likelihood, steps=result.steps))


def save_picture(result: Fit, x: np.ndarray, y: np.ndarray, path: Path) -> None:
    """The process given the data: mean, two standard deviations, and the points."""
    figure = new_figure(7.5, 3.8)
    if figure is None:
        return
    axes = figure.subplots()
    at = np.linspace(-0.1 * WIDTH, 1.2 * WIDTH, 400)
    mean, deviation = predict(result.parameters, x, y, at)
    band = label(Text("two standard deviations", "표준편차의 2배"))
    low, high = mean - 2 * deviation, mean + 2 * deviation
    axes.fill_between(at, low, high, color=BLUE, alpha=0.2, linewidth=0, label=band)
    axes.plot(
        at,
        mean,
        color=BLUE,
        label=label(Text("mean, given the points", "점들이 주어졌을 때의 평균")),
    )
    axes.plot(x, y, "o", color=ORANGE, markersize=4, label=label(Text("the points", "점")))
    axes.set(xlabel="x", ylabel="y", xlim=(at[0], at[-1]))
    axes.legend(fontsize=8, loc="lower left")
    axes.grid(alpha=0.3)
    save(figure, path)


KOREAN = """
가우스 과정: 데이터에서 구한 길이, 진폭, 잡음과 그 표준 오차.

점 x에서의 값 y는 공분산이 K인 정규 분포를 따릅니다.

    K_ij = amplitude^2 exp(-(x_i - x_j)^2 / (2 length^2)) + noise^2 [i = j].

log det K + y K^-1 y + n log(2 pi)의 절반이 음의 로그 가능도입니다. 세 파라미터의 로그를 구합니다.
`tk.interop.scipy.objective`는 기울기와 헤세 행렬-벡터 곱을 SciPy에 건네줍니다. 둘 다 K의 촐레스키
인수를 거칩니다. 최솟값에서 헤세 행렬의 역행렬은 추정값의 공분산이고, 대각 원소의 제곱근이 표준
오차입니다.

데이터는 파라미터를 아는 과정에서 뽑으므로 추정이 얼마나 빗나갔는지도 알 수 있습니다.

    python examples/gaussian_process.py
    python examples/gaussian_process.py --points 100 --seed 3

그림은 out/에 저장합니다 (matplotlib 필요). 계산에는 SciPy가 필요합니다.
"""


def main() -> None:
    parser = options(__doc__, KOREAN, out="out")
    parser.add_argument(
        "--points",
        type=whole(5),
        default=60,
        help=Text("how many (default: 60)", "점의 수 (기본값: 60)").say(),
    )
    parser.add_argument(
        "--seed", type=whole(0), default=0, help=Text("of the data", "데이터의 시드").say()
    )
    args = parser.parse_args()
    x, y = draw(args.points, args.seed)
    try:
        result = fit(x, y)
    except ImportError:
        sys.exit('error: SciPy is missing (pip install "tinygrad_kr[scipy]")')
    show(result)
    save_picture(result, x, y, args.out / "gaussian_process.png")


if __name__ == "__main__":
    launch(main)
