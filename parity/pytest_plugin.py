"""The pytest plugin: options, markers and profiles, and what a run planned, ran and found.

It is loaded into every pytest that finds this package installed, so it imports neither torch nor anything that does.
Tests send their results through ``user_properties``, because those cross from the workers of pytest-xdist.
"""

from __future__ import annotations

import pytest

from parity.suite.options import OPTIONS, add_options, read_options
from parity.suite.record import Record

_MARKERS = (
    "parity: judges a reference and a candidate against each other",
    "gpu: needs a CUDA device",
    "slow: takes more than some seconds",
    "nightly: too long for a pull request",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options."""
    add_options(parser)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Declare markers, read options, and make the profiles known before hypothesis loads the one that was asked for."""
    for marker in _MARKERS:
        config.addinivalue_line("markers", marker)
    if config.getoption("--hypothesis-profile", None):  # nobody asked: spare a plain `pytest --help` the import
        from parity.profiles import register_profiles

        register_profiles()
    config.stash[OPTIONS] = options = read_options(config)
    config.pluginmanager.register(Record(config, options), "parity-record")
