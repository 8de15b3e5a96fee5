"""Checkpoints: one safetensors file each, with a JSON description and a checksum, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from parity.agents.errors import AgentError, ConfigError
from parity.agents.interface import EnvironmentDescription, Policy
from parity.agents.metta_agent import MettaAgent
from parity.environments.interface import Step
from parity.training.trainer import Trainer

FORMAT = "parity-checkpoint/1"
_METADATA_KEY = "checkpoint"  # one key only: safetensors keeps several in no fixed order
_NAME = "update_{:08d}.safetensors"
_DESCRIPTION = {
    "agent": str,
    "updates": int,
    "agent_steps": int,
    "rank": list,
    "config": dict,
    "feature_mapping": dict,
    "action_rows": dict,
    "sha256": str,
}
#: What a resumed run may do otherwise: none of it changes what is computed up to the end of the shorter run, save that
#: the importance exponent is annealed over ``total_updates``.
_MAY_CHANGE = ("total_updates", "checkpoint_interval", "compile")
_REMEDY = "give an intact checkpoint of this run"


class CheckpointError(AgentError, ValueError):
    """A checkpoint cannot be written, or is damaged, foreign or of something else; the message names the file."""


@dataclass(frozen=True, eq=False)
class PolicyRecord:
    """A policy with a checkpoint's weights, and what it takes to bring it to an environment.

    Attributes:
        policy: the policy that was loaded into.
        path: the checkpoint.
        updates: updates it was trained for; likewise ``agent_steps``.
        agent_steps: see ``updates``.
        feature_mapping: feature name -> id, as the policy learned them.
        action_rows: full action name -> row of the embedding table.
    """

    policy: Policy
    path: Path
    updates: int
    agent_steps: int
    feature_mapping: Mapping[str, int]
    action_rows: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class _Checkpoint:
    path: Path
    description: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}

    def error(self, problem: str) -> CheckpointError:
        return CheckpointError(f"{self.path}: {problem}; {_REMEDY}")


class CheckpointManager:
    """A run's checkpoints in one folder; with several ranks, each has a folder of its own.

    Args:
        directory: created when the first checkpoint is written.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)

    def latest(self) -> Path | None:
        """The checkpoint after the most updates, None when there is none; unfinished files do not count."""
        return max(self.directory.glob("update_*.safetensors"), default=None)

    def save(self, trainer: Trainer) -> Path:
        """Write a checkpoint named after the updates done.

        A process killed at any time leaves either a whole checkpoint or none, and those before it as they were.

        Raises:
            CheckpointError: there is one of that name already, or the file system refuses.
        """
        path = self.directory / _NAME.format(trainer.updates)
        if path.exists():
            raise CheckpointError(f"{path}: exists, and is not overwritten; resume from it, or give another folder")
        tensors = _tensors(trainer)
        description: dict[str, Any] = {
            "format": FORMAT,
            "agent": _agent(trainer.policy),
            "updates": trainer.updates,
            "agent_steps": trainer.agent_steps,
            "rank": [trainer.world.rank, trainer.world.size],
            "config": asdict(trainer.config),
            "feature_mapping": trainer.policy.original_feature_mapping(),
            "action_rows": trainer.policy.action_rows(),
        }
        description["sha256"] = _checksum(tensors, description)
        content = save(tensors, metadata={_METADATA_KEY: json.dumps(description)})
        try:
            _write(path, content)
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be written ({error}); check the folder and its space") from error
        return path

    def resume(self, trainer: Trainer, path: Path | None = None) -> Path | None:
        """Bring ``trainer`` to where a checkpoint (by default the latest) was taken, to go on bit for bit.

        Its policy must be initialised as the run's was at its start. The experience is not stored: every rollout
        begins with an empty one.

        Returns:
            The checkpoint, None when there is none yet.

        Raises:
            CheckpointError: it is damaged, or of another agent, configuration, rank or environment; the trainer is as
                it was then.
        """
        path = path or self.latest()
        if path is None:
            return None
        found = _read(path)
        _require_agent(found, trainer.policy)
        _require_run(found, trainer)
        optimizer = _optimizer_state(found, trainer)
        try:
            trainer.environment.load_state_dict(found.part("environment"))
        except ConfigError as error:
            raise found.error(f"its environment does not fit ({error})") from error
        policy = trainer.policy
        policy.load_state_dict(found.part("policy"))
        mapping, rows = found.description["feature_mapping"], found.description["action_rows"]
        kept = (policy.original_feature_mapping(), policy.action_rows())
        if kept != (mapping, rows):
            _adopt(policy, mapping, rows, trainer.environment.description)
        policy.reset_memory()
        trainer.optimizer.load_state_dict(optimizer)
        random = found.part("random")
        trainer.experience.generator.set_state(random.pop("minibatches"))
        trainer.random.state = random
        trainer.step = Step(**found.part("step"))
        trainer.updates, trainer.agent_steps = found.description["updates"], found.description["agent_steps"]
        return path


def load_policy(path: Path | str, policy: Policy) -> PolicyRecord:
    """Load a checkpoint's weights into a policy built from the same agent YAML.

    Raises:
        CheckpointError: the file is damaged or foreign, or of another agent; the policy is as it was then.
    """
    found = _read(Path(path))
    _require_agent(found, policy)
    policy.load_state_dict(found.part("policy"))
    keys = ("updates", "agent_steps", "feature_mapping", "action_rows")
    return PolicyRecord(policy, found.path, **{key: found.description[key] for key in keys})


def initialize_policy_for_environment(
    record: PolicyRecord, environment: EnvironmentDescription, *, restore_feature_mapping: bool = True
) -> Policy:
    """Initialise a loaded policy to an environment: each action keeps its embedding row, each feature its id.

    Args:
        record: from ``load_policy``.
        environment: need not be the one it was trained in.
        restore_feature_mapping: whether features keep the ids of the checkpoint; otherwise the policy goes by what it
            has stored itself, which in a new policy is nothing: it then takes the environment's ids as they are.

    Returns:
        The record's policy.
    """
    mapping = record.feature_mapping if restore_feature_mapping else None
    _adopt(record.policy, mapping, record.action_rows, environment)
    return record.policy


def _adopt(
    policy: Policy, mapping: Mapping[str, int] | None, rows: Mapping[str, int], environment: EnvironmentDescription
) -> None:
    if mapping is not None:
        policy.restore_original_feature_mapping(mapping)
    policy.restore_action_rows(rows)
    policy.initialize_to_environment(environment)


def _agent(policy: Policy) -> str:
    return type(policy.policy if isinstance(policy, MettaAgent) else policy).__name__


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Everything that decides the rest of the run, flat, on the CPU; no two share memory."""
    parts: dict[str, Mapping[str, Tensor]] = {
        "policy": trainer.policy.state_dict(),
        "optimizer": {
            f"{name}.{key}": value
            for name, state in trainer.optimizer.state_dict().items()
            for key, value in state.items()
        },
        "environment": trainer.environment.state_dict(),
        "step": {item.name: getattr(trainer.step, item.name) for item in fields(trainer.step)},
        "random": {**trainer.random.state, "minibatches": trainer.experience.generator.get_state()},
    }
    return {
        f"{part}.{key}": value.cpu().clone(memory_format=torch.contiguous_format)
        for part, content in parts.items()
        for key, value in content.items()
    }


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    with open(unfinished, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the new name itself must outlast a crash
    finally:
        os.close(folder)


def _read(path: Path) -> _Checkpoint:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    try:
        tensors = load(content)
        size = int.from_bytes(content[:8], "little")
        text = (json.loads(content[8 : 8 + size]).get("__metadata__") or {})[_METADATA_KEY]
        description = json.loads(text)
    except KeyError as error:
        raise CheckpointError(f"{path}: a safetensors file, but no checkpoint; {_REMEDY}") from error
    except (SafetensorError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: truncated or no safetensors file ({error}); {_REMEDY}") from error
    form = description.get("format") if isinstance(description, dict) else description
    if form != FORMAT:
        raise CheckpointError(f"{path}: its format is {form!r}, this version reads {FORMAT!r}; {_REMEDY}")
    for key, kind in _DESCRIPTION.items():
        if not isinstance(description.get(key), kind):
            raise CheckpointError(f"{path}: its description has {key} = {description.get(key)!r:.80}; {_REMEDY}")
    if _checksum(tensors, description) != description["sha256"]:
        raise CheckpointError(f"{path}: corrupt, its content does not match its checksum; {_REMEDY}")
    return _Checkpoint(path, description, tensors)


def _require_agent(found: _Checkpoint, policy: Policy) -> None:
    if found.description["agent"] != _agent(policy):
        raise found.error(f"of agent {found.description['agent']}, not {_agent(policy)}")
    stored, expected = found.part("policy"), policy.state_dict()
    different = sorted(stored.keys() ^ expected.keys())
    if different:
        owner = "the checkpoint" if different[0] in stored else "the policy"
        raise found.error(f"of another {_agent(policy)}: only {owner} has {different[0]!r}")
    for name, value in expected.items():
        _require_same(found, name, stored[name], value)


def _require_run(found: _Checkpoint, trainer: Trainer) -> None:
    rank = [trainer.world.rank, trainer.world.size]
    if found.description["rank"] != rank:
        raise found.error(f"of [rank, ranks] {found.description['rank']}, not {rank}")
    stored = _flat(found.description["config"])
    for key, value in _flat(asdict(trainer.config)).items():
        if key not in _MAY_CHANGE and stored.get(key) != value:
            raise found.error(f"of a run with {key} {stored.get(key)!r}, not {value!r}")
    for name in ("observations", "rewards", "dones", "truncateds"):
        _require_same(found, f"step.{name}", found.tensors.get(f"step.{name}"), getattr(trainer.step, name))
    expected = {*trainer.random.state, "minibatches"}
    if found.part("random").keys() != expected:
        raise found.error(f"its generators are {sorted(found.part('random'))}, not {sorted(expected)}")


def _optimizer_state(found: _Checkpoint, trainer: Trainer) -> dict[str, dict[str, Tensor]]:
    parameters = dict(trainer.policy.named_parameters())
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in found.part("optimizer").items():
        name, _, entry = key.rpartition(".")
        if name not in parameters:
            raise found.error(f"its optimizer knows a parameter {name!r} that the policy lacks")
        if value.dim():
            _require_same(found, f"optimizer.{key}", value, parameters[name])
        states.setdefault(name, {})[entry] = value
    return states


def _require_same(found: _Checkpoint, name: str, stored: Tensor | None, expected: Tensor) -> None:
    if stored is None or stored.shape != expected.shape or stored.dtype != expected.dtype:
        given = "missing" if stored is None else f"{stored.dtype} {list(stored.shape)}"
        raise found.error(f"{name!r} is {given}, not {expected.dtype} {list(expected.shape)}")


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _checksum(tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> str:
    """SHA-256 over the description (save the sum itself) and the tensors: safetensors notices no changed byte."""
    described = {key: value for key, value in description.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(described).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
