"""Data sets, tables, and the loader that yields batches."""

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


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "BatchSampler",
    "ConcatDataset",
    "DataLoader",
    "Dataset",
    "DatasetNotFoundError",
    "IdxError",
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
