"""Make mutants from the syntax tree of a source file: each replaces one span of its text."""

import ast
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from tests.mutants import exclusions, sql

COMPARISONS: dict[type[ast.cmpop], tuple[str, list[str]]] = {
    ast.Lt: ("<", ["<=", ">="]),
    ast.LtE: ("<=", ["<", ">"]),
    ast.Gt: (">", [">=", "<="]),
    ast.GtE: (">=", [">", "<"]),
    ast.Eq: ("==", ["!="]),
    ast.NotEq: ("!=", ["=="]),
    ast.Is: ("is", ["is not"]),
    ast.IsNot: ("is not", ["is"]),
    ast.In: ("in", ["not in"]),
    ast.NotIn: ("not in", ["in"]),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, list[str]]] = {
    ast.Add: ("+", ["-"]),
    ast.Sub: ("-", ["+"]),
    ast.Mult: ("*", ["/"]),
    ast.Div: ("/", ["*"]),
    ast.FloorDiv: ("//", ["*"]),
    ast.Mod: ("%", ["*"]),
    ast.Pow: ("**", ["*"]),
}
CALLS = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "sorted": "list",
    "reversed": "list",
    "filter": "exclude",
    "exclude": "filter",
}


class Span(NamedTuple):
    """Part of a source file, in bytes, as `ast` counts."""

    start: int
    end: int


@dataclass(frozen=True)
class Mutant:
    """One change to one file. `function` is its qualified name; empty where the code is run by the import."""

    file: str
    function: str
    line: int
    operator: str
    start: int
    end: int
    new: str
    before: str
    after: str
    #: Which one of those with the same file, function and texts.
    number: int = 0

    @property
    def key(self) -> str:
        """Identifies the mutant as long as the text of its lines stays the same, wherever they stand."""
        parts = (self.file, self.function, self.operator, self.before, self.after, str(self.number))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


class Source:
    """The text of a file, and where its nodes are."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.data = text.encode()
        self.tree = ast.parse(text)
        self._line_starts = [0]
        for line in self.data.splitlines(keepends=True):
            self._line_starts.append(self._line_starts[-1] + len(line))

    def span(self, node: ast.AST) -> Span:
        return Span(
            self._line_starts[node.lineno - 1] + node.col_offset,
            self._line_starts[node.end_lineno - 1] + node.end_col_offset,
        )

    def read(self, span: Span) -> str:
        return self.data[span.start : span.end].decode()

    def line_of(self, offset: int) -> int:
        return self.data.count(b"\n", 0, offset) + 1

    def replaced(self, span: Span, new: str) -> str:
        return (self.data[: span.start] + new.encode() + self.data[span.end :]).decode()

    def lines_around(self, span: Span, new: str) -> tuple[str, str]:
        """The lines of a span before and after the change, without indentation and line ends."""
        first = self.data.rfind(b"\n", 0, span.start) + 1
        last = self.data.find(b"\n", span.end)
        last = len(self.data) if last < 0 else last
        before = self.data[first:last].decode()
        after = (self.data[first : span.start] + new.encode() + self.data[span.end : last]).decode()
        return " ".join(before.split()), " ".join(after.split())


def make_mutants(name: str, text: str) -> list[Mutant]:
    """All mutants of a file that are valid Python and differ from it, in the order of the file."""
    source = Source(name, text)
    made: list[Mutant] = []
    seen: set[str] = set()
    counted: dict[tuple[str, ...], int] = {}
    for function, span, new, operator in _Visitor(source).mutations():
        changed = source.replaced(span, new)
        if changed == text or changed in seen:
            continue
        seen.add(changed)
        try:
            compile(changed, name, "exec")
        except SyntaxError:
            continue
        before, after = source.lines_around(span, new)
        number = counted[same] = counted.get(same := (function, operator, before, after), -1) + 1
        line = source.line_of(span.start)
        made.append(Mutant(name, function, line, operator, *span, new, before, after, number))
    return sorted(made, key=lambda mutant: (mutant.start, mutant.end, mutant.new))


def apply(mutant: Mutant, text: str) -> str:
    """The text of the file with the mutant in it."""
    return Source(mutant.file, text).replaced(Span(mutant.start, mutant.end), mutant.new)


Found = tuple[str, Span, str, str]


class _Visitor:
    """Walks the tree; knows in the body of which function it is."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._scope: list[str] = []
        self._function = ""
        self._found: list[Found] = []

    def mutations(self) -> list[Found]:
        self._visit_all(self._source.tree.body)
        return self._found

    def _add(self, span: Span, new: str, operator: str) -> None:
        self._found.append((self._function, span, new, operator))

    def _replace(self, node: ast.AST, new: str, operator: str) -> None:
        self._add(self._source.span(node), new, operator)

    def _visit_all(self, nodes: list[ast.stmt]) -> None:
        for node in nodes:
            self._visit(node)

    def _visit(self, node: ast.AST) -> None:
        if self._is_excluded(node):
            return
        method = getattr(self, f"_visit_{type(node).__name__.lower()}", None)
        if method is None:
            self._descend(node)
        else:
            method(node)

    def _descend(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self._visit(child)

    def _is_excluded(self, node: ast.AST) -> bool:
        return (
            exclusions.is_docstring(node)
            or exclusions.is_excluded_call(node)
            or exclusions.is_type_checking(node)
            or isinstance(node, ast.Assert | ast.Import | ast.ImportFrom | ast.TypeIgnore)
            or (isinstance(node, ast.keyword) and node.arg in exclusions.NAMES)
        )

    # --- scopes

    def _visit_functiondef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in exclusions.FUNCTIONS:
            return
        self._visit_decorators(node)
        for default in filter(None, [*node.args.defaults, *node.args.kw_defaults]):
            self._visit(default)  # run where the function is defined, not in it
        outer = self._function
        self._scope.append(node.name)
        self._function = ".".join(self._scope)
        self._visit_all(node.body)
        self._scope.pop()
        self._function = outer

    _visit_asyncfunctiondef = _visit_functiondef

    def _visit_classdef(self, node: ast.ClassDef) -> None:
        self._visit_decorators(node)
        self._scope.append(node.name)
        self._visit_all(node.body)
        self._scope.pop()

    def _visit_decorators(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
        for decorator in node.decorator_list:
            if not exclusions.is_excluded_decorator(decorator):
                span = self._source.span(decorator)
                at = self._source.data.rfind(b"@", 0, span.start)
                self._add(Span(at, span.end), "", "remove a decorator")
                self._visit(decorator)

    # --- statements

    def _visit_annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None and ast.unparse(node.target) not in exclusions.NAMES:
            self._visit(node.value)

    def _visit_assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], ast.Attribute | ast.Subscript):
            self._replace(node, "pass", "remove a statement")
        if ast.unparse(node.targets[0]) not in exclusions.NAMES:
            self._visit(node.value)

    def _visit_augassign(self, node: ast.AugAssign) -> None:
        self._replace(node, "pass", "remove a statement")
        sign = {ast.Add: ("+=", "-="), ast.Sub: ("-=", "+="), ast.BitOr: ("|=", "=")}.get(type(node.op))
        if sign:
            self._replace_between(node.target, node.value, *sign, "change an assignment")
        self._visit(node.value)

    def _visit_expr(self, node: ast.Expr) -> None:
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if not self._is_excluded(value):
            if not isinstance(value, ast.Yield | ast.YieldFrom):
                self._replace(node, "pass", "remove a statement")
            self._visit(value)

    def _visit_delete(self, node: ast.Delete) -> None:
        self._replace(node, "pass", "remove a statement")

    def _visit_raise(self, node: ast.Raise) -> None:
        self._replace(node, "pass", "remove a statement")  # the message is read by developers

    def _visit_break(self, node: ast.Break) -> None:
        self._replace(node, "pass", "remove a statement")

    def _visit_continue(self, node: ast.Continue) -> None:
        self._replace(node, "pass", "remove a statement")

    def _visit_return(self, node: ast.Return) -> None:
        if node.value is None:
            self._replace(node, "pass", "remove a statement")
            return
        if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            self._replace(node.value, "None", "return another value")
        if isinstance(node.value, ast.Compare | ast.BoolOp | ast.UnaryOp):
            self._replace(node.value, "True", "return another value")
            self._replace(node.value, "False", "return another value")
        self._visit(node.value)

    def _visit_with(self, node: ast.With | ast.AsyncWith) -> None:
        for item in node.items:
            if item.optional_vars is None and not exclusions.is_excluded_call(item.context_expr):
                new = "__import__('contextlib').nullcontext()"
                self._replace(item.context_expr, new, "remove a context manager")
                self._visit(item.context_expr)
            elif item.optional_vars is not None:
                self._visit(item.context_expr)
        self._visit_all(node.body)

    _visit_asyncwith = _visit_with

    def _visit_excepthandler(self, node: ast.ExceptHandler) -> None:
        if isinstance(node.type, ast.Tuple):
            self._remove_members(node.type, node.type.elts, "catch fewer exceptions")
        elif node.type is not None:
            self._replace(node.type, "()", "catch fewer exceptions")
        self._visit_all(node.body)

    def _visit_if(self, node: ast.If | ast.While | ast.IfExp) -> None:
        self._negate(node.test)
        self._descend(node)

    _visit_while = _visit_if
    _visit_ifexp = _visit_if

    # --- expressions

    def _negate(self, test: ast.expr) -> None:
        simple = isinstance(test, ast.Compare) and len(test.ops) == 1
        if not simple and not (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not)):
            new = f"not ({self._source.read(self._source.span(test))})"
            self._replace(test, f"({new})" if isinstance(test, ast.NamedExpr) else new, "negate a condition")

    def _visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            if not isinstance(test, ast.NamedExpr) and not any(isinstance(n, ast.NamedExpr) for n in ast.walk(test)):
                self._replace(test, "True", "drop a condition")
        self._descend(node)

    def _visit_compare(self, node: ast.Compare) -> None:
        for (left, right), op in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
            old, replacements = COMPARISONS[type(op)]
            for new in replacements:
                self._replace_between(left, right, old, new, "change a comparison")
            if isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.Tuple | ast.List | ast.Set):
                self._remove_members(right, right.elts, "remove a member")
        self._descend(node)

    def _visit_boolop(self, node: ast.BoolOp) -> None:
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in pairwise(node.values):
            self._replace_between(left, right, old, new, "change a boolean operator")
        ends = [self._source.span(value) for value in node.values]
        for number in range(len(ends)):
            # One operand is left out, and the operator beside it.
            cut = Span(ends[number].start, ends[number + 1].start) if number + 1 < len(ends) else None
            kept = cut or Span(ends[number - 1].end, ends[number].end)
            self._add(self._with_brackets(kept, node, number), "", "drop an operand")
        self._descend(node)

    def _with_brackets(self, kept: Span, node: ast.BoolOp, number: int) -> Span:
        """The span of an operand and its operator, with the brackets around the operand."""
        whole = self._source.span(node)
        text = self._source.read(kept)
        missing = text.count("(") - text.count(")")
        if number + 1 < len(node.values) and missing < 0 and self._source.data[kept.start - 1 : kept.start] == b"(":
            return Span(max(whole.start, kept.start + missing), kept.end)
        if number + 1 == len(node.values) and missing > 0:
            return Span(kept.start, min(whole.end, kept.end + missing))
        return kept

    def _visit_unaryop(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace(node, f"bool({self._source.read(self._source.span(node.operand))})", "negate a condition")
        elif isinstance(node.op, ast.USub):
            self._replace(node, self._source.read(self._source.span(node.operand)), "change arithmetic")
        self._descend(node)

    def _visit_binop(self, node: ast.BinOp) -> None:
        texts = any(isinstance(side, ast.JoinedStr) or _is_text(side) for side in (node.left, node.right))
        if isinstance(node.op, ast.BitOr | ast.BitAnd):
            for side in (node.left, node.right):
                self._replace(node, self._source.read(self._source.span(side)), "drop an operand")
        elif type(node.op) in ARITHMETIC and not texts:
            old, replacements = ARITHMETIC[type(node.op)]
            for new in replacements:
                self._replace_between(node.left, node.right, old, new, "change arithmetic")
        self._descend(node)

    def _visit_call(self, node: ast.Call) -> None:
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in CALLS:
            end = self._source.span(function).end
            self._add(Span(end - len(name), end), CALLS[name], "call another function")
        excluded = exclusions.NAMES | {each for call, each in exclusions.ARGUMENTS if call == ast.unparse(function)}
        for argument in node.keywords:
            if argument.arg not in excluded:
                if argument.arg is not None:
                    self._remove(argument, "remove an argument")
                self._visit(argument.value)
        for each in [node.func, *node.args]:
            self._visit(each)

    def _visit_dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            first = self._source.span(value).start - 2 if key is None else self._source.span(key).start
            self._add(self._to_comma(Span(first, self._source.span(value).end)), "", "remove a member")
            self._visit(value)  # another key is little else than none

    def _visit_set(self, node: ast.Set) -> None:
        self._remove_members(node, node.elts, "remove a member")
        self._descend(node)

    def _visit_constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace(node, str(not value), "change a constant")
        elif isinstance(value, int | float):
            self._replace(node, repr(value + 1), "change a constant")
            self._replace(node, f"({value - 1!r})" if value < 1 else repr(value - 1), "change a constant")
        elif isinstance(value, str):
            self._visit_text(node, value)

    def _visit_text(self, node: ast.Constant, value: str) -> None:
        if sql.is_sql(value):
            self._visit_sql(node)
        elif value:
            raw = self._source.read(self._source.span(node))
            quote = '"""' if raw.endswith('"""') else raw[-1]
            if raw.count(quote) == 2:  # not several literals one after the other
                self._replace(node, raw[: -len(quote)] + "_" + quote, "change a text")

    def _visit_joinedstr(self, node: ast.JoinedStr) -> None:
        raw = self._source.read(self._source.span(node))
        if sql.is_sql(re.sub(r"^\w*(\"\"\"|\"|')", "", raw)):
            self._visit_sql(node)
        # In Python 3.11 the positions within an f-string are not those of the file: nothing in it is visited.

    def _visit_sql(self, node: ast.expr) -> None:
        span = self._source.span(node)
        raw = self._source.read(span)
        for start, end, new, operator in sql.mutations(raw):
            first = span.start + len(raw[:start].encode())
            self._add(Span(first, first + len(raw[start:end].encode())), new, operator)

    # --- spans

    def _replace_between(self, left: ast.expr, right: ast.expr, old: str, new: str, operator: str) -> None:
        """Replace an operator, which stands between two nodes, perhaps with brackets around."""
        start, end = self._source.span(left).end, self._source.span(right).start
        between = self._source.read(Span(start, end))
        pattern = r"\s+".join(re.escape(word) for word in old.split())
        found = re.search(rf"\b{pattern}\b" if old[0].isalpha() else pattern, between)
        if found:
            first = start + len(between[: found.start()].encode())
            self._add(Span(first, first + len(found.group().encode())), new, operator)

    def _remove_members(self, node: ast.expr, members: list[ast.expr], operator: str) -> None:
        if len(members) > 1:
            for member in members:
                self._remove(member, operator)

    def _remove(self, node: ast.AST, operator: str) -> None:
        self._add(self._to_comma(self._source.span(node)), "", operator)

    def _to_comma(self, span: Span) -> Span:
        """A member of a list, with the comma after it or before it."""
        if after := re.match(rb"\s*,\s*", self._source.data[span.end :]):
            return Span(span.start, span.end + after.end())
        before = re.search(rb",\s*$", self._source.data[: span.start])
        return Span(before.start() if before else span.start, span.end)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)


def functions_of(text: str) -> Iterator[tuple[str, int, int]]:
    """Qualified name, first and last line of the body of each function of a file."""

    def walk(node: ast.AST, scope: tuple[str, ...]) -> Iterator[tuple[str, int, int]]:
        for child in ast.iter_child_nodes(node):
            inner = scope
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inner = (*scope, child.name)
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield ".".join(inner), child.body[0].lineno, child.body[-1].end_lineno or 0
            yield from walk(child, inner)

    yield from walk(ast.parse(text), ())
