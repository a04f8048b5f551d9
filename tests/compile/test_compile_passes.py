"""Each pass by itself, on small programs made by hand: which instructions are left, and where
checks stand then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy_alone import multiply_by_blas

from tinygrad_kr import Tensor, op
from tinygrad_kr.compile.ir.bindings import Argument, Constant, Leaf, LeafWrite
from tinygrad_kr.compile.ir.program import Check, Instruction, Program, Value
from tinygrad_kr.compile.passes.expand import expanded
from tinygrad_kr.compile.passes.simplify import (
    simplified,
    with_common_subexpressions,
    with_constants_folded,
    with_results_made_in_place,
    without_dead_code,
    without_idle_ops,
)
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import Call, Loop, Reduction, Step, instructions_of
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import linalg, shape
from tinygrad_kr.ops.indexing import getitem
from tinygrad_kr.ops.op import astype
from tinygrad_kr.ops.reduction import sum_

Pass = Callable[[Program], Program]


def _noise(x: Any, *, generator: np.random.Generator) -> Any:
    return x + generator.random()


noise = op(_noise, promote=False)


class Script:
    """A program written line by line: `s(op, *inputs, **params)` adds an instruction."""

    def __init__(self) -> None:
        self.program = Program()
        self.number = 0

    def value(self, dims: tuple[int, ...] = (3,), dtype: Any = np.float32) -> Value:
        """A value that nothing makes yet, in C order."""
        self.number += 1
        made = np.empty(dims, dtype)
        return Value(self.number - 1, dims, made.dtype, made.strides)

    def argument(self, *dims: int, dtype: Any = np.float32) -> Value:
        value = self.value(dims or (3,), dtype)
        self.program.inputs[value] = Argument(len(self.program.inputs))
        return value

    def constant(self, array: Any, fixed: bool = True) -> Value:
        array = np.asarray(array)
        value = self.value(array.shape, array.dtype)
        self.program.inputs[value] = Constant(array, fixed)
        return value

    def parameter(self, *dims: int) -> Value:
        node = Tensor(np.ones(dims, np.float32), requires_grad=True)
        value = self.value(dims)
        self.program.inputs[value] = Leaf(node)
        return value

    def __call__(self, record: Any, *inputs: Any, **params: Any) -> Value:
        """What the op gives for ones has the shape and dtype of the value."""
        arrays = [np.ones(x.shape, x.dtype) if isinstance(x, Value) else x for x in inputs]
        with np.errstate(all="ignore"):
            made = np.asarray(record.forward(*arrays, **params))
        value = self.value(made.shape, made.dtype)
        source_line = f"line {len(self.program.instructions)}"
        self.program.instructions.append(Instruction(record, inputs, params, value, source_line))
        return value

    def check(self, value: Value) -> Check:
        self.program.checks.append(Check(len, value, (), len(self.program.instructions)))
        return self.program.checks[-1]

    def gives(self, *results: Any) -> Program:
        self.program.results = list(results)
        return self.program


def outputs(program: Program) -> list[Value]:
    return [instruction.output for instruction in program.instructions]


def lines(program: Program) -> list[str]:
    return [instruction.source_line for instruction in program.instructions]


PASSES = [
    without_dead_code,
    with_constants_folded,
    without_idle_ops,
    with_common_subexpressions,
    with_results_made_in_place,
    simplified,
]


@pytest.mark.parametrize("change", PASSES)
def test_a_pass_leaves_what_it_is_given_as_it_was(change: Pass) -> None:
    s = Script()
    x, two = s.argument(), s.constant(2.0)
    s(e.exp, x)
    a, b = s(e.multiply, x, 1.0), s(e.multiply, x, 1.0)
    y = s(e.add, s(e.add, a, b), s(e.exp, two))
    s.check(a)
    program = s.gives(s(e.positive, y))
    before = (dict(program.inputs), list(program.instructions), list(program.checks))
    change(program)
    assert (program.inputs, program.instructions, program.checks) == before


@pytest.mark.parametrize("change", PASSES)
def test_a_program_of_nothing(change: Pass) -> None:
    assert change(Program()) == Program()


# ------------------------------------------------------------------ dead code


def test_what_nothing_comes_of_goes() -> None:
    s = Script()
    x, unread = s.argument(), s.argument()
    y = s(e.exp, x)
    dead = s(e.add, y, unread)
    s(e.tanh, dead)
    program = without_dead_code(s.gives(y))
    assert outputs(program) == [y]
    assert list(program.inputs) == [x]


def test_what_is_left_of_a_call_or_checked_or_drawn_stays() -> None:
    s = Script()
    x, w = s.argument(), s.parameter(3)
    new, checked = s(e.add, w, x), s(e.exp, x)
    s(noise, x, generator=np.random.default_rng(0))
    s.check(checked)
    s.program.outputs.append(LeafWrite(object(), new))
    program = without_dead_code(s.gives())
    assert lines(program) == ["line 0", "line 1", "line 2"]
    assert list(program.inputs) == [x, w]


def test_what_only_a_parameter_of_an_op_reads_stays() -> None:
    s = Script()
    x = s.argument()
    index = s(e.positive, s.argument(2, dtype=np.int64))
    y = s.value((2,))
    s.program.instructions.append(Instruction(getitem, (x,), {"key": ([index], ...)}, y, "taken"))
    assert outputs(without_dead_code(s.gives(y))) == [index, y]


def test_a_check_moves_up_with_what_goes_before_it() -> None:
    s = Script()
    x = s.argument()
    first = s.check(x)
    s(e.exp, x)
    y = s(e.tanh, x)
    s(e.sin, x)
    second = s.check(y)
    program = without_dead_code(s.gives(y))
    assert program.checks == [first, second._replace(after=1)]


# ------------------------------------------------------------------ common subexpressions


def merged(*pairs: tuple[Any, dict[str, Any]], record: Any = None) -> bool:
    """Whether ops of x with these second inputs and parameters are one."""
    s = Script()
    x = s.argument(3, 3)
    made = [s(record or e.multiply, x, *inputs, **params) for inputs, params in pairs]
    program = with_common_subexpressions(s.gives(s(e.add, *made)))
    (last,) = [instruction for instruction in program.instructions if instruction.op is e.add]
    assert last.inputs[0] is made[0]
    assert len(program.instructions) == (2 if last.inputs[1] is made[0] else 3)
    return last.inputs[1] is made[0]


def test_what_is_computed_twice_is_computed_once_and_what_follows_too() -> None:
    s = Script()
    x = s.argument()
    a, b = s(e.exp, x), s(e.exp, x)
    c, d = s(e.tanh, a), s(e.tanh, b)
    check = s.check(d)
    y = s(e.add, c, d)
    program = with_common_subexpressions(s.gives(y))
    assert outputs(program) == [a, c, y]
    assert program.instructions[-1].inputs == (c, c)
    assert program.checks == [check._replace(after=2, value=c)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (2.0, 2.0, True),
        (2.0, 3.0, False),
        (0.0, -0.0, False),
        (float("nan"), float("nan"), True),
        (2, 2.0, False),
        (1, True, False),
        (1e-300, 1e-300 * (1 + 1e-15), False),
    ],
)
def test_numbers_are_compared_bit_by_bit(one: Any, other: Any, same: bool) -> None:
    assert merged(((one,), {}), ((other,), {})) is same


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (slice(0, 2), slice(0, 2), True),
        (slice(0, 2), slice(0, 2, 1), False),
        (slice(0, 2), slice(1, 3), False),
        ((slice(None), 1), (slice(None), 1), True),
        ((slice(None), 1), (slice(None), 2), False),
        ([0, 1], [0, 1], True),
        ((0, 1, None), (0, 1, None), True),
        (slice(np.array(0), 2), slice(np.array(1), 3), False),
    ],
)
def test_indices_are_compared_by_value(one: Any, other: Any, same: bool) -> None:
    assert merged(((), {"key": one}), ((), {"key": other}), record=getitem) is same


def test_an_index_that_is_computed_twice_is_one_too() -> None:
    s = Script()
    x, i = s.argument(), s.argument(2, dtype=np.int64)
    a, b = s(e.positive, i), s(e.positive, i)
    taken = [s.value((2,)), s.value((2,))]
    for index, output in zip((a, b), taken, strict=True):
        s.program.instructions.append(
            Instruction(getitem, (x,), {"key": (index,)}, output, "taken")
        )
    program = with_common_subexpressions(s.gives(s(e.exp, taken[1])))
    assert outputs(program)[:2] == [a, taken[0]]
    assert program.instructions[-1].inputs == (taken[0],)


def test_casts_to_other_types_are_other_ops() -> None:
    kinds = [{"dtype": np.dtype(np.float64)}, {"dtype": np.dtype(np.float16)}]
    assert not merged(((), kinds[0]), ((), kinds[1]), record=astype)
    assert merged(((), kinds[0]), ((), {"dtype": np.dtype("f8")}), record=astype)


def test_arrays_that_may_change_are_the_same_only_if_they_are_one() -> None:
    array = np.ones(3, np.float32)
    assert merged(((array,), {}), ((array,), {}))
    assert not merged(((array,), {}), ((array.copy(),), {}))


def test_the_order_of_inputs_counts() -> None:
    s = Script()
    x, y = s.argument(), s.argument()
    program = s.gives(s(e.divide, x, y), s(e.divide, y, x))
    assert with_common_subexpressions(program).instructions == program.instructions


def test_draws_are_never_one() -> None:
    s = Script()
    x, generator = s.argument(), np.random.default_rng(0)
    a, b = s(noise, x, generator=generator), s(noise, x, generator=generator)
    program = s.gives(s(e.add, a, b))
    assert with_common_subexpressions(program).instructions == program.instructions


def test_two_results_that_are_equal_have_memory_of_their_own() -> None:
    s = Script()
    x = s.argument()
    a, b = s(e.exp, x), s(e.exp, x)
    program = with_common_subexpressions(s.gives(a, b))
    assert outputs(program) == [a, b]
    assert program.instructions[1].op is e.positive
    assert program.instructions[1].inputs == (a,)


def test_truth_values_that_are_returned_twice_are_computed_twice() -> None:
    """NumPy's `positive`, a copy, takes no truth values."""
    s = Script()
    x = s.argument()
    a, b = s(e.greater, x, 0.0), s(e.greater, x, 0.0)
    program = s.gives(a, b)
    assert with_common_subexpressions(program).instructions == program.instructions


# ------------------------------------------------------------------ constants


def test_what_constants_give_is_a_constant() -> None:
    s = Script()
    x, two = s.argument(), s.constant(np.float32(2))
    eight = s(e.power, s(e.add, two, 0.0), 3.0)
    check = s.check(x)
    y = s(e.multiply, x, eight)
    program = with_constants_folded(s.gives(y))
    assert outputs(program) == [y]
    source = program.inputs[eight]
    assert isinstance(source, Constant)
    assert source.fixed
    assert not source.array.flags.writeable
    assert source.array.dtype == eight.dtype
    np.testing.assert_array_equal(source.array, 8)
    assert program.checks == [check._replace(after=0)]


def test_constants_in_parameters_are_known_too() -> None:
    s = Script()
    x, index = s.constant([5.0, 6.0, 7.0]), s.constant([2, 0])
    y = s.value((2,), np.float64)
    s.program.instructions.append(Instruction(getitem, (x,), {"key": index}, y, "taken"))
    program = with_constants_folded(s.gives(s(e.exp, y)))
    np.testing.assert_array_equal(program.inputs[y].fetch(), [7, 5])


def test_a_constant_has_the_type_of_its_value() -> None:
    """An op casts what NumPy gives it to the type that the op promises."""
    s = Script()
    x, y = s.constant(np.float64(1)), s.value((), np.float32)
    s.program.instructions.append(Instruction(e.exp, (x,), {}, y, "cast"))
    program = with_constants_folded(s.gives(s(e.tanh, y)))
    assert program.inputs[y].fetch().dtype == np.float32


def test_a_constant_of_a_constant_view_has_memory_of_its_own() -> None:
    s = Script()
    x = s.constant(np.arange(6.0))
    y = s(shape.reshape, x, shape=(2, 3))
    program = with_constants_folded(s.gives(s(e.exp, y)))
    assert not np.shares_memory(program.inputs[y].fetch(), program.inputs[x].fetch())


@pytest.mark.parametrize("why", ["found", "large", "drawn", "returned", "argument"])
def test_what_is_not_folded(why: str) -> None:
    s = Script()
    array = np.ones(4097 if why == "large" else 3, np.float32)
    x = s.argument() if why == "argument" else s.constant(array, fixed=why != "found")
    drawn = why == "drawn"
    y = s(noise, x, generator=np.random.default_rng(0)) if drawn else s(e.add, x, 1.0)
    program = s.gives(y if why == "returned" else s(e.tanh, y))
    folded = with_constants_folded(program)
    assert folded.instructions == program.instructions
    assert folded.inputs == program.inputs


def test_infinities_of_constants_are_folded_in_silence() -> None:
    s = Script()
    zero = s.constant(np.float32(0))
    y = s(e.divide, 1.0, s(e.multiply, zero, -1.0))
    program = with_constants_folded(s.gives(s(e.add, s.argument(), y)))
    assert program.inputs[y].fetch() == -np.inf


# ------------------------------------------------------------------ algebra


def cleaned(record: Any, *inputs: Any, of: Any = np.float32, **params: Any) -> bool:
    """Whether an op of x (where `inputs` has None) is seen to give x itself."""
    s = Script()
    x = s.argument(3, dtype=of)
    y = s(record, *(x if item is None else item for item in inputs), **params)
    program = without_idle_ops(s.gives(s(e.exp, y)))
    assert program.instructions[-1].inputs == ((y,) if len(program.instructions) == 2 else (x,))
    return len(program.instructions) == 1


@pytest.mark.parametrize(
    ("record", "inputs", "idle"),
    [
        (e.multiply, (None, 1.0), True),
        (e.multiply, (1.0, None), True),
        (e.multiply, (None, 1), True),
        (e.divide, (None, 1.0), True),
        (e.positive, (None,), True),
        (e.divide, (1.0, None), False),
        (e.multiply, (None, -1.0), False),
        (e.multiply, (None, 0.0), False),
        (e.multiply, (None, float("nan")), False),
        (e.add, (None, 0.0), False),
        (e.subtract, (None, -0.0), False),
        (e.subtract, (0.0, None), False),
        (e.power, (1.0, None), False),
        (e.subtract, (None, None), False),
        (e.divide, (None, None), False),
        (e.multiply, (None, np.ones(1, np.float32)), False),
    ],
)
def test_which_ops_give_what_they_are_given(record: Any, inputs: Any, idle: bool) -> None:
    assert cleaned(record, *inputs) is idle


X = np.array([-0.0, 0.0, 5e-324, -np.inf, np.inf, np.nan, 1.5], np.float64)


@pytest.mark.parametrize(
    ("record", "inputs"),
    [
        (record, inputs)
        for record in (e.add, e.subtract, e.multiply, e.divide, e.power)
        for number in (0.0, -0.0, 1.0, -1.0, float("inf"), float("nan"), 2.0)
        for inputs in ((None, number), (number, None))
    ],
)
def test_nothing_goes_that_changes_a_bit(record: Any, inputs: Any) -> None:
    with np.errstate(all="ignore"):
        made = record.forward(*(X if item is None else item for item in inputs))
    if cleaned(record, *inputs, of=np.float64):
        assert made.tobytes() == X.tobytes()


def test_casts_stay_unless_they_are_to_the_same_type() -> None:
    assert cleaned(astype, None, dtype=np.dtype(np.float32))
    assert not cleaned(astype, None, dtype=np.dtype(np.float64))
    assert not cleaned(e.multiply, None, 1.0, of=np.int64)
    assert not cleaned(e.multiply, None, np.float64(1))
    assert not cleaned(e.divide, None, 1, of=np.int64)


def test_a_factor_that_broadcasts_stays() -> None:
    s = Script()
    x = s.argument(3)
    y = s.value((2, 3))
    s.program.instructions.append(Instruction(e.multiply, (x, 1.0), {}, y, "spread"))
    program = s.gives(s(e.exp, y))
    assert without_idle_ops(program).instructions == program.instructions


def test_a_chain_of_idle_ops_goes_and_its_check_looks_at_what_is_left() -> None:
    s = Script()
    x = s.argument()
    y = s(e.divide, s(e.multiply, s(e.positive, x), 1.0), 1.0)
    check = s.check(y)
    z = s(e.exp, y)
    program = without_idle_ops(s.gives(z))
    assert outputs(program) == [z]
    assert program.instructions[0].inputs == (x,)
    assert program.checks == [check._replace(after=0, value=x)]


def test_what_outlives_the_call_is_still_made() -> None:
    s = Script()
    x = s.argument()
    program = s.gives(s(e.multiply, x, 1.0))
    assert without_idle_ops(program).instructions == program.instructions


# ------------------------------------------------------------------ results in place


def test_a_result_that_is_a_copy_is_what_is_copied() -> None:
    s = Script()
    x = s.argument()
    made = s(e.exp, x)
    other = s(e.tanh, made)
    result = s(e.positive, made)
    check = s.check(made)
    last = s(e.add, other, made)
    program = with_results_made_in_place(s.gives(result, last))
    assert outputs(program) == [result, other, last]
    assert program.instructions[1].inputs == (result,)
    assert program.instructions[2].inputs == (other, result)
    assert program.checks == [check._replace(after=2, value=result)]


def test_of_two_copies_one_is_made() -> None:
    s = Script()
    made = s(e.exp, s.argument())
    first, second = s(e.positive, made), s(e.positive, made)
    program = with_results_made_in_place(s.gives(first, second))
    assert outputs(program) == [first, second]
    assert [instruction.op for instruction in program.instructions] == [e.exp, e.positive]
    assert program.instructions[1].inputs == (first,)


@pytest.mark.parametrize("why", ["a source", "a result itself", "not kept"])
def test_copies_that_stay(why: str) -> None:
    s = Script()
    x = s.argument()
    made = x if why == "a source" else s(e.exp, x)
    copy = s(e.positive, made)
    results = {"a source": [copy], "a result itself": [made, copy], "not kept": [s(e.sin, copy)]}
    program = s.gives(*results[why])
    assert with_results_made_in_place(program).instructions == program.instructions


# ------------------------------------------------------------------ all of them


def test_the_passes_help_one_another() -> None:
    s = Script()
    x, two = s.argument(), s.constant(np.float32(2))
    four = s(e.multiply, two, two)
    a, b = s(e.exp, s(e.divide, s(e.positive, x), 1.0)), s(e.exp, x)
    s(e.tanh, b)
    result = s(e.positive, s(e.add, s(e.multiply, a, four), b))
    program = simplified(s.gives(result))
    assert [instruction.op for instruction in program.instructions] == [e.exp, e.multiply, e.add]
    assert program.instructions[-1].inputs == (program.instructions[1].output, a)
    assert program.instructions[-1].output is result
    assert list(program.inputs) == [x, four]


def test_a_value_and_what_it_was_copied_from_are_no_less_correct_when_simplified() -> None:
    """What the instructions compute, run one by one by NumPy, is the same before and after."""
    s = Script()
    x, three = s.argument(), s.constant(np.float32(3))
    a = s(e.multiply, s(e.divide, x, 1), s(e.add, three, 0.0))
    b = s(e.multiply, x, s(e.add, three, 0.0))
    c = s(e.positive, s(e.subtract, s(e.add, a, b), -0.0))
    program = s.gives(c, s(e.positive, a), s(e.exp, b), s(e.exp, a))
    after = simplified(program)
    assert len(after.instructions) < len(program.instructions)
    given = np.array([-0.0, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(computed(after, given), computed(program, given))


def computed(program: Program, *arguments: Any) -> list[Any]:
    known: dict[Value, Any] = {}
    for value, source in program.inputs.items():
        known[value] = arguments[source.index] if isinstance(source, Argument) else source.fetch()
    for instruction in program.instructions:
        terms = [known[x] if isinstance(x, Value) else x for x in instruction.inputs]
        known[instruction.output] = instruction.op.forward(*terms, **instruction.params)
    return [known[result] for result in program.results]


# ------------------------------------------------------------------ fusion


def fused(program: Program) -> list[tuple[type[Step], list[str]]]:
    return [
        (type(step), [t.source_line for t in instructions_of(step)]) for step in Plan(program).steps
    ]


def test_a_chain_of_elementwise_ops_is_one_loop() -> None:
    s = Script()
    x, bias = s.argument(4, 3), s.argument(3)
    y = s(e.exp, s(e.multiply, s(e.add, x, bias), 2.0))
    assert fused(s.gives(y)) == [(Loop, ["line 0", "line 1", "line 2"])]


def test_ops_of_another_shape_are_another_loop() -> None:
    s = Script()
    x, y = s.argument(4, 3), s.argument(5)
    program = s.gives(s(e.exp, x), s(e.exp, y), s(e.tanh, x))
    assert fused(program) == [(Loop, ["line 0", "line 2"]), (Loop, ["line 1"])]


def test_a_sum_parts_what_it_reads_from_what_reads_it() -> None:
    s = Script()
    x = s.argument(4, 3)
    squares = s(e.multiply, x, x)
    total = s(sum_, squares, axis=0)
    program = s.gives(s(e.divide, squares, s(e.exp, total)))
    assert fused(program) == [
        (Loop, ["line 0"]),
        (Reduction, ["line 1"]),
        (Loop, ["line 2"]),
        (Loop, ["line 3"]),
    ]


@pytest.fixture
def by_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of float64 are calls of NumPy."""
    multiply_by_blas(monkeypatch, "float64")


@pytest.mark.usefixtures("by_blas")
def test_what_a_product_does_not_wait_for_runs_after_it() -> None:
    """The tanh, which only what follows the product reads, is in that loop: it is not stored."""
    s = Script()
    x, w = s.argument(500, 64, dtype=np.float64), s.argument(64, 64, dtype=np.float64)
    early = s(e.tanh, x)
    product = s(linalg.matmul, s(e.exp, x), w)
    y = s(e.add, product, early)
    plan = Plan(s.gives(y))
    assert fused(s.program) == [
        (Loop, ["line 1"]),
        (Call, ["line 2"]),
        (Loop, ["line 0", "line 3"]),
    ]
    last = plan.steps[2]
    assert isinstance(last, Loop)
    assert plan.read_outside(last) == {y}


def test_views_are_no_step() -> None:
    s = Script()
    x = s.argument(4, 3)
    turned = s(shape.swapaxes, s(e.exp, x), axis1=0, axis2=1)
    y = s(e.tanh, turned)
    plan = Plan(s.gives(y))
    assert [type(step) for step in plan.steps] == [Loop, Loop]
    view = plan.views[turned]
    assert (view.strides, view.root) == ((1, 3), plan.views[outputs(plan.program)[0]].root)


def test_a_view_that_outlives_the_call_is_copied() -> None:
    s = Script()
    x = s.argument(4, 3)
    turned = s(shape.swapaxes, x, axis1=0, axis2=1)
    check = s.check(turned)
    plan = Plan(s.gives(turned))
    made = plan.program.instructions[-1]
    assert (made.op, made.output) == (e.positive, turned)
    assert plan.views[turned].root != plan.views[x].root
    assert plan.program.checks == [check._replace(after=2)]


@pytest.mark.usefixtures("by_blas")
def test_what_outlives_the_call_runs_as_soon_as_it_can() -> None:
    s = Script()
    x, w = s.argument(500, 64, dtype=np.float64), s.argument(64, 64, dtype=np.float64)
    early = s(e.tanh, x)
    y = s(e.add, s(linalg.matmul, x, w), early)
    assert fused(s.gives(y, early)) == [
        (Loop, ["line 0"]),
        (Call, ["line 1"]),
        (Loop, ["line 2"]),
    ]


def over(s: Script, w: Value, new: Value, *results: Value) -> bool:
    """Whether the new elements of a parameter are written where the old ones are."""
    source = s.program.inputs[w]
    assert isinstance(source, Leaf)
    s.program.outputs.append(LeafWrite(source.node, new))
    plan = Plan(s.gives(*results))
    assert plan.in_place == ({new: w} if plan.in_place else {})
    return bool(plan.in_place)


def test_weights_that_are_read_later_are_not_written_over() -> None:
    s = Script()
    w, g = s.parameter(3), s.argument(3)
    new = s(e.subtract, w, g)
    late = s(sum_, s(e.multiply, w, s(sum_, new, axis=0)), axis=0)
    assert not over(s, w, new, late)


def test_weights_that_are_read_elsewhere_in_the_loop_are_not_written_over() -> None:
    s = Script()
    w = s.parameter(3, 3)
    assert not over(s, w, s(e.subtract, w, s(shape.swapaxes, w, axis1=0, axis2=1)))


def test_weights_of_another_type_are_not_written_over() -> None:
    s = Script()
    w = s.parameter(3)
    assert not over(s, w, s(astype, w, dtype=np.dtype(np.float64)))


def test_weights_that_lie_otherwise_are_not_written_over() -> None:
    s = Script()
    node = Tensor(np.ones((4, 3), np.float32).T, requires_grad=True)
    w = Value(100, (3, 4), np.dtype(np.float32), (4, 12))
    s.program.inputs[w] = Leaf(node)
    g = s.argument(3, 4)
    assert over(s, w, s(e.subtract, w, g))
    s.program.outputs.clear()
    s.program.instructions.clear()
    assert not over(s, w, s(e.exp, g))


def test_weights_are_not_written_over_before_an_error_may_come() -> None:
    s = Script()
    w, g = s.parameter(100, 100), s.argument(100, 100)
    new = s(e.subtract, w, g)
    s.check(s(linalg.matmul, g, g))
    assert not over(s, w, new)
    s.program.outputs.clear()
    s.program.checks.clear()
    assert over(s, w, new)


def test_new_weights_are_written_over_the_old() -> None:
    s = Script()
    w, g = s.parameter(3), s.argument(3)
    new = s(e.subtract, w, g)
    assert over(s, w, new)
    plan = Plan(s.program)
    assert plan.views[new] == plan.views[w]


# ------------------------------------------------------------------ expansions


def test_rows_times_one_matrix_are_a_single_product() -> None:
    """A stack of products would be BLAS's, one by one; and its threads would wake for each."""
    s = Script()
    x, weight = s.argument(4, 3, 5), s.argument(5, 2)
    y = s(linalg.matmul, x, weight)
    s.program.results = [y]
    left = expanded(s.program).instructions
    (product,) = (each for each in left if each.op is linalg.matmul)
    assert [value.shape for value in product.inputs] == [(12, 5), (5, 2)]
    assert left[-1].output is y


def test_a_stack_of_matrices_stays_whole() -> None:
    s = Script()
    y = s(linalg.matmul, s.argument(4, 3, 5), s.argument(4, 5, 2))
    s.program.results = [y]
    assert [each.op for each in expanded(s.program).instructions] == [linalg.matmul]
