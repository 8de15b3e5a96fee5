"""initialization: same seed, same bits, whatever the thread count; else the law each parameter follows."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from parity.checks.case import Case
from parity.checks.draw import SEEDS, SIZES, sized
from parity.checks.oracles.initial import initial_laws
from parity.checks.registry import Check, Example
from parity.compare.bounds import same_bits
from parity.compare.trace import Trace
from parity.compare.verdict import different_fact
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Sides, Subject


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    return st.fixed_dictionaries({"seed": SEEDS, "sizes": SIZES, "threads": st.sampled_from([1, 2])})


def _judge(case: Case, example: Example) -> None:
    recipe = sized(case.recipe(seed=example["seed"]), case.pair, example["sizes"])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(example["threads"])
        reference, candidate = case.builds.build("reference", recipe), case.builds.build("candidate", recipe)
        threads_kept = torch.get_num_threads() == example["threads"]
    finally:
        torch.set_num_threads(before)
    again = case.builds.build("candidate", recipe)
    changed = recipe.with_system(seed=example["seed"] + 1)
    other = case.builds.build("candidate", changed)
    parameters = case.builds.parameter_map(reference.policy, candidate.policy)
    shapes = {name: value.detach() for name, value in reference.policy.named_parameters()}
    candidate.to_reference = lambda values: parameters.to_reference(values, shapes)
    sides = Sides(reference, candidate, parameters)
    # without keyed generators construction order decides the bits, and only the laws below can be compared
    can = case.pair.capabilities
    if can & {"keyed_init", "initial_bits"}:
        case.parity(lambda subject, trace: record_weights(case, subject, trace), sides)
    if "initial_law" in can:
        _same_law(case, sides)
    # without keyed generators a policy may copy weights on purpose, as a target network does: then both must
    own = dict.fromkeys(case.pair.paths("reference")) if "keyed_init" in can else _copied(case, reference)
    keys = own if "keyed_init" in can else {**dict.fromkeys(_copied(case, candidate)), **own}
    case.facts(lambda subject: _copied(case, subject), keys, sides, phase="build", cause="two parameters start equal")
    # weights from a file do not depend on the seed, on either side
    seeded = "keyed_init" in can or _changes(reference, case.builds.build("reference", changed))
    _seed_matters(candidate, again, other, threads_kept, seeded)


def record_weights(case: Case, subject: Subject, trace: Trace) -> None:
    """Record a side's weights, to be compared bit by bit."""
    trace.phase = "build"
    for name, value in subject.to_reference(dict(subject.policy.named_parameters())).items():
        trace.record(name, value, component=case.pair.home(name), judged="exact")


def _same_law(case: Case, sides: Sides) -> None:
    """Each parameter follows the same law on both sides: constant, orthogonal with a gain, or spread and bound."""
    mine = initial_laws({name: value.detach() for name, value in sides.reference.policy.named_parameters()})
    theirs = initial_laws(sides.candidate.to_reference(dict(sides.candidate.policy.named_parameters())))
    for name, law in mine.items():
        if not law.agrees(theirs[name]):
            raise different_fact(case.pair.home(name), str(law), str(theirs[name]), phase="build", key=name)


def _changes(first: Subject, other: Subject) -> bool:
    """Whether any parameter of two builds of one side differs."""
    named = dict(other.policy.named_parameters())
    return not all(same_bits(value.detach(), named[name].detach()) for name, value in first.policy.named_parameters())


def _seed_matters(first: Subject, again: Subject, other: Subject, threads_kept: bool, seeded: bool) -> None:
    """The same seed gives the same bits whatever the thread count; another seed gives others, if ``seeded``."""
    named = dict(again.policy.named_parameters())
    for name, value in first.policy.named_parameters():
        if not same_bits(value.detach(), named[name].detach()):
            raise different_fact(name, "the same bits from the same seed", "other bits", phase="build")
    if _changes(first, other) != seeded:
        found = ("other weights", "the same weights")
        raise different_fact("seed", f"another seed gives {found[not seeded]}", found[seeded], phase="build")
    if not threads_kept:
        raise different_fact("thread count", "put back after building", "changed by building", phase="build")


def _copied(case: Case, subject: Subject) -> dict[str, str]:
    """Component -> what it holds when its numbers are those of another parameter, constants apart."""
    drawn: list[tuple[str, torch.Tensor]] = []
    found = {}
    for name, value in subject.to_reference(dict(subject.policy.named_parameters())).items():
        if bool((value == value.flatten()[0]).all()):
            continue
        twin = next((other for other, earlier in drawn if same_bits(value.detach(), earlier)), None)
        home = case.pair.home(name)
        if twin is not None and home not in found:
            found[home] = f"{name} equals {twin}"
        drawn.append((name, value.detach()))
    return found


CHECK = Check(
    name="initialization",
    summary="same seed, same bits; gain, orthogonality, biases and bounds per parameter",
    examples=_examples,
    judge=_judge,
    dtypes=("float64", "float32"),
    share=0.3,
)
