"""What checks draw: structure by hypothesis, so that failures shrink; bulk numbers from a drawn seed."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from tensordict import TensorDict
from torch import Tensor

from parity.agents.interface import (
    DONES,
    ENV_ID_START,
    ENV_OBS,
    TRUNCATEDS,
    EnvironmentDescription,
    Feature,
)
from parity.checks.case import Case
from parity.compare.verdict import Misuse
from parity.pairs.recipe import Pair, Recipe, Recording
from parity.pairs.subjects import Sides, Subject

SEEDS = st.integers(0, 2**16)
WEIGHTS = st.integers(0, 2)  # few, because each is calibrated once and kept
#: The pair's own sizes, and others that build and run faster. Drawing begins with the first, so no run is without it.
SIZES = st.sampled_from(["default", *["varied"] * 4])
OTHER_BOX = (14, 12)  # neither square nor the default
MODES = st.sampled_from(["train", "eval"])
#: More rows than a candidate works through at once, of unequal numbers of tokens.
MANY_ROWS = 40
#: Steps over which a gradient reaches back, longer than any that steps are cut into.
LONG = 20

NOTHING, DONE, TRUNCATED, BOTH = range(4)
RESETS = st.sampled_from([NOTHING, NOTHING, NOTHING, DONE, TRUNCATED, BOTH])


def scenes(
    recordings: dict[str, Recording],
    *,
    batch: tuple[int, int] = (1, 3),
    steps: tuple[int, int] = (1, 4),
    any_environment: bool = False,
    many_rows: bool = False,
    long: bool = False,
    narrowest: int = 11,
    pair: Pair | None = None,
) -> st.SearchStrategy[dict[str, Any]]:
    """Strategy of scenes: observations ``[B, T]`` from a generator or a recording, with a reset schedule.

    Some scenes are of policies whose sizes and box differ from the pair's own: what is right only by chance of the
    default sizes (an axis of length 1, a square box) shows there. With ``any_environment`` some of those are in an
    environment drawn from scratch, of at least ``narrowest`` cells a side, and up to 16 steps long. A ``pair`` that
    cannot be built for another environment is given neither. Some scenes have ``MANY_ROWS``, or are ``LONG``, where the
    check asks for that; half of them put the policies into eval mode.
    """
    fixed = pair is not None and "environments" not in pair.capabilities

    @st.composite
    def scene(draw: st.DrawFn) -> dict[str, Any]:
        sizes = "default" if fixed else draw(SIZES)
        source = draw(st.sampled_from(["generated", "generated", *recordings]))
        b, t = draw(st.integers(*batch)), draw(st.integers(*steps))
        environment = None
        if any_environment and sizes == "varied" and source == "generated":
            environment = draw(environments(narrowest))
            t = draw(st.integers(1, 16)) if b == 1 else t
        if many_rows and sizes == "varied" and draw(st.booleans()):
            b, t, source = MANY_ROWS, 1, "generated"  # which has in a few rows what recordings have in thousands
        if long and sizes == "varied" and draw(st.booleans()):
            b, t = 1, LONG
        return {
            "source": source,
            "seed": draw(SEEDS),
            "weights": draw(WEIGHTS),
            "sizes": sizes,
            "environment": environment,
            "batch": b,
            "steps": t,
            "mode": draw(MODES),
            # a list for many rows would be slow to draw, and to shrink
            "resets": [BOTH] * b if b == MANY_ROWS else draw(st.lists(RESETS, min_size=b * t, max_size=b * t)),
        }

    return scene()


def environments(narrowest: int = 11) -> st.SearchStrategy[dict[str, Any]]:
    """Strategy of environments: boxes of at least so many cells a side, which convolutions need, features, actions."""
    side = st.one_of(st.integers(narrowest, 16), st.just(16))  # the last column and row only the largest box has
    return st.fixed_dictionaries(
        {
            "box": st.tuples(side, side).map(list),
            "tokens": st.sampled_from([200, 500, 33, 1]),
            "features": st.integers(22, 64),
            "sparse": st.booleans(),
            "actions": action_spaces(largest_total=100, largest_argument=40),
        }
    )


def to_environment(drawn: dict[str, Any]) -> EnvironmentDescription:
    """A drawn environment; sparse ids leave gaps and come in no order."""
    count = drawn["features"]
    ids = [(37 * number) % 101 for number in range(count)] if drawn["sparse"] else range(count)
    norms = (1.0, 10.0, 255.0, 3.0)
    return EnvironmentDescription(
        obs_width=drawn["box"][0],
        obs_height=drawn["box"][1],
        num_tokens=drawn["tokens"],
        action_names=tuple(drawn["actions"]["names"]),
        max_action_args=tuple(drawn["actions"]["max_args"]),
        features={f"feature_{number}": Feature(id_, norms[id_ % 4]) for number, id_ in enumerate(ids)},
        source="drawn",
    )


#: What an integer id, and a flag that is set, may look like.
_IDS = (torch.int64, torch.int32, torch.int16)
_TRUE = ((torch.bool, 1), (torch.float32, 1.0), (torch.uint8, 2), (torch.float32, 0.5), (torch.int64, -1))


@dataclass
class Scene:
    """A drawn scene made real: both sides on stress weights, and observations ``[B, T, M, 3]`` with resets."""

    sides: Sides
    observations: Tensor
    dones: Tensor
    truncateds: Tensor
    seed: int
    any_flags: bool = False  # whether flags come in all dtypes, or as bool alone
    states: tuple[str, ...] = ()  # keys of the recurrent state in a training TensorDict; none without memory

    @property
    def batch(self) -> int:
        """B."""
        return self.observations.shape[0]

    @property
    def steps(self) -> int:
        """T."""
        return self.observations.shape[1]

    def at(self, step: int, subject: Subject, *, env_id: int | None = None) -> TensorDict:
        """A fresh ``[B]`` TensorDict of one time step."""
        return self._dictionary(slice(None), step, subject, env_id)

    def sequence(self, subject: Subject, *, env_id: int | None = None) -> TensorDict:
        """A fresh ``[B, T]`` TensorDict of all steps."""
        return self._dictionary(slice(None), slice(None), subject, env_id)

    def _dictionary(self, rows: slice, steps: int | slice, subject: Subject, env_id: int | None) -> TensorDict:
        device = subject.device
        size = [self.batch] if isinstance(steps, int) else [self.batch, self.steps]
        values = {
            ENV_OBS: subject.given(self.observations[rows, steps], self.seed),
            DONES: self._flags(self.dones[rows, steps], 0, subject),
            TRUNCATEDS: self._flags(self.truncateds[rows, steps], 1, subject),
        }
        if env_id is not None:  # the first row's counts, in any integer dtype
            places = torch.arange(self.batch).reshape(self.batch, *[1] * (len(size) - 1)).expand(size)
            values[ENV_ID_START] = (env_id + places).to(_IDS[self.seed % len(_IDS)]).to(device)
        return TensorDict(values, batch_size=size)

    def _flags(self, flags: Tensor, which: int, subject: Subject) -> Tensor:
        """Flags as any dtype may say them; a stranger's policy is told true or false."""
        if not self.any_flags:
            return flags.clone().to(subject.device)
        dtype, true = _TRUE[(self.seed + which) % len(_TRUE)]
        return (flags.to(torch.float32) * true).to(dtype).to(subject.device)

    def training(self, subject: Subject, *, memory: bool = True) -> tuple[TensorDict, Tensor]:
        """A fresh ``[B, T]`` training TensorDict with initial memory, and legal actions ``[B, T, 2]``."""
        td = self.sequence(subject)
        if memory and self.states:
            spec = subject.policy.get_agent_experience_spec()
            for number, key in enumerate(self.states):
                start = 0.5 * subject.floats((self.batch, 1, *spec[key].shape), self.seed + number)
                # only t = 0 is read; what stands behind it must not matter
                rest = torch.full((self.batch, self.steps - 1, *spec[key].shape), 7.0, dtype=start.dtype)
                td[key] = torch.cat([start, rest.to(start.device)], dim=1)
        return td, legal_actions(subject.recipe.environment, (self.batch, self.steps), self.seed).to(subject.device)


def open_scene(case: Case, example: dict[str, Any], *, weights: int | None = -1) -> Scene:
    """Build a drawn scene.

    Args:
        case: the cell being judged.
        example: what ``scenes`` drew.
        weights: None for fresh weights; by default the drawn stress seed.

    Raises:
        Misuse: the example names a recording that the pair does not have.
    """
    b, t, seed = example["batch"], example["steps"], example["seed"]
    flags = torch.tensor(example["resets"], dtype=torch.int64).reshape(b, t)
    dones, truncateds = (flags & DONE) > 0, (flags & TRUNCATED) > 0
    varied = example["sizes"] == "varied" and "environments" in case.pair.capabilities
    if example["source"] == "generated":
        environment = case.pair.recipe.environment
        if example["environment"] is not None:
            environment = to_environment(example["environment"])
        elif varied:
            environment = dataclasses.replace(environment, obs_width=OTHER_BOX[0], obs_height=OTHER_BOX[1])
        rows = case.pair.generate(environment, rows=b * t, seed=seed)
        observations = rows.reshape(b, t, *rows.shape[1:])
    else:
        recording = case.recordings.get(example["source"])
        if recording is None:
            raise Misuse(f"the example wants recording {example['source']!r}; this pair has {sorted(case.recordings)}")
        environment = recording.environment
        observations, recorded_dones, recorded_truncateds = recording.segment(batch=b, steps=t, seed=seed)
        dones, truncateds = dones | recorded_dones, truncateds | recorded_truncateds
    case.sequence = (b, t)
    seed_of_weights = example["weights"] if weights == -1 else weights
    sides = case.builds.sides(sized(case.recipe(environment), case.pair, example["sizes"]), seed_of_weights)
    if example.get("mode") == "eval":
        sides = sides.evaluating()
    any_flags = "fields" in case.pair.capabilities
    return Scene(sides, observations, dones, truncateds, seed, any_flags, memory_keys(case.pair, sides))


def memory_keys(pair: Pair, sides: Sides) -> tuple[str, ...]:
    """Keys of the recurrent state in a training TensorDict, as the reference's experience spec has them."""
    if "memory" not in pair.capabilities:
        return ()
    return tuple(key for key in sides.reference.policy.get_agent_experience_spec() if key.startswith("memory_"))


def sized(recipe: Recipe, pair: Pair, sizes: str) -> Recipe:
    """The recipe with the pair's own sizes (``default``) or with the last of its choices (``varied``)."""
    if sizes == "default":
        return recipe
    return with_sizes(recipe, {path: choices[-1] for path, choices in pair.sizes.items()})


def with_sizes(recipe: Recipe, sizes: Mapping[tuple[str, ...], Any]) -> Recipe:
    """The recipe with other YAML sizes: path of keys below ``components`` -> value."""
    components = copy.deepcopy(dict(recipe.config.components))
    for (*parents, last), value in sizes.items():
        holder: Any = components
        for key in parents:
            holder = holder[key]
        holder[last] = value
    return dataclasses.replace(recipe, config=dataclasses.replace(recipe.config, components=components))


def legal_actions(environment: EnvironmentDescription, shape: tuple[int, ...], seed: int) -> Tensor:
    """Random legal actions ``[*shape, 2]`` int64; every type is about equally likely."""
    generator = torch.Generator().manual_seed(seed + 17)
    kinds = torch.randint(0, len(environment.action_names), shape, generator=generator)
    largest = torch.tensor(environment.max_action_args)[kinds]
    arguments = (torch.rand(shape, generator=generator) * (largest + 1)).to(torch.int64)
    return torch.stack([kinds, torch.minimum(arguments, largest)], dim=-1)


def action_spaces(*, largest_total: int = 40, largest_argument: int = 6) -> st.SearchStrategy[dict[str, Any]]:
    """Strategy of ragged action spaces: names and inclusive maximum arguments, at most so many logits."""
    arguments = st.lists(st.integers(0, largest_argument), min_size=1, max_size=7)
    sizes = arguments.filter(lambda m: sum(m) + len(m) <= largest_total)
    return sizes.flatmap(
        lambda m: st.permutations([f"do_{i}" for i in range(len(m))]).map(
            lambda names: {"names": list(names), "max_args": m}
        )
    )


def with_actions(environment: EnvironmentDescription, space: dict[str, Any]) -> EnvironmentDescription:
    """The same environment with a drawn action space."""
    return dataclasses.replace(
        environment, action_names=tuple(space["names"]), max_action_args=tuple(space["max_args"])
    )


def feature_tables(environment: EnvironmentDescription) -> st.SearchStrategy[dict[str, Any]]:
    """Strategy of feature tables made from the environment's: permuted ids, some missing, some new, new norms."""
    names = list(environment.features)
    ids = [feature.id for feature in environment.features.values()]

    @st.composite
    def table(draw: st.DrawFn) -> dict[str, Any]:
        kept = draw(st.lists(st.sampled_from(names), unique=True, min_size=1, max_size=len(names)))
        new = [f"new_{i}" for i in range(draw(st.integers(0, 3)))]
        # an id of its own that is free, but not the lowest that is, or any that is left
        own = [max(ids) + 3 - number for number in range(len(new))] if draw(st.booleans()) else []
        pool = draw(st.permutations(sorted({*ids, *range(max(ids) + 4)} - {*own})))
        pool[len(kept) : len(kept)] = own
        norms = st.sampled_from([2.0, 1.0, 7.0, 100.0, 255.0])
        return {
            name: {"id": number, "normalization": draw(norms)}
            for name, number in zip([*kept, *new], pool, strict=False)
        }

    return table()


def to_features(table: dict[str, Any]) -> dict[str, Feature]:
    """A drawn table as Feature objects."""
    return {name: Feature(entry["id"], entry["normalization"]) for name, entry in table.items()}
