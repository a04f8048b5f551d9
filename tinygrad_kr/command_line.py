"""The parser of the commands and of the course's programs: its help in English or Korean.

Errors of the command line are in English always, as exceptions are.
"""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from tinygrad_kr.language import LANGUAGES, Text, cells, language

__all__ = ["LANG", "Parser", "named_language"]

USAGE = Text("usage: ", "사용법: ")
HEADINGS = {
    "positional arguments": Text("positional arguments", "인자"),
    "options": Text("options", "옵션"),
}
"""By those of argparse."""
HELP = Text("show this help message and exit", "이 도움말을 보여 주고 끝냅니다")
LANG = Text(
    "English or Korean; by default as $TINYGRAD_KR_LANG or the locale says",
    "영어(en) 또는 한국어(ko). 기본값: $TINYGRAD_KR_LANG, 없으면 로캘의 언어",
)
"""Of the option `--lang`."""


class Parser(ArgumentParser):
    """An `ArgumentParser` whose help is in a language.

    description: shown as it is written. lang: "en" or "ko", by default the language in force.
    """

    def __init__(self, prog: str | None = None, *, lang: str | None = None, **options: Any) -> None:
        self.lang = language(lang)
        looks = partial(_Formatter, lang=self.lang)
        super().__init__(prog, formatter_class=looks, add_help=False, **options)
        shown = HELP.say(self.lang)
        self.add_argument("-h", "--help", action="help", default=argparse.SUPPRESS, help=shown)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Headings in a language. A Hangul letter counts as the two columns that it takes."""

    def __init__(self, *given: Any, lang: str, **options: Any) -> None:
        super().__init__(*given, **options)
        self._lang = lang

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        prefix = USAGE.say(self._lang) if prefix is None else prefix
        super().add_usage(usage, actions, groups, prefix)

    def start_section(self, heading: str | None) -> None:
        known = HEADINGS.get(heading or "")
        super().start_section(heading if known is None else known.say(self._lang))

    def _split_lines(self, text: str, width: int) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".lstrip()
            if lines[-1] and cells(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines


def named_language(arguments: Sequence[str] | None = None) -> str | None:
    """The language that `--lang` names on a command line, by default that of the process.

    None where there is no such option, or where it names another language, which the parser
    refuses.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    found = None
    for option, value in zip(given, [*given, ""][1:], strict=True):
        name, is_joined, joined = option.partition("=")
        if name == "--lang":
            found = joined if is_joined else value
    return found if found in LANGUAGES else None
