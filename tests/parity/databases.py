"""PyTorch's own test samples, run through ours: one report for every operator that both have.

`python tests/parity/databases.py [name ...]` prints a table: operator, samples, agree, differ.

The samples are those of `torch.testing._internal.common_methods_invocations.op_db`. A function of
ours with an operator's name is compared from then on; `ADAPTED` holds those called differently.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch.testing._internal.common_methods_invocations import op_db

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor

TOLERANCE = {np.dtype("float64"): 1e-9, np.dtype("float32"): 2e-5}
"""Allowed difference, as a share of the array's largest number and of the number itself."""
MODES = (torch.float64, torch.float32, torch.int64, torch.bool)
"""Samples of integers and booleans are compared by value alone."""
COMPILED_SAMPLES = 6
"""Samples of an operator that go into its one compiled function, spread over all of them."""

# ------------------------------------------------------------------ the table of names

ADAPTED: dict[str, Callable[..., Any]] = {
    "einsum": lambda tensors, equation: tk.einsum(equation, *tensors),
    "linalg.lstsq.grad_oriented": lambda a, b, driver: tk.linalg.lstsq(a, b)[:2],
    "linalg.pinv.singular": lambda a, b: tk.linalg.pinv(a @ b.mT),
    "nn.functional.embedding": lambda w, i, **options: F.embedding(i, w, **options),
    "where": lambda x, condition, other: tk.where(condition, x, other),
    "zero_": lambda x: x.clone().zero_(),
}
"""Operators whose database entry calls something else than the function of that name."""

RANDOM = {
    *("bernoulli", "empty", "empty_like", "nn.functional.dropout"),
    *("rand_like", "randint", "randn", "randn_like"),
}
"""Operators that draw numbers, or leave them open: shapes and dtypes are compared."""


def title(info: Any) -> str:
    """The name of an operator and of its variant: `div.floor_rounding`."""
    return f"{info.name}.{info.variant_test_name}" if info.variant_test_name else str(info.name)


def function_named(name: str) -> Callable[..., Any] | None:
    """Ours for a name of PyTorch's: a function of `tk`, `tk.linalg` or `F`, else a method."""
    *path, last = name.split(".")
    home: Any = F if path == ["nn", "functional"] else tk
    for part in path if home is tk else ():
        home = getattr(home, part, None)
    found = getattr(home, last, None)
    if found is None and not path:
        found = getattr(Tensor, last, None)
        if isinstance(found, property):
            return found.fget
    return found if callable(found) else None


@cache
def operators() -> dict[str, tuple[Any, Callable[..., Any]]]:
    """PyTorch's record and our function, of each operator that both have."""
    found = {}
    for info in op_db:
        names = [info.name, *(alias.name for alias in info.aliases)]
        candidates = [ADAPTED.get(title(info)), *map(function_named, names)]
        ours = next((one for one in candidates if one is not None), None)
        if ours is not None:
            found[title(info)] = info, ours
    return found


# ------------------------------------------------------------------ arguments


class Unsupported(Exception):
    """An argument of a kind that we do not have; its text is the kind."""


DTYPES = {
    getattr(torch, name): np.dtype(name)
    for name in (
        *("float16", "float32", "float64", "bool", "uint8"),
        *("int8", "int16", "int32", "int64"),
    )
}


def ours_of(value: Any) -> Any:
    """A static argument as we take it: dtypes are NumPy's."""
    if isinstance(value, torch.dtype):
        if value not in DTYPES:
            raise Unsupported("complex" if value.is_complex else str(value))
        return DTYPES[value]
    if isinstance(value, complex):
        raise Unsupported("complex")
    if isinstance(value, torch.memory_format | torch.layout | torch.device | torch.Generator):
        raise Unsupported(type(value).__name__)
    return value


def rebuilt(value: Any, leaf: Callable[[Any], Any], static: Callable[[Any], Any]) -> Any:
    """The arguments again, with other tensors and other static values."""
    if isinstance(value, torch.Tensor):
        return leaf(value)
    if isinstance(value, slice):
        return slice(*(rebuilt(v, leaf, static) for v in (value.start, value.stop, value.step)))
    if isinstance(value, dict):
        return {key: rebuilt(item, leaf, static) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [rebuilt(item, leaf, static) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return static(value)


def tensors_of(value: Any) -> list[torch.Tensor]:
    """The distinct tensors among arguments, in order."""
    found: dict[int, torch.Tensor] = {}
    rebuilt(value, lambda t: found.setdefault(id(t), t), lambda v: v)
    return list(found.values())


def array_of(tensor: torch.Tensor) -> ndarray:
    """A copy with the layout of the tensor."""
    if tensor.is_complex():
        raise Unsupported("complex")
    if tensor.layout != torch.strided:
        raise Unsupported("sparse")
    if tensor.dtype not in DTYPES:
        raise Unsupported(str(tensor.dtype))
    return np.array(tensor.detach().resolve_neg().numpy(), order="K", copy=True)


class Sample:
    """One call of the database: its arguments, for PyTorch and for us."""

    def __init__(self, sample: Any) -> None:
        self.given = ((sample.input, *sample.args), dict(sample.kwargs))
        self.after = sample.output_process_fn_grad or (lambda output: output)
        self.tensors = tensors_of(self.given)
        self.leaves = [
            i for i, t in enumerate(self.tensors) if t.requires_grad and t.is_floating_point()
        ]
        device = self.given[1].pop("device", None)
        if device is not None and str(device) != "cpu":
            raise Unsupported("device")

    def with_tensors(self, tensors: list[Any], static: Callable[[Any], Any]) -> Any:
        """Positional and keyword arguments, with these in place of the tensors."""
        numbers = {id(t): i for i, t in enumerate(self.tensors)}
        return rebuilt(self.given, lambda t: tensors[numbers[id(t)]], static)

    def __str__(self) -> str:
        def short(t: torch.Tensor) -> str:
            return f"{str(t.dtype).removeprefix('torch.')}{tuple(t.shape)}"

        args, kwargs = rebuilt(self.given, short, lambda v: v)
        words = [*map(str, args), *(f"{key}={value}" for key, value in kwargs.items())]
        return ", ".join(words)


# ------------------------------------------------------------------ one call in two libraries


def flat(value: Any) -> list[Any]:
    """The arrays and numbers of a result, in order."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in flat(item)]
    if isinstance(value, tuple | list) and not isinstance(value, torch.Size):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


def numbers_of(value: Any) -> Any:
    """A result as an array; a plain number, dtype or shape as it is."""
    if isinstance(value, torch.Tensor | Tensor):
        return np.array(value.detach().resolve_neg().numpy() if torch.is_tensor(value) else value.data)
    return np.asarray(value) if isinstance(value, ndarray | np.generic) else value


def random_like(value: Any, kind: int, number: int) -> ndarray:
    """The same numbers for both libraries: by shape, use and place."""
    generator = np.random.default_rng([kind, number])
    return np.asarray(generator.standard_normal(tuple(value.shape)))


class Library:
    """PyTorch or ours, as far as a comparison calls it."""

    def __init__(self, name: str, make: Callable[..., Any], static: Callable[[Any], Any]) -> None:
        self.name, self.make, self.static = name, make, static
        self.module: Any = torch if name == "PyTorch" else tk

    def is_float(self, value: Any) -> bool:
        if self.module is torch:
            return torch.is_tensor(value) and value.is_floating_point()
        return isinstance(value, Tensor) and value.dtype.kind == "f"

    def like(self, value: Any, kind: int, number: int) -> Any:
        return self.make(random_like(value, kind, number), value.dtype)


PYTORCH = Library("PyTorch", lambda a, dtype: torch.tensor(a, dtype=dtype), lambda v: v)
OURS = Library("ours", lambda a, dtype: Tensor(a.astype(dtype)), ours_of)


class Calls:
    """A function on one sample, with its derivatives; `arrays` are the tensors' numbers."""

    def __init__(
        self, library: Library, function: Callable[..., Any], sample: Sample, tensors: list[Any]
    ) -> None:
        self.library, self.function, self.sample = library, function, sample
        self.tensors = tensors

    @property
    def leaves(self) -> list[Any]:
        return [self.tensors[i] for i in self.sample.leaves]

    def outputs(self, tensors: list[Any]) -> list[Any]:
        args, kwargs = self.sample.with_tensors(tensors, self.library.static)
        return flat(self.sample.after(self.function(*args, **kwargs)))

    def values(self) -> list[Any]:
        return [numbers_of(one) for one in self.outputs(self.tensors)]

    def gradients(self, outputs: list[Any], leaves: list[Any], graph: bool) -> list[Any]:
        """Of the outputs' sum, each times random numbers; None where none depends on a leaf."""
        chosen = {
            i: one
            for i, one in enumerate(outputs)
            if self.library.is_float(one) and one.requires_grad
        }
        if not chosen or not leaves:
            return [None] * len(leaves)
        weights = [self.library.like(one, 1 + graph, i) for i, one in chosen.items()]
        return list(
            self.library.module.autograd.grad(
                list(chosen.values()), leaves, weights, create_graph=graph, allow_unused=True
            )
        )

    def arrays(self, gradients: list[Any], leaves: list[Any]) -> list[ndarray]:
        """Zeros where there is no gradient."""
        return [
            np.zeros(tuple(leaf.shape), str(leaf.dtype).removeprefix("torch."))
            if g is None
            else numbers_of(g)
            for g, leaf in zip(gradients, leaves, strict=True)
        ]

    def first(self) -> list[ndarray]:
        leaves = self.leaves
        return self.arrays(self.gradients(self.outputs(self.tensors), leaves, False), leaves)

    def second(self) -> list[ndarray]:
        leaves = self.leaves
        once = self.gradients(self.outputs(self.tensors), leaves, True)
        return self.arrays(self.gradients(once, leaves, False), leaves)

    def forward(self) -> list[ndarray]:
        """Derivatives along random directions, of the outputs that are floats."""
        directions = [self.library.like(leaf, 3, i) for i, leaf in enumerate(self.leaves)]
        if self.library.module is torch:
            return self._forward_torch(directions)

        def function(*leaves: Any) -> list[Any]:
            tensors = list(self.tensors)
            for i, leaf in zip(self.sample.leaves, leaves, strict=True):
                tensors[i] = leaf
            return [one for one in self.outputs(tensors) if OURS.is_float(one)]

        found = tk.jvp(function, tuple(self.leaves), tuple(directions))[1]
        return [numbers_of(one) for one in found]

    def _forward_torch(self, directions: list[Any]) -> list[ndarray]:
        forward_ad = torch.autograd.forward_ad
        tensors = [t.detach() for t in self.tensors]
        with forward_ad.dual_level():
            for i, direction in zip(self.sample.leaves, directions, strict=True):
                tensors[i] = forward_ad.make_dual(tensors[i], direction)
            outputs = [one for one in self.outputs(tensors) if PYTORCH.is_float(one)]
            pairs = [forward_ad.unpack_dual(one) for one in outputs]
            return [
                numbers_of(torch.zeros_like(pair.primal) if pair.tangent is None else pair.tangent)
                for pair in pairs
            ]


def torch_calls(info: Any, sample: Sample, widened: bool = False) -> Calls:
    """PyTorch's; widened: in float64, from the numbers that a float32 sample holds."""
    tensors = [
        t.detach().double().requires_grad_(t.requires_grad)
        if widened and t.dtype == torch.float32
        else t
        for t in sample.tensors
    ]
    return Calls(PYTORCH, wrapped(info, info.op), sample, tensors)


def our_calls(info: Any, function: Callable[..., Any], sample: Sample) -> Calls:
    tensors = [
        Tensor(array_of(t), requires_grad=i in sample.leaves) for i, t in enumerate(sample.tensors)
    ]
    return Calls(OURS, wrapped(info, function), sample, tensors)


def wrapped(info: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """As the database differentiates it: of a symmetric matrix where the function expects one."""
    wrapper = info.gradcheck_wrapper
    if not wrapper.__name__.startswith("gradcheck_wrapper"):
        return function
    return lambda *args, **kwargs: wrapper(function, *args, **kwargs)


# ------------------------------------------------------------------ what agrees


def difference(
    found: Any, expected: Any, truth: Any, open_values: bool = False, factor: float = 1.0
) -> str:
    """In words, how a result differs; '' where it does not.

    truth: PyTorch's result in float64. An error in float32 may be as large as PyTorch's own.
    """
    if not isinstance(expected, ndarray):
        if isinstance(found, ndarray):
            return f"an array for {expected!r}"
        same = found == expected and isinstance(found, bool) == isinstance(expected, bool)
        close = isinstance(expected, float) and np.allclose(found, expected, 1e-5, equal_nan=True)
        return "" if same or close or open_values else f"{found!r} for {expected!r}"
    if not isinstance(found, ndarray):
        return f"{type(found).__name__} for an array"
    if found.shape != expected.shape:
        return f"shape {found.shape} for {expected.shape}"
    if found.dtype != expected.dtype:
        return f"dtype {found.dtype} for {expected.dtype}"
    if open_values:
        return ""
    if found.dtype.kind != "f":
        wrong = found != expected
        return f"{found[wrong][0]} for {expected[wrong][0]}" if wrong.any() else ""
    with np.errstate(all="ignore"):
        exact = truth.astype(np.float64)
        finite = np.abs(exact[np.isfinite(exact)])
        tolerance = TOLERANCE.get(found.dtype, 1e-2) * factor
        allowed = tolerance * (finite.max(initial=0) + np.abs(exact)) + 4 * np.abs(
            expected - exact
        )
        wrong = ~(np.abs(found - exact) <= allowed) & ~(found == expected)
        wrong &= ~(np.isnan(found) & np.isnan(expected))
    if not wrong.any():
        return ""
    return f"{found[wrong][0]} for {expected[wrong][0]} ({wrong.sum()} of {wrong.size})"


CHECKS = {"value": Calls.values, "first": Calls.first, "second": Calls.second, "jvp": Calls.forward}
"""What is compared, in its order: the later ones are not where an earlier one differs."""


def has(info: Any, check: str) -> bool:
    """Whether PyTorch has this derivative of an operator."""
    if check == "second":
        return info.supports_autograd and info.supports_gradgrad
    return info.supports_autograd if check == "first" else info.supports_forward_ad


@dataclass
class Report:
    """What came of the samples of an operator."""

    samples: int = 0
    agree: int = 0
    unsupported: Counter[str] = field(default_factory=Counter)
    differences: list[tuple[str, str]] = field(default_factory=list)
    """Of each sample that differs: the check, and the sample with what differs."""


def compared(info: Any, function: Callable[..., Any], sample: Sample) -> tuple[str, str] | None:
    """The first check of a sample that differs, and how."""
    theirs, ours = torch_calls(info, sample), our_calls(info, function, sample)
    single = any(t.dtype == torch.float32 for t in sample.tensors)
    exact = torch_calls(info, sample, widened=True) if single else theirs
    for check, run in CHECKS.items():
        if check != "value" and not (sample.leaves and has(info, check)):
            continue
        if check != "value" and info.name in RANDOM:
            continue
        try:
            expected = run(theirs)
            truth = run(exact) if single else expected
        except (RuntimeError, NotImplementedError, IndexError, ValueError, TypeError) as error:
            if check == "value":
                raise Unsupported(f"PyTorch raises: {type(error).__name__}") from error
            continue
        try:
            with np.errstate(all="ignore"):
                found = run(ours)
        except Unsupported:
            raise
        except Exception as error:
            return check, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        if len(found) != len(expected):
            return check, f"{len(found)} results for {len(expected)}"
        for one in zip(found, expected, truth, strict=True):
            words = difference(*one, info.name in RANDOM, 10.0 if check == "second" else 1.0)
            if words:
                return check, words
    return None


def samples_of(info: Any, dtype: Any) -> Iterator[Any]:
    """PyTorch's samples of a dtype, the same at each call."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 some of the samples draw from it
    differentiable = dtype.is_floating_point and info.supports_autograd
    yield from info.sample_inputs("cpu", dtype, requires_grad=differentiable)


def report_on(name: str) -> Report:
    """All samples of an operator, compared."""
    info, function = operators()[name]
    report = Report()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for dtype in MODES:
            if dtype not in info.dtypes:
                continue
            for i, given in enumerate(samples_of(info, dtype)):
                report.samples += 1
                try:
                    sample = Sample(given)
                    differs = compared(info, function, sample)
                except Unsupported as kind:
                    report.unsupported[str(kind)] += 1
                    continue
                if differs is None:
                    report.agree += 1
                    continue
                check, words = differs
                where = f"{str(dtype).removeprefix('torch.')} {check}"
                report.differences.append((where, f"{i}: {name}({sample}): {words}"))
    return report


def main() -> None:
    """The table, and with --differences each sample that differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="operators; all by default")
    parser.add_argument("--differences", action="store_true", help="print what differs")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    print(f"{'operator':45}{'samples':>9}{'agree':>9}{'differ':>9}  unsupported")
    for name in options.names or operators():
        start = time.perf_counter()
        report = report_on(name)
        kinds = ", ".join(f"{kind} {count}" for kind, count in report.unsupported.items())
        differ = len(report.differences)
        seconds = time.perf_counter() - start
        print(f"{name:45}{report.samples:9}{report.agree:9}{differ:9}  {kinds} {seconds:.1f}", flush=True)
        if options.differences:
            for where, words in report.differences:
                print(f"    {where}: {words}")
        total.update(samples=report.samples, agree=report.agree, differ=differ)
        total.update(report.unsupported)
    print(dict(total))


if __name__ == "__main__":
    sys.exit(main())
