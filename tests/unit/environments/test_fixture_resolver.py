"""Fixtures are found in a wheel and in a checkout, and a missing one is reported with both places."""

from __future__ import annotations

from pathlib import Path

import pytest

from parity import resources


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    wheel, checkout = tmp_path / "wheel" / "_fixtures", tmp_path / "checkout" / "fixtures"
    monkeypatch.setattr(resources, "_PLACES", (wheel, checkout))
    return wheel, checkout


def put(folder: Path) -> Path:
    file = folder / "agents" / "some.yaml"
    file.parent.mkdir(parents=True)
    file.touch()
    return file


def test_this_installation_has_its_fixtures() -> None:
    assert resources.fixture("agents", "fast.yaml").is_file()
    assert resources.fixture("observations").is_dir()


def test_a_checkout_is_searched(places: tuple[Path, Path]) -> None:
    assert put(places[1]) == resources.fixture("agents", "some.yaml")


def test_package_data_goes_first(places: tuple[Path, Path]) -> None:
    put(places[1])
    assert put(places[0]) == resources.fixture("agents", "some.yaml")


def test_a_missing_fixture_names_both_places(places: tuple[Path, Path]) -> None:
    with pytest.raises(FileNotFoundError, match=r"fixture 'agents/none\.yaml' is neither at") as caught:
        resources.fixture("agents", "none.yaml")
    for place in places:
        assert str(place / "agents" / "none.yaml") in str(caught.value)
