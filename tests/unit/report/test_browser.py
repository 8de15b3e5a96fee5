"""The page in a headless Chromium: on a phone, in the dark, without a network; and that this is seen."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import headless
import pytest
from page_samples import evil, failing, faults, green

from parity.cli import main
from parity.report.html import to_html

SAMPLE = Path(__file__).parents[3] / "reports" / "sample" / "parity.json"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("page") / "sample.html"
    assert main(["report", str(SAMPLE), "--html", str(out)]) == 0
    return [to_html(green(), beside={"faults": faults()}), to_html(failing()), to_html(evil()), out.read_text()]


def test_a_phone_shows_every_page_without_scrolling_sideways_and_nothing_is_asked_for(pages, tmp_path):
    visits, console = headless.visit(pages, tmp_path)
    assert len(visits) == 4
    for visit in visits:
        assert visit.width == 360
        assert visit.closed <= 360
        assert visit.open <= 360
        assert visit.asked == []
        assert visit.first == "Skip to the content"
        assert visit.background == "rgb(255, 255, 255)"
    assert console == []


def test_the_dark_is_dark_and_a_wide_screen_needs_no_scrolling_either(pages, tmp_path):
    visits, console = headless.visit(pages[:2], tmp_path, width=1200, dark=True)
    assert [visit.background for visit in visits] == ["rgb(15, 20, 25)"] * 2
    assert all(visit.open <= 1200 for visit in visits)
    assert console == []


def test_what_a_page_must_not_do_is_seen(pages, tmp_path):
    """The other direction: each of these pages is broken on purpose."""
    page = pages[0]
    box = '<div style="width: 900px">wide</div>'
    wide = page.replace("</main>", f"{box}</main>")
    hidden = page.replace("</main>", f"<details><summary>x</summary>{box}</details></main>")
    free = re.sub(r"<meta http-equiv=.*?>", "", page)  # the policy would not let it load
    loading = free.replace("</main>", '<img src="http://example.invalid/x.png"></main>')
    (first, second, third), _ = headless.visit([wide, hidden, loading], tmp_path)
    assert first.closed > 360
    assert second.closed <= 360 < second.open
    assert third.asked == ["http://example.invalid/x.png"]


@pytest.mark.parametrize("harm", ["<script>undefined_name()</script>", '<img src="http://example.invalid/x.png">'])
def test_the_page_forbids_itself_scripts_and_requests(pages, tmp_path, harm):
    _, console = headless.visit([pages[0].replace("</main>", f"{harm}</main>")], tmp_path)
    assert len(console) == 1
    assert "Content Security Policy" in console[0]


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_what_it_stands_on(scheme):
    """WCAG asks for a contrast of 4.5."""
    blocks = re.findall(r":root \{(.*?)\}", to_html(green()), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme]))
    for ink, paper in [*product(("ink", "soft", "good", "bad", "odd"), ("paper", "raised")), ("bad", "bad-soft")]:
        high, low = sorted((_luminance(colours[ink]), _luminance(colours[paper])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{ink} on {paper}"


def test_without_a_browser_the_tests_are_skipped_but_not_in_ci(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install"):
        headless.browser()
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="apt-get install"):
        headless.browser()
