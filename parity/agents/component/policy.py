"""ComponentPolicy: the reference policy, a graph of components run in order with everything spelled out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from tensordict import TensorDictBase
from torch import Tensor

from parity.agents.component import fields, graph, weights
from parity.agents.component.actions import ActionTable
from parity.agents.component.base import BuildContext, Component, TrackedWeight
from parity.agents.component.embedding import ActionEmbedding
from parity.agents.component.features import FeatureTable
from parity.agents.component.layers import WeightLayer
from parity.agents.component.lstm import LSTM
from parity.agents.component.memory import StateStore
from parity.agents.component.settings import did_you_mean
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
    Memory,
    Policy,
)

_KEYWORDS = (
    "components",
    "clip_range",
    "analyze_weights_interval",
    "l2_init_weight_update_interval",
    "observations",
    "extra_config",
    "source",
    "seed",
    "device",
    "dtype",
)


class ComponentPolicy(Policy):
    """The reference policy.

    Args:
        env: the environment whose observations it reads; gives the sizes of the observation, not yet the actions.
        components: component name -> raw mapping, as in the YAML.
        clip_range: bound of ``clip_weights`` as a multiple of each layer's largest initial magnitude; 0 = off.
        analyze_weights_interval: kept for the trainer.
        l2_init_weight_update_interval: kept for the trainer.
        observations: the YAML's mapping of that name, kept.
        extra_config: top-level keys that nobody knows, kept.
        source: the YAML's path, for messages.
        seed: of the initial parameters.
        device: where it is moved to once built.
        dtype: the floating type that it is cast to once built.

    Raises:
        ConfigError: a keyword is unknown or illegal, or the components do not form a graph that can be built.
    """

    def __init__(
        self,
        env: EnvironmentDescription,
        *,
        components: Mapping[str, Mapping[str, Any]] | None = None,
        clip_range: float = 0.0,
        analyze_weights_interval: int = 300,
        l2_init_weight_update_interval: int = 0,
        observations: Mapping[str, Any] | None = None,
        extra_config: Mapping[str, Any] | None = None,
        source: str = "",
        seed: int = 0,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        **unknown: Any,
    ) -> None:
        super().__init__()
        file = source or "components"
        for key in unknown:
            raise ConfigError(f"{file}: ComponentPolicy does not know {key!r}; {did_you_mean(key, _KEYWORDS)}")
        if not components:
            raise ConfigError(f"{file}: components is {components!r}; give a mapping of components by name")
        if not 0.0 <= clip_range < float("inf"):
            raise ConfigError(f"{file}: clip_range is {clip_range!r}; give a finite number >= 0")
        if not dtype.is_floating_point:
            raise ConfigError(f"{file}: dtype is {dtype}; give a floating dtype such as torch.float32")
        self.env = env
        self.clip_range = clip_range
        self.analyze_weights_interval = analyze_weights_interval
        self.l2_init_weight_update_interval = l2_init_weight_update_interval
        self.observations = dict(observations or {})
        self.extra_config = dict(extra_config or {})
        self.source = source
        self.seed = seed

        nodes = graph.read_graph(components, source)
        self.components = graph.build(nodes, BuildContext(env, seed), file)
        self._order = graph.execution_order(nodes, (graph.CORE, graph.ACTION, graph.VALUE), file)
        self._sources = {name: node.sources for name, node in nodes.items()}
        self.actions = ActionTable(self._action_embeds.capacity)
        self.features = FeatureTable()
        self._store = StateStore(self._core.num_layers, self._core.hidden_size)
        self.to(device=device, dtype=dtype)

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' floating type."""
        return next(self.parameters()).dtype

    # Acting and evaluating

    def forward(self, td: TensorDictBase, state: None = None, action: Tensor | None = None) -> TensorDictBase:
        """Act on ``td``, writing into it, or evaluate ``action [B, T, 2]``, returning a new TensorDict.

        Raises:
            ConfigError: the policy is not initialised to an environment yet.
            ObservationError: ``td`` does not match the environment or the TensorDict contract.
            ActionError: ``action`` does not fit ``td`` or the action space.
            MemoryStateError: ``state`` is given, or a stored or supplied state does not fit.
        """
        if not self.actions.names or not self.features.active:
            raise ConfigError("the policy is not initialised to an environment; call initialize_to_environment first")
        if state is not None:
            raise MemoryStateError(
                f"state is a {type(state).__name__}, but memory is the policy's own; pass None and use set_memory"
            )
        obs = fields.read_observations(td, self.env.num_tokens, self.device)
        if action is None:
            return self._act(td, obs)
        return self._evaluate(td, obs, action)

    def _act(self, td: TensorDictBase, obs: fields.Observations) -> TensorDictBase:
        env_id = fields.read_env_id(td)
        h, c = self._store.load(env_id, obs.batch, dtype=self.dtype, device=self.device)
        logits, values, h, c = self._run(obs, h, c)
        log_probs = torch.log_softmax(logits, dim=-1)
        probabilities = log_probs.exp().view(obs.batch, obs.steps, -1)
        samples = [torch.multinomial(probabilities[:, t], 1) for t in range(obs.steps)]
        index = torch.cat(samples, dim=1).view(-1)  # row = b * T + t
        self._store.save(env_id, h, c)

        shape = obs.shape
        td.set(BPTT, torch.full(shape, obs.steps, dtype=torch.int64, device=self.device))
        td.set(BATCH, torch.full(shape, obs.batch, dtype=torch.int64, device=self.device))
        td.set(ACTIONS, self.convert_logit_index_to_action(index).view(*shape, 2))
        td.set(ACT_LOG_PROB, log_probs.gather(1, index.unsqueeze(1)).view(shape))
        td.set(VALUES, values.view(shape))
        td.set(FULL_LOG_PROBS, log_probs.view(*shape, -1))
        return td

    def _evaluate(self, td: TensorDictBase, obs: fields.Observations, action: Tensor) -> TensorDictBase:
        fields.check_training_action(action, obs.shape)
        index = self.convert_action_to_logit_index(action).view(-1)  # row = b * T + t
        core = self._core
        state = fields.read_state(td, core.num_layers, core.hidden_size, dtype=self.dtype, device=self.device)
        if state is None:
            zeros = torch.zeros((core.num_layers, obs.batch, core.hidden_size), dtype=self.dtype, device=self.device)
            state = (zeros, zeros)
        logits, values, _, _ = self._run(obs, *state)
        log_probs = torch.log_softmax(logits, dim=-1)

        rows = obs.batch * obs.steps
        flat = td.clone(recurse=False).reshape(rows)  # a new container, also when the caller locked theirs
        flat.set(BPTT, torch.full((rows,), obs.steps, dtype=torch.int64, device=self.device))
        flat.set(BATCH, torch.full((rows,), obs.batch, dtype=torch.int64, device=self.device))
        flat.set(ACT_LOG_PROB, log_probs.gather(1, index.unsqueeze(1)).view(rows))
        flat.set(ENTROPY, -(log_probs.exp() * log_probs).sum(dim=-1))
        flat.set(VALUE, values.view(rows))
        flat.set(FULL_LOG_PROBS, log_probs)
        return flat.reshape(int(flat[BATCH][0]), int(flat[BPTT][0]))

    def _run(self, obs: fields.Observations, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the graph; return logits ``[B * T, A]``, values ``[B * T, 1]`` and the state after the last step."""
        tokens = self.features.apply_to(obs.tokens)
        outputs: dict[str, tuple[Tensor, ...]] = {}
        for name in self._order:
            component = self._component(name)
            inputs = [tensor for source in self._sources[name] for tensor in outputs[source]]
            if component.recurrent:
                output, h, c = component(*inputs, h, c, obs.resets)
            elif component.reads_tokens:
                output = component(tokens)
            else:
                output = component(*inputs)
            outputs[name] = output if isinstance(output, tuple) else (output,)
        return outputs[graph.ACTION][0], outputs[graph.VALUE][0], h, c

    # Environments

    def activate_actions(self, action_names: Sequence[str], max_action_args: Sequence[int]) -> None:
        """Adopt an action space; every full name keeps the embedding row it was first given."""
        self._action_embeds.activate(self.actions.activate(action_names, max_action_args))

    def activate_observations(self, features: Mapping[str, Feature]) -> None:
        """Adopt a feature table; later calls remap ids by name to the first call's."""
        normalizations = self.features.activate(features, learn=self.training)
        for name in self.components:
            self._component(name).set_normalizations(normalizations)

    def initialize_to_environment(self, environment: EnvironmentDescription) -> None:
        """``activate_actions`` and ``activate_observations`` of one environment."""
        self.activate_actions(environment.action_names, environment.max_action_args)
        self.activate_observations(environment.features)

    def original_feature_mapping(self) -> dict[str, int]:
        """Return a copy of the stored name -> id mapping (empty before the first activation)."""
        return dict(self.features.stored)

    def restore_original_feature_mapping(self, mapping: Mapping[str, int]) -> None:
        """Adopt a stored name -> id mapping, as from a checkpoint; the next activation remaps to it."""
        self.features.restore(mapping)

    def action_rows(self) -> dict[str, int]:
        """Return a copy of the mapping full action name -> embedding row, over all activations."""
        return dict(self.actions.rows)

    def restore_action_rows(self, rows: Mapping[str, int]) -> None:
        """Adopt such a mapping, as from a checkpoint; the next activation continues from it."""
        self.actions.restore(rows)

    def convert_action_to_logit_index(self, action: Tensor) -> Tensor:
        """``[..., 2]`` integer (type, argument) -> ``[...]`` int64 logit index; illegal actions raise ActionError."""
        return self.actions.to_index(action)

    def convert_logit_index_to_action(self, index: Tensor) -> Tensor:
        """``[...]`` integer logit index -> ``[..., 2]`` int32 (type, argument); illegal ones raise ActionError."""
        return self.actions.to_action(index)

    # Memory

    def reset_memory(self) -> None:
        """Forget every stored state."""
        self._store.forget()

    def reset_env_memory(self, env_id: int) -> None:
        """Forget the state stored under one ``training_env_id_start``; unknown ids are fine."""
        self._store.forget(env_id)

    def get_memory(self) -> Memory:
        """Return copies of all stored states."""
        return self._store.snapshot()

    def set_memory(self, memory: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Replace all stored states by copies; MemoryStateError when a shape does not fit the network."""
        self._store.replace(memory, dtype=self.dtype, device=self.device)

    # Weights

    def clip_weights(self) -> None:
        """Clamp each Linear/Conv weight to its bound; nothing when ``clip_range`` is 0."""
        weights.clip(self._tracked_weights(), self.clip_range)

    def l2_init_loss(self) -> Tensor:
        """Scalar: sum over Linear/Conv layers of ``l2_init_scale * sum((W - W_init)^2)``, differentiable."""
        return weights.l2_init_loss(self._tracked_weights(), torch.zeros((), dtype=self.dtype, device=self.device))

    def update_l2_init_weight_copy(self) -> None:
        """Make the current weights the new W_init."""
        weights.rebase(self._tracked_weights())

    def compute_weight_metrics(self, delta: float = 0.01) -> list[dict[str, float | str]]:
        """One mapping per layer marked ``analyze_weights``, in component order; ``delta`` as in ``weights.metrics``."""
        layers = (layer for layer in self.components.children() if isinstance(layer, WeightLayer))
        return weights.metrics(layers, delta)

    def get_agent_experience_spec(self) -> dict[str, FieldSpec]:
        """What the experience buffer must keep for this policy."""
        memory = FieldSpec((self._core.num_layers, self._core.hidden_size), self.dtype)
        return {
            ENV_OBS: FieldSpec((self.env.num_tokens, 3), torch.uint8),
            DONES: FieldSpec((), torch.float32),
            TRUNCATEDS: FieldSpec((), torch.float32),
            MEMORY_H: memory,
            MEMORY_C: memory,
        }

    # Components by role

    def _component(self, name: str) -> Component:
        return cast(Component, self.components[name])

    @property
    def _core(self) -> LSTM:
        return cast(LSTM, self.components[graph.CORE])

    @property
    def _action_embeds(self) -> ActionEmbedding:
        return cast(ActionEmbedding, self.components[graph.ACTION_EMBEDS])

    def _tracked_weights(self) -> Iterator[TrackedWeight]:
        for name in self.components:
            yield from self._component(name).tracked_weights()
