"""`batten images` and `batten harden --pin`, `--refresh`, `--unpin`, against a real registry."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from batten_chart import ROOT
from batten_command import Ran, batten
from batten_registry import (
    OCI_INDEX,
    PASSWORD,
    USER,
    Pushed,
    Registry,
    docker_config,
    registry,
)

MANIFEST = """\
# The shop's front.
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      initContainers:
        - {{name: init, image: '{host}/team/init'}}
      containers:
        - name: app
          image: {host}/team/app:1.4   # the one of spring
      volumes:
        - name: data
          image:
            reference: "{host}/team/data:7"
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry"), "htpasswd", tls=True) as found:
        yield found


@pytest.fixture
def pushed(served: Registry) -> dict[str, Pushed]:
    return {
        "init": served.push("team/init", "latest", Labels={"of": "init"}),
        "app": served.push(
            "team/app",
            "1.4",
            platforms=("amd64", "arm64"),
            User="1000:0",
            Volumes={"/data": {}},
            ExposedPorts={"8080/tcp": {}},
            WorkingDir="/srv",
        ),
        "data": served.push("team/data", "7", Labels={"of": "data"}),
    }


@pytest.fixture
def folder(served: Registry, tmp_path: Path) -> Path:
    (tmp_path / "web.yaml").write_text(MANIFEST.format(host=served.host))
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_bytes(docker_config(served.host))
    return tmp_path


def run(folder: Path, served: Registry, *arguments: str, **environment: str) -> Ran:
    trusted = (f"--registry-ca={served.ca}", f"--local-registry={served.host}")
    environment.setdefault("DOCKER_CONFIG", str(folder / "docker"))
    return batten(*arguments, *trusted, cwd=folder, stdin=b"", **environment)


def edited(folder: Path) -> list[str]:
    """The lines that name images, as the file has them now."""
    text = (folder / "web.yaml").read_text()
    return [line.strip() for line in text.splitlines() if "/team/" in line]


def test_pins_are_written_beside_tags_and_nothing_else_changes(
    served: Registry, folder: Path, pushed: dict[str, Pushed]
) -> None:
    hardened = run(folder, served, "harden", "web.yaml")
    ran = run(folder, served, "harden", "--pin", "web.yaml")
    assert ran.code == 0, ran.err
    host = served.host
    told = [line for line in ran.out.splitlines() if line not in hardened.out.splitlines()]
    assert [line.strip() for line in told] == [
        f"- {{name: init, image: '{host}/team/init@{pushed['init'].digest}',"
        + hardened.out.partition(f"'{host}/team/init',")[2].partition("\n")[0],
        f"image: {host}/team/app:1.4@{pushed['app'].digest}   # the one of spring",
        f'reference: "{host}/team/data:7@{pushed["data"].digest}"',
    ]
    assert len(ran.out.splitlines()) == len(hardened.out.splitlines())


def test_what_is_pinned_stays_until_it_is_refreshed_or_unpinned(
    served: Registry, folder: Path, pushed: dict[str, Pushed]
) -> None:
    before = edited(folder)
    run(folder, served, "harden", "--write", "--pin", "web.yaml")
    pinned = edited(folder)
    moved = served.push("team/app", "1.4", User="2000")
    served.push("team/init", "latest", User="3000")
    assert run(folder, served, "harden", "--write", "--pin", "web.yaml").code == 0
    assert edited(folder) == pinned

    assert run(folder, served, "harden", "--write", "--refresh", "web.yaml").code == 0
    refreshed = edited(folder)
    assert refreshed[1] == pinned[1].replace(pushed["app"].digest, moved.digest) != pinned[1]
    # A digest alone is all that is known of that image.
    assert refreshed[0] == pinned[0]

    assert run(folder, served, "harden", "--write", "--unpin", "web.yaml").code == 0
    assert edited(folder)[1:] == before[1:]
    assert edited(folder)[0] == pinned[0]


def test_what_cannot_be_pinned_is_told_and_the_rest_is_written(
    served: Registry, folder: Path, pushed: dict[str, Pushed]
) -> None:
    file = folder / "web.yaml"
    file.write_text(file.read_text().replace("team/app:1.4", "team/none:1").replace("data:7", "D"))
    ran = run(folder, served, "harden", "--write", "--pin", "web.yaml")
    assert ran.code == 1
    lines = [line for line in ran.err.splitlines() if "pinned-digest" in line]
    assert lines == [
        (
            'web.yaml:14:11: error[pinned-digest] Deployment "web": container "app": image'
            f" {served.host}/team/none:1 keeps its tag: there is no such tag, or not for these"
            " credentials (spec.template.spec.containers[0].image: try again, or pin it by hand)"
        ),
        (
            f'web.yaml:18:13: error[pinned-digest] Deployment "web": image {served.host}/team/D has'
            " capitals where only small letters are allowed"
            " (spec.template.spec.volumes[0].image.reference: name an image that a registry can"
            " look up)"
        ),
    ]
    assert pushed["init"].digest in edited(folder)[0]


def test_who_is_not_logged_in_is_told_so(
    served: Registry, folder: Path, pushed: dict[str, Pushed]
) -> None:
    (folder / "docker" / "config.json").unlink()
    ran = run(folder, served, "harden", "--diff", "--pin", "web.yaml")
    assert ran.code == 1
    assert ran.err.count("the registry answers 401: check the pull secret") == len(pushed)


@pytest.mark.parametrize("place", ["credsStore", "credHelpers"])
def test_credential_helpers_are_asked(
    served: Registry, folder: Path, pushed: dict[str, Pushed], place: str
) -> None:
    helper = folder / "docker-credential-tests"
    answer = json.dumps({"ServerURL": "", "Username": USER, "Secret": PASSWORD})
    helper.write_text(
        f"#!/bin/sh\nread -r server\n[ \"$server\" = {served.host} ] && echo '{answer}'\n"
    )
    helper.chmod(0o755)
    given = "tests" if place == "credsStore" else {served.host: "tests"}
    (folder / "docker" / "config.json").write_text(json.dumps({place: given}))
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    ran = run(folder, served, "harden", "--pin", "web.yaml", PATH=path)
    assert ran.code == 0, ran.err
    assert pushed["app"].digest in ran.out


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ("[", "config.json: is not valid JSON"),
        ('{"auths": {"a": 5}}', "config.json: has an entry that is no object"),
        ('{"credsStore": "no-such"}', "docker-credential-no-such is not on PATH"),
        ('{"credsStore": "../evil"}', "is no name of a credential helper"),
        ('{"credsStore": 5}', "is no name of a credential helper"),
    ],
)
def test_a_wrong_configuration_of_dockers_is_one_line(
    served: Registry, folder: Path, config: str, complaint: str
) -> None:
    (folder / "docker" / "config.json").write_text(config)
    ran = run(folder, served, "harden", "--pin", "web.yaml")
    assert ran.code == 2
    assert complaint in ran.err
    assert ran.err.count("\n") == 1


def test_images_are_listed_with_what_registries_tell(
    served: Registry, folder: Path, pushed: dict[str, Pushed]
) -> None:
    ran = run(folder, served, "images", "web.yaml")
    assert ran.code == 0, ran.err
    text = re.sub(r" +\d+ B ", " SIZE ", ran.out.replace(served.host, "HOST"))
    for name, image in pushed.items():
        text = text.replace(image.digest, f"DIGEST of {name}")
    assert text.splitlines() == [
        "HOST/team/app:1.4",
        "  DIGEST of app",
        "  linux/amd64 SIZE  user 1000:0",
        "  linux/arm64 SIZE  user 1000:0",
        '  web.yaml:14: container "app", Deployment "web"',
        "",
        "HOST/team/data:7",
        "  DIGEST of data",
        "  linux/amd64 SIZE  user root: the image names none",
        '  web.yaml:18: a volume, Deployment "web"',
        "",
        "HOST/team/init",
        "  DIGEST of init",
        "  linux/amd64 SIZE  user root: the image names none",
        '  web.yaml:11: container "init", Deployment "web"',
    ]


def test_images_as_json_follow_their_schema(
    served: Registry, folder: Path, pushed: dict[str, Pushed]
) -> None:
    file = folder / "web.yaml"
    file.write_text(file.read_text().replace("data:7", "none:7"))
    ran = run(folder, served, "images", "--format=json", "web.yaml")
    assert ran.code == 1
    told = json.loads(ran.out)
    jsonschema.validate(told, json.loads((ROOT / "docs/schemas/images.v1.json").read_text()))
    app, init, none = told["images"]
    assert app["digest"] == pushed["app"].digest
    amd64, _ = app["platforms"]
    assert amd64 == {
        "platform": "linux/amd64",
        "digest": pushed["app"].platforms["amd64"],
        "size": amd64["size"],
        "user": "1000:0",
        "workingDir": "/srv",
        "volumes": ["/data"],
        "exposedPorts": ["8080/tcp"],
    }
    assert init["uses"] == [
        {"file": "web.yaml", "line": 11, "object": 'Deployment "web"', "container": "init"}
    ]
    assert (none["digest"], none["error"]["reason"]) == (None, "not-found")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("images", "absent.yaml"), "absent.yaml: no such file or directory"),
        (("images", "none.yaml"), "no image is named in these files"),
        (("images", "web.yaml", "--plain-http=http://a"), "http://a: is no registry as refer"),
        (("images", "web.yaml", "--registry-mirror=a"), "a: is no REGISTRY=HOST[:PORT]"),
        (("images", "web.yaml", "--registry-mirror=a.example=b/c"), "b/c: is no registry as"),
        (("images", "web.yaml", "--registry-ca=absent"), "absent: no such file or directory"),
        (("images", "web.yaml", "--registry-ca=web.yaml"), "holds no certificate in PEM"),
        (("harden", "web.yaml", "--pin", "--unpin"), "not allowed with argument"),
    ],
)
def test_wrong_usage_is_told(folder: Path, arguments: tuple[str, ...], complaint: str) -> None:
    (folder / "none.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    ran = batten(*arguments, cwd=folder)
    assert ran.code == 2
    assert complaint in ran.err


def test_a_registry_on_this_machine_is_not_asked_unless_it_is_listed(
    served: Registry, folder: Path
) -> None:
    ran = batten("harden", "--pin", "--diff", "web.yaml", cwd=folder)
    assert ran.code == 1
    assert f"registry {served.host} is a loopback address: not asked unless listed" in ran.err


def test_harden_without_pins_asks_nobody(served: Registry, folder: Path) -> None:
    heads = served.asked("HEAD")
    assert run(folder, served, "harden", "web.yaml").code == 1  # one has no tag
    assert run(folder, served, "harden", "--unpin", "web.yaml").code == 1
    assert served.asked("HEAD") == heads


POD = """\
apiVersion: v1
kind: Pod
metadata: {{name: web}}
spec: {{containers: [{{name: app, image: {}}}]}}
"""


@pytest.mark.parametrize(
    ("user", "told"),
    [
        ("", "runs as root (USER is empty)"),
        ("0:1000", "runs as root (USER is 0)"),
        ("root", "runs as root (USER is root)"),
        ("nginx:nginx", "names its user nginx, which the kubelet cannot verify to be non-root"),
        ("9" * 30, "which the kubelet cannot verify to be non-root"),
        ("1000:1000", ""),
        ("007", ""),
    ],
)
def test_what_the_image_says_decides_where_it_is_looked_up(
    served: Registry, folder: Path, user: str, told: str
) -> None:
    served.push("team/user", "1", platforms=("amd64", "arm64"), User=user)
    (folder / "pod.yaml").write_text(POD.format(f"{served.host}/team/user:1"))
    for arguments in (("check", "--as-admitted"), ("harden", "--diff"), ("harden", "--pin")):
        ran = run(folder, served, *arguments, "--look-up-images", "pod.yaml")
        output = ran.out + ran.err
        assert "is not known" not in output
        assert ran.code == (1 if told else 0)
        assert told in output
    ran = run(folder, served, "check", "--as-admitted", "pod.yaml")
    assert (ran.code, "runs as root is not known" in ran.out) == (0, True)


def test_platforms_whose_users_differ_leave_it_open(served: Registry, folder: Path) -> None:
    one = served.push("team/mixed", "one", platforms=("amd64",), User="0")
    other = served.push("team/mixed", "other", platforms=("arm64",), User="1000")
    children = [
        json.loads(served.manifest("team/mixed", each.digest))["manifests"][0]
        for each in (one, other)
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
    served.put("team/mixed", "1", json.dumps(index).encode(), OCI_INDEX)
    (folder / "pod.yaml").write_text(POD.format(f"{served.host}/team/mixed:1"))
    ran = run(folder, served, "check", "--as-admitted", "--look-up-images", "pod.yaml")
    assert (ran.code, "runs as root is not known" in ran.out) == (0, True)


def test_an_image_that_cannot_be_looked_up_is_told_once_and_asked_for_once(
    served: Registry, folder: Path
) -> None:
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        (folder / name).write_text(POD.format(f"{served.host}/team/none:1"))
    heads = served.log.read_text().count("HEAD /v2/team/none/")
    ran = run(folder, served, "check", "--look-up-images", "a.yaml", "b.yaml", "c.yaml")
    told = f"batten: image {served.host}/team/none:1: there is no such tag, or not for these"
    assert ran.err.count(told) == 1
    # Once without the password, which makes the registry ask for it, and once with it.
    assert served.log.read_text().count("HEAD /v2/team/none/") == heads + 2


def test_a_user_without_a_home_asks_as_anybody(
    served: Registry, folder: Path, pushed: dict[str, Pushed]
) -> None:
    ran = run(folder, served, "harden", "--diff", "--pin", "web.yaml", DOCKER_CONFIG="", HOME="")
    assert ran.code == 1
    assert ran.err.count("check the pull secret") == len(pushed)
