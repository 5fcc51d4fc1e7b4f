"""Contacts and preferences in the admin: who is told by mail and SMS, of what, and where."""

from typing import Any, ClassVar, Final

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.validators import EmailValidator
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from merchants.audited_admin import AuditedAdmin
from merchants.characters import find_identifier_fault, normalize_identifier
from notifications import contacts
from notifications.masking import mask
from notifications.models import Audience, Channel, Contact, Preference
from notifications.notices import FOR_MERCHANTS, FOR_PAYERS
from payments.fields import is_phone_number

NO_PHONE: Final = "A phone number is written in E.164: + and the country code, no spaces, such as +4915123456789."
#: Of a merchant's own people; every event of theirs is sent to each.
MOST_ADDRESSES: Final = 10
ALLOWED: Final = {Audience.PAYER.value: FOR_PAYERS, Audience.MERCHANT.value: FOR_MERCHANTS}


class ContactForm(forms.ModelForm[Contact]):
    """How a payer is reached."""

    language = forms.ChoiceField(choices=[("", "The merchant's"), *settings.LANGUAGES], required=False)

    class Meta:
        """All that there is of one."""

        model = Contact
        fields = ("merchant", "mode", "user_id", "email", "phone", "language")

    def clean_user_id(self) -> str:
        """Return the id in the form that payments have, so that they find the contact."""
        user_id: str = self.cleaned_data["user_id"]
        if fault := find_identifier_fault(user_id):
            raise forms.ValidationError(fault.message, code=fault.code)
        return normalize_identifier(user_id)

    def clean_phone(self) -> str:
        """None, or a number that exists."""
        phone: str = self.cleaned_data["phone"]
        if phone and not is_phone_number(phone):
            raise forms.ValidationError(NO_PHONE)
        return phone


@admin.register(Contact)
class ContactAdmin(AuditedAdmin, admin.ModelAdmin[Contact]):
    """The addresses behind the merchants' own user ids."""

    form = ContactForm
    list_display = ("user_id", "masked_email", "masked_phone", "language", "merchant", "mode", "updated_at")
    list_filter = ("mode", "language")
    list_select_related = ("merchant",)
    search_fields = ("user_id",)  # shows the box; `get_search_results` searches
    search_help_text = "A whole user id, mail address or phone number."
    ordering = ("-id",)
    show_full_result_count = False
    list_per_page = 50
    autocomplete_fields: ClassVar = ["merchant"]
    readonly_fields = ("updated_at",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """By all of an id or address."""
        term = search_term.strip()
        found = Q(user_id=normalize_identifier(term)) | Q(email__iexact=term) | Q(phone=term)
        return (queryset.filter(found) if term else queryset), False

    def shown_in_entries(self, row: Contact) -> dict[str, Any]:
        """Masked."""
        return contacts.shown(row)

    @admin.display(description="email")
    def masked_email(self, contact: Contact) -> str:
        """Whole on the contact's own page."""
        return mask(Channel.EMAIL, contact.email) if contact.email else "-"

    @admin.display(description="phone")
    def masked_phone(self, contact: Contact) -> str:
        """Whole on the contact's own page."""
        return mask(Channel.SMS, contact.phone) if contact.phone else "-"


class PreferenceForm(forms.ModelForm[Preference]):
    """What a merchant wants told."""

    event_types = forms.MultipleChoiceField(
        choices=[(kind.value, kind.value) for kind in FOR_MERCHANTS],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="None chosen: nobody is told anything. Payers are not told of unknown outcomes or reviews.",
    )
    addresses = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "cols": 60}),
        help_text=f"One in each line, {MOST_ADDRESSES} at most; for the merchant's own people only.",
    )

    class Meta:
        """All that there is of one."""

        model = Preference
        fields = ("merchant", "channel", "audience", "event_types", "addresses")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.initial["addresses"] = "\n".join(self.instance.addresses)

    def clean_addresses(self) -> list[str]:
        """Each once."""
        return list(dict.fromkeys(line.strip() for line in self.cleaned_data["addresses"].splitlines() if line.strip()))

    def clean(self) -> dict[str, Any]:
        """Events of the audience, and addresses of the channel."""
        given: dict[str, Any] = super().clean() or self.cleaned_data
        audience, addresses = given.get("audience"), given.get("addresses") or []
        if foreign := sorted(set(given.get("event_types") or []) - set(ALLOWED.get(audience or "", FOR_MERCHANTS))):
            self.add_error("event_types", f"Payers are not told of {', '.join(foreign)}.")
        if addresses and audience == Audience.PAYER:
            self.add_error("addresses", "Payers have addresses of their own: leave this empty.")
        elif len(addresses) > MOST_ADDRESSES:
            self.add_error("addresses", f"At most {MOST_ADDRESSES}.")
        elif wrong := [address for address in addresses if not is_address(given.get("channel"), address)]:
            self.add_error("addresses", f"Not an address of this channel: {', '.join(wrong)}.")
        return given


def is_address(channel: str | None, text: str) -> bool:
    """Whether a channel reaches it."""
    if channel == Channel.SMS:
        return is_phone_number(text)
    try:
        EmailValidator()(text)
    except forms.ValidationError:
        return False
    return True


@admin.register(Preference)
class PreferenceAdmin(AuditedAdmin, admin.ModelAdmin[Preference]):
    """What merchants have decided. Where there is nothing, payers get mail and SMS of successes, if they can be."""

    form = PreferenceForm
    list_display = ("merchant", "channel", "audience", "wanted", "count")
    list_filter = ("channel", "audience")
    list_select_related = ("merchant",)
    search_fields = ("=merchant__slug", "=merchant__name")
    search_help_text = "A merchant's whole slug or name."
    ordering = ("-id",)
    show_full_result_count = False
    autocomplete_fields: ClassVar = ["merchant"]

    def shown_in_entries(self, row: Preference) -> dict[str, Any]:
        """Masked."""
        addresses = [mask(row.channel, address) for address in row.addresses]
        about = {"channel": row.channel, "audience": row.audience}
        return {**about, "event_types": list(row.event_types), "addresses": addresses}

    @admin.display(description="events")
    def wanted(self, preference: Preference) -> str:
        """In their order."""
        return ", ".join(preference.event_types) or "none"

    @admin.display(description="addresses")
    def count(self, preference: Preference) -> str:
        """How many; the addresses themselves are on its page."""
        return str(len(preference.addresses)) if preference.audience == Audience.MERCHANT else "the payers' own"
