"""The suite is tested: a mutant of the walk, of a rule, of the checker turns a named test red.

A mutant is made from the source of one function by one substitution, and lives for one test. Many
more, drawn by seed, are the command `python tests/mutation.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_autodiff
import test_linalg_degenerate
import test_op
import test_ops
import test_testing
import test_traps_graph
import test_traps_numerics
import test_traps_shapes
import test_traps_threads
import test_undefined_derivatives
from mutants import ROOT, Mutant, changes_of, draw, mutated, substituted
from package_modules import package_modules
from test_ops import DIFFERENTIABLE, OPS

import tinygrad_kr as tk
import tinygrad_kr.functional as F
from tinygrad_kr import Tensor, autodiff, linalg, remat, transformations
from tinygrad_kr.ops import reduction, writes
from tinygrad_kr.optim import blocks
from tinygrad_kr.testing import grads, taylor

list(package_modules())  # all are imported before functions are exchanged


def notices(test: Callable[..., Any], *args: Any) -> bool:
    """Whether a test fails."""
    try:
        test(*args)
    except (Exception, pytest.fail.Exception):
        return True
    return False


def saved_input(write: Any = test_traps_graph.changed_in_place) -> None:
    test_traps_graph.test_mutation_of_a_saved_input_raises_and_names_both_places(write)


def saved_under_a_view() -> None:
    test_traps_graph.test_mutation_under_a_view_is_noticed_for_every_op("transpose", 0)


def second_order() -> None:
    test_ops.test_derivatives_of_first_and_second_order("multiply", 0)


def aliases() -> None:
    for f in (lambda x, y: x + y, lambda x, y: x[:] + y[::-1]):
        test_traps_graph.test_aliased_gradients_never_share(f, False)


def aliases_of_a_recorded_backward() -> None:
    test_traps_graph.test_aliased_gradients_never_share(lambda x, y: x + y, True)


def another_backward_meanwhile(before: bool = True) -> None:
    with pytest.MonkeyPatch.context() as patch:
        test_traps_threads.test_another_backward_between_the_sum_and_the_store(
            before, False, 0, patch
        )


WALK: list[tuple[str, Any, str, str, Callable[[], Any]]] = [
    (
        "the un-broadcast is dropped",
        autodiff._walk,
        r"gx = unbroadcast\(gx, value.shape\)",
        "pass",
        test_op.test_bias_is_unbroadcast_by_the_walker_and_not_by_the_rule,
    ),
    (
        "the un-broadcast takes the first instead of the sum",
        autodiff.unbroadcast,
        r"g = g.sum\(axis=0\) if extra == 1 else",
        "g = g[0] if extra == 1 else",
        lambda: test_ops.test_derivatives_of_first_and_second_order("add", 1),
    ),
    (
        "an axis broadcast from 1 to 0 is not undone",
        autodiff.unbroadcast,
        r"n == 1 != g.shape\[i\]",
        "n == 1 < g.shape[i]",
        test_testing.test_empty_arrays_pass,
    ),
    (
        "an accumulation is dropped",
        autodiff._walk,
        r"gx = before \+ gx",
        "pass",
        test_traps_graph.test_diamond_accumulates_fully_before_passing_on,
    ),
    (
        "a node passes on before its gradient is complete",
        autodiff._walk,
        r"node = order.pop\(\)",
        "node = order.pop(0)",
        test_traps_graph.test_reuse_at_unequal_depths,
    ),
    (
        "nodes are walked in no order",
        autodiff.topological_order,
        r"order.sort\(key=[^\n]*\)",
        r"order.sort(key=id)",
        test_traps_graph.test_reuse_at_unequal_depths,
    ),
    (
        "a dtype cast is dropped",
        autodiff._walk,
        r"grads\[leaf\] = _in_dtype\(g, leaf._data.dtype\)",
        "pass",
        test_traps_shapes.test_dtype_of_a_gradient_is_that_of_its_leaf_across_casts,
    ),
    (
        "a leaf's gradient is an alias",
        autodiff._walk,
        r"gx = gx if type\(gx\) is RowGradient else np\.array\(gx\)",
        "pass",
        aliases,
    ),
    (
        "a leaf's gradient is an alias where the backward pass is recorded",
        autodiff._sum,
        r"g\.clone\(\)",
        "g",
        aliases_of_a_recorded_backward,
    ),
    (
        "the graph is freed although it shall be retained",
        autodiff._walk,
        "if not retain_graph:",
        "if True:",
        test_traps_graph.test_repeated_backward_adds_the_same_again,
    ),
    (
        "the graph is never freed",
        autodiff._walk,
        "if not retain_graph:",
        "if False:",
        test_traps_graph.test_second_backward_names_the_freed_op_and_the_fix,
    ),
    (
        "what was overwritten is not noticed",
        autodiff._walk,
        r"careful = [^\n]*",
        "careful = False",
        saved_input,
    ),
    (
        "a write through a view is not noticed",
        writes.owner,
        r"return [^\n]*",
        "return array",
        saved_under_a_view,
    ),
    (
        "the backward pass is not recorded",
        autodiff._walk,
        r"y, given = node, inputs",
        "pass",
        second_order,
    ),
    (
        "rules run where no gradient is needed",
        autodiff._walk,
        r"x\._requires_grad",
        "True",
        test_op.test_rules_run_only_where_a_gradient_is_needed,
    ),
    (
        "inputs that lead nowhere are walked",
        autodiff._walk,
        r"needed is not None and x not in needed",
        "False",
        test_op.test_rules_run_only_where_a_gradient_is_needed,
    ),
    (
        "gradients replace those of before",
        autodiff._sum,
        r"if before is not None:",
        "if False:",
        test_traps_graph.test_repeated_backward_adds_the_same_again,
    ),
    (
        "a sum is stored over the gradient of another thread",
        autodiff._accumulate_sums,
        r"while not replace_gradient\(node, before, after\):",
        "while replace_gradient(node, node._grad, after) is None:",
        another_backward_meanwhile,
    ),
    (
        "a first gradient is stored over that of another thread",
        autodiff._accumulate,
        r"after if \(stored := node\._grad is None\) else node\._grad",
        "after; stored = True",
        lambda: another_backward_meanwhile(before=False),
    ),
    (
        "hooks see the memory itself",
        autodiff._call_hooks,
        r"constant\(np\.array\(g\)\)",
        "constant(np.asarray(g))",
        test_traps_graph.test_a_hook_that_writes_into_what_it_sees_reaches_no_other_branch,
    ),
    (
        "a Tensor that appears twice has the last cotangent only",
        transformations._summed,
        r"found\[node\] \+ g if node in found else g",
        "g",
        test_autodiff.test_the_same_tensor_as_two_results,
    ),
    (
        "an inner derivative is not recorded for an outer one",
        transformations._Traced.gradients,
        r"create_graph=create_graph",
        "create_graph=False",
        test_autodiff.test_grad_of_grad_of_grad,
    ),
    (
        "a checkpoint does not replay the generator",
        remat._drawing_from,
        r"generator\.state = state",
        "pass",
        test_autodiff.test_checkpoint_replays_the_generator,
    ),
    (
        "a checkpoint walks on into what is outside",
        remat.checkpoint,
        r", stop=others",
        "",
        test_autodiff.test_checkpoint_reaches_computed_tensors_in_the_closure,
    ),
    (
        "ties are counted once",
        reduction._extreme,
        r"\) / ties",
        ")",
        lambda: test_traps_numerics.test_ties_are_split_evenly("max"),
    ),
]


@pytest.mark.one_in(5)
@pytest.mark.parametrize(
    ("function", "old", "new", "test"), [case[1:] for case in WALK], ids=[case[0] for case in WALK]
)
def test_mutant_of_the_walk_turns_a_test_red(function: Any, old: str, new: str, test: Any) -> None:
    assert not notices(test)
    with substituted(function, old, new):
        assert notices(test)
    assert not notices(test)


# ------------------------------------------------------------------ every rule of every op

RULES = sorted(
    {(name, j) for name, _ in DIFFERENTIABLE for j, rule in enumerate(OPS[name].rules) if rule}
)


def changed_rules(name: str, j: int, change: Callable[..., Any]) -> tuple[Any, ...]:
    rules = list(OPS[name].rules)
    right = rules[j]
    rules[j] = lambda g, y, *inputs, **params: change(right, g, y, *inputs, **params)
    return tuple(rules)


def sign_swapped(rule: Any, g: Any, y: Any, *inputs: Any, **params: Any) -> Any:
    return -rule(g, y, *inputs, **params)


def slightly_scaled(rule: Any, g: Any, y: Any, *inputs: Any, **params: Any) -> Any:
    return rule(g, y, *inputs, **params) * (1 + 1e-4)


def unrecorded(rule: Any, g: Any, y: Any, *inputs: Any, **params: Any) -> Any:
    """Right once; but what it computes has no history."""
    raw = [x.data if isinstance(x, Tensor) else x for x in (g, y, *inputs)]
    return np.asarray(rule(*raw, **params))


def derivatives_of(decompose: Callable[[Any], Any], order: int = 2) -> None:
    grads.check_grads(decompose, np.random.default_rng(0).normal(size=(3, 2)), order=order)


def every_way_to(decompose: Callable[[Any], Any]) -> None:
    """What rules of rules give, and what they leave undefined."""
    derivatives_of(decompose)
    x, ones = np.random.default_rng(1).normal(size=(2, 3, 2)), np.ones((3, 2))
    third = lambda a: tk.hvp(lambda a: (decompose(a) ** 2).sum(), (a,), (ones,))[0]  # noqa: E731
    grads.check_grads(third, x[0], order=1, rtol=1e-5, atol=1e-6)
    along = lambda a, h: tk.jvp(decompose, (a,), (h * h,))[1]  # noqa: E731
    grads.check_grads(along, (x[0], x[1]), order=2, rtol=1e-5, atol=1e-6)
    for f, a in (
        (lambda a: (linalg.eigvalsh(a) - 1) ** 2, np.eye(2)),
        (lambda a: (linalg.svdvals(a) - 1) ** 2, np.eye(2)),
        (lambda a: linalg.svdvals(a) ** 2, np.diag([1.0, 0.0])),
    ):
        test_linalg_degenerate.test_functions_of_values_are_never_wrong_to_second_order(
            lambda a, f=f: f(a).sum(), a
        )


def every_way_is_nan() -> None:
    for way in test_undefined_derivatives.WAYS.values():
        test_undefined_derivatives.test_every_way_to_a_second_derivative_is_nan(
            test_undefined_derivatives.squared, np.linalg.norm, way
        )


OTHERWISE: dict[str, Callable[[], None]] = {
    "undefined": every_way_is_nan,
    "subgradient_product": lambda: (
        every_way_is_nan(),
        test_undefined_derivatives.test_the_second_derivative_by_a_tangent_or_a_factor_is_nan(),
        grads.check_grads(np.linalg.norm, np.array([3.0, -4.0, 1.0]), order=2),
    )[-1],
    "kink": test_undefined_derivatives.test_a_kink_has_no_derivative_of_any_order,
    **{
        name: lambda: every_way_to(lambda a: linalg.eigh(a.mT @ a).eigenvectors)
        for name in ("eigh_slope", "eigh_tangent")
    },
    **{
        name: lambda: (
            every_way_to(lambda a: linalg.svd(a, False).U * linalg.svd(a, False).S),
            every_way_to(lambda a: linalg.svd(a, False).Vh),
        )[-1]
        for name in ("svd_slope", "svd_tangent")
    },
    "left_vectors": lambda: derivatives_of(lambda a: linalg.svd(a, False).U),
    "right_vectors": lambda: derivatives_of(lambda a: linalg.svd(a, False).Vh),
    "eigenvectors": lambda: derivatives_of(lambda a: linalg.eigh(a.mT @ a).eigenvectors),
}
"""Tests of the ops whose rules give NaN, or mark the cotangent: not to be seen by differences."""

UNSIGNED = {("undefined", 0), ("kink", 0), ("subgradient_product", 2)}
"""Rules whose results are 0 or NaN, which have no sign."""
MARKS = {(f"{name}_{kind}", 1) for name in ("eigh", "svd") for kind in ("slope", "tangent")}
"""Rules that give a mark: above 0, of any size, without a history."""

MUTANTS = [
    (name, j, change)
    for change in (sign_swapped, slightly_scaled, unrecorded)
    for name, j in RULES
    if (name, j) not in UNSIGNED or change is unrecorded
    if (name, j) not in MARKS or change is sign_swapped
]


def caught(name: str) -> bool:
    if name in OTHERWISE:
        return notices(OTHERWISE[name])
    return any(
        notices(test_ops.test_derivatives_of_first_and_second_order, op, i)
        for op, i in DIFFERENTIABLE
        if op == name
    )


@pytest.mark.parametrize("name", ["multiply", "matmul", "where", "max_", "getitem", "concatenate"])
def test_a_rule_that_is_only_wrapped_is_no_mutant(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for j, rule in enumerate(OPS[name].rules):
        if rule:
            same = changed_rules(name, j, lambda rule, *args, **params: rule(*args, **params))
            monkeypatch.setattr(OPS[name], "rules", same)
    assert not caught(name)


@pytest.mark.parametrize("name", list(OTHERWISE))
def test_the_rules_themselves_pass_these_tests(name: str) -> None:
    OTHERWISE[name]()


@pytest.mark.one_in(5)
@pytest.mark.parametrize(("name", "j", "change"), MUTANTS)
def test_mutant_of_every_rule_is_caught(
    monkeypatch: pytest.MonkeyPatch, name: str, j: int, change: Any
) -> None:
    monkeypatch.setattr(OPS[name], "rules", changed_rules(name, j, change))
    assert caught(name)


# ------------------------------------------------------------------ the checker


def wrong_rule_is_caught(name: str) -> Callable[[], None]:
    return lambda: test_testing.test_wrong_rule_is_caught_at_first_order(name)


CHECKER: list[tuple[str, str, Any, Callable[[], Any]]] = [
    (
        "everything agrees",
        "_Settings.agree",
        lambda self, found, expected, size: np.ones(np.shape(found), bool),
        wrong_rule_is_caught("swapped_sign"),
    ),
    (
        "the Jacobian is not compared",
        "_compare_jacobian",
        lambda *_: None,
        lambda: test_testing.test_wrong_rule_is_caught_in_each_mode("swapped_sign", "rev", False),
    ),
    (
        "directions are not compared",
        "_compare_direction",
        lambda *_: None,
        test_testing.test_one_wrong_element_among_many_is_caught_by_a_direction,
    ),
    (
        "jvp is not compared",
        "_compare_tangent",
        lambda *_: None,
        lambda: test_testing.test_wrong_rule_is_caught_in_each_mode("swapped_sign", "fwd", False),
    ),
    (
        "linearity and layouts are not checked",
        "_check_pull_back",
        lambda *_: None,
        wrong_rule_is_caught("contiguous_only"),
    ),
    (
        "purity is not checked",
        "_check_pure",
        lambda *_: None,
        test_testing.test_what_is_random_is_refused,
    ),
    (
        "float32 is let in",
        "_float64",
        lambda leaf, name: np.asarray(leaf),
        test_testing.test_float32_is_refused,
    ),
]


@pytest.mark.parametrize(
    ("name", "mutant", "test"), [case[1:] for case in CHECKER], ids=[case[0] for case in CHECKER]
)
def test_mutant_of_the_checker_turns_a_test_red(
    monkeypatch: pytest.MonkeyPatch, name: str, mutant: Any, test: Any
) -> None:
    assert not notices(test)
    monkeypatch.setattr(f"tinygrad_kr.testing.grads.{name}", mutant)
    assert notices(test)


CHECKER_SOURCE: list[tuple[str, Any, str, str, Callable[[], Any]]] = [
    (
        "the second order is left out",
        grads._check,
        "if order < last:",
        "if False:",
        lambda: test_testing.test_right_at_first_order_wrong_at_second("rev", True),
    ),
    (
        "linearity is not checked",
        grads._check_pull_back,
        r"_demand_equal\(3 \* third, g, [^\n]*\)",
        "pass",
        wrong_rule_is_caught("float32"),
    ),
    (
        "a NaN agrees",
        grads._Settings.agree,
        r"return [^\n]*",
        r"return ~(np.abs(found - expected) > self.atol + self.rtol * scale)",
        wrong_rule_is_caught("not_a_number"),
    ),
    (
        "the remainder's slope is not demanded",
        taylor.check_taylor,
        r"order \+ 0\.8",
        "0.5",
        lambda: test_testing.test_taylor_catches_a_wrong_first_derivative("swapped_sign"),
    ),
]


@pytest.mark.parametrize(
    ("function", "old", "new", "test"),
    [case[1:] for case in CHECKER_SOURCE],
    ids=[case[0] for case in CHECKER_SOURCE],
)
def test_mutant_of_the_checkers_source_turns_a_test_red(
    function: Any, old: str, new: str, test: Any
) -> None:
    assert not notices(test)
    with substituted(function, old, new):
        assert notices(test)
    assert not notices(test)


# ------------------------------------------------------------------ mutants that are drawn


def test_few_mutants_are_the_first_of_many() -> None:
    few, many = draw(3, 6, ("autodiff",)), draw(3, 12, ("autodiff",))
    assert few == many[:6]
    assert len({mutant.kind for mutant in few}) == 6
    assert few != draw(4, 6, ("autodiff",))


def test_a_drawn_mutant_is_applied_and_taken_back() -> None:
    for mutant in draw(5, 6, ("autodiff", "optim/blocks")):
        with mutated(mutant) as touched:
            assert touched, mutant
        changes = changes_of(mutant)
        assert changes is not None and (changes.codes or changes.defaults or changes.constant)
    assert not notices(second_order)


def mutant_of(file: str, old: str, new: str) -> Mutant:
    source = (ROOT / file).read_bytes()
    assert source.count(old.encode()) == 1
    start = source.index(old.encode())
    line = source.count(b"\n", 0, start) + 1
    return Mutant(file, line, "constant", start, start + len(old.encode()), new)


def slope_of_a_loss() -> float:
    x = Tensor([3.0], requires_grad=True)
    F.smooth_l1_loss(x, Tensor([0.0])).backward()
    return x.grad.item()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("file", "old", "new", "observed"),
    [
        (
            "functional/losses.py",
            "beta: float = 1.0) -> Any:",
            "beta: float = 6.0) -> Any:",
            slope_of_a_loss,
        ),
        ("optim/blocks.py", "SMALL = 1 << 14", "SMALL = 1 << 15", lambda: blocks.SMALL),
    ],
)
def test_a_mutant_of_a_default_or_a_constant_changes_what_runs(
    file: str, old: str, new: str, observed: Any
) -> None:
    before = observed()
    with mutated(mutant_of(f"tinygrad_kr/{file}", old, new)) as touched:
        assert touched and observed() != before
    assert observed() == before
