"""The project that the guide of parity/agents/README.md makes: its files, and a YAML such as its reader has."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import parity.agents
from parity.resources import fixture

GUIDE = Path(parity.agents.__file__).with_name("README.md").read_text(encoding="utf-8")
FILES = {match[1]: match[2] for match in re.finditer(r"```python\n# (\w+\.py)\n(.*?)```", GUIDE, flags=re.S)}
SMALL = {"look": {"out_features": 24}, "critic_1": {"out_features": 32}, "actor_1": {"out_features": 16}}


def write_project(folder: Path) -> None:
    """Write the guide's files and ``glance.yaml``: `fast` without its convolutions, small."""
    content = yaml.safe_load(fixture("agents", "fast.yaml").read_text(encoding="utf-8"))
    kept = content["components"]
    names = ("_core_", "critic_1", "_value_", "actor_1", "_action_embeds_", "_action_")
    components = {
        "_obs_": {"_target_": "ObsTokenToBoxShaper", "sources": None},
        "norm": {"_target_": "ObservationNormalizer", "sources": [{"name": "_obs_"}]},
        "flat": {"_target_": "Flatten", "sources": [{"name": "norm"}]},
        "look": {"_target_": "Linear", "sources": [{"name": "flat"}]},
        **{name: kept[name] for name in names},
    }
    components["_core_"] = {**kept["_core_"], "sources": [{"name": "look"}], "output_size": 16}
    for name, sizes in SMALL.items():
        components[name]["nn_params"] = sizes
    (folder / "glance.yaml").write_text(yaml.safe_dump({**content, "components": components}), encoding="utf-8")
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
