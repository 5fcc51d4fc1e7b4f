"""The API's addresses for platform staff. A trailing slash is optional everywhere."""

from django.urls import re_path

from console.approval_views import ApprovalsView, ApprovalView, ApproveView, RejectView, WithdrawView
from console.dead_letter_views import (
    DeadLettersView,
    DeadLetterView,
    DiscardView,
    PreviewView,
    ReplayView,
    ResolutionView,
    ResumeView,
    StopView,
)

#: Eighteen digits fit the column.
ID = "[0-9]{1,18}"
RESOLUTION = rf"dead-letter-resolutions/(?P<resolution_id>{ID})"
UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
APPROVAL = rf"approvals/(?P<approval_id>{UUID})"

urlpatterns = [
    re_path(r"^dead-letters/?$", DeadLettersView.as_view(), name="dead-letters"),
    re_path(rf"^dead-letters/(?P<letter_id>{ID})/?$", DeadLetterView.as_view(), name="dead-letter"),
    re_path(r"^dead-letters/preview/?$", PreviewView.as_view(), name="dead-letters-preview"),
    re_path(r"^dead-letters/replay/?$", ReplayView.as_view(), name="dead-letters-replay"),
    re_path(r"^dead-letters/discard/?$", DiscardView.as_view(), name="dead-letters-discard"),
    re_path(rf"^{RESOLUTION}/?$", ResolutionView.as_view(), name="dead-letter-resolution"),
    re_path(rf"^{RESOLUTION}/stop/?$", StopView.as_view(), name="dead-letter-resolution-stop"),
    re_path(rf"^{RESOLUTION}/resume/?$", ResumeView.as_view(), name="dead-letter-resolution-resume"),
    re_path(r"^approvals/?$", ApprovalsView.as_view(), name="approvals"),
    re_path(rf"^{APPROVAL}/?$", ApprovalView.as_view(), name="approval"),
    re_path(rf"^{APPROVAL}/approve/?$", ApproveView.as_view(), name="approval-approve"),
    re_path(rf"^{APPROVAL}/reject/?$", RejectView.as_view(), name="approval-reject"),
    re_path(rf"^{APPROVAL}/withdraw/?$", WithdrawView.as_view(), name="approval-withdraw"),
]
