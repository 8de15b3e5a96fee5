"""The Markdown of the benchmarks."""

from __future__ import annotations

from parity.report.ratios import to_markdown

PLATFORM = {"versions": {"python": "3.11", "torch": "2.13"}, "cpu": "a processor", "cores": 4, "threads": 2}


def test_pairs_are_columns_and_measures_rows_in_the_order_measured():
    ratios = {
        "fast": {"forward_64": {"speed": 1.849, "memory": 0.5}, "clip": {"speed": 1.0}},
        "tiny": {"forward_64": {"speed": 2.0, "memory": 1.004, "probed_candidate": 1.1}},
    }
    text = to_markdown(ratios, PLATFORM, "2026-01-02")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert table == [
        "| measure | figure | fast | tiny |",
        "| --- | --- | ---: | ---: |",
        "| forward_64 | `speed` | 1.849 | 2.000 |",
        "| forward_64 | `memory` | 0.500 | 1.004 |",
        "| clip | `speed` | 1.000 |  |",
        "| forward_64 | `probed_candidate` |  | 1.100 |",
    ]


def test_it_says_when_and_on_what():
    text = to_markdown({}, PLATFORM, "2026-01-02")
    assert "Measured 2026-01-02 on a processor, 4 cores, 2 threads; python 3.11, torch 2.13." in text
