"""`python -m tinygrad_kr`: the commands of the package."""

from __future__ import annotations

import sys
from argparse import SUPPRESS
from collections.abc import Sequence
from io import TextIOWrapper

from tinygrad_kr._version import __version__
from tinygrad_kr.command_line import LANG, Parser, named_language
from tinygrad_kr.doctor import doctor
from tinygrad_kr.language import LANGUAGES, Text, language

COMMAND = Text("command", "명령")
VERSION = Text("show the version and exit", "버전을 보여 주고 끝냅니다")
DOCTOR = Text(
    "say what is there of Python, NumPy, BLAS, compiler, cache and data; what to do",
    "Python, NumPy, BLAS, 컴파일러, 캐시, 데이터의 상태와 할 일을 알려 줍니다",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name; return the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    lang = language(named_language(given))
    parser = Parser("python -m tinygrad_kr", lang=lang)
    version = f"tinygrad_kr {__version__}"
    parser.add_argument("--version", action="version", version=version, help=VERSION.say(lang))
    parser.add_argument("--lang", choices=LANGUAGES, help=LANG.say(lang))
    commands = parser.add_subparsers(dest="command", metavar=COMMAND.say(lang))
    summary = DOCTOR.say(lang)
    of_doctor = commands.add_parser("doctor", help=summary, description=summary, lang=lang)
    of_doctor.add_argument("--lang", choices=LANGUAGES, default=SUPPRESS, help=LANG.say(lang))
    command = _without_language(given)[:1]
    if command != ["doctor"]:  # which runs where the rest of the package may not
        from tinygrad_kr.explain.command import add_commands, formulas_first

        add_commands(commands, lang)
        given = formulas_first(given) if command in (["explain"], ["draw"]) else given
    chosen = parser.parse_args(given)
    if chosen.command == "doctor":
        return doctor(language(chosen.lang))
    if chosen.command is not None:
        code: int = chosen.run(chosen)
        return code
    parser.print_help()
    return 0


def _without_language(given: list[str]) -> list[str]:
    """The arguments without a `--lang` before the command."""
    joined = given[:1] and given[0].startswith("--lang=")
    return given[2:] if given[:1] == ["--lang"] else given[1:] if joined else given


if __name__ == "__main__":
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # of a console that may have no Korean letters
            stream.reconfigure(errors="backslashreplace")
    sys.exit(main())
