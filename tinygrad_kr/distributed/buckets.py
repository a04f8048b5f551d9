"""Buckets: gradients of some parameters in one vector, which is summed over the ranks at once.

A bucket holds the gradients of some parameters and two flags for each: whether this rank has one,
and whether it is dense. Its sum over the ranks begins when the last of them is known and all ranks
have agreed on the exchange.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy import ndarray

from tinygrad_kr.autodiff import RowGradient
from tinygrad_kr.distributed.link import Agreement, Link
from tinygrad_kr.ops.node import Node

BUCKET_BYTES = 25 << 20
"""Size of a bucket; bytes. PyTorch's DistributedDataParallel has the same."""
PRESENT, DENSE = 0, 1


class Bucket:
    """Some parameters' gradients and flags in one vector.

    left: how many gradients are not known yet. agreement: that of the ranks on this exchange.
    request: the sum over the ranks, once begun. rows: of each gradient, those that it names.
    """

    def __init__(self, link: Link, parameters: Sequence[Any]) -> None:
        self._link = link
        self.parameters = list(parameters)
        sizes = [p._data.size for p in parameters]
        self.dtype = parameters[0]._data.dtype
        total = sum(sizes)
        kept = np.float32 if self.dtype == np.float16 else self.dtype
        self.flat = np.zeros(total + 2 * len(sizes), kept)
        self.flags = self.flat[total:].reshape(2, -1)
        ends = np.cumsum(sizes).tolist()
        self.parts = [
            self.flat[end - size : end].reshape(p._data.shape)
            for end, size, p in zip(ends, sizes, parameters, strict=True)
        ]
        self.known = [False] * len(sizes)
        self.rows: list[list[ndarray]] = [[] for _ in sizes]
        self.left = len(sizes)
        self.agreement: Agreement | None = None
        self.request: Any = None

    def reset(self, agreement: Agreement) -> None:
        """Before an exchange: no gradient is known."""
        self.known = [False] * len(self.parameters)
        self.rows = [[] for _ in self.parameters]
        self.left = len(self.parameters)
        self.agreement, self.request = agreement, None

    def is_ready(self) -> bool:
        """Whether its sum may begin."""
        if self.left or self.agreement is None:
            return False
        return self._link.is_settled(self.agreement)

    def put(self, number: int, g: Any) -> None:
        """The gradient of a parameter, which is added to the `.grad` that it has."""
        before = self.parameters[number]._grad
        both = [x for x in (g, before) if x is not None]
        part = self.parts[number]
        if len(both) == 2:
            np.add(dense(before), dense(g), out=part)
        else:
            part[...] = dense(both[0]) if both else 0
        self.rows[number] = [x._rows for x in both if type(x) is RowGradient]
        self._note(number, bool(both), len(self.rows[number]) < len(both))

    def put_array(self, number: int, array: ndarray, present: bool) -> None:
        """The same for the whole new gradient, where a compiled program has computed it."""
        self.parts[number][...] = array.reshape(self.parts[number].shape)
        self._note(number, present, present)

    def _note(self, number: int, present: bool, is_dense: bool) -> None:
        self.flags[PRESENT, number], self.flags[DENSE, number] = present, is_dense
        if not self.known[number]:
            self.known[number] = True
            self.left -= 1

    def sparse(self) -> Iterator[int]:
        """The numbers of the parameters whose gradients name rows, on every rank that has one."""
        yield from np.flatnonzero((self.flags[PRESENT] > 0) & (self.flags[DENSE] == 0)).tolist()


def dense(g: Any) -> Any:
    """A gradient as an array."""
    return g._data if isinstance(g, Node) else g


class Layout:
    """The parameters of an optimizer in buckets.

    buckets: by dtype; the parameters from the last to the first, as backward comes to them.
    slots: by parameter, its bucket and its number there. description: for the ranks to agree on.
    """

    def __init__(self, link: Link, kind: str, parameters: Sequence[Any], bucket_bytes: int) -> None:
        self.parameters = list(parameters)
        lines = [f"parameter {i}: {p._data.dtype}{p._data.shape}" for i, p in enumerate(parameters)]
        listed = "\n".join([f"bucket_bytes {bucket_bytes}", *lines])
        self.description = f"the gradients of {kind}\n{listed}"
        by_dtype: dict[Any, list[Any]] = {}
        for p in reversed(parameters):
            by_dtype.setdefault(p._data.dtype, []).append(p)
        self.buckets = [
            [Bucket(link, held) for held in _filled(alike, bucket_bytes)]
            for alike in by_dtype.values()
        ]
        self.all = [bucket for alike in self.buckets for bucket in alike]
        self.slots = {
            p: (bucket, i) for bucket in self.all for i, p in enumerate(bucket.parameters)
        }

    def is_of(self, parameters: Sequence[Any]) -> bool:
        """Whether these are its parameters, in the same order."""
        return [*map(id, parameters)] == [*map(id, self.parameters)]


def _filled(parameters: Sequence[Any], bucket_bytes: int) -> Iterator[list[Any]]:
    held: list[Any] = []
    size = 0
    for p in parameters:
        if size >= bucket_bytes:
            yield held
            held, size = [], 0
        held.append(p)
        size += p._data.nbytes
    yield held


def touched_rows(link: Link, buckets: Sequence[Bucket]) -> dict[Any, ndarray]:
    """Of each parameter with sparse gradients alone, the rows that any rank names.

    The sums do not tell them: a row whose gradient is 0 was touched too.
    """
    found = [(bucket, number) for bucket in buckets for number in bucket.sparse()]
    if not found:
        return {}
    ends = np.cumsum([len(bucket.parts[number]) for bucket, number in found]).tolist()
    touched = np.zeros(ends[-1], bool)
    starts = [0, *ends[:-1]]
    for start, (bucket, number) in zip(starts, found, strict=True):
        for rows in bucket.rows[number]:
            touched[start + rows] = True
    touched = link.united(touched)
    return {
        bucket.parameters[number]: np.flatnonzero(touched[start:end])
        for start, end, (bucket, number) in zip(starts, ends, found, strict=True)
    }


def has_nan(x: Any) -> bool:
    """Whether there is a NaN among the elements of an array, or of None."""
    if x is None:
        return False
    with np.errstate(all="ignore"):
        return bool(np.isnan(np.add.reduce(x, axis=None))) and bool(np.isnan(x).any())
