"""The table of `Module.summary()`, as text and for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_kr import html
from tinygrad_kr.arrays.counting import MultiplyAdds
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.language import Text, cells, ljust, rjust
from tinygrad_kr.tensor import Tensor

if TYPE_CHECKING:
    from tinygrad_kr.nn.module import Handle, Module

_HEADER = {
    "layer": Text("layer", "층"),
    "type": Text("type", "종류"),
    "output": Text("output", "출력"),
    "parameters": Text("parameters", "파라미터"),
    "bytes": Text("bytes", "바이트"),
    "multiply-adds": Text("multiply-adds", "곱셈-덧셈"),
}
_CELLS = {
    "(itself)": Text("(itself)", "(자신)"),
    "not run": Text("not run", "실행 안 됨"),
}
_NO_DTYPE = Text("none", "없음")
_PARAMETERS = Text(
    "parameters: {total:,} ({trained:,} trained, {frozen:,} frozen), {dtypes}",
    "파라미터: {total:,} (학습 {trained:,}, 고정 {frozen:,}), {dtypes}",
)
_BUFFERS = Text(
    "buffers: {count:,}; all together {size:,} bytes",
    "버퍼: {count:,}, 모두 {size:,}바이트",
)
_PRODUCTS = Text(
    "multiply-adds of products and convolutions: {total:,}",
    "행렬 곱과 합성곱의 곱셈-덧셈: {total:,}",
)


class Summary(str):
    """The table as text, which `repr` shows as it is. A notebook shows it as HTML.

    The text is in the language in force; see `tk.set_language`.

    kind: the class of the module. header, rows: the cells of the table, in English.

    >>> nn.Sequential(nn.Linear(2, 1)).summary().rows
    [['0', 'Linear', '3', '12']]
    """

    kind: str
    header: list[str]
    rows: list[list[str]]
    _told: list[tuple[Text, dict[str, Any]]]

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        header, *rows = _said(self.header, self.rows)
        numeric = sum(name in ("parameters", "bytes", "multiply-adds") for name in self.header)
        shown = html.table(header, rows, numeric=numeric) if rows else ""
        told = (html.line(line) for line in _told(self._told))
        return html.block(self.kind, shown, *told)


def summary(module: Module, example: Any = None) -> Summary:
    """See `Module.summary`."""
    run = None if example is None else _Run(module, _inputs(module, example))
    seen: set[int] = set()
    header, rows = list(_HEADER), []
    for path, part in module.named_modules():
        fresh = [p for p in part.parameters(recurse=False) if id(p) not in seen]
        seen.update(map(id, fresh))
        products = run.products.get(id(part), 0) if run else 0
        if part is module and not fresh and not products:
            continue
        shape = run.shapes.get(id(part), "not run") if run else ""
        sizes = [*_sizes(fresh), f"{products:,}" if products else "-"]
        rows.append([path or "(itself)", type(part).__name__, shape, *sizes])
    told = _totals(module)
    if run is None:
        header, *rows = ([*row[:2], *row[3:5]] for row in [header, *rows])
    else:
        told.append((_PRODUCTS, {"total": sum(run.products.values())}))
    aligned = _aligned(_said(header, rows), numeric=2 if run is None else 3)
    kind = type(module).__name__
    text = Summary("\n".join([kind, *aligned, *_told(told)]))
    text.kind, text.header, text.rows, text._told = kind, header, rows, told
    return text


def _said(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The cells in the language in force."""
    names = [_HEADER[name].say() for name in header]
    return [names, *([_CELLS[x].say() if x in _CELLS else x for x in row] for row in rows)]


def _told(lines: Sequence[tuple[Text, dict[str, Any]]]) -> list[str]:
    """The lines below the table in the language in force."""
    return [text.filled(**values).say() for text, values in lines]


def _sizes(tensors: Sequence[Tensor]) -> list[str]:
    if not tensors:
        return ["-", "-"]
    return [f"{sum(t.size for t in tensors):,}", f"{sum(t.data.nbytes for t in tensors):,}"]


def _totals(module: Module) -> list[tuple[Text, dict[str, Any]]]:
    parameters, buffers = list(module.parameters()), list(module.buffers())
    trained = sum(p.size for p in parameters if p.requires_grad)
    total = sum(p.size for p in parameters)
    size = sum(t.data.nbytes for t in (*parameters, *buffers))
    dtypes = ", ".join(sorted({str(p.dtype) for p in parameters})) or _NO_DTYPE
    counts = {"total": total, "trained": trained, "frozen": total - trained, "dtypes": dtypes}
    count = sum(b.size for b in buffers)
    return [(_PARAMETERS, counts), (_BUFFERS, {"count": count, "size": size})]


def _aligned(rows: Sequence[Sequence[str]], numeric: int) -> list[str]:
    """The rows as lines of equally wide columns, the last `numeric` aligned to the right."""
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    left = len(widths) - numeric
    lines = [
        "  ".join(
            ljust(cell, width) if i < left else rjust(cell, width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    rule = "-" * cells(lines[0])
    return [rule, lines[0], rule, *lines[1:], rule]


def _inputs(module: Module, example: Any) -> tuple[Any, ...]:
    """Zeros of the given shape in the module's dtype, or the example itself."""
    if _is_shape(example):
        dtype = next((p.dtype for p in module.parameters()), np.dtype(np.float32))
        return (Tensor(np.zeros(example, dtype)),)
    given = example if isinstance(example, tuple) else (example,)
    return tuple(Tensor(x) if isinstance(x, np.ndarray | list) else x for x in given)


def _is_shape(example: Any) -> bool:
    return (
        isinstance(example, tuple | list)
        and bool(example)
        and all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in example)
    )


class _Run:
    """One run of a module in eval mode without recording. Modes and hooks are restored.

    shapes: the output shape of every module that ran. products: its own multiply-adds, without
    those of the modules that it called. Both by `id`.
    """

    def __init__(self, module: Module, inputs: tuple[Any, ...]) -> None:
        self.shapes: dict[int, str] = {}
        self.products: dict[int, int] = {}
        self._counter, self._running, self._counted = MultiplyAdds(), [0], 0
        modes = [(part, part.training) for part in module.modules()]
        handles: list[Handle] = []
        try:
            for part, _ in modes:
                handles.append(part.register_forward_pre_hook(self._begin))
                handles.append(part.register_forward_hook(self._end))
            with no_grad():
                self._counter.of(module.eval(), *inputs)
        finally:
            for handle in handles:
                handle.remove()
            for part, mode in modes:
                part.training = mode

    def _begin(self, part: Module, _: Any) -> None:
        self._count()
        self._running.append(id(part))

    def _end(self, part: Module, _: Any, output: Any) -> None:
        self._count()
        self._running.pop()
        self.shapes[id(part)] = _shape_text(output)

    def _count(self) -> None:
        """The multiply-adds since the last report belong to the innermost running module."""
        running, total = self._running[-1], self._counter.total
        self.products[running] = self.products.get(running, 0) + total - self._counted
        self._counted = total


def _shape_text(output: Any) -> str:
    if isinstance(output, tuple | list):
        return ", ".join(_shape_text(part) for part in output)
    if isinstance(output, dict):
        return _shape_text(list(output.values()))
    return str(output.shape) if hasattr(output, "shape") else type(output).__name__
