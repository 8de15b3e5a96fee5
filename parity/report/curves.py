"""A collapse watch as text, as Markdown and as a picture; and what counts of a learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from statistics import fmean
from typing import Any

_COLUMNS, _WIDTH, _HEIGHT, _GAP, _HEAD = 3, 250, 120, 46, 52
_STYLE = """
:root { --paper: #ffffff; --ink: #1f2328; --faint: #d1d9e0; --base: #6e7781; --good: #0969da; --bad: #bc4c00; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #0d1117; --ink: #e6edf3; --faint: #3d444d; --base: #9198a1; --good: #58a6ff; --bad: #f0883e; }
}
text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.small { font-size: 10px; fill: var(--base); }
.grid { stroke: var(--faint); fill: none; }
.base { stroke: var(--base); stroke-dasharray: 4 3; fill: none; }
.good { stroke: var(--good); stroke-width: 2; fill: none; }
.bad { stroke: var(--bad); stroke-width: 2; fill: none; }
.band.good { fill: var(--good); fill-opacity: 0.2; stroke: none; }
.band.bad { fill: var(--bad); fill-opacity: 0.2; stroke: none; }
"""


def late_mean(curve: Sequence[float]) -> float:
    """Mean over the last quarter of a curve, at least its last point: what a run is judged by."""
    return fmean(curve[-max(1, len(curve) // 4) :])


def rows(content: Mapping[str, Any]) -> list[list[str]]:
    """The table of a watch, the first row a heading: arm, return, difference from the reference, outcome."""
    found = [["trained", "return", "seeds", "difference", "90 % interval", "p", "outcome"]]
    for arm in content["arms"]:
        if arm["crash"] is not None:
            found.append([arm["name"], "", str(len(arm["seeds"])), "", "", "", f"crashes: {_short(arm['crash'])}"])
            continue
        start = [arm["name"], f"{arm['mean']:.3f} +- {arm['spread']:.3f}", str(len(arm["seeds"]))]
        if "p" not in arm:
            found.append([*start, "", "", "", "what the others are held against"])
            continue
        interval = f"{arm['low']:+.3f} to {arm['high']:+.3f}"
        found.append([*start, f"{arm['difference']:+.3f}", interval, f"{arm['p']:.2g}", _outcome(arm)])
    return found


def table(content: Mapping[str, Any]) -> str:
    """The same as plain text."""
    cells = rows(content)
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = ["   ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def to_markdown(content: Mapping[str, Any]) -> str:
    """The watch as a page: verdict, how it was decided, table, what the faults do, where it ran."""
    head, *body = rows(content)
    versions = ", ".join(f"{name} {number}" for name, number in content["platform"]["versions"].items())
    lines = [
        f"## Collapse watch: {content['verdict']}",
        "",
        f"{content['reason']}.".capitalize(),
        "",
        f"Both sides of `{content['pair']}` were trained in `{content['environment']}` for {content['agent_steps']:,} "
        f"agent steps, over {content['seeds']} seeds. A run's return is that of its last quarter, normalised: 0 is a "
        f"random policy, 1 the scripted optimum. An arm is equivalent when two one-sided Welch t-tests at "
        f"{content['alpha']:g} place its mean within {content['bound']:g} of the reference's, fixed beforehand. "
        "It is different when it is not equivalent and its interval leaves out 0, and otherwise undecided. The "
        "reference must be equivalent to itself over other seeds, and one fault at least different; otherwise the "
        "watch proves nothing.",
        "",
        "![Learning curves](collapse.svg)",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(row)} |" for row in body),
        "",
        *(f"- `{arm['name']}`: {arm['about']}" for arm in content["arms"] if arm["about"]),
        "",
        f"<sub>{content['date']}; {content['seconds'] / 60:.0f} min of training; {versions}; "
        f"{content['platform']['device']}, threads {content['platform']['threads']}, "
        f"cpu {content['platform']['cpu']}</sub>",
    ]
    return "\n".join(lines) + "\n"


def to_svg(content: Mapping[str, Any]) -> str:
    """One panel per arm: mean return over the updates, the range of its seeds, and the reference's mean, dashed."""
    arms = [arm for arm in content["arms"] if arm["crash"] is None]
    base = _mean(arms[0]["curves"])
    points = [value for arm in arms for curve in arm["curves"] for value in curve]
    low, high = min(0.0, *points), max(1.0, *points)
    lines = -(-len(arms) // _COLUMNS)
    width = _COLUMNS * (_WIDTH + _GAP) + _GAP
    height = lines * (_HEIGHT + _HEAD + _GAP // 2) + _GAP // 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img">',
        f"<title>Collapse watch of {escape(content['pair'])}: normalised return while training</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" style="fill: var(--paper)"/>',
    ]
    for number, arm in enumerate(arms):
        left = _GAP + number % _COLUMNS * (_WIDTH + _GAP)
        top = _HEAD + number // _COLUMNS * (_HEIGHT + _HEAD + _GAP // 2)
        parts += _panel(arm, base, left, top, (low, high), content["agent_steps"])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _outcome(arm: Mapping[str, Any]) -> str:
    if arm["kind"] != "fault":
        return arm["outcome"]
    if arm["first_change"] is None:
        return f"{arm['outcome']}: no number differs from the clean candidate's"
    return f"{arm['outcome']}: numbers differ from update {arm['first_change']} on"


def _short(text: str) -> str:
    line = text.splitlines()[0].replace("|", "/")
    return line if len(line) <= 60 else f"{line[:57]}..."


def _panel(
    arm: Mapping[str, Any], base: list[float], left: int, top: int, limits: tuple[float, float], steps: int
) -> list[str]:
    curves = arm["curves"]
    kind = "good" if arm.get("outcome", "equivalent") == "equivalent" else "bad"
    low, high = limits

    def spot(index: int, value: float) -> str:
        x = left + _WIDTH * index / max(1, len(base) - 1)
        return f"{x:.1f},{top + _HEIGHT * (high - value) / (high - low):.1f}"

    def line(values: Sequence[float]) -> str:
        return " ".join(spot(index, value) for index, value in enumerate(values))

    largest = [max(values) for values in zip(*curves, strict=True)]
    smallest = [min(values) for values in zip(*curves, strict=True)]
    back = " ".join(reversed(line(smallest).split()))
    levels = [(value, spot(0, value).partition(",")[2]) for value in (0.0, 0.5, 1.0)]
    return [
        f'<text x="{left}" y="{top - 24}">{escape(arm["name"])}</text>',
        f'<text class="small" x="{left}" y="{top - 9}">{arm["mean"]:.2f} +- {arm["spread"]:.2f}'
        f"{'' if 'p' not in arm else ', ' + escape(_outcome(arm).partition(':')[0])}</text>",
        *(f'<path class="grid" d="M{left},{y} h{_WIDTH}"/>' for _, y in levels),
        *(f'<text class="small" x="{left - 22}" y="{float(y) + 3:.1f}">{value:g}</text>' for value, y in levels),
        f'<polygon class="band {kind}" points="{line(largest)} {back}"/>',
        f'<polyline class="base" points="{line(base)}"/>',
        f'<polyline class="{kind}" points="{line(_mean(curves))}"/>',
        f'<text class="small" x="{left + _WIDTH}" y="{top + _HEIGHT + 14}" text-anchor="end">{steps:,} steps</text>',
    ]


def _mean(curves: Sequence[Sequence[float]]) -> list[float]:
    return [fmean(values) for values in zip(*curves, strict=True)]
