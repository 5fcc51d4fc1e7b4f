"""Admin pages on which staff change things: each wants a reason, somebody who has lately shown who they are, and is
written down with what was before and what is after.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Model
from django.forms.models import model_to_dict
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from merchants import audit
from merchants.confirmation import ConfirmedEdits, is_confirmed
from merchants.models import Merchant
from merchants.reasons import ReasonField, reason_in

#: Fields of which nothing is written down.
NEVER_TOLD: Final = frozenset({"password", "secret", "digest"})
#: What stands for them.
HIDDEN: Final = "…"


class AuditedAdmin(ConfirmedEdits):
    """Mixin for `ModelAdmin`. A subclass may say what an entry holds of a row."""

    delete_confirmation_template: ClassVar[Any] = "admin/delete_with_reason.html"

    def shown_in_entries(self, row: Any) -> dict[str, Any]:
        """What an entry holds of a row: no secret, and no personal data of payers."""
        return told(row)

    # --- the form

    def get_form(self: Any, request: HttpRequest, obj: Any = None, *change: Any, **options: Any) -> Any:
        """With the field for the reason."""
        form = options.pop("form", None) or (self.form if obj is not None else getattr(self, "add_form", self.form))
        if self.may_write(request, obj):
            form = type(form.__name__, (form,), {"reason": ReasonField()})
        return super().get_form(request, obj, *change, form=form, **options)  # type: ignore[misc]  # the admin's

    def get_fieldsets(self: Any, request: HttpRequest, obj: Any = None) -> Any:
        """The reason comes last."""
        fieldsets = super().get_fieldsets(request, obj)  # type: ignore[misc]  # the admin's
        if "reason" in flatten_fieldsets(fieldsets) or not self.may_write(request, obj):
            return fieldsets
        return [*fieldsets, ("For the record", {"fields": ("reason",)})]

    def may_write(self: Any, request: HttpRequest, obj: Any) -> bool:
        """Whether the page is one to fill in."""
        return bool(self.has_change_permission(request, obj) if obj else self.has_add_permission(request))

    # --- deleting

    def delete_view(self: Any, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        """Nothing is deleted without a reason."""
        if request.method == "POST" and is_confirmed(request) and reason_in(request) is None:
            return redirect(request.path)
        response: HttpResponse = super().delete_view(request, *arguments, **options)
        return response

    def get_actions(self: Any, request: HttpRequest) -> Any:
        """Nothing is deleted in bulk: that asks nobody why."""
        actions = super().get_actions(request)  # type: ignore[misc]  # the admin's
        actions.pop("delete_selected", None)
        return actions

    # --- the record

    def save_model(self: Any, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # Django's
        """Keep what was before, and write only the columns that the form changes.

        The web process may not write all columns of a row, even with the values that they have.
        """
        if not change:
            form.before = None
            super().save_model(request, obj, form, change)  # type: ignore[misc]  # the admin's
            return
        stored = self.model.objects.get(pk=obj.pk)
        form.before = self.shown_in_entries(stored)
        obj.save(update_fields=list(_changed_fields(stored, obj)))

    def save_related(self: Any, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # Django's
        """All is saved: write it down, the thing itself and what belongs to it."""
        super().save_related(request, form, formsets, change)  # type: ignore[misc]  # the admin's
        reason, row = form.cleaned_data["reason"], self.model.objects.get(pk=form.instance.pk)
        before, after = audit.difference(form.before, self.shown_in_entries(row))
        if after:
            write(request, row, "changed" if change else "created", reason=reason, before=before, after=after)
        for thing, verb, old, new in related_changes(formsets):
            write(request, thing, verb, reason=reason, before=old, after=new)

    def delete_model(self: Any, request: HttpRequest, obj: Any) -> None:
        """Write down what is no more."""
        write(request, obj, "deleted", reason=reason_in(request), before=self.shown_in_entries(obj), after=None)
        super().delete_model(request, obj)  # type: ignore[misc]  # the admin's


def _changed_fields(stored: Model, row: Model) -> Iterator[str]:
    """Yield the fields that differ from what is stored, and those that Django sets at every change."""
    for field in row._meta.concrete_fields:  # noqa: SLF001  # its documented way
        if getattr(field, "auto_now", False) or getattr(stored, field.attname) != getattr(row, field.attname):
            yield field.name


def write(request: HttpRequest, row: Any, verb: str, **what: Any) -> None:
    """One entry about a row, in the transaction of what it tells of."""
    kind = row._meta.model_name  # noqa: SLF001  # its documented way
    merchant = row if isinstance(row, Merchant) else getattr(row, "merchant", None)
    audit.record(audit.by(request), f"{kind}.{verb}", subject=f"{kind}:{row.pk}", merchant=merchant, **what)


def told(row: Model) -> dict[str, Any]:
    """What can be edited of a row, as JSON can hold it; of secrets nothing that they could be guessed from."""
    return {name: HIDDEN if name in NEVER_TOLD else plain(value) for name, value in model_to_dict(row).items()}


def plain(value: Any) -> Any:
    """A value as JSON can hold it; of related rows their names."""
    return sorted(str(entry) for entry in value) if isinstance(value, list) else value


def related_changes(formsets: Any) -> Iterator[tuple[Any, str, dict[str, Any] | None, dict[str, Any] | None]]:
    """What was added, changed and deleted of the rows below the thing itself."""
    for formset in formsets:
        initial = {form.instance: form.initial for form in formset.forms if form.instance.pk}
        for row in formset.new_objects:
            yield row, "created", None, told(row)
        for row, names in formset.changed_objects:
            yield row, "changed", {name: initial[row].get(name) for name in names}, {n: told(row)[n] for n in names}
        for row in formset.deleted_objects:
            yield row, "deleted", told(row), None
