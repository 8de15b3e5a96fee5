"""``list``: what there is to run."""

from __future__ import annotations

import argparse
import json
from typing import Any

from parity.checks.catalogue import all_checks
from parity.faults.registry import load_catalogues
from parity.pairs.registry import registered_pairs


def list_everything(arguments: argparse.Namespace) -> int:
    """Show pairs, checks and how many faults there are, or each of them."""
    content = _content()
    if arguments.json:
        print(json.dumps(content, indent=1))
        return 0
    for kind, entries in content.items():
        if kind == "faults" and not arguments.faults:
            print(f"faults ({len(entries)}): --faults shows them")
            continue
        print(f"{kind} ({len(entries)})")
        width = max((len(entry["name"]) for entry in entries), default=0)
        for entry in entries:
            print(f"  {entry['name'].ljust(width)}   {_line(kind, entry)}")
    return 0


def _content() -> dict[str, list[dict[str, Any]]]:
    return {
        "pairs": [
            {
                "name": pair.name,
                "components": [link.name for link in pair.components],
                "capabilities": sorted(pair.capabilities),
            }
            for pair in registered_pairs().values()
        ],
        "checks": [
            {
                "name": check.name,
                "summary": check.summary,
                "dtypes": list(check.dtypes),
                "needs": sorted(check.needs),
            }
            for check in all_checks().values()
        ],
        "faults": [
            {
                "name": fault.name,
                "pair": fault.pair,
                "place": fault.place,
                "check": fault.check,
                "component": fault.component,
                "phase": fault.phase,
                "origin": fault.origin,
            }
            for catalogue in load_catalogues().values()
            for fault in catalogue.faults.values()
        ],
    }


def _line(kind: str, entry: dict[str, Any]) -> str:
    if kind == "pairs":
        capabilities = ", ".join(entry["capabilities"]) or "none"
        return f"{len(entry['components'])} components; capabilities: {capabilities}"
    if kind == "checks":
        return f"{entry['summary']} ({', '.join(entry['dtypes'])})"
    return f"{entry['pair']}, {entry['place']}: caught by {entry['check']} at {entry['component']}, {entry['phase']}"
