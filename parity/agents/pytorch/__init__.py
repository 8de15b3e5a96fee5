"""The candidate: hand-written PyTorch policies, each a mixin over a recurrent wrapper plus its own encoder and heads.

Nothing here imports ``parity.agents.component``: two implementations that share code agree by construction.
"""
