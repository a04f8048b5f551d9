"""PyTorch's optimizers by name, with stand-ins where it has none that takes these gradients."""

from __future__ import annotations

from typing import Any

import torch


class Lion(torch.optim.Optimizer):  # type: ignore[misc]
    """Algorithm 2 of the paper; PyTorch has none."""

    def __init__(
        self, params: Any, lr: float = 1e-4, betas: Any = (0.9, 0.99), weight_decay: float = 0.0,
        maximize: bool = False,
    ) -> None:  # fmt: skip
        options = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, options)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self) -> None:
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                g = -p.grad if group["maximize"] else p.grad
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                c = beta1 * m + (1 - beta1) * g
                p.sub_(lr * (torch.sign(c) + group["weight_decay"] * p))
                m.copy_(beta2 * m + (1 - beta2) * g)


class SparseAdam(torch.optim.SparseAdam):  # type: ignore[misc]
    """PyTorch's, given the elements of a gradient that are not 0, and the rate in float64."""

    def step(self) -> None:
        for group in self.param_groups:
            group["lr"] = float(group["lr"])
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = p.grad.to_sparse()
        super().step()


PEERS = {"Lion": Lion, "SparseAdam": SparseAdam}


def peer_named(name: str) -> Any:
    """PyTorch's optimizer of that name, or what stands in for it."""
    return PEERS.get(name) or getattr(torch.optim, name)
