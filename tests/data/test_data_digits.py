"""The digits that ship with the package are the published ones."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import tinygrad_kr.data
from tinygrad_kr.data import digits

FILES = Path(tinygrad_kr.data.__file__).parent / "files"
SHA256 = "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"


def test_the_content_is_the_published_one() -> None:
    images, labels = digits()
    raw = (images * 16).astype(np.uint8).tobytes() + labels.astype(np.uint8).tobytes()
    assert hashlib.sha256(raw).hexdigest() == SHA256
    np.testing.assert_array_equal(images[0, 0] * 16, [0, 0, 5, 13, 9, 1, 0, 0])
    np.testing.assert_array_equal(
        np.bincount(labels), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    )


def test_shapes_and_units() -> None:
    images, labels = digits()
    assert (images.shape, images.dtype.name) == ((1797, 8, 8), "float32")
    assert (labels.shape, labels.dtype.name) == ((1797,), "int64")
    assert (images.min(), images.max()) == (0.0, 1.0)
    np.testing.assert_array_equal(np.unique(images), np.arange(17) / 16)


def test_the_splits_are_the_first_and_the_last() -> None:
    images, labels = digits()
    parts = [digits("train"), digits("test")]
    assert [len(part_labels) for _, part_labels in parts] == [1437, 360]
    np.testing.assert_array_equal(np.concatenate([part for part, _ in parts]), images)
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), labels)


def test_the_labels_belong_to_the_images() -> None:
    images, labels = digits("train")
    unseen, answers = digits("test")
    means = np.stack([images[labels == digit].mean(axis=0) for digit in range(10)])
    distances = ((unseen[:, None] - means) ** 2).sum(axis=(2, 3))
    assert (distances.argmin(axis=1) == answers).mean() > 0.8


def test_each_call_gives_arrays_of_its_own() -> None:
    images, labels = digits()
    images[:], labels[:] = -1, -1
    again, labels_again = digits()
    assert again.min() == labels_again.min() == 0


def test_another_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"split None, .train. or .test., got 'valid'\."):
        digits("valid")  # type: ignore[arg-type]


def test_the_licence_is_beside_the_files() -> None:
    text = (FILES / "README.md").read_text(encoding="utf-8")
    for needed in ("Alpaydin", "Kaynak", "UCI Machine Learning\n> Repository", "CC BY 4.0"):
        assert needed in text
    assert sum(path.stat().st_size for path in FILES.iterdir()) < 60_000


def test_from_a_package_in_a_zip_file(tmp_path: Path) -> None:
    """The digits, and the headers of C that a compiled step includes."""
    package = Path(tinygrad_kr.__file__).parent
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*"):
            if path.is_file() and path.parent.name != "__pycache__":
                file.write(path, Path("tinygrad_kr", path.relative_to(package)))
    program = (
        "import tinygrad_kr, tinygrad_kr.data as data; from tinygrad_kr.native import build\n"
        "images, labels = data.digits('test')\n"
        "text = build.included('#include \"threads.h\"\\n')['threads.h']\n"
        "print(tinygrad_kr.__file__, images.shape, labels.sum(), 'tk_parallel_for' in text)"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "PYTHONPATH": str(archive)},
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.stderr == ""
    inside = archive / "tinygrad_kr" / "__init__.py"
    assert ran.stdout.strip() == f"{inside} (360, 8, 8) {digits('test')[1].sum()} True"
