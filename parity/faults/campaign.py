"""A campaign: named faults against every check and against today's means, mutants until their first kill."""

from __future__ import annotations

import dataclasses
import gc
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterable
from multiprocessing.util import Finalize
from pathlib import Path
from typing import Any

import torch

from parity.checks.case import BOTH
from parity.checks.catalogue import checks_of
from parity.compare.verdict import Verdict
from parity.conditions import judging
from parity.faults.children import ChildDied, ChildTimeout, in_child
from parity.faults.mutation.fates import ALONE, LEFT_OUT, fate, smaller
from parity.faults.mutation.mutants import Mutant, mutants_of
from parity.faults.plant import planted
from parity.faults.registry import Catalogue, Fault, Plant, load_catalogues
from parity.faults.rivals import RIVALS, sees
from parity.pairs.builds import Builds
from parity.pairs.importing import import_pairs
from parity.pairs.recipe import Pair
from parity.pairs.registry import registered_pairs
from parity.results import Cell
from parity.runner import Session, run_cell

#: Examples of each check but the declared one, which draws its own number: a matrix has thousands of cells.
EXAMPLES = 1
#: Of clean pairs one more: hypothesis begins with the simplest example, whatever the seed.
ALARM_EXAMPLES = 2
SECONDS = 300.0
#: Seeds of clean pairs that nobody may take for wrong; `make false-alarms` is the long run, in both dtypes.
CLEAN_SEEDS = 1
#: Where files are kept in memory, if there is room: checkpoints wait for the disk, thousands of times.
_IN_MEMORY, _ROOM = Path("/dev/shm"), 2 << 30
#: Mutants of one campaign: what fits into twenty minutes beside the named faults.
MUTANTS = 515

Task = tuple[str, str, str]
"""``fault``, ``mutant``, ``original``, ``control`` or ``clean``; the pair; the name (of a clean pair, the seed)."""


def tasks(pairs: Iterable[str], *, kinds: Iterable[str], every: bool = False, seed: int = 0) -> list[Task]:
    """All tasks for some pairs, in a fixed order that mixes short and long ones.

    Args:
        pairs: their names.
        kinds: which kinds.
        every: all mutants, not ``MUTANTS`` of those that stand for their function and rule.
        seed: decides which these are.
    """
    catalogues = load_catalogues()
    found: list[Task] = []
    for pair in pairs:
        catalogue = catalogues.get(pair)
        if catalogue is None:
            continue
        names = {
            "fault": list(catalogue.faults),
            "control": list(catalogue.controls),
            "clean": [str(number) for number in range(CLEAN_SEEDS)],
            "original": ["original"] if catalogue.sources else [],
            "mutant": [mutant.name for mutant in chosen(catalogue, every=every, seed=seed)],
        }
        found += [(kind, pair, name) for kind in kinds for name in names[kind]]
    random.Random(seed).shuffle(found)
    mutants = [task for task in found if task[0] == "mutant"]
    left = set() if every else set(mutants[MUTANTS:])
    return [task for task in found if task not in left]


def chosen(catalogue: Catalogue, *, every: bool = False, seed: int = 0) -> list[Mutant]:
    """The mutants of a catalogue's sources: one per function and rule, drawn by ``seed``, or every single one."""
    modules = dict.fromkeys(source.partition(":")[0] for source in catalogue.sources)
    mutants = [
        mutant
        for module in modules
        for mutant in mutants_of(module)
        if catalogue.source(module, mutant.function) is not None
    ]
    if every:
        return mutants
    groups: dict[tuple[str, str, str], list[Mutant]] = {}
    for mutant in mutants:
        groups.setdefault((mutant.module, mutant.function, mutant.rule), []).append(mutant)
    return [random.Random(f"{seed} {key}").choice(group) for key, group in groups.items()]


def perform(task: Task) -> dict[str, Any]:
    """Do one task; the answer holds ``kind``, ``pair``, ``name``, ``seconds`` and what was found."""
    kind, pair, name = task
    started = time.perf_counter()
    found = _PERFORMED[kind](registered_pairs()[pair], name)
    if "reason" in found:  # reports are read elsewhere: files by their place in the repository
        found["reason"] = found["reason"].replace(f"{Path.cwd()}{os.sep}", "")
    return {"kind": kind, "pair": pair, "name": name, **found, "seconds": time.perf_counter() - started}


def start_process(imports: Iterable[str] = ()) -> None:
    """Make a process ready to perform tasks, on pairs and faults that ``imports`` bring too."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > _ROOM:
        tempfile.tempdir = tempfile.mkdtemp(prefix="parity-", dir=_IN_MEMORY)
        # with what killed children left there
        Finalize(None, shutil.rmtree, args=(tempfile.tempdir,), kwargs={"ignore_errors": True}, exitpriority=1)
    for source in imports:
        import_pairs(source)
    registered_pairs()
    load_catalogues()
    gc.freeze()  # children collect garbage: walking over what was imported would copy its pages into each


def _fault(pair: Pair, name: str) -> dict[str, Any]:
    fault = load_catalogues()[pair.name].faults[name]
    about = {key: getattr(fault, key) for key in ("origin", "place", "check", "component", "phase")}
    try:
        return {**about, **in_child(lambda: _row(pair, fault), SECONDS)}
    except (ChildTimeout, ChildDied) as error:
        return {**about, "caught_by": [], "found": "", "pinned": False, "rivals": [], "reason": str(error)}


def _row(pair: Pair, fault: Fault) -> dict[str, Any]:
    """One row of the kill matrix; the declared check judges the pair as it is, the others one of smaller sizes."""
    caught: list[str] = []
    place, found = "", None
    with judging(profile="parity-ci"), planted(fault.plant) as patcher:
        faulty = dataclasses.replace(pair, fault_hooks=tuple(patcher.hooks))
        contracts_on = BOTH if fault.place == "reference" else ALONE
        session, small = Session(faulty), Session(smaller(faulty), contracts_on)
        for name, check in checks_of(pair).items():
            declared = name == fault.check
            if name in LEFT_OUT and not declared:
                continue
            cell = Cell(pair.name, name, "cpu", check.dtypes[0])
            result = run_cell(
                session if declared else small, cell, shrink=False, max_examples=None if declared else EXAMPLES
            )
            if not result.verdict.passed:
                caught.append(name)
            if declared and result.verdict is Verdict.DIVERGENT:
                found = result.divergence
                place = f"{found['component']} / {found['phase']}" if found else ""
        rivals = [name for name, rival in RIVALS.items() if sees(rival, session.builds, 0)]
    pinned = found is not None and (
        (found["component"], found["phase"], found["kind"] == "raised") == (fault.component, fault.phase, fault.raises)
    )
    return {"caught_by": caught, "found": place, "pinned": pinned, "rivals": rivals, "reason": ""}


def _mutant(pair: Pair, name: str) -> dict[str, Any]:
    module = name.partition(":")[0]
    mutant = next(mutant for mutant in mutants_of(module) if mutant.name == name)
    catalogue = load_catalogues()[pair.name]
    about = {key: getattr(mutant, key) for key in ("module", "function", "line", "rule", "before", "after")}
    why = catalogue.why_equivalent(mutant)
    if why:
        return {**about, "fate": "listed", "check": "", "place": "", "reason": "", "equivalent": why}
    checks = catalogue.sources[catalogue.source(module, mutant.function) or module]
    found = fate(mutant, pair, checks=checks or None)
    outcome = {"check": found.check, "place": found.place, "reason": found.reason}
    return {**about, "fate": found.kind, **outcome, "equivalent": ""}


def _original(pair: Pair, name: str) -> dict[str, Any]:
    """The pair itself, judged as its mutants are."""
    found = fate(None, pair)
    return {"fate": found.kind, "check": found.check, "place": found.place, "reason": found.reason}


def _control(pair: Pair, name: str) -> dict[str, Any]:
    control = load_catalogues()[pair.name].controls[name]
    return _alarms(pair, 0, EXAMPLES, control.plant)


def _clean(pair: Pair, seed: str) -> dict[str, Any]:
    return _alarms(pair, int(seed), ALARM_EXAMPLES, lambda patcher: None)


def _alarms(pair: Pair, seed: int, examples: int, plant: Plant) -> dict[str, Any]:
    """Who takes a pair that is right for wrong: our checks, on examples drawn from a seed, and today's means."""

    def run() -> dict[str, Any]:
        with judging(profile="parity-ci"), planted(plant) as patcher:
            harmless = dataclasses.replace(pair, fault_hooks=tuple(patcher.hooks))
            session, builds = Session(smaller(harmless)), Builds(harmless)
            caught = []
            for name, check in checks_of(pair).items():
                if name in LEFT_OUT:
                    continue
                cell = Cell(pair.name, name, "cpu", check.dtypes[0])
                result = run_cell(session, cell, shrink=False, max_examples=examples, seed=seed)
                if not result.verdict.passed:
                    caught.append(name)
            return {
                "caught_by": caught,
                "rivals": [name for name, rival in RIVALS.items() if sees(rival, builds, seed)],
            }

    return in_child(run, SECONDS)


_PERFORMED = {"fault": _fault, "mutant": _mutant, "original": _original, "control": _control, "clean": _clean}
