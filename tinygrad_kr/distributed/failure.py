"""How a rank that fails is known to all: messages between ranks, and the end of the program.

A rank that raises tells the others. While a rank waits it reads these messages, so it ends with an
error that names the first one that failed. At its end each rank waits for the others: MPI may end
only when no rank is in an exchange any more. After a failure `MPI_Abort` ends all.
"""

from __future__ import annotations

import atexit
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

_TAG = 20_726
"""Tag of the messages. They use the communicator that the group was given."""
_ANSWER_SECONDS = 1.0
"""Most seconds to wait for answers of ranks that are waiting too."""
_SPINNING, _LONGEST_NAP = 0.0001, 0.001
"""Seconds of polling without a pause, and the longest pause between two polls afterwards."""


START_SECONDS = 60.0
"""How long the start of MPI may take at least: until the last rank of a job has begun; seconds."""
_WATCH = """
import os, signal, sys, threading
process, seconds, text = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
def end():
    print(text, file=sys.stderr, flush=True)
    os.kill(process, getattr(signal, "SIGKILL", signal.SIGTERM))
timer = threading.Timer(seconds, end)
timer.daemon = True
timer.start()
sys.stdin.buffer.read()
"""


class RankError(RuntimeError):
    """A rank of the group has failed, or does something else than the others; a RuntimeError.

    rank: the number of the rank that failed first. reason: what it did.

    >>> error = tk.distributed.RankError(1, "ValueError: no such file")
    >>> error.rank, str(error)
    (1, 'rank 1 failed: ValueError: no such file')
    """

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(rank, reason)
        self.rank, self.reason = rank, reason

    def __str__(self) -> str:
        return f"rank {self.rank} failed: {self.reason}"


_LONGEST = 4000
"""Longest text of an error that is told; characters. It fits what MPI sends without a receiver."""


def described(error: BaseException) -> str:
    """An error's class and message, whatever its class does."""
    kind = type(error).__name__
    try:
        text = str(error)
    except Exception as wrong:
        text = f"its message cannot be read ({type(wrong).__name__})"
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... ({len(text):,} characters)"
    return f"{kind}: {text}" if text else kind


@contextmanager
def limited_start(timeout: float) -> Iterator[None]:
    """Around the start of MPI, which waits for every rank, also for one that never comes.

    After `timeout` seconds, and no less than `START_SECONDS`, the process is killed, so that mpirun
    ends the job. MPI_Init holds the interpreter's lock: another process counts the seconds. It ends
    with this block, or with this process.
    """
    if "mpi4py.MPI" in sys.modules or not sys.executable:
        yield
        return
    seconds = max(timeout, START_SECONDS)
    text = (
        f"tk.distributed.init: expected every rank to start MPI within {seconds:g} s, got none of "
        "at least one. Let no rank end before init"
    )
    arguments = ["-I", "-S", "-c", _WATCH, str(os.getpid()), str(seconds), text]
    with subprocess.Popen([sys.executable, *arguments], stdin=subprocess.PIPE):
        yield


class Message(NamedTuple):
    """What one rank tells another.

    kind: "failed" (a rank raised), "left" (its program has come to its end), "ended" (it has shown
        its error), "ask" and "here" (whether a rank waits, and where), "silent" (a rank did not
        answer, so that none need wait for it).
    rank: the rank that failed, or is silent. text: why, or where a rank waits; of one that has
        left, an error of one of its threads.
    calls: how many exchanges it made.
    """

    kind: str
    rank: int
    text: str
    calls: int


class Peers:
    """The other ranks, as far as their messages tell.

    calls: how many exchanges this rank has begun. failure: the first that is known.
    """

    def __init__(self, mpi: Any, communicator: Any, timeout: float) -> None:
        self._mpi, self._communicator = mpi, communicator
        self.rank, self.size = communicator.Get_rank(), communicator.Get_size()
        self.timeout = timeout
        self.calls = 0
        self.doing = "init"
        self.failure: RankError | None = None
        self.waiting = 0.0
        """Seconds spent in `wait`."""
        self._left: dict[int, Message] = {}
        """The messages of ranks that have come to their ends."""
        self._ended: set[int] = set()
        """Ranks that have shown their error, or are silent."""
        self._here: dict[int, str] = {}
        self._sent: list[Any] = []
        self._waiters: set[int] = set()
        """Threads that have waited for exchanges."""
        self._process = os.getpid()

    # -------------------------------------------------------------- messages

    def _tell(self, kind: str, rank: int, text: str, to: int | None = None) -> None:
        message = tuple(Message(kind, rank, text, self.calls))
        others = [to] if to is not None else [r for r in range(self.size) if r != self.rank]
        self._sent += [self._communicator.isend(message, other, _TAG) for other in others]

    def _read(self) -> None:
        """Take in every message that has come."""
        while True:
            found = self._communicator.improbe(self._mpi.ANY_SOURCE, _TAG)
            if found is None:
                return
            status = self._mpi.Status()
            message = Message(*found.recv(status=status))
            self._take(message, status.Get_source())

    def _take(self, message: Message, source: int) -> None:
        if message.kind == "failed":
            self.failure = self.failure or RankError(message.rank, message.text)
        elif message.kind == "left":
            self._left[source] = message
        elif message.kind == "here":
            self._here[source] = message.text
        elif message.kind == "ask":
            self._tell("here", self.rank, self.doing, source)
        elif message.kind == "ended":
            self._ended.add(source)
        elif message.kind == "silent":
            self._ended.add(message.rank)

    # -------------------------------------------------------------- waiting

    def wait(self, is_done: Callable[[], bool]) -> None:
        """Until `is_done()`. Raises RankError where a rank has failed, left, or is silent."""
        if self.failure is not None:
            raise self._failed(self.failure)
        self._waiters.add(threading.get_ident())
        start = time.monotonic()
        try:
            for _ in self._polls(start, is_done):
                self._read()
                if self.failure is not None:
                    raise self._failed(self.failure)
                for rank, message in self._left.items():
                    if message.calls < self.calls:
                        raise self._failed(RankError(rank, self._too_early(message)))
                if time.monotonic() - start > self.timeout:
                    raise self._failed(self._silence())
        except BaseException as error:  # such as Ctrl-C: the others' exchange stays incomplete
            self.announce(RankError(self.rank, described(error)))
            raise
        finally:
            self.waiting += time.monotonic() - start

    def _polls(self, start: float, is_done: Callable[[], bool]) -> Any:
        """Yields until it is done: at first without a pause, then with ever longer ones, so that
        ranks that share a core let one another work."""
        while not is_done():
            yield
            waited = time.monotonic() - start
            if waited > _SPINNING:
                time.sleep(min(waited / 10, _LONGEST_NAP))

    def _too_early(self, message: Message) -> str:
        """What to say of a rank that has left, while this one waits for it."""
        after = f" after {message.text}" if message.text else ""
        return (
            f"its program ended{after}, while rank {self.rank} is in {self.doing} (it made "
            f"{message.calls} exchanges, rank {self.rank} is in number {self.calls}). Let every "
            "rank make the same number of steps, and the same of them under no_sync"
        )

    @contextmanager
    def patience(self, seconds: float, doing: str) -> Iterator[None]:
        """Wait at least so long meanwhile, and say what for."""
        before, self.timeout, self.doing = self.timeout, max(self.timeout, seconds), doing
        try:
            yield
        finally:
            self.timeout = before

    def _silence(self) -> RankError:
        """What to say of the ranks that neither came nor answer."""
        missing = self._missing()
        waited = f"while rank {self.rank} waited in {self.doing}"
        if missing:
            named = "" if len(missing) == 1 else f" (so have ranks {missing[1:]})"
            text = (
                f"it has been silent for {self.timeout:g} s{named}, {waited}. If it was at work, "
                "raise init(timeout=)"
            )
            return RankError(missing[0], text)
        rank = min(self._here)
        text = f"it has waited in {self._here[rank]} for {self.timeout:g} s, {waited}"
        return RankError(rank, text)

    def _missing(self) -> list[int]:
        self._here.clear()
        self._tell("ask", self.rank, self.doing)
        others = {*range(self.size)} - {self.rank}
        end = time.monotonic() + min(_ANSWER_SECONDS, self.timeout)
        while time.monotonic() < end and not others <= self._here.keys():
            self._read()
            time.sleep(_LONGEST_NAP)
        missing = sorted(others - self._here.keys())
        self._ended.update(missing)
        for rank in missing:
            self._tell("silent", rank, "")
        return missing

    def _failed(self, error: RankError) -> RankError:
        """Note a failure, and tell it once."""
        self.announce(error)
        return RankError(error.rank, error.reason)

    def announce(self, error: RankError) -> None:
        """Tell every other rank of the first failure that this one knows."""
        if os.getpid() != self._process:
            return  # a forked process is no rank
        if self.failure is None or not self._told:
            self.failure = self.failure or error
            self._told = True
            self._tell("failed", self.failure.rank, self.failure.reason)

    _told = False

    # -------------------------------------------------------------- the end of the program

    def watch_the_end(self) -> None:
        """From now on an error that ends this program is told, and its end waits for the others.

        So is `sys.exit` with a code or a text, and an error of a thread: at once if the thread has
        waited for exchanges, else as the reason where this program ends before others.
        """
        show, show_of_thread, leave = sys.excepthook, threading.excepthook, sys.exit

        def excepthook(kind: Any, error: Any, trace: Any) -> None:
            if self._is_alive():
                self.announce(RankError(self.rank, described(error)))
            show(kind, error, trace)
            self._shown = True

        def excepthook_of_thread(given: Any) -> None:
            if self._is_alive() and given.exc_type is not SystemExit:
                self._thread_failed(given)
            show_of_thread(given)

        def exit(code: Any = None, /) -> NoReturn:
            if threading.current_thread() is threading.main_thread():
                self._exit = None if code in (None, 0) else SystemExit(code)
                self._calls_at_exit = self.calls
            leave(code)

        sys.excepthook, threading.excepthook = excepthook, excepthook_of_thread
        sys.exit = exit
        self._hook = excepthook
        atexit.register(self._end)

    _shown = False
    _hook: Any = None
    """What Python calls for an error that ends the program, unless it was replaced since."""
    _exit: SystemExit | None = None
    """The last `sys.exit` that says that the program has failed. A program may catch it."""
    _calls_at_exit = 0
    _thread_error = ""

    def _thread_failed(self, given: Any) -> None:
        thread = threading.current_thread()
        self._thread_error = f"{described(given.exc_value)} (in {thread.name})"
        if thread.ident in self._waiters:
            self.announce(RankError(self.rank, self._thread_error))

    def refuse_fork(self) -> None:
        """Raise RuntimeError in a forked process, whose messages would be taken for the rank's."""
        if os.getpid() != self._process:
            raise RuntimeError(
                "tk.distributed: expected an exchange in the process that called init, got one in "
                f"a process that rank {self.rank} forked. Start processes with the method 'spawn'"
            )

    def _is_alive(self) -> bool:
        """Whether MPI works here: neither in a forked child nor after MPI_Finalize."""
        return os.getpid() == self._process and not self._mpi.Is_finalized()

    def _end(self) -> None:
        """Let MPI end where all ranks have come to their ends; else end all of them."""
        if os.getpid() != self._process:
            self._end_fork()
        if not self._is_alive():
            return
        try:
            self._wait_for_all_ends()
        except BaseException as error:
            self._show(described(error))
        if self.failure is not None:
            sys.stdout.flush()
            sys.stderr.flush()
            self._mpi.COMM_WORLD.Abort(1)

    def _end_fork(self) -> NoReturn:
        """End a forked process at once: mpi4py would wait in MPI_Finalize without limit."""
        code = None if self._exit is None else self._exit.code
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(self._shown or code is not None))

    def _wait_for_all_ends(self) -> None:
        """Wait for the other programs' ends: without limit, since a rank may save or evaluate.

        A rank that is killed ends the job through mpirun. After a failure the wait is limited.
        """
        self.doing = "the end of its program"
        others = {*range(self.size)} - {self.rank}
        error = getattr(sys, "last_value", None)
        if sys.excepthook is not self._hook and error is not None and not self._shown:
            self._shown = True
            self.announce(RankError(self.rank, described(error)))
        if self.failure is None and self._exit is not None and self._calls_at_exit == self.calls:
            self.announce(RankError(self.rank, described(self._exit)))
        if self.failure is None:
            self._tell("left", self.rank, self._thread_error)
            if not self._all_left(others, self.timeout):
                waiting = ", ".join(map(str, sorted(others - self._left.keys())))
                print(
                    f"rank {self.rank}: its program has ended, and it waits for the end of rank "
                    f"{waiting}, for {self.timeout:g} s so far",
                    file=sys.stderr,
                    flush=True,
                )
                self._all_left(others, math.inf)
            if self.failure is None:
                return
        self.announce(self.failure)
        self._show(described(self.failure))
        self._tell("ended", self.rank, "")
        self._read_until(lambda: others <= self._ended, self.timeout)

    def _all_left(self, others: set[int], seconds: float) -> bool:
        """Wait until all have left, or one has failed; False after so many seconds."""
        return self._read_until(
            lambda: self.failure is not None or others <= self._left.keys(), seconds
        )

    def _read_until(self, is_done: Callable[[], bool], seconds: float) -> bool:
        """Read messages until it is done; False after so many seconds."""
        start = time.monotonic()
        for _ in self._polls(start, is_done):
            self._read()
            if time.monotonic() - start > seconds:
                return False
        return True

    def _show(self, text: str) -> None:
        """An error that comes after the last statement of the program."""
        if self.failure is None:
            self.failure = RankError(self.rank, text)
        if not self._shown:
            self._shown = True
            print(f"rank {self.rank}: {text}", file=sys.stderr, flush=True)
