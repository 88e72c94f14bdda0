"""The operator's cloud identity, from the flag to the digest, the metrics and the log."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from base64 import b64encode
from pathlib import Path

import pytest
from batten_clouds import ECR, Asked, Told, endpoint, names
from batten_registry import ECR_PASSWORD, ECR_USER, registry
from prometheus_client import CollectorRegistry

from batten_operator.metrics import Metrics
from batten_operator.serve import _Registries
from batten_operator.settings import parse
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.keyring import Keyring
from batten_webhooks.reference import parse_reference

COUNTED = f'batten_cloud_credentials_total{{outcome="%s",registry="{ECR}"}} 1.0'


def test_it_is_asked_as_counted_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")

    def ecr(asked: Asked) -> Told:
        token = b64encode(f"{ECR_USER}:{ECR_PASSWORD}".encode()).decode()
        return Told(
            {"authorizationData": [{"authorizationToken": token, "expiresAt": time.time() + 60}]}
        )

    async def ask(ca: Path) -> tuple[str, str]:
        """The digest, or why there is none, and the metrics."""
        flags = [f"--cloud-registries={ECR}", f"--local-registry={ECR}", f"--registry-ca={ca}"]
        metrics = Metrics(CollectorRegistry(), ())
        registries = _Registries(parse(flags, {}), metrics)
        reference = parse_reference(f"{ECR}/team/app:1.4")
        try:
            found = await registries.images.digest(reference, Keyring(), 20)
        except RegistryError as error:
            found = str(error)
        await registries.close()
        return found, metrics.text().decode()

    with (
        registry(tmp_path, "htpasswd", tls=True, names=(ECR,)) as found,
        endpoint(ecr) as api,
        caplog.at_level(logging.WARNING, "batten_operator"),
    ):
        pushed = found.push("team/app", "1.4")
        assert found.ca
        names(monkeypatch, {ECR: int(found.host.rpartition(":")[2])})
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{api.port}")
        digest, metrics = asyncio.run(ask(found.ca))
        assert digest == pushed.digest
        assert COUNTED % "granted" in metrics
        assert not caplog.records
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        why, metrics = asyncio.run(ask(found.ca))
        assert (
            f"the operator's cloud identity gave no credential for {ECR}: its log says why" in why
        )
        assert COUNTED % "failed" in metrics
        (line,) = caplog.records
        assert line.getMessage() == "no cloud credential"
        told = line.__dict__["fields"]
        assert told["registry"] == ECR
        assert told["error"].startswith("EndpointConnectionError: Could not connect")


def test_no_library_of_a_cloud_logs_what_it_is_answered() -> None:
    """Answers are credentials, and botocore tells of them at debug. In a process of its own: the
    operator's logs are set up once."""
    script = """
import logging
from batten_operator.logs import configure
configure("debug")
import azure.identity, botocore.session, google.auth
for name in ("azure.core.pipeline", "botocore.parsers", "google.auth.transport", "msal.token"):
    assert not logging.getLogger(name).isEnabledFor(logging.ERROR), name
assert logging.getLogger("batten_operator").isEnabledFor(logging.DEBUG)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
