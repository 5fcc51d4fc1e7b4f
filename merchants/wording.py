"""The API's own words for what the framework finds wrong: short, and saying what to send."""

from collections.abc import Mapping
from typing import Any, Final

from rest_framework import exceptions, fields, serializers

TOO_LONG: Final = "Send at most {max_length} characters."
TOO_SHORT: Final = "Send at least {min_length} characters."
TOO_MANY: Final = "Send at most {max_length} entries."
TOO_FEW: Final = "Send at least {min_length} entries."
TOO_LARGE: Final = "Send a number of at most {max_value}."
TOO_SMALL: Final = "Send a number of at least {min_value}."
NUMBER_TOO_LONG: Final = "This number has too many digits."
NOT_A_LIST: Final = "Send a list: put it in square brackets."
NOT_AN_OBJECT: Final = "Send a JSON object: put it in curly brackets."
NOT_A_MOMENT: Final = "Send a moment in ISO 8601, such as 2026-01-31T12:00:00Z."
NOT_A_DATE: Final = "Send a date in ISO 8601, such as 2026-01-31."

_NUMBER: Final = {"max_value": TOO_LARGE, "min_value": TOO_SMALL, "max_string_length": NUMBER_TOO_LONG}

#: Class of a field or serializer -> code of a fault -> what its error says. Subclasses inherit these as their own.
FIELD_MESSAGES: Final[Mapping[type[Any], Mapping[str, str]]] = {
    fields.Field: {"required": "This field is missing.", "null": "This field has no null: send a value."},
    fields.BooleanField: {"invalid": "Send true or false."},
    fields.CharField: {
        "invalid": "Send a string: put it in double quotes.",
        "blank": "This field is empty: send a value.",
        "max_length": TOO_LONG,
        "min_length": TOO_SHORT,
    },
    fields.EmailField: {"invalid": "Send an e-mail address, such as ada@example.com."},
    fields.RegexField: {"invalid": "This text does not have the form that the documentation describes."},
    fields.SlugField: {
        "invalid": "Send letters, digits, hyphens and underscores only.",
        "invalid_unicode": "Send letters, digits, hyphens and underscores only.",
    },
    fields.URLField: {"invalid": "Send an address, such as https://shop.example.com/webhooks."},
    fields.UUIDField: {"invalid": "Send an id, such as 0192f1c4-7a3e-7c1b-9d43-3f0b1c2d4e5f."},
    fields.IPAddressField: {"invalid": "Send an IPv4 or IPv6 address."},
    fields.IntegerField: {"invalid": "Send a whole number.", **_NUMBER},
    fields.BigIntegerField: {"invalid": "Send a whole number.", **_NUMBER},
    fields.FloatField: {"invalid": "Send a number.", "overflow": NUMBER_TOO_LONG, **_NUMBER},
    fields.DecimalField: {
        "invalid": "Send a decimal number, such as 10.00.",
        "max_digits": "Send at most {max_digits} digits.",
        "max_decimal_places": "Send at most {max_decimal_places} decimals.",
        "max_whole_digits": "Send at most {max_whole_digits} digits before the decimal point.",
        **_NUMBER,
    },
    fields.DateTimeField: {
        "invalid": NOT_A_MOMENT,
        "date": NOT_A_MOMENT,
        "make_aware": "There is no such moment in the time zone {timezone}.",
        "overflow": "This moment is beyond the calendar: it lies before the year 1 or after the year 9999 in UTC.",
    },
    fields.DateField: {"invalid": NOT_A_DATE, "datetime": NOT_A_DATE},
    fields.TimeField: {"invalid": "Send a time in ISO 8601, such as 12:00:00."},
    fields.DurationField: {
        "invalid": "Send a duration as `days hours:minutes:seconds`.",
        "max_value": "Send a duration of at most {max_value}.",
        "min_value": "Send a duration of at least {min_value}.",
        "overflow": "Send a duration of {min_days} to {max_days} days.",
    },
    fields.ChoiceField: {"invalid_choice": "Send one of the values that the documentation names."},
    fields.MultipleChoiceField: {
        "invalid_choice": "Send values that the documentation names.",
        "not_a_list": NOT_A_LIST,
        "empty": "This list is empty: send at least one entry.",
    },
    fields.ListField: {
        "not_a_list": NOT_A_LIST,
        "empty": "This list is empty: send at least one entry.",
        "min_length": TOO_FEW,
        "max_length": TOO_MANY,
    },
    fields.DictField: {"not_a_dict": NOT_AN_OBJECT, "empty": "This object is empty: send at least one member."},
    fields.JSONField: {"invalid": "Send JSON."},
    serializers.Serializer: {"invalid": NOT_AN_OBJECT},
    serializers.ListSerializer: {
        "not_a_list": NOT_A_LIST,
        "empty": "This list is empty: send at least one entry.",
        "min_length": TOO_FEW,
        "max_length": TOO_MANY,
    },
}

#: Class of an exception -> its detail where none is given.
EXCEPTION_DETAILS: Final[Mapping[type[exceptions.APIException], str]] = {
    exceptions.APIException: "Something went wrong on our side.",
    exceptions.ValidationError: "This request is not valid.",
    exceptions.ParseError: "The body cannot be read: send JSON.",
    exceptions.AuthenticationFailed: "This credential is not accepted: send an API key or a valid access token.",
    exceptions.NotAuthenticated: "Send an API key or a valid access token as `Authorization: Bearer …`.",
    exceptions.PermissionDenied: "This credential may not do this.",
    exceptions.NotFound: "There is nothing at this address for this credential.",
    exceptions.MethodNotAllowed: "This address has no method {method}.",
    exceptions.NotAcceptable: "Answers are JSON: send `Accept: application/json`.",
    exceptions.UnsupportedMediaType: "Send JSON with `Content-Type: application/json` in place of {media_type}.",
    exceptions.Throttled: "There were too many requests.",
}

#: Code of a fault that a validator of the framework reports with a fixed text -> what its error says.
VALIDATOR_MESSAGES: Final[Mapping[str, str]] = {
    "null_characters_not_allowed": "Take the NUL character out of this text.",
    "surrogate_characters_not_allowed": "This text has half of a surrogate pair: send valid Unicode.",
}


def install() -> None:
    """Replace the framework's texts. Each instance of a field reads its class's messages when it is made."""
    for kind, messages in FIELD_MESSAGES.items():
        kind.default_error_messages = {**vars(kind).get("default_error_messages", {}), **messages}
    for exception, detail in EXCEPTION_DETAILS.items():
        exception.default_detail = detail
    exceptions.Throttled.extra_detail_singular = "Try again in {wait} second."
    exceptions.Throttled.extra_detail_plural = "Try again in {wait} seconds."
