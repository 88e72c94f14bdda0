"""Every real manifest: edits read as `jsonpatch` has them, and touch no line they need not."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonpatch
import pytest
from batten_corpus import CORPUS, needs_corpus

from batten_webhooks.manifests import Manifest, ManifestError
from batten_webhooks.manifests.patch import same

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Operations = list[dict[str, Any]]

# Repeat a key, which the API server's strict decoding refuses.
REFUSED = {"openshift-controller.yaml", "etcd-discovery-controller.yaml", "etcd-controller.yaml"}
CONTEXT = {
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# Lines that an addition may change: a collection in flow style, or an empty value.
GIVES_WAY = re.compile(r".*[\[\]{}].*|\s*\S*:(?: null| ~)?\s*")


def files() -> list[Path]:
    needs_corpus()
    found = [path for path in CORPUS.rglob("*") if path.suffix in (".yaml", ".yml", ".json")]
    assert len(found) > 300
    return sorted(path for path in found if path.name not in REFUSED)


def pod_specs(value: Any, pointer: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(value, dict):
        if isinstance(value.get("containers"), list):
            yield pointer, value
        for key, item in value.items():
            yield from pod_specs(item, f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from pod_specs(item, f"{pointer}/{index}")


def containers(value: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for pointer, spec in pod_specs(value):
        for field in ("initContainers", "containers"):
            for index, container in enumerate(spec.get(field) or ()):
                if isinstance(container, dict):
                    yield f"{pointer}/{field}/{index}", container


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def harden(value: Any) -> Operations:
    operations = []
    for pointer, container in containers(value):
        present = container.get("securityContext") or {}
        if not present:
            operations.append(add(f"{pointer}/securityContext", {}))
        operations += [
            add(f"{pointer}/securityContext/{key}", item)
            for key, item in CONTEXT.items()
            if key not in present
        ]
        if not container.get("volumeMounts"):
            operations.append(add(f"{pointer}/volumeMounts", []))
        mount = {"name": "tmp", "mountPath": "/scratch"}
        operations.append(add(f"{pointer}/volumeMounts/-", mount))
    for pointer, spec in pod_specs(value):
        if not spec.get("volumes"):
            operations.append(add(f"{pointer}/volumes", []))
        volume = {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}
        operations.append(add(f"{pointer}/volumes/-", volume))
    return operations


def annotate(value: Any) -> Operations:
    if not isinstance(value, dict):
        return []
    metadata = value.get("metadata")
    operations = [] if metadata else [add("/metadata", {})]
    if not (metadata or {}).get("annotations"):
        operations.append(add("/metadata/annotations", {}))
    return [*operations, add("/metadata/annotations/batten.dev~1note", "yes")]


def replace_images(value: Any) -> Operations:
    return [
        {"op": "replace", "path": f"{pointer}/image", "value": "registry.example/a:1@sha256:0"}
        for pointer, container in containers(value)
        if "image" in container
    ]


def remove_first_and_last_keys(value: Any) -> Operations:
    return [
        {"op": "remove", "path": f"{pointer}/{key}"}
        for pointer, container in containers(value)
        for key in dict.fromkeys((next(iter(container)), list(container)[-1]))
    ]


def move_last_field(value: Any) -> Operations:
    operations: Operations = []
    for pointer, spec in pod_specs(value):
        last = list(spec)[-1]
        if last != "containers" and spec["containers"]:
            operations.append({"op": "remove", "path": f"{pointer}/{last}"})
            operations.append(add(f"{pointer}/containers/0/moved", spec[last]))
    return operations


def shuffle_containers(value: Any) -> Operations:
    operations: Operations = []
    for pointer, spec in pod_specs(value):
        operations.append(add(f"{pointer}/containers/0", {"name": "first", "args": ["--a"]}))
        if len(spec["containers"]) > 1:
            operations.append({"op": "remove", "path": f"{pointer}/containers/1"})
    return operations


@functools.cache
def parsed(path: Path) -> Manifest:
    return Manifest.parse(path.read_bytes(), name=path.name)


def edited(path: Path, patch: Callable[[Any], Operations]) -> tuple[list[str], list[str]] | None:
    """The file's lines before and after; None where there is nothing to do."""
    manifest, data = parsed(path), path.read_bytes()
    patches = {document.index: patch(document.value) for document in manifest.documents}
    result = manifest.edit(patches)
    if not any(patches.values()):
        assert result == data
        return None
    after = Manifest.parse(result, name=path.name).documents
    for document, written in zip(manifest.documents, after, strict=True):
        wanted = jsonpatch.apply_patch(document.value, patches[document.index])
        assert same(written.value, wanted), (path, document.index)
    return data.decode().splitlines(), result.decode().splitlines()


def missing(lines: list[str], among: list[str]) -> list[str]:
    """The lines that do not come, in this order, among the others."""
    rest = iter(among)
    return [line for line in lines if not any(line == other for other in rest)]


@pytest.mark.parametrize("patch", [harden, annotate])
def test_additions_keep_every_line(patch: Callable[[Any], Operations]) -> None:
    changed = 0
    for path in files():
        if lines := edited(path, patch):
            before, after = lines
            changed += 1
            kept = [line.rstrip(",") for line in before if not GIVES_WAY.fullmatch(line)]
            assert not missing(kept, [line.rstrip(",") for line in after]), path
    assert changed > 100


def test_replaced_scalars_change_only_their_lines() -> None:
    for path in files():
        if lines := edited(path, replace_images):
            before, after = lines
            assert len(before) == len(after), path
            changed = [old for old, new in zip(before, after, strict=True) if old != new]
            assert all("image" in line for line in changed), path


@pytest.mark.parametrize("patch", [remove_first_and_last_keys, move_last_field, shuffle_containers])
def test_removals_keep_comments_at_the_margin(patch: Callable[[Any], Operations]) -> None:
    for path in files():
        if lines := edited(path, patch):
            before, after = lines
            comments = [line for line in before if line.startswith("#")]
            assert not missing(comments, after), path


def test_repeated_keys_are_refused() -> None:
    needs_corpus()
    for path in (path for path in CORPUS.rglob("*.yaml") if path.name in REFUSED):
        with pytest.raises(ManifestError, match="duplicate key"):
            Manifest.parse(path.read_bytes(), name=path.name)
