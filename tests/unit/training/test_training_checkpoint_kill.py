from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from checkpoint_writer import trainer, write_for_ever

from parity.training.checkpoint import CheckpointManager

KILLS = 6
PATIENCE = 60.0


def wait_for_a_new_name(folder: Path, writer: BaseProcess) -> None:
    """Return as soon as a file appears: it is being written."""
    names, deadline = set(os.listdir(folder)), time.monotonic() + PATIENCE
    while set(os.listdir(folder)) <= names:
        assert writer.is_alive() and time.monotonic() < deadline


def test_killed_at_any_moment_of_writing_the_previous_checkpoint_loads(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["parity.training.checkpoint", "parity.agents.pytorch.fast"])
    manager, moments = CheckpointManager(tmp_path), random.Random(5)
    manager.save(trainer())
    done = 0
    for number in range(KILLS):
        writer = context.Process(target=write_for_ever, args=(tmp_path,), daemon=True)
        writer.start()
        wait_for_a_new_name(tmp_path, writer)
        if number % 2:
            time.sleep(moments.uniform(0.0, 0.3))
        writer.kill()
        writer.join(PATIENCE)
        assert writer.exitcode == -signal.SIGKILL

        resumed = trainer()
        path = manager.resume(resumed)
        assert path == manager.latest() == tmp_path / f"update_{resumed.updates:08d}.safetensors"
        assert resumed.updates >= done
        assert (resumed.policy.get_buffer("ballast") == resumed.updates).all()
        done = resumed.updates
