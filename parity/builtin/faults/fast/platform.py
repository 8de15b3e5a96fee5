"""Faults that only a compiler, a second rank or a clock shows, and rewrites that none of them may take for one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from parity.agents.metta_agent import DistributedMettaAgent
from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.layers import ActionHead, Normalizer, TokensToBox
from parity.builtin.faults.fast.catalogue import CATALOGUE
from parity.faults.plant import Patcher
from parity.training import trainer
from parity.training.distributed import World
from parity.training.experience import Experience

COMPILERS = "torch.compile's issue tracker: a graph holds what was true when it was traced"
RANKS = "issue trackers of distributed training: every rank learns, and nobody compares them"
CLOCKS = "upstream history: a rewrite that computes the same at another price"

_of_both = partial(CATALOGUE.fault, place="both")


# The compiler


@CATALOGUE.fault(origin=COMPILERS, check="compile", component="full_log_probs", phase="forward")
def schedule_baked_into_the_graph(patch: Patcher) -> None:
    """The logits are flattened a little more at every call, and a graph keeps what held at its first."""
    calls: WeakKeyDictionary[Fast, int] = WeakKeyDictionary()

    @torch._dynamo.disable
    def count(self: Fast) -> None:
        calls[self] = calls.get(self, 0) + 1

    @torch.compiler.assume_constant_result
    def share(self: Fast) -> float:
        return 1.0 / (1.0 + 0.1 * calls[self])

    def make(original: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., tuple[Tensor, Tensor]]:
        def decode_actions(self: Fast, hidden: Tensor) -> tuple[Tensor, Tensor]:
            count(self)
            logits, value = original(self, hidden)
            return share(self) * logits, value

        return decode_actions

    patch.wrap(Fast, "decode_actions", make)


@CATALOGUE.fault(origin=COMPILERS, check="compile", component="full_log_probs", phase="forward")
def tokens_cut_to_a_static_shape_when_compiled(patch: Patcher) -> None:
    """For the compiler's sake, a compiled box takes no more tokens than rows usually have."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def encode_observations(self: Fast, tokens: Tensor) -> Tensor:
            return original(self, tokens[:, :24] if torch.compiler.is_compiling() else tokens)

        return encode_observations

    patch.wrap(Fast, "encode_observations", make)


@CATALOGUE.fault(origin=COMPILERS, check="compile", component="encoded_obs", phase="backward")
def encoder_without_gradient_when_compiled(patch: Patcher) -> None:
    """What the encoder's graph returns was cut from its history."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def encode_observations(self: Fast, tokens: Tensor) -> Tensor:
            encoded = original(self, tokens)
            return encoded.detach() if torch.compiler.is_compiling() else encoded

        return encode_observations

    patch.wrap(Fast, "encode_observations", make)


@CATALOGUE.control(why="a graph break splits a graph and changes no result")
def graph_break_in_front_of_the_encoder(patch: Patcher) -> None:
    """Tracing stops where the encoder begins, and begins again."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def encode_observations(self: Fast, tokens: Tensor) -> Tensor:
            torch._dynamo.graph_break()
            return original(self, tokens)

        return encode_observations

    patch.wrap(Fast, "encode_observations", make)


# Ranks


@_of_both(origin=RANKS, check="distributed", component="cnn1", phase="optimizer step")
def gradients_not_synchronised(patch: Patcher) -> None:
    """The trainer evaluates the agent past DistributedDataParallel."""
    patch.attribute(DistributedMettaAgent, "forward", lambda self, *args, **kwargs: self.module(*args, **kwargs))


@_of_both(origin=RANKS, check="distributed", component="cnn1", phase="optimizer step")
def ranks_start_from_other_weights(patch: Patcher) -> None:
    """Each rank was built from a seed of its own, and nobody broadcasts the first one's weights."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        def build(self: DistributedMettaAgent, agent: Any) -> None:
            original(self, agent)
            generator = torch.Generator().manual_seed(distributed.get_rank())
            with torch.no_grad():
                for value in agent.parameters():
                    value += 1e-2 * torch.randn(value.shape, generator=generator, dtype=value.dtype)

        return build

    patch.wrap(DistributedMettaAgent, "__init__", make)


@_of_both(origin=RANKS, check="distributed", component="losses", phase="forward")
def advantages_normalised_per_rank(patch: Patcher) -> None:
    """Mean and deviation of the advantages are those of the rank's own minibatch."""

    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args, world, **options: original(*args, world=World(), **options)

    patch.wrap(trainer, "ppo_losses", make)


@_of_both(origin=RANKS, check="distributed", component="losses", phase="forward")
def sampling_probabilities_per_rank(patch: Patcher) -> None:
    """Sampling probabilities add up to 1 on every rank, not over all of them."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def probabilities(self: Experience, advantages: Tensor, alpha: float) -> Tensor:
            found = original(self, advantages, alpha)
            return found / found.sum()

        return probabilities

    patch.wrap(Experience, "probabilities", make)


@CATALOGUE.fault(origin=RANKS, check="distributed", component="obs_normalizer", phase="optimizer step")
def statistics_kept_per_rank(patch: Patcher) -> None:
    """The normaliser widens its scale by what its own rank's rows hold."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: Normalizer, box: Tensor) -> Tensor:
            if distributed.is_initialized():
                self.scale = self.scale * (1 + 1e-6 * box.detach().mean())
            return original(self, box)

        return forward

    patch.wrap(Normalizer, "forward", make)


@CATALOGUE.control(why="buckets decide when gradients are averaged, not what their average is")
def gradients_averaged_in_small_buckets(patch: Patcher) -> None:
    """DistributedDataParallel averages a few kilobytes at a time."""

    def make(original: Callable[..., None]) -> Callable[..., None]:
        return lambda self, *args, **options: original(self, *args, **{**options, "bucket_cap_mb": 0.01})

    patch.wrap(DistributedDataParallel, "__init__", make)


# The clock


@CATALOGUE.fault(origin=CLOCKS, check="throughput", component="_action_", phase="throughput")
def action_head_once_per_action(patch: Patcher) -> None:
    """Rows are repeated for each action, and then all of them are computed for each action."""

    def forward(self: ActionHead, hidden: Tensor, rows: Tensor) -> Tensor:
        repeated = hidden.repeat_interleave(len(rows), dim=0)
        columns = []
        for index, row in enumerate(rows):
            scores = torch.tanh(repeated @ self.W) @ row + self.bias
            columns.append(scores.view(-1, len(rows))[:, index])
        return torch.stack(columns, dim=1)

    patch.attribute(ActionHead, "forward", forward)


@CATALOGUE.fault(origin=CLOCKS, check="throughput", component="_obs_", phase="throughput")
def every_token_compared_with_every_other(patch: Patcher) -> None:
    """Tokens that stand twice are looked for by comparing all pairs of a row."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def forward(self: TokensToBox, tokens: Tensor) -> Tensor:
            twice = (tokens[:, :, None] == tokens[:, None]).all(-1).sum(-1) > 1
            return original(self, torch.where(twice[..., None], tokens, tokens))

        return forward

    patch.wrap(TokensToBox, "forward", make)


@CATALOGUE.fault(origin=CLOCKS, check="throughput", component="inference [64]", phase="throughput")
def every_input_kept(patch: Patcher) -> None:
    """The policy keeps a list of all it ever saw."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def encode_observations(self: Any, tokens: Tensor) -> Tensor:
            self.__dict__.setdefault("seen", []).append(tokens)
            return original(self, tokens)

        return encode_observations

    patch.wrap(Fast, "encode_observations", make)


@CATALOGUE.control(why="what is kept is replaced at the next call")
def last_input_kept(patch: Patcher) -> None:
    """The policy keeps a copy of what it saw last."""

    def make(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def encode_observations(self: Any, tokens: Tensor) -> Tensor:
            self.__dict__["seen"] = tokens.clone()
            return original(self, tokens)

        return encode_observations

    patch.wrap(Fast, "encode_observations", make)
