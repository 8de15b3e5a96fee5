"""What the plugin selects, skips and refuses, and that it costs nothing where it is not used."""

from __future__ import annotations

import pytest


def test_the_plugin_imports_neither_torch_nor_hypothesis(pytester):
    pytester.makepyfile(
        probe="""
        import sys
        import parity.pytest_plugin
        heavy = {"torch", "tensordict", "numpy", "hypothesis", "parity.runner"} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    assert pytester.runpython(pytester.path / "probe.py").ret == 0


def test_help_does_not_import_torch(pytester, stub_plugins):
    pytester.makeconftest(
        """
        import sys

        def pytest_unconfigure():
            print("torch" in sys.modules, "<- torch was imported")
        """
    )
    result = pytester.runpytest_subprocess(*stub_plugins, "--help")
    result.stdout.fnmatch_lines(["*--parity-device=*", "False <- torch was imported"])


def test_other_devices_are_skipped_with_the_reason_unless_a_gpu_is_required(run_stubs):
    result = run_stubs("good", args=("-k", "quiet"))
    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=1, deselected=4)
    result = run_stubs("good", args=("-k", "quiet", "-rs"))
    result.stdout.fnmatch_lines(["SKIPPED * device cuda is not selected; add --parity-device=cuda *"])

    required = run_stubs("good", args=("-k", "quiet", "--parity-require-gpu"))
    assert required.ret == 1
    required.assert_outcomes(passed=1, failed=1, deselected=4)
    required.stdout.fnmatch_lines(["INCONCLUSIVE  good / quiet   cuda float64", "  reason  --parity-require-gpu asks*"])


def test_a_selected_device_that_is_missing_is_inconclusive(run_stubs, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    result = run_stubs("good", args=("-k", "quiet", "--parity-device=cuda", "--parity-report=out"))
    assert result.ret == 1
    result.stdout.fnmatch_lines(["INCONCLUSIVE  good / quiet   cuda float64", "*torch finds no CUDA device"])
    assert not [line for line in result.outlines if "PROBLEM" in line]


@pytest.mark.slow
def test_globs_select_pairs_and_checks_and_refuse_what_matches_nothing(run_stubs):
    result = run_stubs("good", "bad", args=("--parity-pairs=g*", "--parity-checks=[pq]*"))
    assert result.ret == 0
    result.stdout.fnmatch_lines(["planned 3, ran 3: 3 identical"])
    for workers in ("-q", "-n1"):
        result = run_stubs("good", args=("--parity-checks=plane", workers))
        assert result.ret == 1
        result.stdout.fnmatch_lines(["PROBLEM  --parity-checks='plane' matches nothing; did you mean 'plain'[?]"])


def test_collecting_only_reports_nothing(pytester, run_stubs):
    result = run_stubs("good", args=("--collect-only", "-q", "--parity-report=out"))
    assert result.ret == 0
    result.stdout.fnmatch_lines(["test_stubs.py::test_plain[[]good-cpu]"])
    result.stdout.no_fnmatch_line("*planned*")
    assert not (pytester.path / "out").exists()


def test_an_expected_failure_without_a_reason_is_refused_by_file_and_line(run_stubs):
    result = run_stubs("good", expected="\ngood/plain/float64\n")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *expected.txt:2: 'good/plain/float64' has no reason*"])


def test_no_pair_at_all_is_an_error_not_an_empty_green_run(run_stubs):
    result = run_stubs(body="globals().update(parity_tests([], checks=CHECKS))\n")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["no pair to judge: *"])


def test_profiles_of_the_plugin_are_known_to_hypothesis(pytester, stub_plugins):
    pytester.makepyfile(
        """
        from hypothesis import settings

        def test_profile():
            assert settings.get_current_profile_name() == "parity-nightly"
            assert settings.default.max_examples == 100
            assert settings.default.database is not None
        """
    )
    arguments = ("--hypothesis-profile=parity-nightly", "-p", "no:cacheprovider")
    assert pytester.runpytest_subprocess(*stub_plugins, *arguments).ret == 0
