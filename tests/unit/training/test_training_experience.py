from __future__ import annotations

from typing import Any

import pytest
import torch
from tensordict import TensorDict
from training_samples import agent

from parity.agents.interface import FieldSpec
from parity.training.experience import Experience, ExperienceError, experience_spec

SPEC = {
    "env_obs": FieldSpec((2, 3), torch.uint8),
    "memory_h": FieldSpec((1, 2), torch.float32),
    "memory_c": FieldSpec((1, 2), torch.float32),
    "rewards": FieldSpec((), torch.float32),
    "dones": FieldSpec((), torch.float32),
    "truncateds": FieldSpec((), torch.float32),
    "actions": FieldSpec((2,), torch.int32),
    "act_log_prob": FieldSpec((), torch.float32),
    "values": FieldSpec((), torch.float32),
}
POLICY_KEYS = ("env_obs", "dones", "truncateds", "memory_h", "memory_c")


def build(**changes: Any) -> Experience:
    sizes = {"num_agents": 2, "segments": 4, "horizon": 3, **changes}
    return Experience(SPEC, POLICY_KEYS, generator=torch.Generator().manual_seed(0), **sizes)


def step(number: int, agents: slice, **changes: Any) -> TensorDict:
    """Every entry of agent i at step t holds ``10 t + i``."""
    marks = torch.arange(agents.start, agents.stop) + 10 * number
    entries: dict[str, Any] = {
        key: marks.view(-1, *(1 for _ in field.shape)).expand(-1, *field.shape).to(field.dtype)
        for key, field in SPEC.items()
    }
    return TensorDict({**entries, **changes}, batch_size=[len(marks)])


def test_store_keeps_exactly_the_keys_of_the_spec() -> None:
    experience = build()
    data = step(0, slice(0, 2), full_log_probs=torch.zeros(2, 5), bptt=torch.ones(2), batch=torch.ones(2))
    experience.store(data, slice(0, 2))
    assert set(experience.buffer) == set(SPEC)


@pytest.mark.parametrize("key", SPEC)
def test_a_missing_key_is_named_and_nothing_is_stored(key: str) -> None:
    experience = build()
    with pytest.raises(ExperienceError, match=f"lacks '{key}'"):
        experience.store(step(1, slice(0, 2)).exclude(key), slice(0, 2))
    assert experience.opens_segment(slice(0, 2))
    assert all(not bool(kept.any()) for kept in experience.buffer.values())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("values", torch.zeros(2, 1)),
        ("env_obs", torch.zeros(2, 2, 3)),
        ("actions", torch.zeros(2, 2, dtype=torch.int64)),
    ],
)
def test_a_misfit_is_named_with_both_shapes(key: str, value: torch.Tensor) -> None:
    with pytest.raises(ExperienceError, match=rf"'{key}' is {value.dtype} of shape"):
        build().store(step(0, slice(0, 2), **{key: value}), slice(0, 2))


def test_slices_fill_their_segments_and_then_take_the_oldest() -> None:
    experience = build(num_agents=3, segments=6, horizon=2)
    early, late = slice(0, 2), slice(2, 3)
    rows: dict[int, list[int]] = {}  # a plain model: row -> what was stored last
    current, following, filled = [0, 1, 2], 3, 0
    for number in range(10):
        for agents in (early, late):
            experience.store(step(number, agents), agents)
            for i in range(agents.start, agents.stop):
                rows.setdefault(current[i], [0, 0])[number % 2] = 10 * number + i
            if number % 2 == 1:
                for i in range(agents.start, agents.stop):
                    current[i], following = following, (following + 1) % 6
                    filled += 1
            assert experience.ready == (filled >= 6)
        for row, marks in rows.items():
            assert experience.buffer["rewards"][row].tolist() == marks
            assert experience.buffer["actions"][row, :, 1].tolist() == marks
            assert experience.buffer["memory_h"][row].flatten().tolist() == [marks[0]] * 2


def test_reset_begins_at_the_first_segment() -> None:
    experience = build()
    for number in range(4):
        experience.store(step(number, slice(0, 2)), slice(0, 2))
    experience.reset()
    assert experience.opens_segment(slice(0, 2)) and not experience.ready
    experience.store(step(7, slice(0, 2)), slice(0, 2))
    assert experience.buffer["rewards"][:2, 0].tolist() == [70, 71]


@pytest.mark.parametrize("sizes", [{"segments": 5}, {"segments": 0}, {"horizon": 0}])
def test_sizes_that_do_not_divide_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ExperienceError, match="multiple of the agents"):
        build(**sizes)


def test_a_slice_that_changes_within_a_segment_is_refused() -> None:
    experience = build()
    experience.store(step(0, slice(0, 1)), slice(0, 1))
    with pytest.raises(ExperienceError, match="no slice at one step"):
        experience.store(step(0, slice(0, 2)), slice(0, 2))


def test_priorities_are_powers_of_the_summed_advantages() -> None:
    experience = build()
    advantages = torch.tensor([[1.0, -3, 0], [0, 0, 0], [2, 2, 5], [1, 0, 0]], dtype=torch.float64)
    powers = [4**0.5, 0.0, 9**0.5, 1.0]
    expected = [power / sum(powers) for power in powers]
    found = experience.probabilities(advantages, 0.5)
    torch.testing.assert_close(found.tolist(), expected, rtol=1e-5, atol=1e-5)
    assert float(found.min()) > 0 and float(found.sum()) == pytest.approx(1)
    assert experience.probabilities(advantages, 0.0).tolist() == pytest.approx([0.25] * 4)
    assert experience.probabilities(torch.zeros(4, 3), 1.0).tolist() == pytest.approx([0.25] * 4)


def test_a_minibatch_holds_its_segments_and_their_importance_weights() -> None:
    experience = build()
    for number in range(6):
        experience.store(step(number, slice(0, 2)), slice(0, 2))
    advantages = torch.arange(12.0).view(4, 3)
    probabilities = torch.tensor([0.1, 0.2, 0.3, 0.4])
    indices = torch.tensor([3, 0])
    minibatch = experience.minibatch(indices, advantages, probabilities, 0.7)
    assert minibatch.rewards.tolist() == [[31, 41, 51], [0, 10, 20]]
    assert set(minibatch.inputs.keys()) == set(POLICY_KEYS)
    assert minibatch.inputs["memory_h"].shape == (2, 3, 1, 2)
    assert minibatch.inputs["memory_h"][:, 0, 0, 0].tolist() == [31, 0]
    assert minibatch.advantages.tolist() == advantages[indices].tolist()
    assert minibatch.weights.flatten().tolist() == pytest.approx([1.6**-0.7, 0.4**-0.7])
    minibatch.rewards.zero_()
    assert bool(experience.buffer["rewards"][3].all())


def test_drawing_follows_the_probabilities_and_its_own_generator() -> None:
    experience = build()
    probabilities = torch.tensor([0.7, 0.1, 0.1, 0.1])
    before = torch.get_rng_state()
    drawn = [int(experience.draw(probabilities, 1)) for _ in range(2000)]
    assert torch.equal(before, torch.get_rng_state())
    assert abs(drawn.count(0) / 2000 - 0.7) < 0.05
    assert sorted(experience.draw(probabilities, 4).tolist()) == [0, 1, 2, 3]
    with pytest.raises(ExperienceError, match="cannot draw 5 of 4"):
        experience.draw(probabilities, 5)


@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_the_spec_is_the_policys_and_the_trainers_fields(side: str) -> None:
    policy = agent(side, torch.float64)
    spec = experience_spec(policy)
    assert set(spec) == {*policy.get_agent_experience_spec(), *SPEC}
    assert spec["values"].dtype == spec["memory_h"].dtype == torch.float64
