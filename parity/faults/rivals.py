"""What people compare policies with today, so that their kill rates can stand next to ours on the same faults.

Each is written as its users write it: default tolerances, one batch, float32. It raises when it sees a difference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from parity.agents.interface import ENV_OBS, FULL_LOG_PROBS, VALUES
from parity.checks.draw import legal_actions
from parity.conditions import seed_global
from parity.pairs.builds import Builds
from parity.pairs.subjects import Sides

ROWS, BATCH, STEPS = 32, 4, 8
#: A short training, as a test that has to end soon would have it.
_SHORT = {
    "num_agents": 4,
    "bptt_horizon": 4,
    "batch_size": 32,
    "minibatch_size": 16,
    "total_updates": 2,
}


def close_outputs_fresh(builds: Builds, seed: int) -> None:
    """``torch.testing.assert_close`` on log-probabilities and values of one batch, on fresh weights."""
    _compare_outputs(builds, seed, None, lambda output: output)


def close_outputs_stress(builds: Builds, seed: int) -> None:
    """The same on stress weights."""
    _compare_outputs(builds, seed, seed, lambda output: output)


def close_means(builds: Builds, seed: int) -> None:
    """``torch.testing.assert_close`` on the means of the same outputs, on fresh weights."""
    _compare_outputs(builds, seed, None, torch.mean)


def state_dict_diff(builds: Builds, seed: int) -> None:
    """Parameters of both sides after building: shapes, dtypes and values."""
    sides = _built(builds, seed)
    reference = dict(sides.reference.policy.named_parameters())
    candidate = sides.candidate.to_reference(dict(sides.candidate.policy.named_parameters()))
    assert reference.keys() == candidate.keys()
    for name, value in reference.items():
        torch.testing.assert_close(candidate[name], value)


def smoke_test(builds: Builds, seed: int) -> None:
    """Operations run, shapes match, a short training of the candidate ends with finite losses."""
    pair, sides = builds.pair, _built(builds, seed)
    found = []
    for subject in (sides.reference, sides.candidate):
        observations = pair.generate(subject.recipe.environment, rows=BATCH * STEPS, seed=seed)
        acted = subject.policy(TensorDict({ENV_OBS: observations.clone()}, batch_size=[BATCH * STEPS]))
        rows = TensorDict({ENV_OBS: observations.unflatten(0, (BATCH, STEPS))}, batch_size=[BATCH, STEPS])
        trained = subject.policy(rows, action=legal_actions(subject.recipe.environment, (BATCH, STEPS), seed))
        found.append({**_shapes(acted), **_shapes(trained)})
    assert found[0] == found[1], "shapes differ"
    if pair.training is not None:
        subject = sides.candidate
        settings = {**_SHORT, "seed": seed}
        trainer = pair.training.start(subject.policy, subject.recipe.environment, settings)
        for _ in range(_SHORT["total_updates"]):
            trainer.rollout()
            metrics = trainer.update()
            assert all(math.isfinite(value) for key, value in metrics.items() if key.startswith("loss"))


Rival = Callable[[Builds, int], None]
RIVALS: Mapping[str, Rival] = {
    "assert_close on outputs, fresh weights": close_outputs_fresh,
    "assert_close on outputs, stress weights": close_outputs_stress,
    "comparing means": close_means,
    "state-dict diff": state_dict_diff,
    "shapes, operations, short training": smoke_test,
}


def sees(rival: Rival, builds: Builds, seed: int) -> bool:
    """Whether a rival takes the sides for different; anything that raises counts."""
    try:
        with torch.random.fork_rng(devices=[]):
            seed_global(seed)
            rival(builds, seed)
    except Exception:
        return True
    return False


def _built(builds: Builds, seed: int, weights: int | None = None) -> Sides:
    return builds.sides(builds.pair.recipe.with_system(seed=seed), weights).copy()


def _compare_outputs(
    builds: Builds, seed: int, weights: int | None, summary: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    pair, sides = builds.pair, _built(builds, seed, weights)
    outputs: list[dict[str, Any]] = []
    for subject in (sides.reference, sides.candidate):
        observations = pair.generate(subject.recipe.environment, rows=ROWS, seed=seed)
        with torch.no_grad():
            out = subject.policy(TensorDict({ENV_OBS: observations}, batch_size=[ROWS]))
        outputs.append({key: summary(out[key]) for key in (FULL_LOG_PROBS, VALUES)})
    for key, value in outputs[0].items():
        torch.testing.assert_close(outputs[1][key], value)


def _shapes(td: TensorDictBase) -> dict[str, tuple[int, ...]]:
    return {str(key): tuple(value.shape) for key, value in td.items()}
