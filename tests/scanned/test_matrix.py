"""What is known of an image, what a policy asks, and what `kubectl` prints then, word for word.

Each row has an image of its own in a real registry; what scanners, CI and attackers say of it is
written by users with no more rights than they need for it. The answers stand in `messages.txt`:
`BATTEN_UPDATE_GOLDENS=1` writes it anew; read the difference before committing it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from batten_dsse import Signer
from batten_e2e import Kubectl, Namespace, Output, eventually, new_namespace, pod
from batten_install import Installation, webhooks_removed
from batten_pinning import workload
from batten_registry import Registry
from batten_scanned import (
    COSIGN_VULN,
    DAY,
    HOUR,
    OPENVEX,
    TRIVY_OPERATOR,
    VULNS,
    Image,
    Json,
    ago,
    attest,
    cosign_vuln,
    cve,
    image_scan,
    openvex,
    policy,
    pushed,
    report,
)
from batten_scans import digest

from batten_webhooks.authorship import WRITTEN_BY

pytestmark = pytest.mark.cluster

GOLDEN = Path(__file__).parent / "messages.txt"
AWAY = "127.0.0.1:9"
SIGNER, STRANGER = Signer.fresh(), Signer.fresh()
BOTH = ("amd64", "arm64")
OTHER = f"pkg:oci/other@{digest('other').replace(':', '%3A')}"
# Whoever may write ImageScans, and reports in the Namespaces that are theirs.
CI, INTERN, TENANT = "ci", "intern", "tenant"


@dataclass(frozen=True)
class By:
    """What somebody wrote, not the administrator. In `turn` 1 he writes it over what was there;
    what is `unseen` was written while the webhooks were away."""

    user: str
    value: Json
    turn: int = 0
    unseen: bool = False


@dataclass(frozen=True)
class World:
    """Namespaces by the policy that governs them, images by the row that they are of."""

    namespaces: dict[str, Namespace]
    images: dict[str, Image]

    def create(self, row: Row, value: Json) -> Output:
        namespace = self.namespaces[row.policy]
        return namespace.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(value))


def one_pod(_: World, image: Image) -> Json:
    return pod(containers=[{"name": "app", "image": image.tagged}])


def nothing(_: Image) -> list[Json | By]:
    return []


def untouched(_: Image) -> None: ...


@dataclass(frozen=True)
class Row:
    """`evidence` is what the cluster holds of the image, `beside` changes what the registry has;
    `value` is what is created then."""

    name: str
    evidence: Callable[[Image], list[Json | By]] = nothing
    policy: str = "plain"
    platforms: tuple[str, ...] = ("amd64",)
    beside: Callable[[Image], None] = untouched
    value: Callable[[World, Image], Json] = one_pod


def policies(host: str) -> dict[str, Json]:
    """By name, the options of `scanned-image`; `pinning` are those of pinned-digest."""
    allowed = {"id": "CVE-2026-1", "reason": "behind a proxy", "expires": "2099-01-01T00:00:00Z"}
    of_trivy: Json = {"kind": "VulnerabilityReport", "namespaces": ["trivy-system"]}
    signed = {"kind": "Attestation", "keys": [SIGNER.public]}
    return {
        "plain": {},
        "warn": {"validationActions": ["Warn"]},
        "audit": {"validationActions": ["Audit"]},
        "off": {"validationActions": []},
        "on-demand": {"scanWith": "trivy"},
        "tags": {"pinning": {"mutation": "Disabled"}},
        "dry-run": {"pinning": {"mutation": "DryRun"}},
        "hour": {"maxAge": "1h30m"},
        "database": {"maxDatabaseAge": "24h"},
        "high": {"failOn": ["CRITICAL", "HIGH"]},
        "fixed": {"ignoreUnfixed": True},
        "maintained": {"failOnEndOfLife": True},
        "no-vex": {"vex": False},
        "grace": {"grace": "72h"},
        "allow": {"allow": [allowed]},
        "allowed-once": {"allow": [{**allowed, "expires": "2026-01-01T00:00:00Z"}]},
        "exempt": {"exempt": [f"{host}/base-*"]},
        "reports": {"sources": [of_trivy]},
        "operator": {"sources": [{"kind": "VulnerabilityReport", "users": [TRIVY_OPERATOR]}]},
        "strict": {"sources": [{**of_trivy, "users": [TRIVY_OPERATOR]}]},
        "by-ci": {"sources": [{"kind": "ImageScan", "users": [CI]}]},
        "signed": {"sources": [signed]},
        "any": {"sources": [{"kind": "ImageScan"}, of_trivy, signed]},
        "granted": {},
    }


def index_of(*architectures: str) -> Callable[[Image], list[Json | By]]:
    """A scan that names the index, and these platforms."""
    return lambda i: [image_scan(i, digests=[i.index, *(i.manifests[a] for a in architectures)])]


def named(name: str, of: Image, *found: Json, **said: Any) -> Json:
    return image_scan(of, *found, name=f"{of.repository}-{name}", **said)


def annotated(value: Json, author: str) -> Json:
    metadata = {**value["metadata"], "annotations": {WRITTEN_BY: author}}
    return {**value, "metadata": metadata}


def vex(status: str, age: float = HOUR, **said: Any) -> Json:
    return {"vulnerabilities": ["CVE-2026-1"], "status": status, "time": ago(age), **said}


def with_vex(*statements: Json) -> Callable[[Image], list[Json | By]]:
    return lambda i: [image_scan(i, cve(), statements=list(statements))]


def signed(
    *predicates: tuple[str, Callable[[Image], Json]], by: Signer = SIGNER, of: str = ""
) -> Callable[[Image], None]:
    return lambda i: attest(i, by, *((kind, made(i)) for kind, made in predicates), of=of)


def in_toto(image: Image, *found: Json, age: float = HOUR) -> Json:
    result = [
        {"id": each["id"], "severity": [{"method": "nvd", "score": each["severity"]}]}
        for each in found
    ]
    scanner = {"uri": "pkg:github/aquasecurity/trivy@0.74.0", "result": result}
    return {"scanner": scanner, "metadata": {"scanFinishedOn": ago(age)}}


def moved(image: Image) -> None:
    """The tag, to other content, after the scan."""
    pushed(image.registry, image.repository, image.tag, Labels={"version": "2"})


def template(kind: str, **spec: Any) -> Callable[[World, Image], Json]:
    return lambda _, image: workload(kind, image.tagged, **spec)


def cron_job(_: World, image: Image) -> Json:
    job = {"spec": workload("Job", image.tagged)["spec"]}
    head = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "nightly"}}
    return head | {"spec": {"schedule": "0 3 * * *", "jobTemplate": job}}


def beside_a_good_one(**spec: Any) -> Callable[[World, Image], Json]:
    """A Pod whose container is scanned, and that has the row's image somewhere else."""

    def value(world: World, image: Image) -> Json:
        text = json.dumps(spec).replace("IMAGE", image.tagged)
        good = world.images["scanned"].tagged
        return pod(containers=[{"name": "app", "image": good}], **json.loads(text))

    return value


def pinned(image: Callable[[Image], str]) -> Callable[[World, Image], Json]:
    return lambda _, i: pod(containers=[{"name": "app", "image": image(i)}])


INIT = {"name": "init", "image": "IMAGE"}
VOLUME = {"name": "data", "image": {"reference": "IMAGE"}}

ROWS = [
    # Missing, and there.
    Row("not-scanned"),
    Row("scanned", lambda i: [image_scan(i)]),
    Row("scanned-by-digest", lambda i: [image_scan(i)], value=pinned(lambda i: i.pinned)),
    Row(
        "scanned-by-the-platforms-digest",
        lambda i: [image_scan(i)],
        value=pinned(lambda i: f"{i.tagged}@{i.amd64}"),
    ),
    Row(
        "scanned-by-its-configuration",
        lambda i: [image_scan(i, digests=[i.configurations["amd64"]])],
    ),
    Row(
        "harmless-findings",
        lambda i: [image_scan(i, cve(severity="HIGH"), cve("CVE-2026-2", "LOW"))],
    ),
    Row("critical", lambda i: [image_scan(i, cve())]),
    Row("critical-without-a-fix", lambda i: [image_scan(i, cve(fixed_in=""))]),
    Row(
        "many-criticals",
        lambda i: [image_scan(i, *(cve(f"CVE-2026-{n}", package=f"lib{n}") for n in range(1, 9)))],
    ),
    Row(
        "wanted-but-not-scanned-yet",
        lambda i: [
            {
                **image_scan(i),
                "spec": {
                    "image": i.tagged,
                    "digests": [i.amd64],
                    "platform": "linux/amd64",
                    "request": {"template": "none", "namespace": "default"},
                },
            }
        ],
        "on-demand",
    ),
    Row("not-scanned-but-on-demand", policy="on-demand"),
    # When.
    Row("stale", lambda i: [image_scan(i, age=8 * DAY)]),
    Row("just-fresh", lambda i: [image_scan(i, age=6.9 * DAY)]),
    Row("stale-by-the-policys-age", lambda i: [image_scan(i, age=3 * HOUR)], "hour"),
    Row("fresh-by-the-policys-age", lambda i: [image_scan(i, age=HOUR)], "hour"),
    Row("from-the-future", lambda i: [image_scan(i, age=-DAY)]),
    Row("a-clock-that-is-a-minute-ahead", lambda i: [image_scan(i, age=-60)]),
    Row("undated", lambda i: [report(i, updateTimestamp=None)], "reports"),
    Row("stale-and-bad", lambda i: [image_scan(i, cve(), age=8 * DAY)]),
    Row("stale-and-fresh", lambda i: [named("old", i, cve(), age=8 * DAY), named("new", i)]),
    Row("two-stale", lambda i: [named("a", i, age=8 * DAY), named("b", i, age=30 * DAY)]),
    Row("old-database", lambda i: [image_scan(i, database=9 * DAY)], "database"),
    Row("no-date-of-the-database", lambda i: [image_scan(i)], "database"),
    Row("fresh-database", lambda i: [image_scan(i, database=6 * HOUR)], "database"),
    # Of what.
    Row("index-alone-of-one-platform", index_of()),
    Row("index-alone-of-two-platforms", index_of(), platforms=BOTH),
    Row("index-and-both-platforms", index_of(*BOTH), platforms=BOTH),
    Row("one-platform-of-two", index_of("arm64"), platforms=BOTH),
    Row(
        "each-platform-by-itself",
        lambda i: [named(a, i, digests=[i.manifests[a]]) for a in BOTH],
        platforms=BOTH,
    ),
    Row(
        "one-platform-bad",
        lambda i: [
            named("amd64", i),
            named("arm64", i, cve(), digests=[i.manifests["arm64"]]),
        ],
        platforms=BOTH,
    ),
    Row(
        "one-platform-stale",
        lambda i: [
            named("amd64", i),
            named("arm64", i, digests=[i.manifests["arm64"]], age=9 * DAY),
        ],
        platforms=BOTH,
    ),
    Row(
        "a-platform-that-nodes-lack",
        lambda i: [image_scan(i, digests=[i.index, i.manifests["s390x"]])],
        platforms=("amd64", "s390x"),
    ),
    Row("another-image", lambda i: [image_scan(i, digests=[digest("another")])]),
    Row("no-digest", lambda i: [report(i, artifact={"repository": i.repository})], "reports"),
    Row("re-tagged", lambda i: [image_scan(i)], beside=moved),
    Row(
        "re-tagged-but-by-digest",
        lambda i: [image_scan(i)],
        beside=moved,
        value=pinned(lambda i: i.pinned),
    ),
    # Several.
    Row("two-that-disagree", lambda i: [named("a", i), named("b", i, cve())]),
    Row(
        "two-sources-that-disagree",
        lambda i: [image_scan(i), By(TRIVY_OPERATOR, report(i, cve()))],
        "any",
    ),
    Row(
        "two-sources-that-agree",
        lambda i: [image_scan(i), By(TRIVY_OPERATOR, report(i))],
        "any",
    ),
    Row(
        "the-same-finding-twice",
        lambda i: [named("a", i, cve()), named("b", i, cve())],
    ),
    Row(
        "a-good-scan-beside-a-foreign-one",
        lambda i: [named("a", i), named("b", i, cve(), digests=[digest("b"), i.index])],
        platforms=("amd64", "s390x"),
    ),
    # By whom.
    Row("report-of-the-cluster", lambda i: [report(i, namespace="")], "operator"),
    Row(
        "report-of-the-cluster-by-trivy",
        lambda i: [By(TRIVY_OPERATOR, report(i, namespace=""))],
        "operator",
    ),
    Row("report-of-a-trusted-namespace", lambda i: [By(TRIVY_OPERATOR, report(i))], "reports"),
    Row(
        "report-of-a-trusted-namespace-bad",
        lambda i: [By(TRIVY_OPERATOR, report(i, cve(), os={"family": "debian"}))],
        "reports",
    ),
    Row(
        "report-of-the-attackers-namespace",
        lambda i: [By(TENANT, report(i, namespace="tenant"))],
        "reports",
    ),
    Row(
        "report-of-the-attackers-namespace-that-hides-none",
        lambda i: [
            By(TENANT, report(i, namespace="tenant")),
            By(TRIVY_OPERATOR, report(i, cve())),
        ],
        "reports",
    ),
    Row(
        "report-of-the-attackers-namespace-that-harms-none",
        lambda i: [
            By(TENANT, report(i, cve(), namespace="tenant")),
            By(TRIVY_OPERATOR, report(i)),
        ],
        "reports",
    ),
    Row(
        "report-of-an-untrusted-user",
        lambda i: [By(TENANT, report(i, namespace="tenant"))],
        "operator",
    ),
    Row(
        "report-of-a-trusted-user",
        lambda i: [By(TRIVY_OPERATOR, report(i, namespace="shop"))],
        "operator",
    ),
    Row(
        "report-of-the-right-user-elsewhere",
        lambda i: [By(TRIVY_OPERATOR, report(i, namespace="shop"))],
        "strict",
    ),
    Row("report-of-the-wrong-user-in-the-right-place", lambda i: [report(i)], "strict"),
    Row("report-right-in-both", lambda i: [By(TRIVY_OPERATOR, report(i))], "strict"),
    Row(
        "report-of-nobody-knows-whom",
        lambda i: [By(TRIVY_OPERATOR, report(i), unseen=True)],
        "operator",
    ),
    Row("report-where-only-image-scans-count", lambda i: [By(TRIVY_OPERATOR, report(i))]),
    Row("image-scan-where-only-reports-count", lambda i: [image_scan(i)], "reports"),
    Row("image-scan-of-ci", lambda i: [By(CI, image_scan(i))], "by-ci"),
    Row("image-scan-of-an-untrusted-user", lambda i: [By(INTERN, image_scan(i))], "by-ci"),
    Row("image-scan-of-nobody-knows-whom", lambda i: [By(CI, image_scan(i), unseen=True)], "by-ci"),
    Row(
        "author-forged-on-create",
        lambda i: [By(INTERN, annotated(image_scan(i), CI))],
        "by-ci",
    ),
    Row(
        "author-forged-on-update",
        lambda i: [By(INTERN, image_scan(i)), By(INTERN, annotated(image_scan(i), CI), 1)],
        "by-ci",
    ),
    Row(
        "content-changed-by-another",
        lambda i: [By(CI, image_scan(i, cve())), By(INTERN, annotated(image_scan(i), CI), 1)],
        "by-ci",
    ),
    Row(
        "labelled-by-another",
        lambda i: [
            By(CI, scan := image_scan(i)),
            By(INTERN, {**scan, "metadata": {**scan["metadata"], "labels": {"team": "shop"}}}, 1),
        ],
        "by-ci",
    ),
    Row(
        "author-forged-before-anybody-saw",
        lambda i: [By(INTERN, annotated(image_scan(i), CI), unseen=True)],
        "by-ci",
    ),
    # Signed.
    Row("signed", policy="signed", beside=signed((COSIGN_VULN, cosign_vuln))),
    Row("signed-in-toto", policy="signed", beside=signed((VULNS, in_toto))),
    Row(
        "signed-and-bad",
        policy="signed",
        beside=signed((COSIGN_VULN, lambda i: cosign_vuln(i, cve()))),
    ),
    Row(
        "signed-by-a-stranger",
        policy="signed",
        beside=signed((COSIGN_VULN, cosign_vuln), by=STRANGER),
    ),
    Row(
        "signed-for-another-image",
        policy="signed",
        beside=signed((COSIGN_VULN, cosign_vuln), of=digest("other")),
    ),
    Row(
        "signed-and-stale",
        policy="signed",
        beside=signed((COSIGN_VULN, lambda i: cosign_vuln(i, age=8 * DAY))),
    ),
    Row(
        "signed-but-no-scan",
        policy="signed",
        beside=signed(("https://slsa.dev/provenance/v1", lambda _: {"buildDefinition": {}})),
    ),
    Row(
        "signed-by-a-stranger-beside-a-scan",
        lambda i: [image_scan(i)],
        "any",
        beside=signed((COSIGN_VULN, lambda i: cosign_vuln(i, cve())), by=STRANGER),
    ),
    Row(
        "a-signed-scan-beside-one-that-is-not",
        lambda i: [image_scan(i)],
        "any",
        beside=signed((COSIGN_VULN, lambda i: cosign_vuln(i, cve()))),
    ),
    Row("nothing-anywhere", policy="any"),
    # VEX.
    Row("vex-not-affected", with_vex(vex("not_affected"))),
    Row("vex-fixed", with_vex(vex("fixed"))),
    Row("vex-affected", with_vex(vex("affected"))),
    Row("vex-under-investigation", with_vex(vex("under_investigation"))),
    Row("vex-taken-back", with_vex(vex("not_affected", DAY), vex("affected", HOUR))),
    Row("vex-given-at-last", with_vex(vex("affected", DAY), vex("not_affected", HOUR))),
    Row("vex-of-one-time", with_vex(vex("affected", DAY), vex("not_affected", DAY))),
    Row("vex-of-the-package", with_vex(vex("not_affected", package="openssl"))),
    Row("vex-of-another-package", with_vex(vex("not_affected", package="zlib"))),
    Row("vex-of-another-version", with_vex(vex("not_affected", package="openssl", installed="1"))),
    Row(
        "vex-of-another-vulnerability",
        with_vex({**vex("not_affected"), "vulnerabilities": ["CVE-2026-9"]}),
    ),
    Row("vex-where-none-counts", with_vex(vex("not_affected")), "no-vex"),
    Row(
        "vex-signed",
        lambda i: [image_scan(i, cve())],
        "any",
        beside=signed((OPENVEX, lambda _: openvex("not_affected", "CVE-2026-1"))),
    ),
    Row(
        "vex-signed-by-a-stranger",
        lambda i: [image_scan(i, cve())],
        "any",
        beside=signed((OPENVEX, lambda _: openvex("not_affected", "CVE-2026-1")), by=STRANGER),
    ),
    Row(
        "vex-signed-for-another-product",
        lambda i: [image_scan(i, cve())],
        "any",
        beside=signed((OPENVEX, lambda _: openvex("not_affected", "CVE-2026-1", product=OTHER))),
    ),
    Row(
        "vex-alone-is-no-scan",
        policy="any",
        beside=signed((OPENVEX, lambda _: openvex("not_affected", "CVE-2026-1"))),
    ),
    # What a policy asks.
    Row("high-where-high-fails", lambda i: [image_scan(i, cve(severity="HIGH"))], "high"),
    Row("worst-first", lambda i: [image_scan(i, cve("CVE-2026-3", "HIGH"), cve())], "high"),
    Row("unfixed-where-that-passes", lambda i: [image_scan(i, cve(fixed_in=""))], "fixed"),
    Row("fixed-where-unfixed-passes", lambda i: [image_scan(i, cve())], "fixed"),
    Row("end-of-life", lambda i: [image_scan(i, endOfLife=True)], "maintained"),
    Row("end-of-life-that-nobody-minds", lambda i: [image_scan(i, endOfLife=True)]),
    Row("news-within-grace", lambda i: [image_scan(i, cve(published=ago(DAY)))], "grace"),
    Row("news-after-grace", lambda i: [image_scan(i, cve(published=ago(4 * DAY)))], "grace"),
    Row("grace-without-a-date", lambda i: [image_scan(i, cve())], "grace"),
    Row("allowed", lambda i: [image_scan(i, cve())], "allow"),
    Row(
        "allowed-by-an-alias",
        lambda i: [image_scan(i, cve("GHSA-1", aliases=["CVE-2026-1"]))],
        "allow",
    ),
    Row("allowed-another", lambda i: [image_scan(i, cve(), cve("CVE-2026-2"))], "allow"),
    Row("allowed-once", lambda i: [image_scan(i, cve())], "allowed-once"),
    Row("base-exempt", policy="exempt"),
    Row("not-exempt", policy="exempt"),
    Row("granted-an-exception", lambda i: [image_scan(i, cve())], "granted"),
    Row("warn-only", policy="warn"),
    Row("warn-only-of-a-finding", lambda i: [image_scan(i, cve())], "warn"),
    Row("audit-only", policy="audit"),
    Row("switched-off", lambda i: [image_scan(i, cve())], "off"),
    Row("a-tag-that-nobody-pins", lambda i: [image_scan(i)], "tags"),
    Row("a-tag-that-would-be-pinned", lambda i: [image_scan(i)], "dry-run"),
    Row(
        "pinned-by-its-author", lambda i: [image_scan(i)], "tags", value=pinned(lambda i: i.pinned)
    ),
    Row("registry-away", value=pinned(lambda _: f"{AWAY}/app:1")),
    Row("registry-away-by-digest", value=pinned(lambda _: f"{AWAY}/app@{digest('away')}")),
    Row("not-in-the-registry", value=pinned(lambda i: f"{i.tagged}-nowhere")),
    # Where.
    Row("deployment-not-scanned", value=template("Deployment")),
    Row("deployment-scanned", lambda i: [image_scan(i)], value=template("Deployment")),
    Row("deployment-stale", lambda i: [image_scan(i, age=8 * DAY)], value=template("Deployment")),
    Row("deployment-bad", lambda i: [image_scan(i, cve())], value=template("Deployment")),
    Row("deployment-that-waits", policy="on-demand", value=template("Deployment")),
    Row(
        "deployment-away",
        value=lambda _, i: workload("Deployment", f"{AWAY}/app:1"),
    ),
    Row("stateful-set-bad", lambda i: [image_scan(i, cve())], value=template("StatefulSet")),
    Row("job-bad", lambda i: [image_scan(i, cve())], value=template("Job")),
    Row("cron-job-not-scanned", value=cron_job),
    Row("cron-job-bad", lambda i: [image_scan(i, cve())], value=cron_job),
    Row("init-not-scanned", value=beside_a_good_one(initContainers=[INIT])),
    Row(
        "sidecar-bad",
        lambda i: [image_scan(i, cve())],
        value=beside_a_good_one(initContainers=[{**INIT, "restartPolicy": "Always"}]),
    ),
    Row("volume-not-scanned", value=beside_a_good_one(volumes=[VOLUME])),
    Row("volume-scanned", lambda i: [image_scan(i)], value=beside_a_good_one(volumes=[VOLUME])),
    Row(
        "two-images-each-with-its-own",
        lambda i: [image_scan(i, cve())],
        value=beside_a_good_one(initContainers=[INIT, {"name": "other", "image": f"{AWAY}/x:1"}]),
    ),
]

DEBUGGED = [
    Row("debugged-with-what-is-not-scanned"),
    Row("debugged-with-what-is-bad", lambda i: [image_scan(i, cve())]),
    Row("debugged-with-what-is-scanned", lambda i: [image_scan(i)]),
]


# --- the world ----------------------------------------------------------------------------------


@dataclass
class _Written:
    """Evidence by who writes it and when."""

    seen: dict[tuple[int, str], list[Json]] = field(default_factory=dict)
    unseen: dict[str, list[Json]] = field(default_factory=dict)

    def take(self, each: Json | By) -> None:
        by = each if isinstance(each, By) else By("", each)
        if by.unseen:
            self.unseen.setdefault(by.user, []).append(by.value)
        else:
            self.seen.setdefault((by.turn, by.user), []).append(by.value)


def write(kubectl: Kubectl, user: str, values: list[Json]) -> None:
    items = {"apiVersion": "v1", "kind": "List", "items": values}
    acting = [f"--as={user}"] if user else []
    # Which of the annotations is kept is the webhook's to say, not kubectl's.
    kubectl(
        *acting, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(items)
    ).require()


def writers() -> list[Json]:
    """The rights of those who write scans: no more than each of them needs."""
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    verbs = ["get", "create", "update", "patch"]
    kinds = {
        "image-scans": ("batten.dev", ["imagescans"]),
        "reports": (
            "aquasecurity.github.io",
            ["vulnerabilityreports", "clustervulnerabilityreports"],
        ),
    }
    roles = [
        {
            **rbac,
            "kind": "ClusterRole",
            "metadata": {"name": f"write-{name}"},
            "rules": [{"apiGroups": [group], "resources": resources, "verbs": verbs}],
        }
        for name, (group, resources) in kinds.items()
    ]

    def bound(user: str, role: str, namespace: str = "") -> Json:
        metadata = {
            "name": user.replace(":", "-"),
            **({"namespace": namespace} if namespace else {}),
        }
        return {
            **rbac,
            "kind": "RoleBinding" if namespace else "ClusterRoleBinding",
            "metadata": metadata,
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": role,
            },
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }

    return [
        *roles,
        bound(CI, "write-image-scans"),
        bound(INTERN, "write-image-scans"),
        bound(TRIVY_OPERATOR, "write-reports"),
        bound(TENANT, "write-reports", "tenant"),
    ]


@pytest.fixture(scope="module")
def world(operator: Installation, kubectl: Kubectl, plain: Registry) -> Iterator[World]:
    asked = policies(plain.host)
    images = {
        row.name: pushed(plain, row.name, platforms=row.platforms)
        for row in (*ROWS, *DEBUGGED, *map(Row, LAST))
    }
    written = _Written()
    for row in (*ROWS, *DEBUGGED):
        row.beside(images[row.name])
        for each in row.evidence(images[row.name]):
            written.take(each)
    with ExitStack() as stack:
        for name in ("trivy-system", "tenant", "shop"):
            stack.enter_context(new_namespace(kubectl, name))
        namespaces = {
            name: stack.enter_context(new_namespace(kubectl, f"scans-{name}", {"scans": name}))
            for name in asked
        }
        write(kubectl, "", [*writers(), exception(), *(policy(n, **o) for n, o in asked.items())])
        with webhooks_removed(operator, "mutating"):
            for user, values in written.unseen.items():
                write(kubectl, user, values)
        for (_, user), values in sorted(written.seen.items()):
            write(kubectl, user, values)
        world = World(namespaces, images)
        _await(kubectl, world)
        yield world


def exception() -> Json:
    return {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningException",
        "metadata": {"name": "granted"},
        "spec": {
            "match": {"namespaces": ["scans-granted"]},
            "rules": ["scanned-image"],
            "reason": "VENDOR-123",
            "expires": "2099-01-01T00:00:00Z",
        },
    }


# The evidence that is written last, of each kind, with the policy under which it counts.
LAST: dict[str, tuple[str, Callable[[Image], Json]]] = {
    "last-scan": ("plain", image_scan),
    "last-report": ("reports", report),
    "last-of-the-cluster": ("operator", lambda i: report(i, namespace="")),
}


def _await(kubectl: Kubectl, world: World) -> None:
    """Until all of it is known, and everybody is governed by his own."""
    for name, (governing, made) in LAST.items():
        write(kubectl, TRIVY_OPERATOR if governing != "plain" else "", [made(world.images[name])])
    for name, (governing, _) in LAST.items():
        _await_one(world, Row(name, policy=governing), lambda done: done.code == 0)
    for name, asked in policies("").items():
        if name != "granted" and "Deny" in asked.get("validationActions", ["Deny"]):
            row = Row("not-scanned", policy=name)
            title = f'HardeningPolicy "{name}"'
            _await_one(world, row, lambda done, title=title: title in done.stderr)  # type: ignore[misc]


def _await_one(world: World, row: Row, there: Callable[[Output], bool]) -> None:
    value = one_pod(world, world.images[row.name])
    eventually(lambda: there(world.create(row, value)) or None, f"{row.name} in {row.policy}", 60)


# --- what is printed ----------------------------------------------------------------------------


def shown(text: str, image: Image, world: World) -> str:
    """Without what is different each time: where registries are, digests and times."""
    known = {
        image.index: "INDEX",
        **{digest: f"{name.upper()}" for name, digest in image.manifests.items()},
        **{digest: f"{name.upper()}-CONFIG" for name, digest in image.configurations.items()},
        world.images["scanned"].index: "SCANNED",
    }
    for full, name in known.items():
        text = text.replace(full, name).replace(full[: len("sha256:") + 12], name)
    text = text.replace(image.registry.host, "registry.example").replace(AWAY, "away.example")
    text = re.sub(r"sha256:[0-9a-f]{12,64}", "DIGEST", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    return text.replace('error when creating "STDIN": ', "").replace(" (server dry run)", "")


def goldens() -> dict[str, str]:
    if not GOLDEN.exists():
        return {}
    parts = re.split(r"^## (.+)\n", GOLDEN.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], (each.strip() for each in parts[1::2]), strict=True))


def compare(name: str, said: str) -> None:
    expected = goldens()
    if os.environ.get("BATTEN_UPDATE_GOLDENS"):
        expected[name] = said
        order = [*(row.name for row in ROWS), *expected]
        known = {each: expected[each] for each in dict.fromkeys(order) if each in expected}
        GOLDEN.write_text("\n".join(f"## {each}\n{text}\n" for each, text in known.items()))
    assert said == expected.get(name)


# --- what is refused where it is applied --------------------------------------------------------

DIGEST, DATE = digest("x"), "2026-01-02T03:04:05Z"
SPEC: Json = {"image": "app:1", "digests": [DIGEST], "scanner": {"name": "x"}, "scannedAt": DATE}
FINDING: Json = {"id": "CVE-2026-1", "severity": "CRITICAL"}
# What is changed in a right one; None takes a field away.
SCANS: dict[str, Json] = {
    "right": {},
    "no-digest": {"digests": []},
    "short-digest": {"digests": ["sha256:abc"]},
    "tag-for-a-digest": {"digests": ["app:1"]},
    "no-image": {"image": None},
    "no-reference": {"image": "App:1"},
    "never-scanned": {"scannedAt": None},
    "scanned-by-nothing": {"scanner": None},
    "no-time": {"scannedAt": "yesterday"},
    "time-of-nowhere": {"scannedAt": "2026-01-02T03:04:05"},
    "unknown-severity": {"vulnerabilities": [{**FINDING, "severity": "BAD"}]},
    "unnamed-finding": {"vulnerabilities": [{"severity": "LOW"}]},
    "unknown-status": {"statements": [{"vulnerabilities": ["CVE-2026-1"], "status": "fine"}]},
    "statement-of-nothing": {"statements": [{"vulnerabilities": [], "status": "fixed"}]},
    "unknown-field": {"scannedBy": "me"},
    "request-from-nowhere": {"request": {"template": "trivy", "namespace": "A/../b"}},
}
SOURCE: Json = {"kind": "Attestation", "keys": [SIGNER.public]}
POLICIES: dict[str, Json] = {
    "right": {"sources": [SOURCE], "maxAge": "24h", "failOn": ["LOW"], "exempt": ["a.example/b"]},
    "no-duration": {"maxAge": "a week"},
    "no-age": {"maxAge": "0h"},
    "no-grace": {"grace": "-1h"},
    "no-source": {"sources": []},
    "unknown-source": {"sources": [{"kind": "Rumour"}]},
    "reports-of-anybody": {"sources": [{"kind": "VulnerabilityReport"}]},
    "unsigned-attestations": {"sources": [{"kind": "Attestation"}]},
    "half-an-identity": {"sources": [{"kind": "Attestation", "identity": "ci@vendor.example"}]},
    "no-key": {"sources": [{**SOURCE, "keys": ["ssh-rsa AAAA"]}]},
    "broken-key": {
        "sources": [
            {**SOURCE, "keys": ["-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]}
        ]
    },
    "image-scans-of-a-namespace": {"sources": [{"kind": "ImageScan", "namespaces": ["ci"]}]},
    "image-scans-with-keys": {"sources": [{"kind": "ImageScan", "keys": [SIGNER.public]}]},
    "nothing-fails": {"failOn": []},
    "unknown-severity": {"failOn": ["WORST"]},
    "allowed-without-an-end": {"allow": [{"id": "CVE-2026-1", "reason": "x"}]},
    "allowed-without-a-reason": {"allow": [{"id": "CVE-2026-1", "reason": "", "expires": DATE}]},
    "allowed-until-some-day": {"allow": [{"id": "CVE-2026-1", "reason": "x", "expires": "soon"}]},
    "allowed-everything": {"allow": [{"id": "*", "reason": "x", "expires": DATE}]},
    "exempt-everything": {"exempt": ["*"]},
    "template-elsewhere": {"scanWith": "../secrets"},
    "scans-that-do-not-count": {"scanWith": "trivy", "sources": [SOURCE]},
    "unknown-option": {"maxAges": "24h"},
}


def refused(kubectl: Kubectl, value: Json) -> str:
    """What the schema refuses the API server tells of, in words that change with its version."""
    created = ("create", "--dry-run=server", "-f", "-")
    done = kubectl(*created, stdin=json.dumps(value))
    if done.code and "denied the request" not in done.stderr:
        assert " is invalid: " in done.stderr, done.stderr
        return "refused by its schema"
    text = (done.stderr + done.stdout).replace('error when creating "STDIN": ', "")
    return text.replace(" (server dry run)", "").strip()


@pytest.mark.parametrize("name", SCANS)
def test_image_scans_at_apply(name: str, kubectl: Kubectl) -> None:
    spec = {key: each for key, each in {**SPEC, **SCANS[name]}.items() if each is not None}
    head = {"apiVersion": "batten.dev/v1alpha1", "kind": "ImageScan", "metadata": {"name": "x"}}
    compare(f"ImageScan {name}", refused(kubectl, {**head, "spec": spec}))


@pytest.mark.parametrize("name", POLICIES)
def test_policies_at_apply(name: str, kubectl: Kubectl) -> None:
    compare(f"HardeningPolicy {name}", refused(kubectl, policy("x", **POLICIES[name])))


# --- rows ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", DEBUGGED, ids=lambda row: row.name)
def test_debugging_container(row: Row, world: World) -> None:
    """Which kubectl adds to a Pod that runs: only it is judged."""
    namespace, image = world.namespaces[row.policy], world.images[row.name]
    value = pod(row.name, containers=[{"name": "app", "image": world.images["scanned"].tagged}])
    namespace.apply(value).require()
    said = ("--container=shell", f"--image={image.tagged}", "--profile=general", "--attach=false")
    done = namespace.kubectl("debug", row.name, *said)
    compare(row.name, shown(done.stderr + done.stdout, image, world).strip())
    found = namespace.get("pod", row.name)["spec"].get("ephemeralContainers", [])
    assert [each["image"] for each in found] == ([] if done.code else [image.pinned])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row(row: Row, world: World) -> None:
    image = world.images[row.name]
    done = world.create(row, row.value(world, image))
    compare(row.name, shown(done.stderr + done.stdout, image, world).strip())


def test_every_row_has_a_name_of_its_own_and_a_message() -> None:
    names = [row.name for row in ROWS]
    assert len(names) == len(set(names)) >= 80
    assert set(names) <= set(goldens())
