"""`tk.save` and `tk.load`: which parts a file has, which arrays and values come back, what is
refused, and that an error or an interrupt changes nothing."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from interrupts import Interrupts, drawn
from saved_runs import SUFFIXES, Run, needs_safetensors, plain, same

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.changes import make_all


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file, by NumPy or by the library alone."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    from safetensors.numpy import load_file

    loaded: dict[str, np.ndarray] = load_file(path)
    return loaded


# ------------------------------------------------------------------ keys


@pytest.mark.parametrize("extra", [None, {"epoch": 1}])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_alone_has_the_keys_of_its_state_dict(
    tmp_path: Path, suffix: str, extra: Any
) -> None:
    path, net = tmp_path / f"net{suffix}", nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    tk.save(path, model=net, extra=extra)
    arrays = arrays_of(path)
    if extra is not None and suffix == ".npz":
        assert set(arrays) - set(net.state_dict()) == {"__metadata__"}
        with pytest.raises(RuntimeError, match=r"unexpected: __metadata__ \(tk.load reads"):
            net.load_state_dict(arrays)
        arrays.pop("__metadata__")
    assert set(arrays) == set(net.state_dict())
    nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).load_state_dict(arrays)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)
    assert tk.load(path, model=net) == extra


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_more_parts_have_prefixes(tmp_path: Path, suffix: str) -> None:
    path, run = tmp_path / f"run{suffix}", Run()
    run.train(2)
    tk.save(path, **run.parts)
    names = set(arrays_of(path)) - {"__metadata__"}
    assert {f"model.{name}" for name in run.model.state_dict()} <= names
    assert {"optimizer.state.0.exp_avg", "loader.order"} <= names
    assert {name.split(".")[0] for name in names} == {"model", "optimizer", "loader"}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_state_dict_given_to_savez_comes_back(tmp_path: Path, save: Any) -> None:
    net, other = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    save(tmp_path / "net.npz", **net.state_dict())
    assert tk.load(tmp_path / "net.npz", model=other) is None
    assert same(plain(other.state_dict()), plain(net.state_dict()))


@needs_safetensors
def test_the_library_reads_and_writes_the_same_file(tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import save_file

    path, net, other = tmp_path / "net.safetensors", nn.Linear(2, 3), nn.Linear(2, 3)
    tk.save(path, model=net)
    with safe_open(path, framework="numpy") as file:
        assert len(file.metadata()["tinygrad_kr.sha256"]) == 64
    save_file(net.state_dict(), path)
    tk.load(path, model=other)
    np.testing.assert_array_equal(other.weight.data, net.weight.data)


def test_a_file_of_one_state_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    run = Run()
    for name in ("a.npz", "b.npz"):
        tk.save(tmp_path / name, **run.parts, extra=[1])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_nothing_is_pickled(tmp_path: Path) -> None:
    path, run = tmp_path / "run.npz", Run()
    run.train(1)
    tk.save(path, **run.parts, extra={"a": 1})
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "biuf" for name in file)
        document = json.loads(bytes(file["__metadata__"]))
    assert document["extra"] == {"a": 1}


# ------------------------------------------------------------------ arrays of all kinds


class Holder(nn.Module):
    """Arrays as buffers, under any names."""

    def __init__(self, arrays: dict[str, Any]) -> None:
        self._persistent = dict.fromkeys(arrays, True)
        for name, array in arrays.items():
            vars(self)[name] = Tensor(array)


COLUMNS = np.arange(12, dtype=np.float32).reshape(3, 4)
ARRAYS: dict[str, Any] = {
    "0-d": np.array(1.5),
    "empty": np.zeros((0, 3), np.float32),
    "bool": np.array([True, False]),
    **{f"{kind}{n}": np.array([1, 2], f"{kind}{n}") for kind in "ui" for n in (1, 2, 4, 8)},
    **{dtype: np.array([0.1, -0.0, np.inf, np.nan], dtype) for dtype in ("f2", "f4", "f8")},
    "transposed": COLUMNS.T,
    "stepped": COLUMNS[::2, ::-1],
    "broadcast": np.broadcast_to(np.float32(2), (3, 2)),
}  # fmt: skip


def holders(arrays: dict[str, Any]) -> tuple[Holder, Holder]:
    other = {name: np.full(x.shape, 1, x.dtype) for name, x in arrays.items()}
    return Holder(arrays), Holder(other)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_arrays_of_every_dtype_and_layout(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    net, other = holders(ARRAYS)
    tk.save(path, model=net)
    tk.load(path, model=other)
    for name, array in ARRAYS.items():
        loaded = other.state_dict()[name]
        assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
        assert loaded.tobytes() == array.tobytes()


def test_another_byte_order_is_read_and_written_as_this_machines(tmp_path: Path) -> None:
    path, net = tmp_path / "net.npz", nn.Linear(2, 1)
    swapped = {name: x.astype(x.dtype.newbyteorder()) for name, x in net.state_dict().items()}
    np.savez(path, **swapped)  # type: ignore[arg-type]
    other = nn.Linear(2, 1)
    tk.load(path, model=other)
    np.testing.assert_array_equal(other.weight.data, net.weight.data)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_in_another_byte_order_comes_back(tmp_path: Path, suffix: str) -> None:
    path, swapped = tmp_path / f"net{suffix}", np.float64([1, 2]).dtype.newbyteorder()
    net, other = Holder({"a": np.array([1, 2], swapped)}), Holder({"a": np.zeros(2, swapped)})
    tk.save(path, model=net)
    tk.load(path, model=other)
    assert other.state_dict()["a"].dtype == swapped
    assert other.state_dict()["a"].tolist() == [1, 2]


@needs_safetensors
def test_what_safetensors_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import safetensors

    path, long = tmp_path / "net.safetensors", np.ones(1, np.longdouble)
    if long.dtype.itemsize > 8:
        with pytest.raises(TypeError, match=r"that .safetensors has in a, got .*\. Write .npz"):
            tk.save(path, model=Holder({"a": long}))

    def refuses(*_: Any, **__: Any) -> None:
        raise safetensors.SafetensorError("header too large")

    monkeypatch.setattr(safetensors, "safe_open", refuses)
    with pytest.raises(ValueError, match=r"save: expected a header .* too large\. Write .npz"):
        tk.save(path, extra="a text of 100 MB")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_absurd_names(tmp_path: Path, suffix: str) -> None:
    names = ["a/b", "../../etc", "..", "/", "\\", "", " ", "가중치", "w.npy", "file", "CON",
             "allow_pickle", "a" * 300, "\n", '"', "%s"]  # fmt: skip
    path = tmp_path / f"net{suffix}"
    net, other = holders({name: np.float32([i]) for i, name in enumerate(names)})
    tk.save(path, model=net)
    tk.load(path, model=other)
    assert same(plain(other.state_dict()), plain(net.state_dict()))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["\ud800", "__metadata__", "\0"])
def test_names_that_a_file_cannot_hold(tmp_path: Path, suffix: str, name: str) -> None:
    if (suffix, name) == (".safetensors", "\0"):
        return
    with pytest.raises(ValueError, match=r"save: expected .*names"):
        tk.save(tmp_path / f"net{suffix}", model=Holder({name: np.ones(1)}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_tied_weights_are_saved_under_both_names(tmp_path: Path, suffix: str) -> None:
    def tied() -> nn.Module:
        net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        net[1].weight = net[0].weight
        return net

    path, net, other = tmp_path / f"net{suffix}", tied(), tied()
    tk.save(path, model=net)
    assert {"0.weight", "1.weight"} <= set(arrays_of(path))
    tk.load(path, model=other)
    assert other[0].weight is other[1].weight
    assert same(plain(other.state_dict()), plain(net.state_dict()))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["0.weight", "1.weight"])
def test_a_tied_weight_may_be_there_once(tmp_path: Path, suffix: str, name: str) -> None:
    """`safetensors.torch.save_model` leaves the other name out; `load_state_dict` is PyTorch's."""
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    path, saved = tmp_path / f"net{suffix}", np.full((3, 3), 7, np.float32)
    tk.save(path, model=Holder({name: saved}))
    before = plain(net.state_dict())
    with pytest.raises(RuntimeError, match=r"missing: [01]\.weight"):
        tk.load(path, model=net)
    assert same(plain(net.state_dict()), before)
    net[1].weight = net[0].weight
    with pytest.raises(RuntimeError, match=r"missing: [01]\.weight"):
        net.load_state_dict({name: saved})
    tk.load(path, model=net)
    assert net[0].weight is net[1].weight
    assert (net[0].weight.data == 7).all()


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_thousands_of_arrays(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"net{suffix}"
    net, other = holders({f"w{i}": np.float32([i]) for i in range(3000)})
    tk.save(path, model=net)
    tk.load(path, model=other)
    assert other.state_dict()["w2999"] == 2999


def test_an_array_beyond_the_limit_of_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one of more than 2 GiB: its size is known to the archive only when it is written."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    net, other = holders({"w": np.arange(1000.0), "b": np.arange(3.0)})
    tk.save(tmp_path / "net.npz", model=net)
    tk.load(tmp_path / "net.npz", model=other)
    assert same(plain(other.state_dict()), plain(net.state_dict()))


@needs_safetensors
def test_arrays_in_safetensors_are_aligned(tmp_path: Path) -> None:
    """So that other programs can map them."""
    path = tmp_path / "net.safetensors"
    for name in ("a", "ab", "abc"):
        dtypes = ("u1", "f8", "f2", "f4", "i8")
        arrays = {f"{name}{i}": np.ones(3, dtype) for i, dtype in enumerate(dtypes)}
        tk.save(path, model=Holder(arrays))
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        assert start % 8 == 0
        header = json.loads(content[8:start])
        for key, array in arrays.items():
            first, end = header[key]["data_offsets"]
            assert first % array.itemsize == 0
            assert content[start + first : start + end] == array.tobytes()


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    class Net(nn.Module):
        def state_dict(self) -> Any:
            return {"w": np.ones(1, complex)}

    with pytest.raises(TypeError, match="expected real numbers in w, got complex128"):
        tk.save(tmp_path / "net.npz", model=Net())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_state_dict_of_the_users_own_is_used(tmp_path: Path, suffix: str) -> None:
    class Doubled(nn.Linear):
        def state_dict(self) -> Any:
            return {"twice": Tensor(2 * self.weight.data)}

        def load_state_dict(self, state: Any, strict: bool = True) -> Any:
            with tk.no_grad():
                self.weight.copy_(state["twice"] / 2)

    path, net, other = tmp_path / f"net{suffix}", Doubled(2, 2), Doubled(2, 2)
    tk.save(path, model=net)
    tk.load(path, model=other)
    np.testing.assert_array_equal(other.weight.data, net.weight.data)


def test_a_state_of_the_users_own_comes_back_after_an_error(tmp_path: Path) -> None:
    """Also one that shares its arrays with the part."""

    class Shared(nn.Linear):
        def state_dict(self) -> Any:
            return {"weight": self.weight.data}

        def load_state_dict(self, state: Any, strict: bool = True) -> Any:
            self.weight.data[...] = state["weight"]

    class Failing(optim.SGD):
        def load_state_dict(self, state_dict: Any) -> None:
            raise ZeroDivisionError

    net = Shared(2, 2)
    optimizer = optim.SGD(net.parameters())
    tk.save(tmp_path / "run.npz", model=net, optimizer=optimizer)
    other = Shared(2, 2)
    before = other.weight.data.copy()
    failing = Failing(other.parameters())
    with pytest.raises(ZeroDivisionError):
        tk.load(tmp_path / "run.npz", model=other, optimizer=failing)
    np.testing.assert_array_equal(other.weight.data, before)


def test_parameters_keep_their_identity(tmp_path: Path) -> None:
    path, net = tmp_path / "net.npz", nn.Linear(2, 2)
    tk.save(path, model=net)
    parameters, arrays = list(net.parameters()), [p.data for p in net.parameters()]
    tk.load(path, model=net)
    for p, q, array in zip(net.parameters(), parameters, arrays, strict=True):
        assert p is q
        assert p.data is array


# ------------------------------------------------------------------ parts


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_part_that_is_not_asked_for_is_left(tmp_path: Path, suffix: str) -> None:
    path, run = tmp_path / f"run{suffix}", Run(1)
    run.train(3)
    tk.save(path, **run.parts, extra="x")
    other = Run(2)
    before = other.state()
    assert tk.load(path) == "x"
    assert same(other.state(), before)
    tk.load(path, model=other.model)
    after = other.state()
    assert same(after["model"], run.state()["model"])
    assert same({**after, "model": 0}, {**before, "model": 0})
    tk.load(path, optimizer=other.optimizer)
    assert same(other.state()["optimizer"], run.state()["optimizer"])
    assert same(other.state()["scheduler"], before["scheduler"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_part_that_the_file_lacks_is_an_error(tmp_path: Path, suffix: str) -> None:
    path, run = tmp_path / f"net{suffix}", Run()
    tk.save(path, model=run.model)
    before = run.state()
    with pytest.raises(KeyError, match=r"expected optimizer, scheduler, loader in .*, got model"):
        tk.load(path, **run.parts)
    tk.save(path, optimizer=run.optimizer)
    with pytest.raises(KeyError, match=r"load: expected model in .*, got optimizer"):
        tk.load(path, model=run.model)
    assert same(run.state(), before)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_model_of_other_keys_shapes_or_dtypes(tmp_path: Path, suffix: str) -> None:
    path, net = tmp_path / f"net{suffix}", nn.Linear(2, 3)
    tk.save(path, model=net)
    for other, problem in [
        (nn.Linear(2, 4), r"weight: expected float32\(4, 2\), got float32\(3, 2\)"),
        (nn.Linear(2, 3, bias=False), "unexpected: bias"),
        (nn.Linear(2, 3).double(), r"expected float64\(3, 2\), got float32"),
        (nn.Sequential(nn.Linear(2, 3)), r"missing: 0\.weight"),
    ]:
        before = plain(other.state_dict())
        with pytest.raises(RuntimeError, match=problem) as caught:
            tk.load(path, model=other)
        assert str(path) in str(caught.value)
        assert plain(other.state_dict()) == before


class Linear:
    """A layer of PyTorch's, as far as its type says."""


Linear.__module__ = "torch.nn.modules.linear"
NET = nn.Linear(1, 1)
SGD = optim.SGD(NET.parameters())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"model": [NET, NET]}, "expected Module for model, got list. Put them into one nn.Modul"),
        ({"model": {"a": NET}}, "expected Module for model, got dict. Put them into one nn.Modul"),
        ({"optimizer": [SGD]}, "expected Optimizer for optimizer, got list. Save each in a file o"),
        ({"optimizer": {"a": SGD}}, "expected Optimizer for optimizer, got dict. Save each in a f"),
        ({"optimizer": [1]}, "expected Optimizer for optimizer, got list."),
        ({"model": Linear()}, "for model, got torch.Linear. tk.interop.from_torch_state_dict("),
        ({"optimizer": Linear()}, "for optimizer, got torch.Linear."),
    ],
)
def test_what_is_given_in_place_of_a_part(
    tmp_path: Path, parts: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        tk.save(tmp_path / "net.npz", **parts)
    assert list(tmp_path.iterdir()) == []


@needs_safetensors
def test_a_file_of_another_format_says_so(tmp_path: Path) -> None:
    net = nn.Linear(2, 2)
    files: dict[str, bytes] = {}
    names = [".npz", ".safetensors"]
    for suffix in names:
        tk.save(tmp_path / f"net{suffix}", model=net)
        files[suffix] = (tmp_path / f"net{suffix}").read_bytes()
    for suffix, other in (names, names[::-1]):
        path = tmp_path / f"other{suffix}"
        path.write_bytes(files[other])
        with pytest.raises(tk.DamagedFileError, match=rf"format \{other}\. Let its name end so"):
            tk.load(path, model=net)
    np.save(tmp_path / "array.npy", np.ones(2))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(tk.DamagedFileError, match=r"as np\.save writes it\. Write it by np\.savez"):
        tk.load(tmp_path / "array.npz", model=net)


def test_a_pickle_of_pytorchs_under_another_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("net/data/0", bytes(16))
    with pytest.raises(tk.DamagedFileError, match=r"a pickle, as torch\.save writes.*Name it \.pt"):
        tk.load(path, model=nn.Linear(2, 2))


def test_an_error_in_a_later_part_leaves_the_earlier_ones(tmp_path: Path) -> None:
    path, run = tmp_path / "run.npz", Run(1)
    run.train(3)
    tk.save(path, **run.parts)
    wrong = {
        "optimizer": optim.SGD(run.model.parameters(), momentum=0.5),
        "scheduler": optim.lr_scheduler.StepLR(run.optimizer, 2),
        "loader": tk.data.DataLoader((np.arange(3),), generator=np.random.default_rng(0)),
    }
    for name, part in wrong.items():
        other = Run(2)
        before = other.state()
        with pytest.raises(ValueError, match=rf"load: .*run\.npz: {name}"):
            tk.load(path, **{**other.parts, name: part})
        assert same(other.state(), before)


@pytest.mark.parametrize("n", [8, pytest.param(80, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_interrupt_leaves_all_or_nothing(tmp_path: Path, suffix: str, n: int) -> None:
    """At n bytecodes: drawn ones, and of the last 30, where all is written, as large a share."""
    path, run, other = tmp_path / f"run{suffix}", Run(1), Run(2)
    run.train(3)
    other.train(2)
    tk.save(path, **run.parts)
    saved, before = run.state(), other.state()
    tk.save(tmp_path / "before.npz", **other.parts)
    interrupts = Interrupts()
    tk.load(path, **other.parts)
    assert same(other.state(), saved)
    total = interrupts.count(lambda: tk.load(path, **other.parts))
    undone = 0
    ends = total - 30 + np.array(list(drawn(30, 3 * n // 8, 0)))
    for at in [*drawn(total, 5 * n // 8, 0), *ends.tolist()]:
        tk.load(tmp_path / "before.npz", **other.parts)
        came = interrupts.at(at, lambda: tk.load(path, **other.parts))
        now = other.state()
        assert (came and same(now, before)) or same(now, saved)
        undone += same(now, before)
    assert undone >= n // 2


@pytest.mark.slow
def test_an_interrupt_at_every_change(tmp_path: Path) -> None:
    path, run, other = tmp_path / "run.npz", Run(1), Run(2)
    run.train(3)
    other.train(2)
    tk.save(path, **run.parts)
    tk.save(tmp_path / "before.npz", **other.parts)
    saved, before = run.state(), other.state()
    wanted = {"make_all", "write", "_overwrite", "_overwritings", "_replace", "_turn_to"}
    interrupts = Interrupts(
        lambda code: code.co_name in wanted and "tinygrad_kr" in code.co_filename
    )
    for at in range(interrupts.count(lambda: tk.load(path, **other.parts))):
        tk.load(tmp_path / "before.npz", **other.parts)
        assert interrupts.at(at, lambda: tk.load(path, **other.parts))
        now = other.state()
        assert same(now, before) or same(now, saved)


def test_options_of_a_group_come_and_go_with_the_file(tmp_path: Path) -> None:
    class Failing(tk.data.DataLoader):
        def load_state_dict(self, state: Any) -> None:
            raise ZeroDivisionError

    parameters = list(nn.Linear(2, 1).parameters())
    named = optim.SGD([{"params": parameters, "name": "body"}])
    path, loader = tmp_path / "run.npz", tk.data.DataLoader([0])
    tk.save(path, optimizer=named, loader=loader)
    other = optim.SGD(parameters)
    with pytest.raises(ZeroDivisionError):
        tk.load(path, optimizer=other, loader=Failing([0]))
    assert "name" not in other.param_groups[0]
    tk.load(path, optimizer=other)
    assert other.param_groups[0]["name"] == "body"
    tk.save(path, optimizer=optim.SGD(parameters))
    tk.load(path, optimizer=other)
    assert "name" not in other.param_groups[0]


def test_an_undo_that_fails_or_is_interrupted_again() -> None:
    """A change that cannot be undone leaves the others undone; a second Ctrl-C leaves none out."""
    values, interrupts = dict.fromkeys("abcd", 0), [1, 2]

    def change(name: str, value: int) -> None:
        if (name, value) == ("b", 0):
            raise OSError(name)
        if (name, value) == ("c", 0) and interrupts:
            interrupts.pop()
            raise KeyboardInterrupt
        values[name] = value
        if (name, value) == ("d", 1):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_all((partial(change, name, 1), partial(change, name, 0)) for name in "abcd")
    assert values == {"a": 0, "b": 1, "c": 0, "d": 0}


# ------------------------------------------------------------------ extra, arguments


def nested(levels: int) -> Any:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "extra",
    [
        0,
        -0.0,
        1e-310,
        "가\ud800\0",
        True,
        [],
        {},
        {"": {"a": [None, 1.5, "x"]}},
        2**70,
        [[[]]],
        {"best": np.inf, "now": [-np.inf, np.nan]},
        {"__array__": "weight"},
        1 - 10**4000,
        nested(100),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_extra_comes_back_equal(tmp_path: Path, suffix: str, extra: Any) -> None:
    path = tmp_path / f"extra{suffix}"
    tk.save(path, extra=extra)
    assert repr(tk.load(path)) == repr(extra)


CIRCLE: dict[str, Any] = {}
CIRCLE["again"] = [CIRCLE]


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (
            {"a": [1, {"rate": np.float32(1)}]},
            r"at extra\['a'\]\[1\]\['rate'\], got np.float32. Write .t",
        ),
        ({"t": tk.ones(1)}, r"at extra\['t'\], got Tensor"),
        ({"betas": (0.9, 0.99)}, r"at extra\['betas'\], got tuple. Write list"),
        ({"a": {1: 2}}, r"as keys of extra\['a'\], got 1"),
        ({"f": print}, r"at extra\['f'\], got builtin_function"),
        ({1, 2}, r"at extra, got set. Write list"),
        ([np.True_], r"at extra\[0\], got np.bool. Write .tolist"),
        (b"x", r"at extra, got bytes"),
    ],
)
def test_extra_that_json_does_not_hold(tmp_path: Path, extra: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        tk.save(tmp_path / "net.npz", model=nn.Linear(1, 1), extra=extra)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("extra", "problem"),
    [
        (CIRCLE, r"extra\['again'\]\[0\] in itself"),
        (nested(101), r"expected up to 100 levels, got more at extra\[0\]"),
        (nested(100_000), r"expected up to 100 levels, got more at extra\[0\]"),
        ({"n": [10**4000]}, r"integers of up to 4,000 digits, got more at extra\['n'\]\[0\]"),
        (-(10**5000), r"integers of up to 4,000 digits, got more at extra\."),
    ],
    ids=["circle", "101 levels", "100,000 levels", "4,001 digits", "5,001 digits"],
)
def test_extra_that_could_not_be_read(tmp_path: Path, extra: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        tk.save(tmp_path / "net.npz", extra=extra)
    assert not list(tmp_path.iterdir())


def test_a_group_with_an_option_that_json_does_not_hold(tmp_path: Path) -> None:
    optimizer = optim.SGD([{"params": nn.Linear(1, 1).parameters(), "hook": print}])
    with pytest.raises(TypeError, match=r"optimizer.param_groups.0.hook"):
        tk.save(tmp_path / "run.npz", optimizer=optimizer)


def test_a_state_with_two_arrays_of_one_name(tmp_path: Path) -> None:
    class Odd(optim.SGD):
        def state_dict(self) -> Any:
            return {"a.b": np.ones(1), "a": {"b": np.zeros(1)}}

    with pytest.raises(ValueError, match=r"expected one array named optimizer\.a\.b, got two"):
        tk.save(tmp_path / "run.npz", optimizer=Odd(nn.Linear(1, 1).parameters()))
    assert not list(tmp_path.iterdir())


def test_arguments(tmp_path: Path) -> None:
    net = nn.Linear(1, 1)
    for call in (tk.save, tk.load):
        with pytest.raises(ValueError, match=r"ends with .npz or .safetensors, got .*net\.h5'"):
            call(tmp_path / "net.h5", model=net)
        for name in ("model", "optimizer", "scheduler", "loader"):
            kind = r"(Module|Optimizer|LRScheduler|DataLoader)"
            with pytest.raises(TypeError, match=f"expected {kind} for {name}, got Tensor"):
                call(tmp_path / "net.npz", **{name: tk.ones(1)})  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"got dict. .*(savez\(|np.load\().* a state_dict"):
            call(tmp_path / "net.npz", model=net.state_dict())  # type: ignore[arg-type]
        for path in (io.BytesIO(), None, net, 3):
            with pytest.raises(TypeError, match=f"{call.__name__}: expected a path first, got "):
                call(path, model=net)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"path first .* got dict, (Posix|Windows)Path"):
            call(net.state_dict(), tmp_path / "net.npz")
        with pytest.raises(
            TypeError, match=r"got str, Linear\. Call tk\..*\(\"net\.npz\", model=net"
        ):
            call("net.npz", net)
        with pytest.raises(ValueError, match=f"{call.__name__}: expected a path without NUL"):
            call("a\0.npz", model=net)
    with pytest.raises(ValueError, match="save: expected a part to save, got none"):
        tk.save(tmp_path / "net.npz")
    tk.save(os.fsencode(tmp_path / "NET.NPZ"), model=net)  # type: ignore[arg-type]
    tk.load(str(tmp_path / "NET.NPZ"), model=net)
    assert zipfile.is_zipfile(tmp_path / "NET.NPZ")


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (tk.save, tk.load):
        with pytest.raises(ImportError, match=r'pip install "tinygrad_kr\[safetensors\]"'):
            call(tmp_path / "net.safetensors", model=nn.Linear(1, 1))
    assert not list(tmp_path.iterdir())


def test_the_library_is_imported_only_when_it_is_used(tmp_path: Path) -> None:
    code = (
        "import sys, tinygrad_kr as tk; assert 'zipfile' not in sys.modules\n"
        "tk.save(sys.argv[1], model=tk.nn.Linear(1, 1))\n"
        "assert 'safetensors' not in sys.modules"
    )
    root = str(Path(tk.__file__).parents[1])
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "net.npz")], check=True,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip


def test_within_a_compiled_function_it_runs_as_written(tmp_path: Path) -> None:
    path, net = tmp_path / "net.npz", nn.Linear(1, 1)

    @tk.compile
    def step(x: Tensor) -> Tensor:
        y = net(x).sum()
        tk.save(path, model=net)
        return y

    for value in (1.0, 2.0, 3.0):
        net.weight.data[...] = value
        step(tk.ones(1, 1))
        assert arrays_of(path)["weight"] == value
