"""Batches that a thread makes ahead, while the caller works with those before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from contextvars import copy_context
from typing import Any

_PATIENCE = 0.2
"""Time after which a waiting thread looks whether the other one is gone; seconds."""


def fetched_ahead(
    fetch: Callable[[Any], Any], keys: Iterable[Any], ahead: int
) -> Generator[tuple[Any, Any]]:
    """Each key with `fetch(key)`, of which a thread makes up to `ahead` before they are needed.

    An exception of `fetch` is raised where its result was due. The thread ends with the iterator:
    at the end of the keys, at an exception, or when the iterator is closed. Without threads, as in
    a browser, each result is made when it is needed.
    """
    results: queue.Queue[tuple[Any, Any, BaseException | None]] = queue.Queue(ahead)
    stopped = threading.Event()
    keys = list(keys)
    context = copy_context()
    thread = threading.Thread(
        target=context.run,
        args=(_fill, results, stopped, fetch, keys),
        name="DataLoader prefetch",
        daemon=True,
    )
    try:
        thread.start()
    except RuntimeError:
        yield from ((key, fetch(key)) for key in keys)
        return
    try:
        for _ in keys:
            key, result, error = _next(results, thread)
            if error is not None:
                raise error
            yield key, result
            del result
    finally:
        stopped.set()
        thread.join()


def _fill(
    results: queue.Queue[Any],
    stopped: threading.Event,
    fetch: Callable[[Any], Any],
    keys: list[Any],
) -> None:
    for key in keys:
        if stopped.is_set():
            return
        entry: tuple[Any, Any, BaseException | None]
        try:
            entry = key, fetch(key), None
        except BaseException as error:
            entry = key, None, error
        while not stopped.is_set():
            try:
                results.put(entry, timeout=_PATIENCE)
                break
            except queue.Full:
                continue
        if entry[2] is not None:
            return
        del entry


def _next(results: queue.Queue[Any], thread: threading.Thread) -> Any:
    """The next result. A wait without end could not be interrupted on every system."""
    while True:
        try:
            return results.get(timeout=_PATIENCE)
        except queue.Empty:
            if not thread.is_alive() and results.empty():
                raise RuntimeError("DataLoader: the thread that prefetches is gone.") from None
