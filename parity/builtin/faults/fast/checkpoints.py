"""Faults of checkpoints and copies, most of them in code that both sides share, and a harmless rewrite."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from parity.agents.metta_agent import MettaAgent
from parity.agents.pytorch.fast import Fast
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher
from parity.training import checkpoint
from parity.training.checkpoint import CheckpointManager
from parity.training.trainer import Trainer

TRACKERS = "other projects' trackers"
CONTENT = "documents: a checkpoint holds everything that decides the rest of the run"

_in_checkpoint = partial(CATALOGUE.fault, check="checkpoint", place="both")

# What a checkpoint holds


def _resuming(patcher: Patcher, spoil: Callable[[Trainer, Mapping[str, Any]], object]) -> None:
    """Spoil a trainer after it resumed; what it held before comes along."""

    def make(resume: Callable[..., Path | None]) -> Callable[..., Path | None]:
        def then(self: CheckpointManager, trainer: Trainer, path: Path | None = None) -> Path | None:
            before = {
                "random": trainer.random.state,
                "minibatches": trainer.experience.generator.get_state(),
                "environment": trainer.environment.state_dict(),
            }
            found = resume(self, trainer, path)
            spoil(trainer, before)
            return found

        return then

    patcher.wrap(CheckpointManager, "resume", make)


@_in_checkpoint(origin=f"{TRACKERS}: optimizer state lost on resume", component="cnn1", phase="resume")
def checkpoint_without_optimizer_state(patcher: Patcher) -> None:
    """Moments and steps are not in the file."""
    patcher.attribute(checkpoint, "_optimizer_state", lambda found, trainer: {})


@_in_checkpoint(origin=CONTENT, component="actions", phase="rollout")
def checkpoint_without_the_action_generator(patcher: Patcher) -> None:
    """A resumed run draws its actions as if it began."""
    _resuming(patcher, lambda trainer, before: setattr(trainer.random, "state", before["random"]))


@_in_checkpoint(origin=CONTENT, component="indices", phase="forward")
def checkpoint_without_the_minibatch_generator(patcher: Patcher) -> None:
    """A resumed run draws its minibatches as if it began."""
    _resuming(patcher, lambda trainer, before: trainer.experience.generator.set_state(before["minibatches"]))


@_in_checkpoint(origin=CONTENT, component="environment", phase="rollout")
def checkpoint_without_the_environment(patcher: Patcher) -> None:
    """A resumed run goes on in a new world, but for the observation that it saw last."""
    _resuming(patcher, lambda trainer, before: trainer.environment.load_state_dict(before["environment"]))


@_in_checkpoint(origin=CONTENT, component="updates", phase="resume")
def checkpoint_without_the_updates(patcher: Patcher) -> None:
    """A resumed run counts its updates from 0."""
    _resuming(patcher, lambda trainer, before: setattr(trainer, "updates", 0))


@_in_checkpoint(origin=CONTENT, component="losses", phase="forward")
def progress_of_the_importance_exponent_lost(patcher: Patcher) -> None:
    """The importance exponent is annealed from the resumption on."""

    def make(weigh: Callable[..., tuple[Any, Any, float]]) -> Callable[..., tuple[Any, Any, float]]:
        def anew(self: Any) -> tuple[Any, Any, float]:
            done, self.updates = self.updates, self.updates - getattr(self, "resumed_at", 0)
            found = weigh(self)
            self.updates = done
            return found

        return anew

    patcher.wrap(Trainer, "_weigh", make)
    _resuming(patcher, lambda trainer, before: setattr(trainer, "resumed_at", trainer.updates))


def _loading_less(patcher: Patcher, *endings: str) -> None:
    """Leave the policy's own value where an entry's name ends so."""

    def make(load: Callable[..., Any]) -> Callable[..., Any]:
        def less(self: MettaAgent, state: Mapping[str, Tensor], **options: Any) -> Any:
            own = self.state_dict()
            return load(self, {n: own[n] if n.endswith(endings) else value for n, value in state.items()}, **options)

        return less

    patcher.wrap(MettaAgent, "load_state_dict", make)


@_in_checkpoint(origin=CONTENT, component="cnn1", phase="load")
def checkpoint_without_clip_bounds(patcher: Patcher) -> None:
    """Bounds are those of the policy that is loaded into."""
    _loading_less(patcher, "initial_max")


@_in_checkpoint(origin=CONTENT, component="cnn1", phase="load")
def checkpoint_without_l2_anchors(patcher: Patcher) -> None:
    """The l2-init loss pulls to the weights of the policy that is loaded into."""
    _loading_less(patcher, "initial_weight", "l2_anchor")


@_in_checkpoint(
    origin="upstream history: clipping re-based on load",
    component="cnn1",
    phase="load",
    place="candidate",
)
def clip_bounds_rebased_on_load(patcher: Patcher) -> None:
    """Bounds follow from the weights that are loaded."""

    def make(load: Callable[..., Any]) -> Callable[..., Any]:
        def rebase(self: MettaAgent, state: Mapping[str, Tensor], **options: Any) -> Any:
            found = load(self, state, **options)
            if isinstance(self.policy, Fast):
                for stage in self.policy.stages():
                    stage.initial_max.copy_(stage.weight.detach().abs().max())
            return found

        return rebase

    patcher.wrap(MettaAgent, "load_state_dict", make)


def _adopting_less(patcher: Patcher, **kept: bool) -> None:
    """Bring a policy to an environment without its feature ids, or without its actions' rows."""

    def make(adopt: Callable[..., None]) -> Callable[..., None]:
        def less(policy: Any, mapping: Any, rows: Any, environment: Any) -> None:
            mapping = policy.original_feature_mapping() if kept.get("mapping") else mapping
            adopt(policy, mapping, policy.action_rows() if kept.get("rows") else rows, environment)

        return less

    patcher.wrap(checkpoint, "_adopt", make)


@_in_checkpoint(origin=CONTENT, component="original_feature_mapping", phase="load")
def checkpoint_without_feature_ids(patcher: Patcher) -> None:
    """Features have the ids of the policy that is loaded into."""
    _adopting_less(patcher, mapping=True)


@_in_checkpoint(origin=CONTENT, component="action_rows", phase="load")
def checkpoint_without_embedding_rows(patcher: Patcher) -> None:
    """Actions have the rows of the policy that is loaded into."""
    _adopting_less(patcher, rows=True)


@_in_checkpoint(
    origin=f"{TRACKERS}: a checkpoint in memory refers to the live weights", component="cnn1", phase="resume"
)
def checkpoint_follows_the_live_weights(patcher: Patcher) -> None:
    """The file is written again, from what was handed over for it, after each further update."""

    def save(original: Callable[..., Path]) -> Callable[..., Path]:
        def remember(self: CheckpointManager, trainer: Any) -> Path:
            path = trainer.written = original(self, trainer)
            return path

        return remember

    def update(original: Callable[..., Any]) -> Callable[..., Any]:
        def rewrite(self: Any) -> Any:
            found = original(self)
            path = getattr(self, "written", None)
            if path is not None:
                described = checkpoint._read(path).description
                tensors = {**checkpoint._read(path).tensors, **_of_policy(self)}
                described = {**described, "sha256": checkpoint._checksum(tensors, described)}
                metadata = {checkpoint._METADATA_KEY: json.dumps(described)}
                path.write_bytes(checkpoint.save(tensors, metadata=metadata))
            return found

        return rewrite

    def _of_policy(trainer: Trainer) -> dict[str, Tensor]:
        return {name: value for name, value in checkpoint._tensors(trainer).items() if name.startswith("policy.")}

    patcher.wrap(CheckpointManager, "save", save)
    patcher.wrap(Trainer, "update", update)


@_in_checkpoint(origin=f"{TRACKERS}: weights tied by aliasing", component="aliasing", phase="load", place="candidate")
def weights_tied_by_loading(patcher: Patcher) -> None:
    """The LSTM's biases of a layer become one parameter's memory when they are loaded."""

    def make(load: Callable[..., Any]) -> Callable[..., Any]:
        def tie(self: MettaAgent, state: Mapping[str, Tensor], **options: Any) -> Any:
            found = load(self, state, **options)
            if isinstance(self.policy, Fast):
                lstm: Any = self.policy.core.lstm
                lstm.bias_hh_l0.data = lstm.bias_ih_l0.data
            return found

        return tie

    patcher.wrap(MettaAgent, "load_state_dict", make)


@_in_checkpoint(
    origin="documents: a damaged checkpoint is refused", component="resume from a corrupt file", phase="load"
)
def checksum_not_looked_at(patcher: Patcher) -> None:
    """Changed bytes go unnoticed."""
    patcher.attribute(checkpoint, "_checksum", lambda tensors, description: "0" * 64)


@_in_checkpoint(
    origin="documents: a foreign checkpoint is refused", component="resume from another agent's", phase="load"
)
def agents_not_compared(patcher: Patcher) -> None:
    """Another agent's weights are refused by torch when some are loaded, if at all."""
    patcher.attribute(checkpoint, "_require_agent", lambda found, policy: None)


@_in_checkpoint(origin="a mutant of the trainer", component="resume from a run of another learning rate", phase="load")
def runs_not_compared(patcher: Patcher) -> None:
    """A run goes on from another's checkpoint, whatever its settings were."""
    patcher.attribute(checkpoint, "_require_run", lambda found, trainer: None)


@_in_checkpoint(
    origin=f"{TRACKERS}: a copy shares what its original goes on to write",
    component="values",
    phase="deep copy",
    place="candidate",
)
def deep_copy_shares_memory(patcher: Patcher) -> None:
    """A copy of the agent remembers what its original sees."""

    class Shared(dict[int, tuple[Tensor, Tensor]]):
        def __deepcopy__(self, memo: object) -> Shared:
            return self

    def change(agent: Any) -> None:
        agent.policy._states = Shared()

    patcher.built("candidate", change)


# A harmless rewrite


@CATALOGUE.control(why="tensors are known by name, and the checksum goes through them in the order of names")
def checkpoint_entries_backwards(patcher: Patcher) -> None:
    """A checkpoint's tensors are gathered last first."""

    def make(gather: Callable[..., dict[str, Tensor]]) -> Callable[..., dict[str, Tensor]]:
        return lambda trainer: dict(reversed(gather(trainer).items()))

    patcher.wrap(checkpoint, "_tensors", make)
