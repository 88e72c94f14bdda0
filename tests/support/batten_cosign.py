"""cosign of versions 2 and 3 as Debian packages them, and what it signs with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from batten_tools import CACHE, ToolError, alone, debian_mirror, say
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Major = Literal[2, 3]
# The suites of Debian that have them; they need no library of it.
SUITES: dict[Major, str] = {2: "trixie", 3: "sid"}
KEYRINGS = Path("/usr/share/keyrings")
VULNERABILITIES = "https://cosign.sigstore.dev/attestation/vuln/v1"
KINDS = ("p256", "p384", "p521", "ed25519", "rsa")

Json = dict[str, Any]


def cosign(major: Major) -> str:
    """The program, from the cache or out of Debian's package. Raises ToolError."""
    program = CACHE / "cosign" / f"cosign-{major}"
    program.parent.mkdir(parents=True, exist_ok=True)
    with alone(program.parent, "waiting for another process that fetches cosign"):
        if not program.exists():
            _unpack(major, program)
    return str(program)


@cache
def why_no_cosign() -> str:
    """What this machine lacks for it, "" for nothing."""
    try:
        for major in SUITES:
            cosign(major)
    except ToolError as error:
        return str(error)
    return ""


def _unpack(major: Major, program: Path) -> None:
    """With lists of packages of its own, so that the machine's stay as they are."""
    lacking = [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]
    keyring = next(KEYRINGS.glob("debian-archive-keyring.*"), None)
    if lacking or keyring is None:
        raise ToolError(f"no cosign: {' and '.join(lacking) or 'the key of Debian'} missing")
    say(f"fetching cosign {major} of Debian {SUITES[major]}")
    with tempfile.TemporaryDirectory(prefix="batten-apt-") as temporary:
        root = Path(temporary)
        root.chmod(0o755)  # apt fetches as a user of its own
        for name in ("lists/partial", "cache/archives/partial", "parts"):
            (root / name).mkdir(parents=True)
        (root / "status").touch()
        line = f"deb [signed-by={keyring}] {debian_mirror()} {SUITES[major]} main\n"
        (root / "sources.list").write_text(line)
        options = {
            "APT::Sandbox::User": "root",
            "Dir::Cache": root / "cache",
            "Dir::Etc::SourceList": root / "sources.list",
            "Dir::Etc::SourceParts": root / "parts",
            "Dir::State::Lists": root / "lists",
            "Dir::State::Status": root / "status",
        }
        apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        _run([*apt, "update"], root)
        _run([*apt, "download", "cosign"], root)
        package = next(root.glob(f"cosign_{major}.*.deb"), None)
        if package is None:
            raise ToolError(f"no cosign: Debian {SUITES[major]} has no version {major} any more")
        _run(["dpkg-deb", "--extract", str(package), "made"], root)
        part = program.with_suffix(".part")
        shutil.copy(root / "made" / "usr" / "bin" / "cosign", part)
        part.rename(program)


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"no cosign: {command[0]} {command[-1]} failed: {done.stderr[-500:]}")


@dataclass(frozen=True)
class Pair:
    """A key pair of cosign's: `key` is the file of the private half, `public` is PEM."""

    key: Path
    public: str


def key_pair(folder: Path, kind: str) -> Pair:
    """Made by cosign itself for P-256, else given to it."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind == "p256":
        _cosign(3, folder, "generate-key-pair")
        return Pair(folder / "cosign.key", (folder / "cosign.pub").read_text())
    (folder / "given.pem").write_bytes(
        private_key(kind).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    _cosign(3, folder, "import-key-pair", "--key", "given.pem", "--output-key-prefix", "import")
    return Pair(folder / "import.key", (folder / "import.pub").read_text())


def private_key(
    kind: str,
) -> ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
    return ec.generate_private_key(curves[kind])


def attest(major: Major, pair: Pair, image: str, predicate: Json) -> None:
    """Adds a signed attestation of vulnerabilities to an image, given by its digest."""
    folder = pair.key.parent
    (folder / "predicate.json").write_text(json.dumps(predicate))
    how = ["--tlog-upload=false"]
    if major == 3:
        _cosign(3, folder, "signing-config", "create", "--out", "signing.json")
        how = ["--signing-config", "signing.json"]
    what = ["--type", "vuln", "--predicate", "predicate.json", "--key", str(pair.key)]
    _cosign(major, folder, "attest", "--yes", *how, "--allow-http-registry", *what, image)


def vulnerabilities(finished: str = "2026-01-02T03:04:05Z", **result: Any) -> Json:
    """A predicate as `cosign attest --type vuln` wants it; `result` is the scanner's own."""
    return {
        "invocation": {"parameters": None, "uri": "", "event_id": "", "builder.id": ""},
        "scanner": {"uri": "", "version": "", "db": {"uri": "", "version": ""}, "result": result},
        "metadata": {"scanStartedOn": finished, "scanFinishedOn": finished},
    }


def _cosign(major: Major, folder: Path, *arguments: str) -> None:
    environment = {**os.environ, "COSIGN_PASSWORD": "", "HOME": str(folder)}
    done = subprocess.run(
        [cosign(major), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"cosign {major} {' '.join(arguments)}:\n{done.stderr}"
