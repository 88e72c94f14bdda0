"""Batten as a release of the real helm's; its operator is a process beside the control plane."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batten_e2e import Kubectl, Output, run
from batten_install import (
    CHART,
    NAMESPACE,
    RELEASE,
    Installation,
    helm_upgrade,
    write_kubeconfig,
)
from batten_tools import helm


@dataclass(frozen=True)
class Release:
    """Of this version's chart, or of an earlier one's."""

    installation: Installation

    @property
    def kubectl(self) -> Kubectl:
        return self.installation.kubectl

    def helm(self, *arguments: str) -> Output:
        where = (f"--kubeconfig={self.kubectl.kubeconfig}", f"--namespace={NAMESPACE}")
        return run(helm(), *arguments, *where, timeout=120)

    def install(self, chart: Path = CHART) -> None:
        """Nothing of a release may be in the way."""
        settings = self.installation.settings()
        self.helm("install", RELEASE, str(chart), "--create-namespace", *settings).require()

    def upgrade(self) -> None:
        """To this version, and until it answers."""
        helm_upgrade(self.kubectl, *self.installation.settings())
        self.installation.wait_ready()

    def start(self) -> None:
        """The operator, as the ServiceAccount that the chart has made."""
        plane = self.installation.plane
        write_kubeconfig(self.kubectl, RELEASE, plane.folder / "operator.kubeconfig")
        self.installation.start()
