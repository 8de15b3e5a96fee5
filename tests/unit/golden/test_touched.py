"""Which pairs a change touches: through imports of every form, files they read, and the harness."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import nn

from parity.agents.interface import AgentConfig, EnvironmentDescription, Feature
from parity.compare.verdict import Misuse
from parity.golden import touched as subject
from parity.golden.repository import HARNESS, code_of, repository_of
from parity.golden.touched import Change, change_since, imported, touched
from parity.pairs.recipe import Pair, Recipe

ENVIRONMENT = EnvironmentDescription(3, 3, 4, ("noop",), (0,), {"a": Feature(0)})


def pair_of(name: str, source: Path | None = None, build: Any = None) -> Pair:
    """A pair whose recipe was read from a file; nothing of it is ever generated or judged."""
    recipe = Recipe(AgentConfig(components={}, source=str(source or "")), ENVIRONMENT)
    return Pair(name, recipe, reference=build, candidate=build, components=(), generate=None)  # type: ignore[arg-type]


FILES = {
    "agent/__init__.py": "",
    "agent/net.py": "from . import layers\n",
    "agent/layers.py": "def make():\n    from agent.deep.gates import Gate\n",
    "agent/deep/__init__.py": "import agent.defaults as defaults\n",
    "agent/deep/gates.py": "class Gate: ...\n",
    "agent/defaults.py": "",
    "agent/other.py": "from .layers import make\n",
    "scripts/run.py": "import agent.other\n",
    "space/plain.py": "from space.beside import x\n",
    "space/beside.py": "x = 1\n",
}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path.resolve()
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "-q", "-b", "main")
    commit(root)
    return root


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def commit(root: Path) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x", "--allow-empty")
    return git(root, "rev-parse", "HEAD").strip()


def names(root: Path, files: Any) -> set[str]:
    return {str(file.relative_to(root)) for file in files}


def test_imports_are_followed_through_packages_functions_and_relative_forms(repository: Path):
    assert names(repository, imported([repository / "agent/net.py"], repository)) == {
        "agent/net.py",
        "agent/__init__.py",
        "agent/layers.py",
        "agent/deep/__init__.py",
        "agent/deep/gates.py",
        "agent/defaults.py",
    }
    assert names(repository, imported([repository / "space/plain.py"], repository)) == {
        "space/plain.py",
        "space/beside.py",
    }


def test_a_change_is_committed_staged_unstaged_untracked_or_a_removal(repository: Path):
    base = git(repository, "rev-parse", "HEAD").strip()
    git(repository, "checkout", "-q", "-b", "work")
    (repository / "agent/net.py").write_text("# committed\n")
    commit(repository)
    (repository / "agent/layers.py").write_text("# staged\n")
    git(repository, "add", "-A")
    (repository / "agent/other.py").write_text("# not staged\n")
    (repository / "agent/new file.py").write_text("# untracked\n")
    (repository / "space/beside.py").unlink()
    (repository / ".gitignore").write_text("ignored.py\n")
    (repository / "ignored.py").write_text("")
    change = change_since(repository)  # since the work left main
    assert names(repository, change.files) == {
        ".gitignore",
        "agent/net.py",
        "agent/layers.py",
        "agent/other.py",
        "agent/new file.py",
        "space/beside.py",
    }
    assert change.base.startswith(base[:9])
    assert "agent/net.py" not in names(repository, change_since(repository, "HEAD").files)
    with pytest.raises(Misuse, match="has no revision 'nowhere'"):
        change_since(repository, "nowhere")


@pytest.fixture
def pairs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    """Two pairs, one of ``agent/net.py`` and one of ``space/plain.py``, whose YAMLs are beside them."""
    found = []
    for name in ("net", "plain"):
        (repository / f"{name}.yaml").write_text("")
        found.append(pair_of(name, repository / f"{name}.yaml"))
    files = {"net": repository / "agent/net.py", "plain": repository / "space/plain.py"}
    monkeypatch.setattr(subject, "code_of", lambda pair, side: [files[pair.name]])
    commit(repository)
    return found


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("agent/net.py", {"net"}),
        ("agent/deep/gates.py", {"net"}),
        ("agent/__init__.py", {"net"}),
        ("space/beside.py", {"plain"}),
        ("agent/other.py", set()),
        ("scripts/run.py", set()),
        ("net.yaml", {"net"}),
        ("data/table.json", {"net", "plain"}),
        ("requirements.txt", {"net", "plain"}),
        ("docs/guide.md", set()),
        (".github/workflows/test.yml", set()),
        ("agent/removed.py", {"net", "plain"}),
    ],
)
def test_a_changed_file_touches_the_pairs_that_import_or_may_read_it(
    repository: Path, pairs: list[Pair], file: str, expected: set[str]
):
    if not (repository / file).exists() and "removed" not in file:
        (repository / file).parent.mkdir(parents=True, exist_ok=True)
        (repository / file).write_text("")
    found = touched(pairs, Change(repository, "base", frozenset([repository / file])))
    assert set(found) == expected
    assert set(found.values()) <= {file}


def test_the_harness_touches_every_pair_and_what_it_judges_only_those_that_import_it(pairs: list[Pair]):
    root = HARNESS.parent
    for file, expected in (("compare/judge.py", 2), ("agents/pytorch/fast.py", 0), ("builtin/fast.py", 0)):
        assert len(touched(pairs, Change(root, "base", frozenset([HARNESS / file])))) == expected


def test_a_pair_that_cannot_be_built_counts_as_touched(
    repository: Path, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
):
    def refuse(pair: Pair, side: str) -> list[Path]:
        raise Misuse("cannot be built")

    monkeypatch.setattr(subject, "code_of", refuse)
    assert touched(pairs, Change(repository, "base", frozenset())) == dict.fromkeys(("net", "plain"), "cannot be built")


def test_a_policy_leads_to_the_files_of_its_classes(repository: Path, monkeypatch: pytest.MonkeyPatch):
    """The builder may stand anywhere: what it builds tells where the code is."""
    module = ModuleType("their_net")
    module.__file__ = str(repository / "agent/net.py")
    monkeypatch.setitem(sys.modules, "their_net", module)
    theirs = type("Theirs", (nn.Linear,), {"__module__": "their_net"})
    pair = pair_of("theirs", build=lambda recipe: nn.Sequential(theirs(2, 2)))
    assert code_of(pair, "candidate")[0] == repository / "agent/net.py"
    assert repository_of(pair, "candidate") == repository
