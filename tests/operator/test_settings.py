"""Flags and variables, and what is said of bad ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from batten_operator.settings import Address, parse
from batten_webhooks.policy import PRESETS
from batten_webhooks.workload import Kind


def test_the_defaults_only_observe() -> None:
    settings = parse([], {})
    assert settings.preset == "hardened"
    assert settings.enforce is False
    assert not any("Deny" in setting.actions for setting in settings.policy.settings)
    assert not any(setting.mutation == "Enabled" for setting in settings.policy.settings)
    assert settings.listen == Address("", 9443)
    assert settings.drain == 15
    assert settings.certificate_lifetime == 90 * 86400


def test_enforcing_is_the_preset_itself() -> None:
    assert parse(["--enforce"], {}).policy == PRESETS["hardened"]
    assert (
        parse([], {"BATTEN_MODE": "enforce", "BATTEN_PRESET": "restricted"}).policy
        == (PRESETS["restricted"])
    )


def test_a_flag_wins_over_its_variable() -> None:
    environment = {"BATTEN_MODE": "enforce", "BATTEN_LISTEN": "127.0.0.1:1", "BATTEN_DRAIN": "2m"}
    settings = parse(["--no-enforce", "--listen=[::1]:2"], environment)
    assert settings.enforce is False
    assert settings.listen == Address("::1", 2)
    assert settings.drain == 120


def test_names_of_the_certificate() -> None:
    settings = parse(["--namespace=ns", "--service=web", "--url=https://[2001:db8::1]:9443"], {})
    assert settings.names == ("web.ns.svc", "web.ns.svc.cluster.local", "web.ns", "2001:db8::1")


def test_custom_kinds_join_the_known_ones() -> None:
    text = "Widget.example.com=spec.template,Gadget.v.example.com=spec.a.b"
    paths = parse([], {"BATTEN_CUSTOM_KINDS": text}).template_paths
    assert paths[Kind("example.com", "Widget")] == ("spec", "template")
    assert paths[Kind("v.example.com", "Gadget")] == ("spec", "a", "b")
    assert paths[Kind("apps", "Deployment")] == ("spec", "template")


def test_registries_of_clouds_are_asked_with_tls(capsys: pytest.CaptureFixture[str]) -> None:
    listed = "--cloud-registries=shop.azurecr.io, gcr.io"
    assert parse([listed], {}).cloud_registries == {"shop.azurecr.io", "gcr.io"}
    with pytest.raises(SystemExit):
        parse([listed, "--plain-http=gcr.io"], {})
    said = "--cloud-registries gcr.io: is one of --plain-http, and needs TLS"
    assert said in capsys.readouterr().err


BAD = [
    ("--preset=strict", "'strict' is none of baseline, restricted, hardened"),
    ("--listen=9443", "'9443' is no HOST:PORT"),
    ("--listen=:65536", "':65536' is no HOST:PORT"),
    ("--url=http://a", "'http://a' is no https://HOST"),
    ("--url=https://[::1", "is no https://HOST"),
    ("--namespace=../x", "'../x' is no DNS label"),
    ("--certificate-secret=A", "'A' is no object name"),
    ("--certificate-directory=/nowhere", "'/nowhere' is no folder"),
    ("--certificate-lifetime=0s", "'0s' is less than 1s"),
    ("--certificate-lifetime=100s", "--certificate-propagation is more than a quarter"),
    ("--drain=15", "'15' is no duration, such as 15s"),
    ("--custom-kinds=Widget", "'Widget' is no KIND.GROUP=PATH.TO.TEMPLATE"),
    ("--cloud-registries=docker.io", "--cloud-registries docker.io: is no registry of a cloud"),
    ("--cloud-registries=a.azurecr.io.evil.example", "is no registry of a cloud, which are"),
    ("--log-level=loud", "'loud' is none of debug, info, warning, error"),
    ("--enforced", "unrecognized arguments: --enforced"),
]


@pytest.mark.parametrize(("flag", "message"), BAD, ids=[flag for flag, _ in BAD])
def test_a_bad_flag_is_one_clear_line(
    flag: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([flag], {})
    assert ended.value.code == 2
    output = capsys.readouterr().err
    assert message in output
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("BATTEN_MODE", "BATTEN_MODE: 'x' is neither enforce nor observe"),
        ("BATTEN_LISTEN", "--listen: 'x' is no HOST:PORT"),
        ("BATTEN_DRAIN", "--drain: 'x' is no duration"),
    ],
)
def test_a_bad_variable_is_one_clear_line(
    variable: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([], {variable: "x"})
    assert ended.value.code == 2
    output = capsys.readouterr().err
    assert message in output
    assert output.count("\n") == 1


def test_every_flag_has_a_variable_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"], {})
    text = " ".join(capsys.readouterr().out.split())
    source = Path(parse.__code__.co_filename).read_text()
    for flag in ("preset", "listen", "url", "drain", "custom-kinds", "certificate-lifetime"):
        assert f'"{flag}"' in source
        assert f"BATTEN_{flag.upper().replace('-', '_')}" in text
