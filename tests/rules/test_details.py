"""What single fixtures cannot show: whole ranges of values, and parameters out of range."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten_webhooks.image_facts import ImageFacts, Profile
from batten_webhooks.rules import BY_NAME
from batten_webhooks.rules.graceful_shutdown import Parameters as Shutdown
from batten_webhooks.rules.rule import SHOWN_LENGTH, VERSIONS, Context, Facts, shown
from batten_webhooks.rules.writable_tmp import Parameters as Tmp
from batten_webhooks.verdict import Finding
from batten_webhooks.workload import read_object

CONTEXT = Context(facts=Facts(), version=VERSIONS[-1])
labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


def found(rule: str, document: Any, parameters: Any) -> list[Finding]:
    workload = read_object(document)
    assert workload is not None
    findings = BY_NAME[rule].check(workload, parameters, CONTEXT)
    return [finding for finding in findings if isinstance(finding, Finding)]


@given(
    st.integers(-10, 10_000) | st.none(),
    st.booleans(),
    st.integers(1, 200).flatmap(
        lambda sleep: st.builds(Shutdown, st.just(sleep), st.integers(sleep + 1, 400))
    ),
)
def test_the_sleep_is_within_the_grace_period(
    grace: int | None, controlled: bool, parameters: Shutdown
) -> None:
    """The API server refuses a hook that sleeps for no time, or longer than the grace period."""
    spec = {"containers": [{"name": "app"}], "terminationGracePeriodSeconds": grace}
    owners = [{"kind": "ReplicaSet", "name": "web", "controller": controlled}]
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"ownerReferences": owners}}
    after = 30 if grace is None else grace
    sleep = None
    for finding in found("graceful-shutdown", document | {"spec": spec}, parameters):
        [change] = finding.changes
        if change.path == "/spec/terminationGracePeriodSeconds":
            assert controlled
            assert grace in (None, 30)
            assert change.op == ("add" if grace is None else "replace")
            after = change.value
        else:
            sleep = change.value["sleep"]["seconds"]
    if after >= 4:
        assert sleep is not None
    if sleep is not None:
        assert 0 < sleep < after
        assert sleep <= parameters.pre_stop_sleep_seconds


@given(st.lists(labels, min_size=1, max_size=4, unique=True), st.lists(labels, max_size=3))
def test_volume_names_are_labels_and_unlike(containers: list[str], others: list[str]) -> None:
    volumes = [{"name": name} for name in [*others, *(f"batten-tmp-{c}" for c in containers[:1])]]
    spec = {"containers": [{"name": name} for name in containers], "volumes": volumes}
    document = {"apiVersion": "v1", "kind": "Pod", "spec": spec}
    findings = found("writable-tmp", document, Tmp())
    names = [finding.changes[0].value["name"] for finding in findings]
    assert len(names) == len(containers)
    assert len(set(names) | {volume["name"] for volume in volumes}) == len(set(names)) + len(
        {volume["name"] for volume in volumes}
    )
    for finding, name in zip(findings, names, strict=True):
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name)
        assert finding.changes[1].value == {"name": name, "mountPath": "/tmp"}  # noqa: S108


@given(st.lists(labels, min_size=2, max_size=4, unique=True))
def test_a_sidecar_that_comes_later_moves_no_name(containers: list[str]) -> None:
    def names(of: list[str]) -> list[str]:
        spec = {"containers": [{"name": name} for name in of]}
        document = {"apiVersion": "v1", "kind": "Pod", "spec": spec}
        return [f.changes[0].value["name"] for f in found("writable-tmp", document, Tmp())]

    assert names(containers)[:-1] == names(containers[:-1])


@pytest.mark.parametrize(("sleep", "grace"), [(0, 60), (-1, 60), (60, 60), (61, 60)])
def test_graceful_shutdown_refuses_parameters_that_cannot_be(sleep: int, grace: int) -> None:
    with pytest.raises(ValueError, match="pre_stop_sleep_seconds must be more than 0"):
        Shutdown(sleep, grace)


@pytest.mark.parametrize("limit", ["64Mi", "1G", "1.5Gi", "1073741824"])
def test_writable_tmp_takes_quantities(limit: str) -> None:
    assert Tmp(limit).size_limit == limit


@pytest.mark.parametrize("limit", ["", "0", "-1Gi", "1GB", "1 Gi", "lots", "1Gi\n"])
def test_writable_tmp_refuses_other_texts(limit: str) -> None:
    with pytest.raises(ValueError, match="size_limit must be a quantity"):
        Tmp(limit)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nginx:1.27", "nginx:1.27"),
        ("", '""'),
        ("a b", '"a b"'),
        ('quo"te\n', '"quo\\"te\\n"'),
        ("\x1b[31mred", '"\\u001b[31mred"'),
        ("\u202eevil", '"\\u202eevil"'),
        ("x" * (SHOWN_LENGTH + 1), '"' + "x" * SHOWN_LENGTH + '"…'),
    ],
)
def test_shown(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_who_wants_to_write_is_told_where_his_image_does() -> None:
    said = ImageFacts(volumes=("/var/lib/db",), working_dir="/srv")
    profile = Profile("nginx", 101, 101, ("/var/cache/nginx",))
    images = {"db": said, "bare": ImageFacts(working_dir="/"), "nginx": ImageFacts(profile=profile)}
    writes = {"readOnlyRootFilesystem": False}
    containers = [{"name": each, "image": each, "securityContext": writes} for each in images]
    workload = read_object({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers}})
    assert workload is not None
    context = Context(Facts(images), VERSIONS[-1])
    rule = BY_NAME["read-only-root-filesystem"]
    told = [
        each.remedy for each in rule.check(workload, None, context) if isinstance(each, Finding)
    ]
    assert ["(its image points to" in each for each in told] == [True, False, True]
    assert "where the program writes (its image points to /var/lib/db, /srv), or" in told[0]
    assert "(its image points to /var/cache/nginx)" in told[2]
