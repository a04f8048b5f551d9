"""`python -m tinygrad_kr`: the commands of the package."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from tinygrad_kr._version import __version__
from tinygrad_kr.doctor import doctor
from tinygrad_kr.language import LANGUAGES, language


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` name; return the exit code."""
    parser = ArgumentParser("python -m tinygrad_kr")
    parser.add_argument("--version", action="version", version=f"tinygrad_kr {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    summary = "say what is there of Python, NumPy, BLAS, compiler, cache and data; what to do"
    of_doctor = commands.add_parser("doctor", help=summary, description=summary)
    of_doctor.add_argument(
        "--lang",
        choices=LANGUAGES,
        help="English or Korean; by default as $TINYGRAD_KR_LANG or the locale says",
    )
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] != ["doctor"]:  # which runs where the rest of the package may not
        from tinygrad_kr.explain.command import add_commands, formulas_first

        add_commands(commands)
        given = formulas_first(given) if given[:1] in (["explain"], ["draw"]) else given
    chosen = parser.parse_args(given)
    if chosen.command == "doctor":
        return doctor(language(chosen.lang))
    if chosen.command is not None:
        code: int = chosen.run(chosen)
        return code
    parser.print_help()
    return 0


if __name__ == "__main__":
    sys.exit(main())
