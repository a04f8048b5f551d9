"""Parameters from an `.npz` of a stranger: nothing is inflated that cannot fit, and errors name the
file."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_kr import nn

BOMB = 40_000_000
"""Bytes that a member inflates to; compressed, 40 kB."""


def npy(shape: str = "(4, 3)", descr: str = "<f4", version: int = 1) -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header


def archive(path: Path, name: str, content: bytes, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """A file with a good bias, and a weight of any content."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("bias.npy", npy("(4,)") + bytes(16))
        file.writestr(name, content)
    return path


GOOD = npy() + bytes(48)
HOSTILE: dict[str, tuple[str, bytes]] = {
    "more items": ("weight.npy", npy("(10000000,)") + bytes(BOMB)),
    "a header without end": (
        "weight.npy",
        b"\x93NUMPY\2\0" + struct.pack("<I", BOMB) + bytes(BOMB),
    ),
    "bytes after the array": ("weight.npy", GOOD + bytes(BOMB)),
    "no array": ("weight", bytes(BOMB)),
}


@pytest.mark.parametrize(("name", "content"), HOSTILE.values(), ids=HOSTILE)
def test_a_bomb_is_not_inflated(tmp_path: Path, name: str, content: bytes) -> None:
    net = nn.Linear(3, 4)
    before = net.weight.data.copy()
    path = archive(tmp_path / "net.npz", name, content)
    assert path.stat().st_size < 200_000
    with np.load(path) as file:
        tracemalloc.start()
        with pytest.raises(RuntimeError) as caught:
            net.load_state_dict(file)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"Linear.load_state_dict: {path}: changed nothing:\n  weight: ")
    assert "expected float32(4, 3), at most 16,432 bytes, got 4" in message
    assert peak < 1_000_000
    np.testing.assert_array_equal(net.weight.data, before)


BROKEN: dict[str, tuple[bytes, str]] = {
    "another shape": (npy("(3, 4)") + bytes(48), r"expected float32\(4, 3\), got float32\(3, 4\)"),
    "another dtype": (npy(descr="<f8") + bytes(96), r"got float64\(4, 3\)"),
    "fewer items": (GOOD[:-4], "expected an array, got ValueError"),
    "objects": (npy(descr="|O") + bytes(48), "expected an array, got ValueError: Object arrays"),
    "half a header": (GOOD[:20], "expected an array, got ValueError"),
    "text": (b"weights", "expected real numbers"),
}


@pytest.mark.parametrize(("content", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_member_is_named_with_its_file(
    tmp_path: Path, content: bytes, problem: str
) -> None:
    path = archive(tmp_path / "net.npz", "weight.npy", content)
    with np.load(path) as file, pytest.raises(RuntimeError, match=problem) as caught:
        nn.Linear(3, 4).load_state_dict(file)
    assert f"{path}: changed nothing:\n  weight: " in str(caught.value)


@pytest.mark.parametrize("where", [-60, -10])
def test_changed_bytes_are_found(tmp_path: Path, where: int) -> None:
    path = archive(tmp_path / "net.npz", "weight.npy", GOOD, zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[content.index(GOOD) + len(GOOD) + where] ^= 1
    path.write_bytes(content)
    with np.load(path) as file, pytest.raises(RuntimeError, match=f"{path.name}: changed nothing"):
        nn.Linear(3, 4).load_state_dict(file)


def test_a_closed_file_is_named(tmp_path: Path) -> None:
    net = nn.Linear(3, 4)
    np.savez(tmp_path / "net.npz", **net.state_dict())  # type: ignore[arg-type]
    with np.load(tmp_path / "net.npz") as file:
        pass
    with pytest.raises(RuntimeError, match="weight: expected an open file, got a closed one"):
        net.load_state_dict(file)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_good_file_loads(tmp_path: Path, save: Any) -> None:
    net, other = (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2))
    save(tmp_path / "net.npz", **net.state_dict())
    with np.load(tmp_path / "net.npz") as file:
        other.load_state_dict(file)
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], array, strict=True)
