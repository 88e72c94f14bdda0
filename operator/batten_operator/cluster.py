"""The API server, as much of it as the operator needs, with a deadline on every call.

Objects are plain JSON: the client's models cost 30 MB of memory and are not needed for two kinds.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

import msgspec
from aiohttp import ClientError
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

# It tells of a missing file, of which our own error tells.
logging.getLogger("kubernetes.aio.config.kube_config").setLevel(logging.ERROR)

CALL_SECONDS = 10.0
MERGE = "application/merge-patch+json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"

Object = dict[str, Any]


class ApiError(Exception):
    """A call that failed. `status` is the HTTP status; 0 where the API server gave none."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


async def configuration(context: str = "") -> Configuration:
    """How to reach the API server: KUBECONFIG, else the ServiceAccount, else ~/.kube/config.

    With a `context` it is that one of a kubeconfig file, never the ServiceAccount.

    Raises ApiError where none of them is there or can be read.
    """
    found = Configuration()
    try:
        file = os.environ.get("KUBECONFIG") or None
        if not (context or file) and os.environ.get("KUBERNETES_SERVICE_HOST"):
            load_incluster_config(client_configuration=found)
        else:
            await load_kube_config(
                config_file=file,
                context=context or None,
                client_configuration=found,
                persist_config=False,
            )
    except (ConfigException, OSError, ValueError) as error:
        raise ApiError(f"no way to the API server is configured: {error}") from None
    return found


class Cluster:
    """Connects at the first call; connects anew where its credentials are refused."""

    def __init__(self, context: str = "") -> None:
        self._context = context
        self._client: ApiClient | None = None

    async def get(self, path: str) -> Object:
        return await self._call("GET", path)

    async def create(self, path: str, value: Object) -> Object:
        return await self._call("POST", path, value)

    async def replace(self, path: str, value: Object) -> Object:
        """Raises ApiError 409 where `metadata.resourceVersion` is no longer the object's."""
        return await self._call("PUT", path, value)

    async def patch(self, path: str, value: Object) -> Object:
        return await self._call("PATCH", path, value, STRATEGIC_MERGE)

    async def merge(self, path: str, value: Object) -> Object:
        """A merge patch (RFC 7386), which every kind takes."""
        return await self._call("PATCH", path, value, MERGE)

    async def delete(self, path: str) -> Object:
        return await self._call("DELETE", path)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def _call(
        self, method: str, path: str, value: Object | None = None, media: str = "application/json"
    ) -> Object:
        """Raises ApiError, and nothing else."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                status, body = await self._send(method, path, value, media)
        except TimeoutError:
            raise ApiError(f"{method} {path}: no answer within {CALL_SECONDS:g} s") from None
        except (ClientError, OSError) as error:
            raise ApiError(f"{method} {path}: {error or type(error).__name__}") from None
        if status == 401:
            await self.close()
        try:
            answer: Object = msgspec.json.decode(body, type=dict[str, Any])
        except msgspec.DecodeError:
            raise ApiError(f"{method} {path}: HTTP {status}, no JSON", status) from None
        if status >= 400:
            raise ApiError(f"{method} {path}: {answer.get('message') or f'HTTP {status}'}", status)
        return answer

    async def _send(
        self, method: str, path: str, value: Object | None, media: str
    ) -> tuple[int, bytes]:
        if self._client is None:
            self._client = ApiClient(await configuration(self._context))
            self._client.user_agent = "batten-operator"
        request = await self._client.param_serialize(
            method=method,
            resource_path=path,
            query_params=[],
            header_params={"Accept": "application/json", "Content-Type": media},
            body=value,
            auth_settings=["BearerToken"],
        )
        response = await self._client.call_api(*request, _request_timeout=CALL_SECONDS)
        return response.status, await response.read()
