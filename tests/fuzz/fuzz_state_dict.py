"""Fuzz target: `load_state_dict` of an optimizer and a schedule. All is loaded, or nothing."""

from __future__ import annotations

import json
from typing import Any

from driver import fuzz, instrumented

with instrumented():
    import tinygrad_kr as tk
    from tinygrad_kr import optim
    from tinygrad_kr.optim import lr_scheduler

import numpy as np


def made() -> tuple[Any, Any]:
    """An optimizer and a schedule after two steps."""
    params = [tk.ones(2, requires_grad=True), tk.zeros(1, requires_grad=True)]
    optimizer = optim.Adam(params, lr=0.1)
    schedule = lr_scheduler.StepLR(optimizer, 2)
    for _ in range(2):
        for p in params:
            p.grad = tk.ones(*p.shape)
        optimizer.step()
        schedule.step()
    return optimizer, schedule


def plain(state: Any) -> Any:
    """A state dict as JSON has it."""
    if isinstance(state, dict):
        return {str(key): plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [plain(value) for value in state]
    return state.tolist() if hasattr(state, "tolist") else state


def sample() -> bytes:
    """The first input of the corpus."""
    optimizer, schedule = made()
    both = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    return json.dumps(plain(both)).encode()


def target(data: bytes) -> None:
    try:
        both = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(both, dict):
        return
    for one, name in zip(made(), ("optimizer", "schedule"), strict=True):
        before = plain(one.state_dict())
        try:
            one.load_state_dict(both.get(name))
        except (ValueError, TypeError):
            np.testing.assert_equal(plain(one.state_dict()), before)
        else:
            one.step()
            plain(one.state_dict())


if __name__ == "__main__":
    fuzz(target, "state_dict")
