"""Dropout."""

from __future__ import annotations

from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr.nn.module import Module
from tinygrad_kr.random import Generator, resolve


class Dropout(Module):
    """In training: each element 0 with probability p, else divided by 1 - p. In eval: the identity.

    p: the share DROPPED, as in PyTorch; default 0.5.
    keep: the share KEPT, 1 - p, as in the lectures' first labs: `Dropout(keep=0.7)` is
        `Dropout(p=0.3)`. Give one of the two.
    inplace: accepted for PyTorch's sake; no array is overwritten.
    generator: default: the one that `tk.manual_seed` seeds.

    Raises ValueError for a share outside [0, 1], or for both. Source: Srivastava et al. (2014).

    >>> nn.Dropout(0.5).eval()(tk.ones(3))
    Tensor([1., 1., 1.])
    """

    def __init__(
        self,
        p: float | None = None,
        inplace: bool = False,
        *,
        keep: float | None = None,
        generator: Generator | None = None,
    ) -> None:
        name = type(self).__name__
        if p is not None and keep is not None:
            raise ValueError(
                f"{name}: expected p (the share dropped) or keep (the share kept), got "
                f"p={p} and keep={keep}."
            )
        for what, rate in (("p, the share dropped,", p), ("keep, the share kept,", keep)):
            if rate is not None and not 0 <= rate <= 1:
                raise ValueError(f"{name}: expected {what} in [0, 1], got {rate}.")
        self.p = 1 - keep if keep is not None else 0.5 if p is None else p
        self.generator = None if generator is None else resolve(generator, name)

    _function = staticmethod(F.dropout)

    def forward(self, input: Any) -> Any:
        return self._function(input, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


class Dropout1d(Dropout):
    """In training: each channel of a sequence (N, C, L) or (C, L) 0 with probability p.

    The others are divided by 1 - p. In eval: the identity. Options and errors: see `Dropout`.
    A call raises ValueError for another number of axes. Source: Tompson et al. (2015).

    >>> nn.Dropout1d(0.5).eval()(tk.ones(1, 1, 2))
    Tensor([[[1., 1.]]])
    """

    _function = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """In training: each channel of an image (N, C, H, W) 0 with probability p.

    The others are divided by 1 - p. In eval: the identity. Three axes are (N, C, L), as in PyTorch.
    Options and errors: see `Dropout`, `Dropout1d`. Source: Tompson et al. (2015).

    >>> nn.Dropout2d(0.5).eval()(tk.ones(1, 1, 1, 2))
    Tensor([[[[1., 1.]]]])
    """

    _function = staticmethod(F.dropout2d)
