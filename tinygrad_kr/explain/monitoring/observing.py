"""How a Monitor observes: `backward`, the steps of an optimizer, and the calls of a model.

Nothing refers to the Monitor but weakly, so one that is dropped observes no more.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any

from tinygrad_kr import autodiff
from tinygrad_kr.nn.module import Module, _Hooks
from tinygrad_kr.optim.optimizer import Optimizer

if TYPE_CHECKING:
    from tinygrad_kr.explain.monitoring.monitor import Monitor


def nothing() -> None:
    """A weak reference to nothing."""


class _Step:
    """Stands in an optimizer for its method `step` while a Monitor is attached.

    A copy or a pickle of the optimizer gets its own method back.
    """

    def __init__(self, optimizer: Optimizer, step: Callable[..., Any], monitor: Any) -> None:
        self._optimizer, self._step, self.monitor = optimizer, step, monitor

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        monitor = self.monitor()
        if monitor is None:
            return self._step(*args, **kwargs)
        return monitor._step_optimizer(self._step, args, kwargs)

    def __reduce__(self) -> Any:
        return _method, (self._optimizer,)


def _method(optimizer: Optimizer) -> Any:
    return MethodType(type(optimizer).step, optimizer)


def observe(monitor: Monitor) -> Callable[[], None]:
    """Observe `backward` and the optimizer's steps; returns what ends that."""
    reference, own = weakref.ref(monitor), vars(monitor.optimizer)
    before = own.get("step")
    step = _Step(monitor.optimizer, before or _method(monitor.optimizer), reference)

    def see(loss: Any) -> None:
        found = reference()
        if found is None:
            detach()
        else:
            found._backward(loss)

    def detach() -> None:
        step.monitor = nothing
        if see in autodiff.before_backward:
            autodiff.before_backward.remove(see)
        if own.get("step") is step:
            own.pop("step")
            if before is not None:
                own["step"] = before

    own["step"] = step  # `setattr` would tell compiled steps of a change
    autodiff.before_backward.append(see)
    return detach


def observe_calls(monitor: Monitor) -> Callable[[], None]:
    """Observe the calls of the model; returns what ends that, and leaves the model as it was."""
    own, key, reference = vars(monitor.model), -id(monitor), weakref.ref(monitor)
    made = own.get("_hooks") is None
    hooks: _Hooks = own.setdefault("_hooks", _Hooks())

    def after(module: Module, args: tuple[Any, ...], output: Any) -> None:
        found = reference()
        if found is not None and module is found.model:  # not a copy of it
            found._called(args, output)

    def unhook() -> None:
        hooks.after.pop(key, None)
        if made and own.get("_hooks") is hooks and not (hooks.before or hooks.after):
            del own["_hooks"]

    hooks.after[key] = after
    return unhook
