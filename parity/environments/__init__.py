"""Where observations come from: generated token rows, and episodes recorded from the released MettaGrid.

Nothing is imported here on purpose: the recorder needs the optional package ``mettagrid``, the rest does not.
"""
