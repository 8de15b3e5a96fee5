"""The conditions of judging, and that nothing of them is left behind."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import settings

from parity.conditions import judging
from parity.platform_info import platform_info
from parity.profiles import PROFILES, profile_in_force, register_profiles


@pytest.fixture(autouse=True)
def unchosen_profile():
    before = settings.get_current_profile_name()
    settings.load_profile("default")
    yield
    settings.load_profile(before)


def in_force() -> settings:
    assert settings.default is not None
    return settings.default


def test_nobodys_choice_becomes_the_profile_of_ci_and_somebodys_is_kept():
    with profile_in_force() as name:
        assert (name, in_force().derandomize, in_force().database) == ("parity-ci", True, None)
    assert settings.get_current_profile_name() == "default"
    settings.load_profile("parity-dev")
    with profile_in_force() as name:
        assert name == "parity-dev"
    with profile_in_force("parity-nightly"):
        assert in_force().max_examples == 100
    assert settings.get_current_profile_name() == "parity-dev"


def test_profiles_do_not_inherit_what_continuous_integration_loads():
    settings.load_profile("ci")
    register_profiles()
    for name, values in PROFILES.items():
        profile = settings.get_profile(name)
        assert profile.derandomize is values["derandomize"]
        assert (profile.database is None) is ("database" in values)


def test_one_thread_no_warnings_and_both_restored_even_after_an_error():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), judging():
            assert torch.get_num_threads() == 1
            assert platform_info()["threads"] == 1
            assert platform_info()["tf32"] == {"matmul": False, "cudnn": False}
            warnings.warn("ignored", UserWarning, stacklevel=1)
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2
        assert settings.get_current_profile_name() == "default"
    finally:
        torch.set_num_threads(threads)
