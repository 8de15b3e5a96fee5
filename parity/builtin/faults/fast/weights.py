"""Faults in initial weights and in the weight metrics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from parity.agents.pytorch import layers, pytorch_agent_mixin
from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.weights import draw_orthogonal, weight_metrics
from parity.builtin.faults.changes import with_gain
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher

UPSTREAM = "upstream history: initial weights of hand-written agents"
UPSTREAM_METRICS = "upstream history: which weights are measured, and how"

# Initial weights


@CATALOGUE.fault(origin=UPSTREAM, check="initialization", component="cnn1", phase="build")
def init_gain_sqrt_2_everywhere(patch: Patcher) -> None:
    """Layers before a ReLU are drawn with gain sqrt(2) as well."""
    with_gain(patch, math.sqrt(2.0))


@CATALOGUE.fault(origin=UPSTREAM, check="initialization", component="critic_1", phase="build")
def init_gain_1_before_tanh(patch: Patcher) -> None:
    """The layer before the Tanh is drawn with gain 1."""
    with_gain(patch, 1.0)


@CATALOGUE.fault(origin=UPSTREAM, check="initialization", component="_core_", phase="build")
def lstm_biases_start_at_0(patch: Patcher) -> None:
    """The recurrent biases start at 0 instead of 1."""

    @torch.no_grad()
    def change(agent: Any) -> None:
        for name, parameter in agent.policy.core.lstm.named_parameters():
            if name.startswith("bias"):
                parameter.zero_()

    patch.built("candidate", change)


@CATALOGUE.fault(origin=UPSTREAM, check="initialization", component="_action_embeds_", phase="build")
def action_embeddings_not_scaled(patch: Patcher) -> None:
    """The embedding table keeps the size of its orthogonal draw."""

    @torch.no_grad()
    def change(agent: Any) -> None:
        weight, seed = agent.policy.action_embeds.weight, agent.policy.seed
        weight.copy_(draw_orthogonal(weight.shape, gain=1.0, seed=seed, component="_action_embeds_", role="weight"))

    patch.built("candidate", change)


@CATALOGUE.fault(origin=UPSTREAM, check="initialization", component="cnn1", phase="build")
def biases_start_as_torch_draws_them(patch: Patcher) -> None:
    """Biases are uniform instead of 0."""

    @torch.no_grad()
    def change(agent: Any) -> None:
        generator = torch.Generator().manual_seed(agent.policy.seed)
        for stage in agent.policy.stages():
            bound = stage.weight[0].numel() ** -0.5
            stage[0].bias.uniform_(-bound, bound, generator=generator)

    patch.built("candidate", change)


@CATALOGUE.fault(origin=UPSTREAM, check="initialization", component="_action_", phase="build")
def actor_drawn_within_a_wrong_bound(patch: Patcher) -> None:
    """The bound of the actor's draw follows from the embedding's width instead of the hidden size."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda shape, **options: original(shape, **{**options, "bound": shape[-1] ** -0.5})

    patch.wrap(layers, "draw_uniform", make)


# Weight metrics


def _change_metrics(patch: Patcher, change: Callable[[dict[str, Any], Tensor], dict[str, Any]]) -> None:
    """Replace or add entries of a layer's metrics by ``change(metrics, weight)``."""

    def metrics(name: str, weight: Tensor, delta: float) -> dict[str, Any]:
        found = weight_metrics(name, weight, delta)
        return {**found, **change(found, weight.detach())}

    patch.attribute(pytorch_agent_mixin, "weight_metrics", metrics)


@CATALOGUE.fault(origin=UPSTREAM_METRICS, check="weight_metrics", component="layers", phase="metrics")
def weight_metrics_of_all_layers(patch: Patcher) -> None:
    """Layers that are not marked are analysed too."""

    def compute_weight_metrics(self: Fast, delta: float = 0.01) -> list[dict[str, float | str]]:
        return [weight_metrics(stage.settings.name, stage.weight, delta) for stage in self.stages()]

    patch.attribute(Fast, "compute_weight_metrics", compute_weight_metrics)


@CATALOGUE.fault(origin=UPSTREAM_METRICS, check="weight_metrics", component="critic_1", phase="metrics")
def effective_rank_off_by_one(patch: Patcher) -> None:
    """The rank counts the singular values below the threshold, without the one that reaches it."""
    _change_metrics(patch, lambda found, weight: {"effective_rank": found["effective_rank"] - 1.0})


@CATALOGUE.fault(origin=UPSTREAM_METRICS, check="weight_metrics", component="critic_1", phase="metrics")
def metrics_delta_ignored(patch: Patcher) -> None:
    """The effective rank always uses the default delta."""
    patch.attribute(
        pytorch_agent_mixin, "weight_metrics", lambda name, weight, delta: weight_metrics(name, weight, 0.01)
    )


@CATALOGUE.fault(origin=UPSTREAM_METRICS, check="weight_metrics", component="critic_1", phase="metrics")
def metrics_with_the_sample_deviation(patch: Patcher) -> None:
    """The spread of the singular values is divided by their number less one."""

    def change(found: dict[str, Any], weight: Tensor) -> dict[str, Any]:
        count = min(weight.flatten(1).shape)
        return {"singular_value_std": found["singular_value_std"] * math.sqrt(count / (count - 1))}

    _change_metrics(patch, change)


@CATALOGUE.fault(origin=UPSTREAM_METRICS, check="weight_metrics", component="critic_1", phase="metrics")
def metrics_in_float32(patch: Patcher) -> None:
    """The decomposition runs in float32."""

    def change(_found: dict[str, Any], weight: Tensor) -> dict[str, Any]:
        values = torch.linalg.svdvals(weight.float().flatten(1))
        return {"singular_value_max": values[0].item(), "singular_value_min": values[-1].item()}

    _change_metrics(patch, change)


@CATALOGUE.fault(origin=UPSTREAM_METRICS, check="weight_metrics", component="critic_1", phase="metrics")
def spectral_norm_for_weight_norm(patch: Patcher) -> None:
    """The norm is the largest singular value instead of Frobenius's."""
    _change_metrics(patch, lambda found, weight: {"weight_norm": found["singular_value_max"]})
