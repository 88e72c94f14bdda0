"""Makes what was installed smaller and quicker to start: what Batten never opens is left out, and
what it imports is compiled. The Dockerfile runs it, with the Python that the image will have.

    python3 slim.py FOLDER

Whatever Batten imports must still import, or the build fails.
"""

from __future__ import annotations

import importlib
import py_compile
import shutil
import sys
from pathlib import Path

# Requests and answers are plain JSON to Batten: of Kubernetes' client it takes no more than the
# connection. Of AWS' services it asks ECR, and STS for its own identity.
MODELS = (
    "kubernetes/client/api/*",
    "kubernetes/client/models/*",
    "kubernetes/aio/client/api/*",
    "kubernetes/aio/client/models/*",
    "botocore/data/*/",
)
KEPT = (
    "kubernetes/*/__init__.py",
    "kubernetes/*/*/__init__.py",
    "kubernetes/*/*/*/__init__.py",
    "botocore/data/ecr/",
    "botocore/data/sts/",
)
# What is there for compilers, type checkers and these libraries' own tests.
SOURCES = ("**/*.c", "**/*.h", "**/*.pxd", "**/*.pyi", "**/*.pyx", "securesystemslib/**/test_data/")
# Programs of libraries; they name the Python that installed them.
PROGRAMS = ("bin/*",)
# Whatever can be imported while the image runs: the operator, the command line, and what both
# import where they need it.
IMPORTED = (
    "batten_operator.__main__",
    "batten_webhooks.cli.__main__",
    "batten_webhooks.evidence.attestations.keyless",
    "batten_webhooks.images.cloud_sources",
    "azure.identity",
    "botocore.session",
    "google.auth.transport.requests",
    "google.auth.compute_engine",
    "nacl.bindings",
    "sigstore.models",
    "sigstore.verify.policy",
    "yaml",
)


def main() -> None:
    folder = Path(sys.argv[1])
    kept = {path for glob in KEPT for path in folder.glob(glob)}
    for glob in (*MODELS, *SOURCES, *PROGRAMS):
        for path in set(folder.glob(glob)) - kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for name in IMPORTED:
        importlib.import_module(name)
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    for file in sorted(file for file in files if file and file.endswith(".py")):
        # By its content, never by its time: what was built twice is the same.
        mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
        py_compile.compile(file, doraise=True, invalidation_mode=mode)


if __name__ == "__main__":
    main()
