"""Large products in eager mode: C where there is a compiler, NumPy elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy import ndarray
from numpy_alone import find_anew, without_our_products
from platforms import needs_fork

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor
from tinygrad_kr.native import kernels
from tinygrad_kr.native.build import BuildError, find_compiler
from tinygrad_kr.native.kernels import has_kernels
from tinygrad_kr.ops import kernels as block_kernels
from tinygrad_kr.ops import linalg, products

needs_c = pytest.mark.skipif(
    find_compiler() is None or not has_kernels(), reason="needs a C compiler and POSIX threads"
)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is large begins early, so that small arrays meet every way."""
    monkeypatch.setattr(products, "MIN_MULTIPLY_ADDS", 1)
    monkeypatch.setattr(products, "MIN_STACK_MULTIPLY_ADDS", 1)
    monkeypatch.setattr(products, "MIN_SIDE", 1)
    monkeypatch.setattr(linalg, "MIN_MULTIPLY_ADDS", 1)
    yield


@pytest.fixture
def afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice between C and NumPy is made again."""
    find_anew(monkeypatch)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """Rows, depth and columns of each product that C computes; of a stack, its axes first."""
    real, found = products._product, []

    def noting(*given: Any) -> Any:
        product = real(*given)

        def call(a: ndarray, b: ndarray, c: ndarray) -> None:
            found.append((*a.shape, b.shape[-1]))
            product(a, b, c)

        return product and call

    monkeypatch.setattr(products, "_product", noting)
    yield found


def normal(*shape: int) -> ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def close(found: Any, a: ndarray, b: ndarray) -> None:
    """To the rounding of the dtype: half a unit in the last place for each of the additions."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    size = np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64)
    assert type(found) is ndarray
    assert found.dtype == a.dtype
    assert found.shape == exact.shape
    unit = 2.0**-24 if a.dtype == np.float32 else 2.0**-52
    bound = (a.shape[-1] + 1) * unit * size
    np.testing.assert_array_less(np.abs(found - exact), bound + 1e-30)


# ------------------------------------------------------------------ the product itself


def misaligned(x: ndarray) -> ndarray:
    raw = np.empty(x.nbytes + 1, np.uint8)[1:].view()
    made: ndarray = np.ndarray(x.shape, x.dtype, raw.data)
    made[...] = x
    assert not made.flags.aligned or not x.size
    return made


def read_only(x: ndarray) -> ndarray:
    x.flags.writeable = False
    return x


LAYOUTS = {
    "in order": lambda x: x,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "every other": lambda x: np.repeat(np.repeat(x, 2, 0), 3, 1)[::2, ::3],
    "backwards": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "one row": lambda x: np.broadcast_to(x[:1], x.shape),
    "one column": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "a field": lambda x: np.rec.fromarrays([x.astype(np.int8), x], names="n,x")["x"],
    "misaligned": misaligned,
    "read-only": read_only,
}
sizes = st.integers(1, 70)


@needs_c
@given(
    st.tuples(sizes, st.one_of(sizes, st.just(300)), sizes),
    st.sampled_from([*LAYOUTS]),
    st.sampled_from([*LAYOUTS]),
    st.sampled_from([None, "in order", "transposed", "every other", "backwards"]),
    st.sampled_from([np.float32, np.float64]),
)
def test_shapes_and_layouts(
    shape: tuple[int, int, int], left: str, right: str, given_out: str | None, dtype: Any
) -> None:
    rows, depth, columns = shape
    a = LAYOUTS[left](normal(rows, depth).astype(dtype))
    b = LAYOUTS[right](normal(depth, columns).astype(dtype))
    out = None if given_out is None else LAYOUTS[given_out](normal(rows, columns).astype(dtype))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "MIN_MULTIPLY_ADDS", 1)
        patch.setattr(products, "MIN_SIDE", 1)
        patch.setattr(np, "matmul", None)
        found = products.gemm(a, b, out=out)
    assert out is None or found is out
    close(np.asarray(found), np.asarray(a), np.asarray(b))


@needs_c
@pytest.mark.parametrize("columns", [1, 33])
def test_every_number_of_rows_and_nothing_beyond(small: None, columns: int) -> None:
    b = normal(20, columns)
    for rows in range(1, 100):
        room = np.full((rows + 2, columns), 7, np.float32)
        a = normal(rows, 20)
        close(products.gemm(a, b, out=room[1:-1]), a, b)
        assert room[0].tolist() == room[-1].tolist() == [7] * columns


@needs_c
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("axes", [(3,), (2, 3)])
def test_a_stack_of_products(
    small: None, calls: list[Any], axes: tuple[int, ...], dtype: Any
) -> None:
    a, b = normal(*axes, 20, 30).astype(dtype), normal(*axes, 30, 40).astype(dtype)
    out = np.zeros((20, *axes, 40), dtype)
    for found in (products.gemm(a, b), products.gemm(a, b, out=np.moveaxis(out, 0, -2))):
        close(found, a, b)
    close(np.moveaxis(out, 0, -2), a, b)
    assert calls == [(*axes, 20, 30, 40)] * 2


@needs_c
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 4)),
    st.tuples(*[st.integers(1, 40)] * 3),
    *[st.sampled_from(["in order", "transposed", "heads", "backwards", "broadcast"])] * 2,
    st.sampled_from([np.float32, np.float64]),
)
def test_shapes_and_layouts_of_stacks(
    axes: tuple[int, int], shape: tuple[int, int, int], left: str, right: str, dtype: Any
) -> None:
    rows, depth, columns = shape
    layouts = {
        "in order": lambda x: x,
        "transposed": lambda x: x.swapaxes(-1, -2).copy().swapaxes(-1, -2),
        "heads": lambda x: x.swapaxes(1, 2).copy().swapaxes(1, 2),
        "backwards": lambda x: x[:, ::-1, ::-1, ::-1].copy()[:, ::-1, ::-1, ::-1],
        "broadcast": lambda x: np.broadcast_to(x[:, :1], x.shape),
    }
    a = layouts[left](normal(*axes, rows, depth).astype(dtype))
    b = layouts[right](normal(*axes, depth, columns).astype(dtype))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "MIN_STACK_MULTIPLY_ADDS", 1)
        patch.setattr(products, "MIN_SIDE", 1)
        patch.setattr(np, "matmul", None)
        found = products.gemm(a, b)
    close(found, np.asarray(a), np.asarray(b))


@needs_c
@pytest.mark.parametrize(
    ("products_of_stack", "shape"), [(2, (300, 70, 80)), (40, (70, 300, 33)), (2, (600, 600, 600))]
)
def test_stacks_of_few_and_of_large_products(
    calls: list[Any], products_of_stack: int, shape: tuple[int, int, int]
) -> None:
    """Cores share the products, or each product."""
    rows, depth, columns = shape
    a, b = normal(products_of_stack, rows, depth), normal(products_of_stack, columns, depth).mT
    close(products.gemm(a, b), a, b)
    assert calls == [(products_of_stack, *shape)]


@needs_c
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_stay_in_their_row_and_column(special: float) -> None:
    a, b = normal(150, 300), normal(300, 70)
    a[56, 299] = special
    b[3, 69] = special
    with np.errstate(invalid="ignore"):
        expected = a @ b
    np.testing.assert_array_equal(np.isfinite(products.gemm(a, b)), np.isfinite(expected))
    assert np.isfinite(expected).sum() == 149 * 69


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (normal(64, 64), normal(64, 64)),
        (normal(4, 1000), normal(1000, 1000)),
        (normal(1000, 1000), normal(1000, 4)),
        (normal(200, 200), normal(200, 200).astype(np.float64)),
        (normal(200, 200), normal(200, 200).astype(">f4")),
        (normal(200, 200), np.eye(200, dtype=np.int32)),
        (normal(200, 200), normal(2, 200, 200)),
        (normal(1, 200, 200), normal(2, 200, 200)),
        (normal(2, 1, 1, 200, 200), normal(2, 1, 1, 200, 200)),
        (normal(7, 32, 32), normal(7, 32, 32)),
        (normal(200, 0), normal(0, 200)),
        (normal(0, 200), normal(200, 200)),
    ],
    ids=["small", "four rows", "four columns", "mixed", "other byte order", "integers",
         "ranks", "broadcast", "five axes", "a small stack", "no depth", "no rows"],
)  # fmt: skip
def test_what_stays_with_numpy(a: ndarray, b: ndarray, calls: list[Any]) -> None:
    found = products.gemm(a, b)
    np.testing.assert_array_equal(found, np.matmul(a, b))
    assert found.dtype == np.matmul(a, b).dtype
    assert not calls


def test_what_c_would_keep_too_much_memory_for(
    monkeypatch: pytest.MonkeyPatch, calls: list[Any]
) -> None:
    a, b = normal(200, 200), normal(200, 200)
    monkeypatch.setattr(products, "_MAX_PACKED_BYTES", 4 * 200 * 200 - 1)
    np.testing.assert_array_equal(products.gemm(a, b), a.dot(b))
    assert not calls


def test_subclasses_and_shapes_that_disagree_are_numpys() -> None:
    a, b = normal(200, 200), np.ma.masked_array(normal(200, 200))
    assert type(products.gemm(a, b)) is np.ma.MaskedArray
    with pytest.raises(ValueError, match="not aligned"):
        products.gemm(a, normal(100, 200))


# ------------------------------------------------------------------ who uses it


@needs_c
def test_a_linear_layer_and_its_gradients(calls: list[Any]) -> None:
    x, w, b, g = normal(128, 200), normal(100, 200), normal(100), normal(128, 100)
    inputs = [Tensor(each, requires_grad=True) for each in (x, w, b)]
    y = F.linear(*inputs)
    y.backward(Tensor(g))
    assert calls == [(128, 200, 100), (128, 100, 200), (100, 128, 200)]
    close(y.data - b, x, w.T)
    for tensor, (left, right) in zip(inputs, [(g, w), (g.T, x)], strict=False):
        close(tensor.grad.data, left, right)
    np.testing.assert_allclose(inputs[2].grad.data, g.sum(0, dtype=np.float64), 1e-4, 1e-4)


@needs_c
@pytest.mark.parametrize("shape", [(128, 200), (2, 64, 200)])
def test_matmul_and_linear_of_both_ranks(shape: tuple[int, ...], calls: list[Any]) -> None:
    x, w = Tensor(normal(*shape), requires_grad=True), Tensor(normal(200, 100), requires_grad=True)
    flat = x.data.reshape(-1, 200)
    (F.linear(x, w.T) * 3).sum().backward()
    assert calls == [(128, 200, 100), (128, 100, 200), (100, 128, 200)]
    close(w.grad.data, flat.T, np.full((128, 100), 3, np.float32))
    calls.clear()
    first, w.grad = w.grad, None
    (x @ w * 3).sum().backward()
    np.testing.assert_allclose(w.grad.data, first.data, 1e-5, 1e-4)
    assert calls == [(128, 200, 100), (128, 100, 200), (200, 128, 100)]


@needs_c
def test_a_convolution_in_groups_and_its_gradients(
    calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As NumPy's columns in products of C, and in float32 by C alone."""
    groups = 2
    x, w = normal(4, 32, 20, 20), normal(64 * groups, 32 // groups, 3, 3)
    g = normal(4, 64 * groups, 20, 20)

    def run(dtype: Any) -> list[ndarray]:
        inputs = [Tensor(each.astype(dtype), requires_grad=True) for each in (x, w)]
        y = F.conv2d(*inputs, padding=1, groups=groups)
        y.backward(Tensor(g.astype(dtype)))
        return [y.data, *(tensor.grad.data for tensor in inputs)]

    with monkeypatch.context() as patch:
        patch.setattr(products, "kernels", lambda dtype: None)
        exact = run(np.float64)
    assert {call[0] for call in calls} == {groups}
    for found, wanted in zip(run(np.float32), exact, strict=True):
        np.testing.assert_allclose(found, wanted, 1e-4, 1e-3)


@needs_c
@pytest.mark.parametrize("f", [F.linear, lambda x, w: x @ w.T], ids=["linear", "@"])
def test_second_derivatives(f: Any, small: None, calls: list[Any]) -> None:
    """The rules are given Tensors too: float32 by C against float64, whose rules are checked."""
    x, w = normal(8, 12), normal(2, 12)

    def along(*inputs: Tensor) -> Tensor:
        first = tk.grad(lambda *given: (f(*given) ** 3).sum(), argnums=(0, 1))(*inputs)
        return sum((each**2).sum() for each in first)  # type: ignore[return-value]

    def run(dtype: Any) -> list[ndarray]:
        slopes = tk.grad(along, argnums=(0, 1))(*(Tensor(each.astype(dtype)) for each in (x, w)))
        return [slope.data for slope in slopes]

    exact = run(np.float64)
    calls.clear()
    for found, wanted in zip(run(np.float32), exact, strict=True):
        np.testing.assert_allclose(found, wanted, 1e-4, 1e-4 * np.abs(wanted).max())
    assert len(calls) >= 8


def test_column_sums_of_every_shape() -> None:
    for shape in [(0, 5), (5, 0), (3, 2), (9216, 1), (9217, 1), (1000, 10), (6000, 13),
                  (3, 4000), (20, 1200), (3, 10_000)]:  # fmt: skip
        rows = normal(*shape)
        found = linalg.column_sums(rows)
        assert found.dtype == np.float32
        exact = rows.sum(0, dtype=np.float64)
        np.testing.assert_allclose(found, exact, 1e-5, 2e-6 * np.abs(rows).sum(0).max(initial=0))
    turned = normal(7, 3000).T[::-1]
    np.testing.assert_allclose(linalg.column_sums(turned), turned.sum(0), 1e-3, 1e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2000, 8), (1152, 8), (2304, 4), (20, 1151), (131, 1000)])
def test_products_with_a_vector_wake_no_threads(
    shape: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward, in blocks that one core multiplies."""
    draw = np.random.default_rng(0).standard_normal
    rows, v, g = (draw(n).astype(dtype) for n in (shape, shape[1], shape[0]))
    taken: list[str] = []
    for name in ("rows_by_vector", "vector_by_rows"):
        real = getattr(linalg, name)
        monkeypatch.setattr(
            linalg, name, lambda *given, real=real, name=name: (taken.append(name), real(*given))[1]
        )
    a, x = (tk.Tensor(each, requires_grad=True) for each in (rows, v))
    y = a @ x
    y.backward(g)
    assert taken == ["rows_by_vector", "vector_by_rows"]
    for found, expected in [(y, rows @ v), (x.grad, rows.T @ g), (a.grad, np.outer(g, v))]:
        assert found.dtype == dtype
        unit = 1e-5 if dtype == "float32" else 1e-13
        np.testing.assert_allclose(found.detach().numpy(), expected, unit, unit * sum(shape))


@pytest.mark.parametrize(
    "a", [np.ones((4000, 3)), np.ones((8, 2000)).T, np.ones((9, 8)), np.ones((2000, 100))]
)
def test_other_products_with_a_vector_are_numpys(a: ndarray) -> None:
    """Few columns, other memory orders, small and large ones."""
    assert not linalg._wakes_threads(a)
    np.testing.assert_array_equal(tk.matmul(a, np.ones(a.shape[1])), a @ np.ones(a.shape[1]))


def test_a_vector_of_another_dtype_or_length() -> None:
    a = np.ones((2000, 8), np.float32)
    y = tk.matmul(a, np.ones(8))
    assert (y.dtype, y[0]) == (np.float64, 8)
    with pytest.raises(ValueError, match="expected 8 entries"):
        tk.matmul(a, np.ones(7, np.float32))


# ------------------------------------------------------------------ the choice


def in_a_process(code: str, **environment: str) -> str:
    """What a program prints of a product and of the function that computed it."""
    program = (
        "import warnings; warnings.simplefilter('error')\n"
        "import numpy as np, tinygrad_kr as tk\n"
        "from tinygrad_kr.ops import products\n"
        "a = np.random.default_rng(0).standard_normal((200, 200), np.float32)\n" + code
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
    assert not done.returncode, done.stderr
    assert not done.stderr
    return done.stdout.strip()


BY_C = "products._product(a.dtype, False) is not None"
ASKED = f"c = tk.matmul(a, a); print({BY_C}, np.array_equal(c, a.dot(a)))"


@needs_c
def test_c_is_built_when_the_first_large_product_comes() -> None:
    code = (
        "import sys\n"
        "tk.matmul(a[:30], a[:, :30])\n"
        "print('tinygrad_kr.native' in sys.modules)\n"
        "tk.matmul(a, a)\n"
        f"print('tinygrad_kr.native' in sys.modules, {BY_C})"
    )
    assert in_a_process(code).split() == ["False", "True", "True"]


@needs_c
def test_what_is_only_recorded_builds_nothing() -> None:
    code = (
        "f = tk.compile(lambda x: tk.functional.linear(x @ x, x, x[0]))\n"
        "for _ in range(3): c = f(a)\n"
        "close = np.allclose(c, a @ a @ a.T + a[0], 1e-3, 1e-2)\n"
        "print(products._kernels.cache_info().currsize, close)\n"
        "tk.matmul(a, a)\n"
        "print(products._kernels.cache_info().currsize)"
    )
    assert in_a_process(code).split() == ["0", "True", "1"]


@needs_c
def test_what_is_recorded_has_the_same_bits_whatever_was_built_before() -> None:
    """As in a new process, in which a run is resumed or a worker trains: NumPy computes it."""
    a = normal(200, 200)
    products.gemm(a, a)
    block_kernels.of_header("rows", a.dtype)
    found: list[Any] = []

    def computed_by() -> list[Any]:
        return [
            products._built(a.dtype),
            products.kernels(a.dtype),
            block_kernels.kernels("rows", a),
        ]

    def look(x: Any) -> Any:
        found.append(computed_by())
        return x * 2

    tk.compile(look)(a)
    assert found == [[None, None, None]]
    assert None not in computed_by()


@needs_c
def test_a_recording_in_another_thread_does_not_keep_the_c_away() -> None:
    code = (
        "import threading\n"
        "recording, done = threading.Event(), threading.Event()\n"
        "def slow(x):\n"
        "    recording.set()\n"
        "    done.wait()\n"
        "    return x * 2\n"
        "other = threading.Thread(target=tk.compile(slow), args=(tk.Tensor(a),))\n"
        "other.start()\n"
        "recording.wait()\n"
        "tk.matmul(a, a)\n"
        "print(products._kernels.cache_info().currsize)\n"
        "done.set()\n"
        "other.join()"
    )
    assert in_a_process(code).split() == ["1"]


def test_the_switch() -> None:
    code = f"import sys; {ASKED}; print('tinygrad_kr.native' in sys.modules)"
    assert in_a_process(code, TINYGRAD_KR_PRODUCTS="numpy").split() == ["False", "True", "False"]


def test_a_word_that_the_switch_does_not_know(
    monkeypatch: pytest.MonkeyPatch, afresh: None
) -> None:
    monkeypatch.setenv("TINYGRAD_KR_PRODUCTS", "blas")
    with pytest.raises(
        ValueError, match=r"TINYGRAD_KR_PRODUCTS: expected .*'numpy', 'c', .* got 'blas'"
    ):
        products.gemm(normal(200, 200), normal(200, 200))


def test_without_a_compiler(tmp_path: Any) -> None:
    hide = "import sys; sys.modules['ziglang'] = None; import importlib.util as u\n"
    hide += "known = u.find_spec; u.find_spec = lambda n: None if n == 'ziglang' else known(n)\n"
    environment = {"PATH": "", "CC": "", "TINYGRAD_KR_CACHE": str(tmp_path)}
    assert in_a_process(hide + ASKED, **environment) == "False True"


def test_a_compiler_that_fails(tmp_path: Any) -> None:
    program = tmp_path / "cc"
    program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    program.chmod(0o700)
    environment = {"PATH": "", "CC": str(program), "TINYGRAD_KR_CACHE": str(tmp_path / "cache")}
    hide = "import importlib.util as u\n"
    hide += "known = u.find_spec; u.find_spec = lambda n: None if n == 'ziglang' else known(n)\n"
    assert in_a_process(hide + ASKED, **environment) == "False True"


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps users apart itself")
def test_a_cache_that_others_may_write_to(tmp_path: Any) -> None:
    folder = tmp_path / "compile"
    folder.mkdir()
    folder.chmod(0o777)
    assert in_a_process(ASKED, TINYGRAD_KR_CACHE=str(tmp_path)) == "False True"


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    without_our_products(monkeypatch)
    a = normal(200, 200)
    np.testing.assert_array_equal(products.gemm(a, a), a.dot(a))
    assert products._product(a.dtype, False) is None


# ------------------------------------------------------------------ threads and processes


def test_threads_look_for_work_longer_than_in_compiled_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[str] = []

    def build(source: str, headers: dict[str, str], level: tuple[str, ...]) -> None:
        given.append(source + headers["threads.h"])
        raise BuildError("a trial")

    monkeypatch.setattr(kernels, "has_kernels", lambda: True)
    monkeypatch.setattr(kernels, "build", build)
    assert kernels.eager_kernels() is None
    longer, briefly = map(int, re.findall("#define TK_SPINS ([0-9]+)", given[0]))
    assert longer == kernels.SPINS == 10 * briefly


@needs_c
def test_several_python_threads(afresh: None) -> None:
    a, b = normal(150, 200), normal(200, 160)
    found: list[ndarray] = []

    def work(_: int) -> None:
        found.extend(products.gemm(a, b) for _ in range(50))

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, range(3)))
    assert len(found) == 150
    for each in found:
        np.testing.assert_array_equal(each, found[0])
    close(found[0], a, b)


@needs_c
@needs_fork
def test_a_child_process_has_helpers_of_its_own() -> None:
    code = (
        "import os, threading\n"
        "b = np.concatenate([a, a]); first = products.gemm(b, a)\n"
        "stop = []\n"
        "def work():\n"
        "    while not stop: products.gemm(b, a)\n"
        "thread = threading.Thread(target=work); thread.start()\n"
        "codes = []\n"
        "for _ in range(20):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os._exit(not all((products.gemm(b, a) == first).all() for _ in range(20)))\n"
        "    codes.append(os.waitpid(child, 0)[1])\n"
        "stop.append(1); thread.join(); print(codes)"
    )
    warned = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n"
    cores = {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": ""}
    assert in_a_process(warned + code, **cores) == str([0] * 20)
