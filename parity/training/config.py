"""The trainer's configuration: frozen, checked on construction, read from a YAML mapping in upstream's names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from parity.agents.config import read_yaml
from parity.agents.errors import ConfigError


def _within(default: Any = MISSING, *, low: float = -math.inf, high: float = math.inf, above: bool = False) -> Any:
    """A number from ``low`` (itself excluded if ``above``) to ``high``."""
    return field(default=default, metadata={"low": low, "high": high, "above": above})


class _Section:
    """Checks each field against its annotation and its bounds."""

    path: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for item in fields(self):  # pyright: ignore[reportArgumentType] - every section is a dataclass
            if "low" in item.metadata:
                value = self._checked(item.name, item.type, **item.metadata)
                object.__setattr__(self, item.name, value)
            elif item.type == "bool" and not isinstance(getattr(self, item.name), bool):
                raise self._error(item.name, "give true or false")

    def _checked(self, key: str, kind: Any, *, low: float, high: float, above: bool) -> float | int | None:
        value: Any = getattr(self, key)
        if value is None:
            if kind.endswith("| None"):
                return None
            raise self._error(key, "give a number")
        whole = kind.startswith("int")
        allowed = int if whole else (int, float)
        in_range = (
            isinstance(value, allowed)
            and not isinstance(value, bool)
            and math.isfinite(value)
            and (low < value if above else low <= value)
            and value <= high
        )
        if in_range:
            return value if whole else float(value)
        bounds = [f"{'above' if above else 'of at least'} {low:g}"] if math.isfinite(low) else []
        bounds += [f"{'up to' if bounds else 'of at most'} {high:g}"] if math.isfinite(high) else []
        hint = "; YAML reads 1e-12 as text, write 1.0e-12" if isinstance(value, str) else ""
        raise self._error(key, f"give a {'whole' if whole else 'finite'} number {' and '.join(bounds)}".rstrip() + hint)

    def _error(self, key: str, remedy: str) -> ConfigError:
        return ConfigError(f"trainer config: {self.path}{key} is {getattr(self, key)!r}; {remedy}")


@dataclass(frozen=True)
class OptimizerConfig(_Section):
    """Which optimizer, and its numbers; ``beta1`` is Muon's momentum. Weight decay is Adam's L2, decoupled for Muon."""

    path: ClassVar[str] = "optimizer."

    type: str = "adam"
    learning_rate: float = _within(0.000457, low=0, above=True)
    beta1: float = _within(0.9, low=0, high=0.9999999)
    beta2: float = _within(0.999, low=0, high=0.9999999)
    eps: float = _within(1e-12, low=0, above=True)
    weight_decay: float = _within(0.0, low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.type not in ("adam", "muon"):
            raise self._error("type", "give 'adam' or 'muon'")


@dataclass(frozen=True)
class PPOConfig(_Section):
    """The objective. ``target_kl`` None never stops an update early."""

    path: ClassVar[str] = "ppo."

    gamma: float = _within(0.977, low=0, high=1)
    gae_lambda: float = _within(0.916, low=0, high=1)
    clip_coef: float = _within(0.1, low=0, above=True)
    vf_clip_coef: float = _within(0.1, low=0, above=True)
    clip_vloss: bool = True
    vf_coef: float = _within(0.44, low=0)
    ent_coef: float = _within(0.0021, low=0)
    l2_init_loss_coef: float = _within(0.0, low=0)
    max_grad_norm: float = _within(0.5, low=0, above=True)
    norm_adv: bool = True
    target_kl: float | None = _within(None, low=0, above=True)


@dataclass(frozen=True)
class VTraceConfig(_Section):
    """Upper bounds of the importance ratio in a step's own error (rho) and in the trace behind it (c)."""

    path: ClassVar[str] = "vtrace."

    vtrace_rho_clip: float = _within(1.0, low=0, above=True)
    vtrace_c_clip: float = _within(1.0, low=0, above=True)


@dataclass(frozen=True)
class PrioritizedConfig(_Section):
    """Prioritised sampling of segments: exponent (0 = uniform) and where the importance exponent starts."""

    path: ClassVar[str] = "prioritized_experience_replay."

    prio_alpha: float = _within(0.0, low=0, high=1)
    prio_beta0: float = _within(0.6, low=0, high=1)


_SECTIONS = {
    "optimizer": OptimizerConfig,
    "ppo": PPOConfig,
    "vtrace": VTraceConfig,
    "prioritized_experience_replay": PrioritizedConfig,
}


@dataclass(frozen=True)
class TrainerConfig(_Section):
    """Everything that decides a run beside the policy and the environment. With several ranks, sizes are per rank.

    Args:
        total_updates: updates of the whole run; the importance exponent is annealed over them.
        num_agents: agents of the environment.
        batch_size: agent-steps gathered per update: segments x ``bptt_horizon``.
        bptt_horizon: T, steps of a segment.
        minibatch_size: agent-steps of a minibatch.
        forward_pass_minibatch: agents per policy call in the rollout; 0 = all in one. Each such slice has a memory
            of its own, under the number of its first agent.
        update_epochs: passes over the batch per update.
        gradient_accumulation_steps: minibatches per optimizer step, their losses averaged.
        checkpoint_interval: updates between checkpoints; 0 = none.
        compile: a ``torch.compile`` backend, or False.
        seed: of everything random in the trainer; the policy's initial weights have their own.
        optimizer: see ``OptimizerConfig``.
        ppo: see ``PPOConfig``.
        vtrace: see ``VTraceConfig``.
        prioritized_experience_replay: see ``PrioritizedConfig``.

    Raises:
        ConfigError: a value is illegal, or sizes do not divide; the message names the key.
    """

    total_updates: int = _within(low=1)
    num_agents: int = _within(low=1)
    batch_size: int = _within(low=1)
    bptt_horizon: int = _within(low=1)
    minibatch_size: int = _within(low=1)
    forward_pass_minibatch: int = _within(0, low=0)
    update_epochs: int = _within(1, low=1)
    gradient_accumulation_steps: int = _within(1, low=1)
    checkpoint_interval: int = _within(0, low=0)
    compile: str | bool = False
    seed: int = _within(0, low=0)
    optimizer: OptimizerConfig = OptimizerConfig()
    ppo: PPOConfig = PPOConfig()
    vtrace: VTraceConfig = VTraceConfig()
    prioritized_experience_replay: PrioritizedConfig = PrioritizedConfig()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile is not False and not (isinstance(self.compile, str) and self.compile):
            raise self._error("compile", "give false, or a torch.compile backend such as 'inductor'")
        rows = self.num_agents * self.bptt_horizon
        chunk = self.forward_pass_minibatch or self.num_agents
        self._divides("batch_size", rows, "num_agents * bptt_horizon")
        self._divides("minibatch_size", self.bptt_horizon, "bptt_horizon")
        self._divides("batch_size", self.minibatch_size, "minibatch_size")
        self._divides("num_agents", chunk, "forward_pass_minibatch")
        if self.minibatches % self.gradient_accumulation_steps:
            raise self._error(
                "gradient_accumulation_steps",
                f"give a divisor of the {self.minibatches} minibatches (batch_size / minibatch_size) of an epoch",
            )

    @property
    def segments(self) -> int:
        """Segments in the experience."""
        return self.batch_size // self.bptt_horizon

    @property
    def minibatch_segments(self) -> int:
        """Segments of a minibatch."""
        return self.minibatch_size // self.bptt_horizon

    @property
    def minibatches(self) -> int:
        """Minibatches of one epoch."""
        return self.batch_size // self.minibatch_size

    def _divides(self, key: str, divisor: int, name: str) -> None:
        if getattr(self, key) % divisor:
            raise self._error(key, f"give a multiple of {name}, {divisor}")


def load_trainer_config(path: Path | str) -> TrainerConfig:
    """Read a trainer YAML; see ``trainer_config``."""
    return trainer_config(read_yaml(path), source=str(path))


def trainer_config(content: Mapping[str, Any], *, source: str = "") -> TrainerConfig:
    """Build a TrainerConfig from a mapping with its field names, sections as mappings.

    Raises:
        ConfigError: a key is unknown or missing, or a value is illegal.
    """
    try:
        values = dict(content)
        for name, section in _SECTIONS.items():
            if name in values:
                values[name] = _build(section, values[name], f"{name}.")
        return _build(TrainerConfig, values, "")
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}" if source else str(error)) from error


def _build(kind: type[Any], values: Any, path: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"trainer config: {path.rstrip('.')} is {values!r}; give a mapping of its keys")
    known = {item.name: item.default is MISSING for item in fields(kind)}
    for key in values:
        if key not in known:
            raise ConfigError(f"trainer config: unknown key '{path}{key}'; known keys are {', '.join(sorted(known))}")
    for key, required in known.items():
        if required and key not in values:
            raise ConfigError(f"trainer config: missing key '{path}{key}'; it has no default")
    return kind(**values)
