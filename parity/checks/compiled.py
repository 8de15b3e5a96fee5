"""compile: torch.compile changes nothing that a side computes, and does compile its encoder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from hypothesis import strategies as st
from tensordict import TensorDictBase
from torch import Tensor, fx

from parity.agents.interface import ACT_LOG_PROB, ENTROPY, FULL_LOG_PROBS, VALUE
from parity.checks.case import Case
from parity.checks.draw import DONE, NOTHING, SEEDS, WEIGHTS, open_scene
from parity.checks.forward import record_inference, record_training
from parity.checks.gradients import record_gradients
from parity.checks.registry import Check, Example, nightly
from parity.compare.trace import Entry, Place, Trace
from parity.compare.verdict import Inconclusive
from parity.pairs.recipe import Pair, Recording
from parity.pairs.subjects import Sides, Subject

CORE = "_core_"
#: Parts of the names of operations that carry a layer's work, as torch and as ATen spell them.
_LAYER_WORK = ("conv", "linear", "mm", "matmul", "einsum", "attention")
#: Recompilations of one function before torch runs it eagerly without a word; a reference has one function per kind of
#: component, and it is called for each of them.
_RECOMPILATIONS = 256


def _examples(pair: Pair, recordings: dict[str, Recording]) -> st.SearchStrategy[Example]:
    flags = st.sampled_from([NOTHING, NOTHING, DONE])
    return st.fixed_dictionaries(
        {
            "source": st.just("generated"),
            "environment": st.none(),
            "seed": SEEDS,
            "weights": WEIGHTS,
            "sizes": st.just("varied"),
            "batch": st.just(3),
            "steps": st.just(2),
            "resets": st.lists(flags, min_size=6, max_size=6),
            "backend": st.sampled_from(["aot_eager", "inductor"] if nightly() else ["aot_eager"]),
            "sides": st.just("both" if nightly() else "candidate"),
            "acting": st.just(nightly()),
        }
    )


def _judge(case: Case, example: Example) -> None:
    scene = open_scene(case, example)
    components = {link.name: link.reference for link in case.pair.components}
    rows = torch.arange(scene.batch)
    done: dict[tuple[str, int | None], dict[Place, Entry]] = {}

    def run(subject: Subject, trace: Trace, policy: Callable[..., TensorDictBase]) -> None:
        # Each mode is called twice, on rows in another order: shapes stay, so a graph that baked in what the first
        # call's rows held would be used again.
        for number in (0, 1):
            order = rows.roll(number)
            trace.phase, trace.minibatch = "forward", number
            td, action = scene.training(subject)
            out = policy(td[order], action=action[order])
            record_training(out, trace)
            if "gradients" in case.pair.capabilities:
                trace.phase = "backward"
                subject.policy.zero_grad()
                _loss(out).backward()
                record_gradients(subject, trace, components)
        if example["acting"]:  # the same encoder and heads: by day the training mode stands for it
            trace.phase = "sequence"
            with torch.no_grad():
                for number in (0, 1):
                    trace.minibatch = number
                    record_inference(policy(scene.sequence(subject)[rows.roll(number)]), trace)

    def eager(subject: Subject, trace: Trace) -> None:
        run(subject, trace, subject.policy)

    def compiled(subject: Subject, trace: Trace) -> None:
        twin = subject.side, subject.nudge
        if twin not in done:
            graphs = Graphs(example["backend"], _encoder_weights(case, subject))
            policy: Any = torch.compile(subject.policy, backend=graphs)
            run(subject, trace, policy)
            graphs.prove(subject.side)
            done[twin] = trace.entries
        trace.entries = done[twin]

    sides = scene.sides
    if example["sides"] == "candidate":  # tracing takes seconds: by day the candidate stands on both sides, traced once
        sides = Sides(sides.candidate, sides.candidate, sides.parameters)
    with _compiler():
        case.contract(eager, compiled, sides, cause="the same side without torch.compile gives something else")


def _loss(out: TensorDictBase) -> Tensor:
    """A scalar whose gradient differs for every output element."""
    terms = [(out[key] ** 2).sum() for key in (ACT_LOG_PROB, ENTROPY, VALUE, FULL_LOG_PROBS)]
    return torch.stack(terms).sum()


class Graphs:
    """A backend that hands graphs to another one, and looks at them as they run.

    Args:
        backend: the other one's name.
        weights: addresses of the encoder's weights.
    """

    def __init__(self, backend: str, weights: set[int]) -> None:
        self._compile = torch._dynamo.lookup_backend(backend)
        self._weights = weights
        self.count = 0
        self.of_encoder = 0

    def __call__(self, graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        """Compile one graph."""
        self.count += 1
        run, works = self._compile(graph, inputs), any(_is_layer_work(node) for node in graph.graph.nodes)
        if not works:
            return run

        def watched(*arguments: Any) -> Any:
            held = (*arguments, *graph.parameters())
            self.of_encoder += any(isinstance(part, Tensor) and part.data_ptr() in self._weights for part in held)
            return run(*arguments)

        return watched

    def prove(self, side: str) -> None:
        """Check that the encoder ran compiled.

        Raises:
            Inconclusive: it did not, so that eager was compared with eager.
        """
        if not self.of_encoder:
            raise Inconclusive(
                f"nothing of the {side}'s encoder was compiled: none of {self.count} graphs multiplies by its weights. "
                "torch._dynamo.disable belongs on the recurrent core alone; TORCH_LOGS=graph_breaks shows where "
                "tracing stops"
            )


def _is_layer_work(node: fx.Node) -> bool:
    name = str(getattr(node.target, "__name__", node.target))
    return node.op.startswith("call") and any(part in name for part in _LAYER_WORK)


def _encoder_weights(case: Case, subject: Subject) -> set[int]:
    """Addresses of the matrices of every component before the core; of all components when there is none."""
    paths = case.pair.paths(subject.side)
    names = list(paths)
    encoder = names[: names.index(CORE)] if CORE in names else names
    modules = [subject.policy.get_submodule(paths[name]) for name in encoder]
    return {value.data_ptr() for module in modules for value in module.parameters() if value.dim() > 1}


@contextmanager
def _compiler() -> Iterator[None]:
    """An empty compiler cache, before and after; graph breaks are no news here and not logged."""
    logger = logging.getLogger("torch._dynamo")
    level = logger.level
    torch._dynamo.reset()
    logger.setLevel(logging.ERROR)
    try:
        with torch._dynamo.config.patch(recompile_limit=_RECOMPILATIONS):
            yield
    finally:
        logger.setLevel(level)
        torch._dynamo.reset()


CHECK = Check(
    name="compile",
    summary="eager = torch.compile, with at least one graph that holds the encoder's work",
    examples=_examples,
    judge=_judge,
    needs=frozenset({"compile"}),
    share=0.05,
    # by day the two that hold every kind of layer of the others: tracing takes seconds, whatever it traces
    nightly_pairs=("example", "latent_attn_tiny", "latent_attn_med"),
)
