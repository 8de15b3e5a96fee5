"""A training that goes on from its own checkpoint, beside the one that wrote it and was never stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tensordict import TensorDictBase
from torch import Tensor, nn

from parity.agents.interface import ACTIONS, DONES, ENV_OBS, TRUNCATEDS, VALUES, EnvironmentDescription
from parity.checks.case import Case
from parity.compare.trace import Trace
from parity.pairs.subjects import Subject

T = TypeVar("T")

#: Four agents in two slices, two segments each, all of the trainer's state in use.
SETTINGS: Mapping[str, Any] = {
    "num_agents": 4,
    "bptt_horizon": 2,
    "batch_size": 16,
    "minibatch_size": 8,
    "forward_pass_minibatch": 2,
    "ppo": {"l2_init_loss_coef": 0.01},
    "prioritized_experience_replay": {"prio_alpha": 0.6, "prio_beta0": 0.2},
}
#: A run of other settings is no run to go on with, but its policy can be loaded.
OTHER_RUNS: Mapping[str, Mapping[str, Any]] = {
    "a run of another learning rate": {"optimizer": {"learning_rate": 0.01}},
    "a run of another seed": {"seed": 2**20},
    "a run of another discount": {"ppo": {**SETTINGS["ppo"], "gamma": 0.123}},
    "a run of more agents": {"num_agents": 8, "batch_size": 64},
    "a run of another optimizer": {"optimizer": {"type": "adam", "eps": 0.5}},
}


def record_state(case: Case, subject: Subject, policy: Any, trace: Trace) -> None:
    """Everything that a policy's checkpoint should hold, bit by bit; buffers have no names that both sides share."""
    trace.judged = "exact"
    trace.fact("entries that share memory", _sharing(policy), component="aliasing")
    trace.fact("original_feature_mapping", policy.original_feature_mapping())
    trace.fact("action_rows", policy.action_rows())
    _record_weights(case, subject, policy, trace)
    kept = policy.state_dict()
    buffers = ((name, value) for name, value in policy.named_buffers() if name in kept)
    for component, value in _in_order(case, subject.side, buffers):
        trace.record("buffer", value, component=component)


def _record_weights(case: Case, subject: Subject, policy: nn.Module, trace: Trace) -> None:
    for name, value in subject.to_reference(dict(policy.named_parameters())).items():
        trace.record(name, value, component=case.pair.home(name))


def _in_order(case: Case, side: str, named: Iterable[tuple[str, T]]) -> list[tuple[str, T]]:
    """Component and value, in the components' order, whatever order a side registers them in."""
    order = {home: number for number, home in enumerate(case.pair.paths(side))}
    homes = [(case.pair.home(name, side), value) for name, value in named]
    return sorted(homes, key=lambda entry: order.get(entry[0], len(order)))


def _sharing(policy: nn.Module) -> list[list[str]]:
    """Parameters and buffers, by name, that are views of one storage."""
    owners: dict[int, list[str]] = {}
    for name, value in policy.state_dict().items():
        if value.numel():
            owners.setdefault(value.untyped_storage().data_ptr(), []).append(name)
    return [names for names in owners.values() if len(names) > 1]


class _Watch:
    """Records all that happens from an update on, to be compared bit by bit."""

    def __init__(self, case: Case, subject: Subject, trace: Trace) -> None:
        self.case, self.subject, self.trace = case, subject, trace

    def begin(self, update: int, *, heard: bool) -> None:
        """Move the cursor to an update."""
        self.trace.update, self.trace.minibatch, self.trace.phase = update, None, "rollout"
        self.trace.muted = not heard

    def on_rollout_step(self, update: int, step: int, td: TensorDictBase) -> None:
        """What the environment showed, and what the policy did."""
        self.trace.step = step
        for key in (ENV_OBS, DONES, TRUNCATEDS):
            self.trace.record(key, td[key], component="environment")
        self.trace.record(VALUES, td[VALUES])
        self.trace.record(ACTIONS, td[ACTIONS])

    def on_advantages(self, update: int, advantages: Tensor, probabilities: Tensor) -> None:
        """What the experience came to."""
        self.trace.step, self.trace.phase = None, "advantages"
        self.trace.record("advantages", advantages)
        self.trace.record("sampling probabilities", probabilities)

    def on_minibatch(self, update: int, minibatch: int, data: Any, losses: Any) -> None:
        """Which segments, and the losses."""
        self.trace.minibatch, self.trace.phase = minibatch, "forward"
        self.trace.record("indices", data.indices)
        for name, value in losses.detached().items():
            self.trace.record(name, value, component="losses")

    def on_backward(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """Nothing."""

    def on_step(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """Weights."""
        self.trace.phase = "optimizer step"
        _record_weights(self.case, self.subject, policy, self.trace)

    def on_clip(self, update: int, minibatch: int, policy: nn.Module) -> None:
        """Weights."""
        self.trace.phase = "clip"
        _record_weights(self.case, self.subject, policy, self.trace)

    def on_update(self, update: int, metrics: Mapping[str, Any]) -> None:
        """Figures, less those of a clock."""
        self.trace.minibatch, self.trace.phase = None, "metrics"
        self.trace.fact("metrics", {key: value for key, value in metrics.items() if "seconds" not in key})


class Resuming:
    """Updates of one side: ``uninterrupted`` writes checkpoints on the way, ``resumed`` goes on from the last.

    Args:
        case: the cell being judged.
        environment: where both train.
        settings: of both trainings; ``total_updates`` is where they end.
        updates: how many there are before the checkpoint, and how many after it, up to the end.
        folder: for checkpoints.
        fresh: another policy of a subject's kind, built for the environment, with other weights.
    """

    def __init__(
        self,
        case: Case,
        environment: EnvironmentDescription,
        settings: Mapping[str, Any],
        updates: Sequence[int],
        folder: Path,
        fresh: Callable[[Subject], Any],
    ) -> None:
        assert case.pair.training is not None, "the capability says that there is one"
        self.case, self.training, self.environment, self.settings = case, case.pair.training, environment, settings
        self.updates, self.folder, self.fresh = updates, folder, fresh
        self._folders: dict[tuple[str, int | None], Path] = {}
        self._resumed = False

    def uninterrupted(self, subject: Subject, trace: Trace) -> None:
        """All updates; the policy has seen another environment before."""
        watch, self._resumed = _Watch(self.case, subject, trace), False
        subject.policy.initialize_to_environment(self.environment)
        trainer = self.training.start(subject.policy, self.environment, self.settings, watcher=watch)
        watch.begin(0, heard=False)
        folder = self.folder / subject.side / str(subject.nudge)  # neither is there yet
        self.training.save(trainer, folder)
        for _ in trainer.run(self.updates[0]):
            pass
        self.training.save(trainer, folder)
        self._folders[subject.side, subject.nudge] = folder
        self._go_on(subject, subject.policy, trace, trainer, watch)

    def resumed(self, subject: Subject, trace: Trace) -> None:
        """The updates after the later of two checkpoints, by another trainer of another policy."""
        watch, self._resumed = _Watch(self.case, subject, trace), True
        policy = self.fresh(subject)
        trace.phase = "resume"
        trainer = self.training.start(policy, self.environment, self.settings, watcher=watch)
        self.training.resume(trainer, self._folders[subject.side, subject.nudge])
        self._go_on(subject, policy, trace, trainer, watch)

    def _record_counts(self, trace: Trace, trainer: Any, updates: int, component: str = "") -> None:
        """How far a trainer came; whoever resumed is judged by what it must be, not by the other."""
        counts = {"updates": updates, "agent_steps": updates * self.settings["batch_size"]}
        for key, expected in counts.items():
            found = getattr(trainer, key)
            trace.fact(key, found if self._resumed else expected, component=component)

    def _go_on(self, subject: Subject, policy: Any, trace: Trace, trainer: Any, watch: _Watch) -> None:
        trace.muted, trace.phase = False, "resume"
        trace.update = trace.minibatch = trace.step = None
        record_state(self.case, subject, policy, trace)
        self._record_counts(trace, trainer, self.updates[0])
        states = trainer.optimizer.state_dict().items()
        for component, state in _in_order(self.case, subject.side, states):
            trace.fact("state", sorted(state), component=component)
            for key, value in state.items():
                (trace.record if isinstance(value, Tensor) else trace.fact)(key, value, component=component)
        watch.begin(trainer.updates, heard=True)
        start, spent = time.perf_counter(), 0.0
        for metrics in trainer.run():  # to the end, which both know from their settings
            watch.begin(trainer.updates, heard=True)
            spent += sum(value for key, value in metrics.items() if "seconds" in key)
        trace.fact("seconds fit into the time", 0 < spent <= time.perf_counter() - start, component="end of the run")
        self._record_counts(trace, trainer, sum(self.updates), "end of the run")
