"""Batches that a thread makes ahead, while the caller works with those before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextvars import copy_context
from typing import Any, TypeAlias

_PATIENCE = 0.2
"""Time after which a waiting thread looks whether the other one is gone; seconds."""
_Entry: TypeAlias = "tuple[Any, Any, BaseException | None] | None"
"""A key, its result and its error; None after the last."""


def fetched_ahead(
    fetch: Callable[[Any], Any], keys: Iterable[Any], ahead: int
) -> Generator[tuple[Any, Any]]:
    """Each key with `fetch(key)`, of which a thread makes up to `ahead` before they are needed.

    The thread also draws the keys, one by one. An exception of `fetch` is raised where its result
    was due. The thread ends with the iterator: at the end of the keys, at an exception, or when the
    iterator is closed. Without threads, as in a browser, each result is made when it is needed.
    """
    results: queue.Queue[_Entry] = queue.Queue(ahead)
    stopped = threading.Event()
    context = copy_context()
    thread = threading.Thread(
        target=context.run,
        args=(_fill, results, stopped, _entries(fetch, keys)),
        name="DataLoader prefetch",
        daemon=True,
    )
    try:
        thread.start()
    except RuntimeError:
        yield from ((key, fetch(key)) for key in keys)
        return
    try:
        while (entry := _next(results, thread)) is not None:
            key, result, error = entry
            del entry
            if error is not None:
                raise error
            yield key, result
            del result
    finally:
        stopped.set()
        thread.join()


def _entries(fetch: Callable[[Any], Any], keys: Iterable[Any]) -> Iterator[_Entry]:
    """The entries of all keys, up to the first error, and None after the last."""
    key = None
    try:
        for key in keys:
            yield key, fetch(key), None
    except GeneratorExit:
        raise
    except BaseException as error:
        yield key, None, error
        return
    yield None


def _fill(
    results: queue.Queue[_Entry], stopped: threading.Event, entries: Iterator[_Entry]
) -> None:
    for entry in entries:
        while not stopped.is_set():
            try:
                results.put(entry, timeout=_PATIENCE)
                break
            except queue.Full:
                continue
        if stopped.is_set():
            return
        del entry


def _next(results: queue.Queue[_Entry], thread: threading.Thread) -> _Entry:
    """The next entry. A wait without end could not be interrupted on every system."""
    while True:
        try:
            return results.get(timeout=_PATIENCE)
        except queue.Empty:
            if not thread.is_alive() and results.empty():
                raise RuntimeError("DataLoader: the thread that prefetches is gone.") from None
