"""`POST /payments/batch`: many payments by one request, each with its own idempotency key and its own outcome."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Final, cast

from django.http import HttpResponse
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from drf_standardized_errors.handler import exception_handler
from rest_framework import serializers
from rest_framework.exceptions import APIException
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request

from merchants import buckets, limits
from merchants.buckets import Ticket
from merchants.models import Scope
from merchants.plain_request import plain
from merchants.principal import Principal, caller_of
from merchants.strict import BoundedListField, ExactCharField, KnownFieldsOnly
from payments.errors import TooManyPayments
from payments.idempotency import Answer, key_of_item
from payments.operations import Outcome, Wish, accept_payments, attempt
from payments.parsers import ExactJSONParser
from payments.serializers import PaymentRequestSerializer, PaymentSerializer, ProblemSerializer, problems, request_in

#: How many payments one request may ask for: they are accepted by one statement, in some tenths of a second.
MOST: Final = 500

Item = Mapping[str, Any]


class BatchParser(ExactJSONParser):
    """Bodies of batches, which may be larger than others."""

    setting = "MAX_BATCH_BYTES"


class BatchItemSerializer(PaymentRequestSerializer):
    """A wish to be paid, as of `POST /payments`."""

    idempotency_key = ExactCharField(
        max_length=257, help_text="A value of your own, new for each payment, the same for each retry of it."
    )


class BatchRequestSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Payments, each with its own `idempotency_key`."""

    payments = BoundedListField(child=BatchItemSerializer(), min_length=1, max_length=MOST)


class ItemsSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """The same as far as the request is looked at as a whole: what is wrong with one payment is its own outcome."""

    payments = BoundedListField(child=serializers.DictField(), min_length=1, max_length=MOST)


class BatchResultSerializer(serializers.Serializer[Any]):
    """What became of one payment: the status code that `POST /payments` would have answered, and its body."""

    status = serializers.IntegerField()
    idempotency_key = serializers.CharField(allow_null=True, help_text="As it came.")
    replayed = serializers.BooleanField(help_text="Whether this repeats the answer to an earlier request.")
    payment = PaymentSerializer(allow_null=True)
    problem = ProblemSerializer(allow_null=True, help_text="Its pointers lead into the payment's own object.")


class BatchSerializer(serializers.Serializer[Any]):
    """What became of each, in the order of the request."""

    object = serializers.CharField(help_text="Always `batch`.")
    accepted = serializers.IntegerField(help_text="How many were accepted, now or earlier.")
    refused = serializers.IntegerField()
    results = BatchResultSerializer(many=True)


class PaymentBatchView(GenericAPIView[Any]):
    """Create many payments."""

    scopes: ClassVar = {"POST": Scope.PAYMENTS_WRITE}
    limits: ClassVar = {"POST": None}  # goes by the bucket
    parser_classes = (BatchParser,)
    serializer_class = BatchRequestSerializer

    @extend_schema(
        operation_id="payments_create_batch",
        request=BatchRequestSerializer,
        responses={
            (200, "application/json"): OpenApiResponse(BatchSerializer, description="All of them were accepted."),
            (207, "application/json"): OpenApiResponse(BatchSerializer, description="Some of them were not."),
            **problems(400, 401, 403, 413, 415, 503),
        },
    )
    def post(self, request: Request) -> HttpResponse:
        """Accept up to 500 payments, each as `POST /payments` would, one after the other.

        One that is refused is none of the others' business. Send the same request again if there was no answer: what
        was accepted is repeated, and nothing is charged twice. Each payment takes one token of the limit `creation`.
        The headers `Idempotency-Key` and `Prefer` mean nothing here.
        """
        caller = caller_of(request)
        items = read_items(request, caller)
        tickets = take(request, caller, len(items))
        outcomes = accept(items, tickets, caller, request_id=request.META["HTTP_X_REQUEST_ID"])
        settled = list(zip(items, tickets, outcomes, strict=True))
        buckets.give_back_all([ticket for _, ticket, outcome in settled if costs_nothing(outcome)])
        return respond([self.result(item, outcome, request) for item, _, outcome in settled], outcomes)

    def result(self, item: Item, outcome: Outcome, request: Request) -> str:
        """What became of one, in JSON. An answer is repeated byte for byte."""
        if isinstance(outcome, Answer):
            return written(item, status=outcome.status_code, replayed=outcome.replayed, payment=outcome.body)
        refusal = exception_handler(outcome, {"request": request, "view": self, "args": (), "kwargs": {}})
        assert refusal is not None, "it has an answer for every exception"
        return written(item, status=refusal.status_code, problem=json.dumps(refusal.data, ensure_ascii=False))


def read_items(request: Request, caller: Principal) -> list[Item]:
    """The payments in the body, unchecked. Raises ValidationError, ParseError.

    A request that is wrong as a whole takes one token, as a single payment does.
    """
    try:
        serializer = ItemsSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
    except APIException:
        take(request, caller, 1)
        raise
    return cast("list[Item]", serializer.validated_data["payments"])


def take(request: Request, caller: Principal, number: int) -> list[Ticket]:
    """A ticket for each payment; the last of them tells what is left."""
    tickets = buckets.take_all(caller.merchant, caller.mode, number)
    limits.note(plain(request), limits.usage_of(tickets[-1]))
    return tickets


def accept(items: Sequence[Item], tickets: list[Ticket], caller: Principal, *, request_id: str) -> list[Outcome]:
    """What becomes of each, in their order. Who had no token gets that of a repetition: a batch that is sent again
    begins with those, and its end would never be accepted.
    """
    outcomes = accept_with(items, tickets, caller, request_id=request_id)
    if lucky := pass_on(tickets, outcomes):
        theirs, with_theirs = [items[number] for number in lucky], [tickets[number] for number in lucky]
        accepted = accept_with(theirs, with_theirs, caller, request_id=request_id)
        for number, outcome in zip(lucky, accepted, strict=True):
            outcomes[number] = outcome
    return outcomes


def pass_on(tickets: list[Ticket], outcomes: Sequence[Outcome]) -> list[int]:
    """Exchange tickets; returns the places of those that have a token now."""
    settled = list(enumerate(zip(tickets, outcomes, strict=True)))
    givers = [number for number, (ticket, outcome) in settled if ticket.granted and costs_nothing(outcome)]
    takers = [number for number, (_, outcome) in settled if isinstance(outcome, TooManyPayments)][: len(givers)]
    for giver, taker in zip(givers, takers, strict=False):
        tickets[giver], tickets[taker] = tickets[taker], tickets[giver]
    return takers


def accept_with(
    items: Sequence[Item], tickets: Sequence[Ticket], caller: Principal, *, request_id: str
) -> list[Outcome]:
    """The same, each with its own ticket."""
    now = timezone.now()
    read = [
        attempt(partial(wish_of, item, ticket, caller, request_id=request_id, now=now))
        for item, ticket in zip(items, tickets, strict=True)
    ]
    accepted = iter(accept_payments([wish for wish in read if isinstance(wish, Wish)]))
    outcomes = [next(accepted) if isinstance(wish, Wish) else wish for wish in read]
    return [
        TooManyPayments(retry_after=ticket.retry_after) if isinstance(outcome, TooManyPayments) else outcome
        for outcome, ticket in zip(outcomes, tickets, strict=True)
    ]


def wish_of(item: Item, ticket: Ticket, caller: Principal, *, request_id: str, now: datetime) -> Wish:
    """What is asked for. Raises Refused, ValidationError."""
    return Wish(
        merchant=caller.merchant,
        mode=caller.mode,
        idempotency_key=key_of_item(item),
        request=request_in(item, merchant=caller.merchant),
        request_id=request_id,
        now=now,
        admitted=ticket.granted,
    )


def costs_nothing(outcome: Outcome) -> bool:
    """Whether it repeats an earlier request."""
    return isinstance(outcome, Answer) and outcome.replayed


def written(item: Item, *, status: int, replayed: bool = False, payment: str = "null", problem: str = "null") -> str:
    """One result, in JSON."""
    key = item.get("idempotency_key")
    shown = json.dumps(key if isinstance(key, str) else None, ensure_ascii=False)
    return (
        f'{{"status":{status},"idempotency_key":{shown},"replayed":{json.dumps(replayed)},'
        f'"payment":{payment},"problem":{problem}}}'
    )


def respond(results: Sequence[str], outcomes: Sequence[Outcome]) -> HttpResponse:
    """The answer to the whole."""
    accepted = sum(isinstance(outcome, Answer) for outcome in outcomes)
    refused = len(outcomes) - accepted
    body = f'{{"object":"batch","accepted":{accepted},"refused":{refused},"results":[{",".join(results)}]}}'
    return HttpResponse(body, status=207 if refused else 200, content_type="application/json")
