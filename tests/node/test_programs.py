"""Real programs on a real kubelet: each serves as it is, and then through Batten again, or is
refused with the right reason. None is admitted and then broken.
"""

from __future__ import annotations

import json
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from batten_cluster import ControlPlane
from batten_command import batten
from batten_e2e import eventually
from batten_install import NAMESPACE, Installation
from batten_node import NAME, Layer, Node, node
from batten_programs import Program, programs_layer, why_no_programs
from batten_registry import Registry, registry
from batten_tools import why_no_node

from batten_webhooks.resources import read_profile

WHY_NOT = why_no_node() or why_no_programs()
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(WHY_NOT), reason=f"no programs on a node: {WHY_NOT}"),
]

GET = b"GET / HTTP/1.0\r\n\r\n"
HTTP = b"HTTP/1."
# As the official images' entry points: what root starts is given to its user first.
STEP_DOWN = """#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  find {data} \\! -user {user} -exec chown {user} '{{}}' +
  exec gosu {user} "$0" "$@"
fi
exec "$@"
"""
NGINX = """\
user nginx;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events {}
http {
  access_log /var/log/nginx/access.log;
  client_body_temp_path /var/cache/nginx/client_temp;
  proxy_temp_path /var/cache/nginx/proxy_temp;
  fastcgi_temp_path /var/cache/nginx/fastcgi_temp;
  uwsgi_temp_path /var/cache/nginx/uwsgi_temp;
  scgi_temp_path /var/cache/nginx/scgi_temp;
  server { listen 80; location / { return 200 "hello"; } }
}
"""
HAPROXY = """\
defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend web
  bind :8080
  http-request return status 200 content-type text/plain string hello
"""
APACHE = """\
ServerRoot /usr/local/apache2
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
ServerName localhost
Listen 80
User www-data
Group www-data
PidFile logs/httpd.pid
ErrorLog /proc/self/fd/2
DocumentRoot /usr/share/apache2
"""
PROMETHEUS = "scrape_configs: []\n"
NODE = "require('http').createServer((q, s) => s.end('hello')).listen(8000)\n"
POSTGRES = """#!/bin/sh
set -e
mkdir -p "$PGDATA"
chmod 00700 "$PGDATA" || :
if [ "$(id -u)" = 0 ]; then
  find "$PGDATA" \\! -user postgres -exec chown postgres '{}' +
  exec gosu postgres "$0" "$@"
fi
[ -s "$PGDATA/PG_VERSION" ] || initdb --auth=trust -D "$PGDATA"
exec "$@"
"""
MARIADB = """#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  find /var/lib/mysql \\! -user mysql -exec chown mysql: '{}' +
  exec gosu mysql "$0" "$@"
fi
[ -d /var/lib/mysql/mysql ] || mariadb-install-db --datadir=/var/lib/mysql >/dev/null
exec "$@"
"""
JETTY_HOME = "/usr/share/jetty9"
JETTY = """\
--module=http
jetty.http.port=8080
"""
LIBRARY = "docker.io/library"

PROGRAMS = {
    "nginx": Program(
        f"{LIBRARY}/nginx:test",
        80,
        GET,
        b"hello",
        {"Entrypoint": ["nginx"], "Cmd": ["-g", "daemon off;"], "StopSignal": "SIGQUIT"},
        users={"nginx": 101},
        files={
            "/etc/nginx/nginx.conf": NGINX,
            "/var/log/nginx/access.log": "-> /dev/stdout",
            "/var/log/nginx/error.log": "-> /dev/stderr",
        },
        owned={"/var/cache/nginx": 0},
    ),
    "memcached": Program(
        f"{LIBRARY}/memcached:test",
        11211,
        b"version\r\n",
        b"VERSION",
        {"User": "memcache", "Cmd": ["memcached"]},
        users={"memcache": 11211},
    ),
    "haproxy": Program(
        f"{LIBRARY}/haproxy:test",
        8080,
        GET,
        b"hello",
        {"User": "haproxy", "Cmd": ["haproxy", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]},
        users={"haproxy": 99},
        files={"/usr/local/etc/haproxy/haproxy.cfg": HAPROXY},
    ),
    "python": Program(
        "registry.example/shop/python:1",
        8000,
        GET,
        HTTP,
        {"User": "10001", "Cmd": ["python3", "-m", "http.server", "8000"], "WorkingDir": "/srv"},
    ),
    "node": Program(
        "registry.example/shop/node:1",
        8000,
        GET,
        b"hello",
        {"User": "1000:1000", "Cmd": ["node", "/app/server.js"]},
        files={"/app/server.js": NODE},
    ),
    "redis": Program(
        f"{LIBRARY}/redis:test",
        6379,
        b"PING\r\n",
        b"PONG",
        {
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["redis-server", "--bind", "*", "--protected-mode", "no"],
            "WorkingDir": "/data",
            "Volumes": {"/data": {}},
        },
        users={"redis": 999},
        files={"/docker-entrypoint.sh": STEP_DOWN.format(user="redis", data="/data")},
        owned={"/data": 999},
    ),
    "httpd": Program(
        f"{LIBRARY}/httpd:test",
        80,
        GET,
        HTTP,
        {"Cmd": ["apache2", "-f", "/usr/local/apache2/conf/httpd.conf", "-DFOREGROUND"]},
        users={"www-data": 33},
        files={"/usr/local/apache2/conf/httpd.conf": APACHE},
        owned={"/usr/local/apache2/logs": 0},
    ),
    "prometheus": Program(
        "docker.io/prom/prometheus:test",
        9090,
        b"GET /-/ready HTTP/1.0\r\n\r\n",
        HTTP,
        {
            "User": "nobody",
            "Entrypoint": ["prometheus"],
            "Cmd": ["--config.file=/etc/p.yml", "--storage.tsdb.path=/prometheus"],
            "Volumes": {"/prometheus": {}},
        },
        users={"nobody": 65534},
        files={"/etc/p.yml": PROMETHEUS},
        owned={"/prometheus": 65534},
    ),
    "postgres": Program(
        f"{LIBRARY}/postgres:test",
        5432,
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # SSLRequest
        b"N",
        {
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["postgres", "-h", "0.0.0.0", "-k", "/tmp"],  # noqa: S104, S108
            "Env": [
                "PGDATA=/var/lib/postgresql/data",
                "PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            ],
            "Volumes": {"/var/lib/postgresql/data": {}},
        },
        users={"postgres": 999},
        files={"/docker-entrypoint.sh": POSTGRES},
        owned={"/var/lib/postgresql/data": 999, "/run/postgresql": 999},
    ),
    "mariadb": Program(
        f"{LIBRARY}/mariadb:test",
        3306,
        b"",
        b"MariaDB",
        {
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["mariadbd", "--bind-address=0.0.0.0", "--skip-name-resolve"],
            "Volumes": {"/var/lib/mysql": {}},
        },
        users={"mysql": 999},
        files={"/docker-entrypoint.sh": MARIADB},
        owned={"/var/lib/mysql": 999, "/run/mysqld": 999},
    ),
    "rabbitmq": Program(
        f"{LIBRARY}/rabbitmq:test",
        5672,
        b"AMQP\x00\x00\x09\x01",
        b"RabbitMQ",
        {
            "Entrypoint": ["/docker-entrypoint.sh"],
            "Cmd": ["/usr/lib/rabbitmq/bin/rabbitmq-server"],
            "Env": ["HOME=/var/lib/rabbitmq", "RABBITMQ_LOGS=-"],
            "Volumes": {"/var/lib/rabbitmq": {}},
        },
        users={"rabbitmq": 999},
        files={
            "/docker-entrypoint.sh": STEP_DOWN.format(user="rabbitmq", data="/var/lib/rabbitmq")
        },
        owned={"/var/lib/rabbitmq": 999, "/var/log/rabbitmq": 999},
        home="/var/lib/rabbitmq",
    ),
    "varnish": Program(
        f"{LIBRARY}/varnish:test",
        8080,
        GET,
        HTTP,
        {"User": "varnish", "Cmd": ["varnishd", "-F", "-a", ":8080", "-b", "127.0.0.1:1"]},
        users={"varnish": 1000, "vcache": 1001},
        owned={"/var/lib/varnish": 1000},
    ),
    "jetty": Program(
        "registry.example/shop/jetty:1",
        8080,
        GET,
        HTTP,
        {
            "User": "10001",
            "Cmd": ["java", "-jar", f"{JETTY_HOME}/start.jar", f"jetty.home={JETTY_HOME}"],
            "WorkingDir": "/srv",
        },
        files={"/srv/start.ini": JETTY},
    ),
}
# One that starts as root, and that nobody has described.
LEGACY = Program(
    "registry.example/shop/legacy:1", 6379, b"PING\r\n", b"PONG", {"Cmd": ["redis-server"]}
)
# How long a program may take to its first answer; an Erlang one takes some of it.
SECONDS = 90.0


@dataclass(frozen=True)
class Images:
    """`digests` are what the registry has, by what an image is called."""

    registry: Registry
    digests: Mapping[str, str]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """A registry that has all that Batten reads of the images: their configurations. Of their
    layers, a gigabyte, it has none: those are on the node, under the same digests."""
    with registry(tmp_path_factory.mktemp("registry")) as found:
        digests = {
            each.image: found.push(each.repository, each.image.rpartition(":")[2], **each.config)
            for each in (*PROGRAMS.values(), LEGACY)
        }
        yield Images(found, {image: pushed.digest for image, pushed in digests.items()})


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, images: Images) -> Iterator[Node]:
    folder, shared = tmp_path_factory.mktemp("node"), programs_layer()
    with ControlPlane(folder / "plane") as plane, node(plane, folder / "node") as found:
        loaded: dict[str, tuple[Mapping[str, Any], list[Layer]]] = {}
        for each in PROGRAMS.values():
            layers: list[Layer] = [shared, each.layer()]
            repository = each.image.rpartition(":")[0]
            for name in (each.image, f"{repository}@{images.digests[each.image]}"):
                loaded[name] = each.config, layers
        found.load_layers(loaded)
        yield found


@pytest.fixture(scope="module")
def batten_on(machine: Node, images: Images) -> Iterator[Installation]:
    """Batten enforces from here on, and asks the registry for what is on docker.io."""
    host = images.registry.host
    arguments = (
        "--look-up-images",
        f"--plain-http={host}",
        f"--local-registry={host}",
        f"--registry-mirror=docker.io={host},registry.example={host}",
    )
    found = Installation(machine.plane, machine.plane.kubectl, arguments=arguments)
    found.install()
    # The operator is a process beside the node: it is not to be a Pod on it as well.
    within = ("-n", NAMESPACE)
    machine.plane.kubectl("delete", "deployments", "--all", *within).require()
    yield found
    found.stop()


def pod(name: str, program: Program, **fields: Any) -> dict[str, Any]:
    container = {"name": "app", "image": program.image, "imagePullPolicy": "Never", **fields}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "restartPolicy": "Always"},
    }


def on_volume(value: dict[str, Any], path: str, **source: Any) -> dict[str, Any]:
    """The Pod with a volume at this path."""
    value["spec"]["volumes"] = [{"name": "data", **source}]
    value["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": path}]
    return value


def claimed(machine: Node, name: str, folder: Path, namespace: str = "default") -> dict[str, Any]:
    """A claim of a folder of the node, as a volume of a Pod."""
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NAME]}
    terms = [{"matchExpressions": [expression]}]
    common = {"accessModes": ["ReadWriteOnce"], "storageClassName": ""}
    size = {"storage": "1Gi"}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            **common,
            "capacity": size,
            "local": {"path": str(folder)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": terms}},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**common, "volumeName": name, "resources": {"requests": size}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    for value in (volume, claim):
        machine.plane.kubectl("create", "-f", "-", stdin=json.dumps(value)).require()
    return {"persistentVolumeClaim": {"claimName": name}}


def assert_serves(machine: Node, value: dict[str, Any], program: Program) -> None:
    kubectl, name = machine.plane.kubectl, value["metadata"]["name"]
    within = ("-n", value["metadata"].get("namespace", "default"))
    created = kubectl("create", "-f", "-", stdin=json.dumps(value)).require()

    def answered() -> bytes | None:
        status = json.loads(kubectl("get", "pod", name, *within, "-o", "json").stdout)["status"]
        address = status.get("podIP")
        return _answer(address, program) if address else None

    try:
        assert program.answer in eventually(answered, f"an answer of {name}", SECONDS)
        time.sleep(1)
        status = json.loads(kubectl("get", "pod", name, *within, "-o", "json").stdout)["status"]
        assert [each["restartCount"] for each in status["containerStatuses"]] == [0]
    except AssertionError:
        print(created.stderr)
        print(kubectl("describe", "pod", name, *within).stdout[-1500:])
        logs = machine.folder / "logs"
        for log in sorted(logs.rglob("*.log")):
            if name in str(log):
                print(log.read_text()[-1500:])
        raise
    finally:
        kubectl("delete", "pod", name, *within, "--force", "--grace-period=0").require()


def _answer(address: str, program: Program) -> bytes | None:
    try:
        with socket.create_connection((address, program.port), timeout=2) as connection:
            connection.sendall(program.ask)
            return connection.recv(4096) or None
    except OSError:
        return None


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_serves_as_it_is(machine: Node, name: str) -> None:
    assert_serves(machine, pod(f"{name}-plain", PROGRAMS[name]), PROGRAMS[name])


def test_what_a_program_writes_is_learnt(machine: Node) -> None:
    """nginx' profile says what nginx does; Python's web server writes nothing."""
    kubectl = machine.plane.kubectl
    names = ("nginx", "python")
    for name in names:
        value = pod(f"{name}-learn", PROGRAMS[name])
        kubectl("create", "-f", "-", stdin=json.dumps(value)).require()
    told = {}
    for name in names:
        eventually(lambda name=name: _serving(machine, name), f"{name} serves", SECONDS)  # type: ignore[misc]
        for format_ in ("annotation", "profile"):
            told[name, format_] = batten(
                "learn",
                f"{name}-learn",
                f"--image={PROGRAMS[name].image}",
                f"--format={format_}",
                KUBECONFIG=str(machine.plane.kubeconfig),
            )
    written = '"app:/run,app:/var/cache/nginx"'
    assert told["nginx", "annotation"].out == f"batten.dev/writable-paths: {written}\n"
    assert told["nginx", "profile"].code == 2
    assert "--user UID:GID" in told["nginx", "profile"].err
    assert told["python", "annotation"].out == "# app has written nowhere else than below /tmp\n"
    profile = read_profile(yaml.safe_load(told["python", "profile"].out))
    assert (profile.profile.user, profile.profile.writable) == (10001, ())
    for name in names:
        kubectl("delete", "pod", f"{name}-learn", "--force", "--grace-period=0").require()


def _serving(machine: Node, name: str) -> bytes | None:
    asked = machine.plane.kubectl("get", "pod", f"{name}-learn", "-o", "json").stdout
    address = json.loads(asked)["status"].get("podIP")
    return _answer(address, PROGRAMS[name]) if address else None


@pytest.mark.usefixtures("batten_on")
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_serves_through_batten(machine: Node, name: str) -> None:
    assert_serves(machine, pod(f"{name}-hardened", PROGRAMS[name]), PROGRAMS[name])


@pytest.mark.usefixtures("batten_on")
def test_a_database_keeps_its_data(machine: Node) -> None:
    """In a volume that was root's, across two Pods."""
    folder, program = machine.folder / "volumes" / "postgres", PROGRAMS["postgres"]
    claim = claimed(machine, "postgres", folder)
    made = set()
    for count in range(2):
        below = [{"name": "PGDATA", "value": "/var/lib/postgresql/data/own"}]
        value = pod(f"postgres-kept-{count}", program, env=below)
        assert_serves(machine, on_volume(value, "/var/lib/postgresql/data", **claim), program)
        made.add((folder / "own" / "PG_VERSION").stat().st_mtime_ns)
        assert stat.S_IMODE((folder / "own").stat().st_mode) == 0o700
    assert len(made) == 1


@pytest.mark.usefixtures("batten_on")
@pytest.mark.parametrize(("name", "path"), [("mariadb", "/var/lib/mysql"), ("redis", "/data")])
def test_a_volume_is_taken_over(machine: Node, name: str, path: str) -> None:
    """What a program has written when root gave it the volume serves it without root."""
    folder, program = machine.folder / "volumes" / name, PROGRAMS[name]
    before = claimed(machine, f"{name}-before", folder, "kube-system")
    plain = on_volume(pod(f"{name}-before", program), path, **before)
    plain["metadata"]["namespace"] = "kube-system"  # which is exempt
    assert_serves(machine, plain, program)
    claim = claimed(machine, name, folder)
    assert_serves(machine, on_volume(pod(f"{name}-taken", program), path, **claim), program)


# Pods that would not serve, and what is said of them.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nobody knows": (pod("legacy", LEGACY), f"image {LEGACY.image}@sha256:"),
    "host path": (
        on_volume(pod("redis-host", PROGRAMS["redis"]), "/data", hostPath={"path": "/srv"}),
        "the hostPath volume at /data takes no fsGroup, which would give it to group 999",
    ),
    "nfs": (
        on_volume(
            pod("redis-nfs", PROGRAMS["redis"]),
            "/data",
            nfs={"server": "nfs.example", "path": "/data"},
        ),
        "the nfs volume at /data takes no fsGroup, which would give it to group 999",
    ),
    "root's directory": (
        on_volume(
            pod("postgres-root", PROGRAMS["postgres"]), "/var/lib/postgresql/data", emptyDir={}
        ),
        "it has to own /var/lib/postgresql/data, where a volume is mounted",
    ),
    "guarded": (
        on_volume(
            pod("rabbitmq-claim", PROGRAMS["rabbitmq"]),
            "/var/lib/rabbitmq",
            persistentVolumeClaim={"claimName": "data"},
        ),
        "it refuses files that fsGroup would let its group read in the persistentVolumeClaim",
    ),
    "another program": (
        pod("redis-shell", PROGRAMS["redis"], command=["sh", "-c", "chown -R redis /data"]),
        "what its command needs is not known",
    ),
}


@pytest.mark.usefixtures("batten_on")
@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_the_reason(machine: Node, case: str) -> None:
    value, reason = REFUSED[case]
    refused = machine.plane.kubectl("create", "-f", "-", stdin=json.dumps(value))
    assert refused.code == 1
    assert "runs as root (USER is empty)" in refused.stderr
    assert reason in refused.stderr
