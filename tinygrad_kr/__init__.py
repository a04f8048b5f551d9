"""Automatic differentiation from scratch on NumPy, and neural networks on top of it."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinygrad_kr import (
        autograd,
        data,
        distributed,
        explain,
        export,
        functional,
        interop,
        linalg,
        nn,
        optim,
        sweep,
        tensorboard,
        testing,
        training,
    )  # fmt: skip
    from tinygrad_kr.compile.function import compile as compile
    from tinygrad_kr.compile.scan import scan
    from tinygrad_kr.explain.derivation import check_derivation
    from tinygrad_kr.explain.diagnosis.report import diagnose
    from tinygrad_kr.explain.drawing.picture import draw
    from tinygrad_kr.explain.monitoring.monitor import Monitor, MonitorWarning
    from tinygrad_kr.export import load_onnx
    from tinygrad_kr.functional import log_softmax, one_hot, softmax
    from tinygrad_kr.language import set_language
    from tinygrad_kr.linalg import cdist
    from tinygrad_kr.linalg import p_norm as norm
    from tinygrad_kr.native.config import show_config
    from tinygrad_kr.saving import DamagedFileError, load, save
    from tinygrad_kr.sweep import seed_sweep, wilson_interval
    from tinygrad_kr.tensorboard import SummaryWriter
    from tinygrad_kr.training import evaluate, fit, predict

from tinygrad_kr import arrays, creation, dtypes, grad_mode, random, transformations
from tinygrad_kr._version import __version__ as __version__
from tinygrad_kr.arrays import *
from tinygrad_kr.creation import *
from tinygrad_kr.dtypes import *
from tinygrad_kr.grad_mode import *
from tinygrad_kr.moved import keep_old_names
from tinygrad_kr.ops import elementwise
from tinygrad_kr.ops.elementwise import *
from tinygrad_kr.ops.linalg import matmul
from tinygrad_kr.ops.op import op
from tinygrad_kr.random import *
from tinygrad_kr.remat import checkpoint
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.transformations import *

keep_old_names()

_WHEN_USED = {
    "autograd",
    "compile",
    "data",
    "distributed",
    "explain",
    "export",
    "functional",
    "interop",
    "linalg",
    "nn",
    "optim",
    "sweep",
    "tensorboard",
    "testing",
    "training",
}
_FUNCTIONS_WHEN_USED = {
    "DamagedFileError": "saving.DamagedFileError",
    "Monitor": "explain.monitoring.monitor.Monitor",
    "MonitorWarning": "explain.monitoring.monitor.MonitorWarning",
    "cdist": "linalg.cdist",
    "check_derivation": "explain.derivation.check_derivation",
    "diagnose": "explain.diagnosis.report.diagnose",
    "draw": "explain.drawing.picture.draw",
    "evaluate": "training.evaluate",
    "fit": "training.fit",
    "load_onnx": "export.load_onnx",
    "load": "saving.load",
    "log_softmax": "functional.log_softmax",
    "norm": "linalg.p_norm",
    "one_hot": "functional.one_hot",
    "predict": "training.predict",
    "save": "saving.save",
    "scan": "compile.scan.scan",
    "seed_sweep": "sweep.seed_sweep",
    "set_language": "language.set_language",
    "show_config": "native.config.show_config",
    "softmax": "functional.softmax",
    "SummaryWriter": "tensorboard.SummaryWriter",
    "wilson_interval": "sweep.wilson_interval",
}


def __getattr__(name: str) -> Any:
    """Submodules are imported when they are used: the core alone takes 10 ms."""
    if name in _WHEN_USED:
        return importlib.import_module(f"tinygrad_kr.{name}")
    if name in _FUNCTIONS_WHEN_USED:
        module, _, function = _FUNCTIONS_WHEN_USED[name].rpartition(".")
        return getattr(importlib.import_module(f"tinygrad_kr.{module}"), function)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "DamagedFileError", "Monitor", "MonitorWarning", "SummaryWriter", "Tensor", "autograd",
    "cdist", "check_derivation", "checkpoint", "data", "diagnose", "distributed", "draw",
    "evaluate", "explain", "export", "fit", "functional", "interop", "linalg", "load",
    "load_onnx", "log_softmax", "matmul", "nn", "norm", "one_hot", "op", "optim", "predict",
    "save", "scan", "seed_sweep", "set_language", "show_config", "softmax", "sweep",
    "tensorboard", "testing", "training", "wilson_interval",
]  # fmt: skip
__all__ += arrays.__all__
__all__ += creation.__all__
__all__ += dtypes.__all__
__all__ += elementwise.__all__
__all__ += grad_mode.__all__
__all__ += random.__all__
__all__ += transformations.__all__
