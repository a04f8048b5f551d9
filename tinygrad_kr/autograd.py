"""PyTorch's `torch.autograd`: gradients without `.grad`, recording modes, anomaly detection."""

from tinygrad_kr.autodiff import MutationError as MutationError
from tinygrad_kr.autodiff import backward as backward
from tinygrad_kr.autodiff import gradients as grad
from tinygrad_kr.grad_mode import detect_anomaly as detect_anomaly
from tinygrad_kr.grad_mode import enable_grad as enable_grad
from tinygrad_kr.grad_mode import is_grad_enabled as is_grad_enabled
from tinygrad_kr.grad_mode import no_grad as no_grad
from tinygrad_kr.grad_mode import set_grad_enabled as set_grad_enabled
from tinygrad_kr.ops.anomaly import AnomalyError as AnomalyError


def __dir__() -> list[str]:
    return __all__


__all__ = [
    "AnomalyError",
    "MutationError",
    "backward",
    "detect_anomaly",
    "enable_grad",
    "grad",
    "is_grad_enabled",
    "no_grad",
    "set_grad_enabled",
]
