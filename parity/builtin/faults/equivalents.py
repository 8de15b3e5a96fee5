"""Mutants that compute the same as the original, and why."""

from parity.faults.registry import Equivalent

_AGENTS, _TRAINING = "parity.agents.pytorch", "parity.training"

_META = "it is made on the meta device, and every parameter replaced by one of the right dtype"
_MESSAGE = "its result only appears in the message of an error"
_PLACEHOLDER = "an empty placeholder, replaced before it is read"
_CUDA = "only reached on a GPU"
_TIME = "it changes how long something takes, not what comes out"

EQUIVALENT = (
    Equivalent("*:device dropped", "on a CPU tensors are made there anyway; the check `device` judges it on a GPU"),
    Equivalent(f"{_AGENTS}.lstm_wrapper:RecurrentCore.__init__:keyword dropped", _META, "dtype=dtype"),
    Equivalent(f"{_AGENTS}.stages:encoder_linear:keyword dropped", _META, "dtype=dtype, device='meta'"),
    Equivalent(f"{_AGENTS}.stages:Stage.__init__:call dropped", _TIME, "memory_format"),
    Equivalent(f"{_AGENTS}.graph:nearest:*", _MESSAGE),
    Equivalent(f"{_AGENTS}.actions:ActionTable.__init__:*", _PLACEHOLDER, "torch.empty"),
    Equivalent(f"{_AGENTS}.packing:pack:branches swapped", _TIME, "_CPU_GROUP"),
    Equivalent(f"{_AGENTS}.pytorch_agent_mixin:PyTorchAgentMixin.__init__:call dropped", _CUDA, "device"),
    Equivalent(
        f"{_AGENTS}.tokens:TokenStrip.set_feature_remap:*",
        "codes are below 1,024: either integer type holds them, and they are compared and cast alike",
        "dtype=torch.int32",
    ),
    Equivalent(f"{_TRAINING}.random_stream:*", _CUDA, "cuda"),
    Equivalent(
        f"{_TRAINING}.trainer:Trainer._act_on:keyword dropped", "torch.full makes int64 of an int anyway", "torch.full"
    ),
    Equivalent(
        f"{_TRAINING}.trainer:Trainer._losses:comparison",
        "with a coefficient of 0 the term is 0, whether it is computed or not",
        "l2_init_loss_coef > 0",
    ),
)
