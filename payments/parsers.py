"""Reading bodies of requests and messages: exact numbers, a size limit, and nothing that could be read in two ways."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.utils.http import parse_header_parameters
from rest_framework.exceptions import APIException, ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser

#: Where half of a surrogate pair may hide (RFC 8259, section 8.2).
SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")

#: Names of the one encoding that bodies are read in; ASCII is part of it.
UTF8_NAMES: Final = frozenset({"utf-8", "utf8", "us-ascii"})

#: The longest number with a fraction or an exponent.
MAX_NUMBER_CHARACTERS: Final = 100


class BodyTooLarge(APIException):
    """413: the body was not parsed."""

    status_code = 413
    default_code = "body_too_large"

    def __init__(self, most: int) -> None:
        super().__init__(f"The body is larger than {most} bytes.")


class ExactJSONParser(BaseParser):
    """Request bodies, by `read_document`. `setting` names how large they may be, or a view has `max_body_bytes`."""

    media_type = "application/json"
    setting = "MAX_BODY_BYTES"

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """The document in the body, of which no more is read than is needed to find it too large.

        Raises:
            BodyTooLarge, ParseError: see `read_document`.
            UnsupportedMediaType: the body is said to be in another encoding than UTF-8.
        """
        require_utf8(media_type or "")
        view = (parser_context or {}).get("view")
        most: int = getattr(view, "max_body_bytes", None) or getattr(settings, self.setting)
        return read_document(stream.read(most + 1), most=most)


def require_utf8(content_type: str) -> None:
    """Refuse a `charset` that the body would not be read in: JSON is UTF-8 (RFC 8259, section 8.1).

    Raises:
        UnsupportedMediaType: another encoding is named.
    """
    charset = parse_header_parameters(content_type)[1].get("charset", "utf-8")
    if charset.lower() not in UTF8_NAMES:
        raise UnsupportedMediaType(content_type[:100], "Send JSON in UTF-8: `charset` names another encoding.")


def read_document(body: bytes, *, most: int | None = None) -> Any:
    """The document in a body of JSON in UTF-8, with exact numbers.

    Fractions become `Decimal`, never a float, and so do NaN and Infinity: the field they stand in refuses
    them and is named. Repeated names are refused.

    Raises:
        BodyTooLarge: it is longer than `most` bytes, or else the setting `MAX_BODY_BYTES`.
        ParseError: it is not strict JSON.
    """
    most = settings.MAX_BODY_BYTES if most is None else most
    if len(body) > most:
        raise BodyTooLarge(most)
    try:
        document = json.loads(
            body.decode("utf-8"),
            parse_float=read_number,
            parse_constant=Decimal,
            object_pairs_hook=refuse_repeated_names,
        )
    except UnicodeDecodeError:
        raise ParseError("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise ParseError(f"The body is not valid JSON: {error}.") from None
    except (ValueError, ArithmeticError):
        raise ParseError("A number in the body has far too many digits.") from None
    except RecursionError:
        raise ParseError("The body is nested too deeply.") from None
    if SURROGATE_ESCAPE.search(body):
        refuse_lone_surrogates(document)
    return document


def read_number(text: str) -> Decimal:
    """Return an exact number. Raises ValueError if it has more digits than any amount needs.

    Arithmetic with tens of thousands of digits takes tenths of a second.
    """
    if len(text) > MAX_NUMBER_CHARACTERS:
        raise ValueError("too many digits")
    return Decimal(text)


def refuse_lone_surrogates(document: Any) -> None:
    """Half of a character is none: it could neither be stored nor shown."""
    try:
        json.dumps(document, ensure_ascii=False, default=str).encode("utf-8")
    except UnicodeEncodeError:
        raise ParseError("The body has half of a surrogate pair (\\ud800 to \\udfff).") from None


def refuse_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names are unique; with two `amount`s, who could say which was meant?"""
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ParseError("An object in the body has the same name twice.")
    return document
