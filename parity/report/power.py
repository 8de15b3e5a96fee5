"""Detection power as figures, as text and as Markdown: kill matrix, mutants, and today's means beside ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

#: What is promised: shares of named faults caught and pinned, of mutants that are not equivalent killed.
LEAST_CAUGHT, LEAST_PINNED, LEAST_KILLED = 1.0, 0.95, 0.97
#: Listing mutants as equivalent must not become the way to get rid of them.
MOST_EQUIVALENT = 0.1

#: What a reader of the matrix must know; see ``parity.faults.campaign``.
ONE_EXAMPLE = (
    "A fault's declared check draws its own number of examples. Each other check sees one, of the simplest kind, on "
    "the pair's smaller sizes, and asks contracts of the candidate alone unless the fault is the reference's; "
    "`compile`, `distributed`, `device` and `throughput` judge only what is declared for them. So an empty field says "
    "that one look did not see the fault, and *it alone* is how many one look of all others leaves to a check."
)

Answers = Sequence[Mapping[str, Any]]
OURS = "parity"


def figures(answers: Answers) -> dict[str, Any]:
    """Count what a campaign's tasks answered.

    Returns:
        ``named`` (total, caught, pinned, and per check how many it catches and how many it alone), ``mutants`` (total,
        and per fate), ``originals`` (pairs that were taken for mutants) and ``means`` (kills, of, false alarms, clean,
        ours among them), each only where there are such tasks.
    """
    faults, mutants, clean = (
        [answer for answer in answers if answer["kind"] in kinds]
        for kinds in (("fault",), ("mutant",), ("control", "clean"))
    )
    found: dict[str, Any] = {}
    if faults:
        by, alone = Counter[str](), Counter[str]()
        for fault in faults:
            by.update(fault["caught_by"])
            alone.update(fault["caught_by"] if len(fault["caught_by"]) == 1 else [])
        found["named"] = {
            "total": len(faults),
            "caught": sum(bool(fault["caught_by"]) for fault in faults),
            "pinned": sum(fault["pinned"] for fault in faults),
            "by_check": {check: {"catches": by[check], "alone": alone[check]} for check in sorted(by)},
        }
    if mutants:
        judged = [mutant for mutant in mutants if mutant["fate"] != "not planted"]
        counts = Counter("equivalent" if mutant["fate"] == "listed" else mutant["fate"] for mutant in judged)
        found["mutants"] = {"generated": len(mutants), "planted": len(judged), **counts}
        found["originals"] = [a["pair"] for a in _of(answers, "original") if a["fate"] != "survived"]
    if faults:
        means = {name for answer in (*faults, *clean) for name in answer["rivals"]}
        ours = {
            "kills": found["named"]["caught"],
            "of": len(faults),
            "false_alarms": sum(bool(answer["caught_by"]) for answer in clean),
            "clean": len(clean),
        }
        found["means"] = {OURS: ours} | {
            name: {
                "kills": sum(name in fault["rivals"] for fault in faults),
                "of": len(faults),
                "false_alarms": sum(name in answer["rivals"] for answer in clean),
                "clean": len(clean),
            }
            for name in sorted(means)
        }
    return found


def index(answers: Answers) -> dict[str, Any]:
    """What other programs read of a campaign, whatever else the file holds.

    Returns:
        ``faults`` (name, origin, pair, expected_check, caught_by, caught, pinned), ``mutants`` (total, caught, crashed,
        equivalent, survivors), ``kill_rate`` (of mutants that are not equivalent) and ``pinning_rate``; a rate is None
        where there is nothing to count.
    """
    found = figures(answers)
    counts, named = found.get("mutants", {"planted": 0}), found.get("named", {"total": 0, "pinned": 0})
    return {
        "faults": [
            {
                **{key: answer[key] for key in ("name", "origin", "pair", "caught_by", "pinned")},
                "expected_check": answer["check"],
                "caught": bool(answer["caught_by"]),
            }
            for answer in _of(answers, "fault")
        ],
        "mutants": {
            "total": counts["planted"],
            "caught": _killed(counts),
            "crashed": counts.get("crash", 0),
            "equivalent": counts.get("equivalent", 0),
            "survivors": [answer["name"] for answer in _of(answers, "mutant") if answer["fate"] == "survived"],
        },
        "kill_rate": _killed(counts) / _killable(counts) if _killable(counts) else None,
        "pinning_rate": named["pinned"] / named["total"] if named["total"] else None,
    }


def reached(content: Mapping[str, Any]) -> bool:
    """Whether a campaign found what is promised."""
    named, mutants = content["figures"].get("named"), content["figures"].get("mutants")
    ours = content["figures"].get("means", {}).get(OURS, {"false_alarms": 0})
    if ours["false_alarms"] or content["figures"].get("originals"):
        return False
    if named is not None:
        total = named["total"]
        if named["caught"] < LEAST_CAUGHT * total or named["pinned"] < LEAST_PINNED * total:
            return False
    if mutants is None:
        return True
    few_equivalent = mutants.get("equivalent", 0) <= MOST_EQUIVALENT * mutants["planted"]
    return few_equivalent and _killed(mutants) >= LEAST_KILLED * _killable(mutants)


def summary(content: Mapping[str, Any]) -> str:
    """A few lines for a terminal."""
    return "\n".join(line.replace("**", "") for line in _sentences(content["figures"]))


def to_markdown(content: Mapping[str, Any]) -> str:
    """The campaign as a page."""
    found, answers = content["figures"], content["answers"]
    parts = ["## Detection power", *(f"- {line}" for line in _sentences(found))]
    if "means" in found:
        rows = [["means", "named faults seen", "false alarms on clean pairs and harmless rewrites"]]
        for name, counts in found["means"].items():
            alarms = _share(counts["false_alarms"], counts["clean"]) if counts["clean"] else "not measured"
            rows.append([name, _share(counts["kills"], counts["of"]), alarms])
        parts += ["", "### Beside what people use today", "", *_table(rows)]
    if "named" in found:
        rows = [["check", "catches", "it alone"]]
        rows += [[name, str(c["catches"]), str(c["alone"])] for name, c in found["named"]["by_check"].items()]
        parts += ["", "### What each check catches", "", ONE_EXAMPLE, "", *_table(rows)]
    for fate, title in (("survived", "Mutants that survive"), ("listed", "Mutants listed as equivalent")):
        rows = [["mutant", "line", "before", "after", "because"]]
        rows += [
            [f"`{a['name']}`", str(a["line"]), _code(a["before"]), _code(a["after"]), a["equivalent"]]
            for a in _of(answers, "mutant")
            if a["fate"] == fate
        ]
        parts += ["", f"### {title}", "", *_table(rows)] if len(rows) > 1 else []
    faults = _of(answers, "fault")
    if faults:
        checks = list(found["named"]["by_check"])
        rows = [["fault", "pair", *checks, "pinned"]]
        rows += [
            [a["name"], a["pair"], *("x" if check in a["caught_by"] else "" for check in checks), _pin(a)]
            for a in faults
        ]
        parts += ["", "### Kill matrix", "", *_table(rows)]
    versions = ", ".join(f"{name} {number}" for name, number in content["platform"]["versions"].items())
    parts += ["", f"<sub>{content['date']}; {content['seconds'] / 60:.0f} min; {versions}</sub>"]
    return "\n".join(parts) + "\n"


def _sentences(found: Mapping[str, Any]) -> list[str]:
    lines = []
    if "named" in found:
        named = found["named"]
        lines.append(
            f"named faults: **{_share(named['caught'], named['total'])}** caught, "
            f"**{_share(named['pinned'], named['total'])}** pinned where they were planted"
        )
    if "mutants" in found:
        mutants = found["mutants"]
        how = ", ".join(
            f"{mutants.get(fate, 0)} by {word}"
            for fate, word in (("divergence", "divergence"), ("crash", "crash"), ("timeout", "time"))
        )
        lines.append(
            f"mutants: {mutants['planted']} of {mutants['generated']} planted, {mutants.get('equivalent', 0)} of them "
            f"equivalent; of the rest **{_share(_killed(mutants), _killable(mutants))}** killed ({how})"
        )
        for pair in found["originals"]:
            lines.append(f"**the original of {pair} is taken for a mutant**: kills on it mean nothing")
    return lines


def _of(answers: Answers, *kinds: str) -> list[Mapping[str, Any]]:
    return [answer for answer in answers if answer["kind"] in kinds]


def _killed(mutants: Mapping[str, int]) -> int:
    return sum(mutants.get(fate, 0) for fate in ("divergence", "crash", "timeout"))


def _killable(mutants: Mapping[str, int]) -> int:
    return mutants["planted"] - mutants.get("equivalent", 0)


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})" if whole else "none"


def _pin(fault: Mapping[str, Any]) -> str:
    return "yes" if fault["pinned"] else f"{fault['found'] or 'nowhere'}, not {fault['component']} / {fault['phase']}"


def _code(text: str) -> str:
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def _table(rows: list[list[str]]) -> list[str]:
    head, *body = rows
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(row)} |" for row in body)]
