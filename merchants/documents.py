"""How the API's documentation describes what our addresses refuse."""

from typing import Any

from drf_spectacular.utils import OpenApiResponse

#: Described by the room above, which turns every error into one.
PROBLEM = {"$ref": "#/components/schemas/Problem"}


def problems(*codes: int) -> dict[tuple[int, str], Any]:
    """The documentation of error responses."""
    return {(code, "application/problem+json"): OpenApiResponse(PROBLEM) for code in codes}
