"""MNIST: found where it lies, checked, and fetched once where it does not."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tinygrad_kr.data import DatasetNotFoundError, IdxError, mnist, write_idx

module = importlib.import_module("tinygrad_kr.data.mnist")  # the name `mnist` is the function

REAL = module._PARTS
SHARED = os.environ.get("TINYGRAD_KR_DATA", "")
PUBLISHED = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]
IMAGES = np.arange(3 * 28 * 28).reshape(3, 28, 28).astype(np.uint8)
LABELS = np.array([7, 0, 9], np.uint8)
ARRAYS: dict[str, npt.NDArray[np.uint8]] = {
    name: array for name in PUBLISHED for array in [IMAGES if "images" in name else LABELS]
}


def refuse(url: str) -> Any:
    raise AssertionError(f"asked for {url}")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Empty folders for all that is looked in, and parts of three images each."""
    places = {name: tmp_path / name / "mnist" for name in ("root", "shared")}
    monkeypatch.setenv("TINYGRAD_KR_DATA", str(tmp_path / "shared"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(module, "_PARTS", {s: tuple(map(small, p)) for s, p in REAL.items()})
    return places | {"cache": tmp_path / "caches" / "tinygrad_kr" / "mnist"}


def small(part: Any) -> Any:
    raw = raw_bytes(IMAGES if "images" in part.stem else LABELS)
    digest = hashlib.sha256(raw).hexdigest()
    return part._replace(shape=(3, *part.shape[1:]), size=len(raw), sha256=digest)


def raw_bytes(values: npt.NDArray[np.uint8]) -> bytes:
    shape = np.array(values.shape, ">u4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()


def put(folder: Path, names: list[str] = PUBLISHED, shift: int = 0) -> None:
    """Save the files of those names, with pixels moved by `shift` to tell the folders apart."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        values = IMAGES + np.uint8(shift) if "images" in name else LABELS
        write_idx(folder / name, values)


def first_pixel(**options: Any) -> int:
    images, _ = mnist(download=False, **options)
    return round(float(images[0, 0, 0]) * 255)


class Web:
    def __init__(self, broken: str = "") -> None:
        self.asked: list[str] = []
        self.broken = broken

    def __call__(self, url: str) -> Any:
        self.asked.append(url)
        if self.broken and self.broken in url:
            raise TimeoutError("timed out")
        return io.BytesIO(gzip.compress(raw_bytes(ARRAYS[url.rpartition("/")[2]])))


@pytest.mark.parametrize("split", ["train", "test"])
def test_images_are_float32_from_0_to_1_and_labels_int64(
    places: dict[str, Path], split: Any
) -> None:
    put(places["root"])
    images, labels = mnist(split, places["root"], download=False)
    np.testing.assert_array_equal(images, IMAGES.astype(np.float32) / np.float32(255), strict=True)
    np.testing.assert_array_equal(labels, LABELS.astype(np.int64), strict=True)
    assert (images.min(), images.max()) == (0.0, 1.0)


def test_each_split_reads_its_own_files(places: dict[str, Path]) -> None:
    put(places["root"], PUBLISHED[:2], shift=1)
    put(places["root"], PUBLISHED[2:], shift=2)
    assert first_pixel(split="train", root=places["root"]) == 1
    assert first_pixel(split="test", root=places["root"]) == 2


@pytest.mark.parametrize("separator", ["-idx", ".idx"])
@pytest.mark.parametrize("ending", [".gz", ""])
def test_every_spelling_of_the_names_is_found(
    places: dict[str, Path], separator: str, ending: str
) -> None:
    names = [name.replace("-idx", separator).removesuffix(".gz") + ending for name in PUBLISHED]
    put(places["root"], names)
    assert first_pixel(root=str(places["root"])) == 0


def test_a_folder_of_a_file_s_name_is_not_that_file(places: dict[str, Path]) -> None:
    put(places["cache"])
    (places["shared"] / "train-images-idx3-ubyte").mkdir(parents=True)
    assert first_pixel() == 0


def test_root_comes_before_the_variable_and_that_before_the_cache(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for shift, name in enumerate(["cache", "shared", "root"], 1):
        put(places[name], shift=shift)
    assert first_pixel(root=places["root"]) == 3
    assert first_pixel() == 2
    assert first_pixel(root=places["root"] / "absent") == 2
    monkeypatch.delenv("TINYGRAD_KR_DATA")
    assert first_pixel() == 1


def test_what_is_missing_is_downloaded_once_into_the_cache(places: dict[str, Path]) -> None:
    web = Web()
    images, labels = mnist("test", open_url=web)
    np.testing.assert_array_equal(labels, LABELS)
    assert images.shape == IMAGES.shape
    assert web.asked == [f"{module.MIRRORS[0]}/{name}" for name in PUBLISHED[2:]]
    assert sorted(path.name for path in places["cache"].iterdir()) == sorted(PUBLISHED[2:])
    mnist("test", open_url=refuse)


def test_only_the_missing_file_is_downloaded(places: dict[str, Path]) -> None:
    put(places["shared"], PUBLISHED[:1])
    web = Web()
    mnist("train", open_url=web)
    assert web.asked == [f"{module.MIRRORS[0]}/{PUBLISHED[1]}"]


def test_the_second_mirror_is_tried(places: dict[str, Path]) -> None:
    web = Web(broken=module.MIRRORS[0])
    mnist("train", open_url=web)
    assert len(web.asked) == 4


def test_without_a_network_the_error_says_which_files_to_put_where(
    places: dict[str, Path],
) -> None:
    with pytest.raises(DatasetNotFoundError) as caught:
        mnist("test", root=places["root"], open_url=Web(broken="https"))
    message = str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    for name in PUBLISHED:
        assert name in message
    for place in ("root", "shared", "cache"):
        assert str(places[place]) in message
    assert "$TINYGRAD_KR_DATA/mnist" in message
    for mirror in module.MIRRORS:
        assert f"{mirror}/{PUBLISHED[2]}: timed out" in message
    assert not list(places["cache"].iterdir())


def test_without_the_variable_the_error_explains_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TINYGRAD_KR_DATA")
    with pytest.raises(DatasetNotFoundError, match="set TINYGRAD_KR_DATA to the folder"):
        mnist(download=False)


def test_download_false_asks_nobody_and_makes_nothing(places: dict[str, Path]) -> None:
    with pytest.raises(DatasetNotFoundError, match="download=False"):
        mnist(download=False, open_url=refuse)
    assert not places["cache"].exists()


def test_a_cache_that_cannot_be_made_is_named(places: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "caches").write_bytes(b"a file in the way")
    with pytest.raises(DatasetNotFoundError, match=r"cache folder cannot be made.*caches"):
        mnist(open_url=refuse)


@pytest.mark.parametrize(
    ("file", "content", "problem"),
    [
        (0, raw_bytes(IMAGES)[:-1], "byte 2367: expected 2352 bytes"),
        (0, gzip.compress(raw_bytes(IMAGES))[:-1], "gzip"),
        (0, raw_bytes(IMAGES[:2]), "(3, 28, 28) of uint8, got (2, 28, 28)"),
        (0, raw_bytes(IMAGES.reshape(3, 784)), "(3, 784)"),
        (0, raw_bytes(LABELS), "(3,)"),
        (0, raw_bytes(IMAGES).replace(b"\0\0\x08", b"\0\0\x09", 1), "of int8"),
        (0, raw_bytes(np.concatenate([IMAGES, IMAGES])), "at most max_bytes=2368"),
        (1, raw_bytes(np.array([7, 10, 9], np.uint8)), "byte 9: expected a label from 0 to 9"),
    ],
)
def test_a_damaged_file_is_named_and_not_passed_over(
    places: dict[str, Path], file: int, content: bytes, problem: str
) -> None:
    put(places["shared"])
    put(places["cache"])
    path = places["shared"] / PUBLISHED[file]
    path.write_bytes(content)
    with pytest.raises(IdxError) as caught:
        mnist("train", open_url=refuse)
    message = str(caught.value)
    assert message.startswith(f"{path}: byte ")
    assert problem in message
    assert f"Delete {path}" in message


def test_another_split_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected split .train. or .test., got 'valid'\."):
        mnist("valid", open_url=refuse)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_CACHE_HOME": "/caches"}, "/caches/tinygrad_kr"),
        ("linux", {}, "/home/kim/.cache/tinygrad_kr"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/kim/.cache/tinygrad_kr"),
        ("darwin", {}, "/home/kim/Library/Caches/tinygrad_kr"),
        ("darwin", {"XDG_CACHE_HOME": "/caches"}, "/caches/tinygrad_kr"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/tinygrad_kr"),
        ("win32", {}, "/home/kim/AppData/Local/tinygrad_kr"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="the paths are spelled as on POSIX")
def test_the_cache_is_where_the_platform_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
) -> None:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": "/home/kim"} | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert module.cache_folder() == Path(expected)


def test_every_mirror_is_https() -> None:
    assert len(module.MIRRORS) > 1
    assert all(mirror.startswith("https://") for mirror in module.MIRRORS)


@pytest.mark.skipif(
    not SHARED, reason="the real MNIST is needed: set TINYGRAD_KR_DATA to the folder above it"
)
@pytest.mark.parametrize(
    ("split", "count", "zeros", "mean"),
    [("train", 60_000, 5_923, 0.13066), ("test", 10_000, 980, 0.13251)],
)
def test_the_real_files_are_the_published_ones(
    monkeypatch: pytest.MonkeyPatch, split: Any, count: int, zeros: int, mean: float
) -> None:
    monkeypatch.setattr(module, "_PARTS", REAL)
    monkeypatch.setenv("TINYGRAD_KR_DATA", SHARED)
    images, labels = mnist(split, download=False)
    assert images.shape == (count, 28, 28)
    assert labels.shape == (count,)
    assert (labels == 0).sum() == zeros
    assert float(images.mean(dtype=np.float64)) == pytest.approx(mean, abs=1e-5)
    pixels = np.rint(images * 255).astype(np.uint8)
    for part, values in zip(REAL[split], [pixels, labels.astype(np.uint8)], strict=True):
        raw = raw_bytes(values)
        assert (len(raw), hashlib.sha256(raw).hexdigest()) == (part.size, part.sha256)


def test_without_a_home_folder_the_error_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA", "TINYGRAD_KR_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(DatasetNotFoundError) as caught:
        mnist()
    assert "there is no home folder to keep it in" in str(caught.value)
    assert "gz\ninto a folder `mnist`, and set TINYGRAD_KR_DATA" in str(caught.value)
    with pytest.raises(DatasetNotFoundError, match="or into a folder `mnist`"):
        mnist(root=tmp_path)
