"""The derivative as a small change: move x by a little, see how much f moves, divide.

The lecture: df/dx is (f(x + dx) - f(x)) / dx for a small dx. It takes dx = 0.01 and finds by hand:
0 for f = 3, 1 for f = x, 2 for f = 2x. A partial derivative holds the other variables still: for
f = x y it is y by x, and x by y. For f(g(x)) the changes multiply: df/dx = df/dg * dg/dx.

All of it holds, and `backward()` gives the same numbers without a dx. What a small change costs:

- It is a little wrong. For f = x^2 at x = 1 it says 2.01 where the derivative is 2. Half of dx
  halves the error; changing x both ways, (f(x + dx) - f(x - dx)) / 2 dx, squares it.
- dx cannot be as small as one likes. f(x + dx) and f(x) then agree in most of their digits, and
  what is left is rounding: below 1e-8 the error grows again, and at 1e-17 the change is 0.
- It needs a pass of the net for each parameter and one more. The lecture's MNIST net has 269,322
  parameters; `backward()` takes the time of about two passes for all of them.

So small changes check gradients (`tinygrad_kr.testing` does), and the chain rule computes them. The
program shows how: `tk.explain` prints each value, each slope, and their product.

    python examples/lectures/small_change.py

The picture is saved as out/lectures/small_change.png (needs matplotlib).
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    BLUE,
    GREEN,
    ORANGE,
    in_words,
    label,
    launch,
    left,
    new_figure,
    options,
    positive,
    right,
    save,
)

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor
from tinygrad_kr.language import Text

Function = Callable[..., Any]
EXAMPLES: dict[str, tuple[Function, tuple[float, ...], float]] = {
    "f = 3, by x": (lambda x: 0 * x + 3, (5.0,), 0),
    "f = x, by x": (lambda x: 1 * x, (5.0,), 1),
    "f = 2x, by x": (lambda x: 2 * x, (5.0,), 2),
    "f = x + 3, by x": (lambda x: x + 3, (5.0,), 1),
    "f = x + x, by x": (lambda x: x + x, (5.0,), 2),
    "f = x + y, by x": (lambda x, y: x + y, (-2.0, 5.0), 1),
    "f = x y, by x (it is y)": (lambda x, y: x * y, (-2.0, 5.0), 5),
    "f = x y, by y (it is x)": (lambda y, x: x * y, (5.0, -2.0), -2),
    "f = x^2, by x, at 1": (lambda x: x * x, (1.0,), 2),
}
"""Name: f, the point, and the derivative by the first argument, as the lecture has it."""
WORDS = (
    Text("by x", "x로 미분"),
    Text("by y", "y로 미분"),
    Text("at 1", "x = 1에서"),
    Text("it is y", "y가 답"),
    Text("it is x", "x가 답"),
    Text("one way", "한쪽으로"),
    Text("both ways", "양쪽으로"),
)
POINT = 0.7
STEPS = 10.0 ** np.arange(-17, 0.25, 0.25)


def one_way(f: Function, point: tuple[float, ...], dx: float) -> float:
    """(f(x + dx) - f(x)) / dx, x being the first argument."""
    x, *others = point
    return float((f(x + dx, *others) - f(x, *others)) / dx)


def both_ways(f: Function, point: tuple[float, ...], dx: float) -> float:
    """(f(x + dx) - f(x - dx)) / (2 dx)."""
    x, *others = point
    return float((f(x + dx, *others) - f(x - dx, *others)) / (2 * dx))


def by_autodiff(f: Function, point: tuple[float, ...]) -> float:
    """What `backward()` finds for the first argument."""
    x = Tensor(np.array(point[0]), requires_grad=True)
    f(x, *point[1:]).backward()
    assert x.grad is not None
    return float(x.grad.item())


def inner(x: Any) -> Any:
    return 3 * x - 1


def chain(x: Any) -> Any:
    """f(g(x)) with f = sigmoid and g = 3x - 1; of arrays and of Tensors."""
    return F.sigmoid(inner(x))


def explained() -> Any:
    """How autodiff finds the slope of the same function: by the chain rule, in numbers."""
    x = Tensor(np.array(POINT), requires_grad=True)
    g = inner(x)
    f = F.sigmoid(g)
    return tk.explain(f, x)


def exact_slope(x: float) -> float:
    """sigmoid' = s (1 - s), times 3 for the inner function."""
    s = 1 / (1 + np.exp(-inner(x)))
    return float(3 * s * (1 - s))


def errors(dtype: type[np.floating[Any]], way: Function) -> np.ndarray:
    """How far small changes of `STEPS` are from the slope of `chain`, in numbers of `dtype`."""

    def rounded(x: Any) -> Any:
        return chain(np.asarray(x, dtype)).astype(float)

    slope = exact_slope(float(dtype(POINT)))
    return np.array([abs(way(rounded, (float(dtype(POINT)),), dx) - slope) for dx in STEPS])


def all_errors() -> dict[str, np.ndarray]:
    return {
        "one way, float32": errors(np.float32, one_way),
        "one way": errors(np.float64, one_way),
        "both ways": errors(np.float64, both_ways),
    }


def run(*, dx: float = 0.01) -> dict[str, float]:
    """Each example by a change of dx and by `backward()`; the chain rule; the best dx of all."""
    figures = {}
    for name, (f, point, _) in EXAMPLES.items():
        figures[f"{name}: small change"] = one_way(f, point, dx)
        figures[f"{name}: backward"] = by_autodiff(f, point)
    outer = one_way(F.sigmoid, (inner(POINT),), dx)
    figures["chain: df/dg times dg/dx, small changes"] = outer * one_way(inner, (POINT,), dx)
    figures["chain: df/dx, backward"] = by_autodiff(chain, (POINT,))
    figures["chain: error of backward"] = abs(by_autodiff(chain, (POINT,)) - exact_slope(POINT))
    for name, found in all_errors().items():
        figures[f"{name}: least error"] = float(found.min())
        figures[f"{name}: its dx"] = float(STEPS[found.argmin()])
    figures["one way: error at 1e-17"] = float(all_errors()["one way"][0])
    return figures


def save_picture(path: Path) -> None:
    """Secants that turn into the tangent, and the error by dx."""
    figure = new_figure(8, 3.8)
    if figure is None:
        return
    secants, by_step = figure.subplots(1, 2)
    x = np.linspace(-0.6, 2.2, 300)
    secants.plot(x, chain(x), color="black", label="f(x) = sigmoid(3x - 1)")
    height = float(chain(np.array(POINT)))
    for dx, colour, style in ((1.2, ORANGE, "--"), (0.5, BLUE, "-."), (0.0, GREEN, "-")):
        slope = one_way(chain, (POINT,), dx) if dx else by_autodiff(chain, (POINT,))
        way = f"dx = {dx:g}" if dx else "backward()"
        name = label(
            Text("{way}: slope {slope:.3f}", "{way}: 기울기 {slope:.3f}"), way=way, slope=slope
        )
        secants.plot(x, height + slope * (x - POINT), color=colour, linestyle=style, label=name)
        if dx:
            secants.plot(POINT + dx, chain(np.array(POINT + dx)), "o", color=colour)
    secants.plot(POINT, height, "ko")
    title = label(Text("secants that become the tangent", "접선에 다가가는 할선"))
    secants.set(xlabel="x", ylabel="f", title=title, ylim=(-0.1, 2))
    secants.legend(fontsize=8, loc="upper left")
    looks = ((ORANGE, ":"), (BLUE, "-"), (GREEN, "--"))
    for (name, found), (colour, style) in zip(all_errors().items(), looks, strict=True):
        by_step.plot(
            STEPS, np.maximum(found, 1e-17), color=colour, linestyle=style, label=label(name, WORDS)
        )
    own = max(abs(by_autodiff(chain, (POINT,)) - exact_slope(POINT)), 1e-17)
    by_step.axhline(own, color="black", linewidth=1, label="backward()")
    by_step.axvline(0.01, color="0.6", linewidth=0.8)
    by_step.text(0.013, 3e-17, "0.01", color="0.4", fontsize=8)
    by_step.set(
        xscale="log",
        yscale="log",
        xlabel="dx",
        ylabel=label(Text("error of the slope", "기울기의 오차")),
        title=label(Text("too large, too small", "너무 커도, 너무 작아도")),
        ylim=(1e-17, 1e2),
    )
    by_step.legend(fontsize=8, loc="lower left")
    for axes in (secants, by_step):
        axes.grid(alpha=0.3)
    save(figure, path)


KOREAN = """
미분은 아주 작은 변화: x를 조금 바꾸고, f가 얼마나 바뀌는지 보고, 나눕니다.

강의: 작은 dx에 대해 df/dx는 (f(x + dx) - f(x)) / dx입니다. dx = 0.01로 잡고 손으로 구합니다. f =
3이면 0, f = x이면 1, f = 2x이면 2. 편미분은 다른 변수를 그대로 둡니다. f = x y이면 x로는 y, y로는
x입니다. f(g(x))에서는 변화를 곱합니다. df/dx = df/dg * dg/dx.

모두 맞고, `backward()`는 dx 없이 같은 수를 냅니다. 작은 변화의 대가:

- 조금 틀립니다. f = x^2은 x = 1에서 미분이 2인데 2.01이라고 합니다. dx를 반으로 줄이면 오차도
  반이 되고, x를 양쪽으로 바꾸면, (f(x + dx) - f(x - dx)) / 2 dx, 오차가 제곱으로 줄어듭니다.
- dx를 마음껏 줄일 수 없습니다. f(x + dx)와 f(x)의 자릿수가 대부분 같아져서 남는 것은 반올림
  오차입니다. 1e-8 아래에서는 오차가 다시 커지고, 1e-17에서는 변화가 0입니다.
- 파라미터마다 신경망을 한 번씩, 거기에 한 번 더 계산해야 합니다. 강의의 MNIST 신경망에는
  파라미터가 269,322개 있습니다. `backward()`는 두 번 계산할 시간에 모두 구합니다.

그래서 작은 변화로는 기울기를 검사하고(`tinygrad_kr.testing`), 계산은 연쇄 법칙으로 합니다.

    python examples/lectures/small_change.py

그림은 out/lectures/small_change.png에 저장합니다 (matplotlib 필요).
"""


def main(argv: list[str] | None = None) -> None:
    parser = options(__doc__, KOREAN, argv)
    parser.add_argument(
        "--dx",
        type=positive,
        default=0.01,
        help=Text("the change (default: 0.01)", "변화량 (기본값: 0.01)").say(),
    )
    args = parser.parse_args(argv)
    figures = run(dx=args.dx)
    changed = Text("changed by {dx:g}", "변화량 {dx:g}").say(dx=args.dx)
    lecture = Text("the lecture", "강의").say()
    print(f"{'':26} {right(changed, 16)} {'backward()':>12} {right(lecture, 12)}")
    for name, (_, _, published) in EXAMPLES.items():
        ours, exact = figures[f"{name}: small change"], figures[f"{name}: backward"]
        shown = left(in_words(name, WORDS), 26)
        print(f"{shown} {ours:16.6g} {exact:12.6g} {published:12g}")
    title = Text(
        "\nthe chain rule, f = sigmoid(g), g = 3x - 1, at x = 0.7",
        "\n연쇄 법칙, f = sigmoid(g), g = 3x - 1, x = 0.7에서",
    )
    print(title.say())
    product = figures["chain: df/dg times dg/dx, small changes"]
    by_changes = Text("df/dg * dg/dx by small changes", "작은 변화로 구한 df/dg * dg/dx").say()
    by_backward = Text("df/dx by backward()", "backward()로 구한 df/dx").say()
    print(f"  {left(by_changes, 30)} {product:.6f}")
    print(f"  {left(by_backward, 30)} {figures['chain: df/dx, backward']:.6f}")
    print(Text("\nthe same by tk.explain", "\n같은 것을 tk.explain으로").say())
    print(textwrap.indent(explained().text(), "  ") + "\n")
    slope, with_dx = Text("its slope", "그 기울기").say(), Text("with dx", "그때의 dx").say()
    least = Text("least error", "최소 오차").say()
    print(f"{left(slope, 20)} {right(least, 12)} {right(with_dx, 9)}")
    for name in all_errors():
        best, dx = figures[f"{name}: least error"], figures[f"{name}: its dx"]
        print(f"{left(in_words(name, WORDS), 20)} {best:12.0e} {dx:9.0e}")
    print(f"{'backward()':20} {figures['chain: error of backward']:12.0e}")
    save_picture(args.out / "small_change.png")


if __name__ == "__main__":
    launch(main)
