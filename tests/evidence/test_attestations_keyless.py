"""Signatures without a key, against a Sigstore of the tests' own and offline. That it is one is
said by cosign 3 itself, whose verification shares nothing with the library that Batten uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from batten_cosign import cosign, why_no_cosign
from batten_dsse import PREDICATE, Signer, bundle, statement
from batten_sigstore import Sigstore

from batten_webhooks.evidence.attestations.model import Candidate, Rejected, Trust, Verified
from batten_webhooks.evidence.attestations.verify import verify

DIGEST = f"sha256:{'a' * 64}"
IDENTITY, ISSUER = "https://ci.example/build.yml@refs/heads/main", "https://issuer.example"
TRUST = Trust(issuer=ISSUER, identity=IDENTITY)


@pytest.fixture(scope="module")
def sigstore() -> Sigstore:
    return Sigstore()


@pytest.fixture(scope="module")
def root(sigstore: Sigstore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sigstore.write(tmp_path_factory.mktemp("sigstore") / "trusted_root.json")


def judge(data: bytes, root: Path | None, trust: Trust = TRUST) -> Verified:
    candidate = Candidate(f"sha256:{'b' * 64}", DIGEST, data)
    return verify(candidate, trust, frozenset((DIGEST,)), root)


def rejection(data: bytes, root: Path | None, trust: Trust = TRUST) -> tuple[str, str]:
    with pytest.raises(Rejected) as caught:
        judge(data, root, trust)
    return caught.value.reason, str(caught.value)


def test_the_identity_and_its_issuer(sigstore: Sigstore, root: Path) -> None:
    found = judge(sigstore.sign(statement(DIGEST, {"x": 1}), IDENTITY, ISSUER), root)
    assert (found.kind, found.predicate) == (PREDICATE, {"x": 1})


def test_cosign_says_the_same(sigstore: Sigstore, root: Path, tmp_path: Path) -> None:
    if why_no_cosign():
        pytest.skip(why_no_cosign())
    file = tmp_path / "bundle.json"
    file.write_bytes(sigstore.sign(statement(DIGEST), IDENTITY, ISSUER))

    def verified(identity: str) -> int:
        whom = [f"--certificate-identity={identity}", f"--certificate-oidc-issuer={ISSUER}"]
        what = [f"--type={PREDICATE}", f"--digest={DIGEST[7:]}", "--digestAlg=sha256"]
        where = [f"--bundle={file}", f"--trusted-root={root}"]
        command = [cosign(3), "verify-blob-attestation", *where, *whom, *what]
        environment = {**os.environ, "HOME": str(tmp_path)}
        return subprocess.run(command, env=environment, check=False, timeout=120).returncode

    assert (verified(IDENTITY), verified(f"{IDENTITY}x") != 0) == (0, True)


@pytest.mark.parametrize(
    "trust",
    [
        Trust(issuer=ISSUER, identity=f"{IDENTITY}x"),
        Trust(issuer=ISSUER, identity=IDENTITY[:-1]),
        Trust(issuer=f"{ISSUER}/", identity=IDENTITY),
    ],
)
def test_another_identity(sigstore: Sigstore, root: Path, trust: Trust) -> None:
    data = sigstore.sign(statement(DIGEST), IDENTITY, ISSUER)
    reason, told = rejection(data, root, trust)
    assert reason == "forged"
    assert told.startswith("is not signed as it should be: ")


@pytest.mark.parametrize("trust", [Trust(issuer=ISSUER), Trust(identity=IDENTITY), Trust()])
def test_half_an_identity_is_none(sigstore: Sigstore, root: Path, trust: Trust) -> None:
    data = sigstore.sign(statement(DIGEST), IDENTITY, ISSUER)
    told = "is signed by an identity, and none with its issuer is trusted"
    assert rejection(data, root, trust) == ("forged", told)


def test_a_key_is_no_identity(root: Path) -> None:
    signer = Signer.fresh()
    data = bundle(signer.sign(statement(DIGEST)))
    assert rejection(data, root) == ("forged", "is signed with a key, and no key is trusted")
    assert judge(data, root, Trust((signer.public,), ISSUER, IDENTITY)).subjects == {DIGEST}


def test_an_expired_certificate(sigstore: Sigstore, root: Path) -> None:
    """Judged at the time that the log says, not now: short-lived ones are always over."""
    in_time = sigstore.sign(statement(DIGEST), IDENTITY, ISSUER, late=timedelta(minutes=9))
    too_late = sigstore.sign(statement(DIGEST), IDENTITY, ISSUER, late=timedelta(minutes=11))
    assert judge(in_time, root).subjects == {DIGEST}
    reason, told = rejection(too_late, root)
    assert reason == "forged"
    assert "cert is not valid at validation time" in told


def test_another_sigstore(root: Path) -> None:
    reason, told = rejection(Sigstore().sign(statement(DIGEST), IDENTITY, ISSUER), root)
    assert (reason, "certificate chain" in told) == ("forged", True)


@pytest.mark.parametrize(
    "place",
    [
        ("dsseEnvelope", "payload"),
        ("dsseEnvelope", "signatures", 0, "sig"),
        ("verificationMaterial", "certificate", "rawBytes"),
        ("verificationMaterial", "tlogEntries", 0, "canonicalizedBody"),
        ("verificationMaterial", "tlogEntries", 0, "integratedTime"),
        ("verificationMaterial", "tlogEntries", 0, "inclusionPromise", "signedEntryTimestamp"),
        ("verificationMaterial", "tlogEntries", 0, "inclusionProof", "rootHash"),
        ("verificationMaterial", "tlogEntries", 0, "inclusionProof", "checkpoint", "envelope"),
    ],
)
def test_each_part_of_another_bundle(
    sigstore: Sigstore, root: Path, place: tuple[str | int, ...]
) -> None:
    """Parts of two that are right each make none."""
    later = timedelta(minutes=1)
    ours: Any = json.loads(sigstore.sign(statement(DIGEST, "ours"), IDENTITY, ISSUER))
    other: Any = json.loads(sigstore.sign(statement(DIGEST, "x"), IDENTITY, ISSUER, late=later))
    mixed, source = ours, other
    for step in place[:-1]:
        mixed, source = mixed[step], source[step]
    mixed[place[-1]] = source[place[-1]]
    assert rejection(json.dumps(ours).encode(), root)[0] == "forged"


def test_without_the_log(sigstore: Sigstore, root: Path) -> None:
    stripped: Any = json.loads(sigstore.sign(statement(DIGEST), IDENTITY, ISSUER))
    stripped["verificationMaterial"]["tlogEntries"] = []
    assert rejection(json.dumps(stripped).encode(), root)[0] == "forged"


def test_about_another_image(sigstore: Sigstore, root: Path) -> None:
    data = sigstore.sign(statement(f"sha256:{'c' * 64}"), IDENTITY, ISSUER)
    assert rejection(data, root) == ("foreign", "is about another image")


def test_no_trusted_root(sigstore: Sigstore, tmp_path: Path) -> None:
    data = sigstore.sign(statement(DIGEST), IDENTITY, ISSUER)
    told = "is signed by an identity, and no trusted root is configured"
    assert rejection(data, None) == ("unsupported", told)
    (tmp_path / "broken.json").write_text("{}")
    for name in ("missing.json", "broken.json"):
        reason, told = rejection(data, tmp_path / name)
        assert reason == "unsupported"
        assert told.startswith(f"cannot be checked: {tmp_path / name} is no trusted root: ")


def test_a_trusted_root_that_changes(tmp_path: Path) -> None:
    """As Sigstore's own does now and then: the file is read again."""
    first, second = Sigstore(), Sigstore()
    file = first.write(tmp_path / "root.json")
    assert judge(first.sign(statement(DIGEST), IDENTITY, ISSUER), file)
    second.write(file)
    os.utime(file, ns=(0, 0))
    assert judge(second.sign(statement(DIGEST), IDENTITY, ISSUER), file)


def test_without_the_extra(sigstore: Sigstore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The import fails as it does where `batten[keyless]` is not installed."""
    monkeypatch.setitem(sys.modules, "sigstore.models", None)
    data = sigstore.sign(statement(DIGEST), IDENTITY, ISSUER)
    told = "is signed by an identity: sigstore (batten[keyless]) is missing"
    assert rejection(data, root) == ("unsupported", told)


def test_the_library_is_imported_only_for_such_signatures() -> None:
    program = (
        "import sys; from batten_webhooks.evidence.attestations import cache; "
        "sys.exit('sigstore' in sys.modules or 'nacl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
