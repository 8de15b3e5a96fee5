"""A golden trace of ``fast`` as it is: planted faults are named by it, harmless rewrites are not, misuse is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from parity.cli import main
from parity.compare.verdict import Misuse, Verdict
from parity.faults.plant import Patcher, planted
from parity.faults.registry import load_catalogues
from parity.golden.judge import Recording, judge_by
from parity.golden.record import record
from parity.pairs import registry
from parity.pairs.recipe import ComponentLink, Pair
from parity.results import Result

FAULTS = [
    "init_gain_1_before_tanh",
    "relu_missing_after_fc1",
    "fields_of_shape_batch",
    "first_rows_instead_of_active_ones",
    "actor_cut_from_the_core",
    "resets_one_step_late",
    "unused_feature_ids_kept",
]
CONTROLS = [
    "action_head_as_einsum",
    "logits_normalised_early",
    *(pytest.param(name, marks=pytest.mark.nightly) for name in ("core_step_by_step", "parameters_in_another_order")),
]


@pytest.fixture(scope="module")
def fast() -> Pair:
    return registry.registered_pairs()["fast"]


@pytest.fixture(scope="module")
def recorded(fast: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / "fast.safetensors"
    record(fast, "candidate", path, examples=2, origin={"revision": "before"})
    return path


def judge(pair: Pair, path: Path, **options: Any) -> list[Result]:
    return judge_by(Recording(path, pair), pair, reproduce="python -m parity run fast --against it", **options)


def with_hooks(pair: Pair, patcher: Patcher) -> Pair:
    return dataclasses.replace(pair, fault_hooks=tuple(patcher.hooks))


def failing(results: list[Result]) -> list[Result]:
    return [result for result in results if not result.verdict.passed]


def test_the_same_code_gives_the_same_bits_and_the_same_file(fast: Pair, recorded: Path, tmp_path: Path):
    results = judge(fast, recorded)
    assert {result.verdict for result in results} == {Verdict.IDENTICAL}
    assert {result.check for result in results} == {
        "initialization", "fields", "forward", "actions", "memory", "gradients", "features", "training",
    }  # fmt: skip
    for name in ("a", "b"):
        record(fast, "candidate", tmp_path / name, checks="forward", examples=1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_where_it_is_declared(fast: Pair, recorded: Path, name: str):
    fault = load_catalogues()["fast"].faults[name]
    with planted(fault.plant) as patcher:
        found = failing(judge(with_hooks(fast, patcher), recorded, checks=fault.check))
    divergence = found[0].divergence
    assert divergence is not None, found[0].reason
    assert (divergence["component"], divergence["phase"]) == (fault.component, fault.phase)
    assert "reference: the code before; candidate: today's" in divergence["notes"]
    assert found[0].reproduce == f"python -m parity run fast --against it --check {fault.check}"


def test_a_fault_that_only_training_shows_is_looked_into_update_by_update(fast: Pair, recorded: Path):
    def never_clips(side: str, module: Any) -> None:
        module.policy.clip_weights = lambda: None

    pair = dataclasses.replace(fast, fault_hooks=(never_clips,))
    assert failing(judge(pair, recorded, checks="[gm]*")) == []
    for result in judge(pair, recorded, checks="training"):
        divergence = result.divergence
        assert divergence is not None, result.reason
        assert (divergence["component"], divergence["phase"]) == ("cnn2", "clip")
        assert (divergence["update"], divergence["minibatch"]) == (0, 0)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_harmless_rewrite_stays_green_within_the_recorded_rounding(fast: Pair, recorded: Path, name: str):
    control = load_catalogues()["fast"].controls[name]
    with planted(control.plant) as patcher:
        results = judge(with_hooks(fast, patcher), recorded)
    assert [str(result.cell) for result in failing(results)] == []
    if name in ("action_head_as_einsum", "logits_normalised_early"):  # the others may give the same bits
        assert {str(result.rung) for result in results if result.check == "forward"} == {"float64", "noise_floor"}


def test_the_other_side_is_recorded_and_judged_as_well(fast: Pair, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = str(tmp_path / "reference.safetensors")
    assert main(["record", "fast", "--to", file, "--side", "reference", "--check", "memory", "--examples", "1"]) == 0
    assert "reference of fast, 2 cells (memory), 2 examples, " in capsys.readouterr().out
    assert main(["run", "fast", "--against", file, "--json", str(tmp_path / "out.json")]) == 0
    assert "before: reference of fast" in capsys.readouterr().out
    assert json.loads((tmp_path / "out.json").read_text())["planned"] == 2
    assert main(["run", "fast", "--against", file, "--side", "candidate"]) == 2
    assert "is a recording of the reference; leave --side candidate out" in capsys.readouterr().err


def test_a_recording_of_another_pair_or_of_other_components_is_refused(fast: Pair, recorded: Path):
    with pytest.raises(Misuse, match=r"is a recording of pair 'fast', not of 'swift'; name that pair"):
        Recording(recorded, dataclasses.replace(fast, name="swift"))
    renamed = tuple(
        ComponentLink("fc_1", link.reference, link.candidate) if link.name == "fc1" else link
        for link in fast.components
    )
    with pytest.raises(Misuse, match=r"recorded component 'fc1', which pair 'fast' does not declare today; is it 'fc"):
        Recording(recorded, dataclasses.replace(fast, components=renamed))


def test_a_renamed_parameter_is_named_with_the_remedy_and_judged_with_it(fast: Pair, recorded: Path):
    def rename(side: str, module: Any) -> None:
        module.policy.head = module.policy.critic_1
        del module.policy.critic_1

    links = tuple(
        dataclasses.replace(link, candidate="policy.head") if link.name == "critic_1" else link
        for link in fast.components
    )

    def decode(self: Any, hidden: Any) -> Any:
        value = self.value_head(self.head(hidden)).squeeze(-1)
        return self.action_head(self.actor_1(hidden), self.action_embeds()), value

    from parity.agents.pytorch.heads import ActorCriticHeads

    pair = dataclasses.replace(fast, fault_hooks=(rename,), components=links)
    with planted(lambda patch: patch.attribute(ActorCriticHeads, "decode_actions", decode)):
        found = failing(judge(pair, recorded, checks="forward"))
        assert found[0].divergence is not None
        assert (found[0].divergence["key"], found[0].divergence["candidate"]) == ("policy.critic_1.0.weight", "missing")
        assert "then add --renamed policy.critic_1=policy.head" in found[0].divergence["notes"][0]
        renamed = {"policy.critic_1": "policy.head"}
        assert failing(judge(pair, recorded, checks="[fgi]*s*", renamed=renamed)) == []
        wrong = failing(judge(pair, recorded, checks="forward", renamed={"policy.critic_1": "policy.nowhere"}))
        assert "today's side has no parameter 'policy.nowhere'" in wrong[0].reason


def test_a_capability_that_is_gone_does_not_look_green(fast: Pair, recorded: Path):
    poorer = dataclasses.replace(fast, capabilities=fast.capabilities - {"memory"})
    (first, *_) = judge(poorer, recorded, checks="memory")
    assert first.verdict is Verdict.INCONCLUSIVE
    assert first.reason == "it was recorded with capability memory, which the pair does not declare today"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "fast", "--against", "gone"], "cannot read gone: No such file"),
        (["run", "*", "--against", "it"], "a recording is of one pair, and '*' matches example, fast"),
        (["run", "fast", "--against", "it", "--seed", "1"], "leave --seed out"),
        (["run", "fast", "--against", "it", "--device", "cuda"], "leave --device cuda out"),
        (["run", "fast", "--against", "it", "--examples", "1"], "give --examples to `record`"),
        (["run", "fast", "--against", "it", "--check", "throughput"], "no recorded check matches 'throughput'"),
        (["run", "fast", "--against", "it", "--renamed", "a"], "write the parameter's recorded name, =, and today's"),
        (["record", "fast", "--to", "x", "--check", "throughput"], "no golden check matches 'throughput'"),
        (["record", "fast", "--to", "it/x", "--check", "initialization"], "cannot write it/x"),
    ],
)
def test_misuse_is_met_by_name(
    arguments: list[str],
    message: str,
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    Path("it").symlink_to(recorded)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
