"""The collapse watch as it is meant: whole trainings of both sides and of faults, over five seeds."""

from __future__ import annotations

import json

import pytest

from parity.cli import main


@pytest.mark.nightly
@pytest.mark.timeout(4 * 3600)
def test_the_candidate_learns_like_the_reference_and_some_fault_does_not(tmp_path):
    assert main(["collapse", "--folder", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "collapse.json").read_text())
    arms = {arm["name"]: arm for arm in content["arms"]}
    assert min(arms["reference"]["returns"]) > 0.2
    assert arms["fields_of_int32"]["first_change"] is None
    assert arms["logit_index_without_type"]["outcome"] == "different"
