"""Scalars, against values that sigs.k8s.io/yaml v1.6.0 (go.yaml.in/yaml v2.4.2) gave."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.manifests import Manifest, ManifestError
from batten_webhooks.manifests.scalars import write_json_string, write_string

BOOLEANS = {
    **dict.fromkeys(
        ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"], True
    ),
    **dict.fromkeys(
        ["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"], False
    ),
}
NUMBERS = {
    "0": 0, "-0": 0, "00": 0, "+1": 1, "1_000": 1000, "0_7": 7,
    "0777": 511, "0o777": 511, "0O17": 15, "0888": 888, "08": 8,
    "0x1F": 31, "+0x1F": 31, "0b101": 5, "-0b11": -3, "0b-1": -1,
    "9223372036854775807": 2**63 - 1,
    "18446744073709551615": 2**64 - 1,
    "18446744073709551616": 1.8446744073709552e19,
    "-9223372036854775808": -(2**63),
    "0777777777777777777777777": 7.777777777777778e23,
    "1e3": 1000, "1E3": 1000, "1.0": 1, "1.": 1, "-0.0": 0, "1e-3": 0.001,
    ".5": 0.5, "-.5": -0.5, ".5_0": 0.5, "5_0.5": 50.5, "1e-999": 0, "1e21": 1e21,
}  # fmt: skip
STRINGS = [
    "yEs",
    "tRue",
    "nULL",
    "22:22",
    "1:2:3",
    "190:20:30.15",
    "2001-12-14",
    "2001-12-14t21:59:43.10-05:00",
    "1e999",
    "0o8",
    "0xG",
    "0b2",
    "=",
    "<<",
    "_1",
    ".e5",
    ".",
    "..",
    "1,000",
    "1e",
    "0x",
    "100m",
    "1Gi",
    "1.2.3",
    "10%",
    "0xFFFFFFFFFFFFFFFFF",
]
KEYS = {
    "on": "true", "0x10": "16", "1.0": "1", "1e3": "1000", "1e6": "1e+06", "0.1": "0.1",
    "1234567.0": "1.234567e+06", "0.00001": "1e-05", "3.14159265358979": "3.1415927",
    ".inf": ".inf", "1e39": ".inf",
    "2001-12-14": "2001-12-14", "'on'": "on",
}  # fmt: skip
TAGGED = {
    "!!str 5": "5",
    "!!int '5'": 5,
    "!!float 5": 5,
    "!!bool 'yes'": True,
    "!!null ''": None,
    "!!binary aGVsbG8=": "hello",
    "!!timestamp 2001-01-01": "2001-01-01",
    "!own 5": "5",
    "! 5": "5",
}


def read(text: str) -> Any:
    (document,) = Manifest.parse(text.encode(), name="manifest.yaml").documents
    return document.value


@pytest.mark.parametrize(("text", "value"), [*BOOLEANS.items(), *NUMBERS.items()])
def test_resolves_as_kubectl(text: str, value: bool | float) -> None:
    found = read(f"a: {text}\n")["a"]
    assert (found, isinstance(found, bool)) == (value, isinstance(value, bool))
    assert read(f"a: '{text}'\n") == {"a": text}


@pytest.mark.parametrize("text", STRINGS)
def test_stays_a_string(text: str) -> None:
    assert read(f"a: {text}\n") == {"a": text}


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_null(text: str) -> None:
    assert read(f"a: {text}\n") == {"a": None}


@pytest.mark.parametrize(("text", "key"), KEYS.items())
def test_keys_become_strings(text: str, key: str) -> None:
    assert read(f"{text}: x\n") == {key: "x"}


@pytest.mark.parametrize(("text", "value"), TAGGED.items())
def test_tags(text: str, value: Any) -> None:
    assert read(f"a: {text}\n") == {"a": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: .nan", "1:4: infinity and NaN are not JSON: quote it if a string is meant"),
        ("a: -.inf", "1:4: infinity and NaN are not JSON: quote it if a string is meant"),
        ("a: !!int x", "1:4: cannot read `x` as !!int"),
        ("a: !!binary '*'", "1:4: a !!binary value must be base64"),
        ("~: x", "1:1: this cannot be a key: quote it if a string is meant"),
        ("18446744073709551615: x", "1:1: this cannot be a key: quote it if a string is meant"),
        ("[a]: x", "1:1: a mapping's key must be a string, not a list or mapping"),
    ],
)
def test_refused_as_by_kubectl(text: str, message: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read(text)
    assert str(caught.value) == message


def test_merges_in_go_yamls_order() -> None:
    base = "one: &one {a: 1, b: 1}\ntwo: &two {a: 2}\n"
    assert read(base + "x:\n  <<: *one\n  a: 3\n")["x"] == {"a": 3, "b": 1}
    assert read(base + "x:\n  a: 3\n  <<: *one\n")["x"] == {"a": 1, "b": 1}
    assert read(base + "x:\n  <<: [*two, *one]\n")["x"] == {"a": 2, "b": 1}
    assert read("'<<': 1\n") == {"<<": 1}


@pytest.mark.parametrize(
    "text",
    [
        "nginx:1.27",
        "/var/run",
        "64Mi",
        "--flag=a,b",
        "-c",
        "a b",
        "$(VAR)",
        "app.kubernetes.io/name",
    ],
)
def test_plain_where_possible(text: str) -> None:
    assert write_string(text) == text


@pytest.mark.parametrize(
    "text",
    [*BOOLEANS, *NUMBERS, "", "~", "null", "22:22", "2001-12-14", "=", "<<", "a: b", "a #b", "- a",
     "\n", "---", "...", "?", "*a", "&a", "!a", "{a", "[a", "@a", "`a", "%a",
     "a:", " a", "a ", "é"],
)  # fmt: skip
def test_quoted_where_needed(text: str) -> None:
    assert write_string(text) == json.dumps(text, ensure_ascii=False)


texts = st.one_of(
    st.text(), st.from_regex(r"[-+.0-9a-fxo_:eE'\"# \[\]{},&*!|>%@`~?=<]{1,12}", fullmatch=True)
)


@given(text=texts, flow=st.booleans(), like=st.sampled_from(["", "'", '"']))
def test_every_reader_reads_the_same_string(text: str, flow: bool, like: str) -> None:
    written = write_string(text, flow=flow, like=like)
    line = f"[{written}, {{{written}: x}}]" if flow else f"- {written}\n- {written}: x"
    assert read(line) == [text, {text: "x"}]
    if "\x00" not in text and len(text) < 100:
        assert yaml.safe_load(line) == [text, {text: "x"}]
    assert json.loads(write_json_string(text)) == text
