"""The same training step, gradient and Hessian in every framework, for `training_step.py`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

LEARNING_RATE = 1e-6
REPEATS = 10_000
Step = Callable[[], Any]


@dataclass(frozen=True)
class Workload:
    """A net, its loss and update rule, the size of its batch, and the ratio to PyTorch to reach."""

    key: str
    title: str
    sizes: tuple[int, ...]
    activation: str
    loss: str
    optimizer: str
    batch: int
    target: float

    @property
    def convolutional(self) -> bool:
        return not self.sizes

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng(0)
        if self.convolutional:
            x = generator.random((self.batch, 1, 28, 28), np.float32)
            return x, generator.integers(0, 10, self.batch)
        if self.loss == "bce":
            x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
            return x, np.array([[0], [1], [1], [0]], np.float32)
        x = generator.random((self.batch, self.sizes[0]), np.float32)
        return x, generator.integers(0, self.sizes[-1], self.batch)


_XOR = "XOR 2-10-1 sigmoid, BCE, SGD"
_DEEP = "deep 2-(10 x 5)-1 ReLU, BCE, Adam"
_MNIST = "784-256-256-10 ReLU, CE, Adam"
_WIDE = "784-1024-1024-10 ReLU, CE, Adam"
_CNN = "CNN 32-64 conv3x3, pool, linear, CE, Adam"
NETS = {
    net.key: net
    for net in (
        Workload("xor", _XOR, (2, 10, 1), "sigmoid", "bce", "sgd", 4, 0.40),
        Workload("deep", _DEEP, (2, *[5] * 10, 1), "relu", "bce", "adam", 4, 0.33),
        Workload("mnist", _MNIST, (784, 256, 256, 10), "relu", "ce", "adam", 100, 0.85),
        Workload("wide", _WIDE, (784, 1024, 1024, 10), "relu", "ce", "adam", 512, 1.0),
        Workload("cnn", _CNN, (), "relu", "ce", "adam", 100, 1.5),
    )
}

# ------------------------------------------------------------------ PyTorch's interface


@dataclass
class Training:
    """A step for frameworks with PyTorch's interface, ours and PyTorch itself, and its parts."""

    net: Any
    optimizer: Any
    loss_function: Any
    x: Any
    y: Any

    def loss(self, x: Any, y: Any) -> Any:
        return self.loss_function(self.net(x), y)

    def step(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss


def training(workload: Workload, nn: Any, optim: Any, tensor: Callable[[Any], Any]) -> Training:
    if workload.convolutional:
        net = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Flatten(), nn.Linear(64 * 7 * 7, 10)),
        )
    else:
        layers = []
        activation = {"relu": "ReLU", "sigmoid": "Sigmoid"}[workload.activation]
        for wide, narrow in zip(workload.sizes[:-2], workload.sizes[1:-1], strict=True):
            layers += [nn.Linear(wide, narrow), getattr(nn, activation)()]
        net = nn.Sequential(*layers, nn.Linear(*workload.sizes[-2:]))
    loss_function = nn.BCEWithLogitsLoss() if workload.loss == "bce" else nn.CrossEntropyLoss()
    rule = optim.SGD if workload.optimizer == "sgd" else optim.Adam
    optimizer = rule(net.parameters(), lr=LEARNING_RATE)
    return Training(net, optimizer, loss_function, *map(tensor, workload.data()))


def ours_training(workload: Workload) -> Training:
    from tinygrad_kr import Tensor, nn, optim

    return training(workload, nn, optim, Tensor)


def ours(workload: Workload) -> Step:
    own = ours_training(workload)
    return partial(own.step, own.x, own.y)


def ours_compiled(workload: Workload) -> Step:
    import tinygrad_kr as tk

    own = ours_training(workload)
    return partial(tk.compile(own.step), own.x, own.y)


def ours_repeated(workload: Workload) -> Step:
    import tinygrad_kr as tk

    own = ours_training(workload)
    return partial(tk.compile(own.step).repeat, REPEATS, own.x, own.y)


def pytorch(workload: Workload) -> Step:
    import torch

    own = training(workload, torch.nn, torch.optim, torch.from_numpy)
    return partial(own.step, own.x, own.y)


def pytorch_compiled(workload: Workload, tried: bool = True) -> Step | None:
    """The loss and the update are compiled each by itself: as one, the small step takes twice as
    long, and compiling it three times. If it is to be tried first, None where it does not work (it
    needs a C++ compiler)."""
    import torch

    torch._logging.set_logs(all=logging.ERROR)
    own = training(workload, torch.nn, torch.optim, torch.from_numpy)
    own.loss = torch.compile(own.loss)  # type: ignore[method-assign]
    own.optimizer.step = torch.compile(own.optimizer.step)
    step = partial(own.step, own.x, own.y)
    return step if not tried or works(step) else None


def works(step: Step) -> bool:
    """Whether PyTorch's compiler can compile what a call of `step` needs."""
    import torch._dynamo

    try:
        step()
    except torch._dynamo.exc.TorchDynamoException:
        return False
    return True


# ------------------------------------------------------------------ NumPy's interface


def initial(workload: Workload) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    shapes: list[tuple[int, ...]] = []
    if workload.convolutional:
        shapes += [(32, 1, 3, 3), (32,), (64, 32, 3, 3), (64,), (3136, 10), (10,)]
    for wide, narrow in zip(workload.sizes[:-1], workload.sizes[1:], strict=False):
        shapes += [(wide, narrow), (narrow,)]
    return [0.1 * generator.standard_normal(shape, np.float32) for shape in shapes]


def functional_loss(workload: Workload, np_: Any, x: Any, y: Any, convolve: Any = None) -> Any:
    """The loss as a function of the parameters, for frameworks that speak NumPy."""

    def loss(parameters: Any) -> Any:
        h = x
        if convolve is not None:
            for w, b in (parameters[0:2], parameters[2:4]):
                h = convolve(h, w) + b.reshape(1, -1, 1, 1)
                h = np_.maximum(h, 0)
                n, c, rows, columns = h.shape
                h = h.reshape(n, c, rows // 2, 2, columns // 2, 2).max(axis=(3, 5))
            h = h.reshape(len(h), -1)
            parameters = parameters[4:]
        for w, b in zip(parameters[0:-2:2], parameters[1:-2:2], strict=True):
            h = h @ w + b
            h = (
                np_.maximum(h, 0)
                if workload.activation == "relu"
                else 0.5 * np_.tanh(0.5 * h) + 0.5
            )
        z = h @ parameters[-2] + parameters[-1]
        if workload.loss == "bce":
            return np_.mean(np_.maximum(z, 0) - z * y + np_.log1p(np_.exp(-np_.abs(z))))
        top = z.max(axis=1, keepdims=True)
        z = z - top
        return np_.mean(np_.log(np_.sum(np_.exp(z), axis=1)) - z[np.arange(len(y)), y])

    return loss


def update(workload: Workload, np_: Any, p: Any, g: Any, m: Any, v: Any, t: Any) -> Any:
    if workload.optimizer == "sgd":
        return p - LEARNING_RATE * g, m, v
    m = 0.9 * m + 0.1 * g
    v = 0.999 * v + 0.001 * g * g
    m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
    return p - LEARNING_RATE * m_hat / (np_.sqrt(v_hat) + 1e-8), m, v


def jax_step(workload: Workload) -> tuple[Any, Any]:
    """A step that is not compiled yet, state -> (state, loss), and the state to begin with."""
    import jax
    import jax.numpy as jnp

    convolve = None
    if workload.convolutional:

        def convolve(h: Any, w: Any) -> Any:
            return jax.lax.conv_general_dilated(h, w, (1, 1), "SAME")

    loss = functional_loss(workload, jnp, *workload.data(), convolve)

    def step(state: Any) -> Any:
        parameters, ms, vs, t = state
        value, gradients = jax.value_and_grad(loss)(parameters)
        rows = [
            update(workload, jnp, p, g, m, v, t + 1)
            for p, g, m, v in zip(parameters, gradients, ms, vs, strict=True)
        ]
        new_p, new_m, new_v = (list(column) for column in zip(*rows, strict=True))
        return (new_p, new_m, new_v, t + 1), value

    parameters = [jnp.asarray(p) for p in initial(workload)]
    ms, vs = ([jnp.zeros_like(p) for p in parameters] for _ in range(2))
    return step, (parameters, ms, vs, jnp.zeros((), jnp.int32))


def jax_run(step: Any, state: Any) -> Step:
    """`step` compiled, from state to state; each state's memory is used for the next."""
    import jax

    compiled = jax.jit(step, donate_argnums=0)

    def run() -> Any:
        nonlocal state
        state, values = compiled(state)
        return values.block_until_ready()

    return run


def jax_jit(workload: Workload) -> Step:
    return jax_run(*jax_step(workload))


def jax_repeated(workload: Workload) -> Step:
    """What JAX offers for many steps on one batch: a loop inside of what is compiled."""
    import jax

    step, state = jax_step(workload)

    def many(state: Any) -> Any:
        return jax.lax.scan(lambda state, _: step(state), state, length=REPEATS)

    return jax_run(many, state)


def hips(workload: Workload) -> Step | None:
    if workload.convolutional:
        return None  # its only convolution is far too slow to be a comparison
    import autograd
    import autograd.numpy as anp

    slope = autograd.value_and_grad(functional_loss(workload, anp, *workload.data()))
    parameters = initial(workload)
    ms = [np.zeros_like(p) for p in parameters]
    vs = [np.zeros_like(p) for p in parameters]
    t = 0

    def step() -> Any:
        nonlocal t
        t += 1
        value, gradients = slope(parameters)
        for i, g in enumerate(gradients):
            parameters[i], ms[i], vs[i] = update(workload, np, parameters[i], g, ms[i], vs[i], t)
        return value

    return step


# ------------------------------------------------------------------ functions: NumPy in and out


def rosenbrock(x: Any) -> Any:
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


POINT = np.linspace(-1.5, 1.5, 100)


def ours_function(key: str, compiled: bool = False) -> Step:
    import tinygrad_kr as tk

    function = {"gradient": tk.grad, "hessian": tk.hessian}[key](rosenbrock)
    return partial(tk.compile(function) if compiled else function, POINT)


def pytorch_function(key: str, compiled: bool = False) -> Step | None:
    import torch

    if key == "hessian":
        return None if compiled else partial(pytorch_hessian, torch)
    function = torch.compile(rosenbrock) if compiled else rosenbrock

    def gradient() -> Any:
        x = torch.from_numpy(POINT).requires_grad_()
        function(x).backward()
        return x.grad.numpy()

    return gradient if not compiled or works(gradient) else None


def pytorch_hessian(torch: Any) -> Any:
    return torch.autograd.functional.hessian(rosenbrock, torch.from_numpy(POINT)).numpy()


def jax_function(key: str) -> Step:
    import jax

    jax.config.update("jax_enable_x64", True)
    compiled = jax.jit({"gradient": jax.grad, "hessian": jax.hessian}[key](rosenbrock))
    return lambda: np.asarray(compiled(POINT))


def hips_function(key: str) -> Step:
    import autograd

    function = {"gradient": autograd.grad, "hessian": autograd.hessian}[key](rosenbrock)
    return partial(function, POINT)


# ------------------------------------------------------------------ all of them

OF_NETS: dict[str, Callable[[Workload], Step | None]] = {
    "tinygrad_kr": ours,
    "compiled": ours_compiled,
    "torch": pytorch,
    "torch.compile": pytorch_compiled,
    "jax": jax_jit,
    "autograd": hips,
}
OF_REPEATED = {"compiled": ours_repeated, "jax": jax_repeated}
OF_FUNCTIONS: dict[str, Callable[[str], Step | None]] = {
    "tinygrad_kr": ours_function,
    "compiled": partial(ours_function, compiled=True),
    "torch": pytorch_function,
    "torch.compile": partial(pytorch_function, compiled=True),
    "jax": jax_function,
    "autograd": hips_function,
}
MODULES = {"compiled": "tinygrad_kr", "torch.compile": "torch"}
"""What to import for a framework whose name is not its module's."""


def make(framework: str, key: str) -> Step | None:
    """The work `key` in a framework: "xor", ..., "xor-repeat" (`REPEATS` steps), "gradient",
    "hessian"; None where it has nothing of the kind."""
    if key in NETS:
        return OF_NETS[framework](NETS[key])
    if key == "xor-repeat":
        return OF_REPEATED[framework](NETS["xor"]) if framework in OF_REPEATED else None
    return OF_FUNCTIONS[framework](key)
