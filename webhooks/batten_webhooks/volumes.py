"""What a Pod's volumes are, and what lies where in a container."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from batten_webhooks.workload import VolumeMount, Workload

READ_ONLY_SOURCES = ("configMap", "secret", "projected", "downwardAPI", "image")
CLAIM = "persistentVolumeClaim"
# Whose files the kubelet gives to nobody
# (https://kubernetes.io/docs/tasks/configure-pod-container/security-context/, fsGroup; the plugins
# in k8s.io/kubernetes/pkg/volume that never call SetVolumeOwnership).
WITHOUT_GROUP = ("hostPath", "nfs", "cephfs", "azureFile", "glusterfs", "quobyte")


def by_name(pod: Workload) -> Mapping[str, Mapping[str, Any]]:
    named = {}
    for volume in pod.spec.volumes or ():
        name = volume.get("name")
        if isinstance(name, str):
            named[name] = volume
    return named


def source_of(mount: VolumeMount, volumes: Mapping[str, Mapping[str, Any]]) -> str:
    """The field that says what the volume is. One that the Pod does not have is a claim, which a
    StatefulSet adds."""
    for source, options in volumes.get(mount.name, {}).items():
        if source != "name" and options is not None:
            return source
    return CLAIM


def read_only(mount: VolumeMount, volumes: Mapping[str, Mapping[str, Any]]) -> str:
    """Why nothing can be written to the mount, "" if something can."""
    if mount.readOnly:
        return "is mounted with readOnly: true"
    for source, options in volumes.get(mount.name, {}).items():
        if source in READ_ONLY_SOURCES and options is not None:
            return f"is a {source} volume, which is read-only"
        if isinstance(options, dict) and options.get("readOnly") is True:
            return f"is a {source} volume with readOnly: true"
    return ""


def covering(mounted: Sequence[str], path: str) -> int | None:
    """The index of the deepest mount at `path` or above it."""
    found, depth = None, -1
    for index, at in enumerate(map(normal, mounted)):
        if len(at) > depth and (at == path or below(path, at)):
            found, depth = index, len(at)
    return found


def normal(path: str) -> str:
    """As the runtime will see it: absolute, without `.`, `..` and double slashes."""
    if path[:1] == "/" and path[-1:] != "/" and "/." not in path and "//" not in path:
        return path
    return posixpath.normpath("/" + path.lstrip("/"))


def below(path: str, above: str) -> bool:
    return above == "/" or path.startswith(above + "/")
