"""7장의 정답. Solutions of chapter 7."""

from __future__ import annotations


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
