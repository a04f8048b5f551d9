"""docs/reading.md and its picture: what they name exists, and no folder or file is missing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tinygrad_kr"
PAGES = ["docs/reading.md", "docs/reading.ko.md"]
ENDINGS = {".py", ".h", ".gz"}


def folders() -> set[str]:
    """Every folder of the package that holds a file of it."""
    files = (path for path in PACKAGE.rglob("*") if path.suffix in ENDINGS)
    return {path.parent.relative_to(PACKAGE).as_posix() for path in files} - {"."}


def named(page: str) -> list[str]:
    """The paths in the package to which a page links."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"\]\(\.\./tinygrad_kr/([^)#]*)\)", text)


@pytest.fixture(scope="module")
def house() -> Iterator[Any]:
    sys.path.insert(0, str(ROOT / "docs"))
    import house

    yield house
    sys.path.remove(str(ROOT / "docs"))


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_is_named_exists(page: str) -> None:
    missing = [path for path in named(page) if not (PACKAGE / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_no_folder_of_the_package_is_missing(page: str) -> None:
    assert folders() <= set(named(page))


@pytest.mark.parametrize("page", PAGES)
def test_links_show_the_path_to_which_they_lead(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\[([^\]]*\.(?:py|h|c)|[^\]]*/)\]\(([^)]*)\)", text)
    assert len(links) > 40
    for shown, target in links:
        assert target.endswith(shown.rstrip("/"))


def test_the_picture_shows_what_there_is(house: Any) -> None:
    rooms = [room for _, floor in house.FLOORS for room in floor] + house.YARD
    paths = [path for room in rooms for path in room.paths]
    assert len(paths) == len(set(paths))
    missing = [path for path in paths if not (PACKAGE / path).exists()]
    assert not missing
    shown = {path.rstrip("/") for path in paths}
    assert {folder.split("/")[0] for folder in folders()} <= {p.split("/")[0] for p in shown}
    files = {path.name for path in PACKAGE.glob("[!_]*.py")}
    assert files <= shown


def test_the_picture_is_what_is_drawn(house: Any, tmp_path: Path) -> None:
    house.draw(tmp_path / "house.svg")
    drawn = (tmp_path / "house.svg").read_text(encoding="utf-8")
    assert house.PICTURE.read_text(encoding="utf-8") == drawn, "run: python docs/house.py"
    words = " ".join(ElementTree.fromstring(drawn).itertext()).split()
    assert {path for _, floor in house.FLOORS for room in floor for path in room.paths} <= {*words}


def test_the_minutes_add_up() -> None:
    text = (ROOT / PAGES[0]).read_text(encoding="utf-8")
    minutes = [int(found) for found in re.findall(r"^## .*\((\d+) minutes\)$", text, re.M)]
    assert sum(minutes) == 4.5 * 60
    assert "four and a half hours" in text
