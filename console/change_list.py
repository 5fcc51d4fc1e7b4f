"""The console's lists: Django's, with an answer to filters that only the database or the dates of Python refuse."""

from typing import Any, Final

import structlog
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, ChangeList
from django.db import DataError, ProgrammingError
from django.http import HttpRequest

log = structlog.get_logger(__name__)

#: What a filter's value can raise after Django has accepted it, when its query is compiled or run: a year that no date
#: has, a number that no column holds, a regular expression that does not end, a range without a second end.
UNREADABLE: Final = (ValueError, TypeError, LookupError, ArithmeticError, DataError, ProgrammingError)


class FilteredChangeList(ChangeList):
    """Treats a filter that fails when the rows are read as one that cannot be read: the list without it, and a note."""

    def __init__(self, request: HttpRequest, *arguments: Any, **options: Any) -> None:
        """Read the rows of the page at once.

        Raises:
            IncorrectLookupParameters: a filter cannot be read; Django's admin answers with a redirect.
        """
        try:
            super().__init__(request, *arguments, **options)
            len(self.result_list)  # reads and keeps the rows that the page shows
        except UNREADABLE as error:
            if not set(request.GET) - {ERROR_FLAG}:
                raise  # the list itself is broken
            log.warning("list_filter_unreadable", path=request.path, error=type(error).__name__)
            raise IncorrectLookupParameters(error) from error
