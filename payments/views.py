"""The HTTP API: parse, call one operation, answer."""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from merchants.models import Scope
from merchants.principal import Principal
from payments.filters import PaymentFilter
from payments.idempotency import Answer, choose_key
from payments.models import Payment
from payments.operations import accept_payment
from payments.pages import NewestFirst
from payments.problems import CATALOGUE
from payments.reads import payments_of, represent
from payments.serializers import PaymentRequestSerializer, PaymentSerializer, ProblemSerializer

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    location=OpenApiParameter.HEADER,
    description="A value of your own, new for each payment, the same for each retry. 1-255 of `A-Za-z0-9._:-`. "
    "Required, here or as `idempotency_key` in the body.",
)


def problems(*codes: int) -> dict[tuple[int, str], Any]:
    """The documentation of error responses."""
    return {(code, "application/problem+json"): OpenApiResponse(ProblemSerializer) for code in codes}


class PaymentsView(GenericAPIView[Payment]):
    """Create payments and list them."""

    scopes: ClassVar = {"GET": Scope.PAYMENTS_READ, "POST": Scope.PAYMENTS_WRITE}
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
        parameters=[IDEMPOTENCY_KEY],
        request=PaymentRequestSerializer,
        responses={(202, "application/json"): PaymentSerializer, **problems(400, 401, 403, 409, 413, 415, 422, 503)},
    )
    def post(self, request: Request) -> HttpResponse:
        """Accept a payment: it is stored and will be charged once.

        The answer comes before the gateway is asked; follow the payment at `Location`.
        """
        caller = caller_of(request)
        body = request.data
        in_body = body.get("idempotency_key") if isinstance(body, dict) else None
        key = choose_key(request.headers.get("Idempotency-Key"), None if in_body is None else str(in_body))
        serializer = PaymentRequestSerializer(data=body, context={"merchant": caller.merchant})
        serializer.is_valid(raise_exception=True)
        answer = accept_payment(
            merchant=caller.merchant,
            mode=caller.mode,
            idempotency_key=key,
            request=serializer.to_request(),
            request_id=request.META["HTTP_X_REQUEST_ID"],
            now=timezone.now(),
        )
        return replayable(answer)

    @extend_schema(
        operation_id="payments_list",
        responses={(200, "application/json"): PaymentSerializer(many=True), **problems(400, 401, 403, 404)},
    )
    def get(self, request: Request) -> Response:
        """List payments, newest first, by cursor."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
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
        payment = payments_of(caller.merchant, caller.mode).filter(pk=payment_id).first()
        if payment is None:
            raise Http404
        return Response(represent(payment))


def caller_of(request: Request) -> Principal:
    """Who calls; the permission classes have seen to it that somebody does."""
    caller: Any = request.user  # the stubs know only users; our authenticators return principals
    assert isinstance(caller, Principal)
    return caller


def replayable(answer: Answer) -> HttpResponse:
    """The stored answer as it is, byte for byte."""
    response = HttpResponse(answer.body, status=answer.status_code, content_type="application/json")
    response["Location"] = answer.location
    if answer.replayed:
        response["Idempotent-Replayed"] = "true"
    return response


def explain_problem(request: HttpRequest, code: str) -> HttpResponse:
    """The page behind a problem's `type`."""
    kind = CATALOGUE.get(code)
    if kind is None:
        raise Http404
    return render(request, "problem.html", {"code": code, "kind": kind})
