"""One result as a block of text: the verdict, where it differs first, by how much, why, and how to see it again."""

from __future__ import annotations

import json
from typing import Any

from parity.compare.verdict import Divergence
from parity.results import Result

#: A stored divergence may come from a version that knew fewer fields.
_DEFAULTS = Divergence(kind="value", phase="", component="", key="").to_json()
_LONGEST_VALUE = 200
_MOST_ULPS = 1e6  # counting representable numbers says something about rounding, nothing about real differences


def describe(result: Result) -> str:
    """Return the block for one result, without a final line break; every line after the first is indented."""
    lines = [_headline(result)]
    if result.divergence is not None:
        lines += _divergence({**_DEFAULTS, **result.divergence}, result.check)
    if result.reason:
        lines.append(f"  reason  {result.reason}")
    if result.expected_failure:
        lines.append(f"  expected  {result.expected_failure}")
    if result.reproduce:
        lines.append(f"  reproduce  {result.reproduce}")
    return "\n".join(lines)


def _headline(result: Result) -> str:
    line = f"{result.verdict.upper()}  {result.cell}"
    size = [str((result.example or {})[key]) for key in ("batch", "steps") if key in (result.example or {})]
    return f"{line}, batch {' x '.join(size)}" if size else line


def _divergence(found: dict[str, Any], check: str) -> list[str]:
    lines = [f"  first divergence  {_where(found, check)}"]
    lines += [f"    {line}" for line in _what(found)]
    if found["cause"]:
        lines.append(f"    likely cause: {found['cause']}")
    lines += [f"    note: {note}" for note in found["notes"]]
    return lines


def _where(found: dict[str, Any], check: str) -> str:
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
    mine, theirs = _values(found["reference"], found["candidate"])
    # on the reference's own side, or on both, the comparison is with what the contract asks
    first, second = ("reference", "candidate") if found["side"] == "candidate" else ("expected", "found")
    values = f"{first} {mine}, {second} {theirs}"
    if found["kind"] not in ("value", "non_finite"):
        return [f"{found['key']}: {values}"]
    line = f"{found['key']} {found['shape']}  {found['differing']} of {found['elements']} differ"
    line += f"   worst |d| {_number(found['absolute'])} at {found['index']}: {values}"
    if found["measured"] is None or found["allowed"] is None:
        return [line]
    bound = f"measured {_number(found['measured'])}, allowed {_number(found['allowed'])} ({found['rung']})"
    if found["relative"] is not None:
        bound += f"   relative {_number(found['relative'])}"
    if isinstance(found["ulp"], (int, float)) and found["ulp"] <= _MOST_ULPS:
        bound += f"   {_number(found['ulp'])} ulp"
    return [line, bound]


def _values(reference: Any, candidate: Any) -> tuple[str, str]:
    short = _value(reference), _value(candidate)
    if short[0] == short[1] and reference != candidate:  # they differ in places that are not shown
        return repr(reference), repr(candidate)
    return short


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _number(value: Any) -> str:
    """Three digits; text stands for what JSON cannot hold ("inf")."""
    return f"{value:.3g}" if isinstance(value, (int, float)) else str(value)
