"""The optimizers: one update rule each, with PyTorch's signatures and defaults."""

from __future__ import annotations

from typing import Any

from tinygrad_kr.optim import rules
from tinygrad_kr.optim.optimizer import Optimizer, Parameters

_NONNEGATIVE = dict.fromkeys(["lr", "eps", "weight_decay"], "[0, inf)")


class SGD(Optimizer):
    """Gradient descent, with optional momentum.

        p <- p - lr g                                         without momentum
        b <- momentum b + (1 - dampening) g,  p <- p - lr b   b starts as the first gradient
        p <- p - lr (g + momentum b)                          with nesterov

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: the learning rate, at least 0.
    momentum: the share of the last step that is kept, at least 0. 0.9 is usual.
    dampening: reduces the weight of a new gradient in the momentum.
    weight_decay: adds weight_decay p to the gradient (L2 regularisation), at least 0.
    nesterov: evaluate the momentum one step ahead. Needs momentum > 0 and dampening 0.
    maximize: ascend instead of descend.

    State: `momentum_buffer` b, if momentum is not 0.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Sutskever et al., On the importance of initialization and momentum in deep
    learning (2013).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.SGD([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.8, -1.6], dtype=float32)
    """

    rule = staticmethod(rules.sgd)
    row_rule = staticmethod(rules.sgd)
    intervals = dict.fromkeys(["lr", "momentum", "weight_decay"], "[0, inf)") | {
        "dampening": "(-inf, inf)"
    }

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        if group["nesterov"] and (group["momentum"] == 0 or group["dampening"] != 0):
            raise ValueError(
                "SGD: expected momentum > 0 and dampening=0 with nesterov, got "
                f"momentum={group['momentum']}, dampening={group['dampening']}."
            )


class Adagrad(Optimizer):
    """Gradient descent with a step size per element that only shrinks.

        s <- s + g^2,  p <- p - lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps),  t = 1, 2, ...

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: the learning rate, at least 0.
    lr_decay: how fast the learning rate falls with the number of steps, at least 0.
    weight_decay: adds weight_decay p to the gradient, at least 0.
    initial_accumulator_value: the first value of s, at least 0.
    eps: keeps the divisor away from 0.
    maximize: ascend instead of descend.

    State: `step` t, `sum` s.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Duchi, Hazan and Singer, Adaptive subgradient methods for online learning (2011).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Adagrad([w], lr=0.5)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.5, -1.5], dtype=float32)
    """

    rule = staticmethod(rules.adagrad)
    row_rule = staticmethod(rules.adagrad)
    intervals = _NONNEGATIVE | dict.fromkeys(["lr_decay", "initial_accumulator_value"], "[0, inf)")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lr_decay": lr_decay,
            "eps": eps,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class RMSprop(Optimizer):
    """Gradient descent in units of the recent size of each gradient.

        v <- alpha v + (1 - alpha) g^2,  p <- p - lr g / (sqrt(v) + eps)
        m <- alpha m + (1 - alpha) g, with v - m^2 in place of v           centered
        b <- momentum b + g / (sqrt(v) + eps),  p <- p - lr b              with momentum

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: the learning rate, at least 0.
    alpha: the share of v that is kept, at least 0.
    eps: keeps the divisor away from 0.
    weight_decay: adds weight_decay p to the gradient, at least 0.
    momentum: the share of the last step that is kept, at least 0.
    centered: divide by the standard deviation of the gradient, not by its root mean square.
    maximize: ascend instead of descend.

    State: `step`, `square_avg` v, `grad_avg` m (centered), `momentum_buffer` b (with momentum).
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Hinton, Neural networks for machine learning, lecture 6e (2012); centered: Graves
    (2013).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.RMSprop([w], lr=0.01)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.9, -1.9], dtype=float32)
    """

    rule = staticmethod(rules.rmsprop)
    intervals = _NONNEGATIVE | dict.fromkeys(["alpha", "momentum"], "[0, inf)")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "alpha": alpha,
            "eps": eps,
            "centered": centered,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class Adadelta(Optimizer):
    """Gradient descent whose steps have the units of the parameter.

        v <- rho v + (1 - rho) g^2,  d = sqrt(u + eps) / sqrt(v + eps) g
        u <- rho u + (1 - rho) d^2,  p <- p - lr d

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: a factor on the step, at least 0; 1 is the paper's.
    rho: the share of u and v that is kept, in [0, 1].
    eps: keeps the quotient away from 0; it also sets the size of the first steps.
    weight_decay: adds weight_decay p to the gradient, at least 0.
    maximize: ascend instead of descend.

    State: `step`, `square_avg` v, `acc_delta` u.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Zeiler, ADADELTA: an adaptive learning rate method (2012).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Adadelta([w])
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.9968, -1.9968], dtype=float32)
    """

    rule = staticmethod(rules.adadelta)
    intervals = _NONNEGATIVE | {"rho": "[0, 1]"}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "rho": rho,
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class Adam(Optimizer):
    """Momentum and gradients in units of their recent size, both corrected for their start at 0.

        m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
        p <- p - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)    t = 1, 2, ...

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: the learning rate, at least 0: about the size of one step of one element.
    betas: (beta1, beta2), the shares of m and v that are kept, each in [0, 1).
    eps: keeps the divisor away from 0.
    weight_decay: adds weight_decay p to the gradient, at least 0.
    amsgrad: use the largest v so far in place of v.
    maximize: ascend instead of descend.
    decoupled_weight_decay: multiply p by 1 - lr weight_decay instead, as `AdamW` does.

    State: `step` t, `exp_avg` m, `exp_avg_sq` v, `max_exp_avg_sq` (amsgrad).
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Sources: Kingma and Ba, Adam: a method for stochastic optimization (2015); amsgrad: Reddi et
    al., On the convergence of Adam (2018).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Adam([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.9, -1.9], dtype=float32)
    """

    rule = staticmethod(rules.adam)
    intervals = _NONNEGATIVE | {"betas": "[0, 1)"}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)


class AdamW(Adam):
    """Adam with decoupled weight decay: it shrinks the parameters and leaves the gradients alone.

        p <- (1 - lr weight_decay) p, then the step of `Adam`

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr, betas, eps, amsgrad, maximize: as in `Adam`.
    weight_decay: the rate at which parameters shrink, at least 0.

    State: as in `Adam`.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Loshchilov and Hutter, Decoupled weight decay regularization (2019).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.AdamW([w], lr=0.1, weight_decay=0.5)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.85, -1.8 ], dtype=float32)
    """

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            decoupled_weight_decay=True,
        )


class NAdam(Optimizer):
    """Adam with Nesterov's look ahead and a momentum that warms up.

        mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2),  m and v as in `Adam`
        p <- p - lr ((1 - mu_t) g / (1 - mu_1 ... mu_t) + mu_(t+1) m / (1 - mu_1 ... mu_(t+1)))
                   / (sqrt(v / (1 - beta2^t)) + eps)

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: the learning rate, at least 0.
    betas: (beta1, beta2), the shares of m and v that are kept, each in [0, 1).
    eps: keeps the divisor away from 0.
    weight_decay: adds weight_decay p to the gradient, at least 0.
    momentum_decay: how fast the momentum approaches beta1, at least 0.
    decoupled_weight_decay: multiply p by 1 - lr weight_decay instead, as `AdamW` does.
    maximize: ascend instead of descend.

    State: `step` t, `mu_product` mu_1 ... mu_t, `exp_avg` m, `exp_avg_sq` v.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Dozat, Incorporating Nesterov momentum into Adam (2016).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.NAdam([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.8944, -1.8944], dtype=float32)
    """

    rule = staticmethod(rules.nadam)
    intervals = _NONNEGATIVE | {"betas": "[0, 1)", "momentum_decay": "[0, inf)"}

    def __init__(
        self,
        params: Parameters,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class Adamax(Optimizer):
    """Adam with the largest recent gradient in place of the root mean square.

        m <- beta1 m + (1 - beta1) g,  u <- max(beta2 u, |g| + eps)
        p <- p - lr / (1 - beta1^t) m / u    t = 1, 2, ...

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: the learning rate, at least 0: the most that one step changes an element by, about.
    betas: (beta1, beta2), the shares of m and u that are kept, each in [0, 1).
    eps: keeps the divisor away from 0.
    weight_decay: adds weight_decay p to the gradient, at least 0.
    maximize: ascend instead of descend.

    State: `step` t, `exp_avg` m, `exp_inf` u.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Kingma and Ba, Adam: a method for stochastic optimization, section 7.1 (2015).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Adamax([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.9, -1.9], dtype=float32)
    """

    rule = staticmethod(rules.adamax)
    intervals = _NONNEGATIVE | {"betas": "[0, 1)"}

    def __init__(
        self,
        params: Parameters,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class RAdam(Optimizer):
    """Adam that waits: it divides by sqrt(v) only from the step at which v is known well enough.

        m and v as in `Adam`,  R = 2 / (1 - beta2) - 1,  r = R - 2 t beta2^t / (1 - beta2^t)
        p <- p - lr m / (1 - beta1^t)                                        while r <= 5
        p <- p - lr m / (1 - beta1^t) c sqrt(1 - beta2^t) / (sqrt(v) + eps)  from then on
        c^2 = (r - 4) (r - 2) R / ((R - 4) (R - 2) r)

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: the learning rate, at least 0.
    betas: (beta1, beta2), the shares of m and v that are kept, each in [0, 1).
    eps: keeps the divisor away from 0.
    weight_decay: adds weight_decay p to the gradient, at least 0.
    decoupled_weight_decay: multiply p by 1 - lr weight_decay instead, as `AdamW` does.
    maximize: ascend instead of descend.

    State: `step` t, `exp_avg` m, `exp_avg_sq` v.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Liu et al., On the variance of the adaptive learning rate and beyond (2020).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.RAdam([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.8, -1.6], dtype=float32)
    """

    rule = staticmethod(rules.radam)
    intervals = _NONNEGATIVE | {"betas": "[0, 1)"}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "eps": eps,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class Rprop(Optimizer):
    """Steps by the sign of the gradient; their size grows while the sign stays. For whole batches.

        d <- min(eta+ d, largest)           where g has the sign of the last gradient
        d <- max(eta- d, smallest), g <- 0  where it has the other sign
        p <- p - sign(g) d

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: the first step size d, at least 0.
    etas: (eta-, eta+), the factors of the step size: eta- in (0, 1), eta+ above 1.
    step_sizes: (smallest, largest) step size, each at least 0.
    maximize: ascend instead of descend.

    State: `step`, `prev` the last gradient (0 where the sign had changed), `step_size` d.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Riedmiller and Braun, A direct adaptive method for faster backpropagation learning: the
    RPROP algorithm (1993).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Rprop([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.9, -1.9], dtype=float32)
    """

    rule = staticmethod(rules.rprop)
    intervals = dict.fromkeys(["lr", "etas", "step_sizes"], "[0, inf)")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "etas": tuple(etas),
            "step_sizes": tuple(step_sizes),
            "maximize": maximize,
        }
        super().__init__(params, defaults)

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        lower, higher = group["etas"]
        if not 0 < lower < 1 < higher:
            raise ValueError(f"Rprop: expected etas with 0 < eta- < 1 < eta+, got {group['etas']}.")


class ASGD(Optimizer):
    """Gradient descent with falling steps, and an average of the parameters on the way.

        p <- (1 - lambd eta) p - eta g,  eta = lr / (1 + lambd lr (t - 1))^alpha,  t = 1, 2, ...
        a <- a + mu (p - a),  mu = 1 / max(1, t - 1 - t0)

    The average a is in the state, `optimizer.state[w]["ax"]`; the net computes with p.
    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: the first step size, at least 0.
    lambd: the decay of the parameters, and how fast the steps shrink; at least 0.
    alpha: the power with which the steps shrink, at least 0.
    t0: the step from which on a is an average; until then it is p. At least 0.
    weight_decay: adds weight_decay p to the gradient, at least 0.
    maximize: ascend instead of descend.

    State: `step` t, `eta` and `mu` for the next step, `ax` a.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging (1992).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.ASGD([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.8, -1.6], dtype=float32)
    """

    rule = staticmethod(rules.asgd)
    intervals = dict.fromkeys(["lr", "lambd", "alpha", "t0", "weight_decay"], "[0, inf)")

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "lambd": lambd,
            "alpha": alpha,
            "t0": t0,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class Lion(Optimizer):
    """Steps of one size, by the sign of a momentum; half the state of Adam.

        p <- (1 - lr weight_decay) p - lr sign(beta1 m + (1 - beta1) g)
        m <- beta2 m + (1 - beta2) g

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr: the size of a step of each element, at least 0; a third to a tenth of Adam's.
    betas: (beta1, beta2), the share of m in a step and the one that is kept, each in [0, 1).
    weight_decay: the rate at which parameters shrink, at least 0; three to ten times AdamW's.
    maximize: ascend instead of descend.

    State: `exp_avg` m.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: Chen et al., Symbolic discovery of optimization algorithms (2023).

    >>> w = tk.tensor([1.0, -2.0], requires_grad=True)
    >>> optimizer = optim.Lion([w], lr=0.1)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> w.detach().numpy().round(4)
    array([ 0.9, -1.9], dtype=float32)
    """

    rule = staticmethod(rules.lion)
    intervals = dict.fromkeys(["lr", "weight_decay"], "[0, inf)") | {"betas": "[0, 1)"}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": tuple(betas),
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        super().__init__(params, defaults)


class SparseAdam(Optimizer):
    """Adam for tables of which a batch uses few rows: what has no gradient keeps its momentum.

        the step of `Adam` for the elements with g != 0; parameter and state of the others stay

    Of a sparse gradient (`nn.Embedding(sparse=True)`) the rows that occur in it are updated, in
    time of these rows alone. In a dense one, which PyTorch's refuses, an element that is exactly 0
    counts as one that does not occur.

    params: Tensors, or dicts of parameter groups: see `Optimizer`.
    lr, betas, eps, maximize: as in `Adam`.

    State: as in `Adam`.
    Raises ValueError for an option out of range, TypeError for one that is no number.
    Source: PyTorch, `torch.optim.SparseAdam`.

    >>> table = tk.tensor([[1.0], [2.0], [3.0]], requires_grad=True)
    >>> optimizer = optim.SparseAdam([table], lr=0.1)
    >>> (table[[0, 2]] ** 2).sum().backward()
    >>> optimizer.step()
    >>> table.detach().numpy().ravel().round(4)
    array([0.9, 2. , 2.9], dtype=float32)
    """

    rule = staticmethod(rules.sparse_adam)
    row_rule = staticmethod(rules.sparse_adam_rows)
    intervals = dict.fromkeys(["lr", "eps"], "[0, inf)") | {"betas": "[0, 1)"}

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "maximize": maximize}
        super().__init__(params, defaults)


class Muon(Optimizer):
    """Momentum whose matrix is made near orthogonal: every direction moves alike. For weights 2-D.

        b <- momentum b + (1 - momentum) g
        u = (1 - momentum) g + momentum b with nesterov, else b
        X <- u / max(||u||, eps), then ns_steps times  X <- a X + (b' A + c A A) X,  A = X X^T
        p <- (1 - lr weight_decay) p - lr r X

    The iteration (Newton-Schulz) brings the singular values of u near 1. PyTorch computes it in
    bfloat16; here it has the parameter's dtype.

    params: Tensors of two axes, or dicts of parameter groups: see `Optimizer`. Leave biases,
        embeddings and the like to another optimizer, such as `AdamW`.
    lr: the learning rate, at least 0.
    weight_decay: the rate at which parameters shrink, at least 0.
    momentum: the share of b that is kept, in [0, 1). nesterov: look one step ahead.
    ns_coefficients: (a, b', c). eps: the least divisor. ns_steps: an integer in [0, 100).
    adjust_lr_fn: the factor r for a matrix (m, n): "original" or None sqrt(max(1, m / n)),
        "match_rms_adamw" 0.2 sqrt(max(m, n)), with which AdamW's rates fit.

    State: `momentum_buffer` b.
    Raises ValueError for an option out of range or a parameter that has not two axes, TypeError for
    one that is no number.
    Source: Jordan, Muon: an optimizer for hidden layers in neural networks (2024); Liu et al., Muon
    is scalable for LLM training (2025).

    >>> w = tk.tensor([[3.0, 0.0], [0.0, 1.0]], requires_grad=True)
    >>> optimizer = optim.Muon([w], lr=0.1, weight_decay=0.0)
    >>> (w**2).sum().backward()
    >>> optimizer.step()
    >>> bool((w.detach().numpy().diagonal() < [2.94, 0.94]).all())
    True
    """

    rule = staticmethod(rules.muon)
    intervals = dict.fromkeys(["lr", "weight_decay", "eps", "ns_steps"], "[0, inf)") | {
        "momentum": "[0, 1)",
        "ns_coefficients": "(-inf, inf)",
    }

    def __init__(
        self,
        params: Parameters,
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "weight_decay": weight_decay,
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_coefficients": tuple(ns_coefficients),
            "eps": eps,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        super().__init__(params, defaults)

    def _check_parameters(self, params: list[Any]) -> None:
        super()._check_parameters(params)
        for i, p in enumerate(params):
            if p.ndim != 2:
                raise ValueError(
                    f"Muon: expected two axes for parameter {i}, got shape {p.shape}. Give such "
                    "parameters to another optimizer"
                )

    def _check_options(self, group: dict[str, Any]) -> None:
        super()._check_options(group)
        if not isinstance(group["ns_steps"], int) or group["ns_steps"] >= 100:
            raise ValueError(
                f"Muon: expected an integer ns_steps in [0, 100), got {group['ns_steps']}."
            )
        if len(group["ns_coefficients"]) != 3:
            raise ValueError(f"Muon: expected 3 ns_coefficients, got {group['ns_coefficients']}.")
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(
                "Muon: expected adjust_lr_fn 'original', 'match_rms_adamw' or None, got "
                f"{group['adjust_lr_fn']!r}."
            )
