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


def test_the_shipped_suite_and_the_command_line_work_without_the_source_tree(python: Path, tmp_path: Path) -> None:
    chosen = ("--parity-pairs=fast", "--parity-checks=weight_metrics")
    options = ("-p", "no:importnb", "-p", "no:cacheprovider", "--parity-report=r")
    done = run(python, tmp_path, "pytest", "--pyargs", "parity.suite", "-m", "parity", *chosen, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads((tmp_path / "r/parity.json").read_text())["results"]
    assert (result["pair"], result["verdict"]) == ("fast", "equivalent")
    done = run(python, tmp_path, "parity", "run", "fast", "--check", "weight_metrics", "--examples", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "planned 1, ran 1: 1 equivalent" in done.stdout


def test_the_readmes_example_takes_a_third_party_to_a_verdict_in_fifteen_lines(python: Path, tmp_path: Path) -> None:
    section = README.partition("\n## Your own policies\n")[2].partition("\n## ")[0]
    match = re.search(r"```python\n(.*?)```", section, flags=re.S)
    assert match is not None
    assert len([line for line in match[1].splitlines() if line.strip()]) <= 15
    shutil.copy(AGENT, tmp_path)
    (tmp_path / "test_parity.py").write_text(match[1], encoding="utf-8")
    quick = ("-k", "not compile and not throughput")  # seconds whatever they judge
    done = run(python, tmp_path, "pytest", "-p", "no:importnb", "-p", "no:cacheprovider", *quick)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"planned \d+, ran \d+: 10 identical, 14 not_applicable", done.stdout), done.stdout
