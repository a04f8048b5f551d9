"""What ranks check of one another.

mpirun -n 2 python tests/support/distributed_checks.py FOLDER CHECK ...
"""

from __future__ import annotations

import contextlib
import copy
import io
import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

import distributed_recipes as recipes
import numpy as np
from platforms import needs_fork

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim
from tinygrad_kr.native import choice


def everyones(array: Any) -> list[Any]:
    """The arrays of all ranks, on every rank."""
    group = tk.distributed.init()
    array = np.asarray(array)
    rows = np.zeros((group.size, *array.shape), array.dtype)
    rows[group.rank] = array
    return list(group.all_reduce(rows, "sum"))


def broadcast(folder: Path) -> None:
    """Parameters and buffers are rank 0's, bit for bit; also -0.0 and a NaN's bits."""
    group = tk.distributed.init()
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    weight = np.arange(6, dtype=np.float32).reshape(2, 3) * (group.rank + 1) - 3
    weight[0, 0] = -0.0 if group.rank == 0 else 0.0
    weight.view(np.int32)[0, 1] = 0x7FC12345 if group.rank == 0 else 0x7FC00000
    with tk.no_grad():
        net[0].weight.copy_(weight)
        net[1].running_mean.fill_(group.rank + 5.0)
        net[1].num_batches_tracked.fill_(group.rank + 9)
    assert group.broadcast(net) is net
    bits = net[0].weight.data.view(np.int32).ravel()
    assert bits[0] == np.float32(-0.0).view(np.int32)
    assert bits[1] == 0x7FC12345
    for values in (net[1].running_mean.data, net[1].num_batches_tracked.data):
        assert all((one == values).all() for one in everyones(values))
    assert net[1].running_mean.data[0] == 5.0
    assert int(net[1].num_batches_tracked.data) == 9
    net[0].bias.data.flags.writeable = False
    try:
        group.broadcast(net)
    except ValueError as error:
        assert "broadcast: expected writable memory, got a read-only array in 0.bias" in str(error)
    else:
        raise AssertionError("a read-only array was overwritten")


def randomness(folder: Path) -> None:
    """Random numbers agree until the broadcast, and differ from it on; the shuffle agrees."""
    group = tk.distributed.init()
    before = everyones(tk.rand(4).data)
    assert all((one == before[0]).all() for one in before)
    parts = data.random_split(range(20), [0.5, 0.5])
    assert all((one == parts[0].indices).all() for one in everyones(parts[0].indices))
    tk.manual_seed(0)
    net = group.broadcast(nn.Sequential(nn.Dropout(0.5)))
    masks = everyones(net(tk.ones(64)).data)
    assert not (masks[0] == masks[1]).all()
    sampler = group.sampler(range(10), shuffle=True, seed=3)
    shares = everyones(list(sampler))
    assert sorted({*np.concatenate(shares).tolist()}) == list(range(10))
    if group.rank == 0:  # no other rank need make a pass whose epoch is set
        sampler.set_epoch(0)
        assert list(sampler) == shares[0].tolist()
    sampler.set_epoch(1)
    assert list(sampler) != shares[group.rank].tolist()


def kernels(folder: Path) -> None:
    """Every rank multiplies as rank 0 does, whatever it has measured itself."""
    group = tk.distributed.init()
    chosen = everyones([bool(part) for dtype in choice.DTYPES for part in choice.made(dtype)])
    assert all((one == chosen[0]).all() for one in chosen)
    assert [bool(x) for x in chosen[0]] == [True, False, False, True]
    assert group.size > 1


def reductions(folder: Path) -> None:
    """`all_reduce` of numbers, arrays and Tensors, and its gradient."""
    group = tk.distributed.init()
    rank, size = group.rank, group.size
    assert group.all_reduce(float(rank)) == (size - 1) / 2
    assert group.all_reduce(rank, "sum") == size * (size - 1) // 2
    assert group.all_reduce(rank, "max") == size - 1
    assert group.all_reduce(rank, "min") == 0
    assert type(group.all_reduce(rank, "sum")) is int
    array = group.all_reduce(np.full((2, 3), rank, np.float16))
    assert array.dtype == np.float16
    assert (array == (size - 1) / 2).all()
    x = tk.tensor([rank + 1.0, 2.0], requires_grad=True)
    total = group.all_reduce(x, "sum")
    (total * (rank + 1)).sum().backward()
    assert (x.grad.data == size * (size + 1) / 2).all()
    with tk.no_grad():
        assert group.all_reduce(x, "max").data[0] == size
    for dtype in (np.float16, np.float64):
        some = np.array([[np.nan if rank == 1 else rank, -rank]], dtype)
        for reduction in ("max", "min", "mean", "sum"):
            reduced = group.all_reduce(some, reduction)
            assert np.isnan(reduced).tolist() == [[True, False]]
    assert np.isnan(group.all_reduce(np.nan if rank else 1.0, "max"))
    compiled = tk.compile(lambda x: group.all_reduce(2 * x) + 1)
    for shift in range(4):
        y = compiled(tk.tensor([rank + float(shift)]))
        assert y.data[0] == 2 * ((size - 1) / 2 + shift) + 1
    assert compiled.explain() == "every call is compiled", compiled.explain()


def reduced_kinds(folder: Path) -> None:
    """The dtype of NumPy's function, whatever the kind of the value; on one rank as on several."""
    group = tk.distributed.init()
    size = group.size
    for value, reduction, expected in (
        (np.array([200], np.uint8), "sum", np.array([200 * size], np.uint64)),
        (np.array([True]), "sum", np.array([size])),
        (np.array([[7]], np.int16), "max", np.array([[7]], np.int16)),
        (np.array([60000], np.float16), "mean", np.array([60000], np.float16)),
        ([1, 2], "mean", np.array([1.0, 2.0])),
        (np.float32(3), "mean", np.float32(3)),
        (True, "sum", size),
        (True, "max", True),
        (3, "mean", 3.0),
        (3, "sum", 3 * size),
        (1j, "mean", 1j),
        (tk.tensor([3], dtype=np.int32), "mean", tk.tensor([3.0], dtype=np.float64)),
    ):
        found = group.all_reduce(value, reduction)
        assert type(found) is type(expected), (value, reduction, found)
        assert getattr(found, "dtype", None) == getattr(expected, "dtype", None), (value, found)
        assert np.array_equal(found, expected), (value, reduction, found)
        assert found is not value or not isinstance(value, np.ndarray)
    for value, reduction, error in (("abc", "sum", TypeError), (1j, "max", ValueError)):
        try:
            group.all_reduce(value, reduction)
        except error as raised:
            assert "all_reduce: expected" in str(raised)
        else:
            raise AssertionError(f"{value} was reduced")


def pickled(folder: Path) -> None:
    """A pickled group is that of the process, whose timeout stays; `init` need not have come."""
    group = tk.distributed.init(timeout=50)
    net = group.broadcast(nn.BatchNorm1d(2), batch_norm="synchronised")
    copied = pickle.loads(pickle.dumps(net))
    assert copied.across is group
    assert tk.distributed.init() is group
    if group._link is not None:
        assert group._link.peers.timeout == 50
    if group.rank == 0:
        (folder / "net.pickle").write_bytes(pickle.dumps(net))


def overlap(folder: Path) -> None:
    """Buckets begin while backward still runs, in one order, the last parameters first."""
    group = tk.distributed.init()
    net = group.broadcast(nn.Sequential(*(nn.Linear(4, 4) for _ in range(3))))
    optimizer = group.optimizer(optim.SGD(net.parameters(), lr=0.1), bucket_bytes=64)
    link, begun, first_done = group._link, [], []
    hold = link._hold

    def held(request: Any, *arrays: Any) -> None:
        begun.extend(array.size for array in arrays if array.dtype == np.float32)
        hold(request, *arrays)

    def wait(_: Any) -> None:
        """In the midst of backward, until the other rank is there too."""
        end = time.monotonic() + 30
        while len(begun) < 2 and time.monotonic() < end:
            link.start_sums()
        first_done.append(len(begun))

    link._hold = held
    first = net[0](tk.ones(2, 4))
    first.register_hook(wait)
    net[2](net[1](first)).sum().backward()
    # Each bucket: a bias and the weight before it, 20 gradients and 4 flags.
    assert begun == [24, 24, 24], begun
    assert first_done == [2], first_done
    assert group.bytes_sent > 0
    assert group.seconds_waited > 0
    optimizer.step()


def transparent(folder: Path) -> None:
    """The optimizer stays itself: schedules, state and copies work; parameters may be added."""
    group = tk.distributed.init()
    net = group.broadcast(nn.Linear(2, 1))
    plain = optim.SGD([net.weight], lr=0.1)
    optimizer = group.optimizer(plain)
    assert optimizer is plain
    assert group.optimizer(plain) is plain
    optimizer.add_param_group({"params": [net.bias], "lr": 0.2})
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    x = tk.tensor([[1.0 + group.rank, 2.0]])
    net(x).sum().backward()
    mean = 1 + (group.size - 1) / 2
    assert np.allclose(net.weight.grad.data, [[mean, 2.0]])
    assert net.bias.grad.data[0] == 1
    optimizer.step()
    schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.05
    assert copy.deepcopy(group) is group
    net.weight.requires_grad_(False)
    optimizer.zero_grad()
    net(x).sum().backward()
    assert net.weight.grad is None
    assert net.bias.grad.data[0] == 1


def paused(folder: Path) -> None:
    """`no_sync` around a compiled step, and inside one, also where it was compiled otherwise."""
    group = tk.distributed.init()
    w = nn.Parameter(np.array([1.0]))
    optimizer = group.optimizer(optim.SGD([w], lr=0.0))
    own, mean = 2.0 * group.rank, group.size - 1.0

    def plain(x: Any) -> None:
        optimizer.zero_grad()
        (w * x).sum().backward()

    def inside(x: Any) -> None:
        optimizer.zero_grad()
        with group.no_sync():
            (w * x).sum().backward()
        (w * x).sum().backward()

    x = tk.tensor([own])
    for function, expected in ((plain, mean), (inside, 2 * mean)):
        step: Any = tk.compile(function)
        for _ in range(4):
            step(x)
            assert w.grad.data[0] == expected
        with group.no_sync():
            for _ in range(3):
                step(x)
                assert w.grad.data[0] == own * expected / mean
        step(x)
        assert w.grad.data[0] == expected
        assert step.explain().startswith("every call is compiled"), step.explain()
    step = tk.compile(lambda x: plain(x))
    for _ in range(4):
        with group.no_sync():
            step(x)
        assert w.grad.data[0] == own
    step(x)
    assert w.grad.data[0] == mean


def local_steps(folder: Path) -> None:
    """A step by gradients that were not averaged raises, and leaves the parameters alone."""
    group = tk.distributed.init()
    w = nn.Parameter(np.array([1.0]))
    optimizer = group.optimizer(optim.SGD([w], lr=0.5))
    optimizer.step()  # no gradient: nothing to average

    def refused() -> bool:
        before = w.data.copy()
        try:
            optimizer.step()
        except RuntimeError as error:
            assert "SGD.step: expected gradients that backward() has averaged" in str(error)
            assert w.data == before
            return True
        return False

    def loss() -> Any:
        return (w * (group.rank + 1.0)).sum()

    (w.grad,) = tk.autograd.grad(loss(), [w])
    assert refused()
    optimizer.zero_grad()
    loss().backward()
    w.grad = 2 * w.grad  # the user's own change of the average
    optimizer.step()
    assert w.data[0] == 1 - 0.5 * (group.size + 1)
    assert refused()  # the same gradient again
    optimizer.zero_grad()
    loss().backward()
    with group.no_sync():
        loss().backward()
    assert refused()
    loss().backward()
    assert not refused()
    compiled = tk.compile(lambda: loss().backward())
    for _ in range(4):
        optimizer.zero_grad()
        compiled()
        assert not refused()
    with group.no_sync():
        compiled()
    assert refused()

    @tk.compile
    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    compiled_step = tk.compile(lambda: optimizer.step())
    for _ in range(4):
        optimizer.zero_grad()
        compiled()
        compiled_step()
        step()
    with group.no_sync():
        compiled()  # it holds no step itself
        before = w.data.copy()
        try:
            step()
        except RuntimeError as error:
            assert "SGD.step: expected gradients" in str(error)
            assert w.data == before
        else:
            raise AssertionError("a compiled step went on by gradients of its own rank")
    optimizer.zero_grad()
    lbfgs = group.optimizer(optim.LBFGS([w]))

    def closure() -> Any:
        with group.no_sync():
            loss().backward()
        return loss()

    try:
        lbfgs.step(closure)
    except RuntimeError as error:
        assert "LBFGS.step: expected gradients" in str(error)
    else:
        raise AssertionError("LBFGS stepped by gradients of its own rank")


def communicators(folder: Path) -> None:
    """A process has one group: another communicator is refused, the same is not."""
    from mpi4py import MPI

    group = tk.distributed.init()
    assert tk.distributed.init(communicator=MPI.COMM_WORLD) is group
    try:
        tk.distributed.init(communicator=MPI.COMM_SELF)
    except ValueError as error:
        assert "init: expected the communicator of the first call" in str(error)
    else:
        raise AssertionError("another communicator was taken for the first")


def scalars(folder: Path) -> None:
    """A 0-d loss keeps its shape."""
    group = tk.distributed.init()
    mean = group.all_reduce(tk.tensor(float(group.rank)))
    assert mean.shape == ()
    assert group.all_reduce(np.array(2.0), "sum").shape == ()


def second_order(folder: Path) -> None:
    """`backward(create_graph=True)` leaves averages that can be differentiated."""
    group = tk.distributed.init()
    w = nn.Parameter(np.array([3.0]))
    optimizer = group.optimizer(optim.SGD([w], lr=0.1))
    scale = group.rank + 1.0
    (scale * w**2).sum().backward(create_graph=True)
    mean = (group.size + 1) / 2
    assert np.allclose(w.grad.data, 2 * mean * 3)
    (second,) = tk.autograd.grad(w.grad.sum(), [w])
    assert np.allclose(second.data, 2 * scale)  # of the sum of all ranks' results
    optimizer.zero_grad()


def statistics(folder: Path) -> None:
    """Local statistics differ between ranks; synchronised ones agree, also of unequal batches."""
    group = tk.distributed.init()
    random = np.random.default_rng(0)
    x = random.standard_normal((9, 2))
    mine = x[:3] if group.rank == 0 else x[3:] if group.rank == 1 else x[:0]
    expected = nn.BatchNorm1d(2, dtype=np.float64)
    whole = expected(tk.tensor(x)).data
    synchronised = nn.BatchNorm1d(2, dtype=np.float64)
    group.broadcast(synchronised, batch_norm="synchronised")
    y = synchronised(tk.tensor(mine)).data
    assert np.allclose(y, whole[:3] if group.rank == 0 else whole[3:], atol=1e-12)
    for name in ("running_mean", "running_var"):
        both = getattr(synchronised, name).data, getattr(expected, name).data
        assert np.allclose(*both, atol=1e-12)
    group.broadcast(synchronised, batch_norm="local")
    y = synchronised(tk.tensor(mine)).data
    assert np.allclose(y.mean(axis=0), 0, atol=1e-12)
    means = everyones(synchronised.running_mean.data)
    assert not np.allclose(means[0], means[1])
    synchronised.eval()
    group.broadcast(synchronised, batch_norm="synchronised")
    synchronised(tk.tensor(mine))
    synchronised.train()
    group.broadcast(synchronised)  # as after a file is loaded: what was set stays
    y = synchronised(tk.tensor(mine)).data
    assert np.allclose(y, whole[:3] if group.rank == 0 else whole[3:], atol=1e-12)


def one_value(folder: Path) -> None:
    """One value per channel in all has no variance: every rank raises, eager and compiled."""
    group = tk.distributed.init()
    net = nn.BatchNorm1d(2, dtype=np.float64)
    group.broadcast(net, batch_norm="synchronised")
    mine = tk.tensor(np.ones((1 if group.rank == 0 else 0, 2)))
    kept = net.running_mean.data.copy(), net.running_var.data.copy()
    for call in (net, tk.compile(lambda x: net(x))):
        for _ in range(3):
            try:
                call(mine)
            except ValueError as error:
                told = str(error)
            else:
                told = "no error"
            assert "in the batches of all ranks, got 1." in told
    assert np.array_equal(net.running_mean.data, kept[0])
    assert np.array_equal(net.running_var.data, kept[1])


def half_precision(folder: Path) -> None:
    """Sums and counts above float16's largest number; and an array as input of the first layer."""
    group = tk.distributed.init()
    x = np.random.default_rng(0).standard_normal((64, 3, 40, 40)) + 3
    x = x.astype(np.float16)
    expected = nn.BatchNorm2d(3, dtype=np.float16)
    whole = expected(tk.tensor(x)).data[group.rank :: group.size]
    net = nn.BatchNorm2d(3, dtype=np.float16)
    group.broadcast(net, batch_norm="synchronised")
    mine = x[group.rank :: group.size]
    for given in (tk.tensor(mine), mine):
        y = net(given).data
        assert y.dtype == np.float16
        assert np.abs(y.astype(float) - whole).max() < 0.01
    means = net.running_mean.data.astype(float), expected.running_mean.data.astype(float)
    assert np.allclose(means[0], means[1] + 0.9 * means[1], atol=0.01)
    bare = nn.BatchNorm1d(2, affine=False, dtype=np.float64)
    group.broadcast(bare, batch_norm="synchronised")
    y = np.asarray(bare(np.array([[1.0, group.rank]] * 2)))
    assert np.allclose(y[:, 1], 2 * group.rank - 1, atol=1e-4) or group.size > 2


def schedule(folder: Path) -> None:
    """A schedule by a metric takes the mean, though the metrics of the ranks differ."""
    group = tk.distributed.init()
    optimizer = group.optimizer(optim.SGD([nn.Parameter(np.ones(1))], lr=1.0))
    plateau = optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5)
    for metric in (1.0, 2.0 - 3.0 * group.rank, 1.0):  # falls on rank 1 alone
        plateau.step(metric)
    means = np.array([1.0, 2.0 - 1.5 * (group.size - 1), 1.0])
    assert plateau.best == means.min()
    rates = everyones(optimizer.param_groups[0]["lr"])
    assert all((rate == 0.5 if group.size == 2 else rate == rates[0]) for rate in rates)


def fitted(folder: Path) -> None:
    """`tk.fit`: means over the rows of all ranks, one decision to stop, one file, one progress."""
    group = tk.distributed.init()
    net = group.broadcast(nn.Linear(1, 1, dtype=np.float64))
    optimizer = group.optimizer(optim.SGD(net.parameters(), lr=0.0))
    rows = 2 + 4 * group.rank
    x = np.full((rows, 1), 1.0 + group.rank)
    told = [
        tk.training.EarlyStopping("val_loss"),
        tk.training.ModelCheckpoint(folder / "rank-{epoch}.npz", save_best_only=False),
    ]
    written = io.StringIO()
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written):
        history = tk.fit(
            net, (np.ones((4, 1)), np.zeros((4, 1))), F.mse_loss, optimizer, 5,
            validation=(x, np.zeros_like(x)), callbacks=told,
        )  # fmt: skip
    y = net(x).data
    total, count = np.sum(everyones((y**2).sum())), np.sum(everyones(rows))
    assert np.allclose(history["val_loss"], total / count)
    assert len(history["loss"]) == 2
    assert bool(written.getvalue()) == (group.rank == 0)
    assert len(list(folder.glob("rank-*.npz"))) == 2


def saved(folder: Path) -> None:
    """Rank 0 saves in the midst of training; all ranks wait for it and go on."""
    group = tk.distributed.init()
    net, optimizer, _, loader = parts_of_a_run()
    train(net, optimizer, loader)
    if group.rank == 0:
        tk.save(folder / "run.npz", model=net, optimizer=optimizer, loader=loader)
    group.barrier()


def resumed(folder: Path) -> None:
    """Any number of ranks goes on from the file."""
    group = tk.distributed.init()
    net, optimizer, sampler, loader = parts_of_a_run()
    tk.load(folder / "run.npz", model=net, optimizer=optimizer, loader=loader)
    group.broadcast(net)
    assert sampler.epoch == 2
    train(net, optimizer, loader)
    weights = {name: p.data for name, p in net.named_parameters()}
    np.savez(folder / f"resumed-{group.size}-{group.rank}.npz", **weights)


@needs_fork
def forked(folder: Path) -> None:
    """A forked process makes no exchange, and ends with its own code."""
    group = tk.distributed.init()
    for expected in (0, 1, 3):
        if child := os.fork():
            end = time.monotonic() + 30
            found, status = 0, 0
            while not found and time.monotonic() < end:
                found, status = os.waitpid(child, os.WNOHANG)
                time.sleep(0.01)
            assert found, "the forked process hangs"
            assert os.waitstatus_to_exitcode(status) == expected
        elif expected == 1:
            group.barrier()  # raises
        else:
            sys.exit(expected)
    group.barrier()


def parts_of_a_run() -> tuple[Any, ...]:
    """Net, optimizer, sampler and loader of `saved` and `resumed`."""
    group = tk.distributed.init()
    net = group.broadcast(recipes.seeded_net("mlp", np.float64))
    optimizer = group.optimizer(optim.Adam(net.parameters(), lr=0.01))
    x, labels = recipes.examples("mlp", np.float64)
    sampler = group.sampler(x, shuffle=True, seed=5)
    return net, optimizer, sampler, data.DataLoader((x, labels), 12 // group.size, sampler=sampler)


def train(net: Any, optimizer: Any, loader: Any) -> None:
    """Two epochs."""
    for _ in range(2):
        for x, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(net(x), labels).backward()
            optimizer.step()


if __name__ == "__main__":
    directory, *names = sys.argv[1:]
    if names == ["unpickled"]:
        unpickled = pickle.loads(Path(directory, "net.pickle").read_bytes())
        assert unpickled.across.size == 1
        assert tk.distributed.init(timeout=60).size == 2
        assert unpickled.across is tk.distributed.init()
    tk.distributed.init(timeout=60)
    for name in names if names != ["unpickled"] else []:
        globals()[name](Path(directory))
        print(f"{name}: fine", flush=True)
