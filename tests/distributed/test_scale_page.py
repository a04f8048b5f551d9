"""docs/scale.md: its programs run, with threads for clusters and small data of a reader's own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import data, nn, optim

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["scale.md", "scale.ko.md"]
X = np.random.default_rng(0).normal(size=(300, 2)).astype(np.float32)
Y = (X.sum(axis=1) > 0).astype(np.int64)


def programs(page: str) -> list[str]:
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)


def run(page: str, part: str, **names: Any) -> dict[str, Any]:
    """Run the one program of a page that has this in it; the names that it leaves."""
    (program,) = [code for code in programs(page) if part in code]
    space = {"tk": tk, "data": data, "optim": optim, "__name__": "__main__"} | names
    exec(compile(program, page, "exec"), space)
    return space


def build(generator: np.random.Generator) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 1, generator=generator))


def train(nets: Any) -> dict[str, Any]:
    return {"loss": (nets(tk.tensor(X[:4])) ** 2).sum((-1, -2))}


PARTS = [
    "distributed.init", "tk.save", "tk.load", "n=1000, executor=executor", "LocalCluster",
    "SLURMCluster", "MPIPoolExecutor", "def report", "held_out", "open_memmap", "rank=group.rank",
]  # fmt: skip
"""Of each program in turn; the tests below run these."""


@pytest.mark.parametrize("page", PAGES)
def test_no_program_is_left_out(page: str) -> None:
    found = programs(page)
    assert len(found) == len(PARTS)
    assert all(part in code for code, part in zip(found, PARTS, strict=True))


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("page", PAGES)
def test_the_loop_and_its_file(page: str) -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    space = run(page, "distributed.init", net=net, train=data.TensorDataset(X, Y))
    losses = []
    for x, y in space["loader"]:
        space["optimizer"].zero_grad()
        losses.append(nn.CrossEntropyLoss()(space["net"](x), y))
        losses[-1].backward()
        space["optimizer"].step()
        if len(losses) == 1:
            run(page, "tk.save", **space)
    assert len(losses) == 3
    kept = {k: v.copy() for k, v in net.state_dict().items()}
    run(page, "tk.load", **space)
    assert any((v != kept[k]).any() for k, v in net.state_dict().items())
    assert len(list(space["loader"])) == 2


@pytest.fixture
def clusters(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Threads in place of Dask, dask-jobqueue and mpi4py; what the clusters were told."""
    told: list[Any] = []
    threads = ThreadPoolExecutor(2)

    class Cluster(nullcontext[None]):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            told.append(options)

        def adapt(self, **options: Any) -> None:
            told.append(options)

    def client(cluster: Any) -> Any:
        return nullcontext(SimpleNamespace(get_executor=lambda: threads))

    modules = {
        "distributed": {"LocalCluster": Cluster, "Client": client},
        "dask_jobqueue": {"SLURMCluster": Cluster},
        "mpi4py": {},
        "mpi4py.futures": {"MPIPoolExecutor": lambda: ThreadPoolExecutor(2)},
    }
    for name, attributes in modules.items():
        module = ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    yield told
    threads.shutdown()


@pytest.mark.parametrize("page", PAGES)
def test_sweeps_on_any_executor(page: str, clusters: list[Any]) -> None:
    recipe = {"build": build, "train": train}
    swept = run(page, "LocalCluster", **recipe)["sweep"]
    assert len(swept.seeds) == 100
    for part in ("MPIPoolExecutor", "n=1000, executor=executor"):  # these go on from the file
        swept = run(page, part, executor=None, **recipe)["sweep"]
        assert len(swept.seeds) == len(set(swept.seeds.tolist())) == 1000
    assert clusters == [{"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}]


@pytest.mark.parametrize("page", PAGES)
def test_workers_as_jobs(page: str, clusters: list[Any]) -> None:
    run(page, "SLURMCluster", Client=sys.modules["distributed"].Client)
    assert clusters[0]["queue"] == "cpu" and clusters[1] == {"maximum_jobs": 64}


class TrialPruned(Exception):
    """Optuna's."""


@pytest.mark.parametrize("page", PAGES)
def test_the_callback_feeds_the_pruner(page: str) -> None:
    reported: list[tuple[float, int]] = []
    trial = SimpleNamespace(
        report=lambda value, epoch: reported.append((value, epoch)),
        should_prune=lambda: len(reported) == 3,
    )
    optuna = SimpleNamespace(TrialPruned=TrialPruned)
    report = run(page, "def report", trial=trial, optuna=optuna)["report"]
    net = nn.Linear(2, 2)
    with pytest.raises(TrialPruned):
        tk.fit(
            net, (X, Y), nn.CrossEntropyLoss(), optim.SGD(net.parameters(), lr=0.1), 5,
            validation=(X, Y), metrics=["accuracy"], callbacks=[report], progress=False,
        )  # fmt: skip
    assert [epoch for _, epoch in reported] == [1, 2, 3]
    assert all(0 <= value <= 1 for value, _ in reported)


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_larger_than_memory(page: str) -> None:
    def computed(start: int, end: int) -> Any:
        return np.arange(start, end, dtype=np.float32)[:, None]

    rows = 70_000
    run(page, "open_memmap", rows=rows, computed=computed)
    features = np.load("features.npy", mmap_mode="r")
    assert features.shape == (rows, 64)
    assert (features[:, 5] == np.arange(rows)).all()
    np.save("answers.npy", np.arange(rows))
    space = run(page, "held_out")
    assert (len(space["train"]), len(space["held_out"])) == (60_000, 10_000)
    assert (space["x"][:, 0].numpy() == space["y"].numpy()).all()
    group = SimpleNamespace(rank=1, size=2)
    shares = run(page, "rank=group.rank", group=group)["train"]
    assert len(shares) == 35_000
