"""A file of manifests: its documents' values, where each field stands, and edits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .compose import LimitError, Limits, build
from .edit import splices
from .nodes import Mapping, Node, Sequence, merged, resolved
from .patch import PatchError, apply, parse_pointer, same
from .read_json import looks_like_json, read_json
from .render import Style
from .splice import EditError, Splice, spliced
from .text import ManifestError, Position, Text

if TYPE_CHECKING:
    import collections.abc

    from .patch import Operation


class Document:
    """One document of a file.

    `index` counts from 0 among the file's documents. `value` is JSON-like data as kubectl reads
    it, aliases and merges resolved; it is not to be changed in place.
    """

    def __init__(self, index: int, value: Any, root: Node, text: Text) -> None:
        self.index = index
        self.value = value
        self.root = root
        self._text = text

    def locate(self, pointer: str) -> Position:
        """Where the key or item that a JSON Pointer names is written.

        Of a field that is absent, its nearest ancestor; of one that an alias or a merge brings,
        the place it comes from.
        """
        offset, _ = self._find(pointer)
        return self._text.position(offset)

    def span(self, pointer: str) -> tuple[int, int]:
        """The offsets at which the value that a JSON Pointer names, or its ancestor, is written."""
        node = resolved(self._find(pointer)[1])
        return node.start, node.end

    def _find(self, pointer: str) -> tuple[int, Node]:
        node = self.root
        offset = node.outer
        try:
            tokens = parse_pointer(pointer)
        except ValueError:
            tokens = []
        for token in tokens:
            found = _child(resolved(node), token)
            if found is None:
                break
            offset, node = found
        return offset, node


def _child(node: Node, token: str) -> tuple[int, Node] | None:
    """The offset and node that a pointer's token names."""
    if isinstance(node, Sequence):
        index = int(token) if token.isdecimal() and len(token) < 10 else len(node.items)
        return (node.items[index].outer, node.items[index]) if index < len(node.items) else None
    if not isinstance(node, Mapping):
        return None
    for entry in reversed(node.entries):  # what is written last counts
        if entry.name == token:
            return entry.key.outer, entry.value
        if entry.name is None:
            for source in reversed(merged(entry.value)):
                if found := _child(source, token):
                    return found
    return None


class Manifest:
    """One file's documents."""

    def __init__(self, name: str, data: bytes, text: Text, roots: list[Node], json: bool) -> None:
        self.name = name
        self._data = data
        self._text = text
        self._json = json
        limits = Limits(text)
        self.documents = [
            Document(index, build(root, text, limits), root, text)
            for index, root in enumerate(roots)
        ]

    @classmethod
    def parse(cls, data: bytes, *, name: str) -> Manifest:
        """Read YAML or JSON, in UTF-8 or, with a byte order mark, UTF-16.

        `name` only tells by its ending whether JSON was meant. Raises ManifestError for anything
        that kubectl would refuse, and for files beyond the limits of `text` and `compose`.
        """
        text = Text.decode(data)
        if not looks_like_json(text):
            return cls(name, data, text, _read_yaml(text), json=False)
        try:
            roots = read_json(text)
        except ManifestError as error:
            if name.endswith(".json") or isinstance(error, LimitError):
                raise
            return cls(name, data, text, _read_yaml(text), json=False)
        return cls(name, data, text, roots, json=True)

    def lines(self, hidden: collections.abc.Iterable[tuple[int, int]] = ()) -> Text:
        """The file's lines, unreadable at spans of offsets."""
        return self._text.veiled(hidden)

    def edit(
        self, patches: collections.abc.Mapping[int, collections.abc.Sequence[Operation]]
    ) -> bytes:
        """The file with JSON Patch operations applied to documents by index.

        Only the lines that must change do. The result is read again and compared with the patched
        values; ManifestError, at the first patched field, when they differ: nothing is returned
        that does not read exactly as asked.
        """
        wanted = [document.value for document in self.documents]
        changes: list[Splice] = []
        for index, operations in sorted(patches.items()):
            if not 0 <= index < len(self.documents):
                raise ManifestError(1, 1, f"there is no document {index} to edit")
            document = self.documents[index]
            try:
                wanted[index] = apply(document.value, operations)
                style = Style.of(self._text, document.root, self._json)
                changes += splices(self._text, document.root, style, document.value, wanted[index])
            except PatchError as error:
                raise _at(document, error.pointer, error.message) from None
            except EditError:
                raise self._by_hand(patches, index) from None
        if not changes:
            return self._data
        try:
            data = self._text.encode(spliced(self._text.content, changes))
            edited = Manifest.parse(data, name=self.name)
            if self._json and not edited._json:
                raise EditError
        except (EditError, ManifestError):
            raise self._by_hand(patches, min(patches)) from None
        written = [document.value for document in edited.documents]
        for index, value in enumerate(wanted):
            if len(written) != len(wanted) or not same(written[index], value):
                raise self._by_hand(patches, index)
        return data

    def _by_hand(
        self,
        patches: collections.abc.Mapping[int, collections.abc.Sequence[Operation]],
        index: int,
    ) -> ManifestError:
        operations = patches.get(index) or next(filter(None, patches.values()))
        pointer = str(operations[0]["path"])
        return _at(
            self.documents[index],
            pointer,
            f"{pointer} cannot be changed here without touching more: edit it by hand",
        )


def _at(document: Document, pointer: str, message: str) -> ManifestError:
    position = document.locate(pointer)
    return ManifestError(position.line, position.column, message)


def _read_yaml(text: Text) -> list[Node]:
    from .read_yaml import read_yaml  # noqa: PLC0415 - PyYAML takes longer to load than all else

    return read_yaml(text)
