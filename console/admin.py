"""What the console adds to the admin; Django looks for it under this name."""

from console.approvals_admin import ApprovalAdmin
from console.audit_admin import AuditEntryAdmin
from console.dead_letters_admin import DeadLetterAdmin
from console.resolutions_admin import ResolutionAdmin

__all__ = ["ApprovalAdmin", "AuditEntryAdmin", "DeadLetterAdmin", "ResolutionAdmin"]
