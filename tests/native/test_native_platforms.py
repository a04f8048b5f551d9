"""Generated C for Windows and macOS: built by zig, its exports read, and run where wine is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy import ndarray
from numpy_alone import without_our_products
from training import training_step

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, nn, optim
from tinygrad_kr.compile import Compiled
from tinygrad_kr.compile.ir import calling
from tinygrad_kr.compile.ir.bindings import Argument, GradientWrite, LeafWrite
from tinygrad_kr.compile.ir.program import Check
from tinygrad_kr.compile.plan.steps import OUTSIDE
from tinygrad_kr.native import compiler as compilers
from tinygrad_kr.native import cpu
from tinygrad_kr.native import kernels as native_kernels
from tinygrad_kr.native.build import find_compiler, included
from tinygrad_kr.native.compiler import SOURCE, Compiler, compiled
from tinygrad_kr.native.kernels import PRELUDE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ziglang") is None, reason='needs pip install ".[compile]"'
    ),
    pytest.mark.skipif(find_compiler() is None, reason="needs a C compiler"),
]
needs_wine = pytest.mark.skipif(shutil.which("wine") is None, reason="needs wine")

# ------------------------------------------------------------------ the systems


class System(NamedTuple):
    """A target of zig, a processor of it, and how libraries end."""

    target: str
    processor: str
    suffix: str

    def compiler(self) -> Compiler:
        """zig for it, with the flags that are asked of every compiler."""
        command = (*compilers._zig(), "-target", self.target)
        flags = [flag for flag in compilers.flags() if "native" not in flag]
        return Compiler(command, (*flags, f"-mcpu={self.processor}"))

    def library(self, source: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """`source` built as the package builds it."""
        monkeypatch.setattr(compilers, "SUFFIX", self.suffix)
        monkeypatch.setattr(compilers, "TIMEOUT_SECONDS", 900.0)
        work.mkdir(exist_ok=True)
        return compiled({SOURCE: source, **included(source)}, self.compiler(), work)


WINDOWS = System("x86_64-windows-gnu", "x86_64_v3", ".dll")
SYSTEMS = {
    "windows": WINDOWS,
    "macos": System("aarch64-macos", "apple_m1", ".dylib"),
    "intel macos": System("x86_64-macos", "x86_64_v3", ".dylib"),
}


OF_THE_LINKER = {"__dso_handle", "_mh_dylib_header"}


def exports(library: Path) -> set[str]:
    """The names that a PE or Mach-O library exports."""
    data = library.read_bytes()
    return set(_of_pe(data) if data[:2] == b"MZ" else _of_mach_o(data))


def _string(data: bytes, start: int) -> str:
    return data[start : data.index(b"\0", start)].decode()


def _of_pe(data: bytes) -> Iterator[str]:
    """Names in the export table. Source: Microsoft, PE Format, sections .edata and headers."""
    (header,) = struct.unpack_from("<I", data, 0x3C)
    assert data[header : header + 4] == b"PE\0\0"
    sections, optional_size = struct.unpack_from("<H12xH", data, header + 6)
    optional = header + 24
    assert struct.unpack_from("<H", data, optional) == (0x20B,), "not PE32+"
    (table,) = struct.unpack_from("<I", data, optional + 112)

    def place(address: int) -> int:
        for i in range(sections):
            size, start, raw_size, raw = struct.unpack_from(
                "<4I", data, optional + optional_size + 40 * i + 8
            )
            if start <= address < start + max(size, raw_size):
                return int(address - start + raw)
        raise AssertionError(f"{address:#x} lies in no section")

    count, _, names = struct.unpack_from("<3I", data, place(table) + 24)
    for i in range(count):
        (name,) = struct.unpack_from("<I", data, place(names) + 4 * i)
        yield _string(data, place(name))


def _of_mach_o(data: bytes) -> Iterator[str]:
    """Defined external symbols. Source: Apple, mach-o/loader.h and mach-o/nlist.h."""
    magic, _, _, kind, commands = struct.unpack_from("<5I", data)
    assert (magic, kind) == (0xFEEDFACF, 6), "not a 64-bit dylib"
    start = 32
    for _ in range(commands):
        command, size = struct.unpack_from("<2I", data, start)
        if command == 2:
            symbols, count, strings, _ = struct.unpack_from("<4I", data, start + 8)
            for i in range(count):
                name, flags = struct.unpack_from("<IB", data, symbols + 16 * i)
                if flags & 1 and flags & 0x0E:
                    yield _string(data, strings + name).removeprefix("_")
        start += size


# ------------------------------------------------------------------ real steps


class Case(NamedTuple):
    """A compiled step, its arguments, and the Tensors that it changes."""

    step: Compiled
    arguments: tuple[Tensor, ...]
    leaves: list[Tensor]


def trained(net: nn.Module, optimizer: Any, loss: Any, *arguments: Tensor) -> Case:
    step = tk.compile(training_step(net, optimizer, loss))
    for _ in range(3):
        step(*arguments)
    return Case(step, arguments, list(net.parameters()))


def draw(*shape: int) -> Tensor:
    return Tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))


def xor() -> Case:
    net = nn.Sequential(nn.Linear(2, 10), nn.Sigmoid(), nn.Linear(10, 1))
    x = Tensor(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32))
    y = Tensor(np.array([[0], [1], [1], [0]], np.float32))
    optimizer = optim.SGD(net.parameters(), lr=0.1)
    return trained(net, optimizer, F.binary_cross_entropy_with_logits, x, y)


def deep() -> Case:
    """Exponentials, roots and logarithms, in float64."""
    layers = [nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 4)]
    net = nn.Sequential(*layers).to(np.float64)
    x = draw(5, 3).to(np.float64)
    return trained(net, optim.Adam(net.parameters()), F.cross_entropy, x, Tensor([0, 1, 2, 3, 1]))


def convolutional() -> Case:
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 10)),
    )
    labels = Tensor(np.arange(20) % 10)
    return trained(net, optim.Adam(net.parameters()), F.cross_entropy, draw(20, 1, 14, 14), labels)


def wide() -> Case:
    """Products that are large, and loops that are long enough for several threads."""
    net = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 10))
    labels = Tensor(np.arange(128) % 10)
    return trained(net, optim.Adam(net.parameters()), F.cross_entropy, draw(128, 512), labels)


STEPS: dict[str, Callable[[], Case]] = {
    "xor": xor, "deep": deep, "convolutional": convolutional, "wide": wide,
}  # fmt: skip


def native(case: Case) -> Any:
    (entry,) = case.step._specialisations()
    return entry.runner


@pytest.fixture
def as_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[System], None]:
    """What is generated as on another system: no products of ours, and no threads on Windows."""

    def choose(system: System) -> None:
        without_our_products(monkeypatch)
        helpers = 0 if system.suffix == ".dll" else 3
        monkeypatch.setattr(cpu, "helpers", lambda: helpers)

    return choose


# ------------------------------------------------------------------ built and read


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_built_and_exports_its_functions(
    name: str,
    system: str,
    as_elsewhere: Callable[[System], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_elsewhere(SYSTEMS[system])
    source = native(STEPS[name]()).code.text
    library = SYSTEMS[system].library(source, tmp_path, monkeypatch)
    wanted = re.findall(r"^EXPORT (?:\w+ )+(?:\(\*)?(\w+)\)?\(", source, re.MULTILINE)
    assert wanted
    assert exports(library) - OF_THE_LINKER == set(wanted)
    assert ("gemm.h" in source) == (name == "convolutional")
    assert "threads.h" not in source
    threads = name == "convolutional" or (name == "wide" and "macos" in system)
    assert ("tk_parallel_for" in wanted) == threads


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_library_of_threads_is_built(
    system: str,
    as_elsewhere: Callable[[System], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that programs with long loops call."""
    as_elsewhere(SYSTEMS[system])
    source = "\n".join([PRELUDE, *cpu.thread_includes(), native_kernels.SHARE])
    library = SYSTEMS[system].library(source, tmp_path, monkeypatch)
    assert exports(library) - OF_THE_LINKER == {"share", "number"}


@pytest.mark.parametrize(("system", "vectors"), [("macos", "neon"), ("intel macos", "avx2")])
def test_the_library_of_products_is_built(
    system: str, vectors: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "vectors", lambda: vectors)
    text = [native_kernels.product_text(suffix) for suffix in ("", native_kernels.F64)]
    source = "\n".join([PRELUDE, *native_kernels.includes(f64=True), *text, native_kernels.SHARE])
    library = SYSTEMS[system].library(source, tmp_path, monkeypatch)
    names = {"share", "number", "product", "products", "product_f64", "products_f64"}
    assert exports(library) - OF_THE_LINKER == names


def test_a_function_that_is_not_exported_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"{PRELUDE}\nint hidden(void) {{ return 1; }}\nEXPORT void part0(void) {{}}"
    assert exports(WINDOWS.library(source, tmp_path, monkeypatch)) == {"part0"}


# ------------------------------------------------------------------ run by wine


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("driver") / "driver.exe"
    command = [*WINDOWS.compiler().command, "-O2", "-o", str(program)]
    source = Path(__file__).parents[1] / "support" / "windows_driver.c"
    layout = [f"-DITEMS={calling.ITEMS}", f"-DELEMENTS={calling.ELEMENTS}"]
    subprocess.run([*command, *layout, str(source)], check=True, timeout=900)
    return program


def run_on_windows(driver: Path, words: list[str], pieces: list[ndarray]) -> list[bytes]:
    """What pieces of memory hold after a library, named in `words`, has worked on them."""
    folder = driver.parent
    file = folder / "memory.bin"
    with file.open("wb") as stream:
        stream.write(struct.pack("<q", len(pieces)))
        for piece in pieces:
            stream.write(struct.pack("<q", piece.nbytes))
            stream.write(piece.tobytes())
    kind, library, *rest = words
    done = subprocess.run(
        ["wine", str(driver), kind, library, file.name, *rest],
        cwd=folder, capture_output=True, timeout=300,
        env=os.environ | {"WINEPREFIX": str(folder / "wine"), "WINEDEBUG": "-all"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    data, start, found = file.read_bytes(), 8, []
    for _ in pieces:
        (size,) = struct.unpack_from("<q", data, start)
        found.append(data[start + 8 : start + 8 + size])
        start += 8 + size
    assert start == len(data)
    return found


class Memory:
    """The arrays of a step's C function, as they are before a call."""

    def __init__(self, made: Any, given: tuple[Tensor, ...]) -> None:
        self.plan = plan = made.plan
        self.roots, self.starts = plan.segments[-1].roots, made.arena.starts
        self.pieces = [np.zeros(plan.roots[r].size * plan.roots[r].dtype.itemsize, np.uint8)
                       for r in self.roots]  # fmt: skip
        self.pieces.append(np.zeros(made.arena.nbytes, np.uint8))
        for value, source in plan.program.inputs.items():
            known = isinstance(source, Argument)
            array = given[source.index].data if known else source.fetch()
            self.view(value)[...] = array

    def view(self, value: Any) -> ndarray:
        """The elements of a value."""
        view = self.plan.views[value]
        arena = view.root in self.starts
        piece = self.pieces[-1 if arena else self.roots.index(view.root)]
        size = value.dtype.itemsize
        start = self.starts[view.root] if arena else 0
        strides = tuple(step * size for step in view.strides)
        return np.ndarray(value.shape, value.dtype, piece, start + view.offset * size, strides)

    def take(self, contents: list[bytes]) -> None:
        for piece, content in zip(self.pieces, contents, strict=True):
            piece[...] = np.frombuffer(content, piece.dtype)


@needs_wine
@pytest.mark.parametrize("name", ["xor", "deep", "convolutional"])
def test_a_step_that_windows_runs_gives_the_eager_values(
    name: str,
    driver: Path,
    as_elsewhere: Callable[[System], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    as_elsewhere(WINDOWS)
    case = STEPS[name]()
    made = native(case)
    assert len(made.parts) == 1
    assert all(isinstance(step, Check) for step in made.plan.steps if isinstance(step, OUTSIDE))
    library = WINDOWS.library(made.code.text, driver.parent / name, monkeypatch)
    memory = Memory(made, case.arguments)
    before = [leaf.data.copy() for leaf in case.leaves]
    words = ["step", str(library), made.parts[0].__name__]
    memory.take(run_on_windows(driver, words, memory.pieces))

    loss = case.step.function(*case.arguments)
    precision = 1e-5 if loss.dtype == np.float32 else 1e-12
    (result,) = made.plan.program.results
    np.testing.assert_allclose(memory.view(result), loss.data, precision)
    bindings = made.plan.program.outputs
    written = {e.node: memory.view(e.value) for e in bindings if isinstance(e, LeafWrite)}
    gradients = {e.leaf: memory.view(e.value) for e in bindings if isinstance(e, GradientWrite)}
    assert written.keys() == gradients.keys() == set(case.leaves)
    for leaf, old in zip(case.leaves, before, strict=True):
        assert not np.array_equal(leaf.data, old)
        np.testing.assert_allclose(written[leaf], leaf.data, precision, precision)
        np.testing.assert_allclose(gradients[leaf], leaf.grad.data, precision, precision)


@needs_wine
@pytest.mark.skipif("avx512f" not in cpu.machine().split(), reason="needs AVX-512")
@pytest.mark.parametrize(("rows", "depth", "columns"), [(64, 200, 96), (300, 65, 41)])
def test_products_that_windows_runs(
    rows: int, depth: int, columns: int, driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody calls them on Windows yet; that they are right there is known already."""
    monkeypatch.setattr(cpu, "helpers", lambda: 0)
    products = native_kernels.product_text("")
    kernels = [*native_kernels.includes(), products, native_kernels.SHARE]
    source = "\n".join([PRELUDE, *kernels])
    library = WINDOWS.library(source, driver.parent / "products", monkeypatch)
    assert exports(library) >= {"product", "share"}
    random = np.random.default_rng(0)
    a, b = (random.normal(size=s).astype(np.float32) for s in ((rows, depth), (depth, columns)))
    c = np.zeros((rows, columns), np.float32)
    words = ["product", str(library), *map(str, (rows, depth, columns))]
    *_, found = run_on_windows(driver, words, [a, b, c])
    np.testing.assert_allclose(
        np.frombuffer(found, np.float32).reshape(c.shape), a.astype(np.float64) @ b, 1e-4, 1e-4
    )
