"""`batten evidence from`: scanners' files as ImageScans, and as predicates to attest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from batten_command import Ran, batten, batten_inside
from batten_corpus import ROOT
from batten_evidence import (
    CRITICAL,
    LOW,
    ago,
    configuration,
    grype,
    openvex,
    trivy,
    trivy_of,
    written,
)
from batten_registry import Pushed, Registry, registry
from msgspec.structs import replace

from batten_webhooks.evidence.model import ScanEvidence, Unreadable
from batten_webhooks.evidence.readers import read, read_predicate
from batten_webhooks.resources import read_image_scan
from batten_webhooks.resources.image_scan import MOST_VULNERABILITIES

FIXTURES = ROOT / "tests" / "evidence" / "fixtures"
IMAGE = "registry.example/shop/app:1.4"
INDEX, CONFIG, MANIFEST = (f"sha256:{letter * 64}" for letter in "bca")
BOTH: dict[str, Any] = {
    "config": CONFIG,
    "repository_digests": (f"registry.example/shop/app@{INDEX}",),
}


def make(folder: Path, *arguments: str, stdin: bytes = b"") -> Ran:
    return batten_inside("evidence", "from", *arguments, cwd=folder, stdin=stdin)


def scan_of(ran: Ran) -> Any:
    assert ran.code == 0, ran.err
    return yaml.safe_load(ran.out)


def evidence_of(ran: Ran) -> ScanEvidence:
    evidence = read_image_scan(scan_of(ran)).evidence
    assert evidence is not None
    return evidence


def vulnerabilities(evidence: ScanEvidence) -> set[tuple[str, str, str, str]]:
    return {(e.id, e.severity, e.package, e.fix) for e in evidence.vulnerabilities}


# --- ImageScans ---------------------------------------------------------------------------------


def test_an_image_scan_says_what_trivy_does(tmp_path: Path) -> None:
    value = trivy(IMAGE, CRITICAL, LOW, **BOTH)
    ran = make(tmp_path, written(tmp_path, "trivy.json", value))
    scan = scan_of(ran)
    assert scan["metadata"]["name"] == CONFIG.replace(":", "-")
    assert scan["spec"]["image"] == IMAGE
    original = read(json.dumps(value).encode())
    evidence = evidence_of(ran)
    assert isinstance(original, ScanEvidence)
    assert evidence.digests == original.digests == {INDEX, CONFIG}
    assert (evidence.scanner, evidence.scanned) == ("Trivy", original.scanned)
    assert evidence.vulnerabilities == original.vulnerabilities
    assert make(tmp_path, "trivy.json").out == ran.out


def test_it_reads_standard_input_and_grype(tmp_path: Path) -> None:
    data = json.dumps(grype(IMAGE, MANIFEST, CONFIG)).encode()
    ran = make(tmp_path, "-", stdin=b"\xef\xbb\xbf" + data)
    assert scan_of(ran)["spec"]["digests"] == [MANIFEST, CONFIG]
    assert vulnerabilities(evidence_of(ran)) == {("CVE-2026-1000", "CRITICAL", "openssl", "fixed")}


def test_digests_that_the_scan_does_not_name_are_said(tmp_path: Path) -> None:
    file = written(tmp_path, "trivy.json", trivy("app.tar", LOW))
    ran = make(tmp_path, file)
    assert ran.code == 2
    assert ran.err == (
        "batten: trivy.json: names no digest, so that nobody knows of which image it is: say it, as"
        " --image NAME@sha256:… or --digest sha256:…, or ask its registry with --look-up\n"
    )
    by_image = scan_of(make(tmp_path, file, "--image", f"registry.example/app@{INDEX}"))
    assert by_image["spec"]["digests"] == [INDEX]
    given = ("--image", IMAGE, "--digest", MANIFEST, "--digest", CONFIG)
    by_digest = scan_of(make(tmp_path, file, *given, "--name", "app"))
    assert by_digest["spec"]["digests"] == [MANIFEST, CONFIG]
    assert by_digest["metadata"]["name"] == "app"
    named = scan_of(make(tmp_path, file, *given))
    assert named["metadata"]["name"] == MANIFEST.replace(":", "-")


def test_a_time_that_cannot_be_written_down_is_none(tmp_path: Path) -> None:
    report = trivy(IMAGE, CRITICAL, **BOTH)
    found = report["Results"][0]["Vulnerabilities"][0]
    found["PublishedDate"] = "9999-12-31T23:59:59-23:59"
    evidence = evidence_of(make(tmp_path, written(tmp_path, "trivy.json", report)))
    assert [each.published for each in evidence.vulnerabilities] == [0.0]


@pytest.mark.parametrize(
    ("products", "lifted"),
    [((), True), ((f"pkg:oci/app@{INDEX.replace(':', '%3A')}",), True), ((MANIFEST,), False)],
    ids=["of whatever it comes with", "of this image", "of another image"],
)
def test_vex_is_merged_where_it_is_of_this_image(
    tmp_path: Path, products: tuple[str, ...], lifted: bool
) -> None:
    files = (
        written(tmp_path, "trivy.json", trivy(IMAGE, CRITICAL, **BOTH)),
        written(tmp_path, "vex.json", openvex(*products)),
    )
    for given in (files, files[::-1]):
        evidence = evidence_of(make(tmp_path, *given))
        said = [(each.names, each.status) for each in evidence.statements]
        assert said == ([(frozenset((CRITICAL[0],)), "not_affected")] if lifted else [])


def test_vex_on_what_was_not_found_is_left_out(tmp_path: Path) -> None:
    scan = written(tmp_path, "trivy.json", trivy(IMAGE, LOW, **BOTH))
    vex = written(tmp_path, "vex.json", openvex())
    assert evidence_of(make(tmp_path, scan, vex)).statements == ()


def test_more_than_an_object_of_the_api_holds_is_refused_with_the_way_out(tmp_path: Path) -> None:
    found = [(f"CVE-2026-{n}", "LOW", "zlib", "1.3", "") for n in range(MOST_VULNERABILITIES + 1)]
    file = written(tmp_path, "trivy.json", trivy(IMAGE, *found, **BOTH))
    ran = make(tmp_path, file)
    assert ran.code == 2
    assert ran.err == (
        "batten: trivy.json: has 5,001 vulnerabilities, and an ImageScan holds 5,000: scan with"
        " fewer severities, as trivy image --severity HIGH,CRITICAL, or attest it with --format"
        " attestation\n"
    )
    assert make(tmp_path, file, "--format", "attestation").code == 0


UNTIMED = trivy(IMAGE, LOW, **BOTH) | {"CreatedAt": ""}
SCAN = trivy(IMAGE, LOW, **BOTH)
SEALED = {"payloadType": "application/vnd.in-toto+json", "payload": "", "signatures": []}


@pytest.mark.parametrize(
    ("value", "arguments", "complaint"),
    [
        (SCAN, ("absent.json",), "absent.json: no such file or directory"),
        (SCAN, ("a.json", "."), ".: is a directory"),
        (SCAN, ("a.json", "--image", "A/B"), "--image A/B: has capitals where only small letters"),
        (SCAN, ("a.json", "--digest", "sha256:1"), "'sha256:1' is no digest: it is of the form"),
        (SCAN, ("a.json", "--name", "A B"), "a.json: makes no ImageScan: metadata.name"),
        (SCAN, ("a.json", "b.json"), "a.json and b.json: are scans, and one at a time"),
        (UNTIMED, ("a.json",), "a.json: does not say when it was made"),
        ({"a": 1}, ("a.json",), "a.json: is in no format that Batten understands, which are: "),
        (SEALED, ("a.json",), "a.json: is a signed envelope"),
        (openvex(), ("a.json",), "a.json: is VEX, which says what is true of a scan"),
    ],
)
def test_what_cannot_be_used_is_told_in_a_line(
    tmp_path: Path, value: dict[str, Any], arguments: tuple[str, ...], complaint: str
) -> None:
    written(tmp_path, "a.json", value)
    written(tmp_path, "b.json", value)
    ran = make(tmp_path, *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.err
    assert ran.err.count("\n") == 1


def test_an_unreadable_file_is_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{" * 100)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("a.json", "deep.json"):
        assert make(tmp_path, name).code == 2


# --- attestations -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (trivy(IMAGE, CRITICAL, LOW, **BOTH), "https://cosign.sigstore.dev/attestation/vuln/v1"),
        (grype(IMAGE, MANIFEST, CONFIG), "https://cosign.sigstore.dev/attestation/vuln/v1"),
    ],
    ids=["trivy", "grype"],
)
def test_a_predicate_is_read_back_as_the_scan_that_it_holds(
    tmp_path: Path, value: dict[str, Any], kind: str
) -> None:
    ran = make(tmp_path, written(tmp_path, "a.json", value), "--format", "attestation")
    assert ran.code == 0
    assert ran.err == "batten: for cosign attest --type vuln\n"
    found = read_predicate(kind, json.loads(ran.out), frozenset())
    original = read(json.dumps(value).encode())
    assert isinstance(found, ScanEvidence)
    assert isinstance(original, ScanEvidence)
    assert vulnerabilities(found) == vulnerabilities(original)
    assert (found.scanned, found.scanner) == (original.scanned, original.scanner)


def test_other_formats_become_in_totos_predicate(tmp_path: Path) -> None:
    report = {
        "apiVersion": "aquasecurity.github.io/v1alpha1",
        "kind": "VulnerabilityReport",
        "report": {
            "updateTimestamp": ago(),
            "scanner": {"name": "Trivy", "version": "0.68.2"},
            "vulnerabilities": [
                {"vulnerabilityID": "CVE-2026-1000", "resource": "openssl", "severity": "CRITICAL"}
            ],
        },
    }
    ran = make(tmp_path, written(tmp_path, "a.json", report), "--format", "attestation")
    kind = "https://in-toto.io/attestation/vulns/v0.2"
    assert ran.err == f"batten: for cosign attest --type {kind}\n"
    found = read_predicate(kind, json.loads(ran.out), frozenset((INDEX,)))
    assert isinstance(found, ScanEvidence)
    assert [(each.id, each.severity) for each in found.vulnerabilities] == [
        ("CVE-2026-1000", "CRITICAL")
    ]
    original = read(json.dumps(report).encode())
    assert isinstance(original, ScanEvidence)
    assert replace(found, vulnerabilities=()).scanned == original.scanned
    assert (found.scanner, found.version) == ("Trivy", "0.68.2")
    assert found.digests == {INDEX}


def test_vex_is_attested_by_itself(tmp_path: Path) -> None:
    files = (written(tmp_path, "a.json", SCAN), written(tmp_path, "vex.json", openvex()))
    ran = make(tmp_path, *files, "--format", "attestation")
    assert ran.code == 2
    assert "cosign attest --type openvex --predicate FILE" in ran.err


# --- what scanners themselves wrote -------------------------------------------------------------


def _scans() -> dict[str, ScanEvidence]:
    found: dict[str, ScanEvidence] = {}
    for file in sorted(FIXTURES.glob("*.json")):
        try:
            document = read(file.read_bytes())
        except Unreadable:
            continue
        if isinstance(document, ScanEvidence) and document.scanned:
            found[file.name] = document
    return found


SCANS = _scans()


def test_there_are_scans_of_several_scanners() -> None:
    assert {"trivy.index.json", "grype.index.json", "cosign-vuln.trivy.json"} <= set(SCANS)


@pytest.mark.parametrize("name", SCANS)
def test_an_image_scan_says_all_that_was_read(tmp_path: Path, name: str) -> None:
    original = SCANS[name]
    given = () if original.digests else ("--digest", MANIFEST)
    evidence = evidence_of(make(tmp_path, str(FIXTURES / name), "--image", IMAGE, *given))
    # Times of the API are whole seconds.
    assert set(evidence.vulnerabilities) == {
        replace(each, published=float(int(each.published))) for each in original.vulnerabilities
    }
    assert set(evidence.statements) == {
        replace(each, time=float(int(each.time))) for each in original.statements
    }
    assert evidence.digests == (original.digests or {MANIFEST})
    assert evidence.scanned == int(original.scanned)
    assert evidence.end_of_life == original.end_of_life


@pytest.mark.parametrize("name", SCANS)
def test_a_predicate_says_what_was_read(tmp_path: Path, name: str) -> None:
    original = SCANS[name]
    ran = make(tmp_path, str(FIXTURES / name), "--format", "attestation")
    kind = ran.err.split()[-1]
    whole = kind == "vuln"
    kind = "https://cosign.sigstore.dev/attestation/vuln/v1" if whole else kind
    found = read_predicate(kind, json.loads(ran.out), frozenset())
    assert isinstance(found, ScanEvidence)
    assert abs(found.scanned - original.scanned) < 1
    if whole:
        assert found.vulnerabilities == original.vulnerabilities
        assert found.statements == original.statements
    else:
        worst = {(each.id, each.severity) for each in found.vulnerabilities}
        assert worst <= {(each.id, each.severity) for each in original.vulnerabilities}
        assert {name for name, _ in worst} == {each.id for each in original.vulnerabilities}


# --- registries ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def pushed(served: Registry) -> Pushed:
    return served.push("shop/app", "1.4", platforms=("amd64", "arm64"), User="1000")


def look_up(served: Registry, folder: Path, *arguments: str) -> Ran:
    local = (f"--local-registry={served.host}", f"--plain-http={served.host}")
    return batten("evidence", "from", "--look-up", *arguments, *local, cwd=folder)


def test_registries_tell_the_digests_of_the_platform_that_was_scanned(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    value = trivy_of(served, "shop/app:1.4", pushed, LOW, architecture="arm64")
    scan = scan_of(look_up(served, tmp_path, written(tmp_path, "trivy.json", value)))
    manifest = pushed.platforms["arm64"]
    config = configuration(served, "shop/app", manifest)
    assert set(scan["spec"]["digests"]) == {pushed.digest, manifest, config}
    assert scan["spec"]["platform"] == "linux/arm64"
    assert scan["metadata"]["name"] == manifest.replace(":", "-")


def test_one_of_several_platforms_has_to_be_said(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    image = f"{served.host}/shop/app:1.4"
    indexed = trivy(image, LOW, repository_digests=(f"{served.host}/shop/app@{pushed.digest}",))
    ran = look_up(served, tmp_path, written(tmp_path, "trivy.json", indexed))
    assert ran.code == 2
    told = "names the index alone, and not which of linux/amd64, linux/arm64 was scanned"
    assert f"trivy.json: {told}: say with --digest which platform was scanned" in ran.err
    manifest = pushed.platforms["amd64"]
    assert f"linux/amd64 is {manifest}" in ran.err
    said = scan_of(look_up(served, tmp_path, "trivy.json", "--digest", manifest))
    assert said["spec"]["platform"] == "linux/amd64"


def test_a_scan_of_another_image_is_refused(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    foreign = trivy(f"{served.host}/shop/app:1.4", LOW, **BOTH)
    ran = look_up(served, tmp_path, written(tmp_path, "trivy.json", foreign))
    assert ran.code == 2
    assert "trivy.json: is of another image: it names none of its digests" in ran.err


def test_an_image_that_is_not_there_is_told(served: Registry, tmp_path: Path) -> None:
    value = trivy(f"{served.host}/shop/none:1", LOW, **BOTH)
    ran = look_up(served, tmp_path, written(tmp_path, "trivy.json", value))
    assert ran.code == 2
    assert f"image {served.host}/shop/none:1: there is no such tag" in ran.err
