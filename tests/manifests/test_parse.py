"""What is read, where it stands, and what is refused in which words."""

from __future__ import annotations

import codecs

import pytest
import yaml

from batten_webhooks.manifests import Manifest, ManifestError, Position, read_yaml
from batten_webhooks.manifests.compose import DEEPEST

POD = """\
# a Pod
apiVersion: v1
kind: Pod
spec:
  securityContext: &sc {runAsUser: 1}
  containers:
  - name: a
    securityContext: *sc
    env:
      - {name: X, value: "1"}
    resources:
      <<: {limits: {cpu: 1}}
---
"a/b~c": [x,
  y]
"""


def read(text: str) -> Manifest:
    return Manifest.parse(text.encode(), name="manifest.yaml")


def refusal(data: bytes | str, name: str = "manifest.yaml") -> str:
    with pytest.raises(ManifestError) as caught:
        Manifest.parse(data.encode() if isinstance(data, str) else data, name=name)
    assert str(caught.value) == f"{caught.value.line}:{caught.value.column}: {caught.value.message}"
    return str(caught.value)


@pytest.mark.parametrize(
    ("index", "pointer", "position"),
    [
        (0, "", (2, 1)),
        (0, "/kind", (3, 1)),
        (0, "/spec/containers", (6, 3)),
        (0, "/spec/containers/0", (7, 5)),
        (0, "/spec/containers/0/name", (7, 5)),
        (0, "/spec/containers/0/securityContext", (8, 5)),
        (0, "/spec/containers/0/securityContext/runAsUser", (5, 25)),
        (0, "/spec/containers/0/securityContext/runAsGroup", (8, 5)),
        (0, "/spec/containers/0/env/0/value", (10, 19)),
        (0, "/spec/containers/0/resources/limits/cpu", (12, 21)),
        (0, "/spec/containers/1/name", (6, 3)),
        (0, "/spec/containers/-", (6, 3)),
        (0, "/metadata/name", (2, 1)),
        (0, "no pointer", (2, 1)),
        (1, "/a~1b~0c/1", (15, 3)),
    ],
)
def test_locates_keys_and_items(index: int, pointer: str, position: tuple[int, int]) -> None:
    assert read(POD).documents[index].locate(pointer) == Position(*position)


def test_source_lines() -> None:
    lines = read("a: 1\r\nb: 2").lines()
    assert [lines.line(number) for number in range(4)] == ["", "a: 1", "b: 2", ""]


@pytest.mark.parametrize(
    ("text", "pointers", "expected"),
    [
        ("a: 1\r\nb: xyz # c", ["/b"], "a: 1\r\nb: *** # c"),
        ("{a: x, b: 'y z', c: w}", ["/c", "/b"], "{a: x, b: *****, c: *}"),
        ("a: |\n  x\n  y\nb: 1", ["/a"], "a: *\n***\n***\nb: 1"),
        ("a: &p x\nb: *p", ["/b"], "a: &p *\nb: *p"),
        ("a: [x, y]", ["/a/0", "/a"], "a: ******"),
        ("a: 1", [], "a: 1"),
    ],
)
def test_hidden_values(text: str, pointers: list[str], expected: str) -> None:
    manifest = read(text)
    spans = [manifest.documents[0].span(pointer) for pointer in pointers]
    assert manifest.lines(spans).content == expected


def test_aliases_are_copies() -> None:
    value = read("a: &a {x: 1}\nb: *a\n").documents[0].value
    value["a"]["x"] = 2
    assert value["b"] == {"x": 1}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", []),
        ("# only a comment\n", []),
        ("---\n# nothing\n---\na: 1\n...\n---\n", [None, {"a": 1}, None]),
        ("%YAML 1.1\n---\na: 1\n", [{"a": 1}]),
        ('{"a": 1}{"b": "\\ud83d\\ude00"}\n[2]', [{"a": 1}, {"b": "😀"}, [2]]),
        ('{\t"a":\n\t[]}', [{"a": []}]),
        ('{"a": "\\ud800"}', [{"a": "\ufffd"}]),
        ("{a: [b: 1], # c\n}", [{"a": [{"b": 1}]}]),
    ],
)
def test_documents(text: str, values: list[object]) -> None:
    assert [document.value for document in read(text).documents] == values


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
def test_byte_order_marks_survive(encoding: str) -> None:
    data = "\ufeffa: é\n".encode(encoding)
    edited = Manifest.parse(data, name="x").edit({0: [{"op": "add", "path": "/b", "value": "ü"}]})
    assert edited == '\ufeffa: é\nb: "ü"\n'.encode(encoding)


TOO_LARGE = "the file has more than 16 MiB: split it"
REFUSALS = {
    "a: 1\nb: 2\na: 3\n": '3:1: duplicate key "a", first on line 1: remove one of the two',
    "1: a\n'1': b\n": """2:1: duplicate key "1", first on line 1: remove one of the two""",
    "a:\n\tb: 1\n": "2:1: a tab where YAML takes spaces only: replace it by spaces",
    "a: 'x\nb: 1\n": "1:4: this quote is never closed",
    "a: [1\nb: 2\n": "2:2: not valid YAML: did not find expected ',' or ']'"
    " (while parsing a flow sequence on line 1)",
    "a: 1\n---\nb: c: d\n": "3:5: not valid YAML: mapping values are not allowed in this context",
    "a: @x": "1:4: a plain value cannot begin with `@`: quote it",
    "- *.example.com": "1:3: a plain value cannot begin with `*` or `&`: quote it",
    "a: *b": "1:4: alias *b has no anchor &b before it",
    "&a [*a]": "1:5: anchor &a contains itself",
    "a: &a [x]\nb:\n  <<: *a\n": "3:7: a merge (`<<`) takes a mapping or a list of mappings",
    "a: \x07": "1:4: control character U+0007 is not allowed here",
    '{"a": 1, "a": 2}': '1:10: duplicate key "a", first on line 1: remove one of the two',
}
TEMPLATES = {
    "name: {{ .Values.name }}\n": 7,
    "a: [{{ x }}]\n": 5,
    "{{- if .Values.x }}\na: 1\n{{- end }}\n": 1,
    "a: {{ .x }}-{{ .y }}\n": 4,
    'a: {{ include "x" . | quote }}\n': 4,
}


@pytest.mark.parametrize(("text", "message"), REFUSALS.items())
def test_refuses(text: str, message: str) -> None:
    assert refusal(text) == message


@pytest.mark.parametrize("text", TEMPLATES)
def test_tells_helm_templates(text: str) -> None:
    assert refusal(text).endswith(
        "looks like a Helm template: render it first, e.g. `helm template . | batten …`"
    )


def test_templates_in_strings_are_none() -> None:
    text = "# {{ .Values.x }}\na: '{{ $labels.pod }}'\n"
    assert read(text).documents[0].value == {"a": "{{ $labels.pod }}"}
    assert "Helm" not in refusal(text + "b: [1\nc: 2\n")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a: 1\nb: \xff\n", "2:4: not UTF-8 text: save the file as UTF-8"),
        (b"\x7fELF\0\0", "1:5: binary data (a NUL byte), not a manifest"),
        (b"\x7fELF\0\xff", "1:6: binary data, not a manifest"),
        (codecs.BOM_UTF16_LE + b"a\0\0\xd8", "1:2: not UTF-16-LE text: save the file as UTF-8"),
        (b"a" * (50 * 2**20), f"1:1: {TOO_LARGE}"),
    ],
)  # fmt: skip
def test_refuses_what_is_no_text(data: bytes, message: str) -> None:
    assert refusal(data) == message


def test_json_is_judged_as_json_by_its_name() -> None:
    assert refusal('{"a": 1,}', "a.json") == (
        "1:9: not valid JSON: a comma before the closing bracket"
    )
    assert read('{"a": 1,}').documents[0].value == {"a": 1}
    assert refusal('{"a": 1e999}', "a.json") == "1:7: the number is too large"


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        "[" * 10_000 + "]" * 10_000,
        '{"a":' * 10_000,
        "".join(" " * depth + "a:\n" for depth in range(1_000)),
        "- " * 1_000,
        "? " * 1_000,
    ],
    ids=["open", "closed", "objects", "mappings", "dashes", "keys"],
)
def test_refuses_deep_nesting_early(text: str) -> None:
    assert f"nested deeper than {DEEPEST} levels" in refusal(text)


def test_refuses_alias_bombs() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "with all aliases expanded" in refusal("\n".join(lines))


def test_refuses_more_values_than_memory_is_for() -> None:
    assert "split the file" in refusal("[" + "1," * 3_000_000 + "1]")


@pytest.mark.parametrize("pure", [False, True], ids=["libyaml", "pure"])
def test_reads_the_same_with_and_without_libyaml(
    pure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pure and not yaml.__with_libyaml__:
        pytest.skip("PyYAML is here without libyaml")
    if pure:
        monkeypatch.setattr(read_yaml, "EventLoader", yaml.SafeLoader)
    manifest = read(POD + "---\na: |\n  x\n\n# c\n")
    edited = manifest.edit(
        {
            0: [{"op": "add", "path": "/spec/containers/0/env/-", "value": {"name": "Y"}}],
            2: [{"op": "add", "path": "/b", "value": 1}],
        }
    )
    assert (
        edited.decode()
        == POD.replace('"1"}\n', '"1"}\n      - name: "Y"\n') + "---\na: |\n  x\nb: 1\n\n# c\n"
    )
