"""The language of explanations: English or Korean. Exceptions are in English always.

    NOTHING = Text("nothing is wrong in {layer}", "{layer}: 이상이 없습니다")
    NOTHING.say("ko", layer="net.0")

Korean particles depend on the last sound of the word before them. So no particle stands behind a
placeholder: "{layer}: ..." and not "{layer}은 ...".
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

__all__ = ["LANGUAGES", "Text", "cells", "language", "ljust", "rjust", "same", "set_language"]

LANGUAGES = ("en", "ko")
_chosen: str | None = None
"""What `set_language` was given."""


class Text(NamedTuple):
    """The same text in each of `LANGUAGES`, with the same placeholders."""

    en: str
    ko: str

    def say(self, lang: str | None = None, **values: Any) -> str:
        """The text in a language, with its placeholders filled in."""
        text: str = getattr(self, language(lang))
        return text.format(**values) if values else text

    def filled(self, **values: Any) -> Text:
        """The text with its placeholders filled in, in each language. Values may be Texts."""
        return Text(self.say("en", **_in("en", values)), self.say("ko", **_in("ko", values)))


def _in(lang: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: x.say(lang) if isinstance(x, Text) else x for name, x in values.items()}


def same(text: str) -> Text:
    """A text that needs no translation: a name, a number, an error of another program."""
    return Text(text, text)


def cells(text: str) -> int:
    """The columns of a console that a text takes: a Hangul letter takes two."""
    if text.isascii():
        return len(text)
    from unicodedata import east_asian_width

    return sum(1 + (east_asian_width(letter) in "WF") for letter in text)


def ljust(text: object, width: int) -> str:
    """A text at the left of a column; `width` as in `f"{text:20}"`."""
    return f"{text}" + " " * (width - cells(f"{text}"))


def rjust(text: object, width: int) -> str:
    """A text at the right of a column."""
    return " " * (width - cells(f"{text}")) + f"{text}"


def set_language(lang: str | None) -> None:
    """Choose the language in which `tk` explains, in this process.

    lang: "en" for English, "ko" for Korean; None for the default. That is `$TINYGRAD_KR_LANG`,
        else the language of the locale, else English.
    Raises ValueError for another language.

    >>> tk.set_language("ko")
    >>> tk.set_language(None)
    """
    global _chosen
    _chosen = None if lang is None else _checked(lang, "set_language")


def language(lang: str | None = None) -> str:
    """The language in force: `lang` if given, else that of `set_language`, else the default."""
    if lang is not None:
        return _checked(lang, "lang")
    if _chosen is not None:
        return _chosen
    if named := os.environ.get("TINYGRAD_KR_LANG"):
        return _checked(named, "$TINYGRAD_KR_LANG")
    return of_locale()


def of_locale() -> str:
    """The language of the locale: "ko" for Korean, else "en"."""
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := os.environ.get(name):
            return "ko" if value.lower().startswith("ko") else "en"
    import locale

    named = locale.getlocale()[0] or ""
    return "ko" if named.lower().startswith("ko") else "en"


def _checked(lang: str, what: str) -> str:
    if lang not in LANGUAGES:
        raise ValueError(f'{what}: expected "en" or "ko", got {lang!r}. Name one of the two')
    return lang
