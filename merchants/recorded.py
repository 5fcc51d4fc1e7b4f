"""Rows that staff edit in the admin: each change has its reason, and its entry in the same transaction."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from merchants import audit
from merchants.reasons import reason_in


class Recorded(admin.ModelAdmin[Any]):
    """An admin class whose form has a `reason`. A subclass names its `kind`, and says what an entry may hold."""

    kind: ClassVar[str]
    delete_confirmation_template = "admin/delete_with_reason.html"

    def shown_in_entries(self, row: Any) -> dict[str, Any]:
        """What an entry holds of a row: no secret, and no personal data of payers."""
        raise NotImplementedError

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Who may only look is not asked why."""
        fields = super().get_fields(request, obj)
        may = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        return fields if may else [name for name in fields if name != "reason"]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Not the deletion of many, which asks nobody why."""
        return {name: action for name, action in super().get_actions(request).items() if name != "delete_selected"}

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Write the row and its entry."""
        before = self.shown_in_entries(self.model.objects.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)
        self.record(request, obj, "changed" if change else "created", form.cleaned_data["reason"], before=before)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Ask first, and why."""
        if request.method == "POST" and reason_in(request) is None:
            return redirect(request.path)
        return super().delete_view(request, object_id, extra_context)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete the row, and write its entry."""
        self.record(request, obj, "deleted", request.POST["reason"], before=self.shown_in_entries(obj))
        super().delete_model(request, obj)

    def record(self, request: HttpRequest, row: Any, done: str, reason: str, *, before: dict[str, Any] | None) -> None:
        """Write the entry, with what is different."""
        after = None if done == "deleted" else self.shown_in_entries(row)
        was, is_ = audit.difference(before, after)
        audit.record(
            audit.by(request),
            f"{self.kind}.{done}",
            subject=f"{self.kind}:{row.pk}",
            merchant=row.merchant,
            reason=reason,
            before=was,
            after=is_,
        )
