"""The action space by plain counting: every legal (type, argument) pair in logit order."""

from __future__ import annotations

from collections.abc import Sequence


def legal_pairs(max_args: Sequence[int]) -> list[tuple[int, int]]:
    """All legal pairs in logit order: type by type, argument by argument, the largest argument included."""
    pairs = []
    for kind, largest in enumerate(max_args):
        for argument in range(largest + 1):
            pairs.append((kind, argument))
    return pairs


def illegal_pairs(max_args: Sequence[int]) -> list[tuple[int, int]]:
    """The nearest illegal neighbours of every type, and pairs beyond the last type and before the first."""
    pairs = [(-1, 0), (len(max_args), 0)]
    for kind, largest in enumerate(max_args):
        pairs += [(kind, largest + 1), (kind, -1)]
    return pairs


def embedding_rows(activations: Sequence[tuple[Sequence[str], Sequence[int]]]) -> list[int]:
    """Rows of the embedding table after a series of activations: first-seen full name takes the next row."""
    table: dict[str, int] = {}
    rows: list[int] = []
    for names, max_args in activations:
        rows = []
        for kind, argument in legal_pairs(max_args):
            full = f"{names[kind]}_{argument}"
            if full not in table:
                table[full] = len(table)
            rows.append(table[full])
    return rows
