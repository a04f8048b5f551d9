"""`init` and `Group`: the ranks of a job, and what they do together."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from tinygrad_kr import autodiff
from tinygrad_kr.distributed.batch_norm import synchronised_batch_norm
from tinygrad_kr.distributed.buckets import BUCKET_BYTES
from tinygrad_kr.distributed.collectives import all_reduce
from tinygrad_kr.distributed.exchange import GradientExchange
from tinygrad_kr.distributed.failure import RankError, limited_start
from tinygrad_kr.distributed.link import REDUCTIONS, Link
from tinygrad_kr.distributed.sampler import DistributedSampler
from tinygrad_kr.functional.normalization import batch_norm
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.native import choice, kernels
from tinygrad_kr.nn.module import Module
from tinygrad_kr.nn.normalization import normalises_by_batch
from tinygrad_kr.ops.tracing import Fixed, tracing
from tinygrad_kr.optim.optimizer import Optimizer
from tinygrad_kr.random import default_generator
from tinygrad_kr.tensor import Tensor

M = TypeVar("M", bound=Module)
O = TypeVar("O", bound=Optimizer)  # noqa: E741

_SIZES = (
    *("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "MV2_COMM_WORLD_SIZE"),
    "SLURM_STEP_NUM_TASKS",
)
_LAUNCHED_BY = (*_SIZES, "PMIX_RANK", "PMI_RANK", "PALS_RANKID")
"""Environment variables that mpirun, mpiexec and srun set for the processes that they start; the
first say how many there are."""
TIMEOUT = 600.0
"""How long a rank waits for the others, if nothing else is said; seconds."""
_KERNEL_SECONDS = 600.0
"""How long ranks wait at least while kernels are built and measured, in an empty cache; seconds."""
BATCH_NORMS = ("local", "synchronised")
"""The statistics of batch normalisation: each rank's own, or those of the whole batch."""


class Group(Fixed):
    """The ranks that train together, as `init` gives it.

    rank: the number of this process, from 0. size: how many there are.
    bytes_sent: bytes of the arrays that this rank gave to exchanges, since `init`.
    seconds_waited: how long it waited for them.

    >>> group = tk.distributed.init()
    >>> group.rank, group.size
    (0, 1)
    """

    def __init__(self) -> None:
        self._link: Link | None = None
        self._is_started = False
        self.rank, self.size = 0, 1
        self._pauses = {False: 0, True: 0}
        """How many `no_sync` blocks are open: around the running code, and in a recorded one."""
        self._names: list[tuple[weakref.ref[Any], str]] = []
        self._communicator: Any = None
        self._optimizers = 0
        """How many were given to `optimizer`."""

    def _start(self, link: Link | None, communicator: Any) -> None:
        """Become the group of a job; of None, a group of one."""
        self._link, self._is_started = link, True
        self._communicator = communicator if link is None else link.peers._communicator
        if link is not None:
            self.rank, self.size = link.rank, link.size

    def __repr__(self) -> str:
        return f"Group(rank={self.rank}, size={self.size})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Group:
        return self

    def __reduce__(self) -> Any:
        return _current, ()

    @property
    def bytes_sent(self) -> int:
        """Bytes of the arrays that this rank gave to exchanges."""
        return 0 if self._link is None else self._link.bytes_sent

    @property
    def seconds_waited(self) -> float:
        """Seconds that this rank waited for exchanges."""
        return 0.0 if self._link is None else self._link.peers.waiting

    # -------------------------------------------------------------- before training

    def broadcast(self, net: M, batch_norm: str | None = None) -> M:
        """Give every rank the parameters and buffers of rank 0, bit for bit. Returns the net.

        batch_norm: whose statistics batch normalisation uses in training, each rank's own batch
            ("local") or the batches of all ranks ("synchronised"). None leaves what an earlier call
            has set, at first "local". A pickled net keeps this; in a process without a group it
            uses its own batch.

        From here on the ranks' default generators differ, so that dropout does. Before it they
        agree: `init` gives every rank that of rank 0.
        Raises RankError, on every rank, that names a parameter or buffer whose name, shape or dtype
        differs; TypeError for what is no module, ValueError for another `batch_norm` or a read-only
        array.

        >>> group = tk.distributed.init()
        >>> net = group.broadcast(nn.Linear(2, 1), batch_norm="synchronised")
        """
        if not isinstance(net, Module):
            raise TypeError(f"broadcast: expected a Module, got {type(net).__name__}.")
        if batch_norm not in (None, *BATCH_NORMS):
            raise ValueError(
                f"broadcast: expected batch_norm in {BATCH_NORMS} or None, got {batch_norm!r}."
            )
        if self._link is None:
            return net
        held = [*net.named_parameters(), *net.named_buffers()]
        _refuse_read_only(held)
        known = {id(reference()) for reference, _ in self._names}
        self._names += [(weakref.ref(t), name) for name, t in held if id(t) not in known]
        lines = [f"{name}: {t._data.dtype}{t._data.shape}" for name, t in held]
        layers: list[Any] = [module for module in net.modules() if normalises_by_batch(module)]
        before = [BATCH_NORMS[layer.across is not None] for layer in layers]
        kinds = before if batch_norm is None else [batch_norm] * len(layers)
        told = ", ".join([f"broadcast of {type(net).__name__}", *dict.fromkeys(kinds)])
        self._link.agree("\n".join([told, *lines]))
        arrays = [np.array(t._data, order="C") for _, t in held]
        self._link.send_from_rank_0(arrays)
        with no_grad():
            for (_, tensor), array in zip(held, arrays, strict=True):
                tensor.copy_(array)
        for layer, kind in zip(layers, kinds, strict=True):
            layer.across = self if kind == "synchronised" else None
        self._part_generators()
        return net

    def _part_generators(self) -> None:
        bits = default_generator().bit_generator
        jumped: Any = getattr(bits, "jumped", None)
        if self.rank and jumped is not None:
            bits.state = jumped(self.rank).state

    def sampler(
        self, dataset: Sized, shuffle: bool = False, seed: int = 0, drop_last: bool = False
    ) -> DistributedSampler:
        """The samples of this rank, for `DataLoader(sampler=...)`: see `DistributedSampler`.

        Every rank must begin the same shuffled passes: an extra one on one rank alone, to look at a
        batch, would give it other orders from then on. It raises RankError, on every rank.
        `set_epoch` before a pass sets its order, and no other rank need make it.

        >>> loader = data.DataLoader(np.eye(4), 2, sampler=tk.distributed.init().sampler(range(4)))
        >>> len(loader)
        2
        """
        agree = None if self._link is None else self._link.agree
        return DistributedSampler(dataset, self.rank, self.size, shuffle, seed, drop_last, agree)

    def optimizer(self, optimizer: O, bucket_bytes: int = BUCKET_BYTES) -> O:
        """Average the gradients of an optimizer's parameters over the ranks. Returns it itself.

        Every `backward` that reaches such a parameter leaves the mean over the ranks in `.grad`, so
        `clip_grad_norm_` sees the global norm. See `no_sync` for accumulation. The exchange of a
        bucket of gradients begins when its last one is known, while backward still runs. Under
        `tk.compile` it lies between two programs. LBFGS sees the mean of the closure's losses.
        A copy of the optimizer, by `copy` or pickle, averages too.

        bucket_bytes: the size of a bucket.

        `backward` raises RankError, on every rank, for a NaN in a gradient of any rank.
        `step` raises RuntimeError for gradients that no `backward` has averaged since the last one,
        such as those of `tk.autograd.grad`.
        Raises TypeError for what is no optimizer, ValueError for bucket_bytes below 1.

        >>> net = nn.Linear(2, 1)
        >>> optimizer = tk.distributed.init().optimizer(optim.SGD(net.parameters(), lr=0.1))
        """
        if not isinstance(optimizer, Optimizer):
            raise TypeError(
                f"group.optimizer: expected an optimizer, got {type(optimizer).__name__}."
            )
        if bucket_bytes < 1:
            raise ValueError(f"group.optimizer: expected bucket_bytes >= 1, got {bucket_bytes}.")
        if self._link is None or optimizer.exchange is not None:
            return optimizer
        self._optimizers += 1
        exchange = GradientExchange(self, optimizer, bucket_bytes, self._optimizers)
        exchange.lay_out()
        optimizer.exchange = exchange
        autodiff.exchanges.append(exchange)
        return optimizer

    def _exchanges_gradients(self, recorded: bool) -> bool:
        """Whether gradients are exchanged now; or, `recorded`, where the code that runs says so.

        A compiled step holds the `no_sync` blocks of its own code. For one around it the program
        looks at each call.
        """
        return not self._pauses[recorded]

    def _name_of(self, parameter: Any) -> str:
        names = [name for reference, name in self._names if reference() is parameter]
        shape = f"{parameter._data.dtype}{parameter._data.shape}"
        return f"{names[-1]}, {shape}" if names else f"a parameter {shape}"

    # -------------------------------------------------------------- during training

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Backward passes inside keep each rank's own gradients, which add up in `.grad`.

        The next one outside averages the sums. PyTorch's name.

        >>> group = tk.distributed.init()
        >>> with group.no_sync():
        ...     pass  # loss.backward() for all but the last part of a batch
        """
        recorded = tracing() is not None
        self._pauses[recorded] += 1
        try:
            yield
        finally:
            self._pauses[recorded] -= 1

    def all_reduce(self, value: Any, reduction: str = "mean") -> Any:
        """The mean, sum, max or min of every rank's value, such as a loss to print.

        value: a number, an array, a list of numbers or a Tensor, of one shape and dtype on all
            ranks. The result is a number, an array or a Tensor likewise, of the dtype that NumPy's
            function of this name gives: a sum of bool or uint8 is int64 or uint64, a mean of
            integers float64. So it is in a group of one. Gradients flow through the mean and the
            sum of a Tensor.
        reduction: "mean", "sum", "max" or "min". A NaN of any rank gives NaN, as in NumPy.

        Raises RankError, on every rank, where shapes, dtypes or reductions differ; ValueError for
        another reduction, or for "max" or "min" of complex numbers, which have no order; TypeError
        for what is no number.

        >>> tk.distributed.init().all_reduce(0.5)
        0.5
        """
        if reduction not in REDUCTIONS:
            raise ValueError(
                f"all_reduce: expected a reduction in {REDUCTIONS}, got {reduction!r}."
            )
        x = value if isinstance(value, Tensor) else np.asarray(value)
        dtype = _reduced_dtype(x.dtype, reduction)
        x = x if x.dtype == dtype else x.astype(dtype)
        link: Any = _ALONE if self._link is None else self._link
        if isinstance(x, Tensor):
            return all_reduce(x, link=link, reduction=reduction, what="all_reduce")
        array = link.reduced(x, reduction, "all_reduce")
        if isinstance(value, np.generic):
            return array[()]
        return array.item() if isinstance(value, bool | int | float | complex) else array

    def barrier(self) -> None:
        """Wait until every rank has come here.

        >>> tk.distributed.init().barrier()
        """
        if self._link is not None:
            self._link.agree("barrier")

    def batch_norm(
        self,
        input: Any,
        running_mean: Any,
        running_var: Any,
        weight: Any,
        bias: Any,
        momentum: float,
        eps: float,
    ) -> Any:
        """`F.batch_norm` in training with the statistics of all ranks; of `nn.BatchNorm2d`, say."""
        given, link = (input, running_mean, running_var, weight, bias), self._link
        if link is None:
            return batch_norm(*given, training=True, momentum=momentum, eps=eps)
        return synchronised_batch_norm(
            lambda x: all_reduce(x, link=link, reduction="sum", what="batch normalisation"),
            *given,
            momentum,
            eps,
        )


def _refuse_read_only(held: list[tuple[str, Any]]) -> None:
    for name, tensor in held:
        array = tensor._data
        if not array.flags.writeable:
            raise ValueError(
                f"broadcast: expected writable memory, got a read-only array in {name}, "
                f"{array.dtype}{array.shape}. Copy it: tensor.data = tensor.data.copy()"
            )


class _Alone:
    """The exchanges of a group of one."""

    def reduced(self, x: Any, reduction: str, what: str) -> Any:
        """A copy, as several ranks get a new array."""
        return x.copy()


_ALONE = _Alone()


def _reduced_dtype(dtype: Any, reduction: str) -> Any:
    """The dtype of NumPy's function of this name."""
    if dtype.kind not in "biufc":
        raise TypeError(
            f"all_reduce: expected a number, an array of numbers or a Tensor, got dtype {dtype}."
        )
    if dtype.kind == "c" and reduction in ("max", "min"):
        raise ValueError(
            f"all_reduce: expected real numbers for {reduction!r}, got {dtype}. Reduce abs(value)"
        )
    return getattr(np, reduction)(np.zeros(1, dtype)).dtype


_group: Group | None = None


def _current() -> Group:
    """The group of this process. A pickled one becomes it, and is of one rank until `init`."""
    global _group
    if _group is None:
        _group = Group()
    return _group


def init(timeout: float | None = None, communicator: Any = None) -> Group:
    """The group of all processes that mpirun has started; without mpirun a group of one.

    A group of one needs no mpi4py, and its methods exchange nothing. A second call gives the same
    group.

    timeout: how long a rank waits for the others in an exchange; seconds, at first 600. After that
        it raises RankError, which names a rank that is missing. None in a second call leaves it.
        The start and rank 0's measurement of kernels may take longer: a minute, and ten. A rank
        whose program has ended waits for the others without limit.
    communicator: an mpi4py communicator; by default MPI.COMM_WORLD. Only the first call chooses it.

    Every rank gets the default generator of rank 0, so that initial parameters and random splits
    agree; and rank 0's choice between our kernels and BLAS, so that roundings do.
    Raises ValueError for a timeout that is not above 0, or another communicator than the first
    call's; ImportError where mpirun has started several processes and mpi4py is missing.

    >>> tk.distributed.init()
    Group(rank=0, size=1)
    """
    if timeout is not None and not timeout > 0:
        raise ValueError(f"init: expected timeout > 0, got {timeout}.")
    group = _current()
    if not group._is_started:
        group._start(_linked(TIMEOUT if timeout is None else timeout, communicator), communicator)
    elif communicator is not None and communicator != group._communicator:
        raise ValueError(
            f"init: expected the communicator of the first call, got another one for {group}. A "
            "process has one group: make it with init(communicator=) before anything else"
        )
    elif group._link is not None and timeout is not None:
        group._link.peers.timeout = timeout
    return group


def _linked(timeout: float, communicator: Any) -> Link | None:
    """The link of this job's ranks; None for one rank."""
    launched = any(name in os.environ for name in _LAUNCHED_BY) or "mpi4py.MPI" in sys.modules
    if communicator is None and not launched:
        return None
    try:
        with limited_start(timeout):
            from mpi4py import MPI
    except ImportError as error:
        if communicator is None and _says_one_process():
            return None
        raise ImportError(
            "tk.distributed.init: expected mpi4py in a process that mpirun has started, got none. "
            'Run: pip install "tinygrad_kr[mpi]", or mpi4py alone where there is an MPI'
        ) from error
    communicator = MPI.COMM_WORLD if communicator is None else communicator
    if communicator.Get_size() == 1:
        return None
    link = Link(MPI, communicator, timeout)
    _follow_rank_0(link)
    return link


def _says_one_process() -> bool:
    """Whether what started this process says that it is the only one."""
    return {os.environ[name] for name in _SIZES if name in os.environ} == {"1"}


def _follow_rank_0(link: Link) -> None:
    """Give every rank the generator and the choice of kernels that rank 0 has."""
    link.agree("init")
    first = link.rank == 0
    with link.peers.patience(_KERNEL_SECONDS, "init, in which rank 0 measures its kernels"):
        generator = repr(default_generator().bit_generator.state) if first else ""
        chosen = ",".join(choice.text_of(dtype) for dtype in choice.DTYPES) if first else ""
        able = "c" if kernels.has_kernels() else "numpy"
        texts = [text.split("\n") for text in link.texts(f"{generator}\n{chosen}\n{able}")]
    default_generator().bit_generator.state = _read_state(texts[0][0])
    choice.adopt(texts[0][1] if all(text[2] == "c" for text in texts) else "numpy")


def _read_state(text: str) -> Any:
    """The state of a generator from its repr."""
    import ast

    return ast.literal_eval(text)


__all__ = ["Group", "RankError", "init"]
