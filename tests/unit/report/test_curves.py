"""What counts of a learning curve, and where a picture puts it."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from parity.report.curves import late_mean, to_svg

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("curve", "late"),
    [([3.0], 3.0), ([0.0, 0.0, 0.0, 2.0], 2.0), ([0.0] * 6 + [1.0, 2.0], 1.5), ([5.0, 1.0, 1.0], 1.0)],
)
def test_the_last_quarter_counts(curve, late):
    assert late_mean(curve) == late


def arm(name: str, *curves: list[float], crash: str | None = None) -> dict[str, Any]:
    entry = {"name": name, "kind": "fault", "crash": crash, "mean": 0.5, "spread": 0.1, "first_change": None}
    return entry | {"curves": list(curves), "p": 0.5, "outcome": "different"}


def test_curves_stay_inside_their_panel_and_high_is_up():
    arms = [arm("a<b", [-0.5, 1.5], [0.0, 0.5]), arm("crashed", crash="E"), arm("c", [0.0, 1.0], [0.0, 1.0])]
    picture = ElementTree.fromstring(to_svg({"pair": "fast", "agent_steps": 1000, "arms": arms}))
    bands = picture.findall(f"{SVG}polygon")
    assert len(bands) == 2
    (left_most, high), (_, low) = (map(float, point.split(",")) for point in bands[0].attrib["points"].split()[1:3])
    assert 0 < high < low < float(picture.attrib["height"])
    assert left_most < float(picture.attrib["width"])
    lines = [line.attrib["points"] for line in picture.findall(f"{SVG}polyline")]
    mean = [float(point.split(",")[1]) for point in lines[1].split()]
    assert mean[1] < mean[0]
    assert [text.text for text in picture.findall(f"{SVG}text") if text.text in ("a<b", "crashed", "c")] == ["a<b", "c"]
