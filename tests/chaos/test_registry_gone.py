"""The registry is killed while it is asked, and comes back."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from batten_chaos import WEBHOOK, Stage, fault, measured, stage
from batten_e2e import Namespace, Output, eventually, new_namespace
from batten_registry import Registry, registry

pytestmark = pytest.mark.cluster
TAGS = 40


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        for number in range(TAGS):
            found.push("shop/web", str(number), User="1000")
        yield found


@pytest.fixture(scope="module")
def batten(tmp_path_factory: pytest.TempPathFactory, images: Registry) -> Iterator[Stage]:
    arguments = ("--look-up-images", f"--plain-http={images.host}")
    with stage(tmp_path_factory.mktemp("chaos"), arguments=arguments) as ready:
        ready.webhooks()
        ready.launch("controller", "controller")
        yield ready


def ran(namespace: Namespace, images: Registry, tag: int) -> Output:
    run = ("run", f"web-{time.monotonic_ns()}", f"--image={images.host}/shop/web:{tag}")
    return namespace.kubectl(*run, "--dry-run=server", "-o", "json")


@fault(
    "registry gone",
    webhooks="tags that are known keep their digests; a Pod of any other keeps its tag with a"
    " warning, or is refused where pinned-digest says Deny",
    controller="pins what had no digest once the registry is back",
)
def test_the_registry_is_gone(batten: Stage, images: Registry) -> None:
    deny = {"pinned-digest": {"validationActions": ["Deny"]}}
    match = {"namespaceSelector": {"matchLabels": {"chaos": "strict"}}}
    batten.govern("strict", match=match, rules=deny)
    with new_namespace(batten.kubectl, "strict", {"chaos": "strict"}) as strict:
        eventually(lambda: pinned(ran(strict, images, 0)) or None, "a digest")
        traffic = batten.traffic()  # of images that no registry has
        with traffic.flowing():
            images.process.kill()
            images.process.wait()
            for number in range(1, 6):
                refused = ran(strict, images, number)
                assert refused.code, "nothing is let in whose digest nobody knows"
                assert "pinned-digest" in refused.stderr
                kept = ran(batten.namespace, images, number + 10)
                assert not pinned(kept.require())
                assert "cannot be reached" in kept.stderr
                assert pinned(ran(strict, images, 0)), "what is known stays known"
            deployed(batten, images, 20)
            back = time.monotonic()
            images.revive()
            eventually(lambda: pinned(ran(strict, images, 1)) or None, "a digest again", 90)
            seconds = time.monotonic() - back
            eventually(lambda: has_pin(batten) or None, "its revision is pinned", 120)
    traffic.right()
    assert not traffic.count()["failed"], traffic.errors
    batten.calm(WEBHOOK, "controller")
    measured(test_the_registry_is_gone, seconds, traffic.words(), "nothing")


def pinned(done: Output) -> bool:
    return "@sha256:" in done.stdout


def deployed(batten: Stage, images: Registry, tag: int) -> None:
    image = f"--image={images.host}/shop/web:{tag}"
    batten.namespace.kubectl("create", "deployment", "late", image).require()
    batten.namespace.pods(1, "app=late")


def has_pin(batten: Stage) -> bool:
    (found,) = batten.namespace.get("replicasets", "--selector=app=late")["items"]
    annotations = json.dumps(found["metadata"].get("annotations") or {})
    return "@" not in annotations and "sha256:" in annotations
