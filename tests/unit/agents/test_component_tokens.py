"""The token components against plain loops, and what reaches them of the environment's feature table."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from component_builders import SMALL, component, tokens
from tensordict import TensorDict
from torch import Tensor, nn

from parity.agents.component import ComponentPolicy
from parity.agents.component.tokens import ObsAttrCoordEmbed, ObsAttrEmbedFourier, ObsAttrValNorm, ObsTokenPadStrip
from parity.agents.errors import ConfigError, IgnoredTokensWarning
from parity.agents.interface import Feature
from parity.agents.seeding import parameter_generator

M = SMALL.num_tokens
_HEADS: dict[str, Any] = {
    "_core_": {"_target_": "LSTM", "sources": [{"name": "cross"}], "output_size": 5},
    "_value_": {"_target_": "Linear", "sources": [{"name": "_core_"}], "nn_params": {"out_features": 1}},
    "_action_embeds_": {"_target_": "ActionEmbedding", "nn_params": {"num_embeddings": 12, "embedding_dim": 4}},
    "_action_": {"_target_": "MettaActorSingleHead", "sources": [{"name": "_core_"}, {"name": "_action_embeds_"}]},
}


def token_components(embedding: str = "ObsAttrEmbedFourier", **keys: Any) -> dict[str, Any]:
    """Return a small agent of token components."""
    keys = keys or {"attr_embed_dim": 3, "num_freqs": 2}
    attention = {"out_dim": 8, "num_query_tokens": 1, "num_layers": 1, "num_heads": 2, "query_token_dim": 8}
    return {
        "_obs_": {"_target_": "ObsTokenPadStrip", "sources": None},
        "norm": {"_target_": "ObsAttrValNorm", "sources": [{"name": "_obs_"}]},
        "embed": {"_target_": embedding, "sources": [{"name": "norm"}], **keys},
        "cross": {"_target_": "ObsLatentAttn", "sources": [{"name": "embed"}], **attention},
        **_HEADS,
    }


def is_real(token: list[int]) -> bool:
    byte, feature, _ = token
    x, y = divmod(byte, 16)
    return byte != 255 and feature < SMALL.num_layers and x < SMALL.obs_width and y < SMALL.obs_height


def attributes(rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    observation = tokens(rows, seed=seed)
    observation[0, 0] = torch.tensor([255, 255, 255])
    coordinates, ids, values = observation.unbind(-1)
    return coordinates, ids, values.double() / 7, coordinates != 255


@pytest.mark.parametrize("seed", range(4))
def test_stripping_keeps_every_real_token_in_order(seed: int) -> None:
    observation = torch.randint(0, 256, (5, M, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    usual = tokens(5, seed=seed)
    observation[:, : M - 2] = torch.where(usual[:, : M - 2, :1] == 255, observation[:, : M - 2], usual[:, : M - 2])
    before = observation.clone()
    with pytest.warns(IgnoredTokensWarning) as caught:
        shaper = component("ObsTokenPadStrip", [])
        kept, mask = shaper(observation)
        shaper(observation)
    assert len(caught) == 1 and observation.equal(before)
    assert kept.dtype == torch.uint8 and mask.dtype == torch.bool and kept.shape == (5, mask.shape[1], 3)
    for row, row_kept, row_mask in zip(observation.tolist(), kept, mask, strict=True):
        assert row_kept[row_mask].tolist() == [token for token in row if is_real(token)]
    assert mask.any(dim=0)[-1]  # nothing is left to strip


@pytest.mark.parametrize("token", [(0x00, 5, 9), (0x40, 0, 9), (0x03, 0, 9), (0xFE, 0, 9)])
def test_a_token_that_fits_nowhere_is_not_real(token: tuple[int, int, int]) -> None:
    observation = torch.full((2, M, 3), 255, dtype=torch.uint8)
    observation[1, 1] = torch.tensor([0x10, 1, 4])
    observation[0, 4] = torch.tensor(token)
    with pytest.warns(IgnoredTokensWarning, match=f"{token[0]:#04x}, feature {token[1]}, value 9"):
        kept, mask = component("ObsTokenPadStrip", [])(observation)
    assert kept.shape == (2, 2, 3) and mask.tolist() == [[False, False], [False, True]]


def test_a_batch_of_nothing_but_padding_keeps_one_slot_and_is_silent() -> None:
    observation = torch.randint(0, 256, (4, M, 3), dtype=torch.uint8)
    observation[..., 0] = 255
    kept, mask = component("ObsTokenPadStrip", [])(observation)
    assert kept.shape == (4, 1, 3) and not mask.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_are_divided_by_their_features_normalisation(dtype: torch.dtype) -> None:
    normalizer = cast(ObsAttrValNorm, component("ObsAttrValNorm", [(M, 3)])).to(dtype)
    observation = tokens(3)
    mask = observation[..., 0] != 255
    divisors = {0: 2.0, 1: 1.0, 4: 3.0}
    normalizer.set_normalizations({0: 2.0, 4: 8.0, 254: 5.0})
    normalizer.set_normalizations({4: 3.0})
    coordinates, ids, values, passed = normalizer(observation, mask)
    assert passed is mask and coordinates.equal(observation[..., 0]) and ids.equal(observation[..., 1])
    expected = [[value / divisors[feature] for _, feature, value in row] for row in observation.tolist()]
    assert values.dtype == dtype
    torch.testing.assert_close(values, torch.tensor(expected, dtype=dtype), rtol=1e-7, atol=0)


@pytest.mark.parametrize(("width", "height"), [(4, 3), (1, 3), (16, 1)])
def test_fourier_features_against_a_loop(width: int, height: int) -> None:
    environment = replace(SMALL, obs_width=width, obs_height=height)
    keys = {"attr_embed_dim": 3, "num_freqs": 4}
    embed = cast(
        ObsAttrEmbedFourier, component("ObsAttrEmbedFourier", [(M,)], environment=environment, **keys).double()
    )
    coordinates, ids, values, mask = attributes(5)
    features, passed = embed(coordinates, ids, values, mask)
    assert passed is mask and features.shape == (5, M, 3 + 16 + 1) and embed.output_shape == (M, 20)
    table = embed.attr_embeds.weight.tolist()
    for n in range(5):
        for s in range(M):
            x, y = divmod(int(coordinates[n, s]), 16)
            x = 2 * x / (width - 1) - 1 if width > 1 else 0.0
            y = 2 * y / (height - 1) - 1 if height > 1 else 0.0
            waves = [wave(z * 2**k) for z in (x, y) for wave in (math.cos, math.sin) for k in range(4)]
            expected = [*table[int(ids[n, s])], *waves, float(values[n, s])]
            assert features[n, s].tolist() == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_coordinate_embedding_against_a_loop() -> None:
    embed = cast(ObsAttrCoordEmbed, component("ObsAttrCoordEmbed", [(M,)], attr_embed_dim=3).double())
    coordinates, ids, values, mask = attributes(5)
    features, passed = embed(coordinates, ids, values, mask)
    assert passed is mask and features.shape == (5, M, 4) and embed.output_shape == (M, 4)
    by_id, by_place = embed.attr_embeds.weight.tolist(), embed.coord_embeds.weight.tolist()
    for n in range(5):
        for s in range(M):
            pairs = zip(by_id[int(ids[n, s])], by_place[int(coordinates[n, s])], strict=True)
            assert features[n, s].tolist() == [*(a + b for a, b in pairs), values[n, s].item()]


@pytest.mark.parametrize(
    ("kind", "keys", "roles"),
    [
        ("ObsAttrEmbedFourier", {"attr_embed_dim": 3, "num_freqs": 2}, ["attr_embeds.weight"]),
        ("ObsAttrCoordEmbed", {"attr_embed_dim": 3}, ["attr_embeds.weight", "coord_embeds.weight"]),
    ],
)
def test_tables_are_drawn_by_role_and_their_zero_row_is_never_trained(
    kind: str, keys: dict[str, Any], roles: list[str]
) -> None:
    embed = component(kind, [(M,)], **keys)
    assert [name for name, _ in embed.named_parameters()] == roles
    for role in roles:
        drawn = nn.init.trunc_normal_(torch.empty(256, 3), std=0.02, generator=parameter_generator(3, "unit", role))
        drawn[255] = 0.0
        assert embed.get_parameter(role).equal(drawn)
    everything = torch.arange(256, dtype=torch.uint8).view(1, 256)
    embed(everything, everything, torch.rand(1, 256), everything != 255)[0].sum().backward()
    for role in roles:
        gradient = embed.get_parameter(role).grad
        assert gradient is not None and gradient[:255].equal(torch.ones(255, 3)) and not gradient[255].any()


def test_building_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    ComponentPolicy(SMALL, components=token_components("ObsAttrCoordEmbed", attr_embed_dim=2))
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    ("component_name", "change", "parts"),
    [
        ("embed", {"attr_embed_dim": 0}, ["attr_embed_dim is 0; give a whole number of at least 1"]),
        ("embed", {"num_freqs": 2.5}, ["num_freqs is 2.5"]),
        ("embed", {"num_freq": 2}, ["unknown key 'num_freq'", "did you mean 'num_freqs'"]),
        ("embed", {"sources": [{"name": "_obs_"}]}, ["(ObsTokenPadStrip) gives tokens and mask", "ObsAttrValNorm"]),
        ("norm", {"sources": [{"name": "_core_"}]}, ["cycle"]),
        ("_core_", {"sources": [{"name": "embed"}]}, ["LSTM takes one tensor", "only these take that: ObsLatentAttn"]),
        ("_obs_", {"_target_": "ObsTokenToBoxShaper"}, ["gives one tensor; name a source of kind: ObsTokenPadStrip"]),
    ],
)
def test_refusals_name_the_component_and_the_remedy(
    component_name: str, change: dict[str, Any], parts: list[str]
) -> None:
    components = token_components()
    components[component_name] = {**components[component_name], **change}
    with pytest.raises(ConfigError) as caught:
        ComponentPolicy(SMALL, components=components, source="agent.yaml")
    assert str(caught.value).startswith("agent.yaml: component ")
    for part in parts:
        assert part in str(caught.value)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match=r"component 'unit': has no 'num_freqs'; give a whole number of at least 1"):
        component("ObsAttrEmbedFourier", [(M,)], attr_embed_dim=3)


@pytest.mark.parametrize("kind", ["ObsAttrEmbedFourier", "ObsAttrCoordEmbed"])
def test_remapped_ids_and_new_normalisations_reach_the_tokens(kind: str) -> None:
    keys = {"attr_embed_dim": 3, "num_freqs": 2} if kind.endswith("Fourier") else {"attr_embed_dim": 3}
    policy = ComponentPolicy(SMALL, components=token_components(kind, **keys), dtype=torch.float64).eval()
    policy.initialize_to_environment(SMALL)
    observation = tokens(4)
    first = policy(TensorDict({"env_obs": observation}, batch_size=[4]))["full_log_probs"]
    policy.reset_memory()
    moved = {0: 4, 1: 0, 4: 7}
    features = {
        name: Feature(moved[old.id], old.normalization * (3 if name == "c" else 1))
        for name, old in SMALL.features.items()
    }
    policy.activate_observations(features)
    renamed = observation.clone()
    for old, new in moved.items():
        renamed[..., 1][observation[..., 1] == old] = new
    of_c = observation[..., 1] == 4
    observation[..., 2][of_c] = observation[..., 2][of_c] // 3
    renamed[..., 2][of_c] = observation[..., 2][of_c] * 3
    second = policy(TensorDict({"env_obs": renamed}, batch_size=[4]))["full_log_probs"]
    policy.reset_memory()
    policy.activate_observations(SMALL.features)
    expected = policy(TensorDict({"env_obs": observation}, batch_size=[4]))["full_log_probs"]
    torch.testing.assert_close(second, expected, rtol=1e-12, atol=1e-12)
    assert not torch.equal(first, expected)


def test_an_unknown_feature_is_no_token_at_all() -> None:
    policy = ComponentPolicy(SMALL, components=token_components(), dtype=torch.float64).eval()
    policy.initialize_to_environment(SMALL)
    policy.activate_observations({**SMALL.features, "new": Feature(2)})
    observation = tokens(3)
    with_new, padded = observation.clone(), observation.clone()
    with_new[:, 1], padded[:, 1] = torch.tensor([0x00, 2, 77]), 255
    strip = policy.components["_obs_"]
    assert isinstance(strip, ObsTokenPadStrip)
    with pytest.warns(IgnoredTokensWarning, match="feature 255"):
        found = policy(TensorDict({"env_obs": with_new}, batch_size=[3]))["full_log_probs"]
    policy.reset_memory()
    expected = policy(TensorDict({"env_obs": padded}, batch_size=[3]))["full_log_probs"]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
