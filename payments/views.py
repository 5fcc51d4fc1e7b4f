"""The HTTP API: parse, call one operation, answer."""

from typing import ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from merchants import buckets, limits
from merchants.models import Scope
from merchants.plain_request import plain
from merchants.principal import caller_of
from payments.errors import TooManyPayments
from payments.filters import PaymentFilter
from payments.idempotency import Answer, key_of
from payments.models import Payment
from payments.operations import accept_payment
from payments.pages import NewestFirst
from payments.preferences import LONGEST_WAIT, preferred_wait
from payments.problems import catalogue
from payments.reads import payments_of, represent, shown
from payments.serializers import PaymentRequestSerializer, PaymentSerializer, problems, request_in
from payments.waiting import NoRoom, room

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    location=OpenApiParameter.HEADER,
    description="A value of your own, new for each payment, the same for each retry. 1-255 printable ASCII "
    "characters other than space, comma, double quote and backslash. "
    "Required, here or as `idempotency_key` in the body.",
)

PREFER = OpenApiParameter(
    "Prefer",
    location=OpenApiParameter.HEADER,
    description=f"`wait=N` (RFC 7240): answer when the payment has ended, or after N seconds, 1 to {LONGEST_WAIT}. "
    "Ignored while too many others wait. Other preferences are ignored.",
)
PREFERENCE_APPLIED = OpenApiParameter(
    "Preference-Applied",
    location=OpenApiParameter.HEADER,
    response=[200, 202],
    description="`wait=N` where it was heeded, with the seconds that were granted.",
)


class PaymentsView(GenericAPIView[Payment]):
    """Create payments and list them."""

    scopes: ClassVar = {"GET": Scope.PAYMENTS_READ, "POST": Scope.PAYMENTS_WRITE}
    limits: ClassVar = {"POST": None}  # goes by the bucket
    serializer_class = PaymentSerializer
    pagination_class = NewestFirst
    filterset_class = PaymentFilter

    def get_queryset(self) -> QuerySet[Payment]:
        """The caller's payments."""
        if getattr(self, "swagger_fake_view", False):
            return Payment.objects.none()
        caller = caller_of(self.request)
        return payments_of(caller.merchant, caller.mode)

    @extend_schema(
        operation_id="payments_create",
        parameters=[IDEMPOTENCY_KEY, PREFER, PREFERENCE_APPLIED],
        request=PaymentRequestSerializer,
        responses={
            (200, "application/json"): OpenApiResponse(
                PaymentSerializer, description="With `Prefer: wait` only: the payment has ended, and this is how."
            ),
            (202, "application/json"): OpenApiResponse(
                PaymentSerializer, description="Accepted. This is the payment as it was then, on a repetition as well."
            ),
            **problems(400, 401, 403, 409, 413, 415, 422, 429, 503),
        },
    )
    def post(self, request: Request) -> HttpResponse:
        """Accept a payment: it is stored and will be charged once.

        The answer comes before the gateway is asked; follow the payment at `Location`. With `Prefer: wait` the
        answer comes when the payment has ended, if that is soon enough.
        """
        caller = caller_of(request)
        # First of all, so that requests which are wrong count as well.
        ticket = buckets.take(caller.merchant, caller.mode)
        limits.note(plain(request), limits.usage_of(ticket))
        body = request.data
        key = key_of(body, header=request.headers.get("Idempotency-Key"))
        asked = request_in(body, merchant=caller.merchant)
        try:
            answer = accept_payment(
                merchant=caller.merchant,
                mode=caller.mode,
                idempotency_key=key,
                request=asked,
                request_id=request.META["HTTP_X_REQUEST_ID"],
                now=timezone.now(),
                admitted=ticket.granted,
            )
        except TooManyPayments:
            raise TooManyPayments(retry_after=ticket.retry_after) from None
        if answer.replayed and ticket.granted:
            buckets.give_back(ticket)
        return final_or_accepted(answer, seconds=preferred_wait(request.headers.get("Prefer", "")))

    @extend_schema(
        operation_id="payments_list",
        responses={(200, "application/json"): PaymentSerializer(many=True), **problems(400, 401, 403)},
    )
    def get(self, request: Request) -> Response:
        """List payments, newest first, by cursor."""
        page = self.paginate_queryset(shown(self.filter_queryset(self.get_queryset())))
        return self.get_paginated_response([represent(payment) for payment in page or ()])


class PaymentView(GenericAPIView[Payment]):
    """One payment."""

    scopes: ClassVar = {"GET": Scope.PAYMENTS_READ}
    serializer_class = PaymentSerializer

    @extend_schema(
        operation_id="payments_retrieve",
        responses={(200, "application/json"): PaymentSerializer, **problems(401, 403, 404)},
    )
    def get(self, request: Request, payment_id: str) -> Response:
        """A payment as it stands now."""
        caller = caller_of(request)
        payment = get_object_or_404(shown(payments_of(caller.merchant, caller.mode)), pk=payment_id)
        return Response(represent(payment))


def final_or_accepted(answer: Answer, *, seconds: int) -> HttpResponse:
    """The payment as it ended, if it does within the time that the caller would wait; else the stored answer."""
    if not seconds:
        return replayable(answer)
    try:
        ended = room.wait(UUID(answer.location.rpartition("/")[2]), seconds=seconds)
    except NoRoom:
        return replayable(answer)
    response = replayable(answer) if ended is None else located(Response(represent(ended)), answer)
    response["Preference-Applied"] = f"wait={seconds}"
    return response


def replayable(answer: Answer) -> HttpResponse:
    """The stored answer as it is, byte for byte."""
    return located(HttpResponse(answer.body, status=answer.status_code, content_type="application/json"), answer)


def located(response: HttpResponse, answer: Answer) -> HttpResponse:
    """The response, saying where the payment is, and whether its request repeats another."""
    response["Location"] = answer.location
    if answer.replayed:
        response["Idempotent-Replayed"] = "true"
    return response


def explain_problem(request: HttpRequest, code: str) -> HttpResponse:
    """The page behind a problem's `type`."""
    kind = catalogue().get(code)
    if kind is None:
        raise Http404
    return render(request, "problem.html", {"code": code, "kind": kind})
