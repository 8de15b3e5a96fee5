"""The built-in pair `fast` as a stranger's: other method names, no base class; adapted in few lines, judged alike."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

import parity
from parity.compare.verdict import Verdict
from parity.environments.generated import generate_tokens
from parity.pairs.recipe import Pair
from parity.pairs.registry import registered_pairs
from parity.results import Result

SHIPPED = registered_pairs()["fast"]
ENVIRONMENT = SHIPPED.recipe.environment
ACTIONS = sum(ENVIRONMENT.max_action_args) + len(ENVIRONMENT.max_action_args)


class Stranger(nn.Module):
    """A policy that takes tokens and gives a tuple, remembers by itself, and is no ``Policy``."""

    def __init__(self, side: str, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        recipe = SHIPPED.recipe.with_system(seed=seed, dtype=dtype)
        self.brain = getattr(SHIPPED, side)(recipe)

    def look(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        out = self.brain(TensorDict({"env_obs": tokens}, batch_size=tokens.shape[:-2]))
        return out["values"], out["full_log_probs"]

    def remembered(self) -> dict[int, tuple[Tensor, Tensor]]:
        return self.brain.get_memory()

    def remember(self, memory: dict[int, tuple[Tensor, Tensor]]) -> None:
        self.brain.set_memory(memory)

    def wash(self) -> None:
        self.brain.clip_weights()


# adapter: begins
def adapted(side: str) -> parity.Side:
    return parity.Side(
        lambda seed, dtype: Stranger(side, seed, dtype),
        call=lambda policy, tokens: policy.look(tokens),
        logits=1,
        value=0,
        initial_state=lambda policy, batch: (torch.zeros(2, batch, 128), torch.zeros(2, batch, 128)),
        get_state=lambda policy: policy.remembered()[0],
        set_state=lambda policy, state: policy.remember({0: state}),
        clip=lambda policy: policy.wash(),
    )


def tokens(rows: int, generator: torch.Generator) -> Tensor:
    return generate_tokens(ENVIRONMENT, rows=rows, seed=int(torch.randint(2**31, (), generator=generator)))


STRANGE = parity.pair(
    "strange",
    reference=adapted("reference"),
    candidate=adapted("candidate"),
    observations=parity.Observations((ENVIRONMENT.num_tokens, 3), torch.uint8, generate=tokens),
    actions=ACTIONS,
    parameters={f"brain.{link.reference}": f"brain.{link.candidate}" for link in SHIPPED.parameters or ()},
    capabilities={"initial_bits", "independent_rows"},
)
# adapter: ends


def test_the_adapter_takes_fewer_than_thirty_lines():
    source = inspect.getsource(inspect.getmodule(Stranger) or pytest)
    body = source.partition("# adapter: begins\n")[2].partition("# adapter: ends\n")[0]
    lines = [line for line in body.splitlines() if line.strip()]
    assert 20 < len(lines) < 30


#: Those of the declared ones that take no seconds on the shipped pair.
CHECKS = ("construction", "initialization", "forward", "gradients", "memory", "clipping")


def verdicts(pair: Pair, check: str) -> list[Result]:
    return parity.judge(pair, checks=check, examples=1).results


@pytest.mark.parametrize("check", CHECKS)
def test_the_stranger_is_judged_as_the_shipped_pair_is(check: str) -> None:
    mine, theirs = verdicts(STRANGE, check), verdicts(SHIPPED, check)
    if check == "clipping":  # the shipped pair's l2-init loss, which rounds, is judged with it
        assert all(result.verdict.passed for result in (*mine, *theirs))
    else:
        assert [(r.dtype, r.verdict, r.rung) for r in mine] == [(r.dtype, r.verdict, r.rung) for r in theirs]


def test_a_fault_of_the_shipped_candidate_is_found_through_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    from parity.agents.pytorch.fast import Fast

    whole: Any = Fast.encode_observations
    monkeypatch.setattr(Fast, "encode_observations", lambda self, tokens: 1.001 * whole(self, tokens))
    (result, _) = verdicts(STRANGE, "forward")
    assert result.verdict is Verdict.DIVERGENT
    assert result.divergence is not None
    assert (result.divergence["component"], result.divergence["at"]) == ("brain.policy.components._core_.net", "input")
