"""Stress weights must make a policy speak: what fresh weights hide, they show."""

import pytest
import torch
from tensordict import TensorDict

from parity.builtin.fast import pair
from parity.compare.probes import Probes
from parity.compare.trace import Trace
from parity.pairs.builds import Builds
from parity.pairs.subjects import Subject

ROWS = 64


@pytest.fixture(scope="module")
def builds() -> Builds:
    return Builds(pair())


def act(subject: Subject, observations: torch.Tensor, opens: bool = False, shared: bool = False) -> TensorDict:
    subject = subject if shared else subject.copy()
    td = TensorDict({"env_obs": observations, "dones": torch.full((ROWS,), opens)}, batch_size=[ROWS])
    with torch.no_grad():
        return subject.policy(td)


@pytest.mark.filterwarnings("ignore::parity.agents.errors.IgnoredTokensWarning")
@pytest.mark.parametrize("seed", range(4))
def test_outputs_vary_with_the_input_by_nats(builds, seed):
    recipe = builds.pair.recipe.with_system(dtype=torch.float64)
    observations = builds.pair.generate(recipe.environment, rows=ROWS, seed=9)
    stress = act(builds.sides(recipe, seed).reference, observations)
    fresh = act(builds.sides(recipe, None).reference, observations)
    assert stress["full_log_probs"].std(0).mean() > 0.3
    assert (stress["full_log_probs"].amax(1) - stress["full_log_probs"].amin(1)).mean() > 2.0
    assert stress["values"].std() > 10 * fresh["values"].std()
    # and fresh weights do not: this is why every value check runs on stress weights
    assert fresh["full_log_probs"].std(0).mean() < 0.05


@pytest.mark.filterwarnings("ignore::parity.agents.errors.IgnoredTokensWarning")
@pytest.mark.parametrize("seed", range(4))
def test_recurrent_state_matters_from_the_second_step_on(builds, seed):
    recipe = builds.pair.recipe.with_system(dtype=torch.float64)
    subject = builds.sides(recipe, seed).reference.copy()
    observations = builds.pair.generate(recipe.environment, rows=ROWS, seed=9)
    act(subject, observations.flip(0), shared=True)
    with_state = act(subject, observations)["full_log_probs"]
    without = act(subject, observations, opens=True)["full_log_probs"]
    assert (with_state - without).abs().mean() > 0.1


@pytest.mark.filterwarnings("ignore::parity.agents.errors.IgnoredTokensWarning")
@pytest.mark.parametrize("seed", range(4))
def test_activations_neither_vanish_nor_saturate(builds, seed):
    recipe = builds.pair.recipe.with_system(dtype=torch.float64)
    subject = builds.sides(recipe, seed).reference.copy()
    observations = builds.pair.generate(recipe.environment, rows=ROWS, seed=9)
    with Probes(subject.policy, builds.pair.paths("reference"), Trace()) as probes:
        act(subject, observations, shared=True)
    for call in probes.calls[2:]:
        size = float(call.outputs[0].pow(2).mean().sqrt())
        assert 0.05 < size < 20, call.component
    core = next(call.outputs[0] for call in probes.calls if call.component == "_core_")
    critic = next(call.outputs[0] for call in probes.calls if call.component == "critic_1")
    assert (core.abs() > 0.95).double().mean() < 0.5
    assert (critic.abs() > 0.999).double().mean() < 0.2


def test_every_parameter_is_drawn_and_none_is_constant(builds):
    sides = builds.sides(builds.pair.recipe, 0)
    fresh = dict(builds.sides(builds.pair.recipe, None).reference.policy.named_parameters())
    for name, value in sides.reference.policy.named_parameters():
        assert not torch.equal(value, fresh[name]), name
        assert value.numel() == 1 or bool((value != value.flatten()[0]).any()), name


def test_both_sides_and_all_dtypes_hold_the_same_weights(builds):
    narrow, wide = (
        builds.sides(builds.pair.recipe.with_system(dtype=dtype), 3) for dtype in (torch.float32, torch.float64)
    )
    values = dict(wide.reference.policy.named_parameters())
    for name, value in narrow.reference.policy.named_parameters():
        assert torch.equal(value.double(), values[name]), name
    for sides in (narrow, wide):
        mine = dict(sides.reference.policy.named_parameters())
        theirs = sides.candidate.to_reference(dict(sides.candidate.policy.named_parameters()))
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
