"""construction: every config key arrives, parameters map one to one, and both sides are where they should be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from hypothesis import strategies as st

from parity.agents.errors import AgentError
from parity.checks.case import Case
from parity.checks.draw import SEEDS, action_spaces, with_actions, with_sizes
from parity.checks.registry import Check, Example
from parity.compare.verdict import different_fact
from parity.pairs.recipe import Pair, Recipe, Recording, dtype_name
from parity.pairs.subjects import Sides, Subject

#: Top-level keys that upstream YAMLs carry and no policy of ours reads: they must arrive nevertheless.
EXTRA_KEYS = ("policy_selector", "some_future_key")

#: Cells along x and y put in place of the environment's: others in number behind each stride, not square, too few.
BOXES = (None, (15, 12), (12, 16), (4, 9))


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    if "configuration" not in pair.capabilities:
        return st.fixed_dictionaries({"seed": SEEDS})
    return st.fixed_dictionaries(
        {
            "seed": SEEDS,
            "clip_range": st.sampled_from([0.75, 0.0, 1.0, 3.5]),
            "analyze_weights_interval": st.sampled_from([123, 300, 0]),
            "l2_init_weight_update_interval": st.sampled_from([7, 0]),
            "extra": st.dictionaries(st.sampled_from(EXTRA_KEYS), st.integers(0, 9), min_size=1),
            "sizes": _sizes(pair),
            "actions": st.one_of(action_spaces(), action_spaces(largest_total=160, largest_argument=60)),
            "source": st.sampled_from(["default", *recordings]),
            "box": st.sampled_from(BOXES),
        }
    )


def _sizes(pair: Pair) -> st.SearchStrategy[dict[str, Any]]:
    """Path -> size: those of the YAML, others in some places, or others everywhere, lest one never be drawn."""
    choices = {".".join(path): found for path, found in pair.sizes.items()}
    others = {path: found[-1] for path, found in choices.items()}
    some = st.fixed_dictionaries({path: st.sampled_from(found) for path, found in choices.items()})
    return st.one_of(some, st.just(others))


def _judge(case: Case, example: Example) -> None:
    recipe = drawn_recipe(case, example)
    built = {side: _build(case, side, recipe) for side in ("reference", "candidate")}
    outcomes = {side: type(found).__name__ for side, found in built.items()}
    if outcomes["reference"] != outcomes["candidate"]:
        shown = {side: _shown(found) for side, found in built.items()}
        raise different_fact("recipe", shown["reference"], shown["candidate"], phase="build")
    reference, candidate = built["reference"], built["candidate"]
    if not isinstance(reference, Subject) or not isinstance(candidate, Subject):
        return  # both refuse the recipe, with the same type of error
    sides = Sides(reference, candidate, None)  # type: ignore[arg-type]  # facts need no map; it is checked below
    if "configuration" in case.pair.capabilities:
        _compare_configuration(case, recipe, sides)

    case.facts(
        _placement,
        {"dtype": {dtype_name(recipe.system.dtype)}, "device": {torch.device(recipe.system.device).type}},
        sides,
        phase="build",
    )
    if "keyed_init" in case.pair.capabilities:
        case.facts(
            lambda subject: {"global random state": "changed" if subject.drew_globally else "left alone"},
            {"global random state": "left alone"},
            sides,
            phase="build",
            cause="building draws from torch's global generator, so initial weights depend on construction order",
        )
    _compare_parameters(case, reference, candidate)
    case.builds.parameter_map(reference.policy, candidate.policy)  # refuses what it does not cover exactly once


def _build(case: Case, side: str, recipe: Recipe) -> Subject | AgentError:
    try:
        return case.builds.build(side, recipe)
    except AgentError as refusal:
        return refusal


def _shown(found: Subject | AgentError) -> str:
    return "is built" if isinstance(found, Subject) else f"refused with {type(found).__name__}: {found}"


def drawn_recipe(case: Case, example: Example) -> Recipe:
    """The pair's recipe with drawn config keys, sizes, environment and action space, where it has them."""
    if "configuration" not in case.pair.capabilities:
        return case.recipe(seed=example["seed"])
    environment = case.pair.recipe.environment
    if example["source"] != "default":
        environment = case.recordings[example["source"]].environment
    if example["box"] is not None:
        width, height = example["box"]
        environment = dataclasses.replace(environment, obs_width=width, obs_height=height)
    sized = with_sizes(case.pair.recipe, {tuple(path.split(".")): value for path, value in example["sizes"].items()})
    config = dataclasses.replace(
        sized.config,
        clip_range=example["clip_range"],
        analyze_weights_interval=example["analyze_weights_interval"],
        l2_init_weight_update_interval=example["l2_init_weight_update_interval"],
        extra={**case.pair.recipe.config.extra, **example["extra"]},
    )
    recipe = case.recipe(with_actions(environment, example["actions"]), seed=example["seed"])
    return dataclasses.replace(recipe, config=config)


def _compare_configuration(case: Case, recipe: Recipe, sides: Sides) -> None:
    config = recipe.config
    expected: dict[str, Any] = {
        "clip_range": config.clip_range,
        "analyze_weights_interval": config.analyze_weights_interval,
        "l2_init_weight_update_interval": config.l2_init_weight_update_interval,
        "extra_config": dict(config.extra),
        "observations": dict(config.observations),
    }
    case.facts(_configuration, expected, sides, phase="build", cause="a config key never arrived at the policy")


def _configuration(subject: Subject) -> dict[str, Any]:
    """What the policy holds of its configuration."""
    found: dict[str, Any] = {}
    for key in (
        "clip_range",
        "analyze_weights_interval",
        "l2_init_weight_update_interval",
        "extra_config",
        "observations",
    ):
        value = getattr(subject.policy, key, "absent")
        found[key] = dict(value) if isinstance(value, Mapping) else value
    return found


def _placement(subject: Subject) -> dict[str, Any]:
    tensors = [*subject.policy.parameters(), *subject.policy.buffers()]
    return {
        "dtype": {dtype_name(value.dtype) for value in tensors if value.is_floating_point()},
        "device": {value.device.type for value in tensors},
    }


def _compare_parameters(case: Case, reference: Subject, candidate: Subject) -> None:
    """Elements per component, trainable set and aliasing, before any map is asked for."""
    mine, theirs = _per_component(case, reference), _per_component(case, candidate)
    for name, value in mine.items():
        if theirs.get(name) != value:
            place = case.pair.paths("candidate").get(name, "")
            raise different_fact(
                name, value, theirs.get(name), phase="build", key="parameters", candidate_component=place
            )
    for subject in (reference, candidate):
        pointers = [value.data_ptr() for value in subject.policy.parameters()]
        if len(set(pointers)) != len(pointers):
            raise different_fact("tied parameters", "none share storage", "some do", phase="build", side=subject.side)
    shared = {value.data_ptr() for value in reference.policy.parameters()} & {
        value.data_ptr() for value in candidate.policy.parameters()
    }
    if shared:
        raise different_fact(
            "aliased parameters", "sides are separate", f"{len(shared)} shared", phase="build", side="both"
        )


def _per_component(case: Case, subject: Subject) -> dict[str, dict[str, int]]:
    """Component -> elements and trainable elements; what belongs to none is listed under ``(elsewhere)``."""
    counts = {name: {"elements": 0, "trainable": 0} for name in [*case.pair.paths(subject.side), "(elsewhere)"]}
    for name, value in subject.policy.named_parameters():
        home = case.pair.home(name, subject.side)
        home = home if home in counts else "(elsewhere)"
        counts[home]["elements"] += value.numel()
        counts[home]["trainable"] += value.numel() if value.requires_grad else 0
    return counts


CHECK = Check(
    name="construction",
    summary="every config key arrives; parameters map one to one; trainable set, dtype, device",
    examples=_examples,
    judge=_judge,
)
