"""Pictures of text and boxes as SVG, the same on every machine."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

WIDTH_OF_LETTER = 0.6
"""Of a letter of the monospaced fonts, relative to their size."""
STYLE = """\
  <style>
    text {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre; }}
    text {{ font-size: {size}px; fill: #000; dominant-baseline: middle; }}
  </style>
"""


class Drawing:
    """Boxes, text and lines on a white ground, in pixels from the upper left corner."""

    def __init__(self, width: float, height: float, size: float, title: str) -> None:
        self.size = size
        self.letter = size * WIDTH_OF_LETTER
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
            f'viewBox="0 0 {width:g} {height:g}" role="img">\n',
            f"  <title>{escape(title)}</title>\n",
            STYLE.format(size=f"{size:g}"),
            f'  <rect width="{width:g}" height="{height:g}" fill="#fff"/>\n',
        ]

    def box(
        self, x: float, y: float, width: float, height: float, fill: str, edge: str = "none"
    ) -> None:
        """A rectangle with its upper left corner at (x, y)."""
        self._parts.append(
            f'  <rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
            f'fill="{fill}" stroke="{edge}" rx="2"/>\n'
        )

    def text(
        self, x: float, y: float, words: str, fill: str = "", bold: bool = False, size: float = 0
    ) -> None:
        """One line of text that begins at x; its middle is at y. It takes its width in any font."""
        letter = (size or self.size) * WIDTH_OF_LETTER
        shown = words.lstrip(" ")
        if not shown:
            return
        x += (len(words) - len(shown)) * letter
        own = [f"fill: {fill}"] * bool(fill)
        own += ["font-weight: bold"] * bold
        own += [f"font-size: {size:g}px"] * bool(size)
        style = f' style="{"; ".join(own)}"' if own else ""
        self._parts.append(
            f'  <text x="{x:g}" y="{y:g}" textLength="{len(shown) * letter:g}"{style}>'
            f"{escape(shown)}</text>\n"
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, stroke: str) -> None:
        """A straight line."""
        self._parts.append(
            f'  <line x1="{x:g}" y1="{y:g}" x2="{to_x:g}" y2="{to_y:g}" stroke="{stroke}"/>\n'
        )

    def roof(
        self, x: float, y: float, width: float, height: float, fill: str, edge: str = "none"
    ) -> None:
        """A triangle over a base that begins at its left corner (x, y)."""
        corners = f"{x:g},{y:g} {x + width / 2:g},{y - height:g} {x + width:g},{y:g}"
        self._parts.append(f'  <polygon points="{corners}" fill="{fill}" stroke="{edge}"/>\n')

    def save(self, path: Path) -> None:
        """Write the picture."""
        path.write_text("".join(self._parts) + "</svg>\n", encoding="utf-8", newline="\n")
