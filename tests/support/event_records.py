"""Reads event files back: the records of TensorFlow, with their checksums."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def crc32c(data: bytes) -> int:
    """The checksum of Castagnoli's polynomial, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def events_of(path: Path) -> Iterator[Any]:
    """The events of a file: a length, its checksum, the event and its checksum each
    (tensorflow/core/lib/io/record_writer.h)."""
    from tensorboardX.proto.event_pb2 import Event  # type: ignore[import-untyped]

    content, place = path.read_bytes(), 0
    while place < len(content):
        (length, check) = struct.unpack_from("<QI", content, place)
        assert check == masked(content[place : place + 8])
        record = content[place + 12 : place + 12 + length]
        assert len(record) == length
        (check,) = struct.unpack_from("<I", content, place + 12 + length)
        if length < 10_000:
            assert check == masked(record)
        yield Event.FromString(record)
        place += 12 + length + 4
    assert place == len(content)


def read_back(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """By tag the (step, value) of every event in the files of a folder; a graph has the tag ""."""
    from tensorboardX.proto.graph_pb2 import GraphDef  # type: ignore[import-untyped]

    found: dict[str, list[tuple[int, Any]]] = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in events_of(path):
            if event.graph_def:
                found.setdefault("", []).append((0, GraphDef.FromString(event.graph_def)))
            for value in event.summary.value:
                kind = value.WhichOneof("value")
                found.setdefault(value.tag, []).append(
                    (event.step, getattr(value, kind) if kind else value.metadata)
                )
    return found
