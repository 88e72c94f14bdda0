"""The second half of the demo: only scanned images, on the road that a user walks."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from batten_e2e import Namespace, eventually, new_namespace
from batten_install import NAMESPACE, Installation
from batten_node import LOOPBACK, node, node_is_built, own_address, pause_layer, program_layer
from batten_registry import Registry, registry
from batten_scanned import Image, ago, image_scan, pod_template, pushed
from batten_session import Session
from batten_tools import MODULES, scanner, why_no_node

from batten_operator.scan_requests import name_of

FILES = MODULES / "demo"
POLICY = "batten-demo-scanned"
SCANNER = "localhost/scanner:1"
NO_NODE = (
    "No node of the demo's own here, so that no Job runs: `kubectl apply` of a clean ImageScan"
    " stands for the scan."
)

Title = Callable[[str], None]
Show = Callable[[str, str], None]


@dataclass(frozen=True)
class Demo:
    namespace: Namespace
    image: Image
    title: Title
    show: Show
    scans: bool

    def kubectl(self, *arguments: str, shown: str = "", lines: int = 20) -> int:
        done = self.namespace.kubectl(*arguments)
        text = "".join((done.stderr + done.stdout).splitlines(keepends=True)[:lines])
        self.show(f"kubectl {shown or ' '.join(arguments)}", self.readable(text))
        return done.code

    def readable(self, text: str) -> str:
        """With digests as long as a person compares them, and without what kubectl repeats."""
        for full in (self.image.index, *self.image.manifests.values()):
            text = text.replace(full, f"{full[:19]}…").replace(full.replace(":", "-"), "sha256-…")
        return text

    def apply(self, name: str, text: str, *, cat: bool = True) -> int:
        """A file of the demo's, with the image in place of what stands for it."""
        with tempfile.TemporaryDirectory(prefix="batten-demo-") as folder:
            file = Path(folder, name)
            for word, value in (
                ("IMAGE", self.image.tagged),
                ("DIGEST", self.image.amd64),
                ("NOW", ago(0)),
            ):
                text = text.replace(word, value)
            file.write_text(text)
            if cat:
                self.show(f"cat {name}", self.readable(text))
            done = self.namespace.kubectl("apply", "-f", str(file))
        said = (done.stderr + done.stdout).replace(f"{folder}/", "")
        self.show(f"kubectl apply -f {name}", self.readable(said))
        return done.code


def scanned(session: Session, title: Title, show: Show) -> None:
    """Raises ClusterError."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batten-demo-")))
        served = stack.enter_context(registry(folder / "registry"))
        stack.enter_context(_looking_up(session.installation, served))
        scans = _has_node(session)
        if scans:
            machine = stack.enter_context(node(session.plane, folder / "node"))
            layers = [program_layer(scanner())]
            machine.load_layers({SCANNER: ({"Entrypoint": ["/scanner"]}, list(layers))})
        run = session.installation.kubectl
        template = json.dumps(pod_template("scanner", SCANNER))
        run("apply", "-f", "-", stdin=template).require()
        stack.callback(run, "delete", "podtemplate", "scanner", "-n", NAMESPACE)
        stack.callback(run, "delete", "hardeningpolicies", POLICY, "--ignore-not-found")
        stack.callback(run, "delete", "imagescans", "--all")
        name = f"demo-scanned-{int(time.time())}"
        namespace = stack.enter_context(new_namespace(run, name, {"team": POLICY}))
        stack.callback(namespace.kubectl, "delete", "deployment", "shop", "--ignore-not-found")
        layer = pause_layer() if scans else b""
        image = pushed(served, "shop", "1.4", layer=layer, Entrypoint=["/pause"])
        _road(Demo(namespace, image, title, show, scans))


def _road(demo: Demo) -> None:
    demo.title("Only scanned images: what nobody has scanned is refused, and scanned on demand")
    demo.apply("scanned.yaml", (FILES / "scanned.yaml").read_text())
    eventually(lambda: _governed(demo) or None, "the policy governs")
    shop = (FILES / "shop.yaml").read_text()
    demo.apply("shop.yaml", shop, cat=False)
    _show_events(demo, "replicaset", "FailedCreate")
    name = name_of(demo.image.tagged, demo.image.amd64)
    if not demo.scans:
        print(NO_NODE)
        clean = image_scan(demo.image, name=name, age=0)
        eventually(lambda: demo.namespace.kubectl("get", "imagescan", name).code == 0 or None, name)
        demo.namespace.apply(clean).require()

    def complete() -> bool | None:
        found = demo.namespace.kubectl("get", "imagescan", name, "-o", "jsonpath={.spec.scannedAt}")
        return bool(found.stdout) or None

    eventually(complete, "the image is scanned", 60)
    demo.kubectl("get", "imagescans")
    demo.namespace.pods(1, "app=shop")
    if demo.scans:
        demo.kubectl("rollout", "status", "deployment/shop", "--timeout=60s", lines=99)
    demo.kubectl("get", "pods")

    demo.title(
        "Another scanner finds something in what runs: it is told of, and rolled out no more"
    )
    finding = (FILES / "finding.yaml").read_text()
    demo.apply("finding.yaml", finding)
    _show_events(demo, "deployment", "ImageNotAcceptable")
    again = shop.replace('rollout: "1"', 'rollout: "2"')
    eventually(lambda: _refused(demo, again) or None, "the finding counts")
    demo.kubectl("rollout", "restart", "deployment/shop")
    demo.kubectl("get", "pods")

    demo.title("Who knows better says so, in VEX, and it is let in")
    vex = (FILES / "vex.yaml").read_text()
    demo.show("cat vex.yaml >> finding.yaml", vex.replace("NOW", ago(0)))
    demo.apply("finding.yaml", finding + vex, cat=False)
    eventually(lambda: not _refused(demo, again) or None, "the statement counts")
    demo.kubectl("rollout", "restart", "deployment/shop")


def _governed(demo: Demo) -> bool:
    text = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "x"},
            "spec": {"containers": [{"name": "x", "image": demo.image.tagged}]},
        }
    )
    done = demo.namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=text)
    return POLICY in done.stderr


def _refused(demo: Demo, text: str) -> bool:
    dry = ("apply", "--dry-run=server", "-f", "-")
    done = demo.namespace.kubectl(*dry, stdin=text.replace("IMAGE", demo.image.tagged))
    return "CVE-2026-31337" in done.stderr


def _show_events(demo: Demo, kind: str, reason: str) -> None:
    selector = f"--field-selector=reason={reason}"

    def told() -> bool | None:
        return bool(demo.namespace.get("events", selector)["items"]) or None

    eventually(told, f"an event {reason} of the {kind}", 90)
    columns = '-o=jsonpath={.items[0].message}{"\\n"}'
    demo.kubectl("get", "events", selector, columns, shown=f"get events {selector}")


def _has_node(session: Session) -> bool:
    built = not why_no_node() and node_is_built()
    return session.own_cluster and built and own_address() != LOOPBACK


@contextmanager
def _looking_up(installation: Installation, served: Registry) -> Iterator[None]:
    """The operator asks the demo's own registry, too; elsewhere in the demo it asks none, so that
    what is shown does not depend on who answers on the Internet."""
    arguments = ("--look-up-images", f"--plain-http={served.host}")
    installation.stop()
    replace(installation, arguments=(*installation.arguments, *arguments)).start()
    try:
        yield
    finally:
        installation.stop()
        installation.start()
