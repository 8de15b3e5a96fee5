"""``manifest``: the committed list of cells, compared or updated."""

from __future__ import annotations

import argparse

from parity.pairs.registry import shipped_pairs
from parity.report.files import write_text
from parity.runner import plan
from parity.suite.manifest import PATH, UPDATE, gained, lost, manifest_of, manifest_text, read_manifest


def manifest(arguments: argparse.Namespace) -> int:
    """Show how the planned cells differ from the manifest, 1 when they do; or write the manifest."""
    cells = plan(shipped_pairs())
    if arguments.write:
        write_text(PATH, manifest_text(manifest_of(cells)))
        print(f"{len(cells)} cells of {len(manifest_of(cells))} pairs written to {PATH}")
        return 0
    committed = read_manifest()
    whole = {pair: committed.get(pair, []) for pair in manifest_of(cells)}
    differences = [f"- {name}" for name in lost(committed, cells)] + [f"+ {name}" for name in gained(whole, cells)]
    if differences:
        print("\n".join(differences))
        print(f"the manifest {PATH} differs from the planned cells; if they are as meant, run `{UPDATE}`")
        return 1
    print(f"the manifest holds all {len(cells)} planned cells")
    return 0
