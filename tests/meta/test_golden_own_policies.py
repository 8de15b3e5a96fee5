"""Recordings of a stranger's policies, whose pair stands in a file: unchanged code passes, a later bug is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import parity.checks.registry
import parity.compare.watched
from parity.cli import main
from parity.pairs import registry

PROJECTS = Path(__file__).with_name("projects")

Run = Callable[..., tuple[int, str]]

OWN_CHECKS = """

@parity.check(name="trunk")
def trunk(policy, observation, record):
    record("features", policy.trunk(observation["observation"]))


@parity.check(name="nowhere", needs={"what_this_pair_does_not_declare"})
def nowhere(policy, observation, record):
    record("never", observation)
"""


@dataclass(frozen=True)
class Bug:
    """A change of a project's candidate, and how a recording of the code before names it first."""

    project: str
    before: str
    after: str
    check: str
    said: str


BUGS = [
    Bug("lstm", "h, c = self.carry", "c, h = self.carry", "forward", "input of gates   (component 'gates'"),
    Bug("lstm", "masked_fill(rows[:, None], 0.0)", "masked_fill(rows[:, None], 0.1)", "memory", "input of gates   ("),
    Bug("tensordict_mlp", "nn.Linear(32, 32), nn.ReLU())", "nn.Linear(32, 32))", "forward", "trunk   (component"),
    Bug("tensordict_mlp", "critic(features)}", "critic(features.detach())}", "gradients", "trunk   (component 'trunk'"),
    Bug("attention", "attention(q, k, v)", "attention(q, k, v, scale=1.0)", "forward", "attention   (component"),
]


@pytest.fixture
def run(nothing_declared: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on a project's file as it stands now; its exit code, and all that it said."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def command(name: str, file: str, *arguments: str) -> tuple[int, str]:
        sys.modules.pop(Path(file).stem, None)
        for declared in (registry._by_hand, parity.checks.registry._own, parity.compare.watched._watched):
            declared.clear()
        code = main([name, *arguments, "--import", file])
        said = capsys.readouterr()
        return code, said.out + said.err

    return command


def edit(file: str, before: str, after: str) -> None:
    text = Path(file).read_text(encoding="utf-8")
    assert text.count(before) == 1
    Path(file).write_text(text.replace(before, after), encoding="utf-8")


def written(project: str, more: str = "") -> str:
    text = (PROJECTS / f"{project}.py").read_text(encoding="utf-8")
    Path(f"my_{project}.py").write_text(text + more, encoding="utf-8")
    return f"my_{project}.py"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: f"{bug.project}-{bug.check}")
def test_unchanged_code_passes_and_a_later_bug_is_named(run: Run, bug: Bug):
    file = written(bug.project)
    code, said = run("record", file, bug.project, "--to", "before", "--examples", "6", "--check", bug.check)
    assert code == 0, said
    code, said = run("run", file, bug.project, "--against", "before")
    assert code == 0, said
    assert "planned 2, ran 2: 2 identical" in said
    edit(file, bug.before, bug.after)
    code, said = run("run", file, bug.project, "--against", "before")
    assert code == 1, said
    assert f"DIVERGENT  {bug.project} / {bug.check}   cpu float64" in said
    assert f"first divergence  {bug.said}" in said


def test_own_checks_are_recorded_where_the_pair_declares_what_they_need(run: Run):
    file = written("tensordict_mlp", OWN_CHECKS)
    code, said = run("record", file, "tensordict_mlp", "--to", "before", "--examples", "2")
    assert code == 0, said
    assert "8 cells (initialization, forward, gradients, trunk), " in said
    edit(file, "policy.trunk(observation", "2 * policy.trunk(observation")
    code, said = run("run", file, "tensordict_mlp", "--against", "before")
    assert code == 1, said
    assert "DIVERGENT  tensordict_mlp / trunk   cpu float64" in said
    assert "planned 8, ran 8: 6 identical, 2 divergent" in said
    edit(file, 'name="trunk"', 'name="torso"')
    code, said = run("run", file, "tensordict_mlp", "--against", "before", "--check", "trunk")
    assert code == 2, said
    assert "there is no check 'trunk' any more" in said


def test_a_component_that_was_only_inferred_may_change_its_name(run: Run):
    file = written("tensordict_mlp")
    assert run("record", file, "tensordict_mlp", "--to", "before", "--examples", "2", "--check", "forward")[0] == 0
    text = Path(file).read_text(encoding="utf-8")
    Path(file).write_text(text.replace("self.trunk", "self.body"), encoding="utf-8")
    code, said = run("run", file, "tensordict_mlp", "--against", "before")
    assert code == 1, said
    assert "was it renamed? then add --renamed trunk=body" in said
    since = ("tensordict_mlp", "--against", "before", "--renamed", "trunk=body")
    assert run("run", file, *since)[0] == 0
    edit(file, "nn.Linear(32, 32), nn.ReLU())", "nn.Linear(32, 32))")
    code, said = run("run", file, *since)
    assert code == 1, said
    assert "first divergence  trunk   (component 'trunk', candidate 'body')   input identical" in said


def test_code_that_raises_today_is_divergent_and_not_misuse(run: Run):
    file = written("lstm")
    assert run("record", file, "lstm", "--to", "before", "--examples", "1", "--check", "forward")[0] == 0
    edit(file, "h, c = self.carry.chunk(2, dim=-1)", "h, c = self.carry.chunk(3, dim=-1)")
    code, said = run("run", file, "lstm", "--against", "before")
    assert code == 1, said
    assert "raises ValueError: too many values to unpack" in said


def test_code_that_hangs_is_ended_while_it_is_recorded_and_while_it_is_judged(run: Run):
    file = written("tensordict_mlp")
    edit(file, "actions=4,", "actions=4, time_limit=2.0,")
    recording = ("tensordict_mlp", "--to", "before", "--examples", "1", "--check", "forward")
    assert run("record", file, *recording)[0] == 0
    edit(file, "features = self.trunk(", "__import__('time').sleep(60)\n        features = self.trunk(")
    for command in (("run", file, "tensordict_mlp", "--against", "before"), ("record", file, *recording)):
        code, said = run(*command)
        assert code == 2, said
        assert "it took longer than 2 s; it was in forward (my_tensordict_mlp.py" in said
        assert "give the pair a longer time_limit" in said


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('components={name: (name, name) for name in ("embed", "attention", "actor", "critic")},', "",
         "was recorded with components declared, and pair 'attention' infers them today; record again"),
        ("shape=(5,), dtype=torch.bool", "shape=(5,), low=0.0, high=1.0",
         "observations entities float32, 3 axes; seen bool, 2 axes and the pair describes entities float32, 3 axes; "
         "seen float32, 2 axes today"),
        ("globals()", '@parity.probe(pair="attention")\ndef scores(policy):\n    return policy.scores\n\n\nglobals()',
         "was recorded with probes: none; pair 'attention' has today: scores; record again"),
    ],
    ids=["components", "observations", "probes"],
)  # fmt: skip
def test_a_pair_that_is_described_otherwise_today_is_not_judged(run: Run, before: str, after: str, message: str):
    file = written("attention")
    assert run("record", file, "attention", "--to", "it", "--examples", "1", "--check", "forward")[0] == 0
    edit(file, before, after)
    code, said = run("run", file, "attention", "--against", "it")
    assert code == 2, said
    assert message in " ".join(said.split())


def git(*arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


@pytest.mark.slow
def test_of_two_revisions_a_fault_is_named_and_a_refactor_is_not(run: Run):
    file = written("lstm")
    git("init", "-q", "-b", "main")
    git("add", file)
    git("commit", "-q", "-m", "as it was")
    since = ("lstm", "--check", "forward", "--examples", "2", "--against-revision")
    edit(file, "h, c = self.carry", "c, h = self.carry")  # not committed: that is what today's code means
    code, said = run("run", file, *since, "HEAD")
    assert code == 1, said
    assert "first divergence  input of gates   (component 'gates', candidate 'gates')" in said
    assert f"python -m parity run lstm --against-revision HEAD --import {file} --check forward" in said

    edit(file, "c, h = self.carry.chunk(2, dim=-1)", "h, c = self.carry[:, :HIDDEN], self.carry[:, HIDDEN:]")
    git("commit", "-q", "-a", "-m", "a refactor")
    code, said = run("run", file, *since, "HEAD~1")
    assert code == 0, said
    assert "planned 2, ran 2: 2 identical" in said


def test_the_map_of_a_pair_in_a_file_is_held_against_the_one_it_is_judged_by(run: Run):
    code, said = run("map", written("lstm"), "lstm")
    assert code == 0, said
    assert "checked on other weights, given through the map: the sides agree" in said
    assert "the map that the pair is judged by says the same: 10 links" in said
    file = written("tensordict_mlp")
    edit(file, "actions=4,", 'actions=4, parameters={"fc1.bias": "trunk.2.bias", "fc2.bias": "trunk.0.bias"},')
    code, said = run("map", file, "tensordict_mlp")
    assert code == 1, said
    assert "the map that the pair is judged by says otherwise in 2 of 8 links:" in said
    assert 'judged by parity.ParameterLink("fc1.bias", "trunk.2.bias")' in said


def test_only_the_pair_whose_file_changed_is_judged(
    nothing_declared: Path, pytester: pytest.Pytester, stub_plugins: tuple[str, ...]
):
    for project in ("lstm", "tensordict_mlp"):
        text = (PROJECTS / f"{project}.py").read_text(encoding="utf-8")
        Path(f"test_{project}.py").write_text(text, encoding="utf-8")
    Path(".gitignore").write_text("reports\n.hypothesis\n__pycache__\n")
    git("init", "-q", "-b", "main")
    git("add", "-A")
    git("commit", "-q", "-m", "as it was")
    with Path("test_lstm.py").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    options = ("-p", "no:cacheprovider", "--parity-changed", "-k", "construction")
    result = pytester.runpytest_inprocess(*stub_plugins, *options)
    result.stdout.fnmatch_lines(
        ["left out: tensordict_mlp: nothing they import or read changed since *; judged: lstm (by test_lstm.py)"]
    )
    result.assert_outcomes(passed=1, skipped=1)  # skipped: on the other device
