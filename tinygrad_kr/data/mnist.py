"""MNIST: 70,000 handwritten digits, the data set of the lectures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from tinygrad_kr.data.download import DownloadError, Opener, Published, fetch
from tinygrad_kr.data.idx import IdxError, read_idx
from tinygrad_kr.files import user_caches

if TYPE_CHECKING:
    import numpy.typing as npt

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)


class _Part(NamedTuple):
    stem: str
    shape: tuple[int, ...]
    size: int
    sha256: str

    def published(self) -> Published:
        return Published(f"{self.stem}-idx{len(self.shape)}-ubyte.gz", self.size, self.sha256)

    def spellings(self) -> Iterator[str]:
        """Every name of this file: as published, unpacked, and as some archives spell it."""
        for separator in "-.":
            name = f"{self.stem}{separator}idx{len(self.shape)}-ubyte"
            yield from (f"{name}.gz", name)


_PARTS = {
    "train": (
        _Part(
            "train-images",
            (60_000, 28, 28),
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        _Part(
            "train-labels",
            (60_000,),
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
    ),
    "test": (
        _Part(
            "t10k-images",
            (10_000, 28, 28),
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        _Part(
            "t10k-labels",
            (10_000,),
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
}


class DatasetNotFoundError(FileNotFoundError):
    """A data set is neither on this computer nor available for download.

    The message says which files to put where.

    A subclass of FileNotFoundError.

    >>> raise tk.data.DatasetNotFoundError("MNIST is not on this computer.")
    Traceback (most recent call last):
        ...
    tinygrad_kr.data.mnist.DatasetNotFoundError: MNIST is not on this computer.
    """


def mnist(
    split: Literal["train", "test"] = "train",
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    *,
    open_url: Opener | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """MNIST as arrays: images float32 (N, 28, 28) in [0, 1], labels int64 (N,) from 0 to 9.

    0 is paper. N is 60,000 for "train", 10,000 for "test".
    root: the folder to search first. Then come the folder `mnist` in $TINYGRAD_KR_DATA and the
        user's cache. Files may be gzipped or not.
    download: download what is missing to the cache, over HTTPS, checked against a pinned SHA-256.
    open_url: replaces the function that opens an URL.

    Raises DatasetNotFoundError (a FileNotFoundError), which says which files to put where; IdxError
    for a file that is damaged or is not MNIST; ValueError for another split.
    Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"; L. Bottou et
    al., "Comparison of classifier methods: a case study in handwritten digit recognition", 1994.

    >>> tk.data.mnist("validation")
    Traceback (most recent call last):
        ...
    ValueError: mnist: expected split "train" or "test", got 'validation'.
    """
    if split not in _PARTS:
        raise ValueError(f'mnist: expected split "train" or "test", got {split!r}.')
    folders = searched_folders(root)
    paths = [_locate(part, folders, download, open_url) for part in _PARTS[split]]
    images, labels = map(_read, paths, _PARTS[split])
    return np.divide(images, 255, dtype=np.float32), labels.astype(np.int64)


def cache_folder() -> Path:
    """The folder of downloads: $XDG_CACHE_HOME/tinygrad_kr, or the platform's equivalent."""
    return user_caches() / "tinygrad_kr"


def files() -> list[tuple[Published, Path | None]]:
    """The four files, and where each is found; None where it is not on this computer."""
    folders = searched_folders()
    parts = [part for both in _PARTS.values() for part in both]
    return [(part.published(), _found(part, folders)) for part in parts]


def searched_folders(root: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """The folders to search, in order, each under the name of its setting.

    Without a home folder there is no cache.
    """
    folders = {} if root is None else {"root": Path(root)}
    if shared := os.environ.get("TINYGRAD_KR_DATA"):
        folders["$TINYGRAD_KR_DATA/mnist"] = Path(shared, "mnist")
    with suppress(RuntimeError):
        folders["cache"] = cache_folder() / "mnist"
    return folders


def _locate(part: _Part, folders: dict[str, Path], allowed: bool, open_url: Opener | None) -> Path:
    if (path := _found(part, folders)) is not None:
        return path
    if not allowed:
        raise _not_found(folders, ["download=False, so no mirror was asked"])
    if "cache" not in folders:
        raise _not_found(folders, ["no download: there is no home folder to keep it in; set HOME"])
    try:
        folders["cache"].mkdir(parents=True, exist_ok=True)
        return fetch(part.published(), MIRRORS, folders["cache"], open_url)
    except DownloadError as error:
        raise _not_found(folders, error.answers) from error
    except OSError as error:
        raise _not_found(folders, [f"the cache folder cannot be made: {error}"]) from error


def _found(part: _Part, folders: dict[str, Path]) -> Path | None:
    for folder in folders.values():
        for name in part.spellings():
            if (path := folder / name).is_file():
                return path
    return None


def _not_found(folders: dict[str, Path], answers: Sequence[str]) -> DatasetNotFoundError:
    names = [part.published().name for parts in _PARTS.values() for part in parts]
    lines = ["MNIST is not on this computer. Put these four files, gzipped or not,"]
    lines += [f"    {name}" for name in names]
    lines += ["into one of the folders that are searched:"] * bool(folders)
    lines += [f"    {folder} ({what})" for what, folder in folders.items()]
    if "$TINYGRAD_KR_DATA/mnist" not in folders:
        start = "or " * bool(folders)
        setting = "set TINYGRAD_KR_DATA to the folder that holds it."
        lines += [f"{start}into a folder `mnist`, and {setting}"]
    lines += ["What was tried:", *(f"    {answer}" for answer in answers)]
    return DatasetNotFoundError("\n".join(lines))


def _read(path: Path, part: _Part) -> npt.NDArray[Any]:
    hint = f"Delete {path} and call mnist() again, which downloads it"
    try:
        values = read_idx(path, max_bytes=part.size)
    except IdxError as error:
        raise IdxError(error.path, error.offset, error.wanted, error.found, hint) from error
    if values.shape != part.shape or values.dtype != np.uint8:
        found = f"{values.shape} of {values.dtype}"
        raise IdxError(str(path), 4, f"{part.shape} of uint8", found, hint)
    if values.ndim == 1 and values.max() > 9:
        worst = int(values.argmax())
        raise IdxError(str(path), 8 + worst, "a label from 0 to 9", str(values[worst]), hint)
    return values
