"""The benchmarks' ratios as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Ratios = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Pair -> measure -> figure -> ratio, as in ``bench-ratios.json``."""

_LEGEND = (
    "`speed`: reference seconds / candidate seconds, the higher the better. `memory`: the candidate's allocation peak "
    "/ the reference's, the lower the better. `reference_over_transcription`: reference seconds / seconds of the same "
    "network in plain torch. `probed_*`: seconds of that side with probes / without. `trainer_share`: the part of the "
    "seconds that is the trainer's own, not of policy forward, backward, environment or optimizer."
)


def to_markdown(ratios: Ratios, platform: Mapping[str, Any], date: str) -> str:
    """Return one table, a row per measure and figure, a column per pair, and what it was measured on.

    Args:
        ratios: what was measured; a figure that a pair does not have is left blank.
        platform: as from ``platform_info()``.
        date: when it was measured.
    """
    rows = dict.fromkeys(
        (measure, figure) for measures in ratios.values() for measure, figures in measures.items() for figure in figures
    )
    lines = [["measure", "figure", *ratios], ["---", "---", *("---:" for _ in ratios)]]
    for measure, figure in rows:
        values = (measures.get(measure, {}).get(figure) for measures in ratios.values())
        lines.append([measure, f"`{figure}`", *("" if value is None else f"{value:.3f}" for value in values)])
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    versions = ", ".join(f"{name} {version}" for name, version in platform["versions"].items())
    measured = f"Measured {date} on {platform['cpu']}, {platform['cores']} cores, {platform['threads']} threads; "
    return "\n\n".join(["## Benchmarks", table, _LEGEND, f"{measured}{versions}."]) + "\n"
