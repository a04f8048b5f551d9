"""Work in other processes, of this machine or of a cluster, with errors that name what is missing.

Every worker multiplies by the kernels that this process has chosen (`native.choice`), so results
have the same bits wherever they are computed.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tinygrad_kr._version import __version__

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future, ProcessPoolExecutor


MOST_ON_WINDOWS = 61
"""Limit of `concurrent.futures` on Windows; processes."""
SUBMISSIONS = 5
"""Most submissions of one call whose future fails by a fault of its executor."""


class WorkerDiedError(RuntimeError):
    """A worker ended in the middle of its work, or its executor failed, so there is no result.

    lost: the indices of the calls without a result. done: the results that were finished.

    >>> tk.sweep.WorkerDiedError("a process died", lost=[3]).lost
    [3]
    """

    def __init__(self, message: str, lost: Sequence[int] = (), done: Any = None) -> None:
        super().__init__(message)
        self.lost, self.done = lost, done


Names = Callable[[Sequence[int]], str]


def finished(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    *,
    executor: Executor | None = None,
    jobs: int = 1,
    name: Callable[[int], str] = "call {}".format,
    names: Names | None = None,
) -> Generator[tuple[int, Any], None, None]:
    """(index, function(*calls[index])) for every call, as each is finished.

    jobs: 1 runs the calls here, in order. More start that many processes with one BLAS thread each.
    executor: does the work instead, and is left open. name: the name of a call in errors. names: of
    several calls; by default those of each.

    Closing the iterator, or an exception while it waits (Ctrl-C), cancels calls that have not
    started and ends the processes. Use it in `with contextlib.closing(finished(...)) as results:`.

    A call whose future fails by a fault of the executor, not by an error of `function`, is
    submitted again, up to SUBMISSIONS times in all.

    Raises the error of `function`, whose cause is the traceback of the worker; WorkerDiedError,
    after all that was finished, if a worker ends before its work does, or the executor fails at a
    call each time; ValueError for what cannot be sent to another process; TypeError for an executor
    that is none of `concurrent.futures`. Warns if a worker's processor or versions give other last
    digits.
    """
    if executor is None and jobs == 1:
        for index, arguments in enumerate(calls):
            yield index, function(*arguments)
        return
    names = names or (lambda indices: ", ".join(map(name, indices)))
    if executor is not None:
        work = _Work(executor, function, calls)
        try:
            work.submit_all()
            yield from work.results()
        finally:
            work.cancel()
        if work.left:
            raise _stopped(work, names) from next(iter([*work.faults.values(), *work.causes]), None)
        return
    _check_sendable(function, *(calls[0] if calls else ()))
    with _processes(min(jobs, max(len(calls), 1))) as pool:
        work = _Work(pool, function, calls)
        work.submit_all()
        processes = list(pool._processes.values())
        yield from work.results()
    if work.faults:
        raise _stopped(work, names) from next(iter(work.faults.values()))
    if work.left:
        # Calls start in order, so each process was at one of the first that are left.
        codes = [process.exitcode for process in processes]
        raise _died(sorted(work.left), names, codes, len(processes))


# ------------------------------------------------------------------ the same bits everywhere


class Arithmetic(NamedTuple):
    """What decides the last digits of results, beside the calls themselves.

    process: where it is from. products: the choices between C and BLAS, as `choice.adopt` takes
    them. traits: processor, libraries and versions, by name.
    """

    process: tuple[bytes, int]
    products: str
    traits: dict[str, str]


_PROCESS = os.urandom(8)
"""Tells this process from those of other machines with the same number."""


def _arithmetic() -> Arithmetic:
    """That of this process. It measures the choices that were not made before."""
    from tinygrad_kr.native import blas, choice

    with blas.one_thread():
        made = {dtype: choice.pinned(dtype) or choice.made(dtype) for dtype in choice.DTYPES}
    products = ",".join(f"{dtype}={chosen.text}" for dtype, chosen in made.items())
    return Arithmetic((_PROCESS, os.getpid()), products, traits())


def traits() -> dict[str, str]:
    """What decides the last digits of results on this machine, by name."""
    import platform

    from tinygrad_kr.native import blas, compiler, cpu

    return {
        "tinygrad_kr": __version__,
        "NumPy": np.__version__,
        "processor": platform.machine(),
        "vectors": cpu.vectors(),
        "BLAS": blas.kernel() or "not OpenBLAS",
        "C compiler": "yes" if compiler.find_compiler() else "no",
    }


def differences(here: dict[str, str], there: dict[str, str], place: str) -> str:
    """What is different, as "vectors: avx2 here, avx512 there"; "" for nothing."""
    return "; ".join(
        f"{name}: {here.get(name, 'none')} here, {there.get(name, 'none')} {place}"
        for name in {**here, **there}
        if here.get(name) != there.get(name)
    )


def _called(
    arithmetic: Arithmetic, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, dict[str, str]]:
    """In a worker: the result by the same kernels, and the traits of this machine.

    Raises CallError for an error, so that any other exception of a future is of its executor.
    """
    try:
        if arithmetic.process == (_PROCESS, os.getpid()):
            return function(*arguments), arithmetic.traits
        from tinygrad_kr.native import choice

        choice.adopt(arithmetic.products)
        return function(*arguments), traits()
    except Exception as error:
        failed = CallError(error).with_traceback(error.__traceback__)
    # Outside of `except`: executors would send its context as well, which may not be picklable.
    raise failed


class CallError(Exception):
    """Carries the error of a call from a worker, whether the error can be pickled or not.

    >>> CallError(ValueError("no such rate"))
    CallError('ValueError: no such rate')
    """

    def __init__(self, error: Exception) -> None:
        # Dask cuts long messages, and what it has cut is no CallError.
        super().__init__(_shown(error)[:LONGEST_SHOWN])
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        text = "".join(traceback.format_exception(self.error))
        return _arrived, (_packed(self.error), _shown(self.error), text)


LONGEST_SHOWN = 1000
"""Longest message of a CallError; characters."""


class WorkerTraceback(Exception):
    """The traceback of an error in a worker, as text: the cause of the error that is raised here.

    >>> str(WorkerTraceback("Traceback of a worker"))
    'Traceback of a worker'
    """


def _shown(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


def _packed(error: Exception) -> bytes | None:
    """The error, pickled; None if it cannot be, or not be read again."""
    ways = [pickle.dumps]
    if (cloudpickle := sys.modules.get("cloudpickle")) is not None:
        ways.append(cloudpickle.dumps)  # Dask's: it sends classes that only this process has
    for dumps in ways:
        with suppress(Exception):
            packed = dumps(error)
            if isinstance(pickle.loads(packed), Exception):
                return packed
    return None


def _arrived(packed: bytes | None, shown: str, text: str) -> CallError:
    """In the process that waits: the error, or one with its message if it cannot be read here."""
    error: Exception = RuntimeError(f"an error that cannot be sent by a worker: {shown}")
    if packed is not None:
        with suppress(Exception):
            error = pickle.loads(packed)
    error.__cause__ = WorkerTraceback(f'\n"""\n{text}"""')
    return CallError(error)


# ------------------------------------------------------------------ futures


class _Work:
    """The calls of a function on an executor, each until its result or a fault that stays.

    left: calls without a result. faults: the last error of the executor, by the calls at which it
    failed each time. causes: the errors by which it reports deaths of workers.
    """

    def __init__(
        self, executor: Executor, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> None:
        self.executor, self.function, self.calls = executor, function, calls
        self.submitted = partial(_dask_future, executor) if _is_dask(executor) else executor.submit
        self.arithmetic = _arithmetic()
        self.left = set(range(len(calls)))
        self.futures: dict[Future[Any], int] = {}
        self.submissions = [0] * len(calls)
        self.faults: dict[int, Exception] = {}
        self.causes: list[BaseException] = []
        self.told: set[str] = set()

    def submit(self, index: int) -> None:
        from concurrent.futures import Future

        self.submissions[index] += 1
        call = self.calls[index]
        future = self.submitted(_called, self.arithmetic, self.function, call)
        if not isinstance(future, Future):
            raise TypeError(
                f"workers: expected an executor of concurrent.futures, got "
                f"{type(self.executor).__name__}. Of a Dask client it is client.get_executor()"
            )
        self.futures[future] = index

    def submit_all(self) -> None:
        """Submit each call once. A pool that is broken takes no more; what is left shows it."""
        from concurrent.futures import BrokenExecutor

        with _one_blas_thread(), suppress(BrokenExecutor):
            for index in range(len(self.calls)):
                self.submit(index)

    def results(self) -> Iterator[tuple[int, Any]]:
        """(index, result) of each call as it is finished. The calls of a dead worker stay left."""
        from concurrent.futures import as_completed

        while self.futures:
            for future in as_completed(list(self.futures)):
                index = self.futures.pop(future)
                try:
                    result, there = future.result()
                except CallError as failed:
                    error, frames = failed.error, failed.__traceback__
                except Exception as fault:
                    self._failed(index, fault)
                    continue
                else:
                    self._compare(there)
                    self.left.remove(index)
                    yield index, result
                    continue
                # Outside of `except`, so that the error has the context of its own alone.
                raise error.with_traceback(error.__traceback__ or frames)

    def _failed(self, index: int, fault: Exception) -> None:
        """Submit a call again unless the fault is a death, of pickling, or stays."""
        if isinstance(fault, pickle.PicklingError | AttributeError | TypeError):
            if (refused := _refused(self.function, self.calls)) is not None:
                raise refused from fault
            raise fault
        while not _is_death(fault):
            if self.submissions[index] == SUBMISSIONS:
                self.faults[index] = fault
                return
            try:
                self.submit(index)
                return
            except Exception as error:
                fault = error
        self.causes.append(fault)

    def _compare(self, there: dict[str, str]) -> None:
        """Warn of traits of a worker that give other last digits, once for each."""
        other = differences(self.arithmetic.traits, there, "on a worker")
        if other and other not in self.told:
            self.told.add(other)
            warnings.warn(f"the last digits of results may differ: {other}", stacklevel=5)

    def cancel(self) -> None:
        """Cancel the calls that have not started."""
        for future in self.futures:
            future.cancel()


def _is_dask(executor: Executor) -> bool:
    """Whether it is the executor of a Dask client."""
    return type(executor).__module__.partition(".")[0] == "distributed" and all(
        hasattr(executor, name) for name in ("_client", "_kwargs", "_futures", "_shutdown")
    )


def _dask_future(executor: Any, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """`executor.submit(function, *arguments)`, by a future that always ends.

    Where a worker is killed while a result of its is fetched, the future of Dask's own executor
    fails, or never ends: it looks at the state of the result after it has fetched it, and leaves
    errors of the fetching to the log.
    """
    from concurrent.futures import Future

    if executor._shutdown:
        return executor.submit(function, *arguments)  # type: ignore[no-any-return]
    remote = executor._client.submit(function, *arguments, **executor._kwargs)
    executor._futures.add(remote)
    future: Future[Any] = Future()
    future.add_done_callback(lambda done: remote.cancel() if done.cancelled() else None)
    remote.client.loop.add_callback(_relay, remote, future)
    return future


async def _relay(remote: Any, future: Future[Any]) -> None:
    """Hand on what becomes of a future of Dask."""
    from asyncio import CancelledError as TaskCancelledError
    from concurrent.futures import CancelledError

    outcome: Any = None
    error: BaseException | None = None
    try:
        outcome = await remote
    except TaskCancelledError:
        error = CancelledError("the event loop of the Dask client has ended")
    except BaseException as raised:
        error = raised
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(outcome)
    else:
        future.set_exception(error)


def _is_death(error: BaseException) -> bool:
    """Whether an executor reports so that its workers have died, or that they were closed."""
    from concurrent.futures import BrokenExecutor, CancelledError

    # Dask raises KilledWorker after several workers have died in turn at one call.
    return isinstance(error, BrokenExecutor | CancelledError) or any(
        kind.__name__ == "KilledWorker" for kind in type(error).__mro__
    )


# ------------------------------------------------------------------ errors


def _stopped(work: _Work, names: Names) -> WorkerDiedError:
    """The error for the end of an executor's workers, or for its faults."""
    lost = sorted(work.left)
    happened = "the workers of the executor died"
    fix = "their output, if any, is above. Most often memory was short, or a worker was stopped"
    if work.faults:
        happened = f"the executor failed at {names(sorted(work.faults))}, {SUBMISSIONS} times each"
        fix = f"its last error was {_shown(list(work.faults.values())[-1])}"
    elif any(map(_is_typed, (work.function, *work.calls[lost[0]]))):
        fix = (
            "functions typed at a prompt cannot be imported by other processes. Define them in a "
            "file, or use Dask, which sends them by cloudpickle"
        )
    return WorkerDiedError(
        f"{happened}; without a result: {names(lost)}. {fix}. "
        "The finished results are in `done` of this error",
        lost,
    )


def _died(
    lost: list[int],
    names: Names,
    codes: Sequence[int | None] = (),
    processes: int | None = None,
) -> WorkerDiedError:
    """The error, with the exit of the process that died by itself: the others got our SIGTERM."""
    ends = sorted((code for code in codes if code), key=lambda code: code == -signal.SIGTERM)
    code = ends[0] if ends else None
    how = "" if code is None else f" (exit code {code})" if code > 0 else f" (signal {-code})"
    fix = "its output, if any, is above; jobs=1 runs without processes"
    if code == -9:
        fix = "most often memory was short: use fewer jobs or smaller chunks"
    elif code == 1:
        fix += '; a script must guard its start with `if __name__ == "__main__":`'
    at = " or ".join(names([index]) for index in lost[:processes])
    return WorkerDiedError(
        f"a process died{how} at {at}: {fix}. Without a result: {names(lost)}. "
        "The finished results are in `done` of this error",
        lost,
    )


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes that ignore Ctrl-C, and are ended at once by an exception here."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    if sys.platform == "win32":
        jobs = min(jobs, MOST_ON_WINDOWS)
    pool = ProcessPoolExecutor(
        jobs, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN)
    )
    try:
        yield pool
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown()


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """One BLAS thread for processes that start now: several processes already share the cores.

    They multiply by the kernels that this process has chosen, so results have the same bits.
    """
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    wanted = dict.fromkeys(names, "1")
    if (choice := sys.modules.get("tinygrad_kr.native.choice")) and (said := choice.settled()):
        wanted[choice.VARIABLE] = said
    ours = [name for name in wanted if name not in os.environ]
    os.environ.update({name: wanted[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


_HOW = (
    "define functions at the top level of a file, or use jobs=1, or give an executor of threads "
    "(concurrent.futures.ThreadPoolExecutor), or of Dask, which sends functions by cloudpickle"
)


def _check_sendable(*values: Any) -> None:
    """Refuse values that other processes cannot have, before one is started."""
    for value in values:
        if (error := _why_not_pickled(value)) is not None:
            raise _unsendable(value) from error
        if _is_typed(value):
            raise ValueError(
                f"workers: expected a function of a file, which other processes can import, got "
                f"{value!r}: {_HOW}"
            )


def _refused(function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> ValueError | None:
    """What to raise in place of an executor's error about pickling; None if all can be pickled."""
    values = (function, *(calls[0] if calls else ()))
    return next((_unsendable(v) for v in values if _why_not_pickled(v) is not None), None)


def _unsendable(value: Any) -> ValueError:
    return ValueError(
        f"workers: expected what can be pickled for another process, got {value!r}: {_HOW}"
    )


def _why_not_pickled(value: Any) -> Exception | None:
    try:
        pickle.dumps(value)
    except Exception as error:
        return error
    return None


def _is_typed(value: Any) -> bool:
    """Whether it is a function that was typed at a prompt, or given to `python -c`."""
    main, value = sys.modules["__main__"], getattr(value, "func", value)
    return getattr(value, "__module__", "") == "__main__" and not hasattr(main, "__file__")
