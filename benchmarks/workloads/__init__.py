"""The twenty workloads of `suite.py`, each written once in every framework.

`work.py` says what a workload is. `nets.py` has the nets for PyTorch's interface, ours and PyTorch
itself; `nets_jax.py` the same nets as functions of their parameters. `science.py` has functions of
NumPy arrays for NumPy's interface, ours, JAX and HIPS autograd; `science_torch.py` and
`science_jax.py` what these two write in their own way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from workloads import nets, science
from workloads.work import Work

__all__ = ["FRAMEWORKS", "MODULES", "REPEATED", "REPEATS", "TITLES", "make"]

REPEATED = "xor-repeat"
"""Key of the row of `REPEATS` XOR steps in one call. It is timed but not part of the means."""
REPEATS = nets.REPEATS
TITLES = {row.key: row.title for row in (*nets.NETS.values(), *science.FUNCTIONS.values())}
"""What each row of the suite is, by its key."""
TITLES[REPEATED] = f"XOR, repeat({REPEATS:_}), per step"


def _torch_function(key: str) -> Work | None:
    from workloads import science_torch

    return science_torch.work(key)


def _torch_compiled_function(key: str) -> Work | None:
    from workloads import science_torch

    return science_torch.compiled(key)


def _jax_net(key: str) -> Work | None:
    from workloads import nets_jax

    return nets_jax.work(key)


def _jax_function(key: str) -> Work | None:
    from workloads import science_jax

    return science_jax.work(key)


Maker = Callable[[str], Work | None]
FRAMEWORKS: dict[str, tuple[Maker, Maker]] = {
    "eager": (nets.ours, science.ours),
    "compiled": (partial(nets.ours, compiled=True), partial(science.ours, compiled=True)),
    "torch": (nets.pytorch, _torch_function),
    "torch.compile": (nets.pytorch_compiled, _torch_compiled_function),
    "jax": (_jax_net, _jax_function),
    "autograd": (lambda key: None, science.hips),
}
"""What makes nets and what makes functions, by framework."""
MODULES = {"eager": "tinygrad_kr", "compiled": "tinygrad_kr", "torch.compile": "torch"}
"""What to import for a framework whose name is not its module's."""


def make(framework: str, key: str) -> Work | None:
    """The row `key` in a framework; None where it has nothing of the kind."""
    if key == REPEATED:
        return _repeated(framework)
    of_nets, of_functions = FRAMEWORKS[framework]
    return (of_nets if key in nets.NETS else of_functions)(key)


def _repeated(framework: str) -> Work | None:
    if framework == "compiled":
        return nets.ours_repeated("xor")
    if framework == "jax":
        from workloads import nets_jax

        return nets_jax.repeated("xor")
    return None
