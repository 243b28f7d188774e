"""What master and workers must have in common, or the same plan would send different things from different machines."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Mapping

from loadtest import __version__
from loadtest.records import SCHEMA_VERSION

# Texts are drawn from Faker, lengths from numpy, and both are measured by tiktoken.
DECIDING_PACKAGES = ("numpy", "faker", "tiktoken")
OTHER_PACKAGES = ("locust", "gevent", "httptools", "msgspec", "pyzmq")
NONE = "none"


def deciding_versions() -> dict[str, str]:
    """Versions of this process that decide what is sent or how it is stored."""
    return {
        "loadtest": __version__,
        "schema": str(SCHEMA_VERSION),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        **{name: importlib.metadata.version(name) for name in DECIDING_PACKAGES},
    }


def difference(master: Mapping[str, str], worker: Mapping[str, str]) -> str | None:
    """One line that names every version that differs and says what to do; None when all are equal."""
    unequal = [
        f"{name} {master.get(name, NONE)} on the master and {worker.get(name, NONE)} on the worker"
        for name in {**master, **worker}
        if master.get(name) != worker.get(name)
    ]
    if not unequal:
        return None
    return f"{', '.join(unequal)}; install the same on both (`loadtest workers` prints how)"


def versions() -> dict[str, str]:
    """What the manifest says a run was made with."""
    return {
        "loadtest": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        **{name: importlib.metadata.version(name) for name in (*OTHER_PACKAGES, *DECIDING_PACKAGES)},
    }
