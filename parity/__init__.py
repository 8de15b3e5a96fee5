"""parity: prove that a rewritten reinforcement-learning policy behaves like the original."""

__version__ = "0.1.0"
