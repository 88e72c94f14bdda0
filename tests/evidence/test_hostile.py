"""Whatever a reader is given, it answers soon, in little memory, a Document or Unreadable."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from batten_mutation import broken
from batten_strategies import json_values
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.evidence.model import (
    MOST_BYTES,
    MOST_VULNERABILITIES,
    Document,
    ScanEvidence,
    Unreadable,
)
from batten_webhooks.evidence.readers import read, read_predicate, read_report
from batten_webhooks.evidence.readers.common import MOST_COMMAS, MOST_CONTAINERS, MOST_DIGESTS

FIXTURES = {
    path.stem: path.read_bytes() for path in (Path(__file__).parent / "fixtures").glob("*.json")
}
names = st.sampled_from(sorted(FIXTURES))
PREDICATES = (
    "https://cosign.sigstore.dev/attestation/vuln/v1",
    "https://in-toto.io/attestation/vulns/v0.1",
    "https://in-toto.io/attestation/vulns/v0.2",
    "https://openvex.dev/ns/v0.2.0",
    "https://cyclonedx.org/bom",
    "https://slsa.dev/provenance/v1",
)
DIGEST = "sha256:" + "a" * 64


def assert_bounded(document: Document) -> None:
    """What goes into messages is short and printable, and what is kept of it is not much."""
    assert len(document.digests) <= 2 * MOST_DIGESTS
    assert len(document.statements) <= MOST_VULNERABILITIES
    for statement in document.statements:
        words = (*statement.names, *statement.products, statement.package, statement.installed)
        for word in (*words, statement.justification):
            assert word.isprintable()
            assert len(word) <= 300
    if isinstance(document, ScanEvidence):
        assert len(document.vulnerabilities) <= MOST_VULNERABILITIES
        for found in document.vulnerabilities:
            words = (found.id, found.package, found.installed, found.fixed_in, *found.aliases)
            assert all(word.isprintable() and len(word) <= 200 for word in words)
            assert found.id


def attempt(function: Callable[..., Document], *arguments: Any) -> None:
    why = ""
    try:
        assert_bounded(function(*arguments))
    except Unreadable as error:
        why = str(error)
    assert why.isprintable()
    assert len(why) <= 500


def changes(value: Any, number: int) -> Any:
    """The value with up to three things in it broken."""
    random = Random(number)  # noqa: S311
    for _ in range(random.randint(1, 3)):
        value = broken(random, value)
    return value


@given(name=names, number=st.integers(0, 2**32))
def test_a_broken_document_is_read_or_is_unreadable(name: str, number: int) -> None:
    value = changes(json.loads(FIXTURES[name]), number)
    attempt(read, json.dumps(value).encode())
    attempt(read_report, value)
    predicate = value.get("predicate", value) if isinstance(value, dict) else value
    for kind in PREDICATES:
        attempt(read_predicate, kind, predicate, frozenset((DIGEST,)))


@given(name=names, data=st.data())
def test_any_part_may_be_anything(name: str, data: st.DataObject) -> None:
    """Each place in a document with each kind of value, found by going down at random."""
    value = json.loads(FIXTURES[name])
    root: Any = {"": value}
    parent, key = root, ""
    while isinstance(inner := parent[key], dict | list) and inner and data.draw(st.booleans()):
        keys = list(inner) if isinstance(inner, dict) else range(len(inner))
        parent, key = inner, data.draw(st.sampled_from(keys))
    odd = st.sampled_from((10**400, -1, 1e308, "\0", "a" * 10_000))
    parent[key] = data.draw(json_values | odd)
    attempt(read, json.dumps(root[""]).encode())


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        read(data)


@given(name=names, at=st.floats(0, 1, exclude_max=True), junk=st.binary(max_size=8))
def test_a_document_that_is_cut_or_damaged(name: str, at: float, junk: bytes) -> None:
    data = FIXTURES[name].rstrip()
    place = int(len(data) * at)
    with pytest.raises(Unreadable):
        read(data[:place])
    attempt(read, data[:place] + junk + data[place + len(junk) :])


class Strange:
    """What no decoder of JSON makes."""


@pytest.mark.parametrize(
    "value",
    [
        None,
        "text",
        10**5000,
        float("nan"),
        float("inf"),
        "\ud800",
        {1: 2},
        {(1, 2): 3},
        {"scanner": Strange},
        {"scanner": Strange()},
        {"apiVersion": "aquasecurity.github.io/v1\ud800", "kind": "VulnerabilityReport"},
    ],
    ids=range(11),
)
def test_values_that_no_json_gives(value: Any) -> None:
    attempt(read_report, value)
    for kind in PREDICATES:
        attempt(read_predicate, kind, value, frozenset((DIGEST, "\ud800", "")))


def test_a_value_nested_without_end() -> None:
    value: list[Any] = []
    value.append(value)
    for read_it in (read_report, lambda it: read_predicate(PREDICATES[0], it, frozenset())):
        with pytest.raises(Unreadable, match="nested too deeply"):
            read_it({"scanner": value})


SCAN = '{"SchemaVersion":2,"ArtifactType":"container_image","Results":[{"Class":"os-pkgs"%s}]}'


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "truncated"),
        (b"null", "got `null`"),
        (b"[]", "got `array`"),
        (b"{}", "is in no format"),
        (b'{"SchemaVersion": NaN}', "malformed"),
        (b'{"runs": Infinity}', "malformed"),
        (b'{"runs": \xff}', "malformed"),
        (b'{"runs": [], "\xed\xa0\x80": 1}', "."),
        ('{"runs": []}'.encode("utf-16"), "malformed"),
        (SCAN.encode() % b', "Class": "\\ud800"', "."),
        (SCAN.encode() % b', "Class": "\xff"', "codec"),
        (b'{"runs":' + b"[" * 200_000, "nested too deeply"),
        (b'{"SchemaVersion":2,"x":' + b'{"a":' * 100_000, "nested too deeply"),
        (b'{"matches":' + b"[" * 100_000 + b"]" * 100_000 + b',"descriptor":{}}', "too deeply"),
        (b'{"runs":[' + b"{}," * MOST_CONTAINERS + b"{}]}", "objects and lists"),
        (b'{"runs":[' + b"0," * (MOST_COMMAS + 1) + b"0]}", "800,000 values"),
        (b" " * MOST_BYTES + b" ", "more than 10 MiB"),
    ],
    ids=range(17),
)
def test_traps(data: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read(data)


def test_of_equal_keys_the_last_counts_everywhere() -> None:
    """A document means the same to all parts of a reader."""
    twice = SCAN % ',"Class":"secret"'
    with pytest.raises(Unreadable, match="looked into no package"):
        read(twice.encode())
    results = ',"Vulnerabilities":[],"Vulnerabilities":[{"VulnerabilityID":"CVE-1"}]'
    document = read((SCAN % results).encode())
    assert isinstance(document, ScanEvidence)
    assert [found.id for found in document.vulnerabilities] == ["CVE-1"]


@pytest.mark.parametrize("more", [0, 1])
def test_the_most_vulnerabilities(more: int) -> None:
    names = (
        f'{{"VulnerabilityID":"CVE-{number}"}}' for number in range(MOST_VULNERABILITIES + more)
    )
    data = (SCAN % f',"Vulnerabilities":[{",".join(names)}]').encode()
    if more:
        with pytest.raises(Unreadable, match="more than 20,000 vulnerabilities"):
            read(data)
    else:
        document = read(data)
        assert isinstance(document, ScanEvidence)
        assert len(document.vulnerabilities) == MOST_VULNERABILITIES


@dataclass(frozen=True)
class Heavy:
    """A document of at most `count` equal items. Where an item has a place for it, each has a
    number of its own."""

    start: str
    item: str
    end: str
    count: int = 1

    def data(self) -> bytes:
        numbered = "%" in self.item
        size = len((self.item % 999_999 if numbered else self.item).encode()) + 1
        most = (MOST_BYTES - len(self.start) - len(self.end)) // size
        numbers = range(min(self.count, most))
        items = (self.item % number if numbered else self.item for number in numbers)
        return f"{self.start}{','.join(items)}{self.end}".encode()


CONTAINERS, COMMAS = MOST_CONTAINERS - 10, MOST_COMMAS - 10
FOUND = (SCAN % ',"Vulnerabilities":[|]').split("|")
IMAGE = (SCAN % "")[:-1] + ',"Metadata":{"RepoDigests":['
SBOM = '{"bomFormat":"CycloneDX","components":[{}],"vulnerabilities":['
COMPONENTS = '{"bomFormat":"CycloneDX","vulnerabilities":[{"id":"CVE-1"}],"components":'
VEX = '{"@context":"https://openvex.dev/ns","statements":['
SAID = VEX + '{"status":"fixed","vulnerability":{"name":"a","aliases":['
RUN = '{"runs":[{"properties":{"imageID":"' + DIGEST + '"},"tool":{"driver":{"rules":['
LONG = MOST_BYTES - 1_000
HEAVY = {
    "most findings": Heavy(
        FOUND[0],
        '{"VulnerabilityID":"CVE-%d","PkgName":"' + "é" * 200 + '"}',
        FOUND[1],
        MOST_VULNERABILITIES,
    ),
    "more findings": Heavy(FOUND[0], "{}", FOUND[1], CONTAINERS),
    "results": Heavy('{"SchemaVersion":2,"Results":[', '{"Class":"os-pkgs"}', "]}", CONTAINERS),
    "names": Heavy(IMAGE, '"a"', "]}}", COMMAS),
    "digests": Heavy(IMAGE, '"@sha256:%064x"', "]}}", COMMAS),
    "a text": Heavy(FOUND[0], f'{{"Severity":"{"😀" * (LONG // 4)}"}}', FOUND[1]),
    "an escaped text": Heavy(FOUND[0], '{"PkgName":"' + r"\u0007" * (LONG // 6) + '"}', FOUND[1]),
    "a number": Heavy('{"runs":', "1" * LONG, "}"),
    "keys": Heavy('{"SchemaVersion":2,', '"k%d":1', "}", COMMAS),
    "lists in lists": Heavy('{"SchemaVersion":2,"x":', "[" * CONTAINERS, "}"),
    "components": Heavy(COMPONENTS + "[", '{"bom-ref":"r%d","name":"n"}', "]}", CONTAINERS),
    "components in components": Heavy(COMPONENTS, '[{"components":' * (CONTAINERS // 2), "}"),
    "components in 200 components": Heavy(
        COMPONENTS + "[",
        '{"components":[' * 100 + "]}" * 100,
        "]}",
        MOST_CONTAINERS // 201,
    ),
    "affected": Heavy(SBOM + '{"id":"CVE-1","affects":[', '{"ref":"%d"}', "]}]}", CONTAINERS),
    "recommendations": Heavy(
        SBOM,
        '{"id":"%d","recommendation":"Upgrade' + " to version " * 30 + '"}',
        "]}",
        MOST_VULNERABILITIES,
    ),
    "statements": Heavy(
        VEX,
        '{"vulnerability":{"name":"%d","aliases":["a","b","c"]},"status":"fixed","products":'
        '[{"@id":"pkg:oci/a@sha256:' + "a" * 64 + '","subcomponents":["pkg:npm/a@1"]}]}',
        "]}",
        MOST_VULNERABILITIES,
    ),
    "aliases": Heavy(SAID, '"%d"', "]}}]}", COMMAS),
    "products": Heavy(SAID + ']},"products":[', "{}", "]}]}", CONTAINERS),
    "rules": Heavy(RUN, '{"id":"%d"}', ']}},"results":[{"ruleId":"1"}]}]}', CONTAINERS),
    "messages": Heavy(
        RUN + ']}},"results":[',
        '{"ruleId":"%d","message":{"text":"' + r"Package: a\n" * 35 + '"}}',
        "]}]}",
        MOST_VULNERABILITIES,
    ),
    "a message": Heavy(
        RUN + ']}},"results":[', f'{{"message":{{"text":"{"Package: " * (LONG // 9)}"}}}}', "]}]}"
    ),
    "matches": Heavy(
        '{"descriptor":{},"source":{"target":{}},"matches":[',
        '{"vulnerability":{"id":"%d","fix":{"versions":["1","2","3"]}},"artifact":{"purl":'
        '"pkg:maven/' + "a/" * 150 + '"},"relatedVulnerabilities":[{"id":"a"},{"id":"b"}]}',
        "]}",
        MOST_VULNERABILITIES,
    ),
    "subjects": Heavy(
        '{"predicateType":"https://openvex.dev/ns","predicate":' + VEX + ']},"subject":[',
        '{"digest":{"sha256":"%064x"}}',
        "]}",
        COMMAS,
    ),
    "a score": Heavy(
        '{"predicateType":"https://in-toto.io/attestation/vulns/v0.2","subject":[],"predicate":'
        '{"scanner":{"result":[{"severity":',
        f'{{"score":"{"1" * LONG}"}}',
        "}]}}}",
    ),
}
# SIGPROF ends the process after a second of CPU, and a mebibyte too many is a MemoryError.
LIMITED = """
import resource, signal, sys
from batten_webhooks.evidence.readers import Unreadable, read
data = sys.stdin.buffer.read()
lines = open("/proc/self/status").read().splitlines()
used = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))
resource.setrlimit(resource.RLIMIT_DATA, (used + 200 * 2**20, resource.RLIM_INFINITY))
signal.setitimer(signal.ITIMER_PROF, 1.0)
try:
    read(data)
except Unreadable:
    pass
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits what a process has as data")
@pytest.mark.parametrize("name", HEAVY)
def test_the_heaviest_documents_within_a_second_and_200_mebibytes(name: str) -> None:
    data = HEAVY[name].data()
    assert len(data) <= MOST_BYTES
    command = [sys.executable, "-c", LIMITED]
    done = subprocess.run(command, input=data, capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")
