"""`batten evidence check` and `verify`, against real registries with real signatures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from batten_chart import ROOT
from batten_command import Ran, batten
from batten_cosign import VULNERABILITIES, Pair, attest, key_pair, why_no_cosign
from batten_dsse import BUNDLE, statement
from batten_evidence import CRITICAL, LOW, ago, openvex, trivy, trivy_of, written
from batten_registry import Pushed, Registry, registry
from batten_sigstore import Sigstore

SCHEMA = json.loads((ROOT / "docs/schemas/evidence.v1.json").read_text())
DAY = 86400.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def pushed(served: Registry, request: pytest.FixtureRequest) -> Pushed:
    """Each test's own: nothing is beside it yet."""
    return served.push("shop/app", "1.4", Labels={"test": request.node.name})


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    if why_no_cosign():
        pytest.skip(why_no_cosign())
    return key_pair(tmp_path_factory.mktemp("keys"), "p256")


def run(served: Registry, folder: Path, command: str, *arguments: str, stdin: bytes = b"") -> Ran:
    local = (f"--local-registry={served.host}", f"--plain-http={served.host}")
    return batten("evidence", command, *arguments, *local, cwd=folder, stdin=stdin)


def policy(folder: Path, **options: Any) -> str:
    """The option that names a policy of this rule."""
    options = {"validationActions": ["Deny"]} | options
    value = {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningPolicy",
        "metadata": {"name": "scanned"},
        "spec": {"rules": {"scanned-image": options}},
    }
    (folder / "policy.yaml").write_text(yaml.safe_dump(value))
    return "--policy=policy.yaml"


def shown(ran: Ran, served: Registry, pushed: Pushed) -> list[str]:
    text = ran.out.replace(served.host, "HOST").replace(pushed.digest, "DIGEST")
    return text.replace(pushed.digest[:19], "SHORT").splitlines()


def image(served: Registry) -> str:
    return f"{served.host}/shop/app:1.4"


def scan(served: Registry, pushed: Pushed, folder: Path, *found: Any, at: str = "") -> str:
    value = trivy_of(served, "shop/app:1.4", pushed, *found, at=at)
    return f"--scan={written(folder, 'trivy.json', value)}"


# --- check --------------------------------------------------------------------------------------


def test_a_scan_that_finds_nothing_bad_lets_it_run(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    given = (policy(tmp_path), scan(served, pushed, tmp_path, LOW))
    ran = run(served, tmp_path, "check", image(served), *given)
    assert ran.code == 0, ran.err
    assert shown(ran, served, pushed) == [
        "HOST/shop/app:1.4",
        "  DIGEST (linux/amd64)",
        "  may run: file trivy.json was made 2 hours ago",
    ]


def test_what_decides_is_told_with_the_way_out(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    given = (policy(tmp_path), scan(served, pushed, tmp_path, CRITICAL, LOW))
    ran = run(served, tmp_path, "check", image(served), *given)
    assert ran.code == 1
    assert shown(ran, served, pushed) == [
        "HOST/shop/app:1.4",
        "  DIGEST (linux/amd64)",
        (
            "  may not run: has a vulnerability that does not pass: CRITICAL CVE-2026-1000 in"
            " openssl 3.0.1; says file trivy.json"
        ),
        (
            "    upgrade to openssl 3.0.2; or say in VEX, or in the policy's allow list, why"
            " CVE-2026-1000 does not matter"
        ),
    ]


def test_a_policy_that_only_warns_is_told_of(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    ran = run(served, tmp_path, "check", image(served))
    assert ran.code == 1
    assert shown(ran, served, pushed)[2:] == [
        (
            "  may not run: has no scan that counts: nothing was found; looked for SHORT in"
            " ImageScans"
        ),
        "    scan it and write an ImageScan, as batten evidence from FILE prints",
        "",
        'preset "hardened" only warns of it: a cluster with it lets it run all the same',
    ]


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"at": ago(8 * DAY)}, "file trivy.json is 8 days old, and at most 7 days are allowed"),
        ({"config": f"sha256:{'0' * 64}"}, "file trivy.json is of another image: it names none"),
    ],
    ids=["stale", "foreign"],
)
def test_stale_and_foreign_scans_never_count(
    served: Registry, pushed: Pushed, tmp_path: Path, files: dict[str, str], told: str
) -> None:
    value = trivy_of(served, "shop/app:1.4", pushed, at=files.get("at", ""))
    if "config" in files:
        value = trivy(image(served), config=files["config"])
    file = written(tmp_path, "trivy.json", value)
    ran = run(served, tmp_path, "check", image(served), policy(tmp_path), f"--scan={file}")
    assert ran.code == 1
    assert told in ran.out


def test_every_platform_needs_a_scan(served: Registry, tmp_path: Path) -> None:
    both = served.push("shop/app", "1.4", platforms=("amd64", "arm64"))
    given = [policy(tmp_path), scan(served, both, tmp_path, LOW)]
    ran = run(served, tmp_path, "check", image(served), *given)
    assert ran.code == 1
    assert "none is of linux/arm64" in ran.out
    amd64 = ("--architecture=amd64",)
    assert run(served, tmp_path, "check", image(served), *given, *amd64).code == 0
    value = trivy_of(served, "shop/app:1.4", both, LOW, architecture="arm64")
    given.append(f"--scan={written(tmp_path, 'arm64.json', value)}")
    assert run(served, tmp_path, "check", image(served), *given).code == 0


def test_vex_allow_lists_and_exemptions_lift(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    bad = scan(served, pushed, tmp_path, CRITICAL)
    vex = f"--scan={written(tmp_path, 'vex.json', openvex())}"
    allow = [{"id": CRITICAL[0], "reason": "not reached", "expires": "2999-01-01T00:00:00Z"}]
    for options, arguments, code in (
        ({}, (bad, vex), 0),
        ({"vex": False}, (bad, vex), 1),
        ({"allow": allow}, (bad,), 0),
        ({"exempt": [f"{served.host}/shop/*"]}, (), 0),
        ({"exempt": [f"{served.host}/attic/*"]}, (), 1),
    ):
        ran = run(served, tmp_path, "check", image(served), policy(tmp_path, **options), *arguments)
        assert ran.code == code, (options, ran.out)
    assert ran.out.count("may") == 1


def test_images_are_judged_each_by_its_own_scan(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    other = served.push("shop/other", "1")
    value = trivy_of(served, "shop/other:1", other, CRITICAL)
    given = (
        policy(tmp_path),
        scan(served, pushed, tmp_path, LOW),
        f"--scan={written(tmp_path, 'other.json', value)}",
        "--format=json",
    )
    names = (image(served), f"{served.host}/shop/other:1", f"{served.host}/shop/none:1")
    ran = run(served, tmp_path, "check", *names, *given)
    assert ran.code == 1
    told = json.loads(ran.out)
    jsonschema.validate(told, SCHEMA)
    app, bad, none = told["images"]
    assert [each["allowed"] for each in told["images"]] == [True, False, False]
    assert [each["origin"] for each in app["evidence"]] == ["file trivy.json"]
    assert [each["origin"] for each in bad["evidence"]] == ["file other.json"]
    assert bad["vulnerabilities"] == [
        {
            "id": "CVE-2026-1000",
            "severity": "CRITICAL",
            "package": "openssl",
            "installed": "3.0.1",
            "fixedIn": "3.0.2",
            "origin": "file other.json",
        }
    ]
    assert none["digest"] is None
    assert "cannot be looked up: there is no such tag" in none["findings"][0]["message"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("A/B",), "image A/B: has capitals where only small letters are allowed"),
        (("a", "--policy=absent"), "--policy absent: neither one of baseline, restricted"),
        (("a", "--policy=baseline"), 'preset "baseline" asks for no scans: name a policy whose'),
        (("a", "--scan=absent"), "absent: no such file or directory"),
        (("a", "--scan=policy.yaml"), "policy.yaml: is no JSON object that Batten understands"),
        ((), "nothing to judge: name an IMAGE, or a --scan of one"),
    ],
)
def test_wrong_usage_is_told(tmp_path: Path, arguments: tuple[str, ...], complaint: str) -> None:
    policy(tmp_path)
    ran = batten("evidence", "check", *arguments, cwd=tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert complaint in ran.err


@pytest.mark.parametrize("digests", [{}, {"config": f"sha256:{'a' * 64}"}])
def test_a_scan_alone_is_judged_before_anything_is_pushed(
    tmp_path: Path, pair: Pair, digests: dict[str, Any]
) -> None:
    """Whatever the sources: it is what CI goes on to write, as an ImageScan or an attestation."""
    trusted = policy(tmp_path, sources=[{"kind": "Attestation", "keys": [pair.public]}])
    good = written(tmp_path, "good.json", trivy("app:ci", LOW, **digests))
    bad = written(tmp_path, "bad.json", trivy("app:ci", CRITICAL, **digests))
    old = written(tmp_path, "old.json", trivy("app:ci", at=ago(8 * DAY), **digests))
    scans = [f"--scan={name}" for name in (good, bad, old)]
    ran = batten("evidence", "check", trusted, *scans, cwd=tmp_path)
    assert ran.code == 1
    lines = ran.out.splitlines()
    assert lines[:2] == ["file good.json", "  may run: file good.json was made 2 hours ago"]
    assert lines[3:5] == [
        "file bad.json",
        (
            "  may not run: has a vulnerability that does not pass: CRITICAL CVE-2026-1000 in"
            " openssl 3.0.1; says file bad.json"
        ),
    ]
    assert lines[8] == (
        "  may not run: has no scan that counts: file old.json is 8 days old, and at most 7 days"
        " are allowed"
    )
    vex = f"--scan={written(tmp_path, 'vex.json', openvex())}"
    ran = batten("evidence", "check", trusted, scans[1], vex, "--format=json", cwd=tmp_path)
    assert ran.code == 0
    told = json.loads(ran.out)
    jsonschema.validate(told, SCHEMA)
    assert (told["images"][0]["digest"], told["images"][0]["platforms"]) == (None, [])


# --- attestations -------------------------------------------------------------------------------


def attested(
    served: Registry, pushed: Pushed, folder: Path, pair: Pair, *found: Any, major: Any = 2
) -> None:
    """As CI does it: the scan as a predicate, signed by cosign."""
    scan(served, pushed, folder, *found)
    made = run(served, folder, "from", "trivy.json", "--format=attestation")
    assert made.code == 0, made.err
    attest(major, pair, f"{served.host}/shop/app@{pushed.digest}", json.loads(made.out))


@pytest.mark.parametrize("major", [2, 3])
def test_what_cosign_attested_counts_where_its_key_is_trusted(
    served: Registry,
    pushed: Pushed,
    tmp_path: Path,
    pair: Pair,
    major: int,
) -> None:
    attested(served, pushed, tmp_path, pair, LOW, major=major)
    trusted = policy(tmp_path, sources=[{"kind": "Attestation", "keys": [pair.public]}])
    ran = run(served, tmp_path, "check", image(served), trusted)
    assert ran.code == 0, ran.out
    assert "may run: attestation sha256:" in ran.out


def test_what_another_key_signed_is_shown_and_does_not_count(
    served: Registry, pushed: Pushed, tmp_path: Path, pair: Pair
) -> None:
    other = key_pair(tmp_path / "other", "p256")
    attested(served, pushed, tmp_path, other, LOW)
    trusted = policy(tmp_path, sources=[{"kind": "Attestation", "keys": [pair.public]}])
    ran = run(served, tmp_path, "verify", "--no-cluster", image(served), trusted)
    assert ran.code == 1
    lines = shown(ran, served, pushed)
    assert lines[5] == "  looked for attestations beside the image signed with a trusted key"
    assert lines[6].endswith("…: does not count: it is not signed with the trusted key")
    assert lines[7].startswith("  may not run: has no scan that counts: attestation sha256:")


def test_what_an_identity_signed_counts_with_a_trusted_root(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    identity, issuer = "https://ci.example/build.yml@refs/heads/main", "https://issuer.example"
    scan(served, pushed, tmp_path, LOW)
    made = run(served, tmp_path, "from", "trivy.json", "--format=attestation")
    signed = json.loads(statement(pushed.digest, json.loads(made.out)))
    signed["predicateType"] = VULNERABILITIES
    sigstore = Sigstore()
    blob = sigstore.sign(json.dumps(signed).encode(), identity, issuer)
    tag = f"{pushed.digest.replace(':', '-')}.att"
    served.attach("shop/app", [(BUNDLE, blob)], tag=tag)
    source = {"kind": "Attestation", "issuer": issuer, "identity": identity}
    trusted = policy(tmp_path, sources=[source])
    root = f"--trusted-root={sigstore.write(tmp_path / 'root.json')}"
    ran = run(served, tmp_path, "check", image(served), trusted, root)
    assert ran.code == 0, ran.out
    without = run(served, tmp_path, "check", image(served), trusted)
    assert without.code == 1
    assert "is signed by an identity, and no trusted root is configured" in without.out


def test_files_are_no_attestations(
    served: Registry, pushed: Pushed, tmp_path: Path, pair: Pair
) -> None:
    trusted = policy(tmp_path, sources=[{"kind": "Attestation", "keys": [pair.public]}])
    ran = run(
        served, tmp_path, "check", image(served), trusted, scan(served, pushed, tmp_path, LOW)
    )
    assert ran.code == 1
    assert "file trivy.json would be an ImageScan, and the policy believes none" in ran.out


# --- verify -------------------------------------------------------------------------------------


def test_verify_shows_each_piece_and_what_decides(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    given = (policy(tmp_path), scan(served, pushed, tmp_path, CRITICAL, LOW))
    old = trivy_of(served, "shop/app:1.4", pushed, at="2026-01-01T00:00:00Z")
    old_file = f"--scan={written(tmp_path, 'old.json', old)}"
    ran = run(served, tmp_path, "verify", "--no-cluster", image(served), *given, old_file)
    assert ran.code == 1
    value = trivy_of(served, "shop/app:1.4", pushed)
    config = value["Metadata"]["ImageID"]
    at = json.loads((tmp_path / "trivy.json").read_text())["CreatedAt"]
    names = [f"    names {each}" for each in sorted((config, pushed.digest))]
    lines = ran.out.replace(served.host, "HOST").splitlines()
    age = lines[12].partition("Trivy 0.68.2, ")[2].partition(" ago")[0]
    assert lines == [
        "HOST/shop/app:1.4",
        f"  {pushed.digest}",
        f"    linux/amd64  manifest      {pushed.platforms['amd64']}",
        f"                 configuration {config}",
        '  judged by HardeningPolicy "scanned": at most 168h old, no CRITICAL',
        "  looked for ImageScans",
        "  file trivy.json: counts",
        f"    by Trivy 0.68.2, 2 hours ago ({at})",
        "    of linux/amd64: 1 CRITICAL, 1 LOW",
        *names,
        (f"  file old.json: does not count: it is {age} old, and at most 7 days are allowed"),
        f"    by Trivy 0.68.2, {age} ago (2026-01-01T00:00:00Z)",
        "    of linux/amd64: no vulnerability",
        *names,
        (
            "  decides: CRITICAL CVE-2026-1000 in openssl 3.0.1, fixed in 3.0.2, says file"
            " trivy.json"
        ),
        (
            "  may not run: has a vulnerability that does not pass: CRITICAL CVE-2026-1000 in"
            " openssl 3.0.1; says file trivy.json"
        ),
        (
            "    upgrade to openssl 3.0.2; or say in VEX, or in the policy's allow list, why"
            " CVE-2026-1000 does not matter"
        ),
    ]


def test_verify_as_json_follows_the_same_schema(
    served: Registry, pushed: Pushed, tmp_path: Path
) -> None:
    given = (policy(tmp_path), scan(served, pushed, tmp_path, LOW))
    vex = f"--scan={written(tmp_path, 'vex.json', openvex(pushed.digest))}"
    arguments = ("--no-cluster", image(served), *given, vex, "--format=json")
    ran = run(served, tmp_path, "verify", *arguments)
    assert ran.code == 0
    told = json.loads(ran.out)
    jsonschema.validate(told, SCHEMA)
    (one,) = told["images"]
    assert [(each["kind"], each["counts"]) for each in one["evidence"]] == [
        ("scan", True),
        ("vex", True),
    ]
    assert one["evidence"][0]["scan"]["severities"] == {"LOW": 1}


def test_verify_without_a_cluster_is_told_how_to_go_on(served: Registry, tmp_path: Path) -> None:
    ran = batten("evidence", "verify", image(served), cwd=tmp_path, KUBECONFIG=str(tmp_path / "no"))
    assert ran.code == 2
    assert ran.err.startswith("batten: the cluster cannot be read: ")
    assert ran.err.count("\n") == 1
