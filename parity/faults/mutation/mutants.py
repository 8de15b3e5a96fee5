"""Finding every mutant of a module's functions, and planting one in the running process."""

from __future__ import annotations

import ast
import importlib
import inspect
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from parity.compare.verdict import Misuse
from parity.faults.mutation.operators import ASSERTED, SCOPES, changes, is_placeholder, name_of

_FUNCTION = ast.FunctionDef | ast.AsyncFunctionDef
_DECORATOR, _DEFAULT = "decorator dropped", "default"


@dataclass(frozen=True)
class Mutant:
    """One change of one function.

    Attributes:
        name: module, function, rule and a number; the same until the function changes.
        module: where the function is.
        function: its qualified name.
        line: in the module's file.
        rule: what was done.
        before, after: the changed piece of source; of a number or name the whole expression or call that it is in.
    """

    name: str
    module: str
    function: str
    line: int
    rule: str
    before: str
    after: str
    _node: int  # of the tree, in the order of ast.walk
    _choice: int  # of the node's changes


class NotPlanted(Exception):
    """The changed source does not compile to a function that could stand in for the original."""


def mutants_of(module: str) -> list[Mutant]:
    """All mutants of a module's functions and methods, in the order of its lines.

    What is left out changes no behaviour that a check may judge: messages of errors, assertions, annotations, text,
    tensors without elements, keywords that say what torch does anyway.
    """
    tree = _parsed(module)
    found: list[Mutant] = []
    counts: Counter[tuple[str, str]] = Counter()
    functions, parents = _functions(tree), _parents(tree)
    for number, node in enumerate(ast.walk(tree)):
        function = functions.get(node)
        if function is None:
            continue
        for choice, (rule, instead) in enumerate(_changes(node, function)):
            counts[function.name, rule] += 1
            before, after = _shown(node, instead, parents)
            found.append(
                Mutant(
                    name=f"{module}:{function.name}:{rule}:{counts[function.name, rule]}",
                    module=module,
                    function=function.name,
                    line=getattr(node, "lineno", function.node.lineno),
                    rule=rule,
                    before=_short(before),
                    after=_short(after),
                    _node=number,
                    _choice=choice,
                )
            )
    return sorted(found, key=lambda mutant: (mutant.line, mutant.name))


@contextmanager
def mutated(mutant: Mutant) -> Iterator[None]:
    """Plant a mutant for the duration of a block.

    Raises:
        NotPlanted: it does not compile, or its function cannot be found at run time.
    """
    tree = ast.parse(inspect.getsource(importlib.import_module(mutant.module)))
    node = list(ast.walk(tree))[mutant._node]
    function = _functions(tree)[node]
    rule, instead = list(_changes(node, function))[mutant._choice]
    owner, attribute = _found(mutant.module, mutant.function)
    original = _plain(attribute)
    if rule == _DECORATOR:
        last = mutant.function.rpartition(".")[2]
        setattr(owner, last, original)
        try:
            yield
        finally:
            setattr(owner, last, attribute)
        return
    in_defaults = function.in_defaults(node)
    _replace(tree, node, instead)
    ast.fix_missing_locations(tree)
    before = original.__code__, original.__defaults__, original.__kwdefaults__
    if in_defaults:
        changed = _alone(function.node, original)
        original.__defaults__, original.__kwdefaults__ = changed.__defaults__, changed.__kwdefaults__
    else:
        code = _code(tree, mutant, original)
        original.__code__ = code
    try:
        yield
    finally:
        original.__code__, original.__defaults__, original.__kwdefaults__ = before


@dataclass(frozen=True, eq=False)
class _Function:
    name: str
    node: ast.FunctionDef

    def in_defaults(self, node: ast.AST) -> bool:
        defaults = [*self.node.args.defaults, *(d for d in self.node.args.kw_defaults if d is not None)]
        return any(node is part for default in defaults for part in ast.walk(default))


def _changes(node: ast.AST, function: _Function) -> Iterator[tuple[str, ast.AST | None]]:
    if node is function.node:
        names = [name_of(decorator) for decorator in function.node.decorator_list]
        if any(name in SCOPES for name in names) and len(names) == 1:
            yield _DECORATOR, ast.Name("")
        return
    for rule, instead in changes(node):
        yield (_DEFAULT if function.in_defaults(node) else rule), instead


@cache
def _parsed(module: str) -> ast.Module:
    try:
        return ast.parse(inspect.getsource(importlib.import_module(module)))
    except (ImportError, OSError, TypeError) as error:
        raise Misuse(f"no mutants can be made of module {module!r}: {error}") from error


def _functions(tree: ast.Module) -> dict[ast.AST, _Function]:
    """Node -> the outermost function that it is in, for nodes that may be changed."""
    found: dict[ast.AST, _Function] = {}

    def enter(body: list[ast.stmt], prefix: str) -> None:
        for statement in body:
            if isinstance(statement, ast.ClassDef):
                enter(statement.body, f"{prefix}{statement.name}.")
            elif isinstance(statement, ast.FunctionDef):
                function = _Function(f"{prefix}{statement.name}", statement)
                found[statement] = function
                for part in _judged(statement):
                    found[part] = function

    enter(tree.body, "")
    return found


def _judged(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one whose change may show."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        children = value if isinstance(value, list) else [value]
        if field == "body" and isinstance(node, ast.If) and isinstance(children[-1], ast.Raise):
            continue  # what stands before a raise makes its message
        for child in children:
            if not isinstance(child, ast.AST) or isinstance(child, ast.Raise | ast.Assert | ast.JoinedStr):
                continue
            if (isinstance(child, ast.keyword) and child.arg in ASSERTED) or is_placeholder(child):
                continue
            yield child
            yield from _judged(child)


def _parents(tree: ast.Module) -> dict[ast.AST, ast.AST]:
    return {child: parent for parent in ast.walk(tree) for child in ast.iter_child_nodes(parent)}


def _shown(node: ast.AST, instead: ast.AST | None, parents: dict[ast.AST, ast.AST]) -> tuple[str, str]:
    """The piece of source before and after; a bare number or name says nothing without what it stands in."""
    is_bare = isinstance(node, ast.Constant | ast.UnaryOp | ast.Attribute)
    if not is_bare or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
        return ast.unparse(node), "" if instead is None else ast.unparse(instead)
    around = node
    while isinstance(around, ast.expr | ast.keyword) and not isinstance(around, ast.Call | ast.Compare | ast.BinOp):
        parent = parents.get(around)
        if not isinstance(parent, ast.expr | ast.keyword):
            break
        around = parent
    before = ast.unparse(around)
    if around is node or instead is None:
        return before, "" if instead is None else ast.unparse(instead)
    _replace(around, node, instead)
    after = ast.unparse(around)
    _replace(around, instead, node)
    return before, after


def _replace(tree: ast.AST, node: ast.AST, instead: ast.AST | None) -> None:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is node:
                setattr(parent, field, instead)
            elif isinstance(value, list) and any(entry is node for entry in value):
                place = next(number for number, entry in enumerate(value) if entry is node)
                value[place] = ast.Pass() if instead is None else instead


def _found(module: str, function: str) -> tuple[Any, Any]:
    """The owner of a function or method, and what it holds under that name."""
    owner: Any = importlib.import_module(module)
    *parents, last = function.split(".")
    for name in parents:
        owner = getattr(owner, name)
    return owner, inspect.getattr_static(owner, last)


def _plain(attribute: Any) -> types.FunctionType:
    """The function behind properties, class methods and decorators."""
    if isinstance(attribute, property):
        attribute = attribute.fget
    if isinstance(attribute, staticmethod | classmethod):
        attribute = attribute.__func__
    found = inspect.unwrap(attribute)
    if not isinstance(found, types.FunctionType):
        raise NotPlanted(f"{attribute!r} is no function")
    return found


def _code(tree: ast.Module, mutant: Mutant, original: types.FunctionType) -> types.CodeType:
    """The changed function's code, out of the compiled module."""
    try:
        compiled = compile(tree, original.__code__.co_filename, "exec")
    except (SyntaxError, ValueError, TypeError) as error:
        raise NotPlanted(f"{mutant.name}: {error}") from error
    waiting = [compiled]
    while waiting:
        code = waiting.pop()
        if code.co_qualname == mutant.function and code.co_firstlineno == original.__code__.co_firstlineno:
            if code.co_freevars != original.__code__.co_freevars:
                raise NotPlanted(f"{mutant.name}: it closes over other variables")
            return code
        waiting += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    raise NotPlanted(f"{mutant.name}: its code was not found")


def _alone(node: ast.FunctionDef, original: types.FunctionType) -> types.FunctionType:
    """A function made of a definition outside its class, for its defaults."""
    node.decorator_list = []
    namespace = dict(original.__globals__)
    try:
        exec(compile(ast.Module([node], []), "<mutant>", "exec"), namespace)
    except Exception as error:
        raise NotPlanted(f"{original.__qualname__}: {error}") from error
    return namespace[node.name]


def _short(source: str) -> str:
    line = " ".join(source.split())
    return line if len(line) <= 90 else f"{line[:87]}..."
