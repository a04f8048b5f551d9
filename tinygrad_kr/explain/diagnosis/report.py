"""`diagnose`: why a net does not learn, from one step and a few more on copies."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html import escape
from typing import Any

from tinygrad_kr.explain.diagnosis.causes_at_start import constant_output as same_for_all
from tinygrad_kr.explain.diagnosis.causes_at_start import (
    dead_units,
    exploding_gradient,
    saturated_units,
    unscaled_inputs,
    vanishing_gradient,
)
from tinygrad_kr.explain.diagnosis.causes_in_training import (
    learning_rate_too_high,
    learning_rate_too_low,
    overfitting,
)
from tinygrad_kr.explain.diagnosis.causes_in_training import nan_or_infinity as nan_later
from tinygrad_kr.explain.diagnosis.causes_of_data import (
    labels_constant,
    labels_out_of_range,
    nan_or_infinity,
    shape_broadcast,
)
from tinygrad_kr.explain.diagnosis.causes_of_loss import (
    constant_output,
    loss_does_not_fit,
    output_range,
    sigmoid_before_bce_with_logits,
    softmax_before_cross_entropy,
)
from tinygrad_kr.explain.diagnosis.causes_of_model import (
    no_nonlinearity,
    parameter_not_in_optimizer,
    parameter_without_gradient,
    symmetric_initialization,
    wrong_mode,
    zero_initialization,
)
from tinygrad_kr.explain.diagnosis.evidence import Case, Data, StepError, undisturbed
from tinygrad_kr.explain.diagnosis.finding import Finding, Kind
from tinygrad_kr.explain.diagnosis.look import Look
from tinygrad_kr.explain.diagnosis.trials import as_given
from tinygrad_kr.language import Text
from tinygrad_kr.nn.module import Module
from tinygrad_kr.ops.tracing import tracing
from tinygrad_kr.optim import Optimizer

__all__ = ["Diagnosis", "Finding", "diagnose"]

CERTAIN: tuple[Kind, ...] = (
    nan_or_infinity,
    labels_out_of_range,
    shape_broadcast,
    loss_does_not_fit,
    labels_constant,
    output_range,
    softmax_before_cross_entropy,
    sigmoid_before_bce_with_logits,
    constant_output,
    zero_initialization,
    symmetric_initialization,
    no_nonlinearity,
    parameter_without_gradient,
    parameter_not_in_optimizer,
    wrong_mode,
)
"""Found by inspection, all of them."""
LEFT_OVER: tuple[Kind, ...] = (
    unscaled_inputs,
    dead_units,
    saturated_units,
    exploding_gradient,
    vanishing_gradient,
    same_for_all,
    learning_rate_too_high,
    nan_later,
    learning_rate_too_low,
    overfitting,
)
"""Looked for where nothing is certain, in this order, up to the first: it may cause the others."""
KINDS: tuple[Kind, ...] = CERTAIN + LEFT_OVER


class Diagnosis:
    """The report of `diagnose`.

    findings: the reasons found, in order; empty where nothing is wrong. kinds: their names.
    """

    def __init__(self, findings: list[Finding], steps: int) -> None:
        self.findings = findings
        self.steps = steps

    @property
    def kinds(self) -> set[str]:
        """The names of the kinds that were found."""
        return {finding.kind for finding in self.findings}

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def text(self, lang: str | None = None) -> str:
        """The report in "en" or "ko": for each finding what is wrong, and the remedy."""
        if not self.findings:
            return NOTHING.say(lang, steps=self.steps)
        return "\n\n".join(
            f"{i}. {finding.kind}\n   {finding.message(lang)}\n{_indented(finding.remedy(lang))}"
            for i, finding in enumerate(self.findings, 1)
        )

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"Diagnosis({', '.join(finding.kind for finding in self.findings)})"

    def _repr_html_(self) -> str:
        if not self.findings:
            return f"<p>{escape(self.text())}</p>"
        rows = (
            f"<li><b>{escape(finding.kind)}</b>: {escape(finding.message())}"
            f"<pre>{escape(finding.remedy())}</pre></li>"
            for finding in self.findings
        )
        return f"<ol>{''.join(rows)}</ol>"


NOTHING = Text(
    "Nothing wrong was found in the first {steps} steps.",
    "처음 {steps}스텝에서 이상을 찾지 못했습니다.",
)


def _indented(text: str) -> str:
    return "\n".join(f"       {line}" for line in text.splitlines())


def diagnose(
    model: Module,
    loss_function: Any,
    data: Any,
    optimizer: Optimizer | None = None,
    *,
    validation: Any = None,
    steps: int = 20,
) -> Diagnosis:
    """Say why a net does not learn, or will not: the cause, the numbers, and code against it.

    model: is copied, and so is all that belongs to it. Parameters, buffers, gradients, optimizer,
        random generators and modes stay as they are.
    loss_function: called as `loss_function(model(inputs), targets)`.
    data: `(inputs, targets)`, or an iterable of such pairs, as a DataLoader is. Long arrays are cut
        into batches. Of an iterable, `steps` pairs are read. An iterator does not give these again:
        pass a list.
    optimizer: of the model. Without one, learning rates are not judged.
    validation: data of the same form, to judge overfitting.
    steps: of training on copies.

    First comes what inspection shows of data, loss, output and layers. If that is in order, copies
    are trained: as given, and with the remedy of what is suspected. A cause is named if its remedy
    helps. So gradients and rates are judged once the rest is mended.

    Raises TypeError for a model that is no Module, or data that are no pairs; ValueError without a
    batch. An error of the step itself is a finding.
    Source: the kinds follow AutoTrainer (Zhang et al., ICSE 2021), DeepDiagnosis (Wardat et al.,
    ICSE 2022) and the faults of Humbatova et al. (ICSE 2020).

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2), nn.Softmax(1))
    >>> x, y = np.random.default_rng(0).normal(size=(8, 2)), np.arange(8) % 2
    >>> report = tk.diagnose(net, F.cross_entropy, (x, y))
    >>> report.kinds
    {'softmax_before_cross_entropy'}
    >>> print(report.findings[0].remedy("en"))
    # Give the loss the logits.
    model[3] = nn.Identity()
    """
    if not isinstance(model, Module):
        raise TypeError(f"diagnose: expected an nn.Module, got {type(model).__name__}.")
    if not isinstance(steps, int) or isinstance(steps, bool) or steps < 1:
        raise ValueError(f"diagnose: expected steps from 1 up, got {steps!r}.")
    given = (model, loss_function, data, optimizer, validation, steps)
    if (tracer := tracing()) is None:
        return _diagnosed(*given)
    tracer.give_up("diagnose trains copies")
    with ThreadPoolExecutor(1) as other:  # which is not traced
        return other.submit(_diagnosed, *given).result()


def _diagnosed(
    model: Module, loss_function: Any, data: Any, optimizer: Any, validation: Any, steps: int
) -> Diagnosis:
    with undisturbed(model, loss_function, data, optimizer, validation):
        read = Data(data, steps)
        held_out = None if validation is None else Data(validation, steps, "validation")
        look = Look(Case(model, loss_function, read, optimizer, held_out, steps))
        return Diagnosis(_found(look), steps)


def _found(look: Look) -> list[Finding]:
    findings = _certain(look)
    if findings or look.graph is None:
        return findings
    error = as_given(look).error
    if error is not None:
        return _certain(look.stopped(error))
    try:
        return next(filter(None, (kind.findings(look) for kind in LEFT_OVER)), [])
    except StepError as later:  # of validation data
        return _certain(look.stopped(later))


def _certain(look: Look) -> list[Finding]:
    findings: list[Finding] = []
    for kind in CERTAIN:
        new = kind.findings(look)
        findings += new
        look.broken.update(finding.kind for finding in new)
        if kind is nan_or_infinity and new:
            break
    return findings
