"""features: re-activation with permuted, missing and new feature ids, in training and in eval mode."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from hypothesis import strategies as st
from tensordict import TensorDict

from parity.agents.interface import ENV_OBS, FULL_LOG_PROBS, VALUES, EnvironmentDescription
from parity.checks.case import Case
from parity.checks.draw import SEEDS, SIZES, WEIGHTS, feature_tables, sized, to_features
from parity.checks.oracles.observations import FeatureOracle
from parity.checks.refused_calls import refuse_calls
from parity.checks.registry import Check, Example
from parity.compare.probes import Probes
from parity.compare.trace import Trace
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Subject

ROWS = 4
NORMALISED = "obs_normalizer"  # the component whose output is the normalised observation, where a pair has one

#: What that component gives, by the capability that says so.
BOX, TOKENS = "box_observations", "token_observations"


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    tables = feature_tables(pair.recipe.environment)
    known = {name: dataclasses.asdict(feature) for name, feature in pair.recipe.environment.features.items()}
    activation = st.fixed_dictionaries({"features": tables, "training": st.booleans()})
    drawn = st.fixed_dictionaries(
        {
            "weights": WEIGHTS,
            "sizes": SIZES,
            "seed": SEEDS,
            "activations": st.lists(activation, min_size=1, max_size=3),
            "restore": st.sampled_from([False, True, True, True]),
        }
    )
    return drawn.map(lambda example: {**example, "activations": _same_ids(known, example)})


def _same_ids(known: dict[str, Any], example: Example) -> list[dict[str, Any]]:
    """Every third activation repeats the ids of the one before, the environment's at first, with other norms."""
    made = []
    for number, activation in enumerate(example["activations"]):
        table = activation["features"]
        if (example["seed"] + number) % 3 == 2:  # not the first of the simplest example, whose seed is 0
            table = {name: {**entry, "normalization": entry["normalization"] + 3.0} for name, entry in known.items()}
        made.append({"features": table, "training": activation["training"]})
        known = table
    return made


def _judge(case: Case, example: Example) -> None:
    environment = case.pair.recipe.environment
    sides = case.builds.sides(sized(case.recipe(), case.pair, example["sizes"]), example["weights"])
    rounds = [
        (activation["training"], _observations(case, environment, activation["features"], example["seed"] + number))
        for number, activation in enumerate(example["activations"])
    ]
    restored = _restored(environment) if example["restore"] else None

    def activate(subject: Subject, number: int) -> None:
        if number == 0 and restored is not None:
            subject.policy.restore_original_feature_mapping(restored)
        subject.policy.train(example["activations"][number]["training"])
        subject.policy.activate_observations(to_features(example["activations"][number]["features"]))

    def program(subject: Subject, trace: Trace) -> None:
        for number, (_, observations) in enumerate(rounds):
            trace.step, trace.phase = number, "build"
            activate(subject, number)
            trace.fact(
                "original_feature_mapping",
                subject.policy.original_feature_mapping(),
                component="original_feature_mapping",
            )
            trace.phase = "rollout"
            given = observations.clone().to(subject.device)
            td = subject.policy(TensorDict({ENV_OBS: given}, batch_size=[ROWS]))
            trace.record(FULL_LOG_PROBS, td[FULL_LOG_PROBS])
            trace.record(VALUES, td[VALUES])
            trace.fact("input not changed", torch.equal(given.cpu(), observations))

    case.parity(program, sides, probe=True)
    forms = case.pair.capabilities & {BOX, TOKENS}
    # misuse hides why right use goes wrong: it is looked at where that has shown most of what it can
    if restored is not None and any(training for training, _ in rounds):
        refuse_calls(case, "features", sides, phase="build")
    if not forms:
        return
    (form,) = forms

    def expected(subject: Subject, trace: Trace) -> None:
        oracle = FeatureOracle(environment.num_layers, environment.obs_width, environment.obs_height)
        oracle.activate(_table(environment), training=True)
        if restored is not None:
            oracle.mapping = dict(restored)
        for number, (training, observations) in enumerate(rounds):
            trace.step, trace.phase = number, "rollout"
            table = example["activations"][number]["features"]
            oracle.activate({n: (f["id"], f["normalization"]) for n, f in table.items()}, training=training)
            for key, value in _EXPECTED[form](oracle, observations.tolist()).items():
                value = value.to(subject.dtype) if value.is_floating_point() else value
                trace.record(key, value.to(subject.device), component=NORMALISED)
            trace.fact("original_feature_mapping", dict(oracle.mapping), component="original_feature_mapping")

    def actual(subject: Subject, trace: Trace) -> None:
        path = case.pair.paths(subject.side)[NORMALISED]
        for number, (_, observations) in enumerate(rounds):
            trace.step, trace.phase = number, "rollout"
            activate(subject, number)
            with Probes(subject.policy, {NORMALISED: path}, Trace()) as probes:
                subject.policy(TensorDict({ENV_OBS: observations.clone().to(subject.device)}, batch_size=[ROWS]))
            found = [_FOUND[form](call.outputs) for call in probes.calls]
            for key in found[0]:  # a side may work through its rows in several calls
                trace.record(key, torch.cat([part[key] for part in found]), component=NORMALISED)
            trace.fact(
                "original_feature_mapping",
                subject.policy.original_feature_mapping(),
                component="original_feature_mapping",
            )

    case.contract(expected, actual, sides)


def _expected_box(oracle: FeatureOracle, rows: list[Any]) -> dict[str, torch.Tensor]:
    return {"box": torch.tensor(oracle.box(rows), dtype=torch.float64)}


def _expected_tokens(oracle: FeatureOracle, rows: list[Any]) -> dict[str, torch.Tensor]:
    """The real tokens of all rows one after the other, since how far a batch is stripped is a side's own affair."""
    real = [oracle.normalised(row) for row in rows]
    flat = [token for row in real for token in row]  # none at all, where eval mode knows no name
    coordinates, ids, values = ([token[part] for token in flat] for part in range(3))
    return {
        "real tokens per row": torch.tensor([len(row) for row in real]),
        "coordinates": torch.tensor(coordinates, dtype=torch.uint8),
        "ids": torch.tensor(ids, dtype=torch.int64),
        "values": torch.tensor(values, dtype=torch.float64),
    }


def _found_tokens(outputs: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    coordinates, ids, values, mask = outputs
    return {
        "real tokens per row": mask.sum(1),
        "coordinates": coordinates[mask],
        "ids": ids[mask].to(torch.int64),
        "values": values[mask],
    }


_EXPECTED = {BOX: _expected_box, TOKENS: _expected_tokens}
_FOUND = {BOX: lambda outputs: {"box": outputs[0]}, TOKENS: _found_tokens}


def _observations(case: Case, environment: EnvironmentDescription, table: dict[str, Any], seed: int) -> torch.Tensor:
    """Half the rows speak the new table's ids, half the old one's, so that unused ids occur."""
    new = dataclasses.replace(environment, features=to_features(table))
    halves = [case.pair.generate(described, rows=ROWS // 2, seed=seed) for described in (new, environment)]
    return torch.cat(halves)


def _restored(environment: EnvironmentDescription) -> dict[str, int]:
    """A mapping as from a checkpoint made elsewhere: the environment's names, their ids in reverse.

    Every third is left out, which leaves gaps: what is then learned must take the lowest, not the next.
    """
    ids = [feature.id for feature in environment.features.values()]
    pairs = zip(environment.features, reversed(ids), strict=True)
    return {name: id_ for number, (name, id_) in enumerate(pairs) if number % 3 < 2}


def _table(environment: EnvironmentDescription) -> dict[str, tuple[int, float]]:
    return {name: (feature.id, feature.normalization) for name, feature in environment.features.items()}


CHECK = Check(
    name="features",
    summary="feature ids remapped by name: permuted, missing and new ones, train and eval, and their normalisations",
    examples=_examples,
    judge=_judge,
    needs=frozenset({"features"}),
    share=0.6,
)
