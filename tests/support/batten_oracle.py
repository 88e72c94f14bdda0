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
            for version in VERSIONS:
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
        path = f"/api/v1/namespaces/{_namespace(level, version)}/pods?dryRun=All"
        status, answer = self._post(path, body)
        message = str(answer.get("message", ""))
        if status == 201:
            return Answer()
        if status == 403 and (found := VIOLATES.search(message)):
            return Answer(violations=found[1])
        assert status in (400, 422), f"{status}: {message}"
        return Answer(invalid=GENERATED.sub("", message))

    def _make_namespace(self, level: Level, version: Version) -> None:
        labels = {ENFORCE: level, f"{ENFORCE}-version": f"v{version[0]}.{version[1]}"}
        metadata = {"name": _namespace(level, version), "labels": labels}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
        status, answer = self._post("/api/v1/namespaces", body)
        assert status == 201, answer

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """The server ends a connection that was idle: then a new one is made."""
        data = json.dumps(body, default=str)
        try:
            return self._post_once(path, data)
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return self._post_once(path, data)

    def _post_once(self, path: str, data: str) -> tuple[int, dict[str, Any]]:
        self._connection.request("POST", path, data, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())


def _namespace(level: Level, version: Version) -> str:
    return f"{level}-v{version[0]}-{version[1]}"
