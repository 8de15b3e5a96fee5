"""The token encoders: queries that attend to tokens, and queries that attend to each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from parity.agents.component.base import FEATURES, BuildContext, Component, Shape, TrackedWeight
from parity.agents.component.initialization import draw_normal, draw_orthogonal, draw_trunc_normal, uninitialised
from parity.agents.component.settings import ComponentSettings


def attend(queries: Tensor, keys: Tensor, values: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Return multi-head attention ``[N, Q, D]``, the heads side by side as they are in the arguments.

    Args:
        queries: ``[N, Q, D]``.
        keys: ``[N, S, D]``.
        values: ``[N, S, D]``.
        heads: how many heads share D.
        mask: bool ``[N, S]``, true where a key may be attended to; the others weigh exactly 0, so that a row without
            any gets zeros.
    """
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (queries, keys, values))
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # [N, heads, Q, S]
    if mask is None:
        weights = scores.softmax(dim=-1)
    else:
        hidden = ~mask[:, None, None, :]
        # Not minus infinity, which makes a row without any key NaN on the way, forwards and backwards.
        weights = scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(hidden, 0.0)
    return (weights @ value).transpose(1, 2).flatten(2)


class EncoderLinear(nn.Linear):
    """A Linear that remembers its initial weight, in persistent buffers as ``WeightLayer`` does."""

    initial_weight: Tensor
    initial_max: Tensor

    def remember(self) -> None:
        """Take the current weight for the initial one."""
        self.register_buffer("initial_weight", self.weight.detach().clone())
        self.register_buffer("initial_max", self.weight.detach().abs().max())


class _Encoder(Component):
    """What both encoders have: Linear weights drawn, clipped and pulled like those of the plain layers."""

    option_keys: ClassVar[frozenset[str]] = frozenset(
        {"out_dim", "num_layers", "num_heads", "use_mask", "clip_scale", "l2_init_scale"}
    )

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        self.out_dim = settings.whole_option("out_dim")
        self.num_layers, self.num_heads = settings.whole_option("num_layers"), settings.whole_option("num_heads")
        self.clip_scale = settings.number(settings.options, "clip_scale", 1.0)
        self.l2_init_scale = settings.number(settings.options, "l2_init_scale", 1.0)

    def _draw_linears(self, context: BuildContext) -> None:
        """Draw the weight of every Linear; its path inside the component is its role."""
        for path, module in self.named_modules():
            if isinstance(module, EncoderLinear):
                draw_orthogonal(module.weight, context.seed, self.name, f"{path}.weight")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
                module.remember()

    def tracked_weights(self) -> Iterator[TrackedWeight]:
        """Return the weight of every Linear inside."""
        scales = (self.clip_scale, self.l2_init_scale)
        for module in self.modules():
            if isinstance(module, EncoderLinear):
                yield TrackedWeight(module.weight, module.initial_weight, module.initial_max, *scales)


class ObsLatentAttn(_Encoder):
    """Token features ``[N, S, in]`` and mask -> ``[N, Q, out_dim]``, or ``[N, out_dim]`` for a single query.

    Learned query tokens attend to the observation's tokens, whose keys and values all layers share.
    """

    takes: ClassVar[str] = FEATURES
    option_keys: ClassVar[frozenset[str]] = _Encoder.option_keys | {"num_query_tokens", "query_token_dim", "mlp_ratio"}

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        _require(settings, "use_mask", True, "padding is always masked")
        count, width = settings.whole_option("num_query_tokens"), settings.whole_option("query_token_dim", 32)
        _check_heads(settings, width, self.num_heads, "query_token_dim")
        features, hidden = inputs[0][-1], _mlp_width(settings, width)
        self.token_norm = _norm(features)
        self.k_proj = _linear(features, width, bias=False)
        self.v_proj = _linear(features, width, bias=False)
        self.query_tokens = nn.Parameter(torch.empty(1, count, width, device="cpu", dtype=torch.float32))
        self.layers = nn.ModuleList(_CrossLayer(width, hidden, self.num_heads) for _ in range(self.num_layers))
        self.final_norm = _norm(width)
        self.output_proj = _linear(width, self.out_dim) if self.out_dim != width else None
        draw_trunc_normal(self.query_tokens, context.seed, settings.name, "query_tokens")
        self._draw_linears(context)
        self.output_shape = (self.out_dim,) if count == 1 else (count, self.out_dim)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Encode each row's real tokens."""
        tokens = self.token_norm(features)
        keys, values = self.k_proj(tokens), self.v_proj(tokens)
        x = self.query_tokens.expand(len(features), -1, -1)
        for layer in self.layers:
            x = layer(x, keys, values, mask)
        x = self.final_norm(x)
        if self.output_proj is not None:
            x = self.output_proj(x)
        return x.squeeze(1) if len(self.output_shape) == 1 else x


class _CrossLayer(nn.Module):
    """Queries ``[N, Q, width]`` attend to keys and values ``[N, S, width]``, then pass an MLP; both residual."""

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_norm = _norm(width)
        self.q_proj = _linear(width, width, bias=False)
        self.attn_out_proj = _linear(width, width)
        self.mlp_norm = _norm(width)
        self.mlp_in = _linear(width, hidden)
        self.mlp_out = _linear(hidden, width)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
        attended = attend(self.q_proj(self.query_norm(x)), keys, values, self.heads, mask)
        x = x + self.attn_out_proj(attended)
        return x + self.mlp_out(functional.gelu(self.mlp_in(self.mlp_norm(x))))


class ObsSelfAttn(_Encoder):
    """Query rows ``[N, Q, width]`` -> ``[N, out_dim]``: what a learned cls token, put first, gathers from them."""

    option_keys: ClassVar[frozenset[str]] = _Encoder.option_keys | {"use_cls_token"}

    def __init__(self, settings: ComponentSettings, inputs: tuple[Shape, ...], context: BuildContext) -> None:
        super().__init__(settings, inputs, context)
        _require(settings, "use_cls_token", True, "the result is the cls token's row")
        _require(settings, "use_mask", False, "its rows are queries, none of which is padding")
        (shape,) = inputs
        if len(shape) != 2:
            raise settings.error(
                f"takes query rows [queries, width], but its source gives {list(shape)} per row; give the encoder "
                "before it a num_query_tokens of at least 2"
            )
        width = shape[-1]
        _check_heads(settings, width, self.num_heads, "its source's out_dim")
        self.cls_token = nn.Parameter(torch.empty(1, 1, width, device="cpu", dtype=torch.float32))
        self.layers = nn.ModuleList(_SelfLayer(width, self.num_heads) for _ in range(self.num_layers))
        self.final_norm = _norm(width)
        self.output_proj = _linear(width, self.out_dim)
        draw_normal(self.cls_token, context.seed, settings.name, "cls_token")
        self._draw_linears(context)
        self.output_shape = (self.out_dim,)

    def forward(self, rows: Tensor) -> Tensor:
        """Encode each row of queries."""
        x = torch.cat([self.cls_token.expand(len(rows), -1, -1), rows], dim=1)
        for layer in self.layers:
            x = layer(x)
        return self.output_proj(self.final_norm(x))[:, 0]


class _SelfLayer(nn.Module):
    """Rows ``[N, R, width]`` attend to each other; residual."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = _norm(width)
        self.q_proj = _linear(width, width, bias=False)
        self.k_proj = _linear(width, width, bias=False)
        self.v_proj = _linear(width, width, bias=False)
        self.attn_out_proj = _linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.attn_out_proj(attend(self.q_proj(y), self.k_proj(y), self.v_proj(y), self.heads))


def _linear(inputs: int, outputs: int, *, bias: bool = True) -> EncoderLinear:
    return uninitialised(EncoderLinear, inputs, outputs, bias)


def _norm(width: int) -> nn.LayerNorm:
    return nn.LayerNorm(width, device="cpu", dtype=torch.float32)


def _require(settings: ComponentSettings, key: str, wanted: bool, reason: str) -> None:
    """Check a key of upstream's for which this library knows one value only."""
    given = settings.options.get(key, wanted)
    if given is not wanted:
        raise settings.error(f"{key} is {given!r}; only {str(wanted).lower()} is known here, since {reason}")


def _check_heads(settings: ComponentSettings, width: int, heads: int, width_key: str) -> None:
    if width % heads:
        raise settings.error(f"num_heads is {heads}, which does not divide {width_key}, {width}; change one of the two")


def _mlp_width(settings: ComponentSettings, width: int) -> int:
    ratio = settings.number(settings.options, "mlp_ratio", 4.0)
    hidden = ratio * width
    if hidden < 1 or hidden != int(hidden):
        raise settings.error(
            f"mlp_ratio is {ratio:g}, which times query_token_dim {width} gives {hidden:g}; give a ratio that yields a "
            "whole number of at least 1"
        )
    return int(hidden)
