"""What every PyTorch agent has beside its own encoder and heads, so that a concrete agent holds nothing else."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.errors import ConfigError, MemoryStateError
from parity.agents.interface import (
    ACT_LOG_PROB,
    ACTIONS,
    BATCH,
    BPTT,
    DONES,
    ENTROPY,
    ENV_OBS,
    FULL_LOG_PROBS,
    MEMORY_C,
    MEMORY_H,
    TRUNCATEDS,
    VALUE,
    VALUES,
    EnvironmentDescription,
    Feature,
    FieldSpec,
)
from parity.agents.pytorch.actions import ActionTable
from parity.agents.pytorch.features import FeatureTable
from parity.agents.pytorch.graph import Component, Node, nearest, read_graph
from parity.agents.pytorch.inputs import check_training_action, read_env_id, read_observations, read_resets
from parity.agents.pytorch.layers import ActionEmbedding
from parity.agents.pytorch.stages import Stage
from parity.agents.pytorch.weights import weight_metrics

if TYPE_CHECKING:
    from parity.agents.pytorch.lstm_wrapper import LSTMWrapper as _Host
else:
    _Host = ABC

_DEFAULTS: Mapping[str, Any] = {
    "components": None,
    "clip_range": 0.0,
    "analyze_weights_interval": 300,
    "l2_init_weight_update_interval": 0,
    "observations": None,
    "extra_config": None,
    "source": "",
    "seed": 0,
    "device": "cpu",
    "dtype": torch.float32,
}


class PyTorchAgentMixin(_Host):
    """Construction, spaces, weight upkeep and the forward pass; put it before ``LSTMWrapper`` among the bases.

    An agent says its name and its graph and provides the encoder and the heads: every Linear/Conv as a ``Stage``, the
    action table's embedding as ``self.action_embeds``. ``ActorCriticHeads`` provides the heads that all shipped agents
    have.

    Args:
        env: the environment that the encoder is built for.
        clip_range: see ``clip_weights``; 0 turns clipping off.
        analyze_weights_interval: kept for the trainer.
        **kwargs: ``components`` (required), ``l2_init_weight_update_interval``, ``observations``, ``extra_config``,
            ``source``, ``seed``, ``device``, ``dtype``.

    Raises:
        ConfigError: an unknown keyword, or components that are not this agent's graph.
    """

    #: What a config's ``agent_type`` calls the agent.
    AGENT_TYPE: ClassVar[str]
    #: The components that its YAML must have, and how they are joined.
    GRAPH: ClassVar[Mapping[str, Node]]

    action_embeds: ActionEmbedding

    def __init__(
        self, env: EnvironmentDescription, *, clip_range: float = 0, analyze_weights_interval: int = 300, **kwargs: Any
    ) -> None:
        params = self.extract_mixin_params(
            {"clip_range": clip_range, "analyze_weights_interval": analyze_weights_interval, **kwargs}
        )
        parts = read_graph(params["components"], self.GRAPH, agent=self.AGENT_TYPE, source=params["source"])
        super().__init__()
        self.init_mixin(env, **params)
        drawn = {"seed": params["seed"], "dtype": params["dtype"]}
        self.build_core(parts["_core_"], self.build_encoder(env, parts, **drawn), **drawn)
        self.build_heads(parts, **drawn)
        self.to(params["device"])
        stages = [module for module in self.modules() if isinstance(module, Stage)]
        self._stages = tuple(sorted(stages, key=lambda stage: self.component_order.index(stage.settings.name)))

    @abstractmethod
    def build_encoder(
        self, env: EnvironmentDescription, parts: Mapping[str, Component], *, seed: int, dtype: torch.dtype
    ) -> int:
        """Build what ``encode_observations`` uses, and return F, how many features it gives."""

    @abstractmethod
    def build_heads(self, parts: Mapping[str, Component], *, seed: int, dtype: torch.dtype) -> None:
        """Build what ``decode_actions`` uses; the recurrent core is there."""

    @abstractmethod
    def encode_observations(self, tokens: Tensor) -> Tensor:
        """Tokens ``[N, M, 3]`` uint8 -> features ``[N, F]``, the core's input."""

    @abstractmethod
    def decode_actions(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The core's output ``[N, H]`` -> logits ``[N, A]`` and value ``[N]``."""

    @abstractmethod
    def set_feature_encoding(self, remap: Sequence[int], normalizations: Mapping[int, float]) -> None:
        """Hand the encoder the remapping of all 256 ids, and the normalisation of each (remapped) id that has one."""

    # Configuration

    @staticmethod
    def extract_mixin_params(kwargs: dict[str, Any]) -> dict[str, Any]:
        """Pop the keys every agent knows from ``kwargs``, check them, and return them with defaults filled in.

        Raises:
            ConfigError: a key is left over, ``components`` is missing, or a value has a wrong type or range.
        """
        params = {key: kwargs.pop(key, default) for key, default in _DEFAULTS.items()}
        where = params["source"] or "agent config"
        for key in kwargs:
            raise ConfigError(
                f"{where}: unknown key {key!r} (nearest: {nearest(key, _DEFAULTS)!r}); rename or remove it"
            )
        if not isinstance(params["components"], Mapping):
            raise ConfigError(f"{where}: components is {params['components']!r}; give the YAML's mapping of components")
        clip_range = params["clip_range"]
        if isinstance(clip_range, bool) or not isinstance(clip_range, int | float) or not 0.0 <= clip_range < math.inf:
            raise ConfigError(f"{where}: clip_range is {clip_range!r}; give a finite number >= 0")
        for key in ("analyze_weights_interval", "l2_init_weight_update_interval"):
            if isinstance(params[key], bool) or not isinstance(params[key], int) or params[key] < 0:
                raise ConfigError(f"{where}: {key} is {params[key]!r}; give a whole number >= 0")
        if not isinstance(params["dtype"], torch.dtype) or not params["dtype"].is_floating_point:
            raise ConfigError(f"{where}: dtype is {params['dtype']!r}; give a floating torch.dtype")
        try:
            torch.device(params["device"])
        except (RuntimeError, TypeError) as error:
            raise ConfigError(f"{where}: device is {params['device']!r}; give one such as 'cpu' or 'cuda:0'") from error
        return params

    def init_mixin(
        self,
        env: EnvironmentDescription,
        *,
        components: Mapping[str, Any],
        clip_range: float,
        analyze_weights_interval: int,
        l2_init_weight_update_interval: int,
        observations: Mapping[str, Any] | None,
        extra_config: Mapping[str, Any] | None,
        source: str,
        seed: int,
        device: torch.device | str,
        dtype: torch.dtype,
    ) -> None:
        """Keep what ``extract_mixin_params`` returned, but for ``device`` and ``dtype``: the modules carry those."""
        self.clip_range = float(clip_range)
        self.analyze_weights_interval = analyze_weights_interval
        self.l2_init_weight_update_interval = l2_init_weight_update_interval
        self.observations = dict(observations or {})
        self.extra_config = dict(extra_config or {})
        self.source = source
        self.seed = seed
        self.num_tokens = env.num_tokens
        self.component_order = tuple(components)
        self.action_table = ActionTable()
        self.feature_table = FeatureTable()

    # Action and observation spaces

    def initialize_to_environment(self, environment: EnvironmentDescription) -> None:
        """Adopt the environment's actions and features."""
        self.activate_actions(environment.action_names, environment.max_action_args)
        self.activate_observations(environment.features)

    def activate_actions(self, action_names: Sequence[str], max_action_args: Sequence[int]) -> None:
        """Adopt an action space; every full name keeps the embedding row it was first given.

        Raises:
            ActionError: the space is malformed or needs more rows than there are; the previous one stays in force.
        """
        self.action_embeds.activate(self.action_table.full_names(action_names, max_action_args))
        self.action_table.activate(max_action_args)

    def activate_observations(self, features: Mapping[str, Feature]) -> None:
        """Adopt a feature table; later calls remap ids by name, and learn unknown names in training mode only."""
        self.set_feature_encoding(*self.feature_table.activate(features, learn=self.training))

    def original_feature_mapping(self) -> dict[str, int]:
        """A copy of the stored mapping name -> id, empty before the first activation."""
        return self.feature_table.stored

    def restore_original_feature_mapping(self, mapping: Mapping[str, int]) -> None:
        """Adopt a stored mapping, as from a checkpoint; the next activation remaps to it."""
        self.feature_table.restore(mapping)

    def action_rows(self) -> dict[str, int]:
        """A copy of the mapping full action name -> embedding row, over all activations."""
        return dict(self.action_embeds.row_of_name)

    def restore_action_rows(self, rows: Mapping[str, int]) -> None:
        """Adopt such a mapping, as from a checkpoint; see ``ActionEmbedding.restore``."""
        self.action_embeds.restore(rows)

    def convert_action_to_logit_index(self, action: Tensor) -> Tensor:
        """``[..., 2]`` integers (type, argument) -> ``[...]`` int64; see ``ActionTable.to_logit``."""
        return self.action_table.to_logit(action)

    def convert_logit_index_to_action(self, index: Tensor) -> Tensor:
        """``[...]`` integers -> ``[..., 2]`` int32; see ``ActionTable.to_action``."""
        return self.action_table.to_action(index)

    def get_agent_experience_spec(self) -> dict[str, FieldSpec]:
        """What the experience buffer must keep: observation, episode openings, memory at a segment's first step."""
        flag, memory = FieldSpec((), torch.float32), FieldSpec((self.num_layers, self.hidden_size), self.dtype)
        observation = FieldSpec((self.num_tokens, 3), torch.uint8)
        return {ENV_OBS: observation, DONES: flag, TRUNCATEDS: flag, MEMORY_H: memory, MEMORY_C: memory}

    # Weights

    def stages(self) -> tuple[Stage, ...]:
        """Every Linear/Conv stage, in the YAML's order."""
        return self._stages

    def clip_weights(self) -> None:
        """Clamp each Linear/Conv weight to its bound; nothing when ``clip_range`` is 0."""
        for stage in self.stages():
            stage.clip(self.clip_range)

    def l2_init_loss(self) -> Tensor:
        """Scalar in the policy's dtype: the l2-init losses of all Linear/Conv layers, differentiable."""
        return torch.stack([stage.l2_init_loss() for stage in self.stages()]).sum()

    def update_l2_init_weight_copy(self) -> None:
        """Make the current weights the ones that ``l2_init_loss`` pulls towards."""
        for stage in self.stages():
            stage.rebase()

    def compute_weight_metrics(self, delta: float = 0.01) -> list[dict[str, float | str]]:
        """``weight_metrics`` of each layer marked ``analyze_weights``, in the YAML's order.

        Raises:
            ConfigError: ``delta`` is not strictly between 0 and 1.
        """
        if not 0.0 < delta < 1.0:
            raise ConfigError(f"compute_weight_metrics: delta is {delta!r}; give a number strictly between 0 and 1")
        marked = [stage for stage in self.stages() if stage.settings.analyze_weights]
        return [weight_metrics(stage.settings.name, stage.weight, delta) for stage in marked]

    # Forward

    def forward(self, td: TensorDictBase, state: None = None, action: Tensor | None = None) -> TensorDictBase:
        """Act on ``td`` (no ``action``), or evaluate ``action [B, T, 2]`` on it (training).

        Inference writes into ``td`` and returns it; training returns a new TensorDict ``[B, T]``.

        Raises:
            ConfigError: the policy was not initialised to an environment.
            MemoryStateError: ``state`` is not None, or a stored or supplied state does not fit.
            ObservationError: an entry that is read does not fit.
            ActionError: ``action`` does not fit or is illegal.
        """
        if not (self.action_table.is_active and self.feature_table.is_active):
            raise ConfigError("the policy has no action space or features yet; call initialize_to_environment first")
        if state is not None:
            raise MemoryStateError(f"state is a {type(state).__name__}; pass None, the policy keeps its own memory")
        observations = read_observations(td, self.num_tokens)
        batch, steps = _batch_and_steps(observations)
        resets = read_resets(td).view(batch, steps)
        tokens = observations.reshape(batch * steps, self.num_tokens, 3)
        if action is not None:
            check_training_action(action, observations)
            h, c = self.supplied_state(td.get(MEMORY_H, None), td.get(MEMORY_C, None), batch, steps)
            td = td.reshape(batch * steps)
            self.set_tensordict_fields(td, observations)
            hidden, _, _ = self.core(self.encode_observations(tokens), h, c, resets)
            return self.handle_training_mode(td, action, *self.decode_actions(hidden))
        env_id = read_env_id(td)
        h, c = self.stored_state(env_id, batch)
        self.set_tensordict_fields(td, observations)
        hidden, h, c = self.core(self.encode_observations(tokens), h, c, resets)
        td = self.handle_inference_mode(td, *self.decode_actions(hidden))
        self.store_state(env_id, h, c)
        return td

    def set_tensordict_fields(self, td: TensorDictBase, observations: Tensor) -> tuple[int, int]:
        """Write ``bptt`` = T and ``batch`` = B (int64, in the shape of ``td``) and return (B, T)."""
        batch, steps = _batch_and_steps(observations)
        for key, number in ((BPTT, steps), (BATCH, batch)):
            td.set(key, torch.full(td.batch_size, number, dtype=torch.int64, device=observations.device))
        return batch, steps

    def handle_inference_mode(self, td: TensorDictBase, logits: Tensor, value: Tensor) -> TensorDictBase:
        """Sample one action per row and write it with its log-probability, all log-probabilities and the values.

        Args:
            td: batch size ``[B]`` or ``[B, T]``, returned with the new entries.
            logits: ``[N, A]``, N = the batch size's product, batch first.
            value: ``[N]``.
        """
        log_probs = torch.log_softmax(logits, dim=-1).view(*td.batch_size, -1)
        probabilities = log_probs.exp()
        # One draw per time step, in time order: a sequence then takes the random numbers that stepping would take.
        steps = probabilities.unbind(1) if probabilities.dim() == 3 else (probabilities,)
        drawn = torch.cat([torch.multinomial(step.contiguous(), 1) for step in steps], dim=1)
        index = drawn.view(td.batch_size)
        td.set(ACTIONS, self.convert_logit_index_to_action(index))
        td.set(ACT_LOG_PROB, log_probs.gather(-1, index.unsqueeze(-1)).squeeze(-1))
        td.set(VALUES, value.view(td.batch_size))
        td.set(FULL_LOG_PROBS, log_probs)
        return td

    def handle_training_mode(self, td: TensorDictBase, action: Tensor, logits: Tensor, value: Tensor) -> TensorDictBase:
        """Evaluate ``action [B, T, 2]`` on the flat rows of ``td`` and return it as ``[B, T]``.

        Args:
            td: batch size ``[B*T]``, row = b*T + t, with the fields ``batch`` = B and ``bptt`` = T.
            action: integers.
            logits: ``[B*T, A]``.
            value: ``[B*T]``.
        """
        index = self.convert_action_to_logit_index(action.reshape(-1, 2))
        log_probs = torch.log_softmax(logits, dim=-1)
        td.set(ACT_LOG_PROB, log_probs.gather(-1, index.unsqueeze(-1)).squeeze(-1))
        td.set(ENTROPY, -(log_probs.exp() * log_probs).sum(-1))
        td.set(VALUE, value)
        td.set(FULL_LOG_PROBS, log_probs)
        return td.reshape(int(td[BATCH][0]), int(td[BPTT][0]))


def _batch_and_steps(observations: Tensor) -> tuple[int, int]:
    return observations.shape[0], observations.shape[1] if observations.dim() == 4 else 1
