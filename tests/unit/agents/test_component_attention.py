"""The encoders against plain torch, what padding may not change, and what happens to their weights."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from component_builders import SMALL, component, tokens
from torch import Tensor, nn
from torch.nn import functional

from parity.agents.component import ComponentPolicy
from parity.agents.component.attention import attend
from parity.agents.component.base import Component
from parity.agents.errors import ConfigError
from parity.agents.seeding import parameter_generator

WIDTH, FEATURES = 8, 11
CROSS: dict[str, Any] = {"out_dim": 6, "num_query_tokens": 3, "num_layers": 2, "num_heads": 2, "query_token_dim": WIDTH}
SELF: dict[str, Any] = {"out_dim": 6, "num_layers": 2, "num_heads": 2}


def encoder(kind: str, shape: tuple[int, ...], **keys: Any) -> Component:
    """Return an encoder in float64 whose weights are all random, biases and norms included."""
    built = component(kind, [shape], **keys).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return built


def features_and_mask(rows: int, slots: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(rows, slots, FEATURES, generator=generator, dtype=torch.float64)
    mask = torch.rand(rows, slots, generator=generator) < 0.6
    mask[:, 1] = True
    return features, mask


@pytest.mark.parametrize("masked", [False, True])
def test_attention_against_loops(masked: bool) -> None:
    q, k, v = (torch.randn(2, n, 6, dtype=torch.float64) for n in (3, 5, 5))
    mask = torch.tensor([[True, False, True, True, False], [False] * 5]) if masked else None
    found = attend(q, k, v, 2, mask)
    for n in range(2):
        used = [s for s in range(5) if mask is None or mask[n, s]]
        for i in range(3):
            for head in (slice(0, 3), slice(3, 6)):
                scores = [math.exp(float(q[n, i, head] @ k[n, s, head]) / math.sqrt(3)) for s in used]
                expected = torch.zeros(3, dtype=torch.float64)
                for score, s in zip(scores, used, strict=True):
                    expected += score / sum(scores) * v[n, s, head]
                torch.testing.assert_close(found[n, i, head], expected, rtol=1e-12, atol=1e-12)


def test_padding_weighs_exactly_nothing_and_gradients_stay_finite() -> None:
    q, k, v = (torch.randn(3, n, 6, requires_grad=True) for n in (2, 4, 4))
    mask = torch.tensor([[True, True, False, False], [False, False, False, True], [False] * 4])
    found = attend(q, k, v, 2, mask)
    assert found[2].equal(torch.zeros(2, 6))
    torch.testing.assert_close(found[1], v[1, 3].expand(2, 6))
    with torch.no_grad():
        other_k, other_v = (torch.where(mask.unsqueeze(-1), x, 1e30) for x in (k, v))
        assert attend(q, other_k, other_v, 2, mask).equal(found)
    with torch.autograd.set_detect_anomaly(True):  # no NaN on the way back either
        attend(q, k, v, 2, mask).square().sum().backward()
    for x in (k, v):
        assert x.grad is not None and x.grad.isfinite().all() and not x.grad[~mask].any()
    assert q.grad is not None and q.grad.isfinite().all() and not q.grad[2].any() and k.grad is not None
    assert q.grad[0].any() and k.grad[0].any()


def plain_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    """Torch's own attention; every row has a real token."""
    q, k, v = (x.view(len(x), -1, heads, WIDTH // heads).transpose(1, 2) for x in (q, k, v))
    allowed = None if mask is None else mask[:, None, None, :]
    found = functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    return found.transpose(1, 2).reshape(len(q), -1, WIDTH)


def linear(p: dict[str, Tensor], role: str, x: Tensor) -> Tensor:
    return functional.linear(x, p.pop(f"{role}.weight"), p.pop(f"{role}.bias", None))


def norm(p: dict[str, Tensor], role: str, x: Tensor) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], p.pop(f"{role}.weight"), p.pop(f"{role}.bias"), eps=1e-5)


@pytest.mark.parametrize("queries", [1, 3])
@pytest.mark.parametrize("out", [6, WIDTH])
def test_cross_encoder_against_plain_torch(queries: int, out: int) -> None:
    cross = encoder("ObsLatentAttn", (9, FEATURES), **{**CROSS, "num_query_tokens": queries, "out_dim": out})
    features, mask = features_and_mask(4, 9)
    p = {name: parameter.detach() for name, parameter in cross.named_parameters()}
    normed = norm(p, "token_norm", features)
    keys, values = linear(p, "k_proj", normed), linear(p, "v_proj", normed)
    x = p.pop("query_tokens").repeat(4, 1, 1)
    for i in range(2):
        q = linear(p, f"layers.{i}.q_proj", norm(p, f"layers.{i}.query_norm", x))
        x = x + linear(p, f"layers.{i}.attn_out_proj", plain_attention(q, keys, values, 2, mask))
        inner = linear(p, f"layers.{i}.mlp_in", norm(p, f"layers.{i}.mlp_norm", x))
        assert inner.shape[-1] == 4 * WIDTH
        x = x + linear(p, f"layers.{i}.mlp_out", 0.5 * inner * (1 + torch.erf(inner / math.sqrt(2))))
    x = norm(p, "final_norm", x)
    if out != WIDTH:
        x = linear(p, "output_proj", x)
    expected = x[:, 0] if queries == 1 else x
    assert not p  # every parameter was used, and none has a bias that it should not have
    torch.testing.assert_close(cross(features, mask).detach(), expected, rtol=1e-11, atol=1e-11)
    assert cross.output_shape == tuple(expected.shape[1:])


@pytest.mark.parametrize("out", [6, WIDTH])
def test_self_encoder_against_plain_torch(out: int) -> None:
    self_encoder = encoder("ObsSelfAttn", (3, WIDTH), **{**SELF, "out_dim": out})
    rows = torch.randn(4, 3, WIDTH, dtype=torch.float64)
    p = {name: parameter.detach() for name, parameter in self_encoder.named_parameters()}
    x = torch.cat([p.pop("cls_token").repeat(4, 1, 1), rows], dim=1)
    for i in range(2):
        y = norm(p, f"layers.{i}.norm", x)
        q, k, v = (linear(p, f"layers.{i}.{role}", y) for role in ("q_proj", "k_proj", "v_proj"))
        x = x + linear(p, f"layers.{i}.attn_out_proj", plain_attention(q, k, v, 2, None))
    expected = linear(p, "output_proj", norm(p, "final_norm", x)[:, 0])
    assert not p
    torch.testing.assert_close(self_encoder(rows).detach(), expected, rtol=1e-11, atol=1e-11)
    assert self_encoder.output_shape == (out,)


@pytest.mark.parametrize(("kind", "shape", "keys"), [("ObsLatentAttn", (9, 11), CROSS), ("ObsSelfAttn", (3, 8), SELF)])
def test_initial_parameters_by_role(kind: str, shape: tuple[int, ...], keys: dict[str, Any]) -> None:
    built = component(kind, [shape], **keys)
    for role, parameter in built.named_parameters():
        drawn, generator = torch.empty(parameter.shape), parameter_generator(3, "unit", role)
        if role == "query_tokens":
            nn.init.trunc_normal_(drawn, std=0.02, generator=generator)
        elif role == "cls_token":
            nn.init.normal_(drawn, generator=generator)
        elif "norm" in role:
            drawn.fill_(1.0 if role.endswith("weight") else 0.0)
        elif role.endswith("bias"):
            drawn.zero_()
        else:
            nn.init.orthogonal_(drawn, generator=generator)
        torch.testing.assert_close(parameter.detach(), drawn, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "shape", "keys", "part"),
    [
        (
            "ObsLatentAttn",
            (9, 11),
            {**CROSS, "num_heads": 3},
            "num_heads is 3, which does not divide query_token_dim, 8",
        ),
        ("ObsLatentAttn", (9, 11), {**CROSS, "num_query_tokens": 0}, "num_query_tokens is 0"),
        ("ObsLatentAttn", (9, 11), {**CROSS, "mlp_ratio": 0.3}, "mlp_ratio is 0.3, which times query_token_dim 8"),
        ("ObsLatentAttn", (9, 11), {**CROSS, "mlp_ratio": 0}, "mlp_ratio is 0"),
        ("ObsLatentAttn", (9, 11), {**CROSS, "use_mask": False}, "use_mask is False; only true is known"),
        ("ObsLatentAttn", (9, 11), {**CROSS, "clip_scale": -1}, "clip_scale is -1"),
        ("ObsLatentAttn", (9, 11), {**CROSS, "nonlinearity": None}, "unknown key 'nonlinearity'"),
        ("ObsLatentAttn", (9, 11), {"num_layers": 1, "num_heads": 1, "num_query_tokens": 1}, "has no 'out_dim'"),
        ("ObsSelfAttn", (3, 8), {**SELF, "use_cls_token": False}, "use_cls_token is False; only true is known"),
        ("ObsSelfAttn", (3, 8), {**SELF, "use_mask": True}, "use_mask is True; only false is known"),
        (
            "ObsSelfAttn",
            (3, 8),
            {**SELF, "num_heads": 5},
            "num_heads is 5, which does not divide its source's out_dim, 8",
        ),
        ("ObsSelfAttn", (8,), SELF, "gives [8] per row; give the encoder before it a num_query_tokens of at least 2"),
        ("ObsSelfAttn", (5, 4, 3), SELF, "takes query rows [queries, width], but its source gives [5, 4, 3]"),
    ],
)
def test_refusals(kind: str, shape: tuple[int, ...], keys: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        component(kind, [shape], **keys)
    assert str(caught.value).startswith("test.yaml: component 'unit': ") and part in str(caught.value)


def chain() -> list[Component]:
    """Return the components from tokens to encoded rows, with random weights."""
    token_count = SMALL.num_tokens
    fourier = encoder("ObsAttrEmbedFourier", (token_count,), attr_embed_dim=2, num_freqs=2)
    cross = {**CROSS, "out_dim": WIDTH}
    return [
        component("ObsTokenPadStrip", []),
        component("ObsAttrValNorm", [(token_count, 3)]).double(),
        fourier,
        encoder("ObsLatentAttn", fourier.output_shape, **cross),
        encoder("ObsSelfAttn", (3, WIDTH), **SELF),
    ]


def encode(components: list[Component], observation: Tensor) -> Tensor:
    value: Any = (observation,)
    for each in components:
        value = each(*value) if isinstance(value, tuple) else each(value)
    return value.detach()


def test_a_row_depends_on_its_own_real_tokens_only() -> None:
    components, observation = chain(), tokens(12)
    observation[3] = 255
    together = encode(components, observation)
    assert together.isfinite().all() and len(together.unique(dim=0)) == 12
    alone = torch.cat([encode(components, row.unsqueeze(0)) for row in observation])
    more_padding = torch.cat([torch.full((12, 7, 3), 255, dtype=torch.uint8), observation], dim=1)
    order = torch.randperm(SMALL.num_tokens, generator=torch.Generator().manual_seed(0))
    other_padding = observation.clone()
    noise = torch.randint(0, 256, observation.shape, dtype=torch.uint8)
    other_padding[..., 1:] = torch.where(observation[..., :1] == 255, noise, observation)[..., 1:]
    for same in (
        alone,
        encode(components, more_padding),
        encode(components, observation[:, order]),
        encode(components, other_padding),
        encode(components, observation.flip(0)).flip(0),
    ):
        torch.testing.assert_close(same, together, rtol=1e-11, atol=1e-11)


def attention_policy(**keys: Any) -> ComponentPolicy:
    components: dict[str, Any] = {
        "_obs_": {"_target_": "ObsTokenPadStrip"},
        "norm": {"_target_": "metta.agent.lib.obs_tokenizers.ObsAttrValNorm", "sources": [{"name": "_obs_"}]},
        "embed": {
            "_target_": "metta.agent.lib.obs_tokenizers.ObsAttrEmbedFourier",
            "sources": [{"name": "norm"}],
            "attr_embed_dim": 2,
            "num_freqs": 2,
        },
        "cross": {
            "_target_": "metta.agent.lib.obs_enc.ObsLatentAttn",
            "sources": [{"name": "embed"}],
            **CROSS,
            "use_mask": True,
            "analyze_weights": True,
            **keys,
        },
        "self": {
            "_target_": "metta.agent.lib.obs_enc.ObsSelfAttn",
            "sources": [{"name": "cross"}],
            "use_cls_token": True,
            **SELF,
        },
        "_core_": {"_target_": "LSTM", "sources": [{"name": "self"}], "output_size": 5},
        "_value_": {"_target_": "Linear", "sources": [{"name": "_core_"}], "nn_params": {"out_features": 1}},
        "_action_embeds_": {"_target_": "ActionEmbedding", "nn_params": {"num_embeddings": 9, "embedding_dim": 4}},
        "_action_": {"_target_": "MettaActorSingleHead", "sources": [{"name": "_core_"}, {"name": "_action_embeds_"}]},
    }
    return ComponentPolicy(SMALL, components=components, clip_range=1.5)


def is_linear_weight(name: str) -> bool:
    in_encoder = name.startswith(("components.cross", "components.self")) and "norm" not in name
    return name.endswith("weight") and (in_encoder or "_value_" in name)


def test_every_linear_weight_inside_is_clipped_and_nothing_else() -> None:
    policy = attention_policy(clip_scale=2.0)
    initial = {name: parameter.abs().max().item() for name, parameter in policy.named_parameters()}
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(9).add_(0.01)
    before = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    policy.update_l2_init_weight_copy()
    policy.clip_weights()
    clipped = 0
    for name, parameter in policy.named_parameters():
        if is_linear_weight(name):
            bound = 1.5 * (2.0 if ".cross." in name else 1.0) * initial[name]
            assert parameter.equal(before[name].clamp(-bound, bound)) and not parameter.equal(before[name])
            clipped += 1
        else:
            assert parameter.equal(before[name])
    assert clipped == (2 + 2 * 4 + 1) + (2 * 4 + 1) + 1


def test_every_linear_weight_inside_is_pulled_to_its_initial_value() -> None:
    policy = attention_policy(l2_init_scale=0.5)
    assert policy.l2_init_loss().item() == 0.0
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    policy.l2_init_loss().backward()
    for name, parameter in policy.named_parameters():
        if is_linear_weight(name):
            expected = 1.0 if ".cross." in name else 2.0
            torch.testing.assert_close(parameter.grad, torch.full_like(parameter, expected))
        else:
            assert parameter.grad is None or not parameter.grad.any()
    policy.update_l2_init_weight_copy()
    assert policy.l2_init_loss().item() == 0.0


def test_bounds_travel_with_a_checkpoint_and_metrics_leave_encoders_out() -> None:
    policy = attention_policy()
    assert policy.compute_weight_metrics() == []
    state = policy.state_dict()
    assert {"components.cross.layers.1.mlp_in.initial_weight", "components.self.output_proj.initial_max"} <= set(state)
    with torch.no_grad():
        policy.get_buffer("components.cross.k_proj.initial_max").fill_(0.25)
    other = attention_policy()
    other.load_state_dict(policy.state_dict())
    assert other.get_buffer("components.cross.k_proj.initial_max").item() == 0.25
