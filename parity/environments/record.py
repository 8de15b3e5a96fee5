"""Record episodes of the released MettaGrid environment: ``python -m parity.environments.record --out DIR``.

Needs the optional package ``mettagrid``; reading the recordings does not. All agents act at random. Every episode is a
new simulation on a new map, a few steps long, and ends in turn by truncation and by termination, which MettaGrid
decides by its ``episode_truncates`` setting. The same plan gives the same bytes.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from parity.agents.interface import EnvironmentDescription
from parity.environments.metta_grid import arena, describe, import_mettagrid
from parity.environments.recorded import Recording, RecordingError, save_recording

METTAGRID = "mettagrid==0.26.22"
_SHORTEST, _LONGEST = 6, 20  # steps of an episode, both inclusive


@dataclass(frozen=True)
class Plan:
    """What to record: agents and walls at random places on a square map, and the seed of everything random."""

    name: str
    agents: int
    side: int
    walls: int
    seed: int


#: From few agents close together (each sees all others) to many on a map larger than the 13 x 13 view.
PLANS = (
    Plan("yard", agents=4, side=9, walls=10, seed=11),
    Plan("arena", agents=8, side=25, walls=60, seed=22),
    Plan("crowd", agents=12, side=17, walls=40, seed=33),
)


def record(plan: Plan, *, steps: int) -> tuple[Recording, dict[str, Any]]:
    """Run one plan for ``steps`` steps of all its agents.

    The last observation of an episode is not kept: the step after its last action shows the next episode's first one,
    marked in ``dones`` or ``truncateds`` as the environment reported the end, with the last action's reward.

    Returns:
        The recording, and its provenance for ``save_recording``.

    Raises:
        RecordingError: ``mettagrid`` is not installed, or ``steps`` is below 1.
    """
    if steps < 1:
        raise RecordingError(f"record: steps is {steps!r}; give a whole number of at least 1")
    mettagrid = _mettagrid()
    random = np.random.default_rng(plan.seed)
    environment: EnvironmentDescription | None = None
    observations: list[np.ndarray] = []
    rewards: list[list[float]] = []
    dones: list[list[bool]] = []
    truncateds: list[list[bool]] = []
    reward, done, truncated = [0.0] * plan.agents, [False] * plan.agents, [False] * plan.agents
    episodes = 0
    while len(observations) < steps:
        length = int(random.integers(_SHORTEST, _LONGEST + 1))
        config = arena(
            mettagrid,
            agents=plan.agents,
            side=plan.side,
            walls=plan.walls,
            seed=plan.seed + episodes,
            length=length,
            truncates=episodes % 2 == 0,
        )
        interface = mettagrid.PolicyEnvInterface.from_mg_cfg(config)
        environment = environment or describe(interface, source=f"mettagrid ({plan.name})")
        grid = mettagrid.MettaGridPettingZooEnv(mettagrid.Simulator(), config)
        observed, _ = grid.reset(seed=plan.seed + episodes)
        episodes += 1
        while grid.agents and len(observations) < steps:
            observations.append(np.stack([observed[agent] for agent in grid.agents]))  # a copy of a live buffer
            rewards.append(reward)
            dones.append(done)
            truncateds.append(truncated)
            actions = random.integers(len(environment.action_names), size=plan.agents)
            observed, *outcome, _ = grid.step({agent: int(actions[agent]) for agent in grid.agents})
            reward, done, truncated = ([column[agent] for agent in sorted(column)] for column in outcome)
        grid.close()
    assert environment is not None
    recording = Recording(
        plan.name,
        environment,
        torch.from_numpy(np.stack(observations)),
        torch.tensor(dones),
        torch.tensor(truncateds),
        torch.tensor(rewards, dtype=torch.float32),
    )
    provenance = {
        "package": "mettagrid",
        "version": version("mettagrid"),
        "environment": "MettaGridPettingZooEnv on make_arena",
        "map": asdict(plan),
        "seed": plan.seed,
        "actions": "uniformly random",
        "episodes": episodes,
    }
    return recording, provenance


def main(arguments: Sequence[str] | None = None) -> int:
    """Record every plan into ``--out``; returns the exit status: 0, or 2 when nothing could be recorded."""
    parser = argparse.ArgumentParser(prog="python -m parity.environments.record", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the .safetensors files")
    parser.add_argument("--steps", type=int, default=128, help="steps per recording (default: %(default)s)")
    options = parser.parse_args(arguments)
    for plan in PLANS:
        path = options.out / f"{plan.name}.safetensors"
        try:
            recording, provenance = record(plan, steps=options.steps)
            save_recording(recording, path, provenance)
        except (RecordingError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        print(
            f"{path}: {recording.steps} steps x {recording.agents} agents, {provenance['episodes']} episodes, "
            f"{path.stat().st_size:,} bytes"
        )
    return 0


def _mettagrid() -> SimpleNamespace:
    """``import_mettagrid``, its failure told as the recorder's."""
    try:
        return import_mettagrid()
    except ImportError as error:
        raise RecordingError(
            f"recording needs the package mettagrid, which cannot be used here ({error}); on Python 3.11 or 3.12 "
            f'run: pip install "{METTAGRID}"'
        ) from error


if __name__ == "__main__":
    sys.exit(main())
