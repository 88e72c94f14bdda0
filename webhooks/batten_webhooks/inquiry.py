"""What a policy has to know of a workload's images before it can judge. Pure: nobody is asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from itertools import islice

from msgspec import Struct

from batten_webhooks.evidence.scans import Platform
from batten_webhooks.governance import Exemptions, Governed
from batten_webhooks.policy import Policy, Setting
from batten_webhooks.reference import Reference
from batten_webhooks.rules import no_latest_tag, pinned_digest, scanned_image
from batten_webhooks.rules.pinned_digest import readable, to_pin
from batten_webhooks.rules.rule import Facts
from batten_webhooks.rules.scanned_image import Source as ScanSource
from batten_webhooks.rules.scanned_image import to_look_for
from batten_webhooks.workload import MOST_CONTAINERS, Workload

# Containers are counted where a Pod is read, its volumes are not.
MOST_ASKED = MOST_CONTAINERS


class Inquiry(Struct, frozen=True):
    """References by the text that names them: `pin` are those whose tags are to be resolved, `read`
    those whose configuration counts, `scan` those whose scans do, from `sources`. `secrets` are the
    policy's own, for Pods of `namespace`. Where revisions are `pinned` their Pods take digests from
    there alone."""

    namespace: str
    workload: Workload
    pin: Mapping[str, Reference]
    read: Mapping[str, Reference]
    secrets: tuple[str, ...] = ()
    scan: Mapping[str, Reference] = {}
    sources: tuple[ScanSource, ...] = ()
    pinned: bool = True


class FactsNeeded(Exception):
    """What the inquiry asks for decides, and is not at hand: ask for it and try again."""

    def __init__(self, inquiry: Inquiry) -> None:
        super().__init__("what images say is not known yet")
        self.inquiry = inquiry


# None for what is not at hand.
Source = Callable[[Inquiry], Facts | None]


def inquire(
    workload: Workload,
    namespace: str,
    governed: Governed,
    digests: Collection[str] = (),
    *,
    judge: bool = True,
) -> Inquiry | None:
    """None where nothing has to be known. Those of `digests` are; without `judge` only what changes
    depend on has to be."""
    pinning = latest = scanning = None
    reading = False
    for setting in governed.policy.settings:
        if setting.rule is pinned_digest.RULE:
            pinning = setting
        elif setting.rule is no_latest_tag.RULE:
            let_in = _may_be_let_in(workload, setting, governed.exemptions)
            latest = None if let_in else setting
        elif setting.rule is scanned_image.RULE:
            scanning = setting if judge and setting.actions else None
        elif setting.rule.reads_images:
            reading = reading or bool(setting.actions) or setting.mutation != "Disabled"
    pin = {} if pinning is None else _to_pin(workload, pinning, latest)
    wanted = ((text, found) for text, found in pin.items() if text not in digests)
    pin = dict(islice(wanted, MOST_ASKED))
    read = _named(workload) if reading else {}
    looking = {} if scanning is None else to_look_for(workload, scanning.parameters)
    scan = dict(islice(looking.items(), MOST_ASKED))
    if not (pin or read or scan):
        return None
    secrets = pinning.parameters.image_pull_secrets if pinning is not None else ()
    sources = scanning.parameters.sources if scanning is not None else ()
    return Inquiry(
        namespace,
        workload,
        pin,
        read,
        secrets,
        scan,
        sources,
        pinned=pins(governed.policy),
    )


def scan_or_deny(policy: Policy) -> bool:
    """Whether what is not known to be scanned is refused."""
    scanning = policy.setting(scanned_image.RULE)
    return scanning is not None and "Deny" in scanning.actions


class WantedScan(Struct, frozen=True):
    """Of one platform of an image, by a PodTemplate, with the Pod's own pull secrets."""

    image: str
    digest: str
    platform: Platform
    template: str
    namespace: str
    pull_secrets: tuple[str, ...]


def wanted_scans(
    workload: Workload, namespace: str, policy: Policy, facts: Facts
) -> tuple[WantedScan, ...]:
    """Those that the policy lets be made, of what lacks one that counts: of Pods, which name the
    digests that run and bear their ServiceAccount's pull secrets."""
    scanning = policy.setting(scanned_image.RULE)
    if scanning is None or not (workload.is_pod and scanning.actions):
        return ()
    template = scanning.parameters.scan_with
    if not template:
        return ()
    pinning = policy.setting(pinned_digest.RULE)
    own = tuple(each.name for each in workload.spec.imagePullSecrets or () if each.name)
    named = pinning.parameters.image_pull_secrets if pinning is not None else ()
    return tuple(
        WantedScan(image, scans.digest, platform, template, namespace, (*own, *named))
        for image, scans, platform in scanned_image.lacking(workload, scanning.parameters, facts)
    )


def pins(policy: Policy) -> bool:
    """Whether images are given digests, not only told which they would be given."""
    pinning = policy.setting(pinned_digest.RULE)
    return pinning is not None and pinning.mutation == "Enabled"


def _may_be_let_in(workload: Workload, setting: Setting, exemptions: Exemptions) -> bool:
    """Whether the rule is lifted for a container, or for somebody."""
    return bool(setting.exempt_users) or setting.rule.name in exemptions.holding(workload).rules


def _to_pin(workload: Workload, pinning: Setting, latest: Setting | None) -> dict[str, Reference]:
    """What is refused for its tag is not given a digest first: a Pod is told what its Deployment
    is told."""
    if pinning.mutation == "Disabled":
        return {}
    wanted = to_pin(workload, pinning.parameters)
    if latest is not None and "Deny" in latest.actions:
        return {text: found for text, found in wanted.items() if found.tag not in ("", "latest")}
    return wanted


def _named(workload: Workload) -> dict[str, Reference]:
    texts = {site.container.image for site in workload.sites}
    return {text: found for text in texts if text and (found := readable(text))}
