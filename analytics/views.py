"""The API's analytics: read from computed rows at once, with an ETag that changes when the answer does."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any, ClassVar

from django.http import HttpResponse
from django.utils.cache import get_conditional_response
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request

from analytics.models import DailyMetric
from analytics.reads import Question, represent_row, rows_for, totals_for
from analytics.serializers import DailyMetricsSerializer, DailyQuerySerializer, RangeSerializer, SummarySerializer
from merchants.models import Scope
from merchants.plain_request import plain
from merchants.principal import caller_of
from merchants.query import read_parameters
from payments.serializers import problems

ETAG = OpenApiParameter(
    "ETag", location=OpenApiParameter.HEADER, response=[200, 304], description="Send it back as `If-None-Match`."
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", location=OpenApiParameter.HEADER, description="The `ETag` of an earlier answer to this question."
)
UNCHANGED = OpenApiResponse(description="Nothing has changed since the answer with this `ETag`.")


class DailyMetricsView(GenericAPIView[Any]):
    """Numbers by day."""

    scopes: ClassVar = {"GET": Scope.ANALYTICS_READ}
    serializer_class = DailyMetricsSerializer

    @extend_schema(
        operation_id="analytics_daily",
        parameters=[DailyQuerySerializer, IF_NONE_MATCH, ETAG],
        responses={(200, "application/json"): DailyMetricsSerializer, 304: UNCHANGED, **problems(400, 401, 403)},
    )
    def get(self, request: Request) -> HttpResponse:
        """The numbers of each day: volume, outcomes, rates, durations, reasons of failures.

        Days without a payment have no row. A payment counts on the day it was accepted.
        """
        parameters = read_parameters(request.query_params, DailyQuerySerializer().fields.keys())
        asked = DailyQuerySerializer(data=parameters, context={"caller": caller_of(request)})
        asked.is_valid(raise_exception=True)
        question = asked.to_daily_question(caller_of(request))
        rows = list(rows_for(question))
        return answer(request, question, rows, data=[represent_row(row) for row in rows])


class SummaryView(GenericAPIView[Any]):
    """Numbers of a range, and of the one before."""

    scopes: ClassVar = {"GET": Scope.ANALYTICS_READ}
    serializer_class = SummarySerializer

    @extend_schema(
        operation_id="analytics_summary",
        parameters=[RangeSerializer, IF_NONE_MATCH, ETAG],
        responses={(200, "application/json"): SummarySerializer, 304: UNCHANGED, **problems(400, 401, 403)},
    )
    def get(self, request: Request) -> HttpResponse:
        """What a range of days adds up to, beside as many days right before it."""
        parameters = read_parameters(request.query_params, RangeSerializer().fields.keys())
        asked = RangeSerializer(data=parameters, context={"caller": caller_of(request)})
        asked.is_valid(raise_exception=True)
        question = asked.to_question(caller_of(request))
        current, previous = totals_for(question), totals_for(question.before())
        rows = rows_for(question)
        return answer(request, question, rows, current=current.represent(), previous=previous.represent())


def answer(request: Request, question: Question, rows: Iterable[DailyMetric], **content: Any) -> HttpResponse:
    """The content, with what it is about; or 304 where the asker has just this already."""
    caller = caller_of(request)
    about = {
        "from": question.first.isoformat(),
        "to": question.last.isoformat(),
        "time_zone": caller.merchant.time_zone,
        "computed_at": max((row.computed_at.isoformat() for row in rows), default=None),
    }
    body = json.dumps({**about, **content}, ensure_ascii=False, separators=(",", ":"))
    whole = HttpResponse(body, content_type="application/json", headers={"Cache-Control": "private, no-cache"})
    etag = f'"{hashlib.sha256(body.encode()).hexdigest()[:32]}"'
    response = get_conditional_response(plain(request), etag=etag, response=whole)
    assert response is not None
    response["ETag"] = etag
    return response
