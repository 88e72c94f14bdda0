"""No byte can be written anywhere: the root is read-only, what stands for /tmp is full, and so is
the disk that the log goes to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from batten_chaos import WEBHOOK, Stage, fault, measured, stage
from batten_e2e import deployment, eventually, run

pytestmark = pytest.mark.cluster

EXPIRY = "batten_certificate_expiry_timestamp_seconds"
ROTATING = ("--certificate-lifetime=12s", "--certificate-propagation=2s")
# In namespaces of their own, so that nobody else sees the mounts.
FULL = """
set -eu
mount -t tmpfs -o size=64k tmpfs /var/tmp
mount -o remount,bind,ro /
cat /dev/zero >/var/tmp/full 2>/dev/null || true
exec "$@" 2>>/var/tmp/log
"""
WITHIN = ("unshare", "--mount", "sh", "-c", FULL, "sh")


@pytest.fixture(scope="module")
def batten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    if run("unshare", "--mount", "true").code:
        pytest.skip("mounts cannot be made here")
    with stage(tmp_path_factory.mktemp("chaos")) as ready:
        yield ready


@fault(
    "disk full",
    webhooks="start, answer and take new certificates; lines of the log are lost",
    controller="goes on: it writes to the API server alone",
)
def test_no_byte_can_be_written(batten: Stage) -> None:
    traffic = batten.traffic()
    batten.webhooks(*ROTATING, within=WITHIN)
    batten.launch("controller", "controller", within=WITHIN)
    with traffic.flowing():
        first = batten.metric(WEBHOOK, EXPIRY)
        assert first
        batten.namespace.apply(deployment("web")).require()
        eventually(lambda: batten.metric(WEBHOOK, EXPIRY) > first or None, "another certificate")
        batten.reports_of({"web"})
    traffic.right()
    assert not traffic.count()["failed"], traffic.errors
    for name in (WEBHOOK, "controller"):
        assert batten.plane.running(name)
        assert not batten.log(name)
    measured(test_no_byte_can_be_written, 0.0, traffic.words(), "nothing")
