"""The rules: what a node of a syntax tree may be replaced with."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator

Change = tuple[str, ast.AST | None]
"""Name of the rule, and what stands in for the node; None drops a statement."""

_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
#: Names that a call or attribute has -> names that fit in their place.
_RENAMED = {
    "max": "min",
    "min": "max",
    "amax": "amin",
    "amin": "amax",
    "minimum": "maximum",
    "maximum": "minimum",
    "clamp_min": "clamp_max",
    "clamp_max": "clamp_min",
    "any": "all",
    "all": "any",
    "sum": "mean",
    "mean": "sum",
    "cumsum": "cumprod",
    "exp": "expm1",
    "log_softmax": "softmax",
    "softmax": "log_softmax",
    "zeros": "ones",
    "ones": "zeros",
    "zeros_like": "ones_like",
    "ones_like": "zeros_like",
    "relu": "tanh",
    "tanh": "sigmoid",
    "gelu": "relu",
    "square": "abs",
    "float32": "float64",
    "float64": "float32",
    "int64": "int32",
    "int32": "int64",
    "uint8": "int32",
    "bool": "uint8",
}
#: Methods whose call may be left out: what they are called on stays.
_LEFT_OUT = frozenset(
    [
        "detach",
        "clone",
        "contiguous",
        "square",
        "abs",
        "exp",
        "sqrt",
        "tanh",
        "relu",
        "neg",
        "float",
        "double",
        "long",
        "int",
        "bool",
        "unsqueeze",
        "squeeze",
        "flatten",
        "t",
        "transpose",
        "permute",
        "masked_fill",
        "clamp",
        "clamp_min",
        "clamp_max",
        "to",
        "cpu",
        "flip",
        "cumsum",
        "sum",
        "mean",
        "any",
        "all",
        "index_select",
    ]
)
#: Calls whose first two arguments may change places.
_SYMMETRIC = frozenset({"max", "min", "maximum", "minimum", "equal", "transpose", "logical_and", "logical_or", "gcd"})
#: Keywords that assert something, as an assertion does, or say where a warning points.
ASSERTED = frozenset({"strict", "stacklevel"})
#: A device that holds no values: what is moved to it shows on a CPU, what is not moved at all shows on a GPU alone.
_NOWHERE = ast.Constant("meta")
_NOTHING = ast.parse("__import__('contextlib').nullcontext()", mode="eval").body
#: Context managers and decorators that may be left out.
SCOPES = frozenset({"no_grad", "inference_mode", "disable", "single_thread"})


def changes(node: ast.AST) -> Iterator[Change]:
    """Every change that the rules make of one node; none alters the node itself."""
    match node:
        case ast.BinOp() if type(node.op) in _BINARY and not _is_text(node):
            yield "operator", _with(node, op=_BINARY[type(node.op)]())
        case ast.AugAssign() if type(node.op) in _BINARY:
            yield "operator", _with(node, op=_BINARY[type(node.op)]())
            yield "statement dropped", None
        case ast.Compare() if len(node.ops) == 1:
            yield "comparison", _with(node, ops=[_COMPARED[type(node.ops[0])]()])
        case ast.BoolOp():
            yield "and/or", _with(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or())
        case ast.UnaryOp(op=ast.Not()):
            yield "not dropped", node.operand
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(number))):
            yield "sign", ast.Constant(number - 1)  # of an axis or place: the same one counted from the other end
        case ast.UnaryOp(op=ast.USub()):
            yield "sign", node.operand
        case ast.UnaryOp(op=ast.Invert()):
            yield "inversion dropped", node.operand
        case ast.Constant():
            yield from (("constant", ast.Constant(value)) for value in _other_values(node.value))
        case ast.Call():
            yield from _of_call(node)
        case ast.Attribute() if node.attr in _RENAMED and not isinstance(node.ctx, ast.Store):
            yield "name", _with(node, attr=_RENAMED[node.attr])
        case ast.If():
            yield "condition negated", _with(node, test=ast.UnaryOp(ast.Not(), node.test))
            yield "statement dropped", None
        case ast.IfExp():
            yield "branches swapped", _with(node, body=node.orelse, orelse=node.body)
        case ast.Expr(value=ast.Call()) | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield "statement dropped", None
        case ast.With() if len(node.items) == 1 and name_of(node.items[0].context_expr) in SCOPES:
            yield "scope dropped", _with(node, items=[ast.withitem(_NOTHING)])
        case ast.Continue() | ast.Break():
            yield "loop control", ast.Break() if isinstance(node, ast.Continue) else ast.Continue()


def _of_call(node: ast.Call) -> Iterator[Change]:
    plain = [argument for argument in node.args if not isinstance(argument, ast.Starred)]
    differ = len(plain) == len(node.args) >= 2 and ast.dump(node.args[0]) != ast.dump(node.args[1])
    if differ and name_of(node) not in _SYMMETRIC:
        yield "arguments swapped", _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
    for number, keyword in enumerate(node.keywords):
        if keyword.arg is None or keyword.arg in ASSERTED or _is_default(keyword):
            continue
        before, after = node.keywords[:number], node.keywords[number + 1 :]
        if keyword.arg == "device":
            if not (isinstance(keyword.value, ast.Constant) and keyword.value.value == "meta"):
                yield "device changed", _with(node, keywords=[*before, ast.keyword("device", _NOWHERE), *after])
        else:
            yield "keyword dropped", _with(node, keywords=[*before, *after])
    if _moves(node):
        yield "device changed", _with(node, func=_with(node.func, attr="to"), args=[_NOWHERE, *node.args[1:]])
    elif isinstance(node.func, ast.Attribute) and node.func.attr in _LEFT_OUT:
        inner = node.func.value
        if not (isinstance(inner, ast.Name) and inner.id in ("torch", "functional", "nn", "math")):
            yield "call dropped", inner
        elif node.args:
            yield "call dropped", node.args[0]


def is_placeholder(node: ast.AST) -> bool:
    """Whether a call makes a tensor without elements, ``torch.empty(0, ...)``: there is nothing in it to be wrong."""
    if not (isinstance(node, ast.Call) and name_of(node) == "empty" and node.args):
        return False
    return isinstance(node.args[0], ast.Constant) and node.args[0].value == 0


def _is_default(keyword: ast.keyword) -> bool:
    """Whether it says what torch does anyway."""
    return keyword.arg == "dtype" and ast.unparse(keyword.value) == "torch.float32"


def _moves(node: ast.Call) -> bool:
    """Whether a call moves a tensor to another device and does nothing else: ``.cpu()``, ``.to(other.device)``."""
    match node:
        case ast.Call(func=ast.Attribute(attr="cpu"), args=[], keywords=[]):
            return True
        case ast.Call(func=ast.Attribute(attr="to"), args=[ast.Attribute(attr="device")], keywords=[]):
            return True
    return False


def _other_values(value: object) -> list[bool | int | float]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [2.0 * value if value else 1.0]
    return []


def _with(node: ast.AST, **fields: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def name_of(node: ast.expr) -> str:
    """The last name of what is called or referred to: ``no_grad`` of ``torch.no_grad()``."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_text(node: ast.BinOp) -> bool:
    return any(isinstance(part, ast.JoinedStr) or _is_string(part) for part in (node.left, node.right))


def _is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
