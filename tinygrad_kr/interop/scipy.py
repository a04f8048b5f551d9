"""Functions of nested parameters for the solvers of SciPy, which know flat vectors alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy import ndarray

from tinygrad_kr import tree
from tinygrad_kr.grad_mode import no_grad
from tinygrad_kr.tensor import Tensor
from tinygrad_kr.transformations import grad, jacobian, vjp

__all__ = ["Objective", "objective"]


def __dir__() -> list[str]:
    return __all__


class _Fields(NamedTuple):
    fun: Callable[..., Any]
    jac: Callable[..., ndarray]
    hessp: Callable[..., ndarray]
    x0: ndarray


class Objective(_Fields):
    """What a solver of SciPy takes: `fun`, `jac`, `hessp`, `x0`; a tuple of these four.

    fun: f at a flat vector: a float, or the residuals (m,). jac: its gradient (n,) or Jacobian
        (m, n). hessp: `hessp(x, v)` is H v (n,), where H is the Hessian; of residuals r it is the
        Hessian of sum(r^2) / 2. x0: the start, (n,). All are float64. `fun`, `jac` and `hessp` pass
        further arguments on to f: the `args` of a solver.

    >>> problem = tk.interop.scipy.objective(lambda p: (p["a"] - 3.0) ** 2, {"a": 0.0})
    >>> fun, jac, hessp, x0 = problem
    >>> fun(x0), jac(x0), hessp(x0, np.ones(1))
    (9.0, array([-6.]), array([2.]))
    """

    _rebuild: Callable[[Any], Any]

    def unflatten(self, x: Any) -> Any:
        """The nested parameters of a flat vector, such as the solver's `result.x`.

        x: (n,). Other shapes, (..., n), are unflattened along the last axis: the rows of a
            covariance matrix give each parameter a first axis.
        Returns the structure of `x0_tree`: a float for a number, a Tensor for a Tensor, else an
        array.
        Raises ValueError for another length.

        >>> problem = tk.interop.scipy.objective(lambda p: p["a"] * p["b"].sum(),
        ...                                      {"a": 2.0, "b": np.ones(2)})
        >>> problem.unflatten([5.0, 6.0, 7.0])
        {'a': 5.0, 'b': array([6., 7.])}
        """
        return self._rebuild(np.asarray(x, np.float64))


class _Layout:
    """How nested parameters lie in a flat vector."""

    def __init__(self, x0_tree: Any) -> None:
        self.given, self.rebuild = tree.flatten(x0_tree)
        arrays = [_floats(leaf) for leaf in self.given]
        self.shapes = [array.shape for array in arrays]
        self.ends = np.cumsum([0, *(array.size for array in arrays)])
        self.x0 = np.concatenate([array.ravel() for array in arrays] or [np.zeros(0)])

    def unflatten(self, x: ndarray) -> Any:
        if x.ndim < 1 or x.shape[-1] != self.ends[-1]:
            raise ValueError(
                f"unflatten: expected {self.ends[-1]} numbers along the last axis, got shape "
                f"{x.shape}."
            )
        parts = [
            x[..., start:end].reshape(x.shape[:-1] + shape)
            for start, end, shape in zip(self.ends[:-1], self.ends[1:], self.shapes, strict=True)
        ]
        return self.rebuild([_like(a, b) for a, b in zip(parts, self.given, strict=True)])

    def nested(self, x: Any) -> Any:
        """The nested parameters as views of a flat Tensor, whose gradient is flat."""
        if x.shape != self.x0.shape:
            raise ValueError(f"objective: expected x of shape {self.x0.shape}, got {x.shape}.")
        return self.rebuild(
            [
                x[start:end].reshape(shape)
                for start, end, shape in zip(
                    self.ends[:-1].tolist(), self.ends[1:].tolist(), self.shapes, strict=True
                )
            ]
        )


def _floats(leaf: Any) -> ndarray:
    array = leaf.data if isinstance(leaf, Tensor) else np.asarray(leaf)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"objective: expected real numbers in x0_tree, got {array.dtype}.")
    return array.astype(np.float64)


def _like(part: ndarray, given: Any) -> Any:
    """A parameter as it was given."""
    if isinstance(given, Tensor):
        return Tensor(part.copy())
    if isinstance(given, int | float) and not part.ndim:
        return float(part)
    return part.copy()


def objective(f: Callable[..., Any], x0_tree: Any) -> Objective:
    """`f`, a function of nested parameters, as SciPy's solvers take it: `(fun, jac, hessp, x0)`.

    f: given the structure of `x0_tree` with float64 Tensors; returns one number of shape (), to be
        minimised by `scipy.optimize.minimize`, or residuals (m,) for `least_squares`. Further
        arguments are passed on.
    x0_tree: the start: numbers, arrays and Tensors, in nested tuples, lists and dicts.

    `jac` continues the latest `fun` at the same vector, and `hessp` the latest `hessp`: `f` may
    depend on its arguments alone. A Jacobian takes a backward pass for each residual, or for each
    parameter if there are fewer of these.
    The result's `unflatten(x)` leads back to the nested parameters.
    Raises TypeError for parameters that are no real numbers, and for results of `f` that are no
        floats; ValueError for results of two axes or more, and for `x` of another length.
    Source: scipy.optimize.minimize, jax.flatten_util.ravel_pytree.

    >>> from scipy.optimize import minimize                                # doctest: +SKIP
    >>> problem = objective(rosenbrock, {"x": 0.0, "y": 0.0})              # doctest: +SKIP
    >>> fun, jac, hessp, x0 = problem                                      # doctest: +SKIP
    >>> result = minimize(fun, x0, jac=jac, hessp=hessp, method="trust-ncg")  # doctest: +SKIP
    >>> problem.unflatten(result.x)                                        # doctest: +SKIP
    {'x': 1.0, 'y': 1.0}
    """
    layout = _Layout(x0_tree)
    flat = _Flat(f, layout)
    result = Objective(flat.fun, flat.jac, flat.hessp, layout.x0)
    result._rebuild = layout.unflatten
    return result


class _Flat:
    """`f` as a function of a flat vector, with its derivatives."""

    def __init__(self, f: Callable[..., Any], layout: _Layout) -> None:
        self.f, self.layout = f, layout
        self._value = _Kept(self._traced)
        self._gradient = _Kept(self._traced_gradient)

    @no_grad()
    def fun(self, x: Any, *args: Any) -> Any:
        value, _ = self._value.anew(x, args)
        return value.copy() if value.ndim else float(value)  # solvers scale residuals in place

    @no_grad()
    def jac(self, x: Any, *args: Any) -> ndarray:
        value, pull_back = self._value.at(x, args)
        if not value.ndim:
            return pull_back(np.ones(()))[0]  # type: ignore[no-any-return]
        if value.size <= len(self.layout.x0):
            rows = [pull_back(row)[0] for row in np.eye(value.size)]
            return np.stack(rows) if rows else np.zeros((0, len(self.layout.x0)))
        # u -> u J is linear: n passes through it give J's columns.
        columns: ndarray = jacobian(lambda u: pull_back(u)[0])(np.zeros(value.size))
        return columns.T.copy()

    @no_grad()
    def hessp(self, x: Any, v: Any, *args: Any) -> ndarray:
        v = np.asarray(v, np.float64)
        if v.size != self.layout.x0.size:
            raise ValueError(
                f"hessp: expected v of shape {self.layout.x0.shape}, as x has, got {v.shape}."
            )
        pull_back = self._gradient.at(x, args)
        return pull_back(v.reshape(self.layout.x0.shape))[0]  # type: ignore[no-any-return]

    def _traced(self, x: ndarray, args: tuple[Any, ...]) -> Any:
        """The value, and the function u -> u J."""
        return vjp(lambda flat: self._checked(flat, args), x)

    def _traced_gradient(self, x: ndarray, args: tuple[Any, ...]) -> Any:
        """The function v -> H v."""

        def cost(flat: Any) -> Any:
            value = self._checked(flat, args)
            return (value * value).sum() / 2 if value.ndim else value

        return vjp(grad(cost), x)[1]

    def _checked(self, flat: Any, args: tuple[Any, ...]) -> Any:
        """f of the nested parameters; 0-d or (m,)."""
        result = self.f(self.layout.nested(flat), *args)
        result = _as_tensor(result)
        if result.dtype.kind != "f":
            raise TypeError(f"objective: expected floats from f, got {result.dtype}.")
        if result.ndim > 1:
            raise ValueError(
                "objective: expected one number of shape (), or residuals (m,), from f, got shape "
                f"{result.shape}. Use .sum() or .reshape(-1)"
            )
        return result.double()


def _as_tensor(result: Any) -> Tensor:
    try:
        return result if isinstance(result, Tensor) else Tensor(result)
    except (TypeError, ValueError) as error:
        raise TypeError(
            "objective: expected a Tensor of one number, or of residuals (m,), from f, got "
            f"{type(result).__name__}."
        ) from error


class _Kept:
    """A computation at a vector, kept for further calls at the same vector."""

    def __init__(self, compute: Callable[[ndarray, tuple[Any, ...]], Any]) -> None:
        self.compute = compute
        self.latest: tuple[ndarray, Any] | None = None

    def anew(self, x: Any, args: tuple[Any, ...]) -> Any:
        """What is computed at `x`. It is kept unless there are further arguments."""
        x = np.array(x, np.float64)
        found = self.compute(x, args)
        self.latest = None if args else (x, found)
        return found

    def at(self, x: Any, args: tuple[Any, ...]) -> Any:
        """What is computed at `x`, or was computed there last."""
        if self.latest is not None and not args and np.array_equal(self.latest[0], x):
            return self.latest[1]
        return self.anew(x, args)
