"""Probes: forward hooks and tensor hooks that keep what components take, return and are sent back as gradients.

They return nothing, so they cannot change a value; that probed and unprobed runs agree bit for bit is proven on every
run nevertheless. Module full-backward hooks are not used: they wrap tensors and measurably change gradient bits.

Copying every tensor would cost up to half a forward pass, so tensors are kept by reference, with their version
counters. Whoever writes into one in place afterwards moves its counter: the run is then ``stale`` and must be repeated
with ``copy=True``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, Self

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from parity.compare.trace import Place, Trace
from parity.compare.verdict import Misuse
from parity.compare.watched import Watched


@dataclass
class Call:
    """One call of one component: its inputs and its outputs, detached, and where the run stood.

    Outputs within tuples, lists and mappings are taken out of them.
    """

    component: str
    place: Place
    inputs: tuple[Any, ...]
    outputs: tuple[Tensor, ...]
    keywords: Mapping[str, Any] = field(default_factory=dict)
    gradients: dict[int, Tensor] = field(default_factory=dict)
    mask: int | None = None
    pulled: Mapping[int, Tensor] | None = None  # of a recorded call: what ``pull_back`` gave for its inputs

    @property
    def given(self) -> tuple[Any, ...]:
        """Everything it was given, positional first, taken out of tuples, lists and mappings."""
        return flat((self.inputs, self.keywords))

    @property
    def gave_nan(self) -> bool:
        """Whether an output holds NaN."""
        return any(bool(torch.isnan(part).any()) for part in self.outputs if isinstance(part, Tensor))

    def compared(self, outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """What of the outputs is compared: all, or what their mask marks, see ``Probes``."""
        return tuple(self.marked(part, number, outputs) for number, part in enumerate(outputs))

    def marked(self, part: Any, number: int, outputs: tuple[Any, ...]) -> Any:
        """What of one output, or of the gradient at it, is compared."""
        mask = outputs[self.mask] if self.mask is not None else None
        if not isinstance(mask, Tensor) or not isinstance(part, Tensor) or part.shape[: mask.dim()] != mask.shape:
            return part
        return mask.sum(1) if number == self.mask else part[mask]


def flat(nested: Any) -> tuple[Any, ...]:
    """What tuples, lists and mappings within one another hold, in order."""
    if isinstance(nested, (tuple, list)):
        return tuple(leaf for part in nested for leaf in flat(part))
    if isinstance(nested, (Mapping, TensorDictBase)):
        return tuple(leaf for part in nested.values() for leaf in flat(part))
    return (nested,)


def mapped(nested: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same tuples, lists and dicts with every tensor changed."""
    if isinstance(nested, Tensor):
        return change(nested)
    if isinstance(nested, dict):
        return {key: mapped(part, change) for key, part in nested.items()}
    if isinstance(nested, (tuple, list)):
        parts = [mapped(part, change) for part in nested]
        return type(nested)(*parts) if hasattr(nested, "_fields") else type(nested)(parts)
    return nested


class Probes:
    """Watch the named components of one module while a program runs.

    Args:
        module: the side's outermost module.
        paths: component name -> module path below ``module``.
        trace: receives one entry per component output, in execution order.
        copy: copy tensors instead of keeping references; needed where ``stale`` came out true.
        outputs: whether outputs of components are recorded; else they only say where a program is.
        watched: values to record besides, after calls of the components that they name.
        masks: component name -> which of its outputs is a mask over the slots ``[N, S]`` of the others. Only slots that
            are marked are compared, row by row: what an unmarked slot holds, and how many there are, is free.

    Raises:
        Misuse: a path names no submodule.
    """

    def __init__(
        self,
        module: nn.Module,
        paths: Mapping[str, str],
        trace: Trace,
        *,
        copy: bool = False,
        masks: Mapping[str, int] | None = None,
        watched: Sequence[Watched] = (),
        outputs: bool = True,
    ) -> None:
        self.calls: list[Call] = []
        self.active: list[str] = []  # entered and not left: after an exception, the last one raised it
        self._trace = trace
        self._copy_all = copy
        self._masks = masks or {}
        self._module, self._watched, self._outputs = module, watched, outputs
        self._versions: list[tuple[Tensor, int]] = []
        self._handles: list[RemovableHandle] = []
        self._modules: dict[str, nn.Module] = {}
        for name, path in paths.items():
            try:
                self._modules[name] = module.get_submodule(path)
            except AttributeError as error:
                raise Misuse(
                    f"component {name!r} is linked to {path!r}, which {type(module).__name__} does not have ({error}); "
                    "correct the pair's component links"
                ) from error

    def __enter__(self) -> Self:
        for name, module in self._modules.items():
            self._handles.append(module.register_forward_pre_hook(self._enter(name)))
            self._handles.append(module.register_forward_hook(self._hook(name), with_kwargs=True))
        for watched in self._watched:
            module = self._modules.get(watched.component)
            if module is None and watched.component:
                raise Misuse(
                    f"probe {watched.name!r} waits for component {watched.component!r}, which pair "
                    f"{watched.pair!r} does not have; there are {', '.join(self._modules) or 'none'}"
                )
            at = self._module if module is None else module
            # before the component's own hook: what it is made of differs no later than its output
            self._handles.append(at.register_forward_hook(self._read(watched), prepend=True))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _enter(self, name: str) -> Any:
        def enter(_module: nn.Module, _inputs: tuple[Any, ...]) -> None:
            self.active.append(name)

        return enter

    def _read(self, watched: Watched) -> Any:
        def hook(*_: Any) -> None:
            if self._trace.muted:
                return
            value = watched.read(getattr(self._module, "policy", self._module))
            if not isinstance(value, Tensor):
                raise Misuse(f"probe {watched.name!r} read {type(value).__name__}; it must return a tensor")
            self._trace.record("value", value, component=watched.name, from_probe=True)

        return hook

    def _hook(self, name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            self.active.pop()
            if self._trace.muted or not self._outputs:
                return
            outputs = flat(output)
            kept, named = mapped(inputs, self._keep), mapped(keywords, self._keep)
            returned = tuple(self._keep(part) for part in outputs)
            before = len(self._trace.entries)
            call = Call(
                name, Place(self._trace.phase, name, "output"), kept, returned, named, mask=self._masks.get(name)
            )
            for number, part in enumerate(call.compared(returned)):
                if isinstance(part, Tensor):
                    key = "output" if len(outputs) == 1 else f"output[{number}]"
                    self._trace.record(
                        key,
                        part,
                        component=name,
                        from_probe=True,
                        scale=lambda: _largest(call.given),
                        clone=False,
                    )
            places = list(itertools.islice(self._trace.entries, before, before + 1))
            trace = self._trace
            here = Place(trace.phase, name, "output", trace.step, 0, trace.update, trace.minibatch)
            call.place = places[0] if places else here
            self.calls.append(call)
            for number, part in enumerate(outputs):
                if isinstance(part, Tensor) and part.requires_grad:
                    part.register_hook(_keep_gradient(call, number))

        return hook

    def _keep(self, part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        if self._copy_all or part.is_inference():  # an inference tensor has no version counter
            return part.detach().clone()
        kept = part.detach()
        self._versions.append((kept, kept._version))
        return kept

    @property
    def stale(self) -> bool:
        """Whether something kept by reference was written into afterwards."""
        return any(kept._version != version for kept, version in self._versions)

    def record_gradients(self, component: str) -> None:
        """Record the gradients seen at one component's outputs into the trace, last call first."""
        for call in (call for call in reversed(self.calls) if call.component == component):
            for number in sorted(call.gradients, reverse=True):
                key = "gradient of output" if len(call.outputs) == 1 else f"gradient of output[{number}]"
                gradient = call.marked(call.gradients[number], number, call.outputs)
                self._trace.record(key, gradient, component=call.component, from_probe=True)


def _keep_gradient(call: Call, number: int) -> Any:
    def hook(gradient: Tensor) -> None:
        call.gradients[number] = gradient.detach().clone()

    return hook


def _largest(inputs: tuple[Any, ...]) -> float | None:
    floats = [part for part in inputs if isinstance(part, Tensor) and part.is_floating_point() and part.numel()]
    return max((float(part.detach().abs().max()) for part in floats), default=None)


@torch.no_grad()
def feed(module: nn.Module, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Any, ...]:
    """Run one component on given inputs and return its outputs as a tuple."""
    return flat(module(*mapped(inputs, Tensor.clone), **mapped(dict(keywords), Tensor.clone)))


def pull_back(
    module: nn.Module,
    inputs: tuple[Any, ...],
    gradients: Mapping[int, Tensor],
    keywords: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[dict[int, Tensor], dict[str, Tensor]]:
    """Vector-Jacobian product of one component.

    Returns:
        Gradients of the float inputs by position and of the parameters by name, given the gradients at its outputs.
    """
    leaves = [
        part.detach().clone().requires_grad_()
        if isinstance(part, Tensor) and part.is_floating_point()
        else mapped(part, Tensor.clone)
        for part in inputs
    ]
    with torch.enable_grad():
        outputs = flat(module(*leaves, **mapped(dict(keywords), Tensor.clone)))
        pairs = [
            (outputs[number], gradient)
            for number, gradient in gradients.items()
            if number < len(outputs) and outputs[number].requires_grad and outputs[number].shape == gradient.shape
        ]
        wanted = {index: leaf for index, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.requires_grad}
        named = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
        targets = [*wanted.values(), *named.values()]
        if not pairs or not targets:
            return {}, {}
        found = torch.autograd.grad(
            [out for out, _ in pairs], targets, [gradient for _, gradient in pairs], allow_unused=True
        )
    grads = [torch.zeros_like(target) if grad is None else grad for target, grad in zip(targets, found, strict=True)]
    return dict(zip(wanted, grads, strict=False)), dict(zip(named, grads[len(wanted) :], strict=True))
