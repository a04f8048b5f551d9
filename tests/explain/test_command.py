"""`python -m tinygrad_kr explain` and `demo`: formulas are parsed from a list, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from korean import english_sentences

import tinygrad_kr as tk
from tinygrad_kr.__main__ import main
from tinygrad_kr.explain.expression import FUNCTIONS, ExpressionError, evaluated, parsed_values
from tinygrad_kr.language import cells


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_lectures_formula(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("w=-2", "x=5", "b=3", "--wrt", "w")
    code, out, err = run(capsys, "explain", "sigmoid(w*x + b)", *given, "--lang", "ko")
    assert code == 0 and err == ""
    assert "연쇄 법칙\n  df/dw = df/dh * dh/dg * dg/dw = (f * (1 - f)) * 1 * x" in out
    code, out, _ = run(capsys, "explain", "w*x + b", *given, "--lang", "en")
    assert "df/dw = df/dg * dg/dw = 1 * x = 1 * 5 = 5" in out
    code, out, _ = run(capsys, "explain", "w*x + b", *given, "--lang", "en", "--markdown")
    assert code == 0 and r"\frac{\partial f}{\partial g}" in out


def test_a_formula_may_begin_with_a_minus(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", "-x**2", "x=3", "--lang", "en")
    assert code == 0 and "df/dx = df/dg * dg/dx" in out and "= -6\n" in out


def test_arrays(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", "sum(x @ w)", "x=[[1,2]]", "w=[[3],[4]]", "--lang", "en")
    assert code == 0 and "df/dw = x^T @ df/dg" in out


def test_draw_prints_dot_and_refuses_as_explain_does(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, err = run(capsys, "draw", "w*x + b", "w=-2", "x=5", "b=3", "--lang", "en")
    assert code == 0 and err == "" and out.startswith("digraph {")
    assert 'label="w = -2\\ngradient 5"' in out
    path = tmp_path / "f.dot"
    assert run(capsys, "draw", "-w*x", "w=-2", "x=5", "-o", str(path), "--lang", "en")[0] == 0
    assert path.read_text(encoding="utf-8").startswith("digraph {")
    code, out, err = run(capsys, "draw", "w < 3", "w=1")
    assert code == 2 and out == "" and err.startswith("draw: expected arithmetic and functions")
    assert "expected a path that ends with" in run(capsys, "draw", "w*w", "w=1", "-o", "f.xyz")[2]


EXAMPLE = f"{Path(__file__).parents[2] / 'examples' / 'diagnose_me.py'}:setup"


def test_diagnose_a_function_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "diagnose", EXAMPLE, "--lang", "en")
    assert code == 1 and err == ""
    kinds = ["softmax_before_cross_entropy", "parameter_not_in_optimizer", "wrong_mode"]
    assert re.findall(r"^\d\. (\w+)$", out, re.M) == kinds
    code, out, _ = run(capsys, "diagnose", EXAMPLE, "--lang", "ko")
    assert code == 1 and "손실 함수에 로짓을 넣으세요." in out


MENDED = """
from diagnose_me import setup
from tinygrad_kr import nn, optim
def mended():
    model, loss, data, _ = setup()
    model = nn.Sequential(*list(model)[:-1]).train()
    optimizer = optim.Adam(model.parameters())
    return dict(model=model, loss_function=loss, data=data, optimizer=optimizer)
def other():
    return 3
def asks(x):
    return x
def strange():
    return 1, 2, 3, 4
def fails():
    raise KeyError("here")
"""


def test_diagnose_what_is_mended_and_what_is_no_function(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(EXAMPLE).parent))
    file = tmp_path / "mended.py"
    file.write_text(MENDED, encoding="utf-8")
    code, out, _ = run(capsys, "diagnose", f"{file}:mended", "--lang", "en")
    assert (code, out) == (0, "Nothing wrong was found in the first 20 steps.\n")
    for place, said in (
        ("mended", "expected FILE:NAME, got 'mended'"),
        (f"{file}:nothing", "expected a function nothing in .*, got no such name"),
        (f"{file}:asks", "expected a function without arguments, got asks that needs some"),
        (f"{file}:strange", "diagnose: expected a Module, got int|diagnose: expected .*got int"),
        (f"{file}:fails", "KeyError: 'here'\n.*ended with KeyError, see above"),
        (f"{file}:other", "expected other to return model, loss, data and optimizer, got int"),
        (f"{tmp_path / 'none.py'}:setup", "expected a file of Python, got"),
    ):
        code, out, err = run(capsys, "diagnose", place)
        assert code == 2 and out == "" and re.search(said, err)
    file.write_text("def setup(:\n", encoding="utf-8")
    code, out, err = run(capsys, "diagnose", f"{file}:setup")
    assert code == 2 and "ended with SyntaxError, see above" in err


def test_the_mark_stands_below_what_is_refused() -> None:
    """Also behind Korean letters, which are three bytes and two columns."""
    for formula, column in (("한글 * foo(w)", 7), ("한글 @ w", 0), ("w + 한 @ w", 4)):
        with pytest.raises(ExpressionError) as caught:
            evaluated(formula, parsed_values(["w=1", "한글=2", "한=3"]))
        assert str(caught.value).splitlines()[-1] == "  " + " " * column + "^"


def test_pythons_own_names_for_arithmetic() -> None:
    values = parsed_values(["w=-7", "x=3"])
    for formula in ("abs(w)", "w % x", "max(w, x)", "min(w, x)", "max(0, w)", "max(w)"):
        found = evaluated(formula, values)
        assert found.item() == eval(formula.replace("max(w)", "w"), {"w": -7, "x": 3})
        assert found.requires_grad
    with pytest.raises(ExpressionError, match="expected w once, got it twice"):
        parsed_values(["w=1", "x=2", "w=3"])


def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Through many layers the gradient vanishes." in run(capsys, "demo", "--lang", "en")[1]
    assert "층이 깊어지면 기울기가 소실됩니다." in run(capsys, "demo", "--lang", "ko")[1]


COMMANDS = (
    "explain sigmoid(w*x+b) w=-2 x=5 b=3",
    "explain x*x+x x=3 --markdown",
    "explain sum(relu(x@w)) x=[[1,2],[3,4]] w=[1,2]",
    "draw w*x w=1 x=2",
    f"diagnose {EXAMPLE}",
    "demo",
    "doctor",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_says_a_sentence_in_english_where_korean_is_asked_for(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    said = run(capsys, *command.split(), "--lang", "ko")[1]
    assert re.search("[가-힣]", said)
    assert not english_sentences(said)
    assert said == run(capsys, "--lang", "ko", *command.split())[1] or command == "doctor"


@pytest.mark.parametrize("command", ["", "explain", "draw", "diagnose", "demo", "doctor"])
def test_help_is_in_the_language_that_is_named(
    capsys: pytest.CaptureFixture[str], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    for options in (["--lang", "en"], ["--lang=ko"], []):
        with pytest.raises(SystemExit) as stop:
            main([*command.split(), "--help", *options])
        assert stop.value.code == 0
        shown.append(capsys.readouterr().out)
        monkeypatch.setenv("TINYGRAD_KR_LANG", "ko")
    assert shown[0].startswith("usage: ") and english_sentences(shown[0])
    assert shown[1].startswith("사용법: ") and not english_sentences(shown[1])
    assert shown[1] == shown[2]
    assert "옵션:" in shown[1] and "이 도움말을 보여 주고 끝냅니다" in shown[1]
    assert all(cells(line) < 82 for line in shown[1].splitlines())


def test_an_error_of_the_command_line_is_in_english(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["explain", "--lang", "fr", "x"])
    assert "invalid choice: 'fr'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("formula", "position", "said"),
    [
        ("w*x + foo", 6, r"expected one of the given names \(w, x\), got foo"),
        ("__import__('os').system('ls')", 0, "expected one of .* sigmoid.*; got attribute"),
        ("exp(w.__class__)", 4, "got attribute"),
        ("w*(x", 2, "expected a formula"),
        ("[w for w in x]", 0, "got listcomp"),
        ("w + (x := 3)", 5, "got namedexpr"),
        ("w + 'a'", 4, "expected a number, got 'a'"),
        ("w + 1j", 4, "expected a number, got 1j"),
        ("w + True", 4, "expected a number, got True"),
        ("w < 3", 0, "got compare"),
        ("sin(w, x)", 0, "expected sin of 1 arguments, got 2"),
        ("2 * sigmoid()", 4, "expected sigmoid of 1 arguments, got 0"),
        ("w // 2", 0, "expected arithmetic and functions, got //"),
        ("w if w > 0 else 1", 0, "got if"),
        ("not w", 0, "got not"),
        ("w + sin", 4, r"expected sin\(\.\.\.\)"),
        ("sin(x=w)", 0, "expected arguments without names"),
        ("sin(*w)", 4, "got starred"),
        ("w[0]", 0, "got subscript"),
        ("lambda: w", 0, "got lambda"),
        ("f'{w}'", 0, "got joinedstr"),
        ("w + 1e400**2 + 9" + "9" * 400, 15, "a number that a float64 holds"),
        ("한글 + w * 가", 0, "got 한글"),
        ("w + 가나", 4, "got 가나"),
        ("w and x", 0, "got and"),
        ("", 0, "expected a formula"),
    ],
)
def test_what_is_refused_is_marked(
    capsys: pytest.CaptureFixture[str], formula: str, position: int, said: str
) -> None:
    with pytest.raises(ExpressionError, match=said) as caught:
        evaluated(formula, parsed_values(["w=1", "x=2"]))
    assert caught.value.position == position
    assert str(caught.value).splitlines()[-1].strip() == "^"
    code, out, err = run(capsys, "explain", formula, "w=1", "x=2")
    assert code == 2 and out == "" and err.startswith("explain: ")


@pytest.mark.parametrize("formula", ["(" * 500 + "w" + ")" * 500, "-" * 1500 + "w", "w" * 3000])
def test_deep_and_long_formulas_are_refused_or_computed(formula: str) -> None:
    try:
        assert evaluated(formula, parsed_values(["w=1"])).item() in (1, -1)
    except ExpressionError as error:
        assert "expected" in str(error)


@pytest.mark.parametrize(
    "assignment", ["w", "w=", "=3", "1w=3", "w=x", "w=__import__('os')", "w='a'"]
)
def test_values_are_numbers(assignment: str) -> None:
    with pytest.raises(ExpressionError, match=r"expected (name=number|a number)"):
        parsed_values([assignment])


def test_without_values_or_with_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert "expected names with values" in run(capsys, "explain", "1 + 2")[2]
    assert "a formula that uses one of the names w" in run(capsys, "explain", "9**9**9", "w=1")[2]
    said = run(capsys, "explain", "x", "x=2", "--wrt", "x,y")[2]
    assert said == "explain: expected --wrt of the given names (x), got 'y'\n"
    assert "expected one number, got shape (2,)" in run(capsys, "explain", "x", "x=[1,2]")[2]


NAMES = sorted(set(FUNCTIONS) - {"where", "copysign", "heaviside"})


@given(st.sampled_from(NAMES), st.floats(0.2, 0.9), st.floats(0.2, 0.9))
def test_every_function_is_tks(name: str, a: float, b: float) -> None:
    values = parsed_values([f"a={a!r}", f"b={b!r}"])
    function = getattr(tk, name)
    try:
        found, given = evaluated(f"{name}(a)", values), [values["a"]]
    except ExpressionError:
        found, given = evaluated(f"{name}(a, b)", values), [values["a"], values["b"]]
    with np.errstate(all="ignore"):
        right = function(*given)
    np.testing.assert_array_equal(found.data, right.data)
