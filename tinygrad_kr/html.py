"""HTML for notebooks: tables, heat maps and curves, as text of this one file.

Everything is inline: no scripts, no style sheets, nothing from another server. Letters and lines
have the notebook's own colour (`currentColor`), so that they are read on a light and on a dark
ground. A picture is SVG with a title, which is its text for readers that show no pictures.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape as _escape
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

__all__ = [
    "Facts",
    "block",
    "curves",
    "escape",
    "facts",
    "folded",
    "heat_map",
    "interval",
    "line",
    "number",
    "plain",
    "table",
]

CELLS = 32
"""Most cells of a heat map along an axis; a larger matrix is shown as means of blocks."""
SAMPLED = 1024
"""Most rows or columns that a heat map reads; of more, evenly spaced ones."""
LEVELS = 8
"""Shades of a heat map for each sign."""
POINTS = 300
"""Most points of a curve; of more, the least and the greatest of each stretch."""
CHUNK = 1 << 20
"""Elements that `facts` reads at once."""
NEGATIVE, ZERO, POSITIVE = (33, 102, 172), (247, 247, 247), (178, 24, 43)
NOT_FINITE = "#000"
COLOURS = ("#3a86c8", "#d1671e", "#2e9e62", "#b065c6", "#8a8424", "#d2577d")
"""Of curves: each has a contrast of 3 or more with white and with #111."""
DASHES = ("", "7 4", "2 3")
_UNSHOWN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML does not allow, or that no font shows."""


def escape(text: Any) -> str:
    """A text as HTML and XML show it, also between quotation marks.

    >>> from tinygrad_kr import html
    >>> html.escape("a < b")
    'a &lt; b'
    """
    return _escape(shown(text), quote=True)


def shown(text: Any) -> str:
    """A text without the characters that cannot be shown: a question mark stands for each."""
    return _UNSHOWN.sub("\ufffd", str(text))


def block(title: Any, *parts: str) -> str:
    """A title above parts that are HTML already. Empty parts are left out."""
    inside = "".join(part for part in parts if part)
    return (
        '<div style="line-height:1.4;overflow-x:auto">'
        f'<div style="font-weight:600">{escape(title)}</div>{inside}</div>'
    )


def line(text: Any) -> str:
    """One line of text."""
    return f"<div>{escape(text)}</div>" if str(text) else ""


def plain(text: Any) -> str:
    """Text in a font of equal letters, with its line breaks."""
    return (
        '<pre style="margin:.3em 0;background:none;color:inherit;font-family:monospace;'
        f'line-height:1.3;white-space:pre;overflow-x:auto">{escape(text)}</pre>'
    )


def folded(title: Any, inside: str) -> str:
    """HTML that is shown after a click on its title."""
    heading = f'<summary style="cursor:pointer">{escape(title)}</summary>'
    return f"<details>{heading}{inside}</details>"


def table(
    header: Sequence[Any], rows: Iterable[Sequence[Any]], *, numeric: int = 0, caption: Any = ""
) -> str:
    """A table: the first cell of a row is its heading, the last `numeric` stand to the right."""
    left = len(header) - numeric

    def cell(i: int, value: Any, mark: str) -> str:
        aligned = "left" if i < left else "right"
        return f'<{mark} style="text-align:{aligned}">{escape(value)}</{mark[:2]}>'

    head = "".join(cell(i, name, 'th scope="col"') for i, name in enumerate(header))
    body = "".join(
        "<tr>"
        + "".join(cell(i, x, "td" if i else 'th scope="row"') for i, x in enumerate(row))
        + "</tr>"
        for row in rows
    )
    above = f'<caption style="text-align:left">{escape(caption)}</caption>' if caption else ""
    return (
        '<table cellpadding="5" style="border-collapse:collapse;color:inherit;font-size:.92em;'
        'font-variant-numeric:tabular-nums">'
        f"{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


# ------------------------------------------------------------------ numbers


class Facts(NamedTuple):
    """Of an array: the least, the greatest and the mean of the finite numbers, and the others."""

    low: float
    high: float
    mean: float
    nans: int
    infinite: int
    finite: int


def facts(array: ndarray) -> Facts:
    """What an array holds, read in chunks. Without finite numbers, `low` to `mean` are NaN.

    >>> from tinygrad_kr import html
    >>> html.facts(np.array([1.0, 3.0, np.nan]))
    Facts(low=1.0, high=3.0, mean=2.0, nans=1, infinite=0, finite=2)
    """
    steps = zip(array.shape, array.strides, strict=True)
    repeated = tuple(size > 1 and stride == 0 for size, stride in steps)
    own = array[tuple(slice(0, 1) if again else slice(None) for again in repeated)]
    times = array.size // max(own.size, 1)
    low, high, mean = np.inf, -np.inf, 0.0
    nans = infinite = finite = 0
    for part in _chunks(own):
        numbers = part
        if part.dtype.kind == "f":
            kept = np.isfinite(part)
            missing = int(np.isnan(part).sum())
            nans, infinite = nans + missing, infinite + part.size - int(kept.sum()) - missing
            numbers = part[kept]
        if numbers.size:
            low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
            mean += float((numbers / np.float64(own.size)).sum())
            finite += numbers.size
    if not finite:
        low = high = mean = np.nan
    mean *= own.size / max(finite, 1)
    return Facts(low, high, mean, nans * times, infinite * times, finite * times)


def _chunks(array: ndarray) -> Iterable[ndarray]:
    """The array in pieces of at most about `CHUNK` elements."""
    if array.size <= CHUNK or array.ndim == 0:
        return [array]
    if len(array) == 1:
        return _chunks(array[0])
    pieces = min(len(array), -(-array.size // CHUNK))
    return (part for rows in np.array_split(array, pieces) for part in _chunks_of(rows))


def _chunks_of(rows: ndarray) -> Iterable[ndarray]:
    return _chunks(rows[0]) if len(rows) == 1 else [rows]


def number(value: float) -> str:
    """A number in few digits."""
    return f"{value + 0.0:.4g}"


# ------------------------------------------------------------------ heat maps


def heat_map(matrix: ndarray, title: Any, *, side: int = 160) -> str:
    """A matrix as cells: blue below 0, red above, black where a number is not finite.

    Each cell of a matrix of more than 32 rows or columns is the mean of a block.
    title: the text for readers that show no pictures. side: pixels of the longer side.
    """
    if matrix.ndim != 2 or not matrix.size:
        return ""
    cells = _block_means(matrix)
    rows, columns = cells.shape
    finite = np.isfinite(cells)
    scale = float(np.abs(cells[finite]).max(initial=0.0)) or 1.0
    levels = np.zeros(cells.shape, np.int64)
    levels[finite] = np.rint(cells[finite] / scale * LEVELS).astype(np.int64)
    levels[~finite] = LEVELS + 1
    paths = []
    for level in np.unique(levels):
        at = zip(*np.nonzero(levels == level), strict=True)
        squares = "".join(f"M{j} {i}h1v1h-1z" for i, j in at)
        paths.append(f'<path fill="{_shade(int(level))}" d="{squares}"/>')
    unit = side / max(rows, columns, 4)
    width, height = max(round(columns * unit), 2), max(round(rows * unit), 2)
    return (
        f'<svg role="img" xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {columns} {rows}" preserveAspectRatio="none" '
        'shape-rendering="crispEdges" style="max-width:none;margin:.3em 0;outline:1px solid #8888">'
        f"<title>{escape(title)}</title>{''.join(paths)}</svg>"
    )


def _block_means(matrix: ndarray) -> ndarray:
    """At most `CELLS` by `CELLS` means of blocks; not finite where an element is not."""
    for axis in (0, 1):
        step = -(-matrix.shape[axis] // SAMPLED)
        matrix = matrix[::step] if axis == 0 else matrix[:, ::step]
    cells = matrix.astype(np.float64)
    greatest = float(np.abs(cells[np.isfinite(cells)]).max(initial=0.0))
    if greatest > 1e300:  # their sum would not be finite
        cells = cells / greatest
    with np.errstate(invalid="ignore"):
        for axis in (0, 1):
            size = cells.shape[axis]
            if size > CELLS:
                edges = np.linspace(0, size, CELLS, endpoint=False).astype(np.int64)
                counts = np.diff(np.append(edges, size))
                shape = (-1, 1) if axis == 0 else (1, -1)
                cells = np.add.reduceat(cells, edges, axis) / counts.reshape(shape)
    return cells


def _shade(level: int) -> str:
    if level > LEVELS:
        return NOT_FINITE
    end, share = POSITIVE if level > 0 else NEGATIVE, abs(level) / LEVELS
    mixed = (round(a + (b - a) * share) for a, b in zip(ZERO, end, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def interval(low: float, middle: float, high: float, title: Any) -> str:
    """A part of 0 ... 1 as a bar with a mark: an estimate and its interval.

    title: the text for readers that show no pictures.
    """
    a, b, c = (f"{10 + 200 * value:.1f}" for value in (low, middle, high))
    return (
        '<svg role="img" xmlns="http://www.w3.org/2000/svg" width="220" height="30" '
        'viewBox="0 0 220 30" font-family="sans-serif" font-size="10">'
        f"<title>{escape(title)}</title>"
        f"{_rule(10, '8', 210, '8')}{_text(10, 26, '0', 'middle')}{_text(210, 26, '1', 'middle')}"
        f'<path d="M{a} 8H{c}" stroke="{COLOURS[0]}" stroke-width="6"/>'
        f'<circle cx="{b}" cy="8" r="5" fill="{COLOURS[1]}"/></svg>'
    )


# ------------------------------------------------------------------ curves

_WIDTH, _HEIGHT = 330, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 26, 30


def curves(
    series: Mapping[str, Any], *, title: Any = "", start: int = 1, together: bool = False
) -> str:
    """Curves over the steps, one picture for a name and its `val_` twin: a history of training.

    series: a list of numbers for each name. None, NaN and infinity leave a gap. Numbers above 0 of
        more than two orders of magnitude stand on a logarithmic axis.
    start: the number of the first step. together: draw all curves in one picture.
    """
    panels: dict[str, dict[str, ndarray]] = {}
    for name, values in series.items():
        shown = np.array([np.nan if x is None else float(x) for x in values])
        if shown.size:
            panel = "" if together else _panel(str(name))
            panels.setdefault(panel, {})[str(name)] = shown
    pictures = "".join(_curve_picture(name, lines, start) for name, lines in panels.items())
    inside = f'<div style="display:flex;flex-wrap:wrap;gap:.6em">{pictures}</div>'
    return block(title, inside) if title else inside


def _panel(name: str) -> str:
    """The name without the mark of validation: `val_loss` is drawn beside `loss`."""
    for prefix in ("val_", "validation_", "train_", "training_"):
        if name.startswith(prefix) and len(name) > len(prefix):
            return name.removeprefix(prefix)
    return name


class _Axis(NamedTuple):
    low: float
    high: float
    logarithmic: bool

    def share(self, value: Any) -> Any:
        """Where a value lies between `low` (0) and `high` (1)."""
        if self.logarithmic:
            low = np.log(self.low)
            return (np.log(value) - low) / (np.log(self.high) - low)
        half = value / 2 - self.low / 2  # halves: a difference of large numbers is finite
        return half / (self.high / 2 - self.low / 2)

    def ticks(self) -> list[float]:
        """Round numbers, two to seven."""
        if self.logarithmic:
            low, high = np.ceil(np.log10(self.low)), np.floor(np.log10(self.high))
            each = max(1, -(-int(high - low) // 4))
            powers = [10.0**k for k in range(int(low), int(high) + 1, each) if 10.0**k]
            return powers if len(powers) > 1 else [self.low, self.high]
        step = _round_step(self.high / 6 - self.low / 6)
        first, last = np.ceil(self.low / step - 1e-9), np.floor(self.high / step + 1e-9)
        return [step * float(k) for k in np.arange(first, last + 1)]


def _round_step(least: float) -> float:
    if not np.isfinite(least) or least < 1e-300:
        return 1.0
    power = 10.0 ** np.floor(np.log10(least))
    return next(float(k * power) for k in (1, 2, 5, 10) if k * power >= least * (1 - 1e-9))


def _axis_of(values: ndarray) -> _Axis:
    """An axis for all finite numbers."""
    numbers = values[np.isfinite(values)]
    if not numbers.size:
        return _Axis(0.0, 1.0, False)
    low, high = float(numbers.min()), float(numbers.max())
    if low > 0 and high / low > 100:
        return _Axis(low, high, True)
    if high / 2 - low / 2 <= abs(high) * 1e-9:
        room = abs(high) * 0.1 or 1.0
        return _Axis(low - room, high + room, False)
    return _Axis(low, high, False)


def _curve_picture(name: str, lines: dict[str, ndarray], start: int) -> str:
    longest = max(map(len, lines.values()))
    axis = _axis_of(np.concatenate(list(lines.values())))
    across, down = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    last = max(longest - 1, 1)

    def y(value: Any) -> Any:
        return _TOP + down * (1 - axis.share(value))

    parts = [_text(_LEFT, 15, name, "start", weight=600)]
    ticks = axis.ticks()
    for tick, label in zip(ticks, _labels(ticks), strict=True):
        at = f"{float(y(tick)):.1f}"
        parts.append(_rule(_LEFT, at, _WIDTH - _RIGHT, at))
        parts.append(_text(_LEFT - 5, float(y(tick)) + 4, label, "end"))
    for step in sorted({0, (longest - 1) // 2, longest - 1}):
        x = _LEFT + across * step / last
        anchor = "end" if 0 < step == longest - 1 else "middle"
        parts.append(_text(x, _HEIGHT - _BOTTOM + 16, str(start + step), anchor))
    corner = f"M{_LEFT} {_TOP}v{down}h{across}"
    parts.append(f'<path d="{corner}" fill="none" stroke="currentColor" stroke-opacity=".6"/>')
    said, right = [], float(_WIDTH - _RIGHT)
    for i, (label, values) in enumerate(lines.items()):
        points = _thinned(values)
        xs = _LEFT + across * points / last
        parts.append(_stroke(xs, y(_finite(values[points])), i))
        said.append(_told(label, values))
    for i, label in reversed(list(enumerate(lines if len(lines) > 1 else ()))):
        right -= _legend(parts, right, label, i)
    told = f"{name}: {'; '.join(said)}" if name else "; ".join(said)
    return (
        f'<svg role="img" xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="11" '
        f'style="max-width:none"><title>{escape(told)}</title>{"".join(parts)}</svg>'
    )


def _labels(ticks: Sequence[float]) -> list[str]:
    """The numbers in as few digits as tell them apart."""
    for digits in range(4, 9):
        labels = [f"{tick + 0.0:.{digits}g}" for tick in ticks]
        if len(set(labels)) == len(labels):
            break
    return labels


def _legend(parts: list[str], right: float, label: str, i: int) -> float:
    """The name of curve i and its line, left of `right`; returns the width."""
    width = 6.2 * min(len(label), 16) + 26
    x = right - width
    shown = label if len(label) <= 16 else label[:15] + "…"
    parts.append(_stroke(np.array([x, x + 18]), np.array([11.0, 11.0]), i))
    parts.append(_text(x + 22, 15, shown, "start"))
    return width + 4


def _finite(values: ndarray) -> ndarray:
    return np.where(np.isfinite(values), values, np.nan)


def _thinned(values: ndarray) -> ndarray:
    """Indices of at most about `POINTS` points: the extremes of each stretch, and the gaps."""
    if len(values) <= POINTS:
        return np.arange(len(values))
    kept = {0, len(values) - 1}
    for part in np.array_split(np.arange(len(values)), POINTS // 3):
        numbers = values[part]
        finite = np.isfinite(numbers)
        if finite.any():
            inside = part[finite]
            kept |= {int(inside[numbers[finite].argmin()]), int(inside[numbers[finite].argmax()])}
        if not finite.all():
            kept.add(int(part[~finite][0]))
    return np.array(sorted(kept))


def _stroke(xs: ndarray, ys: ndarray, curve: int) -> str:
    """A line through the points, broken at NaN; a dot where a point stands alone."""
    colour, dash = COLOURS[curve % len(COLOURS)], DASHES[curve % len(DASHES)]
    data, dots, drawn = [], [], ~np.isnan(ys)
    for i in np.flatnonzero(drawn).tolist():
        joined = i > 0 and drawn[i - 1]
        data.append(f"{'L' if joined else 'M'}{xs[i]:.1f} {ys[i]:.1f}")
        if not joined and (i + 1 == len(ys) or not drawn[i + 1]):
            dots.append(f'<circle cx="{xs[i]:.1f}" cy="{ys[i]:.1f}" r="2.5" fill="{colour}"/>')
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    path = f'<path d="{"".join(data)}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>'
    return path + "".join(dots)


def _told(name: str, values: ndarray) -> str:
    """A curve in words that need no language: first and last value, least and greatest."""
    numbers = values[np.isfinite(values)]
    if not numbers.size:
        return f"{name} NaN"
    missing = values.size - numbers.size
    ends = f"{name} {number(values[0])} → {number(values[-1])}"
    spread = f"{number(numbers.min())} … {number(numbers.max())}"
    return f"{ends} ({spread}{f', NaN/inf {missing}' if missing else ''}; n = {values.size})"


def _text(x: float, y: float, text: str, anchor: str, weight: int = 400) -> str:
    bold = f' font-weight="{weight}"' if weight != 400 else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor"{bold}>'
        f"{escape(text)}</text>"
    )


def _rule(x: float, y: str, to_x: float, to_y: str) -> str:
    return (
        f'<path d="M{x} {y}L{to_x} {to_y}" stroke="currentColor" stroke-opacity=".15" fill="none"/>'
    )
