"""A policy that matches everything and denies everything: the cluster stays operable, and whoever
may write policies gets out of it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from batten_chaos import SAFE, WEBHOOK, Stage, fault, measured
from batten_e2e import Namespace, Output, deployment, eventually, pod
from batten_install import NAMESPACE

pytestmark = pytest.mark.cluster

# No image is one of those that are required.
NOTHING: dict[str, Any] = {
    "match": {},
    "priority": 1000,
    "rules": {"pinned-digest": {"require": ["nowhere.invalid/*"], "validationActions": ["Deny"]}},
}


def made(batten: Stage, namespace: str) -> Output:
    """A Pod there, as a dry run."""
    there = Namespace(namespace, batten.kubectl)
    account = "-n", namespace, "get", "serviceaccount", "default"
    eventually(lambda: batten.kubectl(*account).code == 0 or None, "its ServiceAccount")
    create = ("create", "--dry-run=server", "-f", "-")
    return there.kubectl(*create, stdin=json.dumps(pod(**SAFE)))


@fault(
    "a policy that denies everything",
    webhooks="refuse each Pod and each new template, but for kube-system, the release's namespace"
    " and those of webhook.exemptNamespaces; what runs is scaled, labelled and deleted as ever;"
    " deleting the policy asks nobody",
    controller="reports what runs as refused, and leads on",
)
def test_everything_is_denied(batten: Stage) -> None:
    shop, kubectl = batten.namespace, batten.kubectl
    shop.apply(deployment("before", replicas=2)).require()
    shop.pods(2, "app=before")
    batten.govern("nothing", **NOTHING)
    refused = eventually(lambda: out if (out := made(batten, shop.name)).code else None, "refused")
    assert 'HardeningPolicy "nothing"' in refused.stderr
    assert "nowhere.invalid/*" in refused.stderr
    assert shop.apply(deployment("after")).code

    for namespace in ("kube-system", "kube-node-lease", NAMESPACE):
        made(batten, namespace).require()
    kubectl("create", "namespace", "new").require()
    shop.kubectl("scale", "deployment/before", "--replicas=1").require()
    shop.kubectl("label", "deployment/before", "team=shop").require()
    shop.kubectl("set", "env", "deployment/before", "A=b", "--dry-run=client").require()
    shop.kubectl("create", "configmap", "settings", "--from-literal=a=b").require()
    shop.kubectl("delete", "pods", "--selector=app=before", "--wait=false").require()
    after = batten.lease()["renewTime"]
    batten.renewed(after)

    # A Pod that is needed meanwhile: an exception, which says until when.
    batten.kubectl("apply", "-f", "-", stdin=json.dumps(exception(shop.name))).require()
    eventually(lambda: made(batten, shop.name).code == 0 or None, "an exception holds")
    kubectl("delete", "hardeningexception", "needed").require()
    eventually(lambda: made(batten, shop.name).code or None, "it holds no more")

    out = time.monotonic()
    kubectl("delete", "hardeningpolicy", "nothing").require()
    eventually(lambda: made(batten, shop.name).code == 0 or None, "Pods are made")
    seconds = time.monotonic() - out
    shop.apply(deployment("after")).require()
    shop.pods(1, "app=after")
    kubectl("delete", "namespace", "new", "--wait=false").require()
    batten.calm(WEBHOOK, "controller")
    measured(test_everything_is_denied, seconds, "", "nothing")


def exception(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "batten.dev/v1alpha1",
        "kind": "HardeningException",
        "metadata": {"name": "needed"},
        "spec": {
            "match": {"namespaces": [namespace]},
            "rules": ["pinned-digest"],
            "reason": "the tests need it",
            "expires": "2099-01-01T00:00:00Z",
        },
    }
