"""The API's contacts: how payers are reached."""

from typing import ClassVar

from django.db.models import QuerySet
from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.generics import GenericAPIView
from rest_framework.request import Request
from rest_framework.response import Response

from merchants.audit import by
from merchants.models import Scope
from merchants.pages import ByCursor, read_number
from merchants.principal import caller_of
from merchants.query import StrictFilter
from merchants.strict import IdentifierField
from notifications import contacts
from notifications.models import Contact
from notifications.people_serializers import ContactRequestSerializer, ContactSerializer
from notifications.reads import contact_path, represent_contact
from payments.serializers import problems


class NewestContactsFirst(ByCursor):
    """Newest first, by id: a number that grows."""

    fields: ClassVar = {"id": read_number}


class ContactsView(GenericAPIView[Contact]):
    """The list of contacts."""

    scopes: ClassVar = {"GET": Scope.NOTIFICATIONS_READ}
    serializer_class = ContactSerializer
    pagination_class = NewestContactsFirst
    filterset_class = StrictFilter

    def get_queryset(self) -> QuerySet[Contact]:
        """The caller's contacts."""
        if getattr(self, "swagger_fake_view", False):
            return Contact.objects.none()
        caller = caller_of(self.request)
        return contacts.contacts_of(caller.merchant, caller.mode)

    @extend_schema(
        operation_id="contacts_list",
        responses={(200, "application/json"): ContactSerializer(many=True), **problems(400, 401, 403)},
    )
    def get(self, request: Request) -> Response:
        """List contacts, newest first, by cursor."""
        page = self.paginate_queryset(self.filter_queryset(self.get_queryset()))
        return self.get_paginated_response([represent_contact(contact) for contact in page or ()])


USER_ID = OpenApiParameter(
    "user_id",
    location=OpenApiParameter.PATH,
    description="The payer in your own system, percent-encoded: `a/b` is `a%2Fb`. If it ends in a slash, put the slash "
    "of the address behind it: `a%2F/`.",
)


@extend_schema(parameters=[USER_ID])
class ContactView(GenericAPIView[Contact]):
    """One contact. Its `user_id` stands in the path, percent-encoded."""

    scopes: ClassVar = {
        "GET": Scope.NOTIFICATIONS_READ,
        "PUT": Scope.NOTIFICATIONS_WRITE,
        "DELETE": Scope.NOTIFICATIONS_WRITE,
    }
    serializer_class = ContactSerializer

    @extend_schema(
        operation_id="contacts_retrieve",
        responses={(200, "application/json"): ContactSerializer, **problems(401, 403, 404)},
    )
    def get(self, request: Request, user_id: str) -> Response:
        """How a payer is reached."""
        caller = caller_of(request)
        contact = contacts.contacts_of(caller.merchant, caller.mode).filter(user_id=known(user_id)).first()
        if contact is None:
            raise Http404
        return Response(represent_contact(contact))

    @extend_schema(
        operation_id="contacts_replace",
        request=ContactRequestSerializer,
        responses={
            (200, "application/json"): OpenApiResponse(ContactSerializer, description="Replaced."),
            (201, "application/json"): OpenApiResponse(ContactSerializer, description="Made."),
            **problems(400, 401, 403, 413, 415),
        },
    )
    def put(self, request: Request, user_id: str) -> Response:
        """Say how a payer is reached, in place of what was said before."""
        caller = caller_of(request)
        serializer = ContactRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        contact, is_new = contacts.put(
            merchant=caller.merchant,
            mode=caller.mode,
            user_id=read(user_id),
            fields=serializer.to_fields(),
            who=by(request),
        )
        headers = {"Location": contact_path(contact)} if is_new else {}
        return Response(represent_contact(contact), status=201 if is_new else 200, headers=headers)

    @extend_schema(operation_id="contacts_delete", responses={204: None, **problems(401, 403, 404)})
    def delete(self, request: Request, user_id: str) -> Response:
        """Forget how a payer is reached."""
        caller = caller_of(request)
        if not contacts.forget(merchant=caller.merchant, mode=caller.mode, user_id=known(user_id), who=by(request)):
            raise Http404
        return Response(status=204)


def read(user_id: str) -> str:
    """The id in a path, by the rules that a payment's `user_id` has.

    Raises:
        ValidationError: it is none.
    """
    try:
        return str(IdentifierField(max_length=255).run_validation(user_id))
    except ValidationError as error:
        raise ValidationError({"user_id": error.detail}) from None


def known(user_id: str) -> str:
    """The same; what is no id is nobody's.

    Raises:
        Http404: it is none.
    """
    try:
        return read(user_id)
    except ValidationError:
        raise Http404 from None
