"""Every function of `functional`: derivatives to second order, dtypes, layouts, plain arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy import ndarray

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor
from tinygrad_kr.testing import check_grads

RANDOM = np.random.default_rng(0)


def draw(*shape: int) -> ndarray:
    """Floats between 0.1 and 2, of either sign: away from kinks at 0."""
    return np.asarray(RANDOM.uniform(0.1, 2, shape) * RANDOM.choice([-1.0, 1.0], shape))


def fractions(*shape: int) -> ndarray:
    return np.asarray(RANDOM.uniform(0.1, 0.9, shape))


def distinct(*shape: int) -> ndarray:
    """Numbers that differ by 0.1 and more, so that no maximum is close to a tie."""
    return RANDOM.permutation(np.prod(shape, dtype=int)).reshape(shape) * 0.1


def channels_last(x: ndarray) -> ndarray:
    """The same array with its channels (axis 1) side by side in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def seeded(function: Callable[..., Any], x: Any) -> Any:
    """A function that draws, with the same numbers at each call."""
    return function(x, generator=np.random.default_rng(0))


LABELS = np.array([2, 0, 1, 2])
IMAGE_LABELS = RANDOM.integers(0, 3, (2, 2, 2))
SIGNS = np.array([[1, -1, 1], [-1, -1, 1], [-1, 1, 1], [1, 1, -1]])
WEIGHT = np.array([0.5, 1.0, 2.0])
IMAGES = draw(2, 4, 5, 6)
PADDED = np.array([[False, True, False], [True, True, True]])
BAGS = np.array([[0, 2, 1], [1, 1, 1]])
MASK = np.where([[1, 1, 0], [0, 0, 0], [1, 1, 1], [1, 0, 0]], 0.7, -np.inf)
QKV = (draw(2, 2, 4, 5), draw(2, 2, 3, 5), draw(2, 2, 3, 2))

CASES: list[tuple[str, Callable[..., Any], tuple[ndarray, ...]]] = [
    *(
        (name, getattr(F, name), (draw(3, 4),))
        for name in (
            "relu",
            "leaky_relu",
            "elu",
            "selu",
            "celu",
            "gelu",
            "silu",
            "mish",
            "softsign",
        )
    ),
    *(
        (name, getattr(F, name), (draw(3, 4),))
        for name in (
            "sigmoid",
            "tanh",
            "softplus",
            "logsigmoid",
            "hardswish",
            "hardtanh",
            "relu6",
            "hardsigmoid",
        )
    ),
    ("elu", lambda x: F.elu(x, 0.5), (draw(5),)),
    ("gelu", lambda x: F.gelu(x, approximate="tanh"), (draw(5),)),
    ("softplus", lambda x: F.softplus(x, beta=3.0, threshold=4.0), (draw(5),)),
    *(
        (name, partial(getattr(F, name), dim=dim), (draw(3, 4),))
        for name in ("softmax", "log_softmax", "softmin")
        for dim in (0, -1)
    ),
    ("glu", F.glu, (draw(3, 4),)),
    ("glu", lambda x: F.glu(x, 0), (draw(4, 3),)),
    ("prelu", F.prelu, (draw(2, 3, 2), draw(3))),
    ("prelu", F.prelu, (draw(5), draw(1))),
    ("maxout", lambda x: F.maxout(x, 2), (distinct(3, 4),)),
    ("linear", F.linear, (draw(2, 4), draw(3, 4), draw(3))),
    ("linear", F.linear, (draw(2, 2, 4), draw(3, 4))),
    ("embedding", lambda w: F.embedding(np.array([[0, 2], [2, 1]]), w), (draw(3, 2),)),
    ("dropout", lambda x: F.dropout(x, 0.5, generator=np.random.default_rng(0)), (draw(3, 4),)),
    *(
        ("scaled_dot_product_attention", partial(F.scaled_dot_product_attention, **options), QKV)
        for options in (
            {},
            {"is_causal": True, "scale": 0.3},
            {"attn_mask": np.arange(12).reshape(4, 3) % 4 > 0},
            {"attn_mask": MASK},
            {"enable_gqa": True},
        )
    ),
    *(
        (
            "multi_head_attention_forward",
            lambda x, y, w, b, o, options=options: F.multi_head_attention_forward(
                x, y, y, 4, 2, w, b, None, None, False, 0.0, o, None, **options
            )[0],
            (draw(2, 2, 4), draw(3, 2, 4), draw(12, 4), draw(12), draw(4, 4)),
        )
        for options in ({}, {"need_weights": False, "key_padding_mask": PADDED})
    ),
    *(
        (
            "embedding_bag",
            lambda w, options=options: F.embedding_bag(BAGS, w, padding_idx=1, **options),
            (distinct(4, 2),),
        )
        for options in ({"mode": "sum"}, {}, {"mode": "max"})
    ),
    ("embedding_bag", lambda w: F.embedding_bag(BAGS[0], w, np.array([0, 0, 2])), (draw(4, 2),)),
    (
        "embedding_bag",
        lambda w, f: F.embedding_bag(BAGS, w, mode="sum", per_sample_weights=f),
        (draw(4, 2), draw(2, 3)),
    ),
    *(
        (name, partial(seeded, getattr(F, name)), (draw(*shape),))
        for name, shape in (
            ("dropout1d", (2, 3, 2)),
            ("dropout2d", (2, 3, 1, 2)),
        )
    ),
    ("bilinear", F.bilinear, (draw(2, 3), draw(2, 4), draw(2, 3, 4), draw(2))),
    ("pairwise_distance", F.pairwise_distance, (draw(3, 4), draw(3, 4))),
    (
        "pairwise_distance",
        lambda a, b: F.pairwise_distance(a, b, 3.0, keepdim=True),
        (draw(3, 4), draw(4)),
    ),
    ("normalize", F.normalize, (draw(3, 4),)),
    ("normalize", lambda x: F.normalize(x, p=3.0, dim=0), (draw(3, 4),)),
    ("cosine_similarity", F.cosine_similarity, (draw(3, 4), draw(3, 4))),
    (
        "sequence_loss",
        lambda x: F.sequence_loss(x, np.array([[0, 2], [2, 9]]), lengths=np.array([2, 1])),
        (draw(2, 2, 3),),
    ),
    (
        "sequence_loss",
        lambda x, w: F.sequence_loss(x, np.array([[0], [2]]), w, reduction="sum"),
        (draw(2, 1, 3), fractions(2, 1)),
    ),
    *(
        (name, getattr(F, name), (draw(3, 4), draw(3, 4)))
        for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
    ),
    ("mse_loss", lambda x, t: F.mse_loss(x, t, reduction="sum"), (draw(4), draw(4))),
    ("huber_loss", lambda x: F.huber_loss(x, x * 0 + 0.3, "none", 0.7), (np.linspace(-1.9, 2, 9),)),
    (
        "margin_ranking_loss",
        lambda x, y: F.margin_ranking_loss(x, y, SIGNS, 0.5),
        (draw(4, 3), draw(4, 3)),
    ),
    (
        "cosine_embedding_loss",
        lambda x, y: F.cosine_embedding_loss(x, y, SIGNS[:, 0], 0.1),
        (draw(4, 3), draw(4, 3)),
    ),
    ("hinge_embedding_loss", lambda x: F.hinge_embedding_loss(x, SIGNS, 0.7), (draw(4, 3),)),
    (
        "triplet_margin_loss",
        lambda a, p, n: F.triplet_margin_loss(a, p, n, swap=True, reduction="none"),
        (draw(4, 3), draw(4, 3), draw(4, 3)),
    ),
    (
        "multilabel_soft_margin_loss",
        lambda x, t: F.multilabel_soft_margin_loss(x, t, WEIGHT),
        (draw(4, 3), fractions(4, 3)),
    ),
    ("poisson_nll_loss", F.poisson_nll_loss, (draw(4), fractions(4))),
    (
        "poisson_nll_loss",
        lambda x, t: F.poisson_nll_loss(x, t + 2, False, True, 1e-3, "none"),
        (fractions(4), fractions(4)),
    ),
    ("gaussian_nll_loss", F.gaussian_nll_loss, (draw(4, 3), draw(4, 3), fractions(4, 3))),
    (
        "gaussian_nll_loss",
        lambda x, t, v: F.gaussian_nll_loss(x, t, v, True, reduction="none"),
        (draw(4, 3), draw(4, 3), fractions(4)),
    ),
    (
        "ctc_loss",
        lambda x: F.ctc_loss(x, np.array([[1, 1], [2, 0]]), [5, 3], [2, 1], reduction="none"),
        (draw(5, 2, 3),),
    ),
    ("ctc_loss", lambda x: F.ctc_loss(x, np.array([1, 2]), 4, 2), (draw(4, 3),)),
    ("binary_cross_entropy", F.binary_cross_entropy, (fractions(4), fractions(4))),
    (
        "binary_cross_entropy_with_logits",
        F.binary_cross_entropy_with_logits,
        (draw(4), fractions(4)),
    ),
    (
        "binary_cross_entropy_with_logits",
        lambda x, t, p: F.binary_cross_entropy_with_logits(x, t, WEIGHT, "none", p),
        (draw(4, 3), fractions(4, 3), fractions(3)),
    ),
    ("cross_entropy", lambda x: F.cross_entropy(x, LABELS), (draw(4, 3),)),
    (
        "cross_entropy",
        lambda x: F.cross_entropy(x, LABELS, WEIGHT, ignore_index=1, label_smoothing=0.2),
        (draw(4, 3),),
    ),
    ("cross_entropy", lambda x: F.cross_entropy(x, IMAGE_LABELS), (draw(2, 3, 2, 2),)),
    ("cross_entropy", F.cross_entropy, (draw(4, 3), fractions(4, 3))),
    (
        "nll_loss",
        lambda x: F.nll_loss(x, LABELS, WEIGHT, ignore_index=0, reduction="sum"),
        (draw(4, 3),),
    ),
    ("kl_div", F.kl_div, (draw(3, 4), fractions(3, 4))),
    ("kl_div", lambda x, t: F.kl_div(x, t, "batchmean", log_target=True), (draw(3, 4), draw(3, 4))),
    ("conv1d", F.conv1d, (draw(2, 2, 6), draw(3, 2, 3), draw(3))),
    ("conv2d", F.conv2d, (IMAGES, draw(3, 4, 2, 3), draw(3))),
    ("conv2d", lambda x, w: F.conv2d(x, w, padding=1), (channels_last(IMAGES), draw(3, 4, 3, 3))),
    (
        # (5 + 2 - 2 (2 - 1) - 1) mod 3 and (6 - 3) mod 2 are not 0: the last rows are in no window
        "conv2d",
        lambda x, w, b: F.conv2d(x, w, b, stride=(3, 2), padding=(1, 0), dilation=(2, 1), groups=2),
        (IMAGES, draw(6, 2, 2, 4), draw(6)),
    ),
    (
        "conv2d",
        lambda x, w: F.conv2d(x, w, stride=2, groups=4),
        (channels_last(IMAGES), draw(4, 1, 3, 3)),
    ),
    ("conv3d", F.conv3d, (draw(2, 2, 2, 3, 3), draw(3, 2, 2, 2, 1), draw(3))),
    ("pixel_shuffle", lambda x: F.pixel_shuffle(x, 2), (draw(2, 8, 2, 3),)),
    ("pixel_unshuffle", lambda x: F.pixel_unshuffle(x, 2), (draw(3, 4, 6),)),
    ("conv_transpose1d", F.conv_transpose1d, (draw(2, 2, 4), draw(2, 3, 3), draw(3))),
    (
        "conv_transpose2d",
        lambda x, w, b: F.conv_transpose2d(
            x, w, b, stride=2, padding=1, output_padding=1, groups=2
        ),
        (draw(2, 4, 3, 2), draw(4, 2, 3, 2), draw(4)),
    ),
    (
        "conv_transpose2d",
        lambda x, w: F.conv_transpose2d(x, w, dilation=3, output_padding=(2, 1)),
        (draw(1, 2, 3, 2), draw(2, 3, 2, 2)),
    ),
    ("unfold", lambda x: F.unfold(x, (2, 3), dilation=2, padding=1, stride=2), (IMAGES,)),
    (
        "fold",
        lambda x: F.fold(x, (5, 6), (2, 3), dilation=2, padding=1, stride=2),
        (draw(2, 12, 6),),
    ),
    ("max_pool1d", lambda x: F.max_pool1d(x, 3, 2, 1), (distinct(2, 2, 7),)),
    ("max_pool2d", lambda x: F.max_pool2d(x, 2), (distinct(2, 2, 5, 4),)),
    ("max_pool2d", lambda x: F.max_pool2d(x, 2), (channels_last(distinct(2, 3, 5, 4)),)),
    (
        "max_pool2d",
        lambda x: F.max_pool2d(x, (3, 2), (2, 1), 1, dilation=(1, 2), ceil_mode=True),
        (distinct(2, 2, 5, 4),),
    ),
    ("max_pool3d", lambda x: F.max_pool3d(x, 2, 1, 1), (distinct(1, 2, 3, 2, 2),)),
    ("avg_pool1d", lambda x: F.avg_pool1d(x, 3, 2, 1), (draw(2, 2, 7),)),
    (
        "avg_pool2d",
        lambda x: F.avg_pool2d(x, (3, 2), 2, 1, ceil_mode=True, count_include_pad=False),
        (draw(2, 2, 6, 4),),
    ),
    ("adaptive_avg_pool1d", lambda x: F.adaptive_avg_pool1d(x, 3), (draw(2, 2, 7),)),
    ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (2, 3)), (draw(2, 2, 5, 4),)),
    ("adaptive_max_pool1d", lambda x: F.adaptive_max_pool1d(x, 3), (distinct(2, 2, 7),)),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (2, 3)), (distinct(2, 2, 5, 4),)),
    ("adaptive_max_pool2d", lambda x: F.adaptive_max_pool2d(x, (None, 2)), (distinct(2, 3, 4),)),
    ("pad", lambda x: F.pad(x, (1, -1, 2, 0), value=3.0), (draw(2, 3, 4),)),
    *(
        ("pad", lambda x, mode=mode: F.pad(x, (2, 1, 0, 1), mode), (draw(2, 3, 4),))
        for mode in ("reflect", "replicate", "circular")
    ),
    (
        "batch_norm",
        lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True),
        (draw(3, 2, 2), draw(2), draw(2)),
    ),
    (
        "batch_norm",
        lambda x, w, b: F.batch_norm(x, tk.zeros(2) + 0.5, tk.ones(2) * 2, w, b),
        (draw(3, 2, 2), draw(2), draw(2)),
    ),
    (
        "instance_norm",
        lambda x, w, b: F.instance_norm(x, None, None, w, b),
        (draw(2, 3, 4), draw(3), draw(3)),
    ),
    (
        "instance_norm",
        lambda x: F.instance_norm(x, tk.zeros(3) + 0.5, tk.ones(3), use_input_stats=False),
        (draw(2, 3, 4),),
    ),
    ("rms_norm", lambda x, w: F.rms_norm(x, 4, w), (draw(3, 4), draw(4))),
    ("rms_norm", lambda x: F.rms_norm(x, (2, 3), eps=0.1), (draw(2, 2, 3),)),
    ("layer_norm", lambda x, w, b: F.layer_norm(x, 4, w, b), (draw(3, 4), draw(4), draw(4))),
    ("layer_norm", lambda x: F.layer_norm(x, (2, 3), eps=0.1), (draw(2, 2, 3),)),
    *(
        (
            "scaled_dot_product_attention",
            partial(F.scaled_dot_product_attention, **options),
            (draw(2, 4, 3, 2), draw(2, heads, 5, 2), draw(2, heads, 5, 3)),
        )
        for heads, options in (
            (4, {}),
            (4, {"is_causal": True}),
            (4, {"scale": 2.0}),
            (2, {"enable_gqa": True}),
        )
    ),
    *(
        ("interpolate", partial(F.interpolate, **options), (draw(1, 2, *sizes),))
        for sizes, options in (
            ((5,), {"size": 7}),
            ((3, 4), {"scale_factor": 1.7, "mode": "nearest-exact"}),
            ((5,), {"size": 8, "mode": "linear"}),
            ((5,), {"size": 3, "mode": "linear", "align_corners": True}),
            ((3, 4), {"size": (5, 2), "mode": "bilinear"}),
            ((3, 4), {"scale_factor": (2.5, 1.5), "mode": "bicubic"}),
            ((3, 4), {"size": 6, "mode": "bicubic", "align_corners": True}),
            ((2, 3, 2), {"size": (3, 2, 4), "mode": "trilinear"}),
            ((3, 4), {"size": (2, 3), "mode": "area"}),
        )
    ),
    ("group_norm", lambda x, w, b: F.group_norm(x, 2, w, b), (draw(2, 4, 3), draw(4), draw(4))),
]
NAMES = [f"{name}-{number}" for number, (name, *_) in enumerate(CASES)]
each_case = pytest.mark.parametrize(("function", "args"), [case[1:] for case in CASES], ids=NAMES)


@pytest.mark.one_in(3)
@each_case
def test_derivatives_to_second_order(function: Any, args: tuple[ndarray, ...]) -> None:
    check_grads(function, args, order=2)


@each_case
def test_float32_stays_float32(function: Any, args: tuple[ndarray, ...]) -> None:
    tensors = [Tensor(x.astype(np.float32), requires_grad=True) for x in args]
    y = function(*tensors)
    assert y.dtype == np.float32
    y.sum().backward()
    for tensor in tensors:
        assert tensor.grad is not None
        assert tensor.grad.dtype == np.float32 and tensor.grad.shape == tensor.shape


@each_case
def test_an_array_gives_what_a_tensor_gives(function: Any, args: tuple[ndarray, ...]) -> None:
    found, wanted = function(*args), function(*map(Tensor, args))
    assert isinstance(wanted, Tensor)
    np.testing.assert_array_equal(np.asarray(found), wanted.data)


@each_case
def test_layout_changes_nothing(function: Any, args: tuple[ndarray, ...]) -> None:
    wanted = function(*map(Tensor, args)).data
    reversed_axes = [np.asfortranarray(x) for x in args]
    spread = [np.repeat(x, 2, axis=-1)[..., ::2] for x in args]
    backwards = [np.ascontiguousarray(np.flip(x)) for x in args]
    for arrays in (reversed_axes, spread, [np.flip(x) for x in backwards]):
        found = function(*map(Tensor, arrays)).data
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", sorted(set(F.__all__) - {"one_hot"}))
def test_every_function_is_checked(name: str) -> None:
    assert any(case[0] == name for case in CASES)


# ------------------------------------------------------------------ interpolation


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 5}, [1, 1, 3, 3, 8]),
        ({"size": 5, "mode": "nearest-exact"}, [1, 1, 3, 8, 8]),
        ({"size": 2, "mode": "area"}, [2, 5.5]),
        ({"size": 6, "mode": "linear"}, [1, 1.5, 2.5, 4.25, 6.75, 8]),
        ({"size": 5, "mode": "linear", "align_corners": True}, [1, 2, 3, 5.5, 8]),
        ({"size": 1, "mode": "linear", "align_corners": True}, [1]),
        ({"scale_factor": 1.5, "mode": "linear"}, [1, 2, 23 / 6, 43 / 6]),
    ],
)
def test_interpolated_values(options: dict[str, Any], expected: list[float]) -> None:
    y = F.interpolate(Tensor(np.array([[[1.0, 3.0, 8.0]]])), **options)
    np.testing.assert_allclose(y.data[0, 0], expected, rtol=1e-12)


def test_integers_are_interpolated_as_float32() -> None:
    x = Tensor(np.array([[[1, 2]]]))
    assert F.interpolate(x, size=3).dtype == np.int64
    for mode, expected in (("linear", [1.0, 1.5, 2.0]), ("area", [1.0, 1.5, 2.0])):
        y = F.interpolate(x, size=3, mode=mode)
        assert y.dtype == np.float32 and y.tolist() == [[expected]]


def test_bicubic_is_exact_at_the_elements_and_for_planes() -> None:
    x = np.arange(9.0)[:, None] + np.arange(9.0)
    y = F.interpolate(Tensor(x[None, None]), size=17, mode="bicubic", align_corners=True).data[0, 0]
    np.testing.assert_allclose(y[::2, ::2], x, rtol=1e-12)
    between = (np.arange(17) / 2)[:, None] + np.arange(17) / 2
    np.testing.assert_allclose(y[2:-2, 2:-2], between[2:-2, 2:-2], rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"size": 2, "mode": "bilinear"}, "expected a mode"),
        ({"size": 2, "mode": "cubic"}, "expected a mode"),
        ({}, "expected size or scale_factor, got None and None"),
        ({"size": 2, "scale_factor": 2}, "expected size or scale_factor, got 2 and 2"),
        ({"size": (2, 3)}, "expected 1 sizes or factors"),
        ({"size": 0}, "expected sizes of at least 1"),
        ({"scale_factor": 0.1}, "expected sizes of at least 1"),
        ({"size": 2, "align_corners": False}, "expected align_corners with"),
        ({"size": 2, "mode": "linear", "antialias": True}, "expected antialias=False"),
    ],
)
def test_interpolate_refuses_what_does_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="interpolate: ") as raised:
        F.interpolate(tk.ones(1, 1, 4), **options)
    assert said in str(raised.value)


# ------------------------------------------------------------------ activations


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (F.relu, 0.0),
        (F.leaky_relu, 0.01),
        (F.elu, 1.0),
        (F.celu, 1.0),
        (F.selu, 1.0507009873554805 * 1.6732632423543772),
        (F.silu, 0.5),
        (F.softplus, 0.5),
    ],
)
def test_slope_at_the_kink(function: Any, slope: float) -> None:
    x = Tensor(np.zeros(1), requires_grad=True)
    function(x).sum().backward()
    assert x.grad is not None and x.grad.item() == pytest.approx(slope, rel=1e-12)


@pytest.mark.parametrize(
    "name", ["elu", "selu", "celu", "softplus", "logsigmoid", "sigmoid", "mish"]
)
def test_huge_inputs_neither_overflow_nor_lose_the_gradient(name: str) -> None:
    x = Tensor(np.float32([-1e4, -100, 100, 1e4]), requires_grad=True)
    y = getattr(F, name)(x)
    y.sum().backward()
    assert x.grad is not None
    assert np.isfinite(y.data).all() and np.isfinite(x.grad.data).all()


@pytest.mark.parametrize("name", sorted({case[0] for case in CASES[:17]}))
def test_nan_goes_through(name: str) -> None:
    y = getattr(F, name)(Tensor(np.array([np.nan, 1.0])))
    assert np.isnan(y.data[0]) and np.isfinite(y.data[1])


def test_softmax_sums_to_one_and_keeps_far_logits_apart() -> None:
    x = np.float32([[1e4, 1e4 - 1, -1e4], [0, -np.inf, 0]])
    p = F.softmax(Tensor(x), dim=1).data
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(p[0, :2], [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))], rtol=1e-6)
    np.testing.assert_array_equal(p[1], [0.5, 0, 0.5])
    far = F.log_softmax(Tensor(np.float32([0, 200])), dim=0).data
    np.testing.assert_array_equal(far, [-200, 0])


def test_softmax_of_nothing_possible_is_nan_without_a_warning() -> None:
    x = Tensor(np.full((1, 3), -np.inf))
    assert np.isnan(F.softmax(x, dim=1).data).all()
    assert np.isnan(F.log_softmax(x, dim=1).data).all()


def test_softmax_takes_a_dtype() -> None:
    assert F.softmax(Tensor([1.0, 2.0]), dim=0, dtype=np.float64).dtype == np.float64
    for function in (F.softmax, F.log_softmax, F.softmin, Tensor.softmax, Tensor.log_softmax):
        given, cast = Tensor(np.array([1, 2], np.uint8)), Tensor([1.0, 2.0])
        y = function(given, dim=0, dtype=np.float64)
        assert y.dtype == np.float64
        np.testing.assert_array_equal(y.data, function(cast, dim=0, dtype=np.float64).data)
    with pytest.raises(TypeError, match=r"softmax: expected a floating dtype, got int64\."):
        F.softmax(Tensor([1.0]), dim=0, dtype=np.int64)


def test_cosine_similarity_finds_dim_in_the_common_shape() -> None:
    a, b = draw(3, 4), draw(4)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b)
    for pair in ((a, b), (b, a), (a, b[np.newaxis])):
        cosines = F.cosine_similarity(*map(Tensor, pair))
        np.testing.assert_allclose(cosines.data, a @ b / lengths, rtol=1e-12)
    check_grads(F.cosine_similarity, (a, b), order=2)
    with pytest.raises(ValueError, match=r"cosine_similarity: expected axis in \[-2, 2\), got 2"):
        F.cosine_similarity(Tensor(a), Tensor(b), dim=2)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.softmax(x, dim=0),
        lambda x: F.log_softmax(x, dim=0),
        lambda x: F.softmin(x, dim=0) if x.dtype != bool else F.softmax(x, 0),
        lambda x: x.softmax(0),
        lambda x: F.dropout(x, 0.5),
        lambda x: F.sequence_loss(x.reshape(1, 1, 3), np.array([[1]])),
    ],
)
def test_integers_are_refused_with_the_fix(function: Any, dtype: str) -> None:
    with pytest.raises(TypeError, match=rf"expected floats, got {dtype}.*\.astype\(np\.float32\)"):
        function(Tensor(np.ones(3, dtype)))


def test_celu_refuses_an_alpha_of_0() -> None:
    with pytest.raises(ValueError, match="celu: expected alpha other than 0"):
        F.celu(Tensor([1.0]), 0.0)


def test_maxout_takes_the_largest_of_neighbours() -> None:
    x = Tensor([[1.0, 5.0, 2.0, 2.0, 9.0, 3.0]], requires_grad=True)
    y = F.maxout(x, 2)
    np.testing.assert_array_equal(y.data, [[5, 2, 9]])
    y.sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [[0, 1, 0.5, 0.5, 1, 0]])
    with pytest.raises(ValueError, match=r"of pieces=4 on axis -1, got shape \(1, 6\)\."):
        F.maxout(x, 4)


def test_unknown_approximation_and_crossed_bounds() -> None:
    with pytest.raises(ValueError, match=r"expected approximate .none. or .tanh., got 'erf'\."):
        F.gelu(Tensor([1.0]), approximate="erf")
    with pytest.raises(ValueError, match=r"expected min_val <= max_val, got 2\.0 and 1\.0\."):
        F.hardtanh(Tensor([1.0]), 2.0, 1.0)


def normal_cdf(x: ndarray) -> ndarray:
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


FORMULAS: list[tuple[str, dict[str, Any], Callable[[ndarray], ndarray]]] = [
    ("relu", {}, lambda x: np.where(x > 0, x, 0)),
    ("relu6", {}, lambda x: np.minimum(np.maximum(x, 0), 6)),
    ("leaky_relu", {"negative_slope": 0.2}, lambda x: np.where(x > 0, x, 0.2 * x)),
    ("elu", {"alpha": 0.5}, lambda x: np.where(x > 0, x, 0.5 * (np.exp(x) - 1))),
    ("celu", {"alpha": 2.0}, lambda x: np.where(x > 0, x, 2 * (np.exp(x / 2) - 1))),
    ("selu", {}, lambda x: 1.05070098736 * np.where(x > 0, x, 1.67326324235 * (np.exp(x) - 1))),
    ("gelu", {}, lambda x: x * normal_cdf(x)),
    (
        "gelu",
        {"approximate": "tanh"},
        lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    ("silu", {}, lambda x: x / (1 + np.exp(-x))),
    ("mish", {}, lambda x: x * np.tanh(np.log(1 + np.exp(x)))),
    ("softsign", {}, lambda x: x / (1 + np.abs(x))),
    ("softplus", {"beta": 2.0}, lambda x: np.log(1 + np.exp(2 * x)) / 2),
    ("logsigmoid", {}, lambda x: -np.log(1 + np.exp(-x))),
    ("sigmoid", {}, lambda x: 1 / (1 + np.exp(-x))),
    ("tanh", {}, lambda x: (np.exp(2 * x) - 1) / (np.exp(2 * x) + 1)),
    ("hardtanh", {"min_val": -0.5, "max_val": 2.0}, lambda x: np.clip(x, -0.5, 2)),
    ("hardsigmoid", {}, lambda x: np.clip(x / 6 + 0.5, 0, 1)),
    ("softmin", {"dim": 0}, lambda x: np.exp(-x) / np.exp(-x).sum()),
]


@pytest.mark.parametrize(("name", "words", "formula"), FORMULAS)
def test_an_activation_is_its_formula(name: str, words: Any, formula: Any) -> None:
    x = np.linspace(-8, 8, 33)
    np.testing.assert_allclose(getattr(F, name)(x, **words), formula(x), rtol=1e-10, atol=1e-14)


def test_beyond_its_threshold_softplus_is_the_identity() -> None:
    x = Tensor(np.array([1.99, 2.01]), requires_grad=True)
    y = F.softplus(x, beta=1.0, threshold=2.0)
    y.sum().backward()
    assert y.data[0] > 2.1 and y.data[1] == 2.01
    assert x.grad is not None and x.grad.data[0] < 0.9 and x.grad.data[1] == 1


def test_hard_bounds_have_slope_0_themselves() -> None:
    x = Tensor(np.array([-1.0, 0.0, 1.0]), requires_grad=True)
    F.hardtanh(x).sum().backward()
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.data, [0, 1, 0])


def test_softmin_names_itself_in_an_error() -> None:
    with pytest.raises(ValueError, match=r"^softmin: expected axis in \[-1, 1\), got 5"):
        F.softmin(Tensor([1.0, 2.0]), 5)
