"""Automatic differentiation from scratch on NumPy, and neural networks on top of it."""

from tinygrad_kr import autograd as autograd
from tinygrad_kr.creation import (
    arange,
    empty,
    empty_like,
    eye,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand_like,
    randn_like,
    tensor,
    zeros,
    zeros_like,
)
from tinygrad_kr.grad_mode import (
    detect_anomaly,
    enable_grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
)
from tinygrad_kr.ops.op import op
from tinygrad_kr.random import (
    Generator,
    bernoulli,
    default_generator,
    manual_seed,
    rand,
    randint,
    randn,
    randperm,
)
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.transformations import (
    checkpoint,
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    value_and_grad,
    vjp,
)

__version__ = "0.1.0"
