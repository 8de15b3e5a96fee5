"""The experience buffer: segments for back-propagation through time, and prioritised sampling among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from parity.agents.errors import AgentError
from parity.agents.interface import (
    ACT_LOG_PROB,
    ACTIONS,
    DONES,
    MEMORY_C,
    MEMORY_H,
    TRUNCATEDS,
    VALUES,
    FieldSpec,
    Policy,
)
from parity.training.distributed import World

REWARDS = "rewards"

#: Kept once per segment, as it was before the segment's first step: nobody reads it at the others.
SEGMENT_KEYS = (MEMORY_H, MEMORY_C)

#: Keeps a segment without any advantage drawable, and the probabilities defined when all are such.
_PRIORITY_FLOOR = 1e-6


class ExperienceError(AgentError, ValueError):
    """What is stored or asked for does not fit the buffer; the message names the key or the sizes."""


@dataclass(frozen=True)
class Minibatch:
    """Some segments, with what the losses need. n segments of T steps.

    Attributes:
        inputs: the policy's entries, batch size ``[n, T]``.
        actions: ``[n, T, 2]`` int32.
        act_log_prob: ``[n, T]``, of those actions when they were taken; likewise ``values``.
        values: see ``act_log_prob``.
        rewards: ``[n, T]``; likewise ``dones``, ``truncateds``.
        dones: see ``rewards``.
        truncateds: see ``rewards``.
        advantages: ``[n, T]``.
        weights: ``[n, 1]``, importance weights of the segments.
        indices: ``[n]``, which segments of the buffer these are.
    """

    inputs: TensorDict
    actions: Tensor
    act_log_prob: Tensor
    values: Tensor
    rewards: Tensor
    dones: Tensor
    truncateds: Tensor
    advantages: Tensor
    weights: Tensor
    indices: Tensor


def experience_spec(policy: Policy) -> dict[str, FieldSpec]:
    """What is kept: the policy's own fields, and beside them what advantages and losses need."""
    dtype = next(policy.parameters()).dtype
    number, flag = FieldSpec((), dtype), FieldSpec((), torch.float32)
    return {
        **policy.get_agent_experience_spec(),
        REWARDS: flag,
        DONES: flag,
        TRUNCATEDS: flag,
        ACTIONS: FieldSpec((2,), torch.int32),
        ACT_LOG_PROB: number,
        VALUES: number,
    }


class Experience:
    """A ring of ``segments`` segments of ``horizon`` steps.

    Each agent fills a segment; when it is full, the slice of agents it was stored with takes the next segments of the
    ring, the oldest. Returns and advantages are not kept: they are computed when they are used.

    Args:
        spec: every field's shape behind ``[segments, horizon]`` and dtype; see ``experience_spec``.
        policy_keys: the fields that a minibatch hands to the policy.
        num_agents: agents that store.
        segments: a multiple of ``num_agents``.
        horizon: T.
        device: where the buffer lives.
        generator: what minibatches are drawn with, on the CPU.
        world: the ranks among which sampling probabilities are shared.

    Attributes:
        buffer: key -> ``[segments, horizon, ...]``, or ``[segments, ...]`` for ``SEGMENT_KEYS``.
    """

    def __init__(
        self,
        spec: Mapping[str, FieldSpec],
        policy_keys: tuple[str, ...],
        *,
        num_agents: int,
        segments: int,
        horizon: int,
        device: torch.device | str = "cpu",
        generator: torch.Generator,
        world: World | None = None,
    ) -> None:
        if min(num_agents, segments, horizon) < 1 or segments % num_agents:
            raise ExperienceError(
                f"{segments} segments of {horizon} steps for {num_agents} agents; give a horizon of at least 1 and a "
                "positive multiple of the agents as segments"
            )
        self.spec, self.policy_keys = dict(spec), policy_keys
        self.num_agents, self.segments, self.horizon = num_agents, segments, horizon
        self.generator, self.world = generator, world or World()
        self.device = torch.device(device)
        self.buffer: dict[str, Tensor] = {}
        for key, field in self.spec.items():
            lead = (segments,) if key in SEGMENT_KEYS else (segments, horizon)
            self.buffer[key] = torch.zeros(*lead, *field.shape, dtype=field.dtype, device=self.device)
        self.reset()

    def reset(self) -> None:
        """Begin a rollout: agent i fills segment i, and nothing counts as full."""
        self._row = torch.arange(self.num_agents, device=self.device)
        self._step = torch.zeros(self.num_agents, dtype=torch.int64)
        self._next_row = self.num_agents % self.segments
        self._full = 0

    @property
    def ready(self) -> bool:
        """Whether as many segments were filled since ``reset`` as there are."""
        return self._full >= self.segments

    def opens_segment(self, agents: slice) -> bool:
        """Whether the next step of these agents is their segment's first."""
        return self._step_of(agents) == 0

    def store(self, data: TensorDictBase, agents: slice) -> None:
        """Keep one step of a slice of agents: exactly the spec's keys; whatever else ``data`` holds is dropped.

        Args:
            data: batch size ``[n]``; ``SEGMENT_KEYS`` are read at a segment's first step only.
            agents: n consecutive agents, always sliced in the same way.

        Raises:
            ExperienceError: a key is missing or misshapen, or the slice does not fit; nothing is stored then.
        """
        step = self._step_of(agents)
        kept = {key: field for key, field in self.spec.items() if step == 0 or key not in SEGMENT_KEYS}
        count = agents.stop - agents.start
        for key, field in kept.items():
            value = data.get(key, None)
            if value is None:
                raise ExperienceError(
                    f"the step to store lacks {key!r}; it has {', '.join(map(str, sorted(data.keys())))}"
                )
            if value.shape != (count, *field.shape) or value.dtype != field.dtype:
                raise ExperienceError(
                    f"{key!r} is {value.dtype} of shape {list(value.shape)}; the experience keeps {field.dtype} of "
                    f"shape {[count, *field.shape]} for agents {agents.start} to {agents.stop - 1}"
                )
        rows = self._row[agents]
        for key in kept:
            where = rows if key in SEGMENT_KEYS else (rows, step)
            self.buffer[key][where] = data.get(key).to(self.device)
        self._step[agents] += 1
        if step + 1 == self.horizon:
            self._row[agents] = (self._next_row + torch.arange(count, device=self.device)) % self.segments
            self._step[agents] = 0
            self._next_row = (self._next_row + count) % self.segments
            self._full += count

    def probabilities(self, advantages: Tensor, alpha: float) -> Tensor:
        """Probability of each segment: the sum of its absolute advantages to the power ``alpha``, normalised.

        Args:
            advantages: ``[segments, horizon]``.
            alpha: 0 = uniform.

        Returns:
            ``[segments]``, on the CPU; over all ranks they sum to 1.
        """
        weights = advantages.abs().sum(dim=1).pow(alpha) + _PRIORITY_FLOOR
        return (weights / self.world.total(weights.sum())).cpu()

    def draw(self, probabilities: Tensor, count: int) -> Tensor:
        """Draw ``count`` different segments: int64 ``[count]``, on the CPU."""
        if not 1 <= count <= self.segments:
            raise ExperienceError(f"cannot draw {count} of {self.segments} segments; draw at least one and at most all")
        return torch.multinomial(probabilities, count, generator=self.generator)

    def minibatch(self, indices: Tensor, advantages: Tensor, probabilities: Tensor, beta: float) -> Minibatch:
        """Gather segments, with importance weights ``(segments * p) ** -beta`` (segments: of all ranks).

        Args:
            indices: int64 ``[n]``.
            advantages: ``[segments, horizon]``.
            probabilities: ``[segments]``, on the CPU.
            beta: 0 = no correction, 1 = full.
        """
        weights = (self.segments * self.world.size * probabilities[indices.cpu()]) ** -beta
        rows = indices.to(self.device)
        found = {key: tensor.index_select(0, rows) for key, tensor in self.buffer.items()}
        for key in SEGMENT_KEYS:
            if key in found:
                lead = (len(rows), self.horizon)
                found[key] = found[key].unsqueeze(1).expand(*lead, *self.spec[key].shape)
        inputs = TensorDict({key: found[key] for key in self.policy_keys}, batch_size=[len(rows), self.horizon])
        return Minibatch(
            inputs=inputs,
            actions=found[ACTIONS],
            act_log_prob=found[ACT_LOG_PROB],
            values=found[VALUES],
            rewards=found[REWARDS],
            dones=found[DONES],
            truncateds=found[TRUNCATEDS],
            advantages=advantages.index_select(0, rows),
            weights=weights.to(self.device).unsqueeze(1),
            indices=indices,
        )

    def _step_of(self, agents: slice) -> int:
        fits = agents.step in (None, 1) and 0 <= agents.start < agents.stop <= self.num_agents
        steps = self._step[agents].unique().tolist() if fits else []
        if len(steps) != 1:
            raise ExperienceError(
                f"agents {agents} of {self.num_agents} are no slice at one step (theirs: {steps}); store the same "
                "slices of agents in every step"
            )
        return steps[0]
