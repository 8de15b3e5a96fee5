"""``train --lockstep``: both sides trained update by update from equal state, so that a distance is one update's own.

Two trainings that begin one unit in the last place apart drift until their samples differ; from there on nothing can
be said of them. Here every update begins from the reference's weights and optimizer state, on all sides. A second
reference, moved by one such unit before each update, tells how far rounding alone carries an update.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from parity.agents.errors import AgentError
from parity.cli.figures import worst
from parity.cli.progress import Status
from parity.compare.bounds import BOUNDS, move_one_ulp, rms
from parity.compare.verdict import Misuse
from parity.pairs.builds import Builds
from parity.pairs.parameters import ParameterMap
from parity.pairs.recipe import Pair
from parity.pairs.subjects import Subject
from parity.pairs.training import Trainer, Training, World
from parity.platform_info import platform_info
from parity.report.files import write_json
from parity.runner import DTYPES


def lockstep(arguments: argparse.Namespace, pair: Pair, training: Training, settings: Mapping[str, Any]) -> int:
    """Train, show how far apart each update ends, and judge: 1 when further than rounding carries it."""
    for option in ("folder", "resume", "trace"):
        if getattr(arguments, option):
            raise Misuse(f"--lockstep writes no run; leave --{option} out")
    if arguments.side != "both":
        raise Misuse("--lockstep compares both sides; leave --side out")
    updates: list[dict[str, Any]] = []
    with Status() as status:
        for entry in _updates(pair, training, arguments.environment, settings, DTYPES[arguments.dtype]):
            updates.append(entry)
            status.show(
                f"update {entry['update']}/{settings['total_updates']}   reward {entry['reward']:.4f}   "
                f"apart {entry['distance']:.1e}   by rounding alone {entry['rounding']:.1e}"
            )
    furthest = max(updates, key=lambda entry: entry["distance"])
    allowed = BOUNDS.ensemble_factor * max(entry["rounding"] for entry in updates)
    agree = furthest["distance"] <= allowed
    place = f" ({furthest['quantity']}, update {furthest['update']})" if furthest["distance"] else ""
    print(
        f"{len(updates)} updates in {arguments.dtype}, each from equal state: metrics and weights differ by at most "
        f"{furthest['distance']:.1e} of their value{place}; "
        f"allowed {allowed:.1e}, {BOUNDS.ensemble_factor:g} times what rounding alone does\n"
        f"the sides {'agree' if agree else 'DO NOT AGREE'}"
    )
    if arguments.json is not None:
        content = {
            "pair": pair.name,
            "environment": arguments.environment,
            "dtype": arguments.dtype,
            "settings": settings,
            "agree": agree,
            "allowed": allowed,
            "updates": updates,
            "platform": platform_info(),
        }
        write_json(arguments.json, content)
    return 0 if agree else 1


@dataclasses.dataclass
class _Arm:
    subject: Subject
    trainer: Trainer

    def weights(self) -> dict[str, Tensor]:
        """Copies, as the reference names and lays them out."""
        own = {name: value.detach() for name, value in self.subject.policy.named_parameters()}
        return {name: value.clone() for name, value in self.subject.to_reference(own).items()}


def _updates(
    pair: Pair, training: Training, environment: str, settings: Mapping[str, Any], dtype: torch.dtype
) -> Iterator[dict[str, Any]]:
    try:
        worlds: list[World] = [training.world(environment, agents=settings["num_agents"]) for _ in range(3)]
        recipe = dataclasses.replace(pair.recipe, environment=worlds[0].description)
        sides = Builds(pair).sides(recipe.with_system(seed=settings["seed"], dtype=dtype), None)
        subjects = (sides.reference.copy(), sides.candidate.copy(), sides.reference.copy())
        arms = [
            _Arm(subject, training.trainer(subject.policy, world, settings))
            for subject, world in zip(subjects, worlds, strict=True)
        ]
        reference, candidate, moved = arms
        for update in range(1, settings["total_updates"] + 1):
            _move(moved.subject, update)
            found = []
            for arm in arms:
                arm.trainer.rollout()
                metrics = arm.trainer.update()
                found.append((metrics, arm.weights()))
            quantity, distance = _apart(found[0], found[1])
            _, rounding = _apart(found[0], found[2])
            reward = found[0][0]["reward"]
            yield {"update": update, "reward": reward, "quantity": quantity, "distance": distance, "rounding": rounding}
            for arm in (candidate, moved):
                _align(arm, reference, sides.parameters)
    except AgentError as error:
        raise Misuse(str(error)) from error


def _move(subject: Subject, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for parameter in subject.policy.parameters():
            parameter.copy_(move_one_ulp(parameter, generator))


_Found = tuple[Mapping[str, Any], Mapping[str, Tensor]]


def _apart(ours: _Found, theirs: _Found) -> tuple[str, float]:
    """The metric or weight that differs most, relative to its size, and by how much."""
    name, distance = worst(ours[0], theirs[0])
    for weight, value in ours[1].items():
        difference, size = rms(value - theirs[1][weight]), rms(value)
        found = difference / size if size else (math.inf if difference else 0.0)
        if found > distance:
            name, distance = weight, found
    return name, distance


def _align(arm: _Arm, reference: _Arm, parameters: ParameterMap) -> None:
    """Give an arm the reference's weights and optimizer state."""
    theirs = dict(arm.subject.policy.named_parameters())
    candidate = arm.subject.side == "candidate"

    def laid_out(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return parameters.to_candidate(values, theirs) if candidate else dict(values)

    with torch.no_grad():
        for name, value in laid_out(reference.weights()).items():
            theirs[name].copy_(value)
    state = reference.trainer.optimizer.state_dict()
    found: dict[str, dict[str, Any]] = {name: {} for name in theirs}
    for key in {key for entries in state.values() for key in entries}:
        held = {name: entries[key] for name, entries in state.items() if key in entries}
        shaped = {name: value for name, value in held.items() if isinstance(value, Tensor) and value.dim()}
        if shaped:
            whole = {name: shaped.get(name, torch.zeros_like(value)) for name, value in reference.weights().items()}
            of_whom = {source for name in shaped for source in _names(parameters, name, candidate)}
            for name, value in laid_out(whole).items():
                if name in of_whom:
                    found[name][key] = value.clone()
        else:  # counters: one per parameter, alike for all that a part of it
            for name, value in held.items():
                for target in _names(parameters, name, candidate):
                    found[target][key] = value.clone() if isinstance(value, Tensor) else value
    arm.trainer.optimizer.load_state_dict({name: entries for name, entries in found.items() if entries})


def _names(parameters: ParameterMap, reference_name: str, candidate: bool) -> tuple[str, ...]:
    return parameters.candidate_names(reference_name) if candidate else (reference_name,)
