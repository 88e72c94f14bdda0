"""Batten on a control plane where something goes wrong, and what requests meet meanwhile.

Webhooks and controller are processes of their own, each with a way of its own to the API server.
`fault` says of a test what is to happen, `measured` what did: rows of one table, which `python -m
bench.chaos` prints and writes to docs/operations.md.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp
import batten_load
from batten_cluster import ControlPlane, free_ports
from batten_e2e import Kubectl, Namespace, Output, eventually, new_namespace
from batten_install import NAMESPACE, RELEASE, Installation, write_kubeconfig
from batten_load import outcome, steadily
from batten_proxy import Proxy
from batten_reports import REPORTS, reports_definition

ROWS = "BATTEN_CHAOS_ROWS"
LEASE = "batten-controller"
UNSAFE_EVERY = 3
WEBHOOK = "operator"  # as Installation calls it
Test = TypeVar("Test", bound=Callable[..., None])


# --- the table ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A row as far as it does not depend on the run: what happens to whom."""

    name: str
    webhooks: str
    controller: str


def fault(name: str, *, webhooks: str, controller: str) -> Callable[[Test], Test]:
    def marked(test: Test) -> Test:
        test.fault = Fault(name, webhooks, controller)  # type: ignore[attr-defined]
        return test

    return marked


def measured(test: Callable[..., None], seconds: float, meanwhile: str, lost: str) -> None:
    """`seconds` from the end of the fault until all is as before; kept where BATTEN_CHAOS_ROWS
    names a file."""
    row = asdict(test.fault)  # type: ignore[attr-defined]
    row |= {"seconds": round(seconds, 1), "meanwhile": meanwhile, "lost": lost}
    print(row)
    if file := os.environ.get(ROWS):
        with Path(file).open("a") as rows:
            rows.write(json.dumps(row) + "\n")


# --- the requests -------------------------------------------------------------------------------

SAFE: dict[str, Any] = {"containers": [batten_load.SAFE]}
UNSAFE: dict[str, Any] = {"containers": [batten_load.UNSAFE]}


@dataclass
class Traffic:
    """Pods that are made at a steady rate, every third of them unsafe, and what became of each.

    All belong to `owner`, so that they are told of by one report.

    `hardened` and `refused` are right; `unhardened` and `let in` must never be. `failed` are those
    that nobody could judge.
    """

    plane: ControlPlane
    namespace: str
    owner: Mapping[str, Any]
    per_second: float
    said: list[tuple[float, str]] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def flowing(self) -> AbstractContextManager[None]:
        return steadily(self.per_second, lambda: api(self.plane), self._make)

    def count(self, since: float = 0.0) -> Counter[str]:
        return Counter(what for at, what in self.said if at >= since)

    def right(self) -> None:
        """Nothing went in that should not have."""
        counted = self.count()
        assert counted["hardened"]
        assert counted["refused"]
        assert not counted["unhardened"], counted
        assert not counted["let in"], counted

    def recovered(self, moment: float) -> float:
        """Seconds from this moment, of time.monotonic(), to the first right answer after which none
        failed."""
        last = max((at for at, what in self.said if what == "failed"), default=0.0)
        after = (at for at, what in self.said if at > max(last, moment) and what != "failed")
        return min(after) - moment

    def words(self) -> str:
        counted = self.count()
        names = ("hardened", "refused", "failed", "unhardened", "let in")
        return ", ".join(
            f"{counted[name]} {name}" for name in names if counted[name] or name in names[2:]
        )

    async def _make(self, session: aiohttp.ClientSession, number: int) -> None:
        unsafe = number % UNSAFE_EVERY == 0
        metadata = {"generateName": "load-", "ownerReferences": [self.owner]}
        pod = {"metadata": metadata, "spec": UNSAFE if unsafe else SAFE}
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        try:
            async with session.post(path, json=pod) as answer:
                status, body = answer.status, await answer.json(content_type=None)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            status, body = 0, {"message": type(error).__name__}
        what = outcome(status, body, unsafe=unsafe)
        if what == "held":  # refused, as nobody had hardened it
            what = "failed"
        self.said.append((time.monotonic(), what))
        if what == "failed":
            self.errors[f"{status} {str(body.get('message'))[:300]}"] += 1


def api(plane: ControlPlane, seconds: float = 15) -> aiohttp.ClientSession:
    """The API server as an administrator calls it, not by way of a proxy."""
    return aiohttp.ClientSession(
        base_url=server(plane.kubeconfig),
        connector=aiohttp.TCPConnector(ssl=administrator(plane), limit=200),
        timeout=aiohttp.ClientTimeout(total=seconds),
    )


def administrator(plane: ControlPlane) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(plane.folder / "ca.crt"))
    context.load_cert_chain(plane.folder / "admin.crt", plane.folder / "admin.key")
    return context


def server(kubeconfig: Path) -> str:
    url: str = json.loads(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    return url


# --- the cluster --------------------------------------------------------------------------------


@dataclass
class Stage:
    """A control plane, the chart, and one process of webhooks; controllers are added by name."""

    plane: ControlPlane
    batten: Installation
    namespace: Namespace
    ways: dict[str, Proxy] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def kubectl(self) -> Kubectl:
        return self.plane.kubectl

    def traffic(self, per_second: float = 9.0) -> Traffic:
        name = "load"
        value = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        self.namespace.apply(value).require()
        uid = self.namespace.get("configmap", name)["metadata"]["uid"]
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid}
        return Traffic(self.plane, self.namespace.name, {**owner, "controller": True}, per_second)

    def webhooks(self, *arguments: str, within: Sequence[str] = (), **environment: str) -> None:
        self.launch(WEBHOOK, "webhook", *arguments, within=within, **environment)
        self.batten.wait_ready()

    def launch(
        self,
        name: str,
        component: str,
        *arguments: str,
        within: Sequence[str] = (),
        **environment: str,
    ) -> None:
        """By a way of its own to the API server, which stays if it is started again."""
        self.prepare(name)
        self.batten.launch(
            name,
            self.batten.port,
            f"--component={component}",
            f"--listen-http=127.0.0.1:{self.ports[name]}",
            *arguments,
            within=within,
            **{"KUBECONFIG": str(self.kubeconfig(name)), **environment},
        )

    def prepare(self, name: str) -> None:
        """Its way, and a kubeconfig with files in place of data, as a Pod has them: nothing has to
        be written to be read."""
        if name in self.ways:
            return
        url = urlsplit(server(self.plane.kubeconfig))
        way = self.ways[name] = Proxy(url.hostname or "", url.port or 0)
        (self.ports[name],) = free_ports(1)
        write_kubeconfig(self.kubectl, RELEASE, self.kubeconfig(name))
        authority = str(self.plane.folder / "ca.crt")
        address = f"https://127.0.0.1:{way.port}"
        self.redirect(name, {"server": address, "certificate-authority": authority})

    def redirect(self, name: str, cluster: dict[str, str]) -> None:
        """The process finds its API server elsewhere from its next start on."""
        config = json.loads(self.kubeconfig(name).read_text())
        config["clusters"][0]["cluster"] = cluster
        self.kubeconfig(name).write_text(json.dumps(config))

    def kubeconfig(self, name: str) -> Path:
        return self.plane.folder / f"{name}.kubeconfig"

    def about(self, name: str, path: str) -> str:
        """What a process says of itself at /metrics or /readyz; "" where it does not answer."""
        url = f"http://127.0.0.1:{self.ports[name]}{path}"
        with suppress(OSError), urllib.request.urlopen(url, timeout=3) as answer:
            return str(answer.read().decode())
        return ""

    def metric(self, name: str, sample: str) -> float:
        pattern = rf"^{re.escape(sample)} (\S+)$"
        found = re.search(pattern, self.about(name, "/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def log(self, name: str) -> list[dict[str, Any]]:
        """Every line is one JSON object: no traceback reaches it."""
        return [
            json.loads(line)
            for line in (self.plane.folder / f"{name}.log").read_text().splitlines()
        ]

    def calm(self, *names: str) -> None:
        """None of them ended or told of a defect."""
        for name in names:
            assert self.plane.running(name), self.log(name)[-5:]
            bad = [
                line
                for line in self.log(name)
                if "exception" in line or line["level"] == "critical"
            ]
            assert not bad, bad

    def govern(self, name: str, **spec: Any) -> None:
        """A policy, of Namespaces that have the label `chaos` with its name unless it says more."""
        self._policy(name, spec).require()

    def governed(self, name: str) -> bool:
        """Whether such a policy is taken."""
        return self._policy(name, {}).code == 0

    def _policy(self, name: str, spec: dict[str, Any]) -> Output:
        match = {"namespaceSelector": {"matchLabels": {"chaos": name}}}
        head = {"apiVersion": "batten.dev/v1alpha1", "kind": "HardeningPolicy"}
        value = {**head, "metadata": {"name": name}, "spec": {"match": match, **spec}}
        return self.kubectl("apply", "-f", "-", stdin=json.dumps(value))

    # --- what the controller does ----------------------------------------------------------------

    def lease(self) -> dict[str, Any]:
        asked = self.kubectl("get", "lease", LEASE, "-n", NAMESPACE, "-o", "json")
        found: dict[str, Any] = json.loads(asked.stdout)["spec"] if asked.code == 0 else {}
        return found

    def renewed(self, after: str = "", seconds: float = 90) -> dict[str, Any]:
        """The Lease, once it is held and was renewed after `after`."""

        def is_it() -> dict[str, Any] | None:
            lease = self.lease()
            held = lease.get("holderIdentity") and lease["renewTime"] > after
            return lease if held else None

        return eventually(is_it, "a controller renews the Lease", seconds)

    def reported(self) -> set[str]:
        """The workloads of the namespace that have a report."""
        return {item["scope"]["name"] for item in self.namespace.get(REPORTS)["items"]}

    def reports_of(self, names: set[str], seconds: float = 120) -> None:
        eventually(lambda: names <= self.reported() or None, f"reports of {sorted(names)}", seconds)


@contextmanager
def stage(folder: Path, *, arguments: tuple[str, ...] = (), **values: str) -> Iterator[Stage]:
    """Nothing of the operator runs yet. There is no scheduler: Pods wait for nobody."""
    ways: dict[str, Proxy] = {}
    try:
        with ControlPlane(folder) as plane:
            plane.end("kube-scheduler")
            plane.kubectl("apply", "-f", "-", stdin=reports_definition()).require()
            batten = Installation(plane, plane.kubectl, arguments=arguments, values=values)
            batten.claim()
            batten.apply_chart()
            with new_namespace(plane.kubectl, "shop") as namespace:
                yield Stage(plane, batten, namespace, ways)
    finally:
        for way in ways.values():
            way.close()
