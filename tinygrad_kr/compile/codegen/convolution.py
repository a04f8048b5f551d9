"""The C of convolutions: what comes before, between and after their products."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

from tinygrad_kr.compile.codegen.pooling import _WIDE, TYPES, _at, _find, _four, _window
from tinygrad_kr.compile.codegen.text import Function, Line, Writer
from tinygrad_kr.compile.ir.layout import View
from tinygrad_kr.compile.ir.ops import _window_first
from tinygrad_kr.compile.ir.program import Value
from tinygrad_kr.compile.plan.plan import Plan
from tinygrad_kr.compile.plan.steps import ConvolutionGroup, Geometry
from tinygrad_kr.ops import elementwise as e
from tinygrad_kr.ops import window as w
from tinygrad_kr.ops.convolutions import pair
from tinygrad_kr.ops.reduction import sum_


class Kernel(Writer):
    """A C function of some samples: its arrays, from the plan's memory or the step's own, and its
    lines."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.parameters: dict[str, str] = {}
        self.given: dict[str, str] = {}

    def memory(self, name: str, view: View, dtype: Any, stored: bool = False) -> None:
        """An array of the plan."""
        kind = f"{'' if stored else 'const '}{TYPES[dtype]}"
        self.parameters[name] = f"{kind} *restrict {name}"
        self.given[name] = f"({kind} *)memory[{view.root}] + {view.offset}"

    def own(self, name: str, slot: int, dtype: Any, stored: bool = False) -> None:
        """An array of the step."""
        kind = f"{'' if stored else 'const '}{TYPES[dtype]}"
        self.parameters[name] = f"{kind} *restrict {name}"
        self.given[name] = f"({kind} *)own[{slot}]"

    def functions(self) -> Function:
        """Both functions: the one that works, and the one that finds its arrays."""
        parameters = ", ".join(self.parameters.values())
        given = ", ".join(self.given.values())
        head = f"static APART void {self.name}_({parameters}, int64_t start, int64_t count) {{"
        after = [
            *("}", ""),
            f"static void {self.name}(void **memory, void **own, int64_t start, int64_t count) {{",
            *(f"  {self.name}_({given}, start, count);", "}", ""),
        ]
        return Function([Line(head), *self.lines, *map(Line, after)], numbered=False)


# ------------------------------------------------------------------ the parts of a convolution


def _filters(name: str, s: Geometry, weight: Value, view: View) -> Kernel:
    """Filters as the rows of a matrix (outputs, features), each in order of its memory: a filter
    fits the cache, all of them may not."""
    f = Kernel(name)
    f.memory("weight", view, weight.dtype)
    f.own("filters", 0, weight.dtype, stored=True)
    (o, c, h, v), (kh, kw) = _four(view.strides), s.kernel
    f.loop("o", s.outputs)
    f.loop("c", s.channels)
    f.loop("i", kh)
    f.loop("j", kw)
    to = f"(o * {kh * kw} + i * {kw} + j) * {s.channels} + c"
    f(f"filters[{to}] = weight[{_at(('i', h), ('j', v), ('c', c), ('o', o))}];")
    f.close(4)
    return f


def _along_rows(f: Kernel, s: Geometry, strides: tuple[int, int, int, int], mode: str) -> None:
    """For every window of some lines of them, its elements: copied to `columns` (mode "read"), or
    added to from there (mode "add"). `x` is the array; what lies outside of it is zero, or left
    out."""
    n, c, h, v = strides
    (height, width), (kh, kw), (oh, ow) = s.sizes, s.kernel, s.counts
    (sh, sw), (ph, pw), (dh, dw) = s.stride, s.padding, s.dilation
    features, run = s.features, kw * s.channels
    inner = [j for j in range(ow) if j * sw - pw >= 0 and j * sw - pw + (kw - 1) * dw < width]
    first, last = (inner[0], inner[-1] + 1) if inner else (0, 0)
    side_by_side = dw == 1 and v == s.channels and (c == 1 or s.channels == 1)

    def move(to: str, element: str, index: str, size: int) -> None:
        f.loop(index, size)
        f(
            f"to[{to} + {index}] = {element};"
            if mode == "read"
            else f"{element} += to[{to} + {index}];"
        )
        f.close()

    def one(start: str, stop: str, inside: bool) -> None:
        f.loop("j", stop, start)
        if inside and side_by_side:
            move(f"j * {features}", f"from[(j * {sw} - {pw}) * {v} + t]", "t", run)
        else:
            f.loop("b", kw)
            f(f"int64_t column = j * {sw} - {pw} + b * {dw};")
            at = f"j * {features} + b * {s.channels}"
            if not inside:
                outside = f"column < 0 || column >= {width}"
                if mode == "read":
                    f.open(f"if ({outside})")
                    f(f"for (int64_t c = 0; c < {s.channels}; c++) to[{at} + c] = 0;")
                    f("continue;")
                    f.close()
                else:
                    f(f"if ({outside}) continue;")
            move(at, f"from[{_at(('column', v), ('c', c))}]", "c", s.channels)
            f.close()
        f.close()

    constant = "const " if mode == "read" else ""
    other = "" if mode == "read" else "const "
    kind = f.parameters["x"].replace("const ", "").split()[0]
    f.loop("line", "start + count", "start")
    f(f"int64_t n = line / {oh}, i = line % {oh};")
    if mode == "add":
        f(f"if (!i) memset(x + n * {n}, 0, sizeof({kind}) * {s.channels * height * width});")
    f.loop("a", kh)
    f(f"int64_t row = i * {sh} - {ph} + a * {dh};")
    f(f"{other}{kind} *to = columns + (line - start) * {ow * features} + a * {run};")
    f.open(f"if (row < 0 || row >= {height})")
    if mode == "read":
        f.loop("j", ow)
        f(f"for (int64_t t = 0; t < {run}; t++) to[j * {features} + t] = 0;")
        f.close()
    f("continue;")
    f.close()
    f(f"{constant}{kind} *from = x + {_at(('n', n), ('row', h))};")
    if first > 0:
        one("0", str(first), False)
    if last > first:
        one(str(first), str(last), True)
    if last < ow:
        one(str(last), str(ow), False)
    f.close(2)


def _columns(name: str, s: Geometry, x: Value, view: View) -> Kernel:
    """Windows as rows (windows, features), zeros where they reach over the edge."""
    f = Kernel(name)
    f.memory("x", view, x.dtype)
    f.own("columns", 1, x.dtype, stored=True)
    _along_rows(f, s, _four(view.strides), "read")
    return f


def _spread(name: str, s: Geometry, x: Value, view: View) -> Kernel:
    """Rows (windows, features) added up where their windows lie."""
    f = Kernel(name)
    f.memory("x", view, x.dtype, stored=True)
    f.own("columns", 1, x.dtype)
    _along_rows(f, s, _four(view.strides), "add")
    return f


class _Forward:
    """The members of a forward group by what they are."""

    def __init__(self, step: ConvolutionGroup) -> None:
        by_op = {s.op: s for s in step.instructions}
        self.convolve = by_op[w.convolve]
        self.maximum, self.first = by_op.get(w.max_pool), by_op.get(_window_first)
        self.relu = by_op.get(e.relu)
        last = self.relu or self.maximum or self.convolve
        self.result = last.output
        self.x, self.weight, *bias = self.convolve.inputs
        self.bias = bias[0] if bias else None


def _epilogue(name: str, s: Geometry, plan: Plan, step: ConvolutionGroup) -> Kernel:
    """From the products, in `rows` (windows, outputs), to what is kept: bias, maxima, relu."""
    members = _Forward(step)
    result, dtype = members.result, members.result.dtype
    kind = TYPES[dtype]
    f = Kernel(name)
    f.own("rows", 2, dtype)
    f.memory("y", plan.views[result], dtype, stored=True)
    strides = _four(plan.views[result].strides)
    bias = ""
    if members.bias is not None:
        bias_view = plan.views[members.bias]
        f.memory("bias", bias_view, dtype)
        bias = f" + bias[{_at(('c', bias_view.strides[0]))}]"
    outputs = s.outputs
    (oh, ow) = counts = s.counts
    offsets = [0]
    move = (outputs * ow, outputs)
    if members.maximum is not None:
        window = {key: pair(members.maximum.params[key]) for key in _WINDOW}
        counts = pair(members.maximum.output.shape[2:])
        stride, kernel, dilation = _window(window)
        offsets = [
            (a * dilation[0] * ow + b * dilation[1]) * outputs
            for a, b in product(*map(range, kernel))
        ]
        move = (stride[0] * ow * outputs, stride[1] * outputs)
    if members.first is not None:
        index = members.first.output
        index_view = plan.views[index]
        f.memory("first", index_view, index.dtype, stored=True)
    f.loop("n", "start + count", "start")
    f.loop("i", counts[0])
    f.loop("j", counts[1])
    window_at = f"(n - start) * {oh * ow * outputs} + i * {move[0]} + j * {move[1]}"
    f(f"const {kind} *from = rows + {window_at};")
    relu = f"tk_relu{'f' if dtype == np.float32 else ''}" if members.relu else ""
    apart = strides[1] != 1
    target = f"y[{_at(('n', strides[0]), ('c', strides[1]), ('i', strides[2]), ('j', strides[3]))}]"
    if apart:
        f(f"{kind} row[{outputs}];")
    if members.first is not None:
        f(f"{_WIDE[kind]} found[{outputs}];")
    f.loop("c", outputs)
    if len(offsets) > 1:
        _find(f, kind, [f"from[c + {offset}]{bias}" for offset in offsets], "")
    else:
        f(f"{kind} best = from[c]{bias};")
    f(f"{'row[c]' if apart else target} = {relu}(best);")
    if members.first is not None:
        f(f"found[c] = {'index' if len(offsets) > 1 else 0};")
    f.close()
    if members.first is not None:
        at = _four(index_view.strides)
        where = _at(("n", at[0]), ("c", at[1]), ("i", at[2]), ("j", at[3]))
        f(f"for (int64_t c = 0; c < {outputs}; c++) first[{where}] = found[c];")
    if apart:
        f(f"for (int64_t c = 0; c < {outputs}; c++) {target} = row[c];")
    f.close(3)
    return f


_WINDOW = ("kernel", "stride", "dilation")


class _Backward:
    """The members of a backward group by what they are."""

    def __init__(self, step: ConvolutionGroup) -> None:
        by_op = {s.op: s for s in step.instructions}
        self.weight, self.transposed = (
            by_op.get(w.convolve_weight),
            by_op.get(w.convolve_transposed),
        )
        self.mask, self.put, self.sum = (
            by_op.get(o) for o in (e.where_or_zero, w.max_unpool, sum_)
        )
        products = self.weight or self.transposed
        assert products is not None
        self.g: Value = products.inputs[products.op is w.convolve_weight]


def _rows(name: str, s: Geometry, plan: Plan, step: ConvolutionGroup) -> Kernel:
    """The cotangent as rows (windows, outputs), put together from what it is made of."""
    members = _Backward(step)
    dtype, outputs = members.g.dtype, s.outputs
    kind, (oh, ow) = TYPES[dtype], s.counts
    source = members.put.inputs[0] if members.put else members.g
    given = members.mask.inputs[0] if members.mask else source
    f = Kernel(name)
    f.own("rows", 2, dtype, stored=True)
    f.memory("g", plan.views[given], dtype)
    if members.mask:
        mask = members.mask.inputs[1]
        f.memory("mask", plan.views[mask], mask.dtype)
    if members.put:
        index = members.put.params["index"]
        f.memory("first", plan.views[index], index.dtype)
    if members.sum:
        f.own("total", 4, np.dtype(np.float64), stored=True)
    counts, offsets, move, apart, whole = s.counts, [0], (outputs * ow, outputs), True, True
    if members.put:
        window = {key: pair(members.put.params[key]) for key in _WINDOW}
        counts = pair(source.shape[2:])
        stride, kernel, dilation = _window(window)
        offsets = [
            (a * dilation[0] * ow + b * dilation[1]) * outputs
            for a, b in product(*map(range, kernel))
        ]
        move = (stride[0] * ow * outputs, stride[1] * outputs)
        apart = all(t >= (k - 1) * d + 1 for t, k, d in zip(stride, kernel, dilation, strict=True))
        whole = apart and oh * ow == math.prod(counts) * math.prod(kernel)
    if not whole:
        f(f"memset(rows, 0, sizeof({kind}) * count * {oh * ow * outputs});")

    def at(value: Value) -> str:
        strides = _four(plan.views[value].strides)
        return _at(("n", strides[0]), ("c", strides[1]), ("i", strides[2]), ("j", strides[3]))

    f.loop("n", "start + count", "start")
    f.loop("i", counts[0])
    if members.sum:
        f(f"{kind} sum[{outputs}] = {{0}};")
    f.loop("j", counts[1])
    f(f"{kind} *to = rows + (n - start) * {oh * ow * outputs} + i * {move[0]} + j * {move[1]};")
    f(f"{kind} row[{outputs}];")
    f.loop("c", outputs)
    f(f"{kind} value = g[{at(given)}];")
    if members.mask:
        f(f"{TYPES[mask.dtype]} passes = mask[{at(mask)}];")
    f(f"row[c] = {'passes ? value : 0' if members.mask else 'value'};")
    f.close()
    if members.sum:
        f(f"for (int64_t c = 0; c < {outputs}; c++) sum[c] += row[c];")
    if members.put:
        f(f"{_WIDE[kind]} chosen[{outputs}];")
        f(f"for (int64_t c = 0; c < {outputs}; c++) chosen[c] = first[{at(index)}];")
        for number, offset in enumerate(offsets):
            put = f"{'' if apart else '+'}= chosen[c] == {number} ? row[c] : 0;"
            f(f"for (int64_t c = 0; c < {outputs}; c++) to[c + {offset}] {put}")
    else:
        f(f"for (int64_t c = 0; c < {outputs}; c++) to[c] = row[c];")
    f.close()
    if members.sum:
        f(f"for (int64_t c = 0; c < {outputs}; c++) total[c] += sum[c];")
    f.close(2)
    return f


_LINE = 16
"""Outputs whose gradients are transposed together: a cache line of float32."""


def _finish(name: str, s: Geometry, plan: Plan, step: ConvolutionGroup) -> Kernel | None:
    """The gradients of weight and bias, in the layout of these."""
    members = _Backward(step)
    f = Kernel(name)
    if members.weight:
        weight = members.weight.output
        f.own("whole", 3, weight.dtype)
        f.memory("weight", plan.views[weight], weight.dtype, stored=True)
        (o, c, h, v), (kh, kw) = _four(plan.views[weight].strides), s.kernel
        f.open(f"for (int64_t first = 0; first < {s.outputs}; first += {_LINE})")
        f(f"int64_t last = tk_min_i64(first + {_LINE}, {s.outputs});")
        f.loop("c", s.channels)
        f.loop("i", kh)
        f.loop("j", kw)
        f.loop("o", "last", "first")
        at = f"((i * {kw} + j) * {s.channels} + c) * {s.outputs} + o"
        f(f"weight[{_at(('i', h), ('j', v), ('c', c), ('o', o))}] = whole[{at}];")
        f.close(5)
    if members.sum:
        bias = members.sum.output
        view = plan.views[bias]
        f.own("total", 4, np.dtype(np.float64))
        f.memory("bias", view, bias.dtype, stored=True)
        shape_step = view.strides[1 if len(bias.shape) > 1 else 0]
        target = f"bias[{_at(('o', shape_step))}]"
        f(f"for (int64_t o = 0; o < {s.outputs}; o++) {target} = ({TYPES[bias.dtype]})total[o];")
    return f if f.parameters else None


def kernels(plan: Plan, step: ConvolutionGroup, name: str) -> list[Kernel]:
    """The C functions of a step. `start` and `count` are of samples, and of lines of windows for
    `columns` and `spread`."""
    s = step.geometry
    if step.is_forward:
        members = _Forward(step)
        return [
            _filters(f"{name}_filters", s, members.weight, plan.views[members.weight]),
            _columns(f"{name}_columns", s, members.x, plan.views[members.x]),
            _epilogue(f"{name}_epilogue", s, plan, step),
        ]
    back = _Backward(step)
    found: list[Kernel | None] = [_rows(f"{name}_rows", s, plan, step)]
    if back.weight:
        x = back.weight.inputs[0]
        found.append(_columns(f"{name}_columns", s, x, plan.views[x]))
    if back.transposed:
        weight, y = back.transposed.inputs[1], back.transposed.output
        found.append(_filters(f"{name}_filters", s, weight, plan.views[weight]))
        found.append(_spread(f"{name}_spread", s, y, plan.views[y]))
    found.append(_finish(f"{name}_finish", s, plan, step))
    return [f for f in found if f is not None]
