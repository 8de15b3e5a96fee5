from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from pytorch_samples import component
from torch import Tensor
from torch.nn import functional

from parity.agents.errors import ConfigError
from parity.agents.pytorch.attention import CrossAttention, SelfAttention
from parity.agents.pytorch.packing import pack
from parity.agents.pytorch.token_memory import AbsorbedHeads, ProjectedHeads

ROWS, SLOTS, FEATURES = 70, 9, 5
CROSS = {"out_dim": 6, "num_query_tokens": 3, "num_layers": 2, "num_heads": 2, "query_token_dim": 4}
ARRANGEMENTS = (
    ({"num_query_tokens": 1, "num_layers": 1}, AbsorbedHeads),
    ({"num_query_tokens": 1, "num_layers": 3, "num_heads": 4, "out_dim": 4}, ProjectedHeads),
    ({}, ProjectedHeads),
    ({"num_query_tokens": 2, "num_layers": 1, "num_heads": 1}, AbsorbedHeads),
)


def stress(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))


def layers_of(encoder: CrossAttention | SelfAttention) -> list[Any]:
    return list(encoder.layers)


def cross(**changes: int) -> CrossAttention:
    settings = component("cross", nonlinearity=None, sizes={**CROSS, **changes}, ratios={"mlp_ratio": 2.5})
    encoder = CrossAttention(settings, FEATURES, seed=1, dtype=torch.float64)
    stress(encoder)
    return encoder


def self_attention(**changes: int) -> SelfAttention:
    settings = component("self", nonlinearity=None, sizes={"out_dim": 5, "num_layers": 2, "num_heads": 2, **changes})
    encoder = SelfAttention(settings, 4, seed=1, dtype=torch.float64)
    stress(encoder)
    return encoder


def batch() -> tuple[Tensor, Tensor]:
    """Features and mask, among them rows without a token, rows without padding, and padding between tokens."""
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(ROWS, SLOTS, FEATURES, generator=generator, dtype=torch.float64)
    mask = torch.rand(ROWS, SLOTS, generator=generator) < torch.rand(ROWS, 1, generator=generator)
    mask[[0, 40, ROWS - 1]] = False
    mask[[1, 41]] = True
    return features, mask


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """One row: queries ``[Q, D]``, keys and values ``[tokens, D]``; without a token, zeros."""
    width = queries.shape[1] // heads
    out = torch.zeros_like(queries)
    for query, head in itertools.product(range(len(queries)), range(heads)):
        part = slice(head * width, (head + 1) * width)
        if len(keys):
            weights = torch.softmax(keys[:, part] @ queries[query, part] / width**0.5, dim=0)
            out[query, part] = sum(weight * value for weight, value in zip(weights, values[:, part], strict=True))
    return out


def cross_by_loop(encoder: CrossAttention, features: Tensor, mask: Tensor, heads: int) -> Tensor:
    rows = []
    for row, real in zip(features, mask, strict=True):
        tokens = encoder.token_norm(row[real])
        keys, values = encoder.k_proj(tokens), encoder.v_proj(tokens)
        queries = encoder.query_tokens[0]
        for layer in layers_of(encoder):
            found = attend(layer.q_proj(layer.query_norm(queries)), keys, values, heads)
            queries = queries + layer.attn_out_proj(found)
            inner = layer.mlp_in(layer.mlp_norm(queries))
            queries = queries + layer.mlp_out(inner * 0.5 * (1 + torch.erf(inner / 2**0.5)))
        rows.append(encoder.output_proj(encoder.final_norm(queries)))
    return torch.stack(rows)


def gradients(module: torch.nn.Module, output: Tensor, features: Tensor) -> list[Tensor]:
    inputs = [features, *module.parameters()]
    return [*torch.autograd.grad(output.sin().sum(), inputs)]


@pytest.mark.parametrize(("changes", "arrangement"), ARRANGEMENTS)
def test_cross_attention_and_its_gradients_equal_the_loop(changes: dict[str, int], arrangement: type) -> None:
    encoder = cross(**changes)
    sizes = {**CROSS, **changes}
    assert encoder.arrangement is arrangement
    features, mask = batch()
    features.requires_grad_()
    output = encoder(features, mask)
    expected = cross_by_loop(encoder, features, mask, sizes["num_heads"])
    expected = expected[:, 0] if sizes["num_query_tokens"] == 1 else expected
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    found, wanted = gradients(encoder, output, features), gradients(encoder, expected, features)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-11)
    assert not found[0][~mask].any()  # exactly zero, rows without a token included


@pytest.mark.parametrize(("changes", "arrangement"), ARRANGEMENTS)
def test_padding_and_batch_mates_do_not_matter(changes: dict[str, int], arrangement: type) -> None:
    encoder = cross(**changes)
    features, mask = batch()
    output = encoder(features, mask)
    garbage = torch.where(mask[..., None], features, 1e9 * torch.randn_like(features))
    assert torch.equal(encoder(garbage, mask), output)
    wider = torch.cat((features, torch.randn(ROWS, 4, FEATURES, dtype=torch.float64)), dim=1)
    none = torch.zeros(ROWS, 4, dtype=torch.bool)
    order = torch.randperm(SLOTS + 4, generator=torch.Generator().manual_seed(1))
    shuffled = encoder(wider[:, order], torch.cat((mask, none), dim=1)[:, order])
    torch.testing.assert_close(shuffled, output, rtol=1e-12, atol=1e-12)
    for row in (0, 1, 2, ROWS - 1):
        alone = encoder(features[row : row + 1], mask[row : row + 1])
        torch.testing.assert_close(alone[0], output[row], rtol=1e-12, atol=1e-12)


def test_rows_without_tokens_give_the_bare_queries_and_finite_gradients() -> None:
    encoder = cross()
    features, mask = batch()
    features.requires_grad_()
    nothing = encoder(features, torch.zeros_like(mask))
    queries = encoder.query_tokens
    for layer in layers_of(encoder):
        queries = queries + layer.attn_out_proj(torch.zeros_like(queries))
        queries = queries + layer.mlp_out(functional.gelu(layer.mlp_in(layer.mlp_norm(queries))))
    expected = encoder.output_proj(encoder.final_norm(queries)).expand_as(nothing)
    torch.testing.assert_close(nothing, expected, rtol=1e-12, atol=1e-12)
    nothing.sum().backward()
    assert features.grad is not None and not features.grad.any()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), name


@pytest.mark.parametrize("rows", [1, 31, 32, 33, 70])
def test_packing_holds_each_rows_tokens_once(rows: int) -> None:
    mask = batch()[1][:rows]
    packing = pack(mask, torch.float64)
    start, at = 0, 0
    order = packing.position.argsort()
    for bias in packing.biases:
        count, width = len(bias), bias.shape[-1]
        slots = packing.tokens[start : start + count * width].view(count, width)
        for positions, row_bias, row in zip(slots, bias[:, 0], order[at : at + count].tolist(), strict=True):
            real = (row * SLOTS + mask[row].nonzero()[:, 0]).tolist()
            seen = positions[row_bias == 0].tolist()
            assert seen == real if real else len(seen) == 1
            assert bool((row_bias[row_bias != 0] == -torch.inf).all())
            assert packing.has_token[packing.position[row]].item() == bool(real)
        start, at = start + count * width, at + count
    assert start == len(packing.tokens) and at == rows


@pytest.mark.parametrize("changes", [{}, {"num_layers": 1}, {"num_layers": 3, "num_heads": 4}])
def test_self_attention_and_its_gradients_equal_the_loop(changes: dict[str, int]) -> None:
    encoder, heads = self_attention(**changes), changes.get("num_heads", 2)
    queries = torch.randn(6, 3, 4, dtype=torch.float64, requires_grad=True)
    rows = []
    for row in queries:
        tokens = torch.cat((encoder.cls_token[0], row))
        for layer in layers_of(encoder):
            normed = layer.norm(tokens)
            found = attend(layer.q_proj(normed), layer.k_proj(normed), layer.v_proj(normed), heads)
            tokens = tokens + layer.attn_out_proj(found)
        rows.append(encoder.output_proj(encoder.final_norm(tokens[0])))
    expected, output = torch.stack(rows), encoder(queries)
    torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
    found, wanted = gradients(encoder, output, queries), gradients(encoder, expected, queries)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-11)


def test_equal_widths_need_no_output_projection() -> None:
    roles = [name for name, _ in cross(out_dim=4).named_parameters()]
    assert "final_norm.bias" in roles and not any(name.startswith("output_proj") for name in roles)
    assert sum(parameter.numel() for parameter in cross(out_dim=6).output_proj.parameters()) == 4 * 6 + 6


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match=r"^a\.yaml: component 'cross': num_heads is 3; give a divisor of .* 4$"):
        cross(num_heads=3)
    with pytest.raises(ConfigError, match=r"^a\.yaml: component 'self': num_heads is 8; give a divisor of .* 4$"):
        self_attention(num_heads=8)
