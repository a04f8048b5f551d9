"""A finding of `diagnose`, and the table of kinds that findings belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from tinygrad_kr.language import Text, same
from tinygrad_kr.nn.module import Module

Mend = Callable[[Module, Any], None]
"""Changes a model and its optimizer as a remedy says."""

Code: TypeAlias = str | Text
"""Of a remedy; its comments are in both languages."""

MODEL = Text("the model", "모델")
LAYER = Text("layer {path}", "층 {path}")
STOPS = Text("The step stops with an error: {error}", "스텝이 오류로 멈춥니다: {error}")


def joined(*parts: Code) -> Text:
    """Pieces of code, one below the other."""
    texts = [part if isinstance(part, Text) else same(part) for part in parts]
    return Text("\n".join(text.en for text in texts), "\n".join(text.ko for text in texts))


class Found(NamedTuple):
    """What a cause found, in numbers, and its remedy."""

    layer: str
    evidence: dict[str, Any]
    code: Code
    mend: Mend | None = None
    message: Text | None = None
    """In place of the message of the kind."""
    advice: Text | None = None


@dataclass(frozen=True)
class Finding:
    """One reason why a net does not learn.

    kind: a name such as "vanishing_gradient". layer: the path of the module, "" for the whole
    model. evidence: the measured numbers. `message()` says it in words, `remedy()` is code that can
    be pasted where the arguments of `diagnose` are `model`, `loss_function`, `data` and
    `optimizer`. `apply(model)` makes the remedy where it can apply itself.
    """

    kind: str
    layer: str
    evidence: dict[str, Any]
    _message: Text = field(repr=False)
    _advice: Text = field(repr=False)
    _code: Code = field(repr=False)
    _mend: Mend | None = field(repr=False, default=None)

    def message(self, lang: str | None = None) -> str:
        """What is wrong, in "en" or "ko", with the numbers."""
        layer = LAYER.say(lang, path=self.layer) if self.layer else MODEL.say(lang)
        return self._message.say(lang, **{"layer": layer, "code": "", **_shown(self.evidence)})

    def remedy(self, lang: str | None = None) -> str:
        """Code to paste, below a comment in "en" or "ko" that says what it does."""
        advice = self._advice.say(lang, **{"layer": self.layer, **_shown(self.evidence)})
        code = self._code.say(lang) if isinstance(self._code, Text) else self._code
        return "\n".join([*(f"# {line}" for line in advice.splitlines()), code]).rstrip()

    @property
    def can_apply(self) -> bool:
        """Whether `apply` can make the remedy."""
        return self._mend is not None

    def apply(self, model: Module, optimizer: Any = None) -> Module:
        """Make the remedy in place, in `model` and, where it concerns one, in `optimizer`.

        Raises ValueError for a remedy that cannot apply itself; `remedy()` shows its code.
        """
        if self._mend is None:
            raise ValueError(
                f"{self.kind}.apply: expected a remedy of the model, got one of data or code. "
                "Paste .remedy() and adapt it"
            )
        self._mend(model, optimizer)
        return model


def _shown(evidence: dict[str, Any]) -> dict[str, Any]:
    """Numbers as a reader wants them: three digits."""
    return {name: f"{x:.3g}" if isinstance(x, float) else x for name, x in evidence.items()}


class Kind(NamedTuple):
    """A kind of finding: its name, its texts, and the function that looks for it."""

    name: str
    message: Text
    advice: Text
    find: Callable[[Any], Iterable[Found]]

    def findings(self, look: Any) -> list[Finding]:
        """The findings of this kind."""
        return [
            Finding(
                self.name, found.layer, found.evidence, found.message or self.message,
                found.advice or self.advice, found.code, found.mend,
            )
            for found in self.find(look)
        ]  # fmt: skip


def kind(message: Text, advice: Text) -> Callable[[Callable[[Any], Iterable[Found]]], Kind]:
    """Decorator: the function's name is the kind's."""

    def made(find: Callable[[Any], Iterable[Found]]) -> Kind:
        return Kind(find.__name__, message, advice, find)

    return made
