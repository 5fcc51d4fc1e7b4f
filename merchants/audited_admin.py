"""Admin pages on which staff change things: each wants a reason, somebody who has lately shown who they are, and is
written down with what was before and what is after.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, Final

from django import forms
from django.contrib import messages
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import Model
from django.forms.models import model_to_dict
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from merchants import audit
from merchants.confirmation import ask, is_confirmed
from merchants.models import Merchant

#: Fields of which only it is written down that they changed.
NEVER_TOLD: Final = frozenset({"password", "password1", "password2", "usable_password", "secret", "digest", "key"})
#: What stands for them.
HIDDEN: Final = "…"


class ReasonField(forms.CharField):
    """Why something is done, for whoever reads the record later."""

    def __init__(self, **options: Any) -> None:
        settings = {
            "label": "Reason",
            "max_length": audit.LONGEST_REASON,
            "widget": forms.Textarea(attrs={"rows": 2}),
            "help_text": "Why you do this. It is kept in the record, with what was before and what is after.",
            "error_messages": {"required": "Say why: it is kept in the record."},
        }
        super().__init__(**{**settings, **options})


class ReasonForm(forms.Form):
    """The form of an action that needs nothing but a reason."""

    reason = ReasonField()


class AuditedAdmin:
    """Mixin for `ModelAdmin`. `audit_subject` names the kind of thing in the record; by default the model's name."""

    audit_subject: ClassVar[str] = ""
    delete_confirmation_template: Any = "admin/merchants/delete.html"
    opts: Any

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

    # --- who may

    def changeform_view(self: Any, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        """Nothing is saved for who has not lately shown who they are."""
        if request.method == "POST" and not is_confirmed(request):
            return ask(request)
        response: HttpResponse = super().changeform_view(request, *arguments, **options)  # type: ignore[misc]
        return response

    def delete_view(self: Any, request: HttpRequest, *arguments: Any, **options: Any) -> HttpResponse:
        """Nothing is deleted without a reason, nor for who has not lately shown who they are."""
        if request.method == "POST" and not is_confirmed(request):
            return ask(request)
        if request.method == "POST" and not given_reason(request):
            messages.error(request, "Nothing was deleted. Say why: it is kept in the record.")
            return redirect(request.get_full_path())
        response: HttpResponse = super().delete_view(request, *arguments, **options)  # type: ignore[misc]
        return response

    def get_actions(self: Any, request: HttpRequest) -> Any:
        """Nothing is deleted in bulk: that asks for no reason."""
        actions = super().get_actions(request)  # type: ignore[misc]  # the admin's
        actions.pop("delete_selected", None)
        return actions

    # --- the record

    def save_model(self: Any, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:  # Django's
        """Keep in mind what was before."""
        form.before = told(self.model.objects.get(pk=obj.pk), form) if change else None
        super().save_model(request, obj, form, change)  # type: ignore[misc]  # the admin's

    def save_related(self: Any, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # Django's
        """All is saved: write it down, the thing itself and what belongs to it."""
        super().save_related(request, form, formsets, change)  # type: ignore[misc]  # the admin's
        before, after = form.before, told(self.model.objects.get(pk=form.instance.pk), form)
        reason = form.cleaned_data["reason"]
        if before is not None:
            before, after = differences(before, after)
        if after:
            verb = "changed" if change else "created"
            self.write_down(request, form.instance, verb, reason=reason, before=before, after=after)
        for thing, verb, old, new in related_changes(formsets):
            write(request, thing, verb, reason=reason, before=old, after=new)

    def delete_model(self: Any, request: HttpRequest, obj: Any) -> None:
        """Write down what is no more."""
        before = {name: plain(name, value) for name, value in model_to_dict(obj).items()}
        self.write_down(request, obj, "deleted", reason=given_reason(request), before=before, after=None)
        super().delete_model(request, obj)  # type: ignore[misc]  # the admin's

    def write_down(self: Any, request: HttpRequest, obj: Any, verb: str, **what: Any) -> None:
        """One entry, in the transaction of what it tells of."""
        write(request, obj, verb, kind=self.audit_subject, **what)


def write(request: HttpRequest, obj: Any, verb: str, *, kind: str = "", **what: Any) -> None:
    """One entry about a row."""
    kind = kind or obj._meta.model_name  # noqa: SLF001  # its documented way
    merchant = obj if isinstance(obj, Merchant) else getattr(obj, "merchant", None)
    audit.record(audit.by(request), f"{kind}.{verb}", subject=f"{kind}:{obj.pk}", merchant=merchant, **what)


def given_reason(request: HttpRequest) -> str:
    """The reason that was posted with a deletion."""
    return str(request.POST.get("reason", "")).strip()[: audit.LONGEST_REASON]


def told(obj: Model, form: Any) -> dict[str, Any]:
    """What the record may hold of the fields that the form has."""
    values = model_to_dict(obj, fields=[name for name in form.fields if name != "reason"])
    values |= {name: getattr(obj, name) for name in ("password",) if name in form.fields or "password1" in form.fields}
    return {name: plain(name, value) for name, value in values.items()}


def plain(name: str, value: Any) -> Any:
    """A value as JSON can hold it; one that must stay secret as nothing that it could be guessed from."""
    if name in NEVER_TOLD:
        return HIDDEN
    if isinstance(value, list):
        return sorted(str(entry) for entry in value)
    return value.pk if isinstance(value, Model) else value


def differences(before: dict[str, Any], after: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was otherwise, and how it is now."""
    changed = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in changed}, {name: after[name] for name in changed}


def related_changes(formsets: Any) -> Iterator[tuple[Any, str, dict[str, Any] | None, dict[str, Any] | None]]:
    """What was added, changed and deleted of the rows below the thing itself."""
    for formset in formsets:
        forms_by_row = {form.instance: form for form in formset.forms if form.instance.pk}
        for row in formset.new_objects:
            yield row, "created", None, row_of(row)
        for row, names in formset.changed_objects:
            initial = forms_by_row[row].initial
            yield row, "changed", {name: initial.get(name) for name in names}, {n: row_of(row)[n] for n in names}
        for row in formset.deleted_objects:
            yield row, "deleted", row_of(row), None


def row_of(row: Model) -> dict[str, Any]:
    """A row below the thing itself."""
    return {name: plain(name, value) for name, value in model_to_dict(row).items()}
