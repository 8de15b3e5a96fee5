"""A run's own share of torch's global generators, on which policies draw their actions."""

from __future__ import annotations

import torch
from torch import Tensor

from parity.agents.seeding import parameter_generator


def derived_seed(seed: int, purpose: str) -> int:
    """A seed below 2**31 for one purpose, unrelated to those of other purposes and other seeds."""
    return parameter_generator(seed, "trainer", purpose).initial_seed() % 2**31


class RandomStream:
    """Inside ``with stream:`` torch's global generators are this stream's; outside they are as they were.

    So two trainers in one process do not disturb each other, nor their surroundings.

    Args:
        seed: where the stream begins.
        device: whose generator it covers beside the CPU's.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._outside: dict[str, Tensor] = {}
        self.state = {"cpu": torch.Generator().manual_seed(seed).get_state()}
        if self._device.type == "cuda":
            self.state["cuda"] = torch.Generator(self._device).manual_seed(seed).get_state()

    def __enter__(self) -> None:
        self._outside = self._read()
        self._write(self.state)

    def __exit__(self, *_: object) -> None:
        self.state = self._read()
        self._write(self._outside)

    def _read(self) -> dict[str, Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self._device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self._device)
        return states

    def _write(self, states: dict[str, Tensor]) -> None:
        torch.set_rng_state(states["cpu"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"], self._device)
