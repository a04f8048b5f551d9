"""The training step that is compiled most: forget, forward, backward, update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tinygrad_kr.functional as F


def training_step(
    net: Any, optimizer: Any, loss_function: Any = F.cross_entropy
) -> Callable[[Any, Any], Any]:
    """step(x, y), which returns the loss."""

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_function(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step
