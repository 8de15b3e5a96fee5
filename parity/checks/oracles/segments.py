"""Where a step is stored: which segment of the ring, and which step of it."""

from __future__ import annotations


def cell_of(agent: int, time: int, *, agents: int, segments: int, horizon: int) -> tuple[int, int]:
    """Segment and step of an agent's step: all agents fill one segment each, then the next ones of the ring."""
    lap, step = divmod(time, horizon)
    return (lap * agents + agent) % segments, step


def last_written(*, agents: int, segments: int, horizon: int, steps: int) -> dict[tuple[int, int], tuple[int, int]]:
    """(segment, step) -> (agent, time) whose data a ring holds there after so many steps; cells never written lack."""
    held = {}
    for time in range(steps):
        for agent in range(agents):
            held[cell_of(agent, time, agents=agents, segments=segments, horizon=horizon)] = (agent, time)
    return held
