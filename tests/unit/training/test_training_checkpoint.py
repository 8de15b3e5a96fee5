from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tensordict import TensorDict
from training_samples import SIDES, Counting, agent, config, parameters_of

from parity.agents.interface import EnvironmentDescription, Feature
from parity.training.checkpoint import (
    CheckpointError,
    CheckpointManager,
    initialize_policy_for_environment,
    load_policy,
)
from parity.training.trainer import Trainer


def build(side: str = "candidate", agents: int = 4, dtype: torch.dtype = torch.float64, **changes: Any) -> Trainer:
    return Trainer(agent(side, dtype), Counting(agents), config(seed=5, **changes))


def everything(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Every number that the run's future depends on."""
    found = {f"policy {name}": value.clone() for name, value in trainer.policy.state_dict().items()}
    for name, state in trainer.optimizer.state_dict().items():
        found |= {f"optimizer {name} {key}": value.clone() for key, value in state.items()}
    found |= {f"environment {key}": value for key, value in trainer.environment.state_dict().items()}
    found |= {f"random {key}": value.clone() for key, value in trainer.random.state.items()}
    found["draws"] = trainer.experience.generator.get_state()
    found["observations"] = trainer.step.observations.clone()
    found["counters"] = torch.tensor([trainer.updates, trainer.agent_steps])
    return found


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    trainer = build()
    list(trainer.run(1))
    return CheckpointManager(tmp_path / "run").save(trainer)


@pytest.mark.parametrize("kind", ["adam", "muon"])
@pytest.mark.parametrize("side", SIDES)
def test_resuming_equals_not_stopping_bit_for_bit(side: str, kind: str, tmp_path: Path) -> None:
    settings = {
        "optimizer": {"type": kind},
        "prioritized_experience_replay": {"prio_alpha": 0.7},
        "ppo": {"l2_init_loss_coef": 0.1},
        "forward_pass_minibatch": 2,
    }
    whole = build(side, **settings)
    figures = list(whole.run(4))
    stopped = build(side, **settings)
    list(stopped.run(2))
    manager = CheckpointManager(tmp_path)
    path = manager.save(stopped)

    resumed = Trainer(agent(side, seed=77), Counting(4), config(seed=5, **settings))
    assert manager.resume(resumed) == path
    assert_same(everything(resumed), everything(stopped))
    again = list(resumed.run(2))
    assert_same(everything(resumed), everything(whole))
    for left, right in zip(figures[2:], again, strict=True):
        assert {key: value for key, value in left.items() if "seconds" not in key} == {
            key: value for key, value in right.items() if "seconds" not in key
        }


def test_there_may_be_nothing_to_resume(tmp_path: Path) -> None:
    manager = CheckpointManager(tmp_path / "none")
    assert manager.latest() is None
    assert manager.resume(build()) is None


def test_the_latest_is_the_one_after_the_most_updates(tmp_path: Path) -> None:
    trainer, manager = build(), CheckpointManager(tmp_path)
    for _ in trainer.run(3):
        newest = manager.save(trainer)
        assert manager.latest() == newest


def test_an_existing_checkpoint_is_not_overwritten(saved: Path) -> None:
    content = saved.read_bytes()
    other = build(agents=4, minibatch_size=48)
    list(other.run(1))
    with pytest.raises(CheckpointError, match=r"update_00000001\.safetensors: exists"):
        CheckpointManager(saved.parent).save(other)
    assert saved.read_bytes() == content


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_kill_while_writing_leaves_the_previous_one(saved: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    trainer, manager = build(), CheckpointManager(saved.parent)
    manager.resume(trainer)
    list(trainer.run(1))
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open" if call == "open" else f"os.{call}", die)
        with pytest.raises(Killed):
            manager.save(trainer)
    assert manager.latest() == saved
    manager.resume(build())
    assert manager.save(trainer).name == "update_00000002.safetensors"
    assert not [name for name in os.listdir(saved.parent) if name.endswith(".part")]


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50] ^= 1
    path.write_bytes(bytes(content))


def _edit(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(rb"\"updates\": 1", rb"\"updates\": 3"))


def _foreign(path: Path) -> None:
    path.unlink()
    save_file({"weight": torch.zeros(2)}, path)


def _newer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"parity-checkpoint/1", b"parity-checkpoint/2"))


def _gone(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_truncate, "truncated"),
        (_empty, "truncated or no safetensors"),
        (_flip, "corrupt"),
        (_edit, "corrupt"),
        (_foreign, "no checkpoint"),
        (_newer, "its format is 'parity-checkpoint/2'"),
        (_gone, "cannot be read"),
    ],
)
def test_a_damaged_file_is_refused_by_name_and_changes_nothing(saved: Path, damage: Any, words: str) -> None:
    damage(saved)
    content = saved.read_bytes() if saved.exists() else None
    trainer = build()
    before = everything(trainer)
    for attempt in (
        lambda: CheckpointManager(saved.parent).resume(trainer, saved),
        lambda: load_policy(saved, trainer.policy),
    ):
        with pytest.raises(CheckpointError, match=words) as refused:
            attempt()
        assert str(saved) in str(refused.value)
    assert_same(everything(trainer), before)
    assert (saved.read_bytes() if saved.exists() else None) == content


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"side": "reference"}, "of agent Fast, not ComponentPolicy"),
        ({"dtype": torch.float32}, "float64"),
        ({"ppo": {"gamma": 0.5}}, "a run with ppo.gamma 0.977, not 0.5"),
        ({"minibatch_size": 48}, "a run with minibatch_size 24, not 48"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(saved: Path, changes: dict[str, Any], words: str) -> None:
    trainer = build(**changes)
    before = everything(trainer)
    with pytest.raises(CheckpointError, match=words):
        CheckpointManager(saved.parent).resume(trainer)
    assert_same(everything(trainer), before)


def test_a_longer_run_may_go_on(saved: Path) -> None:
    trainer = build(total_updates=9)
    CheckpointManager(saved.parent).resume(trainer)
    assert trainer.updates == 1


# Policies without their trainer

#: The first environment's features and actions under other ids and in another order, with one new of each.
MOVED = EnvironmentDescription(
    obs_width=7,
    obs_height=6,
    num_tokens=5,
    action_names=("noop", "jump", "attack", "move"),
    max_action_args=(1, 0, 2, 0),
    features={"hp": Feature(1, 30.0), "type": Feature(2, 2.0)},
)


@pytest.mark.parametrize("side", SIDES)
def test_a_loaded_policy_knows_actions_and_features_by_name(side: str, tmp_path: Path) -> None:
    trainer = build(side)
    list(trainer.run(1))
    path = CheckpointManager(tmp_path).save(trainer)
    policy = agent(side, seed=50, initialized=False)
    record = load_policy(path, policy)
    assert (record.updates, record.agent_steps, record.path) == (1, 48, path)
    assert record.feature_mapping == {"type": 0, "hp": 3}
    assert initialize_policy_for_environment(record, MOVED) is policy
    assert parameters_of(policy) == parameters_of(trainer.policy)
    assert policy.original_feature_mapping() == {"type": 0, "hp": 3}
    rows = policy.action_rows()
    assert rows == {"attack_0": 0, "attack_1": 1, "attack_2": 2, "move_0": 3, "noop_0": 4, "noop_1": 5, "jump_0": 6}

    seen = trainer.step.observations.clone()
    moved = seen.clone()
    moved[..., 1] = torch.where(seen[..., 1] == 3, 1, 2)
    trained = trainer.policy
    trained.reset_memory()
    known = {(0, arg): (2, arg) for arg in range(3)} | {(1, 0): (3, 0), (2, 0): (0, 0), (2, 1): (0, 1)}
    before = trained(TensorDict({"env_obs": seen}, batch_size=[4]))["full_log_probs"]
    after = policy(TensorDict({"env_obs": moved}, batch_size=[4]))["full_log_probs"]
    olds = [int(trained.convert_action_to_logit_index(torch.tensor(old))) for old in known]
    news = [int(policy.convert_action_to_logit_index(torch.tensor(new))) for new in known.values()]
    left = before[:, olds].log_softmax(-1)
    torch.testing.assert_close(after[:, news].log_softmax(-1), left, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("side", SIDES)
def test_the_feature_mapping_may_be_left_behind(side: str, tmp_path: Path) -> None:
    path = CheckpointManager(tmp_path).save(build(side))
    record = load_policy(path, agent(side, initialized=False))
    policy = initialize_policy_for_environment(record, MOVED, restore_feature_mapping=False)
    assert policy.original_feature_mapping() == {"hp": 1, "type": 2}


def test_a_run_in_a_second_environment_resumes_with_what_it_learned_in_the_first(tmp_path: Path) -> None:
    class Moved(Counting):
        description = MOVED

    def transferred() -> Any:
        policy = agent("candidate")
        policy.initialize_to_environment(MOVED)
        return policy

    first = Trainer(transferred(), Moved(4), config())
    list(first.run(1))
    manager = CheckpointManager(tmp_path)
    manager.save(first)
    # A policy that only ever saw the second environment takes over rows and ids from the checkpoint.
    fresh = agent("candidate", initialized=False)
    fresh.initialize_to_environment(MOVED)
    second = Trainer(fresh, Moved(4), config())
    manager.resume(second)
    list(first.run(1))
    list(second.run(1))
    assert_same(everything(second), everything(first))


def test_a_checkpoint_can_be_moved(saved: Path, tmp_path: Path) -> None:
    moved = shutil.copy(saved, tmp_path / "best.safetensors")
    assert load_policy(moved, agent("candidate")).updates == 1
