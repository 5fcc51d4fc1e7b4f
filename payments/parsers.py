"""Reading request bodies: exact numbers, a size limit, and nothing that two readers could read differently."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.conf import settings
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser


class BodyTooLarge(APIException):
    """413: the body was not read."""

    status_code = 413
    default_code = "body_too_large"

    def __init__(self) -> None:
        super().__init__(f"The request body is larger than {settings.MAX_BODY_BYTES} bytes.")


class ExactJSONParser(BaseParser):
    """JSON in UTF-8, with exact numbers.

    Fractions become `Decimal`, never a float, and so do NaN and Infinity: the field they stand in refuses
    them and is named. Repeated names are refused.
    """

    media_type = "application/json"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """The document in the body.

        Raises:
            BodyTooLarge: it is longer than the setting `MAX_BODY_BYTES`.
            ParseError: it is not strict JSON.
        """
        body = stream.read(settings.MAX_BODY_BYTES + 1)
        if len(body) > settings.MAX_BODY_BYTES:
            raise BodyTooLarge
        try:
            return json.loads(
                body.decode("utf-8"),
                parse_float=Decimal,
                parse_constant=Decimal,
                object_pairs_hook=refuse_repeated_names,
            )
        except UnicodeDecodeError:
            raise ParseError("The request body is not UTF-8.") from None
        except (ValueError, ArithmeticError) as error:
            raise ParseError(f"The request body is not valid JSON: {error}.") from None
        except RecursionError:
            raise ParseError("The request body is nested too deeply.") from None


def refuse_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are unique; with two `amount`s, who could say which was meant?"""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("an object has the same name twice")
    return document
