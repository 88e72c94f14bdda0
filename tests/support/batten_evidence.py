"""What scanners write, cut down to what is read, about images of the tests' registry."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batten_registry import Pushed, Registry

Json = dict[str, Any]
CRITICAL = ("CVE-2026-1000", "CRITICAL", "openssl", "3.0.1", "3.0.2")
LOW = ("CVE-2026-2000", "LOW", "zlib", "1.3", "")


def ago(seconds: float = 7_500.0) -> str:
    return f"{datetime.fromtimestamp(time.time() - seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def configuration(served: Registry, repository: str, manifest: str) -> str:
    digest: str = json.loads(served.manifest(repository, manifest))["config"]["digest"]
    return digest


def trivy(
    image: str,
    *found: tuple[str, str, str, str, str],
    at: str = "",
    config: str = "",
    repository_digests: tuple[str, ...] = (),
) -> Json:
    """As `trivy image --format json` writes it; `found` are id, severity, package, versions."""
    return {
        "SchemaVersion": 2,
        "Trivy": {"Version": "0.68.2"},
        "CreatedAt": at or ago(),
        "ArtifactName": image,
        "ArtifactType": "container_image",
        "Metadata": {
            "OS": {"Family": "debian", "Name": "13.1"},
            "ImageID": config,
            "RepoDigests": list(repository_digests),
        },
        "Results": [
            {
                "Target": f"{image} (debian 13.1)",
                "Class": "os-pkgs",
                "Type": "debian",
                "Vulnerabilities": [
                    {
                        "VulnerabilityID": name,
                        "PkgName": package,
                        "InstalledVersion": installed,
                        "FixedVersion": fixed,
                        "Status": "fixed" if fixed else "affected",
                        "Severity": severity,
                    }
                    for name, severity, package, installed, fixed in found
                ],
            }
        ],
    }


def trivy_of(
    served: Registry,
    image: str,
    pushed: Pushed,
    *found: tuple[str, str, str, str, str],
    architecture: str = "amd64",
    at: str = "",
) -> Json:
    """Of one platform of an image of the registry, as `shop/app:1.4`."""
    repository, _, tag = image.partition(":")
    name = f"{served.host}/{repository}"
    config = configuration(served, repository, pushed.platforms[architecture])
    digests = (f"{name}@{pushed.digest}",)
    return trivy(f"{name}:{tag}", *found, at=at, config=config, repository_digests=digests)


def grype(image: str, manifest: str, config: str, *, at: str = "") -> Json:
    """As `grype --output json` writes it."""
    return {
        "matches": [
            {
                "vulnerability": {
                    "id": "CVE-2026-1000",
                    "severity": "Critical",
                    "fix": {"versions": ["3.0.2"], "state": "fixed"},
                },
                "artifact": {"name": "openssl", "version": "3.0.1"},
            }
        ],
        "source": {
            "type": "image",
            "target": {"userInput": image, "imageID": config, "manifestDigest": manifest},
        },
        "descriptor": {"name": "grype", "version": "0.104.0", "timestamp": at or ago()},
    }


def openvex(*products: str, status: str = "not_affected", name: str = CRITICAL[0]) -> Json:
    return {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://example.com/vex/1",
        "author": "security@example.com",
        "timestamp": ago(60),
        "version": 1,
        "statements": [
            {
                "vulnerability": {"name": name},
                "products": [{"@id": product} for product in products],
                "status": status,
                "justification": "vulnerable_code_not_in_execute_path",
            }
        ],
    }


def written(folder: Path, name: str, value: Json) -> str:
    (folder / name).write_text(json.dumps(value))
    return name
