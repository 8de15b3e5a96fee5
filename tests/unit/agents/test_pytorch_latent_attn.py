from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_samples import FIXTURES, draw_tokens, small_environment
from tensordict import TensorDict

from parity.agents.config import load_agent_config, load_environment
from parity.agents.errors import ConfigError
from parity.agents.interface import EnvironmentDescription
from parity.agents.pytorch.latent_attn import LatentAttnMed, LatentAttnSmall, LatentAttnTiny
from parity.agents.pytorch.weights import single_thread
from parity.agents.seeding import parameter_generator

AGENTS = {"latent_attn_tiny": LatentAttnTiny, "latent_attn_small": LatentAttnSmall, "latent_attn_med": LatentAttnMed}
DEFAULT = load_environment(FIXTURES / "environments" / "default.yaml")
CROSS, SELF = "obs_latent_query_attn", "obs_latent_self_attn"


def components_of(name: str) -> dict[str, Any]:
    return copy.deepcopy(dict(load_agent_config(FIXTURES / "agents" / f"{name}.yaml").components))


def build(name: str, environment: EnvironmentDescription = DEFAULT, **kwargs: Any) -> Any:
    policy = AGENTS[name](environment, **{"components": components_of(name), **kwargs})
    policy.initialize_to_environment(environment)
    return policy


@pytest.mark.parametrize(
    ("name", "count"), [("latent_attn_tiny", 502_936), ("latent_attn_small", 501_556), ("latent_attn_med", 528_156)]
)
def test_parameter_counts(name: str, count: int) -> None:
    assert sum(parameter.numel() for parameter in build(name).parameters()) == count


def test_encoders_draw_each_role_from_its_own_generator() -> None:
    policy = build("latent_attn_med", seed=3)

    def drawn(initialise: Callable[..., Any], shape: tuple[int, ...], component: str, role: str, **how: Any) -> Any:
        with single_thread():
            return initialise(torch.empty(shape), generator=parameter_generator(3, component, role), **how)

    trunc, orthogonal = torch.nn.init.trunc_normal_, torch.nn.init.orthogonal_
    embeds = drawn(trunc, (256, 12), "obs_fourier", "attr_embeds.weight", std=0.02)
    embeds[255] = 0
    cross, own = policy.cross_attention, policy.self_attention
    for parameter, expected in (
        (policy.fourier.attr_embeds.weight, embeds),
        (cross.query_tokens, drawn(trunc, (1, 10, 32), CROSS, "query_tokens", std=0.02)),
        (cross.v_proj.weight, drawn(orthogonal, (32, 45), CROSS, "v_proj.weight")),
        (cross.layers[2].mlp_in.weight, drawn(orthogonal, (128, 32), CROSS, "layers.2.mlp_in.weight")),
        (own.cls_token, drawn(torch.nn.init.normal_, (1, 1, 32), SELF, "cls_token")),
        (own.layers[1].attn_out_proj.weight, drawn(orthogonal, (32, 32), SELF, "layers.1.attn_out_proj.weight")),
        (own.output_proj.weight, drawn(orthogonal, (128, 32), SELF, "output_proj.weight")),
    ):
        assert torch.equal(parameter, expected)
    biases = [parameter for key, parameter in cross.named_parameters() if key.endswith("bias")]
    assert len(biases) == 2 + 3 * 5 and not any(bias.any() for bias in biases)


@pytest.mark.parametrize("name", ["latent_attn_tiny", "latent_attn_small"])
def test_seed_decides_the_bits_whatever_the_threads_and_dtype(name: str) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = build(name, seed=3).state_dict()
        torch.set_num_threads(2)
        before = torch.get_rng_state()
        two, wide = build(name, seed=3).state_dict(), build(name, seed=3, dtype=torch.float64).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
    finally:
        torch.set_num_threads(threads)
    other = build(name, seed=4).state_dict()
    for key, value in one.items():
        assert torch.equal(value, two[key]) and torch.equal(value.double(), wide[key]), key
    for key in ("fourier.attr_embeds.weight", "cross_attention.query_tokens", "cross_attention.k_proj.0.weight"):
        assert not torch.equal(one[key], other[key])


def test_encoder_weights_are_clipped_and_pulled_by_their_components_scales() -> None:
    components = components_of("latent_attn_small")
    components[CROSS].update(clip_scale=2, l2_init_scale=0.25, analyze_weights=True)
    components[SELF].update(clip_scale=0, l2_init_scale=0)
    policy = build("latent_attn_small", components=components, clip_range=0.5, dtype=torch.float64)
    bounds = {key: 2 * 0.5 * value.abs().max() for key, value in policy.cross_attention.state_dict().items()}
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.5)
    of_cross = [stage for stage in policy.stages() if stage.settings.name == CROSS]
    of_rest = [stage for stage in policy.stages() if stage.settings.name not in (CROSS, SELF)]
    assert (len(of_cross), len(of_rest)) == (2 + 4, 3)
    assert all(len(stage) == 1 for stage in of_cross)  # no activation of its own
    pulled = sum(0.25 * stage.weight.numel() for stage in of_rest) + sum(
        0.25 * 0.25 * stage.weight.numel() for stage in of_cross
    )
    assert policy.l2_init_loss().item() == pytest.approx(pulled, rel=1e-12)
    before = copy.deepcopy(policy.state_dict())
    policy.clip_weights()
    for key, value in policy.cross_attention.state_dict().items():
        if key.endswith("_proj.0.weight") or key.endswith(("mlp_in.0.weight", "mlp_out.0.weight")):
            assert value.abs().max() == bounds[key], key
        else:
            assert torch.equal(value, before[f"cross_attention.{key}"]), key
    for part in ("self_attention", "fourier"):
        for key, value in getattr(policy, part).state_dict().items():
            assert torch.equal(value, before[f"{part}.{key}"]), key
    assert [entry["name"] for entry in policy.compute_weight_metrics()] == ["critic_1", "actor_1"]


@pytest.mark.parametrize("name", AGENTS)
def test_every_parameter_gets_a_finite_gradient_even_without_tokens(name: str) -> None:
    environment = small_environment()
    policy = build(name, environment, dtype=torch.float64)
    tokens = draw_tokens(2, 3)
    for observations in (tokens, torch.full_like(tokens, 0xFF)):
        td = TensorDict({"env_obs": observations}, batch_size=[2, 3])
        out = policy(td, action=torch.zeros(2, 3, 2, dtype=torch.int64))
        policy.zero_grad()
        (out["act_log_prob"].sum() + out["value"].sum() + out["entropy"].sum()).backward()
        for key, parameter in policy.named_parameters():
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), key


def test_more_padding_and_another_order_change_nothing() -> None:
    short, long = small_environment(), small_environment(num_tokens=9)
    tokens = draw_tokens(4)
    longer = torch.cat((torch.full((4, 4, 3), 0xFF, dtype=torch.uint8), tokens.flip(1)), dim=1)
    outputs = []
    for environment, observations in ((short, tokens), (long, longer)):
        policy = build("latent_attn_small", environment, dtype=torch.float64)
        outputs.append(policy(TensorDict({"env_obs": observations}, batch_size=[4]))["full_log_probs"])
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)


def test_remapped_features_mean_what_they_meant() -> None:
    first = small_environment()
    later = dict(zip(first.features, reversed(list(first.features.values())), strict=True))
    policy, tokens = build("latent_attn_tiny", first, dtype=torch.float64), draw_tokens(4)
    swapped = tokens.clone()
    swapped[..., 1] = 3 - tokens[..., 1]  # the two features have ids 0 and 3
    expected = policy.fourier(*policy.normalizer(*policy.tokens(tokens)))[0]
    policy.activate_observations(later)
    found = policy.fourier(*policy.normalizer(*policy.tokens(swapped)))[0]
    assert torch.equal(found[..., :-1], expected[..., :-1])  # the values are divided by other numbers now
    policy.normalizer.set_normalizations({feature.id: feature.normalization for feature in first.features.values()})
    assert torch.equal(policy.fourier(*policy.normalizer(*policy.tokens(swapped)))[0], expected)


def test_flags_and_upstream_spellings_are_accepted() -> None:
    components = components_of("latent_attn_small")
    components[CROSS].update(use_mask=True)
    components[SELF].update(use_mask=False)
    components[CROSS].pop("query_token_dim")
    components[CROSS].pop("mlp_ratio")
    for settings in components.values():
        settings["_target_"] = f"metta.agent.lib.some_module.{settings['_target_']}"
        settings.update(effective_rank=True, mlp_out_hidden_dim=3, atr_embed_dim=4)
    policy = build("latent_attn_small", components=components)
    assert policy.cross_attention.layers[0].mlp_in.weight.shape == (128, 32)


def change(component: str, **settings: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda components: components[component].update(settings)


REFUSALS: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("latent_attn_tiny", change(CROSS, num_query_tokens=2), rf"component '{CROSS}': num_query_tokens is 2; give 1,"),
    ("latent_attn_med", change(CROSS, num_query_tokens=1), rf"component '{CROSS}': num_query_tokens is 1; give at le"),
    ("latent_attn_tiny", change(CROSS, num_heads=5), rf"component '{CROSS}': num_heads is 5; give a divisor"),
    ("latent_attn_tiny", change(CROSS, num_layers=0), r"num_layers is 0; give a whole number of at least 1"),
    ("latent_attn_tiny", change(CROSS, mlp_ratio=2.51), r"mlp_ratio times query_token_dim is 80\.32; give a ratio"),
    ("latent_attn_tiny", change(CROSS, use_mask=False), r"use_mask is False; give true, or leave it out"),
    ("latent_attn_tiny", change(CROSS, nonlinearity=None), r"unknown key 'nonlinearity'"),
    ("latent_attn_tiny", change(CROSS, nn_params={"out_dim": 3}), r"unknown key 'out_dim' in nn_params; this kind"),
    ("latent_attn_tiny", change("obs_fourier", clip_scale=1), r"component 'obs_fourier': unknown key 'clip_scale'"),
    ("latent_attn_tiny", lambda c: c["obs_fourier"].pop("num_freqs"), r"component 'obs_fourier': num_freqs is missing"),
    ("latent_attn_small", change(SELF, use_cls_token=False), r"use_cls_token is False; give true"),
    ("latent_attn_small", change(SELF, use_mask=True), r"use_mask is True; give false"),
    ("latent_attn_small", change(SELF, l2_init_scale=-1), r"l2_init_scale is -1; give a finite number >= 0"),
    ("latent_attn_small", change("_core_", sources=[{"name": CROSS}]), rf"sources are \['{CROSS}'\]; this agent reads"),
    ("latent_attn_small", lambda c: c.pop(SELF), rf"component '{SELF}' is missing; agent_type 'latent_attn_small'"),
    ("latent_attn_tiny", lambda c: c.update({SELF: {}}), rf"component '{SELF}' does not belong to agent_type '.*tiny'"),
    ("latent_attn_med", change("_obs_", _target_="ObsTokenToBoxShaper"), r"_target_ is '.*'; write 'ObsTokenPadStrip'"),
    ("latent_attn_med", change("_value_", nn_params={"out_features": 2}), r"nn_params\.out_features is 2; give 1"),
]


@pytest.mark.parametrize(("name", "edit", "message"), REFUSALS, ids=[message[:40] for _, _, message in REFUSALS])
def test_foreign_graphs_are_refused(name: str, edit: Callable[..., Any], message: str) -> None:
    components = components_of(name)
    edit(components)
    with pytest.raises(ConfigError, match=rf"^dir/a\.yaml: .*{message}"):
        build(name, components=components, source="dir/a.yaml")
