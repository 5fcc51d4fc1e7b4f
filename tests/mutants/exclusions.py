"""Which parts of the source are not mutated, each with the reason."""

import ast
from fnmatch import fnmatch

#: Whole files.
FILES = {
    "*/migrations/*": "has run when the tests begin; `tests/unit/test_migrations.py` holds migrations",
    "*/models.py": "declares tables, which the migrations make; constraints are entries of tests/chaos/guards.py",
    "*/admin.py": "pages of the console",
    "*_admin.py": "pages of the console",
    "*/apps.py": "wiring that fails at start",
    "*/urls.py": "addresses; each has a test by the document of the API",
    "*/__init__.py": "only imports",
    "*/management/*": "texts of commands",
    "messaging/failpoints.py": "kills the process; the crash tests, which are not run here, hold it",
    "messaging/markup.py": "markup of the console",
    "messaging/look_only.py": "pages of the console",
}

#: Functions whose result is only read by developers.
FUNCTIONS = {"__str__", "__repr__"}

#: Calls whose arguments change no behaviour, by their name or its beginning with a dot.
CALLS = {
    "log.": "a log line",
    "logger.": "a log line",
    "failpoint": "only the crash tests arm it, and they are not run here",
    "_": "a translated text",
    "gettext_lazy": "a translated text",
    "Counter": "the help of a metric",
    "Gauge": "the help of a metric",
    "Histogram": "the help of a metric",
    "TypeVar": "a type",
    "cast": "a type",
    "extend_schema": "documentation of the API",
    "extend_schema_view": "documentation of the API",
    "extend_schema_field": "documentation of the API",
    "OpenApiExample": "documentation of the API",
    "OpenApiParameter": "documentation of the API",
    "OpenApiResponse": "documentation of the API",
    "structlog.get_logger": "a log line",
}

#: Decorators whose removal changes the speed, the memory or the type checks only.
DECORATORS = {
    "cache": "speed",
    "lru_cache": "speed",
    "cached_property": "speed",
    "dataclass": "its options change memory and immutability; without it nothing starts",
    "property": "nothing that reads it works without it",
    "staticmethod": "type",
    "classmethod": "nothing that calls it works without it",
    "override": "type",
    "overload": "type",
    "final": "type",
    "abstractmethod": "type",
    "runtime_checkable": "type",
    "extend_schema": "documentation of the API",
    "extend_schema_view": "documentation of the API",
    "extend_schema_field": "documentation of the API",
}

#: Keyword arguments and names that are only shown on a screen or in a document, or that only change speed.
NAMES = {
    "verbose_name", "verbose_name_plural", "help_text", "description", "label", "slots", "frozen", "kw_only",
    "daemon", "thread_name_prefix", "__slots__", "__all__", "title", "detail", "default_detail", "durable",
}  # fmt: skip


#: The same for arguments of one function.
ARGUMENTS = {("threading.Thread", "name"), ("Thread", "name")}


def is_excluded_file(name: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in FILES)


def is_excluded_call(node: ast.AST) -> bool:
    """Whether a call is of `CALLS`."""
    if not isinstance(node, ast.Call):
        return False
    name = ast.unparse(node.func)
    return any(name.startswith(each) if each.endswith(".") else name == each for each in CALLS)


def is_excluded_decorator(node: ast.expr) -> bool:
    name = ast.unparse(node.func if isinstance(node, ast.Call) else node)
    return name.rpartition(".")[2] in DECORATORS


def is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
