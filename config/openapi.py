"""The last touch to the API's documentation."""

from typing import Any


def without_trailing_slashes(result: dict[str, Any], **_context: Any) -> dict[str, Any]:
    """A drf-spectacular hook: our routes end in an optional slash, and are documented without it."""
    result["paths"] = {path.rstrip("/"): operations for path, operations in result["paths"].items()}
    return result
