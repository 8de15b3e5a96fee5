"""The pairs that ship: the one place that knows both the harness and the agents."""
