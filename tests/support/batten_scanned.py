"""Evidence of images that a registry really has, as scanners, CI and attackers write it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from batten_dsse import ENVELOPE, Signer, statement
from batten_install import NAMESPACE
from batten_registry import Registry

from batten_webhooks.rules import RULES

Json = dict[str, Any]
HOUR, DAY = 3600.0, 86400.0
TRIVY_OPERATOR = "system:serviceaccount:trivy-system:trivy-operator"
VULNS = "https://in-toto.io/attestation/vulns/v0.2"
COSIGN_VULN = "https://cosign.sigstore.dev/attestation/vuln/v1"
OPENVEX = "https://openvex.dev/ns/v0.2.0"


def ago(seconds: float) -> str:
    """In RFC 3339; what is to come where it is negative."""
    return f"{datetime.fromtimestamp(time.time() - seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(frozen=True)
class Image:
    """`manifests` and `configurations` are digests by architecture."""

    registry: Registry
    repository: str
    tag: str
    index: str
    manifests: Mapping[str, str]
    configurations: Mapping[str, str]

    @property
    def tagged(self) -> str:
        return f"{self.registry.host}/{self.repository}:{self.tag}"

    @property
    def pinned(self) -> str:
        return f"{self.tagged}@{self.index}"

    @property
    def amd64(self) -> str:
        return self.manifests["amd64"]


def pushed(
    registry: Registry,
    repository: str,
    tag: str = "1",
    platforms: tuple[str, ...] = ("amd64",),
    **config: Any,
) -> Image:
    """An image whose configuration nobody else's is, so that its digests are its own."""
    labels = {"repository": repository, **(config.pop("Labels", None) or {})}
    found = registry.push(
        repository, tag, platforms=platforms, User="1000", Labels=labels, **config
    )
    configurations = {
        architecture: json.loads(registry.manifest(repository, digest))["config"]["digest"]
        for architecture, digest in found.platforms.items()
    }
    return Image(registry, repository, tag, found.digest, found.platforms, configurations)


# --- what was found -----------------------------------------------------------------------------


def cve(
    name: str = "CVE-2026-1", severity: str = "CRITICAL", fixed_in: str = "3.0.2", **said: Any
) -> Json:
    """As an ImageScan says it; without `fixed_in` nobody has mended it."""
    fix = {"fixedIn": fixed_in, "fix": "fixed"} if fixed_in else {"fix": "not-fixed"}
    plain = {"id": name, "severity": severity, "package": "openssl", "installed": "3.0.1"}
    return {**plain, **fix, **said}


def image_scan(
    image: Image,
    *found: Json,
    name: str = "",
    age: float = HOUR,
    digests: Iterable[str] = (),
    database: float | None = None,
    **said: Any,
) -> Json:
    """By default of the one platform of the image; `database` is how old that was, in seconds."""
    scanner: Json = {"name": "Trivy", "version": "0.74.0"}
    if database is not None:
        scanner["databaseUpdatedAt"] = ago(age + database)
    spec: Json = {
        "image": image.tagged,
        "digests": list(digests) or [image.amd64],
        "scanner": scanner,
        "scannedAt": ago(age),
        "vulnerabilities": list(found),
        **said,
    }
    head = {"apiVersion": "batten.dev/v1alpha1", "kind": "ImageScan"}
    return {**head, "metadata": {"name": name or image.repository}, "spec": spec}


def report(
    image: Image,
    *found: Json,
    name: str = "",
    namespace: str = "trivy-system",
    age: float = HOUR,
    digest: str = "",
    **said: Any,
) -> Json:
    """Trivy Operator's; without a namespace it is the cluster's."""
    vulnerabilities = [
        {
            "vulnerabilityID": each["id"],
            "severity": each["severity"],
            "resource": each["package"],
            "installedVersion": each["installed"],
            "fixedVersion": each.get("fixedIn", ""),
        }
        for each in found
    ]
    content = {
        "updateTimestamp": ago(age),
        "artifact": {"repository": image.repository, "digest": digest or image.amd64},
        "registry": {"server": image.registry.host},
        "scanner": {"name": "Trivy", "vendor": "Aqua Security", "version": "0.74.0"},
        "vulnerabilities": vulnerabilities,
        **said,
    }
    metadata = {"name": name or image.repository}
    if namespace:
        metadata["namespace"] = namespace
    kind = "VulnerabilityReport" if namespace else "ClusterVulnerabilityReport"
    head = {"apiVersion": "aquasecurity.github.io/v1alpha1", "kind": kind}
    return {**head, "metadata": metadata, "report": content}


def trivy(digests: Iterable[str], *found: Json, age: float = HOUR) -> Json:
    """What `trivy image --format json` prints."""
    image_id, *others = digests
    vulnerabilities = [
        {
            "VulnerabilityID": each["id"],
            "Severity": each["severity"],
            "PkgName": each["package"],
            "InstalledVersion": each["installed"],
            "FixedVersion": each.get("fixedIn", ""),
        }
        for each in found
    ]
    return {
        "SchemaVersion": 2,
        "ArtifactType": "container_image",
        "CreatedAt": ago(age),
        "Metadata": {"ImageID": image_id, "RepoDigests": [f"app@{each}" for each in others]},
        "Results": [{"Class": "os-pkgs", "Vulnerabilities": vulnerabilities}],
    }


def cosign_vuln(image: Image, *found: Json, age: float = HOUR) -> Json:
    """The predicate of `cosign attest --type vuln`."""
    result = trivy([image.configurations["amd64"], image.amd64], *found, age=age)
    return {
        "scanner": {"uri": "", "version": "0.74.0", "result": result},
        "metadata": {"scanStartedOn": ago(age), "scanFinishedOn": ago(age)},
    }


def openvex(status: str, *names: str, age: float = HOUR, product: str = "") -> Json:
    """The predicate of `cosign attest --type openvex`; `product` is a package URL."""
    said: Json = {"status": status, "timestamp": ago(age)}
    if status == "not_affected":
        said["justification"] = "vulnerable_code_not_present"
    if product:
        said["products"] = [{"@id": product}]
    return {
        "@context": OPENVEX,
        "@id": "https://vendor.example/vex/1",
        "author": "vendor",
        "timestamp": ago(age),
        "version": 1,
        "statements": [{**said, "vulnerability": {"name": name}} for name in names],
    }


def attest(image: Image, signer: Signer, *predicates: tuple[str, Json], of: str = "") -> None:
    """Beside the image, where cosign 2 keeps it; `of` is the digest that it is about."""
    subject = of or image.index
    blobs = [
        (ENVELOPE, signer.sign(statement(subject, predicate, predicate_type=kind)))
        for kind, predicate in predicates
    ]
    tag = f"{image.index.replace(':', '-')}.att"
    image.registry.attach(image.repository, blobs, tag=tag)


# --- what is asked ------------------------------------------------------------------------------


def policy(name: str, pinning: Json | None = None, **scanned: Any) -> Json:
    """Of Namespaces with the label `scans: NAME`: nothing but scans matters there, and what has to
    be pinned for them."""
    rules: dict[str, Json] = {}
    for rule in RULES:
        rules[rule.name] = {"validationActions": []}
        if rule.mutates:
            rules[rule.name]["mutation"] = "Disabled"
    rules["pinned-digest"] = {"mutation": "Enabled", "validationActions": [], **(pinning or {})}
    rules["scanned-image"] = {"validationActions": ["Deny"], **scanned}
    return {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningPolicy",
        "metadata": {"name": name},
        "spec": {
            "priority": 50,
            "match": {"namespaceSelector": {"matchLabels": {"scans": name}}},
            "warnOfChanges": False,
            "rules": rules,
        },
    }


def pod_template(name: str, image: str, **spec: Any) -> Json:
    """To scan by, on this machine's own network, where the tests' registry is."""
    container = {"name": "scan", "image": image, "imagePullPolicy": "Never"}
    own = {"hostNetwork": True, "restartPolicy": "Never", "terminationGracePeriodSeconds": 1}
    return {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "template": {"spec": {"containers": [container], **own, **spec}},
    }


def trivy_definitions() -> list[Json]:
    """Stand for the definitions that Trivy Operator brings: their names, and any content."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1alpha1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"report": anything}}},
    }
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{kind.lower()}s.aquasecurity.github.io"},
            "spec": {
                "group": "aquasecurity.github.io",
                "scope": scope,
                "names": {"kind": kind, "plural": f"{kind.lower()}s", "singular": kind.lower()},
                "versions": [version],
            },
        }
        for kind, scope in (
            ("VulnerabilityReport", "Namespaced"),
            ("ClusterVulnerabilityReport", "Cluster"),
        )
    ]
