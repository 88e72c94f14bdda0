"""Scans as tests say them: a few words each, of images that are not there."""

from __future__ import annotations

from typing import Any

from batten_webhooks.evidence.model import ScanEvidence, Statement, Vulnerability
from batten_webhooks.evidence.scans import Found, Platform, Scans

DAY = 86400.0


def digest(name: str) -> str:
    """A digest that a person can tell from others."""
    return f"sha256:{name.encode().hex():0<64.64}"


INDEX = digest("index")
AMD64 = Platform("linux/amd64", digest("amd64"), digest("config"))
ARM64 = Platform("linux/arm64", digest("arm64"), digest("other"))


def vulnerability(
    name: str = "CVE-2026-1", severity: Any = "CRITICAL", **said: Any
) -> Vulnerability:
    return Vulnerability(name, severity, **{"package": "openssl", "installed": "3.0.1", **said})


def evidence(
    *found: Vulnerability, age: float = 1.0, now: float = 0.0, **said: Any
) -> ScanEvidence:
    """A scan of `AMD64`, `age` days before `now`."""
    plain: dict[str, Any] = {"digests": AMD64.digests, "scanner": "trivy", "vulnerabilities": found}
    return ScanEvidence(**{**plain, "scanned": now - age * DAY, **said})


def scans(*found: ScanEvidence, platforms: tuple[Platform, ...] = (AMD64,), **said: Any) -> Scans:
    """Of an image with these platforms; each scan is told of as `ImageScan "a"`, `"b"`, …"""
    named = (Found(f'ImageScan "{chr(97 + at)}"', each) for at, each in enumerate(found))
    return Scans(INDEX, platforms, **{"found": tuple(named), "looked": ("ImageScans",), **said})


def statement(status: Any, *names: str, **said: Any) -> Statement:
    return Statement(frozenset(names or ("CVE-2026-1",)), status, **said)
