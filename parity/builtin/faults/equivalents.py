"""Mutants that compute the same as the original, and why."""

from parity.faults.registry import Equivalent

_AGENTS, _TRAINING = "parity.agents.pytorch", "parity.training"

_META = "it is made on the meta device, and every parameter replaced by one of the right dtype"
_MESSAGE = "its result only appears in the message of an error, or in the place that a warning names"
_PLACEHOLDER = "a placeholder, replaced by the first activation, without which a policy refuses to act"
_CUDA = "only reached on a GPU"
_TIME = "it changes how much time or memory something takes, not what comes out"
_WIDE = "the numbers are small: any integer type holds them, and they are compared and cast alike"
_STORED = "stored besides, it is replaced by what activation makes of the environment"
_ACTIVE = "a pair's policies are initialised when they are built; that they refuse before is a unit test's"
_TABLE = "both tables are activated together, and the other one refuses as well"
_FORGED = "no file with a valid checksum gets there: each tensor is stored with the policy that it fits"
_CHANCE = "the two sides of the comparison are equal, to the bit, by chance alone"
_INT64_LIST = "torch.tensor makes int64 of integers anyway"
_INT64 = "torch.full makes int64 of an int anyway"

EQUIVALENT = (
    Equivalent("*:keyword dropped", _STORED, "register_buffer("),
    *(
        Equivalent(f"{_AGENTS}.{module}.__init__:constant", _STORED, "persistent=False)")
        for module in (
            *("layers:ActionEmbedding", "layers:Normalizer", "layers:TokensToBox"),
            *("tokens:TokenStrip", "tokens:ValueNormalizer"),
        )
    ),
    # agents
    Equivalent(f"{_AGENTS}.actions:ActionTable.__init__:constant", _STORED, "torch.empty(0, dtype=torch.int64)"),
    Equivalent(f"{_AGENTS}.actions:ActionTable.is_active:*", _TABLE),
    Equivalent(f"{_AGENTS}.actions:ActionTable.activate:keyword dropped", _INT64_LIST, "torch.tensor(max_args"),
    Equivalent(f"{_AGENTS}.pytorch_agent_mixin:PyTorchAgentMixin.forward:and/or", _TABLE, "is_active"),
    Equivalent(f"{_AGENTS}.features:FeatureTable.__init__:*", _ACTIVE, "is_active"),
    Equivalent(f"{_AGENTS}.features:FeatureTable.__init__:constant", _ACTIVE, "False"),
    Equivalent(f"{_AGENTS}.attention:CrossAttention.__init__:*", _TIME, "2 * sizes['num_layers']"),
    Equivalent(f"{_AGENTS}.attention:CrossAttention.__init__:*", _TIME, "asked"),
    Equivalent(f"{_AGENTS}.attention:CrossAttention.__init__:*", _TIME, "absorbed"),
    Equivalent(f"{_AGENTS}.attention:CrossAttention.__init__:*", _TIME, "AbsorbedHeads"),
    Equivalent(
        f"{_AGENTS}.inputs:check_training_action:statement dropped",
        "an action that does not go with a batch without time is refused right after it, in other words",
        "observations.dim() != 4",
    ),
    Equivalent(f"{_AGENTS}.graph:nearest:*", _MESSAGE),
    Equivalent(
        f"{_AGENTS}.layers:TokensToBox.forward:call dropped", "torch scatters by 32-bit integers as well", ".long()"
    ),
    Equivalent(f"{_AGENTS}.layers:TokensToBox.set_feature_remap:*", _WIDE, "dtype=torch.int32"),
    Equivalent(f"{_AGENTS}.layers:ActionEmbedding.__init__:statement dropped", _PLACEHOLDER, "'active_rows'"),
    Equivalent(
        f"{_AGENTS}.layers:TokensToBox.set_feature_remap:comparison",
        "cells are numbered column by column: those of the column behind the last lie behind the box, and are clamped",
        "x >= self.width",
    ),
    Equivalent(f"{_AGENTS}.layers:Normalizer.__init__:name", _PLACEHOLDER, "torch.ones"),
    Equivalent(f"{_AGENTS}.lstm_wrapper:RecurrentCore.__init__:keyword dropped", _META, "dtype=dtype"),
    Equivalent(
        f"{_AGENTS}.lstm_wrapper:RecurrentCore.forward:decorator dropped",
        "it acts under torch.compile alone, which the checks of mutants leave out",
    ),
    Equivalent(
        f"{_AGENTS}.lstm_wrapper:LSTMWrapper.store_state:call dropped",
        "the core returns its own dtype; under autocast alone it would be another",
        ".to(self.dtype)",
    ),
    Equivalent(f"{_AGENTS}.packing:pack:branches swapped", _TIME, "_CPU_GROUP"),
    Equivalent(f"{_AGENTS}.packing:pack:name", "what stands behind a group's last token is masked", "torch.zeros(len("),
    Equivalent(f"{_AGENTS}.graph:read_graph:and/or", _MESSAGE, "'agent config'"),
    Equivalent(f"{_AGENTS}.pytorch_agent_mixin:PyTorchAgentMixin.__init__:call dropped", _CUDA, "device"),
    Equivalent(f"{_AGENTS}.pytorch_agent_mixin:PyTorchAgentMixin.__init__:statement dropped", _CUDA, "'device'"),
    Equivalent(
        f"{_AGENTS}.pytorch_agent_mixin:*.extract_mixin_params:and/or",
        "the dtype is the one under test, and no YAML names one; that others are refused is a unit test's",
        "is_floating_point",
    ),
    Equivalent(
        f"{_AGENTS}.pytorch_agent_mixin:*.compute_weight_metrics:default", "MettaAgent passes delta, its own default"
    ),
    Equivalent(
        f"{_AGENTS}.weights:weight_metrics:call dropped",
        "in float64, on the CPU, nothing is cast: in float32 it is the rounding of a metric",
        "'cpu'",
    ),
    Equivalent(
        f"{_AGENTS}.pytorch_agent_mixin:PyTorchAgentMixin.__init__:default",
        "MettaAgent passes every key: only who builds the class by hand sees its defaults, and a unit test holds them",
    ),
    Equivalent(f"{_AGENTS}.pytorch_agent_mixin:*.extract_mixin_params:and/or", _MESSAGE, "'agent config'"),
    Equivalent(f"{_AGENTS}.pytorch_agent_mixin:*.set_tensordict_fields:keyword dropped", _INT64, "torch.full"),
    Equivalent(f"{_AGENTS}.stages:encoder_linear:keyword dropped", _META, "dtype=dtype, device='meta'"),
    Equivalent(f"{_AGENTS}.stages:Stage.__init__:*", _TIME, "dim() == 4"),
    Equivalent(f"{_AGENTS}.stages:Stage.__init__:call dropped", _TIME, "memory_format"),
    Equivalent(f"{_AGENTS}.tokens:TokenStrip.set_feature_remap:*", _WIDE, "dtype=torch.int32"),
    Equivalent(f"{_AGENTS}.tokens:TokenStrip.set_feature_remap:call dropped", _WIDE, "outside.int()"),
    Equivalent(
        f"{_AGENTS}.tokens:TokenStrip.forward:constant",
        "how many empty slots are left of a batch without a token is free",
        "len(used) else 1",
    ),
    Equivalent(
        f"{_AGENTS}.tokens:FourierTokens.__init__:keyword dropped",
        "the row of id 255 is only read for padding, whose gradient is 0 already",
        "padding_idx=",
    ),
    *(
        Equivalent(f"{_AGENTS}.weights:draw_{law}:keyword dropped", "float32 is torch's default", "dtype=torch.float32")
        for law in ("normal", "orthogonal", "truncated_normal", "uniform")
    ),
    *(
        Equivalent(
            f"{_AGENTS}.inputs:read_resets:{rule}",
            "where no flag is given the zeros are only asked whether there is one among them",
            "dtype=torch.bool",
        )
        for rule in ("keyword dropped", "name")
    ),
    # trainer
    Equivalent(
        f"{_TRAINING}.checkpoint:_agent:branches swapped",
        "it names an agent in messages; agents of other classes differ in their parameters too",
    ),
    Equivalent(f"{_TRAINING}.checkpoint:_optimizer_state:*", _FORGED, "_require_same"),
    Equivalent(f"{_TRAINING}.checkpoint:_require_run:statement dropped", _CUDA, "found.part('random')"),
    Equivalent(
        f"{_TRAINING}.losses:ppo_losses:comparison",
        _CHANCE,
        "(ratio - 1.0).abs() > ppo.clip_coef",
    ),
    Equivalent(
        f"{_TRAINING}.trainer:Trainer._memory:statement dropped",
        "the experience of every shipped agent holds its memory",
        "not in self.spec",
    ),
    Equivalent(
        f"{_TRAINING}.checkpoint:_checksum:name", "the sum is compared with what the same function made", "torch.uint8"
    ),
    Equivalent(
        f"{_TRAINING}.checkpoint:_checksum:statement dropped",
        "a changed name, dtype or shape is refused by what it is compared with",
        "list(value.shape)",
    ),
    Equivalent(f"{_TRAINING}.checkpoint:_write:*", "it matters when the power fails", "fsync"),
    Equivalent(
        f"{_TRAINING}.experience:Experience.__init__:name",
        "every cell is written before an update reads it: the trainer waits until all segments are full",
        "torch.zeros",
    ),
    Equivalent(
        f"{_TRAINING}.experience:Experience.__init__:and/or",
        "the trainer's configuration refuses such sizes before an experience is made of them",
        "min(num_agents",
    ),
    Equivalent(f"{_TRAINING}.losses:ppo_losses:call dropped", _TIME, "l2_init.detach()"),
    Equivalent(f"{_TRAINING}.trainer:Trainer._diverged:comparison", _CHANCE, "> target"),
    Equivalent(f"{_TRAINING}.losses:Losses.detached:call dropped", _TIME, "detach()"),
    Equivalent(f"{_TRAINING}.losses:ppo_losses:scope dropped", _TIME),
    Equivalent(f"{_TRAINING}.random_stream:derived_seed:*", "which seeds are derived is free, as long as they differ"),
    Equivalent(f"{_TRAINING}.random_stream:*:statement dropped", _CUDA, "cuda"),
    Equivalent(f"{_TRAINING}.random_stream:*:arguments swapped", _CUDA, "cuda"),
    Equivalent(f"{_TRAINING}.trainer:Trainer.__init__:statement dropped", _TIME, "torch.compile"),
    Equivalent(f"{_TRAINING}.trainer:Trainer._act_on:keyword dropped", _INT64, "torch.full"),
    Equivalent(f"{_TRAINING}.trainer:Trainer._diverged:operator", "one process: a world of one", "world.size"),
    Equivalent(
        f"{_TRAINING}.trainer:Trainer._losses:comparison",
        "with a coefficient of 0 the term is 0, whether it is computed or not",
        "l2_init_loss_coef > 0",
    ),
)
