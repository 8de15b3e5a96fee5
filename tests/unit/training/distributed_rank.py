"""One rank of the distributed test: replays its agents' share of a recorded run and writes what came of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import distributed
from training_samples import Counting, agent, config

from parity.training.distributed import join_world
from parity.training.observer import Replay
from parity.training.trainer import Trainer

SETTINGS = {
    "update_epochs": 3,
    "optimizer": {"eps": 1.0e-5},
    "ppo": {"target_kl": 1e-9, "l2_init_loss_coef": 0.1},
    "prioritized_experience_replay": {"prio_alpha": 0.5, "prio_beta0": 0.4},
}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    world = join_world()
    recorded = load_file(folder / "actions.safetensors")
    mine = slice(2 * world.rank, 2 * world.rank + 2)
    actions = [recorded[str(i)][mine] for i in range(len(recorded))]
    settings = config(num_agents=2, batch_size=12, minibatch_size=12, **SETTINGS)
    policy = agent("candidate")
    trainer = Trainer(
        world.wrap(policy),
        Counting(2, first=mine.start),
        settings,
        replay=Replay(actions, [torch.arange(2)] * 9),
        world=world,
    )
    metrics = list(trainer.run(2))
    save_file(
        {key: value.contiguous() for key, value in policy.state_dict().items()},
        folder / f"rank{world.rank}.safetensors",
    )
    (folder / f"rank{world.rank}.json").write_text(json.dumps(metrics))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
