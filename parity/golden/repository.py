"""The git repository that a side's code comes from, and another revision of it laid out in a folder of its own."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import torch

import parity
from parity.compare.verdict import Misuse
from parity.pairs.builds import Builds
from parity.pairs.recipe import Pair
from parity.pairs.registry import module_of

#: Where the harness itself is; in a repository that holds it, what it judges lies among it.
HARNESS = Path(parity.__file__).resolve().parent
#: Parts of that package that are judged, and come from another revision along with its fixtures.
JUDGED = ("agents", "builtin", "environments", "resources", "training")

_GIT_SECONDS = 120


def code_of(pair: Pair, side: str) -> list[Path]:
    """Files that the code of one side stands in: its classes', outermost first, its builder's, and what registered it.

    Libraries and the harness come last.

    Raises:
        Misuse: the side cannot be built.
    """
    builder = getattr(pair, side)
    try:
        policy = Builds(pair).build(side, pair.recipe).policy
    except Misuse:
        raise
    except Exception as error:  # whatever foreign code raises
        raise Misuse(
            f"the {side} of pair {pair.name!r} cannot be built: {type(error).__name__}: {error}; see what "
            f"`python -m parity run {pair.name}` says"
        ) from error
    names = [kind.__module__ for module in policy.modules() for kind in type(module).__mro__]
    names += [getattr(builder, "__module__", "") or "", module_of(pair), pair.source]
    files = [file for name in dict.fromkeys(names) if (file := _file_of(sys.modules.get(name))) is not None]
    if pair.source.endswith(".py"):
        files.append(Path(pair.source).resolve())
    return sorted(dict.fromkeys(files), key=lambda file: (foreign(file), _of_harness(file)))


def repository_of(pair: Pair, side: str) -> Path:
    """The root of the git repository that a side's code comes from.

    Raises:
        Misuse: none of its files is in one; the message names the first.
    """
    files = [file for file in code_of(pair, side) if not foreign(file)]
    files = [file for file in files if not _of_harness(file)] or files  # of ours only where there is no other
    for file in files:
        root = root_of(file.parent)
        if root is not None and _tracked(root, file):
            return root
    shown = f"; its code is in {files[0]}" if files else ""
    raise Misuse(
        f"the {side} of pair {pair.name!r} comes from no git repository{shown}; name the repository with "
        "--repository DIR, or record the old code where it is and judge with --against FILE"
    )


def root_of(folder: Path) -> Path | None:
    """The root of the git work tree that a folder is in, None when it is in none or there is no git."""
    try:
        return Path(git(folder, "rev-parse", "--show-toplevel").strip()).resolve()
    except Misuse:
        return None


def revision_of(root: Path) -> str:
    """The commit that is checked out, short, and whether something is changed."""
    try:
        commit = git(root, "rev-parse", "--short", "HEAD").strip()
        changed = bool(git(root, "status", "--porcelain").strip())
    except Misuse:  # a repository without a commit
        return ""
    return f"{commit} with uncommitted changes" if changed else commit


def commit_of(root: Path, revision: str) -> str:
    """The full name of a revision's commit.

    Raises:
        Misuse: there is none of that name.
    """
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}").strip()
    except Misuse as error:
        raise Misuse(
            f"{root} has no revision {revision!r}; give a commit, a tag or a branch (`git log` lists them; a shallow "
            "clone lacks old ones: `git fetch --unshallow`)"
        ) from error


@contextmanager
def laid_out(root: Path, commit: str) -> Iterator[Path]:
    """The tree of a commit in a temporary folder, removed at the end whatever happens.

    Neither the work tree nor the index nor the list of work trees is touched.
    """
    with tempfile.TemporaryDirectory(prefix="parity-revision-") as folder:
        tree, index = Path(folder, "tree"), {"GIT_INDEX_FILE": str(Path(folder, "index"))}
        tree.mkdir()
        git(root, "read-tree", commit, extra=index)
        git(root, "checkout-index", "--all", "--force", f"--prefix={tree}{os.sep}", extra=index)
        yield tree


def git(folder: Path, *arguments: str, extra: dict[str, str] | None = None) -> str:
    """What a git command prints.

    Raises:
        Misuse: it fails, or there is no git.
    """
    # a hook's own GIT_DIR would send us to another repository
    rest = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            env={**rest, "LC_ALL": "C", **(extra or {})},
        )
    except FileNotFoundError as error:
        raise Misuse("git is not installed, or not on PATH; it is needed to look at another revision") from error
    except subprocess.TimeoutExpired as error:
        raise Misuse(f"`git {arguments[0]}` did not end within {_GIT_SECONDS} s in {folder}") from error
    if done.returncode:
        raise Misuse(f"`git {' '.join(arguments)}` failed in {folder}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _file_of(module: ModuleType | None) -> Path | None:
    try:
        return Path(inspect.getfile(module)).resolve() if module is not None else None
    except TypeError:  # built in
        return None


def _tracked(root: Path, file: Path) -> bool:
    """True unless git ignores the file, as it does an environment inside the repository."""
    try:
        git(root, "check-ignore", "--quiet", str(file))
    except Misuse:
        return True
    return False


def _of_harness(file: Path) -> bool:
    return file.is_relative_to(HARNESS)


def foreign(file: Path) -> bool:
    """True for the standard library, and for packages that are installed, be it in an environment in the repository."""
    libraries = (Path(torch.__file__).parent, Path(os.__file__).parent)
    return "site-packages" in file.parts or any(file.is_relative_to(folder) for folder in libraries)
