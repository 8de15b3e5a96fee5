"""The pairs `latent_attn_tiny`, `_small` and `_med`: attention over the observation's tokens."""

from __future__ import annotations

from collections.abc import Iterator

from parity.builtin.build import Encoder, metta_pair
from parity.pairs.parameters import ParameterLink
from parity.pairs.recipe import Pair

CROSS, SELF = "obs_latent_query_attn", "obs_latent_self_attn"

#: Reference component -> attribute of the candidate.
_TOKENS = {
    "_obs_": "tokens",
    "obs_normalizer": "normalizer",
    "obs_fourier": "fourier",
    CROSS: "cross_attention",
}
_TOKEN_SIZES = {
    ("obs_fourier", "attr_embed_dim"): 6,
    ("obs_fourier", "num_freqs"): 3,
    (CROSS, "mlp_ratio"): 2.5,
    (CROSS, "num_heads"): 2,
}


def _cross_roles(layers: int, *, projected: bool) -> Iterator[tuple[str, bool]]:
    """Each parameter of a cross encoder, and whether it belongs to a Linear."""
    yield from (("query_tokens", False), ("token_norm.weight", False), ("token_norm.bias", False))
    yield from (("k_proj.weight", True), ("v_proj.weight", True))
    for layer in range(layers):
        for norm in ("query_norm", "mlp_norm"):
            yield from ((f"layers.{layer}.{norm}.{role}", False) for role in ("weight", "bias"))
        yield f"layers.{layer}.q_proj.weight", True
        for linear in ("attn_out_proj", "mlp_in", "mlp_out"):
            yield from ((f"layers.{layer}.{linear}.{role}", True) for role in ("weight", "bias"))
    yield from (("final_norm.weight", False), ("final_norm.bias", False))
    if projected:
        yield from (("output_proj.weight", True), ("output_proj.bias", True))


def _self_roles(layers: int) -> Iterator[tuple[str, bool]]:
    """Each parameter of a self encoder, and whether it belongs to a Linear."""
    yield "cls_token", False
    for layer in range(layers):
        yield from ((f"layers.{layer}.norm.{role}", False) for role in ("weight", "bias"))
        yield from ((f"layers.{layer}.{linear}_proj.weight", True) for linear in "qkv")
        yield from ((f"layers.{layer}.attn_out_proj.{role}", True) for role in ("weight", "bias"))
    yield from (("final_norm.weight", False), ("final_norm.bias", False))
    yield from (("output_proj.weight", True), ("output_proj.bias", True))


def _encoder(
    roles: dict[str, tuple[tuple[str, bool], ...]], components: dict[str, str], sizes: dict[tuple[str, ...], float]
) -> Encoder:
    """``roles``: component -> its parameters; ``sizes``: as in ``Encoder``."""
    links = [ParameterLink("policy.components.obs_fourier.attr_embeds.weight", "policy.fourier.attr_embeds.weight")]
    weights = {}
    for component, found in roles.items():
        for role, linear in found:
            reference = f"policy.components.{component}.{role}"
            parent, _, last = role.rpartition(".")
            # a Linear of the candidate stands first in a Stage
            links.append(
                ParameterLink(reference, f"policy.{components[component]}.{f'{parent}.0.{last}' if linear else role}")
            )
            if linear and last == "weight":
                weights[reference] = component
    return Encoder(
        components=components,
        masks={"_obs_": 1, "obs_normalizer": 3, "obs_fourier": 1},
        parameters=tuple(links),
        weights=weights,
        sizes=sizes,
        capabilities=frozenset({"token_observations"}),
    )


def tiny() -> Pair:
    """One query over two layers, projected to the core's width."""
    roles = {CROSS: tuple(_cross_roles(2, projected=True))}
    sizes = {**_TOKEN_SIZES, (CROSS, "out_dim"): 48, (CROSS, "query_token_dim"): 24}
    return metta_pair("latent_attn_tiny", _encoder(roles, _TOKENS, sizes))


def small() -> Pair:
    """Ten queries over one layer, then two layers among them."""
    return metta_pair("latent_attn_small", _cross_and_self(cross_layers=1, self_layers=2))


def med() -> Pair:
    """Ten queries over three layers, then three layers among them."""
    return metta_pair("latent_attn_med", _cross_and_self(cross_layers=3, self_layers=3))


def _cross_and_self(*, cross_layers: int, self_layers: int) -> Encoder:
    roles = {CROSS: tuple(_cross_roles(cross_layers, projected=False)), SELF: tuple(_self_roles(self_layers))}
    sizes = {
        **_TOKEN_SIZES,
        (CROSS, "num_query_tokens"): 3,
        (SELF, "num_heads"): 2,
        (SELF, "out_dim"): 48,
    }
    return _encoder(roles, {**_TOKENS, SELF: "self_attention"}, sizes)
