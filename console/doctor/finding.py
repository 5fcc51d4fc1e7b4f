"""What one check has found."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How bad it is. FAILED is in capitals to be seen in a long list."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was looked at, what it says, and how to mend it."""

    state: State
    what: str
    says: str
    mend: str = ""


def ok(what: str, says: str) -> Finding:
    """All is well."""
    return Finding(State.OK, what, says)


def warning(what: str, says: str, mend: str) -> Finding:
    """Payments go on; somebody should see to it."""
    return Finding(State.WARNING, what, says, mend)


def failed(what: str, says: str, mend: str) -> Finding:
    """Payments stand still, or are in danger."""
    return Finding(State.FAILED, what, says, mend)


def first_line(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
