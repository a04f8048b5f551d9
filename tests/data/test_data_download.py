"""Downloads, with every server a fake: what is kept is what was published, or nothing."""

from __future__ import annotations

import email.message
import gzip
import hashlib
import io
import socket
import socketserver
import sys
import threading
import time
import tracemalloc
import types
import urllib.error
import urllib.request
import urllib.response
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path
from typing import Any

import pytest

from tinygrad_kr.data.download import (
    DownloadError,
    Published,
    Response,
    fetch,
    https_director,
    open_https,
)

PLAIN = bytes(range(256)) * 40
PACKED = gzip.compress(PLAIN)
FILE = Published("numbers.gz", len(PLAIN), hashlib.sha256(PLAIN).hexdigest())
MIRRORS = ["https://first.example/data", "https://second.example/"]
FIRST, SECOND = "https://first.example/data/numbers.gz", "https://second.example/numbers.gz"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def no_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)


class Web:
    """Answers by URL: bytes, a response, or an exception to raise. Notes what was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            FIRST: answers.get("first"),
            SECOND: answers.get("second"),
        }
        self.asked: list[str] = []
        self.opened: list[Any] = []

    def __call__(self, url: str) -> Response:
        self.asked.append(url)
        answer = self.answers[url]
        if isinstance(answer, BaseException):
            raise answer
        body: Response = io.BytesIO(answer) if isinstance(answer, bytes) else answer
        self.opened.append(body)
        return body


class Breaking:
    """A body that breaks off with an exception."""

    closed = False

    def __init__(self, failure: BaseException) -> None:
        self.pieces: list[Any] = [PACKED[:10], failure]

    def read(self, count: int, /) -> bytes:
        piece = self.pieces.pop(0)
        if isinstance(piece, BaseException):
            raise piece
        return bytes(piece)

    def close(self) -> None:
        self.closed = True


class Endless(Breaking):
    """A body without an end."""

    def __init__(self) -> None:
        self.sent = 0

    def read(self, count: int, /) -> bytes:
        self.sent += count
        assert self.sent < 1_000_000, "still reading"
        return bytes(count)


def status(code: int, reason: str) -> urllib.error.HTTPError:
    return urllib.error.HTTPError(FIRST, code, reason, email.message.Message(), io.BytesIO())


def test_the_first_mirror_that_answers_well_is_enough(tmp_path: Path) -> None:
    web = Web(first=PACKED)
    assert fetch(FILE, MIRRORS, tmp_path, web) == tmp_path / "numbers.gz"
    assert (tmp_path / "numbers.gz").read_bytes() == PACKED
    assert web.asked == [FIRST]
    assert all(body.closed for body in web.opened)


def test_a_body_that_comes_unpacked_is_the_same_file(tmp_path: Path) -> None:
    assert fetch(FILE, MIRRORS, tmp_path, Web(first=PLAIN)).read_bytes() == PLAIN


FAILURES: list[tuple[Callable[[], Any], str]] = [
    (lambda: status(404, "Not Found"), "404: Not Found"),
    (lambda: urllib.error.URLError("no such host"), "no such host"),
    (lambda: TimeoutError("timed out"), "timed out"),
    (ConnectionResetError, "ConnectionResetError"),
    (lambda: Breaking(IncompleteRead(b"")), "IncompleteRead"),
    (lambda: Breaking(TimeoutError("read timed out")), "read timed out"),
    (lambda: b"", "got 0"),
    (lambda: b"<html>not here</html>", "got 21"),
    (lambda: PACKED[:-9], "expected whole gzip data"),
    (lambda: PACKED[:-8] + bytes(4) + PACKED[-4:], "CRC"),
    (lambda: PACKED[:10] + b"\xff" + PACKED[11:], "invalid block type"),
    (lambda: PLAIN[:-1] + b"!", "expected SHA-256"),
    (lambda: gzip.compress(PLAIN[:-1]), f"got {len(PLAIN) - 1}"),
    (lambda: gzip.compress(PLAIN + b"!"), f"got more than {len(PLAIN)}"),
    (Endless, "got a longer body"),
]


@pytest.mark.parametrize("failure", [failure for failure, _ in FAILURES])
def test_any_failure_tries_the_next_mirror(tmp_path: Path, failure: Callable[[], Any]) -> None:
    web = Web(first=failure(), second=PACKED)
    assert fetch(FILE, MIRRORS, tmp_path, web).read_bytes() == PACKED
    assert web.asked == [FIRST, SECOND]
    assert all(body.closed for body in web.opened)
    assert [path.name for path in tmp_path.iterdir()] == ["numbers.gz"]


@pytest.mark.parametrize(("failure", "answer"), FAILURES)
def test_when_all_fail_the_error_holds_every_answer_and_nothing_is_kept(
    tmp_path: Path, failure: Callable[[], Any], answer: str
) -> None:
    web = Web(first=failure(), second=urllib.error.URLError("unreachable"))
    with pytest.raises(DownloadError, match=r"could not download numbers\.gz") as caught:
        fetch(FILE, MIRRORS, tmp_path, web)
    first, second = caught.value.answers
    assert first.startswith(f"{FIRST}: ")
    assert answer in first
    assert second == f"{SECOND}: <urlopen error unreachable>"
    assert first in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_failed_download_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "numbers.gz").write_bytes(b"old")
    with pytest.raises(DownloadError):
        fetch(FILE, MIRRORS, tmp_path, Web(first=b"", second=b""))
    assert (tmp_path / "numbers.gz").read_bytes() == b"old"


def test_an_interrupt_stops_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    web = Web(first=Breaking(KeyboardInterrupt()), second=PACKED)
    with pytest.raises(KeyboardInterrupt):
        fetch(FILE, MIRRORS, tmp_path, web)
    assert web.asked == [FIRST]
    assert web.opened[0].closed
    assert not list(tmp_path.iterdir())


def test_a_gzip_bomb_is_not_decompressed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    class Counting:
        def update(self, chunk: bytes) -> None:
            seen.append(len(chunk))

    monkeypatch.setattr(hashlib, "sha256", Counting)
    bomb = gzip.compress(bytes(1 << 26))
    tracemalloc.start()
    try:
        with pytest.raises(DownloadError, match="got more than"):
            fetch(FILE, MIRRORS[:1], tmp_path, Web(first=bomb))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000
    assert sum(seen) < 200_000


@pytest.mark.parametrize("url", ["http://x.example/y", "ftp://x.example/y", "file:///etc/hosts"])
def test_only_https_is_opened(url: str) -> None:
    with pytest.raises(urllib.error.URLError, match="unknown url type"):
        open_https(url)


def redirect_to(location: str) -> urllib.request.BaseHandler:
    """A server that sends every request for /start elsewhere, and answers the others."""

    class Server(urllib.request.BaseHandler):
        handler_order = 100

        def https_open(self, request: urllib.request.Request) -> Any:
            headers, code = email.message.Message(), 200
            if request.selector == "/start":
                headers["Location"], code = location, 302
            body = io.BytesIO(b"the body")
            response: Any = urllib.response.addinfourl(body, headers, request.full_url, code)
            response.msg = "said the server"
            return response

    return Server()


def test_a_redirect_may_not_leave_https() -> None:
    director = https_director()
    director.add_handler(redirect_to("http://elsewhere.example/y"))
    with pytest.raises(urllib.error.URLError, match="unknown url type"):
        director.open("https://x.example/start")


def test_a_redirect_within_https_is_followed() -> None:
    director = https_director()
    director.add_handler(redirect_to("https://elsewhere.example/y"))
    with director.open("https://x.example/start") as response:
        assert response.read() == b"the body"


def test_the_request_says_who_asks_and_does_not_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def https_open(handler: Any, request: urllib.request.Request) -> Any:
        seen.append(request)
        return redirect_to("").https_open(request)  # type: ignore[attr-defined]

    monkeypatch.setattr(urllib.request.HTTPSHandler, "https_open", https_open)
    open_https("https://x.example/y").close()
    assert seen[0].get_header("User-agent") == "tinygrad_kr"
    assert seen[0].timeout == 30


def test_without_tqdm_the_progress_is_lines_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch(FILE, MIRRORS, tmp_path, Web(first=PACKED))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines() == [
        f"downloading {FIRST}",
        f"downloaded {FIRST}, {len(PACKED):,} bytes",
    ]


def test_with_tqdm_the_progress_is_its_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bars: list[Any] = []

    class Bar:
        def __init__(self, **options: object) -> None:
            self.options, self.count, self.closed = options, 0, False
            bars.append(self)

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *error: object) -> None:
            self.closed = True

        def update(self, count: int) -> None:
            self.count += count

    class Sized(io.BytesIO):
        length = len(PACKED)

    monkeypatch.setitem(sys.modules, "tqdm", types.SimpleNamespace(tqdm=Bar))
    fetch(FILE, MIRRORS, tmp_path, Web(first=Sized(PACKED)))
    (bar,) = bars
    assert bar.count == bar.options["total"] == len(PACKED)
    assert bar.options["desc"] == "numbers.gz"
    assert bar.closed
    assert capsys.readouterr().err == ""


# ------------------------------------------------------------------ time


class Dripping(Breaking):
    """A body that comes a byte at a time."""

    def __init__(self, pause: float) -> None:
        self.pause, self.left = pause, list(PACKED)

    def read(self, count: int, /) -> bytes:
        time.sleep(self.pause)
        return bytes([self.left.pop(0)]) if self.left else b""


def test_a_mirror_that_drips_is_left(tmp_path: Path) -> None:
    web = Web(first=Dripping(0.01), second=PACKED)
    start = time.monotonic()
    path = fetch(FILE, MIRRORS, tmp_path, web, seconds=0.1)
    assert path.read_bytes() == PACKED
    assert time.monotonic() - start < 0.01 * len(PACKED)
    assert list(tmp_path.iterdir()) == [path]
    assert web.asked == [FIRST, SECOND]


def test_a_mirror_that_never_answers_is_left(tmp_path: Path) -> None:
    wake = threading.Event()

    def silent(url: str) -> Response:
        wake.wait(20)
        raise OSError("woken")

    with pytest.raises(DownloadError) as caught:
        fetch(FILE, MIRRORS, tmp_path, silent, seconds=0.05)
    wake.set()
    assert caught.value.answers == tuple(
        f"{url}: expected the whole file within 0.05 s, got less" for url in (FIRST, SECOND)
    )
    assert not list(tmp_path.iterdir())


class DrippingServer(socketserver.BaseRequestHandler):
    """Sends the status line, then a byte of a header every 5 ms."""

    def handle(self) -> None:
        with suppress(OSError):
            self.request.recv(1000)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while True:
                self.request.sendall(b"x")
                time.sleep(0.005)


def test_a_server_that_drips_its_headers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # a server on this computer
    monkeypatch.setitem(sys.modules, "tqdm", None)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), DrippingServer) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        host, port = server.server_address[:2]
        connections = []

        def open_http(url: str) -> Response:
            connection = HTTPConnection(str(host), int(port), timeout=30)
            connections.append(connection)
            connection.request("GET", "/")
            return connection.getresponse()

        with pytest.raises(DownloadError, match=r"within 0\.3 s"):
            fetch(FILE, MIRRORS[:1], tmp_path, open_http, seconds=0.3)
        server.shutdown()
        connections[0].close()
    assert not list(tmp_path.iterdir())
