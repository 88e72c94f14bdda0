"""Files to read: named, found in folders, or standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from batten_webhooks.cli import CannotRun
from batten_webhooks.manifests import Document, Manifest, ManifestError
from batten_webhooks.manifests.text import LARGEST_FILE
from batten_webhooks.patch import Operation
from batten_webhooks.workload import Kind, Malformed, Workload, read_objects

SUFFIXES = (".yaml", ".yml", ".json")
PASSED_OVER = frozenset(("node_modules", "__pycache__"))
STDIN = "<stdin>"
NO_OBJECT = "holds no Kubernetes object (apiVersion and kind)"
MANY = 50


@dataclass(frozen=True, slots=True)
class Source:
    """One file to read. `named` is False for what was found in a folder."""

    path: str
    named: bool

    @property
    def shown(self) -> str:
        """The path as it can be printed, whatever bytes its name is made of."""
        text = os.fsencode(self.path).decode(errors="backslashreplace")
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)

    def is_text_of_another_kind(self, data: bytes) -> bool:
        """Such as a Dockerfile: what is wrong with it as YAML is nobody's business."""
        named = self.path == STDIN or self.path.lower().endswith(SUFFIXES)
        return not named and b"apiVersion" not in data


class Unusable(Exception):
    """A file that cannot be read or understood; the message is a line with the place in it."""

    def __init__(self, source: Source, message: str, line: int = 0, column: int = 0) -> None:
        self.source, self.message, self.line, self.column = source, message, line, column
        place = f"{source.shown}:{line}:{column}" if line else source.shown
        super().__init__(f"{place}: {message}")


class Unrelated(Exception):
    """A file without any Kubernetes object."""


@dataclass(frozen=True, slots=True)
class Subject:
    """One workload in a file; `pointer` is its object's place in the document's value."""

    document: Document
    pointer: str
    workload: Workload


class Place(NamedTuple):
    """Where an image is named: `pointer` is from the Pod's root, `path` from the document's; the
    container is "" for a volume of the Pod's."""

    subject: Subject
    pointer: str
    container: str
    text: str

    @property
    def path(self) -> str:
        return self.subject.pointer + self.subject.workload.prefix + self.pointer


def images(found: Iterable[Subject]) -> list[Place]:
    """Every image that the workloads name."""
    return [
        Place(subject, pointer, container, text)
        for subject in found
        for pointer, container, text in subject.workload.images
        if isinstance(text, str) and text
    ]


@contextmanager
def required(source: Source) -> Iterator[None]:
    """What cannot be used of this file ends the command. Raises CannotRun."""
    try:
        yield
    except Unrelated as error:
        raise CannotRun(f"{source.shown}: {error}") from None
    except Unusable as error:
        raise CannotRun(str(error)) from None


def sources(paths: Sequence[str]) -> list[Source]:
    """The files of `paths`, each once, those of folders in order of their names."""
    found: dict[str, Source] = {}
    for path in paths:
        if path == "-":
            found.setdefault(STDIN, Source(STDIN, named=True))
        elif os.path.isdir(path):
            for inner in _walk(path):
                short = inner.removeprefix("./")
                found.setdefault(short, Source(short, named=False))
        else:
            found[path.removeprefix("./")] = Source(path, named=True)
    return list(found.values())


def _walk(folder: str) -> Iterator[str]:
    """Links to folders are not followed; a folder that cannot be listed comes as a file."""
    closed: list[str] = []
    for place, folders, names in os.walk(folder, onerror=lambda e: closed.append(e.filename)):
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and name not in PASSED_OVER
        )
        for name in sorted(names):
            path = os.path.join(place, name)
            if name.lower().endswith(SUFFIXES) and os.path.isfile(path):
                yield path
    yield from closed


def read(source: Source) -> bytes:
    """Raises Unusable. No more than a byte too many is read of a file that is too large."""
    try:
        if source.path == STDIN:
            data = sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            data = read_file(source.path)
    except OSError as error:
        raise Unusable(source, reason(error)) from None
    if len(data) > LARGEST_FILE:
        raise Unusable(source, f"has more than {LARGEST_FILE >> 20} MiB: split it")
    return data


def read_argument(option: str, name: str) -> bytes:
    """The file that an option names. Raises CannotRun."""
    try:
        return read_file(name)
    except (OSError, ValueError) as error:
        raise CannotRun(f"{option} {name}: {reason(error)}") from None


def reason(error: OSError | ValueError) -> str:
    """Why a file could not be read."""
    return (getattr(error, "strerror", "") or "cannot be read").lower()


def read_file(path: str) -> bytes:
    """A file, or what a pipe such as `<(helm template .)` brings. Raises OSError.

    A pipe that nobody writes to is empty: opened in the usual way it would be waited for.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        os.set_blocking(descriptor, True)
        return file.read(LARGEST_FILE + 1)


def parse(source: Source, data: bytes) -> Manifest:
    """Raises Unusable, or Unrelated where no document is a Kubernetes object."""
    try:
        manifest = Manifest.parse(data, name=source.shown)
    except ManifestError as error:
        if source.is_text_of_another_kind(data):
            raise Unrelated(NO_OBJECT) from None
        raise Unusable(source, error.message, error.line, error.column) from None
    if not any(_is_object(document.value) for document in manifest.documents):
        raise Unrelated(NO_OBJECT)
    return manifest


def edit(source: Source, manifest: Manifest, patches: Mapping[int, list[Operation]]) -> bytes:
    """The file with the patches of its documents, by their index, applied. Raises Unusable."""
    try:
        return manifest.edit(patches)
    except ManifestError as error:
        raise Unusable(source, error.message, error.line, error.column) from None


def _is_object(value: object) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("apiVersion"), str)
        and isinstance(value.get("kind"), str)
    )


def subjects(
    source: Source, manifest: Manifest, paths: Mapping[Kind, tuple[str, ...]]
) -> list[Subject]:
    """The workloads of a file. Raises Unusable where one is not shaped as its kind."""
    found = []
    for document in manifest.documents:
        if not _is_object(document.value):
            continue
        try:
            for pointer, workload in read_objects(document.value, paths):
                found.append(Subject(document, pointer, workload))
        except Malformed as error:
            place = document.locate(error.pointer)
            raise Unusable(source, str(error), place.line, place.column) from None
    return found


class Progress:
    """A counter on stderr for many files, where somebody watches."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._shown = total > MANY and sys.stderr.isatty()

    def step(self, done: int) -> None:
        if self._shown and done % 10 == 0:
            print(f"\r{done} of {self._total} files", end="", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        self.end()
        print(line, file=sys.stderr)

    def end(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
