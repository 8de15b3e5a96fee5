"""The environments that can be named on a command line."""

from __future__ import annotations

import difflib

from parity.agents.errors import ConfigError
from parity.environments.interface import VectorEnvironment
from parity.environments.metta_grid import MettaGridEnvironment
from parity.environments.recorded import load_recording
from parity.environments.replay import ReplayEnvironment
from parity.environments.token_grid import TokenGrid
from parity.resources import fixture

_RECORDED = "recorded:"


def environment_names() -> list[str]:
    """``token_grid``, ``metta_grid``, and ``recorded:<name>`` for each recording that the project ships."""
    recordings = sorted(path.stem for path in fixture("observations").glob("*.safetensors"))
    return ["token_grid", "metta_grid", *(_RECORDED + name for name in recordings)]


def make_environment(name: str, *, num_agents: int) -> VectorEnvironment:
    """Build an environment with the settings it has by default.

    Args:
        name: one of ``environment_names``.
        num_agents: B.

    Raises:
        ConfigError: no environment has this name, ``num_agents`` is out of range, or a package it needs is missing.
    """
    names = environment_names()
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
        raise ConfigError(f"no environment is named {name!r}; {hint}")
    if name == "token_grid":
        return TokenGrid(num_agents=num_agents)
    if name == "metta_grid":
        return MettaGridEnvironment(num_agents=num_agents)
    path = fixture("observations", f"{name.removeprefix(_RECORDED)}.safetensors")
    return ReplayEnvironment(load_recording(path), num_agents=num_agents)
