"""checkpoint: a loaded policy is the saved one, a resumed training goes on as if never stopped, a copy is a copy."""

from __future__ import annotations

import copy
import dataclasses
import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from hypothesis import strategies as st
from tensordict import TensorDict
from torch import Tensor

from parity.agents.interface import ENV_OBS, FULL_LOG_PROBS, VALUES, EnvironmentDescription, Feature
from parity.checks import saving
from parity.checks.case import Case
from parity.checks.draw import SEEDS, SIZES, WEIGHTS, sized
from parity.checks.registry import Check, Example, nightly
from parity.checks.trainer.damaged import REFUSED, Unchanged, attempted, damaged, other_agents
from parity.checks.trainer.resuming import OTHER_RUNS, SETTINGS, Resuming, record_state
from parity.compare.bounds import same_bits
from parity.compare.trace import Trace
from parity.pairs.recipe import Pair, Recipe, Recording
from parity.pairs.subjects import Sides, Subject

ROWS, CLIP_RANGE = 4, 0.5
KINDS = ("a truncated file", "a corrupt file", "an empty file", "a JSON file", "foreign tensors")
ANOTHER = "another agent's"
OTHER_WORLD, FEWER_TOKENS = "a run in a world of fewer tokens", 33
FORMS = ("a state dict of tensors", "torch.load with weights_only", "safetensors")
EMPTY = "a folder without a checkpoint"


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    if "training" not in pair.capabilities:
        return saving.examples()
    long = nightly()
    return st.fixed_dictionaries(
        {
            "weights": WEIGHTS,
            "seed": SEEDS,
            "sizes": SIZES if long else st.just("varied"),
            "optimizer": st.sampled_from(["adam", "muon"]),
            "updates": st.sampled_from([[1, 1], [2, 1], [1, 2]]),
            "permille": st.integers(0, 999),
        }
    )


def _judge(case: Case, example: Example) -> None:
    if "training" not in case.pair.capabilities:  # there is no trainer that writes checkpoints
        return saving.judge_saving(case, example)
    recipe = sized(case.recipe(), case.pair, example["sizes"])
    # the bound that clipping takes is part of what is saved
    recipe = dataclasses.replace(recipe, config=dataclasses.replace(recipe.config, clip_range=CLIP_RANGE))
    sides = case.builds.sides(recipe, example["weights"])
    with tempfile.TemporaryDirectory(prefix="parity-") as folder:
        run = _Checkpoints(case, example, recipe, sides, Path(folder))
        case.contract(run.kept, run.loaded, sides)
        case.facts(run.forms, dict.fromkeys(FORMS, True), sides, phase="save")
        case.facts(run.nothing_found, {EMPTY: "nothing to resume from"}, sides, phase="resume")
        case.facts(run.refusals, dict.fromkeys(run.attempts, REFUSED), sides, phase="load")
        case.contract(run.uncopied, run.copied, sides)
        case.contract(partial(run.reloaded, acted=False), partial(run.reloaded, acted=True), sides)
        updates = Resuming(case, run.moved, run.settings, example["updates"], Path(folder), run.fresh)
        case.contract(updates.uninterrupted, updates.resumed, sides)


class _Checkpoints:
    """What becomes of a policy that went from its own environment to another, whose names have other ids."""

    def __init__(self, case: Case, example: Example, recipe: Recipe, sides: Sides, folder: Path) -> None:
        assert case.pair.training is not None, "the capability says that there is one"
        self.training, self.example, self.sides, self.folder = case.pair.training, example, sides, folder
        self.case, self.recipe = case, recipe
        self.moved, self.other, self.third = (_rotated(recipe.environment, number) for number in (1, 2, 3))
        drawn = {"total_updates": sum(example["updates"]), "seed": example["seed"]}
        self.settings = {**SETTINGS, **drawn, "optimizer": {"type": example["optimizer"]}}
        mine, theirs = (
            {name: value.shape for name, value in side.policy.state_dict().items()}
            for side in (sides.reference, sides.candidate)
        )
        kinds = KINDS if mine == theirs else (*KINDS, ANOTHER)
        self.resized = other_agents(case, recipe)
        kinds = (*kinds, *self.resized)
        self.attempts = [f"{what} {kind}" for kind in kinds for what in ("resume from", "load")]
        self.attempts += [f"resume from {kind}" for kind in (*OTHER_RUNS, OTHER_WORLD)]

    def fresh(self, subject: Subject, environment: EnvironmentDescription | None = None) -> Any:
        """Another policy of the subject's kind, with other weights, that only ever saw one environment."""
        recipe = dataclasses.replace(self.recipe, environment=environment or self.moved)
        recipe = recipe.with_system(seed=self.recipe.system.seed + 1)
        return getattr(self.case.builds.sides(recipe, None), subject.side).copy().policy

    def save(self, subject: Subject, moved: EnvironmentDescription | None = None, **settings: Any) -> Path:
        """A checkpoint of the subject, moved to another environment, before its first update."""
        moved = moved or self.moved
        subject.policy.initialize_to_environment(moved)
        trainer = self.training.start(subject.policy, moved, {**self.settings, **settings})
        return self.training.save(trainer, Path(tempfile.mkdtemp(dir=self.folder)))

    def kept(self, subject: Subject, trace: Trace) -> None:
        """The policy itself, in two environments."""
        trace.phase = "save"
        self.save(subject)
        for step, environment in enumerate((self.moved, self.other)):
            trace.step, trace.phase = step, "load"
            subject.policy.initialize_to_environment(environment)
            self._record(subject, subject.policy, environment, trace)

    def loaded(self, subject: Subject, trace: Trace) -> None:
        """New policies that load its checkpoint, in the same environments."""
        trace.phase = "save"
        path = self.save(subject)
        for step, environment in enumerate((self.moved, self.other)):
            trace.step, trace.phase = step, "load"
            policy = self.fresh(subject, self.third)
            self.training.load(policy, path, environment)
            self._record(subject, policy, environment, trace)

    def _record(self, subject: Subject, policy: Any, environment: EnvironmentDescription, trace: Trace) -> None:
        record_state(self.case, subject, policy, trace)
        policy.reset_memory()
        _record_outputs(policy, self._observations(environment, 0), subject, trace)

    def _observations(self, environment: EnvironmentDescription, number: int) -> Tensor:
        return self.case.pair.generate(environment, rows=ROWS, seed=self.example["seed"] + number)

    def forms(self, subject: Subject) -> dict[str, bool]:
        """Whether weights and checkpoint can be read without running what is in them."""
        subject = subject.copy()
        state, buffer = dict(subject.policy.state_dict()), io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        again = torch.load(buffer, weights_only=True)
        tensors = safetensors.torch.load(self.save(subject).read_bytes())
        held = {(value.dtype, value.shape) for value in tensors.values()}
        found = (
            all(isinstance(value, Tensor) for value in state.values()),
            all(same_bits(value, again[name]) for name, value in state.items()),
            all((value.dtype, value.shape) in held for value in state.values()),
        )
        return dict(zip(FORMS, found, strict=True))

    def nothing_found(self, subject: Subject) -> dict[str, str]:
        """What comes of a run that starts in a folder where none was saved yet."""
        trainer = self.training.start(subject.copy().policy, self.recipe.environment, self.settings)
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return {EMPTY: "resumed" if self.training.resume(trainer, folder) else "nothing to resume from"}

    def refusals(self, subject: Subject) -> dict[str, str]:
        """How each attempt to read something that is no checkpoint of this policy ends."""
        content = self.save(subject.copy()).read_bytes()
        other = self.sides.candidate if subject.side == "reference" else self.sides.reference
        files = damaged(content, self.example["permille"])
        for kind, settings in OTHER_RUNS.items():
            files[kind] = self.save(subject.copy(), **settings).read_bytes()
        fewer = dataclasses.replace(self.moved, num_tokens=FEWER_TOKENS)
        elsewhere = self.case.builds.build(subject.side, dataclasses.replace(self.recipe, environment=fewer))
        files[OTHER_WORLD] = self.save(elsewhere, fewer).read_bytes()
        files[ANOTHER] = self.save(other.copy()).read_bytes()
        for kind, recipe in self.resized.items():  # the parameter map need not fit them
            files[kind] = self.save(self.case.builds.build(subject.side, recipe)).read_bytes()
        policy = self.fresh(subject)
        trainer = self.training.start(policy, self.moved, self.settings)
        path = self.folder / f"{subject.side}.safetensors"
        calls: dict[str, Callable[[], object]] = {
            "resume from": lambda: self.training.resume(trainer, path),
            "load": lambda: self.training.load(policy, path, self.other),
        }
        found, before = {}, Unchanged(policy)
        for attempt in self.attempts:
            what, kind = next((what, attempt.removeprefix(f"{what} ")) for what in calls if attempt.startswith(what))
            path.write_bytes(files[kind])
            found[attempt] = attempted(calls[what], path, before)
        return found

    def uncopied(self, subject: Subject, trace: Trace) -> None:
        """A policy's second step."""
        trace.phase = "deep copy"
        self._act(subject.policy, subject, 0)
        record_state(self.case, subject, subject.policy, trace)
        _record_outputs(subject.policy, self._observations(self.recipe.environment, 1), subject, trace)

    def copied(self, subject: Subject, trace: Trace) -> None:
        """The second step of its copy, after the original has gone on and was cleared."""
        trace.phase = "deep copy"
        self._act(subject.policy, subject, 0)
        policy = copy.deepcopy(subject.policy)
        self._act(subject.policy, subject, 2)
        with torch.no_grad():
            for value in (*subject.policy.parameters(), *subject.policy.buffers()):
                value.zero_()
        record_state(self.case, subject, policy, trace)
        _record_outputs(policy, self._observations(self.recipe.environment, 1), subject, trace)

    def reloaded(self, subject: Subject, trace: Trace, *, acted: bool) -> None:
        """Another policy that takes the subject's weights, whether or not it has acted on its own before."""
        trace.phase = "load"
        policy = self.fresh(subject, self.recipe.environment)
        if acted:
            with torch.no_grad():
                self._act(policy, subject, 2)
        policy.load_state_dict(subject.policy.state_dict())
        policy.reset_memory()
        with torch.no_grad():
            _record_outputs(policy, self._observations(self.recipe.environment, 1), subject, trace)

    def _act(self, policy: Any, subject: Subject, number: int) -> None:
        observations = self._observations(self.recipe.environment, number).to(subject.device)
        policy(TensorDict({ENV_OBS: observations}, batch_size=[ROWS]))


def _record_outputs(policy: Any, observations: Tensor, subject: Subject, trace: Trace) -> None:
    td = policy(TensorDict({ENV_OBS: observations.to(subject.device)}, batch_size=[ROWS]))
    trace.record(VALUES, td[VALUES], judged="exact")
    trace.record(FULL_LOG_PROBS, td[FULL_LOG_PROBS], judged="exact")


def _rotated(environment: EnvironmentDescription, by: int) -> EnvironmentDescription:
    """The same environment with its actions in another order and its features under each other's ids."""
    names, largest = environment.action_names, environment.max_action_args
    ids = [feature.id for feature in environment.features.values()]
    features = zip(environment.features.items(), ids[by:] + ids[:by], strict=True)
    return dataclasses.replace(
        environment,
        action_names=names[by:] + names[:by],
        max_action_args=largest[by:] + largest[:by],
        features={name: Feature(number, feature.normalization) for (name, feature), number in features},
    )


CHECK = Check(
    name="checkpoint",
    summary="save and load, resume = uninterrupted, deep copy; plain tensors; what is no checkpoint is refused",
    examples=_examples,
    judge=_judge,
    needs=frozenset({"save"}),
    share=0.2,
)
