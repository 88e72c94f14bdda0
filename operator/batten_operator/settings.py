"""How one operator process is started: flags, each with an environment variable.

The chart sets the variables; a flag wins over its variable.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from batten_webhooks.governance import ALWAYS_EXEMPT, EXEMPT
from batten_webhooks.images.cloud_sources import kind_of
from batten_webhooks.images.transport import RegistrySettings, registry_settings
from batten_webhooks.policy import PRESETS, Policy, observing
from batten_webhooks.workload import TEMPLATE_PATHS, Kind, parse_kinds

SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
COMPONENTS = ("webhook", "controller", "all")
Option = Callable[[str, str, str, Callable[[str], object]], None]
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. An empty host is every address of the machine, port 0 a free one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Durations in seconds. An empty configuration name means that there is none to keep."""

    preset: str
    enforce: bool
    component: str
    policies: bool
    exempt_namespaces: frozenset[str]
    listen: Address
    listen_http: Address | None
    namespace: str
    service: str
    url: str
    mutating_configuration: str
    validating_configuration: str
    certificate_secret: str
    certificate_directory: Path | None
    certificate_lifetime: float
    certificate_propagation: float
    drain: float
    look_up_images: bool
    pull_secrets: bool
    plain_http: frozenset[str]
    local_registry: frozenset[str]
    registry_mirror: tuple[str, ...]
    registry_ca: str
    cloud_registries: frozenset[str]
    architectures: frozenset[str]
    digest_ttl: float
    sigstore_root: Path | None
    custom_kinds: Mapping[Kind, tuple[str, ...]]
    log_level: str

    @property
    def template_paths(self) -> Mapping[Kind, tuple[str, ...]]:
        return {**TEMPLATE_PATHS, **self.custom_kinds}

    @property
    def webhooks(self) -> bool:
        return self.component != "controller"

    @property
    def controls(self) -> bool:
        """Whether it may become the cluster's controller."""
        return self.component != "webhook" and self.policies

    @property
    def scans(self) -> bool:
        """Whether anything is known of images, and what has been scanned is followed."""
        return self.policies and self.look_up_images

    @property
    def policy(self) -> Policy:
        policy = PRESETS[self.preset]
        return policy if self.enforce else observing(policy)

    @property
    def registries(self) -> RegistrySettings:
        """Raises ValueError."""
        return registry_settings(
            plain_http=self.plain_http,
            listed=self.local_registry,
            mirrors=self.registry_mirror,
            ca=self.registry_ca,
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What API servers may call us: the Service's names, and the URL's host where one is."""
        service = f"{self.service}.{self.namespace}.svc"
        names = (service, f"{service}.cluster.local", f"{self.service}.{self.namespace}")
        host = urlsplit(self.url).hostname
        return (*names, host) if host else names


def parse(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Raises SystemExit(2) after one line on stderr that names the setting and what it takes."""
    flags = parser(environment)
    settings = Settings(**vars(flags.parse_args(arguments)))
    if settings.certificate_propagation > settings.certificate_lifetime / 4:
        flags.error("--certificate-propagation is more than a quarter of --certificate-lifetime")
    try:
        settings.registries  # noqa: B018 - it reads the texts
        for host in settings.cloud_registries:
            kind_of(host)
    except ValueError as error:
        flags.error(str(error))
    plain = settings.cloud_registries & settings.plain_http
    if plain:
        flags.error(f"--cloud-registries {min(plain)}: is one of --plain-http, and needs TLS")
    return settings


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser(environment: Mapping[str, str]) -> _Parser:
    """Every flag; what the environment says is its default."""
    flags = _Parser(
        prog="batten-operator",
        description="Serves Batten's admission webhooks.",
        allow_abbrev=False,
    )

    def option(flag: str, default: str, help_text: str, kind: Callable[[str], object]) -> None:
        variable = "BATTEN_" + flag.upper().replace("-", "_")
        flags.add_argument(
            f"--{flag}",
            type=kind,
            default=environment.get(variable, default),
            help=f"{help_text} [{variable}; default: {default or 'none'}]",
        )

    option("preset", "hardened", "the built-in policy: " + ", ".join(PRESETS), _preset)
    flags.add_argument(
        "--enforce",
        action=argparse.BooleanOptionalAction,
        default=_mode(flags, environment.get("BATTEN_MODE", "observe")),
        help="change and deny; otherwise only say what would be changed or denied"
        " [BATTEN_MODE: enforce or observe; default: observe]",
    )
    option(
        "component",
        "all",
        "what runs here: the webhooks, the controller that judges what runs in the cluster, or both"
        " (webhook, controller, all)",
        _component,
    )
    flags.add_argument(
        "--policies",
        action=argparse.BooleanOptionalAction,
        default=environment.get("BATTEN_POLICIES", "true") != "false",
        help="let HardeningPolicies and HardeningExceptions govern; otherwise the preset alone does"
        " [BATTEN_POLICIES: true or false; default: true]",
    )
    _image_options(flags, environment, option)
    option(
        "exempt-namespaces",
        ",".join(sorted(EXEMPT - ALWAYS_EXEMPT)),
        "namespaces that the webhooks leave alone besides Kubernetes' own and the operator's, so"
        " that the controller does",
        _labels,
    )
    option("listen", ":9443", "HOST:PORT of the webhooks (HTTPS)", _address)
    option(
        "listen-http",
        ":8080",
        "HOST:PORT of /healthz, /readyz and /metrics without TLS; empty: only beside the webhooks",
        _optional_address,
    )
    option("namespace", _own_namespace(), "the operator's namespace", _label)
    option("service", "batten-webhook", "the Service in front of the webhooks", _label)
    option("url", "", "https://HOST[:PORT] of the webhooks where no Service is", _url)
    option(
        "mutating-configuration",
        "batten",
        "the MutatingWebhookConfiguration whose caBundle is kept; empty: none",
        _optional_name,
    )
    option(
        "validating-configuration",
        "batten",
        "the ValidatingWebhookConfiguration whose caBundle is kept; empty: none",
        _optional_name,
    )
    option(
        "certificate-secret",
        "batten-webhook-certificate",
        "the Secret in which the operator keeps the certificate that it issues",
        _name,
    )
    option(
        "certificate-directory",
        "",
        "a folder with tls.crt and tls.key that somebody else renews; no Secret is kept then and no"
        " caBundle",
        _optional_path,
    )
    option(
        "certificate-lifetime",
        "90d",
        "how long an issued certificate is valid; it is renewed after two thirds of it",
        _positive,
    )
    option(
        "certificate-propagation",
        "30s",
        "how long a new CA stands in the caBundle before its certificate is served",
        _duration,
    )
    option(
        "custom-kinds",
        "",
        "more kinds with a Pod template, as Widget.example.com=spec.template, separated by commas",
        _custom_kinds,
    )
    option("drain", "15s", "how long to go on serving after SIGTERM", _duration)
    option("log-level", "info", "debug, info, warning or error", _level)
    return flags


def _image_options(flags: _Parser, environment: Mapping[str, str], option: Option) -> None:
    """The registries' are named as the command line's own are."""
    flags.add_argument(
        "--look-up-images",
        action=argparse.BooleanOptionalAction,
        default=environment.get("BATTEN_LOOK_UP_IMAGES", "true") != "false",
        help="ask registries for the digests of tags and for what images say; otherwise Pods keep"
        " their tags [BATTEN_LOOK_UP_IMAGES: true or false; default: true]",
    )
    flags.add_argument(
        "--pull-secrets",
        action=argparse.BooleanOptionalAction,
        default=environment.get("BATTEN_PULL_SECRETS", "true") != "false",
        help="read the Secrets that Pods and their ServiceAccounts name as imagePullSecrets;"
        " otherwise ask as anybody [BATTEN_PULL_SECRETS: true or false; default: true]",
    )
    option("plain-http", "", "registries asked without TLS, HOST:PORT each", _hosts)
    option("local-registry", "", "registries that may be at this machine's own addresses", _hosts)
    option("registry-mirror", "", "mirrors asked first, REGISTRY=HOST each", _texts)
    option("registry-ca", "", "file of CAs, in PEM, that registries may have besides", str)
    option(
        "cloud-registries",
        "",
        "registries of ECR, Artifact Registry (and gcr.io) and ACR that may be asked as the"
        " operator's own cloud identity, HOST each",
        _hosts,
    )
    option(
        "architectures",
        "amd64,arm64",
        "of an image with many platforms those are read that nodes have; empty: all",
        _hosts,
    )
    option(
        "digest-ttl",
        "60s",
        "how long a tag is not asked for again; for ten times as long an old digest is given while"
        " it is",
        _positive,
    )
    option(
        "sigstore-root",
        "",
        "file of Sigstore's trusted root, as its clients have it, for attestations that are signed"
        " without a key",
        _optional_file,
    )


def _own_namespace() -> str:
    try:
        return SERVICE_ACCOUNT_NAMESPACE.read_text().strip()
    except OSError:
        return "batten-system"


def _mode(parser: argparse.ArgumentParser, text: str) -> bool:
    if text not in ("enforce", "observe"):
        parser.error(f"BATTEN_MODE: {text!r} is neither enforce nor observe")
    return text == "enforce"


def _preset(text: str) -> str:
    return _one_of(text, tuple(PRESETS))


def _level(text: str) -> str:
    return _one_of(text.lower(), ("debug", "info", "warning", "error"))


def _one_of(text: str, words: tuple[str, ...]) -> str:
    if text not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(words)}")
    return text


def _address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no HOST:PORT, such as :9443 or [::1]:9443")
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def _optional_address(text: str) -> Address | None:
    return _address(text) if text else None


def _label(text: str) -> str:
    if not _DNS_LABEL.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no DNS label (RFC 1123)")
    return text


def _name(text: str) -> str:
    if not _DNS_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no object name (RFC 1123)")
    return text


def _component(text: str) -> str:
    return _one_of(text, COMPONENTS)


def _labels(text: str) -> frozenset[str]:
    return frozenset(_label(name) for name in text.split(",") if name)


def _texts(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _hosts(text: str) -> frozenset[str]:
    return frozenset(_texts(text))


def _optional_name(text: str) -> str:
    return _name(text) if text else ""


def _url(text: str) -> str:
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        valid = parts.scheme == "https" and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise argparse.ArgumentTypeError(f"{text!r} is no https://HOST[:PORT]")
    return text


def _optional_path(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is no folder")
    return path


def _optional_file(text: str) -> Path | None:
    if not text:
        return None
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is no file")
    return path


def _custom_kinds(text: str) -> dict[Kind, tuple[str, ...]]:
    try:
        return parse_kinds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _duration(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration, such as 15s, 90m, 24h or 90d")
    return float(match[1]) * _SECONDS[match[2]]


def _positive(text: str) -> float:
    seconds = _duration(text)
    if seconds < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 1s")
    return seconds
