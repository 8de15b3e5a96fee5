"""The reference's forward: fields, shapes, sampling, memory, refusals."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from component_builders import DEFAULT, FAST, SMALL, observation, small_components, small_policy, tokens
from tensordict import TensorDict

from parity.agents.component import ComponentPolicy
from parity.agents.errors import ActionError, AgentError, ConfigError, MemoryStateError, ObservationError

A = 7  # logits of the small environment


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def legal_actions(*batch: int, seed: int = 0) -> torch.Tensor:
    index = torch.randint(0, A, batch, generator=torch.Generator().manual_seed(seed))
    return small_policy().convert_logit_index_to_action(index)


def test_inference_writes_its_fields_into_the_callers_tensordict() -> None:
    policy, td = small_policy(), observation(3)
    before = td["env_obs"].clone()
    out = policy(td)
    assert out is td and td["env_obs"].equal(before)
    assert {key: (tuple(value.shape), value.dtype) for key, value in td.items() if key != "env_obs"} == {
        "bptt": ((3,), torch.int64),
        "batch": ((3,), torch.int64),
        "actions": ((3, 2), torch.int32),
        "act_log_prob": ((3,), torch.float64),
        "values": ((3,), torch.float64),
        "full_log_probs": ((3, A), torch.float64),
    }
    assert td["bptt"].tolist() == [1] * 3 and td["batch"].tolist() == [3] * 3
    index = policy.convert_action_to_logit_index(td["actions"])
    assert td["act_log_prob"].equal(td["full_log_probs"].gather(1, index[:, None])[:, 0])
    torch.testing.assert_close(td["full_log_probs"].exp().sum(-1), torch.ones(3, dtype=torch.float64))


def test_sampling_is_one_multinomial_per_step_on_the_global_generator() -> None:
    policy, td = small_policy(), observation(4, 3)
    torch.manual_seed(11)
    policy(td)
    torch.manual_seed(11)
    drawn = [torch.multinomial(td["full_log_probs"][:, t].exp(), 1)[:, 0] for t in range(3)]
    assert policy.convert_action_to_logit_index(td["actions"]).equal(torch.stack(drawn, 1))


def test_inference_over_a_sequence_equals_stepwise_inference() -> None:
    policy, dones = small_policy(), torch.zeros(3, 5)
    dones[1, 2] = 1
    sequence = observation(3, 5, dones=dones, training_env_id_start=torch.full((3, 5), 8))
    stepwise = copy.deepcopy(policy)
    torch.manual_seed(0)
    out = policy(sequence.clone())
    assert out["bptt"].unique().tolist() == [5] and out["batch"].unique().tolist() == [3]
    torch.manual_seed(0)
    for t in range(5):
        step = stepwise(sequence[:, t].clone())
        for key in ("values", "full_log_probs", "act_log_prob"):
            assert_close(out[key][:, t], step[key])
        assert out["actions"][:, t].equal(step["actions"])
    for whole, stepped in zip(policy.get_memory()[8], stepwise.get_memory()[8], strict=True):
        assert_close(whole, stepped)


def test_training_returns_a_new_tensordict_and_leaves_the_callers_as_it_was() -> None:
    policy, td, action = small_policy(), observation(2, 3, rewards=torch.ones(2, 3)).lock_(), legal_actions(2, 3)
    out = policy(td, action=action)
    inputs = {"env_obs", "rewards"}
    assert out is not td and set(td.keys()) == inputs
    assert out.batch_size == torch.Size([2, 3])
    assert {key: (tuple(value.shape), value.dtype) for key, value in out.items() if key not in inputs} == {
        "bptt": ((2, 3), torch.int64),
        "batch": ((2, 3), torch.int64),
        "act_log_prob": ((2, 3), torch.float64),
        "entropy": ((2, 3), torch.float64),
        "value": ((2, 3), torch.float64),
        "full_log_probs": ((2, 3, A), torch.float64),
    }
    assert out["bptt"].unique().tolist() == [3] and out["batch"].unique().tolist() == [2]
    assert out["env_obs"].equal(td["env_obs"]) and out["rewards"].equal(td["rewards"])
    full = out["full_log_probs"]
    assert out["entropy"].equal(-(full.exp() * full).sum(-1))
    index = policy.convert_action_to_logit_index(action)
    assert out["act_log_prob"].equal(full.gather(-1, index[..., None])[..., 0])


def test_training_equals_the_rollout_it_evaluates_and_leaves_its_memory_alone() -> None:
    policy = small_policy()
    policy(observation(3, seed=9))  # some state to start from
    h, c = policy.get_memory()[0]
    dones, truncateds = torch.zeros(3, 4), torch.zeros(3, 4, dtype=torch.bool)
    dones[0, 0] = 1
    truncateds[2, 2] = True
    sequence = observation(3, 4, seed=1, dones=dones, truncateds=truncateds)
    rollout = policy(sequence.clone())
    held = policy.get_memory()
    sequence["memory_h"] = h.transpose(0, 1).unsqueeze(1).expand(3, 4, 2, 5)
    sequence["memory_c"] = c.transpose(0, 1).unsqueeze(1).expand(3, 4, 2, 5)
    out = policy(sequence, action=rollout["actions"])
    assert_close(out["value"], rollout["values"])
    assert_close(out["act_log_prob"], rollout["act_log_prob"])
    assert all(now.equal(then) for now, then in zip(policy.get_memory()[0], held[0], strict=True))


def test_only_the_first_step_of_the_supplied_state_is_read_and_it_matters() -> None:
    policy, action = small_policy(), legal_actions(2, 3)
    h, c = torch.randn(2, 2, 3, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    base = policy(observation(2, 3, memory_h=h, memory_c=c), action=action)["value"]
    later_h = h.clone()
    later_h[:, 1:] = float("nan")
    assert policy(observation(2, 3, memory_h=later_h, memory_c=c), action=action)["value"].equal(base)
    assert not policy(observation(2, 3), action=action)["value"].equal(base)


def test_nothing_written_is_read_back() -> None:
    policy, td = small_policy(), observation(2)
    first = policy(td)["values"].clone()
    policy.reset_memory()
    for key in ("bptt", "batch", "values", "full_log_probs"):
        td[key] = torch.full_like(td[key], 77)
    assert policy(td)["values"].equal(first)


def test_states_are_kept_per_environment_id_and_detached() -> None:
    policy = small_policy()
    ids = {key: torch.full((2,), key) for key in (0, 4)}
    first = {key: policy(observation(2, seed=key, training_env_id_start=ids[key]))["values"] for key in ids}
    second = {key: policy(observation(2, seed=key, training_env_id_start=ids[key]))["values"] for key in ids}
    assert not any(first[key].equal(second[key]) for key in ids)  # the state matters
    assert set(policy.get_memory()) == {0, 4}
    assert not any(tensor.requires_grad for state in policy.get_memory().values() for tensor in state)
    policy.reset_env_memory(4)
    policy.reset_env_memory(99)
    assert policy(observation(2, seed=4, training_env_id_start=ids[4]))["values"].equal(first[4])
    policy.reset_memory()
    assert policy.get_memory() == {}
    assert policy(observation(2))["values"].equal(first[0])  # an absent id is 0


@pytest.mark.parametrize("flag", ["dones", "truncateds"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8])
def test_a_flagged_row_starts_afresh_before_its_step(flag: str, dtype: torch.dtype) -> None:
    policy = small_policy()
    fresh = policy(observation(3, seed=1))["values"]
    carried = policy(observation(3, seed=1))["values"]
    policy.reset_memory()
    policy(observation(3, seed=1))
    flagged = policy(observation(3, seed=1, **{flag: torch.tensor([0, 1, 0]).to(dtype)}))["values"]
    assert flagged[1].equal(fresh[1])
    assert flagged[[0, 2]].equal(carried[[0, 2]]) and not carried[1].equal(fresh[1])


def test_memory_round_trips_as_copies() -> None:
    policy = small_policy()
    policy(observation(2))
    memory = policy.get_memory()
    expected = copy.deepcopy(policy)(observation(2, seed=1))["values"]
    other = small_policy()
    other.set_memory(memory)
    for h, c in memory.values():
        h.zero_()
        c.zero_()
    assert other(observation(2, seed=1))["values"].equal(expected)
    assert policy(observation(2, seed=1))["values"].equal(expected)
    h, c = torch.zeros(2, 3, 5), torch.zeros(2, 3, 5, requires_grad=True)
    other.set_memory({5: (h, c)})
    kept = other.get_memory()
    assert set(kept) == {5} and all(x.dtype == torch.float64 and not x.requires_grad for x in kept[5])


def test_states_that_do_not_fit_are_refused() -> None:
    policy = small_policy()
    policy(observation(2, training_env_id_start=torch.tensor([6, 7])))
    with pytest.raises(MemoryStateError, match=r"training_env_id_start 6 has batch size 2, but this call has 3"):
        policy(observation(3, training_env_id_start=torch.tensor([6, 7, 8])))
    good, bad = torch.zeros(2, 3, 5), torch.zeros(2, 3, 4)
    for h, c in ((good, bad), (bad, bad), (good, good[:, :1]), (good[0], good[0])):
        with pytest.raises(MemoryStateError) as caught:
            policy.set_memory({1: (h, c)})
        assert f"id_start 1 has h {list(h.shape)} and c {list(c.shape)}; " in str(caught.value)
        assert "[2, batch, 5]" in str(caught.value)
    with pytest.raises(MemoryStateError, match="state is a tuple, but memory is the policy's own"):
        policy(observation(2), state=(good, good))
    action = legal_actions(2, 3)
    with pytest.raises(MemoryStateError, match="memory_c is missing; give both"):
        policy(observation(2, 3, memory_h=torch.zeros(2, 3, 2, 5)), action=action)
    with pytest.raises(MemoryStateError, match=r"memory_c has shape \[2, 3, 5, 2\]"):
        policy(observation(2, 3, memory_h=torch.zeros(2, 3, 2, 5), memory_c=torch.zeros(2, 3, 5, 2)), action=action)


@pytest.mark.parametrize(
    ("td", "part"),
    [
        (TensorDict({}, [2]), "no 'env_obs'"),
        (TensorDict({"env_obs": tokens(2).long()}, [2]), r"dtype torch.int64 \(shape \[2, 6, 3\]\)"),
        (TensorDict({"env_obs": tokens(2)[:, :5]}, [2]), r"shape \[2, 5, 3\].*\[B, 6, 3\]"),
        (TensorDict({"env_obs": tokens(2, 3)}, [2]), r"shape \[2, 3, 6, 3\].*batch size \[2\]"),
        (TensorDict({"env_obs": tokens(2)}, []), r"batch size \[\]"),
        (TensorDict({"env_obs": tokens(0)}, [0]), r"shape \[0, 6, 3\]: no row"),
        (TensorDict({"env_obs": tokens(2, 0)}, [2, 0]), r"shape \[2, 0, 6, 3\]: no row"),
        (observation(2, dones=torch.zeros(2, 1)), r"dones has shape \[2, 1\]"),
        (observation(2, truncateds=torch.zeros(2, 2)), r"truncateds has shape \[2, 2\]"),
        (observation(2, training_env_id_start=torch.zeros(2)), "training_env_id_start is torch.float32"),
    ],
)
def test_malformed_tensordicts_are_refused(td: TensorDict, part: str) -> None:
    policy, keys = small_policy(), set(td.keys())
    with pytest.raises(ObservationError, match=part):
        policy(td)
    assert set(td.keys()) == keys and policy.get_memory() == {}


@pytest.mark.parametrize(
    ("batch", "action", "part"),
    [
        ((2,), torch.zeros(2, 2, dtype=torch.int64), r"action has shape \[2, 2\] and the TensorDict batch size \[2\]"),
        ((2, 3), torch.zeros(3, 2, 2, dtype=torch.int64), r"\[3, 2, 2\].*\[2, 3\]"),
        ((2, 3), torch.zeros(2, 3, 2), "dtype torch.float32"),
        ((2, 3), torch.full((2, 3, 2), 5), r"illegal action \(type 5, argument 5\)"),
    ],
)
def test_actions_that_do_not_fit_are_refused(batch: tuple[int, ...], action: torch.Tensor, part: str) -> None:
    with pytest.raises(ActionError, match=part):
        small_policy()(observation(*batch), action=action)


def test_a_policy_without_environment_says_so() -> None:
    with pytest.raises(AgentError, match="call initialize_to_environment first"):
        ComponentPolicy(SMALL, components=small_components())(observation(2))


@pytest.mark.parametrize(
    ("keywords", "part"),
    [
        ({"clip_rang": 1}, "'clip_rang'; did you mean 'clip_range'"),
        ({"components": None}, "components is None"),
        ({"clip_range": -1.0}, "clip_range is -1.0"),
        ({"dtype": torch.int64}, "dtype is torch.int64"),
    ],
)
def test_unknown_and_illegal_keywords_are_refused(keywords: dict[str, Any], part: str) -> None:
    with pytest.raises(ConfigError, match=f"agent.yaml: .*{part}"):
        ComponentPolicy(SMALL, **{"components": small_components(), "source": "agent.yaml", **keywords})


def test_a_row_of_nothing_but_padding_gives_finite_numbers() -> None:
    td = observation(2)
    td["env_obs"] = torch.full_like(td["env_obs"], 255)
    out = small_policy()(td)
    assert out["values"].isfinite().all() and out["full_log_probs"].isfinite().all()


def test_initial_bits_depend_on_the_seed_alone() -> None:
    def build(**keywords: Any) -> dict[str, torch.Tensor]:
        return ComponentPolicy(DEFAULT, components=FAST.components, **{"seed": 7, **keywords}).state_dict()

    threads, state = torch.get_num_threads(), torch.get_rng_state()
    try:
        torch.set_num_threads(1)
        one = build()
        torch.set_num_threads(2)
        two = build()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert torch.get_rng_state().equal(state)
    double, other = build(dtype=torch.float64), build(seed=8)
    for key, value in one.items():
        assert value.equal(two[key])
        assert double[key].equal(value.double() if value.is_floating_point() else value)
    assert not other["components.cnn1.net.weight"].equal(one["components.cnn1.net.weight"])


def test_experience_spec() -> None:
    spec = small_policy().get_agent_experience_spec()
    assert [(key, field.shape, field.dtype) for key, field in spec.items()] == [
        ("env_obs", (6, 3), torch.uint8),
        ("dones", (), torch.float32),
        ("truncateds", (), torch.float32),
        ("memory_h", (2, 5), torch.float64),
        ("memory_c", (2, 5), torch.float64),
    ]
