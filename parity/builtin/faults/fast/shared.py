"""Faults in code that both sides share, which only a check against the contract can catch, and a few in the reference.

A fault of the facade leaves both sides alike; the report must say so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from tensordict import TensorDictBase
from torch import Tensor, nn

from parity.agents.component import fields
from parity.agents.component.memory import StateStore
from parity.agents.interface import MEMORY_C, MEMORY_H, TRUNCATEDS
from parity.agents.metta_agent import MettaAgent
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

FACADE = "seed document: MettaAgent hands everything on to either policy"

_of_both = partial(CATALOGUE.fault, place="both")
_of_reference = partial(CATALOGUE.fault, place="reference")


def _configured(patcher: Patcher, **fixed: Any) -> None:
    """Build both sides from a config with the given keys."""

    def make(build: Callable[..., None]) -> Callable[..., None]:
        def alter(self: MettaAgent, environment: Any, system: Any, config: Any) -> None:
            build(self, environment, system, dataclasses.replace(config, **fixed))

        return alter

    patcher.wrap(MettaAgent, "__init__", make)


# The facade


@_of_both(origin="seed document: config not passed", check="construction", component="clip_range", phase="build")
def facade_drops_clip_range(patcher: Patcher) -> None:
    """Neither policy hears of clip_range."""
    _configured(patcher, clip_range=0.0)


@_of_both(origin="seed document: extra keys dropped", check="construction", component="extra_config", phase="build")
def facade_drops_extra_keys(patcher: Patcher) -> None:
    """Unknown top-level keys reach neither policy."""
    _configured(patcher, extra={})


@_of_both(origin=FACADE, check="fields", component="experience spec", phase="build")
def facade_drops_memory_from_the_spec(patcher: Patcher) -> None:
    """The experience buffer is asked to keep neither policy's memory."""

    def make(original: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        return lambda self: {key: spec for key, spec in original(self).items() if key not in (MEMORY_H, MEMORY_C)}

    patcher.wrap(MettaAgent, "get_agent_experience_spec", make)


@_of_both(origin=FACADE, check="fields", component="a state argument", phase="forward")
def facade_drops_the_state_argument(patcher: Patcher) -> None:
    """A state that a caller hands in never reaches the policy, which would refuse it."""

    def forward(
        self: MettaAgent, td: TensorDictBase, state: object = None, action: Tensor | None = None
    ) -> TensorDictBase:
        return self.policy(td, None, action)

    patcher.attribute(MettaAgent, "forward", forward)


@_of_both(origin=FACADE, check="actions", component="action conversion", phase="forward")
def facade_offsets_logit_indices(patcher: Patcher) -> None:
    """Logit indices asked of the facade count from 1."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, action: original(self, action) + 1

    patcher.wrap(MettaAgent, "convert_action_to_logit_index", make)


@_of_both(origin=FACADE, check="actions", component="action conversion", phase="forward", raises=True)
def facade_offsets_actions(patcher: Patcher) -> None:
    """The facade takes logit indices as counted from 1."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, index: original(self, index - 1)

    patcher.wrap(MettaAgent, "convert_logit_index_to_action", make)


@_of_both(origin=FACADE, check="memory", component="memory", phase="rollout")
def facade_keeps_memory_on_reset(patcher: Patcher) -> None:
    """The facade's reset_memory reaches neither policy."""
    patcher.attribute(MettaAgent, "reset_memory", lambda self: None)


@_of_both(origin=FACADE, check="memory", component="memory", phase="rollout")
def facade_resets_all_slices(patcher: Patcher) -> None:
    """The facade forwards reset_env_memory as reset_memory."""
    patcher.attribute(MettaAgent, "reset_env_memory", lambda self, env_id: self.policy.reset_memory())


@_of_both(origin="seed document: clip_weights missing", check="clipping", component="cnn1", phase="clip")
def facade_does_not_clip(patcher: Patcher) -> None:
    """The facade's clip_weights reaches neither policy."""
    patcher.attribute(MettaAgent, "clip_weights", lambda self: None)


@_of_both(origin=FACADE, check="clipping", component="l2_init_loss", phase="forward")
def facade_does_not_rebase(patcher: Patcher) -> None:
    """The facade's update_l2_init_weight_copy reaches neither policy."""
    patcher.attribute(MettaAgent, "update_l2_init_weight_copy", lambda self: None)


@_of_both(origin=FACADE, check="weight_metrics", component="critic_1", phase="metrics")
def facade_fixes_delta(patcher: Patcher) -> None:
    """Weight metrics always leave out 0.01, whatever delta is asked for."""
    patcher.attribute(
        MettaAgent, "compute_weight_metrics", lambda self, delta=0.01: self.policy.compute_weight_metrics()
    )


# The reference


@_of_reference(origin="seed document: reset_memory a no-op", check="forward", component="_core_", phase="sequence")
def reference_keeps_memory_on_reset(patcher: Patcher) -> None:
    """The reference forgets single slices only."""

    def forget(self: StateStore, env_id: int | None = None) -> None:
        self.states.pop(env_id, None)  # type: ignore[arg-type]

    patcher.attribute(StateStore, "forget", forget)


@_of_reference(
    origin="seed document: state not reset on truncated", check="forward", component="_core_", phase="forward"
)
def reference_forgets_truncateds(patcher: Patcher) -> None:
    """The reference resets on dones only."""

    def make(read: Callable[..., Any]) -> Callable[..., Any]:
        return lambda td, *given: read(td.exclude(TRUNCATEDS), *given)

    patcher.wrap(fields, "read_observations", make)


@_of_reference(
    origin="upstream history: ReLU missing after one layer", check="forward", component="fc1", phase="forward"
)
def reference_without_relu(patcher: Patcher) -> None:
    """The reference's fc1 has no ReLU."""

    def change(agent: MettaAgent) -> None:
        agent.policy.get_submodule("components.fc1").nonlinearity = nn.Identity()

    patcher.built("reference", change)
