"""A net with three faults, for `python -m tinygrad_kr diagnose examples/diagnose_me.py:setup`."""

from __future__ import annotations

from typing import Any

import tinygrad_kr.functional as F
from tinygrad_kr import data, nn, optim


def setup() -> tuple[nn.Module, Any, Any, optim.Optimizer]:
    """The model, the loss, the data and the optimizer.

    Three faults: the last layer is not in the optimizer, the loss takes the softmax a second time,
    and the net was left in evaluation mode.
    """
    images, labels = data.digits("train")
    hidden, output = nn.Linear(64, 32), nn.Linear(32, 10)
    net = nn.Sequential(nn.Flatten(), hidden, nn.ReLU(), nn.Dropout(0.2), output, nn.Softmax(1))
    optimizer = optim.Adam(hidden.parameters(), lr=0.01)
    return net.eval(), F.cross_entropy, (images[:200], labels[:200]), optimizer
