"""Every documented field of both kinds changes an outcome."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from batten_reviews import container, deployment, pod, review
from batten_scans import AMD64, DAY, INDEX, evidence, scans, statement, vulnerability

from batten_webhooks.evidence.attested import trusts
from batten_webhooks.evidence.collect import Outcome, Stored, collect
from batten_webhooks.evidence.scans import Found
from batten_webhooks.governance import Governance
from batten_webhooks.image_facts import ImageFacts
from batten_webhooks.images.content import Configuration, Platform, PlatformImage
from batten_webhooks.inquiry import Inquiry
from batten_webhooks.policy import PRESETS
from batten_webhooks.resources import crds, read_exception, read_policy
from batten_webhooks.review import Known, respond
from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import Facts
from batten_webhooks.rules.scanned_image import Source

NOW = 1_800_000_000.0  # in January 2027
Json = Any

LATEST = pod(containers=[container(image="nginx")])
PRIVILEGED = pod(containers=[container(securityContext={"privileged": True})])
LABELLED = {**LATEST, "metadata": {**LATEST["metadata"], "labels": {"app": "web"}}}
HOSTED = pod(containers=[container(livenessProbe={"httpGet": {"port": 1, "host": "h"}})])
GOLD = {"namespaceSelector": {"matchLabels": {"tier": "gold"}}}
OFF = {"defaults": {"validationActions": [], "mutation": "Disabled"}}


def expression(operator: str, *values: str) -> Json:
    found = {"key": "tier", "operator": operator, **({"values": list(values)} if values else {})}
    return {"match": {"namespaceSelector": {"matchExpressions": [found]}}, **OFF}


def of_pods(**requirements: Json) -> Json:
    return {"match": {**GOLD, "podSelector": requirements}, **OFF}


# By field: two specs that differ in it, and a Pod of which they say something different.
POLICIES: dict[str, tuple[Json, Json, Json]] = {
    "priority": ({"priority": 1, **OFF}, {"priority": -1, **OFF}, LATEST),
    "match": (
        {"match": GOLD, **OFF},
        OFF | {"match": {"namespaceSelector": {"matchLabels": {"tier": "lead"}}}},
        LATEST,
    ),
    "match.namespaceSelector": (expression("In", "gold"), expression("In", "lead"), LATEST),
    "match.namespaceSelector.matchLabels": (
        {"match": GOLD, **OFF},
        {"match": {"namespaceSelector": {"matchLabels": {"tier": "lead"}}}, **OFF},
        LATEST,
    ),
    "match.namespaceSelector.matchExpressions": (
        expression("Exists"),
        expression("DoesNotExist"),
        LATEST,
    ),
    "match.namespaceSelector.matchExpressions.key": (
        expression("Exists"),
        {
            "match": {
                "namespaceSelector": {"matchExpressions": [{"key": "other", "operator": "Exists"}]}
            },
            **OFF,
        },
        LATEST,
    ),
    "match.namespaceSelector.matchExpressions.operator": (
        expression("In", "gold"),
        expression("NotIn", "gold"),
        LATEST,
    ),
    "match.namespaceSelector.matchExpressions.values": (
        expression("NotIn", "gold"),
        expression("NotIn", "lead"),
        LATEST,
    ),
    "match.podSelector": (
        of_pods(matchLabels={"app": "web"}),
        of_pods(matchLabels={"app": "db"}),
        LABELLED,
    ),
    "match.podSelector.matchLabels": (
        of_pods(matchLabels={"app": "web"}),
        of_pods(matchLabels={"app": "db"}),
        LABELLED,
    ),
    "match.podSelector.matchExpressions": (
        of_pods(matchExpressions=[{"key": "app", "operator": "Exists"}]),
        of_pods(matchExpressions=[{"key": "app", "operator": "DoesNotExist"}]),
        LABELLED,
    ),
    "match.podSelector.matchExpressions.key": (
        of_pods(matchExpressions=[{"key": "app", "operator": "Exists"}]),
        of_pods(matchExpressions=[{"key": "other", "operator": "Exists"}]),
        LABELLED,
    ),
    "match.podSelector.matchExpressions.operator": (
        of_pods(matchExpressions=[{"key": "app", "operator": "In", "values": ["web"]}]),
        of_pods(matchExpressions=[{"key": "app", "operator": "NotIn", "values": ["web"]}]),
        LABELLED,
    ),
    "match.podSelector.matchExpressions.values": (
        of_pods(matchExpressions=[{"key": "app", "operator": "In", "values": ["web"]}]),
        of_pods(matchExpressions=[{"key": "app", "operator": "In", "values": ["db"]}]),
        LABELLED,
    ),
    "podSecurityVersion": (
        {"podSecurityVersion": "v1.33"},
        {"podSecurityVersion": "v1.34"},
        HOSTED,
    ),
    "defaults": ({"defaults": {"mutation": "DryRun"}}, {}, LATEST),
    "defaults.mutation": (
        {"defaults": {"mutation": "DryRun"}},
        {"defaults": {"mutation": "Enabled"}},
        LATEST,
    ),
    "defaults.validationActions": (
        {"defaults": {"validationActions": ["Warn"]}},
        {"defaults": {"validationActions": ["Audit"]}},
        PRIVILEGED,
    ),
    "rules": ({"rules": {"no-latest-tag": {"validationActions": []}}}, {}, LATEST),
    "warnOfChanges": (
        {"warnOfChanges": False},
        {"warnOfChanges": True},
        deployment({"metadata": {"labels": {"app": "web"}}, **pod()}),
    ),
}

KEY = "-----BEGIN PUBLIC KEY-----\n…"
ALLOWED = {"id": "CVE-2026-1", "reason": "r", "expires": "2028-01-01T00:00:00Z"}
UNSCANNED = f"registry.example/unscanned@{INDEX}"
RUNNING = pod(containers=[container(image=f"{container()['image']}@{INDEX}")])
SCANNING: dict[str, Json] = {
    "sources": [{"kind": "VulnerabilityReport", "users": ["joe"]}],
    "maxAge": "23h",
    "maxDatabaseAge": "168h",
    "failOn": ["CRITICAL", "HIGH"],
    "ignoreUnfixed": True,
    "failOnEndOfLife": True,
    "vex": False,
    "grace": "1h",
    "allow": [ALLOWED],
    "exempt": ["registry.example/*", "docker.io/*"],
}
TAKEN = pod(containers=[container(ports=[{"containerPort": 80, "hostPort": 9100}])])
ADDING = {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}
OPTIONS: dict[str, tuple[Json, Json]] = {
    "drop-capabilities.allowed": (
        ["NET_ADMIN"],
        pod(containers=[container(securityContext=ADDING)]),
    ),
    "no-added-capabilities.allowed": (
        ["NET_ADMIN"],
        pod(containers=[container(securityContext=ADDING)]),
    ),
    "no-host-ports.allowed": ([9100], TAKEN),
    "safe-sysctls.allowed": (
        ["kernel.*"],
        pod(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
    ),
    "safe-volume-types.allowed": (
        ["nfs"],
        pod(volumes=[{"name": "data", "nfs": {"server": "s", "path": "/"}}]),
    ),
    "graceful-shutdown.preStopSleepSeconds": (3, pod()),
    "graceful-shutdown.terminationGracePeriodSeconds": (
        99,
        pod(restartPolicy="Always")
        | {
            "metadata": {
                "name": "web",
                "ownerReferences": [
                    {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "w", "controller": True}
                ],
            }
        },
    ),
    "image-labels.labels": (["team"], pod()),
    "image-size.maxMegabytes": (50, pod()),
    "pinned-digest.leaveAlone": (["registry.example/*", "docker.io/*"], pod()),
    "pinned-digest.require": (["elsewhere.example/*"], pod()),
    "pinned-digest.forbid": (["registry.example/*", "docker.io/*"], pod()),
    "pinned-digest.imagePullSecrets": (["regcred"], pod()),
    "writable-tmp.sizeLimit": ("7Mi", pod()),
    **{f"scanned-image.{option}": (value, RUNNING) for option, value in SCANNING.items()},
    "scanned-image.scanWith": ("trivy", pod(containers=[container(image=UNSCANNED)])),
}
# Of the options that are lists of objects: what is chosen, what is changed in it.
REPORTS: Json = {"kind": "VulnerabilityReport", "users": ["joe"], "namespaces": ["shop"]}
SIGNED: Json = {"kind": "Attestation", "keys": [KEY]}
KEYLESS: Json = {
    "kind": "Attestation",
    "issuer": "https://issuer.example",
    "identity": "ci@shop.example",
}
WITHIN: dict[str, tuple[Json, Json]] = {
    "sources.kind": ({"kind": "ImageScan", "users": ["joe"]}, {"kind": "VulnerabilityReport"}),
    "sources.namespaces": (REPORTS, {"namespaces": ["other"]}),
    "sources.users": (REPORTS, {"users": ["jane"]}),
    "sources.keys": (SIGNED, {"keys": [KEY + "other"]}),
    "sources.identity": (KEYLESS, {"identity": "joe@shop.example"}),
    "allow.id": (ALLOWED, {"id": "CVE-2026-9"}),
    "allow.expires": (ALLOWED, {"expires": "2026-01-01T00:00:00Z"}),
}
# Who vouches is asked by the library that checks signatures: tests/evidence; the reason is shown.
WITHIN_TOLD = {"sources.issuer", "allow.reason"}

# What the image of every Pod here says.
SAID = {container()["image"]: ImageFacts(user="1000", size=60_000_000, labels={"team": "shop"})}

EXCEPTION: Json = {
    "match": {"namespaces": ["shop"]},
    "rules": ["no-latest-tag"],
    "reason": "r",
    "expires": "2028-01-01T00:00:00Z",
}
EXCEPTIONS: dict[str, Json] = {
    "match": {"match": {"namespaces": ["other"]}},
    "match.namespaces": {"match": {"namespaces": ["shop-evil"]}},
    "match.podSelector": {
        "match": {"namespaces": ["shop"], "podSelector": {"matchLabels": {"app": "db"}}}
    },
    "match.podSelector.matchLabels": {
        "match": {"namespaces": ["shop"], "podSelector": {"matchLabels": {"app": "db"}}}
    },
    "match.podSelector.matchExpressions": {
        "match": {
            "namespaces": ["shop"],
            "podSelector": {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]},
        }
    },
    "match.podSelector.matchExpressions.key": {
        "match": {
            "namespaces": ["shop"],
            "podSelector": {"matchExpressions": [{"key": "other", "operator": "Exists"}]},
        }
    },
    "match.podSelector.matchExpressions.operator": {
        "match": {
            "namespaces": ["shop"],
            "podSelector": {
                "matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]
            },
        }
    },
    "match.podSelector.matchExpressions.values": {
        "match": {
            "namespaces": ["shop"],
            "podSelector": {
                "matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]
            },
        }
    },
    "match.containers": {"match": {"namespaces": ["shop"], "containers": ["other"]}},
    "match.images": {"match": {"namespaces": ["shop"], "images": ["registry.example/*"]}},
    "rules": {"rules": ["no-privileged"]},
    "expires": {"expires": "2026-12-31T00:00:00Z"},
}
# For people: it is shown, and must be said.
TOLD = {"reason"}


WRITTEN = [
    vulnerability(fix="fixed", fixed_in="3.0.2"),
    vulnerability("CVE-2026-2", "HIGH", fix="not-fixed"),
    vulnerability("CVE-2026-3", published=NOW - 60),
    vulnerability("CVE-2026-5", fix="wont-fix"),
    vulnerability("CVE-2026-4", fix="fixed"),
]
SCAN = evidence(
    *WRITTEN,
    now=NOW,
    database=NOW - 9 * DAY,
    end_of_life=True,
    statements=(statement("fixed", "CVE-2026-4"),),
)
STORED = [
    Stored("ImageScan", "app", "", "jane", SCAN),
    Stored("VulnerabilityReport", "app", "shop", "joe", SCAN),
]
PLATFORM = PlatformImage(
    Platform("linux", "amd64"), AMD64.manifest, 1, Configuration(), AMD64.configuration
)


def looked_up(inquiry: Inquiry) -> Facts:
    """What the images of all Pods here say, and what was found in them."""
    found = {
        text: collect(INDEX, [PLATFORM], inquiry.sources, STORED, _beside(inquiry.sources))
        for text in inquiry.scan
    }
    found |= {text: scans() for text in found if text == UNSCANNED}
    return Facts(SAID, scans=found)


def _beside(sources: Iterable[Source]) -> list[Outcome]:
    trusted = {each for trust in trusts(sources) for each in (*trust.keys, trust.identity)}
    return [Found("attestation", SCAN)] if trusted & {KEY, "ci@shop.example"} else []


def said(value: Json, spec: Json = None, exception: Json = None, user: str = "jane") -> Json:
    """What both webhooks answer, but for the policy's own name and reason."""
    head = {"apiVersion": "batten.dev/v1alpha1", "metadata": {"name": "a"}}
    policies = (
        []
        if spec is None
        else [
            read_policy({**head, "kind": "HardeningPolicy", "spec": spec}),
            read_policy({**head, "kind": "HardeningPolicy", "metadata": {"name": "z"}}),
        ]
    )
    exemptions = (
        []
        if exception is None
        else [read_exception({**head, "kind": "HardeningException", "spec": exception})]
    )
    governance = Governance(PRESETS["hardened"], policies, exemptions)
    known = Known(governance, NOW, {"shop": {"tier": "gold"}}, images=looked_up)
    sent = review(value)
    sent["request"]["userInfo"]["username"] = user
    answers = []
    for webhook in ("mutate", "validate"):
        answer = json.loads(respond(webhook, json.dumps(sent).encode(), known).body)
        answer["response"].get("auditAnnotations", {}).pop("policy", None)
        answers.append(answer["response"])
    return answers


def fields(schema: Json, path: str = "") -> Iterator[str]:
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}".removeprefix(".")
        yield here
        if here != "rules":
            yield from fields(field.get("items", field), here)


def spec_of(file: str) -> Json:
    return crds()[file]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]


def test_no_field_is_forgotten() -> None:
    assert set(fields(spec_of("hardeningpolicies.yaml"))) == POLICIES.keys()
    assert set(fields(spec_of("hardeningexceptions.yaml"))) == EXCEPTIONS.keys() | TOLD
    rules = spec_of("hardeningpolicies.yaml")["properties"]["rules"]["properties"]
    common = {"mutation", "validationActions", "exemptUsers"}
    options = {
        f"{rule}.{o}" for rule, each in rules.items() for o in each["properties"].keys() - common
    }
    assert options == OPTIONS.keys()


@pytest.mark.parametrize("field", POLICIES)
def test_a_policys_field(field: str) -> None:
    one, other, value = POLICIES[field]
    assert said(value, one) != said(value, other)


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_of_a_rule(option: str) -> None:
    rule, _, name = option.partition(".")
    chosen, value = OPTIONS[option]
    alone: Json = {**OFF, "rules": {rule: {"validationActions": ["Deny"]}}}
    mutates = next(each.mutates for each in RULES if each.name == rule)
    if mutates:
        alone["rules"][rule]["mutation"] = "Enabled"
    changed = copy.deepcopy(alone)
    changed["rules"][rule][name] = chosen
    assert said(value, alone) != said(value, changed)


def test_no_option_within_an_option_is_forgotten() -> None:
    rules = spec_of("hardeningpolicies.yaml")["properties"]["rules"]["properties"]
    options = rules["scanned-image"]["properties"]
    within = {
        f"{name}.{inner}"
        for name, option in options.items()
        for inner in option.get("items", {}).get("properties", ())
    }
    assert within == WITHIN.keys() | WITHIN_TOLD


@pytest.mark.parametrize("option", WITHIN)
def test_an_option_within_an_option(option: str) -> None:
    name = option.partition(".")[0]
    chosen, change = WITHIN[option]

    def answered(value: Json) -> Json:
        rule = {"validationActions": ["Deny"], name: [value]}
        return said(RUNNING, {**OFF, "rules": {"scanned-image": rule}})

    assert answered(chosen) != answered({**chosen, **change})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_what_every_rule_has(rule: Any) -> None:
    """`mutation`, `validationActions` and `exemptUsers` reach this rule's setting alone."""
    options: Json = {"validationActions": ["Audit"], "exemptUsers": ["jane"]}
    if rule.mutates:
        options["mutation"] = "DryRun"
    head = {"apiVersion": "batten.dev/v1alpha1", "kind": "HardeningPolicy"}
    spec = {"defaults": {"validationActions": ["Warn"]}, "rules": {rule.name: options}}
    read = read_policy({**head, "metadata": {"name": "a"}, "spec": spec})
    settings = [s for top in read.policy.settings for s in (top, *top.weaker)]
    (own,) = (each for each in settings if each.rule.name == rule.name)
    assert (own.actions, own.exempt_users) == (frozenset(("Audit",)), frozenset(("jane",)))
    assert own.mutation == ("DryRun" if rule.mutates else "Disabled")
    assert all("jane" not in each.exempt_users for each in settings if each is not own)


def test_an_exempt_user_is_held_by_the_other_rules() -> None:
    spec = {"rules": {"no-latest-tag": {"exemptUsers": ["jane"]}}}
    assert said(LATEST, spec, user="jane") != said(LATEST, spec, user="joe")


@pytest.mark.parametrize("field", EXCEPTIONS)
def test_an_exceptions_field(field: str) -> None:
    assert said(LABELLED, None, EXCEPTION) != said(LABELLED)
    assert said(LABELLED, None, EXCEPTION) != said(LABELLED, None, EXCEPTION | EXCEPTIONS[field])
