"""Change a module-level constant in a process that has imported it, and every constant that is made of it."""

import ast
import datetime as dt
import re
import sys
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: Values without identity: a changed copy of one is as good as a change of it.
PLAIN = (str, bytes, int, float, tuple, frozenset, set, dict, list, dt.timedelta, re.Pattern, types.NoneType)


class NotPossible(ValueError):
    """The change reaches further than the values of constants: the module has to be imported with it."""


def replace_constant(path: str, text: str) -> None:
    """Give the constant that differs in a changed text its new value. Raises NotPossible."""
    before, after = ast.parse(Path(path).read_text()).body, ast.parse(text).body
    changed = [(old, new) for old, new in zip(before, after, strict=True) if ast.dump(old) != ast.dump(new)]
    if not changed:
        return
    if len(changed) != 1 or _target(changed[0][1]) is None:
        raise NotPossible("not one constant")
    module = next(each for each in _project_modules() if each.__file__ == path)
    name = _target(changed[0][1])
    assert name is not None
    _set(module, name, _evaluate(changed[0][1], module))
    for each in _project_modules():
        for value in list(vars(each).values()):
            if hasattr(value, "cache_clear") and getattr(value, "__module__", "").startswith(("payments", "messaging")):
                value.cache_clear()


def _set(module: types.ModuleType, name: str, value: Any) -> None:
    """Set it in its module and where it was imported to, and make again what is made of it."""
    old = vars(module)[name]
    if not isinstance(value, PLAIN) or not isinstance(old, PLAIN):
        raise NotPossible("not a plain value")
    for each in _project_modules():
        if name in vars(each) and (vars(each)[name] is old or each is module):
            setattr(each, name, value)
    for each in _project_modules():
        for node in _users(each.__file__ or "", name):
            if (each, _target(node)) != (module, name):
                _make_again(node, each, name)


def _make_again(node: ast.stmt, module: types.ModuleType, name: str) -> None:
    """Evaluate a statement that reads the changed name, and go on if it makes another value."""
    target = _target(node)
    if target is None:
        raise NotPossible(f"{module.__name__} uses {name} while it is imported")
    if target in vars(module):
        again = _evaluate(node, module)
        if again != vars(module)[target]:
            _set(module, target, again)


def _evaluate(node: ast.stmt, module: types.ModuleType) -> Any:
    try:
        return eval(compile(ast.Expression(node.value), module.__file__ or "", "eval"), vars(module))
    except Exception as error:
        raise NotPossible(str(error)) from error


def _target(node: ast.stmt) -> str | None:
    """The name that an assignment sets; None for any other statement."""
    if isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
        return node.target.id
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def _project_modules() -> list[types.ModuleType]:
    found = [each for each in list(sys.modules.values()) if str(getattr(each, "__file__", "")).startswith(f"{ROOT}/")]
    return [each for each in found if not str(each.__file__).startswith((f"{ROOT}/tests", f"{ROOT}/.venv"))]


@cache
def _parsed(path: str) -> tuple[str, list[ast.stmt]]:
    text = Path(path).read_text()
    return text, ast.parse(text).body


def _users(path: str, name: str) -> Iterator[ast.stmt]:
    """The statements of a file that read a name while the file is imported."""
    text, body = _parsed(path)
    if name in text:
        for node in body:
            if not isinstance(node, ast.Import | ast.ImportFrom) and any(_mentions(part, name) for part in _run(node)):
                yield node


def _run(node: ast.stmt) -> Iterator[ast.AST]:
    """The parts of a statement that its import evaluates: not the bodies of functions."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from [*node.decorator_list, *node.args.defaults, *filter(None, node.args.kw_defaults)]
    elif isinstance(node, ast.ClassDef):
        yield from [*node.decorator_list, *node.bases, *(part for each in node.body for part in _run(each))]
    elif _target(node) is not None:
        yield node.value
    else:
        yield node


def _mentions(node: ast.AST, name: str) -> bool:
    return any(
        (isinstance(each, ast.Name) and each.id == name) or (isinstance(each, ast.Attribute) and each.attr == name)
        for each in ast.walk(node)
    )
