"""What a run ran on: versions, processor, device, threads and the switches that decide how floats round."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import parity

_PACKAGES = ("torch", "tensordict", "numpy", "hypothesis")


def versions() -> dict[str, str]:
    """Versions of Python, of this package and of what it computes with; "absent" for what is not installed."""
    found = {"python": platform.python_version(), "parity": parity.__version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return found


def platform_info(devices: tuple[str, ...] = ("cpu",)) -> dict[str, Any]:
    """A JSON-able description of this machine and process.

    Args:
        devices: the devices a run selected; for ``cuda`` the GPU is named.

    Returns:
        ``versions``, ``threads`` (torch's, now), ``device`` (one line), ``cpu``, ``system`` and ``tf32`` switches.
    """
    return {
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "device": ", ".join(_device_name(device) for device in devices),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "tf32": {
            "matmul": bool(torch.backends.cuda.matmul.allow_tf32),
            "cudnn": bool(torch.backends.cudnn.allow_tf32),
        },
    }


def _device_name(device: str) -> str:
    if device != "cuda":
        return device
    return f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cuda (absent)"


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: the standard library's answer is the best there is
    return platform.processor() or platform.machine()
