"""The API server's own PodSecurity admission, asked about one Pod at a time by dry runs."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from batten_cluster import ControlPlane

from batten_webhooks.rules.rule import VERSIONS, Version

Level = Literal["baseline", "restricted"]
LEVELS: tuple[Level, ...] = ("baseline", "restricted")
DEADLINE_SECONDS = 30.0
# They look at objects that stand beside the Pod, and answer before PodSecurity does.
OTHER_PLUGINS = "ServiceAccount,Priority,RuntimeClass"
VIOLATES = re.compile(r'violates PodSecurity "[^"]+": (.*)', re.DOTALL)
GENERATED = re.compile(r'^Pod "[^"]*" is invalid: ')
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
DETAILS = re.compile(r"\([^()]*\)")
CONTENT_TYPES = {"POST": "application/json", "PATCH": "application/strategic-merge-patch+json"}
ENFORCE = "pod-security.kubernetes.io/enforce"


@dataclass(frozen=True, slots=True)
class Answer:
    """`invalid` is why the Pod is none at all, `violations` PodSecurity's own words.

    The API server validates first, so that an invalid Pod never comes before PodSecurity.
    """

    invalid: str = ""
    violations: str = ""

    @property
    def accepted(self) -> bool:
        return not self.invalid and not self.violations

    @property
    def controls(self) -> list[str]:
        """The violated controls in PodSecurity's words: `seccompProfile`, `host namespaces`."""
        words = QUOTED.sub("", self.violations)
        return [name.strip() for name in DETAILS.sub("", words).split(",") if name.strip()]


class Oracle:
    """Asks a control plane; its namespaces enforce each level at each version of the standards."""

    def __init__(self, plane: ControlPlane) -> None:
        config = yaml.safe_load(plane.kubeconfig.read_text())
        server = urlsplit(config["clusters"][0]["cluster"]["server"])
        context = ssl.create_default_context(cafile=str(plane.folder / "ca.crt"))
        context.load_cert_chain(plane.folder / "admin.crt", plane.folder / "admin.key")
        self._connection = http.client.HTTPSConnection(
            str(server.hostname), server.port, timeout=DEADLINE_SECONDS, context=context
        )
        for level in LEVELS:
            for version in known(plane.version):
                self._make_namespace(level, version)

    def close(self) -> None:
        self._connection.close()

    def ask(self, pod: dict[str, Any], level: Level, version: Version) -> Answer:
        """Raises AssertionError on an answer that is neither the Pod's validity nor PodSecurity's.

        The Pod's own name and namespace count for nothing.
        """
        metadata = dict(pod.get("metadata") or {})
        for field in ("name", "namespace"):
            metadata.pop(field, None)
        body = {**pod, "metadata": {**metadata, "generateName": "oracle-"}}
        return _answer(*self._send("POST", f"{_pods(level, version)}?dryRun=All", body))

    def create(self, pod: dict[str, Any], level: Level, version: Version) -> str:
        """A Pod to which ephemeral containers can be added. Its name."""
        body = {**pod, "metadata": {"generateName": "oracle-"}}
        status, answer = self._send("POST", _pods(level, version), body)
        assert status == 201, answer
        return str(answer["metadata"]["name"])

    def ask_debugger(
        self, name: str, container: dict[str, Any], level: Level, version: Version
    ) -> Answer:
        """May this ephemeral container be added to the Pod of this name?"""
        path = f"{_pods(level, version)}/{name}/ephemeralcontainers?dryRun=All"
        return _answer(*self._send("PATCH", path, {"spec": {"ephemeralContainers": [container]}}))

    def _make_namespace(self, level: Level, version: Version) -> None:
        labels = {ENFORCE: level, f"{ENFORCE}-version": f"v{version[0]}.{version[1]}"}
        metadata = {"name": _namespace(level, version), "labels": labels}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        status, answer = self._send("POST", "/api/v1/namespaces", body)
        assert status == 201, answer

    def _send(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The server ends a connection that was idle: then a new one is made."""
        data = json.dumps(body, default=str)
        try:
            return self._send_once(method, path, data)
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return self._send_once(method, path, data)

    def _send_once(self, method: str, path: str, data: str) -> tuple[int, dict[str, Any]]:
        content = CONTENT_TYPES[method]
        self._connection.request(method, path, data, {"Content-Type": content})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())


def known(server: str) -> list[Version]:
    """The versions of the standards that an API server knows, of those that the rules know."""
    major, minor = server.removeprefix("v").split(".")[:2]
    return [version for version in VERSIONS if version <= (int(major), int(minor))]


def _answer(status: int, body: dict[str, Any]) -> Answer:
    message = str(body.get("message", ""))
    if status in (200, 201):
        return Answer()
    if status == 403 and (found := VIOLATES.search(message)):
        return Answer(violations=found[1])
    assert status in (400, 422), f"{status}: {message}"
    return Answer(invalid=GENERATED.sub("", message))


def _pods(level: Level, version: Version) -> str:
    return f"/api/v1/namespaces/{_namespace(level, version)}/pods"


def _namespace(level: Level, version: Version) -> str:
    return f"{level}-v{version[0]}-{version[1]}"
