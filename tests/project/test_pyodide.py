"""The package where Python runs in a browser, and where it was built without ssl or ctypes."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tinygrad_kr.compile.trace import reads
from tinygrad_kr.data import download

ROOT = Path(__file__).parents[2]

START = """\
import sys
sys.path.insert(0, {support!r})
import pyodide_stub
pyodide_stub.pretend({more})
import numpy as np
import tinygrad_kr as tk
from tinygrad_kr import nn, optim
"""


def in_pyodide(code: str, home: Path, *more: str) -> subprocess.CompletedProcess[str]:
    support = str(ROOT / "tests" / "support")
    start = START.format(support=support, more=", ".join(map(repr, more)))
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-c", start + code],
        capture_output=True,
        text=True,
        timeout=120,
        encoding="utf-8",
        env={**kept, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(home), "PYTHONUTF8": "1"},
    )


TRAIN = """
tk.manual_seed(0)
net = nn.Sequential(nn.Linear(2, 10), nn.Tanh(), nn.Linear(10, 1))
optimizer = optim.Adam(net.parameters(), lr=0.05)
x = tk.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
y = tk.tensor([[0.0], [1.0], [1.0], [0.0]])

@tk.compile
def step():
    optimizer.zero_grad()
    loss = nn.BCEWithLogitsLoss()(net(x), y)
    loss.backward()
    optimizer.step()
    return loss

first = step().item()
for _ in range(200):
    last = step().item()
assert last < first / 10, (first, last)
print(step.explain())
large = np.ones((256, 256), np.float32)
assert tk.matmul(tk.tensor(large), large).sum().item() == 256**3
assert tk.data.digits()[0].shape == (1797, 8, 8)
assert len(list(tk.data.DataLoader(np.zeros((10, 2)), batch_size=3))) == 4
tk.compile.clear_cache()

def build(generator):
    return nn.Linear(2, 1)

def train(nets):
    loss = (nets(x) ** 2).sum((-1, -2))
    loss.sum().backward()
    return {"loss": loss.detach().data}

from tinygrad_kr.native.build import NoCompilerError, build as build_c
try:
    build_c("int x;")
except NoCompilerError as error:
    assert str(error).count("cannot") == 1, error
else:
    raise AssertionError("something was compiled")

sweep = tk.seed_sweep(build, train, n=3, progress=False)
assert sweep["loss"].shape == (3,) and not sweep.partial
"""


@pytest.mark.parametrize("more", [(), ("ctypes", "_ctypes")], ids=["pyodide", "without ctypes"])
def test_training_and_compiling_where_no_compiler_can_be(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    done = in_pyodide(TRAIN, tmp_path, *more)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "every call is compiled"
    assert "several times slower than C: Python in WebAssembly" in done.stderr
    for advice in ("pip install", "apt ", "$CC", "start Python again"):
        assert advice not in done.stderr + done.stdout


WITHOUT_CTYPES = """
sys.platform = "linux"
step = tk.compile(lambda x: tk.tanh(x) * 2)
for _ in range(3):
    step(tk.tensor([1.0]))
print(step.explain())
"""


def test_a_python_without_ctypes_is_told_so(tmp_path: Path) -> None:
    done = in_pyodide(WITHOUT_CTYPES, tmp_path, "ctypes", "_ctypes")
    assert done.returncode == 0, done.stderr
    assert "this Python was built without ctypes, so it cannot call C" in done.stderr
    assert "pip install" not in done.stderr


MNIST = """
sys.platform = {platform!r}
try:
    tk.data.mnist()
except tk.data.DatasetNotFoundError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("platform", "reason"),
    [("emscripten", "pyodide.http.pyfetch"), ("linux", "No module named 'ssl'")],
)
def test_mnist_says_what_is_wrong_without_ssl(platform: str, reason: str, tmp_path: Path) -> None:
    done = in_pyodide(MNIST.format(platform=platform), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("downloading") <= 2
    assert reason in done.stdout
    assert "t10k-labels-idx1-ubyte.gz" in done.stdout
    assert str(tmp_path) in done.stdout


class _Slow:
    """A response that never ends."""

    def __init__(self) -> None:
        self.count, self.is_closed = 0, False

    def read(self, count: int, /) -> bytes:
        self.count += 1
        return b"\0"

    def close(self) -> None:
        self.is_closed = True


def test_without_threads_a_download_still_ends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    response = _Slow()
    published = download.Published("file", 10**9, "0" * 64)
    with pytest.raises(download.DownloadError, match=r"within 0\.01 s"):
        download.fetch(published, ["https://m"], tmp_path, lambda _: response, seconds=0.01)
    assert response.is_closed
    assert response.count > 1
    assert list(tmp_path.iterdir()) == []


def test_the_library_of_python_is_known_where_it_is_an_archive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pyodide's is /lib/python314.zip, and `sysconfig` names another folder."""
    assert os.path.normcase(os.path.dirname(os.path.abspath(sysconfig.__file__))) + os.sep in (
        reads._LIBRARY
    )
    names = {"stdlib": "//lib/python3.14", "platstdlib": "//lib/python3.14"}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: names)
    monkeypatch.setattr(sysconfig, "__file__", "/lib/python314.zip/sysconfig.py")
    monkeypatch.setattr(reads, "_LIBRARY", reads.library_folders())
    if os.name == "posix":
        assert reads.home_of.__wrapped__("/lib/python314.zip/functools.py") == "python"
        assert reads.home_of.__wrapped__("/lib/python314.zip.py") == "user"
