"""optimizer: steps from copied gradients, on both sides and by plain formulas; accumulation and clipping by norm."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from parity.checks.case import Case
from parity.checks.draw import SEEDS, SIZES, WEIGHTS, sized
from parity.checks.oracles.optimizers import Moments, Numbers, adam, muon
from parity.checks.registry import Check, Example, nightly
from parity.checks.trainer.updates import SMALLEST, Update
from parity.compare.bounds import move_one_ulp
from parity.compare.trace import Trace
from parity.compare.verdict import DivergenceFound
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Sides, Subject

PHASE = "optimizer step"
#: How large a parameter's gradient is: ordinary, small beside eps, huge, zero.
SCALES = (1.0, 1.0, 1e-10, 1e4, 0.0)
#: Against the formulas, one parameter in so many has no gradient, and one is frozen.
WITHOUT, FROZEN = 7, 5
#: Steps against the formulas: the second shows what is remembered of the first.
BY_FORMULA = 2
FUSED = "the parameter map fuses it, and Muon orthogonalises each of the candidate's matrices as a whole"
#: How many steps, of how many gradients each, clipped to what norm.
_COURSE: dict[str, st.SearchStrategy[Any]] = {
    "steps": st.integers(2, 4),
    "accumulated": st.sampled_from([2, 1]),
    "max_grad_norm": st.sampled_from([0.5, 0.01, 1e9]),
}


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    if "training" not in pair.capabilities:  # its optimizer has settings of its own
        return st.fixed_dictionaries({"weights": WEIGHTS, "seed": SEEDS, "sizes": st.just("default"), **_COURSE})
    long = nightly()
    optimizer = {
        "type": st.sampled_from(["adam", "muon"]),
        "learning_rate": st.sampled_from([0.01, 0.002]),
        "beta1": st.sampled_from([0.9, 0.3]),
        "beta2": st.sampled_from([0.999, 0.95]),
        "eps": st.sampled_from([1e-12, 1e-5]),
        "weight_decay": st.sampled_from([0.1, 0.0]),
    }
    return st.fixed_dictionaries(
        {
            "weights": WEIGHTS,
            "seed": SEEDS,
            "sizes": SIZES if long else st.just("varied"),
            **_COURSE,
            "optimizer": st.fixed_dictionaries(optimizer),
        }
    )


def _judge(case: Case, example: Example) -> None:
    sides = case.builds.sides(sized(case.recipe(), case.pair, example["sizes"]), example["weights"])
    steps = _Steps(case, example, sides)
    try:
        case.parity(steps.of_both, sides)
    except DivergenceFound as found:
        if found.divergence.key not in steps.fused:
            raise
        raise DivergenceFound(dataclasses.replace(found.divergence, cause=FUSED)) from found
    if case.dtype == torch.float64 and "training" in case.pair.capabilities:
        case.contract(steps.by_formula, steps.of_one, sides)
        update = Update(case, example["seed"], example["max_grad_norm"])
        case.contract(update.expected, update.actual, sides)


def _matrices(policy: nn.Module) -> set[str]:
    """What Muon may take: every 2-D parameter that is no embedding table."""
    tables = {id(module.weight) for module in policy.modules() if isinstance(module, nn.Embedding)}
    named = policy.named_parameters()
    return {name for name, value in named if value.dim() == 2 and "embed" not in name and id(value) not in tables}


@dataclass
class _Steps:
    """Steps from drawn gradients."""

    case: Case
    example: Example
    sides: Sides

    def __post_init__(self) -> None:
        chosen = self.example.get("optimizer", {})
        self.muon = chosen.get("type") == "muon"
        self.settings = {**SMALLEST, "optimizer": chosen}
        mine, theirs = (dict(side.policy.named_parameters()) for side in (self.sides.reference, self.sides.candidate))
        self.shapes = {name: tuple(value.shape) for name, value in mine.items()}
        self.matrices = _matrices(self.sides.reference.policy) if self.muon else set()
        whole = {
            link.reference
            for link in self.sides.parameters.links
            if mine[link.reference].shape == theirs[link.candidate].shape and link.permute is None
        }
        self.fused = self.matrices - whole

    def of_both(self, subject: Subject, trace: Trace) -> None:
        """Steps from accumulated gradients, given through the parameter map; clipped, but for the first of Muon's.

        It rounds to bfloat16, where a norm that is one ulp off shows a thousandfold: unclipped, equal gradients are
        equal to the bit whatever the order of the parameters.
        """
        policy, accumulated = subject.policy, self.example["accumulated"]
        optimizer = self._optimizer(subject)
        for step in range(self.example["steps"]):
            optimizer.zero_grad()
            for part in range(accumulated):
                for name, gradient in self._gradients(subject, 100 * step + part).items():
                    parameter, share = policy.get_parameter(name), gradient / accumulated
                    parameter.grad = share if parameter.grad is None else parameter.grad + share
            if step or not self.muon:
                nn.utils.clip_grad_norm_(policy.parameters(), self.example["max_grad_norm"])
            optimizer.step()
            self._record(subject, trace, step, dict(policy.named_parameters()))
            if step == 0:
                self._record_state(subject, trace, optimizer.state_dict())

    def of_one(self, subject: Subject, trace: Trace) -> None:
        """Steps of one side, whose state goes over to another optimizer, in another order, after the first."""
        policy, without = subject.policy, self._frozen_and_without(subject)
        optimizer = self._optimizer(subject)
        for step in range(BY_FORMULA):
            for name, gradient in self._gradients(subject, step).items():
                policy.get_parameter(name).grad = None if name in without else gradient
            optimizer.step()
            self._record(subject, trace, step, dict(policy.named_parameters()))
            if step == 0:
                state = copy.deepcopy(optimizer.state_dict())
                optimizer = self._optimizer(subject)
                optimizer.load_state_dict(dict(reversed(state.items())))

    def by_formula(self, subject: Subject, trace: Trace) -> None:
        """The same by the oracle: what has no gradient, or is frozen, stays."""
        without = self._frozen_and_without(subject)
        parameters = dict(subject.policy.named_parameters())
        weights = {name: value.detach().clone() for name, value in parameters.items()}
        by_muon = _matrices(subject.policy) if self.muon else set()
        seen = {name: Moments() for name in weights}
        numbers = Numbers(**{key: value for key, value in self.example["optimizer"].items() if key != "type"})
        for step in range(BY_FORMULA):
            for name, gradient in self._gradients(subject, step).items():
                if name in without or not parameters[name].requires_grad:
                    continue
                given = weights[name], gradient, seen[name], numbers
                # weight decay is Adam's L2, but decoupled beside Muon
                weights[name] = muon(*given) if name in by_muon else adam(*given, decoupled=self.muon)
            self._record(subject, trace, step, weights)

    def _optimizer(self, subject: Subject) -> Any:
        make, training = self.case.pair.optimizer, self.case.pair.training
        if make is not None:
            return make(subject.side, subject.policy)
        assert training is not None, "the capability says that there is one"
        return training.optimizer(subject.policy, self.settings)

    def _names(self, subject: Subject, name: str) -> tuple[str, ...]:
        return self.sides.parameters.candidate_names(name) if subject.side == "candidate" else (name,)

    def _frozen_and_without(self, subject: Subject) -> set[str]:
        """Freeze some parameters of a side, and name others, which are to be given no gradient."""
        start, names = self.example["seed"], sorted(self.shapes)
        for name in names[start % FROZEN :: FROZEN]:
            for own in self._names(subject, name):
                subject.policy.get_parameter(own).requires_grad_(False)
        return {own for name in names[start % WITHOUT :: WITHOUT] for own in self._names(subject, name)}

    def _gradients(self, subject: Subject, draw: int) -> dict[str, Tensor]:
        """Random gradients. On twins a matrix of Muon's moves by one ulp of bfloat16, in which it is orthogonalised."""
        seed = self.example["seed"] + 997 * draw
        generator = torch.Generator().manual_seed(seed)
        scales = torch.randint(len(SCALES), (len(self.shapes),), generator=generator).tolist()
        drawn = {}
        for number, (name, shape) in enumerate(self.shapes.items()):
            value = SCALES[scales[number]] * subject.floats(shape, seed + number)
            if subject.nudge is not None and name in self.matrices:
                twin = torch.Generator().manual_seed((seed + number) * 31 + subject.nudge)
                value = move_one_ulp(value.bfloat16().cpu(), twin).to(value)
            drawn[name] = value
        if subject.side == "reference":
            return drawn
        return self.sides.parameters.to_candidate(drawn, dict(subject.policy.named_parameters()))

    def _record(self, subject: Subject, trace: Trace, step: int, weights: dict[str, Tensor]) -> None:
        trace.phase, trace.step = PHASE, step
        for name, value in subject.to_reference(weights).items():
            judged = "ensemble" if step or name in self.matrices else "value"
            trace.record(name, value, component=self.case.pair.home(name), judged=judged)

    def _record_state(self, subject: Subject, trace: Trace, state: Mapping[str, Mapping[str, Any]]) -> None:
        """What is kept of each parameter tells which optimizer took it."""
        for name in self.shapes:
            kept = sorted({key for own in self._names(subject, name) for key in state.get(own, {})})
            trace.fact(f"state of {name}", kept, component=self.case.pair.home(name))


CHECK = Check(
    name="optimizer",
    summary="Adam's and Muon's steps from copied gradients, by plain formulas, and an update's accumulation and norm",
    examples=_examples,
    judge=_judge,
    dtypes=("float64", "float32"),
    needs=frozenset({"optimizer"}),
    share=0.3,
)
