"""The engine agrees with the real API server's PodSecurity admission, Pod by Pod."""

from __future__ import annotations

import copy
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jsonpatch
import pytest
import yaml
from batten_cluster import ControlPlane
from batten_corpus import CORPUS, needs_corpus
from batten_oracle import LEVELS, OTHER_PLUGINS, Answer, Level, Oracle, known
from batten_pods import combinations, debuggers, hosts, matrix

from batten_webhooks.engine import evaluate
from batten_webhooks.patch import operations
from batten_webhooks.policy import PRESETS
from batten_webhooks.rules import RULES
from batten_webhooks.rules.rule import USER_NAMESPACES_SINCE, Version
from batten_webhooks.verdict import Violation
from batten_webhooks.workload import (
    TEMPLATE_PATHS,
    Kind,
    Malformed,
    PodTemplate,
    Workload,
    decode_pod,
    ephemeral_workload,
    group_of,
    read_object,
    read_objects,
    template_of,
)

pytestmark = pytest.mark.cluster

SERVERS = ("1.36", "1.37")
STANDARD = frozenset(rule.name for rule in RULES if rule.level in LEVELS)
# Only in user namespaces does the API server take another procMount, and the standards too, since.
REFUSED_BEFORE = {"default-proc-mount"}
REASON_SHOWN = 160


# What PodSecurity calls a control's violation, and the rules that are this control.
CONTROLS = {
    "allowPrivilegeEscalation != false": ("no-privilege-escalation",),
    "forbidden AppArmor profile": ("apparmor-profile",),
    "forbidden AppArmor profiles": ("apparmor-profile",),
    "forbidden sysctls": ("safe-sysctls",),
    "host namespaces": ("no-host-namespaces",),
    "hostPath volumes": ("no-host-path",),
    "hostPort": ("no-host-ports",),
    "hostProcess": ("no-host-process",),
    "non-default capabilities": ("no-added-capabilities",),
    "privileged": ("no-privileged",),
    "probe or lifecycle host": ("no-host-probes",),
    "procMount": ("default-proc-mount", "masked-proc-mount"),
    "restricted volume types": ("safe-volume-types",),
    "runAsNonRoot != true": ("run-as-non-root",),
    "runAsUser=0": ("run-as-non-root",),
    "seLinuxOptions": ("safe-selinux-options",),
    "seccompProfile": ("no-unconfined-seccomp", "seccomp-profile"),
    "unrestricted capabilities": ("drop-capabilities",),
}


@dataclass(frozen=True)
class Case:
    """One Pod, what PodSecurity says of it, and how the engine is asked."""

    name: str
    answer: Answer
    judge: Callable[[], Iterable[Violation]]


@pytest.fixture(scope="module")
def oracles(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Oracle]]:
    """Servers by their versions, each started once."""
    with ExitStack() as stack:

        @cache
        def start(version: str) -> Oracle:
            plane = ControlPlane(
                tmp_path_factory.mktemp("oracle"),
                version=version,
                apiserver_arguments=[f"--disable-admission-plugins={OTHER_PLUGINS}"],
                controllers=False,
            )
            return stack.enter_context(closing(Oracle(stack.enter_context(plane))))

        yield start


@pytest.fixture
def oracle(request: pytest.FixtureRequest, oracles: Callable[[str], Oracle]) -> Oracle:
    """The server of the version that `asking` names."""
    return oracles(request.param)


def by_version(version: Version) -> str:
    return f"v{version[0]}.{version[1]}"


def asking(*pairs: tuple[str, Version]) -> pytest.MarkDecorator:
    """Runs a test with these servers at these versions of the standards."""
    names = [f"{by_version(version)} of {server}" for server, version in pairs]
    return pytest.mark.parametrize(("oracle", "version"), pairs, ids=names, indirect=["oracle"])


# Every version as every server knows it.
EVERY = [(server, version) for server in SERVERS for version in known(server)]
NEWEST = EVERY[-1]
each_level = pytest.mark.parametrize("level", LEVELS)


@each_level
@asking(*EVERY)
def test_fixtures(oracle: Oracle, level: Level, version: Version) -> None:
    needs_corpus()
    files = sorted((CORPUS / "pss").rglob("*.yaml"))
    assert len(files) > 100
    pods = [(str(file.relative_to(CORPUS)), yaml.safe_load(file.read_text())) for file in files]
    compare(asked(oracle, pods, level, version))


@each_level
@asking(*EVERY)
def test_manifests(oracle: Oracle, level: Level, version: Version) -> None:
    needs_corpus()
    pods = [(name, pod_of(value, template_path(w))) for name, value, w in corpus()]
    compare(asked(oracle, pods, level, version))


@asking(NEWEST)
def test_malformed_manifests(oracle: Oracle, version: Version) -> None:
    """What the engine cannot read, the API server does not take for a Pod either."""
    needs_corpus()
    taken = []
    for name, document in documents():
        try:
            list(read_objects(document))
        except Malformed as error:
            print(f"{name}: {error}")
            path = TEMPLATE_PATHS[Kind(group_of(document["apiVersion"]), document["kind"])]
            taken.append((name, oracle.ask(pod_of(document, path), "baseline", version)))
    assert taken
    assert [name for name, answer in taken if not answer.invalid] == []


@asking(NEWEST)
def test_hardened_manifests(oracle: Oracle, version: Version) -> None:
    """A hardened Pod is accepted, or the engine has named what stands in its way."""
    needs_corpus()
    cases = []
    for name, value, workload in corpus():
        verdict = evaluate(workload, PRESETS["hardened"])
        patch = operations(workload, (applied.change for applied in verdict.changes))
        hardened = jsonpatch.apply_patch(copy.deepcopy(value), patch)
        answer = oracle.ask(pod_of(hardened, template_path(workload)), "restricted", version)
        named = [v for v in verdict.remaining() if v.rule in STANDARD]
        cases.append(Case(name, answer, named.copy))
    compare(cases)


@each_level
@asking((SERVERS[-1], (1, 34)), (SERVERS[-1], (1, 35)), NEWEST)
def test_matrix(oracle: Oracle, level: Level, version: Version) -> None:
    violated = compare(asked(oracle, matrix(), level, version))
    wanted = {setting.rule.name for setting in PRESETS[level].settings}
    if version >= USER_NAMESPACES_SINCE:
        wanted -= REFUSED_BEFORE
    assert violated == wanted


@each_level
@asking(*EVERY)
def test_combinations(oracle: Oracle, level: Level, version: Version) -> None:
    compare(asked(oracle, combinations(300, seed=version[1]), level, version))


@each_level
@asking((SERVERS[-1], (1, 34)), NEWEST)
def test_ephemeral_containers(oracle: Oracle, level: Level, version: Version) -> None:
    """New ones, judged alone as by the webhooks: the Pods that they join were allowed before."""
    policy = replace(PRESETS[level], version=version)

    def judge(pod: PodTemplate, before: PodTemplate) -> Iterable[Violation]:
        return evaluate(ephemeral_workload(pod, before), policy).violations

    cases = []
    for of_host, host in hosts():
        name = oracle.create(host, level, version)
        for of_container, container in debuggers(host):
            answer = oracle.ask_debugger(name, container, level, version)
            pod = copy.deepcopy(host)
            pod["spec"]["ephemeralContainers"] = [container]
            judged_alone = partial(judge, decoded(pod), decoded(host))
            cases.append(Case(f"{of_container} in {of_host}", answer, judged_alone))
    compare(cases)


def asked(
    oracle: Oracle, pods: Iterable[tuple[str, dict[str, Any]]], level: Level, version: Version
) -> Iterator[Case]:
    for name, pod in pods:
        yield Case(name, oracle.ask(pod, level, version), partial(judged, pod, level, version))


def compare(cases: Iterable[Case]) -> set[str]:
    """Asserts one answer of both for every case, control by control; prints what there was.

    The rules that were violated by any case.
    """
    counts: Counter[str] = Counter()
    invalid: dict[str, list[str]] = {}
    violated: set[str] = set()
    disagreements = []
    for case in cases:
        answer = case.answer
        if answer.invalid:
            invalid.setdefault(answer.invalid[:REASON_SHOWN], []).append(case.name)
            continue
        counts["accepted" if answer.accepted else "refused"] += 1
        violations = list(case.judge())
        rules = {violation.rule for violation in violations}
        violated |= rules
        if not same(answer.controls, rules):
            said = sorted({f"{v.rule}: {v.finding.detail}" for v in violations})
            disagreements.append(f"{case.name}: PodSecurity {answer.violations!r}; engine {said}")
    counts["not a Pod"] = sum(map(len, invalid.values()))
    print(dict(counts))
    for reason, names in invalid.items():
        print(f"  {reason}", *names, sep="\n    ")
    assert counts["accepted"]
    assert counts["refused"]
    assert counts["not a Pod"] < counts["accepted"] + counts["refused"]
    assert not disagreements, f"{len(disagreements)} disagree:\n" + "\n".join(disagreements)
    return violated


def same(controls: Iterable[str], rules: set[str]) -> bool:
    """The two name the same controls: no rule too many, and one at least for each control."""
    allowed = {control: set(CONTROLS[control]) for control in controls}
    return rules <= set().union(*allowed.values()) and all(rules & of for of in allowed.values())


def decoded(pod: dict[str, Any]) -> PodTemplate:
    return decode_pod(json.dumps(pod).encode())


def judged(pod: dict[str, Any], level: Level, version: Version) -> list[Violation]:
    workload = read_object(pod)
    assert workload is not None
    return list(evaluate(workload, replace(PRESETS[level], version=version)).violations)


@cache
def documents() -> list[tuple[str, Any]]:
    """Every object of the manifests, `List`s in one; Helm's templates are not YAML."""
    found: list[tuple[str, Any]] = []
    unread = 0
    for file in sorted((CORPUS / "manifests").rglob("*")):
        if file.suffix not in (".yaml", ".yml", ".json"):
            continue
        try:
            values = list(yaml.load_all(file.read_text(), yaml.CSafeLoader))
        except yaml.YAMLError:
            unread += 1
            continue
        name = file.relative_to(CORPUS / "manifests")
        found += ((f"{name}#{index}", v) for index, v in enumerate(values) if isinstance(v, dict))
    print(f"{len(found)} objects of the manifests; {unread} files are not YAML")
    return found


@cache
def corpus() -> list[tuple[str, Any, Workload]]:
    """Every object with a Pod template, of those that are shaped as their kinds say."""
    found = []
    for name, document in documents():
        with suppress(Malformed):
            for place, workload in read_objects(document):
                found.append(
                    (name + place, jsonpatch.JsonPointer(place).resolve(document), workload)
                )
    print(f"{len(found)} Pod templates")
    return found


def pod_of(value: Any, path: Iterable[str]) -> dict[str, Any]:
    """The Pod that a controller would make of an object's template."""
    template = template_of(value, tuple(path))
    spec = dict(template.get("spec") or {})
    claims = (value.get("spec") or {}).get("volumeClaimTemplates") or ()
    if claims:
        names = [claim["metadata"]["name"] for claim in claims]
        mounts = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in names]
        others = [volume for volume in spec.get("volumes") or () if volume["name"] not in names]
        spec["volumes"] = [*others, *mounts]
    metadata = template.get("metadata") or {}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def template_path(workload: Workload) -> list[str]:
    return workload.prefix.split("/")[1:]
