"""Operations that migrations of several apps use."""

from typing import Any

from pgtrigger.migrations import RemoveTrigger


class ReplaceTrigger(RemoveTrigger):  # type: ignore[misc]  # pgtrigger's operations have no types
    """Make room in the state for a trigger that `AddTrigger` replaces in the database, where it is never missing.

    Backwards it creates the earlier trigger, after `AddTrigger` has dropped the later one.
    """

    def database_forwards(self, *_: Any) -> None:
        """Leave the trigger alone."""
