"""The report as one self-contained HTML page: failures first, nothing loaded from anywhere, no script."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateError

from parity.compare.verdict import Verdict
from parity.report import curves, power
from parity.report.describe import MOST_ULPS, both_values, complete, describe, number, size, where
from parity.report.drawing import SIZES, grid, panels, strips
from parity.report.files import ReportError, read_json, require
from parity.report.model import read_report
from parity.report.terminal import table, totals
from parity.results import Report, Result

#: A page has at most so many bytes; so many failures are told in detail, the fewer the more there is to tell of each.
MOST_BYTES, MOST_FAILURES = 2_000_000, (50, 20, 5, 0)
#: Squares drawn in all, and characters of one text.
MOST_SQUARES, MOST_TEXT = 40_000, 2_000
_WEAKEST, _MOST_OPEN = 12, 8

_SIGNS = {
    Verdict.IDENTICAL: "=",
    Verdict.EQUIVALENT: "\N{ALMOST EQUAL TO}",
    Verdict.NOT_APPLICABLE: "\N{EN DASH}",
    Verdict.DIVERGENT: "\N{MULTIPLICATION SIGN}",
    Verdict.INCONCLUSIVE: "?",
    Verdict.ERROR: "!",
}
_OUTCOMES = {0: "Passed", 1: "Divergent", 2: "Not everything was judged"}


def to_html(report: Report, *, beside: Mapping[str, Any] | None = None) -> str:
    """The page of a run.

    Args:
        report: what ran.
        beside: further contents to show: ``faults`` and ``alarms`` as ``make faults`` and ``make false-alarms`` store
            them, ``remarks`` about them as sentences.
    """
    pages = (_page(report, beside or {}, most) for most in MOST_FAILURES)
    return next((page for page in pages if len(page.encode()) < MOST_BYTES), "") or _page(report, {}, 0)


def _page(report: Report, beside: Mapping[str, Any], most: int) -> str:
    failures = [result for result in report.results if not result.accepted]
    left = MOST_SQUARES
    details: list[dict[str, Any]] = []
    for position, result in enumerate(failures[:most]):
        details.append(_failure(result, position, left))
        # the second dtype of what failed already is there for whoever wants it
        seen = {(d["result"].pair, d["result"].check) for d in details[:-1]}
        details[-1]["open"] = len(seen) < _MOST_OPEN and (result.pair, result.check) not in seen
        left -= sum(picture["cells"] for picture in details[-1]["pictures"])
    passed = [result for result in report.results if result.verdict.passed and result.margin > 0]
    links = {result.cell: detail["id"] for result, detail in zip(failures, details, strict=False)}
    return _render(
        "report.html.j2",
        report=report,
        outcome=_OUTCOMES[report.exit_code],
        counts=_counts(report),
        summary=totals(report),
        details=details,
        more=len(failures) - len(details),
        expected=[r for r in report.results if r.accepted and not r.verdict.passed],
        heads=table(report)[0][1:] if report.results else [],
        rows=_rows(report, links),
        strips=strips(report.results),
        weakest=sorted(passed, key=lambda result: -result.margin)[:_WEAKEST],
        trainings=_trainings(report),
        absent=_absent(report),
        null=sorted({(r.pair, name) for r in report.results for name in r.null_gradients}),
        beside=_prepared(beside),
        platform=_flat(report.platform),
    )


def page_of(path: Path) -> str:
    """The page of a stored file: a parity report, ``faults.json``, ``false-alarms.json`` or ``collapse.json``.

    What lies beside a parity report is shown with it.

    Raises:
        ReportError: the file is none of these, or damaged; the message names it and what is wrong.
    """
    content = read_json(path, "a parity report")
    for kind, (_, fields) in _STORED.items():
        if all(name in content for name in fields):
            return _stored_page(kind, content, path)
    report = read_report(path)
    with _content_of(path, "a parity report"):
        return to_html(report, beside=lying_beside(path.parent))


#: Stored files beside a report: name -> (what it is, fields by which it is known).
_STORED: dict[str, tuple[str, dict[str, type | tuple[type, ...]]]] = {
    "faults": ("a kill matrix", {"figures": dict, "answers": list, "date": str, "seconds": (int, float)}),
    "alarms": ("a count of false alarms", {"examples": int, "failures": int, "per_check": dict}),
    "collapse": ("a collapse watch", {"arms": list, "verdict": str, "agent_steps": int}),
}


def lying_beside(folder: Path) -> dict[str, Any]:
    """The kill matrix and the false alarms stored in a folder; one that cannot be read becomes a remark."""
    found: dict[str, Any] = {"remarks": []}
    for kind, name in (("faults", "faults.json"), ("alarms", "false-alarms.json")):
        path = folder / name
        if not path.exists():
            continue
        try:
            content = read_json(path, _STORED[kind][0])
            _stored_page(kind, content, path)
            found[kind] = content
        except ReportError as error:
            found["remarks"].append(f"{error}; it is left out here")
    return found


def _stored_page(kind: str, content: dict[str, Any], path: Path) -> str:
    what, fields = _STORED[kind]
    require(content, fields, path, what)
    with _content_of(path, what):
        return _render("stored.html.j2", **_prepared({kind: content}), platform=_flat(content.get("platform")))


@contextmanager
def _content_of(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, TemplateError) as error:
        raise ReportError(
            f"{path} is not {what}: its content has another form ({type(error).__name__}: {error}); make it anew"
        ) from error


def _render(template: str, **context: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, short=_short)
    environment.globals.update(signs=_SIGNS, sizes=SIZES)
    return environment.get_template(template).render(context)


def _number(value: Any) -> str:
    return "\N{INFINITY}" if value == math.inf else number(value)


def _short(text: Any) -> str:
    text = str(text)
    return text if len(text) <= MOST_TEXT else f"{text[:MOST_TEXT]}... ({len(text):,} characters)"


def _counts(report: Report) -> list[tuple[Verdict, int]]:
    found = [(verdict, sum(result.verdict is verdict for result in report.results)) for verdict in Verdict]
    return [(verdict, count) for verdict, count in found if count]


def _failure(result: Result, position: int, squares: int) -> dict[str, Any]:
    """What the template says of one failure; pictures only while so many squares may still be drawn."""
    shown: dict[str, Any] = {"result": result, "id": f"failure-{position + 1}", "size": size(result), "pictures": []}
    shown |= {"text": describe(result), "example": json.dumps(result.example) if result.example else "", "left_out": 0}
    shown |= {"found": None, "where": "", "values": (), "panels": [], "reruns": 0}
    if result.divergence is not None:
        found = complete(result.divergence)
        if isinstance(found["ulp"], (int, float)) and found["ulp"] > MOST_ULPS:
            found["ulp"] = None
        names = ("reference", "candidate") if found["side"] == "candidate" else ("expected", "found")
        values = zip(names, both_values(found["reference"], found["candidate"]), strict=True)
        allowed = found["allowed"] if isinstance(found["allowed"], (int, float)) else 0.0
        drawn = [grid(picture, allowed) for picture in found["pictures"]]
        shown["pictures"] = drawn if sum(picture["cells"] for picture in drawn) <= squares else []
        shown["left_out"] = len(drawn) - len(shown["pictures"])
        shown |= {
            "found": found,
            "where": where(found, result.check).replace("   (", " (").replace("   ", ", "),
            "values": list(values),
        }
    if result.trajectory:
        update = (result.divergence or {}).get("update")
        shown |= {"panels": panels(result.trajectory, update), "reruns": result.trajectory["reruns"]}
    return shown


def _rows(report: Report, links: Mapping[Any, str]) -> list[tuple[str, list[list[tuple[Result, str]]]]]:
    """The grid: per check, per pair and device, its results with the id of what is said about each below."""
    columns = list(dict.fromkeys((result.pair, result.device) for result in report.results))
    cells: dict[tuple[str, str, str], list[Result]] = {}
    for result in report.results:
        cells.setdefault((result.check, result.pair, result.device), []).append(result)
    return [
        (
            check,
            [
                [(r, links.get(r.cell, "")) for r in sorted(cells.get((check, *column), []), key=_dtype)]
                for column in columns
            ],
        )
        for check in dict.fromkeys(result.check for result in report.results)
    ]


def _dtype(result: Result) -> int:
    return -int("".join(filter(str.isdigit, result.dtype)) or 0)


def _trainings(report: Report) -> dict[str, list[tuple[Result, list[dict[str, Any]]]]]:
    """Pair -> its trainings that passed, with their panels."""
    found: dict[str, list[tuple[Result, list[dict[str, Any]]]]] = {}
    for result in report.results:
        if result.trajectory and result.verdict.passed:
            found.setdefault(result.pair, []).append((result, panels(result.trajectory, None)))
    return found


def _absent(report: Report) -> list[tuple[str, list[Result]]]:
    """Reason -> results that are not applicable for it."""
    found: dict[str, list[Result]] = {}
    for result in report.results:
        if result.verdict is Verdict.NOT_APPLICABLE:
            found.setdefault(result.reason or "no reason is given", []).append(result)
    return list(found.items())


def _prepared(beside: Mapping[str, Any]) -> dict[str, Any]:
    """Stored contents as the templates want them; None for each that is not there."""
    faults, alarms, collapse = (beside.get(kind) for kind in _STORED)
    return {
        "remarks": list(beside.get("remarks", ())),
        "faults": faults and _kills(faults),
        "alarms": alarms and _alarms(alarms),
        "collapse": collapse and _collapse(collapse),
    }


def _kills(content: Mapping[str, Any]) -> dict[str, Any]:
    faults = [answer for answer in content["answers"] if answer["kind"] == "fault"]
    found = content["figures"]
    checks = list(found.get("named", {}).get("by_check", {}))
    pairs = list(dict.fromkeys(fault["pair"] for fault in faults))
    by_pair = {pair: [fault for fault in faults if fault["pair"] == pair] for pair in pairs}
    return {
        "date": str(content["date"]),
        "sentences": [line.replace("**", "") for line in power.summary(content).splitlines()],
        "checks": checks,
        "overview": [
            (pair, len(some), [sum(check in fault["caught_by"] for fault in some) for check in checks])
            for pair, some in by_pair.items()
        ],
        "by_pair": by_pair,
        "alone": {check: counts["alone"] for check, counts in found.get("named", {}).get("by_check", {}).items()},
        "means": found.get("means", {}),
        "survivors": [
            {key: str(answer[key]) for key in ("name", "line", "before", "after", "equivalent")}
            for answer in content["answers"]
            if answer["kind"] == "mutant" and answer["fate"] == "survived"
        ],
    }


def _alarms(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "examples": content["examples"],
        "failures": content["failures"],
        "bound": content.get("upper_bound_95"),
        "checks": [
            (name, check["examples"], check["failures"], check.get("worst_margin", {}))
            for name, check in content["per_check"].items()
        ],
    }


def _collapse(content: Mapping[str, Any]) -> dict[str, Any]:
    """Curves go in as a picture of their own, so that its styles stay its own."""
    picture = base64.b64encode(curves.to_svg(content).encode()).decode()
    head, *body = curves.rows(content)
    return {
        "verdict": content["verdict"],
        "reason": content["reason"],
        "pair": content["pair"],
        "picture": f"data:image/svg+xml;base64,{picture}",
        "head": head,
        "body": body,
    }


def _flat(platform: Any) -> Sequence[tuple[str, str]]:
    """A platform as names and texts, one level deep."""
    found = []
    for name, value in (platform or {}).items():
        if isinstance(value, Mapping):
            found += [(f"{name}: {key}" if name != "versions" else str(key), str(item)) for key, item in value.items()]
        else:
            found.append((str(name), str(value)))
    return found
