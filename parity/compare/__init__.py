"""Comparing two runs: what was observed, how far apart it is, how far it may be, and where it first differs."""
