"""Faults in the shared trainer's rollout, experience and order of an update; and rewrites that change nothing.

Parity sees none of them: both sides train wrongly in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from tensordict import TensorDictBase

from parity.agents.interface import FieldSpec
from parity.builtin.faults.edits import edit
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher
from parity.training import trainer
from parity.training.experience import SEGMENT_KEYS, Experience
from parity.training.trainer import Trainer

SEED_DOCUMENT = "seed document: the trainer's order of calls"
TRACKERS = "other projects' trackers"
PPO = "PPO implementations: a detail left out"

_fault = partial(CATALOGUE.fault, place="both", check="experience")
_calls = partial(_fault, component="order of calls", phase="update", origin=SEED_DOCUMENT)


# The rollout


@_fault(origin=f"{TRACKERS}: PPO ratio not 1 at step 0", component="memory_h", phase="rollout")
def memory_before_a_segment_not_stored(patcher: Patcher) -> None:
    """Training begins every segment from an empty memory."""
    edit(patcher, Trainer, "_memory", "if state is None", "if True")


@_fault(origin=f"{TRACKERS}: PPO ratio not 1 at step 0", component="dones", phase="rollout")
def dones_not_stored(patcher: Patcher) -> None:
    """The policy sees where episodes end, and training does not."""
    edit(patcher, Trainer, "_act_on", "td.update(memory)", "td.update({**memory, DONES: td[DONES] * 0})")


@_calls()
def memory_not_reset_before_the_rollout(patcher: Patcher) -> None:
    """A rollout begins in the memory that the one before ended in."""
    edit(patcher, Trainer, "rollout", "self.policy.reset_memory()", "pass")


@_fault(origin="seed document: state shared across slices", component="training_env_id_start", phase="rollout")
def slices_share_a_memory(patcher: Patcher) -> None:
    """Every slice of agents is acted for under the number of the first."""
    edit(patcher, Trainer, "_act_on", " + agents.start", "")


@_fault(origin=f"{TRACKERS}: batch order mixed up", component="actions", phase="rollout")
def actions_of_slices_mixed_up(patcher: Patcher) -> None:
    """The environment gets the last slice's actions first."""
    edit(patcher, Trainer, "rollout", "torch.cat(actions)", "torch.cat(actions[::-1])")


@_fault(phase="forward", origin=f"{TRACKERS}: PPO ratio not 1 at step 0", component="ratio")
def minibatch_evaluated_without_memory(patcher: Patcher) -> None:
    """The stored memory is handed over and not used."""
    edit(patcher, Trainer, "_losses", "minibatch.inputs,", "minibatch.inputs.exclude(MEMORY_H, MEMORY_C),")


# The experience


@_fault(origin="seed document: extra keys", component="kept keys", phase="build")
def experience_keeps_an_extra_key(patcher: Patcher) -> None:
    """What the policy notes for itself is stored with each step."""

    def make(original: Callable[..., dict[str, FieldSpec]]) -> Callable[..., dict[str, FieldSpec]]:
        return lambda policy: {**original(policy), "bptt": FieldSpec((), torch.int64)}

    patcher.wrap(trainer, "experience_spec", make)


@_fault(origin=f"{TRACKERS}: buffers that share memory", component="env_obs", phase="store")
def experience_shares_the_step(patcher: Patcher) -> None:
    """A step is read when the next one is stored, by when it may have changed."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def store(self: Any, data: TensorDictBase, agents: slice) -> None:
            for where, late in self.__dict__.pop("late", ()):
                for key in late.keys() & self.buffer.keys():
                    if key not in SEGMENT_KEYS:
                        self.buffer[key][where] = late[key]
            where = self._row[agents].clone(), self._step_of(agents)
            original(self, data, agents)
            self.late = [(where, data)]

        return store

    patcher.wrap(Experience, "store", make)


@_fault(origin="array ring buffers: wrap-around off by one", component="env_obs", phase="store")
def ring_wraps_one_segment_late(patcher: Patcher) -> None:
    """After the last segment the ring goes on with the second."""
    old = "self._next_row = (self._next_row + count) % self.segments"
    new = "self._next_row += count\n        if self._next_row >= self.segments:\n            self._next_row = 1"
    edit(patcher, Experience, "store", old, new)


@_fault(origin="upstream history: segments of two slices mixed", component="env_obs", phase="store")
def slices_fill_the_same_segments(patcher: Patcher) -> None:
    """Slices that finish a segment together are given the same next ones."""
    edit(patcher, Experience, "store", "self._next_row = (self._next_row + count) % self.segments", "pass")


@_fault(origin="error messages: a bare KeyError", component="a step without act_log_prob", phase="build")
def step_stored_in_part(patcher: Patcher) -> None:
    """A key that is missing leaves what was stored before it."""
    edit(patcher, Experience, "store", "for key, field in kept.items():", "for key, field in list(kept.items())[:1]:")


# The update


@_calls()
def memory_not_reset_before_the_minibatch(patcher: Patcher) -> None:
    """A minibatch is evaluated with the rollout's memory still there."""
    edit(patcher, Trainer, "_minibatch", "policy.reset_memory()", "pass")


@_calls()
def weights_never_clipped(patcher: Patcher) -> None:
    """The trainer does not ask for clipping."""
    edit(patcher, Trainer, "_minibatch", "policy.clip_weights()", "pass")


@_calls()
def weights_clipped_before_the_step(patcher: Patcher) -> None:
    """Weights are clipped first and changed after that."""
    step = "self.optimizer.step()\n        self.observer.on_step(self.updates, number, policy)"
    clip = "policy.clip_weights()"
    edit(patcher, Trainer, "_minibatch", f"{step}\n        {clip}", f"{clip}\n        {step}")


@_calls()
def initial_weights_never_renewed(patcher: Patcher) -> None:
    """The copy that l2-init pulls to is never updated."""
    edit(patcher, Trainer, "update", "self.policy.update_l2_init_weight_copy()", "pass")


@_fault(origin=f"{TRACKERS}: gradient clip before accumulation", component="gradients", phase="backward")
def gradients_clipped_before_accumulation(patcher: Patcher) -> None:
    """Each minibatch's gradient is clipped, and their sum as well."""
    old = "self.observer.on_backward(self.updates, number, policy)"
    new = f"{old}\n    nn.utils.clip_grad_norm_(policy.parameters(), config.ppo.max_grad_norm)"
    edit(patcher, Trainer, "_minibatch", old, new)


@_fault(origin=f"{TRACKERS}: zero_grad missing", component="gradients", phase="backward")
def gradients_never_forgotten(patcher: Patcher) -> None:
    """Gradients add up from step to step."""
    edit(patcher, Trainer, "_minibatch", "self.optimizer.zero_grad()", "pass")


@_fault(origin=f"{TRACKERS}: gradient clip missing", component="gradients", phase="optimizer step")
def gradients_never_clipped(patcher: Patcher) -> None:
    """The norm is measured and not held."""
    edit(
        patcher,
        Trainer,
        "_minibatch",
        "nn.utils.clip_grad_norm_(policy.parameters(), config.ppo.max_grad_norm)",
        "nn.utils.get_total_norm([p.grad for p in policy.parameters() if p.grad is not None])",
    )


@_fault(phase="backward", origin=PPO, component="act_log_prob gradient")
def loss_not_divided_by_accumulation(patcher: Patcher) -> None:
    """Two accumulated minibatches make a step of twice the size."""
    edit(patcher, Trainer, "_minibatch", "(losses.total / accumulate)", "losses.total")


@_fault(phase="forward", origin=PPO, component="target_kl")
def target_kl_ignored(patcher: Patcher) -> None:
    """An update goes on however far the policy has moved."""
    patcher.attribute(Trainer, "_diverged", lambda self, epoch: False)


# Rewrites that change nothing


@CATALOGUE.control(why="gradients that are forgotten are forgotten")
def gradients_forgotten_twice(patcher: Patcher) -> None:
    """Gradients are also dropped as soon as the step is done."""
    edit(patcher, Trainer, "_minibatch", "policy.clip_weights()", "policy.clip_weights()\n        policy.zero_grad()")


@CATALOGUE.control(why="the same cells, one agent after the other")
def steps_stored_agent_by_agent(patcher: Patcher) -> None:
    """Each agent's row is written on its own."""
    each = "where = rows[n] if key in SEGMENT_KEYS else (rows[n], step)\n            self.buffer[key][where]"
    old = "self.buffer[key][where] = data.get(key).to(self.device)"
    edit(patcher, Experience, "store", old, f"for n in range(count):\n            {each} = data.get(key)[n]")
