"""Optimizers, schedules, gradient clipping and averaged weights, under PyTorch's names."""

from tinygrad_kr.optim import lr_scheduler, swa_utils
from tinygrad_kr.optim.algorithms import (
    ASGD,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Lion,
    Muon,
    NAdam,
    RAdam,
    RMSprop,
    Rprop,
    SparseAdam,
)
from tinygrad_kr.optim.clip import clip_grad_norm_, clip_grad_value_
from tinygrad_kr.optim.lbfgs import LBFGS
from tinygrad_kr.optim.optimizer import Optimizer


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "ASGD",
    "LBFGS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
    "Rprop",
    "SparseAdam",
    "clip_grad_norm_",
    "clip_grad_value_",
    "lr_scheduler",
    "swa_utils",
]
