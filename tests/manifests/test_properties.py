"""Whatever the bytes and the patch: exact, or a ManifestError."""

from __future__ import annotations

from typing import Any

import jsonpatch
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from batten_webhooks.manifests import Manifest, ManifestError, read_yaml
from batten_webhooks.manifests.patch import same

FRAGMENTS = [
    *"ab1 \n\t:{}[]'\"#|\\~=@`", "  ", "\r\n", ": ", "- ", "? ", ", ", " # c", ">-\n", "|+\n", "on",
    "&a ", "*a", "<<: *a", "!!str ", "!!int ", "! ", "%YAML 1.1\n", "---\n", "...", '"\\ud83d"',
    "\ufeff", "\x85", "\u2028", "\x00", "\x07", "é", "😀", "{{ .Values.x }}",
]  # fmt: skip
STREAMS = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(lambda parts: "".join(parts).encode()),
    st.lists(st.sampled_from(FRAGMENTS), max_size=9).map(
        lambda parts: "".join(parts).encode("utf-16")
    ),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.sampled_from([0.5, 1e-7])
    | st.text(max_size=6) | st.sampled_from(["on", "22:22", "a: b", "# x", "- a", "{{ x }}"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["k", "n", "on", "a b", "x/y", "1"]), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
SCALARS = ["", "~", "x", "1", "'s s'", '"d d"', "true", "a:b", "é", "{}", "[]", "!!str 5",
           "{f: 1, g: [x, y]}", "[1, {f: 'q'}, []]", "[\n@1, # c\n@2 # d\n@]", "p\n@q", '"p\n@q"',
           "|\n@lit", "|-\n@lit\n@more", ">+\n@lit\n\n@more", "|\n@lit\n"]  # fmt: skip


@st.composite
def blocks(draw: st.DrawFn, column: int, depth: int, anchors: list[str]) -> list[str]:
    """Lines of a block mapping or list at the column; the first without its indentation."""
    mapping = draw(st.booleans())
    lines: list[str] = []
    for index in range(draw(st.integers(1, 3))):
        if lines:
            between = ["# zero", " " * column + "# own", " " * (column + 3) + "# deep", "", "   "]
            lines += draw(st.lists(st.sampled_from(between), max_size=1))
        head = draw(st.sampled_from([f"k{index}:", f'"q {index}":', f"? e{index}\n@:"]))
        entry = draw(entries(head if mapping else "-", column, depth, anchors))
        entry[0] = entry[0].replace("@", " " * column)
        lines += [(" " * column if lines else "") + entry[0], *entry[1:]]
    return "\n".join(lines).split("\n")


@st.composite
def entries(draw: st.DrawFn, head: str, column: int, depth: int, anchors: list[str]) -> list[str]:
    comment = draw(st.sampled_from(["", "", "  # t", "   "]))
    anchor = ""
    kind = draw(st.sampled_from(["scalar", "block", "block", "alias", "merge"]))
    if kind == "merge" and anchors and head != "-":
        return [f"<<: *{draw(st.sampled_from(anchors))}{comment}"]
    if kind == "alias" and anchors:
        return [f"{head} *{draw(st.sampled_from(anchors))}{comment}"]
    if kind != "block" or not depth:
        value = draw(st.sampled_from(SCALARS)).replace("@", " " * (column + 3))
        comment = "" if "\n" in value else comment
        return [head + (f" {value}" if value else "") + comment]
    step = draw(st.sampled_from([2, 2, 4]))
    inner = draw(blocks(column + step, depth - 1, anchors))
    if head == "-" and draw(st.booleans()):
        return [head + " " * (step - 1) + inner[0], *inner[1:]]
    if draw(st.integers(0, 3)) == 0:
        anchors.append(f"A{len(anchors)}")
        anchor = f" &{anchors[-1]}"
    return [head + anchor + comment, " " * (column + step) + inner[0], *inner[1:]]


@st.composite
def documents(draw: st.DrawFn) -> str:
    text = "\n".join(draw(blocks(0, 3, [])))
    text = draw(st.sampled_from(["", "# first\n", "--- # x\n"])) + text
    text += draw(st.sampled_from(["\n", "\n", "", "\n# end\n", "\n...\n", "\n---\nother: 1\n"]))
    return text.replace("\n", "\r\n") if draw(st.integers(0, 4)) == 0 else text


def places(value: Any, pointer: str = "") -> list[tuple[str, Any]]:
    found = [(pointer, value)]
    inner = value.items() if isinstance(value, dict) else ()
    for key, item in enumerate(value) if isinstance(value, list) else inner:
        token = str(key).replace("~", "~0").replace("/", "~1")
        found += places(item, f"{pointer}/{token}")
    return found


def draw_patch(data: st.DataObject, value: Any) -> list[dict[str, Any]]:
    operations = []
    for _ in range(data.draw(st.integers(1, 4))):
        pointer, at = data.draw(st.sampled_from(places(value)))
        new = data.draw(VALUES)
        name = data.draw(st.sampled_from(["add", "add", "replace", "remove"]))
        if name == "add" and isinstance(at, list):
            pointer += data.draw(st.sampled_from(["/-", "/0", f"/{len(at)}"]))
        elif name == "add" and isinstance(at, dict):
            pointer += data.draw(st.sampled_from(["/new", "/k0", "/on", "/a b"]))
        elif not pointer or name == "add":
            continue
        operation = {"op": name, "path": pointer, "value": new}
        value = jsonpatch.apply_patch(value, [operation])
        operations.append(operation)
    return operations


@pytest.fixture(params=["libyaml", "pure"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "pure":
        monkeypatch.setattr(read_yaml, "EventLoader", yaml.SafeLoader)


@pytest.mark.usefixtures("reader")
class TestProperties:
    @given(data=STREAMS, name=st.sampled_from(["a.yaml", "a.json"]))
    def test_any_bytes_are_read_or_refused(self, data: bytes, name: str) -> None:
        try:
            manifest = Manifest.parse(data, name=name)
        except ManifestError:
            return
        assert manifest.edit({}) == data
        for document in manifest.documents:
            for pointer, _ in places(document.value):
                assert document.locate(pointer).line >= 1

    @given(data=STREAMS, value=VALUES)
    def test_any_bytes_are_edited_exactly_or_refused(self, data: bytes, value: Any) -> None:
        try:
            manifest = Manifest.parse(data, name="a.yaml")
            operation = {"op": "add", "path": "/new", "value": value}
            edited = manifest.edit({0: [operation]})
        except ManifestError:
            return
        (first, *rest) = Manifest.parse(edited, name="a.yaml").documents
        assert first.value["new"] == value
        assert [one.value for one in rest] == [one.value for one in manifest.documents[1:]]

    @given(text=documents(), data=st.data())
    def test_edits_read_as_jsonpatch_has_them(self, text: str, data: st.DataObject) -> None:
        try:
            manifest = Manifest.parse(text.encode(), name="a.yaml")
        except ManifestError:
            assume(False)
        value = manifest.documents[0].value
        operations = draw_patch(data, value)
        try:
            edited = manifest.edit({0: operations})
        except ManifestError:
            return
        again = Manifest.parse(edited, name="a.yaml")
        assert same(again.documents[0].value, jsonpatch.apply_patch(value, operations))
        assert edited == manifest.edit({0: operations})
        if same(again.documents[0].value, value):
            assert edited.decode() == text

    @given(text=documents(), value=VALUES)
    def test_a_new_key_adds_lines_only(self, text: str, value: Any) -> None:
        try:
            manifest = Manifest.parse(text.encode(), name="a.yaml")
            assume(isinstance(manifest.documents[0].value, dict) and text.endswith("\n"))
            edited = manifest.edit({0: [{"op": "add", "path": "/new", "value": value}]}).decode()
        except ManifestError:
            assume(False)
        rest = iter(edited.splitlines())
        for line in text.splitlines():
            assert any(line == other for other in rest)
