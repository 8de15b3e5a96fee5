"""What a campaign reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity.faults import campaign


def test_reasons_name_files_by_their_place_in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = f"ConfigError: {Path('fixtures/agents/fast.yaml').resolve()}: one value is wrong"
    monkeypatch.setitem(campaign._PERFORMED, "mutant", lambda pair, name: {"reason": reason})
    found = campaign.perform(("mutant", "fast", "any"))
    assert found["reason"] == "ConfigError: fixtures/agents/fast.yaml: one value is wrong"
