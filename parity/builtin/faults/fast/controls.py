"""Negative controls: rewrites that a developer may make and that change no behaviour. Every check stays green."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from parity.agents.pytorch import pytorch_agent_mixin
from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.layers import ActionHead, Normalizer, TokensToBox
from parity.agents.pytorch.lstm_wrapper import RecurrentCore
from parity.agents.pytorch.stages import Stage, ValidConv2d
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher


@CATALOGUE.control(why="the same contraction, spelled in index letters")
def action_head_as_einsum(patch: Patcher) -> None:
    """Both products of the action head are einsums."""

    def forward(self: ActionHead, hidden: Tensor, rows: Tensor) -> Tensor:
        query = torch.tanh(torch.einsum("nh,he->ne", hidden, self.W))
        return torch.einsum("ne,ae->na", query, rows) + self.bias

    patch.attribute(ActionHead, "forward", forward)


@CATALOGUE.control(why="each of the repeated rows gives the same query")
def action_head_on_repeated_rows(patch: Patcher) -> None:
    """The hidden rows are repeated once per action before anything is computed."""

    def forward(self: ActionHead, hidden: Tensor, rows: Tensor) -> Tensor:
        count = len(rows)
        query = torch.tanh(hidden.repeat_interleave(count, dim=0) @ self.W)
        return ((query * rows.repeat(len(hidden), 1)).sum(-1) + self.bias).view(-1, count)

    patch.attribute(ActionHead, "forward", forward)


@CATALOGUE.control(why="parameters are linked by name, not by position")
def parameters_in_another_order(patch: Patcher) -> None:
    """The submodules are registered in reverse."""

    def change(agent: Any) -> None:
        for name in reversed(list(agent.policy._modules)):
            agent.policy._modules[name] = agent.policy._modules.pop(name)

    patch.built("candidate", change)


@CATALOGUE.control(why="nothing reads it")
def unused_buffer(patch: Patcher) -> None:
    """The policy counts something in a buffer of its own."""

    def change(agent: Any) -> None:
        agent.policy.register_buffer("seen", torch.zeros(3, dtype=torch.int64))

    patch.built("candidate", change)


@CATALOGUE.control(why="a memory layout holds the same numbers")
def box_in_the_other_memory_layout(patch: Patcher) -> None:
    """Convolutions read a contiguous box instead of a channels-last one."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, box: original(self, box).contiguous()

    patch.wrap(Normalizer, "forward", make)


@CATALOGUE.control(why="sorted by cell and value, a cell's last token is its largest")
def box_by_sorting(patch: Patcher) -> None:
    """The box is filled from sorted tokens, one write per cell."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: TokensToBox, tokens: Tensor) -> Tensor:
            box = original(self, tokens)  # for its warning
            slots = self.slots.view(256, 256)[tokens[..., 0].long(), tokens[..., 1].long()]
            width = self.size + 2
            keys = (torch.arange(len(tokens))[:, None] * width + slots) * 256 + tokens[..., 2]
            keys = keys.flatten().unique(sorted=True)
            cell, value = keys // 256, keys % 256
            last = torch.cat([cell[1:] != cell[:-1], torch.tensor([True])])
            cells = torch.zeros(len(tokens) * width, dtype=box.dtype)
            cells[cell[last]] = value[last].to(box.dtype)
            inner = cells.view(-1, width)[:, 1 : 1 + self.size]
            return inner.view(-1, self.width, self.height, self.layers).permute(0, 3, 1, 2)

        return forward

    patch.wrap(TokensToBox, "forward", make)


@CATALOGUE.control(why="a division and the product with the reciprocal differ by rounding only")
def normalised_by_reciprocals(patch: Patcher) -> None:
    """The box is multiplied by 1 / normalisation."""
    patch.attribute(Normalizer, "forward", lambda self, box: box * (1.0 / self.scale))


@CATALOGUE.control(why="where the kernel covers its input, a convolution is the same matrix product")
def convolutions_left_to_torch(patch: Patcher) -> None:
    """No convolution is computed as a Linear."""
    patch.attribute(ValidConv2d, "forward", nn.Conv2d.forward)


@CATALOGUE.control(why="rows do not depend on one another")
def encoder_in_two_halves(patch: Patcher) -> None:
    """The encoder runs once per half of the rows."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda self, tokens: torch.cat([original(self, half) for half in tokens.chunk(2)])

    patch.wrap(Fast, "encode_observations", make)


@CATALOGUE.control(why="a sequence is its steps", slower=True)
def core_step_by_step(patch: Patcher) -> None:
    """The core is run once per time step, with or without an episode opening there."""

    def forward(
        self: RecurrentCore, rows: Tensor, h: Tensor, c: Tensor, resets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        batch, steps = resets.shape
        outputs = []
        for step, row in enumerate(rows.reshape(batch, steps, -1).unbind(1)):
            going_on = (~resets[:, step]).to(rows.dtype)[None, :, None]
            output, (h, c) = self.lstm(row[:, None], (h * going_on, c * going_on))
            outputs.append(output)
        return torch.cat(outputs, dim=1).flatten(0, 1), h, c

    patch.attribute(RecurrentCore, "forward", forward)


@CATALOGUE.control(why="normalised logits have the same softmax")
def logits_normalised_early(patch: Patcher) -> None:
    """The logits are turned into log-probabilities by their log-sum-exp before they are handed on."""

    def make(original: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
        def decode_actions(self: Fast, hidden: Tensor) -> tuple[Tensor, Tensor]:
            logits, value = original(self, hidden)
            return logits - logits.logsumexp(-1, keepdim=True), value

        return decode_actions

    patch.wrap(Fast, "decode_actions", make)


@CATALOGUE.control(why="threads share the work and change rounding at most", slower=True)
def encoder_on_two_threads(patch: Patcher) -> None:
    """The encoder runs on two threads."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def encode_observations(self: Fast, tokens: Tensor) -> Tensor:
            threads = torch.get_num_threads()
            torch.set_num_threads(2)
            try:
                return original(self, tokens)
            finally:
                torch.set_num_threads(threads)

        return encode_observations

    patch.wrap(Fast, "encode_observations", make)


@CATALOGUE.control(why="a clamp is a minimum and a maximum")
def clipped_by_minimum_and_maximum(patch: Patcher) -> None:
    """Weights are clipped by two comparisons into a new tensor that is copied back."""

    @torch.no_grad()
    def clip(self: Stage, clip_range: float) -> None:
        bound = clip_range * self.settings.clip_scale * self.initial_max
        if bound > 0.0:
            self.weight.copy_(torch.maximum(torch.minimum(self.weight, bound), -bound))

    patch.attribute(Stage, "clip", clip)


@CATALOGUE.control(why="a sum's order changes its rounding only")
def l2_init_loss_summed_in_another_order(patch: Patcher) -> None:
    """Layers are added up from the last to the first, and each by its rows."""

    def l2_init_loss(self: Fast) -> Tensor:
        terms = [
            stage.settings.l2_init_scale * ((stage.weight - stage.l2_anchor) ** 2).flatten(1).sum(1).sum()
            for stage in reversed(self.stages())
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    patch.attribute(Fast, "l2_init_loss", l2_init_loss)


@CATALOGUE.control(why="a policy is what it is made of")
def policy_pickled_and_back(patch: Patcher) -> None:
    """The policy under test is a copy made by pickle."""

    def change(agent: Any) -> None:
        agent.policy = pickle.loads(pickle.dumps(agent.policy))

    patch.built("candidate", change)


@CATALOGUE.control(why="a matrix and its transpose have the same singular values")
def weights_measured_on_their_side(patch: Patcher) -> None:
    """The weight metrics are taken of the transposed matrix."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda name, weight, delta: original(name, weight.flatten(1).t(), delta)

    patch.wrap(pytorch_agent_mixin, "weight_metrics", make)
