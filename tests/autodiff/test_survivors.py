"""What only a mutant showed to be untested: see `tests/mutation.py`. One test for each survivor."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
from op_samples import SAMPLES
from test_ops import DIFFERENTIABLE, OPS, cast, params_in

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, optim
from tinygrad_kr.ops import network, reduction
from tinygrad_kr.ops.indexing import is_basic
from tinygrad_kr.optim import blocks


def test_the_series_of_sinc_meets_the_formula_at_its_last_bit() -> None:
    x = np.array([0.00999, -0.00999, 0.005])
    t = (np.pi * x) ** 2
    terms = [(-1) ** k * 2 * k * t ** (k - 1) / math.factorial(2 * k + 1) for k in range(1, 9)]
    expected = np.pi**2 * x * sum(terms[::-1])
    np.testing.assert_allclose(tk.grad(lambda x: tk.sinc(x).sum())(x), expected, rtol=1e-15)


def test_bce_with_logits_of_float32_is_computed_in_float64() -> None:
    x = np.linspace(-20, 20, 999).astype(np.float32)
    a = np.linspace(0, 1, 999).astype(np.float32)
    exact = network.bce_with_logits(x.astype(np.float64), a.astype(np.float64))
    np.testing.assert_array_equal(network.bce_with_logits(x, a), exact.astype(np.float32))


@pytest.mark.parametrize(
    ("shape", "axis"), [((3,), r"on the last axis of \(3,\)"), ((3, 2), "on the last axis but one")]
)
def test_matmul_names_the_axis_of_the_second_input(shape: tuple[int, ...], axis: str) -> None:
    with pytest.raises(ValueError, match=axis):
        tk.ones(2, 4) @ tk.ones(*shape)


def test_maxout_of_one_piece_is_its_input() -> None:
    np.testing.assert_array_equal(F.maxout(tk.arange(3.0), 1).data, [0, 1, 2])


@pytest.mark.parametrize(("weight", "advised"), [((5, 12), True), ((12, 5), False)])
def test_linear_advises_to_flatten_where_that_fits(weight: tuple[int, int], advised: bool) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        F.linear(tk.ones(2, 3, 4), tk.ones(*weight))
    assert ("Flatten it first" in str(caught.value)) == advised


def test_scatter_add_takes_a_list() -> None:
    found = tk.scatter_add(tk.zeros(3), 0, [0, 2, 2], [1, 2, 3])
    np.testing.assert_array_equal(found.data, [1, 0, 5])
    assert found.dtype == np.float32


@pytest.mark.parametrize("end", ["prepend", "append"])
def test_diff_with_one_end(end: str) -> None:
    x, more = np.array([1.0, 4.0, 9.0]), np.array([5.0])
    np.testing.assert_array_equal(tk.diff(Tensor(x), **{end: more}).data, np.diff(x, **{end: more}))


def test_an_op_shows_its_options() -> None:
    def scaled(x: Any, *, factor: float = 2.0) -> Any:
        return x * factor

    assert list(inspect.signature(tk.op(scaled)).parameters) == ["x", "factor"]
    assert list(inspect.signature(tk.op(lambda x, **options: x)).parameters) == ["x", "options"]


def test_one_hot_is_of_integers() -> None:
    assert F.one_hot(tk.tensor([0, 2]), 3).dtype == np.int64


def test_plateau_has_pytorchs_eps_and_takes_a_metric_of_0() -> None:
    optimizer = optim.SGD([tk.ones(1, requires_grad=True)], lr=0.1)
    schedule = optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    assert schedule.eps == 1e-8
    schedule.step(0.0)
    assert schedule.best == 0.0


@pytest.mark.parametrize("extreme", [reduction.max_, reduction.min_])
def test_the_rule_of_an_extreme_has_the_default_of_its_op(extreme: Any) -> None:
    x = Tensor(np.array([[1.0, 2.0, 0.0], [5.0, 4.0, 7.0]]), requires_grad=True)
    extreme(x, axis=1).backward(Tensor(np.array([10.0, 20.0])))
    assert x.grad is not None
    column = np.argmax(x.data, 1) if extreme is reduction.max_ else np.argmin(x.data, 1)
    expected = np.zeros((2, 3))
    expected[[0, 1], column] = 10.0, 20.0
    np.testing.assert_array_equal(x.grad.data, expected)


def test_a_float64_number_beside_float32_counts_as_float32() -> None:
    x = np.linspace(1, 2, 99, dtype=np.float32)
    found = Tensor(x) * np.float64(0.1)
    np.testing.assert_array_equal(found.data, x * np.float32(0.1))


def test_running_statistics_of_float16_stay_float16() -> None:
    mean, var = np.zeros(2, np.float16), np.ones(2, np.float16)
    x = np.arange(8, dtype=np.float32).reshape(4, 2)
    F.batch_norm(Tensor(x), tensors := Tensor(mean), Tensor(var), training=True)
    assert tensors.dtype == np.float16
    np.testing.assert_allclose(tensors.data, 0.1 * x.mean(0), rtol=1e-3)


def test_adaptive_pooling_keeps_a_size_of_none() -> None:
    x = tk.arange(24.0).reshape(1, 4, 6)
    found = F.adaptive_avg_pool2d(x, (None, 2))
    np.testing.assert_allclose(found.data, x.data.reshape(1, 4, 2, 3).mean(-1))


@pytest.mark.parametrize("widths", [(0, -1), (-1, 0), (-1, -2), (1, -1), (0, -1, -1, 0)])
def test_negative_padding_crops(widths: tuple[int, ...]) -> None:
    x = np.arange(20.0).reshape(4, 5)
    pairs = [(0, 0), *zip(widths[::2], widths[1::2], strict=True)][-2:]
    pairs = pairs if len(widths) == 2 else [widths[2:], widths[:2]]  # type: ignore[list-item]
    cropped = x[
        tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, pairs, strict=True))
    ]
    expected = np.pad(cropped, [(max(a, 0), max(b, 0)) for a, b in pairs])
    np.testing.assert_array_equal(F.pad(Tensor(x), widths).data, expected)


def test_indices_of_pooled_maxima_without_a_batch() -> None:
    x = np.random.default_rng(0).permutation(60).reshape(3, 4, 5).astype(np.float64)
    y, index = F.max_pool2d(Tensor(x), (2, 2), return_indices=True)
    whole = F.max_pool2d(Tensor(x[None]), (2, 2), return_indices=True)
    np.testing.assert_array_equal(index.data, whole[1].data[0])
    np.testing.assert_array_equal(
        np.take_along_axis(x.reshape(3, -1), index.data.reshape(3, -1), 1), y.data.reshape(3, -1)
    )


@pytest.mark.parametrize(("loss", "said"), [(F.cross_entropy, True), (F.nll_loss, False)])
def test_only_cross_entropy_offers_probabilities(loss: Any, said: bool) -> None:
    with pytest.raises(ValueError, match="labels") as caught:
        loss(tk.zeros(2, 3), tk.tensor([0, 1, 2]))
    assert ("or probabilities" in str(caught.value)) == said


def test_a_list_of_booleans_is_a_mask_and_one_of_floats_no_index() -> None:
    x = tk.arange(3.0)
    np.testing.assert_array_equal(x[[True, False, True]].data, [0, 2])
    np.testing.assert_array_equal(x[[]].data, [])
    with pytest.raises(IndexError, match="expected integers or booleans, got float"):
        x[[0.0, 1.0]]


def test_one_cycle_in_straight_lines() -> None:
    parameter = tk.ones(1, requires_grad=True)
    optimizer = optim.SGD([parameter], lr=0.1, momentum=0.9)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=11, pct_start=0.5, anneal_strategy="linear"
    )
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        parameter.grad = tk.ones(1)
        optimizer.step()
        schedule.step()
    first, last, up = 1.0 / 25, 1.0 / 25 / 1e4, 0.5 * 11 - 1
    expected = [
        first + (1 - first) * k / up if k <= up else 1 + (last - 1) * (k - up) / (10 - up)
        for k in range(10)
    ]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_index_select_takes_one_number() -> None:
    x = tk.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(tk.index_select(x, 1, tk.tensor(2)).data, [[2], [5]])


def test_cross_entropy_with_probabilities_weights_and_smoothing() -> None:
    x = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    target = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])
    weight, smoothing = np.array([1.0, 2.0, 0.5]), 0.1
    logs = x - np.log(np.exp(x).sum(1, keepdims=True))
    mixed = (target * (1 - smoothing) + smoothing / 3) * weight
    found = F.cross_entropy(
        Tensor(x), Tensor(target), Tensor(weight), label_smoothing=smoothing, reduction="none"
    )
    np.testing.assert_allclose(found.data, -(logs * mixed).sum(1), rtol=1e-12)


def test_weights_of_bce_with_logits() -> None:
    x, target, weight = np.array([0.5, -2.0]), np.array([1.0, 0.3]), np.array([2.0, 5.0])
    p = 1 / (1 + np.exp(-x))
    expected = -weight * (target * np.log(p) + (1 - target) * np.log(1 - p))
    found = F.binary_cross_entropy_with_logits(
        Tensor(x), Tensor(target), Tensor(weight), reduction="none"
    )
    np.testing.assert_allclose(found.data, expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, math.inf])
def test_compiled_clipping_of_small_gradients_is_eagers(order: float) -> None:
    """1e-6, which is added to the norm, counts beside a norm of 1e-3."""
    parameter = Tensor(np.array([1.0, 2.0]), requires_grad=True)

    def step(x: Any) -> Any:
        parameter.grad = None
        (parameter * x).sum().backward()
        return optim.clip_grad_norm_([parameter], 1e-4, order)

    compiled = tk.compile(step)
    x = np.array([3e-4, -8e-4])
    for function in (step, compiled, compiled, compiled):
        norm = function(Tensor(x))
        size = np.linalg.norm(x, order)
        np.testing.assert_allclose(norm.data, size, rtol=1e-12)
        assert parameter.grad is not None
        np.testing.assert_allclose(parameter.grad.data, x * 1e-4 / (size + 1e-6), rtol=1e-12)


@pytest.mark.parametrize(("p", "dim"), [(2.0, 1), (1.0, 0), (3.0, -1)])
def test_normalize_divides_by_the_norm(p: float, dim: int) -> None:
    x = np.array([[3.0, -4.0, 1.0], [0.5, 2.0, -7.0]])
    expected = x / np.linalg.norm(x, p, dim, keepdims=True)
    np.testing.assert_allclose(F.normalize(Tensor(x), p, dim).data, expected, rtol=1e-12)


def test_one_cycle_of_three_phases_ends_each_where_it_should() -> None:
    parameter = tk.ones(1, requires_grad=True)
    optimizer = optim.SGD([parameter], lr=0.1, momentum=0.9)
    schedule = optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=20, pct_start=0.25, three_phase=True
    )
    rates = []
    for _ in range(20):
        rates.append(schedule.get_last_lr()[0])
        if len(rates) < 20:
            parameter.grad = tk.ones(1)
            optimizer.step()
            schedule.step()
    first = 1.0 / 25
    np.testing.assert_allclose([rates[k] for k in (0, 4, 8, 19)], [first, 1, first, first / 1e4])


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_is_its_formula(training: bool) -> None:
    x = np.random.default_rng(0).standard_normal((5, 2, 3))
    mean, var = np.array([0.3, -1.0]), np.array([0.5, 2.0])
    weight, bias, eps = np.array([2.0, -3.0]), np.array([0.7, 0.2]), 0.1
    used = (x.mean((0, 2)), x.var((0, 2))) if training else (mean, var)
    m, v, w, b = (part[:, None] for part in (*used, weight, bias))
    found = F.batch_norm(
        Tensor(x), Tensor(mean), Tensor(var), Tensor(weight), Tensor(bias), training, eps=eps
    )
    np.testing.assert_allclose(found.data, (x - m) / np.sqrt(v + eps) * w + b, rtol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adagrad", "rmsprop", "adadelta", "adam", "nadam"])
def test_a_rule_has_the_defaults_of_its_class(name: str) -> None:
    rule = inspect.signature(getattr(optim.rules, name)).parameters
    (cls,) = (c for n, c in vars(optim).items() if n.lower() == name and isinstance(c, type))
    for option, parameter in inspect.signature(cls).parameters.items():
        if option in rule and rule[option].default is not inspect.Parameter.empty:
            assert rule[option].default == parameter.default, option


@pytest.mark.parametrize("options", [{"epochs": 3}, {"steps_per_epoch": 3}, {}])
def test_one_cycle_wants_its_length(options: dict[str, int]) -> None:
    optimizer = optim.SGD([tk.ones(1, requires_grad=True)], lr=0.1, momentum=0.9)
    with pytest.raises(ValueError, match="total_steps"):
        optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_warm_restarts_go_to_an_epoch_as_they_come_to_it(times: int) -> None:
    def schedule() -> Any:
        parameter = tk.ones(1, requires_grad=True)
        parameter.grad = tk.ones(1)
        optimizer = optim.SGD([parameter], lr=0.1)
        optimizer.step()
        return optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 3, times)

    stepped = schedule()
    for epoch in range(1, 30):
        stepped.step()
        there = schedule()
        there.step(epoch)
        np.testing.assert_allclose(there.get_last_lr(), stepped.get_last_lr(), rtol=1e-12)


def test_ignored_steps_of_a_sequence_need_no_second_class() -> None:
    logits, labels = tk.zeros(1, 2, 1), np.array([[0, 9]])
    assert F.sequence_loss(logits, labels, lengths=np.array([1])).item() == 0.0


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        *(
            (key, True)
            for key in (None, ..., 2, np.int64(1), slice(2), (0, None), np.array([True]))
        ),
        *((key, False) for key in ([0, 1], (0, np.array([1])), np.array([1]))),
    ],
)
def test_what_repeats_no_element_is_basic(key: Any, expected: bool) -> None:
    assert is_basic(key) == expected


def test_a_number_is_a_vector_of_one_for_convolve() -> None:
    for a, v in ((2.0, np.array([1.0, 2.0])), (np.array([1.0, 2.0]), 2.0)):
        np.testing.assert_array_equal(tk.convolve(Tensor(a), Tensor(v)).data, np.convolve(a, v))


def test_batch_norm_without_one_of_its_statistics_takes_those_of_the_batch() -> None:
    x = np.random.default_rng(0).standard_normal((5, 2))
    expected = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    found = F.batch_norm(Tensor(x), Tensor(np.array([9.0, 9.0])), None)
    np.testing.assert_allclose(found.data, expected, rtol=1e-12)


def test_batch_norm_evaluates_by_default() -> None:
    found = F.batch_norm(tk.tensor([[4.0]]), tk.tensor([1.0]), tk.tensor([9.0]), eps=0.0)
    np.testing.assert_allclose(found.data, [[1.0]])


def test_a_transposed_convolution_without_a_batch() -> None:
    random = np.random.default_rng(0)
    x, weight = random.standard_normal((2, 4, 5)), random.standard_normal((2, 3, 2, 2))
    whole = F.conv_transpose2d(Tensor(x[None]), Tensor(weight))
    found = F.conv_transpose2d(Tensor(x), Tensor(weight))
    np.testing.assert_allclose(found.data, whole.data[0], rtol=1e-12)


def test_argsort_takes_dim_and_gives_an_array_for_an_array() -> None:
    x = np.array([[3.0, 1.0], [4.0, 2.0]])
    np.testing.assert_array_equal(tk.argsort(Tensor(x), dim=0).data, np.argsort(x, 0))
    assert type(tk.argsort(x)) is np.ndarray


def test_schedules_begin_at_epoch_0_with_their_first_rate() -> None:
    optimizer = optim.SGD([tk.ones(1, requires_grad=True)], lr=0.3)
    assert optim.lr_scheduler.ReduceLROnPlateau(optimizer).last_epoch == 0
    linear = optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5)
    np.testing.assert_allclose(linear.get_last_lr(), [0.15])
    constant = optim.lr_scheduler.ConstantLR(optim.SGD([tk.ones(1, requires_grad=True)], lr=0.3))
    np.testing.assert_allclose(constant.get_last_lr(), [0.1])


def test_a_linear_schedule_in_a_sequence_begins_with_its_first_rate() -> None:
    parameter = tk.ones(1, requires_grad=True)
    parameter.grad = tk.ones(1)
    optimizer = optim.SGD([parameter], lr=0.3)
    parts = [
        optim.lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=9),
        optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=9),
    ]
    schedule = optim.lr_scheduler.SequentialLR(optimizer, parts, [1])
    optimizer.step()
    schedule.step()
    np.testing.assert_allclose(schedule.get_last_lr(), [0.15])


@pytest.mark.parametrize(
    ("cls", "decay"), [("SGD", 0), ("Adam", 0), ("AdamW", 1e-2), ("NAdam", 0), ("RMSprop", 0)]
)
def test_weight_decay_is_pytorchs_by_default(cls: str, decay: float) -> None:
    optimizer = getattr(optim, cls)([tk.ones(1, requires_grad=True)], lr=0.1)
    assert optimizer.defaults["weight_decay"] == decay


def test_integers_are_float32_in_linear_algebra_and_gradients() -> None:
    x = np.array([[2, 1], [1, 5]])
    found = [
        tk.linalg.matrix_norm(Tensor(x), 1),
        tk.linalg.cond(Tensor(x), 1),
        tk.linalg.pinv(Tensor(x)),
        tk.linalg.svd(Tensor(x))[1],
        tk.gradient(Tensor(x[0]))[0],
    ]
    assert [t.dtype for t in found] == [np.float32] * 5


def test_the_cross_product_of_two_vectors_in_a_plane_is_a_number() -> None:
    found = tk.cross(tk.tensor([1.0, 2.0]), tk.tensor([3.0, 5.0]))
    assert found.shape == () and found.item() == -1.0


def test_expand_keeps_sizes_behind_a_new_axis() -> None:
    assert tk.ones(2, 1).expand(4, -1, 3).shape == (4, 2, 3)
    assert tk.ones(2, 3).expand(4, -1, -1).shape == (4, 2, 3)


@pytest.mark.parametrize("mode", ["reflect", "circular", "replicate"])
@pytest.mark.parametrize("widths", [(-1, 0), (0, -1), (1, 0)])
def test_extended_padding_with_negative_widths_crops(mode: str, widths: tuple[int, int]) -> None:
    x = np.arange(5.0)
    kept = [max(width, 0) for width in widths]
    padded = np.pad(x, kept, {"reflect": "reflect", "circular": "wrap", "replicate": "edge"}[mode])  # type: ignore[call-overload]
    expected = padded[max(-widths[0], 0) : len(padded) - max(-widths[1], 0)]
    found = F.pad(Tensor(x[None, None]), widths, mode=mode)
    np.testing.assert_array_equal(found.data[0, 0], expected)


def test_nothing_cannot_be_replicated() -> None:
    with pytest.raises(ValueError, match="widths up to 0"):
        F.pad(tk.zeros(1, 1, 0), (1, 0), mode="replicate")


@pytest.mark.parametrize("name", ["keepdim", "keepdims"])
def test_either_name_keeps_the_axis_of_std(name: str) -> None:
    assert tk.std(tk.ones(2, 3), 1, **{name: True}).shape == (2, 1)


def test_pooling_along_one_axis_names_it() -> None:
    with pytest.raises(ValueError, match=r"\(N, C, L\) or \(C, L\)"):
        F.avg_pool1d(tk.zeros(2), 2)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_bce_of_a_certain_probability_beside_a_missing_target(p: float) -> None:
    found = F.binary_cross_entropy(tk.tensor([p, 0.5]), tk.tensor([p, np.nan]), reduction="none")
    np.testing.assert_array_equal(found.data, [0.0, np.nan])


def test_compiled_clipping_takes_an_empty_parameter() -> None:
    some, none = tk.ones(2, requires_grad=True), tk.ones(0, requires_grad=True)

    def step() -> Any:
        some.grad = none.grad = None
        ((some * 3).sum() + none.sum()).backward()
        return optim.clip_grad_norm_([some, none], 1.0, 3.0)

    compiled = tk.compile(step)
    for function in (step, compiled, compiled, compiled):
        np.testing.assert_allclose(function().data, 3 * 2 ** (1 / 3), rtol=1e-6)


def test_ignored_labels_need_no_second_class() -> None:
    found = F.cross_entropy(tk.zeros(2, 1), tk.tensor([0, -100]), reduction="none")
    np.testing.assert_array_equal(found.data, [0.0, 0.0])


DEAR = {"concatenate": [0, 1], "stack": [0, 1], "rnn_scan": [2], "gru_scan": [2], "lstm_scan": [3]}
"""Inputs of ops with one rule for all, whose cotangents cost time."""


@pytest.mark.parametrize(("name", "i"), [case for case in DIFFERENTIABLE if case[0] in DEAR])
def test_one_rule_for_all_computes_only_what_is_needed(name: str, i: int) -> None:
    record, case = OPS[name], SAMPLES[name][i]
    inputs, params = cast(case, np.float64), params_in(case, np.float64)
    y = record.forward(*inputs, **params)
    for needed in range(len(inputs)):
        needs = tuple(j == needed for j in range(len(inputs)))
        with np.errstate(all="ignore"):
            found = record.rules[0](np.ones_like(y), y, *inputs, needs=needs, **params)
        assert not [
            j for j in DEAR[name] if j < len(found) and found[j] is not None and not needs[j]
        ]


def partition(sizes: list[int], join: bool) -> list[list[int]]:
    """How blocks of the optimizer group float32 parameters of these sizes in bytes."""
    parameters = [tk.zeros(size // 4, requires_grad=True) for size in sizes]
    parts = blocks._partition(list(map(blocks.ParamState, parameters)), join)
    return [[state.param._data.nbytes for state in part] for part in parts]


def test_blocks_join_small_parameters_up_to_their_size() -> None:
    half = blocks.SMALL // 2
    full = blocks.CHUNK // half
    assert partition([half] * (2 * full), join=True) == [[half] * full] * 2
    assert partition([half] * (full + 1), join=True) == [[half] * full, [half]]
    assert partition([half] * 3, join=False) == [[half]] * 3
    assert partition([half, 3 * half, half], join=True) == [[3 * half], [half, half]]


def test_a_large_parameter_is_updated_in_pieces() -> None:
    sizes = [blocks.SMALL // 4, blocks.SMALL // 4 + 1, 2 * blocks.CHUNK // 4 + 1]
    parameters = [tk.zeros(size, requires_grad=True) for size in sizes]
    optimizer = optim.SGD(parameters, lr=0.1)
    for parameter in parameters:
        parameter.grad = tk.ones(*parameter.shape)
    optimizer.step()
    (block,) = optimizer._plan.blocks  # type: ignore[union-attr]
    kinds = {type(part).__name__: part for part in block.parts}
    assert "Chunked" in kinds
    assert [len(part.calls) for part in block.parts if type(part).__name__ == "Chunked"] == [1, 3]
