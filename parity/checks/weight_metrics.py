"""weight_metrics: the same layers and the same numbers, and right ones."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from parity.checks.case import Case
from parity.checks.draw import SIZES, WEIGHTS, sized, with_sizes
from parity.checks.oracles.spectrum import layer_metrics
from parity.checks.refused_calls import MISUSE, refuse_calls
from parity.checks.registry import Check, Example, nightly
from parity.compare.trace import Trace
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Sides, Subject

#: What the agents' guide says that delta is when it is left out.
DEFAULT_DELTA = 0.01
#: Singular values that fall so slowly that a little more or less of delta is another effective rank.
GRADED = [0.8**number for number in range(64)]
#: Kinds of component whose weights can be measured.
_LAYERS = ("Conv2d", "Linear")


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    deltas = st.sampled_from([0.1, 0.01, 0.001, 0.5])  # the default is not the first to be tried
    return st.fixed_dictionaries(
        {
            "weights": WEIGHTS,
            "sizes": SIZES if nightly() else st.just("varied"),
            "delta": deltas,
            "misuse": MISUSE,
            "marked": st.sampled_from(["as in the YAML", "every layer"]),
            "set": st.sampled_from(["nothing", "all zero", "all singular values equal"]),
        }
    )


def _judge(case: Case, example: Example) -> None:
    recipe = sized(case.recipe(), case.pair, example["sizes"])
    components = recipe.config.components
    layers = [name for name, settings in components.items() if settings.get("analyze_weights")]
    if example["marked"] == "every layer":  # convolutions among them, and layers of a single output
        layers = [name for name, settings in components.items() if settings["_target_"] in _LAYERS]
        recipe = with_sizes(recipe, {(name, "analyze_weights"): True for name in layers})
    sides = case.builds.sides(recipe, example["weights"])
    if example["set"] != "nothing":
        sides = _set(case, sides, layers[0], diagonal=[0.5 if "equal" in example["set"] else 0.0])
    delta = example["delta"]

    def program(subject: Subject, trace: Trace) -> None:
        trace.phase = "metrics"
        metrics = subject.policy.compute_weight_metrics(delta=delta)
        trace.fact("layers", [entry["name"] for entry in metrics])
        _record(metrics, trace)

    def expected(subject: Subject, trace: Trace) -> None:
        trace.phase = "metrics"
        weights = subject.to_reference(dict(subject.policy.named_parameters()))
        paths = {link.name: link.reference for link in case.pair.components}
        found = []
        for name in layers:
            weight = next(
                value for key, value in weights.items() if key.startswith(f"{paths[name]}.") and key.endswith("weight")
            )
            found.append({"name": name, **layer_metrics(weight.detach(), delta)})
        trace.fact("layers", layers)
        _record(found, trace)

    def by_default(subject: Subject, trace: Trace) -> None:
        trace.phase = "metrics, delta left out"
        _record(subject.policy.compute_weight_metrics(), trace)

    def by_that_number(subject: Subject, trace: Trace) -> None:
        trace.phase = "metrics, delta left out"
        _record(subject.policy.compute_weight_metrics(delta=DEFAULT_DELTA), trace)

    case.parity(program, sides)
    case.contract(expected, program, sides)
    graded = _set(case, sides, layers[0], diagonal=GRADED)
    case.contract(by_that_number, by_default, graded, cause=f"without one, delta is {DEFAULT_DELTA}")

    def observe(subject: Subject) -> dict[str, Any]:
        before = [value.detach().clone() for value in subject.policy.parameters()]
        first = subject.policy.compute_weight_metrics(delta=delta)
        second = subject.policy.compute_weight_metrics(delta=delta)
        return {
            "deterministic": first == second,
            "weights untouched": all(
                torch.equal(a, b) for a, b in zip(before, subject.policy.parameters(), strict=True)
            ),
        }

    if example["misuse"]:
        refuse_calls(case, "weight_metrics", sides, phase="metrics")
    case.facts(observe, {"deterministic": True, "weights untouched": True}, sides, phase="metrics")


def _set(case: Case, sides: Sides, layer: str, *, diagonal: list[float]) -> Sides:
    """Copies of both sides in which one layer's weight has these singular values, the last for all that follow."""
    sides = sides.copy()
    for subject in (sides.reference, sides.candidate):
        with torch.no_grad():
            for name, value in subject.policy.named_parameters():
                if case.pair.home(name, subject.side) == layer:
                    matrix = torch.zeros(value.shape, dtype=value.dtype)
                    if value.dim() > 1:
                        places = matrix.flatten(1).diagonal()
                        values = [*diagonal[: len(places)], *diagonal[-1:] * (len(places) - len(diagonal))]
                        places.copy_(torch.tensor(values))
                    value.copy_(matrix)  # in whatever order the weight lies in memory
        subject.keep()
    return sides


def _record(metrics: list[dict[str, Any]], trace: Trace) -> None:
    for entry in metrics:
        for key, value in entry.items():
            if key != "name":
                trace.record(key, torch.tensor([float(value)], dtype=torch.float64), component=entry["name"])


CHECK = Check(
    name="weight_metrics",
    summary="singular values, effective rank, norm and power law of the marked layers",
    examples=_examples,
    judge=_judge,
    needs=frozenset({"weight_metrics"}),
    share=0.3,
)
