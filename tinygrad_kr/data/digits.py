"""A small set of real handwritten digits that is part of the package: no download."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tinygrad_kr.data.idx import read_idx

if TYPE_CHECKING:
    import numpy.typing as npt

_TRAIN_COUNT = 1_437
_SPLITS = {None: slice(None), "train": slice(_TRAIN_COUNT), "test": slice(_TRAIN_COUNT, None)}


def digits(
    split: Literal["train", "test"] | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """The 1,797 UCI digits: images float32 (N, 8, 8) in [0, 1], labels int64 (N,) from 0 to 9.

    0 is paper. A pixel is the share of ink in a 4 x 4 block of a 32 x 32 scan, a multiple of 1/16.
    split: None for all, "train" for the first 1,437, "test" for the last 360. The file is ordered
        by writer (13 people), so most of "test" is from writers that are not in "train". Scores are
        lower, and fairer, than with a shuffled split.

    Raises ValueError for another split.
    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, 1998, https://doi.org/10.24432/C50P49 (its 1,797 test images), licensed
    under CC BY 4.0, https://creativecommons.org/licenses/by/4.0/.

    >>> images, labels = tk.data.digits("test")
    >>> images.shape, labels.shape
    ((360, 8, 8), (360,))
    """
    if split not in _SPLITS:
        raise ValueError(f'digits: expected split None, "train" or "test", got {split!r}.')
    images = _read("digits-images-idx3-ubyte.gz")[_SPLITS[split]]
    labels = _read("digits-labels-idx1-ubyte.gz")[_SPLITS[split]]
    return np.divide(images, 16, dtype=np.float32), labels.astype(np.int64)


def _read(name: str) -> npt.NDArray[Any]:
    """A file of the package, which may itself be in a zip file."""
    from importlib import resources

    with resources.as_file(resources.files("tinygrad_kr.data") / "files" / name) as path:
        return read_idx(path)
