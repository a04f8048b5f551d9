"""PyTorch's own test samples, run through ours: one report for every operator that both have.

`python tests/parity/databases.py [name ...]` prints a table: operator, samples, agree, differ.

The samples are those of `torch.testing._internal.common_methods_invocations.op_db`. A function of
ours with an operator's name is compared from then on; `ADAPTED` holds those called differently.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
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
from tinygrad_kr.compile import Compiled

# A difference may be as large as what rounding does to the sample, and no larger. PyTorch shows how
# much that is: each call is repeated in the other of float32 and float64, from the same numbers.
# - The largest difference is the error in float32, in proportion to the condition of the sample. In
#   float64 the error is the share eps(float64) / eps(float32). `ERRORS`: algorithms differ.
# - Both precisions may agree by chance: hence `ROUNDINGS` times eps of the array's largest number.
#   Terms of a derivative may cancel: hence also of the largest number of the results before it.
ERRORS = 8
"""Allowed: times PyTorch's own largest error."""
ROUNDINGS = 32
"""Allowed besides: times eps times the sizes above."""
MODES = (torch.float64, torch.float32, torch.int64, torch.bool)
"""Samples of integers and booleans are compared by value alone."""
GROUP = 16
"""Samples of an operator that one compiled function computes, one after the other."""
MOST_COMPILED = {torch.float64: 16, torch.float32: 4}
"""Of an operator with more samples than these, every n-th is compiled; all of them by `--every`."""

KINDS = {
    *("complex", "sparse", "device", "memory_format", "layout", "Generator", "torch.bfloat16"),
    "dropout",
    *("compiled: run as written", "PyTorch raises, value", "PyTorch raises, first"),
    *("PyTorch raises, second", "PyTorch raises, jvp"),
}
"""Why samples, or parts of their comparison, may be left out. Each is counted."""

# ------------------------------------------------------------------ the table of names


def least_squares(a: Any, b: Any, driver: str) -> list[Any]:
    """PyTorch's: the singular values have no gradient."""
    *parts, values = tk.linalg.lstsq(a, b, driver=driver)
    return [*parts, values.detach()]


ADAPTED: dict[str, Callable[..., Any]] = {
    "einsum": lambda tensors, equation: tk.einsum(equation, *tensors),
    "equal": np.array_equal,
    "linalg.lstsq": least_squares,
    "linalg.lstsq.grad_oriented": lambda *given, **options: least_squares(*given, **options)[:2],
    "linalg.pinv.singular": lambda a, b: tk.linalg.pinv(a @ b.mT),
    "nn.functional.embedding": lambda w, i, **options: F.embedding(i, w, **options),
    "nn.functional.embedding_bag": lambda w, i, **options: F.embedding_bag(i, w, **options),
    "nn.functional.ctc_loss": lambda log_probs, *given, **options: F.ctc_loss(
        F.log_softmax(log_probs, 2),
        *given,
        **options,  # PyTorch's gradient is that of the logits
    ),
    "nn.functional.gaussian_nll_loss": lambda input, target, *given, **options: F.gaussian_nll_loss(
        input, tk.broadcast_to(target, input.shape), *given, **options
    ),
    "where": lambda x, condition, other: tk.where(condition, x, other),
    "zero_": lambda x: x.detach().clone().zero_(),
}
"""Operators whose database entry calls something else than the function of that name."""

RANDOM = {
    *("bernoulli", "empty", "empty_like", "nn.functional.dropout"),
    *("nn.functional.dropout2d", "nn.functional.multi_head_attention_forward"),
    *("multinomial", "normal", "normal.number_mean", "rand_like", "randint", "randint_like"),
    *("randn", "randn_like"),
}
"""Operators that draw numbers, or leave them open: shapes and dtypes are compared."""


LONG = {"nn.functional.ctc_loss", "CTCLoss"}
"""Recurrences of 50 steps: their code is long. `test_compile_layers.py` compiles short ones."""
NEVER_COMPILED = RANDOM | LONG | {"item", "tolist", "equal", "allclose"}
"""Operators whose result is not an array of numbers known from the arguments, and `LONG` ones."""


def title(info: Any) -> str:
    """The name of an operator and of its variant: `div.floor_rounding`."""
    return f"{info.name}.{info.variant_test_name}" if info.variant_test_name else str(info.name)


def function_named(name: str) -> Callable[..., Any] | None:
    """Our function of a name of PyTorch's: of `tk`, `tk.linalg`, `F` ..."""
    *path, last = name.split(".")
    home: Any = F if path == ["nn", "functional"] else tk
    for part in path if home is tk else ():
        home = getattr(home, part, None)
    found = getattr(home, last, None)
    return found if callable(found) else None


def method_named(name: str) -> Callable[..., Any] | None:
    """Our method or property of that name, as a function of the Tensor."""
    found = getattr(Tensor, name, None)
    return found.fget if isinstance(found, property) else found


@dataclass
class Entry:
    """What is compared: an operator, or a layer."""

    name: str
    cases: Callable[[torch.dtype], Iterator[Case]]
    """Of a dtype: PyTorch's samples, each with the functions to call."""
    dtypes: Container[torch.dtype]
    derivatives: Container[str]
    """Which of the checks PyTorch can make."""
    open_values: bool = False
    never_compiled: bool = False
    most_compiled: Mapping[torch.dtype, int] = field(default_factory=lambda: MOST_COMPILED)
    group: int = GROUP
    compiled_order: int = 2
    """Of the derivatives in compiled functions."""


@dataclass
class Case:
    """A sample, PyTorch's function, and ours; then our other forms of it."""

    given: Any
    theirs: Callable[..., Any]
    ours: Callable[..., Any]
    methods: list[Callable[..., Any]] = field(default_factory=list)


def operator(info: Any, ours: Callable[..., Any], methods: list[Callable[..., Any]]) -> Entry:
    """The entry of an operator of the database."""
    derivatives = {"first": info.supports_autograd, "jvp": info.supports_forward_ad}
    derivatives["second"] = info.supports_autograd and info.supports_gradgrad

    def cases(dtype: torch.dtype) -> Iterator[Case]:
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 some of the samples draw from it
        differentiable = dtype.is_floating_point and info.supports_autograd
        for given in info.sample_inputs("cpu", dtype, requires_grad=differentiable):
            yield Case(given, wrapped(info, info.op), wrapped(info, ours), methods)

    return Entry(
        title(info),
        cases,
        info.dtypes,
        [check for check, exists in derivatives.items() if exists and title(info) not in RANDOM],
        title(info) in RANDOM,
        title(info) in NEVER_COMPILED,
    )


@cache
def operators() -> dict[str, Entry]:
    """Each operator that both have."""
    found = {}
    for info in op_db:
        names = [info.name, *(alias.name for alias in info.aliases)]
        functions = [ADAPTED.get(title(info)), *map(function_named, names)]
        methods = [method_named(name) for name in names if "." not in name]
        forms = [
            next(filter(None, functions), None),
            None if title(info) in ADAPTED else next(filter(None, methods), None),
        ]
        ours, *others = [*filter(None, forms), None]
        if ours is not None:
            found[title(info)] = operator(info, ours, [one for one in others if one is not None])
    return found


def wrapped(info: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    """As the database differentiates it: of a symmetric matrix where the function expects one."""
    wrapper = info.gradcheck_wrapper
    if not wrapper.__name__.startswith("gradcheck_wrapper"):
        return function
    return lambda *args, **kwargs: wrapper(function, *args, **kwargs)


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


@dataclass(frozen=True)
class Slot:
    """The place of a sample's tensor in its arguments."""

    number: int


def rebuilt(value: Any, leaf: Callable[[Any], Any], static: Callable[[Any], Any]) -> Any:
    """The arguments again, with other tensors or slots, and other static values."""
    return mapped(value, lambda v: leaf(v) if isinstance(v, torch.Tensor | Slot) else static(v))


def filled(value: Any, tensors: list[Any]) -> Any:
    """The arguments with these tensors in their slots. The compiler follows it."""
    return mapped(value, lambda v: tensors[v.number] if isinstance(v, Slot) else v)


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Arguments with a function applied to all that is no container."""
    if isinstance(value, slice):
        return slice(*(mapped(v, function) for v in (value.start, value.stop, value.step)))
    if isinstance(value, dict):
        return {key: mapped(item, function) for key, item in value.items()}
    if isinstance(value, tuple | list):
        items = [mapped(item, function) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return function(value)


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
    return np.array(tensor.numpy(force=True), order="K", copy=True)


class Sample:
    """One call of the database: its arguments, for PyTorch and for us."""

    def __init__(self, sample: Any) -> None:
        given = ((sample.input, *sample.args), dict(sample.kwargs))
        self.after = sample.output_process_fn_grad or (lambda output: output)
        self.tensors = tensors_of(given)
        slots = {id(t): Slot(i) for i, t in enumerate(self.tensors)}
        self.given = rebuilt(given, lambda t: slots[id(t)], lambda v: v)
        self.leaves = [
            i for i, t in enumerate(self.tensors) if t.requires_grad and t.is_floating_point()
        ]
        self.single = any(t.dtype == torch.float32 for t in self.tensors)
        device = self.given[1].pop("device", None)
        if device is not None and str(device) != "cpu":
            raise Unsupported("device")
        if self.given[1].get("dropout_p"):
            raise Unsupported("dropout")

    def __str__(self) -> str:
        def short(slot: Slot) -> str:
            t = self.tensors[slot.number]
            return f"{str(t.dtype).removeprefix('torch.')}{tuple(t.shape)}"

        args, kwargs = rebuilt(self.given, short, lambda v: v)
        words = [*map(str, args), *(f"{key}={value}" for key, value in kwargs.items())]
        return ", ".join(words)


# ------------------------------------------------------------------ one call in two libraries


def flat(value: Any) -> list[Any]:
    """The arrays and numbers of a result, in order."""
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in flat(item)]
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


def numbers_of(value: Any) -> Any:
    """A result as an array; a plain number or dtype as it is."""
    if isinstance(value, torch.Tensor | Tensor):
        return np.array(value.numpy(force=True) if torch.is_tensor(value) else value.data)
    return np.asarray(value) if isinstance(value, ndarray | np.generic) else value


def random_like(value: Any, kind: int, number: int) -> ndarray:
    """Irregular numbers, the same for both libraries and dtypes: by shape, use and place."""
    shape = tuple(value.shape)
    count = 1 + np.arange(np.prod(shape, dtype=int), dtype=np.float64)
    numbers = 1.5 * np.sin(12.9898 * count + 78.233 * kind + 3.7 * number)
    return numbers.astype(np.float32).astype(np.float64).reshape(shape)


class PyTorch:
    """PyTorch, as far as a comparison calls it."""

    module: Any = torch

    def is_float(self, value: Any) -> bool:
        return torch.is_tensor(value) and value.is_floating_point()

    def like(self, value: Any, kind: int, number: int) -> Any:
        return torch.tensor(random_like(value, kind, number), dtype=value.dtype)


class Ours:
    """Ours. The compiler follows this class, so that it names nothing of PyTorch's."""

    module: Any = tk

    def is_float(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.dtype.kind == "f"

    def like(self, value: Any, kind: int, number: int) -> Any:
        return Tensor(random_like(value, kind, number).astype(value.dtype))


PYTORCH, OURS = PyTorch(), Ours()


@dataclass
class Calls:
    """A function on one sample, with its derivatives.

    The compiler follows the methods that `everything` calls, and what they read.
    """

    library: PyTorch | Ours
    function: Callable[..., Any]
    given: Any
    """The arguments, with slots for the tensors."""
    leaf_numbers: list[int]
    after: Callable[[Any], Any]
    """Of a result, the part that is differentiated."""
    tensors: list[Any]
    shown: str

    @property
    def leaves(self) -> list[Any]:
        return [self.tensors[i] for i in self.leaf_numbers]

    def outputs(self, tensors: list[Any]) -> list[Any]:
        args, kwargs = filled(self.given, tensors)
        return flat(self.after(self.function(*args, **kwargs)))

    def evaluated(self) -> list[Any]:
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

    def everything(self, order: int) -> list[Any]:
        """Tensors, for the compiler: the outputs, and derivatives up to an order."""
        results = [self.outputs(self.tensors)]
        for i in range(order):
            results.append(self.gradients(results[-1], self.leaves, i + 1 < order))
        return [one.detach() if isinstance(one, Tensor) else one for one in flat(results)]

    def again(self, tensors: list[Any]) -> Calls:
        """The same call of ours on fresh leaves with these numbers."""
        fresh = [t.detach().requires_grad_(i in self.leaf_numbers) for i, t in enumerate(tensors)]
        return Calls(
            *(self.library, self.function, self.given, self.leaf_numbers, self.after),
            *(fresh, self.shown),
        )

    def forward(self) -> list[ndarray]:
        """Derivatives along random directions, of the outputs that are floats."""
        directions = [self.library.like(leaf, 3, i) for i, leaf in enumerate(self.leaves)]
        if self.library.module is torch:
            return self._forward_torch(directions)

        def function(*leaves: Any) -> list[Any]:
            tensors = list(self.tensors)
            for i, leaf in zip(self.leaf_numbers, leaves, strict=True):
                tensors[i] = leaf
            return [one for one in self.outputs(tensors) if OURS.is_float(one)]

        found = tk.jvp(function, tuple(self.leaves), tuple(directions))[1]
        return [numbers_of(one) for one in found]

    def _forward_torch(self, directions: list[Any]) -> list[ndarray]:
        forward_ad = torch.autograd.forward_ad
        tensors = [t.detach() for t in self.tensors]
        with forward_ad.dual_level():
            for i, direction in zip(self.leaf_numbers, directions, strict=True):
                tensors[i] = forward_ad.make_dual(tensors[i], direction)
            outputs = [one for one in self.outputs(tensors) if PYTORCH.is_float(one)]
            pairs = [forward_ad.unpack_dual(one) for one in outputs]
            return [
                numbers_of(torch.zeros_like(pair.primal) if pair.tangent is None else pair.tangent)
                for pair in pairs
            ]


def calls_of(
    library: PyTorch | Ours, function: Any, sample: Sample, given: Any, tensors: Any
) -> Calls:
    return Calls(library, function, given, sample.leaves, sample.after, tensors, str(sample))


def torch_calls(function: Callable[..., Any], sample: Sample) -> Calls:
    return calls_of(PYTORCH, function, sample, sample.given, sample.tensors)


OTHER = {torch.float32: torch.float64, torch.float64: torch.float32}


def torch_calls_otherwise(function: Callable[..., Any], sample: Sample) -> Calls:
    """PyTorch's in the other precision: in float64, or in float32 if the sample is in float64."""
    own = torch.float32 if sample.single else torch.float64
    tensors = [
        t.detach().to(OTHER[own]).requires_grad_(t.requires_grad) if t.dtype == own else t
        for t in sample.tensors
    ]
    return calls_of(PYTORCH, function, sample, sample.given, tensors)


def our_calls(function: Callable[..., Any], sample: Sample) -> Calls:
    tensors = [
        Tensor(array_of(t), requires_grad=i in sample.leaves) for i, t in enumerate(sample.tensors)
    ]
    given = rebuilt(sample.given, lambda slot: slot, ours_of)
    return calls_of(OURS, function, sample, given, tensors)


# ------------------------------------------------------------------ what agrees


@dataclass
class Expected:
    """Results to be found, and how precise they are."""

    results: list[Any]
    other: list[Any] | None = None
    """The results in the other precision, where they could be computed."""
    single: bool = False
    """Whether the other precision is the higher one."""
    size: float = 0.0
    """Of the terms of a derivative, which may cancel."""

    def pairs(self) -> list[tuple[Any, Any]]:
        """Each result with that in the other precision, or with None."""
        if self.other is None or len(self.other) != len(self.results):
            return [(one, None) for one in self.results]
        return list(zip(self.results, self.other, strict=True))

    def exact_and_error(self, result: ndarray, other: Any) -> tuple[ndarray, float]:
        """The more precise of two results, and the error that rounding makes in the first."""
        exact = result.astype(np.float64)
        if not isinstance(other, ndarray) or other.shape != result.shape:
            return exact, 0.0
        error = largest(other - exact)
        share = float(np.finfo(np.float64).eps / np.finfo(np.float32).eps)
        return (other.astype(np.float64), error) if self.single else (exact, error * share)

    def allowed(self, result: ndarray, other: Any) -> tuple[ndarray, ndarray]:
        """The numbers to be found, and how far off each may be."""
        exact, error = self.exact_and_error(result, other)
        sizes = max(largest(exact), self.size) + np.abs(exact)
        return exact, ERRORS * error + ROUNDINGS * np.finfo(result.dtype).eps * sizes


def difference(
    found: Any, expected: Any, other: Any, precision: Expected, open_values: bool = False
) -> str:
    """In words, how a result differs; '' where it does not."""
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
        exact, allowed = precision.allowed(expected, other)
        wrong = ~(np.abs(found - exact) <= allowed) & ~(found == expected)
        wrong &= ~(np.isnan(found) & np.isnan(expected))
    if not wrong.any():
        return ""
    return f"{found[wrong][0]} for {expected[wrong][0]} ({wrong.sum()} of {wrong.size})"


def floats_of(results: list[Any]) -> list[ndarray]:
    """The arrays of floats among results."""
    return [a for a in results if isinstance(a, ndarray) and a.dtype.kind == "f"]


def largest(array: ndarray) -> float:
    """The largest finite size among numbers; 0 if there is none."""
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))


CHECKS = {
    "value": Calls.evaluated,
    "first": Calls.first,
    "second": Calls.second,
    "jvp": Calls.forward,
}
"""What is compared, in its order: the later ones are not where an earlier one differs."""


@dataclass
class Report:
    """What came of the samples of an operator."""

    samples: int = 0
    agree: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    """How often each thing was compared."""
    unsupported: Counter[str] = field(default_factory=Counter)
    """Samples and derivatives that were not compared, by kind."""
    differences: dict[str, str] = field(default_factory=dict)
    """How a sample differs, by its dtype, what was compared, and its number."""


def attempt(run: Callable[[], Any]) -> tuple[Any, str]:
    """A result, or the error in words."""
    try:
        with np.errstate(all="ignore"):
            return run(), ""
    except Unsupported:
        raise
    except Exception as error:
        return None, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def first_difference(found: list[Any], expected: Expected, open_values: bool = False) -> str:
    """In words, where lists of results differ; '' where they do not."""
    if len(found) != len(expected.results):
        return f"{len(found)} results for {len(expected.results)}"
    all_words = (
        difference(one, *pair, expected, open_values)
        for one, pair in zip(found, expected.pairs(), strict=True)
    )
    return next(filter(None, all_words), "")


class Comparison:
    """An entry of a database against ours, over all samples of one dtype."""

    def __init__(
        self, entry: Entry, dtype: torch.dtype, report: Report, compile_every: bool = False
    ) -> None:
        self.entry, self.dtype, self.report = entry, dtype, report
        self.compile_every = compile_every
        self.agreeing: list[tuple[int, Calls, int]] = []
        """Numbers and calls of samples that agree, and the order of their derivatives."""

    def run(self) -> None:
        for number, case in enumerate(self.entry.cases(self.dtype)):
            self.report.samples += 1
            try:
                agrees = self.compare(number, Sample(case.given), case)
            except Unsupported as kind:
                self.report.unsupported[str(kind)] += 1
            else:
                self.report.agree += agrees
        if self.dtype.is_floating_point and not self.entry.never_compiled:
            most = self.entry.most_compiled[self.dtype]
            apart = 1 if self.compile_every else max(1, -(-len(self.agreeing) // most))
            chosen = self.agreeing[::apart]
            for start in range(0, len(chosen), self.entry.group):
                self.compile(chosen[start : start + self.entry.group])

    def differ(self, check: str, number: int, sample: Sample | str, words: str) -> None:
        key = f"{str(self.dtype).removeprefix('torch.')} {check} {number}"
        self.report.differences[key] = f"{self.entry.name}({sample}): {words}"

    def compare(self, number: int, sample: Sample, case: Case) -> bool:
        """Whether all that PyTorch can compute of a sample agrees."""
        theirs, ours = torch_calls(case.theirs, sample), our_calls(case.ours, sample)
        otherwise = torch_calls_otherwise(case.theirs, sample)
        order, size = 0, 0.0
        for check, run in CHECKS.items():
            if check != "value" and not (sample.leaves and check in self.entry.derivatives):
                continue
            results, error = attempt(lambda run=run: run(theirs))
            if error:
                self.report.unsupported[f"PyTorch raises, {check}"] += 1
                if check == "value":
                    return True
                continue
            other, _ = attempt(lambda run=run: run(otherwise))
            found, words = attempt(lambda run=run: run(ours))
            expected = Expected(results, other, sample.single, size)
            words = words or first_difference(found, expected, self.entry.open_values)
            size = max(size, *map(largest, floats_of(results)), 0.0)
            if words:
                self.differ(check, number, sample, words)
                return False
            self.report.checks[check] += 1
            order += check in ("first", "second") and order < self.entry.compiled_order
        for method in case.methods:
            words = self.as_method(method, sample, case)
            if words:
                self.differ("method", number, sample, words)
                return False
            self.report.checks["method"] += 1
        self.agreeing.append((number, ours, order))
        return True

    def as_method(self, method: Callable[..., Any], sample: Sample, case: Case) -> str:
        """How a method's values differ from the function's, in words."""
        expected, _ = attempt(our_calls(case.ours, sample).evaluated)
        found, error = attempt(our_calls(method, sample).evaluated)
        return error or first_difference(found, Expected(expected), self.entry.open_values)

    def compile(self, group: list[tuple[int, Calls, int]]) -> None:
        """One function of a group's tensors, compiled, against the same function as written."""
        step, arguments = step_of(group)
        expected = step(arguments)
        compiled = Compiled(step)
        runs = [attempt(lambda: compiled(arguments)) for _ in range(4)]
        failed = next((error for _, error in runs if error), "")
        if len(group) > 1 and (failed or not compiled.programs):
            half = len(group) // 2
            self.compile(group[:half])
            self.compile(group[half:])
            return
        if not failed and not compiled.programs:
            self.report.unsupported["compiled: run as written"] += 1
        for i, (number, calls, order) in enumerate(group):
            wanted = expected_of(calls, order, list(map(numbers_of, expected[i])))
            all_words = (first_difference(list(map(numbers_of, run[i])), wanted) for run, _ in runs)
            words = failed or next(filter(None, all_words), "")
            if words:
                self.differ("compiled", number, calls.shown, words)
                self.report.agree -= 1
            else:
                self.report.checks["compiled"] += 1


def expected_of(calls: Calls, order: int, results: list[Any]) -> Expected:
    """What a compiled function has to give, which this eager call gave."""
    single = any(t.dtype == np.float32 for t in calls.tensors)
    own, another = ("float32", "float64") if single else ("float64", "float32")
    tensors = [Tensor(t.data.astype(another)) if t.dtype == own else t for t in calls.tensors]
    other, _ = attempt(lambda: list(map(numbers_of, calls.again(tensors).everything(order))))
    return Expected(results, other, single, max(map(largest, floats_of(results)), default=0.0))


def step_of(group: list[tuple[int, Calls, int]]) -> tuple[Callable[..., Any], list[Any]]:
    """A function of the tensors of several calls, and those tensors."""
    pairs = [(calls, order) for _, calls, order in group]

    def step(tensors: list[list[Tensor]]) -> list[list[Any]]:
        return [
            calls.again(own).everything(order)
            for (calls, order), own in zip(pairs, tensors, strict=True)
        ]

    return step, [[t.detach() for t in calls.tensors] for calls, _ in pairs]


def report_on(entry: Entry, compile_every: bool = False) -> Report:
    """All samples of an entry, compared."""
    report = Report()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for dtype in MODES:
            if dtype in entry.dtypes:
                Comparison(entry, dtype, report, compile_every).run()
    return report


def print_table(entries: dict[str, Entry], description: str | None) -> None:
    """The command: a row for each entry, and with --differences each sample that differs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*", help="rows of the table; all by default")
    parser.add_argument("--differences", action="store_true", help="print what differs")
    parser.add_argument("--every", action="store_true", help="compile every sample")
    options = parser.parse_args()
    total: Counter[str] = Counter()
    print(f"{'name':45}{'samples':>9}{'agree':>9}{'differ':>9}  not compared")
    for name in options.names or entries:
        report = report_on(entries[name], options.every)
        kinds = ", ".join(f"{kind} {count}" for kind, count in report.unsupported.items())
        differ = len(report.differences)
        print(f"{name:45}{report.samples:9}{report.agree:9}{differ:9}  {kinds}", flush=True)
        if options.differences:
            for where, words in report.differences.items():
                print(f"    {where}: {words}")
        total.update(samples=report.samples, agree=report.agree, differ=differ)
        total.update(report.checks + report.unsupported)
    for kind, count in total.items():
        print(f"{kind:45}{count:9}")


if __name__ == "__main__":
    print_table(operators(), __doc__)
