"""Forms that set a password."""

from typing import Any


class SavesPasswordOnly:
    """Mixin for Django's forms that set a password: write that column, where Django writes the whole row.

    The web process may not write all columns of a user, even with the values that they have.
    """

    def save(self, commit: bool = True) -> Any:  # Django's
        """Set the password, and save it unless `commit` is false."""
        user = super().save(commit=False)  # type: ignore[misc]  # the form's
        if commit:
            user.save(update_fields=["password"])
        return user
