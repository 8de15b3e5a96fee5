"""The collapse watch on trainings that are made up: what it concludes, what it repeats, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

import parity.cli.collapse as module
from parity.cli import main
from parity.faults.plant import Patcher
from parity.faults.registry import Catalogue
from parity.pairs import registry
from parity.pairs.recipe import Pair


class Training:
    """Rewards are returns; the settings are as few as the command reads."""

    def defaults(self) -> dict[str, Any]:
        return {"seed": 0, "total_updates": 1, "batch_size": 100, "num_agents": 4, "checkpoint_interval": 10}

    def world(self, name: str, *, agents: int) -> None:
        assert (name, agents) == ("token_grid", 4)

    def normalised_return(self, world: None, reward: float) -> float:
        return reward


class Trainings:
    """Stands in for ``train_side``: each arm reaches ``levels`` of its name, give or take some noise by seed."""

    def __init__(self) -> None:
        self.levels: dict[str, float | None] = {"reference": 0.6, "candidate": 0.6}
        self.planted = ""
        self.calls: list[tuple[str, int]] = []

    def __call__(self, pair: Pair, side: str, environment: str, settings: dict[str, Any], tell: Any) -> None:
        arm = self.planted or side
        self.calls.append((arm, settings["seed"]))
        level = self.levels.get(arm, self.levels[side])
        if level is None:
            raise ZeroDivisionError("it broke\nin two")
        noise = settings["seed"] % 10 * 0.01
        for update in range(1, settings["total_updates"] + 1):
            tell({"reward": level * update / settings["total_updates"] + noise, "loss_total": level + noise})


@pytest.fixture
def trainings(monkeypatch, tmp_path) -> Trainings:
    """A pair named ``fast`` with four faults, in an empty folder."""
    found = Trainings()
    catalogue = Catalogue("fast")

    def declare(name: str) -> None:
        def plant(patcher: Patcher) -> None:
            """Something else."""
            patcher.attribute(found, "planted", name)

        plant.__name__ = name
        catalogue.fault(origin="a document", check="forward", component="fc1", phase="forward")(plant)

    for name in ("bad", "late", "crashing", "harmless"):
        declare(name)
    found.levels |= {"bad": 0.1, "late": 0.65, "crashing": None}
    pair = Pair("fast", None, None, None, (), None, training=Training())  # type: ignore[arg-type]
    monkeypatch.setattr(registry, "entry_points", lambda group: ())
    monkeypatch.setattr(registry, "_by_hand", {"fast": pair, "dull": SimpleNamespace(name="dull", training=None)})
    monkeypatch.setattr(module, "load_catalogues", lambda: {"fast": catalogue})
    monkeypatch.setattr(module, "FAULTS", ("bad", "late", "crashing", "harmless"))
    monkeypatch.setattr(module, "train_side", found)
    monkeypatch.chdir(tmp_path)
    return found


def watch(*options: str) -> tuple[int, dict[str, Any]]:
    code = main(["collapse", "--seeds", "3", "--steps", "850", "--folder", "watch", *options])
    return code, json.loads(Path("watch/collapse.json").read_text())


def arms(content: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {arm["name"]: arm for arm in content["arms"]}


def test_a_candidate_that_learns_alike_passes(trainings, capsys):
    code, content = watch()
    assert (code, content["verdict"]) == (0, "passed")
    assert (content["updates"], content["agent_steps"], content["bound"]) == (8, 800, 0.2)
    found = arms(content)
    assert found["reference"]["seeds"] == [0, 1, 2]
    assert found["reference again"]["seeds"] == [1000, 1001, 1002]
    assert found["candidate"]["seeds"] == found["bad"]["seeds"] == [2000, 2001, 2002]
    # the last quarter of eight updates are two: 7/8 and 8/8 of the level, plus the seed's noise
    assert found["candidate"]["returns"] == pytest.approx([0.5625, 0.5725, 0.5825])
    assert [found[name].get("outcome") for name in ("bad", "late", "crashing", "harmless")] == [
        "different",
        "equivalent",
        None,
        "equivalent",
    ]
    assert [found[name]["first_change"] for name in ("bad", "late", "harmless")] == [1, 1, None]
    assert found["crashing"]["crash"] == "ZeroDivisionError in update 1: it broke\nin two"
    out = capsys.readouterr().out
    assert "crashes: ZeroDivisionError in update 1: it broke" in out
    assert "equivalent: no number differs from the clean candidate's" in out
    assert "equivalent: numbers differ from update 1 on" in out
    assert "passed: the candidate learns like the reference; separate: bad" in out


def test_the_page_and_the_picture_show_every_arm(trainings):
    watch()
    page = Path("watch/collapse.md").read_text()
    assert page.startswith("## Collapse watch: passed\n")
    assert all(f"| {name} |" in page for name in ("reference", "reference again", "candidate", "bad", "crashing"))
    picture = Path("watch/collapse.svg").read_text()
    lines = ElementTree.fromstring(picture).findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2 * 6  # the mean and the reference's, for all that ran to the end
    assert {len(line.attrib["points"].split()) for line in lines} == {8}
    assert "prefers-color-scheme: dark" in picture
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("level", [0.1, 1.0])
def test_a_candidate_that_learns_otherwise_fails(trainings, level):
    trainings.levels["candidate"] = level
    trainings.levels["harmless"] = 0.6
    code, content = watch()
    assert (code, content["verdict"]) == (1, "collapsed")


@pytest.mark.parametrize(
    ("levels", "reason"),
    [({"bad": 0.6}, "no fault separates"), ({"reference": 0.0, "candidate": 0.0, "bad": 0.0}, "no fault separates")],
)
def test_a_watch_that_sees_no_fault_proves_nothing(trainings, levels, reason):
    trainings.levels |= {"late": 0.6} | levels
    if not levels["bad"]:
        trainings.levels["late"] = 0.0
    code, content = watch()
    assert (code, content["verdict"]) == (2, "proves nothing")
    assert reason in content["reason"]


def test_a_reference_that_differs_from_itself_proves_nothing(trainings, monkeypatch):
    def unsteady(pair: Pair, side: str, environment: str, settings: dict[str, Any], tell: Any) -> None:
        trainings.levels["reference"] = 0.2 if settings["seed"] >= 1000 else 0.6
        trainings(pair, side, environment, settings, tell)

    monkeypatch.setattr(module, "train_side", unsteady)
    code, content = watch()
    assert (code, content["verdict"]) == (2, "proves nothing")
    assert "not equivalent to itself" in content["reason"]


def test_finished_runs_are_not_repeated(trainings):
    _, first = watch("--fault", "bad")
    assert len(trainings.calls) == 4 * 3
    trainings.calls.clear()
    Path("watch/runs/candidate-2001.json").unlink()
    _, second = watch("--fault", "bad")
    assert trainings.calls == [("candidate", 2001)]
    assert [arm["curves"] for arm in second["arms"]] == [arm["curves"] for arm in first["arms"]]
    trainings.calls.clear()
    watch("--fault", "bad", "--fault", "late", "--seeds", "4")
    assert len(trainings.calls) == 4 + 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "900", "--folder", "watch"], "is a run of other settings; give another --folder"),
        (["--folder", "other"], "other/runs/reference-0.json is not a finished run of the collapse watch"),
        (["--fault", "bda"], "no fault matches 'bda'; did you mean 'bad'?"),
        (["fats"], "no pair matches 'fats'; did you mean 'fast'?"),
        (["dull"], "pair 'dull' offers no training"),
    ],
)
def test_misuse_exits_2(trainings, capsys, arguments, message):
    watch()
    Path("other/runs").mkdir(parents=True)
    Path("other/runs/reference-0.json").write_text('{"arm": "reference"}')
    capsys.readouterr()
    assert main(["collapse", "--seeds", "2", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_clean_arm_that_crashes_ends_the_watch(trainings, capsys):
    trainings.levels["candidate"] = None
    assert main(["collapse", "--seeds", "2", "--folder", "watch"]) == 2
    assert "ZeroDivisionError: it broke" in capsys.readouterr().err
    assert not Path("watch/collapse.json").exists()
