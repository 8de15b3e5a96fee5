"""Third parties' repositories, used through the public interface alone: clean ones pass, planted bugs are named."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from parity.checks.catalogue import CHECKS
from parity.cli import main
from parity.pairs import registry

pytestmark = pytest.mark.usefixtures("nothing_declared")

PROJECTS = Path(__file__).with_name("projects")
#: Checks that take seconds whatever they judge; pytest inside pytest forgets what torch imports to compile, besides.
QUICK = ("-k", "not compile and not throughput")


@dataclasses.dataclass(frozen=True)
class Bug:
    """A change of a project's source, and where it must be found first."""

    project: str
    before: str
    after: str
    check: str
    component: str
    phase: str
    at: str = "output"


BUGS = [
    Bug("tensordict_mlp", "nn.Linear(32, 32), nn.ReLU())", "nn.Linear(32, 32))", "forward", "pi", "forward", "input"),
    Bug("lstm", "h, c = self.carry", "c, h = self.carry", "forward", "actor", "forward", "input"),
    Bug("images", " - (push.exp() * push).sum(-1)", "", "forward", "entropy", "forward"),
    Bug("attention", "attention(q, k, v)", "attention(q, k, v, scale=1.0)", "forward", "attention", "forward"),
]
NAMES = [bug.project for bug in BUGS]


def write(folder: Path, name: str, bug: Bug | None = None, prefix: str = "test_") -> Path:
    """Put a project's file there, with its bug if given."""
    text = (PROJECTS / f"{name}.py").read_text(encoding="utf-8")
    if bug is not None:
        assert text.count(bug.before) == 1
        text = text.replace(bug.before, bug.after).replace(f'"{name}",\n', f'"{name}_buggy",\n')
    path = folder / f"{prefix}{name}{'_buggy' if bug else ''}.py"
    path.write_text(text, encoding="utf-8")
    return path


def results(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "reports/parity.json").read_text())["results"]


def run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    given = ("-p", "no:cacheprovider", "-p", "no:importnb", "--parity-report=reports", *arguments)
    return pytester.runpytest_inprocess(*given)


@pytest.mark.parametrize("name", NAMES)
def test_a_clean_project_is_green_in_every_check_it_declares(pytester: pytest.Pytester, name: str) -> None:
    write(pytester.path, name)
    done = run(pytester, *QUICK)
    assert done.ret == 0
    found = {result["check"]: result["verdict"] for result in results(pytester.path)}
    judged = {check for check, verdict in found.items() if verdict != "not_applicable"}
    always = {"construction", "initialization", "forward", "gradients", "optimizer", "checkpoint"}
    more = {"lstm": {"memory"}, "images": set()}
    assert judged == always | more.get(name, {"metamorphic"})
    assert len(found) == len(CHECKS) - 2  # the others are listed, not left out


@pytest.mark.parametrize("bug", BUGS, ids=NAMES)
def test_a_bug_is_named_pinned_on_its_component_and_replayed(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str], bug: Bug
) -> None:
    path = write(pytester.path, bug.project, bug)
    assert run(pytester, *QUICK, "--parity-checks=[cf]*").ret == 1
    failed = [result for result in results(pytester.path) if result["verdict"] == "divergent"]
    assert failed[0]["check"] == bug.check
    divergence = failed[0]["divergence"]
    assert (divergence["component"], divergence["phase"], divergence["at"]) == (bug.component, bug.phase, bug.at)
    command = shlex.split(failed[0]["reproduce"])
    assert command[:3] == ["python", "-m", "parity"]
    assert command[command.index("--import") + 1] == path.name
    capsys.readouterr()
    assert main(command[3:]) == 1
    assert f"first divergence  {'input of ' if bug.at == 'input' else ''}{bug.component}" in capsys.readouterr().out


def test_two_workers_come_to_the_same_verdicts(pytester: pytest.Pytester) -> None:
    for bug in BUGS[1:3]:
        write(pytester.path, bug.project)
        write(pytester.path, bug.project, bug)
    done = pytester.runpytest_subprocess(
        *("-p", "no:cacheprovider", "-p", "no:importnb", "-n2", "--parity-report=reports", "--parity-checks=forward"),
        timeout=120,
    )
    assert done.ret == 1
    found = results(pytester.path)
    assert len(found) == 2 * 2 * 2  # two dtypes, clean and buggy
    for result in found:
        assert (result["verdict"] == "divergent") == result["pair"].endswith("_buggy"), result


CONFTEST = """
import parity
import mlp

parity.register(mlp.pair)
"""


def test_pairs_that_a_conftest_registers_are_named_in_tests_and_on_the_command_line(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = write(pytester.path, "tensordict_mlp", prefix="")
    module.rename(module.with_name("mlp.py"))
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_mine="import parity\nglobals().update(parity.tests_of('tensordict*'))")
    done = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:importnb", "-k", "construction and mlp-cpu")
    assert done.parseoutcomes()["passed"] == 1
    done.stdout.fnmatch_lines(["planned 1, ran 1: 1 identical"])
    monkeypatch.setattr(registry, "_by_hand", {})  # as in a process of its own
    given = ["--import", "conftest.py", "--import", "conftest.py"]
    assert main(["run", "tensordict_mlp", *given, "--check", "construction"]) == 0
    assert "planned 1, ran 1: 1 identical" in capsys.readouterr().out
