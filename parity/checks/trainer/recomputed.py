"""A watched training recomputed: what each step of it must have been, by the oracles, beside what it was."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parity.agents.interface import ACT_LOG_PROB, ACTIONS, DONES, ENTROPY, MEMORY_C, MEMORY_H, TRUNCATEDS, VALUE, VALUES
from parity.checks.oracles.advantage import advantages
from parity.checks.oracles.losses import normalised, ppo_losses, ratios
from parity.checks.oracles.sampling import importance_exponent, importance_weights, probabilities
from parity.checks.oracles.schedule import calls, clipped_norm, minibatches_done
from parity.checks.oracles.segments import last_written
from parity.checks.registry import Example
from parity.checks.trainer.seen import L2_INIT, REWARDS, SeenMinibatch, SeenUpdate, Values

_SCORED = (ACT_LOG_PROB, ENTROPY, VALUE)


@dataclass(frozen=True)
class Leaf:
    """One thing to compare: a tensor, or a plain fact."""

    phase: str
    component: str
    key: str
    expected: Any
    found: Any
    judged: str = "value"
    update: int | None = None
    minibatch: int | None = None


@dataclass(frozen=True)
class Plan:
    """What the settings say of a training's shape."""

    settings: Mapping[str, Any]

    @property
    def agents(self) -> int:
        """Agents of the environment."""
        return self.settings["num_agents"]

    @property
    def slice(self) -> int:
        """Agents per policy call."""
        return self.settings["forward_pass_minibatch"] or self.agents

    @property
    def horizon(self) -> int:
        """Steps of a segment."""
        return self.settings["bptt_horizon"]

    @property
    def segments(self) -> int:
        """Segments of the experience."""
        return self.settings["batch_size"] // self.horizon

    @property
    def steps(self) -> int:
        """Steps of the environment per rollout."""
        return self.settings["batch_size"] // self.agents

    @property
    def drawn(self) -> int:
        """Segments of a minibatch."""
        return self.settings["minibatch_size"] // self.horizon

    @property
    def minibatches(self) -> int:
        """Minibatches of an epoch."""
        return self.settings["batch_size"] // self.settings["minibatch_size"]


def recomputed(seen: list[SeenUpdate], settings: Mapping[str, Any], example: Example) -> Iterator[Leaf]:
    """Everything that can be said of a training, in its order."""
    plan = Plan(settings)
    for number, update in enumerate(seen):
        before = seen[number - 1] if number else None
        for leaf in _update(number, update, before, plan, example):
            yield dataclasses.replace(leaf, update=number)


def _update(number: int, seen: SeenUpdate, before: SeenUpdate | None, plan: Plan, example: Example) -> Iterator[Leaf]:
    starts = [start for _ in range(plan.steps) for start in range(0, plan.agents, plan.slice)]
    made = [act.env_id for act in seen.acts]
    yield Leaf("rollout", "training_env_id_start", "of each call", starts, made)
    yield Leaf("rollout", "environment", "steps", plan.steps, len(seen.taken))
    if made != starts or len(seen.taken) != plan.steps:
        return  # nothing can be put in its place
    yield from _rollout(seen, before, plan)
    yield from _weighing(seen, plan)
    divergences = [float(each.losses["approx_kl"]) for each in seen.minibatches]
    target, epochs = plan.settings["ppo"]["target_kl"], plan.settings["update_epochs"]
    count = minibatches_done(divergences, per_epoch=plan.minibatches, epochs=epochs, target=target)
    yield Leaf("forward", "target_kl", "minibatches until it is exceeded", count, len(seen.minibatches))
    exponent = importance_exponent(
        plan.settings["prioritized_experience_replay"]["prio_beta0"], number, plan.settings["total_updates"]
    )
    generator = torch.Generator()
    generator.set_state(seen.generator)
    for index, minibatch in enumerate(seen.minibatches):
        drawn = torch.multinomial(seen.probabilities, plan.drawn, generator=generator)
        previous = seen.minibatches[index - 1] if index else None
        for leaf in _minibatch(index, minibatch, previous, drawn, exponent, seen, plan):
            yield dataclasses.replace(leaf, minibatch=index)
    yield from _metrics(number, seen, plan)
    made_calls = calls(
        acts=len(starts),
        minibatches=count,
        accumulate=plan.settings["gradient_accumulation_steps"],
        update=number,
        rebase_every=example["rebase_every"],
        measure_every=example["measure_every"],
    )
    accumulate = plan.settings["gradient_accumulation_steps"]
    stepped = [(number, index) for index in range(count) if (index + 1) % accumulate == 0]
    told = {
        "on_rollout_step": [(number, index) for index in range(len(starts))],
        "on_minibatch": [(number, index) for index in range(count)],
        "on_step": stepped,
        "on_clip": stepped,
    }
    for method, expected in told.items():
        yield Leaf("update", "watcher", f"update and number told to {method}", expected, seen.told.get(method, []))
    for place in range(max(len(made_calls), len(seen.calls))):
        expected, found = (listed[place] if place < len(listed) else "nothing" for listed in (made_calls, seen.calls))
        yield Leaf("update", "order of calls", f"call {place}", expected, found)


def _rollout(seen: SeenUpdate, before: SeenUpdate | None, plan: Plan) -> Iterator[Leaf]:
    """What the environment was told, and every cell of the experience."""
    slices = plan.agents // plan.slice
    acts = [seen.acts[start : start + slices] for start in range(0, len(seen.acts), slices)]
    told = [torch.cat([act.made[ACTIONS] for act in step]).to(torch.int64) for step in acts]
    taken = [actions.to(told[0]) for actions in seen.taken]
    yield Leaf("rollout", ACTIONS, "handed to the environment", torch.stack(told), torch.stack(taken), "exact")
    opening = before.steps[-1] if before else _opening(acts[0])
    sources = []
    for step, answer in zip(acts, [opening, *seen.steps[:-1]], strict=True):
        made = {key: torch.cat([act.made[key] for act in step]) for key in (ACTIONS, ACT_LOG_PROB, VALUES)}
        sources.append({**{key: value.to(made[VALUES].device) for key, value in answer.items()}, **made})
    held = last_written(agents=plan.agents, segments=plan.segments, horizon=plan.horizon, steps=plan.steps)
    for key, found in seen.buffer.items():
        expected = torch.zeros_like(found)
        for (segment, step), (agent, time) in held.items():
            if key not in (MEMORY_H, MEMORY_C):
                expected[segment, step] = sources[time][key][agent]
            elif step == 0 and time > 0:
                expected[segment] = _state(acts[time], key, agent, plan)
        yield Leaf("rollout", key, f"stored {key}", expected, found, "exact")


def _opening(acts: list[Any]) -> Values:
    """After a reset there is no answer yet: what the policy saw, no reward and no episode's end."""
    seen = {key: torch.cat([act.given[key] for act in acts]) for key in acts[0].given}
    nothing = torch.zeros(len(seen[DONES]))
    return {**seen, REWARDS: nothing, DONES: nothing, TRUNCATEDS: nothing}


def _state(acts: list[Any], key: str, agent: int, plan: Plan) -> Tensor:
    """An agent's state before a step, ``[layers, hidden]``; an empty memory is zeros."""
    state = acts[agent // plan.slice].state
    return torch.zeros(()) if state is None else state[key == MEMORY_C][:, agent % plan.slice]


def _weighing(seen: SeenUpdate, plan: Plan) -> Iterator[Leaf]:
    values = seen.buffer[VALUES]
    expected = _advantages(seen.buffer, torch.ones_like(values), plan)
    yield Leaf("advantages", "advantages", "advantages", expected, seen.advantages)
    alpha = plan.settings["prioritized_experience_replay"]["prio_alpha"]
    shares = torch.tensor(probabilities(seen.advantages.tolist(), alpha), dtype=seen.probabilities.dtype)
    yield Leaf("advantages", "sampling probabilities", "sampling probabilities", shares, seen.probabilities)


def _advantages(data: Values, ratio: Tensor, plan: Plan) -> Tensor:
    vtrace, ppo = plan.settings["vtrace"], plan.settings["ppo"]
    rows = advantages(
        data[VALUES].tolist(),
        data[REWARDS].tolist(),
        data[DONES].tolist(),
        data[TRUNCATEDS].tolist(),
        ratio.tolist(),
        gamma=ppo["gamma"],
        gae_lambda=ppo["gae_lambda"],
        rho_clip=vtrace["vtrace_rho_clip"],
        c_clip=vtrace["vtrace_c_clip"],
    )
    return torch.tensor(rows, dtype=data[VALUES].dtype, device=data[VALUES].device)


def _metrics(number: int, seen: SeenUpdate, plan: Plan) -> Iterator[Leaf]:
    """The update's own figures, but for those of a clock."""
    batch, found = plan.settings["batch_size"], seen.metrics
    ended = int(((seen.buffer[DONES] != 0) | (seen.buffer[TRUNCATEDS] != 0)).sum())
    counts = {"update": number + 1, "agent_steps": (number + 1) * batch, "minibatches": len(seen.minibatches)}
    for key, count in {**counts, "episodes": ended}.items():
        yield Leaf("metrics", "metrics", key, count, found.get(key))
    steps = [each.norms["after backward"] for each in seen.minibatches if "at the step" in each.norms]
    means = {
        **{f"loss_{key}": [each.losses[key] for each in seen.minibatches] for key in seen.minibatches[0].losses},
        "gradient_norm": steps,
        "reward": seen.buffer[REWARDS].flatten(),
        "value": seen.buffer[VALUES].flatten(),
    }
    for key, values in means.items():
        numbers = [float(value) for value in values]
        size = sum(map(abs, numbers)) / len(numbers)  # a mean's rounding is measured by its terms
        yield Leaf(
            "metrics", "metrics", key, _pair(sum(numbers) / len(numbers), size), _pair(found.get(key, math.nan), size)
        )


def _minibatch(
    index: int,
    seen: SeenMinibatch,
    previous: SeenMinibatch | None,
    drawn: Tensor,
    exponent: float,
    update: SeenUpdate,
    plan: Plan,
) -> Iterator[Leaf]:
    yield Leaf("forward", "indices", "indices", drawn, seen.indices, "exact")
    weights = importance_weights(update.probabilities.tolist(), seen.indices.tolist(), exponent)
    expected = torch.tensor(weights, dtype=update.probabilities.dtype).unsqueeze(1).to(seen.data["weights"].device)
    yield Leaf("forward", "importance weights", "weights", expected, seen.data["weights"])
    for key, found in seen.data.items():
        if key != "weights":
            held = update.advantages if key == "advantages" else update.buffer[key]
            rows = torch.stack([held[row] for row in seen.indices.tolist()])
            if key in (MEMORY_H, MEMORY_C):
                rows = torch.stack([rows] * plan.horizon, dim=1)
            yield Leaf("forward", "minibatch", key, rows, found, "exact")
    yield from _losses(seen, plan)
    accumulate, largest = plan.settings["gradient_accumulation_steps"], plan.settings["ppo"]["max_grad_norm"]
    nothing = torch.zeros((), dtype=torch.float64)
    if "after backward" not in seen.norms:
        return  # nothing was differentiated: the order of calls says so
    start = nothing
    if index % accumulate and previous is not None:
        start = previous.norms.get("after backward", nothing)
    yield Leaf("backward", "gradients", "norm before backward", start, seen.norms["before backward"])
    if (index + 1) % accumulate == 0 and "at the step" in seen.norms:
        norm = nothing + clipped_norm(float(seen.norms["after backward"]), largest)
        yield Leaf("optimizer step", "gradients", "norm at the step", norm, seen.norms["at the step"])


def _losses(seen: SeenMinibatch, plan: Plan) -> Iterator[Leaf]:
    """Each loss beside the size of its terms, which its rounding is measured by; then the gradients."""
    ppo = plan.settings["ppo"]
    evaluated = {key: seen.evaluated[key].tolist() for key in _SCORED}
    stored = {key: seen.data[key].tolist() for key in (ACT_LOG_PROB, VALUES, "advantages")}
    ratio = ratios(evaluated[ACT_LOG_PROB], stored[ACT_LOG_PROB])
    corrected = _advantages(seen.data, torch.tensor(ratio, dtype=torch.float64), plan).tolist()
    if ppo["norm_adv"]:
        corrected = normalised(corrected)
    weights = seen.data["weights"].flatten().tolist()
    weighted = [[weight * value for value in row] for weight, row in zip(weights, corrected, strict=True)]
    pull = float(seen.evaluated[L2_INIT]) if ppo["l2_init_loss_coef"] else 0.0
    losses, gradients = ppo_losses(evaluated, stored, weighted, pull, ppo)
    for key, (value, size) in {**losses, L2_INIT: (pull, pull)}.items():
        found = float(seen.losses[key])
        yield Leaf("forward", f"{key} loss", key, _pair(value, size), _pair(found, size))
    accumulate = plan.settings["gradient_accumulation_steps"]
    for key, rows in gradients.items():
        expected = torch.tensor(rows, dtype=torch.float64).to(seen.gradients[key]) / accumulate
        yield Leaf("backward", f"{key} gradient", f"gradient of {key}", expected, seen.gradients[key])
    pulled = torch.full_like(seen.gradients[L2_INIT], ppo["l2_init_loss_coef"] / accumulate)
    yield Leaf("backward", "l2_init gradient", "gradient of l2_init_loss", pulled, seen.gradients[L2_INIT])


def _pair(value: float, size: float) -> Tensor:
    return torch.tensor([[value, size]], dtype=torch.float64)  # one row: no two to be told apart
