"""`python -m tinygrad_kr explain` and `demo`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tinygrad_kr.explain.explanation import explain
from tinygrad_kr.explain.expression import evaluated, parsed_values
from tinygrad_kr.language import LANGUAGES, Text, language

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace, _SubParsersAction

__all__ = ["add_commands"]

_LANG = "English or Korean; by default as $TINYGRAD_KR_LANG or the locale says"
DEMO = Text(
    "The chain rule on f = w x + b, at w = -2, x = 5, b = 3.",
    "f = w x + b의 연쇄 법칙. w = -2, x = 5, b = 3일 때.",
)
DEMO_SIGMOID = Text(
    "A sigmoid behind it multiplies the gradient by s (1 - s), at most 1/4. "
    "Through many layers the gradient vanishes.",
    "뒤에 시그모이드가 붙으면 기울기에 s (1 - s)가 곱해집니다. 이 값은 1/4을 넘지 않습니다. "
    "층이 깊어지면 기울기가 소실됩니다.",
)
TRY = Text("Try your own:", "직접 해 보세요:")


def add_commands(commands: _SubParsersAction[ArgumentParser]) -> None:
    """Add the commands of this package to those of `python -m tinygrad_kr`."""
    summary = "explain the gradient of a formula by the chain rule, in its numbers"
    one = commands.add_parser("explain", help=summary, description=summary)
    one.add_argument("formula", help='as in "sigmoid(w*x + b)"')
    one.add_argument("values", nargs="*", metavar="name=value", help="w=-2, or x=[1,2]")
    one.add_argument("--wrt", metavar="NAMES", help="by which names, as w,b; by default by all")
    one.add_argument("--markdown", action="store_true", help="as Markdown with LaTeX")
    one.add_argument("--lang", choices=LANGUAGES, help=_LANG)
    one.set_defaults(run=run_explain)
    summary = "show two explanations"
    demo = commands.add_parser("demo", help=summary, description=summary)
    demo.add_argument("--lang", choices=LANGUAGES, help=_LANG)
    demo.set_defaults(run=run_demo)


def formulas_first(arguments: Sequence[str]) -> list[str]:
    """The arguments, with a space before a formula that begins with a minus, as no option does."""
    return [
        f" {each}" if i and len(each) > 2 and each[0] == "-" != each[1] else each
        for i, each in enumerate(arguments)
    ]


def run_explain(chosen: Namespace) -> int:
    """Print the explanation of a formula; 2 if it is refused."""
    try:
        print(explained(chosen.formula, chosen.values, chosen.wrt, chosen.lang, chosen.markdown))
    except ValueError as error:
        print(f"explain: {str(error).removeprefix('explain: ')}", file=sys.stderr)
        return 2
    return 0


def explained(
    formula: str,
    assignments: Sequence[str],
    wrt: str | None = None,
    lang: str | None = None,
    markdown: bool = False,
) -> str:
    """The explanation of a formula as text."""
    values = parsed_values(assignments)
    if not values:
        raise ValueError(f"expected names with values, got none. Add them: {formula!r} x=2")
    output = evaluated(formula, values)
    asked = None
    if wrt is not None:
        names = [name.strip() for name in wrt.split(",")]
        unknown = [name for name in names if name not in values]
        if unknown:
            given = ", ".join(values) or "none"
            raise ValueError(f"expected --wrt of the given names ({given}), got {unknown[0]!r}")
        asked = [values[name] for name in names]
    if output.name is None and "f" not in values:
        output.name = "f"
    found = explain(output, asked)
    return found.markdown(lang) if markdown else found.text(lang)


def run_demo(chosen: Namespace) -> int:
    """Print two explanations."""
    lang = language(chosen.lang)
    given = ["w=-2", "x=5", "b=3"]
    print(DEMO.say(lang), explained("w*x + b", given, "w", lang), sep="\n\n", end="\n\n")
    print(
        DEMO_SIGMOID.say(lang),
        explained("sigmoid(w*x + b)", given, "w", lang),
        sep="\n\n",
        end="\n\n",
    )
    print(TRY.say(lang), f'python -m tinygrad_kr explain "w*x + b" {" ".join(given)} --lang {lang}')
    return 0
