"""A few processes that do one thing together: they end in time, or they are ended."""

from __future__ import annotations

import datetime
import multiprocessing
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from parity.compare.verdict import Inconclusive

#: How long processes may take together. They take a second or two; one that waits for another's death takes for ever.
SECONDS = 120.0

Work = Callable[[int, Path], None]
"""What each process does, given its rank and the folder it shares with the others; torch's process group stands."""


class RankError(RuntimeError):
    """A process raised; the message says which, what and where."""


def start_method() -> str:
    """``fork``, so that what was changed in this process holds in its children, wherever torch allows it.

    With a GPU in sight torch's autograd starts threads, and no child could differentiate anything: there, and where
    forking is not safe, processes are spawned.
    """
    return "fork" if sys.platform == "linux" and not torch.cuda.is_available() else "spawn"


def run_ranks(work: Work, count: int, folder: Path, *, seconds: float = SECONDS, method: str | None = None) -> None:
    """Do ``work`` in so many processes, which form a gloo process group.

    Args:
        work: with ``spawn``, something that pickle knows by name, with arguments that it can pickle.
        count: ranks.
        folder: empty; files in it are how ranks find each other and leave their results.
        seconds: after so long they are killed.
        method: see ``start_method``.

    Raises:
        RankError: one of them raised.
        Inconclusive: they took too long, or one died without a word.
    """
    method = method or start_method()
    context: Any = multiprocessing.get_context(method)
    arguments = [(work, rank, count, folder, seconds, method) for rank in range(count)]
    processes = [context.Process(target=_be_rank, args=own, daemon=True) for own in arguments]
    deadline = time.monotonic() + seconds
    try:
        for process in processes:
            try:
                process.start()
            except Exception as error:  # what is to be spawned has to be pickled, and may be anybody's
                raise Inconclusive(f"no process could be started ({type(error).__name__}: {error})") from error
        wait_for_ranks(processes, folder, deadline, seconds)
    finally:
        for process in processes:
            if process.pid is not None:
                process.kill()
                process.join()


def wait_for_ranks(processes: list[BaseProcess], folder: Path, deadline: float, seconds: float) -> None:
    """Wait until all have ended well; see ``run_ranks``. A rank's error is told as raised here."""
    running = dict(enumerate(processes))
    while running:
        ended = wait([process.sentinel for process in running.values()], deadline - time.monotonic())
        if not ended:
            names = " and ".join(map(str, running))
            raise Inconclusive(
                f"rank {names} of {len(processes)} had not ended after {seconds:g} s and was killed: the ranks wait "
                "for each other, or the machine is overloaded; TORCH_DISTRIBUTED_DEBUG=DETAIL shows what each waits for"
            )
        for rank, process in list(running.items()):
            if process.sentinel not in ended:
                continue
            del running[rank]
            process.join()
            if process.exitcode:
                raise _failure(rank, process.exitcode, folder)


def _failure(rank: int, code: int, folder: Path) -> Exception:
    # the first to fail brings the others down, and may be noticed after them
    notes = sorted(folder.glob("*.error"), key=lambda path: path.stat().st_mtime_ns)
    if notes:
        return RankError(notes[0].read_text(encoding="utf-8"))
    died = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    return Inconclusive(f"rank {rank} {died} and left no word; is there memory enough for one more process per rank?")


def _be_rank(work: Work, rank: int, count: int, folder: Path, seconds: float, method: str) -> None:
    """What a process does."""
    torch.set_num_threads(1)
    if method == "fork":
        # A forked process has none of its parent's worker threads, and OpenMP would wait for them for ever.
        torch.set_num_threads = lambda _number: None
    warnings.simplefilter("ignore")
    try:
        timeout = datetime.timedelta(seconds=seconds)
        meet = f"file://{folder.resolve() / 'meeting'}"
        distributed.init_process_group("gloo", init_method=meet, rank=rank, world_size=count, timeout=timeout)
        work(rank, folder)
        distributed.destroy_process_group()
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.name}, {frame.filename.rpartition(os.sep)[2]}, line {frame.lineno}"
        message = f"rank {rank} raises {type(error).__name__}: {error} ({place})"
        (folder / f"{rank}.error").write_text(message, encoding="utf-8")
        os._exit(1)  # not to wait for the others in any clean-up
