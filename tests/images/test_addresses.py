"""Addresses that no registry has, in each of their forms."""

from __future__ import annotations

import asyncio

import pytest

from batten_webhooks.images.addresses import GuardedResolver, RefusedAddress, forbidden

REFUSED = [
    "127.0.0.1",
    "127.8.9.10",
    "::1",
    "::ffff:127.0.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::",
    "fe80::1",
    "fe80::1%eth0",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "0.0.0.0",  # noqa: S104
    "::",
    "224.0.0.1",
    "ff02::1",
    "255.255.255.255",
]
ALLOWED = ["10.0.0.5", "192.168.1.1", "172.16.0.1", "203.0.113.5", "2001:db8::1", "fd12::1"]


@pytest.mark.parametrize("address", REFUSED)
def test_no_registry_is_there(address: str) -> None:
    assert forbidden(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_a_registry_may_be_there(address: str) -> None:
    assert forbidden(address) == ""


def test_a_name_for_this_machine_is_refused_unless_its_port_is_listed() -> None:
    async def resolve(listed: str, port: int) -> int:
        return len(await GuardedResolver([listed]).resolve("localhost", port))

    assert asyncio.run(resolve("localhost:5000", 5000)) > 0
    assert asyncio.run(resolve("localhost", 5001)) > 0
    for listed in ("localhost:5000", "localhost.example", ""):
        with pytest.raises(RefusedAddress, match="a loopback address: not asked unless listed"):
            asyncio.run(resolve(listed, 5001))
