"""The trainer that both implementations share: experience, advantages, PPO losses, optimizers, checkpoints.

Nothing is imported here on purpose: what only loads a policy needs no trainer.
"""
