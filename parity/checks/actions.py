"""actions: a bijection with logits, names that keep their embedding rows, equal samples, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from parity.agents.errors import ActionError
from parity.agents.interface import ACT_LOG_PROB, ACTIONS, ENV_OBS, FULL_LOG_PROBS
from parity.checks.case import Case
from parity.checks.draw import SEEDS, SIZES, WEIGHTS, action_spaces, sized
from parity.checks.oracles.action_space import embedding_rows, illegal_pairs, legal_pairs
from parity.checks.refused_calls import MISUSE, refuse_calls
from parity.checks.registry import Check, Example
from parity.compare.probes import Probes
from parity.compare.trace import Trace
from parity.conditions import seed_global
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Sides, Subject

SAMPLES = 32
_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_BEYOND_INT32 = 2**32  # what is cut to 32 bits would take it for 0
EMBEDDINGS = "_action_embeds_"  # the component that holds one row per action name, where a pair has one


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    spaces = st.lists(action_spaces(), min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {"weights": WEIGHTS, "sizes": SIZES, "spaces": spaces, "sampling": SEEDS, "misuse": MISUSE}
    )


def _judge(case: Case, example: Example) -> None:
    recipe = sized(case.recipe(), case.pair, example["sizes"])
    sides = case.builds.sides(recipe, example["weights"]).copy()
    first = example["spaces"][0]
    for subject in (sides.reference, sides.candidate):
        subject.policy.activate_actions(first["names"], first["max_args"])
        subject.keep()
    _bijection(case, sides, first["max_args"])
    _refusals(case, sides, first["max_args"])
    _rows(case, sides, example["spaces"])
    _sampling(case, sides, example["sampling"], first["max_args"])
    if example["misuse"]:
        refuse_calls(case, "actions", sides, phase="build")
        if EMBEDDINGS in case.pair.paths("reference"):
            refuse_calls(case, "rows", sides, phase="build")


def _bijection(case: Case, sides: Sides, max_args: list[int]) -> None:
    pairs = legal_pairs(max_args)

    def observe(subject: Subject) -> dict[str, Any]:
        policy, device = subject.policy, subject.device
        actions = torch.tensor(pairs, dtype=torch.int64, device=device)
        indices = torch.arange(len(pairs), device=device)
        back = policy.convert_logit_index_to_action(indices)
        strided = actions.t().contiguous().t()
        folded = policy.convert_action_to_logit_index(actions.to(torch.int32).reshape(1, -1, 2))
        found: dict[str, Any] = {
            "action -> logit": policy.convert_action_to_logit_index(actions).tolist(),
            "logit -> action": [tuple(pair) for pair in back.tolist()],
            "logit -> action dtype": str(back.dtype),
            "action -> logit, int32 with another leading shape": folded.flatten().tolist(),
            "action -> logit, not contiguous": policy.convert_action_to_logit_index(strided).tolist(),
            "action -> logit, a single action": policy.convert_action_to_logit_index(actions[-1]).tolist(),
            "logit -> action, a single index": tuple(policy.convert_logit_index_to_action(indices[-1]).tolist()),
        }
        for dtype in _INTEGERS:
            of_dtype = policy.convert_logit_index_to_action(indices.to(dtype))
            found[f"action -> logit, of {dtype}"] = policy.convert_action_to_logit_index(actions.to(dtype)).tolist()
            found[f"logit -> action, of {dtype}"] = [tuple(pair) for pair in of_dtype.tolist()]
        return found

    order = list(range(len(pairs)))
    expected = {
        "action -> logit": order,
        "logit -> action": pairs,
        "logit -> action dtype": "torch.int32",
        "action -> logit, int32 with another leading shape": order,
        "action -> logit, not contiguous": order,
        "action -> logit, a single action": order[-1],
        "logit -> action, a single index": pairs[-1],
        **{f"action -> logit, of {dtype}": order for dtype in _INTEGERS},
        **{f"logit -> action, of {dtype}": pairs for dtype in _INTEGERS},
    }
    cause = (
        "the logit index of type i starts after i types and all their arguments: type + cumsum(max_args)[type] + arg"
    )
    case.facts(observe, expected, sides, phase="forward", component="action conversion", cause=cause)


def _refusals(case: Case, sides: Sides, max_args: list[int]) -> None:
    total = len(legal_pairs(max_args))

    def observe(subject: Subject) -> dict[str, Any]:
        policy, device = subject.policy, subject.device
        found: dict[str, Any] = {}
        for pair in [*illegal_pairs(max_args), (_BEYOND_INT32, 0)]:
            found[f"illegal action {pair}"] = _outcome(
                policy.convert_action_to_logit_index, torch.tensor([pair], device=device), pair[0]
            )
        mixed = torch.tensor([(0, 0), illegal_pairs(max_args)[0], (0, 0)], device=device)
        found["an illegal action among legal ones"] = _outcome(
            policy.convert_action_to_logit_index, mixed, int(mixed[1, 0])
        )
        found["an illegal logit index among legal ones"] = _outcome(
            policy.convert_logit_index_to_action, torch.tensor([0, total, 0], device=device), total
        )
        for index in (-1, total, _BEYOND_INT32):
            found[f"illegal logit index {index}"] = _outcome(
                policy.convert_logit_index_to_action, torch.tensor([index], device=device), index
            )
        return found

    illegal = [*illegal_pairs(max_args), (_BEYOND_INT32, 0)]
    expected = {f"illegal action {pair}": "refused, naming it" for pair in illegal}
    expected |= {f"illegal logit index {index}": "refused, naming it" for index in (-1, total, _BEYOND_INT32)}
    expected |= {f"an illegal {what} among legal ones": "refused, naming it" for what in ("action", "logit index")}
    case.facts(observe, expected, sides, phase="forward", component="action conversion")


def _outcome(convert: Any, value: Tensor, named: int) -> str:
    try:
        result = convert(value)
    except ActionError as error:
        return "refused, naming it" if str(named) in str(error) else f"refused without naming it: {error}"
    except Exception as error:
        return f"raises {type(error).__name__}: {error}"
    return f"accepted as {result.tolist()}"


def _rows(case: Case, sides: Sides, spaces: list[dict[str, Any]]) -> None:
    """After each further activation, logit i is scored with the row its full name was first given."""
    environment = sides.reference.recipe.environment
    built = (environment.action_names, environment.max_action_args)
    activations = [(space["names"], space["max_args"]) for space in spaces]
    activations.append(_permuted(*activations[-1]))
    observations = case.pair.generate(environment, rows=2, seed=3)

    def program(subject: Subject, trace: Trace) -> None:
        for number, activation in enumerate(activations):
            trace.step = number
            trace.phase = "build"
            subject.policy.activate_actions(*activation)
            trace.phase = "rollout"
            td = TensorDict({ENV_OBS: observations.to(subject.device)}, batch_size=[2])
            trace.record(FULL_LOG_PROBS, subject.policy(td)[FULL_LOG_PROBS])

    case.parity(program, sides, probe=True)
    if EMBEDDINGS not in case.pair.paths("reference"):
        return

    def observe(subject: Subject) -> dict[str, Any]:
        subject = subject.copy()
        for activation in activations[1:]:
            subject.policy.activate_actions(*activation)
        path = case.pair.paths(subject.side)[EMBEDDINGS]
        with Probes(subject.policy, {EMBEDDINGS: path}, Trace()) as probes, torch.no_grad():
            subject.policy(TensorDict({ENV_OBS: observations.to(subject.device)}, batch_size=[2]))
        rows = probes.calls[0].outputs[0]
        table = next(subject.policy.get_submodule(path).parameters())
        equal = (rows[:, None] == table[None]).all(-1)
        return {"rows": [int(row.nonzero()[0]) if bool(row.any()) else None for row in equal]}

    expected = {"rows": embedding_rows([built, *activations])}
    cause = "each full name keeps the row it was first given, in first-seen order from row 0"
    case.facts(observe, expected, sides, phase="rollout", component=EMBEDDINGS, cause=cause)
    size = {
        "one name more than rows": "refused",
        "a name for every row": "accepted",
        "rows for all names": "accepted",
        "rows restored over others": {"elsewhere_0": 0},
    }
    case.facts(lambda subject: _filled(case, subject), size, sides, phase="build", component=EMBEDDINGS)


def _permuted(names: list[str], max_args: list[int]) -> tuple[list[str], list[int]]:
    """As many logits under other names: the space backwards, or, where that is the same, its only action renamed."""
    return (names[::-1], max_args[::-1]) if len(names) > 1 else (["do_another"], max_args)


def _filled(case: Case, subject: Subject) -> dict[str, Any]:
    """What becomes of as many names as the table has rows, of one more, and of the rows of a table made elsewhere."""
    policy = subject.copy().policy
    rows = len(next(policy.get_submodule(case.pair.paths(subject.side)[EMBEDDINGS]).parameters()))
    left = rows - len(policy.action_rows())

    def attempt(call: Callable[[], object]) -> str:
        try:
            call()
        except ActionError:
            return "refused"
        return "accepted"

    found: dict[str, Any] = {
        "one name more than rows": attempt(lambda: policy.activate_actions(["filling"], [left])),
        "a name for every row": attempt(lambda: policy.activate_actions(["filling"], [left - 1])),
        "rows for all names": attempt(lambda: policy.restore_action_rows(policy.action_rows())),
    }
    policy.restore_action_rows({"elsewhere_0": 0})
    return found | {"rows restored over others": policy.action_rows()}


def _sampling(case: Case, sides: Sides, seed: int, max_args: list[int]) -> None:
    environment = sides.reference.recipe.environment
    observations = case.pair.generate(environment, rows=SAMPLES, seed=seed)
    pairs = legal_pairs(max_args)

    def sample(subject: Subject) -> TensorDictBase:
        seed_global(seed)
        with torch.no_grad():
            return subject.policy(TensorDict({ENV_OBS: observations.to(subject.device)}, batch_size=[SAMPLES]))

    def program(subject: Subject, trace: Trace) -> None:
        trace.phase = "rollout"
        td = sample(subject)
        trace.record(ACTIONS, td[ACTIONS], judged="sampled")
        trace.record(ACT_LOG_PROB, td[ACT_LOG_PROB], judged="sampled", scale=float(td[FULL_LOG_PROBS].abs().max()))

    def looked_up(subject: Subject, trace: Trace) -> None:
        trace.phase = "rollout"
        td = sample(subject)
        indices = [pairs.index((kind, argument)) for kind, argument in td[ACTIONS].tolist()]
        rows = torch.arange(SAMPLES, device=subject.device)
        trace.record(ACT_LOG_PROB, td[FULL_LOG_PROBS][rows, torch.tensor(indices, device=subject.device)])

    def returned(subject: Subject, trace: Trace) -> None:
        trace.phase = "rollout"
        trace.record(ACT_LOG_PROB, sample(subject)[ACT_LOG_PROB])

    case.parity(program, sides)
    case.contract(looked_up, returned, sides, cause="act_log_prob is not the log-prob of the sampled action")


CHECK = Check(
    name="actions",
    summary="bijection over ragged action spaces, embedding rows by name, equal samples, refusals",
    examples=_examples,
    judge=_judge,
    needs=frozenset({"action_table"}),
    share=0.5,
)
