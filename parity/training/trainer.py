"""The training loop: rollouts into the experience, then epochs of PPO over it, the same for every policy."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn

from parity.agents.errors import ConfigError
from parity.agents.interface import (
    ACT_LOG_PROB,
    ACTIONS,
    DONES,
    ENV_ID_START,
    ENV_OBS,
    FULL_LOG_PROBS,
    MEMORY_C,
    MEMORY_H,
    TRUNCATEDS,
    VALUES,
    Policy,
)
from parity.agents.metta_agent import DistributedMettaAgent
from parity.environments.interface import Step, VectorEnvironment
from parity.training.advantage import compute_advantages
from parity.training.config import TrainerConfig
from parity.training.distributed import World
from parity.training.experience import REWARDS, Experience, Minibatch, experience_spec
from parity.training.losses import Losses, ppo_losses
from parity.training.observer import Replay, TrainingObserver
from parity.training.optimizers import Optimizer
from parity.training.random_stream import RandomStream, derived_seed


class Trainer:
    """Trains one policy on one environment.

    The policy's mode (train or eval) is left as it is. Nothing is drawn outside the trainer's own generators, all of
    which ``config.seed`` decides, so trainers may take turns in one process.

    Args:
        policy: built and initialised to the environment; several ranks need a ``DistributedMettaAgent``.
        environment: is reset here.
        config: see ``TrainerConfig``.
        observer: is told of every step.
        replay: another run's random choices, to be made here too.
        world: this process among its peers.

    Attributes:
        updates: updates done.
        agent_steps: agent-steps gathered, by this rank.

    Raises:
        ConfigError: policy, environment and config do not fit together.
    """

    def __init__(
        self,
        policy: Policy | DistributedMettaAgent,
        environment: VectorEnvironment,
        config: TrainerConfig,
        *,
        observer: TrainingObserver | None = None,
        replay: Replay | None = None,
        world: World | None = None,
    ) -> None:
        self.config, self.environment = config, environment
        self.observer, self.replay, self.world = observer or TrainingObserver(), replay, world or World()
        # Everything but evaluation goes past DistributedDataParallel: no gradients, nothing to synchronise.
        self.policy: Policy = policy.module if isinstance(policy, DistributedMettaAgent) else policy
        if environment.num_agents != config.num_agents:
            raise ConfigError(
                f"trainer config: num_agents is {config.num_agents!r}, but the environment has "
                f"{environment.num_agents}; make them equal"
            )
        if (self.world.size > 1) != isinstance(policy, DistributedMettaAgent):
            raise ConfigError(
                f"the policy is a {type(policy).__name__} in a world of {self.world.size}; use World.wrap on it, so "
                "that ranks share their gradients"
            )
        self._evaluate, self._act = policy, self.policy
        if config.compile:
            self._evaluate = torch.compile(policy, backend=str(config.compile))
            self._act = torch.compile(self.policy, backend=str(config.compile))
        self.device = next(self.policy.parameters()).device
        self.optimizer = Optimizer(self.policy, config.optimizer)

        rank = self.world.rank
        self.spec = experience_spec(self.policy)
        self.experience = Experience(
            self.spec,
            tuple(self.policy.get_agent_experience_spec()),
            num_agents=config.num_agents,
            segments=config.segments,
            horizon=config.bptt_horizon,
            device=self.device,
            generator=torch.Generator().manual_seed(derived_seed(config.seed, f"minibatches of rank {rank}")),
            world=self.world,
        )
        self.random = RandomStream(derived_seed(config.seed, f"actions of rank {rank}"), self.device)
        self.updates, self.agent_steps = 0, 0
        self.step: Step = environment.reset(derived_seed(config.seed, f"environment of rank {rank}"))

    def run(self, updates: int | None = None) -> Iterator[dict[str, Any]]:
        """Do ``updates`` updates, or those still missing to ``total_updates``; yield the metrics after each."""
        last = self.config.total_updates if updates is None else self.updates + updates
        while self.updates < last:
            start = time.perf_counter()
            self.rollout()
            middle = time.perf_counter()
            metrics = self.update()
            seconds = {"seconds_rollout": middle - start, "seconds_update": time.perf_counter() - middle}
            yield {**metrics, **seconds}

    @torch.no_grad()
    def rollout(self) -> None:
        """Fill the experience, from an empty memory; the environment goes on where it was."""
        self.policy.reset_memory()
        self.experience.reset()
        calls = 0
        with self.random:
            while not self.experience.ready:
                actions = []
                for agents in self._slices():
                    td = self._act_on(agents)
                    self.experience.store(td, agents)
                    self.observer.on_rollout_step(self.updates, calls, td)
                    actions.append(td[ACTIONS])
                    calls += 1
                taken = actions[0] if len(actions) == 1 else torch.cat(actions)
                self.step = self.environment.step(taken.to(self.step.observations.device))
        self.agent_steps += self.config.batch_size

    def update(self) -> dict[str, Any]:
        """Improve the policy on the experience, and return the update's metrics (means over its minibatches)."""
        with self.random:
            advantages, probabilities, beta = self._weigh()
            done: list[dict[str, Tensor]] = []
            norms: list[Tensor] = []
            for epoch in range(self.config.update_epochs):
                for _ in range(self.config.minibatches):
                    losses = self._minibatch(len(done), advantages, probabilities, beta, norms)
                    done.append(losses.detached())
                if self._diverged(done[epoch * self.config.minibatches :]):
                    break
        self.updates += 1
        interval = self.policy.l2_init_weight_update_interval
        if interval and self.updates % interval == 0:
            self.policy.update_l2_init_weight_copy()
        metrics = self._metrics(done, norms)
        self.observer.on_update(self.updates - 1, metrics)
        return metrics

    def _slices(self) -> Iterator[slice]:
        size = self.config.forward_pass_minibatch or self.config.num_agents
        return (slice(start, start + size) for start in range(0, self.config.num_agents, size))

    def _act_on(self, agents: slice) -> TensorDict:
        """Let the policy act for a slice of agents; return everything that is stored of the step."""
        count = agents.stop - agents.start
        env_id = self.world.rank * self.config.num_agents + agents.start
        flags = {
            REWARDS: self.step.rewards,
            DONES: self.step.dones,
            TRUNCATEDS: self.step.truncateds,
        }
        entries = {key: value[agents].to(self.device, torch.float32) for key, value in flags.items()}
        entries[ENV_OBS] = self.step.observations[agents].to(self.device)
        entries[ENV_ID_START] = torch.full((count,), env_id, dtype=torch.int64, device=self.device)
        td = TensorDict(entries, batch_size=[count], device=self.device)
        memory = self._memory(env_id, count) if self.experience.opens_segment(agents) else {}
        td = self._act(td)
        td.update(memory)
        if self.replay is not None:
            td[ACTIONS] = self.replay.next_actions(td[ACTIONS])
            index = self.policy.convert_action_to_logit_index(td[ACTIONS]).unsqueeze(-1)
            td[ACT_LOG_PROB] = td[FULL_LOG_PROBS].gather(-1, index).squeeze(-1)
        return td

    def _memory(self, env_id: int, count: int) -> dict[str, Tensor]:
        """The policy's state before its next step, as the experience keeps it: ``[count, layers, hidden]``."""
        if MEMORY_H not in self.spec:
            return {}
        state = self.policy.get_memory().get(env_id)
        if state is None:
            field = self.spec[MEMORY_H]
            zeros = torch.zeros(count, *field.shape, dtype=field.dtype, device=self.device)
            return {MEMORY_H: zeros, MEMORY_C: zeros}
        return {key: part.transpose(0, 1) for key, part in zip((MEMORY_H, MEMORY_C), state, strict=True)}

    def _weigh(self) -> tuple[Tensor, Tensor, float]:
        """Advantages of the experience, its segments' probabilities, and the importance exponent of this update."""
        config, data = self.config, self.experience.buffer
        advantages = compute_advantages(
            data[VALUES],
            data[REWARDS],
            data[DONES],
            data[TRUNCATEDS],
            torch.ones_like(data[VALUES]),
            gamma=config.ppo.gamma,
            gae_lambda=config.ppo.gae_lambda,
            rho_clip=config.vtrace.vtrace_rho_clip,
            c_clip=config.vtrace.vtrace_c_clip,
        )
        priorities = config.prioritized_experience_replay
        probabilities = self.experience.probabilities(advantages, priorities.prio_alpha)
        progress = min(1.0, self.updates / max(1, config.total_updates - 1))
        beta = priorities.prio_beta0 + (1.0 - priorities.prio_beta0) * progress
        self.observer.on_advantages(self.updates, advantages, probabilities)
        return advantages, probabilities, beta

    def _minibatch(
        self, number: int, advantages: Tensor, probabilities: Tensor, beta: float, norms: list[Tensor]
    ) -> Losses:
        """Draw, evaluate and differentiate one minibatch; step when it completes an accumulation."""
        config, policy, accumulate = self.config, self.policy, self.config.gradient_accumulation_steps
        policy.reset_memory()
        count = config.minibatch_segments
        indices = self.replay.next_indices(count) if self.replay else self.experience.draw(probabilities, count)
        minibatch = self.experience.minibatch(indices, advantages, probabilities, beta)
        losses = self._losses(minibatch)
        self.observer.on_minibatch(self.updates, number, minibatch, losses)
        if number % accumulate == 0:
            self.optimizer.zero_grad()
        (losses.total / accumulate).backward()
        self.observer.on_backward(self.updates, number, policy)
        if (number + 1) % accumulate == 0:
            norms.append(nn.utils.clip_grad_norm_(policy.parameters(), config.ppo.max_grad_norm))
            self.optimizer.step()
            self.observer.on_step(self.updates, number, policy)
            policy.clip_weights()
            self.observer.on_clip(self.updates, number, policy)
        return losses

    def _losses(self, minibatch: Minibatch) -> Losses:
        evaluated: TensorDictBase = self._evaluate(minibatch.inputs, action=minibatch.actions)
        pulled = self.config.ppo.l2_init_loss_coef > 0
        l2_init = self.policy.l2_init_loss() if pulled else torch.zeros((), device=self.device)
        return ppo_losses(evaluated, minibatch, self.config.ppo, self.config.vtrace, l2_init=l2_init, world=self.world)

    def _diverged(self, epoch: list[dict[str, Tensor]]) -> bool:
        """Whether the epoch moved the policy further than ``target_kl``, on the mean of all ranks."""
        target = self.config.ppo.target_kl
        if target is None:
            return False
        mean = torch.stack([losses["approx_kl"] for losses in epoch]).mean()
        return bool(self.world.total(mean) / self.world.size > target)

    def _metrics(self, done: list[dict[str, Tensor]], norms: list[Tensor]) -> dict[str, Any]:
        losses = {f"loss_{key}": float(torch.stack([each[key] for each in done]).mean()) for key in done[0]}
        data = self.experience.buffer
        metrics: dict[str, Any] = {
            "update": self.updates,
            "agent_steps": self.agent_steps,
            "minibatches": len(done),
            **losses,
            "gradient_norm": float(torch.stack(norms).mean()),
            "reward": float(data[REWARDS].mean(dtype=torch.float64)),
            "value": float(data[VALUES].mean()),
            "episodes": int(((data[DONES] != 0) | (data[TRUNCATEDS] != 0)).sum()),
        }
        interval = self.policy.analyze_weights_interval
        if interval and self.updates % interval == 0:
            metrics["weights"] = self.policy.compute_weight_metrics()
        return metrics
