"""Every verdict, by the shortest way to it."""

import dataclasses

import pytest
import torch
from torch import nn
from toy import CELL, Net, judge, program, toy_check, toy_pair

from parity.checks.case import Case
from parity.checks.registry import Example
from parity.compare.verdict import Inconclusive, Verdict
from parity.pairs.recipe import Pair, Recipe
from parity.runner import Session, replay, run_cell

CELLS = [CELL, dataclasses.replace(CELL, dtype="float32")]


def run(pair: Pair, cell=CELL, **options):
    options.setdefault("max_examples", 6)
    options.setdefault("seed", 1)
    return run_cell(Session(pair), cell, check=options.pop("check", toy_check()), **options)


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.dtype)
def test_equal_bits_are_identical(cell):
    result = run(toy_pair(), cell)
    assert (result.verdict, result.rung, result.margin, result.examples) == (Verdict.IDENTICAL, "bits", 0.0, 6)


class OtherOrder(Net):
    """The same sums in another order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x))
        return self.last.bias + sum(hidden[:, i : i + 1] * self.last.weight[:, i] for i in reversed(range(5)))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.dtype)
def test_another_order_of_summation_is_equivalent(cell):
    pair = dataclasses.replace(toy_pair(OtherOrder), components=())
    result = run(pair, cell, max_examples=50)
    assert result.verdict == Verdict.EQUIVALENT, result
    assert result.rung == ("float64" if cell.dtype == "float64" else "noise_floor")
    assert 0 < result.margin < 1


class NoReLU(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x))


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.dtype)
def test_a_missing_relu_diverges_is_shrunk_and_replays(cell):
    result = run(toy_pair(NoReLU), cell, seed=None)
    assert result.verdict == Verdict.DIVERGENT
    assert result.example == {"rows": 1, "probe": False}
    assert result.divergence is not None
    # the layer before agrees, the layer after is fed another input: the glue between them is wrong
    assert (result.divergence["component"], result.divergence["at"]) == ("last", "input")
    assert result.example is not None
    again = replay(Session(toy_pair(NoReLU)), cell, result.example, check=toy_check())
    assert again.verdict == Verdict.DIVERGENT
    assert again.divergence == result.divergence


def test_the_same_seed_draws_the_same_examples():
    seen: list[list[int]] = [[], [], []]
    for number, seed in enumerate((3, 3, 4)):

        def body(case: Case, example: Example, log=seen[number]) -> None:
            log.append(example["rows"])

        run(toy_pair(), seed=seed, max_examples=20, check=toy_check(body))
    assert seen[0] == seen[1] != seen[2]


class Raises(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such key: 'bptt'")


def test_a_candidate_that_raises_diverges_with_its_message():
    result = run(toy_pair(Raises))
    assert result.verdict == Verdict.DIVERGENT
    assert result.divergence is not None
    assert result.divergence["kind"] == "raised"
    assert "no such key: 'bptt'" in result.divergence["candidate"]
    assert "test_run_cell.py" in result.divergence["notes"][0]


def test_a_reference_that_raises_is_an_error_of_the_subject():
    result = run(toy_pair(reference=Raises))
    assert result.verdict == Verdict.ERROR
    assert result.reason.startswith("the reference raised ValueError in phase 'forward': no such key")


class Watched(Net):
    """Behaves otherwise while a hook is on it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + (1.0 if self.first._forward_hooks else 0.0)


def test_a_subject_that_notices_the_probes_is_not_judged():
    result = run(toy_pair(Watched, Watched), max_examples=30)
    assert result.verdict == Verdict.ERROR
    assert "probing the reference changed forward / output / output" in result.reason


class Nan(Net):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * float("nan")


def test_nan_in_the_reference_is_inconclusive_and_in_the_candidate_divergent():
    assert run(toy_pair(reference=Nan)).verdict == Verdict.INCONCLUSIVE
    result = run(toy_pair(Nan))
    assert result.verdict == Verdict.DIVERGENT
    assert result.divergence is not None
    assert result.divergence["kind"] == "non_finite"


class Extra(Net):
    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.extra = nn.Parameter(torch.ones(3))


def test_an_unmapped_parameter_is_inconclusive_and_named():
    result = run(toy_pair(Extra))
    assert result.verdict == Verdict.INCONCLUSIVE
    assert "unmapped candidate parameter 'extra'" in result.reason


@pytest.mark.parametrize("built", [None, 3, nn.Identity()])
def test_a_builder_that_returns_no_policy_is_an_error(built):
    result = run(toy_pair(lambda recipe: built))
    assert result.verdict == Verdict.ERROR
    assert "the candidate builder of pair 'toy' returned" in result.reason


def test_a_missing_capability_is_not_applicable_with_its_reason():
    result = run(toy_pair(), check=toy_check(needs=frozenset({"memory"})))
    assert (result.verdict, result.examples) == (Verdict.NOT_APPLICABLE, 0)
    assert result.reason == "pair 'toy' declares no capability memory"


@pytest.mark.skipif(torch.cuda.is_available(), reason="the missing device is there")
def test_a_selected_device_that_is_missing_is_inconclusive():
    result = run(toy_pair(), dataclasses.replace(CELL, device="cuda"))
    assert result.verdict == Verdict.INCONCLUSIVE
    assert "no CUDA device" in result.reason


def test_a_subject_that_is_not_deterministic_is_inconclusive():
    calls = []

    def body(case: Case, example: Example) -> None:
        calls.append(1)
        if len(calls) == 3:
            judge(case_of(Session(toy_pair(NoReLU))), example)

    result = run(toy_pair(), check=toy_check(body))
    assert result.verdict == Verdict.INCONCLUSIVE
    assert "not deterministic" in result.reason


def case_of(session: Session) -> Case:
    return Case(session.pair, session.builds, torch.float64, "cpu", {})


def test_any_other_exception_ends_in_an_error_not_in_a_traceback():
    def body(case: Case, example: Example) -> None:
        raise KeyError("oops")

    result = run(toy_pair(), check=toy_check(body))
    assert (result.verdict, result.reason) == (Verdict.ERROR, "KeyError: 'oops'")


def doubled(example: Example):
    def expected(subject, trace):
        trace.record("output", 2 * subject.policy(subject.floats((example["rows"], 3), 1)))

    return expected


def judge_doubled(case: Case, example: Example) -> None:
    case.contract(doubled(example), program(example), case.builds.sides(case.recipe(), None))


def test_a_contract_says_whose_fault_it_is():
    result = run(toy_pair(), check=toy_check(judge_doubled))
    assert result.divergence is not None
    assert result.divergence["side"] == "both"
    assert "the fault is shared" in result.divergence["notes"][-1]


def judge_widths(case: Case, example: Example) -> None:
    sides = case.builds.sides(case.recipe(), None)
    case.facts(lambda subject: {"width": subject.policy.last.out_features}, {"width": 7}, sides, phase="build")


@pytest.mark.parametrize("body", [judge_doubled, judge_widths])
@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_a_session_asks_contracts_of_the_sides_that_it_is_told(side, body):
    session = Session(toy_pair(), contracts_on=(side,))
    result = run_cell(session, CELL, max_examples=2, seed=1, check=toy_check(body))
    assert result.divergence is not None
    assert result.divergence["side"] == side


def test_a_side_without_contracts_is_still_compared():
    session = Session(toy_pair(NoReLU), contracts_on=("candidate",))
    result = run_cell(session, CELL, max_examples=6, seed=1, check=toy_check())
    assert result.verdict == Verdict.DIVERGENT


def test_inconclusive_passes_through_with_its_reason():
    def body(case: Case, example: Example) -> None:
        raise Inconclusive("nothing compiled")

    result = run(toy_pair(), check=toy_check(body))
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, "nothing compiled")


def test_judging_leaves_global_random_state_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    session = Session(toy_pair())
    judge(case_of(session), {"rows": 2, "probe": True})
    assert torch.equal(before, torch.get_rng_state())
