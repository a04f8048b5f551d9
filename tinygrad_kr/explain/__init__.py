"""`tk.explain`: why a gradient is what it is, in words and in the numbers of the graph.

The module is the function itself: `tk.explain(y)`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING

from tinygrad_kr.explain.explanation import Difference, Explanation, Path
from tinygrad_kr.explain.explanation import explain as _explain
from tinygrad_kr.explain.graph import Edge, Graph, GraphNode, Group, graph_of

if TYPE_CHECKING:
    from tinygrad_kr.tensor import Tensor


class _Function(ModuleType):
    def __call__(
        self,
        y: Tensor,
        wrt: Tensor | Iterable[Tensor] | None = None,
        *,
        element: int | tuple[int, ...] | None = None,
        open: str | Iterable[str] = (),
        lang: str | None = None,
    ) -> Explanation:
        """Why the gradient of `y` is what it is: the chain rule in the numbers of the graph.

            df/dw = df/dg * dg/dw = 1 * x = 1 * 5 = 5

        y: a Tensor of one element, computed from Tensors that require grad.
        wrt: the input, a list of inputs, or None for all leaves.
        element: an index of the one input, whose gradient is followed through the graph.
        open: the path of a module, or several, to be written out in a long graph: "net.2".
        lang: "en" or "ko", by default the language of `tk.set_language`.

        Each op's own rule is run once on names: what it computes is the formula. A rule that looks
        at numbers is written as `op'`. Between arrays the cotangent is shown as a vector-Jacobian
        product with the shapes. Nothing changes: neither the graph nor `.grad`; hooks are not
        called. Random numbers that were drawn stay what they were.

        Returns an `Explanation`: `.gradient`, `.nodes`, `.edges`, `.paths`, and `.text(lang=)`,
        `.markdown(lang=)`. Printed, it is the text.
        Raises TypeError for anything but Tensors, ValueError for a `y` of several elements or
        without a history and for a path that `open` does not find, IndexError for an `element`
        that is none, RuntimeError for a graph that an earlier backward freed.

        >>> w = tk.tensor(-2.0, requires_grad=True)
        >>> x, b = tk.tensor(5.0), tk.tensor(3.0)
        >>> f = w * x + b
        >>> print(tk.explain(f, w).text("en"))
        Forward: values
          w = -2, x = 5, b = 3
          g = w * x = -2 * 5 = -10
          f = g + b = -10 + 3 = -7
        <BLANKLINE>
        Local derivatives
          df/dg = 1
          dg/dw = x = 5
        <BLANKLINE>
        Chain rule
          df/dw = df/dg * dg/dw = 1 * x = 1 * 5 = 5
            central difference: 5, error ...
        """
        return _explain(y, wrt, element=element, open=open, lang=lang, frame=sys._getframe(1))


sys.modules[__name__].__class__ = _Function

__all__ = ["Difference", "Edge", "Explanation", "Graph", "GraphNode", "Group", "Path", "graph_of"]


def __dir__() -> list[str]:
    return __all__
