"""Values and gradients of `functional` equal PyTorch's: 1e-10 in float64, 1e-5 in float32."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

import tinygrad_kr as tk
import tinygrad_kr.functional as F

torch = pytest.importorskip("torch")

RANDOM = np.random.default_rng(0)
TOLERANCE = {np.float64: 1e-10, np.float32: 1e-5}


@dataclass
class Case:
    """One call of a function that both have; float arrays among `args` are differentiated."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    fixed: tuple[int, ...] = ()
    """Positions of arguments that get no gradient."""
    rounded: bool = False
    """Whether PyTorch's kernel holds a constant of the formula in float32 even for float64."""

    def __post_init__(self) -> None:
        self.args = tuple(np.asarray(a) if isinstance(a, np.generic) else a for a in self.args)

    def __str__(self) -> str:
        shapes = [str(a.shape) if isinstance(a, ndarray) else str(a) for a in self.args]
        words = [f"{k}={v.shape if isinstance(v, ndarray) else v}" for k, v in self.kwargs.items()]
        return "-".join([self.name, *shapes, *words, self.label]).replace(" ", "")


def normal(*shape: int) -> ndarray:
    return np.asarray(RANDOM.standard_normal(shape))


def uniform(low: float, high: float, *shape: int) -> ndarray:
    return np.asarray(RANDOM.uniform(low, high, shape))


# ------------------------------------------------------------------ running both


def outputs_and_gradients(
    call: Callable[..., Any],
    case: Case,
    make: Callable[[Any, bool], Any],
    read: Callable[[Any], Any],
) -> tuple[list[ndarray], list[ndarray]]:
    """What a function returns, and the gradients of its products with fixed random arrays."""
    tensors = [make(a, i not in case.fixed) for i, a in enumerate(case.args)]
    keywords = {name: make(value, False) for name, value in case.kwargs.items()}
    result = call(*tensors, **keywords)
    results = list(result) if isinstance(result, tuple) else [result]
    random = np.random.default_rng(1)
    cotangent = np.asarray(random.standard_normal(results[0].shape))
    (results[0] * make(cotangent, False)).sum().backward()
    leaves = [t for t in tensors if getattr(t, "requires_grad", False)]
    return [read(r) for r in results], [read(leaf.grad) for leaf in leaves]


def ours(case: Case, dtype: Any) -> tuple[list[ndarray], list[ndarray]]:
    def make(value: Any, differentiable: bool) -> Any:
        if not isinstance(value, ndarray):
            return value
        floating = value.dtype.kind == "f"
        array = value.astype(dtype) if floating else value
        return tk.Tensor(array, requires_grad=differentiable and floating)

    return outputs_and_gradients(getattr(F, case.name), case, make, lambda t: t.detach().numpy())


def theirs(case: Case, dtype: Any) -> tuple[list[ndarray], list[ndarray]]:
    def make(value: Any, differentiable: bool) -> Any:
        if not isinstance(value, ndarray):
            return value
        floating = value.dtype.kind == "f"
        tensor = torch.tensor(value.astype(dtype) if floating else value)
        return tensor.requires_grad_() if differentiable and floating else tensor

    call = getattr(torch.nn.functional, case.name, None) or getattr(torch, case.name)
    return outputs_and_gradients(call, case, make, lambda t: t.detach().numpy())


def assert_close(found: ndarray, wanted: ndarray, tolerance: float) -> None:
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    finite = wanted[np.isfinite(wanted)] if wanted.dtype.kind == "f" else wanted.ravel()
    scale = float(np.abs(finite).max(initial=0))
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * min(scale, 1e3))


# ------------------------------------------------------------------ cases


def activations() -> Iterator[Case]:
    kinks = np.array([-6, -3, -1, -0.5, 0, 0.5, 1, 3, 6, 20, 25, -25, 80, -80, math.inf])
    x = np.concatenate([normal(40) * 3, kinks])
    smooth = x[:-1]
    yield Case("hardsigmoid", (x,), rounded=True)  # 1 / 6
    for name in ("relu", "relu6", "sigmoid", "tanh", "softplus", "elu", "selu", "celu"):
        yield Case(name, (x,))
    for name in ("silu", "mish", "softsign", "logsigmoid", "gelu", "leaky_relu", "hardtanh"):
        yield Case(name, (smooth,))
    yield Case("gelu", (smooth[:-2],), {"approximate": "tanh"})
    yield Case("leaky_relu", (x,), {"negative_slope": 0.3})
    yield Case("elu", (x,), {"alpha": 0.4})
    yield Case("celu", (x,), {"alpha": 2.5})
    yield Case("hardtanh", (x,), {"min_val": -0.5, "max_val": 3.0})
    for beta, threshold in ((0.5, 20.0), (3.0, 5.0)):
        yield Case("softplus", (x,), {"beta": beta, "threshold": threshold})
    for name in ("softmax", "log_softmax", "softmin"):
        for shape, dim in (((5,), 0), ((4, 3), 1), ((4, 3), 0), ((2, 3, 4), 1), ((2, 3, 4), -1)):
            yield Case(name, (normal(*shape) * 5,), {"dim": dim})
        yield Case(name, (np.array([[-1e4, 0.0, 1e4], [3e4, 3e4, 3e4]]),), {"dim": 1}, "far")
    yield Case("softmax", (np.array([[0.0, -math.inf, 2.0]]),), {"dim": 1}, "impossible")
    yield Case("softmax", (normal(0, 3),), {"dim": 1}, "empty")


def layers() -> Iterator[Case]:
    for shape in ((4, 5), (5,), (2, 3, 5), (0, 5)):
        yield Case("linear", (normal(*shape), normal(3, 5), normal(3)))
        yield Case("linear", (normal(*shape), normal(3, 5)))
    table = normal(6, 3)
    for shape in ((4,), (2, 3), (), (0,)):
        yield Case("embedding", (RANDOM.integers(0, 6, shape), table))
    indices = np.array([[0, 2, 2], [5, 0, 1]])
    yield Case("embedding", (indices, table), {"padding_idx": 2})
    yield Case("embedding", (indices, table), {"padding_idx": -1})
    for p in (1.0, 2.0, 3.0, math.inf):
        yield Case("normalize", (normal(3, 4, 2),), {"p": p})
    yield Case("normalize", (normal(3, 4),), {"dim": 0, "eps": 0.5})
    yield Case("cosine_similarity", (normal(3, 4), normal(3, 4)))
    yield Case("cosine_similarity", (normal(2, 3, 4), normal(2, 3, 4)), {"dim": -1})


def todays_layers() -> Iterator[Case]:
    """What nets of today add: gates, distances, attention, other windows."""
    x = np.concatenate([normal(40) * 3, [-3.0, 0.0, 3.0, -8.0]])
    yield Case("hardswish", (x,), rounded=True)  # 1 / 6
    for shape, weights in (((2, 3, 4), 3), ((4, 3), 3), ((5,), 1), ((2, 3), 1)):
        yield Case("prelu", (normal(*shape), normal(weights)))
    for dim in (0, 1, -1):
        yield Case("glu", (normal(4, 2, 6),), {"dim": dim})
    yield Case("bilinear", (normal(2, 3, 4), normal(2, 3, 5), normal(6, 4, 5), normal(6)))
    yield Case("bilinear", (normal(4), normal(5), normal(6, 4, 5)))
    for p in (1.0, 2.0, 3.5, math.inf):
        yield Case("pairwise_distance", (normal(3, 4), normal(3, 4)), {"p": p})
    yield Case("pairwise_distance", (normal(3, 4), normal(4)), {"eps": 0.1, "keepdim": True})
    for shape in ((2, 3, 4), (2, 3, 2, 4)):
        yield Case("instance_norm", (normal(*shape), None, None, normal(3), normal(3)))
        yield Case("instance_norm", (normal(*shape),), {"eps": 0.1})
    for last in ((4,), (3, 4)):
        yield Case("rms_norm", (normal(2, 3, 4), last, normal(*last)))
        yield Case("rms_norm", (normal(2, 3, 4) * 1e-4, last), {"eps": 1e-3})
        yield Case("rms_norm", (normal(2, 3, 4), last))
    for shape in ((2, 8, 2, 3), (8, 3, 1), (2, 1, 4, 1, 2)):
        yield Case("pixel_shuffle", (normal(*shape), 2))
    yield Case("pixel_unshuffle", (normal(2, 3, 4, 6), 2))
    attention = "scaled_dot_product_attention"
    q, k, v = normal(2, 3, 4, 5), normal(2, 3, 6, 5), normal(2, 3, 6, 2)
    seen = RANDOM.random((4, 6)) < 0.6
    seen[:, 0], seen[2] = True, False
    for words in ({}, {"scale": 0.2}, {"is_causal": True}, {"attn_mask": seen}):
        yield Case(attention, (q, k, v), words)
    yield Case(attention, (q, k, v), {"attn_mask": np.where(seen, normal(4, 6), -math.inf)})
    shared = (normal(2, 4, 3, 5), normal(2, 2, 3, 5), normal(2, 2, 3, 2))
    yield Case(attention, shared, {"enable_gqa": True})
    yield Case(
        "conv3d",
        (normal(2, 4, 3, 4, 5), normal(6, 2, 2, 3, 2), normal(6)),
        {"stride": (1, 2, 1), "padding": (1, 0, 1), "dilation": (1, 1, 2), "groups": 2},
    )
    for words in ({}, {"stride": 1, "padding": 1}, {"stride": (1, 2, 2), "ceil_mode": True}):
        yield Case("max_pool3d", (normal(2, 3, 4, 5, 3), 2), words)
    for n in (1, 2, 3, 5, 7):
        yield Case("adaptive_max_pool1d", (normal(2, 3, 7), n), {"return_indices": True})
    for size in ((2, 3), (None, 2), 4, (5, 7)):
        words = {"return_indices": True}
        yield Case("adaptive_max_pool2d", (normal(2, 3, 5, 7), size), words)
    yield Case("adaptive_max_pool2d", (normal(3, 4, 6), (2, 3)))


def elementwise_losses() -> Iterator[Case]:
    for reduction, shape in product(("mean", "sum", "none"), ((4,), (3, 2), ())):
        x, t = normal(*shape) * 2, normal(*shape) * 2
        how = {"reduction": reduction}
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
            yield Case(name, (x, t), how)
        yield Case("huber_loss", (x, t), {**how, "delta": 0.3})
        for beta in (0.0, 0.3, 2.0):
            yield Case("smooth_l1_loss", (x, t), {**how, "beta": beta})
        p, q = uniform(0.01, 0.99, *shape), uniform(0, 1, *shape)
        yield Case("binary_cross_entropy", (p, q), how)
        yield Case("binary_cross_entropy", (p, q), {**how, "weight": uniform(0, 2, *shape)})
        logits = "binary_cross_entropy_with_logits"
        yield Case(logits, (x, q), how)
        yield Case(logits, (x * 20, q), how, "far")
        yield Case(logits, (x, q), {**how, "weight": uniform(0, 2, *shape)})
    labels = np.array([0.0, 1.0, 1.0, 0.0])
    certain = np.array([0.0, 1.0, 0.0, 1.0])
    yield Case("binary_cross_entropy", (certain, labels), {}, fixed=(1,), rounded=True)  # 1e-12
    for weight in (uniform(0.5, 3, 3), uniform(0.5, 3, 1)):
        words = {"pos_weight": weight, "reduction": "none"}
        yield Case("binary_cross_entropy_with_logits", (normal(4, 3), uniform(0, 1, 4, 3)), words)


def class_losses() -> Iterator[Case]:
    shapes = ((5, 3), (3,), (2, 3, 4), (2, 4, 2, 3))
    for reduction, shape in product(("mean", "sum", "none"), shapes):
        axis = min(len(shape) - 1, 1)
        classes = shape[axis]
        places = shape[:axis] + shape[axis + 1 :]
        labels = RANDOM.integers(0, classes, places)
        ignored = np.where(RANDOM.random(places) < 0.3, -100, labels)
        x, weight = normal(*shape) * 3, uniform(0.2, 2, classes)
        for name in ("cross_entropy", "nll_loss"):
            yield Case(name, (x, labels), {"reduction": reduction})
            yield Case(name, (x, labels), {"reduction": reduction, "weight": weight})
            if places:
                words = {"reduction": reduction, "weight": weight}
                yield Case(name, (x, ignored), words, "ignored")
                yield Case(name, (x, labels), {"reduction": reduction, "ignore_index": 1})
                yield Case(name, (x, ignored), {"reduction": reduction}, "ignored")
        for words in ({}, {"weight": weight}):
            smooth = {"reduction": reduction, "label_smoothing": 0.2, **words}
            yield Case("cross_entropy", (x, labels), smooth)
            if places:
                yield Case("cross_entropy", (x, ignored), smooth, "ignored")
            soft = np.moveaxis(RANDOM.dirichlet(np.ones(classes), places), -1, axis)
            yield Case("cross_entropy", (x, soft), {"reduction": reduction, **words}, "soft")
            yield Case("cross_entropy", (x, soft), smooth, "soft")
    far = np.array([[1e4, 0.0, -1e4], [-1e4, 0.0, 1e4], [50.0, 0.0, 0.0]])
    yield Case("cross_entropy", (far, np.array([2, 2, 0])), {"reduction": "none"}, "far")
    impossible = np.array([[0.0, -math.inf, 1.0], [-math.inf, 0.0, 2.0]])
    yield Case("cross_entropy", (impossible, np.array([0, 2])), {}, "impossible")
    for reduction in ("mean", "sum", "none"):
        nothing = np.array([-100, -100])
        yield Case("cross_entropy", (normal(2, 3), nothing), {"reduction": reduction}, "nothing")
        yield Case("nll_loss", (normal(2, 3), nothing), {"reduction": reduction}, "nothing")
    for reduction in ("sum", "none"):  # PyTorch's mean of an empty batch is NaN, ours an error
        empty = np.zeros(0, np.int64)
        yield Case("cross_entropy", (normal(0, 3), empty), {"reduction": reduction}, "empty")
        yield Case("mse_loss", (normal(0, 3), normal(0, 3)), {"reduction": reduction}, "empty")


def divergences() -> Iterator[Case]:
    x = np.log(RANDOM.dirichlet(np.ones(4), 3))
    t = RANDOM.dirichlet(np.ones(4), 3)
    for reduction in ("sum", "none", "batchmean"):
        yield Case("kl_div", (x, t), {"reduction": reduction})
        yield Case("kl_div", (x, np.log(t)), {"reduction": reduction, "log_target": True})
        yield Case("kl_div", (x, t[0]), {"reduction": reduction}, "broadcast")
        yield Case("kl_div", (x[0], t), {"reduction": reduction}, "broadcast")
    yield Case("kl_div", (x, np.eye(4)[:3]), {"reduction": "sum"}, "zeros", fixed=(1,))


def convolutions() -> Iterator[Case]:
    def both(
        name: str, spatial: tuple[int, ...], kernel: tuple[int, ...], c: int, o: int, **words: Any
    ) -> Iterator[Case]:
        groups = words.get("groups", 1)
        transposed = "transpose" in name
        first, second = (c, o // groups) if transposed else (o, c // groups)
        x, w, b = normal(2, c, *spatial), normal(first, second, *kernel), normal(o)
        yield Case(name, (x, w, b), words)
        yield Case(name, (x, w), words)
        yield Case(name, (x[0], w, b), words)

    yield from both("conv1d", (7,), (3,), 2, 3)
    yield from both("conv1d", (8,), (3,), 4, 6, stride=2, padding=1, dilation=2, groups=2)
    yield from both("conv1d", (8,), (5,), 2, 3, padding="same")
    yield from both("conv2d", (6, 5), (3, 2), 2, 3)
    yield from both("conv2d", (6, 7), (3, 3), 1, 4, padding=1)
    yield from both("conv2d", (6, 7), (1, 1), 3, 4)
    yield from both("conv2d", (9, 8), (3, 3), 2, 3, stride=2)
    yield from both("conv2d", (9, 8), (3, 3), 2, 3, stride=(3, 2), padding=(1, 2))
    yield from both("conv2d", (9, 8), (3, 2), 3, 2, stride=2, padding=1, dilation=(1, 3))
    yield from both("conv2d", (6, 7), (2, 3), 4, 6, groups=2)
    yield from both("conv2d", (6, 7), (3, 3), 4, 4, groups=4, padding=1, stride=2)
    yield from both("conv2d", (6, 7), (3, 3), 2, 4, padding="same", dilation=2)
    yield from both("conv2d", (6, 7), (3, 3), 2, 4, padding="valid")
    yield from both("conv2d", (4, 4), (4, 4), 2, 3)
    yield from both("conv_transpose1d", (5,), (3,), 2, 3, stride=2, padding=1, output_padding=1)
    yield from both("conv_transpose2d", (4, 5), (3, 2), 2, 3)
    yield from both("conv_transpose2d", (4, 5), (3, 3), 2, 3, stride=2, padding=1, output_padding=1)
    yield from both("conv_transpose2d", (4, 5), (3, 2), 4, 6, stride=(2, 3), groups=2)
    yield from both("conv_transpose2d", (4, 5), (3, 2), 2, 3, dilation=3, output_padding=(2, 1))
    yield Case("conv2d", (normal(0, 2, 5, 5), normal(3, 2, 3, 3), normal(3)), {}, "empty")


def pools() -> Iterator[Case]:
    for name, x in (("1d", normal(2, 3, 11)), ("2d", normal(2, 3, 8, 11))):
        for kernel, stride, padding in (
            *((2, None, 0), (3, None, 0), (3, 2, 0), (3, 2, 1), (2, 3, 0), (4, 1, 2), (3, 5, 1)),
        ):
            for ceil_mode in (False, True):
                sizes = (x, kernel, stride, padding)
                yield Case(f"avg_pool{name}", sizes, {"ceil_mode": ceil_mode})
                yield Case(
                    f"avg_pool{name}", sizes, {"ceil_mode": ceil_mode, "count_include_pad": False}
                )
                for dilation in (1, 2):
                    words = {"ceil_mode": ceil_mode, "dilation": dilation, "return_indices": True}
                    yield Case(f"max_pool{name}", sizes, words)
        yield Case(f"max_pool{name}", (x[0], 2))
        yield Case(f"avg_pool{name}", (x[0], 2))
    x = normal(2, 3, 8, 11)
    yield Case("max_pool2d", (x, (2, 3), (1, 2), (1, 0)))
    yield Case("avg_pool2d", (x, (2, 3), (1, 2), (1, 0)), {"divisor_override": 5})
    ties = RANDOM.integers(0, 2, (2, 3, 8, 8)).astype(np.float64)
    yield Case("max_pool2d", (ties, 2), {"return_indices": True}, "ties")
    yield Case("max_pool2d", (ties, 3, 1, 1), {"return_indices": True}, "ties")
    for size in (1, 2, 3, (8, 4), (None, 2)):
        yield Case("adaptive_avg_pool2d", (x, size))
    yield Case("adaptive_avg_pool2d", (x[0], 3))
    yield Case("adaptive_avg_pool1d", (x[0], 4))
    yield from interpolations()


def interpolations() -> Iterator[Case]:
    sizes = {3: [(7,), (3,), (1,)], 4: [(7, 3), (2, 9)], 5: [(3, 2, 5)]}
    inputs = {3: normal(2, 3, 5), 4: normal(2, 3, 5, 4), 5: normal(1, 2, 2, 3, 4)}
    modes = [("linear", 3), ("bilinear", 4), ("bicubic", 4), ("trilinear", 5)]
    for mode, ndim in modes:
        for size, corners in product(sizes[ndim], (True, False)):
            yield Case(
                "interpolate", (inputs[ndim], size), {"mode": mode, "align_corners": corners}
            )
        for factor, again in product((1.7, 2.0, 0.6), (True, False)):
            words = {"scale_factor": factor, "mode": mode, "recompute_scale_factor": again}
            yield Case("interpolate", (inputs[ndim],), words)
    for mode, ndim in product(("nearest", "nearest-exact", "area"), (3, 4, 5)):
        for size in sizes[ndim]:
            yield Case("interpolate", (inputs[ndim], size), {"mode": mode})
        for factor in (1.7, 2.0, 0.6):
            yield Case("interpolate", (inputs[ndim],), {"scale_factor": factor, "mode": mode})


def windows() -> Iterator[Case]:
    x = normal(2, 3, 6, 7)
    yield Case("unfold", (x, (2, 3)))
    yield Case("unfold", (x, 2), {"dilation": 2, "padding": 1, "stride": (2, 1)})
    yield Case("unfold", (x[0], 3))
    yield Case("fold", (normal(2, 12, 30), (6, 7), (2, 2)))
    yield Case(
        "fold", (normal(2, 12, 9), (6, 7), 2), {"dilation": 2, "padding": 1, "stride": (2, 3)}
    )
    yield Case("fold", (normal(12, 30), (6, 7), (2, 2)))


def paddings() -> Iterator[Case]:
    x = normal(2, 3, 5, 4)
    for pad in ((1, 2), (1, 0, 0, 2), (0, 1, 2, 1, 1, 1), (-1, 2), (1, 1, -2, -1), ()):
        yield Case("pad", (x, pad))
    yield Case("pad", (x, (1, 2, 0, 1)), {"mode": "constant", "value": 1.5})
    for mode in ("reflect", "replicate", "circular"):
        yield Case("pad", (x, (1, 2, 2, 0)), {"mode": mode})
        yield Case("pad", (x[0], (3, 0)), {"mode": mode})
    yield Case("pad", (x, (-1, 2, 1, 1)), {"mode": "replicate"})


def norms() -> Iterator[Case]:
    for shape in ((5, 3), (4, 3, 5), (2, 3, 4, 3)):
        x, mean, var = normal(*shape) * 2 + 1, normal(3), uniform(0.5, 2, 3)
        w, b = normal(3), normal(3)
        for training in (True, False):
            words = {"training": training, "eps": 0.01}
            running = (x, mean, var)
            yield Case("batch_norm", running, words, fixed=(1, 2))
            yield Case("batch_norm", (*running, w, b), {**words, "momentum": 0.3}, fixed=(1, 2))
        yield Case("batch_norm", (x, None, None, w, b), {"training": True})
        yield Case("group_norm", (normal(2, 6, *shape[2:]) * 2, 1))
        yield Case("group_norm", (normal(2, 9, *shape[2:]) * 2, 3))
        yield Case("group_norm", (normal(2, 6, *shape[2:]), 2, normal(6), normal(6)))
        for axes in (1, 2):
            last = shape[-axes:]
            yield Case("layer_norm", (x, last))
            yield Case("layer_norm", (x, last, normal(*last), normal(*last)), {"eps": 0.1})


CASES = [
    *activations(),
    *layers(),
    *todays_layers(),
    *elementwise_losses(),
    *class_losses(),
    *divergences(),
    *convolutions(),
    *pools(),
    *windows(),
    *paddings(),
    *norms(),
]


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_equal_pytorch(case: Case, dtype: Any) -> None:
    found, wanted = ours(case, dtype), theirs(case, dtype)
    assert len(found[1]) == len(wanted[1])
    for one, other in zip(found[0] + found[1], wanted[0] + wanted[1], strict=True):
        assert_close(one, other, TOLERANCE[np.float32 if case.rounded else dtype])


COMPARED_ELSEWHERE = {"maxout", "dropout", "one_hot", "sequence_loss", "dropout1d", "dropout2d"}
COMPARED_ELSEWHERE |= {  # in the databases; the losses by their layers too
    "embedding_bag", "multi_head_attention_forward", "cosine_embedding_loss", "ctc_loss",
    "gaussian_nll_loss", "hinge_embedding_loss", "margin_ranking_loss",
    "multilabel_soft_margin_loss", "poisson_nll_loss", "triplet_margin_loss",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(set(F.__all__) - COMPARED_ELSEWHERE))
def test_every_function_is_compared(name: str) -> None:
    assert any(case.name == name for case in CASES)


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (2, 3, 4, 2)])
def test_running_statistics_move_as_in_pytorch(shape: tuple[int, ...]) -> None:
    x, mean, var = normal(*shape) * 2 + 1, normal(3), uniform(0.5, 2, 3)
    ours_, theirs_ = (tk.Tensor(mean), tk.Tensor(var)), (torch.tensor(mean), torch.tensor(var))
    for momentum in (0.1, 0.7):
        F.batch_norm(tk.Tensor(x), *ours_, training=True, momentum=momentum)
        torch.nn.functional.batch_norm(torch.tensor(x), *theirs_, training=True, momentum=momentum)
        for one, other in zip(ours_, theirs_, strict=True):
            np.testing.assert_allclose(one.data, other.numpy(), rtol=1e-12)


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_maxout_equals_a_maximum_over_a_split_axis(dim: int) -> None:
    x = RANDOM.integers(0, 3, (4, 6, 4)).astype(np.float64)
    ours_, theirs_ = tk.Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    found = F.maxout(ours_, 2, dim)
    wanted = theirs_.unflatten(dim, (-1, 2)).amax(dim + 1 if dim >= 0 else dim)
    cotangent = normal(*found.shape)
    (found * cotangent).sum().backward()
    (wanted * torch.tensor(cotangent)).sum().backward()
    assert_close(found.detach().numpy(), wanted.detach().numpy(), 1e-12)
    assert_close(ours_.grad.numpy(), theirs_.grad.numpy(), 1e-12)


@pytest.mark.parametrize("classes", [-1, 5])
def test_one_hot_equals_pytorch(classes: int) -> None:
    labels = np.array([[0, 2], [3, 1]])
    found = F.one_hot(tk.Tensor(labels), classes)
    wanted = torch.nn.functional.one_hot(torch.tensor(labels), classes).numpy()
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found.data, wanted)
