"""The tree is what the imports and the packaging rely on."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
POD = b"{apiVersion: v1, kind: Pod, spec: {containers: [{name: app, image: nginx}]}}"


# The modules that ask registries, which the extra `images` is for, and those that check signatures,
# which `attestations` is for.
ASKING = (
    "cli.images",
    "cli.registries",
    "evidence.attestations.attached",
    "evidence.attestations.cache",
    "evidence.attestations.keys",
    "evidence.attestations.verify",
    "images.addresses",
    "images.authorization",
    "images.cache",
    "images.cloud",
    "images.cloud_sources",
    "images.registry",
    "images.transport",
)
BLOCKED = (
    "import sys\n"
    "for name in ('kopf', 'kubernetes', 'aiohttp', 'yarl', 'multidict', 'cryptography', 'nacl',"
    " 'sigstore', 'azure', 'botocore', 'google'):\n"
    "    sys.modules[name] = None\n"
)


@pytest.mark.parametrize("folder", ["operator", "webhooks", "tests"])
def test_source_roots_are_no_packages(folder: str) -> None:
    assert (ROOT / folder).is_dir()
    assert not (ROOT / folder / "__init__.py").exists()


def test_nothing_shadows_the_standard_library() -> None:
    code = "import collections, operator; operator.itemgetter"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "name",
    [
        "pyproject.toml",
        "operator",
        "webhooks",
        "deploy",
        "charts",
        "tests",
        "kind-config.yaml",
    ],
)
def test_top_level(name: str) -> None:
    assert (ROOT / name).exists()


def test_command_line_needs_no_operator_library() -> None:
    """`pip install batten` brings neither kopf nor kubernetes, and nothing it brings needs them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {requirement.split(">=")[0] for requirement in project["dependencies"]}
    assert names == {"jinja2", "msgspec", "pydantic", "pyyaml"}
    code = (
        f"{BLOCKED}"
        "import pkgutil, importlib, batten_webhooks\n"
        "for module in pkgutil.walk_packages(batten_webhooks.__path__, 'batten_webhooks.'):\n"
        f"    if not module.name.endswith(('__main__', *{ASKING})):\n"
        "        importlib.import_module(module.name)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (("images", "-"), "images"),
        (("harden", "--pin", "-"), "images"),
        (("evidence", "check", "app:1"), "images"),
        (("evidence", "verify", "app:1"), "audit"),
        (("audit",), "audit"),
    ],
)
def test_a_command_whose_library_is_missing_names_the_extra(
    command: tuple[str, ...], extra: str
) -> None:
    code = f"{BLOCKED}from batten_webhooks.cli.__main__ import main\nsys.exit(main({command}))\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=False, input=POD, capture_output=True
    )
    needed = f"batten: this needs the library aiohttp: pip install 'batten[{extra}]'\n"
    assert (done.returncode, done.stderr.decode()) == (2, needed)


def test_jinja_is_imported_only_for_the_html_report() -> None:
    code = (
        "import sys\n"
        "from batten_webhooks.cli.__main__ import main\n"
        "assert main(['check', '-']) == 1\n"
        "assert 'jinja2' not in sys.modules\n"
        "import batten_webhooks.cli.formats.html\n"
        "assert 'jinja2' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, input=POD)
