"""Make sure that the programs the tests need are there, before pytest hides the progress."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batten_cosign import SUITES, cosign, why_no_cosign
from batten_image import operator_image, why_no_image
from batten_programs import programs_layer, why_no_programs
from batten_tools import (
    CONTROL_PLANE,
    ToolError,
    actionlint,
    asked_version,
    containerd,
    control_plane,
    helm,
    kubelet,
    referring_registry_binary,
    registry_binary,
    say,
    scanner,
    why_no_node,
)


def main() -> int:
    versions = sys.argv[1:] or sorted({asked_version(), "1.37"})
    try:
        for version in versions:
            folder = control_plane(version)
            say(f"Kubernetes {version}: {', '.join(CONTROL_PLANE)} in {folder}")
        say(f"helm: {helm()}")
        say(f"registries: {registry_binary()}, {referring_registry_binary()}")
        say(f"actionlint: {actionlint()}")
        why = why_no_image()
        say(f"no image of the operator: {why}" if why else f"the image: {operator_image()}")
        why = why_no_cosign()
        say(why or f"cosign: {', '.join(cosign(major) for major in SUITES)}")
        if why_no_node():
            say(f"no node: {why_no_node()}")
        else:
            say(f"node: {kubelet()}, {containerd()}, {scanner()}")
            why = why_no_programs()
            say(f"no programs to run on it: {why}" if why else f"programs: {programs_layer()}")
    except ToolError as error:
        say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
