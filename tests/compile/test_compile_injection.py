"""Names of files, folders, ops, variables and keywords are no code, whatever they are.

One program holds many texts, each of them as the name of a file, an op, a keyword, an argument, a
parameter and a global: it compiles, computes what the function does, and runs nothing else. The C
that is built holds none of them. What `source` shows of it holds them all, and is C too.
"""

from __future__ import annotations

import ctypes
import importlib.util
import linecache
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from harness import without_compiler
from hostile_texts import NAMES, PLAIN, attacks, texts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy import ndarray

import tinygrad_kr as tk
from tinygrad_kr import Tensor, nn, op, optim
from tinygrad_kr.compile.codegen import text
from tinygrad_kr.compile.codegen.program import CProgram
from tinygrad_kr.compile.run import numpy_runner
from tinygrad_kr.native.build import BuildError, build, find_compiler, included
from tinygrad_kr.optim.lowering import lower, structure_of

WAYS = ["C", "NumPy"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Programs in C, and in NumPy calls alone."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "NumPy":
            without_compiler(patch)
        elif find_compiler() is None:
            pytest.skip("there is no C compiler here")
        yield request.param


@pytest.fixture(scope="module")
def mark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that comes to be where a text is run."""
    return tmp_path_factory.mktemp("injection") / "mark"


@pytest.fixture(scope="module")
def header(mark: Path) -> Path:
    """A file that does not compile."""
    path = mark.with_name("header.h")
    path.write_text(f'#error "a file was included"\n{path.name};\n', encoding="utf-8")
    return path


def same(compiled: Any, written: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Calls of a compiled function equal the function; its generated source."""
    expected = written(*args, **kwargs)
    for _ in range(4):
        found = compiled(*args, **kwargs)
        for one, other in zip(_parts(found), _parts(expected), strict=True):
            np.testing.assert_allclose(one.data, other.data, 1e-12)
    assert compiled.programs, compiled.explain()
    source: str = compiled.source
    source.encode("utf-8")
    return source


def _parts(result: Any) -> Sequence[Any]:
    return result if isinstance(result, tuple) else (result,)


def renamed(function: Any, file: str, names: tuple[str, ...] = ()) -> Any:
    """A function whose code comes from `file`, and calls globals so."""
    code = function.__code__.replace(co_filename=file)
    if names:
        code = code.replace(co_names=names)
    return FunctionType(code, dict(function.__globals__))


def of_files(files: Sequence[str]) -> Callable[[Any], Any]:
    """A line of each file, one after the other."""

    def line(x: Any) -> Any:
        return x * 1.125 - 0.25

    lines = tuple(renamed(line, file) for file in files)

    def step(x: Any) -> Any:
        for each in lines:
            x = each(x)
        return x

    return step


def of_ops(names: Sequence[str]) -> Callable[[Any], Any]:
    """An op of each name."""
    ops = tuple(
        op(
            lambda x, k=k: x * (1 + k / 64),  # type: ignore[misc]
            lambda g, y, x, k=k: g * (1 + k / 64),  # type: ignore[misc]
            name=name,
        )
        for k, name in enumerate(names)
    )

    def step(x: Any) -> Any:
        for each in ops:
            x = each(x) + 0.5
        return x

    return step


def of_keywords(names: Sequence[str]) -> Callable[[Any], Any]:
    """Ops with a keyword of each name, and with each text as a parameter."""

    def forward(x: ndarray, /, **params: Any) -> ndarray:
        ((name, value),) = params.items()
        return x * (1 + len(name) % 7) + (len(value) % 5)

    scaled = op(forward, lambda g, y, x, /, **params: g, name="scaled")

    def step(x: Any) -> Any:
        for name in names:
            x = scaled(x, **{name: name}) * 0.25
        return x

    return step


def of_globals(names: Sequence[str]) -> Callable[[Any], Any]:
    """A Tensor that the function knows as a global of each name."""

    def shifted(x: Any) -> Any:
        return x * 0.5 + the_global  # type: ignore[name-defined]  # noqa: F821

    functions = []
    for k, name in enumerate(names):
        made = renamed(shifted, "a file", (name,))
        made.__globals__[name] = tk.tensor(k + 0.5, dtype=np.float64)
        functions.append(made)
    known = tuple(functions)

    def step(x: Any) -> Any:
        for each in known:
            x = each(x)
        return x

    return step


X = np.linspace(-1.0, 1.0, 5)
KINDS = {"files": of_files, "ops": of_ops, "keywords": of_keywords, "globals": of_globals}


def check(kind: str, given_texts: Sequence[str], mark: Path) -> str:
    step = KINDS[kind](given_texts)
    compiled = tk.compile(step)
    source = same(compiled, step, tk.tensor(X))
    if (code := code_of(compiled)) is not None:
        build(code.shown(), included(code.text))
    assert not mark.exists()
    return source


def code_of(compiled: Any) -> CProgram | None:
    """The C of a compiled function; None where there is none."""
    return getattr(compiled.last_runner, "code", None)


def unique(given_texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(given_texts))


@pytest.mark.parametrize("kind", KINDS)
def test_known_texts(kind: str, way: str, mark: Path, header: Path) -> None:
    source = check(kind, unique([*PLAIN, *NAMES, *attacks(mark, header)]), mark)
    assert "gemm.h" not in source  # for which `tk_gemm_panel(` in a comment is no reason


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", ["copy", "result", "buffer", "seen", "leaf", "new", "number"])
def test_many_ops_of_a_name_that_programs_use(name: str, way: str) -> None:
    """Whatever number such a name gets, it is not that of another thing."""

    def scaled(k: int) -> Any:
        return op(lambda x, **params: x * (k + 2), lambda g, y, x, **params: g, name=name)

    more = {f"param{k}": np.float32(k) for k in range(4)}  # each of which gets a name too

    ops = tuple(map(scaled, range(50)))

    def every(x: Any) -> Any:
        return tuple(each(x, **more) for each in ops)

    def some(x: Any, skipped: int) -> Any:
        made = [each(x, **more) for each in ops[skipped:]]
        return (*made[:9], *made[:9])  # which are copied the second time

    same(tk.compile(every), every, tk.tensor(X))
    for skipped in range(10 if way == "NumPy" else 1):
        same(tk.compile(some), some, tk.tensor(X), skipped)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(texts, min_size=30, max_size=30, unique=True))
def test_drawn_texts(kind: str, way: str, mark: Path, drawn: list[str]) -> None:
    check(kind, drawn, mark)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(texts, min_size=20, max_size=40, unique=True))
def test_many_drawn_texts(kind: str, way: str, mark: Path, drawn: list[str]) -> None:
    check(kind, drawn, mark)


def test_two_ops_whose_names_become_one(way: str, mark: Path) -> None:
    check("ops", ["a b", "a_b", "a;b", "a\nb", "a__b", "a b"], mark)


def test_no_text_reaches_the_compiler(mark: Path, header: Path) -> None:
    """The C that is built is that of a function with ordinary names."""
    if find_compiler() is None:
        pytest.skip("there is no C compiler here")
    given_texts = [one for one in unique([*PLAIN, *NAMES, *attacks(mark, header)]) if one]
    for kind in ("files", "ops", "globals"):
        built = []
        for chosen in (given_texts, [f"{kind}{k}" for k in range(len(given_texts))]):
            compiled = tk.compile(KINDS[kind](chosen))
            for _ in range(3):
                compiled(tk.tensor(X))
            code = code_of(compiled)
            assert code is not None
            built.append(code.text)
        assert built[0] == built[1]


def test_the_attacks_run_where_comments_are_as_they_were(
    way: str, tmp_path: Path, header: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the tests above would see one that gets through."""
    for module in (text, numpy_runner):
        monkeypatch.setattr(module, "comment", str)
    mark = tmp_path / "mark"
    in_c, included_in_c, in_python = (attacks(mark, header)[i] for i in (0, 5, 10))
    compiled = tk.compile(of_files([in_c if way == "C" else in_python]))
    for _ in range(4):
        compiled(tk.tensor(X))
    assert mark.exists() == (way == "NumPy")
    if way == "C":
        code = code_of(compiled)
        assert code is not None
        plan = compiled.last_runner.plan
        memory = [plan.roots[root] for root in plan.segments[0].roots]
        library = build(code.shown(), included(code.text))
        library["part0"](ctypes.py_object(tuple(np.ones(v.shape, v.dtype) for v in memory)))
        assert mark.exists()
        compiled = tk.compile(of_files([included_in_c]))
        for _ in range(4):
            compiled(tk.tensor(X))
        code = code_of(compiled)
        assert code is not None
        with pytest.raises(BuildError, match=r"header\.h:1: error") as caught:
            build(code.shown(), included(code.text))
        assert "was included" not in str(caught.value)


def test_files_that_exist(way: str, tmp_path: Path, mark: Path, header: Path) -> None:
    """Folders end in what ends comments and lines, names are no UTF-8; each file is read."""
    folders = [
        *("best*", "p*\\", "tail\\", "q??", "new\nline", "r\rn", "'quoted\"", "#include <x>"),
        *("%s%n", "한국어 폴더", "\u202eevil", "🙂🙂", "x" * 200, "{0}", "two  spaces "),
        *(os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xff\xfe")),
    ]
    modules = []
    for k, folder in enumerate(folders):
        file = tmp_path / folder / f"*{folder[:80]}.py"
        file.parent.mkdir()
        file.write_text(
            f"def line(x):\n    memory = x * {k + 2}.0\n    return memory / {k + 1}.0\n", "utf-8"
        )
        spec = importlib.util.spec_from_file_location(f"module{k}", file)
        assert spec is not None and spec.loader is not None
        modules.append(importlib.util.module_from_spec(spec))
        spec.loader.exec_module(modules[-1])
    lines = tuple(module.line for module in modules)

    def step(x: Any) -> Any:
        for line in lines:
            x = line(x)
        return x

    source = same(tk.compile(step), step, tk.tensor(X))
    assert not mark.exists()
    assert "한국어 폴더" in source
    assert "🙂🙂" in source
    assert way == "NumPy" or "memory_" in source


def test_arguments_variables_and_what_a_class_holds(way: str, mark: Path) -> None:
    """Named like all that the program itself names, and by any text."""

    def written(**given: Any) -> Any:
        total = 0.0
        for k, x in enumerate(given.values()):
            total = total * 0.5 + x * (k + 1)
        return total

    names = unique([*NAMES, *PLAIN])
    values = {name: tk.tensor(X + k) for k, name in enumerate(names)}
    same(tk.compile(written), written, **values)
    lines = [f"    {name} = previous * {k + 1}.5 - 0.25\n    previous = {name} / {k + 1}.0\n"
             for k, name in enumerate(NAMES) if name.isidentifier()]  # fmt: skip
    written = f"def step(previous):\n{''.join(lines)}    return previous\n"
    file = "<names of our own>"
    linecache.cache[file] = len(written), None, written.splitlines(True), file
    scope: dict[str, Any] = {}
    exec(compile(written, file, "exec"), scope)
    source = same(tk.compile(scope["step"]), scope["step"], tk.tensor(X))
    assert way == "NumPy" or "tk_parallel_for_" in source


@pytest.mark.parametrize("every", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_parameters_of_a_module_are_trained_whatever_they_are_called(way: str, every: int) -> None:
    names = [name for name in unique([*NAMES, *PLAIN]) if "." not in name and name][::every]
    results = []
    for compiles in (False, True):
        net = nn.Module()
        for k, name in enumerate(names):
            setattr(net, name, nn.Parameter(np.array([k / 100, 0.5])))
        optimizer = optim.Adam(net.parameters(), 0.01)
        assert len(list(net.parameters())) == len(names)

        def step(x: Tensor, net: Any = net, optimizer: Any = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = x.sum()
            for parameter in net.parameters():
                loss = loss + (parameter * 0.5).tanh().sum()
            loss.backward()
            optimizer.step()
            return loss

        run = tk.compile(step) if compiles else step
        losses = [run(tk.tensor(X)).item() for _ in range(6)]
        assert not compiles or run.programs, run.explain()
        results.append([*losses, *(p.data.sum() for p in net.parameters())])
    np.testing.assert_allclose(*results, 1e-12)


def test_the_text_of_a_parameter_reaches_the_op(way: str) -> None:
    """A string that looks like the name of an array is no array."""

    def forward(x: ndarray, *, mode: Any, a0: Any, pair: Any) -> ndarray:
        letters = [*mode, *a0, *pair[0], *pair[1][0]]
        return x + sum(k * ord(letter) for k, letter in enumerate(letters, 1))

    moded = op(forward, lambda g, y, x, **params: g, name="moded")
    given_texts = ["a0", "h1 t2", "# a0", "'a0", '"a0"', "a0\\'", "m0", "*/", "값"]

    def step(x: Any) -> Any:
        for each in given_texts:
            x = moded(x * 0.5, mode=each, a0=each, pair=(each, [each]))
        return x

    same(tk.compile(step), step, tk.tensor(X))


def test_a_rule_of_an_optimizer_may_have_any_names() -> None:
    names = unique([*NAMES, *PLAIN, "s0", "c0", "n0", "a0", "p", "g", "numbers", "update", "sqrt"])
    options = {name: 0.5 + k / 256 for k, name in enumerate(names) if name not in ("p", "g")}

    def rule(p: Any, g: Any, state: Any, /, **given: Any) -> Any:
        new = {}
        for k, name in enumerate(names):
            new[name] = state.get(name, 0.0) + g * (given.get(name, 1.0) + k)
            p = p - new[name] * 0.125
        new["steps of\nall"] = np.sqrt(state.get("steps of\nall", 0) + 1)
        return p, new

    structure = structure_of(tuple(options), tuple(options.values()))
    arrays, numbers = tuple(names), ("steps of\nall",)
    program = lower(rule, structure, numbers, arrays)
    p, g = np.array([1.0, 2.0]), np.array([0.5, -1.0])
    state = {name: np.array([k + 0.5, 1.0]) for k, name in enumerate(names)}
    expected, new = rule(p, g, {**state, "steps of\nall": 3}, **options)
    constants, kept = program.numbers(*options.values(), 3)
    scratch = [np.empty(2) for _ in range(program.scratch)]
    program.update(p, g, *(state[n] for n in program.array_state), *constants, *scratch)
    np.testing.assert_allclose(p, expected, 1e-12)
    assert program.number_state == numbers
    assert kept == (new["steps of\nall"],)
    for name in names:
        np.testing.assert_allclose(state[name], new[name], 1e-12)


def test_a_device_is_not_read_for_names(tmp_path: Path) -> None:
    """A function may claim to come from a file that never ends, or that waits for a writer."""
    if os.name != "posix":
        pytest.skip("there are no such files")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = (
        "import sys, numpy as np, tinygrad_kr as tk\n"
        "def f(x): return x * 2.0 + 1.0\n"
        "f.__code__ = f.__code__.replace(co_filename=sys.argv[1])\n"
        "step = tk.compile(f)\n"
        "for _ in range(4): step(np.ones(3))\n"
        "assert step.programs"
    )
    for file in (str(pipe), "/dev/zero", str(tmp_path)):
        subprocess.run([sys.executable, "-W", "ignore", "-c", code, file], check=True, timeout=60)
