"""One result as a block of text: the verdict, where it differs first, by how much, why, and how to see it again."""

from __future__ import annotations

import json
from typing import Any

from parity.compare.verdict import Divergence
from parity.results import Result

_DEFAULTS = Divergence(kind="value", phase="", component="", key="").to_json()
_LONGEST_VALUE = 200
MOST_ULPS = 1e6  # counting representable numbers says something about rounding, nothing about real differences


def describe(result: Result) -> str:
    """Return the block for one result, without a final line break; every line after the first is indented."""
    lines = [_headline(result)]
    if result.divergence is not None:
        lines += _divergence(complete(result.divergence), result.check)
    if result.reason:
        lines.append(f"  reason  {result.reason}")
    if result.expected_failure:
        lines.append(f"  expected  {result.expected_failure}")
    if result.reproduce:
        lines.append(f"  reproduce  {result.reproduce}")
    return "\n".join(lines)


def _headline(result: Result) -> str:
    line = f"{result.verdict.upper()}  {result.cell}"
    return f"{line}, {size(result)}" if size(result) else line


def complete(divergence: dict[str, Any]) -> dict[str, Any]:
    """A stored divergence with every field: it may come from a version that knew fewer."""
    return {**_DEFAULTS, **divergence}


def size(result: Result) -> str:
    """Rows and steps of the example, ``batch 2 x 4``; empty when it has none."""
    found = [str((result.example or {})[key]) for key in ("batch", "steps") if key in (result.example or {})]
    return f"batch {' x '.join(found)}" if found else ""


def _divergence(found: dict[str, Any], check: str) -> list[str]:
    lines = [f"  first divergence  {where(found, check)}"]
    lines += [f"    {line}" for line in _what(found)]
    if found["cause"]:
        lines.append(f"    likely cause: {found['cause']}")
    lines += [f"    note: {note}" for note in found["notes"]]
    return lines


def where(found: dict[str, Any], check: str) -> str:
    """One line: which component or field, on which side, and when."""
    component, path = found["component"], found["candidate_component"]
    parts = [f"input of {component}" if found["at"] == "input" else component]
    if path:
        parts.append(f"(component {component!r}, candidate {path!r})")
    if found["side"] != "candidate":
        parts.append("on both sides" if found["side"] == "both" else f"on the {found['side']}")
    moment = [] if found["phase"] == check else [f"in {found['phase']}"]
    moment += [f"{name} {found[name]}" for name in ("update", "minibatch", "step") if found[name] is not None]
    if moment:
        parts.append(", ".join(moment))
    if found["input_identical"] is not None:
        parts.append("input identical" if found["input_identical"] else "input differs")
    return "   ".join(parts)


def _what(found: dict[str, Any]) -> list[str]:
    mine, theirs = both_values(found["reference"], found["candidate"])
    # on the reference's own side, or on both, the comparison is with what the contract asks
    first, second = ("reference", "candidate") if found["side"] == "candidate" else ("expected", "found")
    values = f"{first} {mine}, {second} {theirs}"
    if found["kind"] not in ("value", "non_finite"):
        return [f"{found['key']}: {values}"]
    line = f"{found['key']} {found['shape']}  {found['differing']} of {found['elements']} differ"
    line += f"   worst |d| {number(found['absolute'])} at {found['index']}: {values}"
    if found["measured"] is None or found["allowed"] is None:
        return [line]
    bound = f"measured {number(found['measured'])}, allowed {number(found['allowed'])} ({found['rung']})"
    if found["relative"] is not None:
        bound += f"   relative {number(found['relative'])}"
    if isinstance(found["ulp"], (int, float)) and found["ulp"] <= MOST_ULPS:
        bound += f"   {number(found['ulp'])} ulp"
    return [line, bound]


def both_values(reference: Any, candidate: Any) -> tuple[str, str]:
    """Both values as text, at full length where they would look alike."""
    short = _value(reference), _value(candidate)
    if short[0] == short[1] and reference != candidate:  # they differ in places that are not shown
        return repr(reference), repr(candidate)
    return short


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def number(value: Any) -> str:
    """Three digits; text stands for what JSON cannot hold ("inf")."""
    return f"{value:.3g}" if isinstance(value, (int, float)) else str(value)
