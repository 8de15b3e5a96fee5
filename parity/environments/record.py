"""Record episodes of the released MettaGrid environment: ``python -m parity.environments.record --out DIR``.

Needs the optional package ``mettagrid``; reading the recordings does not. All agents act at random. Every episode is a
new simulation on a new map, a few steps long, and ends in turn by truncation and by termination, which MettaGrid
decides by its ``episode_truncates`` setting. The same plan gives the same bytes.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from parity.agents.interface import EnvironmentDescription, Feature
from parity.environments.recorded import Recording, RecordingError, save_recording

METTAGRID = "mettagrid==0.26.22"
_SHORTEST, _LONGEST = 6, 20  # steps of an episode, both inclusive
_INVENTORY = {"ore_red": 3, "battery_blue": 50, "heart": 200, "laser": 7}


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
        config = _config(mettagrid, plan, episodes, length)
        environment = environment or _description(mettagrid.PolicyEnvInterface.from_mg_cfg(config), plan)
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
    """The names used here of ``mettagrid``, which is imported only when something is recorded."""
    places = {
        "mettagrid.builder.envs": ("make_arena",),
        "mettagrid.config.game_value": ("StatValue",),
        "mettagrid.config.reward_config": ("reward",),
        "mettagrid.envs.pettingzoo_env": ("MettaGridPettingZooEnv",),
        "mettagrid.policy.policy_env_interface": ("PolicyEnvInterface",),
        "mettagrid.simulator": ("Simulator",),
    }
    try:
        modules = {module: importlib.import_module(module) for module in places}
        return SimpleNamespace(**{name: getattr(modules[module], name) for module in places for name in places[module]})
    except (ImportError, AttributeError) as error:  # AttributeError: another version, which has the module only
        raise RecordingError(
            f"recording needs the package mettagrid, which cannot be used here ({error}); on Python 3.11 or 3.12 "
            f'run: pip install "{METTAGRID}"'
        ) from error


def _config(mettagrid: SimpleNamespace, plan: Plan, episode: int, length: int) -> Any:
    """MettaGrid's own configuration of one episode: ``make_arena`` with a little to carry, to earn and to see."""
    config = mettagrid.make_arena(num_agents=plan.agents)
    game = config.game
    game.max_steps = length
    game.episode_truncates = episode % 2 == 0
    game.map_builder.width = game.map_builder.height = plan.side
    game.map_builder.border_width = 2
    game.map_builder.seed = plan.seed + episode
    game.map_builder.instance.objects = {"wall": plan.walls}
    game.obs.global_obs.local_position = True
    game.agent.inventory.initial = dict(_INVENTORY)
    game.agent.rewards = {"moved": mettagrid.reward(mettagrid.StatValue(name="action.move.success"), weight=0.1)}
    return config


def _description(interface: Any, plan: Plan) -> EnvironmentDescription:
    """What a policy may know of the environment: no action of MettaGrid takes an argument."""
    return EnvironmentDescription(
        obs_width=interface.obs_width,
        obs_height=interface.obs_height,
        num_tokens=interface.observation_shape[0],
        action_names=tuple(interface.action_names),
        max_action_args=(0,) * len(interface.action_names),
        features={
            feature.name: Feature(int(feature.id), float(feature.normalization)) for feature in interface.obs_features
        },
        source=f"mettagrid ({plan.name})",
    )


if __name__ == "__main__":
    sys.exit(main())
