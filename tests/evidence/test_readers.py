"""What each tool's output means. Beside a fixture `NAME.json` there is `NAME.txt`, what is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batten_webhooks.evidence.model import (
    Document,
    NotEvidence,
    ScanEvidence,
    Statement,
    Unreadable,
    Vex,
    Vulnerability,
)
from batten_webhooks.evidence.readers import READERS, read, read_predicate, read_report
from batten_webhooks.evidence.readers.common import digests, moment, severity_of_score, text
from batten_webhooks.evidence.readers.purl import PackageURL, package_url

FIXTURES = Path(__file__).parent / "fixtures"
# Of the image that README.md tells of.
NAMES = {
    "sha256:9e4a9be690ca94fc949312fe7de1d13b6f586c6dbfef10a21c45202ff6812c8d": "index",
    "sha256:c8e3956c2185a703de777a805b9c8dc2bce41acc9e4c4f0c9a34c913f70a76f7": "platform",
    "sha256:a886176e3eaa146c77d5130039d329440c885befff8bde667e363c712181517d": "config",
}
INDEX, PLATFORM, CONFIG = NAMES
VULN = "https://cosign.sigstore.dev/attestation/vuln/v1"
VEX = "https://openvex.dev/ns"
Json = dict[str, Any]


def brief(document: Document) -> str:
    """A line for the whole, and one for each vulnerability and statement."""
    of = f"of {_images(document.digests)}"
    if isinstance(document, Vex):
        return "\n".join([f"VEX {of}", *map(_statement, document.statements)]) + "\n"
    head = [document.scanner, document.version, _day(document.scanned), of]
    head += [f"database {_day(document.database)}"] if document.database else []
    head += ["end of life"] if document.end_of_life else []
    lines = [*map(_vulnerability, document.vulnerabilities), *map(_statement, document.statements)]
    return "\n".join([" ".join(filter(None, head)), *lines]) + "\n"


def _vulnerability(found: Vulnerability) -> str:
    words = [found.id, found.severity, f"{found.package}@{found.installed}", found.fix]
    words += [found.fixed_in, _day(found.published) if found.published else "", *found.aliases]
    return "  " + " ".join(filter(None, words))


def _statement(statement: Statement) -> str:
    words = [*sorted(statement.names), f"is {statement.status}", _day(statement.time)]
    if statement.package:
        words += ["in", f"{statement.package}@{statement.installed or '*'}"]
    words += [f"of {_images(statement.products)}"] if statement.products else []
    return "  " + " ".join(filter(None, [*words, statement.justification]))


def _images(names: frozenset[str]) -> str:
    return " ".join(sorted(NAMES.get(name, name) for name in names)) or "nothing"


def _day(time: float) -> str:
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%M}" if time else "undated"


def load(name: str) -> Json:
    value: Json = json.loads((FIXTURES / f"{name}.json").read_bytes())
    return value


def said(value: object) -> str:
    """What is read of a value, or why it is not."""
    try:
        return brief(read(json.dumps(value).encode()))
    except Unreadable as error:
        return f"{type(error).__name__}: {error}\n"


@pytest.mark.parametrize("name", sorted(path.stem for path in FIXTURES.glob("*.json")))
def test_each_tool_s_output_is_read(name: str) -> None:
    data = (FIXTURES / f"{name}.json").read_bytes()
    try:
        result = brief(read(data))
    except Unreadable as error:
        result = f"{type(error).__name__}: {error}\n"
    assert result == (FIXTURES / f"{name}.txt").read_text()


def test_each_reader_has_a_fixture() -> None:
    assert len(READERS) == 8
    read_by = {
        reader.format
        for path in FIXTURES.glob("*.json")
        for reader in READERS
        if reader.keys <= load(path.stem).keys()
    }
    assert read_by == {reader.format for reader in READERS}


def trivy(*results: Json, **more: Any) -> Json:
    found = results or ({"Class": "os-pkgs"},)
    return {"SchemaVersion": 2, "ArtifactType": "container_image", "Results": found, **more}


def finding(name: str, package: str = "openssl", severity: str = "HIGH", **more: Any) -> Json:
    return {
        "VulnerabilityID": name,
        "PkgName": package,
        "InstalledVersion": "1",
        "Severity": severity,
        **more,
    }


def found(*findings: Json, aside: tuple[Json, ...] = ()) -> list[str]:
    """The lines for a scan of Trivy's, without the first."""
    modified = [{"Status": "not_affected", "Finding": one} for one in aside]
    result = {"Vulnerabilities": findings, "ExperimentalModifiedFindings": modified}
    return said(trivy({"Class": "os-pkgs", **result})).splitlines()[1:]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Results": None}, "looked into no package"),
        ({"Results": []}, "looked into no package"),
        ({"Results": [{"Class": "secret", "Secrets": [{"RuleID": "aws"}]}]}, "into no package"),
        ({"ArtifactType": "filesystem"}, "scan of a filesystem, not of an image"),
        ({"Results": {}}, r"Expected `array \| null`, got `object` - at `\$.Results`"),
        ({"Results": [{"Vulnerabilities": [{"Severity": 3}]}]}, "Expected `str`, got `int`"),
    ],
)
def test_what_trivy_did_not_look_for_is_not_absent(changes: Json, why: str) -> None:
    with pytest.raises(Unreadable, match=why):
        read(json.dumps(trivy() | changes).encode())


def test_of_one_package_the_worst_is_kept() -> None:
    lines = found(
        finding("CVE-1", severity="LOW"),
        finding("cve-1", severity="CRITICAL", FixedVersion="2"),
        finding("CVE-1", severity="CRITICAL"),
        finding("CVE-1", "zlib"),
        finding("CVE-1", InstalledVersion="0"),
    )
    assert lines == [
        "  CVE-1 CRITICAL openssl@1 fixed 2",
        "  CVE-1 HIGH zlib@1 not-fixed",
        "  CVE-1 HIGH openssl@0 not-fixed",
    ]


def test_a_statement_of_trivy_s_holds_for_no_other_place_of_the_package() -> None:
    """VEX for one path in the image must not quiet the finding at another."""
    aside = "  CVE-1 is not_affected undated in openssl@1"
    assert found(aside=(finding("CVE-1"),)) == ["  CVE-1 HIGH openssl@1 not-fixed", aside]
    both = found(finding("CVE-1"), aside=(finding("CVE-1"),))
    assert both == ["  CVE-1 HIGH openssl@1 not-fixed"]
    other = found(finding("CVE-1", InstalledVersion="2"), aside=(finding("CVE-1"),))
    assert aside in other


@pytest.mark.parametrize("status", ["ignored", "unknown", "", "NOT_AFFECTED"])
def test_only_the_words_of_vex_make_a_statement(status: str) -> None:
    modified = {"Status": status, "Finding": finding("CVE-1")}
    result = {"Class": "os-pkgs", "ExperimentalModifiedFindings": [modified]}
    assert len(said(trivy(result)).splitlines()) == 1


def test_the_older_time_counts_in_an_attestation() -> None:
    result = trivy(CreatedAt="2026-01-02T03:04:05.123456789+02:00")
    for finished, scanned in [
        ("2026-03-01T00:00:00Z", "2026-01-02T01:04"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:00"),
        ("0001-01-01T00:00:00Z", "2026-01-02T01:04"),
    ]:
        predicate = {"scanner": {"result": result}, "metadata": {"scanFinishedOn": finished}}
        document = read_predicate(VULN, predicate, frozenset((INDEX,)))
        assert brief(document) == f"Trivy {scanned} of index\n"


def test_an_advisory_of_several_vulnerabilities_is_no_other_name_of_one() -> None:
    def aliases(known: str, *related: str) -> tuple[str, ...]:
        match = {
            "vulnerability": {"id": known, "severity": "Critical"},
            "artifact": {"name": "openssl", "version": "1"},
            "relatedVulnerabilities": [{"id": name} for name in related],
        }
        value = {**load("grype.index"), "matches": [match], "ignoredMatches": []}
        document = read(json.dumps(value).encode())
        assert isinstance(document, ScanEvidence)
        return document.vulnerabilities[0].aliases

    assert aliases("GHSA-a-b-c", "CVE-2026-1") == ("CVE-2026-1",)
    assert aliases("CVE-2026-1", "cve-2026-1", "GHSA-a-b-c") == ("GHSA-a-b-c",)
    assert aliases("ELSA-2026-1", "CVE-2026-1", "CVE-2026-2") == ()
    assert aliases("CVE-2026-1", "CVE-2026-2") == ()


def test_an_attestation_may_carry_grype_s_json() -> None:
    predicate = {"scanner": {"result": load("grype.index")}, "metadata": {}}
    document = read_predicate(VULN, predicate, frozenset(("sha256:" + "a" * 64,)))
    assert brief(document).startswith("Grype 0.121.3 2026-11-25T21:27 of config index platform ")
    assert document.digests > NAMES.keys()


@pytest.mark.parametrize("result", [None, {}, [], "text", {"bomFormat": "CycloneDX"}])
def test_an_attestation_of_another_scanner_is_unreadable(result: object) -> None:
    predicate = {"scanner": {"result": result}, "metadata": {}}
    with pytest.raises(Unreadable) as caught:
        read_predicate(VULN, predicate, frozenset((INDEX,)))
    assert not isinstance(caught.value, NotEvidence)


@pytest.mark.parametrize(
    "kind",
    [
        "https://spdx.dev/Document",
        "https://slsa.dev/provenance/v1",
        "https://openvex.dev/nsx",
        "https://cosign.sigstore.dev/attestation/v1",
        "",
        None,
    ],
)
def test_other_predicates_are_no_evidence(kind: Any) -> None:
    with pytest.raises(NotEvidence, match="tells of no vulnerabilities"):
        read_predicate(kind, {"@context": VEX, "statements": []}, frozenset((INDEX,)))


@pytest.mark.parametrize("kind", [VEX, f"{VEX}/v0.2.0", f"{VEX}/"])
def test_vex_is_bound_to_what_it_is_attested_of(kind: str) -> None:
    document = read_predicate(kind, load("openvex.v0.2.0"), frozenset((PLATFORM, "sha1:abc")))
    assert document.digests == {PLATFORM}


@pytest.mark.parametrize("kind", ["https://cyclonedx.org/bom", "https://cyclonedx.org/bom/v1.5"])
def test_an_attested_sbom_is_no_evidence(kind: str) -> None:
    with pytest.raises(NotEvidence):
        read_predicate(kind, load("cyclonedx.sbom"), frozenset((INDEX,)))


def test_an_object_of_the_api_is_read() -> None:
    value = load("vulnerability-report.index")
    assert brief(read_report(value)) == (FIXTURES / "vulnerability-report.index.txt").read_text()
    del value["report"]["vulnerabilities"]
    with pytest.raises(Unreadable, match="missing required field `vulnerabilities`"):
        read_report(value)
    with pytest.raises(Unreadable, match="is of the kind Pod"):
        read_report({"apiVersion": "v1", "kind": "Pod"})


def vex(*products: object, **said: Any) -> tuple[Statement, ...]:
    statement = {"vulnerability": "CVE-1", "status": "fixed", "products": products, **said}
    document = read(json.dumps({"@context": VEX, "statements": [statement]}).encode())
    assert isinstance(document, Vex)
    assert not document.digests
    return document.statements


HEX = "a" * 64
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("product", "expected"),
    [
        (f"pkg:oci/app@sha256%3A{HEX}", ({DIGEST}, "", "")),
        (f"pkg:oci/app@sha256:{HEX}?arch=amd64", ({DIGEST}, "", "")),
        (f"pkg:docker/team/app@sha256:{HEX}", ({DIGEST}, "", "")),
        (f"registry.example/app@sha256:{HEX}", ({DIGEST}, "", "")),
        ({"@id": "app", "hashes": {"sha-256": HEX, "md5": "x"}}, ({DIGEST}, "", "")),
        ({"identifiers": {"purl": f"pkg:oci/app@sha256%3A{HEX}"}}, ({DIGEST}, "", "")),
        ("pkg:oci/app", (set(), "", "")),
        (f"pkg:oci/app@sha256:{HEX.upper()}", (set(), "", "")),
        ({"@id": "app", "hashes": {"sha-256": "abc"}}, (set(), "", "")),
        ("pkg:deb/debian/openssl@3", (set(), "openssl", "3")),
        ("pkg:maven/org.apache/log4j", (set(), "org.apache:log4j", "")),
        ({"@id": "app", "subcomponents": ["pkg:npm/%40a/b@1"]}, (set(), "@a/b", "1")),
        ({"@id": DIGEST, "subcomponents": ["a library"]}, ({DIGEST}, "a library", "")),
        ({"@id": DIGEST, "subcomponents": [{}]}, ({DIGEST}, "unnamed", "")),
        ({"@id": DIGEST, "subcomponents": ["pkg:oci/base"]}, ({DIGEST}, "pkg:oci/base", "")),
    ],
)
def test_vex_is_taken_for_no_more_than_it_names(
    product: object, expected: tuple[set[str], str, str]
) -> None:
    (statement,) = vex(product)
    assert (set(statement.products), statement.package, statement.installed) == expected


def test_vex_about_nothing_by_name_says_nothing() -> None:
    assert vex(DIGEST, vulnerability="") == ()
    with pytest.raises(Unreadable, match="has a statement with the status 'harmless'"):
        vex(DIGEST, status="harmless")


def cyclonedx(*vulnerabilities: Json, **more: Any) -> Json:
    components = [{"bom-ref": "a", "name": "openssl", "version": "1"}]
    return {
        "bomFormat": "CycloneDX",
        "components": components,
        "vulnerabilities": vulnerabilities,
        **more,
    }


def test_cyclonedx_is_a_scan_where_somebody_has_still_to_look() -> None:
    """Else VEX about one vulnerability would pass for a scan that found no other."""
    one = {"id": "CVE-1", "ratings": [{"severity": "low"}, {"severity": "high"}]}
    two = {"id": "CVE-2", "analysis": {"state": "false_positive"}, "affects": [{"ref": "a"}]}
    three = {"id": "CVE-3", "analysis": {"state": "in_triage"}}
    assert said(cyclonedx(two)) == (
        "VEX of nothing\n  CVE-2 is not_affected undated in openssl@1\n"
    )
    assert said(cyclonedx(one, two, components=None)).startswith("VEX of nothing\n  CVE-2 is not")
    assert said(cyclonedx(one, two, three)).splitlines()[1:] == [
        "  CVE-1 HIGH @ unknown",
        "  CVE-2 UNKNOWN openssl@1 unknown",
        "  CVE-3 UNKNOWN @ unknown",
        "  CVE-2 is not_affected undated in openssl@1",
        "  CVE-3 is under_investigation undated",
    ]


def test_cyclonedx_about_a_component_is_not_about_the_image() -> None:
    analysis = {"analysis": {"state": "not_affected"}}
    other = {"bom-ref": "b", "type": "container", "name": "other", "version": DIGEST}
    for ref, where in [
        ("who knows", "undated in who knows@*"),
        ("b", f"undated of {DIGEST}"),
        ("pkg:deb/debian/zlib1g@1", "undated in zlib1g@1"),
        (f"pkg:oci/app@{DIGEST}", f"undated of {DIGEST}"),
        ("root", "undated"),
    ]:
        metadata = {"component": {"bom-ref": "root", "type": "container"}}
        about = {"id": "CVE-1", **analysis, "affects": [{"ref": ref}]}
        value = cyclonedx(about, components=[other], metadata=metadata)
        assert said(value) == f"VEX of nothing\n  CVE-1 is not_affected {where}\n"


def sarif(*runs: Json) -> str:
    return said({"version": "2.1.0", "runs": runs})


def run(image: str = DIGEST, *results: Json, rules: tuple[Json, ...] = ()) -> Json:
    driver = {"name": "Trivy", "version": "1", "rules": rules}
    return {"tool": {"driver": driver}, "properties": {"imageID": image}, "results": results}


def test_sarif_proves_only_what_it_lists() -> None:
    rules = (
        {"id": "CVE-1", "properties": {"tags": ["vulnerability", "HIGH"]}},
        {"id": "CVE-2", "properties": {"security-severity": "9.8"}},
        {"id": "aws", "properties": {"tags": ["secret", "CRITICAL"]}},
    )
    results = [{"ruleId": name} for name in ("CVE-1", "CVE-2", "CVE-3", "aws")]
    assert sarif(run(DIGEST, *results, rules=rules)) == (
        f"Trivy 1 undated of {DIGEST}\n"
        "  CVE-1 HIGH @ unknown\n"
        "  CVE-2 CRITICAL @ unknown\n"
        "  CVE-3 MEDIUM @ unknown\n"
    )
    assert "lists no vulnerability" in sarif(run(DIGEST, {"ruleId": "aws"}, rules=rules))
    assert "names no image by its digest" in sarif(run("latest", *results))
    assert "about several images" in sarif(run(), run("sha256:" + "b" * 64))


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("2026-01-02T03:04:05Z", 1767323045),
        ("2026-01-02t03:04:05.5z", 1767323045.5),
        ("2026-01-02 03:04:05.25+00:00", 1767323045.25),
        ("2026-01-02T03:04:05.123456789+02:00", 1767315845.123456789),
        ("2026-01-01T23:04:05-04:00", 1767323045),
        ("2016-12-31T23:59:60Z", 1483228799),
        ("9999-12-31T23:59:59Z", 253402300799),
        ("2000-01-01T00:00:00Z", 946684800),
        ("1999-12-31T23:59:59Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("2026-01-02T03:04:05", 0),
        ("2026-01-02", 0),
        ("2026-13-02T03:04:05Z", 0),
        ("2026-01-02T03:04:05+99:99", 0),
        ("9999-12-31T23:59:59.99999999999Z", 253402300799),
        ("9999-12-31T23:59:59-23:59", 0),
        ("\uff12026-01-02T03:04:05Z", 0),
        ("2026-01-02T03:04:05." + "1" * 60 + "Z", 0),
        ("yesterday", 0),
        ("", 0),
        (None, 0),
    ],
)
def test_times_are_those_of_rfc_3339(written: str | None, seconds: float) -> None:
    assert moment(written) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (DIGEST, {DIGEST}),
        (f"registry.example:5000/app@{DIGEST}", {DIGEST}),
        (f"app@sha512:{'a' * 128}", {f"sha512:{'a' * 128}"}),
        (DIGEST.upper(), set()),
        (f"sha256:{HEX}a", set()),
        (f"{DIGEST}\n", set()),
        (f"md5:{HEX}", set()),
        (HEX, set()),
        ("", set()),
        (None, set()),
    ],
)
def test_only_whole_digests_count(name: str | None, expected: set[str]) -> None:
    assert digests([name]) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("pkg:deb/debian/openssl@1%3A3.0?arch=amd64", PackageURL("openssl", "1:3.0")),
        ("pkg:apk/wolfi/git@2.39", PackageURL("git", "2.39")),
        ("pkg:golang/github.com/a/b@v1#sub", PackageURL("github.com/a/b", "v1")),
        ("pkg:npm/%40angular/core@1.0", PackageURL("@angular/core", "1.0")),
        ("pkg:npm/@angular/core", PackageURL("@angular/core", "")),
        ("pkg:maven/org.apache/log4j@2", PackageURL("org.apache:log4j", "2")),
        ("pkg:pypi/requests", PackageURL("requests", "")),
        ("PKG:pypi/requests", PackageURL("requests", "")),
        ("pkg:oci/app@sha256%3Aabc", PackageURL("", "sha256:abc")),
        ("pkg:deb/", None),
        ("pkg:", None),
        ("openssl", None),
        ("pkg:npm/" + "a" * 2000, None),
    ],
)
def test_package_urls(written: str, expected: PackageURL | None) -> None:
    assert package_url(written) == expected


def test_scores_are_rated_as_cvss_does() -> None:
    scores = (-1, 0, 0.1, 3.9, 4, 6.9, 7, 8.9, 9, 10, 10.1, float("nan"))
    assert " ".join(map(severity_of_score, scores)) == (
        "UNKNOWN NEGLIGIBLE LOW LOW MEDIUM MEDIUM HIGH HIGH CRITICAL CRITICAL UNKNOWN UNKNOWN"
    )


def test_texts_fit_into_a_message() -> None:
    assert text("a" * 300) == "a" * 199 + "…"
    assert text("a\nb\x1b[31m\u202e") == r"a\nb\x1b[31m\u202e"
    assert len(text("\U000e0001" * 300)) == 200
    (line,) = found(finding("CVE-1\n", "a" * 1000, Title="\n" * 1000))
    assert line == rf"  CVE-1\n HIGH {'a' * 199}…@1 not-fixed"


def test_equal_findings_are_one_value() -> None:
    """Thousands of images share their bases."""
    first, second = (
        read(json.dumps(trivy({"Vulnerabilities": [finding("CVE-7")]})).encode()) for _ in "ab"
    )
    assert isinstance(first, ScanEvidence)
    assert isinstance(second, ScanEvidence)
    assert first.vulnerabilities[0] is second.vulnerabilities[0]


def test_a_byte_order_mark_is_no_hindrance() -> None:
    assert read(b"\xef\xbb\xbf" + json.dumps(trivy()).encode())


def test_the_refusal_tells_what_is_understood() -> None:
    with pytest.raises(Unreadable, match="is in no format that Batten understands, which are: T"):
        read(b'{"spdxVersion": "SPDX-2.3"}')
