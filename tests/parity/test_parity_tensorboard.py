"""`tk.SummaryWriter` beside PyTorch's: TensorBoard's own reader finds the same in both files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import nn

pytest.importorskip("torch")
pytest.importorskip("tensorboard")


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore
        EventAccumulator,
    )

    return EventAccumulator(str(folder), {"scalars": 0, "histograms": 0, "tensors": 0}).Reload()


RANDOM = np.random.default_rng(0)
VALUES = RANDOM.normal(size=(300, 2)).astype(np.float32)
IMAGE = RANDOM.random((3, 4, 5), np.float32)


def write(writer: Any) -> None:
    """What both writers write, from arrays."""
    for step in range(5):
        writer.add_scalar("train/loss", 1 / (step + 1), step, walltime=step)
        writer.add_scalar("nan", float("nan"), step, walltime=step)
        writer.add_scalar("new", 0.1 * step, step, new_style=True, double_precision=True)
        writer.add_scalars("both", {"a": step, "b": step**2}, step, walltime=step)
        for bins in ("tensorflow", "auto"):
            writer.add_histogram(f"h/{bins}", VALUES * (step + 1), step, bins, walltime=step)
    writer.add_histogram("h/joined", VALUES, 0, "auto", max_bins=7)
    writer.add_image("chw", IMAGE, 1)
    writer.add_image("hwc", (IMAGE * 255).astype(np.uint8).transpose(1, 2, 0), dataformats="HWC")
    writer.add_image("hw", IMAGE[0], dataformats="HW")
    writer.add_text("note", "a **bold** word", 2)
    hyperparameters = {"lr": 0.1, "bn": True, "act": "relu", "n": 3}
    writer.add_hparams(hyperparameters, {"acc": 0.75}, {"n": [3, 5]}, run_name="one")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    from torch.utils.tensorboard import SummaryWriter

    ours, theirs = (tmp_path_factory.mktemp(name) for name in ("ours", "theirs"))
    for kind, folder in ((tk.SummaryWriter, ours), (SummaryWriter, theirs)):
        with kind(str(folder)) as writer:
            write(writer)
    return ours, theirs


def plain(events: Any) -> list[tuple[int, Any]]:
    return [(event.step, repr(event.value)) for event in events]


def test_both_have_the_same_tags(written: tuple[Path, Path]) -> None:
    ours, theirs = (read(folder).Tags() for folder in written)
    assert ours["scalars"] == theirs["scalars"] == ["train/loss", "nan"]
    for kind in ("images", "histograms", "tensors"):
        assert ours[kind] == theirs[kind], kind
        assert ours[kind]


@pytest.mark.parametrize("run", ["", "both_a", "both_b", "one"])
def test_scalars_are_the_same(run: str, written: tuple[Path, Path]) -> None:
    ours, theirs = (read(folder / run) for folder in written)
    tags = ours.Tags()["scalars"]
    assert tags == theirs.Tags()["scalars"]
    assert tags
    for tag in tags:
        assert plain(ours.Scalars(tag)) == plain(theirs.Scalars(tag))


def test_tensors_and_their_plugins_are_the_same(written: tuple[Path, Path]) -> None:
    for run in ("", "one"):
        ours, theirs = (read(folder / run) for folder in written)
        for tag in ours.Tags()["tensors"]:
            found, expected = (reader.Tensors(tag) for reader in (ours, theirs))
            assert [event.tensor_proto.SerializeToString() for event in found] == [
                event.tensor_proto.SerializeToString() for event in expected
            ]
            assert ours.SummaryMetadata(tag) == theirs.SummaryMetadata(tag)


@pytest.mark.parametrize("tag", ["h/tensorflow", "h/auto", "h/joined"])
def test_histograms_hold_the_same(tag: str, written: tuple[Path, Path]) -> None:
    for ours, theirs in zip(*(read(folder).Histograms(tag) for folder in written), strict=True):
        found, expected = ours.histogram_value, theirs.histogram_value
        assert (found.min, found.max, found.num) == (expected.min, expected.max, expected.num)
        assert found.sum == pytest.approx(expected.sum, rel=1e-4)
        assert found.sum_squares == pytest.approx(expected.sum_squares, rel=1e-4)
        if tag == "h/auto":
            np.testing.assert_allclose(found.bucket_limit, expected.bucket_limit, rtol=1e-5)
            assert list(found.bucket) == list(expected.bucket)
        assert sum(found.bucket) == sum(expected.bucket) == 600


@pytest.mark.parametrize("tag", ["chw", "hwc", "hw"])
def test_images_have_the_same_pixels(tag: str, written: tuple[Path, Path]) -> None:
    from PIL.Image import open as decode

    pixels = []
    for (image,) in (read(folder).Images(tag) for folder in written):
        pixels.append(np.asarray(decode(BytesIO(image.encoded_image_string)).convert("RGB")))
    np.testing.assert_array_equal(*pixels)


def test_tensorboard_reads_the_graph(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    with tk.SummaryWriter(tmp_path) as writer:
        writer.add_graph(net, tk.ones(5, 4))
    nodes = {node.name: node for node in read(tmp_path).Graph().node}
    assert list(nodes["Sequential/ReLU[1]/relu"].input) == ["Sequential/Linear[0]/linear"]
    shape = nodes["Sequential/Linear[2]/linear"].attr["_output_shapes"].list.shape[0]
    assert [dim.size for dim in shape.dim] == [5, 2]
