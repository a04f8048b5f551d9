"""7장의 정답. Solutions of chapter 7."""

from __future__ import annotations

from tinygrad_kr import nn, optim


def epoch_loss(losses, sizes):
    return sum(loss * size for loss, size in zip(losses, sizes, strict=True)) / sum(sizes)


def stopped_after(losses, patience):
    best, waited = float("inf"), 0
    for epoch, loss in enumerate(losses, 1):
        if loss < best:
            best, waited = loss, 0
        else:
            waited = waited + 1
        if waited == patience:
            return epoch
    return len(losses)


def digits_recipe():
    last = nn.Identity()
    rate = 0.1
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), last)
    return net, optim.SGD(net.parameters(), lr=rate)
