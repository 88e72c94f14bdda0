"""A real control plane in one folder: etcd, kube-apiserver and the controllers, without a node."""

from __future__ import annotations

import base64
import datetime
import http.client
import ipaddress
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from batten_e2e import Kubectl
from batten_tools import MODULES, asked_version, control_plane, say
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUDIT_POLICY = MODULES / "audit-policy.yaml"
READY_SECONDS = 60.0
STOP_SECONDS = 20.0  # the operator goes on serving for 15 of them
PLANE_STOP_SECONDS = 5.0  # an API server without etcd would never end by itself
PLANE = ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")


class ClusterError(Exception):
    """The control plane did not come up, or is not what it should be."""


@dataclass
class ControlPlane:
    """Everything it makes is below `folder`; `stop` ends what `start` began and nothing else.

    Used as a context manager it starts and stops; `start` alone leaves it running in the background
    and `ControlPlane(folder)` of a later process can `stop` it.
    """

    folder: Path
    version: str = field(default_factory=asked_version)
    apiserver_arguments: Sequence[str] = ()
    controllers: bool = True
    _programs: Path | None = field(default=None, repr=False)

    def __enter__(self) -> ControlPlane:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    @property
    def programs(self) -> Path:
        if self._programs is None:
            self._programs = control_plane(self.version)
        return self._programs

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(str(self.programs / "kubectl"), str(self.kubeconfig))

    def start(self) -> None:
        """Raises ClusterError or ToolError; nothing is left running then."""
        programs = self.programs
        if any(self.running(name) for name in self._spawned()):
            raise ClusterError(f"{self.folder}: a control plane runs there already")
        self.folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        try:
            self._start(programs)
        except BaseException:
            self.stop()
            raise
        version = json.loads(self.kubectl("get", "--raw", "/version").stdout)["gitVersion"]
        say(f"Kubernetes {version} is up after {time.monotonic() - started:.1f} s")

    def _start(self, programs: Path) -> None:
        client, peer, secure = free_ports(3)
        ca = _Authority()
        ca.write(self.folder)
        _issue_all(ca, self.folder)
        _write_kubeconfigs(ca, self.folder, secure)
        etcd = f"http://127.0.0.1:{client}"
        self.spawn(
            "etcd",
            [
                str(programs / "etcd"),
                "--unsafe-no-fsync",
                f"--data-dir={self.folder / 'etcd'}",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
                f"--initial-cluster=default=http://127.0.0.1:{peer}",
            ],
        )
        self.spawn("kube-apiserver", self._apiserver(programs, etcd, secure))
        self._wait_ready(secure)
        if not self._with_controllers(programs):
            say("no kube-controller-manager: Deployments make no Pods")
            return
        self._start_controllers(programs)
        _wait(
            lambda: self.kubectl("-n", "default", "get", "serviceaccount", "default").code == 0,
            "the default ServiceAccount",
        )

    def _with_controllers(self, programs: Path) -> bool:
        return self.controllers and (programs / "kube-controller-manager").exists()

    def _apiserver(self, programs: Path, etcd: str, port: int) -> list[str]:
        folder = self.folder
        # Without the controllers nobody makes the ServiceAccounts that every Pod would need.
        less = [] if self._with_controllers(programs) else ["ServiceAccount"]
        return [
            str(programs / "kube-apiserver"),
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={folder / 'apiserver.crt'}",
            f"--tls-private-key-file={folder / 'apiserver.key'}",
            f"--client-ca-file={folder / 'ca.crt'}",
            f"--service-account-key-file={folder / 'service-account.key'}",
            f"--service-account-signing-key-file={folder / 'service-account.key'}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            # Where a test has a node, its kubelet is asked for logs.
            f"--kubelet-client-certificate={folder / 'admin.crt'}",
            f"--kubelet-client-key={folder / 'admin.key'}",
            "--kubelet-preferred-address-types=InternalIP",
            "--endpoint-reconciler-type=none",
            "--enable-admission-plugins=NodeRestriction",
            f"--disable-admission-plugins={','.join(less)}",
            f"--audit-policy-file={AUDIT_POLICY}",
            f"--audit-log-path={self.audit_log}",
            "--audit-log-maxbackup=1",
            *self.apiserver_arguments,
        ]

    def _start_controllers(self, programs: Path) -> None:
        folder = self.folder
        self.spawn(
            "kube-controller-manager",
            [
                str(programs / "kube-controller-manager"),
                f"--kubeconfig={folder / 'controller-manager.kubeconfig'}",
                f"--service-account-private-key-file={folder / 'service-account.key'}",
                f"--root-ca-file={folder / 'ca.crt'}",
                "--use-service-account-credentials=true",
                "--leader-elect=false",
                "--secure-port=0",
            ],
        )
        self.spawn(
            "kube-scheduler",
            [
                str(programs / "kube-scheduler"),
                f"--kubeconfig={folder / 'scheduler.kubeconfig'}",
                "--leader-elect=false",
                "--secure-port=0",
            ],
        )

    def spawn(self, name: str, command: Sequence[str], **environment: str) -> None:
        """Start a program in the background; `stop` will end it. Its output goes to NAME.log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **environment},
            )
        record = {"pid": process.pid, "started": _started(process.pid)}
        (self.folder / f"{name}.pid").write_text(json.dumps(record))

    def running(self, name: str) -> bool:
        return self.pid(name) is not None

    def ended(self) -> list[str]:
        """The programs that `spawn` began and nobody asked to end, and that run no more."""
        return [name for name in self._spawned() if not self.running(name)]

    def _spawned(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.pid"))

    def pid(self, name: str) -> int | None:
        """The pid of a program that `spawn` began, unless it ended; a reused pid is not it."""
        try:
            record = json.loads((self.folder / f"{name}.pid").read_text())
        except (OSError, ValueError):
            return None
        pid = int(record["pid"])
        return pid if record["started"] is not None and _started(pid) == record["started"] else None

    def end(self, name: str, sign: signal.Signals = signal.SIGTERM) -> None:
        """End one program and wait until it is gone."""
        pid = self.pid(name)
        if pid is not None:
            os.killpg(pid, sign)
            patience = PLANE_STOP_SECONDS if name in PLANE else STOP_SECONDS
            if not _until(lambda: self.pid(name) is None, patience):
                os.killpg(pid, signal.SIGKILL)
                _until(lambda: self.pid(name) is None, STOP_SECONDS)
        (self.folder / f"{name}.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End everything, the API server's clients first and etcd last."""
        others = [name for name in self._spawned() if name not in PLANE]
        for name in [*others, *PLANE]:
            self.end(name)

    def _wait_ready(self, port: int) -> None:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        context.load_cert_chain(self.folder / "admin.crt", self.folder / "admin.key")

        def ready() -> bool:
            if not self.running("kube-apiserver") or not self.running("etcd"):
                raise ClusterError(f"it ended at once; its last words:\n{self._last_words()}")
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=2, context=context)
            try:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
            except OSError:
                return False
            finally:
                connection.close()

        _wait(ready, "kube-apiserver's /readyz")

    def _last_words(self) -> str:
        texts = [
            (self.folder / f"{name}.log").read_text(errors="replace")[-1500:]
            for name in ("etcd", "kube-apiserver")
            if not self.running(name) and (self.folder / f"{name}.log").exists()
        ]
        return "\n".join(texts)


def _wait(condition: Callable[[], bool], what: str) -> None:
    if not _until(condition, READY_SECONDS):
        raise ClusterError(f"not within {READY_SECONDS:.0f} s: {what}")


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _started(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None when it is gone or a zombie."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on now.

    From below the range that Linux gives to outgoing connections: a port of ours stays free until
    it is used, and while its program is restarted.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_768)  # noqa: S311
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            ports += [port] if port not in ports else []
    return ports


class _Authority:
    """A certificate authority for one control plane."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "batten-tests")])
        self.certificate = (
            _builder(name, name, self.key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    def write(self, folder: Path) -> None:
        (folder / "ca.crt").write_bytes(_pem(self.certificate))

    def issue(self, common_name: str, organization: str = "") -> tuple[bytes, bytes]:
        """A certificate for server and client use on this machine, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        addresses = [ipaddress.ip_address(text) for text in ("127.0.0.1", "10.96.0.1")]
        names = [x509.DNSName("localhost"), x509.DNSName("kubernetes.default.svc")]
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(x509.Name(attributes), self.certificate.subject, key)
            .add_extension(
                x509.SubjectAlternativeName([*names, *(x509.IPAddress(a) for a in addresses)]),
                critical=False,
            )
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _pem(certificate), _key_pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=365))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,  # the API server reads no PKCS #8 here
        serialization.NoEncryption(),
    )


def _issue_all(ca: _Authority, folder: Path) -> None:
    subjects = {
        "apiserver": ("kube-apiserver", ""),
        "admin": ("admin", "system:masters"),
        "controller-manager": ("system:kube-controller-manager", ""),
        "scheduler": ("system:kube-scheduler", ""),
    }
    for name, (common_name, organization) in subjects.items():
        certificate, key = ca.issue(common_name, organization)
        (folder / f"{name}.crt").write_bytes(certificate)
        _write_secret(folder / f"{name}.key", key)
    _write_secret(folder / "service-account.key", _key_pem(ec.generate_private_key(ec.SECP256R1())))


def _write_secret(path: Path, data: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(data)


def _write_kubeconfigs(ca: _Authority, folder: Path, port: int) -> None:
    files = {
        "kubeconfig": "admin",
        "controller-manager.kubeconfig": "controller-manager",
        "scheduler.kubeconfig": "scheduler",
    }
    for file, user in files.items():
        config = _kubeconfig(_pem(ca.certificate), folder, user, port)
        _write_secret(folder / file, json.dumps(config, indent=2).encode())


def _kubeconfig(ca: bytes, folder: Path, user: str, port: int) -> dict[str, Any]:
    def data(content: bytes) -> str:
        return base64.b64encode(content).decode()

    server = f"https://127.0.0.1:{port}"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "batten",
                "cluster": {"server": server, "certificate-authority-data": data(ca)},
            }
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": data((folder / f"{user}.crt").read_bytes()),
                    "client-key-data": data((folder / f"{user}.key").read_bytes()),
                },
            }
        ],
        "contexts": [{"name": "batten", "context": {"cluster": "batten", "user": user}}],
        "current-context": "batten",
    }
