"""A damaged or hostile file gives DamagedFileError that names it, or exactly what was saved."""

from __future__ import annotations

import json
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_runs import SUFFIXES, Run, needs_safetensors, same

import tinygrad_kr as tk
from tinygrad_kr import nn

EXTRA = {"epoch": 3, "loss": 0.25}
BOMB = 40_000_000


class Damage:
    """A saved run, another one to load into, and what damaged bytes do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        saved = Run(seed=1)
        saved.train(3)
        tk.save(path, **saved.parts, extra=EXTRA)
        self.content = path.read_bytes()
        self.saved = saved.state()
        self.other = Run(seed=2)
        self.before = self.other.state()

    def refused(self, content: bytes) -> bool:
        """Whether the bytes are refused. Anything but the two right outcomes fails."""
        self.path.write_bytes(content)
        try:
            extra = tk.load(self.path, **self.other.parts)
        except tk.DamagedFileError as error:
            assert str(self.path) in str(error)
            assert error.path == str(self.path)
            assert same(self.other.state(), self.before)
            return True
        assert extra == EXTRA
        assert same(self.other.state(), self.saved)
        self.other = Run(seed=2)
        assert same(self.other.state(), self.before)
        return False

    def flipped(self, at: int) -> bytes:
        content = bytearray(self.content)
        content[at // 8] ^= 1 << at % 8
        return bytes(content)


def check_flips(path: Path, places: list[int]) -> None:
    damage = Damage(path)
    refused = [damage.refused(damage.flipped(at % (8 * len(damage.content)))) for at in places]
    assert sum(refused) > 0.7 * len(places)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_bits(tmp_path: Path, suffix: str) -> None:
    places = np.random.default_rng(0).integers(0, 2**31, 250).tolist()
    check_flips(tmp_path / f"run{suffix}", places)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_10_000_flipped_bits(tmp_path: Path, suffix: str) -> None:
    places = np.random.default_rng(1).integers(0, 2**31, 10_000).tolist()
    check_flips(tmp_path / f"run{suffix}", places)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_bit_of_headers(tmp_path: Path, suffix: str) -> None:
    """Of a small file, every bit of all that is not numbers."""
    net, other = nn.Linear(1, 1), nn.Linear(1, 1)
    path = tmp_path / f"net{suffix}"
    tk.save(path, model=net, extra=EXTRA)
    content, before = path.read_bytes(), other.state_dict()
    for at in range(8 * len(content)):
        changed = bytearray(content)
        changed[at // 8] ^= 1 << at % 8
        path.write_bytes(changed)
        try:
            extra = tk.load(path, model=other)
        except tk.DamagedFileError:
            expected = before
        else:
            assert extra == EXTRA
            expected = net.state_dict()
        for name, array in other.state_dict().items():
            np.testing.assert_array_equal(array, expected[name])
        other.load_state_dict(before)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_at_every_byte(tmp_path: Path, suffix: str) -> None:
    net, other = nn.Linear(1, 1), nn.Linear(1, 1)
    path = tmp_path / f"net{suffix}"
    tk.save(path, model=net, extra=EXTRA)
    content, before = path.read_bytes(), other.state_dict()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises(tk.DamagedFileError, match=rf"net\{suffix}"):
            tk.load(path, model=other)
    assert same({n: a.tolist() for n, a in other.state_dict().items()},
                {n: a.tolist() for n, a in before.items()})  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_bytes_after_the_end_and_before_the_begin(tmp_path: Path, suffix: str) -> None:
    damage = Damage(tmp_path / f"run{suffix}")
    damage.refused(damage.content + b"\0")
    damage.refused(b"\0" + damage.content)
    assert damage.refused(damage.content[1:])
    assert damage.refused(damage.content[100:])
    assert damage.refused(b"")
    assert damage.refused(b"weights")
    assert not damage.refused(damage.content)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_offset_of_the_damage_is_named(tmp_path: Path, suffix: str) -> None:
    damage = Damage(tmp_path / f"run{suffix}")
    weight = damage.saved["model"]["0.weight"][2]
    at = damage.content.index(bytes.fromhex(weight))
    damage.path.write_bytes(damage.flipped(8 * at))
    with pytest.raises(tk.DamagedFileError, match=r"at byte [0-9,]+") as caught:
        tk.load(damage.path, **damage.other.parts)
    assert caught.value.offset is not None
    assert 0 < caught.value.offset < at
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.path, again.offset) == (
        str(caught.value), str(damage.path), caught.value.offset,
    )  # fmt: skip


# ------------------------------------------------------------------ hostile archives


def npy(array: np.ndarray) -> bytes:
    import io

    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def header(shape: str, descr: str = "<f4") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text


GOOD = {"weight.npy": npy(np.ones((1, 1), np.float32)), "bias.npy": npy(np.ones(1, np.float32))}


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def text(**changes: Any) -> dict[str, bytes]:
    document = {"version": 1, "parts": {"model": None}, "extra": 1, **changes}
    content = np.frombuffer(json.dumps(document).encode(), np.uint8)
    return {"__metadata__.npy": npy(content)}


HOSTILE: dict[str, tuple[dict[str, bytes], type[Exception], str]] = {
    "a bomb in place of a weight": (
        {**GOOD, "weight.npy": npy(np.zeros(BOMB // 4, np.float32))}, RuntimeError, "expected",
    ),
    "a bomb beside": ({**GOOD, "other.npy": npy(np.zeros(BOMB, np.uint8))}, RuntimeError, "unexp"),
    "a lying shape": (
        {**GOOD, "weight.npy": header("(10000000000,)") + bytes(4)}, ValueError, "bytes of numbers",
    ),
    "a shape beyond 2^63": (
        {**GOOD, "weight.npy": header(f"({2**62}, {2**62}, 0)")}, ValueError, "ValueError",
    ),
    "a negative shape": ({**GOOD, "weight.npy": header("(-1,)")}, ValueError, "."),
    "bytes after the array": (
        {**GOOD, "weight.npy": GOOD["weight.npy"] + bytes(BOMB)}, ValueError, "bytes of numbers",
    ),
    "objects": ({**GOOD, "weight.npy": header("(1, 1)", "|O") + bytes(8)}, RuntimeError, "real"),
    "a long header": (
        {**GOOD, "weight.npy": b"\x93NUMPY\2\0" + struct.pack("<I", BOMB) + bytes(BOMB)},
        ValueError, "version",
    ),
    "no array": ({**GOOD, "weight": bytes(BOMB)}, ValueError, "no array"),
    "a compressed text": ({**GOOD, **text()}, ValueError, "compressed"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "kind", "problem"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_archive(
    tmp_path: Path, members: dict[str, bytes], kind: type[Exception], problem: str
) -> None:
    net, path = nn.Linear(1, 1), archive(tmp_path / "net.npz", members)
    before = net.state_dict()
    tracemalloc.start()
    try:
        with pytest.raises(kind, match=problem) as caught:
            tk.load(path, model=net)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 2_000_000
    assert net.state_dict() == before


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_that_inflates_all_at_once(tmp_path: Path, method: int) -> None:
    """NumPy writes none of them. Of LZMA the dictionary alone may take 4 GB."""
    bomb = {**GOOD, "weight.npy": GOOD["weight.npy"] + bytes(BOMB)}
    net, path = nn.Linear(1, 1), archive(tmp_path / "net.npz", bomb, method)
    tracemalloc.start()
    try:
        with pytest.raises(tk.DamagedFileError, match=f"compressed by {method}"):
            tk.load(path, model=net)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


class Taking(nn.Module):
    """Takes whatever arrays a file has: no size is known before they are read."""

    def load_state_dict(self, state: Any, strict: bool = True) -> Any:
        self.taken = dict(state)


def local(name: bytes, content: bytes) -> bytes:
    """A stored member of an archive, with its header."""
    sizes = (zlib.crc32(content), len(content), len(content), len(name), 0)
    return struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 0, 0, 0, *sizes) + name + content


def directory(at: int, members: list[tuple[bytes, bytes, int, int, int]]) -> bytes:
    """The directory of an archive: name, content, offset, and the sizes that it claims."""
    entries = b""
    for name, content, offset, stored, size in members:
        fields = (20, 20, 0, 0, 0, 0, zlib.crc32(content), stored, size, len(name))
        entries += struct.pack("<IHHHHHHIIIH", 0x02014B50, *fields) + bytes(12)
        entries += struct.pack("<I", offset) + name
    count = len(members)
    return entries + struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(entries), at, 0)


@pytest.mark.parametrize("lies", [(True, True), (False, True), (True, False)])
def test_sizes_that_a_directory_claims(tmp_path: Path, lies: tuple[bool, bool]) -> None:
    path, content = tmp_path / "net.npz", header("(1000000000,)", "|u1") + bytes(9)
    claimed = len(content) - 9 + 1_000_000_000
    stored, size = (claimed if lie else len(content) for lie in lies)
    member = local(b"w.npy", content)
    path.write_bytes(member + directory(len(member), [(b"w.npy", content, 0, stored, size)]))
    tracemalloc.start()
    try:
        with pytest.raises(tk.DamagedFileError, match=r"net\.npz"):
            tk.load(path, model=Taking())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


def test_members_inside_others(tmp_path: Path) -> None:
    """Each byte of such a file may be in a hundred arrays."""
    inner = npy(np.zeros(1000, np.uint8))
    quoted = local(b"inner.npy", inner)
    outer = npy(np.frombuffer(quoted, np.uint8))
    member = local(b"outer.npy", outer)
    members = [
        (b"outer.npy", outer, 0, len(outer), len(outer)),
        (b"inner.npy", inner, len(member) - len(quoted), len(inner), len(inner)),
    ]
    path, net = tmp_path / "net.npz", Taking()
    path.write_bytes(member + directory(len(member), members[:1]))
    tk.load(path, model=net)
    assert list(net.taken) == ["outer"]
    path.write_bytes(member + directory(len(member), members))
    with pytest.raises(tk.DamagedFileError, match=r"net\.npz"):
        tk.load(path, model=net)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_too_little_memory_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    from tinygrad_kr.saving import safetensors

    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError

    path, net = tmp_path / f"net{suffix}", nn.Linear(1, 1)
    tk.save(path, model=net)
    monkeypatch.setattr(np.lib.format, "read_array", fails)
    monkeypatch.setattr(safetensors._Sum, "add", fails)
    with pytest.raises(MemoryError):
        tk.load(path, model=net)


ABSURD = {
    "a name twice": ({**GOOD, "weight.npy.npy": GOOD["bias.npy"]}, RuntimeError),
    "above the folder": ({**GOOD, "../../weight.npy": GOOD["bias.npy"]}, RuntimeError),
    "NUL in a name": ({**GOOD, "weight\0.npy": GOOD["bias.npy"]}, ValueError),
    "a long name": ({**GOOD, "w" * 60_000 + ".npy": GOOD["bias.npy"]}, RuntimeError),
    "no name": ({**GOOD, ".npy": GOOD["bias.npy"]}, RuntimeError),
    "no JSON": ({**GOOD, "__metadata__.npy": npy(np.frombuffer(b"{", np.uint8))}, ValueError),
    "deep JSON": (
        {**GOOD, "__metadata__.npy": npy(np.frombuffer(b"[" * 100_000, np.uint8))}, ValueError,
    ),
    "no UTF-8": ({**GOOD, "__metadata__.npy": npy(np.frombuffer(b"\xff", np.uint8))}, ValueError),
    "a text of floats": ({**GOOD, "__metadata__.npy": npy(np.ones(3))}, ValueError),
    "a list": ({**GOOD, "__metadata__.npy": npy(np.frombuffer(b"[]", np.uint8))}, ValueError),
    "a newer version": ({**GOOD, **text(version=2)}, ValueError),
    "parts that are none": ({**GOOD, **text(parts=[])}, ValueError),
}  # fmt: skip


@pytest.mark.parametrize(("members", "kind"), ABSURD.values(), ids=ABSURD)
def test_absurd_names_and_texts(
    tmp_path: Path, members: dict[str, bytes], kind: type[Exception]
) -> None:
    path = archive(tmp_path / "net.npz", members, zipfile.ZIP_STORED)
    net = nn.Linear(1, 1)
    before = net.state_dict()
    with pytest.raises(kind, match=r"net\.npz"):
        tk.load(path, model=net)
    assert net.state_dict() == before
    assert [x.name for x in tmp_path.iterdir()] == ["net.npz"]


@pytest.mark.parametrize("levels", [300, 600, 900, 20_000])
def test_a_deep_state(tmp_path: Path, levels: int) -> None:
    start, end = b'{"version": 1, "extra": 1, "parts": {"optimizer": ', b"}}"
    content = start + b"[" * levels + b"]" * levels + end
    deep = {"__metadata__.npy": npy(np.frombuffer(content, np.uint8))}
    path = archive(tmp_path / "run.npz", deep, zipfile.ZIP_STORED)
    with pytest.raises(ValueError, match=r"run\.npz"):
        tk.load(path, optimizer=tk.optim.SGD(nn.Linear(1, 1).parameters()))


STATES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "an array that is not there": lambda o: o["state"]["0"].update(exp_avg={"__array__": "none"}),
    "a number as array": lambda o: o["state"]["0"].update(exp_avg={"__array__": 3}),
    "no groups": lambda o: o.pop("param_groups"),
    "groups of text": lambda o: o.update(param_groups="abc"),
    "a step of text": lambda o: o["state"]["0"].update(step="3"),
    "a step below 0": lambda o: o["state"]["0"].update(step=-1),
    "a rate below 0": lambda o: o["param_groups"][0].update(lr=-1),
    "another index": lambda o: o["state"].update({"99": o["state"]["0"]}),
    "an index of text": lambda o: o["state"].update({"x": {}}),
    "a list for a dict": lambda o: o.update(state=[1]),
}


@pytest.mark.parametrize("change", STATES.values(), ids=STATES)
def test_a_hostile_state_of_an_optimizer(tmp_path: Path, change: Callable[..., Any]) -> None:
    path, run = tmp_path / "run.npz", Run()
    run.train(2)
    tk.save(path, **run.parts)
    with zipfile.ZipFile(path) as file:
        members = {name: file.read(name) for name in file.namelist()}
    with np.load(path) as file:
        document = json.loads(bytes(file["__metadata__"]))
    change(document["parts"]["optimizer"])
    members["__metadata__.npy"] = npy(np.frombuffer(json.dumps(document).encode(), np.uint8))
    archive(path, members, zipfile.ZIP_STORED)
    before = run.state()
    with pytest.raises((ValueError, TypeError), match=r"run\.npz"):
        tk.load(path, **run.parts)
    assert same(run.state(), before)


# ------------------------------------------------------------------ hostile .safetensors


def tensors(path: Path, described: Any, data: bytes = bytes(8), length: int | None = None) -> Path:
    content = json.dumps(described).encode() if not isinstance(described, bytes) else described
    size = len(content) if length is None else length
    path.write_bytes(struct.pack("<Q", size) + content + data)
    return path


F32 = {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}
BIAS = {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}
BROKEN: dict[str, tuple[Any, dict[str, Any]]] = {
    "a long header": ({"weight": F32, "bias": BIAS}, {"length": 2**63}),
    "a short header": ({"weight": F32, "bias": BIAS}, {"length": 3}),
    "offsets beyond the end": ({"weight": {**F32, "data_offsets": [0, 4000]}}, {}),
    "offsets that overlap": ({"weight": F32, "bias": {**BIAS, "data_offsets": [0, 4]}}, {}),
    "a lying shape": ({"weight": {**F32, "shape": [2**40, 2**40]}, "bias": BIAS}, {}),
    "no JSON": (b"{{{{", {}),
    "a sum without what it sums": (
        {"weight": F32, "bias": BIAS, "__metadata__": {"tinygrad_kr.sha256": "00"}}, {},
    ),
    "a text without sum": (
        {"weight": F32, "bias": BIAS, "__metadata__": {"tinygrad_kr": "{}"}}, {},
    ),
}  # fmt: skip


@needs_safetensors
@pytest.mark.parametrize(("described", "options"), BROKEN.values(), ids=BROKEN)
def test_broken_safetensors(tmp_path: Path, described: Any, options: dict[str, Any]) -> None:
    net, path = nn.Linear(1, 1), tensors(tmp_path / "net.safetensors", described, **options)
    before = net.state_dict()
    with pytest.raises(tk.DamagedFileError, match=r"net\.safetensors.*at byte"):
        tk.load(path, model=net)
    assert net.state_dict() == before


@needs_safetensors
@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"[2, 3]", b"[3, 2]"),
        (b"F32", b"I32"),
        (b'"one"', b'"eno"'),
        (b'\\"extra\\": 1', b'\\"extra\\": 2'),
    ],
    ids=["shape", "dtype", "name", "extra"],
)
def test_a_header_that_fits_but_is_another(tmp_path: Path, old: bytes, new: bytes) -> None:
    """The library takes it: only the sum tells."""
    path, net = tmp_path / "net.safetensors", Taking()
    net.one = nn.Parameter(np.arange(6, dtype=np.float32).reshape(2, 3))
    tk.save(path, model=net, extra=1)
    tk.load(path, model=net)
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))
    with pytest.raises(tk.DamagedFileError, match="another SHA-256"):
        tk.load(path, model=net)


@needs_safetensors
def test_a_strangers_safetensors(tmp_path: Path) -> None:
    path, net = tmp_path / "net.safetensors", nn.Linear(1, 1)
    metadata = {"__metadata__": {"format": "pt"}}
    tensors(path, {"weight": F32, "bias": BIAS, **metadata}, np.float32([2, 3]).tobytes())
    assert tk.load(path, model=net) is None
    assert [net.weight.item(), net.bias.item()] == [2, 3]
    tensors(path, {"weight": {**F32, "dtype": "BF16", "shape": [1, 2]}, "bias": BIAS})
    with pytest.raises(RuntimeError, match=r"net.safetensors.*\n  weight: .*got BF16"):
        tk.load(path, model=net)
