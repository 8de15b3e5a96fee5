"""A whole run: resume, update, write figures, write checkpoints."""

from __future__ import annotations

from parity.training.checkpoint import CheckpointManager
from parity.training.metrics import JsonLines
from parity.training.trainer import Trainer


def train(trainer: Trainer, *, figures: JsonLines | None = None, checkpoints: CheckpointManager | None = None) -> None:
    """Train to the configuration's ``total_updates``, from the latest checkpoint if there is one.

    Args:
        trainer: fresh, its policy initialised to its environment.
        figures: gets a line per update.
        checkpoints: gets one every ``checkpoint_interval`` updates and after the last, none when that is 0.

    Raises:
        CheckpointError: the latest checkpoint is damaged or of another run, or one cannot be written.
    """
    if checkpoints is not None:
        checkpoints.resume(trainer)
    interval, last = trainer.config.checkpoint_interval, trainer.config.total_updates
    for metrics in trainer.run():
        if figures is not None:
            figures.write(metrics)
        if checkpoints is not None and interval and (trainer.updates % interval == 0 or trainer.updates == last):
            checkpoints.save(trainer)
