"""The stored report of a run: ``parity.json``, read by other programs. Fields are added, never renamed."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from parity.compare.verdict import Verdict
from parity.report.files import ReportError, read_json, require, write_json
from parity.results import Report, Result

_WHAT = "a parity report"
_REPORT_FIELDS: dict[str, type | tuple[type, ...]] = {
    "planned": int,
    "ran": int,
    "seconds": (int, float),
    "platform": dict,
    "results": list,
}
_RESULT_FIELDS: dict[str, type | tuple[type, ...]] = {
    "pair": str,
    "check": str,
    "device": str,
    "dtype": str,
    "verdict": str,
    "rung": (str, type(None)),
    "margin": (int, float, type(None)),
    "examples": int,
    "seconds": (int, float),
    "divergence": (dict, type(None)),
    "reproduce": str,
}
_NUMBER = (int, float, str, type(None))  # text stands for what JSON cannot hold
_TEXTS = ("kind", "phase", "component", "key", "side", "candidate_component", "at", "rung", "cause", "source")
#: Fields that came later, or that only some results have; checked where they are.
_FURTHER_FIELDS: dict[str, type | tuple[type, ...]] = {
    "reason": str,
    "example": (dict, type(None)),
    "margin_place": str,
    "null_gradients": list,
    "expected_failure": str,
    "trajectory": (dict, type(None)),
}
_DIVERGENCE_FIELDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys(("shape", "index", "notes", "pictures"), list),
    **dict.fromkeys(("differing", "elements"), int),
    **dict.fromkeys(("absolute", "relative", "ulp", "measured", "allowed"), _NUMBER),
}


def write_report(report: Report, path: Path) -> None:
    """Write a report, whole or not at all.

    Raises:
        ReportError: the file system refuses.
    """
    write_json(path, report.to_json())


def read_report(path: Path) -> Report:
    """Read a report; fields that a later version added are ignored.

    Raises:
        ReportError: the file is missing, truncated, or something else; the message names the file and the field.
    """
    content = read_json(path, _WHAT)
    require(content, _REPORT_FIELDS, path, _WHAT)
    _require_known(content, {"problems": list}, path)
    results = [_read_result(entry, path) for entry in content["results"]]
    if content["ran"] != len(results):
        raise ReportError(f"{path} is not {_WHAT}: it says {content['ran']} cells ran and holds {len(results)} results")
    problems = [str(problem) for problem in content.get("problems", [])]
    notes = [str(note) for note in content.get("notes", [])]
    return Report(content["planned"], results, float(content["seconds"]), content["platform"], problems, notes)


def _read_result(content: Any, path: Path) -> Result:
    if not isinstance(content, dict):
        raise ReportError(f"{path} is not {_WHAT}: a result is {content!r:.80}, not an object")
    require(content, _RESULT_FIELDS, path, _WHAT)
    _require_known(content, _FURTHER_FIELDS, path)
    _require_known(content["divergence"] or {}, _DIVERGENCE_FIELDS, path)
    if content["verdict"] not in [str(verdict) for verdict in Verdict]:
        raise ReportError(
            f"{path} is not {_WHAT}: {content['verdict']!r} is no verdict; was it made by a newer version?"
        )
    known = {field.name for field in dataclasses.fields(Result)}
    values = {name: value for name, value in content.items() if name in known}
    if values["margin"] is None:
        values["margin"] = math.inf  # JSON has no infinity
    return Result.from_json(values)


def _require_known(content: dict[str, Any], fields: dict[str, type | tuple[type, ...]], path: Path) -> None:
    """Refuse fields of another type; one that is not there is no fault."""
    require(content, {name: kind for name, kind in fields.items() if name in content}, path, _WHAT)
