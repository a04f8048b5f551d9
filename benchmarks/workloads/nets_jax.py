"""The nets of `nets.py` as a user of JAX writes them: functions of a dictionary of parameters.

Parameters have PyTorch's names. Images and filters have the layout that is fastest here: rows,
columns, channels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax, nn

from workloads.nets import HEADS, LAYERS, LENGTH, NETS, REPEATS, SEPARABLE, WIDTH, shapes_of
from workloads.work import OPTIMIZERS, Work, starting_weights

__all__ = ["repeated", "work"]

Parameters = dict[str, Any]
Loss = Callable[..., Any]
"""(parameters, buffers, batch ...) -> (loss, buffers)"""


def linear(p: Parameters, name: str, x: Any) -> Any:
    return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]


# ------------------------------------------------------------------ losses


def cross_entropy(logits: Any, y: Any) -> Any:
    return -jnp.mean(jnp.take_along_axis(nn.log_softmax(logits), y[..., None], -1))


def binary_cross_entropy(logits: Any, y: Any) -> Any:
    return nn.softplus(logits) - y * logits


# ------------------------------------------------------------------ nets


def perceptron(p: Parameters, x: Any, activation: Any = nn.relu) -> Any:
    *hidden, last = sorted({int(name.split(".")[0]) for name in p})
    for i in hidden:
        x = activation(linear(p, f"{i}", x))
    return linear(p, f"{last}", x)


def classify(net: Any, p: Parameters, buffers: Any, x: Any, y: Any) -> Any:
    return cross_entropy(net(p, x), y), buffers


def decide(activation: Any, p: Parameters, buffers: Any, x: Any, y: Any) -> Any:
    return binary_cross_entropy(perceptron(p, x, activation), y).mean(), buffers


def reconstruct(p: Parameters, buffers: Any, x: Any) -> Any:
    return jnp.mean((perceptron(p, x) - x) ** 2), buffers


def convolve(x: Any, w: Any, stride: int = 1, padding: int = 1, groups: int = 1) -> Any:
    return lax.conv_general_dilated(
        x, w, (stride, stride), [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups,
    )  # fmt: skip


def max_pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def cnn(p: Parameters, x: Any) -> Any:
    for name in ("0", "3"):
        x = max_pool(nn.relu(convolve(x, p[f"{name}.weight"]) + p[f"{name}.bias"]))
    return linear(p, "7", x.transpose(0, 3, 1, 2).reshape(len(x), -1))


def batch_norm(p: Parameters, buffers: Any, new: Any, name: str, x: Any) -> Any:
    """Normalise by the statistics of the batch, and put the running ones into `new`."""
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    count = x.size // x.shape[-1]
    old_mean, old_variance = buffers[name]
    new[name] = (
        0.9 * old_mean + 0.1 * mean,
        0.9 * old_variance + 0.1 * variance * (count / (count - 1)),
    )
    scale = p[f"{name}.weight"] * lax.rsqrt(variance + 1e-5)
    return (x - mean) * scale + p[f"{name}.bias"]


def resnet(p: Parameters, buffers: Any, x: Any, y: Any) -> Any:
    new: dict[str, Any] = {}
    norm = partial(batch_norm, p, buffers, new)
    h = nn.relu(norm("norm", convolve(x, p["conv.weight"])))
    for name, stride in (("block1", 1), ("block2", 2), ("block3", 2)):
        inner = nn.relu(norm(f"{name}.norm1", convolve(h, p[f"{name}.conv1.weight"], stride)))
        inner = norm(f"{name}.norm2", convolve(inner, p[f"{name}.conv2.weight"]))
        if stride > 1:
            h = convolve(h, p[f"{name}.shortcut.0.weight"], stride, 0)
            h = norm(f"{name}.shortcut.1", h)
        h = nn.relu(inner + h)
    return cross_entropy(linear(p, "output", h.mean((1, 2))), y), new


def separable(p: Parameters, buffers: Any, x: Any, y: Any) -> Any:
    new: dict[str, Any] = {}
    norm = partial(batch_norm, p, buffers, new)
    h = nn.relu(norm("1", convolve(x, p["0.weight"], 2)))
    for i, (narrow, _, stride) in enumerate(SEPARABLE):
        at = 3 + 6 * i
        h = convolve(h, p[f"{at}.weight"], stride, groups=narrow)
        h = nn.relu(norm(f"{at + 1}", h))
        h = nn.relu(norm(f"{at + 4}", convolve(h, p[f"{at + 3}.weight"], 1, 0)))
    last = 3 + 6 * len(SEPARABLE) + 2
    return cross_entropy(linear(p, f"{last}", h.mean((1, 2))), y), new


def vae(p: Parameters, buffers: Any, x: Any, noise: Any) -> Any:
    h = nn.relu(linear(p, "hidden", x))
    mean, log_variance = linear(p, "mean", h), linear(p, "log_variance", h)
    z = mean + noise * jnp.exp(0.5 * log_variance)
    logits = linear(p, "output", nn.relu(linear(p, "wide", z)))
    fit = binary_cross_entropy(logits, x).sum()
    divergence = -0.5 * (1 + log_variance - mean**2 - jnp.exp(log_variance)).sum()
    return (fit + divergence) / len(x), buffers


def free_energy(p: Parameters, v: Any) -> Any:
    inner = v @ p["weight"].T + p["hidden_bias"]
    return -(v @ p["visible_bias"]) - nn.softplus(inner).sum(1)


def rbm(p: Parameters, buffers: Any, v: Any, uniform: Any, uniform_of_visible: Any) -> Any:
    chance = nn.sigmoid(v @ p["weight"].T + p["hidden_bias"])
    h = (uniform < chance).astype(v.dtype)
    chance = nn.sigmoid(h @ p["weight"] + p["visible_bias"])
    sample = lax.stop_gradient((uniform_of_visible < chance).astype(v.dtype))
    return jnp.mean(free_energy(p, v) - free_energy(p, sample)), buffers


def layer_norm(p: Parameters, name: str, x: Any) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def gpt(p: Parameters, buffers: Any, tokens: Any, following: Any) -> Any:
    rows = len(tokens)
    x = p["token.weight"][tokens] + p["position.weight"]
    for i in range(LAYERS):
        name = f"blocks.{i}"
        h = linear(p, f"{name}.qkv", layer_norm(p, f"{name}.norm1", x))
        q, k, v = jnp.moveaxis(h.reshape(rows, LENGTH, 3, HEADS, WIDTH // HEADS), 2, 0)
        mixed = nn.dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(p, f"{name}.proj", mixed.reshape(rows, LENGTH, WIDTH))
        h = linear(p, f"{name}.wide", layer_norm(p, f"{name}.norm2", x))
        x = x + linear(p, f"{name}.narrow", nn.gelu(h, approximate=False))
    return cross_entropy(linear(p, "output", layer_norm(p, "norm", x)), following), buffers


def lstm_cell(hidden: Any, weight: Any, carried: Any, gates: Any) -> Any:
    h, c = carried
    i, f, g, o = jnp.split(gates + h @ weight.T + hidden, 4, -1)
    c = nn.sigmoid(f) * c + nn.sigmoid(i) * jnp.tanh(g)
    h = nn.sigmoid(o) * jnp.tanh(c)
    return (h, c), h


def gru_cell(hidden: Any, weight: Any, h: Any, gates: Any) -> Any:
    r, z, n = jnp.split(gates, 3, -1)
    r_h, z_h, n_h = jnp.split(h @ weight.T + hidden, 3, -1)
    r, z = nn.sigmoid(r + r_h), nn.sigmoid(z + z_h)
    n = jnp.tanh(n + r * n_h)
    h = (1 - z) * n + z * h
    return h, h


def recurrent(kind: str, p: Parameters, x: Any) -> Any:
    x = jnp.swapaxes(x, 0, 1)
    zero = jnp.zeros((x.shape[1], 128), x.dtype)
    for i in range(2):
        weights = (
            p[f"layers.{part}_l{i}"] for part in ("weight_ih", "bias_ih", "bias_hh", "weight_hh")
        )
        w, b, *own = weights
        cell, start = (lstm_cell, (zero, zero)) if kind == "lstm" else (gru_cell, zero)
        _, x = lax.scan(partial(cell, *own), start, x @ w.T + b)
    return linear(p, "output", x[-1])


def skip_gram(p: Parameters, buffers: Any, word: Any, context: Any, negatives: Any) -> Any:
    vectors = p["words.weight"][word]
    near = (vectors * p["contexts.weight"][context]).sum(1)
    far = jnp.einsum("bnd,bd->bn", p["contexts.weight"][negatives], vectors)
    return jnp.mean(nn.softplus(-near) + nn.softplus(far).sum(1)), buffers


LOSSES: dict[str, Loss] = {
    "xor": partial(decide, nn.sigmoid),
    "deep": partial(decide, nn.relu),
    "mnist": partial(classify, perceptron),
    "wide": partial(classify, perceptron),
    "cnn": partial(classify, cnn),
    "resnet": resnet,
    "separable": separable,
    "vae": vae,
    "autoencoder": reconstruct,
    "gpt": gpt,
    "lstm": partial(classify, partial(recurrent, "lstm")),
    "gru": partial(classify, partial(recurrent, "gru")),
    "skipgram": skip_gram,
    "rbm": rbm,
}

# ------------------------------------------------------------------ update rules


def sgd(p: Any, g: Any, state: Any, _: Any, lr: float, momentum: float = 0.0) -> Any:
    if not momentum:
        return p - lr * g, state
    velocity = momentum * state[0] + g
    return p - lr * velocity, (velocity,)


def adam(p: Any, g: Any, state: Any, t: Any, lr: float, weight_decay: float = 0.0) -> Any:
    m, v = 0.9 * state[0] + 0.1 * g, 0.999 * state[1] + 0.001 * g * g
    if weight_decay:
        p = p * (1 - lr * weight_decay)
    m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
    return p - lr * m_hat / (jnp.sqrt(v_hat) + 1e-8), (m, v)


RULES = {"SGD": (sgd, 0), "momentum": (sgd, 1), "Adam": (adam, 2), "AdamW": (adam, 2)}
"""Update rule, and the number of arrays that it keeps for a parameter."""

# ------------------------------------------------------------------ steps


def _layout(array: np.ndarray) -> np.ndarray:
    """Filters from PyTorch's layout into JAX's, images likewise."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def _start(key: str) -> tuple[Parameters, Any]:
    weights = starting_weights(shapes_of(key))
    parameters = {name: jnp.asarray(_layout(w)) for name, w in weights.items()}
    norms = {
        name.removesuffix(".weight"): (jnp.zeros(w.shape), jnp.ones(w.shape))
        for name, w in weights.items()
        if key in ("resnet", "separable") and name.endswith(".weight") and w.ndim == 1
    }
    return parameters, norms


def _batch(key: str) -> list[Any]:
    arrays = NETS[key].data(np.random.default_rng(0))
    return [jnp.asarray(a.transpose(0, 2, 3, 1) if a.ndim == 4 else a) for a in arrays]


def _step(key: str) -> tuple[Any, Any]:
    """A step that is not compiled yet, (state, batch ...) -> (state, loss), and its first state."""
    rule, kept = RULES[NETS[key].optimizer]
    options = OPTIMIZERS[NETS[key].optimizer]
    gradients_of = jax.value_and_grad(LOSSES[key], has_aux=True)

    def step(state: Any, *batch: Any) -> Any:
        parameters, states, buffers, t = state
        (loss, buffers), gradients = gradients_of(parameters, buffers, *batch)
        t = t + 1
        updated = {
            name: rule(p, gradients[name], states[name], t, **options)
            for name, p in parameters.items()
        }
        parameters = {name: pair[0] for name, pair in updated.items()}
        states = {name: pair[1] for name, pair in updated.items()}
        return (parameters, states, buffers, t), loss

    parameters, buffers = _start(key)
    states = {name: tuple(jnp.zeros_like(p) for _ in range(kept)) for name, p in parameters.items()}
    return step, (parameters, states, buffers, jnp.zeros((), jnp.float32))


def _results(key: str) -> dict[str, np.ndarray]:
    """As `nets.Training.results`."""
    parameters, buffers = _start(key)
    batch = _batch(key)
    found = {"loss in float32": np.asarray(LOSSES[key](parameters, buffers, *batch)[0])}
    jax.config.update("jax_enable_x64", True)
    parameters, buffers, batch = jax.tree.map(_wide, (parameters, buffers, batch))
    (loss, _), gradients = jax.value_and_grad(LOSSES[key], has_aux=True)(
        parameters, buffers, *batch
    )
    found["loss"] = np.asarray(loss)
    for name, gradient in gradients.items():
        array = np.asarray(gradient)
        found[f"gradient of {name}"] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
    return found


def _wide(x: Any) -> Any:
    return x.astype(jnp.float64) if x.dtype == jnp.float32 else x


def _run(step: Any, state: Any, batch: list[Any]) -> Callable[[], Any]:
    """`step` compiled, from state to state; each state's memory is used for the next."""
    compiled = jax.jit(step, donate_argnums=0)

    def run() -> Any:
        nonlocal state
        state, loss = compiled(state, *batch)
        return loss.block_until_ready()

    return run


def work(key: str) -> Work:
    step, state = _step(key)
    return Work(_run(step, state, _batch(key)), partial(_results, key))


def repeated(key: str) -> Work:
    """What JAX offers for many steps on one batch: a loop inside the compiled function."""
    step, state = _step(key)

    def many(state: Any, *batch: Any) -> Any:
        return lax.scan(lambda state, _: step(state, *batch), state, length=REPEATS)

    return Work(_run(many, state, _batch(key)), partial(_results, key))
