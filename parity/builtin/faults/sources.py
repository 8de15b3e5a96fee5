"""What mutants are made of: the candidates' own code and the trainer's, each judged on the pair that uses it."""

from parity.faults.mutation.fates import by_cost

_AGENTS = "parity.agents.pytorch"
_SHARED = ("actions", "features", "heads", "inputs", "layers", "lstm_wrapper", "pytorch_agent_mixin")
_TRAINER = ("advantage", "checkpoint", "experience", "losses", "optimizers", "random_stream", "trainer")

#: What can see a change of the trainer, dearest last; agents are judged by all checks.
_OF_TRAINER = ("optimizer", "experience", "checkpoint", "training", "distributed")
#: What reads and refuses a YAML: most of its mutants are for that check alone to see.
_OF_READING = ("configuration", *(name for name in by_cost() if name != "configuration"))


def _agents(*modules: str, checks: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    return {f"{_AGENTS}.{module}": checks for module in modules}


#: Pair -> module, or module:functions -> the checks that judge its mutants, in this order; none given stands for all.
SOURCES: dict[str, dict[str, tuple[str, ...]]] = {
    "fast": {
        **_agents(*_SHARED, "stages:[!e]*", "weights:[!d]*", "weights:draw_[ou]*", "box_trunk", "fast"),
        **{f"parity.training.{module}": _OF_TRAINER for module in _TRAINER},
    },
    "latent_attn_tiny": _agents(
        *("attention:CrossAttention.forward", "packing", "tokens", "token_memory:AbsorbedHeads.*"),
    ),
    "latent_attn_small": {
        **_agents("attention:*__init__", "attention:_*", "graph", "latent_attn:[!L]*", checks=_OF_READING),
        **_agents("attention:CrossLayer.*", "attention:Self*", "latent_attn", "token_memory:[!A]*"),
        **_agents("stages:encoder_linear", "weights:draw_normal", "weights:draw_truncated_normal"),
    },
    "example": _agents("example"),
}
