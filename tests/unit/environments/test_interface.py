"""What every environment promises, on each one that has a name."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from parity.agents.errors import ActionError, ConfigError
from parity.environments.interface import Step, VectorEnvironment
from parity.environments.registry import environment_names, make_environment

AGENTS = 6
Make = Callable[..., VectorEnvironment]


@pytest.fixture(params=["token_grid", "metta_grid", "recorded:yard"])
def make(request: pytest.FixtureRequest) -> Make:
    if request.param == "metta_grid":
        pytest.importorskip("mettagrid", reason="needs the optional package: pip install 'parity[mettagrid]'")
    return lambda num_agents=AGENTS: make_environment(request.param, num_agents=num_agents)


def drawn_actions(environment: VectorEnvironment, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    largest = torch.tensor(environment.description.max_action_args)
    kind = torch.randint(len(largest), (environment.num_agents,), generator=generator)
    argument = torch.randint(2**31, (environment.num_agents,), generator=generator) % (largest[kind] + 1)
    return torch.stack([kind, argument], dim=1).to(torch.int32)


def run(environment: VectorEnvironment, steps: int, first: int = 0) -> list[Step]:
    return [environment.step(drawn_actions(environment, seed)) for seed in range(first, first + steps)]


def same(ours: Step, theirs: Step) -> bool:
    return all(torch.equal(getattr(ours, field.name), getattr(theirs, field.name)) for field in fields(Step))


def all_same(ours: list[Step], theirs: list[Step]) -> bool:
    return len(ours) == len(theirs) and all(map(same, ours, theirs))


def test_steps_have_the_promised_shapes_and_dtypes(make: Make) -> None:
    environment = make()
    first = environment.reset(3)
    for step in [first, *run(environment, 3)]:
        assert step.observations.shape == (AGENTS, environment.description.num_tokens, 3)
        assert step.observations.dtype == torch.uint8
        assert (step.rewards.shape, step.rewards.dtype) == ((AGENTS,), torch.float32)
        for flags in (step.dones, step.truncateds):
            assert (flags.shape, flags.dtype) == ((AGENTS,), torch.bool)
    assert not bool((first.dones | first.truncateds).any())
    assert not bool(first.rewards.any())


def test_seed_and_actions_decide_everything(make: Make) -> None:
    ours, theirs = make(), make()
    theirs.reset(5)
    run(theirs, 7)
    assert same(ours.reset(4), theirs.reset(4))
    assert all_same(run(ours, 40), run(theirs, 40))
    assert not same(ours.reset(4), theirs.reset(5))


def test_a_new_environment_stands_as_after_reset_zero(make: Make) -> None:
    ours, theirs = make(), make()
    theirs.reset(0)
    assert all_same(run(ours, 5), run(theirs, 5))


def test_a_stored_state_goes_on_bit_for_bit(make: Make) -> None:
    original = make()
    original.reset(9)
    run(original, 131)  # into the second episode of metta_grid, and over the end of the recording
    stored = load(save(original.state_dict()))
    further = run(original, 40, first=131)
    for restored in (make(), original):
        restored.load_state_dict(stored)
        assert all_same(run(restored, 40, first=131), further)


def test_a_stored_state_stays_as_it_was(make: Make) -> None:
    original, other = make(), make()
    stored = original.state_dict()
    before = {key: value.clone() for key, value in stored.items()}
    other.load_state_dict(stored)
    run(original, 3)
    run(other, 3)
    assert all(torch.equal(stored[key], before[key]) for key in before)


def test_returned_tensors_are_never_written_to(make: Make) -> None:
    environment = make()
    steps = [environment.reset(1), *run(environment, 3)]
    copies = [Step(*(getattr(step, field.name).clone() for field in fields(Step))) for step in steps]
    run(environment, 40)
    assert all_same(steps, copies)
    storages = [getattr(step, field.name).data_ptr() for step in steps for field in fields(Step)]
    assert len(set(storages)) == len(storages)


def test_writing_to_what_was_returned_or_given_changes_nothing(make: Make) -> None:
    ours, theirs = make(), make()
    ours.reset(2)
    theirs.reset(2)
    actions = drawn_actions(ours, 0).long()
    for tensor in vars(ours.step(actions)).values():
        tensor.fill_(1)
    actions.fill_(0)
    theirs.step(drawn_actions(theirs, 0))
    assert all_same(run(ours, 5), run(theirs, 5))


def test_global_random_generators_are_left_alone(make: Make) -> None:
    def states() -> tuple[bytes, bytes, object]:
        return torch.get_rng_state().numpy().tobytes(), np.random.get_state()[1].tobytes(), random.getstate()  # type: ignore[union-attr]

    before = states()
    environment = make()
    environment.reset(1)
    run(environment, 40)
    environment.load_state_dict(environment.state_dict())
    assert states() == before


def test_illegal_actions_are_named(make: Make) -> None:
    environment = make()
    largest = environment.description.max_action_args
    types, last = len(largest), len(largest) - 1
    stored = environment.state_dict()
    for action, remedy in [
        ((types, 0), f"types are 0 to {last}"),
        ((-1, 0), f"types are 0 to {last}"),
        ((last, largest[last] + 1), f"arguments of '{environment.description.action_names[last]}' are 0 to"),
        ((0, -1), f"arguments of '{environment.description.action_names[0]}' are 0 to {largest[0]}"),
    ]:
        actions = torch.zeros(AGENTS, 2, dtype=torch.int64)
        actions[4] = torch.tensor(action)
        with pytest.raises(ActionError, match=rf"agent 4: action \({action[0]}, {action[1]}\) is illegal; {remedy}"):
            environment.step(actions)
    after = environment.state_dict()
    assert all(torch.equal(stored[key], after[key]) for key in stored)


@pytest.mark.parametrize(
    "actions",
    [torch.zeros(AGENTS, 2), torch.zeros(AGENTS, 2, dtype=torch.bool), torch.zeros(AGENTS + 1, 2, dtype=torch.int64)],
    ids=["floats", "flags", "another batch"],
)
def test_tensors_that_are_no_actions_are_refused(make: Make, actions: Tensor) -> None:
    with pytest.raises(ActionError, match=rf"actions are {actions.dtype} of shape .*integers of shape \[6, 2\]"):
        make().step(actions)


def test_the_largest_legal_actions_are_taken(make: Make) -> None:
    environment = make()
    for kind, largest in enumerate(environment.description.max_action_args):
        environment.step(torch.tensor([[kind, largest]] * AGENTS, dtype=torch.uint8))


@pytest.mark.parametrize("seed", [-1, 2**31, 1.0, True])
def test_seeds_out_of_range_are_refused(make: Make, seed: int) -> None:
    with pytest.raises(ConfigError, match=f"seed is {seed!r}; give a whole number from 0 to 2147483647"):
        make().reset(seed)


def test_states_of_other_environments_are_refused(make: Make) -> None:
    environment = make()
    stored = environment.state_dict()
    key = next(iter(stored))
    for changed, message in [
        ({name: value for name, value in stored.items() if name != key}, f"lacks '{key}'"),
        (stored | {"extra": torch.zeros(1)}, "has the unknown key 'extra'"),
        (stored | {key: stored[key].double()}, f"'{key}' of the state to load is torch.float64"),
        (stored | {"settings": stored["settings"] + 1}, "taken with the settings"),
        (make(AGENTS + 1).state_dict(), r"of the state to load is .*, not .*; load the state of an environment built"),
    ]:
        with pytest.raises(ConfigError, match=message):
            environment.load_state_dict(changed)


@pytest.mark.parametrize("num_agents", [0, -3, 2.0, True])
def test_numbers_of_agents_out_of_range_are_refused(make: Make, num_agents: int) -> None:
    with pytest.raises(ConfigError, match=f"num_agents is {num_agents!r}; give a whole number from 1"):
        make(num_agents)


def test_environment_names_are_those_that_can_be_built() -> None:
    assert environment_names() == ["token_grid", "metta_grid", "recorded:arena", "recorded:crowd", "recorded:yard"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("tokengrid", "did you mean 'token_grid'"),
        ("recorded:yart", "did you mean 'recorded:yard'"),
        ("atari", "there are token_grid"),
    ],
)
def test_unknown_environments_are_refused_with_the_nearest_name(name: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"no environment is named '{name}'; {hint}"):
        make_environment(name, num_agents=2)
