"""The part of the Pod API that rules read, and where Pod templates stand in other kinds.

Fields are named as in the Kubernetes API (v1.37), so that a rule reads like the API's reference.
A field that is absent or `null` is `None`: the API server makes no difference between the two
(https://kubernetes.io/docs/reference/using-api/api-concepts/), while `{}` and `[]` stay themselves.
Fields that no rule reads are skipped, and no change ever touches them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from batten_webhooks.verdict import field_path

Quantity = str | int | float
Json = Any


class Capabilities(Struct):
    add: list[str] | None = None
    drop: list[str] | None = None


class SeccompProfile(Struct):
    type: str | None = None
    localhostProfile: str | None = None


class AppArmorProfile(Struct):
    type: str | None = None
    localhostProfile: str | None = None


class SELinuxOptions(Struct):
    user: str | None = None
    role: str | None = None
    type: str | None = None
    level: str | None = None


class WindowsOptions(Struct):
    hostProcess: bool | None = None
    runAsUserName: str | None = None


class Sysctl(Struct):
    name: str = ""
    value: str | None = None


class SecurityContext(Struct):
    """Of a container. `fsGroup` and its neighbours belong to the Pod and do nothing here."""

    runAsNonRoot: bool | None = None
    runAsUser: int | None = None
    runAsGroup: int | None = None
    readOnlyRootFilesystem: bool | None = None
    allowPrivilegeEscalation: bool | None = None
    privileged: bool | None = None
    procMount: str | None = None
    capabilities: Capabilities | None = None
    seccompProfile: SeccompProfile | None = None
    appArmorProfile: AppArmorProfile | None = None
    seLinuxOptions: SELinuxOptions | None = None
    windowsOptions: WindowsOptions | None = None
    fsGroup: Json = None
    fsGroupChangePolicy: Json = None
    supplementalGroups: Json = None
    sysctls: Json = None


class PodSecurityContext(Struct):
    """Of a Pod. `readOnlyRootFilesystem` and its neighbours belong to containers."""

    runAsNonRoot: bool | None = None
    runAsUser: int | None = None
    runAsGroup: int | None = None
    seccompProfile: SeccompProfile | None = None
    appArmorProfile: AppArmorProfile | None = None
    seLinuxOptions: SELinuxOptions | None = None
    windowsOptions: WindowsOptions | None = None
    fsGroup: Json = None
    fsGroupChangePolicy: Json = None
    supplementalGroups: Json = None
    sysctls: list[Sysctl] | None = None
    readOnlyRootFilesystem: Json = None
    allowPrivilegeEscalation: Json = None
    privileged: Json = None
    procMount: Json = None
    capabilities: Json = None


class StraySecurity(Struct):
    """Fields of a securityContext that stand beside it, where they do nothing."""

    runAsNonRoot: Json = None
    runAsUser: Json = None
    runAsGroup: Json = None
    readOnlyRootFilesystem: Json = None
    allowPrivilegeEscalation: Json = None
    privileged: Json = None
    procMount: Json = None
    capabilities: Json = None
    seccompProfile: Json = None
    fsGroup: Json = None
    fsGroupChangePolicy: Json = None
    supplementalGroups: Json = None
    sysctls: Json = None


class VolumeMount(Struct):
    name: str = ""
    mountPath: str = ""
    readOnly: bool | None = None


class Port(Struct):
    containerPort: int | None = None
    hostPort: int | None = None


class HttpGet(Struct):
    host: str | None = None


class TcpSocket(Struct):
    host: str | None = None


class Handler(Struct):
    """A probe, or a lifecycle handler."""

    httpGet: HttpGet | None = None
    tcpSocket: TcpSocket | None = None
    exec: Json = None
    sleep: Json = None
    grpc: Json = None


class Lifecycle(Struct):
    postStart: Handler | None = None
    preStop: Handler | None = None


class EnvVar(Struct):
    name: str = ""
    value: str | None = None
    valueFrom: Json = None


class Resources(Struct):
    requests: dict[str, Quantity | None] | None = None
    limits: dict[str, Quantity | None] | None = None


class Container(StraySecurity):
    name: str = ""
    image: str | None = None
    command: Json = None
    args: Json = None
    restartPolicy: str | None = None
    securityContext: SecurityContext | None = None
    lifecycle: Lifecycle | None = None
    volumeMounts: list[VolumeMount] | None = None
    ports: list[Port] | None = None
    livenessProbe: Handler | None = None
    readinessProbe: Handler | None = None
    startupProbe: Handler | None = None
    env: list[EnvVar] | None = None
    envFrom: Json = None
    resources: Resources | None = None


class OS(Struct):
    name: str | None = None


class LocalObjectReference(Struct):
    name: str = ""


class PodSpec(StraySecurity):
    containers: list[Container] | None = None
    initContainers: list[Container] | None = None
    ephemeralContainers: list[Container] | None = None
    volumes: list[dict[str, Any]] | None = None
    securityContext: PodSecurityContext | None = None
    resources: Resources | None = None
    os: OS | None = None
    nodeSelector: dict[str, str | None] | None = None
    restartPolicy: str | None = None
    terminationGracePeriodSeconds: int | None = None
    hostNetwork: bool | None = None
    hostPID: bool | None = None
    hostIPC: bool | None = None
    hostUsers: bool | None = None
    serviceAccountName: str | None = None
    serviceAccount: str | None = None
    imagePullSecrets: list[LocalObjectReference] | None = None
    automountServiceAccountToken: bool | None = None


class OwnerReference(Struct):
    apiVersion: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool | None = None


class Metadata(Struct):
    name: str | None = None
    uid: str | None = None
    resourceVersion: str | None = None
    generateName: str | None = None
    namespace: str | None = None
    labels: dict[str, str | None] | None = None
    annotations: dict[str, str | None] | None = None
    ownerReferences: list[OwnerReference] | None = None


class PodTemplate(Struct):
    """A Pod, or a template of one: both have `metadata` and `spec` and nothing else that counts."""

    metadata: Metadata | None = None
    spec: PodSpec | None = None

    @property
    def labels(self) -> Mapping[str, str | None]:
        return (self.metadata and self.metadata.labels) or {}


Role = Literal["container", "initContainer", "sidecar", "ephemeralContainer"]


class Site(Struct, frozen=True):
    """One container with its place: `pointer` is a JSON Pointer from the Pod's root.

    `security` is the container's securityContext, an empty one where it has none.
    """

    role: Role
    pointer: str
    container: Container
    security: SecurityContext

    @property
    def name(self) -> str:
        return self.container.name


# What a Pod without any of these says; shared, so that rules need no test for None.
NO_SECURITY = SecurityContext()
NO_POD_SECURITY = PodSecurityContext()


class Workload(Struct):
    """One Pod, or one object that holds a Pod template, as the rules see it.

    `prefix` is the JSON Pointer of the template within the object ("" for a Pod). `sites` are the
    containers to judge: all of them, or only the new ones of a pods/ephemeralcontainers request,
    where nothing but those containers' own fields may change (`pod_level` is then False).
    `owned` is an object that a controller made; `controlled` a Pod that one made or will make.
    """

    kind: str
    name: str
    namespace: str | None
    prefix: str
    template: PodTemplate
    spec: PodSpec
    security: PodSecurityContext
    sites: tuple[Site, ...]
    controlled: bool
    owned: bool
    pod_level: bool = True

    @property
    def images(self) -> Iterator[tuple[str, str, Any]]:
        """The JSON Pointer, the container ("" for a volume of the Pod's) and the text of every
        image reference; what is no text is none that anybody could read."""
        for site in self.sites:
            yield site.pointer + "/image", site.name, site.container.image
        for index, volume in enumerate((self.pod_level and self.spec.volumes) or ()):
            source: Any = volume.get("image")
            if isinstance(source, dict):
                yield f"/spec/volumes/{index}/image/reference", "", source.get("reference")

    @property
    def is_pod(self) -> bool:
        return self.prefix == ""

    @property
    def windows(self) -> bool:
        """The Pod says that it runs on Windows (KEP-2802): Linux-only fields are forbidden."""
        return self.spec.os is not None and self.spec.os.name == "windows"

    @property
    def windows_by_selector(self) -> bool:
        """It will only be scheduled to Windows nodes, but does not say so in `spec.os`."""
        return self.spec.os is None and (self.spec.nodeSelector or {}).get(OS_LABEL) == "windows"

    @property
    def knative(self) -> bool:
        """A template of Knative's, which refuses most fields of the Pod's own
        (https://github.com/knative/serving, pkg/apis/serving/fieldmask.go)."""
        return self.kind in KNATIVE_KINDS

    @property
    def annotations(self) -> Mapping[str, str | None]:
        metadata = self.template.metadata
        return (metadata.annotations if metadata is not None else None) or {}


OS_LABEL = "kubernetes.io/os"
# The core kind Service holds no template, so that the name alone tells.
KNATIVE_KINDS = ("Service", "Configuration")


class Malformed(ValueError):
    """The object is not shaped as its kind's API says; `field` is a path such as `spec.os.name`."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.message = message
        self.field = field

    def below(self, pointer: str) -> Malformed:
        """The same of an object that stands at this JSON Pointer in its document."""
        return Malformed(self.message, ".".join(filter(None, (field_path(pointer), self.field))))

    @property
    def pointer(self) -> str:
        """The field as a JSON Pointer."""
        return "".join(f"/{token}" for token in re.split(r"[.\[\]]+", self.field) if token)


class Kind(Struct, frozen=True):
    """An API kind that holds a Pod template, whatever its version."""

    group: str
    kind: str


# Where the Pod template stands in each kind, as a path of field names; () is the Pod itself.
TEMPLATE_PATHS: Mapping[Kind, tuple[str, ...]] = {
    Kind("", "Pod"): (),
    Kind("", "PodTemplate"): ("template",),
    Kind("", "ReplicationController"): ("spec", "template"),
    Kind("apps", "Deployment"): ("spec", "template"),
    Kind("apps", "ReplicaSet"): ("spec", "template"),
    Kind("apps", "StatefulSet"): ("spec", "template"),
    Kind("apps", "DaemonSet"): ("spec", "template"),
    Kind("batch", "Job"): ("spec", "template"),
    Kind("batch", "CronJob"): ("spec", "jobTemplate", "spec", "template"),
    Kind("argoproj.io", "Rollout"): ("spec", "template"),
    Kind("serving.knative.dev", "Service"): ("spec", "template"),
    Kind("serving.knative.dev", "Configuration"): ("spec", "template"),
    Kind("apps.kruise.io", "CloneSet"): ("spec", "template"),
    Kind("apps.kruise.io", "StatefulSet"): ("spec", "template"),
    Kind("apps.kruise.io", "DaemonSet"): ("spec", "template"),
}

# Work grows with the containers, and no node runs a Pod of a thousand.
MOST_CONTAINERS = 1000

_POD = msgspec.json.Decoder(PodTemplate)


_KIND = re.compile(
    r"(?P<kind>[A-Z]\w*)\.(?P<group>[a-z0-9][-a-z0-9.]*)=(?P<path>\w+(?:\.\w+)*)", re.ASCII
)


def parse_kinds(text: str) -> dict[Kind, tuple[str, ...]]:
    """More of TEMPLATE_PATHS: `Widget.example.com=spec.template`, separated by commas.

    Raises ValueError, whose message names the entry.
    """
    kinds = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        match = _KIND.fullmatch(entry)
        if match is None:
            raise ValueError(f"{entry!r} is no KIND.GROUP=PATH.TO.TEMPLATE")
        kinds[Kind(match["group"], match["kind"])] = tuple(match["path"].split("."))
    return kinds


def group_of(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def decode_pod(data: bytes | msgspec.Raw) -> PodTemplate:
    """A Pod from JSON. Raises Malformed."""
    try:
        return _POD.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from None


def read_pod(template: PodTemplate, *, kind: str = "Pod", prefix: str = "") -> Workload:
    """The workload of a decoded Pod or template. Raises Malformed for one beyond all measure."""
    spec = template.spec or PodSpec()
    metadata = template.metadata or Metadata()
    owned = _owned(metadata)
    return Workload(
        kind=kind,
        name=metadata.name or metadata.generateName or "",
        namespace=metadata.namespace,
        prefix=prefix,
        template=template,
        spec=spec,
        security=spec.securityContext or NO_POD_SECURITY,
        sites=_sites(spec),
        controlled=prefix != "" or owned,
        owned=owned,
    )


def ephemeral_workload(new: PodTemplate, old: PodTemplate) -> Workload:
    """The containers that a pods/ephemeralcontainers request adds to `old`, and nothing else."""
    known = {c.name for c in (old.spec or PodSpec()).ephemeralContainers or ()}
    workload = read_pod(new)
    sites = tuple(
        site
        for site in workload.sites
        if site.role == "ephemeralContainer" and site.name not in known
    )
    return msgspec.structs.replace(workload, sites=sites, pod_level=False)


def read_object(
    value: Json, paths: Mapping[Kind, tuple[str, ...]] = TEMPLATE_PATHS
) -> Workload | None:
    """The workload in a decoded object, or None for a kind without a Pod template.

    Raises Malformed where the object's shape is not its kind's.
    """
    if not isinstance(value, dict):
        raise Malformed("expected an object")
    api_version, kind = value.get("apiVersion"), value.get("kind")
    if not isinstance(api_version, str) or not isinstance(kind, str):
        return None
    path = paths.get(Kind(group_of(api_version), kind))
    if path is None:
        return None
    prefix = "".join(f"/{field}" for field in path)
    try:
        template = msgspec.convert(template_of(value, path), PodTemplate)
        metadata = msgspec.convert(value.get("metadata"), Metadata | None) or Metadata()
    except (msgspec.ValidationError, RecursionError) as error:
        raise _malformed(error, ".".join(path)) from None
    workload = read_pod(template, kind=kind, prefix=prefix)
    workload.name = metadata.name or metadata.generateName or ""
    workload.namespace = metadata.namespace
    workload.owned = _owned(metadata)
    return workload


def read_objects(
    value: Json, paths: Mapping[Kind, tuple[str, ...]] = TEMPLATE_PATHS, pointer: str = ""
) -> Iterator[tuple[str, Workload]]:
    """Every workload in a document with the JSON Pointer of its object; looks into `List`s.

    Raises Malformed, as `read_object` does.
    """
    left = [(pointer, value)]
    while left:
        place, value = left.pop()
        if isinstance(value, dict) and _is_list(value):
            items = value.get("items")
            if not isinstance(items, list | None):
                raise Malformed("expected an array", "items").below(place)
            within = [(f"{place}/items/{index}", item) for index, item in enumerate(items or ())]
            left.extend(reversed(within))
            continue
        try:
            workload = read_object(value, paths)
        except Malformed as error:
            raise error.below(place) from None
        if workload is not None:
            yield place, workload


def _is_list(value: Mapping[str, Json]) -> bool:
    kind = value.get("kind")
    return isinstance(kind, str) and kind.endswith("List") and "items" in value


def template_of(value: Json, path: Sequence[str]) -> Json:
    """The Pod template at a path of `TEMPLATE_PATHS`, {} where there is none. Raises Malformed."""
    for depth, field in enumerate(path):
        if not isinstance(value, dict):
            raise Malformed("expected an object", ".".join(path[:depth]))
        value = value.get(field)
        if value is None:
            return {}
    return value


def _owned(metadata: Metadata) -> bool:
    return any(owner.controller for owner in metadata.ownerReferences or ())


def _sites(spec: PodSpec) -> tuple[Site, ...]:
    plain, init = spec.containers or (), spec.initContainers or ()
    ephemeral = spec.ephemeralContainers or ()
    if len(plain) + len(init) + len(ephemeral) > MOST_CONTAINERS:
        raise Malformed(f"more than {MOST_CONTAINERS} containers in one Pod are not judged", "spec")
    sites = [
        _site("container", f"/spec/containers/{index}", container)
        for index, container in enumerate(plain)
    ]
    for index, container in enumerate(init):
        role: Role = "sidecar" if container.restartPolicy == "Always" else "initContainer"
        sites.append(_site(role, f"/spec/initContainers/{index}", container))
    for index, container in enumerate(ephemeral):
        sites.append(_site("ephemeralContainer", f"/spec/ephemeralContainers/{index}", container))
    return tuple(sites)


def _site(role: Role, pointer: str, container: Container) -> Site:
    return Site(role, pointer, container, container.securityContext or NO_SECURITY)


def _malformed(error: Exception, prefix: str = "") -> Malformed:
    """msgspec says "Expected `int`, got `str` - at `$.spec.os`"."""
    message, _, path = str(error).partition(" - at `")
    if not path:
        return Malformed(message[:1].lower() + message[1:], prefix)
    field = path.removeprefix("$").removesuffix("`").removeprefix(".")
    return Malformed(message[:1].lower() + message[1:], ".".join(filter(None, (prefix, field))))
