"""What is known of images: the digests of revisions, and what registries say, as the kubelet asks.

Everything that can be remembered is: a warm answer costs no call. Digests of a revision never
change, so that they are read once; a pull secret is read again after a minute.
"""

from __future__ import annotations

import asyncio
import logging
import time
from base64 import b64decode
from binascii import Error as NoBase64
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar
from urllib.parse import quote

from batten_operator.cluster import ApiError, Cluster
from batten_operator.image_scans import ImageScans
from batten_operator.logs import fields
from batten_webhooks.evidence.scans import Scans
from batten_webhooks.image_facts import ImageFacts as Said
from batten_webhooks.image_facts import Profile
from batten_webhooks.images.bounded import Bounded
from batten_webhooks.images.cache import Images
from batten_webhooks.images.errors import RegistryError
from batten_webhooks.images.facts import facts_of
from batten_webhooks.images.keyring import Credential, InvalidSecret, Keyring, read_secret
from batten_webhooks.images.profiles import profile_of
from batten_webhooks.inquiry import Inquiry
from batten_webhooks.reference import Reference
from batten_webhooks.revision import Revision, read_revision
from batten_webhooks.rules import pinned_digest
from batten_webhooks.rules.rule import Facts, Missing
from batten_webhooks.workload import Kind, Malformed, OwnerReference, Workload, group_of

logger = logging.getLogger(__name__)

SECRET_SECONDS = 60.0
# A revision that lacks a digest is looked at again: the controller will have found it.
UNPINNED_SECONDS = 2.0
MOST_REVISIONS, MOST_SECRETS, MOST_KEYRINGS = 10_000, 2_000, 2_000
# Of one Pod, and of one Secret: who may make them makes calls, and what is remembered.
MOST_PULL_SECRETS, MOST_ENTRIES, MOST_SECRET_BYTES = 20, 100, 2**16
# A Pod is reviewed before the API server looks at its names. RFC 1123: no `..`, no megabyte.
NAME = pinned_digest.OBJECT_NAME
LONGEST_UID = 128

T = TypeVar("T")
Entries = tuple[tuple[str, Credential], ...]
NONE: Mapping[str, Scans] = {}


class _Aging(Generic[T]):
    """Values that are known until a moment of the monotonic clock."""

    def __init__(self, most: int) -> None:
        self._known = Bounded[Any, tuple[float, T]](most)

    def get(self, key: object) -> T | None:
        found = self._known.get(key)
        return found[1] if found is not None and time.monotonic() < found[0] else None

    def put(self, key: object, value: T, seconds: float) -> None:
        self._known[key] = time.monotonic() + seconds, value


@dataclass(frozen=True, slots=True)
class _Pins:
    """Of one revision: its images that have no digest in the template, and the digests of those.

    Where there is no such revision it has no images, and every one is asked for by itself. `at` is
    when it was read, of the monotonic clock.
    """

    title: str = ""
    images: frozenset[str] = frozenset()
    digests: Mapping[str, str] = field(default_factory=dict)
    error: str = ""
    at: float = field(default_factory=time.monotonic)

    def settles(self, texts: Iterable[str]) -> bool:
        """Whether nothing that it says of these references will ever be different: a ReplicaSet's
        template may be changed, and name another image then."""
        return all(text in self.digests for text in texts)


@dataclass
class ImageFacts:
    """`pull_secrets` says whether Secrets may be read at all, `architectures` what nodes have.

    `count` is told `resolved`, or the reason why not, of each tag that is asked for; `profile`
    tells what else is known of an image, `scans` what scanners found.
    """

    cluster: Cluster
    images: Images
    pull_secrets: bool = True
    architectures: frozenset[str] = frozenset()
    count: Callable[[str], None] = lambda _: None
    profile: Callable[[Reference], Profile | None] = profile_of
    scans: ImageScans | None = None

    def __post_init__(self) -> None:
        self._revisions = Bounded[_Place, _Pins](MOST_REVISIONS)
        self._secrets = _Aging[Entries](MOST_SECRETS)
        self._accounts = _Aging[tuple[str, ...]](MOST_SECRETS)
        self._keyrings = Bounded[Entries, Keyring](MOST_KEYRINGS)

    # --- what is at hand ------------------------------------------------------------------------

    def known(self, inquiry: Inquiry) -> Facts | None:
        """None where anything has to be asked for."""
        pins = self._known_pins(inquiry)
        keyring = self._known_keyring(inquiry)
        if pins is None or keyring is None:
            return None
        digests: dict[str, str | Missing] = {}
        for text, reference in inquiry.pin.items():
            answer = _of_revision(pins, text, inquiry) or self.images.known_digest(
                reference, keyring
            )
            if answer is None:
                return None
            digests[text] = Missing(str(answer)) if isinstance(answer, RegistryError) else answer
        images: dict[str, Said] = {}
        for text, reference in inquiry.read.items():
            digest = reference.digest or digests.get(text)
            if not isinstance(digest, str):
                continue
            found = self.images.known_platforms(reference, digest, keyring)
            if found is None:
                return None
            if not isinstance(found, RegistryError):
                images[text] = facts_of(found, self.profile(reference))
        scans = NONE if self.scans is None else self.scans.known(inquiry, digests, keyring)
        if scans is None:
            return None
        return Facts(images, digests, self.architectures, scans=scans)

    def _known_pins(self, inquiry: Inquiry) -> _Pins | None:
        place = _revision(inquiry) if inquiry.pin else None
        if place is None:
            return NO_REVISION
        found = self._revisions.get(place)
        if found is None or found.settles(inquiry.pin):
            return found
        return found if time.monotonic() - found.at < UNPINNED_SECONDS else None

    def _known_keyring(self, inquiry: Inquiry) -> Keyring | None:
        names = self._known_names(inquiry)
        if names is None:
            return None
        entries: list[tuple[str, Credential]] = []
        for name in names:
            found = self._secrets.get((inquiry.namespace, name))
            if found is None:
                return None
            entries += found
        return self._keyring(tuple(entries))

    def _known_names(self, inquiry: Inquiry) -> tuple[str, ...] | None:
        if not self.pull_secrets:
            return ()
        own = _named(inquiry.workload)
        if own is None:
            own = self._accounts.get((inquiry.namespace, _account(inquiry.workload)))
        return None if own is None else tuple(dict.fromkeys((*own, *inquiry.secrets)))

    def _keyring(self, entries: Entries) -> Keyring:
        keyring = self._keyrings.get(entries)
        if keyring is None:
            keyring = self._keyrings[entries] = Keyring(entries)
        return keyring

    # --- what is asked for ----------------------------------------------------------------------

    async def gather(self, inquiry: Inquiry, seconds: float) -> Facts:
        """All of it, or why it could not be had, within so many seconds: half of them are the
        registries'."""
        deadline = time.monotonic() + seconds
        pins, keyring = await asyncio.gather(
            self._pins(inquiry, seconds / 2), self._read_keyring(inquiry, seconds / 2)
        )

        async def digest(text: str, reference: Reference) -> str | Missing:
            pinned = _of_revision(pins, text, inquiry)
            if pinned is not None:
                return pinned
            left = max(0.0, deadline - time.monotonic())
            try:
                found = await self.images.digest(reference, keyring, left, inquiry.namespace)
            except RegistryError as error:
                self.count(error.reason)
                return Missing(str(error))
            self.count("resolved")
            return found

        answers = await asyncio.gather(*(digest(*each) for each in inquiry.pin.items()))
        digests = dict(zip(inquiry.pin, answers, strict=True))
        images = await self._read(inquiry, digests, keyring, deadline)
        scans = NONE
        if self.scans is not None and inquiry.scan:
            scans = await self.scans.look(inquiry, digests, keyring, deadline)
        return Facts(images, digests, self.architectures, scans=scans)

    async def _read(
        self,
        inquiry: Inquiry,
        digests: Mapping[str, str | Missing],
        keyring: Keyring,
        deadline: float,
    ) -> dict[str, Said]:
        images: dict[str, Said] = {}

        async def read(text: str, reference: Reference) -> None:
            digest = reference.digest or digests.get(text)
            if not isinstance(digest, str):
                return
            left = max(0.0, deadline - time.monotonic())
            try:
                found = await self.images.platforms(
                    reference, digest, keyring, left, inquiry.namespace
                )
                images[text] = facts_of(found, self.profile(reference))
            except RegistryError as error:
                logger.info("image not read", extra=fields(image=text, error=str(error)))

        await asyncio.gather(*(read(*each) for each in inquiry.read.items()))
        return images

    async def _pins(self, inquiry: Inquiry, seconds: float) -> _Pins:
        known = self._known_pins(inquiry)
        place = _revision(inquiry)
        if known is not None or place is None:
            return known or NO_REVISION
        self._revisions[place] = pins = await self._read_pins(place, seconds)
        return pins

    async def _read_pins(self, place: _Place, seconds: float) -> _Pins:
        try:
            async with asyncio.timeout(seconds):
                value = await self.cluster.get(place.path)
            revision = read_revision(place.kind, value)
        except TimeoutError:
            return _Pins(place.title, error="the API server does not answer")
        except ApiError as error:
            if error.status == 404:
                return _Pins()
            logger.warning("revision not read", extra=fields(path=place.path, error=str(error)))
            return _Pins(place.title, error="it cannot be read")
        except Malformed:
            return _Pins()
        if not _is_of(revision, place.uid):
            return _Pins()
        return _Pins(place.title, revision.images, revision.pins)

    async def _read_keyring(self, inquiry: Inquiry, seconds: float) -> Keyring:
        """With what can be had: the kubelet passes over Secrets that are not there, too."""
        try:
            async with asyncio.timeout(seconds):
                names = self._known_names(inquiry)
                if names is None:
                    await self._read_account(inquiry.namespace, _account(inquiry.workload))
                    names = self._known_names(inquiry) or inquiry.secrets
                found = await asyncio.gather(
                    *(self._read_secret(inquiry.namespace, name) for name in names)
                )
        except TimeoutError:
            found = []
        return self._keyring(tuple(entry for entries in found for entry in entries))

    async def keyring(self, namespace: str, names: Iterable[str], seconds: float) -> Keyring:
        """Of the Secrets of these names, as far as they can be read within so many seconds."""
        found: list[Entries] = []
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                if self.pull_secrets:
                    found = await asyncio.gather(
                        *(self._read_secret(namespace, name) for name in names)
                    )
        return self._keyring(tuple(entry for entries in found for entry in entries))

    async def _read_account(self, namespace: str, name: str) -> None:
        async def names() -> tuple[str, ...]:
            found = await self.cluster.get(_path("v1", namespace, "serviceaccounts", name))
            return _names(
                str(each.get("name") or "") for each in found.get("imagePullSecrets") or ()
            )

        await _remember(self._accounts, (namespace, name), names, "ServiceAccount")

    async def _read_secret(self, namespace: str, name: str) -> Entries:
        async def entries() -> Entries:
            found = await self.cluster.get(_path("v1", namespace, "secrets", name))
            data = {key: b64decode(text) for key, text in (found.get("data") or {}).items()}
            if sum(map(len, data.values())) > MOST_SECRET_BYTES:
                raise InvalidSecret(f"has more than {MOST_SECRET_BYTES} bytes")
            return tuple(read_secret(str(found.get("type")), data))[:MOST_ENTRIES]

        return await _remember(self._secrets, (namespace, name), entries, "Secret") or ()


async def _remember(
    known: _Aging[tuple[Any, ...]],
    key: tuple[str, str],
    read: Callable[[], Awaitable[tuple[Any, ...]]],
    what: str,
) -> tuple[Any, ...]:
    """What cannot be read is none, for a while."""
    held = known.get(key)
    if held is not None:
        return held
    try:
        found = await read()
    except (ApiError, InvalidSecret, NoBase64, TypeError) as error:
        found = ()
        logger.warning(
            "%s not read",
            what,
            extra=fields(namespace=key[0], name=key[1], error=str(error)),
        )
    known.put(key, found, SECRET_SECONDS)
    return found


NO_REVISION = _Pins()


@dataclass(frozen=True, slots=True)
class _Place:
    """Of the revision that a Pod is of; `uid` is that of the Pod's owner."""

    kind: Kind
    path: str
    uid: str
    title: str


def _revision(inquiry: Inquiry) -> _Place | None:
    """None for a Pod that nobody made, or somebody who keeps no revisions that are known here."""
    workload = inquiry.workload
    metadata = workload.template.metadata
    if not workload.is_pod or metadata is None:
        return None
    owner = next((each for each in metadata.ownerReferences or () if each.controller), None)
    if owner is None:
        return None
    kind, name = _revision_of(owner, (metadata.labels or {}).get("controller-revision-hash") or "")
    if not NAME.fullmatch(name) or len(owner.uid) > LONGEST_UID:
        return None
    return _Place(kind, path_of(kind, inquiry.namespace, name), owner.uid, f'{kind.kind} "{name}"')


def _revision_of(owner: OwnerReference, revision_hash: str) -> tuple[Kind, str]:
    """A StatefulSet's Pods bear the name of their ControllerRevision, a DaemonSet's its hash."""
    kind = Kind(group_of(owner.apiVersion), owner.kind)
    if kind in (Kind("apps", "ReplicaSet"), Kind("batch", "Job")):
        return kind, owner.name
    controller_revision = Kind("apps", "ControllerRevision")
    if kind == Kind("apps", "StatefulSet"):
        return controller_revision, revision_hash
    if kind == Kind("apps", "DaemonSet") and revision_hash:
        return controller_revision, f"{owner.name}-{revision_hash}"
    return kind, ""


def _is_of(revision: Revision, uid: str) -> bool:
    """Whether it is the owner, or the owner's: what a Pod says of itself proves nothing."""
    owners = (owner.uid for owner in revision.metadata.ownerReferences or () if owner.controller)
    return bool(uid) and (revision.metadata.uid == uid or uid in owners)


def _of_revision(pins: _Pins, text: str, inquiry: Inquiry) -> str | Missing | None:
    """None for an image that the revision does not speak of, such as an injected sidecar's, or that
    nobody gives a digest."""
    if not inquiry.pinned:
        return pins.digests.get(text)
    if pins.error:
        return Missing(f"{pins.title} has its digest, and {pins.error}")
    if text not in pins.images:
        return None
    return pins.digests.get(text) or Missing(
        f"{pins.title} has no digest for it yet, see its events"
    )


def path_of(kind: Kind, namespace: str, name: str) -> str:
    """Of a revision."""
    return _path(f"{kind.group}/v1", namespace, f"{kind.kind.lower()}s", name)


def _path(version: str, namespace: str, plural: str, name: str) -> str:
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{root}/namespaces/{quote(namespace, '')}/{plural}/{quote(name, '')}"


def _named(workload: Workload) -> tuple[str, ...] | None:
    """The Pod's own Secrets; None where its ServiceAccount's count, which Pods bear already."""
    secrets = workload.spec.imagePullSecrets
    if secrets or workload.is_pod or not NAME.fullmatch(_account(workload)):
        return _names(each.name for each in secrets or ())
    return None


def _names(texts: Iterable[str]) -> tuple[str, ...]:
    """The first of those that are names of Secrets at all: each is a call."""
    good = (text for text in dict.fromkeys(texts) if NAME.fullmatch(text))
    return tuple(islice(good, MOST_PULL_SECRETS))


def _account(workload: Workload) -> str:
    return workload.spec.serviceAccountName or workload.spec.serviceAccount or "default"
