"""Download of a published file, with a check of its content."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from tinygrad_kr.data.idx import decompressed
from tinygrad_kr.files import replacing
from tinygrad_kr.language import Text

if TYPE_CHECKING:
    import urllib.request

_CHUNK = 1 << 16
_TIMEOUT_SECONDS = 30.0
_FILE_SECONDS = 600.0
"""Limit: a mirror has this long for a whole file, however steadily its bytes drip; seconds."""


class Response(Protocol):
    """The result of an opener: a body that is read in pieces, then closed."""

    def read(self, count: int, /) -> bytes: ...

    def close(self) -> None: ...


Opener = Callable[[str], Response]


class Published(NamedTuple):
    """A published file and its decompressed content: length in bytes, and SHA-256."""

    name: str
    size: int
    sha256: str


class DownloadError(RuntimeError):
    """No mirror delivered the file. `answers` holds the failure of each one, in order."""

    def __init__(self, name: str, answers: Sequence[str]) -> None:
        super().__init__(name, tuple(answers))
        self.name, self.answers = name, tuple(answers)

    def __str__(self) -> str:
        return "\n  ".join([f"could not download {self.name}:", *self.answers])


def fetch(
    published: Published,
    mirrors: Sequence[str],
    folder: Path,
    open_url: Opener | None = None,
    seconds: float = _FILE_SECONDS,
) -> Path:
    """Download `published.name` into `folder`, from the first mirror with the right bytes.

    The file (gzipped or not) is written beside its final path. Its decompressed bytes are checked
    against the pinned length and SHA-256, and only then is it renamed. Any failure of a mirror, a
    wrong checksum included, moves on to the next one.
    open_url: opens an URL; default: HTTPS only, redirects included.
    seconds: the time that a mirror has for the whole file.

    Returns the path of the file. Raises DownloadError with the failure of every mirror.
    """
    from http.client import HTTPException

    opener = open_https if open_url is None else open_url
    answers = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{published.name}"
        try:
            return _fetch_from(url, published, folder, opener, seconds)
        except (OSError, HTTPException, ValueError) as error:
            answers.append(f"{url}: {str(error) or type(error).__name__}")
    raise DownloadError(published.name, answers)


def _fetch_from(
    url: str, published: Published, folder: Path, opener: Opener, seconds: float
) -> Path:
    target = folder / published.name
    with replacing(target) as stream:
        _within(seconds, lambda is_late: _copy(url, published, opener, stream, is_late))
        stream.flush()
        verify(stream.name, published)
    return target


def _within(seconds: float, work: Callable[[Callable[[], bool]], None]) -> None:
    """Do some work in a thread, which is left behind if it takes longer.

    A server that sends a byte now and then never meets a socket's own timeout. Where no thread can
    be started, as in a browser, the work is done here and stops after the next piece.
    work: gets a function that tells whether it is too late.
    """
    import threading

    late, outcome = threading.Event(), list[BaseException | None]()
    late_error = TimeoutError(f"expected the whole file within {seconds:g} s, got less")

    def run() -> None:
        try:
            work(late.is_set)
            outcome.append(None)
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        if _is_late_after(seconds, work):
            raise late_error from None
        return
    try:
        thread.join(seconds)
    finally:
        late.set()
    if not outcome:
        raise late_error
    if outcome[0] is not None:
        raise outcome[0]


def _is_late_after(seconds: float, work: Callable[[Callable[[], bool]], None]) -> bool:
    end = perf_counter() + seconds
    work(lambda: perf_counter() > end)
    return perf_counter() > end


def _copy(
    url: str,
    published: Published,
    opener: Opener,
    stream: BinaryIO,
    is_late: Callable[[], bool],
) -> None:
    """Write the body of `url` to `stream`. Stops once it is longer than the decompressed file."""
    limit = published.size + _CHUNK
    response = opener(url)
    try:
        with _progress(url, getattr(response, "length", None)) as advance:
            while (chunk := response.read(_CHUNK)) and not is_late():
                stream.write(chunk)
                advance(len(chunk))
                if stream.tell() > limit:
                    raise ValueError(f"expected {published.size} bytes, got a longer body")
    finally:
        response.close()


def verify(path: str, published: Published) -> None:
    """Raise ValueError or OSError unless the file (gzipped or not) holds what was published."""
    import hashlib
    import zlib

    digest, length = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file, decompressed(file) as plain:
            while length <= published.size and (chunk := plain.read(_CHUNK)):
                digest.update(chunk)
                length += len(chunk)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"expected whole gzip data, got: {error}") from error
    if length != published.size:
        found = f"more than {published.size}" if length > published.size else str(length)
        raise ValueError(f"expected {published.size} decompressed bytes, got {found}")
    if digest.hexdigest() != published.sha256:
        raise ValueError(f"expected SHA-256 {published.sha256}, got {digest.hexdigest()}")


def open_https(url: str) -> Response:
    """Open an URL over HTTPS with a checked certificate; nothing else is accepted.

    Raises urllib.error.URLError (an OSError) if the URL, or the target of a redirect, is not HTTPS.
    Raises the errors of urllib if the server refuses, or does not answer within 30 seconds.
    Raises OSError where there is no HTTPS: in a browser, or in a Python without `ssl`.
    """
    _require_https()
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "tinygrad_kr"})
    response: Response = https_director().open(request, timeout=_TIMEOUT_SECONDS)
    return response


def _require_https() -> None:
    if why := why_no_https():
        raise OSError(f"cannot be opened: {why}")


def why_no_https() -> str | None:
    """Why this Python opens no HTTPS; None where it does."""
    if sys.platform in ("emscripten", "wasi"):
        return "Python in WebAssembly has no sockets; in Pyodide, pyodide.http.pyfetch loads a file"
    try:
        import ssl  # noqa: F401
    except ImportError as error:
        return f"this Python was built without HTTPS ({error})"
    return None


def https_director() -> urllib.request.OpenerDirector:
    """An opener for HTTPS alone, so that a redirect cannot leave it."""
    from urllib import request

    director = request.OpenerDirector()
    for handler in (
        request.ProxyHandler,
        request.UnknownHandler,
        request.HTTPSHandler,
        request.HTTPDefaultErrorHandler,
        request.HTTPRedirectHandler,
        request.HTTPErrorProcessor,
    ):
        director.add_handler(handler())
    return director


@contextmanager
def _progress(url: str, total: int | None) -> Iterator[Callable[[int], object]]:
    """Show the progress of a download: a tqdm bar if tqdm is installed, else lines on stderr."""
    try:
        tqdm = importlib.import_module("tqdm")
    except ImportError:
        with _progress_lines(url) as advance:
            yield advance
        return
    with warnings.catch_warnings():  # where there are no threads, the bar does without one
        warnings.filterwarnings("ignore", "tqdm:disabling monitor support")
        made = tqdm.tqdm(desc=os.path.basename(url), total=total, unit="B", unit_scale=True)
    with made as bar:
        yield bar.update


_BEGUN = Text("downloading {url}", "내려받는 중: {url}")
_DONE = Text("downloaded {url}, {size:,} bytes", "내려받았습니다: {url}, {size:,}바이트")


@contextmanager
def _progress_lines(url: str) -> Iterator[Callable[[int], object]]:
    counts: list[int] = []
    print(_BEGUN.say(url=url), file=sys.stderr, flush=True)
    yield counts.append
    print(_DONE.say(url=url, size=sum(counts)), file=sys.stderr, flush=True)
