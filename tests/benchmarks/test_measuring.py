"""The measures themselves, on runs whose figures are known."""

from __future__ import annotations

import torch
from measuring import neighbour_ratios, peak_bytes


def test_every_neighbour_counts_once_in_either_order():
    assert neighbour_ratios([1.0, 4.0, 16.0], [2.0, 8.0]) == [0.5, 0.5, 2.0, 2.0]


def test_the_peak_is_what_lives_at_once(tmp_path):
    def run() -> None:
        first = torch.empty(1_000_000)
        second = torch.empty(500_000)
        del first
        torch.empty(100_000)
        del second

    assert peak_bytes(run, tmp_path) == 4 * 1_500_000


def test_what_was_there_before_is_not_counted(tmp_path):
    held = [torch.empty(1_000_000)]

    def run() -> None:
        held.clear()
        held.append(torch.empty(1_000))

    assert peak_bytes(run, tmp_path) == 4_000
    assert peak_bytes(run, tmp_path) == 4_000  # its predecessor was allocated under a profile of its own
