"""Real programs on a real kubelet: each serves as it is, and then through Batten again, or is
refused with the right reason. None is admitted and then broken.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from batten_cluster import ControlPlane
from batten_command import batten
from batten_e2e import eventually
from batten_node import Node, node
from batten_programs import Program, programs_layer, why_no_programs
from batten_tools import why_no_node
from jsonpatch import apply_patch

from batten_webhooks.engine import evaluate
from batten_webhooks.patch import operations
from batten_webhooks.policy import PRESETS
from batten_webhooks.resources import read_profile
from batten_webhooks.rules.rule import Facts
from batten_webhooks.verdict import acting
from batten_webhooks.workload import read_object

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
  chown -R {user} {data}
  exec setpriv --reuid={user} --regid={user} --clear-groups "$0" "$@"
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
if [ "$(id -u)" = 0 ]; then
  mkdir -p /var/lib/postgresql/data
  chown -R postgres /var/lib/postgresql/data
  exec setpriv --reuid=postgres --regid=postgres --clear-groups "$0" "$@"
fi
[ -s "$PGDATA/PG_VERSION" ] || initdb --auth=trust -D "$PGDATA"
exec "$@"
"""
MARIADB = """#!/bin/sh
set -e
if [ "$(id -u)" = 0 ]; then
  mkdir -p /run/mysqld
  chown -R mysql /run/mysqld /var/lib/mysql
  exec setpriv --reuid=mysql --regid=mysql --clear-groups "$0" "$@"
fi
[ -d /var/lib/mysql/mysql ] || mariadb-install-db --datadir=/var/lib/mysql >/dev/null
exec "$@"
"""
LIBRARY = "docker.io/library"

# Those that run as a user of their own, or whom a profile knows.
HARDENED = {
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
}
# Those that Batten does not know how to start without root, or as whom.
REFUSED = {
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
}
SAID = {
    "prometheus": "names its user nobody, which the kubelet cannot verify to be non-root",
    "varnish": "names its user varnish, which the kubelet cannot verify to be non-root",
}
PROGRAMS = HARDENED | REFUSED
# How long a program may take to its first answer; an Erlang one takes some of it.
SECONDS = 90.0


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder, shared = tmp_path_factory.mktemp("node"), programs_layer()
    with ControlPlane(folder / "plane") as plane, node(plane, folder / "node") as found:
        found.load_layers(
            {each.image: (each.config, [shared, each.layer()]) for each in PROGRAMS.values()}
        )
        yield found


def pod(name: str, program: Program) -> dict[str, Any]:
    container = {"name": "app", "image": program.image, "imagePullPolicy": "Never"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], "restartPolicy": "Always"},
    }


def assert_serves(machine: Node, value: dict[str, Any], program: Program) -> None:
    kubectl, name = machine.plane.kubectl, value["metadata"]["name"]
    kubectl("create", "-f", "-", stdin=json.dumps(value)).require()

    def answered() -> bytes | None:
        status = json.loads(kubectl("get", "pod", name, "-o", "json").stdout)["status"]
        address = status.get("podIP")
        return _answer(address, program) if address else None

    try:
        assert program.answer in eventually(answered, f"an answer of {name}", SECONDS)
        time.sleep(1)
        status = json.loads(kubectl("get", "pod", name, "-o", "json").stdout)["status"]
        assert [each["restartCount"] for each in status["containerStatuses"]] == [0]
    except AssertionError:
        print(kubectl("describe", "pod", name).stdout[-1500:])
        logs = machine.folder / "logs"
        for log in sorted(logs.rglob("*.log")):
            if name in str(log):
                print(log.read_text()[-1500:])
        raise
    finally:
        kubectl("delete", "pod", name, "--force", "--grace-period=0").require()


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


@pytest.mark.parametrize("name", HARDENED)
def test_it_serves_through_batten(machine: Node, name: str) -> None:
    program = HARDENED[name]
    value = pod(f"{name}-hardened", program)
    facts = Facts({program.image: program.facts})
    workload = read_object(value)
    assert workload is not None
    verdict = evaluate(workload, PRESETS["hardened"], facts)
    assert acting(verdict.remaining(), "Deny") == []
    changes = [each.change for each in verdict.changes]
    assert_serves(machine, apply_patch(value, operations(workload, changes)), program)


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


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_with_the_reason(name: str) -> None:
    program = REFUSED[name]
    workload = read_object(pod(name, program))
    assert workload is not None
    facts = Facts({program.image: program.facts})
    left = acting(evaluate(workload, PRESETS["hardened"], facts).remaining(), "Deny")
    said = SAID.get(name, "runs as root (USER is empty)")
    assert [each.finding.detail for each in left] == [f"image {program.image} {said}"]
