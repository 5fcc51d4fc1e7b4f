"""What came of telling somebody: the two ends of every channel's attempt."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The recipient, or who carries it there, has taken it. `reference` is the provider's id of it."""

    reference: str = ""
    status_code: int | None = None
    excerpt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """It was not taken, or nobody can say.

    `detail`: why, in words without personal data. `final`: no repetition mends it. `gone`: the receiver wants nothing
    more, ever (HTTP 410). `ours`: the fault is on our side and says nothing of the receiver. `retry_after`: seconds
    that the receiver asks us to wait.
    """

    detail: str
    status_code: int | None = None
    excerpt: str = ""
    final: bool = False
    gone: bool = False
    ours: bool = False
    retry_after: float | None = None


Result = Delivered | Failed


def defect(error: Exception) -> Failed:
    """What a fault of our own comes to: tried again, as all that fails, and in the end a dead letter."""
    return Failed(detail=f"a defect of ours ({type(error).__name__}); the log says more", ours=True)
