"""A run that does nothing but write checkpoints until it is killed."""

from __future__ import annotations

from pathlib import Path

import torch
from training_samples import Counting, agent, config

from parity.training.checkpoint import CheckpointManager
from parity.training.trainer import Trainer

#: Makes the file so large that writing takes a while.
BALLAST = 5_000_000


def trainer() -> Trainer:
    policy = agent("candidate")
    policy.register_buffer("ballast", torch.zeros(BALLAST))
    return Trainer(policy, Counting(4), config())


def write_for_ever(folder: Path) -> None:
    torch.set_num_threads(1)
    run, manager = trainer(), CheckpointManager(folder)
    manager.resume(run)
    while True:
        run.updates += 1
        run.policy.get_buffer("ballast").fill_(run.updates)
        manager.save(run)
        for old in sorted(folder.glob("update_*"))[:-2]:
            old.unlink()
