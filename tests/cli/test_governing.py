"""`batten explain --for FILE`: which policy governs what is in the file, and why."""

from __future__ import annotations

from pathlib import Path

import pytest
from batten_command import batten_inside

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: "nginx:1.27"}]}
"""
HEAD = "apiVersion: batten.dev/v1alpha1\nkind: "
POLICIES = f"""\
{HEAD}HardeningPolicy
metadata: {{name: gold}}
spec:
  priority: 10
  match: {{namespaceSelector: {{matchLabels: {{tier: gold}}}}}}
---
{HEAD}HardeningPolicy
metadata: {{name: everybody}}
---
{HEAD}HardeningException
metadata: {{name: legacy}}
spec:
  match: {{namespaces: [shop], containers: [app], images: ["docker.io/library/nginx"]}}
  rules: [resources, probes]
  reason: moves in spring
  expires: 2999-01-01T00:00:00Z
"""
CONFIG = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}'
SHOP = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {tier: gold}}\n"


TOLD = [
    'Deployment "web" in namespace shop (web.yaml:1)',
    '  governed by HardeningPolicy "gold": priority 10, its namespaceSelector matches',
    (
        '  also matches: HardeningPolicy "everybody" (priority 0, it matches every Pod), '
        "which it outranks"
    ),
    (
        '  HardeningException "legacy" lifts probes, resources for container app, '
        "image docker.io/library/nginx until 2999-01-01T00:00:00Z: moves in spring"
    ),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "web.yaml").write_text(DEPLOYMENT)
    (tmp_path / "policies.yaml").write_text(POLICIES)
    (tmp_path / "shop.yaml").write_text(SHOP.replace("{tier: gold}", "gold"))
    return tmp_path


def explain(folder: Path, *arguments: str, stdin: str = "") -> tuple[int, str]:
    ran = batten_inside("explain", *arguments, stdin=stdin.encode(), cwd=folder)
    return ran.code, ran.out + ran.err


def test_it_names_the_policy_what_it_outranks_and_the_exceptions(folder: Path) -> None:
    (folder / "shop.yaml").write_text(SHOP)
    files = ("--policy", "policies.yaml", "--policy", "shop.yaml")
    code, told = explain(folder, "--for", "web.yaml", *files)
    assert code == 0
    assert told.splitlines() == TOLD


def test_a_namespace_that_nobody_knows_is_never_one_without_labels(folder: Path) -> None:
    code, told = explain(folder, "--for", "web.yaml", "--policy", "policies.yaml")
    assert code == 2
    assert "the labels of the namespace 'shop' decide and are not known: add its Namesp" in told


@pytest.mark.parametrize("between", ["---\n", "\n---\n# more\n"])
def test_stdin_is_read_once_for_workloads_and_namespaces(folder: Path, between: str) -> None:
    both = SHOP + between + DEPLOYMENT
    code, told = explain(folder, "--for", "-", "--policy", "policies.yaml", stdin=both)
    assert code == 0
    assert 'governed by HardeningPolicy "gold"' in told


def test_a_folder_is_all_of_its_files(folder: Path) -> None:
    manifests = folder / "manifests"
    manifests.mkdir()
    for name, text in (("a.yaml", SHOP), ("b.yaml", DEPLOYMENT), ("c.json", CONFIG)):
        (manifests / name).write_text(text)
    code, told = explain(folder, "--for", "manifests", "--policy", "policies.yaml")
    assert code == 0
    assert "(manifests/b.yaml:1)\n  governed by HardeningPolicy" in told


@pytest.mark.parametrize(
    ("arguments", "stdin", "complaint"),
    [
        (("--for", "absent.yaml", "--policy", "baseline"), "", "absent.yaml: no such file"),
        (("--for", "-", "--policy", "baseline"), "a: [", "<stdin>:1:5: not valid YAML"),
        (("--for", "web.yaml", "--policy", "absent"), "", "--policy absent: neither one of base"),
        (("--for", "web.yaml", "--policy", "web.yaml"), "", "web.yaml: holds no HardeningPolicy"),
        (("--for", "policies.yaml", "--policy", "baseline"), "", "policies.yaml: holds no work"),
        (
            ("--for", "web.yaml", "--policy", "shop.yaml"),
            "",
            "shop.yaml:3:24: metadata.labels",
        ),
        (("--for", "web.yaml", "--policy", "baseline", "--policy", "hardened"), "", "only one"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(
    folder: Path, arguments: tuple[str, ...], stdin: str, complaint: str
) -> None:
    code, told = explain(folder, *arguments, stdin=stdin)
    assert code == 2
    assert complaint in told
    assert told.startswith("batten: ")
    assert told.count("\n") == 1
