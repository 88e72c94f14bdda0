"""A hook of MkDocs: the pages of docs/ as they are, in a site whose links all lead somewhere.

The README is the first page. What pages link to outside docs/ (tests, sources, the chart, whole
folders) becomes a page below `source/`, so that a link is right here and where the repository is
read alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import relpath
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
LINK = re.compile(r"(?<=\]\()\s*([^)#\s:]+)(#[^)\s]*)?\s*(?=\))")
LANGUAGES = {".go": "go", ".json": "json", ".py": "python", ".toml": "toml", ".yaml": "yaml"}
# Code is not what is looked for here.
UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"


def on_config(config: MkDocsConfig) -> None:
    """A folder in the nav stands for all of its pages, its README first."""
    config.nav = _opened(config.nav)


def _opened(entry: Any) -> Any:
    if isinstance(entry, list):
        return [_opened(each) for each in entry]
    if isinstance(entry, dict):
        return {title: _opened(each) for title, each in entry.items()}
    if not entry.endswith("/"):
        return entry
    pages = sorted((DOCS / entry).glob("*.md"), key=lambda page: (page.name != "README.md", page))
    return [uri(page) for page in pages]


def on_files(files: Files, config: MkDocsConfig) -> None:
    in_nav = set(_leaves(config.nav))
    for path in _outside():
        found = File.generated(config, uri(path), content=_text(path))
        if found.src_uri not in in_nav:
            found.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(found)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links are written from where the page's file stands; in the site some stand elsewhere."""
    del config, files
    origin = ORIGINS.get(page.file.src_uri, DOCS / page.file.src_uri)
    here = PurePosixPath(page.file.src_uri).parent

    def moved(link: re.Match[str]) -> str:
        target = (origin.parent / link[1]).resolve()
        if not target.exists():
            return link[0]  # MkDocs tells of it
        return relpath(uri(target), here) + (link[2] or "")

    return LINK.sub(moved, markdown)


def uri(path: Path) -> str:
    """Where a file or folder of the repository stands in the site."""
    if path == README:
        return "index.md"
    if _in_docs(path):
        return path.relative_to(DOCS).as_posix()
    place = f"source/{path.relative_to(ROOT).as_posix()}"
    return place if path.suffix == ".md" else f"{place}.md"


def _in_docs(path: Path) -> bool:
    """As MkDocs has it: files are copied to the site, folders are not."""
    return path.is_relative_to(DOCS) and path.is_file()


def _outside() -> Iterator[Path]:
    """What is no file of docs/, and is linked to from one or from another of these."""
    waiting, seen = [README, *DOCS.rglob("*.md")], set()
    while waiting:
        page = waiting.pop()
        if not _in_docs(page):
            yield page
        if page.suffix != ".md":
            continue
        for target, _ in LINK.findall(page.read_text()):
            path = (page.parent / target).resolve()
            new = path.exists() and path not in seen and not _in_docs(path)
            if new and path != README:
                seen.add(path)
                waiting.append(path)


def _text(path: Path) -> str:
    """A page's own text, a file as code, a folder as what is in it."""
    if path.suffix == ".md":
        return path.read_text()
    title = f"{UNSEARCHED}# {path.relative_to(ROOT).as_posix()}\n\n"
    if path.is_file():
        return title + _code(path)
    inside = sorted(each for each in path.iterdir() if each.name[0] not in "._")
    return title + "\n".join(f"## {each.name}\n\n{_code(each)}" for each in inside)


def _code(path: Path) -> str:
    if path.is_dir():
        return "A folder.\n"
    fence = "`" * 6  # longer than any that is in the file
    return f"{fence} {LANGUAGES.get(path.suffix, 'text')}\n{path.read_text()}\n{fence}\n"


def _leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for each in nav.values() if isinstance(nav, dict) else nav:
            yield from _leaves(each)


ORIGINS = {uri(path): path for path in _outside()}
