from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

import pytest
import torch

from parity.checks.oracles.advantage import advantages
from parity.checks.oracles.losses import normalised, ppo_losses, ratios
from parity.checks.oracles.sampling import importance_exponent, importance_weights, probabilities
from parity.checks.oracles.schedule import calls, clipped_norm, minibatches_done
from parity.checks.oracles.segments import last_written

# Advantages


def of_row(**changes: Any) -> list[float]:
    row: dict[str, Any] = {
        "values": [1.0, 2.0, 3.0],
        "rewards": [9.0, 1.0, 2.0],
        "dones": [0.0, 0.0, 0.0],
        "truncateds": [0.0, 0.0, 0.0],
        "ratio": [1.0, 1.0, 1.0],
    }
    numbers: dict[str, Any] = {"gamma": 0.5, "gae_lambda": 0.25, "rho_clip": 1.0, "c_clip": 1.0}
    row |= {key: value for key, value in changes.items() if key in row}
    numbers |= {key: value for key, value in changes.items() if key in numbers}
    rows: dict[str, Any] = {key: [value] for key, value in row.items()}
    return advantages(**rows, **numbers)[0]


def test_advantages_look_one_step_ahead_and_carry_the_rest_back() -> None:
    later = 2.0 + 0.5 * 3.0 - 2.0
    assert of_row() == [1.0 + 0.5 * 2.0 - 1.0 + 0.5 * 0.25 * later, later, 0.0]


def test_flags_of_the_first_step_change_nothing() -> None:
    assert of_row(dones=[1.0, 0.0, 0.0], truncateds=[1.0, 0.0, 0.0]) == of_row()


def test_a_terminated_step_is_worth_its_reward_and_a_truncated_one_expects_its_own_value() -> None:
    assert of_row(dones=[0.0, 1.0, 0.0])[0] == 1.0 - 1.0
    assert of_row(truncateds=[0.0, 1.0, 0.0])[0] == 1.0 + 0.5 * 1.0 - 1.0
    assert of_row(dones=[0.0, 1.0, 0.0], truncateds=[0.0, 1.0, 0.0])[0] == 0.0


def test_ratios_are_bounded_in_the_error_and_in_the_trace() -> None:
    found = of_row(ratio=[3.0, 0.5, 1.0], rho_clip=2.0, c_clip=1.5)
    later = 0.5 * 1.5
    assert found == [2.0 * 1.0 + 0.5 * 0.25 * 1.5 * later, later, 0.0]


# Sampling


def test_probabilities_follow_the_sum_of_absolute_advantages() -> None:
    assert probabilities([[1.0, -2.0], [0.5, 0.5]], 1.0) == pytest.approx([3.000001 / 4.000002, 1.000001 / 4.000002])
    assert probabilities([[4.0], [1.0]], 0.5) == pytest.approx([2.000001 / 3.000002, 1.000001 / 3.000002])
    assert probabilities([[5.0], [0.0]], 0.0) == [0.5, 0.5]
    assert probabilities([[0.0], [0.0]], 1.0) == [0.5, 0.5]


def test_the_exponent_rises_from_its_start_to_one_at_the_last_update() -> None:
    assert [importance_exponent(0.4, update, 3) for update in range(4)] == pytest.approx([0.4, 0.7, 1.0, 1.0])
    assert importance_exponent(0.4, 0, 1) == 0.4


def test_a_likely_segment_weighs_less() -> None:
    assert importance_weights([0.5, 0.25, 0.25], [2, 0], 2.0) == pytest.approx([0.75**-2, 1.5**-2])


# The ring


def test_a_full_ring_goes_on_with_its_oldest_segments() -> None:
    held = last_written(agents=2, segments=4, horizon=3, steps=8)
    assert held[0, 0] == (0, 6) and held[0, 2] == (0, 2) and held[1, 1] == (1, 7)
    assert held[2, 0] == (0, 3) and held[3, 2] == (1, 5)
    assert len(held) == 12
    assert (1, 2) not in last_written(agents=2, segments=4, horizon=3, steps=2)


# Losses

PPO = {
    "clip_coef": 0.2,
    "vf_clip_coef": 0.3,
    "clip_vloss": True,
    "vf_coef": 0.4,
    "ent_coef": 0.03,
    "l2_init_loss_coef": 0.5,
}


def drawn(seed: int, rows: int = 3, steps: int = 4) -> tuple[dict[str, Any], dict[str, Any], list[list[float]]]:
    generator = torch.Generator().manual_seed(seed)

    def numbers() -> list[list[float]]:
        return torch.randn(rows, steps, generator=generator, dtype=torch.float64).mul(0.5).tolist()

    evaluated = {key: numbers() for key in ("act_log_prob", "entropy", "value")}
    return evaluated, {key: numbers() for key in ("act_log_prob", "values", "advantages")}, numbers()


def test_losses_of_one_step_are_as_computed_by_hand() -> None:
    evaluated = {"act_log_prob": [[log(0.6)]], "entropy": [[0.7]], "value": [[2.0]]}
    stored = {"act_log_prob": [[log(0.4)]], "values": [[1.0]], "advantages": [[3.0]]}
    found, gradients = ppo_losses(evaluated, stored, [[2.0]], 10.0, PPO)
    assert found["policy"][0] == pytest.approx(-2.0 * 1.2)
    assert found["value"][0] == pytest.approx(0.5 * max((2.0 - 4.0) ** 2, (1.3 - 4.0) ** 2))
    assert found["entropy"][0] == 0.7
    assert found["approx_kl"][0] == pytest.approx(0.5 - log(1.5))
    assert found["clipfrac"][0] == 1.0
    assert found["total"][0] == pytest.approx(-2.4 - 0.03 * 0.7 + 0.4 * 0.5 * 2.7**2 + 0.5 * 10.0)
    assert gradients == {"act_log_prob": [[0.0]], "entropy": [[-0.03]], "value": [[0.0]]}
    _, other = ppo_losses(evaluated, stored, [[-2.0]], 10.0, {**PPO, "clip_vloss": False})
    assert other["act_log_prob"][0] == pytest.approx([2.0 * 1.5])
    assert other["value"][0] == pytest.approx([0.4 * (2.0 - 4.0)])


@pytest.mark.parametrize("clip_vloss", [True, False])
@pytest.mark.parametrize("key", ["act_log_prob", "entropy", "value"])
def test_gradients_are_the_slopes_of_the_total(key: str, clip_vloss: bool) -> None:
    evaluated, stored, surrogate = drawn(3)
    ppo = {**PPO, "clip_vloss": clip_vloss}
    _, gradients = ppo_losses(evaluated, stored, surrogate, 1.0, ppo)
    step = 1e-6
    for row in range(3):
        for t in range(4):
            around = []
            for sign in (1.0, -1.0):
                rows = [list(values) for values in evaluated[key]]
                rows[row][t] += sign * step
                around.append(ppo_losses({**evaluated, key: rows}, stored, surrogate, 1.0, ppo)[0]["total"][0])
            assert (around[0] - around[1]) / (2 * step) == pytest.approx(gradients[key][row][t], abs=1e-8)


def test_sizes_do_not_cancel() -> None:
    evaluated, stored, _ = drawn(4, rows=1, steps=2)
    evaluated["act_log_prob"] = stored["act_log_prob"]
    found, _ = ppo_losses(evaluated, stored, [[5.0, -5.0]], 0.0, PPO)
    assert found["policy"] == (0.0, 5.0)
    assert found["approx_kl"] == (0.0, 2.0)


def test_ratios_and_normalising() -> None:
    assert ratios([[1.0]], [[0.5]]) == [[exp(0.5)]]
    found = normalised([[1.0, 3.0], [5.0, 7.0]])
    deviation = sqrt((9 + 1 + 1 + 9) / 3)
    assert found[0] == pytest.approx([-3.0 / deviation, -1.0 / deviation])
    assert normalised([[2.0]]) == [[0.0]]


# The order of an update


def test_an_update_ends_with_the_epoch_that_goes_too_far() -> None:
    settings = {"per_epoch": 2, "epochs": 3}
    assert minibatches_done([0.0, 0.3, 0.1, 0.5, 9.0, 9.0], target=0.2, **settings) == 4
    assert minibatches_done([0.0, 0.3, 0.1, 0.5, 9.0, 9.0], target=None, **settings) == 6
    assert minibatches_done([0.0, 0.3], target=0.2, **settings) == 6  # fewer than there must be


def test_calls_of_an_update() -> None:
    intervals = {"rebase_every": 2, "measure_every": 0}
    found = calls(acts=2, minibatches=2, accumulate=2, update=1, **intervals)
    minibatch = ["reset_memory", "evaluate", "backward"]
    step = ["step", "clip_weights"]
    assert found == ["reset_memory", "act", "act", *minibatch, *minibatch, *step, "update_l2_init_weight_copy"]
    assert calls(acts=1, minibatches=1, accumulate=1, update=0, **intervals)[-1] == "clip_weights"


def test_only_a_larger_norm_is_clipped() -> None:
    assert clipped_norm(0.3, 0.5) == 0.3
    assert clipped_norm(5.0, 0.5) == pytest.approx(0.5, rel=1e-6)
