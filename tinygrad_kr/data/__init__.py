"""Data sets, tables, and the loader that yields batches."""

from typing import TYPE_CHECKING, Any

from tinygrad_kr.data.digits import digits
from tinygrad_kr.data.idx import IdxError, read_idx, write_idx
from tinygrad_kr.data.loader import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)
from tinygrad_kr.data.mnist import DatasetNotFoundError, mnist
from tinygrad_kr.data.samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from tinygrad_kr.data.tables import Table, TableError, read_csv, write_csv

if TYPE_CHECKING:
    from tinygrad_kr.data.mapped import MemoryMapped


def __getattr__(name: str) -> Any:
    """`MemoryMapped` is imported when it is used."""
    if name == "MemoryMapped":
        from tinygrad_kr.data.mapped import MemoryMapped

        return MemoryMapped
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DatasetNotFoundError",
    "IdxError",
    "MemoryMapped",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "Subset",
    "SubsetRandomSampler",
    "Table",
    "TableError",
    "TensorDataset",
    "WeightedRandomSampler",
    "default_collate",
    "digits",
    "mnist",
    "random_split",
    "read_csv",
    "read_idx",
    "write_csv",
    "write_idx",
]
