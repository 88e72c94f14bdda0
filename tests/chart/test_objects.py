"""What the chart renders is right, by its own rules and by the operator's."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest
from batten_chart import NAMESPACE, Rendered, render, template

from batten_operator.settings import parse
from batten_webhooks.engine import evaluate
from batten_webhooks.governance import EXEMPT
from batten_webhooks.policy import PRESETS
from batten_webhooks.workload import TEMPLATE_PATHS, Kind, read_objects

MUTATE, PODS, TEMPLATES = "mutate.batten.dev", "pods.validate.batten.dev", "validate.batten.dev"
SCANS = "scans.mutate.batten.dev"
OURS = ("own.validate.batten.dev", "namespaces.validate.batten.dev", SCANS)
# Of no namespace, or of whichever one it is.
EVERYWHERE = {"own.validate.batten.dev", SCANS}
WIDGET = {"group": "example.com", "resource": "widgets", "kind": "Widget", "path": "spec.pod"}
KINDS = {"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}


def rules(webhook: dict[str, Any]) -> set[tuple[str, str, str]]:
    """Each operation on each resource: group, resource, operation."""
    return {
        (group, resource, operation)
        for rule in webhook["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for operation in rule["operations"]
    }


def test_its_own_pods_break_no_rule_of_the_hardened_preset() -> None:
    digest = f"sha256:{'0' * 64}"
    scanner = {"image": f"registry.example/trivy:1@{digest}"}
    rendered = render(image={"digest": digest}, scanner=scanner)
    workloads = [each for value in rendered.objects for _, each in read_objects(value)]
    kinds = sorted(workload.kind for workload in workloads)
    assert kinds == ["Deployment", "Deployment", "Pod", "PodTemplate"]
    for workload in workloads:
        verdict = evaluate(workload, PRESETS["hardened"])
        assert not verdict.violations
        assert not verdict.changes


def test_the_webhooks_are_careful(defaults: Rendered) -> None:
    for name, webhook in defaults.webhooks().items():
        assert webhook["failurePolicy"] == ("Fail" if name in {PODS, *OURS} else "Ignore")
        told = name in {PODS, TEMPLATES}  # an Event of each refusal, but of no dry run
        assert webhook["sideEffects"] == ("NoneOnDryRun" if told else "None")
        assert webhook["matchPolicy"] == "Equivalent"
        assert webhook["timeoutSeconds"] == 5
        assert webhook["admissionReviewVersions"] == ["v1"]
        assert "caBundle" not in webhook["clientConfig"]
        assert "DELETE" not in {operation for _, _, operation in rules(webhook)}
        scope = {"Cluster"} if name in OURS else {"Namespaced"}
        scope |= {"*"} if name == SCANS else set()
        assert {rule["scope"] for rule in webhook["rules"]} == scope
    assert defaults.webhooks()[MUTATE]["reinvocationPolicy"] == "IfNeeded"


def test_kubernetes_own_namespaces_and_ours_are_exempt_by_name() -> None:
    rendered = Rendered(template({}, namespace="elsewhere").require().stdout)
    for name, webhook in rendered.webhooks().items():
        if name in EVERYWHERE:
            assert "namespaceSelector" not in webhook
            continue
        (expression,) = webhook["namespaceSelector"]["matchExpressions"]
        assert expression["key"] == "kubernetes.io/metadata.name"
        assert expression["operator"] == "NotIn"
        always = ["kube-system", "kube-public", "kube-node-lease", "elsewhere"]
        assert expression["values"][:4] == always
        assert len(set(expression["values"])) == len(expression["values"])


def test_the_command_line_exempts_what_the_chart_does(defaults: Rendered) -> None:
    for name, webhook in defaults.webhooks().items():
        if name not in EVERYWHERE:
            (expression,) = webhook["namespaceSelector"]["matchExpressions"]
            assert set(expression["values"]) == EXEMPT


def test_every_kind_that_the_engine_knows_is_registered(defaults: Rendered) -> None:
    webhooks = defaults.webhooks()
    expected = {
        (kind.group, f"{kind.kind.lower()}s", operation)
        for kind in TEMPLATE_PATHS
        for operation in ("CREATE", "UPDATE")
    }
    pods = {("", "pods", operation) for operation in ("CREATE", "UPDATE")}
    assert rules(webhooks[TEMPLATES]) == expected - pods
    subresources = {("", "pods/*", operation) for operation in ("CREATE", "UPDATE")}
    assert rules(webhooks[PODS]) == pods | subresources
    assert rules(webhooks[MUTATE]) == pods | {("", "pods/ephemeralcontainers", "UPDATE")}


def test_a_custom_kind_is_registered() -> None:
    gear = {**WIDGET, "resource": "gears", "kind": "Gear", "versions": ["v1", "v2"]}
    rendered = render(webhook={"customKinds": [WIDGET, gear]})
    known = render().webhooks()[TEMPLATES]
    webhook = rendered.webhooks()[TEMPLATES]
    added = rules(webhook) - rules(known)
    assert {(group, resource) for group, resource, _ in added} == {
        ("example.com", "widgets"),
        ("example.com", "gears"),
    }
    assert [rule["apiVersions"] for rule in webhook["rules"][-2:]] == [["*"], ["v1", "v2"]]
    template = ("spec", "pod")
    told = parse([], rendered.environment()).custom_kinds
    assert told == {Kind("example.com", "Widget"): template, Kind("example.com", "Gear"): template}


def cluster_wide(rendered: Rendered) -> set[str]:
    """The resources that some ClusterRole gives a right to."""
    roles = (value for value in rendered.objects if value["kind"] == "ClusterRole")
    return {name for role in roles for rule in role["rules"] for name in rule["resources"]}


def test_who_reads_no_pull_secrets_may_read_none(defaults: Rendered) -> None:
    assert {"secrets", "serviceaccounts", "replicasets"} <= cluster_wide(defaults)
    assert not {"secrets", "serviceaccounts"} & cluster_wide(render(images={"pullSecrets": False}))
    silent = render(images={"lookUp": False})
    assert not {"secrets", "controllerrevisions"} & cluster_wide(silent)
    assert "revisions.mutate.batten.dev" not in silent.webhooks()


def test_a_url_takes_the_place_of_the_service(defaults: Rendered) -> None:
    rendered = render(webhook={"url": "https://192.0.2.1:9443/"})
    configs = [webhook["clientConfig"] for webhook in rendered.webhooks().values()]
    base = "https://192.0.2.1:9443"
    ends = ("mutate", "mutate", "mutate", "validate", "resources", "namespaces", "validate")
    assert configs == [{"url": f"{base}/{end}"} for end in ends]
    gone = {value["kind"] for value in defaults.objects} - {
        value["kind"] for value in rendered.objects
    }
    assert gone == {"Deployment", "Pod", "PodDisruptionBudget", "Service"}


def test_one_copy_can_be_evicted() -> None:
    assert not render(replicas=1).all("PodDisruptionBudget")


HOSTS, ZONES = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


@pytest.mark.parametrize("controller", [False, True])
def test_copies_are_spread_over_nodes_that_name_no_zone(controller: bool) -> None:
    """A constraint on zones would make the scheduler leave such nodes out of every constraint."""
    wanted: dict[str, Any] = {"requiredDuringSchedulingIgnoredDuringExecution": {}}
    rendered = render(topologySpread="DoNotSchedule", affinity={"nodeAffinity": wanted})
    deployment = rendered.one("Deployment", controller=controller)
    spec = deployment["spec"]["template"]["spec"]
    (spread,) = spec["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == (HOSTS, "DoNotSchedule")
    assert spec["affinity"]["nodeAffinity"] == wanted
    (preferred,) = spec["affinity"]["podAntiAffinity"].popitem()[1]
    assert preferred["podAffinityTerm"]["topologyKey"] == ZONES
    selected = preferred["podAffinityTerm"]["labelSelector"]["matchLabels"]
    assert selected == deployment["spec"]["selector"]["matchLabels"]


@pytest.mark.parametrize(
    ("release", "override", "name"),
    [
        ("batten", "", "batten"),
        ("security", "", "security-batten"),
        ("my-batten", "", "my-batten"),
        ("security", "hardener", "hardener"),
        ("r" * 53, "", "r" * 40),
    ],
)
def test_names_agree(release: str, override: str, name: str) -> None:
    """The operator is told the names that the chart gives, and may use what bears them."""
    values = {"fullnameOverride": override}
    rendered = Rendered(template(values, release=release).require().stdout)
    settings = parse([], rendered.environment())
    named = {kind: rendered.one(kind)["metadata"]["name"] for kind in KINDS}
    assert set(named.values()) == {name}
    assert settings.mutating_configuration == settings.validating_configuration == name
    assert settings.service == rendered.one("Service")["metadata"]["name"]
    assert settings.namespace == NAMESPACE
    configurations = rendered.one("ClusterRole")["rules"][0]
    assert configurations["resourceNames"] == [name]
    secret = rendered.one("Role")["rules"][0]
    assert secret["resourceNames"] == [settings.certificate_secret]
    for webhook in rendered.webhooks().values():
        assert webhook["clientConfig"]["service"]["name"] == settings.service


def test_the_operator_takes_every_setting() -> None:
    values: dict[str, Any] = {
        "mode": "enforce",
        "preset": "restricted",
        "logLevel": "debug",
        "certificate": {"lifetime": "24h", "propagation": "5s"},
        "shutdown": {"drainSeconds": 20},
        "webhook": {"customKinds": [WIDGET]},
        "images": {"cloudRegistries": ["shop.azurecr.io", "gcr.io"]},
    }
    environment = render(**values).environment()
    settings = parse([], environment)
    assert settings.enforce
    assert settings.preset == "restricted"
    assert settings.log_level == "debug"
    assert (settings.certificate_lifetime, settings.certificate_propagation) == (86400, 5)
    assert settings.drain == 20
    controlling = render(**values).environment(controller=True)
    assert parse([], controlling).component == "controller"
    for each in (settings, parse([], controlling)):
        assert each.cloud_registries == {"shop.azurecr.io", "gcr.io"}
    for name in environment | controlling:
        flag = name.removeprefix("BATTEN_").lower()
        assert flag == "mode" or hasattr(settings, flag), f"{name} is nothing to the operator"


def test_both_components_have_the_cloud_identity() -> None:
    """As EKS, GKE and AKS want it of ServiceAccounts and Pods."""
    annotations = {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/batten"}
    labels = {"azure.workload.identity/use": "true"}
    rendered = render(serviceAccount={"annotations": annotations}, podLabels=labels)
    accounts, deployments = rendered.all("ServiceAccount"), rendered.all("Deployment")
    assert len(accounts) == len(deployments) == 2
    for account in accounts:
        assert annotations.items() <= account["metadata"]["annotations"].items()
    for deployment in deployments:
        assert labels.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_the_service_leads_to_the_ports(defaults: Rendered) -> None:
    spec = defaults.one("Deployment")["spec"]["template"]["spec"]
    ports = {port["name"]: port["containerPort"] for port in spec["containers"][0]["ports"]}
    settings = parse([], defaults.environment())
    assert settings.listen_http
    assert ports == {"https": settings.listen.port, "http": settings.listen_http.port}
    service = defaults.one("Service")["spec"]
    assert {port["targetPort"] for port in service["ports"]} == set(ports)
    labels = defaults.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["selector"].items() <= labels.items()
    for webhook in defaults.webhooks().values():
        port = webhook["clientConfig"]["service"]["port"]
        assert port in {entry["port"] for entry in service["ports"] if entry["name"] == "https"}


def test_network_policies_are_of_ports_and_pods_that_there_are() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"team": "observers"}}}
    rendered = render(networkPolicy={"enabled": True, "metricsFrom": [peer]})
    policies = {value["metadata"]["name"]: value["spec"] for value in rendered.all("NetworkPolicy")}
    for deployment in rendered.all("Deployment"):
        spec = policies.pop(deployment["metadata"]["name"])
        template = deployment["spec"]["template"]
        assert spec["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        (container,) = template["spec"]["containers"]
        opened = {port["port"]: rule for rule in spec["ingress"] for port in rule["ports"]}
        assert opened.keys() == {port["name"] for port in container["ports"]}
        assert peer in opened["http"]["from"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
    (test,) = rendered.all("Pod")
    (scan,) = policies.values()
    (scanner,) = rendered.all("PodTemplate")
    labels = scanner["template"]["metadata"]["labels"]
    assert scan["podSelector"]["matchLabels"].items() <= labels.items()
    assert "ingress" not in scan
    tested = [
        peer["podSelector"]["matchLabels"]
        for value in rendered.all("NetworkPolicy")
        for rule in value["spec"].get("ingress", ())
        for peer in rule.get("from", ())
        if "podSelector" in peer
    ]
    assert [labels.items() <= test["metadata"]["labels"].items() for labels in tested] == [True]


def test_the_autoscaler_counts_the_copies() -> None:
    rendered = render(autoscaling={"enabled": True}, replicas=3)
    scaler = rendered.one("HorizontalPodAutoscaler")["spec"]
    deployment = rendered.one("Deployment")
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]
    assert rendered.one("Deployment", controller=True)["spec"]["replicas"] == 1
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 6)


@pytest.mark.parametrize(
    "values",
    [
        {"certificate": {"certManager": {"enabled": True}, "lifetime": "36h"}},
        {
            "certificate": {
                "existingSecret": "own",
                "caBundle": "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
            }
        },
    ],
    ids=["cert-manager", "existing Secret"],
)
def test_somebody_elses_certificate_is_mounted(tmp_path: Path, values: dict[str, Any]) -> None:
    rendered = render(**values)
    spec = rendered.one("Deployment")["spec"]["template"]["spec"]
    (volume,) = (each for each in spec["volumes"] if each["name"] == "certificate")
    (mount,) = (
        each for each in spec["containers"][0]["volumeMounts"] if each["name"] == "certificate"
    )
    environment = rendered.environment()
    assert environment["BATTEN_CERTIFICATE_DIRECTORY"] == mount["mountPath"]
    assert [item["path"] for item in volume["secret"]["items"]] == ["tls.crt", "tls.key"]
    settings = parse([], {**environment, "BATTEN_CERTIFICATE_DIRECTORY": str(tmp_path)})
    kept = {
        name
        for role in rendered.all("Role")
        for rule in role["rules"]
        for name in rule["resources"]
    }
    assert "secrets" in kept  # of scans' credentials, by the controller
    assert [role["metadata"]["name"] for role in rendered.all("Role")] == ["batten-controller"]
    configurations = [rendered.one(kind) for kind in sorted(KINDS)]
    bundles = {
        webhook["clientConfig"].get("caBundle")
        for each in configurations
        for webhook in each["webhooks"]
    }
    certificates = {
        value["metadata"]["name"]: value["spec"] for value in rendered.all("Certificate")
    }
    if not certificates:
        assert volume["secret"]["secretName"] == "own"
        assert [b64decode(each).decode() for each in bundles] == [values["certificate"]["caBundle"]]
        return
    issued = certificates["batten-webhook"]
    assert volume["secret"]["secretName"] == issued["secretName"]
    assert set(issued["dnsNames"]) == set(settings.names)
    assert issued["duration"] == "36h"
    assert bundles == {None}
    injected = {"cert-manager.io/inject-ca-from": f"{NAMESPACE}/batten-webhook"}
    assert all(each["metadata"]["annotations"] == injected for each in configurations)
    issuers = {value["metadata"]["name"]: value["spec"] for value in rendered.all("Issuer")}
    signing = issuers[issued["issuerRef"]["name"]]["ca"]["secretName"]
    authority = certificates["batten-ca"]
    assert (authority["secretName"], authority["isCA"]) == (signing, True)
    assert authority["privateKey"]["rotationPolicy"] == "Never"


def test_the_rules_of_a_pods_labels_cannot_be_overridden() -> None:
    rendered = render(podLabels={"app.kubernetes.io/component": "other", "team": "platform"})
    spec = rendered.one("Deployment")["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    assert labels["team"] == "platform"
