"""Recording a side as it was at another revision: in a process of its own, with this harness and that code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from parity.compare.verdict import Misuse
from parity.golden.repository import HARNESS, JUDGED, commit_of, laid_out
from parity.pairs.recipe import Pair

SECONDS = 600.0
#: What the process runs: the command line of this harness, on the code of another folder.
SCRIPT = HARNESS / "cli" / "other_code.py"


def record_revision(
    pair: Pair,
    side: str,
    root: Path,
    revision: str,
    path: Path,
    *,
    imports: Sequence[str] = (),
    options: Sequence[str] = (),
    seconds: float = SECONDS,
) -> str:
    """Record a side as another revision has it.

    Args:
        pair: today's pair.
        side: which side.
        root: the repository's root.
        revision: anything that git takes for a commit.
        path: where the recording goes.
        imports: modules or files to import first, as ``--import`` takes them.
        options: further arguments of ``record``.
        seconds: time limit of the recording.

    Returns:
        The commit, short.

    Raises:
        Misuse: there is no such revision, or its code cannot be recorded; the message says why.
    """
    commit = commit_of(root, revision)
    with laid_out(root, commit) as tree:
        command = ["record", pair.name, "--side", side, "--to", str(path.resolve()), "--origin", commit[:12], *options]
        for source in imports:
            command += ["--import", _moved(source, root, tree)]
        own = (tree / HARNESS.name / "agents").is_dir()  # the repository of the harness itself
        arguments = [str(HARNESS), str(tree), os.pathsep.join(_search_path(root)), ",".join(JUDGED) if own else ""]
        # -P: the script's own folder is no place to import from
        _run([sys.executable, "-P", str(SCRIPT), *arguments, *command], _folder(root, tree), revision, seconds)
    return commit[:12]


def _search_path(root: Path) -> list[str]:
    """Folders of the repository that modules are imported from today, relative to its root."""
    inside = [Path(entry or os.curdir).resolve() for entry in sys.path]
    found = [str(entry.relative_to(root)) for entry in inside if entry.is_relative_to(root) and entry.is_dir()]
    environment = [entry for entry in found if "site-packages" in Path(entry).parts]  # an environment in the repository
    return list(dict.fromkeys([*(entry for entry in found if entry not in environment), "."]))


def _folder(root: Path, tree: Path) -> Path:
    """Where a command of today's folder runs in the tree."""
    here = Path.cwd().resolve()
    there = tree / here.relative_to(root) if here.is_relative_to(root) else tree
    return there if there.is_dir() else tree


def _moved(source: str, root: Path, tree: Path) -> str:
    """A file of the repository as the tree has it; a module keeps its name."""
    if not source.endswith(".py"):
        return source
    file = Path(source).resolve()
    return str(tree / file.relative_to(root)) if file.is_relative_to(root) else str(file)


def _run(command: list[str], folder: Path, revision: str, seconds: float) -> None:
    with subprocess.Popen(
        command,
        cwd=folder,
        env={key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise Misuse(
                f"recording revision {revision!r} did not end within {seconds:g} s; give it more with --time-limit, or "
                "fewer --examples or checks"
            ) from error
        finally:  # also when we are interrupted; what it started itself goes with it
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        lines = [line for line in said.splitlines() if line.strip()]
        # progress and warnings come first; what the command has to say about its end is its own last words
        own = [line.removeprefix("parity: ") for line in lines if line.startswith("parity: ")]
        why = own[-1] if own else "\n".join(lines[-15:]) or f"exit status {process.returncode}"
        raise Misuse(
            f"the code of revision {revision!r} could not be recorded: {why}\nthat revision may not have the pair yet, "
            "or may need other packages or files that git does not keep; give a later one, or record it in an "
            "environment of its own and judge with --against FILE"
        )
