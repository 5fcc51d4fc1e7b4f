"""Replays worth more than the setting `FOUR_EYES_ABOVE` are asked for by one person and begun by another.

What one person has replayed alone within a day counts along with it, so that many small replays are no way around, and
so does what is blocked: it may come free before its turn. Of letters whose sum nobody knows nothing is counted: what
they bring about is a new payment, which passes the limits of its merchant when it is accepted, as any other.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from console.reads import stake_of
from console.resolving import begin, take
from merchants import approvals
from merchants.approval_threshold import decided_alone, needs_second_approver
from merchants.audit import Who
from merchants.models import Approval
from merchants.refusals import ApprovalOutgrown
from messaging import previews, resolutions
from messaging.judgements import Verdict
from messaging.models import Resolution
from messaging.previews import Preview
from messaging.selections import Selection

ACTION: Final = "dead_letters.replay"


def needs_another(sums: Mapping[str, str], who: Who) -> bool:
    """Whether a replay of these sums takes a second person: strictly more than the limit, in any currency."""
    return needs_second_approver(ACTION, sums, who)


def replayed_alone(who: Who) -> dict[str, Decimal]:
    """Currency -> what a person has replayed within a day without a second one, by whatever way they came."""
    return decided_alone(ACTION, who)


def ask(selection: Selection, found: Preview, *, reason: str, rate: int | None, who: Who) -> Approval:
    """Ask for a replay of exactly what was found, in the caller's transaction, in which decisions take turns."""
    pinned = selection.upto(found.last)
    count, sums = found.count(Verdict.GOES), stake_of(found)
    money = ", ".join(f"{sum_} {currency}" for currency, sum_ in sums.items())
    return approvals.ask(
        action=ACTION,
        payload={"selection": pinned.document(), "rate": rate},
        summary=f"Replay {found.total} dead letters, of which {count} would go, worth {money}.",
        count=found.total,
        sums=sums,
        reason=reason,
        who=who,
    )


class Replays:
    """Carries out replays that a second person has agreed to."""

    permission = "messaging.resolve_deadletter"

    def carry_out(self, approval: Approval, *, who: Who) -> str:
        """Take the letters in hand.

        Raises:
            ApprovalOutgrown: they are more, or worth more. NothingToResolve: none is open and free any more.
        """
        resolutions.take_turns()
        found = self.outlook(approval)
        if is_outgrown(approval, found):
            raise ApprovalOutgrown
        by = f"{approval.requested_by[:65]}, approved by {who.name[:65]}"
        resolution = take(
            self.selection(approval),
            Resolution.Action.REPLAY,
            reason=approval.reason,
            by=by,
            rate=approval.payload["rate"],
            who=who,
            sums=stake_of(found),
            approval=str(approval.pk),
        )
        return f"resolution:{resolution.pk}"

    def follow_up(self, approval: Approval) -> None:
        """Begin."""
        begin(int(approval.result.partition(":")[2]))

    def selection(self, approval: Approval) -> Selection:
        """Which letters were asked for."""
        return Selection.of(approval.payload["selection"])

    def outlook(self, approval: Approval) -> Preview:
        """What would become of them now."""
        return previews.preview(self.selection(approval))


REPLAYS: Final = Replays()


def is_outgrown(approval: Approval, found: Preview) -> bool:
    """Whether more would be done now than was asked for: letters can match anew, and blocked ones come free."""
    asked = {currency: Decimal(sum_) for currency, sum_ in approval.sums.items()}
    more = any(Decimal(sum_) > asked.get(currency, 0) for currency, sum_ in stake_of(found).items())
    return more or found.total > approval.count
