"""What a policy returns, found in whatever form it has and checked, and what follows from its logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import Categorical

from parity.api.observations import Environment
from parity.api.side import Pick, Side


class PolicyError(ValueError):
    """A policy returned something else than its side declares.

    ``component`` is what was wrong, which a report names in place of a component.
    """

    def __init__(self, component: str, message: str) -> None:
        super().__init__(message)
        self.component = component


@dataclass
class Outputs:
    """Row by row: logits ``[N, sum of heads]``, value ``[N]``; what the policy computes itself of the rest."""

    logits: Tensor
    value: Tensor
    log_prob: Tensor | None = None
    entropy: Tensor | None = None
    action: Tensor | None = None

    @classmethod
    def joined(cls, steps: Sequence[Outputs]) -> Outputs:
        """Steps of ``[B]`` to rows ``[B * T]``, row = b * T + t."""
        found = {}
        for field in fields(cls):
            parts = [getattr(step, field.name) for step in steps]
            found[field.name] = None if parts[0] is None else torch.stack(parts, dim=1).flatten(0, 1)
        return cls(**found)


def outputs_of(returned: Any, side: Side, environment: Environment, lead: int | tuple[int, ...], who: str) -> Outputs:
    """Find and check the outputs.

    Args:
        returned: by the policy, for ``lead`` rows, or for ``(batch, time)``.
        side: where to look.
        environment: how many logits there must be.
        lead: see above.
        who: whose they are, for messages.

    Raises:
        PolicyError: something is missing, or of a wrong shape; the message says what was returned and the remedy.
    """
    lead = (lead,) if isinstance(lead, int) else lead
    heads = environment.actions
    found = {
        "logits": _shaped(_picked(returned, "logits", 0, side.logits, who), (*lead, sum(heads)), "logits", who),
        "value": _shaped(_picked(returned, "value", 1, side.value, who), lead, "value", who),
    }
    each = (*lead,) if len(heads) == 1 else (*lead, len(heads))
    for key, shape in (("log_prob", lead), ("entropy", lead), ("action", each)):
        if isinstance(returned, Mapping) and returned.get(key) is not None:
            found[key] = _shaped(returned[key], shape, key, who)
    return Outputs(**{key: value.flatten(0, len(lead) - 1) for key, value in found.items()})


def _picked(returned: Any, key: str, position: int, pick: Pick | None, who: str) -> Any:
    try:
        if callable(pick):
            return pick(returned)
        if pick is not None:
            return returned[pick]
        if isinstance(returned, (Mapping, TensorDictBase)):
            return returned[key]
        if isinstance(returned, (tuple, list)):
            return returned[position]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        remedy = f"correct {key}=, or return it" if pick is not None else f"declare {key}=, a key, position or function"
        raise PolicyError(
            key,
            f"the {who} returned {_shown(returned)}, with no {key} in it ({type(error).__name__}: {error}); {remedy}",
        ) from error
    raise PolicyError(
        key,
        f"the {who} returned {_shown(returned)}; return (logits, value), a mapping or TensorDict with these keys, or "
        "declare call=",
    )


def _shaped(value: Any, shape: tuple[int, ...], key: str, who: str) -> Tensor:
    if isinstance(value, Categorical):
        value = value.logits
    if not isinstance(value, Tensor):
        raise PolicyError(key, f"the {who} returned {_shown(value)} as {key}; it must be a tensor {list(shape)}")
    if key != "action" and not value.is_floating_point():
        raise PolicyError(key, f"the {who} returned {key} of {value.dtype}; it must be a tensor of floats")
    if key == "value" and tuple(value.shape) == (*shape, 1):
        value = value.squeeze(-1)
    if tuple(value.shape) != shape:
        raise PolicyError(
            key,
            f"the {who} returned {key} of shape {list(value.shape)}; it must be {list(shape)}: correct the policy, the "
            f"number of actions, or declare {key}=",
        )
    return value


def _shown(value: Any) -> str:
    if isinstance(value, (Mapping, TensorDictBase)):
        return f"{type(value).__name__} with keys {sorted(map(str, value.keys()))}"
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _sampled(log_probs: Tensor) -> Tensor:
    """Draw one of each row by its log-probs, from torch's global generator; NaN is let through, to be found as such."""
    return (log_probs - (-torch.rand_like(log_probs).log()).log()).argmax(-1)


def evaluated(found: Outputs, environment: Environment, choice: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What follows from logits, where the policy does not say it itself.

    Args:
        found: rows.
        environment: which logits belong to which head.
        choice: ``[N]`` or ``[N, heads]`` to evaluate; None samples.

    Returns:
        Log-probs ``[N, sum of heads]``, normalised per head; those of the choice ``[N]``, the entropy ``[N]``, and the
        choice.
    """
    parts = [part.log_softmax(-1) for part in found.logits.split(list(environment.actions), dim=-1)]
    if choice is None:
        choice = found.action
    if choice is None:
        drawn = [_sampled(part.detach()) for part in parts]
        choice = drawn[0] if len(drawn) == 1 else torch.stack(drawn, dim=-1)
    heads = choice.unsqueeze(-1) if len(parts) == 1 else choice
    log_prob, entropy = found.log_prob, found.entropy
    if log_prob is None:
        each = [part.gather(-1, heads[:, number : number + 1].long()) for number, part in enumerate(parts)]
        log_prob = torch.cat(each, dim=-1).sum(-1)
    if entropy is None:
        # a masked action has log-prob -inf and adds nothing
        finite = [part.clamp(min=torch.finfo(part.dtype).min) for part in parts]
        entropy = torch.stack([-(part.exp() * part).sum(-1) for part in finite], dim=-1).sum(-1)
    return torch.cat(parts, dim=-1), log_prob, entropy, choice
