"""The built wheel, installed without its source tree: the shipped suite, the command line, and the README's example."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("parity", "fixtures", "pyproject.toml", "setup.py", "README.md", "LICENSE")
README = (ROOT / "README.md").read_text(encoding="utf-8")
AGENT = Path(__file__).with_name("projects") / "my_agent.py"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel, and of this environment everything else."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, target = ROOT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(folder / "source"),
    ]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("parity-*.whl")
    shutil.rmtree(folder / "source")
    venv.create(folder / "venv", with_pip=False)
    found = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(found), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    packages = next((folder / "venv").glob("lib/python*/site-packages"))
    # a plain path: pth files below it, such as that of the source tree's editable install, are not followed
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return found


def run(python: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_line_works_without_the_source_tree(python: Path, tmp_path: Path) -> None:
    done = run(python, tmp_path, "parity", "run", "fast", "--check", "weight_metrics", "--examples", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planned 1, ran 1: 1 equivalent" in done.stdout


def test_the_shipped_suite_and_the_readmes_example_of_at_most_fifteen_lines_work_without_the_source_tree(
    python: Path, tmp_path: Path
) -> None:
    section = README.partition("\n## Your own policies\n")[2].partition("\n## ")[0]
    match = re.search(r"```python\n(.*?)```", section, flags=re.S)
    assert match is not None
    assert len([line for line in match[1].splitlines() if line.strip()]) <= 15
    shutil.copy(AGENT, tmp_path)
    (tmp_path / "test_parity.py").write_text(match[1], encoding="utf-8")
    quick = "fast-cpu and weight_metrics or my_agent and not compile and not throughput"  # those take seconds
    options = ("-p", "no:importnb", "-p", "no:cacheprovider", "--parity-report=r", "-k", quick)
    done = run(python, tmp_path, "pytest", "test_parity.py", "--pyargs", "parity.suite", "-m", "parity", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "r/parity.json").read_text())["results"]
    verdicts = [(result["pair"], result["verdict"]) for result in results]
    assert ("fast", "equivalent") in verdicts
    assert verdicts.count(("my_agent", "identical")) == 10
    assert {verdict for _, verdict in verdicts} == {"identical", "equivalent", "not_applicable"}
