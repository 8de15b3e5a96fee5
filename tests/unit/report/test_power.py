"""Detection power: counts, promises and the page."""

from __future__ import annotations

from typing import Any

from parity.report.power import figures, index, reached, summary, to_markdown


def fault(name: str, *caught: str, pinned: bool = True, means: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "kind": "fault", "pair": "fast", "name": name, "caught_by": list(caught), "pinned": pinned,
        "rivals": list(means), "found": "fc1 / forward", "component": "fc2", "phase": "forward",
        "origin": "a tracker", "check": "forward",
    }  # fmt: skip


def mutant(name: str, fate: str, equivalent: str = "") -> dict[str, Any]:
    return {
        "kind": "mutant", "pair": "fast", "name": name, "fate": fate, "equivalent": equivalent, "line": 3,
        "before": "a | b", "after": "a & b",
    }  # fmt: skip


def clean(*means: str, caught: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"kind": "clean", "pair": "fast", "name": "0", "rivals": list(means), "caught_by": list(caught)}


def original(fate: str) -> dict[str, Any]:
    return {"kind": "original", "pair": "fast", "name": "original", "fate": fate}


def content(answers: list[dict[str, Any]]) -> dict[str, Any]:
    platform = {"versions": {"torch": "2.13.0"}}
    return {"figures": figures(answers), "answers": answers, "date": "today", "seconds": 60.0, "platform": platform}


FOUND = [
    fault("a", "forward", "memory", means=("means",)),
    fault("b", "memory", pinned=False),
    mutant("m:f:operator:1", "divergence"),
    mutant("m:f:operator:2", "crash"),
    mutant("m:f:operator:3", "listed", "the same"),
    mutant("m:f:operator:4", "not planted"),
    clean(),
    clean("means"),
]


def test_what_is_counted() -> None:
    found = figures(FOUND)
    assert found["named"] == {
        "total": 2,
        "caught": 2,
        "pinned": 1,
        "by_check": {"forward": {"catches": 1, "alone": 0}, "memory": {"catches": 2, "alone": 1}},
    }
    assert found["mutants"] == {"generated": 4, "planted": 3, "divergence": 1, "crash": 1, "equivalent": 1}
    assert found["originals"] == []
    assert found["means"] == {
        "parity": {"kills": 2, "of": 2, "false_alarms": 0, "clean": 2},
        "means": {"kills": 1, "of": 2, "false_alarms": 1, "clean": 2},
    }


def test_what_other_programs_read() -> None:
    found = index(FOUND)
    assert found["faults"][0] == {
        "name": "a", "origin": "a tracker", "pair": "fast", "expected_check": "forward",
        "caught_by": ["forward", "memory"], "caught": True, "pinned": True,
    }  # fmt: skip
    assert found["mutants"] == {"total": 3, "caught": 2, "crashed": 1, "equivalent": 1, "survivors": []}
    assert (found["kill_rate"], found["pinning_rate"]) == (1.0, 0.5)
    nothing = index([clean()])
    assert (nothing["kill_rate"], nothing["pinning_rate"]) == (None, None)


def test_promises() -> None:
    killed = [mutant(f"m:f:operator:{number}", "crash") for number in range(20, 30)]
    assert not reached(content([*FOUND, *killed]))  # one of two is not pinned
    assert reached(content([fault("a", "forward"), *FOUND[2:], *killed]))
    assert not reached(content([fault("a", "forward"), *FOUND[2:]]))  # one of three is listed as equivalent
    assert not reached(content([fault("a"), *FOUND[2:], *killed]))
    assert not reached(content([*FOUND[2:], *killed, mutant("m:f:operator:5", "survived")]))
    assert reached(content([mutant("m:f:operator:1", "timeout")]))
    assert not reached(content([fault("a", "forward"), clean(caught=("memory",))]))


def test_where_the_original_is_killed_no_kill_counts() -> None:
    answers = [mutant("m:f:operator:1", "crash"), original("survived")]
    assert reached(content(answers))
    killed = content([answers[0], original("crash")])
    assert not reached(killed)
    assert "the original of fast is taken for a mutant" in summary(killed)


def test_the_page_names_survivors_and_what_is_pinned_elsewhere() -> None:
    page = to_markdown(content(FOUND))
    assert "**2 of 2 (100.0%)** caught" in page
    assert "2 of 2 (100.0%) killed (1 by divergence, 1 by crash, 0 by time)" in summary(content(FOUND))
    assert "| `m:f:operator:3` | 3 | `a \\| b` | `a & b` | the same |" in page
    assert "| b | fast |  | x | fc1 / forward, not fc2 / forward |" in page
    assert "| means | 1 of 2 (50.0%) | 1 of 2 (50.0%) |" in page
