"""What mutants are made of: the candidates' own code and the trainer's, each judged on the pair that uses it."""

_AGENTS = "parity.agents.pytorch"
_SHARED = ("actions", "features", "graph", "heads", "inputs", "layers", "lstm_wrapper", "pytorch_agent_mixin")
_TRAINER = ("advantage", "checkpoint", "experience", "losses", "optimizers", "random_stream", "trainer")

#: Pair -> modules.
SOURCES = {
    "fast": (
        *(f"{_AGENTS}.{module}" for module in (*_SHARED, "stages", "weights", "box_trunk", "fast")),
        *(f"parity.training.{module}" for module in _TRAINER),
    ),
    "latent_attn_tiny": tuple(f"{_AGENTS}.{module}" for module in ("packing", "token_memory", "tokens")),
    "latent_attn_small": tuple(f"{_AGENTS}.{module}" for module in ("attention", "latent_attn")),
    "example": (f"{_AGENTS}.example",),
}
