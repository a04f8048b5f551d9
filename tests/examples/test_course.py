"""The course names every program once, its links, commands and figures hold, in both languages."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from lecture_programs import module

import tinygrad_kr as tk

ROOT = Path(__file__).parents[2]
COURSES = {"en": ROOT / "examples/README.md", "ko": ROOT / "examples/README.ko.md"}
RESULTS = ROOT / "benchmarks/results"
FIGURE = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?%?")


class Section(NamedTuple):
    """What the course says of one program."""

    program: Path
    text: str

    @property
    def commands(self) -> list[str]:
        blocks = re.findall(r"```sh\n(.*?)```", self.text, re.S)
        return [line for block in blocks for line in block.splitlines()]

    @property
    def pictures(self) -> list[str]:
        return re.findall(r"^!\[[^\]]+\]\((.*?)\)$", self.text, re.M)

    @property
    def prose(self) -> str:
        """The text without commands and output, and without where links lead."""
        own = re.sub(r"```(?:sh|text)\n.*?```", "", self.text, flags=re.S)
        return re.sub(r"\]\(.*?\)", "]", own)

    @property
    def outputs(self) -> list[list[str]]:
        """What it shows of what the program prints, by lines."""
        blocks = re.findall(r"```text\n(.*?)```", self.text, re.S)
        return [list(map(str.strip, block.splitlines())) for block in blocks]

    @property
    def parts(self) -> list[str]:
        """What to look at; what the lecture said; what happens."""
        return re.split(r"^- \*\*.*?:\*\*", self.prose, flags=re.M)

    @property
    def rows(self) -> dict[str, list[str]]:
        """The rows of its table, by their first cell."""
        lines = re.findall(r"^\| (.*) \|$", self.text, re.M)[1:]
        return {cells[0]: cells for cells in (line.split(" | ") for line in lines)}


def sections(language: str) -> list[Section]:
    text = COURSES[language].read_text(encoding="utf-8")
    parts = re.split(r"^### ", text.replace("\n## ", "\n### "), flags=re.M)[1:]
    found = [(re.match(r"\[`[^`]+`\]\((.*?)\): ", part), part) for part in parts]
    return [
        Section((COURSES[language].parent / match[1]).resolve(), part)
        for match, part in found
        if match
    ]


def section(name: str, language: str = "en") -> Section:
    return next(found for found in sections(language) if found.program.stem == name)


BY_PROGRAM = [pytest.param(found, id=found.program.stem) for found in sections("en")]
PAIRS = [
    pytest.param(english, korean, id=english.program.stem)
    for english, korean in zip(sections("en"), sections("ko"), strict=True)
]


OF_GUIDES = {
    "film.py": "guides/monitor",
    "diagnose_me.py": "diagnose",
    "larger_than_memory.py": "scale",
    "mnist_mpi.py": "scale",
    "search_recipe.py": "scale",
}
"""Programs of pages, not of the course."""


@pytest.mark.parametrize("language", ["", ".ko"])
@pytest.mark.parametrize("program", OF_GUIDES)
def test_a_page_names_its_program(program: str, language: str) -> None:
    page = ROOT / "docs" / f"{OF_GUIDES[program]}{language}.md"
    assert f"examples/{program}" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("language", COURSES)
def test_every_program_has_one_section(language: str) -> None:
    named = [found.program.relative_to(ROOT).as_posix() for found in sections(language)]
    programs = {
        path.relative_to(ROOT).as_posix()
        for folder in ("examples", "examples/lectures")
        for path in (ROOT / folder).glob("*.py")
    }
    programs -= {"examples/lectures/common.py", "examples/engine_in_100_lines.py"}
    programs -= {f"examples/{name}" for name in OF_GUIDES}
    assert len(named) == len(set(named))
    assert set(named) == programs | {"benchmarks/sigmoid_vs_relu_depth.py"}


@pytest.mark.parametrize("language", COURSES)
def test_every_link_leads_to_a_file(language: str) -> None:
    targets = re.findall(r"\]\((.*?)\)", COURSES[language].read_text(encoding="utf-8"))
    assert len(targets) > len(sections(language))
    missing = [target for target in targets if not (COURSES[language].parent / target).is_file()]
    assert not missing


@pytest.mark.parametrize("language", COURSES)
def test_every_picture_of_an_example_is_shown(language: str) -> None:
    saved = {path.name for path in (ROOT / "docs/pictures").glob("*.png")}
    for found in sections(language):
        own = {found.program.stem, "depth" if "depth" in found.program.stem else ""}
        expected = [f"../docs/pictures/{name}.png" for name in own if f"{name}.png" in saved]
        assert found.pictures == expected, found.program.name


@pytest.mark.parametrize("language", COURSES)
def test_the_readme_leads_to_the_course(language: str) -> None:
    assert f"](examples/{COURSES[language].name})" in (ROOT / COURSES[language].name).read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(("english", "korean"), PAIRS)
def test_both_languages_say_the_same(english: Section, korean: Section) -> None:
    assert english.program == korean.program
    assert english.commands == korean.commands
    assert english.pictures == korean.pictures
    for part, translation in zip(english.parts, korean.parts, strict=True):
        assert sorted(FIGURE.findall(part)) == sorted(FIGURE.findall(translation))
    assert re.findall(r"`[^`]+`", english.prose) == re.findall(r"`[^`]+`", korean.prose)


@pytest.mark.parametrize("found", BY_PROGRAM)
def test_a_section_tells_how_to_run_what_was_said_and_what_happens(found: Section) -> None:
    path = found.program.relative_to(ROOT).as_posix()
    assert any(shlex.split(command)[:2] == ["python", path] for command in found.commands)
    assert re.findall(r"^- \*\*(.*?):\*\* ", found.text, re.M) == ["The lecture", "What happens"]


PRINTED: dict[str, Callable[[Any], Any]] = {
    "small_change": lambda program: print(program.explained().text()),
    "learning_rate": lambda program: program.print_causes(),
    "by_hand": lambda program: program.print_explanation(4, 0),
    "vanishing": lambda program: program.print_path(program.example_path(0)),
    "deep_xor": lambda program: program.print_diagnosis(
        program.ONE_NET,
        program.diagnose(program.ordinary_nets("sigmoid", 10, 100, 0)[0]),
        kind=program.in_words("sigmoid"),
        start=0,
    ),
    "initialisation": lambda program: program.print_diagnoses(program.load("digits"), 0),
}
"""What prints the output that a section shows."""


@pytest.mark.parametrize("language", COURSES)
@pytest.mark.parametrize("name", PRINTED)
def test_output_is_what_the_program_prints(
    name: str, language: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tk.set_language(language)
    try:
        PRINTED[name](module(ROOT / f"examples/lectures/{name}.py"))
    finally:
        tk.set_language(None)
    lines = list(map(str.strip, capsys.readouterr().out.splitlines()))
    (shown,) = section(name, language).outputs
    starts = [place for place, line in enumerate(lines) if line == shown[0]]
    assert any(lines[place : place + len(shown)] == shown for place in starts), "\n".join(lines)


@pytest.mark.parametrize("language", COURSES)
def test_no_output_is_shown_that_is_not_printed(language: str) -> None:
    assert {found.program.stem for found in sections(language) if found.outputs} == set(PRINTED)


class Parsed(Exception):
    """A program has understood its command line."""


def help_of(command: str, patch: pytest.MonkeyPatch) -> str:
    """The help of a program that has taken the options of a command; SystemExit if it does not."""
    _, path, *options = shlex.split(command)
    parse_args = argparse.ArgumentParser.parse_args

    def parse_and_stop(self: argparse.ArgumentParser, *arguments: Any) -> None:
        parse_args(self, *arguments)
        raise Parsed(self.format_help())

    patch.setattr(argparse.ArgumentParser, "parse_args", parse_and_stop)
    patch.setattr(sys, "argv", [path, *options])
    with pytest.raises(Parsed) as parsed:
        module(ROOT / path).main()
    return str(parsed.value)


@pytest.mark.parametrize("found", BY_PROGRAM)
def test_commands_are_understood(found: Section, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [command for command in found.commands if command.startswith("python ")]
    others = set(found.commands) - set(commands)
    assert others <= {f'pip install -q -e ".[{extra}]"' for extra in ("tensorboard", "scipy")}
    for command in commands:
        help_text = help_of(command, monkeypatch)
    for option in re.findall(r"`(--[a-z-]+)", found.prose):
        assert f"{option} " in help_text or f"{option}]" in help_text


def test_a_wrong_option_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        help_of("python examples/lectures/dbn.py --shov", monkeypatch)


def shown(accuracies: list[float]) -> str:
    return f"{np.mean(accuracies):.4f} ({min(accuracies):.4f} to {max(accuracies):.4f})"


def test_the_depths_have_the_saved_figures() -> None:
    results = json.loads((RESULTS / "sigmoid_vs_relu_depth.json").read_text(encoding="utf-8"))[
        "results"
    ]
    solved = {(row["activation"], row["depth"]): row["solved"]["share"] for row in results}
    assert not any(
        share for (name, depth), share in solved.items() if name == "sigmoid" and depth >= 4
    )
    assert solved["sigmoid", 3] > 0
    prose = " ".join(section("sigmoid_vs_relu_depth").prose.split())
    names = {
        "relu": "ReLU does in",
        "leaky_relu": "Leaky ReLU in",
        "elu": "ELU in",
        "tanh": "tanh in",
    }
    for name, words in names.items():
        assert f"{words} {solved[name, 10]:.0%}" in prose
    agree = json.loads((RESULTS / "sigmoid_vs_relu_depth_agree.json").read_text(encoding="utf-8"))
    assert agree["agreement"] is True
    assert f"compares {len(agree['references'])} nets" in prose


def test_the_ladder_has_the_saved_figures() -> None:
    saved = json.loads((RESULTS / "mnist_ladder.json").read_text(encoding="utf-8"))
    rows = section("mnist_ladder").rows
    for lab, result in saved.items():
        found = [run["figures"][f"lab {lab} accuracy"] for run in result["runs"].values()]
        assert rows[lab][2:] == [f"{result['published']:g}", shown(found)]
    assert len(rows) == len(saved)


@pytest.mark.trains
def test_pre_training_has_the_saved_figures() -> None:
    runs = json.loads((RESULTS / "dbn.json").read_text(encoding="utf-8")).values()
    rows = section("dbn").rows
    names = next(iter(runs))["nets"]
    for name in names:
        last = [run["nets"][name]["accuracies"][-1] for run in runs]
        assert rows[name][1:] == [", ".join(f"{accuracy:.4f}" for accuracy in last)]
    assert len(rows) == len(names)


def test_convolutions_have_the_saved_figures() -> None:
    """The first seeds, in their order: more may be saved than the table shows."""
    rows = section("mnist_cnn").rows
    labs = [lab for lab in rows if lab.startswith("11-")]
    assert labs[:2] == ["11-1", "11-2"]
    for lab in labs:
        runs = [
            json.loads(path.read_text(encoding="utf-8"))
            for path in RESULTS.glob(f"mnist_{lab}_seed*.json")
        ]
        runs.sort(key=lambda run: run["seed"])
        *_, published, ours = rows[lab]
        figures = [f"{run['figures'][f'lab {lab} accuracy']:.4f}" for run in runs]
        count = ours.count(",") + 1
        assert published == f"{runs[0]['published']:g}"
        assert ours == ", ".join(figures[:count])


def test_the_keras_labs_have_the_saved_figures() -> None:
    prose = section("fit").prose
    for lab in ("10-1", "10-2", "13-2"):
        runs = json.loads((RESULTS / f"keras_{lab}.json").read_text(encoding="utf-8"))
        found = [run["figures"][f"lab Keras {lab} accuracy"] for run in runs.values()]
        assert f"{lab} {runs['0']['published']}" in prose
        assert f"{np.mean(found):.4f}" in prose
        assert f"{min(found):.4f}" in prose and f"{max(found):.4f}" in prose
