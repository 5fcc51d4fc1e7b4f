"""Mutations of the text of SQL statements, as it stands in the source file: each changes or removes one clause."""

import re
from collections.abc import Iterator

#: A string is an SQL text if two of these occur in it, or if it begins with one of them.
KEYWORDS = re.compile(
    r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|WHERE|ORDER BY|RETURNING|VALUES|JOIN|LIMIT|ON CONFLICT|EXISTS"
    r"|TRUNCATE|SKIP LOCKED|FROM|AND|NOT|SET|LISTEN|WITH)\b"
)
BEGINS = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|ORDER BY|TRUNCATE|LISTEN|FOR UPDATE)\b|.*\b(SKIP LOCKED)\b"
)
COLUMN = re.compile(r"^\w+ (=|<>|<=|>=|<|>|IS) \S.*$")

#: What is removed whole. A clause ends with its line or with the parenthesis around it.
REMOVED = [
    re.compile(r"ORDER BY [^()\n\"]+?(?= LIMIT| FOR |[)\n\"]|$)"),
    re.compile(r"(?<!DO )\bFOR (NO KEY )?(UPDATE|SHARE)( OF \w+)?( SKIP LOCKED)?"),
    re.compile(r" SKIP LOCKED"),
    re.compile(r" NO KEY"),
    re.compile(r" OF \w+(?=\n| SKIP)"),
    re.compile(r"LIMIT [^\s\")]+"),
    re.compile(r"\bDISTINCT (?!FROM)"),
    re.compile(r"ON CONFLICT[^\n\"]* DO NOTHING"),
    re.compile(r"\bNOT (?!NULL|MATERIALIZED)"),
    re.compile(r" DESC\b"),
]
REPLACED = [
    (re.compile(r"(?<![<>=:!-])<(?![=>])"), ["<=", ">="]),
    (re.compile(r"<=(?!>)"), ["<", ">"]),
    (re.compile(r"(?<![<>=:!-])>(?!=)"), [">=", "<="]),
    (re.compile(r"(?<![<>=:!-])>="), [">", "<"]),
    (re.compile(r"(?<![<>=:!]) = (?!ANY|%\(|new\.)"), [" <> "]),
    (re.compile(r"<>"), ["="]),
    (re.compile(r"\bAND\b"), ["OR"]),
    (re.compile(r"\bOR\b(?! REPLACE)"), ["AND"]),
    (re.compile(r"\bleast\b"), ["greatest"]),
    (re.compile(r"\bgreatest\b"), ["least"]),
    (re.compile(r"\bmin\b"), ["max"]),
    (re.compile(r"\bmax\b"), ["min"]),
    (re.compile(r"\bIS DISTINCT FROM\b"), ["IS NOT DISTINCT FROM"]),
    (re.compile(r"\bIS NOT NULL\b"), ["IS NULL"]),
    (re.compile(r"\bIS NULL\b"), ["IS NOT NULL"]),
    (re.compile(r"\bLEFT JOIN\b"), ["JOIN"]),
    (re.compile(r"(?<!LEFT )\bJOIN\b"), ["LEFT JOIN"]),
    (re.compile(r"\btrue\b"), ["false"]),
    (re.compile(r"\bfalse\b"), ["true"]),
    (re.compile(r"(?<= )\+(?= )"), ["-"]),
    (re.compile(r"(?<= )-(?= )"), ["+"]),
    (re.compile(r"(?<= )\*(?= )"), ["+"]),
    (re.compile(r"(?<=[\s(])\d+(?=[\s,)])(?!\n\s*\))"), ["{next}"]),
    (re.compile(r"'[a-z_.]*'"), ["'other'"]),
]
#: Where a conjunct ends: at the next one, or at the next clause.
CONJUNCT_ENDS = re.compile(
    r"\s(AND|OR|ORDER BY|GROUP BY|RETURNING|LIMIT|FOR|OFFSET|ON|UNION|JOIN|WHERE)\b|[)\"]|\n\s*\)"
)


def is_sql(text: str) -> bool:
    """Whether a string is the text of a statement or of a part of one."""
    return bool(BEGINS.match(text)) or len(set(KEYWORDS.findall(text))) >= 2 or bool(COLUMN.match(text))


def mutations(text: str) -> Iterator[tuple[int, int, str, str]]:
    """Start, end, replacement and operator of each mutation of a text; placeholders in braces stay whole."""
    for start, end, new, operator in _all_mutations(text):
        old = text[start:end]
        # A match that begins or ends within a placeholder of an f-string would not be Python any more.
        if old.count("{") == old.count("}") and text[:start].count("{") == text[:start].count("}"):
            yield start, end, new, operator


def _all_mutations(text: str) -> Iterator[tuple[int, int, str, str]]:
    for pattern in REMOVED:
        for found in pattern.finditer(text):
            yield found.start(), found.end(), "", "SQL: remove a clause"
    for pattern, replacements in REPLACED:
        for found in pattern.finditer(text):
            for new in replacements:
                if new == "{next}":
                    yield found.start(), found.end(), str(int(found.group()) + 1), "SQL: change a number"
                else:
                    yield found.start(), found.end(), new, "SQL: change an operator"
    yield from _conjuncts(text)


def _conjuncts(text: str) -> Iterator[tuple[int, int, str, str]]:
    """Remove each ` AND condition`, the first condition after WHERE, and all of them."""
    for found in re.finditer(r"\bAND\b", text):
        yield found.start(), _end_of_condition(text, found.end()), "", "SQL: remove a condition"
    for found in re.finditer(r"\bWHERE\b ", text):
        end = _end_of_condition(text, found.end())
        yield found.start(), _end_of_clause(text, end), "", "SQL: remove a clause"
        if following := re.match(r"\s+AND\s", text[end:]):
            yield found.end(), end + following.end(), "", "SQL: remove a condition"


def _end_of_condition(text: str, start: int) -> int:
    """Where a condition ends that begins at `start`: parentheses are part of it."""
    depth, at = 0, start
    while at < len(text):
        if text[at] == "(":
            depth += 1
        elif depth and text[at] == ")":
            depth -= 1
        elif not depth and CONJUNCT_ENDS.match(text, at):
            return at
        at += 1
    return at


def _end_of_clause(text: str, end: int) -> int:
    """Where the last of the conditions ends of which the first ends at `end`."""
    while following := re.match(r"\s+(AND|OR)\b", text[end:]):
        end = _end_of_condition(text, end + following.end())
    return end
