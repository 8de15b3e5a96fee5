from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, distributed, nn

from parity.agents.metta_agent import MettaAgent
from parity.agents.pytorch.fast import Fast
from parity.checks import compiled, devices, throughput
from parity.checks import distributed as ranks
from parity.checks.draw import sized
from parity.checks.registry import Check
from parity.checks.trainer import processes
from parity.checks.trainer.processes import RankError, run_ranks
from parity.compare.judge import Outcome
from parity.compare.trace import Trace
from parity.compare.verdict import Inconclusive, Rung, Verdict
from parity.conditions import judging
from parity.faults.plant import Patcher, planted
from parity.pairs.builds import Builds
from parity.pairs.recipe import Pair
from parity.pairs.registry import registered_pairs
from parity.profiles import profile_in_force
from parity.results import Cell, Result
from parity.runner import Session, plan, run_cell

FAST = registered_pairs()["fast"]


def run(check: Check, plant: Callable[[Patcher], None] = lambda patch: None, dtype: str = "float64") -> Result:
    with planted(plant) as patch, judging():
        session = Session(dataclasses.replace(FAST, fault_hooks=tuple(patch.hooks)))
        return run_cell(session, Cell("fast", check.name, "cpu", dtype), max_examples=1, shrink=False, check=check)


# compile


@pytest.mark.parametrize("owner", [MettaAgent, Fast])
def test_nothing_compiled_is_inconclusive(owner: type[nn.Module]) -> None:
    result = run(compiled.CHECK, lambda patch: patch.wrap(owner, "forward", torch._dynamo.disable))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason.startswith("nothing of the candidate's encoder was compiled: none of 0 graphs")


def test_only_graphs_that_multiply_by_the_encoders_weights_count() -> None:
    encoder, head = nn.Linear(3, 3), nn.Linear(3, 2)
    graphs = compiled.Graphs("eager", {encoder.weight.data_ptr()})
    torch._dynamo.reset()
    torch.compile(head, backend=graphs)(torch.ones(1, 3))
    torch.compile(lambda x: x + encoder.weight, backend=graphs)(torch.ones(1, 3))
    assert (graphs.count, graphs.of_encoder) == (2, 0)
    with pytest.raises(Inconclusive, match="none of 2 graphs"):
        graphs.prove("candidate")
    torch.compile(encoder, backend=graphs)(torch.ones(1, 3))
    torch._dynamo.reset()
    graphs.prove("candidate")


# distributed


def test_ranks_form_a_group(tmp_path: Path) -> None:
    def add_up(rank: int, folder: Path) -> None:
        total = torch.tensor(rank + 1.0)
        distributed.all_reduce(total)
        (folder / f"total-{rank}").write_text(str(float(total)), encoding="utf-8")

    run_ranks(add_up, 2, tmp_path)
    assert [(tmp_path / f"total-{rank}").read_text() for rank in (0, 1)] == ["3.0", "3.0"]


def test_a_rank_that_raises_is_named_and_the_waiting_one_is_ended(tmp_path: Path) -> None:
    def work(rank: int, folder: Path) -> None:
        if rank == 1:
            raise ValueError("no such agent")
        distributed.barrier()

    start = time.monotonic()
    with pytest.raises(RankError, match=r"rank 1 raises ValueError: no such agent \(work, test_platform_checks"):
        run_ranks(work, 2, tmp_path, method="fork")
    assert time.monotonic() - start < 30


def test_a_rank_that_dies_is_inconclusive(tmp_path: Path) -> None:
    def work(rank: int, folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(Inconclusive, match="was killed by signal 9 and left no word"):
        run_ranks(work, 2, tmp_path, method="fork")


def test_ranks_that_wait_for_each_other_are_ended(tmp_path: Path) -> None:
    def work(rank: int, folder: Path) -> None:
        (folder / f"pid-{rank}").write_text(str(os.getpid()), encoding="utf-8")
        time.sleep(600)

    with pytest.raises(Inconclusive, match=r"rank 0 and 1 of 2 had not ended after 5 s and was killed"):
        run_ranks(work, 2, tmp_path, seconds=5, method="fork")
    for rank in (0, 1):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid-{rank}").read_text()), 0)


def test_work_that_cannot_be_spawned_is_inconclusive(tmp_path: Path) -> None:
    with pytest.raises(Inconclusive, match="no process could be started"):
        run_ranks(lambda rank, folder: None, 1, tmp_path, method="spawn")


def test_a_forked_rank_asks_for_no_threads_that_it_lost(tmp_path: Path) -> None:
    def work(rank: int, folder: Path) -> None:
        torch.set_num_threads(2)
        assert torch.get_num_threads() == 1

    run_ranks(work, 1, tmp_path, method="fork")
    assert torch.set_num_threads.__name__ != "<lambda>"


def test_forked_and_spawned_ranks_train_alike(tmp_path: Path) -> None:
    example = {
        "seed": 3,
        "num_agents": 4,
        "bptt_horizon": 4,
        "batch_size": 32,
        "minibatch_size": 16,
        "update_epochs": 1,
        "total_updates": 2,
    }
    recipe = sized(FAST.recipe, FAST, "varied")
    subject = Builds(FAST).build("candidate", recipe)
    assert FAST.training is not None
    work = ranks.Share(FAST.training, subject.copy().policy, recipe.environment, example, seed=1)
    found = {}
    for method in ("spawn", "fork"):  # spawned ranks must not train the policy that they were given
        folder = tmp_path / method
        folder.mkdir()
        run_ranks(work, 2, folder, method=method)
        found[method] = [load_file(folder / f"{rank}-1.safetensors") for rank in (0, 1)]
    first, *others = (*found["fork"], *found["spawn"])
    assert all(torch.equal(value, other[name]) for other in others for name, value in first.items())
    initial = dict(subject.policy.named_parameters())
    assert any(not torch.equal(value, first[name]) for name, value in initial.items())


def test_processes_are_spawned_where_a_gpu_is_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert processes.start_method() == "spawn"


def pairs_of(check: str, pattern: str = "*") -> set[str]:
    return {cell.pair for cell in plan(registered_pairs().values(), checks=pattern) if cell.check == check}


def test_by_day_ranks_are_planned_for_one_pair_and_by_night_for_all() -> None:
    with profile_in_force("parity-ci"):
        assert pairs_of("distributed") == {"fast"}
        assert pairs_of("distributed", "distributed") == set(registered_pairs())
        assert pairs_of("compile") == {"fast", "latent_attn_small"}
    with profile_in_force("parity-nightly"):
        assert pairs_of("distributed") == pairs_of("compile") == set(registered_pairs())


# device

DEVICE_ON_CPU = dataclasses.replace(devices.CHECK, devices=("cpu",))


def test_without_a_second_device_the_check_is_not_applicable() -> None:
    result = run(devices.CHECK, dtype="float32")
    assert result.verdict is Verdict.NOT_APPLICABLE
    assert result.reason == "check 'device' judges cuda only; cpu was selected"


def moved(away: Tensor, home: Tensor | None = None, key: str = "output") -> devices.Moved:
    traces = []
    for value in (torch.zeros_like(away) if home is None else home, away):
        trace = Trace()
        trace.record(key, value, component="fc1")
        traces.append(trace)
    return devices.Moved(*traces)


def judged(reference: devices.Moved, candidate: devices.Moved, spread: float = 0.0, grain: float = 1.0) -> Outcome:
    def rerun(number: int) -> Trace:
        trace = Trace()
        for place, entry in reference.home:
            trace.record(place.key, entry.value + spread, component=place.component)
        return trace

    return devices.judge_moves(reference, candidate, rerun, grain=grain)


NOISE = torch.full((1000,), 1e-6)


@pytest.mark.parametrize(("factor", "margin"), [(1.0, 0.5), (1.9, 0.95), (0.0, 0.0)])
def test_a_gap_up_to_twice_the_references_passes(factor: float, margin: float) -> None:
    outcome = judged(moved(NOISE), moved(factor * NOISE))
    assert outcome.divergence is None
    assert outcome.rung is Rung.DEVICE
    assert outcome.margin == pytest.approx(margin)


def test_a_gap_beyond_twice_the_references_is_a_divergence_at_its_component() -> None:
    found = judged(moved(NOISE), moved(2.1 * NOISE)).divergence
    assert found is not None
    assert (found.component, found.rung, found.allowed) == ("fc1", Rung.DEVICE, 2.0)
    assert found.measured == pytest.approx(2.1)


def test_leaves_of_few_numbers_scatter_more() -> None:
    assert judged(moved(NOISE[:3]), moved(9 * NOISE[:3])).divergence is None
    assert judged(moved(NOISE[:3]), moved(11 * NOISE[:3])).divergence is not None


def test_what_a_device_spares_the_reference_by_luck_is_judged_by_its_rounding() -> None:
    still = moved(torch.zeros(1000))
    assert judged(still, moved(NOISE)).divergence is not None
    assert judged(still, moved(NOISE), spread=0.6e-6).divergence is None
    assert judged(still, moved(NOISE), spread=0.6e-9).divergence is not None
    assert judged(still, moved(NOISE), spread=0.6e-9, grain=1000).divergence is None


def test_structure_comes_before_values() -> None:
    found = judged(moved(NOISE), moved(NOISE[:10])).divergence
    assert found is not None and (found.kind, found.reference) == ("structure", ("cpu", (1000,)))
    missing = judged(moved(NOISE), moved(NOISE, key="other")).divergence
    assert missing is not None and missing.candidate == "missing home on the candidate"


def test_a_gap_that_is_not_finite_is_the_candidates_fault_or_nobodys() -> None:
    broken = moved(NOISE / 0.0)
    found = judged(moved(NOISE), broken).divergence
    assert found is not None and found.candidate == "not finite (away)"
    with pytest.raises(Inconclusive, match="the reference's output of fc1 is not finite"):
        judged(broken, moved(NOISE))


def on_second_device(side: str, change: Callable[[Tensor], Tensor], layer: str) -> Callable[[Patcher], None]:
    """The CPU under autocast stands in for the second device: what happens only there does not happen at home."""

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
        return change(output) if torch.is_autocast_enabled("cpu") else None

    def add(agent: Any) -> None:
        agent.get_submodule(layer).register_forward_hook(hook)

    return lambda patch: patch.built(side, add)


def in_bfloat16() -> Check:
    def examples(pair: Pair, recordings: Any) -> st.SearchStrategy[dict[str, Any]]:
        return devices.CHECK.examples(pair, recordings).map(lambda example: {**example, "mode": "bf16"})

    return dataclasses.replace(DEVICE_ON_CPU, examples=examples)


def test_equal_sides_stay_within_the_rule_on_a_coarser_device() -> None:
    result = run(in_bfloat16(), dtype="float32")
    assert (result.verdict, result.rung) == (Verdict.EQUIVALENT, "device")
    assert 0.3 < result.margin < 1


def test_a_device_that_is_wrong_for_both_sides_is_no_fault_of_the_candidate() -> None:
    def plant(patch: Patcher) -> None:
        on_second_device("reference", lambda output: 1.1 * output, "policy.components.fc1")(patch)
        on_second_device("candidate", lambda output: 1.1 * output, "policy.fc1")(patch)

    assert run(in_bfloat16(), plant, dtype="float32").verdict is Verdict.EQUIVALENT


def test_a_candidate_that_a_device_moves_further_is_pinned() -> None:
    result = run(in_bfloat16(), on_second_device("candidate", lambda output: 1.1 * output, "policy.fc1"), "float32")
    assert result.divergence is not None
    assert (result.divergence["component"], result.divergence["phase"]) == ("fc1", "forward")
    assert result.divergence["notes"][-1] == "cpu against cpu, bf16 arithmetic"


def test_a_candidate_that_fails_on_the_device_is_pinned() -> None:
    def refuse(output: Tensor) -> Tensor:
        raise RuntimeError("Expected all tensors to be on the same device")

    result = run(in_bfloat16(), on_second_device("candidate", refuse, "policy.cnn2.0"), "float32")
    assert result.divergence is not None
    assert (result.divergence["kind"], result.divergence["component"]) == ("raised", "cnn2")


# throughput


class Clocked:
    """A load whose calls take the seconds they are told to, over and over."""

    device = "cpu"

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.calls, self.now = seconds, 0, 0.0

    def call(self) -> None:
        self.now += self.seconds[self.calls % len(self.seconds)]
        self.calls += 1

    def clock(self) -> float:
        return self.now


def slowness(reference: Clocked, candidate: Clocked) -> throughput.Found:
    return throughput.slowness([reference, candidate], Clocked.call)  # type: ignore[arg-type]


def test_time_is_the_median_ratio_of_neighbours() -> None:
    found = slowness(Clocked(1.0, 2.0), Clocked(1.1, 2.2))
    assert found.ratio == pytest.approx(1.1)
    assert found.of("candidate").endswith(" ms")


def test_single_interruptions_do_not_count() -> None:
    found = slowness(Clocked(1.0), Clocked(1.0, 1.0, 9.0))
    assert found.ratio == 1.0


def test_one_round_in_time_is_enough() -> None:
    slow, quick = [1.5] * throughput.TURNS, [1.0] * throughput.TURNS
    candidate = Clocked(*slow, *quick, *slow)
    assert slowness(Clocked(1.0), candidate).ratio == 1.0
    assert candidate.calls == 2 * throughput.TURNS


def test_slower_in_every_round_is_slower() -> None:
    candidate = Clocked(1.06)
    assert slowness(Clocked(1.0), candidate).ratio > throughput.SLOWER
    assert candidate.calls == throughput.ROUNDS * throughput.TURNS


def test_memory_counts_the_peak_and_what_is_left_behind() -> None:
    kept: list[Tensor] = []

    def call(load: Any) -> None:
        first, second = torch.empty(1000), torch.empty(2000)
        del first
        kept.append(torch.empty(500))
        del second

    assert throughput.memory(Clocked(), call) == (4 * 3000, 4 * 500)  # type: ignore[arg-type]


def test_memory_that_is_replaced_is_not_left_behind() -> None:
    kept: dict[str, Tensor] = {}

    def call(load: Any) -> None:
        kept["last"] = torch.empty(500)

    call(None)
    assert throughput.memory(Clocked(), call)[1] == 0  # type: ignore[arg-type]


def test_a_reference_that_keeps_nothing_allows_nothing() -> None:
    assert throughput.Found(0, 0, "bytes").ratio == 1.0
    assert throughput.Found(0, 10, "bytes").ratio > 1.0
