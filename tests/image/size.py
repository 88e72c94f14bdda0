"""Build the operator's image and say how large it is, and what of it."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from batten_image import files_of, operator_image

PACKAGES, COMPILED = "opt/batten/", "opt/batten/compiled/"


def main() -> None:
    sizes = {path: each.size for path, each in files_of(operator_image()).entries.items()}
    compiled = sum(size for path, size in sizes.items() if path.startswith(COMPILED))
    packages = sum(size for path, size in sizes.items() if path.startswith(PACKAGES)) - compiled
    whole = sum(sizes.values())
    rows = {
        "base": whole - packages - compiled,
        "packages": packages,
        "compiled": compiled,
        "image": whole,
    }
    for name, size in rows.items():
        print(f"{name:10} {size / 1e6:6.1f} MB")


if __name__ == "__main__":
    main()
