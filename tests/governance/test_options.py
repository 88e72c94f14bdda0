"""Rules' own options: what stands in none of them, and that each loosens its own rule alone."""

from __future__ import annotations

from typing import Any

import pytest
from batten_reviews import container, pod

from batten_webhooks.engine import evaluate
from batten_webhooks.resources import Invalid, read_policy
from batten_webhooks.verdict import acting
from batten_webhooks.workload import read_object

WRONG: list[tuple[str, str, Any, str]] = [
    ("drop-capabilities", "allowed", ["CAP_NET_ADMIN"], "such as NET_ADMIN, not CAP_NET_ADMIN"),
    ("drop-capabilities", "allowed", ["ALL"], "not ALL"),
    ("no-added-capabilities", "allowed", ["net_admin"], "not net_admin"),
    ("no-added-capabilities", "allowed", ["\x1b[31m" * 100], "…"),
    ("no-host-ports", "allowed", [80, 0], "from 1 to 65535, not 0"),
    ("no-host-ports", "allowed", [65536], "from 1 to 65535, not 65536"),
    ("safe-sysctls", "allowed", ["*"], "such as net.core.somaxconn or net.*, not *"),
    ("safe-sysctls", "allowed", ["net.*.x"], "not net.*.x"),
    ("safe-sysctls", "allowed", ["net.core.\n"], r'not "net.core.\n"'),
    ("safe-sysctls", "allowed", [""], 'not ""'),
    ("safe-volume-types", "allowed", ["emptyDirr"], "not emptyDirr"),
    ("safe-volume-types", "allowed", ["NFS"], "hostPath, iscsi, nfs"),
    ("graceful-shutdown", "preStopSleepSeconds", 60, "less than terminationGracePeriodSeconds"),
    ("writable-tmp", "sizeLimit", "much", ""),
]


def policy(rules: Any) -> Any:
    value = {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningPolicy",
        "metadata": {"name": "a"},
        "spec": {"rules": rules},
    }
    return read_policy(value).policy


@pytest.mark.parametrize(("rule", "option", "value", "complaint"), WRONG)
def test_a_wrong_option_is_told_by_its_field(
    rule: str, option: str, value: Any, complaint: str
) -> None:
    with pytest.raises(Invalid) as caught:
        policy({rule: {option: value}})
    ((field, message),) = caught.value.errors
    assert field == f"spec.rules.{rule}.{option}"
    assert complaint in message
    assert message.isprintable()
    assert len(message) < 2000


def denied(rules: Any, value: Any) -> set[str]:
    workload = read_object(value)
    assert workload is not None
    violations = evaluate(workload, policy(rules)).violations
    return {each.rule for each in acting(violations, "Deny") if not each.fixed}


def test_a_weaker_rule_holds_where_an_option_loosens_the_one_that_contains_it() -> None:
    adding = {"capabilities": {"add": ["SYS_ADMIN"], "drop": ["ALL"]}}
    value = pod(containers=[container(securityContext=adding)])
    allowed = {"allowed": ["SYS_ADMIN"]}
    assert denied({}, value) == {"drop-capabilities"}
    assert denied({"drop-capabilities": allowed}, value) == {"no-added-capabilities"}
    both = {"drop-capabilities": allowed, "no-added-capabilities": allowed}
    assert denied(both, value) == set()


def test_a_path_of_the_node_is_no_mere_type_of_volume() -> None:
    value = pod(volumes=[{"name": "data", "hostPath": {"path": "/"}}])
    allowed = {"safe-volume-types": {"allowed": ["hostPath"]}}
    off: Any = {"no-host-path": {"validationActions": []}}
    assert denied({}, value) == {"safe-volume-types"}
    assert denied(allowed, value) == {"no-host-path"}
    assert denied(allowed | off, value) == set()
