"""Straight-line oracles: plain loops that state what is right. They import nothing that they judge."""
