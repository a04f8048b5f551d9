"""DLPack: memory that is shared with other libraries, and what cannot be shared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_kr as tk
from tinygrad_kr import Tensor

DTYPES = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"]
VERSIONS = np.lib.NumpyVersion(np.__version__) >= "2.1.0"
"""Whether NumPy exports a version of DLPack that marks read-only memory."""


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_shares_the_memory_both_ways(dtype: str) -> None:
    tensor = Tensor(np.arange(6).reshape(2, 3).astype(dtype))
    array = np.from_dlpack(tensor)
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, tensor.data)
    assert np.shares_memory(array, tensor.data)
    back = tk.from_dlpack(tensor)
    assert back.dtype == dtype and np.shares_memory(back.data, tensor.data)
    assert not back.requires_grad and back.is_leaf
    tensor.data[1, 2] = 0
    assert array[1, 2] == back.data[1, 2] == 0


@pytest.mark.parametrize(
    "layout",
    [
        lambda a: a.T,
        lambda a: a[:, ::-2],
        lambda a: a[1],
        lambda a: a[:0],
        lambda a: a[1, 1, ...],
    ],
    ids=["transposed", "stepped back", "row", "empty", "0-d"],
)
def test_any_layout_is_shared(layout: Any) -> None:
    array = layout(np.arange(12.0).reshape(3, 4))
    for found in (np.from_dlpack(Tensor(array)), tk.from_dlpack(array).data):
        assert (found.shape, found.strides) == (array.shape, array.strides)
        assert found.size == 0 or np.shares_memory(found, array)


def test_a_tensor_that_requires_grad_names_detach() -> None:
    leaf = tk.tensor([1.0], requires_grad=True)
    for tensor in (leaf, leaf * 2):
        for consume in (np.from_dlpack, tk.from_dlpack, Tensor.__dlpack__):
            with pytest.raises(BufferError, match=r"requires grad.*\.detach\(\)"):
                consume(tensor)
        with tk.no_grad(), pytest.raises(BufferError):
            tensor.__dlpack__()
        assert np.shares_memory(np.from_dlpack(tensor.detach()), tensor.data)


def test_it_is_on_the_cpu_alone() -> None:
    tensor = tk.tensor([1.0])
    assert tensor.__dlpack_device__() == (1, 0)
    assert tensor.__dlpack__(dl_device=(1, 0)) is not None
    with pytest.raises(BufferError, match=r"__dlpack__: expected the CPU, \(1, 0\), got \(2, 0\)"):
        tensor.__dlpack__(dl_device=(2, 0))
    with pytest.raises(RuntimeError, match="__dlpack__: expected no stream, got 1"):
        tensor.__dlpack__(stream=1)  # type: ignore[arg-type]


class OnGpu:
    """An array of another device."""

    def __dlpack__(self, **options: Any) -> Any:
        raise AssertionError("read")

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 1)


def test_memory_of_another_device_is_refused() -> None:
    with pytest.raises(BufferError, match=r"from_dlpack: expected memory of the CPU, got.*\(2, 1"):
        tk.from_dlpack(OnGpu())
    with pytest.raises(ValueError, match="from_dlpack: expected the device 'cpu' or None, got 'cu"):
        tk.from_dlpack(np.ones(1), device="cuda")
    assert tk.from_dlpack(np.ones(1), device="cpu").shape == (1,)


def test_a_copy_has_its_own_memory() -> None:
    array = np.arange(3.0)
    assert np.shares_memory(tk.from_dlpack(array, copy=False).data, array)
    assert not np.shares_memory(tk.from_dlpack(array, copy=True).data, array)


class Consumer:
    """Hands `__dlpack__` to NumPy with the arguments of a caller."""

    def __init__(self, tensor: Tensor, **options: Any) -> None:
        self.tensor, self.options = tensor, options

    def __dlpack__(self, **ignored: Any) -> Any:
        return self.tensor.__dlpack__(**self.options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_the_producer_copies_where_a_copy_is_demanded() -> None:
    tensor = tk.tensor([1.0, 2.0])
    for copy in (None, False, True):
        array = np.from_dlpack(Consumer(tensor, copy=copy))
        assert np.shares_memory(array, tensor.data) == (copy is not True)


@pytest.mark.skipif(not VERSIONS, reason="needs NumPy 2.1, whose DLPack marks read-only memory")
def test_a_consumer_that_says_nothing_of_a_copy_gets_no_negative_strides() -> None:
    """PyTorch, whose process would end."""
    array = np.arange(12.0).reshape(3, 4)
    for layout in (array[::-1], array[:, ::-2], array[2, ::-1], array[:0, ::-1]):
        tensor = Tensor(layout)
        found = np.from_dlpack(Consumer(tensor, max_version=(1, 0)))
        assert min(found.strides) >= 0 and not np.shares_memory(found, array)
        np.testing.assert_array_equal(found, layout)
        assert np.from_dlpack(tensor).strides == layout.strides
    for layout in (array.T, array[:, ::2], array[1, 1, ...]):
        assert np.shares_memory(np.from_dlpack(Consumer(Tensor(layout))), array)


def read_only() -> np.ndarray:
    array = np.arange(3.0)
    array.flags.writeable = False
    return array


def test_read_only_memory_needs_a_version_that_says_so_or_a_copy() -> None:
    tensor = Tensor(read_only())
    for version in (None, (0, 8)):
        with pytest.raises((BufferError, ValueError), match="readonly"):  # NumPy's own
            tensor.__dlpack__(max_version=version)
    array = np.from_dlpack(Consumer(tensor, copy=True))
    np.testing.assert_array_equal(array, tensor.data)


@pytest.mark.skipif(not VERSIONS, reason="needs NumPy 2.1, whose DLPack marks read-only memory")
def test_read_only_memory_stays_read_only() -> None:
    array = read_only()
    tensor = tk.from_dlpack(array)
    assert np.shares_memory(tensor.data, array)
    assert not tensor.data.flags.writeable
    assert not np.from_dlpack(tensor).flags.writeable
    assert np.from_dlpack(tk.tensor([1.0])).flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        tensor[0] = 1.0


@pytest.mark.parametrize("dtype", [">f8", "longdouble"])
def test_what_numpy_does_not_export_is_a_buffer_error(dtype: str) -> None:
    array = np.ones(2, dtype)
    if array.dtype.isnative and array.itemsize == 8:
        pytest.skip("long double is no longer here")
    for consume in (np.from_dlpack, tk.from_dlpack):
        with pytest.raises(BufferError):
            consume(Tensor(array))


def test_what_is_no_array_of_real_numbers_is_refused() -> None:
    with pytest.raises(TypeError, match="from_dlpack: expected an array with __dlpack__, got list"):
        tk.from_dlpack([1.0])
    with pytest.raises(TypeError, match="expected real numbers, got complex ones"):
        tk.from_dlpack(np.ones(2, complex))


def test_a_compiled_function_reads_the_memory_of_each_call() -> None:
    @tk.compile
    def imported(a: np.ndarray) -> Tensor:
        return tk.from_dlpack(a) * 2

    @tk.compile
    def exported(t: Tensor) -> Any:
        return t * float(np.from_dlpack(t * 1).sum())

    for i in (1.0, 2.0, 3.0, 4.0):
        assert imported(np.array([i])).item() == 2 * i
        assert exported(tk.tensor([i])).item() == i * i
    assert "from_dlpack" in imported.explain()
    assert "__dlpack__" in exported.explain()
