"""How training would scale to 1,024 ranks: measured times in the alpha-beta cost of ring allreduce.

    python benchmarks/scaling_model.py [--picture docs/pictures/scaling.png]

Reads what `benchmarks/data_parallel.py` wrote. Exchanging m bytes among p ranks in a ring takes

    T(m, p) = 2 (p - 1) alpha + 2 (p - 1) / p m beta

with alpha the time to start a message and beta the time of a byte, from exchanges of two ranks.
A step takes C + T(m, p), with C the measured step without its exchange. The efficiency is
C / (C + T): each rank keeps its batch, nothing overlaps, and no rank waits for a slower one.

Where p ranks share c < p cores, computation and messages take turns: the model then gives
p / c (C + T). These runs check the formula's shape, not a network: their messages are copies in
memory. For a cluster, alpha and beta must be measured there: `mpirun` this benchmark on two nodes.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks" / "results" / "data_parallel.json"
MODEL = ROOT / "benchmarks" / "results" / "scaling_model.json"
RANKS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]
ETHERNET = 20e-6, 8 / 10e9
"""A network for comparison, not measured: 20 us to start a message, 10 Gbit/s."""


class Network(NamedTuple):
    """alpha: seconds to start a message. beta: seconds of a byte."""

    alpha: float
    beta: float

    def exchange(self, size: float, ranks: int) -> float:
        """Seconds of a ring allreduce of `size` bytes."""
        return 2 * (ranks - 1) * self.alpha + 2 * (ranks - 1) / ranks * size * self.beta


def fitted(messages: dict[str, float], ranks: int) -> Network:
    """alpha from the quickest exchange up to 4 kB; beta, the median, from those of 128 kB on."""
    times = {int(size): seconds for size, seconds in messages.items()}
    alpha = min(seconds for size, seconds in times.items() if size <= 4096) / (2 * (ranks - 1))
    per_byte = [
        (seconds - 2 * (ranks - 1) * alpha) / (2 * (ranks - 1) / ranks * size)
        for size, seconds in times.items()
        if size >= 1 << 17
    ]
    return Network(alpha, max(0.0, float(np.median(per_byte))))


def efficiency(compute: float, size: float, ranks: int, network: Network) -> float:
    """The share of a step that is computation."""
    return compute / (compute + network.exchange(size, ranks))


def checks(results: dict[str, Any], network: Network) -> list[dict[str, Any]]:
    """Predicted and measured steps: of two ranks, and of more ranks than cores."""
    cores, found = results["cores"], []
    one = results["eager"]["1"]
    runs = {"2": results["eager"]["2"], **results["oversubscribed"]}
    for ranks, rows in runs.items():
        p = int(ranks)
        share = max(1.0, p / cores)
        for net, row in rows.items():
            contended = results["eager"]["2"][net]["ms_without_exchange"] / 1e3
            compute = contended if p >= cores else one[net]["ms"] / 1e3
            predicted = share * (compute + network.exchange(row["bytes_per_step"], p))
            found.append(
                {
                    "net": net, "ranks": p, "predicted_ms": round(1e3 * predicted, 3),
                    "measured_ms": row["ms"], "ratio": round(1e3 * predicted / row["ms"], 3),
                }
            )  # fmt: skip
    return found


def predicted(results: dict[str, Any], network: Network) -> dict[str, list[float]]:
    """The efficiency of each net on `RANKS`."""
    curves = {}
    for net, row in results["eager"]["2"].items():
        compute, size = row["ms_without_exchange"] / 1e3, row["bytes_per_step"]
        curves[net] = [round(efficiency(compute, size, p, network), 4) for p in RANKS]
    return curves


def draw(results: dict[str, Any], model: dict[str, Any], path: Path) -> None:
    """The predicted curves with the measured points of two ranks, and the checks."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    colours = dict(zip(results["nets"], ("#0072b2", "#d55e00", "#009e73"), strict=True))
    for net, colour in colours.items():
        left.plot(RANKS, model["here"][net], "-", color=colour, label=f"{net}, shared memory")
        left.plot(RANKS, model["ethernet"][net], ":", color=colour, label=f"{net}, 10 Gbit/s")
        row = results["eager"]["2"][net]
        left.plot([2], [row["ms_without_exchange"] / row["ms"]], "o", color=colour)
    left.set(xlabel="ranks", ylabel="efficiency", ylim=(0, 1.05))
    left.set_xscale("log", base=2)
    left.set_xticks([1, 4, 16, 64, 256, 1024], ["1", "4", "16", "64", "256", "1,024"])
    left.set_title("Predicted; points: measured, 2 ranks")
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 3, "frameon": False}
    left.legend(fontsize=8, **below)
    markers = {2: "o", 4: "s", 8: "^"}
    for one in model["checks"]:
        marker = markers.get(one["ranks"], "x")
        right.plot(one["predicted_ms"], one["measured_ms"], marker, color=colours[one["net"]])
    for ranks, marker in markers.items():
        right.plot([], [], marker, color="0.4", label=f"{ranks} ranks")
    found = [c[key] for c in model["checks"] for key in ("predicted_ms", "measured_ms")]
    limits = [0.8 * min(found), 1.2 * max(found)]
    right.plot(limits, limits, "-", color="0.7", zorder=0)
    right.set(xlabel="predicted ms a step", ylabel="measured ms a step")
    ticks = [t for t in (1, 2, 5, 10, 20, 50, 100, 200, 500) if limits[0] <= t <= limits[1]]
    for axis in (right.xaxis, right.yaxis):
        axis.axes.set(**{f"{axis.axis_name}scale": "log"})
        axis.set_ticks(ticks, [str(t) for t in ticks])
        axis.set_ticks([], minor=True)
    right.set_title(f"Check on {results['cores']} cores; the line: as predicted")
    right.legend(fontsize=8, **below)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--measured", type=Path, default=MEASURED)
    parser.add_argument("--out", type=Path, default=MODEL)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    results = json.loads(given.measured.read_text(encoding="utf-8"))
    network = fitted(results["messages"]["2"], 2)
    model = {
        "alpha_us": round(1e6 * network.alpha, 3),
        "beta_ns_per_byte": round(1e9 * network.beta, 4),
        "ranks": RANKS,
        "here": predicted(results, network),
        "ethernet": predicted(results, Network(*ETHERNET)),
        "checks": checks(results, network),
    }
    given.out.write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
    if given.picture is not None:
        draw(results, model, given.picture)
    print(f"alpha {model['alpha_us']} us, beta {model['beta_ns_per_byte']} ns a byte")
    for one in model["checks"]:
        print("{net:5} {ranks:2} ranks: predicted {predicted_ms:8.2f} ms, measured "
              "{measured_ms:8.2f} ms, ratio {ratio:.2f}".format(**one))  # fmt: skip
    for net, curve in model["here"].items():
        ethernet = model["ethernet"][net]
        print(f"{net:5} 8, 64, 1,024 ranks: here {curve[3]}, {curve[6]}, {curve[-1]}; "
              f"10 Gbit/s {ethernet[3]}, {ethernet[6]}, {ethernet[-1]}")  # fmt: skip


if __name__ == "__main__":
    main()
