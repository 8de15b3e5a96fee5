"""What must not import what, seen in fresh processes: contracts on paper are checked by lint, these by running."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import {module}
loaded = [name for name in sys.modules if name.startswith({forbidden!r})]
print(",".join(sorted(loaded)))
"""


def loaded_by(module: str, forbidden: tuple[str, ...]) -> str:
    program = PROGRAM.format(module=module, forbidden=forbidden)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("parity.agents.component.policy", ("parity.agents.pytorch", "parity.compare", "parity.checks")),
        ("parity.agents.pytorch.fast", ("parity.agents.component", "parity.compare", "parity.checks")),
        ("parity", ("torch", "parity.")),
        ("parity.pytest_plugin", ("torch", "parity.api", "parity.checks")),
        ("parity.runner", ("parity.agents.component", "parity.agents.pytorch", "parity.agents.metta_agent")),
        ("parity.runner", ("parity.environments", "parity.training", "parity.builtin")),
        ("parity.checks.oracles.observations", ("torch", "parity.agents", "parity.compare")),
        ("parity.checks.oracles.action_space", ("torch", "parity.agents", "parity.compare")),
        ("parity.builtin.fast", ("mettagrid",)),
    ],
)
def test_importing_one_loads_none_of_the_other(module: str, forbidden: tuple[str, ...]):
    assert loaded_by(module, forbidden) == ""
