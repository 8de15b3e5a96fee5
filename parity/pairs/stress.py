"""Stress weights: weights under which a policy speaks, so that a bug is heard.

Fresh weights hide nearly every bug: biases are constant, logits tiny, recurrent state barely matters. Stress weights
are drawn per parameter from a seed and scaled on a calibration batch, layer by layer in execution order, so that
activations neither vanish nor saturate (the idea of layer-sequential unit-variance initialisation, Mishkin & Matas
2016, arXiv:1511.06422).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from parity.compare.bounds import same_bits

#: rms that each Linear and Conv output is scaled to, its bias apart. Under 1.0 LSTM gates and tanh stay responsive.
TARGET_RMS = 1.0
BIAS_STD = 0.3
RECURRENT_GAIN = 1.5
#: Buffers are born as zeros more often than as anything else: what they are moved by.
ZERO_STD = 0.5


def stress_weights(reference: nn.Module, seed: int, run: Callable[[nn.Module], Any]) -> dict[str, Tensor]:
    """Draw stress weights for the reference, in place, and return them rounded to float32.

    Args:
        reference: the reference in float64 on the CPU; its parameters are overwritten.
        seed: any int; equal seeds give equal weights.
        run: makes one forward pass on a calibration batch.

    Rounding to float32 lets every dtype under test hold the same weights exactly.
    """
    with torch.no_grad():
        for module_name, module in reference.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                full = f"{module_name}.{name}" if module_name else name
                parameter.copy_(_draw(module, name, parameter, _generator(seed, full)))
        handles = [
            module.register_forward_hook(_rescale)
            for module in reference.modules()
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d))
        ]
        try:
            run(reference)
        finally:
            for handle in handles:
                handle.remove()
        return {name: value.detach().to(torch.float32) for name, value in reference.named_parameters()}


def stress_buffers(reference: nn.Module, candidate: nn.Module, seed: int) -> dict[str, Tensor]:
    """Draw other values for the float buffers that both sides hold alike, so that one that is not used is missed.

    Zeros become positive and other numbers are scaled, so that a variance stays one; what is not finite stays.

    Args:
        reference: one side as it is built.
        candidate: the other.
        seed: any int; equal seeds give equal values.

    Returns:
        Values by name, in float64 on the CPU, each exact in float32.
    """
    theirs = movable_buffers(candidate)
    drawn = {}
    for name, mine in movable_buffers(reference).items():
        if name in theirs and theirs[name].shape == mine.shape and same_bits(mine, theirs[name]):
            value, generator = mine.detach().to("cpu", torch.float64), _generator(seed, f"buffer {name}")
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64).abs() * ZERO_STD
            factor = 0.5 + torch.rand(value.shape, generator=generator, dtype=torch.float64)
            moved = torch.where(value == 0, noise, value * factor).to(torch.float32).to(torch.float64)
            drawn[name] = torch.where(torch.isfinite(value), moved, value)
    return drawn


def movable_buffers(policy: nn.Module) -> dict[str, Tensor]:
    """Float buffers that are saved, for others are constants or scratch, and that share their numbers with nothing."""
    try:
        saved = policy.state_dict(keep_vars=True)
    except Exception:  # a foreign one that takes no such argument: nobody can tell what it saves
        return {}
    tensors = {id(value): value for value in (*policy.parameters(), *policy.buffers())}.values()
    sharing = Counter(value.untyped_storage()._cdata for value in tensors)

    def alone(value: Tensor) -> bool:
        storage = value.untyped_storage()
        return sharing[storage._cdata] == 1 and storage.nbytes() == value.nbytes

    return {
        name: value
        for name, value in policy.named_buffers()
        if value.is_floating_point() and saved.get(name) is value and alone(value)
    }


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"stress {seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _draw(module: nn.Module, name: str, parameter: Tensor, generator: torch.Generator) -> Tensor:
    """One parameter: N(0, 1) embeddings, fan-in scaled matrices, small non-zero biases, norms around 1."""
    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32).to(parameter.dtype)
    if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
        return noise
    if isinstance(module, (nn.LayerNorm, nn.GroupNorm)) and name == "weight":
        return 1.0 + BIAS_STD * noise
    if parameter.dim() < 2:
        return BIAS_STD * noise
    if isinstance(module, (nn.LSTM, nn.GRU, nn.RNN)):
        return noise * (RECURRENT_GAIN / parameter.shape[1] ** 0.5)
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d)):
        return noise / parameter[0].numel() ** 0.5
    return noise / parameter.shape[0] ** 0.5  # a bare matrix is read as x @ W: its first axis is the fan-in


def _rescale(module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
    """Scale the layer's weight so that its output without bias has the target rms; return the output it then has."""
    weight, bias = module.weight, module.bias
    assert isinstance(weight, Tensor)
    shift = 0.0
    if isinstance(bias, Tensor):
        shift = bias.view(-1, *([1] * (output.dim() - 2))) if isinstance(module, (nn.Conv1d, nn.Conv2d)) else bias
    linear = output - shift
    size = float(linear.pow(2).mean().sqrt())
    if not 0.0 < size < float("inf"):  # NaN as well: what computes it shows when the policy is judged
        return output
    # round now: what runs after this layer must see the weight that is kept
    kept = (weight * (TARGET_RMS / size)).to(torch.float32).to(weight.dtype)
    weight.copy_(kept)
    return linear * (TARGET_RMS / size) + shift
