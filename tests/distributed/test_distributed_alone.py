"""Without mpirun: a group of one, which needs no mpi4py; and samplers, which need no group."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import distributed_checks
import numpy as np
import pytest

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim
from tinygrad_kr.distributed import DistributedSampler, RankError
from tinygrad_kr.native import choice

ROOT = Path(__file__).parents[2]


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "", **environment},
        timeout=120,
        check=False,
    )


BLOCKED = "import sys; sys.modules['mpi4py'] = None\nimport tinygrad_kr as tk\n"


def test_a_group_of_one_needs_no_mpi4py() -> None:
    result = run(BLOCKED + "print(tk.distributed.init(timeout=5))")
    assert result.stdout.strip() == "Group(rank=0, size=1)", result.stderr


def test_a_group_of_one_does_not_start_mpi() -> None:
    code = "import sys, tinygrad_kr as tk; tk.distributed.init(); print('mpi4py' in sys.modules)"
    assert run(code).stdout.strip() == "False"


def test_under_mpirun_without_mpi4py_the_error_says_what_to_install() -> None:
    result = run(BLOCKED + "tk.distributed.init()", OMPI_COMM_WORLD_SIZE="2")
    assert result.returncode == 1
    assert "ImportError: tk.distributed.init: expected mpi4py" in result.stderr
    assert 'pip install "tinygrad_kr[mpi]"' in result.stderr


def test_one_process_that_srun_started_needs_no_mpi4py() -> None:
    result = run(BLOCKED + "print(tk.distributed.init())", SLURM_STEP_NUM_TASKS="1")
    assert result.stdout.strip() == "Group(rank=0, size=1)", result.stderr


def test_a_group_of_one_trains_as_without_a_group() -> None:
    def trained(grouped: bool) -> Any:
        tk.manual_seed(0)
        net: nn.Module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        optimizer: optim.Optimizer = optim.Adam(net.parameters(), lr=0.1)
        x = np.random.default_rng(1).standard_normal((8, 3)).astype(np.float32)
        loader = data.DataLoader((x, np.arange(8) % 2), 4)
        if grouped:
            group = tk.distributed.init()
            net = group.broadcast(net, batch_norm="synchronised")
            optimizer = group.optimizer(optimizer)
            loader = data.DataLoader((x, np.arange(8) % 2), 4, sampler=group.sampler(x))
            with group.no_sync():
                group.barrier()
        for batch, labels in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(batch), labels)
            loss.backward()
            optimizer.step()
        return [p.data for p in net.parameters()], tk.rand(2).data

    mine, others = trained(True), trained(False)
    assert (mine[1] == others[1]).all()
    for a, b in zip(mine[0], others[0], strict=True):
        assert a.tobytes() == b.tobytes()


def test_reductions_of_a_group_of_one_are_those_of_several_ranks(tmp_path: Path) -> None:
    group = tk.distributed.init()
    distributed_checks.reduced_kinds(tmp_path)
    x = np.arange(3.0)
    found = group.all_reduce(x, "max")
    assert (found == x).all()
    assert not np.shares_memory(found, x)
    w = tk.tensor([2.0], requires_grad=True)
    group.all_reduce(w, "sum").sum().backward()
    assert w.grad.data[0] == 1
    with pytest.raises(NotImplementedError, match="expected 'mean' or 'sum' where a gradient"):
        group.all_reduce(w, "max").sum().backward()
    assert (group.bytes_sent, group.seconds_waited) == (0, 0.0)


def test_wrong_arguments_are_named() -> None:
    group = tk.distributed.init()
    net = nn.Linear(2, 1)
    with pytest.raises(ValueError, match=r"init: expected timeout > 0, got 0"):
        tk.distributed.init(timeout=0)
    with pytest.raises(ValueError, match=r"broadcast: expected batch_norm in .*, got 'global'"):
        group.broadcast(net, batch_norm="global")
    with pytest.raises(TypeError, match=r"broadcast: expected a Module, got list"):
        group.broadcast([net.weight])  # type: ignore[type-var]
    with pytest.raises(TypeError, match=r"group.optimizer: expected an optimizer, got Linear"):
        group.optimizer(net)  # type: ignore[type-var]
    with pytest.raises(ValueError, match=r"expected bucket_bytes >= 1, got 0"):
        group.optimizer(optim.SGD(net.parameters(), lr=0.1), bucket_bytes=0)
    with pytest.raises(ValueError, match=r"all_reduce: expected a reduction in .*, got 'median'"):
        group.all_reduce(1.0, "median")


def test_an_error_of_a_rank_survives_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(RankError(3, "ValueError: no")))
    assert (error.rank, error.reason) == (3, "ValueError: no")


# ------------------------------------------------------------------ samplers


def shares(count: int, ranks: int, epochs: int = 1, **options: Any) -> list[list[list[int]]]:
    """By epoch, the indices of each rank."""
    samplers = [DistributedSampler(range(count), rank, ranks, **options) for rank in range(ranks)]
    return [[list(sampler) for sampler in samplers] for _ in range(epochs)]


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 12])
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("shuffle", [False, True])
def test_every_rank_gets_equally_many_and_each_example_at_least_once(
    count: int, ranks: int, shuffle: bool
) -> None:
    for epoch in shares(count, ranks, epochs=2, shuffle=shuffle):
        assert {len(share) for share in epoch} == {-(-count // ranks)}
        everything = [index for share in epoch for index in share]
        assert set(everything) == set(range(count))


def test_the_remainder_is_left_out_or_repeats_the_first() -> None:
    assert shares(7, 3)[0] == [[0, 3, 6], [1, 4, 0], [2, 5, 1]]
    assert shares(7, 3, drop_last=True)[0] == [[0, 3], [1, 4], [2, 5]]
    assert shares(2, 5)[0] == [[0], [1], [0], [1], [0]]


def test_each_epoch_has_an_order_of_its_own_that_all_ranks_share() -> None:
    first, second = shares(100, 2, epochs=2, shuffle=True)
    assert first != second
    assert sorted(first[0] + first[1]) == list(range(100))
    sampler = DistributedSampler(range(100), 1, 2, shuffle=True)
    sampler.set_epoch(1)
    assert list(sampler) == second[1]
    other = DistributedSampler(range(100), 1, 2, shuffle=True, seed=1)
    assert list(other) != first[1]


def test_the_batches_of_all_ranks_are_those_of_one_process() -> None:
    alone = list(data.BatchSampler(DistributedSampler(range(24), 0, 1, shuffle=True), 6, False))
    parts = [
        list(data.BatchSampler(DistributedSampler(range(24), rank, 3, shuffle=True), 2, False))
        for rank in range(3)
    ]
    for k, batch in enumerate(alone):
        assert {*batch} == {index for part in parts for index in part[k]}


def test_a_resumed_sampler_goes_on_with_the_next_epoch_on_any_number_of_ranks() -> None:
    sampler = DistributedSampler(range(10), 0, 2, shuffle=True, seed=4)
    list(sampler)
    resumed = DistributedSampler(range(10), 0, 1, shuffle=True)
    resumed.load_state_dict(sampler.state_dict())
    expected = shares(10, 1, epochs=2, shuffle=True, seed=4)[1][0]
    assert list(resumed) == expected
    with pytest.raises(ValueError, match="expected the keys epoch and seed"):
        resumed.load_state_dict({"epoch": 1})


def sharded_loader(rank: int, ranks: int, batch: int, count: int = 26) -> Any:
    sampler = DistributedSampler(range(count), rank, ranks, shuffle=True, seed=3)
    return data.DataLoader(np.arange(count), batch, sampler=sampler)


def next_samples(loader: Any, batches: int) -> list[int]:
    """The samples of so many batches, over the ends of passes, in order."""
    found: list[int] = []
    while batches:
        for batch in loader:
            found += batch.data.tolist()
            batches -= 1
            if not batches:
                break
    return found


@pytest.mark.parametrize("done", [2, 4, 5, 7, 8])
@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_loader_resumes_each_ranks_share_from_rank_0s_state(done: int, ranks: int) -> None:
    """26 samples, 13 on each of two ranks: passes of four batches. 4 and 8 are ends of passes."""
    loader = sharded_loader(0, 2, 4)
    next_samples(loader, done)
    state = loader.state_dict()
    before = next_samples(sharded_loader(0, 1, 8), done)
    expected = next_samples(sharded_loader(0, 1, 8), done + 1)[len(before) :]
    found = []
    for rank in range(ranks):
        resumed = sharded_loader(rank, ranks, 8 // ranks)
        resumed.load_state_dict(state)
        assert resumed.sampler.epoch == loader.sampler.epoch
        found.append(next_samples(resumed, 1))
    assert np.transpose(found).ravel().tolist()[: len(expected)] == expected


def test_states_of_other_shares_are_refused_and_change_nothing() -> None:
    loader = sharded_loader(1, 3, 2)
    next_samples(loader, 4)
    before = loader.state_dict()
    other = sharded_loader(0, 1, 8)
    next_samples(other, 2)
    shuffled = data.DataLoader(np.arange(26), 2, shuffle=True)
    next_samples(shuffled, 2)
    order = {"order": shuffled.state_dict()["order"]}
    for wrong, message in [
        (other.state_dict(), "expected a number of ranks that divides the 16 samples"),
        (before | order, "expected as order seed, epoch and size of a pass over 26 samples on"),
        (sharded_loader(1, 3, 2, 25).state_dict() | order, "expected as order seed, epoch and"),
        (before | {"position": 400}, "expected 26 samples on 3 ranks, got position 400"),
        (before | {"position": -1}, "expected 26 samples on 3 ranks, got position -1"),
        (before | {"sampler": {"epoch": 1}}, "sampler: expected the keys epoch and seed"),
        (shuffled.state_dict() | {"generator": None}, r"expected the keys \['generator', 'order'"),
    ]:
        with pytest.raises(ValueError, match=message):
            loader.load_state_dict(wrong)
        assert loader.state_dict() == before


def test_wrong_samplers_are_named() -> None:
    with pytest.raises(ValueError, match=r"expected a rank in \[0, 2\), got 2"):
        DistributedSampler(range(4), 2, 2)
    with pytest.raises(ValueError, match="expected a data set with samples"):
        DistributedSampler([], 0, 1)
    with pytest.raises(ValueError, match="expected at least 3 samples"):
        DistributedSampler(range(2), 0, 3, drop_last=True)


# ------------------------------------------------------------------ the choice of kernels


def test_a_choice_of_another_process_is_taken_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYGRAD_KR_PRODUCTS", raising=False)
    monkeypatch.setattr(choice, "_made", {})
    monkeypatch.setattr(choice, "_adopted", None)
    choice.adopt("float32=c/numpy,float64=numpy/c")
    assert choice.text_of("float32") == "float32=c/numpy"
    assert choice.made("float64") == choice.Choice(False, True)
    with pytest.raises(RuntimeError, match="which rounds differently"):
        choice.adopt("numpy")
    monkeypatch.setattr(choice, "_made", {})
    choice.adopt("numpy")
    assert choice.made("float32") == choice.unmeasured("float64") == choice.BLAS


# ------------------------------------------------------------------ the page


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_page_has_the_measured_figures(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    scale_page = importlib.import_module("scale_page")
    shown = scale_page.PAGES[language].read_text(encoding="utf-8")
    assert scale_page.page(language) == shown, "run: python docs/scale_page.py"


def test_the_model_is_the_ring_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    scaling_model = importlib.import_module("scaling_model")
    network = scaling_model.Network(1e-6, 1e-9)
    assert network.exchange(1e6, 1) == 0
    assert network.exchange(1e6, 4) == pytest.approx(6e-6 + 1.5e-3)
    sizes = [8, 4096, 1 << 17, 1 << 20]
    times = {str(size): network.exchange(size, 2) for size in sizes}
    fitted = scaling_model.fitted(times, 2)
    assert fitted.alpha == pytest.approx(1e-6, rel=0.01)
    assert fitted.beta == pytest.approx(1e-9, rel=0.01)
    assert scaling_model.efficiency(1e-3, 1e6, 2, network) == pytest.approx(1 / 2.002)
