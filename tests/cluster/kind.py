"""`make kind` and `make kind-down`: the cluster of kind-config.yaml, where Docker is at hand.

KIND_IMAGE names a node image that is there already; without it kind pulls its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batten_tools import ToolError, kind, say

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "kind-config.yaml"
KUBECONFIG = ROOT / ".kind" / "kubeconfig"
NAME = "batten"


def main() -> int:
    commands = {"up": up, "down": down}
    try:
        _require_docker()
        return commands[sys.argv[1]]()
    except ToolError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; `make kind-down` ends what is left")
        return 130


def up() -> int:
    image = os.environ.get("KIND_IMAGE")
    command = [kind(), "create", "cluster", f"--config={CONFIG}", f"--kubeconfig={KUBECONFIG}"]
    KUBECONFIG.parent.mkdir(exist_ok=True)
    if subprocess.run([*command, *([f"--image={image}"] if image else [])], check=False).returncode:
        raise ToolError("kind made no cluster; KIND_IMAGE names a node image that is at hand")
    print(f"KUBECONFIG={KUBECONFIG} make up")
    return 0


def down() -> int:
    command = [kind(), "delete", "cluster", f"--name={NAME}", f"--kubeconfig={KUBECONFIG}"]
    if subprocess.run(command, check=False).returncode:
        raise ToolError("kind did not delete the cluster; its own words stand above")
    shutil.rmtree(KUBECONFIG.parent, ignore_errors=True)
    return 0


def _require_docker() -> None:
    if not shutil.which("docker"):
        raise ToolError("kind needs Docker, and there is no `docker` on PATH")
    try:
        asked = subprocess.run(
            ["docker", "version", "--format", "{{.Server.Version}}"],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ToolError("kind needs Docker, and its daemon does not answer within 20 s") from None
    if asked.returncode:
        raise ToolError(f"kind needs Docker: {asked.stderr.strip().splitlines()[-1]}")


if __name__ == "__main__":
    sys.exit(main())
