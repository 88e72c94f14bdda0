"""Certificates that have ended, and CAs that change under load."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from batten_chaos import WEBHOOK, Stage, fault, measured, stage
from batten_e2e import eventually
from batten_install import NAMESPACE

from batten_operator.certificates import Store, fresh, to_data

pytestmark = pytest.mark.cluster

SECRET = "batten-webhook-certificate"  # noqa: S105
NAMES = ("127.0.0.1",)
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def batten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("chaos")) as ready:
        yield ready


def trust(batten: Stage, bundle: bytes) -> None:
    """As whoever issues the certificate writes it into both configurations."""
    encoded = base64.b64encode(bundle).decode()
    for kind in ("mutating", "validating"):
        name = f"{kind}webhookconfiguration/batten"
        hooks = json.loads(batten.kubectl("get", name, "-o", "json").require().stdout)["webhooks"]
        value: dict[str, Any] = {
            "webhooks": [
                {"name": hook["name"], "clientConfig": {"caBundle": encoded}} for hook in hooks
            ]
        }
        batten.kubectl("patch", name, "--type=strategic", "-p", json.dumps(value)).require()


def write(folder: Path, store: Store) -> None:
    """As the kubelet does: both change together."""
    for name, content in (("tls.key", store.serving.key), ("tls.crt", store.serving.certificate)):
        (folder / f"new.{name}").write_bytes(content)
    for name in ("tls.key", "tls.crt"):
        (folder / f"new.{name}").rename(folder / name)


@fault(
    "our certificate has expired",
    webhooks="issue another at once; API servers trust it once both caBundles are written",
    controller="is not concerned",
)
def test_our_own_has_expired(batten: Stage) -> None:
    """Nothing ran while it did, or it would have been renewed."""
    ended = fresh(NAMES, timedelta(seconds=-60), datetime.now(UTC))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": NAMESPACE},
        "data": to_data(ended),
    }
    batten.kubectl("apply", "-f", "-", stdin=json.dumps(secret)).require()
    trust(batten, ended.bundle)
    traffic = batten.traffic()
    with traffic.flowing():
        started = time.monotonic()
        batten.webhooks()
        eventually(lambda: traffic.count()["hardened"] > 5 or None, "Pods are hardened")
    batten.plane.end(WEBHOOK)
    traffic.right()
    seconds = traffic.recovered(started)
    measured(test_our_own_has_expired, seconds, traffic.words(), "nothing")


@fault(
    "somebody else's certificate has expired",
    webhooks="serve it on, and say so in the log once: Pods wait until it is renewed; then it is"
    " read within 2 s",
    controller="is not concerned",
)
def test_somebody_elses_has_expired(batten: Stage, tmp_path: Path) -> None:
    store = fresh(NAMES, timedelta(seconds=15), datetime.now(UTC))
    write(tmp_path, store)
    trust(batten, store.bundle)
    batten.webhooks(f"--certificate-directory={tmp_path}")
    traffic = batten.traffic()
    with traffic.flowing():
        eventually(lambda: traffic.count()["hardened"] > 5 or None, "Pods are hardened", 10)
        said = "certificate not renewed"
        eventually(
            lambda: any(said in each["message"] for each in batten.log(WEBHOOK)) or None, said
        )
        # Connections of before hold on, and so does what they ask; the next is refused.
        batten.plane.end(WEBHOOK)
        batten.webhooks(f"--certificate-directory={tmp_path}")
        eventually(lambda: traffic.count()["failed"] > 5 or None, "nobody trusts it")
        renewed = fresh(NAMES, DAY, datetime.now(UTC))
        trust(batten, store.bundle + renewed.bundle)
        write(tmp_path, renewed)
        healed, before = time.monotonic(), traffic.count()["hardened"]
        eventually(lambda: traffic.count()["hardened"] > before + 5 or None, "trusted again")
    traffic.right()
    assert any("expired" in error for error in traffic.errors), traffic.errors
    batten.plane.end(WEBHOOK)
    seconds = traffic.recovered(healed)
    measured(test_somebody_elses_has_expired, seconds, traffic.words(), "nothing")


@fault(
    "CA changed under load",
    webhooks="serve the new certificate to new connections; those that are open stay",
    controller="is not concerned",
)
def test_the_authority_changes(batten: Stage, tmp_path: Path) -> None:
    """Of somebody else's: its bundle is put beside the old one before the certificate changes.
    Our own is rotated so in tests/operator."""
    old = fresh(NAMES, DAY, datetime.now(UTC))
    write(tmp_path, old)
    trust(batten, old.bundle)
    batten.webhooks(f"--certificate-directory={tmp_path}")
    traffic = batten.traffic()
    with traffic.flowing():
        for _ in range(3):
            time.sleep(1)
            new = fresh(NAMES, DAY, datetime.now(UTC))
            trust(batten, old.bundle + new.bundle)
            time.sleep(1)  # the API server follows by a watch
            write(tmp_path, new)
            time.sleep(3)  # the folder is looked at every 2 s
            trust(batten, new.bundle)
            old = new
        time.sleep(1)
    traffic.right()
    assert not traffic.count()["failed"], traffic.errors
    loaded = [each for each in batten.log(WEBHOOK) if each["message"] == "certificate loaded"]
    assert len(loaded) >= 4
    batten.calm(WEBHOOK)
    batten.plane.end(WEBHOOK)
    measured(test_the_authority_changes, 0.0, traffic.words(), "nothing")
