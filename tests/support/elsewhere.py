"""What the installed package does far from its repository: no compiler, no home, nothing to write.

It is a program of its own: `python elsewhere.py` in any folder. It prints where the package lies.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import resources
from pathlib import Path


def without_home_and_compiler() -> None:
    """As for a user without an entry in the password database, on a machine without tools."""
    folders = ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "TINYGRAD_KR_CACHE", "TINYGRAD_KR_DATA")
    for name in (*folders, "CC"):
        os.environ.pop(name, None)
    os.environ["PATH"] = ""
    sys.modules["ziglang"] = None  # type: ignore[assignment]

    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    Path.home = home  # type: ignore[assignment,method-assign]


def train() -> None:
    """XOR eager, then compiled, with the same losses."""
    import numpy as np

    import tinygrad_kr as tk
    from tinygrad_kr import nn, optim

    x = tk.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = tk.tensor([[0.0], [1.0], [1.0], [0.0]])

    def losses(is_compiled: bool) -> list[float]:
        tk.manual_seed(0)
        net = nn.Sequential(nn.Linear(2, 10), nn.Tanh(), nn.Linear(10, 1))
        optimizer = optim.Adam(net.parameters(), lr=0.05)

        def step() -> tk.Tensor:
            optimizer.zero_grad()
            loss = nn.BCEWithLogitsLoss()(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        run = tk.compile(step) if is_compiled else step
        return [run().item() for _ in range(300)]

    eager = losses(is_compiled=False)
    assert eager[-1] < eager[0] / 10, (eager[0], eager[-1])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = losses(is_compiled=True)
    np.testing.assert_allclose(compiled, eager, rtol=1e-4)
    (warning,) = caught
    assert warning.category is tk.compile.NoCompilerWarning
    assert "compiled functions run as NumPy calls" in str(warning.message)
    assert 'pip install "tinygrad_kr[compile]"' in str(warning.message)
    assert Path(warning.filename).name == Path(__file__).name


def read_what_is_packed() -> None:
    """The files beside the modules."""
    import numpy as np

    import tinygrad_kr as tk

    images, labels = tk.data.digits("test")
    assert len(images) == len(labels) > 0
    large = np.ones((256, 256), np.float32)
    assert tk.matmul(tk.tensor(large), large).sum().item() == 256**3
    package = resources.files("tinygrad_kr")
    for name in ("py.typed", "native/include/gemm.h", "compile/README.md"):
        assert package.joinpath(name).is_file(), name
    try:
        tk.data.mnist()
    except FileNotFoundError as error:
        assert "there is no home folder to keep it in" in str(error)
    else:
        raise AssertionError("mnist() found files where there are none")


def main() -> None:
    warnings.simplefilter("error")
    without_home_and_compiler()
    import tinygrad_kr as tk

    train()
    read_what_is_packed()
    from tinygrad_kr.__main__ import main as command

    assert command(["doctor", "--lang", "en"]) == 1  # there is no home
    print(Path(tk.__file__).parent)


if __name__ == "__main__":
    main()
