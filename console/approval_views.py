"""The API's account of what waits for a second person, for platform staff."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.db import Error
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from console.decisions import translated
from console.filters import ApprovalFilter
from console.reads import represent_approval
from console.serializers import ApprovalSerializer, ReasonSerializer
from merchants import approvals
from merchants.audit import by
from merchants.models import Approval
from merchants.pages import ByCursor, read_moment
from merchants.principal import APPROVALS_READ, APPROVALS_WRITE, caller_of
from payments.serializers import problems


class NewestApprovalsFirst(ByCursor):
    """Approvals, by the moment at which they were asked for."""

    fields: ClassVar = {"requested_at": read_moment, "id": UUID}


class ApprovalsView(GenericAPIView[Approval]):
    """The list of approvals."""

    scopes: ClassVar = {"GET": APPROVALS_READ}
    serializer_class = ApprovalSerializer
    pagination_class = NewestApprovalsFirst
    filterset_class = ApprovalFilter
    queryset = Approval.objects.all()

    @extend_schema(
        operation_id="approvals_list",
        responses={(200, "application/json"): ApprovalSerializer(many=True), **problems(400, 401, 403)},
    )
    def get(self, request: Request) -> Response:
        """List what waits for a second person, and what was decided, newest first, by cursor. For platform staff."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([represent_approval(approval) for approval in page or ()])


class ApprovalView(GenericAPIView[Approval]):
    """One approval."""

    scopes: ClassVar = {"GET": APPROVALS_READ}
    serializer_class = ApprovalSerializer

    @extend_schema(
        operation_id="approvals_retrieve",
        responses={(200, "application/json"): ApprovalSerializer, **problems(401, 403, 404)},
    )
    def get(self, request: Request, approval_id: str) -> Response:
        """What waits for a second person, or what became of it. For platform staff."""
        approval = Approval.objects.filter(pk=approval_id).first()
        if approval is None:
            raise Http404
        return Response(represent_approval(approval))


class ApprovalDecisionView(GenericAPIView[Approval]):
    """What the three decisions have in common. The approval's state decides a repetition."""

    scopes: ClassVar = {"POST": APPROVALS_WRITE}
    serializer_class = ReasonSerializer

    def decide(self, request: Request, approval_id: str, do: Callable[..., Approval], **options: Any) -> Response:
        """Do it, and show what became of it."""
        serializer = ReasonSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        reason = serializer.validated_data["reason"]
        try:
            decided = do(approval_id=UUID(approval_id), who=by(request), reason=reason, **options)
        except Approval.DoesNotExist:
            raise Http404 from None
        except Error as error:
            raise translated(error) from error
        return Response(represent_approval(decided))

    def may(self, permission: str) -> bool:
        """Whether the caller has a permission of the console's."""
        user = caller_of(self.request).user
        return user is not None and user.has_perm(permission)


#: How a decision is documented.
DECISION: Any = {
    "request": ReasonSerializer,
    "responses": {(200, "application/json"): ApprovalSerializer, **problems(400, 401, 403, 404, 409, 413, 415)},
}


class ApproveView(ApprovalDecisionView):
    """Agreeing."""

    @extend_schema(operation_id="approvals_approve", **DECISION)
    def post(self, request: Request, approval_id: str) -> Response:
        """Agree to what another person has asked for; it is done at once. For platform staff."""
        return self.decide(request, approval_id, approvals.approve, may=self.may)


class RejectView(ApprovalDecisionView):
    """Saying no."""

    @extend_schema(operation_id="approvals_reject", **DECISION)
    def post(self, request: Request, approval_id: str) -> Response:
        """Say no to what another person has asked for. For platform staff."""
        return self.decide(request, approval_id, approvals.reject, may=self.may)


class WithdrawView(ApprovalDecisionView):
    """Taking back. Who asked need not be one who may decide; the operation looks at who it is."""

    scopes: ClassVar = {"POST": APPROVALS_READ}

    @extend_schema(operation_id="approvals_withdraw", **DECISION)
    def post(self, request: Request, approval_id: str) -> Response:
        """Take back what you have asked for yourself. For platform staff."""
        return self.decide(request, approval_id, approvals.withdraw)
