"""The shipped agents as references: sizes from first principles, and that each acts and evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from component_builders import DEFAULT, FIXTURES, tokens
from tensordict import TensorDict

from parity.agents.component import ComponentPolicy
from parity.agents.config import load_agent_config
from parity.agents.interface import SystemConfig
from parity.agents.metta_agent import MettaAgent

PARAMETERS = {
    "latent_attn_tiny": 502_936,
    "latent_attn_small": 501_556,
    "latent_attn_med": 528_156,
    "example": 5_268_674,
}


def dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def cross_size(c: Mapping[str, Any], features: int) -> int:
    width, out = c["query_token_dim"], c["out_dim"]
    inner = c["mlp_ratio"] * width
    layer = 2 * width + width * width + dense(width, width) + 2 * width + dense(width, inner) + dense(inner, width)
    before = 2 * features + 2 * features * width + c["num_query_tokens"] * width
    return before + c["num_layers"] * layer + 2 * width + (0 if out == width else dense(width, out))


def self_size(c: Mapping[str, Any], width: int) -> int:
    layer = 2 * width + 3 * width * width + dense(width, width)
    return width + c["num_layers"] * layer + 2 * width + dense(width, c["out_dim"])


def token_encoder_size(c: Mapping[str, Any]) -> tuple[int, int]:
    """Return the parameters before the core, and how many numbers the core is given."""
    embed, cross, own = c["obs_fourier"], c["obs_latent_query_attn"], c.get("obs_latent_self_attn")
    features = embed["attr_embed_dim"] + 4 * embed["num_freqs"] + 1
    count = 256 * embed["attr_embed_dim"] + cross_size(cross, features)
    if own is None:
        return count, cross["out_dim"]
    return count + self_size(own, cross["out_dim"]), own["out_dim"]


def box_encoder_size(c: Mapping[str, Any]) -> tuple[int, int]:
    """Return the parameters before the core, and how many numbers the core is given."""
    count, channels, cells = 0, DEFAULT.num_layers, 11
    for name in ("cnn1", "cnn2"):
        p = c[name]["nn_params"]
        count += dense(channels * p["kernel_size"] ** 2, p["out_channels"])
        channels, cells = p["out_channels"], (cells - p["kernel_size"]) // p["stride"] + 1
    flat, center = c["fc1"]["nn_params"]["out_features"], c["center_fc"]["nn_params"]["out_features"]
    return count + dense(channels * cells * cells, flat) + dense(DEFAULT.num_layers, center), flat + center


def expected_size(c: Mapping[str, Any]) -> int:
    count, inputs = token_encoder_size(c) if "obs_fourier" in c else box_encoder_size(c)
    hidden = c["_core_"]["output_size"]
    for _ in range(c["_core_"]["nn_params"]["num_layers"]):
        count += 4 * hidden * (inputs + hidden) + 8 * hidden
        inputs = hidden
    critic, actor = c["critic_1"]["nn_params"]["out_features"], c["actor_1"]["nn_params"]["out_features"]
    table = c["_action_embeds_"]["nn_params"]
    count += dense(hidden, critic) + dense(critic, 1) + dense(hidden, actor)
    return count + table["num_embeddings"] * table["embedding_dim"] + actor * table["embedding_dim"] + 1


@pytest.mark.parametrize("name", PARAMETERS)
def test_number_of_parameters(name: str) -> None:
    config = load_agent_config(FIXTURES / "agents" / f"{name}.yaml")
    policy = ComponentPolicy(DEFAULT, components=config.components)
    assert sum(parameter.numel() for parameter in policy.parameters()) == expected_size(config.components)
    assert expected_size(config.components) == PARAMETERS[name]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "example"])
def test_each_attention_agent_acts_and_evaluates(name: str, dtype: torch.dtype) -> None:
    act_and_evaluate(name, dtype)


def test_the_example_agent_acts_and_evaluates() -> None:
    act_and_evaluate("example", torch.float64)


def act_and_evaluate(name: str, dtype: torch.dtype) -> None:
    config = load_agent_config(FIXTURES / "agents" / f"{name}.yaml")
    agent = MettaAgent(DEFAULT, SystemConfig(dtype=dtype), config)
    assert isinstance(agent.policy, ComponentPolicy)
    agent.initialize_to_environment(DEFAULT)
    observation = tokens(2, 3, environment=DEFAULT)
    observation[1, 1] = 255  # a step without any token
    acted = agent(TensorDict({"env_obs": observation}, batch_size=[2, 3]))
    td = TensorDict({"env_obs": observation}, batch_size=[2, 3])
    judged = agent(td, action=acted["actions"])
    assert judged["full_log_probs"].dtype == judged["value"].dtype == dtype
    torch.testing.assert_close(judged["act_log_prob"], acted["act_log_prob"])
    loss = (
        judged["act_log_prob"].sum() + judged["value"].square().sum() + judged["entropy"].sum() + agent.l2_init_loss()
    )
    loss.backward()
    for parameter_name, parameter in agent.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
    assert [entry["name"] for entry in agent.compute_weight_metrics()] == ["critic_1", "actor_1"]
