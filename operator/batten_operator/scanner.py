"""Scans on demand: a Job for each platform of an image that webhooks found unscanned.

The Job is made from a PodTemplate of our own Namespace and prints what its scanner found, in any
format that `batten evidence from` reads. It is told the image by BATTEN_IMAGE, by digest, and
BATTEN_PLATFORM; it gets the Pod's credentials for the image's registry and nothing else of the
Pod's. What it found is written into the ImageScan that asked for it, and of that alone which was
scanned: whoever may write an ImageScan must not have us vouch for another image.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn
from urllib.parse import quote

from msgspec.structs import replace

from batten_operator.budget import WriteBudget
from batten_operator.cluster import ApiError, Cluster, Object
from batten_operator.events import Events, of_scan
from batten_operator.logs import fields
from batten_operator.scan_requests import digest_of
from batten_operator.stored_scans import SCANS, StoredScans, is_own
from batten_webhooks.evidence.model import MOST_BYTES, ScanEvidence, Unreadable
from batten_webhooks.evidence.readers import read
from batten_webhooks.images.keyring import Keyring, login_key
from batten_webhooks.messages import printable
from batten_webhooks.reference import Reference, parse_reference
from batten_webhooks.resources import ClusterScan
from batten_webhooks.resources.image_scan import MOST_VULNERABILITIES, Request, image_scan

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
MOST_AT_ONCE = 3
# What a scan may take, the pull of scanner and image included.
SCAN_SECONDS = 900
# The API server deletes a Job so long after it has ended, and its Pod and Secret with it.
KEPT_SECONDS = 60
# After a failure, and after each further one twice as long.
AGAIN_SECONDS, LONGEST_AGAIN_SECONDS = 30.0, 3600.0
DOCKER_CONFIG = "/batten/docker"
LABEL = "batten.dev/scan"
SECRET_SECONDS = 10.0

Credentials = Callable[[str, Iterable[str], float], Awaitable[Keyring]]


class ScanFailed(Exception):
    """The message is for whoever waits for the scan."""


@dataclass(slots=True)
class _Failure:
    """`until` is of the monotonic clock."""

    count: int
    until: float


@dataclass
class Scanner:
    """`credentials` are those of Secrets of a namespace, by their names, within so many seconds;
    `due` says whether a scan that there is already is to be made again."""

    cluster: Cluster
    namespace: str
    scans: StoredScans
    budget: WriteBudget
    events: Events
    credentials: Credentials
    due: Callable[[ClusterScan], bool]

    def __post_init__(self) -> None:
        self._running: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, _Failure] = {}

    async def run(self) -> NoReturn:
        try:
            while True:
                self._look()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            for task in self._running.values():
                task.cancel()

    def _look(self) -> None:
        """Starts what is wanted, as far as there is room."""
        self._running = {name: task for name, task in self._running.items() if not task.done()}
        for gone in self._failed.keys() - self.scans.requests.keys():
            del self._failed[gone]
        now = time.monotonic()
        wanted = {
            name: scan
            for name, scan in self.scans.requests.items()
            if name not in self._running
            and (name not in self._failed or self._failed[name].until <= now)
            and (scan.evidence is None or self.due(scan))
        }
        while wanted and len(self._running) < MOST_AT_ONCE:
            name = min(wanted, key=lambda name: self._turn(wanted[name]))
            self._running[name] = asyncio.create_task(self._scan(wanted.pop(name)))

    def _turn(self, scan: ClusterScan) -> tuple[int, int, str]:
        """The least comes first: a Namespace whose images take long, or fail, keeps no other one
        waiting."""
        requests = [self.scans.requests.get(name) for name in self._running]
        running = sum(_namespace(each) == _namespace(scan) for each in requests)
        failure = self._failed.get(scan.name)
        return running, failure.count if failure is not None else 0, scan.name

    async def _scan(self, scan: ClusterScan) -> None:
        try:
            await self._write(scan.name, {"phase": "Running"})
            async with asyncio.timeout(SCAN_SECONDS):
                evidence = await self._scanned(scan)
            await self._write(scan.name, {"phase": "Complete"}, evidence)
            self._failed.pop(scan.name, None)
            logger.info("scanned", extra=fields(image=scan.image, platform=scan.platform))
        except TimeoutError:
            await self._fail(scan, f"the scan has not ended after {SCAN_SECONDS} s")
        except (ScanFailed, ApiError) as error:
            await self._fail(scan, str(error))
        except Exception:
            logger.exception("a defect: an image is not scanned", extra=fields(image=scan.image))
            await self._fail(scan, "internal error, see the controller's log")

    async def _fail(self, scan: ClusterScan, why: str) -> None:
        failure = self._failed.get(scan.name)
        count = failure.count + 1 if failure is not None else 1
        pause = min(LONGEST_AGAIN_SECONDS, AGAIN_SECONDS * 2 ** min(count - 1, 10))
        self._failed[scan.name] = _Failure(count, time.monotonic() + pause)
        logger.warning("scan failed", extra=fields(image=scan.image, error=why))
        note = f"image {printable(scan.image)} ({scan.platform}) was not scanned: {why}"
        self.events.tell(of_scan(scan.name, note))
        status = {"phase": "Failed", "message": why[:1000], "failures": count}
        with suppress(ApiError):
            await self._write(scan.name, status)

    async def _write(self, name: str, status: Object, evidence: ScanEvidence | None = None) -> None:
        """What was found, then how far it is. Raises ApiError and ScanFailed."""
        path = f"{SCANS}/{name}"
        current = await self.cluster.get(path)
        if evidence is not None:
            if not is_own(current, self.namespace):
                raise ScanFailed("the ImageScan was changed by somebody else meanwhile")
            spec = current["spec"]
            made = image_scan(name, spec["image"], evidence, spec.get("platform", ""))
            wanted = {**current, "spec": {**made["spec"], "request": spec["request"]}}
            await self.budget.take()
            current = await self.cluster.replace(path, wanted)
        said = {**status, "lastTransitionTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
        await self.budget.take()
        await self.cluster.replace(f"{path}/status", {**current, "status": said})

    # --- the Job --------------------------------------------------------------------------------

    async def _scanned(self, scan: ClusterScan) -> ScanEvidence:
        """Raises ApiError and ScanFailed."""
        assert scan.request is not None  # noqa: S101 - it is what asked
        reference, digest = parse_reference(scan.image), digest_of(scan.name)
        if not digest:
            raise ScanFailed("its name is not that of a scan that Batten asked for")
        name = f"batten-scan-{digest.partition(':')[2][:32]}-{scan.name.rpartition('-')[2]}"
        config = await self._docker_config(scan.request, reference)
        template = await self._template(scan.request.template)
        jobs = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        value = job(name, template, reference, scan, secret=name if config else "")
        try:
            made = await self.cluster.create(jobs, value)
        except ApiError as error:
            if error.status != 409:
                raise
            made = await self.cluster.get(f"{jobs}/{name}")  # of a controller before us
        if config:
            await self._put_secret(name, config, made["metadata"]["uid"])
        while not _ended(made):
            await asyncio.sleep(LOOK_SECONDS)
            made = await self.cluster.get(f"{jobs}/{name}")
        try:
            printed = await self._printed(made)
        finally:
            await self.cluster.merge(f"{jobs}/{name}", {"spec": {"ttlSecondsAfterFinished": 0}})
        if not _succeeded(made):
            raise ScanFailed(f"its Job failed: {_last_words(printed)}")
        return _evidence(printed, scan, digest)

    async def _template(self, name: str) -> Object:
        path = f"/api/v1/namespaces/{self.namespace}/podtemplates/{quote(name, '')}"
        try:
            found: Object = (await self.cluster.get(path))["template"]
        except ApiError as error:
            if error.status == 404:
                raise ScanFailed(
                    f"there is no PodTemplate {name} in {self.namespace}, which the policy's"
                    " scanWith names"
                ) from None
            raise
        return found

    async def _docker_config(self, request: Request, reference: Reference) -> bytes:
        """The Pod's credentials for the image's registry, as docker has them; none where it has
        none."""
        keyring = await self.credentials(request.namespace, request.pull_secrets, SECRET_SECONDS)
        auths: dict[str, Object] = {}
        for credential in keyring.candidates(reference):
            auth = f"{credential.username}:{credential.password}"
            entry = {"auth": base64.b64encode(auth.encode()).decode()}
            if credential.identity_token:
                entry = {"identitytoken": credential.identity_token}
            auths.setdefault(login_key(reference.registry), entry)
        return json.dumps({"auths": auths}).encode() if auths else b""

    async def _put_secret(self, name: str, config: bytes, uid: str) -> None:
        """It goes when the Job goes."""
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid}
        value = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "ownerReferences": [owner]},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": base64.b64encode(config).decode()},
        }
        try:
            await self.cluster.create(f"/api/v1/namespaces/{self.namespace}/secrets", value)
        except ApiError as error:
            if error.status != 409:
                raise

    async def _printed(self, made: Object) -> bytes:
        """What the Job's container wrote. Raises ApiError and ScanFailed."""
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        label = quote(f"batch.kubernetes.io/controller-uid={made['metadata']['uid']}")
        found = (await self.cluster.get(f"{pods}?labelSelector={label}"))["items"]
        if not found:
            reasons = [each.get("message") or "" for each in _conditions(made)]
            raise ScanFailed(f"its Job has no Pod: {' '.join(filter(None, reasons))}")
        pod = found[-1]
        container = pod["spec"]["containers"][0]["name"]
        path = f"{pods}/{pod['metadata']['name']}/log?container={quote(container)}"
        printed = await self.cluster.text(path, MOST_BYTES)
        if len(printed) > MOST_BYTES:
            raise ScanFailed(f"it printed more than {MOST_BYTES} bytes")
        return printed


def _namespace(scan: ClusterScan | None) -> str:
    """Of the Pod that it is for."""
    return scan.request.namespace if scan is not None and scan.request is not None else ""


def job(
    name: str, template: Object, reference: Reference, scan: ClusterScan, *, secret: str
) -> Object:
    """The Job that scans one platform's manifest, named by the scan."""
    told = [
        {"name": "BATTEN_IMAGE", "value": f"{reference.name}@{digest_of(scan.name)}"},
        {"name": "BATTEN_PLATFORM", "value": scan.platform},
    ]
    spec: Object = {**template["spec"], "restartPolicy": "Never"}
    spec["automountServiceAccountToken"] = False
    spec["containers"] = [_told(each, told, secret) for each in spec["containers"]]
    if secret:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        volume = {"name": "batten-docker", "secret": {"secretName": secret, "items": items}}
        spec["volumes"] = [*(spec.get("volumes") or ()), volume]
    metadata = template.get("metadata") or {}
    labels = {**(metadata.get("labels") or {}), LABEL: scan.name[-63:]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "activeDeadlineSeconds": SCAN_SECONDS,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEPT_SECONDS,
            "template": {
                "metadata": {"labels": labels, "annotations": metadata.get("annotations") or {}},
                "spec": spec,
            },
        },
    }


def _told(container: Object, told: list[Object], secret: str) -> Object:
    """With what it needs to know, before its own environment, which may refer to it."""
    names = {each["name"] for each in told}
    own = [each for each in container.get("env") or () if each["name"] not in names]
    env = [*told, *([{"name": "DOCKER_CONFIG", "value": DOCKER_CONFIG}] if secret else []), *own]
    mounts = list(container.get("volumeMounts") or ())
    if secret:
        mounts.append({"name": "batten-docker", "mountPath": DOCKER_CONFIG, "readOnly": True})
    return {**container, "env": env, "volumeMounts": mounts}


def _conditions(made: Object) -> list[Object]:
    conditions: list[Object] = (made.get("status") or {}).get("conditions") or []
    return [each for each in conditions if each.get("status") == "True"]


def _ended(made: Object) -> bool:
    return any(each["type"] in {"Complete", "Failed"} for each in _conditions(made))


def _succeeded(made: Object) -> bool:
    return any(each["type"] == "Complete" for each in _conditions(made))


def _last_words(printed: bytes) -> str:
    lines = printed.decode(errors="replace").strip().splitlines()
    return printable(lines[-1])[:300] if lines else "it printed nothing"


def _evidence(printed: bytes, scan: ClusterScan, digest: str) -> ScanEvidence:
    """Of the digest that was scanned, and of those that the scanner names besides. Raises
    ScanFailed."""
    try:
        document = read(_json(printed))
    except Unreadable as error:
        raise ScanFailed(f"what it printed {error}") from None
    if not isinstance(document, ScanEvidence):
        raise ScanFailed("what it printed is VEX, and no scan")
    if document.digests and document.digests.isdisjoint(scan.digests):
        raise ScanFailed("what it printed is of another image")
    if len(document.vulnerabilities) > MOST_VULNERABILITIES:
        raise ScanFailed(f"it found more than {MOST_VULNERABILITIES} vulnerabilities")
    return replace(document, digests=document.digests | {digest})


def _json(printed: bytes) -> bytes:
    """Without the lines before and after it: logs are of both of a container's streams."""
    lines = printed.splitlines(keepends=True)
    first = next((at for at, line in enumerate(lines) if line.startswith(b"{")), 0)
    if lines and lines[first].rstrip().endswith(b"}"):
        return lines[first]  # all of it
    last = next((at for at in range(len(lines), 0, -1) if lines[at - 1].startswith(b"}")), 0)
    return b"".join(lines[first:last]) if last > first + 1 else b"".join(lines[first:])
