from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pytorch_samples import batch_of, draw_tokens, small_components, small_environment, small_fast
from tensordict import TensorDict
from torch import Tensor

from parity.agents.errors import ActionError, ConfigError, IgnoredTokensWarning, ObservationError
from parity.agents.interface import Feature, FieldSpec
from parity.agents.pytorch.fast import Fast

B, T, A = 3, 4, 6


def training_action(seed: int = 0) -> Tensor:
    legal = torch.tensor([[0, 0], [0, 1], [0, 2], [1, 0], [2, 0], [2, 1]], dtype=torch.int32)
    return legal[torch.randint(0, A, (B, T), generator=torch.Generator().manual_seed(seed))]


def form(td: TensorDict) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {str(key): (tuple(value.shape), value.dtype) for key, value in td.items() if key != "env_obs"}


@pytest.mark.parametrize("lead", [(B,), (B, T), (1,), (1, 1)])
def test_inference_writes_its_keys_into_the_callers_batch(lead: tuple[int, ...]) -> None:
    policy, td = small_fast(), batch_of(*lead)
    observations = td["env_obs"].clone()
    assert policy(td) is td and torch.equal(td["env_obs"], observations)
    assert form(td) == {
        "bptt": (lead, torch.int64),
        "batch": (lead, torch.int64),
        "actions": ((*lead, 2), torch.int32),
        "act_log_prob": (lead, torch.float64),
        "values": (lead, torch.float64),
        "full_log_probs": ((*lead, A), torch.float64),
    }
    assert bool((td["bptt"] == (lead[1] if len(lead) == 2 else 1)).all() and (td["batch"] == lead[0]).all())
    assert torch.allclose(td["full_log_probs"].exp().sum(-1), torch.ones(lead, dtype=torch.float64))


def test_actions_are_one_multinomial_draw_per_step_in_time_order() -> None:
    policy, td = small_fast(), batch_of(B, T)
    torch.manual_seed(1)
    policy(td)
    torch.manual_seed(1)
    for t in range(T):
        drawn = torch.multinomial(td["full_log_probs"][:, t].exp().contiguous(), 1)
        assert torch.equal(policy.convert_action_to_logit_index(td["actions"][:, t]), drawn[:, 0])
        torch.testing.assert_close(td["act_log_prob"][:, t], td["full_log_probs"][:, t].gather(1, drawn)[:, 0])


def test_training_returns_a_new_batch_and_leaves_the_callers() -> None:
    policy = small_fast()
    td = batch_of(B, T, rewards=torch.arange(B * T).view(B, T), values=torch.full((B, T), 9.0))
    before = td.clone()
    out = policy(td, action=training_action())
    assert out is not td and set(td.keys()) == set(before.keys()) and bool((td == before).all())
    assert out.batch_size == (B, T)
    assert torch.equal(out["rewards"], before["rewards"]) and torch.equal(out["env_obs"], before["env_obs"])
    assert form(out) == {
        "rewards": ((B, T), torch.int64),
        "values": ((B, T), torch.float32),
        "bptt": ((B, T), torch.int64),
        "batch": ((B, T), torch.int64),
        "act_log_prob": ((B, T), torch.float64),
        "entropy": ((B, T), torch.float64),
        "value": ((B, T), torch.float64),
        "full_log_probs": ((B, T, A), torch.float64),
    }
    assert bool((out["bptt"] == T).all() and (out["batch"] == B).all())


def test_training_evaluates_the_given_action_on_the_states_of_inference() -> None:
    policy, td, action = small_fast(), batch_of(B, T), training_action()
    trained, acted = policy(td, action=action), policy(td.clone())
    torch.testing.assert_close(trained["full_log_probs"], acted["full_log_probs"])
    torch.testing.assert_close(trained["value"], acted["values"])
    for b in range(B):
        for t in range(T):
            log_p = trained["full_log_probs"][b, t]
            kind, arg = action[b, t].tolist()
            assert trained["act_log_prob"][b, t] == log_p[[0, 3, 4][kind] + arg]
            entropy = -sum(log.exp() * log for log in log_p)
            torch.testing.assert_close(trained["entropy"][b, t], entropy)


def test_rows_do_not_see_each_other() -> None:
    policy, td = small_fast(), batch_of(B, T)
    whole = policy(td, action=training_action())["full_log_probs"]
    for b in range(B):
        alone = policy(td[b : b + 1], action=training_action()[b : b + 1])["full_log_probs"]
        torch.testing.assert_close(whole[b], alone[0], rtol=1e-11, atol=1e-12)


def test_encoder_equals_the_plain_layers_on_the_box() -> None:
    policy, tokens = small_fast(), draw_tokens(5)
    scale = torch.tensor([2.0, 1.0, 1.0, 30.0], dtype=torch.float64)
    box = torch.zeros(5, 4, 7, 6, dtype=torch.float64)
    for row in range(5):
        for place, feature, value in tokens[row].tolist():
            if place != 0xFF:
                cell = (row, feature, place >> 4, place & 15)
                box[cell] = max(box[cell].item(), value)
    x = box / scale.view(4, 1, 1)
    state = policy.state_dict()
    for name, stride in (("cnn1", 2), ("cnn2", 1)):
        x = torch.nn.functional.conv2d(x, state[f"{name}.0.weight"], state[f"{name}.0.bias"], stride).relu()
    x = x.flatten(1)
    for name in ("fc1", "encoded_obs"):
        x = (x @ state[f"{name}.0.weight"].T + state[f"{name}.0.bias"]).relu()
    torch.testing.assert_close(policy.encode_observations(tokens), x, rtol=1e-11, atol=1e-12)


def test_all_padding_gives_finite_output() -> None:
    td = TensorDict({"env_obs": torch.full((2, 5, 3), 255, dtype=torch.uint8)}, batch_size=[2])
    out = small_fast()(td)
    assert out["values"].isfinite().all() and out["full_log_probs"].isfinite().all()


def test_remapping_makes_renumbered_features_mean_the_same() -> None:
    policy, td = small_fast().eval(), batch_of(B, T)
    before = policy(td.clone(), action=training_action())["value"]
    swapped = td.clone()
    ids = td["env_obs"][..., 1]
    swapped["env_obs"][..., 1] = torch.where(ids == 0, 3, torch.where(ids == 3, 0, ids.long())).to(torch.uint8)
    policy.activate_observations({"type": Feature(3, 2.0), "hp": Feature(0, 30.0)})
    assert torch.equal(policy(swapped, action=training_action())["value"], before)
    assert policy.original_feature_mapping() == {"type": 0, "hp": 3}
    policy.activate_observations({"other": Feature(0), "hp": Feature(3, 30.0)})
    with pytest.warns(IgnoredTokensWarning):
        policy(td.clone())


def test_reactivated_actions_permute_the_logits() -> None:
    policy, td = small_fast(), batch_of(B, T)
    before = policy(td, action=training_action())["full_log_probs"]
    policy.activate_actions(("noop", "attack", "move"), (1, 2, 0))
    after = policy(td, action=torch.zeros(B, T, 2, dtype=torch.int64))["full_log_probs"]
    torch.testing.assert_close(after, before[..., [4, 5, 0, 1, 2, 3]])
    with pytest.raises(ActionError, match="no row is left for action 'new_6', number 13"):
        policy.activate_actions(("new",), (9,))
    assert policy.convert_action_to_logit_index(torch.tensor([2, 0])) == 5


def test_experience_spec_lists_what_training_reads() -> None:
    spec = small_fast().get_agent_experience_spec()
    assert list(spec.items()) == [
        ("env_obs", FieldSpec((5, 3), torch.uint8)),
        ("dones", FieldSpec((), torch.float32)),
        ("truncateds", FieldSpec((), torch.float32)),
        ("memory_h", FieldSpec((2, 8), torch.float64)),
        ("memory_c", FieldSpec((2, 8), torch.float64)),
    ]


def test_an_uninitialised_policy_says_so() -> None:
    policy = Fast(small_environment(), components=small_components())
    with pytest.raises(ConfigError, match="call initialize_to_environment first"):
        policy(batch_of(B))


@pytest.mark.parametrize(
    ("entries", "lead", "message"),
    [
        ({}, [3], r"no tensor 'env_obs' \(it has \[\]\)"),
        ({"env_obs": torch.zeros(3, 5, 3)}, [3], r"'env_obs' is torch.float32; give torch.uint8"),
        ({"env_obs": torch.zeros(3, 6, 3).byte()}, [3], r"shape \[3, 6, 3\]; give \[B, 5, 3\] or \[B, T, 5, 3\]"),
        ({"env_obs": torch.zeros(3, 5, 4).byte()}, [3], r"shape \[3, 5, 4\]"),
        ({"env_obs": torch.zeros(5, 3).byte()}, [5], r"shape \[5, 3\]"),
        ({"env_obs": torch.zeros(0, 5, 3).byte()}, [0], r"shape \[0, 5, 3\].*neither empty"),
        ({"env_obs": torch.zeros(3, 0, 5, 3).byte()}, [3, 0], r"shape \[3, 0, 5, 3\]"),
        ({"env_obs": torch.zeros(3, 4, 5, 3).byte()}, [3], r"batch size is \[3\] but .*; make the batch size \[3, 4\]"),
        ({"env_obs": torch.zeros(3, 5, 3).byte()}, [], r"batch size is \[\] but"),
        (
            {"env_obs": torch.zeros(3, 5, 3).byte(), "dones": torch.zeros(3, 1)},
            [3],
            r"'dones' has shape \[3, 1\].*\[3\]",
        ),
        (
            {"env_obs": torch.zeros(3, 5, 3).byte(), "training_env_id_start": torch.zeros(3)},
            [3],
            r"'training_env_id_start' is torch.float32 of shape \[3\]; give integers",
        ),
    ],
)
def test_misfitting_batches_are_refused(entries: dict[str, Any], lead: list[int], message: str) -> None:
    with pytest.raises(ObservationError, match=message):
        small_fast()(TensorDict(entries, batch_size=lead))


@pytest.mark.parametrize(
    ("lead", "action", "message"),
    [
        ((B,), torch.zeros(B, 2).long(), r"shape \[3, 2\] was given with 'env_obs' of shape \[3, 5, 3\]"),
        ((B, T), torch.zeros(B, 2).long(), r"shape \[3, 2\]; give integers of shape \[3, 4, 2\]"),
        ((B, T), torch.zeros(B, T, 2), r"action is torch.float32 of shape \[3, 4, 2\]"),
        ((B, T), torch.full((B, T, 2), 1), r"action \[1, 1\] is illegal"),
    ],
)
def test_misfitting_training_actions_are_refused(lead: tuple[int, ...], action: Tensor, message: str) -> None:
    with pytest.raises(ActionError, match=message):
        small_fast()(batch_of(*lead), action=action)


def test_a_deep_copy_goes_its_own_way() -> None:
    policy = small_fast()
    policy(batch_of(B))
    twin = copy.deepcopy(policy)
    one, two = policy(batch_of(B, seed=1))["values"], twin(batch_of(B, seed=1))["values"]
    assert torch.equal(one, two)
    with torch.no_grad():
        twin.fc1.weight.zero_()
    twin.reset_memory()
    assert policy.get_memory() != {} and policy.fc1.weight.any()
    assert policy.l2_init_loss().item() != twin.l2_init_loss().item()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, while it looks at a graph break
def test_only_the_recurrent_core_is_kept_from_the_compiler() -> None:
    graphs: list[list[str]] = []

    def record(module: torch.fx.GraphModule, _inputs: list[Tensor]) -> Any:
        graphs.append([str(node.target) for node in module.graph.nodes])
        return module.forward

    policy = small_fast()
    compiled = torch.compile(policy, backend=record)
    eager = policy(batch_of(B, T), action=training_action())
    out = compiled(batch_of(B, T), action=training_action())
    assert all(torch.equal(out[key], eager[key]) for key in ("value", "full_log_probs", "entropy"))
    assert any("conv2d" in target for graph in graphs for target in graph)
    assert not any("lstm" in target for graph in graphs for target in graph)
