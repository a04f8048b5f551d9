"""Check the built site: each link leads to a file and a part of it, no page loads from elsewhere.

python docs/site_links.py out/site
"""

from __future__ import annotations

import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {"img", "script", "link", "source", "iframe", "video", "audio"}
"""Elements whose address a browser loads by itself."""


class Page(HTMLParser):
    """The links of a page, those that are loaded by themselves, and the names of its parts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.parts: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """HTMLParser's call for each element."""
        values = {name: value for name, value in attrs if value is not None}
        self.parts |= {values[name] for name in ("id", "name") if name in values}
        address = values.get("href", values.get("src"))
        is_pointer = tag == "link" and values.get("rel") in (
            "alternate",
            "canonical",
            "prev",
            "next",
        )
        if address is not None:
            (self.loaded if tag in LOADED and not is_pointer else self.links).append(address)


@cache
def read(path: Path) -> Page:
    """A page of the site, read once."""
    return Page(path.read_text(encoding="utf-8"))


def fault(page: Path, address: str, is_loaded: bool, site: Path) -> str | None:
    """What is wrong with an address on a page; None for nothing."""
    scheme, host, path, _, part = urlsplit(address)
    if scheme in ("mailto", "data"):
        return None
    if scheme or host:
        return "loaded from another server" if is_loaded else None
    start = site if path.startswith("/") else page.parent
    target = (start / unquote(path).lstrip("/")).resolve() if path else page
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        return "no such file"
    if part and target.suffix == ".html" and unquote(part) not in read(target).parts:
        return "no such part"
    return None


def faults(site: Path) -> list[str]:
    """A line for each link of the site that leads nowhere."""
    found = []
    for page in sorted(site.resolve().rglob("*.html")):
        parsed = read(page)
        links = [(a, False) for a in parsed.links] + [(a, True) for a in parsed.loaded]
        for address, is_loaded in dict.fromkeys(links):
            if wrong := fault(page, address, is_loaded, site):
                found.append(f"{page.relative_to(site.resolve())}: {address}: {wrong}")
    return found


def main(site: Path) -> int:
    """Print the faults; 1 if there are any, or no pages."""
    found = faults(site)
    count = len(list(site.rglob("*.html")))
    print("\n".join([*found, f"{count} pages, {len(found)} wrong links"]))
    return int(bool(found) or not count)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
