"""configuration: a YAML in which one value is wrong is refused, by component, and never built as something else."""

from __future__ import annotations

from hypothesis import strategies as st

from parity.checks.case import Case
from parity.checks.damaged_configs import ADDED, BUILT, REFUSED, alike, damages, met
from parity.checks.draw import sized
from parity.checks.registry import Check, Example
from parity.compare.verdict import different_fact
from parity.pairs.recipe import Pair, Recording


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    everything = [*pair.recipe.config.components, ADDED]
    return st.fixed_dictionaries({"components": st.sampled_from([everything[:1], everything])})


def _judge(case: Case, example: Example) -> None:
    recipe = sized(case.recipe(), case.pair, "varied")  # smaller, so that what is built after all is built soon
    for damage in damages(recipe.config.components):
        if damage.component not in example["components"]:
            continue
        # a reference may build any graph, the candidate only its own
        sides = ("candidate",) if damage.refused_by == "the candidate" else ("reference", "candidate")
        seen = {side: met(case.pair, side, recipe, damage) for side in sides}
        where = {"phase": "build", "key": damage.what}
        where["candidate_component"] = case.pair.paths("candidate").get(damage.component, "")
        if damage.refused_by == "alike":
            if not alike(seen["reference"], seen["candidate"]):
                raise different_fact(damage.component, seen["reference"], seen["candidate"], **where)
            continue
        wanted = BUILT if damage.refused_by == "nobody" else REFUSED
        wrong = [side for side in sides if seen[side] != wanted]
        if wrong:
            side = "both" if len(wrong) == 2 else wrong[0]
            raise different_fact(damage.component, wanted, seen[wrong[-1]], side=side, **where)


CHECK = Check(
    name="configuration",
    summary="a YAML in which one value is wrong is refused by name",
    examples=_examples,
    judge=_judge,
    needs=frozenset({"component_graph"}),
    share=0.2,
    devices=("cpu",),
)
"""Two examples are all there are, the second of them everything."""
