"""The C of loops, and of the function that calls them in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.lib.array_utils import normalize_axis_tuple

from tinygrad_kr.compile.codegen.outline import (
    MIN_TABLE,
    Snippet,
    by_number,
    outline,
    parameters,
    table,
)
from tinygrad_kr.compile.codegen.parallel import parallel_for
from tinygrad_kr.compile.codegen.pooling import TYPES, pooling
from tinygrad_kr.compile.codegen.refusals import refusal
from tinygrad_kr.compile.codegen.rows import rows
from tinygrad_kr.compile.codegen.scans import scan
from tinygrad_kr.compile.codegen.solutions import solution
from tinygrad_kr.compile.codegen.text import Function, Line, Writer
from tinygrad_kr.compile.codegen.thin import thin_product
from tinygrad_kr.compile.codegen.tiled_convolution import tiled_convolution
from tinygrad_kr.compile.ir.c_ops import C_TYPES, literal
from tinygrad_kr.compile.ir.layout import View, broadcast_strides, dense_strides, extent, loops
from tinygrad_kr.compile.ir.program import Instruction, Value
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import (
    Concat,
    Labels,
    Loop,
    Pooling,
    Product,
    Reduction,
    Refusal,
    Rows,
    Scan,
    Segment,
    Solution,
    Step,
    TiledConvolution,
    TiledProduct,
    Triangle,
    read_by,
    written_by,
)
from tinygrad_kr.native import deadline
from tinygrad_kr.native.kernels import F64
from tinygrad_kr.ops import indexing, network
from tinygrad_kr.ops.reduction import max_, sum_

LANES = 8
"""Partial sums that are added side by side."""


def functions_of(plan: Plan, segment: Segment) -> list[Function]:
    """`name_(void **memory)`, with the plan's roots in `memory`, and the functions that work."""
    name = segment.name
    steps = [step for step in segment.steps if not isinstance(step, TiledConvolution | Refusal)]
    long_loops, texts = parallel_for(plan, [snippet(plan, step) for step in steps], name)
    outlined, texts = outline(plan, texts, name)
    bodies = [step for step in steps if isinstance(step, Scan)]
    workers, calls = [*_bodies(bodies), *long_loops, *outlined], []
    many = sum(bool(text.called) for text in texts) >= MIN_TABLE
    workers += by_number(texts) if many else []
    for number, part in enumerate(_parts(segment, texts, many)):
        worker = f"{name}_{number}"
        if isinstance(part, TiledConvolution):
            workers += tiled_convolution(plan, part, worker)
            calls.append(f"  {worker}(memory);")
        elif isinstance(part, Refusal):
            workers.append(refusal(plan, part, worker))
            calls.append(f"  if ({worker}(memory)) return;")
        elif many and part[0].called:
            workers.append(table(worker, part))
            calls.append(f"  {worker}(memory);")
        else:
            stored = {root for text in part for root, stores in text.roots.items() if stores}
            used = sorted({root for text in part for root in text.roots})
            roots = {root: root in stored for root in used}
            head = Line(f"static APART void {worker}({parameters(plan, roots)}) {{")
            body = [line for text in part for line in text.lines]
            workers.append(Function([head, *body, Line("}"), Line("")]))
            calls.append(f"  {worker}({', '.join(f'memory[{root}]' for root in roots)});")
    whole = [f"static void {name}_(void **memory) {{", *calls, "}"]
    return [*workers, Function([Line(code) for code in whole])]


def _bodies(steps: list[Scan]) -> list[Function]:
    """The functions of the bodies of scans; numbers in them are not the plan's."""
    found = []
    for step in steps:
        segment = replace(step.body.segment, name=_body_name(step))
        functions = functions_of(step.body.plan, segment)
        found += [function._replace(numbered=False) for function in functions]
    return found


def _body_name(step: Scan) -> str:
    return f"body{step.instruction.output.number}"


def _parts(
    segment: Segment, texts: list[Snippet], tables: bool
) -> Iterator[TiledConvolution | Refusal | list[Snippet]]:
    """What each function does: the steps of a worker; or in turn, with `tables`, calls and others,
    which may be the calls of many workers."""
    remaining, calls = iter(texts), list[Snippet]()
    for group in segment.workers:
        first = group[0]
        alone = isinstance(first, TiledConvolution | Refusal)
        some = [] if alone else [next(remaining) for _ in group]
        for called, run in groupby(some, lambda text: tables and bool(text.called)):
            if called:
                calls += run
                continue
            if calls:
                yield calls
                calls = []
            yield list(run)
        if isinstance(first, TiledConvolution | Refusal):
            if calls:
                yield calls
                calls = []
            yield first
    if calls:
        yield calls


def snippet(plan: Plan, step: Step) -> Snippet:
    """A step in C with the roots that it reads and stores to."""
    deadline.check()
    writer = Writer()
    length = _write(plan, writer, step)
    roots = dict.fromkeys(sorted(plan.views[value].root for value in read_by(step)), False)
    roots |= {plan.views[value].root: True for value in written_by(step)}
    return Snippet(writer.finish(), roots, length)


def _write(plan: Plan, writer: Writer, step: Step) -> int:
    """Write a step; the length of its outermost loop where that goes from `start` to `stop`."""
    if isinstance(step, Loop):
        return _loop(plan, writer, step)
    if isinstance(step, Reduction):
        _reduction(plan, writer, step.instruction)
    elif isinstance(step, Product | TiledProduct):
        if not thin_product(plan, writer, step.instruction):
            write = _product if isinstance(step, Product) else _tiled_product
            write(plan, writer, step.instruction)
    elif isinstance(step, Labels):
        _labels(plan, writer, step.instruction)
    elif isinstance(step, Rows):
        rows(plan, writer, step.instruction)
    elif isinstance(step, Triangle):
        _triangle(plan, writer, step.instruction)
    elif isinstance(step, Concat):
        _fill_gaps(plan, writer, step)
    elif isinstance(step, Solution):
        solution(plan, writer, step)
    elif isinstance(step, Scan):
        scan(plan, writer, step, _body_name(step))
    elif isinstance(step, Pooling):
        pooling(plan, writer, step.instruction)
    return 0


def _index(view: View, strides: tuple[int, ...], names: list[str]) -> str:
    terms = [
        name if step == 1 else f"{name} * {step}"
        for name, step in zip(names, strides, strict=True)
        if step
    ]
    if view.offset or not terms:
        terms.insert(0, str(view.offset))
    return f"m{view.root}[{' + '.join(terms)}]"


# ------------------------------------------------------------------ elementwise


def _loop(plan: Plan, writer: Writer, step: Loop) -> int:
    stored = step.stored
    shape = step.shape
    reads = sorted(read_by(step), key=lambda value: value.number)
    views = [plan.views[value] for value in (*stored, *reads)]
    shapes = [value.shape for value in (*stored, *reads)]
    spread = [
        broadcast_strides(view.strides, own, shape) for view, own in zip(views, shapes, strict=True)
    ]
    sizes, strides = loops(shape, *spread)
    names = [f"i{k}" for k in range(len(sizes))]
    at = {
        value: _index(view, steps, names)
        for value, view, steps in zip((*stored, *reads), views, strides, strict=True)
    }
    steps, even = dict(zip(at, strides, strict=True)), dense_strides(sizes)
    apart = [value for value in at if any(steps[value]) and steps[value] != even]
    if _is_narrow(sizes, len(apart)) and not any(value in apart for value in stored):
        writer.open("")
        _copies(writer, apart, at, sizes, names)
        at |= {value: _index(plan.views[value], (1,), ["i"]) for value in at if any(steps[value])}
        at |= {value: f"t{value.number}[i]" for value in apart}
        names, sizes = ["i"], (extent(sizes),)
    if not sizes:
        writer.open("")
    length = sizes[0] if step.parallel else 0
    if step.parallel:
        writer.loop(names[0], "stop", "start")
        names, sizes = names[1:], sizes[1:]
    for name, size in zip(names, sizes, strict=True):
        writer.loop(name, size)
    known = {value: f"v{value.number}" for value in reads}
    for value in reads:
        writer(f"{C_TYPES[value.dtype]} v{value.number} = {at[value]};")
    for instruction in step.instructions:
        output = instruction.output
        known[output] = f"v{output.number}"
        text = _expression(step.expressions[output], instruction, known)
        writer(f"{C_TYPES[output.dtype]} v{output.number} = {text};", instruction)
    for value in stored:
        writer(f"{at[value]} = v{value.number};")
    writer.close(writer.depth - 1)
    return length


MAX_NARROW = 16
"""Elements of an innermost loop, below which vector registers stay part empty."""
MIN_FLAT, MAX_COPIED = 256, 4_096
"""Fewest elements of a nest for which broadcast operands are copied, and most copied elements. The
copies lie on the stack."""


def _is_narrow(sizes: tuple[int, ...], copies: int) -> bool:
    """Whether to make one loop of a nest with a short innermost loop."""
    narrow = len(sizes) > 1 and sizes[-1] < MAX_NARROW
    return narrow and extent(sizes) >= MIN_FLAT and extent(sizes) * copies <= MAX_COPIED


def _copies(
    writer: Writer,
    values: list[Value],
    at: dict[Value, str],
    sizes: tuple[int, ...],
    names: list[str],
) -> None:
    """Expand broadcast operands, such as biases, to an element for each of the loop's."""
    for value in values:
        writer(f"{C_TYPES[value.dtype]} t{value.number}[{extent(sizes)}];")
    for name, size in zip(names, sizes, strict=True):
        writer.loop(name, size)
    i = " + ".join(
        f"{name} * {step}" for name, step in zip(names, dense_strides(sizes), strict=True)
    )
    for value in values:
        writer(f"t{value.number}[{i}] = {at[value]};")
    writer.close(len(sizes))


def _expression(spelled: str, instruction: Instruction, known: dict[Value, str]) -> str:
    terms = [
        known[x] if isinstance(x, Value) else literal(x, _number_type(instruction, x))
        for x in instruction.inputs
    ]
    return spelled.format(*terms)


def _number_type(instruction: Instruction, x: Any) -> Any:
    kinds = [v.dtype for v in instruction.inputs if isinstance(v, Value) and v.dtype.kind != "b"]
    if instruction.output.dtype.kind == "f":
        return instruction.output.dtype
    return kinds[0] if kinds else np.dtype(np.float64 if isinstance(x, float) else np.int64)


# ------------------------------------------------------------------ reductions


def _reduction(plan: Plan, writer: Writer, instruction: Instruction) -> None:
    (x,), out = instruction.inputs, instruction.output
    axis = instruction.params.get("axis")
    axes = range(len(x.shape)) if axis is None else normalize_axis_tuple(axis, len(x.shape))
    view, target = plan.views[x], plan.views[out]
    kept = [a for a in range(len(x.shape)) if a not in axes]
    keepdims = len(out.shape) == len(x.shape)
    out_strides = [target.strides[a if keepdims else kept.index(a)] for a in kept]
    kept_shape = tuple(x.shape[a] for a in kept)
    gone_shape = tuple(x.shape[a] for a in axes)
    inner = [view.strides[a] for a in axes]
    writer.computes(instruction)
    total = instruction.op is sum_
    fast_kept = any(view.strides[a] == 1 and x.shape[a] > 1 for a in kept)
    if fast_kept and extent(gone_shape) > 1:
        _reduce_rows(
            writer, instruction, view, target, kept_shape, tuple(out_strides),
            tuple(view.strides[a] for a in kept), gone_shape, tuple(inner), total,
        )  # fmt: skip
        return
    sizes, strides = loops(kept_shape, tuple(out_strides), tuple(view.strides[a] for a in kept))
    names = [f"i{k}" for k in range(len(sizes))]
    for name, size in zip(names, sizes, strict=True):
        writer.loop(name, size)
    gone_sizes, (gone_strides,) = loops(gone_shape, tuple(inner))
    _reduce_one(
        writer, instruction, view, dict(zip(names, strides[1], strict=True)), gone_sizes,
        gone_strides, _index(target, strides[0], names),
    )  # fmt: skip
    writer.close(len(sizes))


def _reduce_one(
    writer: Writer,
    instruction: Instruction,
    view: View,
    outer: dict[str, int],
    sizes: tuple[int, ...],
    strides: tuple[int, ...],
    target: str,
) -> None:
    """One sum or extreme, element by element or in lanes."""
    kind = C_TYPES[instruction.output.dtype]
    names = [f"j{k}" for k in range(len(sizes))]
    writer.open("")
    if instruction.op is not sum_:
        extreme = _extreme(instruction)
        start = _index(view, (*outer.values(), *strides), [*outer, *["0"] * len(sizes)])
        writer(f"{kind} best = {start};")
        for name, size in zip(names, sizes, strict=True):
            writer.loop(name, size)
        element = _index(view, (*outer.values(), *strides), [*outer, *names])
        writer(f"best = {extreme}(best, {element});")
        writer.close(len(sizes))
        writer(f"{target} = best;")
        writer.close()
        return
    if sizes and sizes[-1] >= 4 * LANES and strides[-1] == 1:
        writer(f"double lane[{LANES}] = {{0}};")
        for name, size in zip(names[:-1], sizes[:-1], strict=True):
            writer.loop(name, size)
        whole = sizes[-1] // LANES * LANES
        writer.loop("j", whole, step=LANES)
        element = _index(view, (*outer.values(), *strides), [*outer, *names[:-1], "(j + l)"])
        writer(f"for (int l = 0; l < {LANES}; l++) lane[l] += {element};")
        writer.close()
        writer.loop("j", sizes[-1], start=whole)
        element = _index(view, (*outer.values(), *strides), [*outer, *names[:-1], "j"])
        writer(f"lane[0] += {element};")
        writer.close()
        writer.close(len(sizes) - 1)
        writer("double sum = 0;")
        writer(f"for (int l = 0; l < {LANES}; l++) sum += lane[l];")
    else:
        writer("double sum = 0;")
        for name, size in zip(names, sizes, strict=True):
            writer.loop(name, size)
        element = _index(view, (*outer.values(), *strides), [*outer, *names])
        writer(f"sum += {element};")
        writer.close(len(sizes))
    writer(f"{target} = ({kind})sum;")
    writer.close()


def _reduce_rows(
    writer: Writer,
    instruction: Instruction,
    view: View,
    target: View,
    kept_shape: tuple[int, ...],
    out_strides: tuple[int, ...],
    kept_strides: tuple[int, ...],
    gone_shape: tuple[int, ...],
    gone_strides: tuple[int, ...],
    total: bool,
) -> None:
    """Row by row: for sums of distant elements, where neighbouring sums have adjacent ones."""
    kind = C_TYPES[instruction.output.dtype]
    sizes, strides = loops(kept_shape, kept_strides, out_strides)
    outer, block = sizes[:-1], sizes[-1]
    chunk = min(block, 256)
    names = [f"i{k}" for k in range(len(outer))]
    for name, size in zip(names, outer, strict=True):
        writer.loop(name, size)
    writer.loop("b", block, step=chunk)
    writer(f"int64_t n = {block} - b < {chunk} ? {block} - b : {chunk};")
    writer(f"{'double' if total else kind} row[{chunk}];")
    gone_sizes, (gone_steps,) = loops(gone_shape, gone_strides)
    inner = [f"j{k}" for k in range(len(gone_sizes))]
    first = _index(view, (*strides[0][:-1], strides[0][-1]), [*names, "(b + c)"])
    start = "0" if total else first
    writer(f"for (int64_t c = 0; c < n; c++) row[c] = {start};")
    for name, size in zip(inner, gone_sizes, strict=True):
        writer.loop(name, size)
    element = _index(view, (*strides[0], *gone_steps), [*names, "(b + c)", *inner])
    update = (
        f"row[c] += {element};"
        if total
        else f"row[c] = {_extreme(instruction)}(row[c], {element});"
    )
    writer(f"for (int64_t c = 0; c < n; c++) {update}")
    writer.close(len(gone_sizes))
    out = _index(target, strides[1], [*names, "(b + c)"])
    writer(f"for (int64_t c = 0; c < n; c++) {out} = ({kind})row[c];")
    writer.close(len(outer) + 1)


def _extreme(instruction: Instruction) -> str:
    single = "f" if instruction.output.dtype == np.float32 else ""
    return f"tk_{'max' if instruction.op is max_ else 'min'}{single}"


# ------------------------------------------------------------------ small matrix products


def _product(plan: Plan, writer: Writer, instruction: Instruction) -> None:
    a, b = instruction.inputs
    out = instruction.output
    kind = C_TYPES[out.dtype]
    rows, inner = a.shape[-2:]
    columns = b.shape[-1]
    batch = out.shape[:-2]
    pa, pb, po = (plan.views[value] for value in (a, b, out))
    over = [
        broadcast_strides(view.strides[:-2], value.shape[:-2], batch)
        for view, value in ((po, out), (pa, a), (pb, b))
    ]
    sizes, (so, sa, sb) = loops(batch, *over)
    names = [f"n{k}" for k in range(len(sizes))]
    writer.computes(instruction)
    for name, size in zip(names, sizes, strict=True):
        writer.loop(name, size)
    writer.loop("i", rows)
    writer(f"{kind} row[{columns}] = {{0}};")
    writer.loop("k", inner)
    left = _index(pa, (*sa, *pa.strides[-2:]), [*names, "i", "k"])
    writer(f"{kind} x = {left};")
    right = _index(pb, (*sb, *pb.strides[-2:]), [*names, "k", "j"])
    writer(f"for (int64_t j = 0; j < {columns}; j++) row[j] += x * {right};")
    writer.close()
    target = _index(po, (*so, *po.strides[-2:]), [*names, "i", "j"])
    writer(f"for (int64_t j = 0; j < {columns}; j++) {target} = row[j];")
    writer.close(1 + len(sizes))


def _tiled_product(plan: Plan, writer: Writer, instruction: Instruction) -> None:
    """A call for one product or a stack, in a loop over all but two axes of the stack."""
    out, factors = instruction.output, [*instruction.reads()]
    views = [plan.views[value] for value in factors]
    over = [
        broadcast_strides(view.strides[:-2], value.shape[:-2], out.shape[:-2])
        for view, value in zip(views, factors, strict=True)
    ]
    po = plan.views[out]
    sizes, (so, sa, sb) = loops(out.shape[:-2], po.strides[:-2], *over)
    rows, columns = out.shape[-2:]
    if len(sizes) == 1 and sb == (0,) and sa[0] == rows * views[0].strides[-2]:
        rows, sizes, so, sa, sb = rows * sizes[0], (), (), (), ()  # the rows of one product
    loose = max(len(sizes) - 2, 0)
    names = [f"n{k}" for k in range(loose)]
    writer.computes(instruction)
    for name, size in zip(names, sizes, strict=False):
        writer.loop(name, size)
    shape, suffix = (rows, factors[0].shape[-1], columns), _of_type(out)
    a, b, c = (
        _address(view, steps[:loose], names)
        for view, steps in zip((*views, po), (sa, sb, so), strict=True)
    )
    (a_down, a_across), (b_down, b_across) = (view.strides[-2:] for view in views)
    if sizes:
        stack = [_padded(sizes[loose:], 1) + shape]
        stack += [
            _padded(steps[loose:], 0) + view.strides[-2:]
            for steps, view in zip((sa, sb), views, strict=True)
        ]
        numbers, *strides = (", ".join(map(str, part)) for part in stack)
        given = f"&(tk_stack){{{numbers}, {{{strides[0]}}}, {{{strides[1]}}}}}, {a}, {b}, {c}"
        writer(f"tk_gemm_stack{suffix}({given});")
    else:
        parts = (*shape, a, a_down, a_across, b, b_down, b_across, c)
        writer(f"tk_gemm{suffix}({', '.join(map(str, parts))});")
    writer.close(loose)


def _of_type(value: Value) -> str:
    return F64 if value.dtype == np.float64 else ""


def _padded(axes: tuple[int, ...], missing: int) -> tuple[int, ...]:
    """Two axes, of which the first may be missing."""
    return (missing,) * (2 - len(axes)) + axes


def _address(view: View, strides: tuple[int, ...], names: list[str]) -> str:
    """Where a matrix of a stack begins."""
    moved = "".join(f" + {name} * {step}" for name, step in zip(names, strides, strict=True))
    return f"m{view.root} + {view.offset}{moved}"


# ------------------------------------------------------------------ labels


def _labels(plan: Plan, writer: Writer, instruction: Instruction) -> None:
    x, labels = instruction.inputs
    axis, out = instruction.params["axis"], instruction.output
    pick = instruction.op is network.gather_labels
    wide, narrow = (x, out) if pick else (out, x)
    pw, pn, pl = (plan.views[value] for value in (wide, narrow, labels))
    axis %= len(wide.shape)
    others = [a for a in range(len(wide.shape)) if a != axis]
    names = [f"i{k}" for k in range(len(others))]
    writer.computes(instruction)
    for name, a in zip(names, others, strict=True):
        writer.loop(name, wide.shape[a])
    if not names:
        writer.open("")
    label = _index(pl, pl.strides, names)
    strides = (*(pw.strides[a] for a in others), pw.strides[axis])
    if pick:
        source = _index(pw, strides, [*names, "label"])
        writer(f"int64_t label = {label};")
        writer(f"{_index(pn, pn.strides, names)} = {source};")
    else:
        kind = TYPES[narrow.dtype]
        writer(f"int64_t label = {label};")
        # Loaded before it is chosen: GCC 12 takes conditional loads of another width for others.
        writer(f"{kind} given = {_index(pn, pn.strides, names)};")
        writer.loop("c", wide.shape[axis])
        target = _index(pw, strides, [*names, "c"])
        writer(f"{target} = c == label ? given : 0;")
        writer.close()
    writer.close(max(len(names), 1))


def _triangle(plan: Plan, writer: Writer, instruction: Instruction) -> None:
    (x,), out, params = instruction.inputs, instruction.output, instruction.params
    names = [f"i{k}" for k in range(len(out.shape))]
    (*batch, row, column), view = names, plan.views[x]
    distance = f"{column} - {row}"
    if instruction.op is indexing.put_diagonal:
        offset = params["offset"]
        kept = f"{distance} == {offset}"
        own = [*batch, row if offset >= 0 else column]
    else:
        kept = (
            f"{distance} {'<=' if instruction.op is indexing.tril else '>='} {params.get('k', 0)}"
        )
        own = names
    writer.computes(instruction)
    for name, size in zip(names, out.shape, strict=True):
        writer.loop(name, size)
    target = _index(plan.views[out], plan.views[out].strides, names)
    writer(f"{target} = {kept} ? {_index(view, view.strides, own)} : 0;")
    writer.close(len(names))


# ------------------------------------------------------------------ what is put together of parts


def _fill_gaps(plan: Plan, writer: Writer, step: Concat) -> None:
    """What no part covers."""
    out = step.instruction.output
    writer.computes(step.instruction)
    view, given = plan.views[out], literal(step.fill_value, out.dtype)
    for box in step.gaps:
        offset = view.offset
        sizes: list[int] = []
        strides: list[int] = []
        for (first, steps), stride in zip(box, view.strides, strict=True):
            offset += first * stride
            sizes += [size for size, _ in steps]
            strides += [step * stride for _, step in steps]
        nest, (inner,) = loops(tuple(sizes), tuple(strides))
        names = [f"i{k}" for k in range(len(nest))]
        for name, size in zip(names, nest, strict=True):
            writer.loop(name, size)
        writer(f"{_index(View(view.root, offset, ()), inner, names)} = {given};")
        writer.close(len(nest))
