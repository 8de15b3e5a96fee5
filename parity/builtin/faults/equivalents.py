"""Mutants that compute the same as the original, and why: pair -> name, or glob of names -> reason."""

_META = "it is made on the meta device, and every parameter replaced by one of the right dtype"
_MESSAGE = "its result only appears in the message of an error"
_PLACEHOLDER = "an empty placeholder, replaced before it is read"
_CUDA = "only reached on a GPU"

EQUIVALENT: dict[str, dict[str, str]] = {
    "fast": {
        "parity.agents.pytorch.lstm_wrapper:RecurrentCore.__init__:keyword dropped:2": _META,
        "parity.agents.pytorch.stages:encoder_linear:keyword dropped:2": _META,
        "parity.agents.pytorch.stages:Stage.__init__:call dropped:1": (
            "the memory format of a weight changes no value, only the time a convolution takes"
        ),
        "parity.agents.pytorch.graph:nearest:*": _MESSAGE,
        "parity.agents.pytorch.actions:ActionTable.__init__:keyword dropped:4": _PLACEHOLDER,
        "parity.training.random_stream:RandomStream.__init__:statement dropped:[34]": _CUDA,
        "parity.training.random_stream:RandomStream._read:statement dropped:[12]": _CUDA,
        "parity.training.random_stream:RandomStream._write:statement dropped:[23]": _CUDA,
        "parity.training.random_stream:RandomStream._write:arguments swapped:1": _CUDA,
    },
    "latent_attn_tiny": {
        "parity.agents.pytorch.tokens:TokenStrip.set_feature_remap:name:1": (
            "codes are below 1,024: either integer type holds them, and they are compared and cast alike"
        ),
    },
    "latent_attn_small": {},
    "example": {},
}
