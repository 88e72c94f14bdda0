"""Write what follows from the chart: its README's table of values, deploy/base, what the components
add to it, and deploy/install.yaml. The chart's own definitions of HardeningPolicy and
HardeningException are written from their models.

`--check` writes nothing and exits 1 where one of the files is not as it would be written.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from batten_tools import ToolError, helm  # noqa: E402

from batten_webhooks.resources import crds  # noqa: E402

CHART = ROOT / "charts" / "batten"
BASE = ROOT / "deploy" / "base"
COMPONENTS = BASE.with_name("components")
INSTALL = BASE.with_name("install.yaml")
# What each component is in the chart.
ADDED = {
    "cert-manager": ["certificate.certManager.enabled"],
    "monitoring": [
        "monitoring.serviceMonitor.enabled",
        "monitoring.prometheusRule.enabled",
        "monitoring.dashboard.enabled",
    ],
    "network-policy": ["networkPolicy.enabled"],
}
README = CHART / "README.md"
CRDS = CHART / "templates" / "crds.yaml"
TABLE = "<!-- What follows is written by deploy/generate.py from values.yaml. -->\n\n"
# Labels that tell of Helm, which is not there where kustomize is used.
HELMS_LABELS = re.compile(
    r"^ +(annotations:\n +helm\.sh/resource-policy|helm\.sh/chart|app\.kubernetes\.io/managed-by):"
    r" .*\n",
    re.MULTILINE,
)
LABELS = '{{- include "batten.labels" . | nindent 4 }}'
SOURCE = "# Source: batten/templates/"


@dataclass(frozen=True)
class Value:
    """One value of the chart, as its schema has it; a group has others below it, and no default.

    `example` is another value that the schema names.
    """

    path: tuple[str, ...]
    description: str
    group: bool = False
    default: Any = None
    example: Any = None

    @property
    def name(self) -> str:
        return ".".join(self.path)


def values() -> list[Value]:
    """Every value in the order of values.yaml. Raises KeyError where the schema lacks one."""
    lines = (CHART / "values.yaml").read_text().splitlines()
    node = yaml.compose("\n".join(lines), Loader=yaml.SafeLoader)
    defaults = yaml.safe_load("\n".join(lines))
    schema = json.loads((CHART / "values.schema.json").read_text())
    if not isinstance(node, yaml.MappingNode):
        raise TypeError("values.yaml is no mapping")
    return list(_values(node, defaults, schema, (), lines))


def _values(
    node: yaml.MappingNode,
    defaults: dict[str, Any],
    schema: dict[str, Any],
    above: tuple[str, ...],
    lines: list[str],
) -> Iterator[Value]:
    for key, value in node.value:
        path = (*above, key.value)
        declared = schema["properties"][key.value]
        default = defaults[key.value]
        comment = _comment(lines, key.start_mark.line)
        if "properties" in declared:
            yield Value(path, comment, group=True)
            yield from _values(value, default, declared, path, lines)
        else:
            yield Value(path, comment, default=default, example=declared["examples"][0])


def _comment(lines: list[str], line: int) -> str:
    """The comment right above a line, on one line."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(text.strip().removeprefix("# ") for text in lines[first:line])


def readme() -> str:
    rows = ["| value | default | what it is |", "|---|---|---|"]
    for value in values():
        default = json.dumps(value.default, ensure_ascii=False)
        if not value.group:
            rows.append(f"| `{value.name}` | `{default}` | {value.description} |")
        elif value.description:
            rows.append(f"| `{value.name}.*` | | {value.description} |")
    text, marker, _ = README.read_text().partition(TABLE)
    return f"{text}{marker or TABLE}" + "\n".join(rows) + "\n"


def rendered(*switches: str) -> dict[str, str]:
    """What each template of the chart makes with these values being true, by its name. What `helm
    test` runs is not for those without Helm."""
    command = [helm(), "template", "batten", str(CHART), "--namespace", "batten-system"]
    command += ["--skip-tests", *(f"--set={switch}=true" for switch in switches)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    files: dict[str, list[str]] = {}
    for document in HELMS_LABELS.sub("", done.stdout).split("---\n"):
        if document.startswith(SOURCE):
            name, _, text = document.removeprefix(SOURCE).partition("\n")
            files.setdefault(name, []).append(text.strip() + "\n")
    return {name: "---\n".join(texts) for name, texts in files.items()}


def deployed() -> dict[Path, str]:
    """The text of each file of deploy/ that is written from the chart."""
    note = f"# Written by {Path(__file__).relative_to(ROOT)} from the chart's defaults.\n"
    base = rendered()
    files = {BASE / name: note + text for name, text in base.items()}
    for component, switches in ADDED.items():
        for name, text in rendered(*switches).items():
            if name not in base:
                files[COMPONENTS / component / name] = note + text
    resources = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    texts = [base[name] if name in base else (BASE / name).read_text() for name in resources]
    return {**files, INSTALL: note + "---\n".join(texts)}


def definitions() -> str:
    """The chart's template of our CRDs. They stay when the release goes: with them would go every
    policy and exception."""
    made = []
    for crd in crds().values():
        crd["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
        crd["metadata"]["labels"] = LABELS
        text = yaml.safe_dump(crd, sort_keys=False, width=100, allow_unicode=True)
        made.append(text.replace(f"'{LABELS}'", f"\n    {LABELS}"))
    body = "---\n".join(made)
    return f"{{{{- if .Values.crds.install }}}}\n{body}{{{{- end }}}}\n"


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    stale = _write({CRDS: definitions()}, check=check)
    try:
        wanted = deployed()
    except (ToolError, subprocess.CalledProcessError) as error:
        print(f"deploy/generate.py: {getattr(error, 'stderr', '') or error}", file=sys.stderr)
        return 1
    wanted[README] = readme()
    stale += _write(wanted, check=check)
    return 1 if check and stale else 0


def _write(wanted: dict[Path, str], *, check: bool) -> list[Path]:
    """Write what is not as it should be, and say so; with `check` only say it."""
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: {'is stale: run make docs' if check else 'written'}")
        if not check:
            path.write_text(wanted[path])
    return stale


if __name__ == "__main__":
    sys.exit(main())
