"""What checks call, made of a foreign policy and the functions that its side declares."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from parity.agents.interface import (
    ACT_LOG_PROB,
    ACTIONS,
    DONES,
    ENTROPY,
    ENV_ID_START,
    ENV_OBS,
    FULL_LOG_PROBS,
    TRUNCATEDS,
    VALUE,
    VALUES,
    FieldSpec,
)
from parity.api.observations import Environment
from parity.api.outputs import Outputs, PolicyError, evaluated, outputs_of
from parity.api.side import Side, offered_to
from parity.api.state import Layout, leaves, rebuilt
from parity.pairs.recipe import Recipe


class _Widened(TorchFunctionMode):
    """Where a policy asks for float32 it gets float64, so that code with ``.float()`` in it runs in float64 as well."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func`` with float64 in place of float32, given or by default."""
        if func is Tensor.float:
            func = Tensor.double
        args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        kwargs = {key: torch.float64 if value is torch.float32 else value for key, value in (kwargs or {}).items()}
        found = func(*args, **kwargs)
        return found.double() if type(found) is Tensor and found.dtype == torch.float32 else found


class Adapter(nn.Module):
    """A foreign policy as checks call it. Parameters, buffers and submodules have the names that they have in it.

    Args:
        policy: what the builder returned.
        side: how to call it.
        who: whose it is, for messages: ``reference of pair 'mine'``.
        recipe: its build; the environment is an ``Environment``.
    """

    def __init__(self, policy: nn.Module, side: Side, who: str, recipe: Recipe) -> None:
        super().__init__()
        self.policy, self.side, self.who = policy, side, who
        self.environment: Environment = recipe.environment  # pyright: ignore[reportAttributeAccessIssue]
        self.dtype, self.device = recipe.system.dtype, torch.device(recipe.system.device)
        self._asked = {name: offered_to(f) for name in ("call", "sequence") if (f := getattr(side, name)) is not None}
        if side.call is None and side.initial_state is not None and side.get_state is None:
            self._asked["call"] = frozenset({"state"})
        self._layout: Layout | None = None
        if side.initial_state is not None:
            self._layout = Layout.of(lambda batch: self._initial(batch), who)
        self._states: dict[int, Any] = {}

    # Names as in the policy itself.

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Generator[tuple[str, nn.Module]]:
        """Those of the policy."""
        return self.policy.named_modules(memo, prefix, remove_duplicate)

    def get_submodule(self, target: str) -> nn.Module:
        """A module of the policy; the policy for an empty path."""
        return self.policy.get_submodule(target)

    def state_dict(self, *arguments: Any, **options: Any) -> Any:
        """That of the policy."""
        return self.policy.state_dict(*arguments, **options)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Into the policy."""
        return self.policy.load_state_dict(state_dict, strict, assign)

    # What checks call.

    def forward(self, td: TensorDictBase, state: None = None, action: Tensor | None = None) -> TensorDict:
        """Act on ``td``, ``[B]`` or ``[B, T]``, or evaluate joint actions ``[B, T, 2]`` on it.

        Raises:
            PolicyError: the policy returned something else than declared.
        """
        lead = tuple(td.batch_size)
        choice = None if action is None else self.environment.split(action[..., 1].to(torch.int64))
        with self._widened():
            seen = self._cast(td[ENV_OBS])
            if self._layout is None:
                rows = lead[0] if len(lead) == 1 else lead[0] * lead[1]
                folded = seen if len(lead) == 1 else seen.flatten(0, 1)
                given = choice if choice is None or len(lead) == 1 else choice.flatten(0, 1)
                found = outputs_of(
                    self._called(folded, None, None, given)[0], self.side, self.environment, rows, self.who
                )
            else:
                found = self._through_time(td, seen, choice, lead)
            full, log_prob, entropy, chosen = evaluated(found, self.environment, self._folded(choice, len(lead)))
        shaped = {FULL_LOG_PROBS: full, ACT_LOG_PROB: log_prob}
        shaped |= {VALUES: found.value, ACTIONS: chosen} if action is None else {VALUE: found.value, ENTROPY: entropy}
        return TensorDict({key: value.reshape(*lead, *value.shape[1:]) for key, value in shaped.items()}, lead)

    def reset_memory(self) -> None:
        """Forget every stored state."""
        self._states = {}

    def reset_env_memory(self, env_id: int) -> None:
        """Forget the state stored for one slice of the environments."""
        self._states.pop(env_id, None)

    def get_memory(self) -> dict[int, tuple[Tensor, ...]]:
        """Copies of all stored states; each leaf ``[first, B, rest...]``."""
        assert self._layout is not None, "checks ask only where memory is declared"
        stored = {env_id: self._layout.stored(state) for env_id, state in self._states.items()}
        return {env_id: tuple(leaf.detach().clone() for leaf in held) for env_id, held in stored.items()}

    def set_memory(self, memory: Mapping[int, tuple[Tensor, ...]]) -> None:
        """Replace all stored states by copies."""
        self._states = {env_id: self._state_from(held) for env_id, held in memory.items()}

    def get_agent_experience_spec(self) -> dict[str, FieldSpec]:
        """Keys and row shapes of the recurrent state, in a training TensorDict."""
        rows = self._layout.rows if self._layout is not None else ()
        return {key: FieldSpec(row, self.dtype) for key, row in zip(_state_keys(len(rows)), rows, strict=True)}

    def clip_weights(self) -> None:
        """Clip as declared."""
        assert self.side.clip is not None, "checks ask only where clipping is declared"
        self.side.clip(self.policy)

    @contextmanager
    def prepared(self, seen: Any) -> Iterator[tuple[nn.Module, Any]]:
        """The policy, and an observation ``[B]`` in the form in which it is called, for a program of the user's own."""
        with self._widened():
            yield self.policy, self._formed(self._cast(seen))

    # How.

    def _widened(self) -> AbstractContextManager[Any]:
        return _Widened() if self.dtype == torch.float64 else nullcontext()

    def _cast(self, seen: Any) -> Any:
        if isinstance(seen, Tensor):
            return seen.to(self.dtype) if seen.is_floating_point() else seen
        return seen.apply(lambda leaf: leaf.to(self.dtype) if leaf.is_floating_point() else leaf)

    def _formed(self, seen: Any) -> Any:
        if self.side.tensordict:
            return TensorDict({"observation": seen}, seen.shape[:1]) if isinstance(seen, Tensor) else seen.copy()
        return seen if isinstance(seen, Tensor) else dict(seen.items())

    def _called(
        self, seen: Any, state: Any, reset: Tensor | None, action: Tensor | None, *, name: str = "call"
    ) -> tuple[Any, Any]:
        """What the policy returns, and its next state."""
        given_in, seen = seen, self._formed(seen)
        offered = {"state": state, "reset": reset, "action": action}
        given = {key: offered[key] for key in self._asked.get(name, ())}
        function = getattr(self.side, name)
        returned = function(self.policy, seen, **given) if function else self.policy(seen, *given.values())
        if self.side.tensordict and not torch.is_grad_enabled():
            self._carry_over(given_in, seen)
        if self._layout is None:
            return returned, None
        if self.side.get_state is not None:
            return returned, self.side.get_state(self.policy)
        return returned, _next_state(returned, self.who)

    def _carry_over(self, given: Any, seen: TensorDictBase) -> None:
        """Write what the policy put under an observation's key into that observation.

        Its caller's TensorDict would hold it now; here it is given another that holds the same tensors, for what else
        it writes is its results. Not where gradients are recorded: autograd would take it for a change of its inputs.
        """
        before = {"observation": given} if isinstance(given, Tensor) else dict(given.items())
        for key, value in before.items():
            now = seen.get(key, value)
            if now is value:
                continue
            if tuple(now.shape) != tuple(value.shape):
                raise PolicyError(
                    "input",
                    f"the {self.who} wrote {list(now.shape)} over the observation {key!r} {list(value.shape)} of the "
                    "TensorDict that it was given; write it under another key, or into a copy",
                )
            value.copy_(now)

    def _through_time(self, td: TensorDictBase, seen: Any, choice: Tensor | None, lead: tuple[int, ...]) -> Outputs:
        batch, steps = lead[0], lead[1] if len(lead) == 2 else 1
        env_id = int(td[ENV_ID_START].flatten()[0]) if ENV_ID_START in td else 0
        keys = _state_keys(len(self._layout.rows)) if self._layout is not None else ()
        training = choice is not None
        if training and keys and keys[0] in td:
            state = self._state_from([td[key][:, 0].transpose(0, 1) for key in keys])
        else:
            state = None if training else self._states.get(env_id)
        resets = self._resets(td, lead)
        if len(lead) == 2 and self._takes_whole(resets):
            state = self._begin(state, batch, resets[:, 0], name="sequence")
            returned, state = self._called(seen, state, resets, choice, name="sequence")
            found = outputs_of(returned, self.side, self.environment, lead, self.who)
        else:
            parts = []
            for step in range(steps):
                at = (slice(None), step) if len(lead) == 2 else (slice(None),)
                state = self._begin(state, batch, resets[:, step])
                returned, state = self._called(seen[at], state, resets[:, step], None if choice is None else choice[at])
                parts.append(outputs_of(returned, self.side, self.environment, batch, self.who))
            found = Outputs.joined(parts)
        if not training:
            self._states[env_id] = _detached(state)
        return found

    def _takes_whole(self, resets: Tensor) -> bool:
        """Whether a sequence goes to the policy at once; one that is not told of resets must not hold any."""
        if self.side.sequence is None:
            return False
        return "reset" in self._asked["sequence"] or not bool(resets[:, 1:].any())

    def _begin(self, state: Any, batch: int, reset: Tensor, *, name: str = "call") -> Any:
        """The state before a step or a sequence, put into a policy that keeps its own."""
        assert self._layout is not None
        if state is None and self.side.reset is not None and not self.side.resets_rows:
            self.side.reset(self.policy)
            return None
        fresh = self._initial(batch)
        state = fresh if state is None else self._of_batch(state, batch)
        told = "reset" in self._asked.get(name, ())
        if not told and not self.side.resets_rows:
            state = self._layout.masked(state, fresh, reset)
        self._put(state)
        if not told and self.side.resets_rows and self.side.reset is not None:
            self.side.reset(self.policy, reset)
        return state

    def _put(self, state: Any) -> None:
        if self.side.set_state is not None:
            self.side.set_state(self.policy, state)

    def _initial(self, batch: int) -> Any:
        assert self.side.initial_state is not None
        with self._widened():
            return _moved(self.side.initial_state(self.policy, batch), self.dtype, self.device)

    def _state_from(self, stored: Any) -> Any:
        assert self._layout is not None
        values = tuple(stored)
        return self._layout.loaded(self._initial(values[0].shape[1]), values)

    def _of_batch(self, state: Any, batch: int) -> Any:
        assert self._layout is not None
        held = self._layout.stored(state)[0].shape[1]
        if held != batch:
            raise PolicyError("state", f"the stored state holds {held} rows, and {batch} observations were given")
        return state

    def _resets(self, td: TensorDictBase, lead: tuple[int, ...]) -> Tensor:
        flags = [td[key].reshape(*lead) != 0 for key in (DONES, TRUNCATEDS) if key in td]
        reset = torch.zeros(lead, dtype=torch.bool, device=self.device)
        for flag in flags:
            reset = reset | flag
        return reset.reshape(lead[0], -1)

    @staticmethod
    def _folded(choice: Tensor | None, axes: int) -> Tensor | None:
        return choice if choice is None or axes == 1 else choice.flatten(0, 1)


def _state_keys(count: int) -> tuple[str, ...]:
    names = ("h", "c") if count <= 2 else tuple(str(number) for number in range(count))
    return tuple(f"memory_{name}" for name in names[:count])


def _next_state(returned: Any, who: str) -> Any:
    if isinstance(returned, (Mapping, TensorDictBase)) and "state" in returned.keys():  # noqa: SIM118 - or a TensorDict
        return returned["state"]
    if isinstance(returned, (tuple, list)) and len(returned) > 2:
        return returned[2]
    raise PolicyError(
        "state",
        f"the {who} has an initial_state and returned no next state; return (logits, value, state) from call, or a "
        "mapping with 'state', or give get_state and set_state",
    )


def _detached(state: Any) -> Any:
    return rebuilt(state, [leaf.detach() for leaf in leaves(state)])


def _moved(state: Any, dtype: torch.dtype, device: torch.device) -> Any:
    return rebuilt(state, [leaf.to(device, dtype if leaf.is_floating_point() else None) for leaf in leaves(state)])
