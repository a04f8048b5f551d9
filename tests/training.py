"""The training step that is compiled most: forget, forward, backward, update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tinygrad_kr.functional as F


def training_step(net: Any, optimizer: Any) -> Callable[[Any, Any], Any]:
    """step(x, labels), which returns the loss."""

    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step
