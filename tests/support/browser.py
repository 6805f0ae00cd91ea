"""Chromium without a screen, for pages that are opened from disk."""

from __future__ import annotations

import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

# No GPU, no /dev/shm of its own, and nothing that could be reached by a name.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--enable-logging=stderr",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


class Element(NamedTuple):
    tag: str
    attributes: dict[str, str]


class Page(HTMLParser):
    """A document as it is once its scripts have run; ``console``: what it wrote there, errors too."""

    def __init__(self, dom: str, console: list[str]) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.console = console
        self.text = ""
        self._silent = False
        self.feed(dom)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data

    def all(self, tag: str, kind: str = "") -> list[dict[str, str]]:
        """The attributes of the elements of a name, and of a class where one is given."""
        found = [e.attributes for e in self.elements if e.tag == tag]
        return [a for a in found if not kind or kind in a.get("class", "").split()]


def open_page(path: Path, folder: Path, fragment: str = "") -> Page:
    """``folder``: for the browser's own files."""
    home = folder / "browser"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        ["chromium", *OPTIONS, f"--user-data-dir={home}", "--dump-dom", f"{path.as_uri()}{fragment}"],
        capture_output=True,
        timeout=120,
        check=True,
        env={"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
    )
    lines = done.stderr.decode("utf-8", "replace").splitlines()
    return Page(done.stdout.decode(), [line for line in lines if "CONSOLE" in line])
