from __future__ import annotations

import copy
import math

import pytest
import torch
from pytorch_samples import batch_of, default_fast, small_components, small_environment, small_fast

from parity.agents.errors import ConfigError
from parity.agents.pytorch.fast import Fast
from parity.agents.pytorch.weights import power_law_fit, weight_metrics

STAGES = ["cnn1", "cnn2", "fc1", "encoded_obs", "critic_1", "_value_", "actor_1"]


def test_parameter_count_is_the_published_one() -> None:
    assert sum(parameter.numel() for parameter in default_fast().parameters()) == 574_978


def test_initial_weights_have_their_gain_and_bounds() -> None:
    policy = default_fast(dtype=torch.float64)
    for stage in policy.stages():
        matrix, gain = stage.weight.flatten(1), 2.0 if stage.settings.nonlinearity == "nn.Tanh" else 1.0
        gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
        torch.testing.assert_close(gram, gain * torch.eye(len(gram), dtype=torch.float64), atol=1e-5, rtol=0)
        assert not stage.get_parameter("0.bias").any()
    for name, parameter in policy.core.lstm.named_parameters():
        if "bias" in name:
            assert bool((parameter == 1).all())
        else:
            torch.testing.assert_close(parameter.T @ parameter, torch.eye(128, dtype=torch.float64), atol=1e-5, rtol=0)
    assert policy.action_embeds.weight.abs().max().item() == pytest.approx(0.1)
    bound = 1 / math.sqrt(512)
    assert 0.95 * bound < policy.action_head.W.abs().max() <= bound
    assert policy.action_head.bias.shape == (1,) and 0 < abs(policy.action_head.bias.item()) <= bound


def test_seed_decides_the_bits_whatever_the_threads_and_dtype() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = default_fast(seed=3).state_dict()
        torch.set_num_threads(2)
        torch.manual_seed(99)
        before = torch.get_rng_state()
        two, wide = default_fast(seed=3).state_dict(), default_fast(seed=3, dtype=torch.float64).state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    other = default_fast(seed=4).state_dict()
    for name, value in one.items():
        assert torch.equal(value, two[name]) and torch.equal(value.double(), wide[name]), name
        assert value.dtype == torch.float32 and wide[name].dtype == torch.float64
        constant = "bias" in name and not name.startswith("action_head")
        assert torch.equal(value, other[name]) == constant or name.endswith("initial_max"), name


def test_clipping_clamps_weights_of_layers_to_the_bound_of_construction() -> None:
    components = small_components(fc1={"clip_scale": 0}, cnn2={"clip_scale": 2.5})
    policy = Fast(small_environment(), components=components, clip_range=0.5, dtype=torch.float64)
    largest = {stage.settings.name: stage.weight.detach().abs().max() for stage in policy.stages()}
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.copy_(10.0 * torch.randn_like(parameter))
    before = copy.deepcopy(policy.state_dict())
    policy.clip_weights()
    clipped = {
        f"{name}.weight" for name in ("cnn1.0", "cnn2.0", "encoded_obs.0", "critic_1.0", "value_head.0", "actor_1.0")
    }
    for name, value in policy.state_dict().items():
        if name not in clipped:
            assert torch.equal(value, before[name]), name
    assert [stage.settings.name for stage in policy.stages()] == STAGES
    for stage in policy.stages():
        name = stage.settings.name
        if name != "fc1":
            bound = {"cnn2": 2.5}.get(name, 1.0) * 0.5 * largest[name]
            assert stage.weight.abs().max() == bound
    after = copy.deepcopy(policy.state_dict())
    policy.clip_weights()
    assert all(torch.equal(value, after[name]) for name, value in policy.state_dict().items())


def test_clipping_is_off_at_zero_and_its_bound_survives_a_checkpoint() -> None:
    policy = small_fast(clip_range=0)
    before = copy.deepcopy(policy.state_dict())
    policy.clip_weights()
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())
    other = small_fast(clip_range=1.0, seed=8)
    other.load_state_dict(before)
    other.clip_weights()
    assert other.fc1.weight.abs().max() == before["fc1.initial_max"]


def test_l2_init_loss_by_hand_with_gradient_and_rebase() -> None:
    policy = Fast(
        small_environment(), components=small_components(fc1={"l2_init_scale": 0.25}, actor_1={"l2_init_scale": 0}),
        dtype=torch.float64,
    )  # fmt: skip
    assert policy.l2_init_loss().item() == 0.0
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.5)
    scales = {"fc1": 0.25, "actor_1": 0.0}
    loss = policy.l2_init_loss()
    by_hand = sum(scales.get(s.settings.name, 1.0) * 0.25 * s.weight.numel() for s in policy.stages())
    assert loss.dtype == torch.float64 and loss.shape == ()
    assert loss.item() == pytest.approx(by_hand, rel=1e-12)
    loss.backward()
    touched = {name for name, parameter in policy.named_parameters() if parameter.grad is not None}
    assert touched == {f"{'value_head' if name == '_value_' else name}.0.weight" for name in STAGES}
    fc1_grad = policy.fc1.weight.grad
    assert fc1_grad is not None
    torch.testing.assert_close(fc1_grad, torch.full_like(fc1_grad, 0.25), rtol=1e-12, atol=0)
    policy.update_l2_init_weight_copy()
    assert policy.l2_init_loss().item() == 0.0


def test_metrics_by_hand() -> None:
    weight = torch.diag(torch.tensor([8.0, 4.0, 2.0, 1.0])).roll(1, 0).view(4, 2, 1, 2)
    metrics = weight_metrics("w", weight, 0.2)
    log_k, log_s = [math.log(k) for k in (1, 2, 3, 4)], [math.log(s) for s in (8, 4, 2, 1)]
    mean_k, mean_s = sum(log_k) / 4, sum(log_s) / 4
    covariance = sum((k - mean_k) * (s - mean_s) for k, s in zip(log_k, log_s, strict=True))
    slope = covariance / sum((k - mean_k) ** 2 for k in log_k)
    spread = sum((s - mean_s) ** 2 for s in log_s)
    residual = sum((s - mean_s - slope * (k - mean_k)) ** 2 for k, s in zip(log_k, log_s, strict=True))
    assert metrics == {
        "name": "w",
        "singular_value_max": pytest.approx(8.0),
        "singular_value_min": pytest.approx(1.0),
        "singular_value_mean": pytest.approx(3.75),
        "singular_value_std": pytest.approx(math.sqrt((4.25**2 + 0.25**2 + 1.75**2 + 2.75**2) / 4)),
        "effective_rank": 2.0,  # 8 + 4 of 15 is the first sum of at least 80%
        "weight_norm": pytest.approx(math.sqrt(85.0)),
        "power_law_exponent": pytest.approx(-slope),
        "power_law_r2": pytest.approx(1 - residual / spread),
    }
    assert all(isinstance(value, str | float) for value in metrics.values())


def test_power_law_needs_two_points() -> None:
    assert power_law_fit(torch.tensor([3.0, 1e-13], dtype=torch.float64)) == (0.0, 0.0)
    assert power_law_fit(torch.zeros(3, dtype=torch.float64)) == (0.0, 0.0)
    exponent, r2 = power_law_fit(torch.arange(1, 9, dtype=torch.float64) ** -1.5)
    assert (exponent, r2) == (pytest.approx(1.5), pytest.approx(1.0))


def test_metrics_cover_the_marked_layers_in_the_files_order() -> None:
    components = small_components(fc1={"analyze_weights": True})
    components = dict(sorted(components.items(), key=lambda item: item[0] != "actor_1"))
    policy = small_fast(components=components)
    assert [entry["name"] for entry in policy.compute_weight_metrics()] == ["actor_1", "fc1", "critic_1"]
    for delta in (0.0, 1.0, -0.1, float("nan")):
        with pytest.raises(ConfigError, match=f"delta is {delta}; give a number strictly between 0 and 1"):
            small_fast().compute_weight_metrics(delta)


def test_every_parameter_gets_a_gradient() -> None:
    policy = small_fast()
    td = policy(batch_of(2, 3), action=torch.zeros(2, 3, 2, dtype=torch.int64))
    (td["act_log_prob"].sum() + td["value"].sum() + td["entropy"].sum()).backward()
    assert [name for name, parameter in policy.named_parameters() if parameter.grad is None] == []
