"""`batten`: exit code 0 when all is well, 1 for violations, 2 for unusable input or usage."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from typing import TextIO, TypeAlias

from batten_webhooks.cli import CannotRun, command_module

FORMATS = ("text", "json", "sarif", "junit", "github")
AUDIT_FORMATS = ("text", "json", "sarif", "html")
PATHS = "a file, a folder to look through for .yaml, .yml and .json, or - for standard input"
POLICY = "baseline, restricted, hardened, or the file of a HardeningPolicy (default: hardened)"
KINDS = "more kinds with a Pod template, as Widget.example.com=spec.template, separated by commas"
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line. Never raises: what goes wrong is told in a line on stderr."""
    _prepare_streams()
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except CannotRun as error:
        _tell(str(error))
        return 2
    except KeyboardInterrupt:
        _abandon(sys.stdout)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        _abandon(sys.stdout, sys.stderr)
        return 128 + signal.SIGPIPE
    except OSError as error:
        _abandon(sys.stdout)
        _tell(f"cannot write: {(error.strerror or str(error)).lower()}")
        return 2
    except Exception as error:
        _tell(f"internal error, please report it: {_defect(error)}")
        return 2
    return code


def _run(arguments: Sequence[str] | None) -> int:
    try:
        options = parser().parse_args(arguments)
    except SystemExit as end:  # after --help and --version, and for wrong usage
        return int(end.code or 0)
    if "run" not in options:
        parser().print_help()
        return 0
    name = options.run if "." in options.run else f"batten_webhooks.cli.{options.run}"
    return int(command_module(name).run(options))


def _tell(message: str) -> None:
    """On stderr, line by line; where that cannot be written, the exit code has to do."""
    with suppress(OSError):
        for line in message.splitlines():
            print(f"batten: {line}", file=sys.stderr)


def _defect(error: Exception) -> str:
    """What happened, and in which line of ours."""
    place = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{os.path.basename(code.co_filename)}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(error).__name__} at {place}: {error}"


def _prepare_streams() -> None:
    """Any text can be printed, whatever the locale; a closed stream is an empty one."""
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - open until the process ends
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # noqa: SIM115
        setattr(sys, name, stream)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _abandon(*streams: TextIO) -> None:
    """Nobody reads them any more; the interpreter must not complain of it at exit either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


def parser() -> argparse.ArgumentParser:
    """The whole command line; the reference in docs/ is made from it."""
    top = argparse.ArgumentParser(
        prog="batten",
        description="Harden Kubernetes manifests, and say what cannot be made safe.",
        allow_abbrev=False,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = top.add_subparsers(title="commands", metavar="COMMAND")

    _harden(commands)

    check = _command(commands, "check", "say what is wrong with files as they stand")
    _inputs(check)
    check.add_argument(
        "--as-admitted",
        action="store_true",
        help="judge what the webhooks would admit: what they change is not a violation",
    )
    check.add_argument("--format", choices=FORMATS, default="text", help="(default: text)")
    _color(check)
    check.add_argument("--verbose", action="store_true", help="tell of what is only audited, too")
    _look_up(check)

    _images(commands)
    _evidence(commands)
    _learn(commands)

    audit = _command(commands, "audit", "say what the workloads of a live cluster would meet")
    audit.set_defaults(run="batten_operator.audit")
    audit.add_argument(
        "--policy",
        action="append",
        metavar="POLICY",
        help="try these instead of the cluster's own policies and exceptions: a preset or a file of"
        " HardeningPolicies and HardeningExceptions; repeatable",
    )
    _cluster(audit)
    audit.add_argument("--format", choices=AUDIT_FORMATS, default="text", help="(default: text)")
    audit.add_argument("--output", default="", metavar="FILE", help="write there, not to stdout")
    _color(audit)

    rollout = _command(commands, "rollout", "print the next safe step to enforcement, as policies")
    rollout.set_defaults(policy=["hardened"])
    _cluster(rollout)
    rollout.add_argument(
        "--from",
        dest="audit",
        default="",
        metavar="FILE",
        help="what batten audit --format json wrote, instead of reading the cluster",
    )
    rollout.add_argument(
        "--applied",
        default="",
        metavar="FILE",
        help="the policies of the step before, as printed (default: none)",
    )

    export = _command(
        commands, "export", "print a policy in a form that API servers enforce by themselves"
    )
    export.add_argument("--policy", default="hardened", metavar="POLICY", help=POLICY)
    export.add_argument(
        "--format",
        choices=("vap",),
        default="vap",
        help="ValidatingAdmissionPolicies with their bindings (default: vap)",
    )
    export.add_argument(
        "--exempt",
        action="append",
        default=[],
        metavar="NAMESPACE",
        help="leave it alone, besides those that the chart does by default; repeatable",
    )
    export.add_argument(
        "--exceptions",
        action="append",
        default=[],
        metavar="FILE",
        help="tell which HardeningExceptions of a file cannot be kept; repeatable",
    )

    explain = _command(commands, "explain", "explain a rule, or list them all")
    explain.add_argument("rule", nargs="?", metavar="RULE", help="such as run-as-non-root")
    explain.add_argument(
        "--for",
        dest="file",
        default="",
        metavar="FILE",
        help="say which policy governs the workloads of a file, why, and which exceptions hold",
    )
    explain.add_argument(
        "--policy",
        action="append",
        metavar="POLICY",
        help="with --for: a preset, or a file of policies, exceptions and Namespaces, instead of"
        " the cluster's; repeatable",
    )
    explain.add_argument(
        "--namespace",
        default="default",
        metavar="NAME",
        help="with --for: of workloads that name none (default: default)",
    )
    explain.add_argument(
        "--context", default="", metavar="NAME", help="with --for: one of the kubeconfig file"
    )
    _color(explain)

    _command(commands, "rules", "list the rules")

    review = _command(commands, "review", "answer an AdmissionReview from standard input")
    review.add_argument("--webhook", choices=("mutate", "validate"), required=True)
    review.add_argument("--policy", default="hardened", metavar="POLICY", help=POLICY)
    _kinds(review)
    return top


def _harden(commands: Commands) -> None:
    harden = _command(commands, "harden", "print files hardened, or edit them in place")
    _inputs(harden)
    how = harden.add_mutually_exclusive_group()
    how.add_argument("--diff", action="store_true", help="print a unified diff instead")
    how.add_argument("--write", action="store_true", help="edit the files in place")
    pins = harden.add_mutually_exclusive_group()
    pins.add_argument(
        "--pin",
        dest="pins",
        action="store_const",
        const="pin",
        help="write the digests of images' tags beside them, as registries tell them now",
    )
    pins.add_argument(
        "--refresh",
        dest="pins",
        action="store_const",
        const="refresh",
        help="the same, and move on what has a tag and a digest already",
    )
    pins.add_argument(
        "--unpin",
        dest="pins",
        action="store_const",
        const="unpin",
        help="take the digests away from what has a tag",
    )
    _look_up(harden)


def _images(commands: Commands) -> None:
    images = _command(commands, "images", "list the images of files, with their digests and users")
    _files(images)
    images.add_argument(
        "--format", choices=("text", "json"), default="text", help="(default: text)"
    )
    _color(images)
    _registries(images)


def _evidence(commands: Commands) -> None:
    evidence = commands.add_parser(
        "evidence",
        help="write, judge and show what scanners found in images",
        description="Write, judge and show what scanners found in images.",
        allow_abbrev=False,
    )
    inner = evidence.add_subparsers(title="commands", metavar="COMMAND", required=True)

    make = _command(
        inner, "from", "print a scanner's file as an ImageScan, or as a predicate to attest"
    )
    make.set_defaults(run="evidence_from")
    make.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="a scan in any format that Batten reads, or - for standard input; and VEX on it",
    )
    make.add_argument(
        "--format",
        choices=("imagescan", "attestation"),
        default="imagescan",
        help="for kubectl apply, or for cosign attest --predicate (default: imagescan)",
    )
    make.add_argument(
        "--image",
        default="",
        metavar="IMAGE",
        help="what was scanned, where the file does not name it, or not its digest",
    )
    make.add_argument(
        "--digest",
        action="append",
        default=[],
        metavar="SHA256:…",
        help="of what was scanned, besides those in the file; repeatable",
    )
    make.add_argument(
        "--name", default="", metavar="NAME", help="of the ImageScan (default: of its digest)"
    )
    make.add_argument(
        "--look-up",
        action="store_true",
        help="ask the image's registry for the other digests of what was scanned",
    )
    _registries(make)

    check = _command(inner, "check", "say whether images may run by what is known of their scans")
    check.set_defaults(run="evidence_check")
    check.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="a tag is looked up; left out: what each --scan is of, wherever it is by now",
    )
    check.add_argument("--policy", default="hardened", metavar="POLICY", help=POLICY)
    _judged(check)

    verify = _command(
        inner, "verify", "show what a cluster would find of an image's scans, and what counts"
    )
    verify.set_defaults(run="evidence_verify")
    verify.add_argument("image", metavar="IMAGE", help="a tag is looked up")
    verify.add_argument(
        "--policy",
        default="",
        metavar="POLICY",
        help="a preset or the file of a HardeningPolicy, instead of the cluster's",
    )
    where = verify.add_mutually_exclusive_group()
    where.add_argument(
        "--context", default="", metavar="NAME", help="a context of the kubeconfig file"
    )
    where.add_argument(
        "--no-cluster", action="store_true", help="read neither policies nor scans of a cluster"
    )
    verify.add_argument(
        "--namespace",
        default="default",
        metavar="NAME",
        help="whose policy governs (default: default)",
    )
    _judged(verify)


def _judged(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--scan",
        action="append",
        default=[],
        metavar="FILE",
        help="counts as an ImageScan would; a scan, VEX, or - for standard input; repeatable",
    )
    command.add_argument(
        "--architecture",
        action="append",
        default=[],
        metavar="NAME",
        help="of the cluster's nodes, as amd64: the image's other platforms need no scan;"
        " repeatable (default: all that it has)",
    )
    command.add_argument(
        "--trusted-root",
        default="",
        metavar="FILE",
        help="Sigstore's, for attestations that are signed without a key",
    )
    command.add_argument(
        "--format", choices=("text", "json"), default="text", help="(default: text)"
    )
    _color(command)
    _registries(command)


def _learn(commands: Commands) -> None:
    learn = _command(commands, "learn", "say where a running container writes on its root")
    learn.set_defaults(run="batten_operator.learn")
    learn.add_argument("pod", metavar="POD", help="one whose root is not read-only yet")
    learn.add_argument("--namespace", default="default", metavar="NAME", help="(default: default)")
    learn.add_argument("--container", default="", metavar="NAME", help="where there are several")
    learn.add_argument(
        "--context", default="", metavar="NAME", help="a context of the kubeconfig file"
    )
    learn.add_argument(
        "--image",
        default="docker.io/library/busybox:1.37",
        help="of the ephemeral container that looks; has sh and find (default: %(default)s)",
    )
    learn.add_argument(
        "--format",
        choices=("annotation", "profile"),
        default="annotation",
        help="of the Pod, or an ImageProfile (default: annotation)",
    )
    learn.add_argument(
        "--user", default="", metavar="UID[:GID]", help="of the profile, if not the container's"
    )
    learn.add_argument(
        "--seconds", type=int, default=60, help="how long to wait for it (default: 60)"
    )


def _command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
    )
    command.set_defaults(run=name)
    return command


def _cluster(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--context", default="", metavar="NAME", help="a context of the kubeconfig file"
    )
    command.add_argument(
        "--namespace", action="append", default=[], metavar="NAME", help="only there; repeatable"
    )
    command.add_argument(
        "--all-namespaces",
        action="store_true",
        help="kube-system and other namespaces that the chart exempts, too",
    )


def _inputs(command: argparse.ArgumentParser) -> None:
    _files(command)
    command.add_argument("--policy", default="hardened", metavar="POLICY", help=POLICY)


def _files(command: argparse.ArgumentParser) -> None:
    command.add_argument("paths", nargs="+", metavar="PATH", help=PATHS)
    _kinds(command)
    command.add_argument(
        "--skip-unrelated",
        action="store_true",
        help="pass over named files without a Kubernetes object, as in folders",
    )


def _kinds(command: argparse.ArgumentParser) -> None:
    command.add_argument("--kinds", default="", metavar="KINDS", help=KINDS)


def _look_up(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--look-up-images",
        action="store_true",
        help="ask registries what images say of themselves, such as their user",
    )
    _registries(command)


def _registries(command: argparse.ArgumentParser) -> None:
    """Whoever called `docker login` asks; these say what else may be asked, and how."""
    group = command.add_argument_group(
        "registries", "Credentials are those of docker's configuration (DOCKER_CONFIG)."
    )
    group.add_argument("--registry-ca", default="", metavar="FILE", help="trust its CAs, too (PEM)")
    group.add_argument(
        "--registry-mirror",
        action="append",
        default=[],
        metavar="REGISTRY=HOST",
        help="ask there first, as docker.io=mirror.example; repeatable",
    )
    group.add_argument(
        "--local-registry",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="may be at an address of this machine or of its link; repeatable",
    )
    group.add_argument(
        "--plain-http",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="asked without TLS, wherever it is; repeatable",
    )


def _color(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="colour the text (default: auto, on a terminal unless NO_COLOR is set)",
    )


class _Version(argparse.Action):
    def __call__(self, *_: object) -> None:
        from importlib.metadata import version  # noqa: PLC0415 - 30 ms that --help need not pay

        print(f"batten {version('batten')}")
        sys.exit(0)


if __name__ == "__main__":
    sys.exit(main())
