"""Which samples each rank takes: all ranks shuffle alike, and each takes its turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any

import numpy as np

from tinygrad_kr.data.samplers import Sampler


class DistributedSampler(Sampler):
    """The indices of one rank: every rank gets equally many, and together they cover the data set.

    Rank r of n takes the indices r, r + n, r + 2n, ... of an order that all ranks share. So the
    batches k of all ranks together are batch k, n times as large, of one process with that order.

    dataset: anything with a length. rank, size: this rank, and how many there are.
    shuffle: a new order in each epoch, which depends on `seed` and `epoch` alone.
    drop_last: leave out the remainder of `len(dataset)` by `size`. False fills the last places with
        the first indices again.
    `epoch` counts the passes; each pass adds one. `set_epoch` sets it, PyTorch's way.
    agree: called with a description before each shuffled pass whose epoch was counted, not set.
        That of a group raises RankError where a rank makes a pass that the others do not.

    Source: torch.utils.data.DistributedSampler, which repeats one order without `set_epoch`.

    >>> ranks = [tk.distributed.DistributedSampler(range(5), rank, 2) for rank in (0, 1)]
    >>> [list(sampler) for sampler in ranks]
    [[0, 2, 4], [1, 3, 0]]
    """

    def __init__(
        self,
        dataset: Sized,
        rank: int,
        size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        agree: Callable[[str], None] | None = None,
    ) -> None:
        if not 0 <= rank < size:
            raise ValueError(f"sampler: expected a rank in [0, {size}), got {rank}.")
        if not len(dataset):
            raise ValueError("sampler: expected a data set with samples, got an empty one.")
        if drop_last and len(dataset) < size:
            raise ValueError(
                f"sampler: expected at least {size} samples, one for each rank, with "
                f"drop_last=True, got {len(dataset)}."
            )
        self.dataset, self.rank, self.size = dataset, rank, size
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self.epoch = 0
        self._agree, self._is_set = agree, False

    def __getstate__(self) -> dict[str, Any]:
        """A copy in another process agrees with nobody."""
        return self.__dict__ | {"_agree": None}

    def set_epoch(self, epoch: int) -> None:
        """Make the next pass that of `epoch`, as after a resumed run."""
        self.epoch, self._is_set = epoch, True

    def __iter__(self) -> Iterator[int]:
        if self.shuffle and self._agree is not None and not self._is_set:
            self._agree(
                f"epoch {self.epoch} of a shuffled sampler (each pass is one; let every rank make "
                f"it, or call set_epoch before it)\nseed {self.seed} of {len(self.dataset)} samples"
            )
        self._is_set = False
        mine = self.indices(self.seed, self.epoch)
        self.epoch += 1
        return iter(mine)

    def indices(self, seed: int, epoch: int) -> list[int]:
        """The indices of this rank in an epoch."""
        count = len(self.dataset)
        order = np.arange(count)
        if self.shuffle:
            order = np.random.default_rng([seed, epoch]).permutation(count)
        found: list[int] = np.resize(order, len(self) * self.size)[self.rank :: self.size].tolist()
        return found

    def __len__(self) -> int:
        count = len(self.dataset)
        return count // self.size if self.drop_last else -(-count // self.size)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs, with any number of ranks: `epoch` and `seed`.

        The state of a `DataLoader` with this sampler holds it.
        """
        return {"epoch": self.epoch, "seed": self.seed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`. Raises ValueError for another state."""
        if set(state) != {"epoch", "seed"}:
            raise ValueError(f"sampler: expected the keys epoch and seed, got {sorted(state)}.")
        self.epoch, self.seed = int(state["epoch"]), int(state["seed"])
