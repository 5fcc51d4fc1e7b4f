"""The API's account of dead letters, for platform staff: look, preview, replay, discard, follow.

Dead letters are of all merchants, so no API key opens these addresses: only the token of a person who is staff and
has the console's permission.
"""

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, PolymorphicProxySerializer, extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from console import decisions
from console.decisions import decide_once
from console.filters import DeadLetterFilter
from console.pages import NewestLettersFirst
from console.reads import represent_letter, represent_preview, represent_resolution, represent_whole_letter
from console.serializers import (
    ApprovalSerializer,
    DeadLetterSerializer,
    DecisionSerializer,
    PreviewSerializer,
    ResolutionSerializer,
    SelectionSerializer,
    WholeDeadLetterSerializer,
)
from merchants.audit import by
from merchants.principal import DEAD_LETTERS_READ, DEAD_LETTERS_WRITE, caller_of
from messaging import previews
from messaging.models import DeadLetter, Resolution
from payments.idempotency import choose_key
from payments.serializers import problems
from payments.views import replayable

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    location=OpenApiParameter.HEADER,
    required=True,
    description="A value of your own, new for each decision, the same for each retry. 1-255 printable ASCII "
    "characters other than space, comma, double quote and backslash.",
)


class DeadLettersView(GenericAPIView[DeadLetter]):
    """The list of dead letters."""

    scopes: ClassVar = {"GET": DEAD_LETTERS_READ}
    serializer_class = DeadLetterSerializer
    pagination_class = NewestLettersFirst
    filterset_class = DeadLetterFilter
    queryset = DeadLetter.objects.defer("body", "traceback", "payload")

    @extend_schema(
        operation_id="dead_letters_list",
        responses={(200, "application/json"): DeadLetterSerializer(many=True), **problems(400, 401, 403)},
    )
    def get(self, request: Request) -> Response:
        """List dead letters in every state, newest first, by cursor. For platform staff."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([represent_letter(letter) for letter in page or ()])


class DeadLetterView(GenericAPIView[DeadLetter]):
    """One dead letter."""

    scopes: ClassVar = {"GET": DEAD_LETTERS_READ}
    serializer_class = WholeDeadLetterSerializer

    @extend_schema(
        operation_id="dead_letters_retrieve",
        responses={(200, "application/json"): WholeDeadLetterSerializer, **problems(401, 403, 404)},
    )
    def get(self, request: Request, letter_id: str) -> Response:
        """A dead letter with all that was kept of it. For platform staff."""
        letter = DeadLetter.objects.filter(pk=letter_id).first()
        if letter is None:
            raise Http404
        return Response(represent_whole_letter(letter))


class PreviewView(GenericAPIView[Any]):
    """What a replay would do."""

    scopes: ClassVar = {"POST": DEAD_LETTERS_READ}
    serializer_class = SelectionSerializer

    @extend_schema(
        operation_id="dead_letters_preview",
        request=SelectionSerializer,
        responses={(200, "application/json"): PreviewSerializer, **problems(400, 401, 403, 413, 415)},
    )
    def post(self, request: Request) -> Response:
        """What a replay of these letters would do now: how many, which sums, what is settled already or blocked.

        Nothing is done. Send the `selection` of the answer on to decide on exactly what it counts.
        """
        serializer = SelectionSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        selection = serializer.to_selection()
        return Response(represent_preview(previews.preview(selection), selection, serializer.validated_data))


class DecisionView(GenericAPIView[Any]):
    """What replay and discard have in common."""

    scopes: ClassVar = {"POST": DEAD_LETTERS_WRITE}
    serializer_class = DecisionSerializer
    action: ClassVar[Resolution.Action]

    def decide(self, request: Request) -> HttpResponse:
        """Take the letters in hand, once for each idempotency key."""
        key = choose_key(request.headers.get("Idempotency-Key"), None)
        serializer = DecisionSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        answer = decide_once(
            serializer.to_selection(),
            self.action,
            merchant=caller_of(request).merchant,
            idempotency_key=key,
            reason=serializer.validated_data["reason"],
            rate=serializer.validated_data.get("rate"),
            who=by(request),
        )
        return replayable(answer)


REPLAYED: Any = PolymorphicProxySerializer(
    component_name="ReplayDecision",
    serializers=[ResolutionSerializer, ApprovalSerializer],
    resource_type_field_name=None,
)
#: How a decision is documented.
DECISION: Any = {
    "parameters": [IDEMPOTENCY_KEY],
    "request": DecisionSerializer,
    "responses": {
        (202, "application/json"): OpenApiResponse(
            ResolutionSerializer,
            description="Decided. This is the resolution as it was then, on a repetition as well; follow it at "
            "`Location`.",
        ),
        **problems(400, 401, 403, 409, 413, 415, 422),
    },
}


REPLAY: Any = {
    **DECISION,
    "responses": {
        **DECISION["responses"],
        (202, "application/json"): OpenApiResponse(
            REPLAYED,
            description="Decided: the resolution as it was then. Or, of much money, asked for: the `approval` as it "
            "was then. On a repetition as well; follow it at `Location`.",
        ),
    },
}


class ReplayView(DecisionView):
    """Replays."""

    action = Resolution.Action.REPLAY

    @extend_schema(operation_id="dead_letters_replay", **REPLAY)
    def post(self, request: Request) -> HttpResponse:
        """Send the letters' messages out again; those that are settled already are closed. For platform staff.

        Of much money a replay is only asked for: the answer is then an `approval`, which another person decides.
        """
        return self.decide(request)


class DiscardView(DecisionView):
    """Discards."""

    action = Resolution.Action.DISCARD

    @extend_schema(operation_id="dead_letters_discard", **DECISION)
    def post(self, request: Request) -> HttpResponse:
        """Close the letters without sending anything. For platform staff."""
        return self.decide(request)


class ResolutionView(GenericAPIView[Resolution]):
    """One decision."""

    scopes: ClassVar = {"GET": DEAD_LETTERS_READ}
    serializer_class = ResolutionSerializer
    queryset: QuerySet[Resolution] = Resolution.objects.all()

    @extend_schema(
        operation_id="dead_letter_resolutions_retrieve",
        responses={(200, "application/json"): ResolutionSerializer, **problems(401, 403, 404)},
    )
    def get(self, request: Request, resolution_id: str) -> Response:
        """A decision on dead letters, and how far it has come. For platform staff."""
        return shown(resolution_id)


class StopView(GenericAPIView[Resolution]):
    """Stopping a decision."""

    scopes: ClassVar = {"POST": DEAD_LETTERS_WRITE}
    serializer_class = ResolutionSerializer

    @extend_schema(
        operation_id="dead_letter_resolutions_stop",
        request=None,
        responses={(200, "application/json"): ResolutionSerializer, **problems(401, 403, 404)},
    )
    def post(self, request: Request, resolution_id: str) -> Response:
        """Stop after the present chunk; what was not taken stays open. One that does not run is left as it is."""
        decisions.stop(int(resolution_id), who=by(request))
        return shown(resolution_id)


class ResumeView(GenericAPIView[Resolution]):
    """Going on with a decision."""

    scopes: ClassVar = {"POST": DEAD_LETTERS_WRITE}
    serializer_class = ResolutionSerializer

    @extend_schema(
        operation_id="dead_letter_resolutions_resume",
        request=None,
        responses={(200, "application/json"): ResolutionSerializer, **problems(401, 403, 404)},
    )
    def post(self, request: Request, resolution_id: str) -> Response:
        """Go on with a stopped resolution. One that is not stopped is left as it is."""
        decisions.resume(int(resolution_id), who=by(request))
        return shown(resolution_id)


def shown(resolution_id: str) -> Response:
    """A resolution as it stands now."""
    resolution = Resolution.objects.filter(pk=resolution_id).first()
    if resolution is None:
        raise Http404
    return Response(represent_resolution(resolution))
