"""A user's text in generated code: every text becomes a comment, a string and an identifier."""

from __future__ import annotations

import ast
import builtins
import keyword
import re
import shutil
import subprocess
from enum import StrEnum
from pathlib import Path

import pytest
from hostile_texts import NAMES, PLAIN, texts
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_kr.escape import (
    LONGEST_COMMENT,
    LONGEST_NAME,
    argument,
    comment,
    identifier,
    string,
)
from tinygrad_kr.native.build import find_compiler
from tinygrad_kr.native.kernels import PRELUDE, SHARE_POINTER, includes, pointers

INCLUDE = Path(__file__).parents[2] / "tinygrad_kr" / "native" / "include"


def known_and_drawn() -> st.SearchStrategy[str]:
    return st.sampled_from([*PLAIN, *NAMES]) | texts


@given(known_and_drawn())
def test_a_comment_is_one_line_in_which_nothing_has_a_meaning(text: str) -> None:
    made = comment(text)
    assert len(made) <= LONGEST_COMMENT
    assert len(f"x{made}x".splitlines()) == 1
    assert made.isprintable()
    assert not set(made) & set("*?\\")
    made.encode("utf-8")
    assert ast.dump(ast.parse(f"x = 1  # {made}")) == ast.dump(ast.parse("x = 1"))


def test_every_character_by_itself_is_safe_in_a_comment() -> None:
    made = [comment(chr(code)) for code in range(0x110000)]
    assert all(len(one) == 1 and one.isprintable() for one in made)
    assert not set(made) & set("*?\\\r\n\v\f\0\x1b\x85\u2028\u2029\u200e\u200f\u202e\u2066\ufeff")
    kept = {one for code, one in enumerate(made) if one == chr(code)}
    assert set("가힣ㄱ漢字éπ🙂 az09_-./,:;'\"#%(){}[]<>@!$&+=~^`|") <= kept


def test_comments_stay_readable() -> None:
    assert comment("/home/김/학습 🙂.py:17") == "/home/김/학습 🙂.py:17"
    assert comment("C:\\Users\\a\\train.py:3") == "C:/Users/a/train.py:3"
    assert comment("best*/train.py:4") == "best_/train.py:4"
    long = comment("/" + "a" * 500 + "/train.py:170000")
    assert long.startswith("/aaaa")
    assert "..." in long
    assert long.endswith("a/train.py:170000")


@given(known_and_drawn(), st.integers(0, 10**6))
def test_an_identifier_is_a_word_of_ascii_that_means_nothing(text: str, number: int) -> None:
    made = identifier(text, number)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*_[0-9]+", made, re.ASCII)
    assert made.endswith(f"_{number}")
    assert len(made) <= len("user_") + LONGEST_NAME + 1 + len(str(number))
    assert not keyword.iskeyword(made)
    assert not hasattr(builtins, made)
    assert not re.match(r"part\d|tk_", made, re.IGNORECASE)
    assert made.isidentifier()


@given(texts, texts, st.integers(0, 200), st.integers(0, 200))
def test_two_numbers_are_two_identifiers(one: str, other: str, n: int, k: int) -> None:
    assert (identifier(one, n) == identifier(other, k)) <= (n == k)
    suffixes = ("", "_i", "_array", "_tensor", "_array_before")
    made = {identifier(one, n) + suffix for suffix in suffixes}
    assert n == k or not made & {identifier(other, k) + suffix for suffix in suffixes}


def test_identifiers_are_bounded() -> None:
    assert identifier("x" * 5000, 7) == "x" * LONGEST_NAME + "_7"
    assert identifier("x" * (LONGEST_NAME - 1) + "___y", 7) == "x" * (LONGEST_NAME - 1) + "_7"


def test_identifiers_resemble_their_text() -> None:
    names = [
        "x",
        "W1",
        "grad_of_net",
        "soft sign",
        "M_PI",
        "part0",
        "2x",
        "값",
        "<lambda>",
    ]
    assert [identifier(name, 7) for name in names] == [
        *("x_7", "W1_7", "grad_of_net_7", "soft_sign_7", "m_pi_7", "user_part0_7"),
        *("user_2x_7", "value_7", "lambda_7"),
    ]  # fmt: skip


@pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler here")
@pytest.mark.parametrize("standard", ["-std=c99", "-std=gnu17"])
def test_no_macro_or_word_of_the_headers_is_such_an_identifier(
    standard: str, tmp_path: Path
) -> None:
    found = find_compiler()
    assert found is not None
    for header in INCLUDE.glob("*.h"):
        shutil.copy(header, tmp_path)
    vectors = [flag for flag in found.flags if flag.startswith(("-march", "-mcpu"))]
    own = [*includes(f64=True), *(text.replace("tk_gemm", "other") for text in pointers(f64=True))]
    own = [text for text in own if text != SHARE_POINTER]
    shared = SHARE_POINTER.replace("tk_parallel_for", "another").replace("#define tk_self", "//")
    (tmp_path / "all.c").write_text("\n".join([PRELUDE, *own, shared]), "utf-8")
    words: set[str] = set()
    for option in (["-dM"], []):
        line = [*found.command, standard, *vectors, *option, "-E", "-P", "all.c"]
        said = subprocess.run(
            line, cwd=tmp_path, capture_output=True, text=True, check=True, encoding="utf-8"
        ).stdout
        words |= set(re.findall(r"\b[A-Za-z_]\w*\b", said))
    assert "INFINITY" in words and "exp" in words
    assert standard == "-std=c99" or "M_PI_2" in words
    for word in words:
        ending = re.fullmatch(r"(.*?)_(\d+)(_i)?", word, re.ASCII)
        if ending is not None:
            text, number, element = ending.groups()
            assert identifier(text, int(number)) + (element or "") != word


class Shade(StrEnum):
    DARK = "dark"


class Told(str):
    def __repr__(self) -> str:
        return "exit()"


@given(texts | st.sampled_from(PLAIN))
def test_a_string_is_the_text_again(text: str) -> None:
    made = string(text)
    assert ast.literal_eval(made) == text
    assert made.isprintable()


def test_a_string_of_a_subclass_is_its_letters() -> None:
    assert string(Told("a'b")) == '"a\'b"'
    assert string(Shade.DARK) == "'dark'"


@given(texts | st.sampled_from([*PLAIN, *NAMES, *keyword.kwlist, "__debug__", "a12", "t0", "h7"]))
def test_any_text_is_a_keyword(text: str) -> None:
    def given_to(**keywords: int) -> dict[str, int]:
        return keywords

    made = argument(text, "v")
    assert eval(f"given_to({made}, other_one=2)", {"given_to": given_to, "v": 1}) == {
        text: 1,
        "other_one": 2,
    }
    assert not re.fullmatch(r"[aht]\d+=v", made, re.ASCII)


def test_plain_keywords_stay_plain() -> None:
    assert argument("axis", "a1") == "axis=a1"
    assert argument("keepdims", "True") == "keepdims=True"
