"""Which representation a client gets: JSON, also where it asks for problems alone."""

from typing import Any, Final

from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request

#: The media type of errors (RFC 9457).
PROBLEM: Final = "application/problem+json"


class ProblemNegotiation(DefaultContentNegotiation):
    """Take `Accept: application/problem+json` as a wish for JSON: it names the media type of our errors."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        """Return the renderer and its media type.

        Raises:
            NotAcceptable: the client accepts neither JSON nor problems.
        """
        try:
            chosen: tuple[Any, str] = super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            if PROBLEM not in self._accepted_types(request):
                raise
            chosen = renderers[0], renderers[0].media_type
        return chosen

    def _accepted_types(self, request: Request) -> set[str]:
        """Return the media types in `Accept` without their parameters, in lower case."""
        return {entry.partition(";")[0].strip().lower() for entry in self.get_accept_list(request)}
