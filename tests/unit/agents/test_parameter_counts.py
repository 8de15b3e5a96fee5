"""Parameter counts from first principles: arithmetic on the YAML and the environment, nothing built."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from parity.builtin.build import builder, default_recipe
from parity.resources import fixture

AGENTS = ("fast", "latent_attn_tiny", "latent_attn_small", "latent_attn_med", "example")
README = Path(__file__).parents[3] / "README.md"


def linear(inputs: int, outputs: int, *, bias: bool = True) -> int:
    return inputs * outputs + (outputs if bias else 0)


def norm(width: int) -> int:
    return 2 * width


def lstm(inputs: int, hidden: int, layers: int) -> int:
    """Four gates, each with two weights and two biases."""
    return sum(4 * (hidden * (hidden + (hidden if layer else inputs)) + 2 * hidden) for layer in range(layers))


def convolutions(components: dict[str, Any], channels: int, width: int, height: int) -> tuple[int, int]:
    """Parameters of cnn1 and cnn2, and the numbers they leave per row."""
    total = 0
    for name in ("cnn1", "cnn2"):
        params = components[name]["nn_params"]
        kernel, stride, out = params["kernel_size"], params["stride"], params["out_channels"]
        total += out * channels * kernel * kernel + out
        width, height, channels = (width - kernel) // stride + 1, (height - kernel) // stride + 1, out
    return total, channels * width * height


def box_encoder(components: dict[str, Any], features: int, width: int, height: int) -> tuple[int, int]:
    """Parameters, and the width of what the core is given."""
    total, flat = convolutions(components, features, width, height)
    fc1 = components["fc1"]["nn_params"]["out_features"]
    total += linear(flat, fc1)
    if "center_fc" in components:
        centre = components["center_fc"]["nn_params"]["out_features"]
        return total + linear(features, centre), fc1 + centre
    encoded = components["encoded_obs"]["nn_params"]["out_features"]
    return total + linear(fc1, encoded), encoded


def token_encoder(components: dict[str, Any]) -> tuple[int, int]:
    """Parameters, and the width of what the core is given."""
    embedding, frequencies = (components["obs_fourier"][key] for key in ("attr_embed_dim", "num_freqs"))
    token = embedding + 4 * frequencies + 1
    cross = components["obs_latent_query_attn"]
    width, inner = cross["query_token_dim"], cross["query_token_dim"] * cross["mlp_ratio"]
    total = 256 * embedding + norm(token) + 2 * linear(token, width, bias=False) + cross["num_query_tokens"] * width
    layer = norm(width) + linear(width, width, bias=False) + linear(width, width)
    layer += norm(width) + linear(width, inner) + linear(inner, width)
    total += cross["num_layers"] * layer + norm(width)
    if cross["out_dim"] != width:
        total += linear(width, cross["out_dim"])
    if "obs_latent_self_attn" not in components:
        return total, cross["out_dim"]
    among = components["obs_latent_self_attn"]
    width = cross["out_dim"]
    layer = norm(width) + 3 * linear(width, width, bias=False) + linear(width, width)
    total += width + among["num_layers"] * layer + norm(width) + linear(width, among["out_dim"])
    return total, among["out_dim"]


def counted(agent: str) -> int:
    components = yaml.safe_load(fixture("agents", f"{agent}.yaml").read_text())["components"]
    environment = yaml.safe_load(fixture("environments", "default.yaml").read_text())
    layers = max(feature["id"] for feature in environment["features"].values()) + 1
    if "cnn1" in components:
        total, encoded = box_encoder(components, layers, environment["obs_width"], environment["obs_height"])
    else:
        total, encoded = token_encoder(components)
    core = components["_core_"]
    hidden = core["output_size"]
    critic, actor = (components[name]["nn_params"]["out_features"] for name in ("critic_1", "actor_1"))
    rows, width = (components["_action_embeds_"]["nn_params"][key] for key in ("num_embeddings", "embedding_dim"))
    total += lstm(encoded, hidden, core["nn_params"]["num_layers"])
    total += linear(hidden, critic) + linear(critic, 1) + linear(hidden, actor)
    return total + rows * width + actor * width + 1


@pytest.mark.parametrize("agent", AGENTS)
def test_both_sides_have_the_parameters_that_the_yaml_asks_for(agent):
    recipe = default_recipe(agent)
    for agent_type in (None, agent):
        policy = builder(agent_type)(recipe)
        assert sum(math.prod(value.shape) for value in policy.parameters()) == counted(agent)


def test_fast_has_the_published_count():
    assert counted("fast") == 574_978


def test_the_readme_gives_the_counts():
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([\d,]+) \|$", README.read_text(), flags=re.M)
    assert {name: int(count.replace(",", "")) for name, count in rows} == {agent: counted(agent) for agent in AGENTS}
