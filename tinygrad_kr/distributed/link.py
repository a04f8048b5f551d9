"""Exchanges of arrays between ranks. Each is checked to be the same on every rank; none hangs."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy import ndarray

from tinygrad_kr.distributed.failure import Peers, RankError, described

_PIECE = 1 << 30
"""Most bytes of one message of a broadcast: MPI counts in 32 bits."""
REDUCTIONS = ("mean", "sum", "max", "min")

_SAME_ORDER = "Let every rank make the same exchanges in the same order"
_LOADS = f"{_SAME_ORDER}, and load a state on every rank or on none"
_FIXES = {
    "broadcast": "Build the same net on every rank",
    "the parameters of": "Give every rank's optimizer the same parameters, in the same order",
    "the values of": "Call group.broadcast(net) before the first step; load files on every rank",
    "the gradients of": "Let every rank step the same optimizers, with the same options",
    "all_reduce": "Give it values of one shape and dtype, and one reduction, on every rank",
    "batch normalisation": "Give every rank's layer inputs of one dtype, with as many channels",
    "epoch": "Give every rank's sampler the same seed and data set",
    "": _SAME_ORDER,
}
"""What to do where ranks differ in an exchange, by how its description begins."""


class Agreement:
    """Whether all ranks make the same exchange: known once `request` is complete.

    extremes: the largest digest of a rank, and minus the smallest.
    """

    def __init__(self, description: str, extremes: ndarray, request: Any) -> None:
        self.description, self.extremes, self.request = description, extremes, request


class Summed(Protocol):
    """An array that is to be replaced by its sum over the ranks, and the sum once it has begun."""

    flat: ndarray
    request: Any

    def is_ready(self) -> bool:
        """Whether the array is complete, and all ranks have agreed on it."""


class Link:
    """The communicators of a group, and its exchanges.

    Every exchange begins with a digest of its description. Where ranks differ in it, all raise
    before an array is sent: MPI gives no meaning to a reduction of different sizes.
    A rank that leaves an exchange in its midst has failed, also where its program goes on.
    bytes_sent: bytes of the arrays that this rank has given to exchanges.
    """

    def __init__(self, mpi: Any, communicator: Any, timeout: float) -> None:
        self.mpi = mpi
        self.peers = Peers(mpi, communicator, timeout)
        self.rank, self.size = self.peers.rank, self.peers.size
        self.bytes_sent = 0
        self.queue: deque[Summed] = deque()
        """Sums that have not begun, in the order in which they do so on all ranks."""
        self._held: list[tuple[Any, tuple[ndarray, ...]]] = []
        """Requests that may be pending, and their arrays: MPI writes there, mpi4py holds none."""
        self.peers.watch_the_end()
        self._digests = self._duplicate(communicator)
        self._texts = self._duplicate(communicator)
        self._arrays = self._duplicate(communicator)
        self._buckets = self._duplicate(communicator)

    def __repr__(self) -> str:
        return f"Link(rank={self.rank}, size={self.size})"

    def _duplicate(self, communicator: Any) -> Any:
        """A communicator of the same ranks, whose messages no other can take."""
        made, request = communicator.Idup()
        self.peers.wait(lambda: bool(request.Test()))
        return made

    # -------------------------------------------------------------- agreement

    @contextmanager
    def exchange(self) -> Iterator[None]:
        """Around an exchange: one that raises here is incomplete on the others, who are told."""
        try:
            yield
        except BaseException as error:
            self.queue.clear()
            self.peers.announce(RankError(self.rank, described(error)))
            raise

    def propose(self, description: str) -> Agreement:
        """Tell the others which exchange comes next, and do not wait for them.

        description: the exchange, in lines; it must be the same on every rank.
        """
        peers = self.peers
        peers.refuse_fork()
        peers.wait(lambda: True)  # raises after a failure
        peers.calls += 1
        peers.doing = description.partition("\n")[0]
        number = _digest(f"{peers.calls}\n{description}")
        mine, extremes = np.array([number, -number]), np.empty(2, np.int64)
        request = self._digests.Iallreduce(mine, extremes, op=self.mpi.MAX)
        self._hold(request, mine, extremes)
        return Agreement(f"{description}\nexchange: {peers.calls}", extremes, request)

    def is_settled(self, agreement: Agreement) -> bool:
        """Whether all ranks have come, as far as is known. Raises RankError where they differ."""
        if not agreement.request.Test():
            return False
        if agreement.extremes[0] != -agreement.extremes[1]:
            self._raise_difference(agreement.description)
        return True

    def settle(self, agreement: Agreement) -> None:
        """Wait until all ranks have come. Raises RankError on every rank where they differ.

        The error has the first line that differs.
        """
        self.peers.doing = agreement.description.partition("\n")[0]
        self._finish(agreement.request)
        self.is_settled(agreement)

    def agree(self, description: str) -> None:
        """Wait until every rank has come here with the same description."""
        with self.exchange():
            self.settle(self.propose(description))

    def _raise_difference(self, description: str) -> NoReturn:
        texts = self.texts(description)
        for rank, text in enumerate(texts):
            if text != texts[0]:
                mine, other = text.splitlines(), texts[0].splitlines()
                if mine[0] != other[0]:
                    loads = any(line.startswith("the values of") for line in (mine[0], other[0]))
                    fix = _LOADS if loads else _SAME_ORDER
                    self.fail(rank, f"it is in {mine[0]}, rank 0 is in {other[0]}. {fix}")
                here, there = _first_difference(mine, other)
                fix = next(fix for start, fix in _FIXES.items() if mine[0].startswith(start))
                self.fail(rank, f"in {mine[0]}, it has {here}, rank 0 has {there}. {fix}")
        raise AssertionError("digests of equal texts differ")

    def fail(self, rank: int, reason: str) -> NoReturn:
        """Raise RankError for what all ranks know."""
        error = RankError(rank, reason)
        self.peers.announce(error)
        raise error

    def texts(self, text: str) -> list[str]:
        """The texts of all ranks. Every rank must call it, in the same place.

        No array is pending on the communicator that it uses, also where ranks differ.
        """
        given = np.frombuffer(text.encode(), np.uint8)
        length, lengths = np.array([given.size]), np.empty(self.size, np.int64)
        self._finish(self._texts.Iallgather(length, lengths), length, lengths)
        padded = np.zeros(int(lengths.max()), np.uint8)
        padded[: given.size] = given
        joined = np.empty((self.size, padded.size), np.uint8)
        self._finish(self._texts.Iallgather(padded, joined), padded, joined)
        pairs = zip(joined, lengths.tolist(), strict=True)
        return [row[:length].tobytes().decode() for row, length in pairs]

    # -------------------------------------------------------------- requests

    def _hold(self, request: Any, *arrays: ndarray) -> None:
        """Keep the arrays of a request until it is complete, whoever leaves before."""
        self._held = [(one, kept) for one, kept in self._held if not one.Test()]
        self._held.append((request, arrays))

    def _finish(self, request: Any, *arrays: ndarray) -> None:
        if arrays:
            self._hold(request, *arrays)
        self.peers.wait(lambda: bool(request.Test()))

    # -------------------------------------------------------------- exchanges

    def send_from_rank_0(self, arrays: Sequence[ndarray]) -> None:
        """Overwrite contiguous arrays, of the same shapes and dtypes on all ranks, by rank 0's."""
        with self.exchange():
            for array in arrays:
                flat = array.reshape(-1).view(np.uint8)
                for start in range(0, flat.size, _PIECE):
                    piece = flat[start : start + _PIECE]
                    self._finish(self._arrays.Ibcast(piece, root=0), piece)
                self.bytes_sent += flat.size

    def reduced(self, x: ndarray, reduction: str, what: str) -> ndarray:
        """The mean, sum, max or min of an array over the ranks; an integer's mean is float64."""
        if reduction == "mean" and x.dtype.kind not in "fc":
            x = x.astype(np.float64)
        given = np.ascontiguousarray(_exchangeable(x))
        result = np.empty_like(given)
        name = "SUM" if reduction == "mean" else reduction.upper()
        with self.exchange():
            self.settle(self.propose(f"{what}\n{reduction} of {x.dtype}{x.shape}"))
            request = self._arrays.Iallreduce(given, result, op=getattr(self.mpi, name))
            self.bytes_sent += given.nbytes
            self._finish(request, given, result)
            if reduction in ("max", "min") and given.dtype.kind == "f":
                result[self.united(np.isnan(given).reshape(-1)).reshape(given.shape)] = np.nan
        if reduction == "mean":
            result /= self.size
        return result.astype(x.dtype, copy=False).reshape(x.shape)

    def united(self, flags: ndarray) -> ndarray:
        """Where the flags of any rank are true. All ranks must know that this comes next."""
        bits = np.packbits(flags)
        request = self._arrays.Iallreduce(self.mpi.IN_PLACE, bits, op=self.mpi.BOR)
        self.bytes_sent += bits.nbytes
        self._finish(request, bits)
        return np.unpackbits(bits, count=flags.size).astype(bool)

    def start_sums(self) -> None:
        """Begin the sums of `queue` that can begin, in order."""
        while self.queue and self.queue[0].is_ready():
            one = self.queue.popleft()
            self.bytes_sent += one.flat.nbytes
            one.request = self._buckets.Iallreduce(self.mpi.IN_PLACE, one.flat, op=self.mpi.SUM)
            self._hold(one.request, one.flat)

    def poll(self, sums: Sequence[Summed]) -> None:
        """Let MPI work on what has begun."""
        self.mpi.Request.Testall([one.request for one in sums if one.request is not None])

    def finish_sums(self, sums: Sequence[Summed]) -> None:
        """Wait until sums that have begun are complete."""
        requests = [one.request for one in sums]
        self.peers.wait(lambda: bool(self.mpi.Request.Testall(requests)))


def _first_difference(mine: list[str], other: list[str]) -> tuple[str, str]:
    """The first lines that differ, by their labels if they have some, and else by their places."""
    tables = [
        {line.partition(": ")[0] if ": " in line else str(i): line for i, line in enumerate(lines)}
        for lines in (mine, other)
    ]
    for label in {**tables[0], **tables[1]}:
        here, there = (table.get(label, f"no {label}") for table in tables)
        if here != there:
            return here, there
    return next(pair for pair in zip(mine, other, strict=True) if pair[0] != pair[1])


def _exchangeable(x: ndarray) -> ndarray:
    """An array whose dtype MPI can add."""
    if x.dtype == np.float16:
        return x.astype(np.float32)
    return x.astype(np.int64) if x.dtype == np.bool_ else x


def _digest(text: str) -> int:
    """A number of 62 bits that two texts share by no chance."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 2
