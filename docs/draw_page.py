"""The circuits of docs/guides/draw.md, drawn by the guide's own code.

python docs/draw_page.py      # writes docs/pictures/circuit.svg, neuron.svg and small_net.svg
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
PICTURES = {"circuit": "circuit", "neuron": "neuron", "small": "small_net"}
"""Variables of the guide, and the pictures of them."""


def drawings() -> dict[str, Any]:
    """The drawing of each picture."""
    text = (DOCS / "guides" / "draw.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^(<!--.*-->\n)?```python\n(.*?)^```$", text, re.M | re.S)
    code = "\n".join(block for needs, block in blocks if not needs)
    variables: dict[str, Any] = {"__name__": "guide"}
    exec(compile(code, "guide.py", "exec"), variables)
    return {picture: variables[name] for name, picture in PICTURES.items()}


if __name__ == "__main__":
    for name, drawing in drawings().items():
        drawing.save(DOCS / "pictures" / f"{name}.svg")
