"""The operator's clock is an hour wrong: libfaketime tells its processes another time than what
everybody else's clock says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batten_chaos import WEBHOOK, Stage, fault, measured, stage
from batten_e2e import Namespace, Output, eventually, new_namespace
from batten_registry import Registry, registry
from batten_scanned import Image, image_scan, pushed

pytestmark = pytest.mark.cluster

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
POLICY: dict[str, Any] = {
    "apiVersion": "batten.dev/v1alpha1",
    "kind": "HardeningPolicy",
    "metadata": {"name": "scanned"},
    "spec": {
        "match": {"namespaceSelector": {"matchLabels": {"scanned": "yes"}}},
        "rules": {
            "scanned-image": {
                "validationActions": ["Deny"],
                "maxAge": "90m",
                "sources": [{"kind": "ImageScan"}],
            }
        },
    },
}


class Clock:
    """Of every process that is started within `environment`; `set` changes it while they run."""

    def __init__(self, folder: Path, hours: float) -> None:
        self._file = folder / "clock"
        self.set(hours)
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # A clock that is set does not make time pass.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, hours: float) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{hours:+}h\n")
        new.rename(self._file)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture(scope="module")
def batten(tmp_path_factory: pytest.TempPathFactory, images: Registry) -> Iterator[Stage]:
    if not LIBRARIES:
        pytest.skip("libfaketime is not installed")
    arguments = ("--look-up-images", f"--plain-http={images.host}")
    with stage(tmp_path_factory.mktemp("chaos"), arguments=arguments) as ready:
        yield ready


@fault(
    "clock an hour wrong",
    webhooks="their certificate holds from a day ago, so that API servers take it; a scan from the"
    " future, or too old by this clock, does not count, which refuses where a policy says Deny",
    controller="leads on: the Lease is judged by time that passes, not by what it says",
)
def test_the_clock_is_an_hour_wrong(batten: Stage, images: Registry, tmp_path: Path) -> None:
    image = pushed(images, "shop/web")
    clock = Clock(tmp_path, +1)
    batten.webhooks(**clock.environment)
    batten.launch("first", "controller", **clock.environment)
    leader = batten.renewed()["holderIdentity"]
    batten.launch("second", "controller")
    traffic = batten.traffic()
    with traffic.flowing(), new_namespace(batten.kubectl, "scanned", {"scanned": "yes"}) as strict:
        batten.kubectl("apply", "-f", "-", stdin=json.dumps(POLICY)).require()
        batten.kubectl(
            "apply", "-f", "-", stdin=json.dumps(image_scan(image, name="web", age=2700))
        ).require()
        eventually(
            lambda: "at most 90 minutes" in ran(strict, image).stderr or None, "too old, it says"
        )
        clock.set(-1)
        eventually(
            lambda: "which is to come" in ran(strict, image).stderr or None,
            "from the future, it says",
        )
        time.sleep(15)  # longer than a Lease lasts
        assert batten.renewed()["holderIdentity"] == leader
        clock.set(0)
        right = time.monotonic()
        eventually(lambda: ran(strict, image).code == 0 or None, "it counts again")
        seconds = time.monotonic() - right
    traffic.right()
    assert not traffic.count()["failed"], traffic.errors
    batten.calm(WEBHOOK, "first", "second")
    measured(test_the_clock_is_an_hour_wrong, seconds, traffic.words(), "nothing")


def ran(namespace: Namespace, image: Image) -> Output:
    return namespace.kubectl("run", "web", f"--image={image.pinned}", "--dry-run=server")
