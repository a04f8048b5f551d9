"""A user's text in generated C and Python: as a comment, a string or a part of an identifier.

Names of files, ops, variables, options and keywords reach generated code through these functions
alone. An identifier made here ends in `_` and a number. No other name in generated code does,
except the workers `part0_0`, whose prefix is reserved.
"""

from __future__ import annotations

import re
from keyword import iskeyword

__all__ = ["argument", "comment", "identifier", "string"]

LONGEST_COMMENT = 120
"""Limit of one text in a comment, whose two ends are shown beyond it; characters."""
LONGEST_NAME = 40
"""Limit of a name before its number; characters."""

_FOREIGN = re.compile(r"[^A-Za-z0-9_]+")
_RESERVED = re.compile(r"part[0-9]|tk_|[0-9]", re.IGNORECASE)
_KEYWORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBERED = re.compile(r"[a-z][0-9]+")


def comment(text: str) -> str:
    """The text for one line of a comment, without characters that could end it.

    `*` and `?` become `_`, so that no comment ends or begins and no trigraph forms. So do line
    ends, control and direction marks and lone surrogates. A backslash becomes a slash.
    """
    text = str.replace(text, "\\", "/")
    if len(text) > LONGEST_COMMENT:
        start = LONGEST_COMMENT // 3
        text = f"{text[:start]}...{text[start - LONGEST_COMMENT + 3 :]}"
    return "".join(c if c.isprintable() and c not in "*?" else "_" for c in text)


def string(text: str) -> str:
    """A Python literal of the text, with escapes for everything that does not print."""
    return str.__repr__(text)


def identifier(text: str, number: int) -> str:
    """An ASCII name for C and Python that resembles the text, unique by its number.

    Capitals with an underscore, as in the macro `M_PI`, become small letters.
    """
    name = _FOREIGN.sub("_", text).strip("_")[:LONGEST_NAME].rstrip("_") or "value"
    if "_" in name and name.isupper():
        name = name.lower()
    if _RESERVED.match(name):
        name = f"user_{name}"
    return f"{name}_{number}"


def argument(keyword: str, term: str) -> str:
    """The term as a keyword argument of a Python call, whatever the keyword."""
    plain = _KEYWORD.fullmatch(keyword) and not iskeyword(keyword) and keyword != "__debug__"
    if plain and not _NUMBERED.fullmatch(keyword):
        return f"{keyword}={term}"
    return f"**{{{string(keyword)}: {term}}}"
