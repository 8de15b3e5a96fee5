"""``collapse``: does a trained candidate learn as well as the reference? Both are trained over many seeds."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from parity.cli.progress import Status
from parity.cli.train import train_side, trainable_pair, training_of
from parity.compare.equivalence import ALPHA, equivalence
from parity.compare.verdict import Misuse
from parity.conditions import judging
from parity.faults.plant import planted
from parity.faults.registry import Fault, load_catalogues
from parity.pairs.recipe import Pair
from parity.pairs.registry import select_names
from parity.platform_info import platform_info
from parity.report.curves import late_mean, table, to_markdown, to_svg
from parity.report.files import read_json, require, write_json, write_text
from parity.suite.options import DEFAULT_REPORTS

#: The largest difference of mean normalised returns (0 random, 1 scripted optimum) that counts as none. Fixed before
#: anything was trained: a fifth of the way from chance to the optimum is what a person would call learning worse.
BOUND = 0.2
ENVIRONMENT = "token_grid"

#: Faults of `fast` that should meet different fates: one ends the training at once, one changes no number of it, one
#: changes a memory that the world does not ask for, one makes it learn from the wrong actions.
FAULTS = ("bptt_missing", "fields_of_int32", "not_reset_on_done", "logit_index_without_type")

_RUN = {
    "arm": str,
    "seed": int,
    "settings": dict,
    "rewards": list,
    "losses": list,
    "seconds": (int, float),
    "crash": (str, type(None)),
}
_WHAT = "a finished run of the collapse watch"


@dataclasses.dataclass(frozen=True)
class Arm:
    """What is trained over the seeds ``first_seed``, ``first_seed`` + 1, ...

    Candidate and faults share seeds, so that a fault that changes no number is seen to change none; those of the
    reference are others, because the test wants independent samples.
    """

    name: str
    kind: str
    side: str
    first_seed: int
    fault: Fault | None = None


def collapse(arguments: argparse.Namespace) -> int:
    """Train, test and report; 1 when the candidate learns worse or better, 2 when the watch itself proves nothing."""
    pair = trainable_pair(arguments.pair)
    training = training_of(pair)
    folder: Path = arguments.folder or DEFAULT_REPORTS / "collapse"
    arms = _arms(pair, arguments.fault)
    settings = training.defaults()
    settings["total_updates"] = max(1, arguments.steps // settings["batch_size"])
    settings["checkpoint_interval"] = 0
    runs: dict[str, list[dict[str, Any]]] = {}
    with judging(), Status() as status:
        # seed by seed, so that a watch that is cut short has something of every arm
        for number in range(arguments.seeds):
            for arm in arms:
                seed = arm.first_seed + number
                runs.setdefault(arm.name, []).append(_run(pair, arm, {**settings, "seed": seed}, folder, status))
        world = training.world(ENVIRONMENT, agents=settings["num_agents"])
        platform = platform_info()

    def score(reward: float) -> float:
        found = training.normalised_return(world, reward)
        if found is None:
            raise Misuse(f"the training of pair {pair.name!r} gives no normalised return in {ENVIRONMENT}")
        return found

    curves = {name: [[score(reward) for reward in run["rewards"]] for run in found] for name, found in runs.items()}
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "pair": pair.name,
        "environment": ENVIRONMENT,
        "seeds": arguments.seeds,
        "agent_steps": settings["total_updates"] * settings["batch_size"],
        "updates": settings["total_updates"],
        "bound": BOUND,
        "alpha": ALPHA,
        **judged(arms, runs, curves),
        "seconds": sum(run["seconds"] for found in runs.values() for run in found),
        "settings": settings,
        "platform": platform,
    }
    write_json(folder / "collapse.json", content)
    write_text(folder / "collapse.md", to_markdown(content))
    write_text(folder / "collapse.svg", to_svg(content))
    print(table(content))
    print(f"\n{content['verdict']}: {content['reason']}   written to {folder}/collapse.{{json,md,svg}}")
    return {"passed": 0, "collapsed": 1}.get(content["verdict"], 2)


def judged(
    arms: list[Arm], runs: Mapping[str, list[dict[str, Any]]], curves: Mapping[str, list[list[float]]]
) -> dict[str, Any]:
    """Compare every arm with the first, the reference, and say what the watch as a whole shows.

    Args:
        arms: the reference, the reference again, the candidate, then faults.
        runs: per arm its finished runs.
        curves: per arm and run the normalised return of each update.

    Returns:
        ``verdict`` (``passed``, ``collapsed`` or ``proves nothing``), ``reason``, and ``arms``.
    """
    reference, control, candidate = arms[:3]
    base = [late_mean(curve) for curve in curves[reference.name]]
    found = []
    for arm in arms:
        entry: dict[str, Any] = {
            "name": arm.name,
            "kind": arm.kind,
            "about": (arm.fault.plant.__doc__ or "").strip() if arm.fault else "",
            "seeds": [run["seed"] for run in runs[arm.name]],
            "seconds": sum(run["seconds"] for run in runs[arm.name]),
            "crash": next((run["crash"] for run in runs[arm.name] if run["crash"]), None),
        }
        found.append(entry)
        if entry["crash"] is not None:
            continue
        sample = [late_mean(curve) for curve in curves[arm.name]]
        entry |= {"returns": sample, "mean": fmean(sample), "spread": stdev(sample), "curves": curves[arm.name]}
        if arm is not reference:
            test = equivalence(sample, base, bound=BOUND)
            entry |= dataclasses.asdict(test) | {"outcome": test.outcome}
        if arm.fault is not None:
            entry["first_change"] = first_change(runs[arm.name], runs[candidate.name])
    outcomes = {entry["name"]: entry.get("outcome") for entry in found}
    separate = [arm.name for arm in arms[3:] if outcomes[arm.name] == "different"]
    if outcomes[control.name] != "equivalent":
        verdict, reason = "proves nothing", "the reference is not equivalent to itself; give more seeds or steps"
    elif not separate:
        verdict, reason = "proves nothing", "no fault separates from the reference; give more seeds, steps or faults"
    elif outcomes[candidate.name] != "equivalent":
        verdict, reason = "collapsed", f"the candidate's return is not shown to lie within {BOUND} of the reference's"
    else:
        verdict, reason = "passed", f"the candidate learns like the reference; separate: {', '.join(separate)}"
    return {"verdict": verdict, "reason": reason, "arms": found}


def first_change(runs: list[dict[str, Any]], clean: list[dict[str, Any]]) -> int | None:
    """The first update, counted from 1, whose reward or loss differs from the clean run of the same seed.

    None when no number differs in any run.
    """
    found = []
    for ours, theirs in zip(runs, clean, strict=True):
        figures = [list(zip(run["rewards"], run["losses"], strict=True)) for run in (ours, theirs)]
        found += [update for update, (a, b) in enumerate(zip(*figures, strict=True), start=1) if a != b][:1]
    return min(found, default=None)


def _arms(pair: Pair, patterns: list[str] | None) -> list[Arm]:
    catalogue = load_catalogues().get(pair.name)
    known = catalogue.faults if catalogue is not None else {}
    names = [name for pattern in (patterns or FAULTS) for name in select_names(pattern, known, "fault")]
    return [
        Arm("reference", "reference", "reference", 0),
        Arm("reference again", "control", "reference", 1000),
        Arm("candidate", "candidate", "candidate", 2000),
        *(Arm(name, "fault", "candidate", 2000, known[name]) for name in dict.fromkeys(names)),
    ]


def _run(pair: Pair, arm: Arm, settings: dict[str, Any], folder: Path, status: Status) -> dict[str, Any]:
    """One finished run: from its file, or trained now."""
    seed = settings["seed"]
    path = folder / "runs" / f"{arm.name.replace(' ', '-')}-{seed}.json"
    if path.exists():
        record = read_json(path, _WHAT)
        require(record, _RUN, path, _WHAT)
        if (record["arm"], record["settings"]) != (arm.name, json.loads(json.dumps(settings))):
            raise Misuse(f"{path} is a run of other settings; give another --folder, or remove it")
        return record
    rewards: list[float] = []
    losses: list[float] = []

    def tell(metrics: Mapping[str, Any]) -> None:
        rewards.append(metrics["reward"])
        losses.append(metrics["loss_total"])
        if len(rewards) % 10 == 0:
            status.show(f"{arm.name}, seed {seed}: update {len(rewards)}/{settings['total_updates']}")

    started = time.perf_counter()
    crash = None
    with planted(arm.fault.plant if arm.fault else lambda patcher: None) as patcher:
        planted_pair = dataclasses.replace(pair, fault_hooks=tuple(patcher.hooks))
        try:
            train_side(planted_pair, arm.side, ENVIRONMENT, settings, tell)
        except Exception as error:
            if arm.fault is None:
                raise
            crash = f"{type(error).__name__} in update {len(rewards) + 1}: {error}"
    seconds = time.perf_counter() - started
    record = dict(zip(_RUN, (arm.name, seed, settings, rewards, losses, seconds, crash), strict=True))
    write_json(path, record)
    return record
