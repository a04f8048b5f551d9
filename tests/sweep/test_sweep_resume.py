"""The file of a sweep: bits come back, a run resumes, and another sweep is refused by name."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import deque
from contextlib import closing
from functools import cached_property, partial, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor, data, files, nn, seed_sweep
from tinygrad_kr.fingerprint import parts
from tinygrad_kr.journal import Journal
from tinygrad_kr.sweep import Sweep

MADE_BY = {"train": "a"}


def build(generator: np.random.Generator) -> nn.Linear:
    return nn.Linear(2, 3, generator=generator)


RATE = 0.5


def train(nets: Any) -> dict[str, Any]:
    return {"weight": nets.weight * RATE, "positive": nets.bias.data[..., 0] > 0}


def counted(nets: Any) -> dict[str, Any]:
    os.environ["CALLS"] += str(len(nets.weight))
    return train(nets)


def swept(path: Path, n: int = 6, train: Any = train, **options: Any) -> Sweep:
    return seed_sweep(build, train, n, chunk=2, path=path, progress=False, **options)


def same(mine: Sweep, other: Sweep) -> None:
    assert mine.seeds.tolist() == other.seeds.tolist()
    for name, values in mine.results.items():
        assert values.dtype == other[name].dtype
        assert values.tobytes() == other[name].tobytes(), name


# ------------------------------------------------------------------ resuming


def stopped(nets: Any) -> dict[str, Any]:
    """Interrupted where no call is left. What the function reads must not change, so no global."""
    if os.environ["CALLS"] == "":
        raise KeyboardInterrupt
    os.environ["CALLS"] = os.environ["CALLS"][1:]
    return train(nets)


def test_a_run_goes_on_where_ctrl_c_ended_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLS", "22")
    file = tmp_path / "sweep.jsonl"
    found = swept(file, train=stopped)
    assert found.partial
    assert found.seeds.tolist() == [0, 1, 2, 3]
    kept = file.read_bytes()
    monkeypatch.setenv("CALLS", "2")
    whole = swept(file, train=stopped)
    assert not whole.partial
    assert file.read_bytes().startswith(kept)
    same(whole, seed_sweep(build, train, 6, chunk=2, progress=False))


def test_nets_of_the_file_are_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALLS", "")
    file = tmp_path / "sweep.jsonl"
    first = swept(file, 3, counted)
    assert os.environ["CALLS"] == "21"
    same(first, swept(file, 3, counted))
    assert os.environ["CALLS"] == "21"
    more = swept(file, 5, counted)
    # Seed 2 is trained with its pair again: the last digits may depend on the stack.
    assert os.environ["CALLS"] == "2121"
    same(more, seed_sweep(build, train, 5, chunk=2, progress=False))
    assert [json.loads(line).get("key") for line in file.read_text("utf-8").splitlines()] == [
        None, 0, 1, 2, 2, 3, 4,
    ]  # fmt: skip
    same(first, swept(file, 3, counted))


def test_a_killed_run_is_resumed(tmp_path: Path) -> None:
    """SIGKILL in the midst: every net that was done is in the file."""
    script = tmp_path / "killed.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, signal, sys
            from tinygrad_kr import nn, seed_sweep
            def build(generator): return nn.Linear(1, 1, generator=generator)
            def train(net):
                if len(os.listdir(".")) == 2 and os.path.getsize("s.jsonl") > 1200:
                    open("killed", "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
                return {"weight": net.weight}
            found = seed_sweep(build, train, 20, stacked=False, path="s.jsonl", progress=False)
            print(found.seeds.tolist())
            """
        ),
        encoding="utf-8",
    )
    if os.name == "nt":
        pytest.skip("Windows has no signal 9")
    command = [sys.executable, str(script)]
    first = subprocess.run(command, cwd=tmp_path, timeout=120, capture_output=True, check=False)
    assert first.returncode == -signal.SIGKILL
    kept = (tmp_path / "s.jsonl").read_bytes()
    assert 2 < len(kept.splitlines()) < 20
    second = subprocess.run(command, cwd=tmp_path, timeout=120, capture_output=True, check=True)
    assert second.stdout.decode().strip() == str(list(range(20)))
    assert (tmp_path / "s.jsonl").read_bytes().startswith(kept)


def test_an_error_keeps_what_was_done(tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"

    def failing(nets: Any, at: list[int]) -> dict[str, Any]:
        if not at[0]:
            raise ZeroDivisionError
        at[0] -= 1
        return train(nets)

    with pytest.raises(ZeroDivisionError):
        swept(file, train=partial(failing, at=[2]))
    assert len(file.read_bytes().splitlines()) == 1 + 4


# ------------------------------------------------------------------ what is refused


def test_another_constant_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sweep.jsonl"
    swept(file)
    before = file.read_bytes()
    monkeypatch.setitem(globals(), "RATE", 0.25)
    with pytest.raises(ValueError, match=r"train\.RATE: 0\.25 here, 0\.5 in the file\. Give ano"):
        swept(file)
    assert file.read_bytes() == before


def test_other_functions_settings_and_versions_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sweep.jsonl"
    swept(file)
    with pytest.raises(ValueError, match=r"train: .*counted .* here, .*train .* in the file"):
        swept(file, train=counted)
    with pytest.raises(ValueError, match="stacked: False here, True in the file"):
        swept(file, stacked=False)
    with pytest.raises(ValueError, match="seed: 3 here, 0 in the file"):
        swept(file, seed=3)
    monkeypatch.setattr(tk.sweep, "__version__", "9.9")
    with pytest.raises(ValueError, match=r"tinygrad_kr: 9\.9 here, .* in the file"):
        swept(file)


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    for text in ("a thesis", "a thesis\nof two lines\n", '{"tinygrad_kr": "journal"}\n', "\n"):
        other = tmp_path / "thesis.txt"
        other.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=r"thesis\.txt is not a file of results"):
            swept(other)
        assert other.read_text(encoding="utf-8") == text
    with pytest.raises(IsADirectoryError):
        swept(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder to write into: create it first"):
        swept(tmp_path / "nowhere/sweep.jsonl")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such locks")
def test_two_runs_do_not_write_to_one_file(tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    code = (
        "import sys; from tinygrad_kr.journal import Journal\n"
        f"journal = Journal(sys.argv[1], {MADE_BY!r}, 'one'); print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(BlockingIOError, match="two: another run writes to this file"):
            Journal(file, MADE_BY, "two")
        other.communicate(b"")
    Journal(file, MADE_BY, "two").close()


def test_results_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "sweep.jsonl"
    for values in (np.zeros(2, complex), np.array([None, None]), np.zeros(2, "datetime64[s]")):
        with pytest.raises(TypeError, match=r"numbers, booleans or text, .* got 'odd' of"):
            swept(file, train=lambda nets, values=values: {"odd": values})
        file.unlink()


# ------------------------------------------------------------------ the file itself

NAN = np.array([np.nan, -np.nan, np.inf, -np.inf, -0.0, 5e-324])
ARRAYS = {
    "float64": np.array([[0.1, 1 / 3], [1e300, -2.5]]),
    "float32": np.array([0.1, 3e38], np.float32),
    "float16": np.float16(0.1).reshape(()),
    "not finite": NAN,
    "int64": np.array([2**63 - 1, -(2**63)]),
    "uint64": np.array(2**64 - 1, np.uint64),
    "bool": np.array([True, False]),
    "text": np.array(["하나", "b"]),
    "empty": np.zeros((0, 3), np.float32),
}


def test_every_array_comes_back_with_the_same_bits(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    keys = [3, "three", ("recipe", 2, 0.5, ("x",))]
    with closing(Journal(file, MADE_BY, "test")) as journal:
        journal.add(dict.fromkeys(keys, ARRAYS))
    with closing(Journal(file, MADE_BY, "test")) as journal:
        assert list(journal.done) == keys
        for found in journal.done.values():
            assert found.keys() == ARRAYS.keys()
            for name, array in ARRAYS.items():
                assert found[name].dtype == array.dtype
                assert found[name].shape == array.shape
                assert found[name].tobytes() == array.tobytes(), name
    for line in file.read_text(encoding="utf-8").splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def two_results(file: Path) -> bytes:
    with closing(Journal(file, MADE_BY, "test")) as journal:
        for key in range(2):
            journal.add({key: {"loss": np.array([0.5, key])}})
    return file.read_bytes()


def test_a_file_that_ends_anywhere_is_resumed(tmp_path: Path) -> None:
    file = tmp_path / "journal.jsonl"
    whole = two_results(file)
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with closing(Journal(file, MADE_BY, "test")) as journal:
            lines = sum(end <= length for end in ends)
            assert len(journal.done) == max(0, lines - 1)
            assert file.read_bytes() == whole[: ends[max(0, lines - 1)]]


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    """In a line amid others it is an error; the last line is computed again."""
    file = tmp_path / "journal.jsonl"
    whole = two_results(file)
    expected = {0: [0.5, 0], 1: [0.5, 1]}
    refused = 0
    for place in range(len(whole)):
        for bit in (0, 3, 6):
            data = bytearray(whole)
            data[place] ^= 1 << bit
            file.write_bytes(data)
            try:
                with closing(Journal(file, MADE_BY, "test")) as journal:
                    for key, found in journal.done.items():
                        assert found["loss"].tolist() == expected[key]
            except ValueError as error:
                assert "test: " in str(error)
                refused += 1
    assert refused > 0


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "journal.jsonl"
    whole = two_results(file)
    write = os.write

    def half(descriptor: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", full)
        return write(descriptor, data[: len(data) // 2])

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with closing(Journal(file, MADE_BY, "test")) as journal:
        monkeypatch.setattr(files.os, "write", half)
        with pytest.raises(OSError, match="test: No space left.*in the file: .*" + file.name):
            journal.add({2: {"loss": np.zeros(2)}})
        monkeypatch.setattr(os, "write", write)
        assert 2 not in journal.done
        assert file.read_bytes() == whole
        journal.add({2: {"loss": np.zeros(2)}})
    with closing(Journal(file, MADE_BY, "test")) as journal:
        assert list(journal.done) == [0, 1, 2]


@pytest.mark.skipif(files.WINDOWS, reason="Windows removes no open file")
def test_a_file_that_is_removed_meanwhile_is_told_once(tmp_path: Path) -> None:
    with closing(Journal(tmp_path / "sweep.jsonl", MADE_BY, "test")) as journal:
        (tmp_path / "sweep.jsonl").unlink()
        with pytest.warns(UserWarning, match=r"sweep\.jsonl was removed or replaced while") as told:
            journal.add({0: {"loss": np.zeros(2)}})
            journal.add({1: {"loss": np.zeros(2)}})
    assert len(told) == 1


# ------------------------------------------------------------------ what a function is made of


def made(source: str, name: str = "train") -> dict[str, str]:
    names: dict[str, Any] = {"__name__": "recipe", "np": np, "nn": nn, "Tensor": Tensor}
    names |= {"wraps": wraps, "cached_property": cached_property, "deque": deque, "Path": Path}
    names |= {"SimpleNamespace": SimpleNamespace, "DataLoader": data.DataLoader}
    names |= {"TensorDataset": data.TensorDataset}
    exec(compile(textwrap.dedent(source), "recipe.py", "exec"), names)
    return parts("train", names[name])


def test_comments_lines_and_docstrings_change_nothing() -> None:
    plain = made('def train(net):\n    "What."\n    return net + 1\n')
    assert plain == made('# new\n\ndef train(net):\n    "Why."\n    return net + 1  # one\n')


@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        ("def train(n): return n + 1", "def train(n): return n + 2", "train"),
        ("def train(n): return n + 1", "def train(n): return n - 1", "train"),
        ("A = 1\ndef train(n): return A", "A = 2\ndef train(n): return A", "train.A"),
        ("def train(n, a=1): return a", "def train(n, a=2): return a", "train(default 0)"),
        ("def train(n, *, a=1): return a", "def train(n, *, a=2): return a", "train(a)"),
        (
            "def f(): return 1\ndef train(n): return f()",
            "def f(): return 2\ndef train(n): return f()",
            "train.f",
        ),
        (
            "def f(a):\n def t(): return a\n return t\ntrain = f(1)",
            "def f(a):\n def t(): return a\n return t\ntrain = f(2)",
            "train.a",
        ),
        (
            "A = Tensor([1.0])\ndef train(n): return [A for _ in n]",
            "A = Tensor([2.0])\ndef train(n): return [A for _ in n]",
            "train.A",
        ),
        (
            "class C:\n r = 1\n def __call__(self): return 1\ntrain = C()",
            "class C:\n r = 2\n def __call__(self): return 1\ntrain = C()",
            "train.__class__.r",
        ),
        (
            "class C:\n def __init__(self, a): self.a = a\ntrain = C(1)",
            "class C:\n def __init__(self, a): self.a = a\ntrain = C(2)",
            "train.a",
        ),
        (
            "L = nn.Linear(1, 1, bias=False)\nL.weight.data[:] = 1\ndef train(n): return L",
            "L = nn.Linear(1, 1, bias=False)\nL.weight.data[:] = 2\ndef train(n): return L",
            "train.L.weight",
        ),
        (
            "def d(f):\n @wraps(f)\n def w(n): return f(n)\n return w\n@d\ndef train(n): return 1",
            "def d(f):\n @wraps(f)\n def w(n): return -f(n)\n return w\n@d\ndef train(n): return 1",
            "train",
        ),
        (
            "D = DataLoader(TensorDataset([1, 2]))\ndef train(n): return D",
            "D = DataLoader(TensorDataset([1, 3]))\ndef train(n): return D",
            "train.D.dataset.tensors[0]",
        ),
        (
            "S = SimpleNamespace(rates=deque([1]))\ndef train(n): return S",
            "S = SimpleNamespace(rates=deque([2]))\ndef train(n): return S",
            "train.S.rates[0]",
        ),
        (
            "P = Path('a.csv')\ndef train(n): return P",
            "P = Path('b.csv')\ndef train(n): return P",
            "train.P",
        ),
        (
            "class C:\n @cached_property\n def a(self): return 1\ndef train(n): return C().a",
            "class C:\n @cached_property\n def a(self): return 2\ndef train(n): return C().a",
            "train.C.a",
        ),
        (
            "class C:\n @property\n def a(s): ...\n @a.setter\n def a(s, x): s.b = 1\n"
            "def train(n): C().a = 1",
            "class C:\n @property\n def a(s): ...\n @a.setter\n def a(s, x): s.b = 2\n"
            "def train(n): C().a = 1",
            "train.C.a.fset",
        ),
    ],
)
def test_what_has_changed_is_named(before: str, after: str, name: str) -> None:
    one, other = made(before), made(after)
    assert one == made(before)
    assert name in {key for key in {**one, **other} if one.get(key) != other.get(key)}


@pytest.mark.parametrize("line", ["import recipe_rates", "from recipe_rates import rate"])
def test_a_module_that_a_function_imports_is_read(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for rate in (1, 2, 1):
        (tmp_path / "recipe_rates.py").write_text(f"rate = {rate}", encoding="utf-8")
        found.append(made(f"def train(n):\n {line}\n return n"))
    assert found[0] == found[2] != found[1]
    assert "train.recipe_rates" in found[0]
    assert "recipe_rates" not in sys.modules


def test_a_loader_that_was_used_is_still_the_same() -> None:
    loader = data.DataLoader(data.TensorDataset(np.arange(6)), 2, shuffle=True)
    before = parts("train", loader)
    next(iter(loader))
    assert parts("train", loader) == before


def test_texts_are_the_same_in_every_process(tmp_path: Path) -> None:
    """Python orders sets by hashes that differ from process to process, and prints addresses."""
    script = tmp_path / "recipe.py"
    script.write_text(
        "from tinygrad_kr.fingerprint import parts\n"
        "class C:\n    __slots__ = ('a',)\n"
        "NAMES, THING = {'relu', 'tanh', 'elu', 'gelu'}, C()\n"
        "THING.a = {'x', 'y', 'z'}\n"
        "def train(n):\n    return n in {'one', 'two', 'three', 'four'} or NAMES or THING or C\n"
        "print(parts('train', train))\n",
        encoding="utf-8",
    )
    shown = {
        subprocess.run(
            [sys.executable, str(script)], capture_output=True, check=True, timeout=120,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(shown) == 1
    assert b"train.NAMES" in next(iter(shown))
    assert b" at 0x" not in next(iter(shown))


def test_what_holds_itself_ends() -> None:
    assert "train.A[0]" not in made("A = []\nA.append(A)\ndef train(n): return A")
    assert made("def train(n): return train(n - 1)")["train"]
