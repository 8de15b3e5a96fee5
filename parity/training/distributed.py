"""Several ranks, one agent: what each contributes so that they train as one would on all their experience.

Every rank has an environment and an experience of its own, of the same sizes (TrainerConfig's are per rank), and
numbers its agents after those of the ranks before it. For W ranks to take the steps that one rank with all agents would
take, four things are global: gradients (averaged by DistributedDataParallel, so minibatches must be of one size), the
mean and deviation that advantages are normalised with, the sum that sampling probabilities are divided by, and the KL
divergence that may stop an update. What still differs: each rank draws its own actions, and its share of a minibatch
from its own segments; replay both to compare runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed

from parity.agents.errors import ConfigError
from parity.agents.metta_agent import DistributedMettaAgent, MettaAgent


@dataclass(frozen=True)
class World:
    """This process among its peers; the default is a process alone."""

    rank: int = 0
    size: int = 1

    def total(self, value: Tensor) -> Tensor:
        """Sum of ``value``, any shape, over all ranks; a new tensor without gradient when there are several."""
        if self.size == 1:
            return value
        value = value.detach().clone()
        distributed.all_reduce(value)
        return value

    def wrap(self, agent: MettaAgent) -> MettaAgent | DistributedMettaAgent:
        """The agent as it should be trained: its gradients averaged over the ranks, if there are several."""
        return agent if self.size == 1 else DistributedMettaAgent(agent)


def join_world(device: str | torch.device = "cpu") -> World:
    """Join the process group that ``torchrun`` describes in the environment; gloo on the CPU, nccl on CUDA.

    Without ``WORLD_SIZE``, or with 1, there is nothing to join. End with ``torch.distributed.destroy_process_group``.

    Raises:
        ConfigError: the environment has ``WORLD_SIZE`` but lacks another variable, or one of them is no number.
    """
    try:
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return World()
        rank = int(os.environ["RANK"])
        _ = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    except (KeyError, ValueError) as error:
        raise ConfigError(f"torchrun's environment variables are incomplete or no numbers ({error!r})") from error
    distributed.init_process_group(
        "nccl" if torch.device(device).type == "cuda" else "gloo", rank=rank, world_size=size
    )
    return World(rank, size)
