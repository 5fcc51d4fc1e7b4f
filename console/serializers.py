"""What staff send about dead letters, checked; and what they get, described for the API's documentation."""

from typing import Any, Final

from rest_framework import serializers

from console.reads import PAYMENT
from merchants.audit import LONGEST_REASON
from merchants.models import Approval
from merchants.strict import BoundedListField, ExactCharField, KnownFieldsOnly, StrictIntegerField, StrictUUIDField
from messaging.models import DeadLetter, Resolution
from messaging.selections import Selection
from payments.serializers import LinksSerializer

#: Letters that can be named one by one: their ids fit into a request body many times over. For more there is `filter`.
MOST_IDS: Final = 1000
#: What a bigint column holds.
LARGEST_ID: Final = 2**63 - 1
#: Letters per second that can be asked for; without a rate it is as fast as it goes, which is about as many.
HIGHEST_RATE: Final = 1000


class FilterSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Which open letters; what is left out does not narrow it down, and `{}` are all."""

    queue = ExactCharField(required=False, max_length=100)
    actor = ExactCharField(required=False, max_length=100)
    cause = ExactCharField(required=False, max_length=100)
    payment_id = StrictUUIDField(required=False)
    since = serializers.DateTimeField(required=False, help_text="Last failed at this time or later.")
    before = serializers.DateTimeField(required=False, help_text="Last failed before this time.")
    up_to = StrictIntegerField(
        required=False,
        min_value=0,
        max_value=LARGEST_ID,
        help_text="No letter with a higher id. A preview names it, so that what was looked at is what is resolved.",
    )


class SelectionSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Which open letters: either `ids`, or all that match `filter`."""

    ids = BoundedListField(
        child=StrictIntegerField(min_value=1, max_value=LARGEST_ID),
        required=False,
        allow_empty=False,
        max_length=MOST_IDS,
    )
    filter = FilterSerializer(required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """One of both: nobody resolves everything by leaving something out."""
        if ("ids" in attrs) == ("filter" in attrs):
            message = 'Send either `ids` or `filter`; `"filter": {}` are all open letters.'
            raise serializers.ValidationError(message, code="one_of")
        return attrs

    def to_selection(self) -> Selection:
        """The operation's input, after `is_valid`."""
        if ids := self.validated_data.get("ids"):
            return Selection(ids=tuple(sorted(set(ids))))
        chosen = dict(self.validated_data["filter"])
        payment_id = chosen.pop("payment_id", None)
        return Selection(subject=f"{PAYMENT}:{payment_id}" if payment_id else "", **chosen)


class DecisionSerializer(SelectionSerializer):
    """What to do with which letters, and why."""

    reason = ExactCharField(max_length=LONGEST_REASON, help_text="Why; it is kept with your name.")
    rate = StrictIntegerField(
        required=False, allow_null=True, min_value=1, max_value=HIGHEST_RATE, help_text="Letters per second at most."
    )


class TallySerializer(serializers.Serializer[Any]):
    """The letters of one cause."""

    cause = serializers.CharField()
    actor = serializers.CharField(allow_null=True)
    queue = serializers.CharField()
    total = serializers.IntegerField()
    goes = serializers.IntegerField()
    settled = serializers.IntegerField()
    blocked = serializers.IntegerField()


class NoteSerializer(serializers.Serializer[Any]):
    """What a replay would meet, and how often."""

    note = serializers.CharField()
    count = serializers.IntegerField()


class PreviewSerializer(serializers.Serializer[Any]):
    """What a replay would do now. Nothing was done."""

    object = serializers.CharField(help_text="Always `dead_letter_preview`.")
    total = serializers.IntegerField()
    goes = serializers.IntegerField(help_text="Would be sent out again.")
    settled = serializers.IntegerField(help_text="Are settled already; a replay closes them and sends nothing.")
    blocked = serializers.IntegerField(help_text="Cannot go back, and would stay open; `notes` tell why.")
    in_hand = serializers.IntegerField(help_text="Match as well, but a running resolution has them; not in `total`.")
    sums = serializers.DictField(
        child=serializers.CharField(), help_text="Currency -> sum of the payments that would be tried again."
    )
    causes = TallySerializer(many=True)
    notes = NoteSerializer(many=True)
    selection = serializers.DictField(
        help_text="`ids` or `filter`, to send on as it is: letters that die after this preview are not in it."
    )


class ResolutionSerializer(serializers.Serializer[Any]):
    """A decision on dead letters, and how far it has come. `console.reads.represent_resolution` makes it."""

    id = serializers.IntegerField()
    object = serializers.CharField(help_text="Always `dead_letter_resolution`.")
    action = serializers.ChoiceField(choices=Resolution.Action.choices)
    state = serializers.ChoiceField(choices=Resolution.State.choices)
    total = serializers.IntegerField()
    replayed = serializers.IntegerField()
    discarded = serializers.IntegerField()
    superseded = serializers.IntegerField(help_text="Were settled already; nothing was sent.")
    blocked = serializers.IntegerField(help_text="Could not go back, and stay open; each has a `note` that says why.")
    reason = serializers.CharField()
    rate = serializers.IntegerField(allow_null=True)
    decided_by = serializers.CharField()
    selection = serializers.DictField(help_text="Which letters were chosen.")
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    links = LinksSerializer()


class ReasonSerializer(KnownFieldsOnly, serializers.Serializer[Any]):
    """Why."""

    reason = ExactCharField(max_length=LONGEST_REASON, help_text="Why; it is kept with your name.")


class ApprovalLinksSerializer(LinksSerializer):
    """Where it is, and what came of it."""

    resolution = serializers.CharField(required=False, help_text="The resolution that came of it.")


class ApprovalSerializer(serializers.Serializer[Any]):
    """What waits for a second person, or what became of it. `console.reads.represent_approval` makes it."""

    id = serializers.UUIDField()
    object = serializers.CharField(help_text="Always `approval`.")
    state = serializers.ChoiceField(choices=Approval.State.choices)
    action = serializers.CharField(help_text="What will be done, as `dead_letters.replay`.")
    summary = serializers.CharField(help_text="What it is about, in words.")
    count = serializers.IntegerField()
    sums = serializers.DictField(child=serializers.CharField(), help_text="Currency -> the money at stake.")
    reason = serializers.CharField()
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(help_text="Nobody can approve it afterwards.")
    decided_by = serializers.CharField(allow_null=True)
    decided_at = serializers.DateTimeField(allow_null=True)
    decision_reason = serializers.CharField()
    result = serializers.CharField(allow_null=True, help_text="What came of it, as `resolution:7`.")
    links = ApprovalLinksSerializer()


class DeadLetterSerializer(serializers.Serializer[Any]):
    """A dead letter. `console.reads.represent_letter` makes it."""

    id = serializers.IntegerField()
    object = serializers.CharField(help_text="Always `dead_letter`.")
    state = serializers.ChoiceField(choices=DeadLetter.State.choices)
    queue = serializers.CharField()
    actor = serializers.CharField(allow_null=True, help_text="Null for a message from outside.")
    cause = serializers.CharField(help_text="An error code, or the class of the exception.")
    detail = serializers.CharField()
    happened = serializers.CharField(help_text="The cause in plain words.")
    next = serializers.CharField(help_text="What to do about it.")
    attempts = serializers.IntegerField()
    payment_id = serializers.CharField(allow_null=True)
    message_id = serializers.UUIDField()
    request_id = serializers.CharField(allow_null=True)
    first_failed_at = serializers.DateTimeField()
    last_failed_at = serializers.DateTimeField()
    resolved_at = serializers.DateTimeField(allow_null=True)
    note = serializers.CharField(help_text="What came of the last attempt to resolve it.")
    previous = serializers.IntegerField(allow_null=True, help_text="The letter whose replay ended in this one.")
    replayed_as = serializers.UUIDField(allow_null=True, help_text="The message id under which it went out again.")
    resolution = serializers.IntegerField(allow_null=True, help_text="The last decision that had it in hand.")
    links = LinksSerializer()


class BodySerializer(serializers.Serializer[Any]):
    """What came from outside."""

    text = serializers.CharField(help_text="As UTF-8; what is none is replaced.")
    base64 = serializers.CharField(help_text="Exactly, as far as it was kept.")
    size = serializers.IntegerField(help_text="Bytes that came.")
    is_cut = serializers.BooleanField(help_text="Whether only its beginning was kept; it cannot be replayed.")


class WholeDeadLetterSerializer(DeadLetterSerializer):
    """A dead letter with all that was kept of it."""

    payload = serializers.DictField()
    body = BodySerializer(allow_null=True)
    traceback = serializers.CharField()
