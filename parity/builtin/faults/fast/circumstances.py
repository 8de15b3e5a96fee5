"""Faults that only some circumstances show: eval mode, long sequences, flags of another dtype, a second life."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parity.agents.pytorch import box_trunk, inputs, pytorch_agent_mixin, stages
from parity.agents.pytorch.graph import Component
from parity.agents.pytorch.layers import ActionEmbedding, TokensToBox
from parity.agents.pytorch.lstm_wrapper import LSTMWrapper, RecurrentCore
from parity.agents.pytorch.pytorch_agent_mixin import PyTorchAgentMixin
from parity.agents.pytorch.stages import Stage
from parity.builtin.faults.edits import edit, edited
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher
from parity.training import checkpoint

_planted = partial(CATALOGUE.fault, origin="planted by hand, and seen by no check at first")


# how a policy is called


@_planted(check="forward", component="actions", phase="rollout")
def argmax_in_eval_mode(patcher: Patcher) -> None:
    """In eval mode the likeliest action is taken; nothing says that a mode decides."""
    old = "torch.multinomial(step.contiguous(), 1)"
    edit(
        patcher, PyTorchAgentMixin, "handle_inference_mode", old, f"({old} if self.training else step.argmax(-1, True))"
    )


@_planted(check="gradients", component="_core_", phase="backward")
def gradient_cut_every_eight_steps(patcher: Patcher) -> None:
    """A long sequence is worked through in pieces, and the state is detached in between: the forward pass is exact."""
    patcher.attribute(RecurrentCore, "forward", _cut)


def _cut(self: RecurrentCore, rows: Tensor, h: Tensor, c: Tensor, resets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    batch, steps = resets.shape
    sequence, outputs = rows.reshape(batch, steps, -1), []
    for step in range(steps):
        opens = resets[:, step].view(1, batch, 1)
        h, c = h.masked_fill(opens, 0.0), c.masked_fill(opens, 0.0)
        if step and step % 8 == 0:
            h, c = h.detach(), c.detach()
        output, (h, c) = self.lstm(sequence[:, step : step + 1], (h, c))
        outputs.append(output)
    return torch.cat(outputs, dim=1).reshape(batch * steps, -1), h, c


@_planted(check="fields", component="act_log_prob", phase="forward")
def training_starts_from_a_stored_state(patcher: Patcher) -> None:
    """Training without memory begins with what the rollout left behind, where the batch fits."""

    def make(original: Any) -> Any:
        def supplied_state(self: LSTMWrapper, h: Any, c: Any, batch: int, steps: int) -> tuple[Tensor, Tensor]:
            kept = self._states.get(0)
            fits = h is None and c is None and kept is not None and kept[0].shape[1] == batch
            return kept if fits and kept is not None else original(self, h, c, batch, steps)

        return supplied_state

    patcher.wrap(LSTMWrapper, "supplied_state", make)


@_planted(check="fields", component="input not changed", phase="forward")
def supplied_state_reset_in_place(patcher: Patcher) -> None:
    """Resets are written into the state that the caller gave: with one row no copy is made of it."""
    old = "h, c = h.masked_fill(opens, 0.0), c.masked_fill(opens, 0.0)"
    edit(patcher, RecurrentCore, "forward", old, old.replace("masked_fill(", "masked_fill_("))


@_planted(check="fields", component="keys returned", phase="forward")
def training_drops_the_callers_keys(patcher: Patcher) -> None:
    """Only what the policy reads comes back from training."""
    old = "td = td.reshape(batch * steps)"
    keys = "ENV_OBS, 'dones', 'truncateds', MEMORY_H, MEMORY_C"
    edit(patcher, PyTorchAgentMixin, "forward", old, f"td = td.select({keys}, strict=False).reshape(batch * steps)")


# what it is given


@_planted(check="fields", component="one token too many", phase="forward")
def more_tokens_cut_off(patcher: Patcher) -> None:
    """An observation of more tokens than the environment's is cut, not refused."""
    patcher.attribute(
        pytorch_agent_mixin,
        "read_observations",
        edited(inputs.read_observations, "shape[-2:] != (num_tokens, 3)", "shape[-1] != 3 or shape[-2] < num_tokens"),
    )
    old = "observations.reshape(batch * steps, self.num_tokens, 3)"
    edit(
        patcher,
        PyTorchAgentMixin,
        "forward",
        old,
        old.replace("observations.", "observations[..., : self.num_tokens, :]."),
    )


@_planted(check="fields", component="warnings for an unknown id in four calls", phase="rollout")
def warned_again_after_activation(patcher: Patcher) -> None:
    """Each activation forgets that the policy has warned."""
    old = "self.slots = "
    edit(patcher, TokensToBox, "set_feature_remap", old, f"self.has_warned = False; {old}")


@_planted(check="fields", component="warnings for a place outside the box in four calls", phase="rollout")
def warned_of_ids_alone(patcher: Patcher) -> None:
    """A place outside the box is ignored without a word."""
    known = "bool(((tokens[..., 1] >= self.layers) & (tokens[..., 0] != 255)).any())"
    edit(patcher, TokensToBox, "forward", "bool(slots.max() > self.size)", known)


@_planted(check="fields", component="warnings for an unknown id in four calls", phase="rollout")
def warned_in_training_mode_alone(patcher: Patcher) -> None:
    """A policy in eval mode keeps silent, and one that is put into training mode warns once more."""
    edit(patcher, TokensToBox, "forward", "not self.has_warned and", "(self.training != self.has_warned) and")


@_planted(check="memory", component="_core_", phase="rollout")
def flags_of_one_alone(patcher: Patcher) -> None:
    """A flag counts when it is 1: others that are not 0 are true as well."""
    found = edited(inputs.read_resets, "hits = flags != 0", "hits = flags == 1")
    patcher.attribute(pytorch_agent_mixin, "read_resets", found)


@_planted(check="memory", component="_core_", phase="rollout")
def flags_cut_to_integers(patcher: Patcher) -> None:
    """Flags are made integers first, so that one half is 0."""
    found = edited(inputs.read_resets, "hits = flags != 0", "hits = flags.to(torch.int64) != 0")
    patcher.attribute(pytorch_agent_mixin, "read_resets", found)


@_planted(check="memory", component="memory", phase="rollout")
def slice_of_the_last_row(patcher: Patcher) -> None:
    """The last row's training_env_id_start names the slice, not the first's."""
    found = edited(inputs.read_env_id, "ids.flatten()[0]", "ids.flatten()[-1]")
    patcher.attribute(pytorch_agent_mixin, "read_env_id", found)


@_planted(check="memory", component="read_env_id", phase="rollout", raises=True)
def ids_of_64_bits_alone(patcher: Patcher) -> None:
    """Integers of other widths are refused as slices."""
    found = edited(inputs.read_env_id, "not is_integer(ids)", "ids.dtype != torch.int64")
    patcher.attribute(pytorch_agent_mixin, "read_env_id", found)


# what it was built from, and loaded with


@_planted(check="forward", component="cnn1", phase="forward")
def nonlinearity_of_convolutions_ignored(patcher: Patcher) -> None:
    """A convolution is followed by ReLU, whatever the YAML says."""

    def build(settings: Component, *arguments: Any, **options: Any) -> Stage:
        return stages.conv_stage(dataclasses.replace(settings, nonlinearity="nn.ReLU"), *arguments, **options)

    patcher.attribute(box_trunk, "conv_stage", build)


@_planted(check="checkpoint", component="cnn2", phase="clip")
def clip_bound_kept_as_a_number(patcher: Patcher) -> None:
    """The bound is taken when a layer is built, and not from what a checkpoint brings."""

    def make(original: Any) -> Any:
        def __init__(self: Stage, *arguments: Any, **options: Any) -> None:
            original(self, *arguments, **options)
            vars(self)["bound"] = float(self.initial_max)

        return __init__

    patcher.wrap(Stage, "__init__", make)
    edit(patcher, Stage, "clip", "float(self.initial_max)", "self.bound")


@_planted(check="checkpoint", component="full_log_probs", phase="load")
def rows_kept_between_steps(patcher: Patcher) -> None:
    """Embedding rows read without gradients are kept until the next activation, whatever weights come."""

    def forward(self: ActionEmbedding) -> Tensor:
        rows = self.weight.index_select(0, self.active_rows)
        return rows if torch.is_grad_enabled() else vars(self).setdefault("kept", rows.detach())

    def make(original: Any) -> Any:
        def activate(self: ActionEmbedding, full_names: Any) -> None:
            original(self, full_names)
            vars(self).pop("kept", None)

        return activate

    patcher.attribute(ActionEmbedding, "forward", forward)
    patcher.wrap(ActionEmbedding, "activate", make)


@_planted(check="checkpoint", place="both", component="resume from a run of another seed", phase="load")
def another_seed_may_go_on(patcher: Patcher) -> None:
    """The seed is among the settings that a resumed run may change."""
    patcher.attribute(checkpoint, "_MAY_CHANGE", ("seed", *checkpoint._MAY_CHANGE))
