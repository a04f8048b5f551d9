"""How deep can a sigmoid net be and still learn XOR? And a ReLU net?

Each extra sigmoid layer multiplies the gradient by slopes of at most 1/4, so the first layers of a
deep sigmoid net stand still and it answers 0.5 to everything. ReLU has slope 1, but units that are
0 for all four points are dead, so a ReLU net of ten narrow layers learns XOR less than every other
time: rates are shown, not one lucky seed.

Nets: 2 inputs, hidden layers 5 wide, 1 sigmoid output; weights U(-1, 1), biases 0; mean binary
cross-entropy, full batch, SGD with rate 0.1, float64. Both activations start from the same weights.
"Solved" is accuracy 1.0, "stuck" accuracy 0.5 or less; intervals are Wilson's, 95%.

    python benchmarks/sigmoid_vs_relu_depth.py --quick   # seconds
    python benchmarks/sigmoid_vs_relu_depth.py           # all depths, 10,001 steps, 100 seeds

The picture is saved as out/depth.png (needs matplotlib).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, no_grad, optim

WIDTH = 5
RATE = 0.1
POINTS = Tensor(np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]))
ANSWERS = np.array([[0.0], [1.0], [1.0], [0.0]])
ACTIVATIONS: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "ReLU": nn.ReLU}

QUICK = {"depths": [1, 2, 3, 5, 8, 10], "steps": 4_001, "seeds": 20}
FULL = {"depths": list(range(1, 11)), "steps": 10_001, "seeds": 100}


class ManyLinear(nn.Module):
    """The same linear layer of many nets: (4, in) or (seeds, 4, in) -> (seeds, 4, out)."""

    def __init__(self, inputs: int, outputs: int, generators: list[np.random.Generator]) -> None:
        weights = [generator.uniform(-1, 1, (outputs, inputs)) for generator in generators]
        self.weight = nn.Parameter(np.stack(weights))
        self.bias = nn.Parameter(np.zeros((len(generators), outputs)))

    def forward(self, x: Tensor) -> Any:
        return F.linear(x, self.weight, self.bias)


def make_nets(depth: int, activation: str, seeds: int) -> nn.Sequential:
    """As many nets as there are seeds, side by side; net k is the same whatever `seeds` is."""
    generators = [np.random.default_rng(seed) for seed in range(seeds)]
    sizes = [2, *[WIDTH] * depth]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [ManyLinear(inputs, outputs, generators), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers, ManyLinear(WIDTH, 1, generators))


def train(nets: nn.Sequential, seeds: int, steps: int, advance: Callable[[], Any]) -> None:
    """Full-batch gradient descent on all nets at once."""
    answers = Tensor(np.tile(ANSWERS, (seeds, 1, 1)))
    optimizer = optim.SGD(nets.parameters(), lr=RATE)
    for _ in range(steps):
        # The nets share no weight, so the sum of their losses gives each the gradient of its own.
        loss = F.binary_cross_entropy_with_logits(nets(POINTS), answers, reduction="sum") / 4
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        advance()


def accuracies(nets: nn.Sequential) -> np.ndarray:
    """The share of the four points that each net gets right; shape (seeds,)."""
    with no_grad():
        logits: np.ndarray = nets(POINTS).numpy()
    right: np.ndarray = (logits > 0) == (ANSWERS > 0.5)
    return np.asarray(right.mean(axis=(1, 2)))


class Rate(NamedTuple):
    """The share of nets with some outcome, and its 95% interval."""

    share: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.share:4.0%} ({self.low:.0%} to {self.high:.0%})"


def wilson(successes: int, count: int, z: float = 1.96) -> Rate:
    """Wilson's score interval, which keeps its meaning at 0 of n and n of n.

    Source: Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    share = successes / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return Rate(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)))


class Result(NamedTuple):
    """What became of the nets of one depth and activation."""

    solved: Rate
    stuck: Rate


def measure(depths: list[int], seeds: int, steps: int) -> dict[tuple[str, int], Result]:
    """Train every depth with both activations; a line of the table for each depth."""
    bar = progress_bar(len(depths) * len(ACTIVATIONS) * steps)
    advance, say = (bar.update, bar.write) if bar is not None else (lambda: None, print)
    say(f"{'hidden':>6}   {'sigmoid':^43}   {'ReLU':^43}")
    say(f"{'layers':>6}   " + f"{'solved':^20}   {'stuck at 0.5':^20}   " * 2)
    results = {}
    for depth in depths:
        for activation in ACTIVATIONS:
            nets = make_nets(depth, activation, seeds)
            train(nets, seeds, steps, advance)
            reached = accuracies(nets)
            solved, stuck = int((reached == 1).sum()), int((reached <= 0.5).sum())
            results[activation, depth] = Result(wilson(solved, seeds), wilson(stuck, seeds))
        row = [results[activation, depth] for activation in ACTIVATIONS]
        say(f"{depth:>6}   " + "   ".join(f"{r.solved!s:<20}   {r.stuck!s:<20}" for r in row))
    if bar is not None:
        bar.close()
    return results


def progress_bar(total: int) -> Any:
    """A bar with the time left where tqdm is installed and someone looks at a terminal."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=total, unit="step", disable=None, leave=False)


def save_picture(results: dict[tuple[str, int], Result], title: str, folder: Path) -> None:
    """Shares of nets that solved XOR, and that got stuck, against depth."""
    try:
        import matplotlib
    except ImportError:
        print('no picture: matplotlib is missing (pip install "tinygrad_kr[examples]")')
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(8, 3.6), sharey=True, layout="constrained")
    styles = {"sigmoid": ("s--", "#D55E00", -0.08), "ReLU": ("o-", "#0072B2", 0.08)}
    for axes, outcome in zip(panels, Result._fields, strict=True):
        for activation, (style, colour, shift) in styles.items():
            depths = [depth for name, depth in results if name == activation]
            rates = [getattr(results[activation, depth], outcome) for depth in depths]
            shares = [100 * rate.share for rate in rates]
            below = [100 * (rate.share - rate.low) for rate in rates]
            above = [100 * (rate.high - rate.share) for rate in rates]
            axes.errorbar(
                [depth + shift for depth in depths], shares, [below, above],
                fmt=style, color=colour, markersize=5, capsize=3, label=activation,
            )  # fmt: skip
        axes.set(xlabel="hidden layers, 5 wide", ylim=(-4, 104))
        axes.set_xticks(depths)
        axes.grid(alpha=0.3)
    panels[0].set(title="learned XOR (accuracy 1.0)", ylabel="nets, %")
    panels[1].set(title="stuck (accuracy 0.5 or less)")
    panels[1].legend()
    figure.suptitle(title, fontsize=10)
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "depth.png", dpi=120)
    plt.close(figure)
    print(f"picture saved: {folder / 'depth.png'}")


def whole(text: str) -> int:
    """A whole number from 1 up."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number from 1 up, not {text!r}")
    return int(text)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer depths (1 2 3 5 8 10), seeds and steps")
    add("--depths", type=whole, nargs="+", help="numbers of hidden layers (default: 1 to 10)")
    add("--seeds", type=whole, help="nets for each (default: 100; quick: 20)")
    add("--steps", type=whole, help="default: 10001; quick: 4001")
    add("--out", type=Path, default=Path("out"), help="folder for the picture (default: out)")
    args = parser.parse_args()
    for option, value in (QUICK if args.quick else FULL).items():
        if getattr(args, option) is None:
            setattr(args, option, value)
    args.depths = sorted(set(args.depths))
    return args


def main() -> None:
    args = parse_arguments()
    print(f"XOR, {args.seeds} seeds, {args.steps:,} steps of SGD {RATE} (95% intervals)\n")
    start = time.perf_counter()
    results = measure(args.depths, args.seeds, args.steps)
    print(f"\ntrained in {time.perf_counter() - start:.1f} s")
    if args.steps < FULL["steps"]:
        print("These are fewer steps than the lecture's 10,001: sigmoid nets with 2 or 3 hidden")
        print("layers are still on their way; deeper ones are stuck with 10,001 steps as well.")
    save_picture(results, f"{args.seeds} starts each, {args.steps:,} steps", args.out)


if __name__ == "__main__":
    main()
