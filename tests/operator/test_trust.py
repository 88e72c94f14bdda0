"""Certificates of API servers are trusted as kubectl trusts them, whatever Python there is."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.client import ApiClient

from batten_operator.cluster import configuration
from batten_operator.watch import _connection

KUBECONFIG = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "test",
    "clusters": [{"name": "test", "cluster": {"server": "https://127.0.0.1:1"}}],
    "users": [{"name": "test", "user": {"token": "none"}}],
    "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
}


async def of_client() -> ssl.SSLContext:
    async with ApiClient(await configuration()) as client:
        context = client.rest_client.ssl_context
        assert isinstance(context, ssl.SSLContext)
        return context


async def of_watches() -> ssl.SSLContext:
    return (await _connection(await configuration())).as_ssl_context()


@pytest.mark.parametrize("context", [of_client, of_watches])
def test_a_ca_without_key_identifiers_is_trusted(
    context: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here Python's defaults are those of 3.13, where they are older; tests/image has the rest."""

    def as_of_3_13(*arguments: Any, **named: Any) -> ssl.SSLContext:
        made = default(*arguments, **named)
        made.verify_flags |= ssl.VERIFY_X509_STRICT
        return made

    default = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", as_of_3_13)
    (tmp_path / "kubeconfig").write_text(json.dumps(KUBECONFIG))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    found = asyncio.run(context())
    assert not found.verify_flags & ssl.VERIFY_X509_STRICT
    assert found.verify_mode == ssl.CERT_REQUIRED
    assert found.check_hostname
