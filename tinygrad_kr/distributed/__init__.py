"""Data-parallel training: one process per part of the batch, on MPI.

    group = tk.distributed.init()
    net = group.broadcast(net)
    loader = data.DataLoader(train, 100, sampler=group.sampler(train, shuffle=True))
    optimizer = group.optimizer(optim.Adam(net.parameters(), lr=1e-3))

Each rank trains the same net on its own samples. `backward` averages the gradients over the ranks.
"""

from tinygrad_kr.distributed.failure import RankError
from tinygrad_kr.distributed.group import Group, init
from tinygrad_kr.distributed.sampler import DistributedSampler


def __dir__() -> list[str]:
    return __all__


__all__ = ["DistributedSampler", "Group", "RankError", "init"]
