"""`batten learn`: where a running container has written on its root filesystem.

An ephemeral container beside it looks at `/proc/1/root`, which is the other's root, for what is
newer than the other's start
(https://kubernetes.io/docs/tasks/debug/debug-application/debug-running-pod/).
It tells by its termination message, and takes the user of the one that it looks at: a process may
look at those of its own user.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import quote

from batten_operator.cluster import ApiError, Cluster, Object
from batten_webhooks.cli import CannotRun
from batten_webhooks.messages import printable
from batten_webhooks.reference import InvalidReference, parse_reference
from batten_webhooks.rules.writable_tmp import PATHS_ANNOTATION, TMP

ROOT = "/proc/1/root"
POLL_SECONDS = 0.5
# What runtimes make in every container when they start it.
MADE = ("/etc", "/run", "/var/run")
MADE_BELOW = ("/run/secrets", "/var/run/secrets")
# The kernel's, and what has a volume anyway.
OURS = ("/dev/", "/proc/", "/sys/", f"{TMP}/")
FILES = ("etc/hosts", "etc/hostname", "etc/resolv.conf", ".dockerenv")
NOT_ALLOWED = 13
# Folders of new files, and folders whose entries changed.
SCRIPT = f"""\
touch -d "$STARTED" /dev/shm/started || exit 2
cd {ROOT}/ 2>/dev/null && ls . >/dev/null 2>&1 || exit {NOT_ALLOWED}
{{
  find . -xdev -type f -newer /dev/shm/started 2>/dev/null \
    | grep -v -x -E './({"|".join(FILES)})' | sed 's,/[^/]*$,/,'
  find . -xdev -type d -newer /dev/shm/started 2>/dev/null
}} | sort -u | head -c 4000 >/dev/termination-log
"""


def run(options: Namespace) -> int:
    try:
        found = asyncio.run(_learn(options))
    except ApiError as error:
        raise CannotRun(f"{error}") from None
    container, written, user = found
    paths = outermost(written)
    if options.format == "profile":
        told = _profile(container, paths, options.user or user)
    else:
        told = _annotation(container, paths)
    sys.stdout.write(f"{told}\n")
    return 0


def _annotation(container: Object, paths: list[str]) -> str:
    if not paths:
        return f"# {container['name']} has written nowhere else than below {TMP}"
    entries = ",".join(f"{container['name']}:{path}" for path in paths)
    return f"{PATHS_ANNOTATION}: {json.dumps(entries)}"


def outermost(lines: Iterable[str]) -> list[str]:
    """The paths that need a volume, none below another, from what the ephemeral container told: a
    folder that changed, or one with a slash at its end, in which there is a new file."""
    wanted = set()
    for line in lines:
        path = "/" + line.removeprefix(".").strip("/")
        made = path in MADE or path.startswith(MADE_BELOW)
        if (
            path != "/"
            and not (made and not line.endswith("/"))
            and not f"{path}/".startswith(OURS)
        ):
            wanted.add(path)
    return [
        path for path in sorted(wanted) if not any(path.startswith(above + "/") for above in wanted)
    ]


async def _learn(options: Namespace) -> tuple[Object, list[str], str]:
    """The container, the folders that it wrote to, and its user as UID:GID. Raises ApiError and
    CannotRun."""
    cluster = Cluster(options.context)
    where = f"/api/v1/namespaces/{quote(options.namespace, '')}/pods/{quote(options.pod, '')}"
    try:
        pod = await cluster.get(where)
        container, status = _container(pod, options.container)
        started = status.get("state", {}).get("running", {}).get("startedAt")
        if not started:
            raise CannotRun(f"container {container['name']} of Pod {options.pod} does not run")
        name = f"batten-learn-{int(time.time())}"
        new = _looking(name, container, pod, options.image, started)
        added = {"spec": {"ephemeralContainers": [new]}}
        await cluster.patch(f"{where}/ephemeralcontainers", added)
        message = await _message(cluster, where, name, options)
    finally:
        await cluster.close()
    linux = (status.get("user") or {}).get("linux") or {}
    user = f"{linux['uid']}:{linux.get('gid', 0)}" if linux.get("uid") else ""
    return container, message.splitlines(), user


def _container(pod: Object, name: str) -> tuple[Object, Object]:
    """The one that is named, or the only one, with its status. Raises CannotRun."""
    found = {each["name"]: each for each in pod["spec"]["containers"]}
    if not name and len(found) == 1:
        (name,) = found
    if name not in found:
        names = ", ".join(map(printable, found))
        raise CannotRun(f"--container: name one of {names}")
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    status: Object = next((each for each in statuses if each["name"] == name), {})
    return found[name], status


def _looking(name: str, container: Object, pod: Object, image: str, started: str) -> Object:
    inherited = {**(pod["spec"].get("securityContext") or {})}
    said = {**inherited, **(container.get("securityContext") or {})}
    kept = ("runAsUser", "runAsGroup", "runAsNonRoot")
    at = datetime.fromisoformat(started)
    return {
        "name": name,
        "image": image,
        "targetContainerName": container["name"],
        "command": ["sh", "-c", SCRIPT],
        "env": [
            {"name": "STARTED", "value": f"{at:%Y-%m-%d %H:%M:%S}"},
            {"name": "TZ", "value": "UTC"},
        ],
        "securityContext": {key: said[key] for key in kept if key in said},
    }


async def _message(cluster: Cluster, where: str, name: str, options: Namespace) -> str:
    """What the ephemeral container told. Raises ApiError and CannotRun."""
    state: Object = {}
    with suppress(TimeoutError):
        async with asyncio.timeout(options.seconds):
            while "terminated" not in state:
                await asyncio.sleep(POLL_SECONDS)
                status: Any = (await cluster.get(where)).get("status") or {}
                found = status.get("ephemeralContainerStatuses") or ()
                state = next((each["state"] for each in found if each["name"] == name), {})
    ended = state.get("terminated")
    if ended is None:
        reason = (state.get("waiting") or {}).get("reason") or "it does not start"
        raise CannotRun(
            f"ephemeral container {name} has told nothing in {options.seconds} s: {reason}"
        )
    if ended["exitCode"] == NOT_ALLOWED:
        raise CannotRun(
            "the container's files may not be looked at: it has capabilities that an ephemeral"
            " container is not given here; try where nothing is enforced"
        )
    if ended["exitCode"]:
        raise CannotRun(f"ephemeral container {name} failed: {options.image} needs sh and find")
    return str(ended.get("message") or "")


def _profile(container: Object, paths: list[str], user: str) -> str:
    """An ImageProfile, as YAML. Who is of root's group gets one of his own. Raises CannotRun."""
    uid, _, gid = user.partition(":")
    if not (uid.isdecimal() and int(uid)):
        raise CannotRun(
            "it runs as root, or as nobody knows whom: say as whom it can run, --user UID:GID"
        )
    gid = gid if gid.isdecimal() and int(gid) else uid
    try:
        repository = parse_reference(container["image"]).name
    except InvalidReference as error:
        raise CannotRun(f"image {printable(container['image'])}: {error}") from None
    name = repository.rpartition("/")[2].replace("_", "-").replace(".", "-")
    lines = [
        "apiVersion: batten.dev/v1alpha1",
        "kind: ImageProfile",
        "metadata:",
        f"  name: {name}",
        "spec:",
        f"  images: [{json.dumps(repository)}]",
        f"  runAsUser: {uid}",
        f"  runAsGroup: {gid}",
    ]
    if paths:
        lines += ["  writablePaths:", *(f"    - {json.dumps(path)}" for path in paths)]
    return "\n".join(lines)
