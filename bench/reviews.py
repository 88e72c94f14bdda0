"""An AdmissionReview of about 11 KB, as kube-apiserver sends it for a Deployment's Pod."""

from __future__ import annotations

import base64
import json
from typing import Any

import jsonpatch

from batten_webhooks.policy import PRESETS
from batten_webhooks.review import respond, under

UID = "0f9b2f5e-3c52-4d0c-a2ce-0f6b6f4d1c9a"
# As in a cluster that pins: Pods that are judged have digests.
DIGEST = f"sha256:{'0' * 64}"
POLICY = PRESETS["hardened"]
NAMESPACE = "shop"
TOKEN_MOUNT = {
    "name": "kube-api-access-7xk2p",
    "readOnly": True,
    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
}


def plain() -> bytes:
    """A Pod whose author said little of security: `mutate` has most to do."""
    return review(pod())


def hardened() -> bytes:
    """The same Pod once `mutate` has answered: what `validate` sees of nearly every Pod."""
    return review(jsonpatch.apply_patch(pod(), patch()))


def patch() -> list[dict[str, Any]]:
    """What `mutate` changes in the plain Pod, as JSON Patch operations."""
    answer = json.loads(respond("mutate", plain(), under(POLICY)).body)
    operations: list[dict[str, Any]] = json.loads(base64.b64decode(answer["response"]["patch"]))
    return operations


def review(pod: dict[str, Any], *, dry_run: bool = False) -> bytes:
    resource = {"group": "", "version": "v1", "resource": "pods"}
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    asked = {
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": UID,
            "kind": kind,
            "resource": resource,
            "requestKind": kind,
            "requestResource": resource,
            "namespace": NAMESPACE,
            "operation": "CREATE",
            "userInfo": {
                "username": "system:serviceaccount:kube-system:replicaset-controller",
                "uid": "6a4f1bbd-84b5-4a48-8f0e-6b3a9b4f9e5c",
                "groups": [
                    "system:serviceaccounts",
                    "system:serviceaccounts:kube-system",
                    "system:authenticated",
                ],
                "extra": {
                    "authentication.kubernetes.io/credential-id": [
                        "JTI=5d1c5a1c-9f5d-4f6b-8a3e-0b8ef6f7a3aa"
                    ]
                },
            },
            "object": pod,
            "oldObject": None,
            "dryRun": dry_run,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    }
    return json.dumps(asked, separators=(",", ":")).encode()


def pod() -> dict[str, Any]:
    labels = {
        "app.kubernetes.io/name": "checkout",
        "app.kubernetes.io/instance": "checkout-production",
        "app.kubernetes.io/version": "4.18.2",
        "app.kubernetes.io/component": "api",
        "app.kubernetes.io/part-of": "shop",
        "app.kubernetes.io/managed-by": "Helm",
        "pod-template-hash": "5c9f7d8b6f",
    }
    annotations = {
        "checksum/config": "9d5ed678fe57bcca610140957afab571" * 2,
        "kubectl.kubernetes.io/restartedAt": "2026-06-03T09:14:07Z",
        "prometheus.io/path": "/metrics",
        "prometheus.io/port": "9102",
        "prometheus.io/scrape": "true",
    }
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "checkout-5c9f7d8b6f",
        "uid": "7d3f8a52-2f39-4b6e-9d52-0d6b3fdb7a11",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    spec = _spec(labels)
    fields = {
        "f:metadata": {
            "f:annotations": _fields(annotations),
            "f:generateName": {},
            "f:labels": _fields(labels),
            "f:ownerReferences": {".": {}, f'k:{{"uid":"{owner["uid"]}"}}': {}},
        },
        "f:spec": _fields(spec),
    }
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {
            "generateName": "checkout-5c9f7d8b6f-",
            "namespace": NAMESPACE,
            "uid": "",
            "creationTimestamp": None,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [owner],
            "managedFields": [
                {
                    "manager": "kube-controller-manager",
                    "operation": "Update",
                    "apiVersion": "v1",
                    "time": "2026-06-03T09:14:08Z",
                    "fieldsType": "FieldsV1",
                    "fieldsV1": fields,
                }
            ],
        },
        "spec": spec,
        "status": {},
    }


def _spec(labels: dict[str, str]) -> dict[str, Any]:
    selector = {"matchLabels": {"app.kubernetes.io/name": labels["app.kubernetes.io/name"]}}
    token = {
        "defaultMode": 420,
        "sources": [
            {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [_item("ca.crt")]}},
            {
                "downwardAPI": {
                    "items": [
                        {
                            "path": "namespace",
                            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"},
                        }
                    ]
                }
            },
        ],
    }
    return {
        "volumes": [
            {"name": "config", "configMap": {"name": "checkout-config", "defaultMode": 420}},
            {"name": "tls", "secret": {"secretName": "checkout-tls", "defaultMode": 420}},
            {"name": "cache", "emptyDir": {"sizeLimit": "512Mi"}},
            {"name": TOKEN_MOUNT["name"], "projected": token},
        ],
        "containers": [_app(), _exporter()],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "checkout",
        "serviceAccount": "checkout",
        "securityContext": {"fsGroup": 10001},
        "imagePullSecrets": [{"name": "registry-pull"}],
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "weight": 100,
                        "podAffinityTerm": {
                            "labelSelector": selector,
                            "topologyKey": "kubernetes.io/hostname",
                        },
                    }
                ]
            }
        },
        "schedulerName": "default-scheduler",
        "tolerations": [_toleration("not-ready"), _toleration("unreachable")],
        "priorityClassName": "shop-critical",
        "priority": 100000,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "topology.kubernetes.io/zone",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": selector,
            }
        ],
        "enableServiceLinks": True,
        "preemptionPolicy": "PreemptLowerPriority",
    }


def _app() -> dict[str, Any]:
    env = [
        {"name": "LOG_LEVEL", "value": "info"},
        {"name": "HTTP_ADDRESS", "value": ":8080"},
        {"name": "CATALOG_URL", "value": "http://catalog.shop.svc.cluster.local:8080"},
        {"name": "PAYMENT_URL", "value": "http://payment.shop.svc.cluster.local:8080"},
        {"name": "SHIPPING_URL", "value": "http://shipping.shop.svc.cluster.local:8080"},
        {"name": "OTEL_SERVICE_NAME", "value": "checkout"},
        {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://otel-collector.telemetry:4317"},
        {
            "name": "DATABASE_PASSWORD",
            "valueFrom": {"secretKeyRef": {"name": "checkout-database", "key": "password"}},
        },
        _downward("POD_NAME", "metadata.name"),
        _downward("POD_IP", "status.podIP"),
    ]
    return {
        "name": "checkout",
        "image": f"registry.example/shop/checkout:4.18.2@{DIGEST}",
        "args": ["serve", "--config=/etc/checkout/config.yaml"],
        "ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"},
            {"name": "grpc", "containerPort": 9090, "protocol": "TCP"},
        ],
        "envFrom": [{"configMapRef": {"name": "checkout-features"}}],
        "env": env,
        "resources": _resources("250m", "256Mi", "512Mi"),
        "volumeMounts": [
            {"name": "config", "readOnly": True, "mountPath": "/etc/checkout"},
            {"name": "tls", "readOnly": True, "mountPath": "/etc/tls"},
            {"name": "cache", "mountPath": "/var/cache/checkout"},
            TOKEN_MOUNT,
        ],
        "livenessProbe": _probe("/healthz", 10),
        "readinessProbe": _probe("/readyz", 5),
        "startupProbe": _probe("/healthz", 2),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def _exporter() -> dict[str, Any]:
    return {
        "name": "exporter",
        "image": f"registry.example/telemetry/exporter:1.9.0@{DIGEST}",
        "args": ["--listen=:9102", "--scrape=http://127.0.0.1:8080/internal/stats"],
        "ports": [{"name": "metrics", "containerPort": 9102, "protocol": "TCP"}],
        "env": [_downward("NODE_NAME", "spec.nodeName")],
        "resources": _resources("20m", "32Mi", "64Mi"),
        "volumeMounts": [TOKEN_MOUNT],
        "readinessProbe": _probe("/healthz", 10),
        "livenessProbe": _probe("/healthz", 10),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"allowPrivilegeEscalation": False},
    }


def _downward(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


def _item(key: str) -> dict[str, str]:
    return {"key": key, "path": key}


def _probe(path: str, period: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": 8080, "scheme": "HTTP"},
        "timeoutSeconds": 1,
        "periodSeconds": period,
        "successThreshold": 1,
        "failureThreshold": 3,
    }


def _resources(cpu: str, request: str, limit: str) -> dict[str, Any]:
    return {"limits": {"memory": limit}, "requests": {"cpu": cpu, "memory": request}}


def _toleration(condition: str) -> dict[str, Any]:
    return {
        "key": f"node.kubernetes.io/{condition}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }


def _fields(value: Any) -> dict[str, Any]:
    """Who owns which field, as `managedFields` tells (KEP-555); named entries of lists by name."""
    if isinstance(value, dict):
        return {".": {}} | {f"f:{key}": _fields(inner) for key, inner in value.items()}
    if isinstance(value, list) and all(isinstance(e, dict) and "name" in e for e in value):
        return {".": {}} | {f'k:{{"name":"{e["name"]}"}}': _fields(e) for e in value}
    return {}
