"""Mutants that compute the same as the original, and why: pair -> name -> reason."""

EQUIVALENT: dict[str, dict[str, str]] = {
    "fast": {
        "parity.agents.pytorch.lstm_wrapper:RecurrentCore.__init__:keyword dropped:2": (
            "the LSTM is made on the meta device and every parameter replaced by one of the right dtype"
        ),
        "parity.agents.pytorch.stages:encoder_linear:keyword dropped:2": (
            "the layer is made on the meta device and its parameters replaced; fast has no encoder of this kind"
        ),
        "parity.agents.pytorch.stages:Stage.__init__:call dropped:1": (
            "the memory format of a weight changes no value, only the time a convolution takes"
        ),
    },
    "latent_attn_tiny": {},
    "latent_attn_small": {},
    "example": {},
}
