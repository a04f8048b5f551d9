"""Fetching a published file once, so that what is kept is exactly what was published."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from tinygrad_kr.data.idx import decompressed
from tinygrad_kr.files import replacing

if TYPE_CHECKING:
    import urllib.request

_CHUNK = 1 << 16
_TIMEOUT_SECONDS = 30.0


class Response(Protocol):
    """What an opener gives back: the body, readable in pieces, to be closed."""

    def read(self, count: int, /) -> bytes: ...

    def close(self) -> None: ...


Opener = Callable[[str], Response]


class Published(NamedTuple):
    """A published file by its content: the decompressed length in bytes, and its SHA-256."""

    name: str
    size: int
    sha256: str


class DownloadError(RuntimeError):
    """No mirror gave the file; `answers` holds what each one said, in the order asked."""

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
) -> Path:
    """Fetch `published.name` from the first mirror that gives the right bytes, into `folder`.

    The file (gzipped or not) is written beside its final place, its decompressed bytes are
    checked against the pinned length and SHA-256, and only then is it renamed. Any failure of a
    mirror, a wrong checksum included, moves on to the next. `open_url` opens an URL; by default
    HTTPS only, redirects included.

    Returns the path of the file. Raises DownloadError with the answer of every mirror.
    """
    from http.client import HTTPException

    opener = open_https if open_url is None else open_url
    answers = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{published.name}"
        try:
            return _fetch_from(url, published, folder, opener)
        except (OSError, HTTPException, ValueError) as error:
            answers.append(f"{url}: {str(error) or type(error).__name__}")
    raise DownloadError(published.name, answers)


def _fetch_from(url: str, published: Published, folder: Path, opener: Opener) -> Path:
    target = folder / published.name
    with replacing(target) as stream:
        _copy(url, published, opener, stream)
        stream.flush()
        _verify(stream.name, published)
    return target


def _copy(url: str, published: Published, opener: Opener, stream: BinaryIO) -> None:
    """Write the body of `url` to `stream`, giving up once it is longer than the plain file."""
    limit = published.size + _CHUNK
    response = opener(url)
    try:
        with _progress(url, getattr(response, "length", None)) as advance:
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                advance(len(chunk))
                if stream.tell() > limit:
                    raise ValueError(f"the body is longer than the {published.size} bytes wanted")
    finally:
        response.close()


def _verify(path: str, published: Published) -> None:
    import hashlib
    import zlib

    digest, length = hashlib.sha256(), 0
    try:
        with open(path, "rb") as file, decompressed(file) as plain:
            while length <= published.size and (chunk := plain.read(_CHUNK)):
                digest.update(chunk)
                length += len(chunk)
    except (EOFError, zlib.error) as error:
        raise ValueError(f"damaged gzip data: {error}") from error
    if length != published.size:
        found = f"more than {published.size}" if length > published.size else str(length)
        raise ValueError(f"wanted {published.size} decompressed bytes, found {found}")
    if digest.hexdigest() != published.sha256:
        raise ValueError(f"wanted SHA-256 {published.sha256}, found {digest.hexdigest()}")


def open_https(url: str) -> Response:
    """Open an URL over HTTPS with the certificate checked; anything else is refused.

    Raises urllib.error.URLError (an OSError) when the URL, or what it redirects to, is not HTTPS,
    and whatever urllib raises when the server does not answer within 30 seconds or refuses.
    """
    import urllib.request

    request = urllib.request.Request(url, headers={"User-Agent": "tinygrad_kr"})
    response: Response = https_director().open(request, timeout=_TIMEOUT_SECONDS)
    return response


def https_director() -> urllib.request.OpenerDirector:
    """An opener that knows no scheme but HTTPS, so that a redirect cannot leave it."""
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
    """Show how far the download is: a tqdm bar where tqdm is installed, else lines to stderr."""
    try:
        tqdm = importlib.import_module("tqdm")
    except ImportError:
        with _progress_lines(url) as advance:
            yield advance
        return
    with tqdm.tqdm(desc=os.path.basename(url), total=total, unit="B", unit_scale=True) as bar:
        yield bar.update


@contextmanager
def _progress_lines(url: str) -> Iterator[Callable[[int], object]]:
    counts: list[int] = []
    print(f"downloading {url}", file=sys.stderr, flush=True)
    yield counts.append
    print(f"downloaded {url}, {sum(counts):,} bytes", file=sys.stderr, flush=True)
