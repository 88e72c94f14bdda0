"""Where registries may be: not on this machine, not on the link, not where clouds keep secrets.

A Pod's author chooses the registry, its DNS and its redirects: each address is checked when it is
connected to.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

# Metadata services outside 169.254.0.0/16, by the clouds' own documentation.
METADATA = tuple(
    ip_network(each)
    for each in (
        "100.100.100.200/32",  # Alibaba Cloud
        "168.63.129.16/32",  # Azure's WireServer
        "192.0.0.192/32",  # Oracle Cloud
        "fd00:ec2::254/128",  # AWS
        "fd20:ce::254/128",  # Google Cloud
    )
)
# IPv4 addresses within IPv6 ones, for gateways (RFC 6052).
NAT64 = ip_network("64:ff9b::/96")
# A name whose servers do not answer holds one for many seconds; event loops have few of their own.
MOST_THREADS = 128


class RefusedAddress(OSError):
    """The message completes "registry HOST …"."""


class GuardedResolver(AbstractResolver):
    """Resolves names and gives addresses only where they may be connected to.

    `listed` are HOST or HOST:PORT that may be anywhere.
    """

    def __init__(self, listed: Iterable[str] = ()) -> None:
        self._listed = frozenset(listed)
        self._threads = ThreadPoolExecutor(MOST_THREADS, "resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises RefusedAddress where a name means an address of ours, whatever others it has."""
        ask = partial(
            socket.getaddrinfo,
            host,
            port,
            family,
            socket.SOCK_STREAM,
            flags=socket.AI_ADDRCONFIG,
        )
        answers = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        found = [_result(host, *each) for each in answers]
        for each in found:
            self.check(host, port, each["host"])
        return found

    def check(self, host: str, port: int, address: str) -> None:
        """Raises RefusedAddress."""
        if is_listed(self._listed, host, port):
            return
        told = forbidden(address)
        if told:
            raise RefusedAddress(f"is at {address}, {told}: not asked unless listed")

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _result(host: str, family: int, _: int, protocol: int, __: str, address: Any) -> ResolveResult:
    """Of one of getaddrinfo's answers. Only link-local addresses have a scope: none is gone to."""
    return ResolveResult(
        hostname=host,
        host=str(address[0]),
        port=int(address[1]),
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


def is_listed(listed: frozenset[str], host: str, port: int | None) -> bool:
    bracketed = f"[{host}]" if ":" in host else host
    return bracketed in listed or f"{bracketed}:{port}" in listed


def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def forbidden(address: str) -> str:
    """What the address is that no registry has, "" for one that it may have.

    Private addresses are a cluster's own registries.
    """
    found = _plain(ip_address(address.partition("%")[0]))
    if found.is_loopback:
        return "a loopback address"
    if found.is_link_local:
        return "a link-local address"
    if any(found in network for network in METADATA):
        return "a cloud's metadata service"
    if found.is_unspecified or found.is_multicast or found == IPv4Address("255.255.255.255"):
        return "no address of one machine"
    return ""


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that is meant by an IPv6 one that holds it."""
    if isinstance(address, IPv4Address):
        return address
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
