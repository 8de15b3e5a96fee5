"""A stranger's repository, and this one: today's code against a recording and against another revision of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from guide import write_project

from parity.agents.metta_agent import AGENT_TYPES
from parity.cli import main
from parity.compare.verdict import Misuse, Verdict
from parity.golden.judge import Recording, judge_by
from parity.golden.repository import HARNESS, JUDGED, laid_out
from parity.golden.revision import record_revision
from parity.pairs import registry

ENCODE = "return self.look(self.flat(self.norm(self.box(tokens))))"
FAULT = "return self.look(self.flat(self.box(tokens)))"  # nothing is normalised any more
REFACTOR = "seen = self.norm(self.box(tokens))\n        return self.look(seen.flatten(1))"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The guide's project, in a git repository of its own, with a commit; git and temporary files stay inside."""
    root = (tmp_path / "repository").resolve()
    root.mkdir()
    write_project(root)
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(registry, "_by_hand", {})
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(root)
    git(root, "init", "-q", "-b", "main")
    commit(root)
    yield root
    sys.modules.pop("glance", None)
    AGENT_TYPES.pop("glance", None)


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "as it was")


def edit(root: Path, old: str, new: str) -> None:
    text = (root / "glance.py").read_text()
    assert old in text
    (root / "glance.py").write_text(text.replace(old, new))


@pytest.fixture
def parity(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run a command on the module as it stands in the work tree now; its exit code, and all that it said."""

    def run(*arguments: str) -> tuple[int, str]:
        sys.modules.pop("glance", None)
        registry._by_hand.clear()
        code = main([*arguments, "--import", "glance"])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


@pytest.mark.nightly  # by day test_golden_own_policies.py asks the same of a pair in a file
def test_a_fault_between_two_revisions_is_named_and_a_refactor_is_not(project: Path, parity, tmp_path: Path):
    golden = str(tmp_path / "golden.safetensors")
    code, said = parity("record", "glance", "--to", golden, "--check", "[fg]*", "--examples", "2")
    assert code == 0, said
    since = ("run", "glance", "--check", "forward", "--examples", "2", "--against-revision", "HEAD")

    edit(project, ENCODE, FAULT)  # not committed: that is what today's code means
    for arguments in (since, ("run", "glance", "--check", "forward", "--against", golden)):
        code, said = parity(*arguments)
        assert code == 1, said
        assert "DIVERGENT  glance / forward   cpu float64" in said
        assert "first divergence  input of flat   (component 'flat', candidate 'policy.flat')" in said
        assert "note: reference: the code before; candidate: today's" in said
        assert f"python -m parity run glance {' '.join(arguments[-2:])} --import glance --check forward" in said

    edit(project, FAULT, REFACTOR)
    commit(project)
    code, said = parity(*since[:-1], "HEAD~1")
    assert code == 0, said
    assert "planned 2, ran 2: 2 identical" in said
    assert parity("run", "glance", "--against", golden)[0] == 0
    assert git(project, "status", "--porcelain") == ""
    assert len(git(project, "worktree", "list").splitlines()) == 1
    assert os.listdir(tmp_path / "temporary") == []


@pytest.mark.nightly
def test_a_revision_that_cannot_be_recorded_is_named_with_the_reason(project: Path, parity, tmp_path: Path):
    edit(project, "class Glance(", "import no_such_package\n\n\nclass Glance(")
    commit(project)
    edit(project, "import no_such_package\n", "")
    code, said = parity("run", "glance", "--against-revision", "HEAD")
    assert code == 2
    assert "the code of revision 'HEAD' could not be recorded: --import glance: failed with ModuleNotFoundError" in said
    assert "no_such_package" in said
    assert "record it in an environment of its own and judge with --against FILE" in said
    assert os.listdir(tmp_path / "temporary") == []


def test_bad_revisions_and_places_are_refused_before_anything_runs(project: Path, parity, tmp_path: Path, monkeypatch):
    code, said = parity("run", "glance", "--against-revision", "nowhere")
    assert code == 2
    assert f"{project} has no revision 'nowhere'; give a commit, a tag or a branch" in said
    code, said = parity("run", "glance", "--against-revision", "HEAD", "--repository", str(tmp_path))
    assert code == 2
    assert "is in no git work tree; name the folder of a clone" in said
    shutil.rmtree(project / ".git")
    code, said = parity("run", "glance", "--against-revision", "HEAD")
    assert code == 2
    assert "the candidate of pair 'glance' comes from no git repository; its code is in" in said
    assert "--repository DIR" in said
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Misuse, match="git is not installed, or not on PATH"), laid_out(project, "HEAD"):
        pass


def test_a_recording_that_takes_too_long_is_ended_and_named(project: Path, monkeypatch, tmp_path: Path):
    monkeypatch.setattr("parity.golden.revision.SCRIPT", project / "sleep.py")
    (project / "sleep.py").write_text("import time\ntime.sleep(60)\n")
    pair = registry.registered_pairs()["fast"]
    with pytest.raises(Misuse, match=r"recording revision 'HEAD' did not end within 0.2 s; give it more with"):
        record_revision(pair, "candidate", project, "HEAD", tmp_path / "x", seconds=0.2)
    assert os.listdir(tmp_path / "temporary") == []


@pytest.mark.nightly
def test_in_the_repository_of_the_harness_itself_the_judged_code_is_the_revisions(project: Path, tmp_path: Path):
    """Another repository stands for this one: it holds the judged parts, an old bug, and no harness that could run."""
    (project / "parity").mkdir()
    for part in JUDGED:
        if (HARNESS / part).is_dir():
            shutil.copytree(HARNESS / part, project / "parity" / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(HARNESS / f"{part}.py", project / "parity")
    shutil.copytree(HARNESS.parent / "fixtures", project / "fixtures")
    (project / "parity/__init__.py").write_text("raise ImportError('the harness of that time')\n")
    old = project / "parity/agents/pytorch/fast.py"
    old.write_text(old.read_text().replace("self.encoded_obs(self.look", "self.encoded_obs[0](self.look"))
    commit(project)
    pair = registry.registered_pairs()["fast"]
    path = tmp_path / "old.safetensors"
    short = record_revision(pair, "candidate", project, "HEAD", path, options=("--check", "forward", "--examples", "1"))
    recording = Recording(path, pair)
    assert short in recording.describe()
    found = judge_by(recording, pair)[0]
    assert found.verdict is Verdict.DIVERGENT
    assert found.divergence is not None
    assert (found.divergence["component"], found.divergence["at"]) == ("_core_", "input")
