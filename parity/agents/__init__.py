"""The systems under test: one interface, a reference and a candidate implementation, and the facade over both.

Nothing is imported here on purpose: the harness may import :mod:`parity.agents.interface`, and must not load a
concrete agent by doing so.
"""
