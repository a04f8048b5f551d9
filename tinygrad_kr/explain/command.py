"""`python -m tinygrad_kr explain`, `draw`, `diagnose` and `demo`."""

from __future__ import annotations

import importlib.util
import sys
from argparse import SUPPRESS
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinygrad_kr.command_line import LANG, Parser
from tinygrad_kr.explain.diagnosis.report import Diagnosis, diagnose
from tinygrad_kr.explain.drawing.picture import draw
from tinygrad_kr.explain.explanation import explain
from tinygrad_kr.explain.expression import evaluated, parsed_values
from tinygrad_kr.language import LANGUAGES, Text, language

if TYPE_CHECKING:
    from argparse import Namespace, _SubParsersAction

    from tinygrad_kr.tensor import Tensor

__all__ = ["add_commands"]

SUMMARIES = {
    "explain": Text(
        "explain the gradient of a formula by the chain rule, in its numbers",
        "식의 기울기를 연쇄 법칙으로, 실제 숫자로 설명합니다",
    ),
    "draw": Text(
        "draw the graph of a formula, values above the wires and gradients below",
        "식의 계산 그래프를 그립니다. 선 위에는 값, 선 아래에는 기울기를 적습니다",
    ),
    "diagnose": Text(
        "say why a net does not learn; exit status 1 if something is wrong",
        "신경망이 왜 학습되지 않는지 알려 줍니다. 문제가 있으면 종료 코드가 1입니다",
    ),
    "demo": Text("show two explanations", "설명의 예 두 개를 보여 줍니다"),
}
FORMULA = Text('as in "sigmoid(w*x + b)"', '식. 예: "sigmoid(w*x + b)"')
VALUES = Text("w=-2, or x=[1,2]", "이름과 값. 예: w=-2, x=[1,2]")
WRT = Text(
    "by which names, as w,b; by default by all",
    "어느 이름에 대한 기울기인지. 예: w,b. 기본값: 모든 이름",
)
MARKDOWN = Text("as Markdown with LaTeX", "LaTeX 수식이 든 마크다운으로 출력합니다")
OUTPUT = Text(
    "x.svg, x.html or x.dot; by default DOT is printed",
    "그림 파일. x.svg, x.html 또는 x.dot. 없으면 DOT를 출력합니다",
)
FUNCTION = Text(
    "a function without arguments that returns model, loss, data and, if there is one, "
    "optimizer, as examples/diagnose_me.py:setup does. The file is run",
    "인자 없이 불러 모델, 손실 함수, 데이터, (있으면) 옵티마이저를 돌려주는 함수. "
    "예: examples/diagnose_me.py:setup. 파일을 실행합니다",
)
STEPS = Text("of training, on copies (default: 20)", "복사본을 학습시킬 스텝 수 (기본값: 20)")
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


def add_commands(commands: _SubParsersAction[Parser], lang: str) -> None:
    """Add the commands of this package to those of `python -m tinygrad_kr`; help in a language."""

    def command(name: str, run: Callable[[Namespace], int]) -> Parser:
        summary = SUMMARIES[name].say(lang)
        added = commands.add_parser(name, help=summary, description=summary, lang=lang)
        added.add_argument("--lang", choices=LANGUAGES, default=SUPPRESS, help=LANG.say(lang))
        added.set_defaults(run=run)
        return added

    one, picture = command("explain", run_explain), command("draw", run_draw)
    for each in (one, picture):
        each.add_argument("formula", help=FORMULA.say(lang))
        each.add_argument("values", nargs="*", metavar="name=value", help=VALUES.say(lang))
    one.add_argument("--wrt", metavar="NAMES", help=WRT.say(lang))
    one.add_argument("--markdown", action="store_true", help=MARKDOWN.say(lang))
    picture.add_argument("-o", "--output", metavar="FILE", help=OUTPUT.say(lang))
    diagnosing = command("diagnose", run_diagnose)
    diagnosing.add_argument("function", metavar="FILE:NAME", help=FUNCTION.say(lang))
    diagnosing.add_argument("--steps", type=int, default=20, help=STEPS.say(lang))
    command("demo", run_demo)


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
    output, values = computed(formula, assignments)
    if not output.requires_grad:
        given = ", ".join(values)
        raise ValueError(f"expected a formula that uses one of the names {given}, got none")
    asked = None
    if wrt is not None:
        names = [name.strip() for name in wrt.split(",")]
        unknown = [name for name in names if name not in values]
        if unknown:
            given = ", ".join(values) or "none"
            raise ValueError(f"expected --wrt of the given names ({given}), got {unknown[0]!r}")
        asked = [values[name] for name in names]
    found = explain(output, asked)
    return found.markdown(lang) if markdown else found.text(lang)


def computed(formula: str, assignments: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """The value of a formula, which is called f, and those of its names."""
    values = parsed_values(assignments)
    if not values:
        raise ValueError(f"expected names with values, got none. Add them: {formula!r} x=2")
    output = evaluated(formula, values)
    if output.name is None and "f" not in values:
        output.name = "f"
    return output, values


def run_draw(chosen: Namespace) -> int:
    """Write the picture of a formula, or print it as DOT text; 2 if it is refused."""
    try:
        picture = draw(computed(chosen.formula, chosen.values)[0], lang=chosen.lang)
        if chosen.output is None:
            print(picture.dot)
        else:
            picture.save(chosen.output)
    except (ValueError, ImportError, OSError) as error:
        print(f"draw: {str(error).removeprefix('draw: ')}", file=sys.stderr)
        return 2
    return 0


def run_diagnose(chosen: Namespace) -> int:
    """Print the diagnosis of what a function returns: 1 with findings, 2 if there is none."""
    try:
        given = returned_by(chosen.function)
        report: Diagnosis = diagnose(**given, steps=chosen.steps)
    except (ValueError, TypeError) as error:
        print(f"diagnose: {str(error).removeprefix('diagnose: ')}", file=sys.stderr)
        return 2
    print(report.text(chosen.lang))
    return int(bool(report.findings))


ARGUMENTS = ("model", "loss_function", "data", "optimizer")


class _NoFunction(ValueError):
    """A file has no function that can be called."""


def _needs_nothing(function: Any) -> bool:
    """Whether it can be called without arguments."""
    from inspect import signature

    try:
        signature(function).bind()
    except TypeError:
        return False
    except ValueError:  # in C, without a signature
        pass
    return True


def returned_by(place: str) -> dict[str, Any]:
    """The arguments of `diagnose` that a function of a file returns.

    Raises ValueError if there is no such function, or it returns something else.
    """
    file, colon, name = place.rpartition(":")
    if not colon or not name.isidentifier():
        raise ValueError(f"expected FILE:NAME, got {place!r}. As in train.py:setup")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"expected a file of Python, got {file!r}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
        function = getattr(module, name, None)
        if not callable(function):
            got = type(function).__name__ if hasattr(module, name) else "no such name"
            raise _NoFunction(f"expected a function {name} in {file}, got {got}.")
        if not _needs_nothing(function):
            raise _NoFunction(f"expected a function without arguments, got {name} that needs some.")
        given = function()
    except _NoFunction:
        raise
    except Exception as error:
        import traceback

        traceback.print_exc()
        raise ValueError(f"{file} ended with {type(error).__name__}, see above.") from error
    if isinstance(given, Mapping) and {"model", "loss_function", "data"} <= set(given):
        return dict(given)
    if isinstance(given, tuple) and len(given) in (3, 4):
        return dict(zip(ARGUMENTS, given, strict=False))
    raise ValueError(
        f"expected {name} to return model, loss, data and optimizer, got {type(given).__name__}."
    )


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
