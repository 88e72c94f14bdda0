"""Every workload of a cluster, read page by page and judged as if it were created again.

Pods are judged as they are and told of by the object that they belong to in the end; a Pod template
is judged only where it has no Pods. Nothing is kept but the tally.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec
from aiohttp import ClientError
from kubernetes.aio.client import ApiClient
from msgspec import Raw, Struct

from batten_operator.cluster import ApiError, configuration
from batten_webhooks.audit import Audit, Judged, Owner, Tally
from batten_webhooks.engine import NO_FACTS, evaluate
from batten_webhooks.governance import EXEMPT, Governance, Governed
from batten_webhooks.policy import Policy
from batten_webhooks.review import NamespaceUnknown
from batten_webhooks.rules.rule import Facts
from batten_webhooks.selectors import Labels
from batten_webhooks.workload import (
    TEMPLATE_PATHS,
    Kind,
    Malformed,
    Metadata,
    OwnerReference,
    PodTemplate,
    Workload,
    read_object,
    read_pod,
)

PAGE = 500
LIST_SECONDS = 30.0
# More messages of what could not be read are only counted.
MOST_PROBLEMS = 100
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
JSON = "application/json"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
# Controllers' objects that only stand between a Pod and what somebody wrote.
BETWEEN = {("apps", "ReplicaSet"): "apps/v1/replicasets", ("batch", "Job"): "batch/v1/jobs"}
TEMPLATES = (
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("apps/v1", "DaemonSet", "daemonsets"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("v1", "ReplicationController", "replicationcontrollers"),
    ("batch/v1", "CronJob", "cronjobs"),
    ("batch/v1", "Job", "jobs"),
)

Governing = Callable[[str, PodTemplate], Governed]
Progress = Callable[[int, int], None]


class ListMeta(Struct):
    remainingItemCount: int = 0  # noqa: N815
    continue_: str = msgspec.field(default="", name="continue")


class Page(Struct):
    items: list[Raw] | None = None
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)


class Refusal(Struct):
    message: str = ""
    metadata: ListMeta = msgspec.field(default_factory=ListMeta)


class PodStatus(Struct):
    phase: str = ""


class Pod(PodTemplate):
    status: PodStatus | None = None


class PartialObject(Struct):
    metadata: Metadata = msgspec.field(default_factory=Metadata)


class Reader:
    """Lists of a cluster, as bytes and with a deadline on every call."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    @property
    def address(self) -> str:
        return str(self._client.configuration.host)

    async def pages(self, path: str, accept: str = JSON, limit: int = PAGE) -> AsyncIterator[Page]:
        """Of `limit` items each. Where the list expired on the way (410), what is left of it is
        read as it is by then, by the token that the API server offers for that. Raises ApiError."""
        token, expired = "", 0
        while True:
            query = [("limit", str(limit)), *([("continue", token)] if token else [])]
            status, body = await self._get(path, query, accept)
            if status == 410 and expired < 10:
                expired += 1
                token = _decode(path, body, Refusal).metadata.continue_
                if token:
                    continue
            if status >= 400:
                raise ApiError(f"GET {path}: {_reason(status, body)}", status)
            page = _decode(path, body, Page)
            yield page
            token = page.metadata.continue_
            if not token:
                return

    async def _get(self, path: str, query: list[tuple[str, str]], accept: str) -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(LIST_SECONDS):
                request = await self._client.param_serialize(
                    method="GET",
                    resource_path=path,
                    query_params=query,
                    header_params={"Accept": accept},
                    auth_settings=["BearerToken"],
                )
                response = await self._client.call_api(*request, _request_timeout=LIST_SECONDS)
                return response.status, await response.read()
        except TimeoutError:
            raise ApiError(f"GET {path}: no answer within {LIST_SECONDS:g} s") from None
        except (ClientError, OSError) as error:
            raise ApiError(f"GET {path}: {error or type(error).__name__}") from None


def _decode(path: str, body: bytes, shape: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(f"GET {path}: not what an API server answers: {error}") from None


def _reason(status: int, body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=Refusal).message or f"HTTP {status}"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return f"HTTP {status}"


@dataclass
class Scan:
    """`namespaces` are those to read, all that are not exempt where there are none; `facts` tells
    what else is known of a workload. Where `unread` is set, what is missing may be there all the
    same, and what is owned may be told of by less than its owner."""

    reader: Reader
    governing: Governing
    rules: tuple[str, ...]
    namespaces: Sequence[str] = ()
    exempt: frozenset[str] = EXEMPT
    facts: Callable[[str, Workload, Governed], Facts] = lambda *_: NO_FACTS
    progress: Progress = lambda _done, _all: None
    unread: ApiError | None = None  # why a list is not all of it
    _tally: Tally = field(default_factory=Tally)
    _owners: dict[tuple[str, str, str], OwnerReference | None] = field(default_factory=dict)
    _problems: list[str] = field(default_factory=list)
    _pods_read: bool = False

    @property
    def owners(self) -> list[Owner]:
        """Of the audit's workloads, in their order."""
        return self._tally.owners()

    async def run(self) -> Audit:
        """Raises ApiError where no Pod could be read at all."""
        at = datetime.now(UTC)
        for kind, path in BETWEEN.items():
            await self._read_owners(kind, path)
        await self._read_pods()
        if not self._pods_read:
            raise ApiError("; ".join(self._problems) or "no Pods could be read")
        for version, kind_name, plural in TEMPLATES:
            await self._read_templates(version, kind_name, plural)
        return Audit(self.reader.address, at, self._tally.results(), self.rules, self._problems)

    def _problem(self, message: str) -> None:
        if len(self._problems) < MOST_PROBLEMS and message not in self._problems:
            self._problems.append(message)

    def _paths(self, resource: str) -> list[str]:
        """`apps/v1/replicasets` or `v1/pods`, below the cluster or each namespace asked for."""
        version, _, plural = resource.rpartition("/")
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        if not self.namespaces:
            return [f"{root}/{plural}"]
        return [f"{root}/namespaces/{quote(name, '')}/{plural}" for name in self.namespaces]

    async def _items(self, resource: str, accept: str = JSON) -> AsyncIterator[Raw]:
        for path in self._paths(resource):
            done = 0
            try:
                async for page in self.reader.pages(path, accept):
                    if resource == "v1/pods":
                        self._pods_read = True
                    items = page.items or []
                    for item in items:
                        yield item
                    done += len(items)
                    if resource == "v1/pods":
                        self.progress(done, done + page.metadata.remainingItemCount)
            except ApiError as error:
                if error.status != 404:
                    self._problem(str(error))
                    self.unread = self.unread or error

    async def _read_owners(self, kind: tuple[str, str], resource: str) -> None:
        async for item in self._items(resource, METADATA):
            metadata = msgspec.json.decode(item, type=PartialObject).metadata
            key = (metadata.namespace or "", kind[1], metadata.name or "")
            self._owners[key] = _controller(metadata)

    async def _read_pods(self) -> None:
        async for item in self._items("v1/pods"):
            try:
                pod = msgspec.json.decode(item, type=Pod)
            except (msgspec.DecodeError, RecursionError) as error:
                self._problem(f"a Pod that cannot be read: {error}")
                continue
            metadata = pod.metadata or Metadata()
            finished = pod.status is not None and pod.status.phase in {"Succeeded", "Failed"}
            if finished or self._exempt(metadata.namespace or "") or _is_mirror(metadata):
                continue
            self._judge(self._top(metadata), pod, 1)

    async def _read_templates(self, version: str, kind: str, plural: str) -> None:
        path = TEMPLATE_PATHS[Kind(version.rpartition("/")[0], kind)]
        async for item in self._items(f"{version}/{plural}"):
            try:
                value = msgspec.json.decode(item)
                workload = read_object(value | {"apiVersion": version, "kind": kind})
            except (Malformed, msgspec.DecodeError, RecursionError) as error:
                self._problem(f"a {kind} that cannot be read: {error}")
                continue
            if workload is None or workload.owned or self._exempt(workload.namespace or ""):
                continue
            uid = str(value["metadata"].get("uid") or "")
            owner = Owner(workload.namespace or "", version, kind, workload.name, uid)
            if owner not in self._tally and not finished(value) and path:
                self._judge(owner, workload.template, 0)

    def _judge(self, owner: Owner, template: PodTemplate, pods: int) -> None:
        try:
            governed = self.governing(owner.namespace, template)
            workload = read_pod(template, kind=owner.kind, prefix="" if pods else owner.prefix)
        except (Malformed, NamespaceUnknown) as error:
            self._problem(f"{owner.kind} {owner.namespace}/{owner.name}: {error}")
            return
        workload.controlled = owner.kind != "Pod"
        facts = self.facts(owner.namespace, workload, governed)
        verdict = evaluate(workload, governed.policy, facts, exemptions=governed.exemptions)
        title, why = governed.policy.title, governed.why
        self._tally.add(owner, Judged(workload, verdict, title, why, pods))

    def _exempt(self, namespace: str) -> bool:
        return not self.namespaces and namespace in self.exempt

    def _top(self, metadata: Metadata) -> Owner:
        """The end of the chain of controllers; a ring of them, which is none, ends it, too."""
        namespace = metadata.namespace or ""
        owner = Owner(namespace, "v1", "Pod", metadata.name or "", metadata.uid or "")
        reference = _controller(metadata)
        for _ in range(8):
            if reference is None:
                break
            owner = Owner(
                namespace, reference.apiVersion, reference.kind, reference.name, reference.uid
            )
            reference = self._owners.get((namespace, reference.kind, reference.name))
        return owner


def _controller(metadata: Metadata) -> OwnerReference | None:
    return next((owner for owner in metadata.ownerReferences or () if owner.controller), None)


def _is_mirror(metadata: Metadata) -> bool:
    """A kubelet shows a static Pod, and says that its node is the owner."""
    owner = _controller(metadata)
    marked = MIRROR_ANNOTATION in (metadata.annotations or {})
    return marked and owner is not None and owner.kind == "Node"


def finished(value: dict[str, Any]) -> bool:
    """A Job that has ended makes no more Pods."""
    conditions = (value.get("status") or {}).get("conditions") or []
    return any(
        condition.get("type") in {"Complete", "Failed"} and condition.get("status") == "True"
        for condition in conditions
    )


async def cluster_governance(opened: Reader, default: Policy) -> Governance:
    """What the cluster's own policies and exceptions demand; `default` where none is defined.

    Raises ApiError, also where one of them is not valid.
    """
    from batten_webhooks.resources import (  # noqa: PLC0415 - pydantic takes its time
        Invalid,
        read_exception,
        read_policy,
    )

    found: dict[str, list[Any]] = {}
    for plural in ("hardeningpolicies", "hardeningexceptions"):
        found[plural] = []
        try:
            async for page in opened.pages(f"/apis/batten.dev/v1alpha1/{plural}"):
                found[plural] += [msgspec.json.decode(item) for item in page.items or ()]
        except ApiError as error:
            if error.status != 404:
                raise
    try:
        policies = [read_policy(each) for each in found["hardeningpolicies"]]
        exceptions = [read_exception(each) for each in found["hardeningexceptions"]]
    except Invalid as error:
        raise ApiError(f"a policy or exception of the cluster is not valid: {error}") from None
    return Governance(default, policies, exceptions)


async def namespace_labels(opened: Reader) -> dict[str, Labels]:
    """Of every Namespace, by its name. Raises ApiError."""
    labels: dict[str, Labels] = {}
    async for page in opened.pages("/api/v1/namespaces", METADATA):
        for item in page.items or ():
            metadata = msgspec.json.decode(item, type=PartialObject).metadata
            labels[metadata.name or ""] = metadata.labels or {}
    return labels


async def governing_in(opened: Reader, governance: Governance) -> Governing:
    """By the labels that the cluster's Namespaces have now; of a Namespace that comes later nothing
    is known, and it is not judged. Raises ApiError."""
    labels = await namespace_labels(opened) if governance.needs_labels else {}
    now = time.time()

    def governing(namespace: str, template: PodTemplate) -> Governed:
        if governance.needs_labels and namespace not in labels:
            raise NamespaceUnknown(namespace)
        return governance.governing(namespace, labels.get(namespace, {}), template.labels, now)

    return governing


@asynccontextmanager
async def reader(context: str = "") -> AsyncIterator[Reader]:
    """Of the cluster that is configured. Raises ApiError."""
    async with ApiClient(await configuration(context)) as client:
        client.user_agent = "batten-audit"
        yield Reader(client)
