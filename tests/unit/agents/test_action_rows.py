from __future__ import annotations

import pytest

from parity.agents.errors import ActionError
from parity.agents.metta_agent import MettaAgent
from parity.builtin.build import builder, default_recipe


def agent(agent_type: str | None) -> MettaAgent:
    built = builder(agent_type)(default_recipe("fast"))
    assert isinstance(built, MettaAgent)
    return built


@pytest.mark.parametrize("agent_type", [None, "fast"])
def test_rows_cross_over_to_a_new_policy_and_go_on_from_there(agent_type):
    first, second = (agent(agent_type) for _ in range(2))
    first.activate_actions(("b", "a"), (1, 0))
    rows = first.action_rows()
    rows["c_0"] = 99  # a copy
    second.restore_action_rows(first.action_rows())
    second.activate_actions(("a", "new", "b"), (0, 0, 1))
    assert second.action_rows() == {**first.action_rows(), "new_0": len(first.action_rows())}


@pytest.mark.parametrize("agent_type", [None, "fast"])
@pytest.mark.parametrize("rows", [{"a_0": 1}, {"a_0": 0, "b_0": 0}, {f"a_{n}": n for n in range(101)}])
def test_what_is_no_assignment_is_refused(agent_type, rows):
    policy = agent(agent_type)
    before = policy.action_rows()
    with pytest.raises(ActionError, match="rows"):
        policy.restore_action_rows(rows)
    assert policy.action_rows() == before
