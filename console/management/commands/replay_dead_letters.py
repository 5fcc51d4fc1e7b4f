"""`manage.py replay_dead_letters`: look at dead letters, and replay or discard them."""

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime, timedelta
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from tqdm import tqdm

from console import decisions
from console.serializers import HIGHEST_RATE
from merchants.audit import by_shell
from merchants.models import Approval
from merchants.reasons import reason_of
from merchants.refusals import Refused
from messaging import previews, resolutions
from messaging.judgements import Verdict
from messaging.models import Resolution
from messaging.previews import Preview
from messaging.selections import Selection
from payments.management.who import runs_this
from payments.money import to_major_units

#: More digits would lie before the calendar.
AGO: Final = re.compile(r"([0-9]{1,5})([mhd])")
UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
#: What a resolution was given when it was decided on: beside `--resume` it would be ignored, `--dry-run` above all.
DECIDED: Final = ("ids", "queue", "actor", "error", "since", "dry_run", "rate", "discard", "reason")

#: Exit status when the replay was only asked for.
ASKED_STATUS: Final = 3
ASKED: Final = (
    "Nothing was sent yet: so much money takes a second person. Have somebody else approve it within 24 hours, in the "
    "console under Approvals, or by POST /api/v1/approvals/{id}/approve."
)


class Command(BaseCommand):
    """Replays what was chosen, at most once. Ctrl-C stops it; `--resume` goes on; a crash goes on by itself."""

    help = (
        "Replay (or discard) the open dead letters that match. First look: --dry-run. Exit status 3: it was only asked "
        "for, because so much money takes a second person (FOUR_EYES_ABOVE)."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Which letters, why, and how fast."""
        parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="only these; default: all that match")
        parser.add_argument("--queue", default="", help="only of this queue")
        parser.add_argument("--actor", default="", help="only of this actor")
        parser.add_argument("--error", default="", help="only with this cause, such as retries_exhausted")
        parser.add_argument("--since", type=moment, help="only what failed since: 2h, 30m, 7d, or an ISO 8601 moment")
        parser.add_argument("--dry-run", action="store_true", help="only show what would happen")
        parser.add_argument("--rate", type=rate, help=f"letters per second at most; 1 to {HIGHEST_RATE}")
        parser.add_argument("--discard", action="store_true", help="close them without sending anything")
        parser.add_argument("--reason", default="", help="why; kept with the decision. Required but for --dry-run")
        parser.add_argument("--by", default=runs_this(), help="who decides; default: %(default)s")
        parser.add_argument(
            "--resume", type=int, metavar="N", help="go on with the stopped or interrupted resolution N"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Show what would happen, then do that: letters that die after the look are not included."""
        if options["resume"] is not None:
            refuse_beside_resume(options)
            self.go_on(options["resume"], by=options["by"])
            return
        selection = Selection(
            ids=tuple(options["ids"]) or None,
            queue=options["queue"],
            actor=options["actor"],
            cause=options["error"],
            since=options["since"],
        )
        shown = previews.preview(selection)
        self.stdout.write(describe(shown, discard=options["discard"]))
        if options["dry_run"] or not shown.total:
            return
        reason = reason_of(options["reason"])
        action = Resolution.Action.DISCARD if options["discard"] else Resolution.Action.REPLAY
        by = options["by"][:150]
        try:
            outcome = decisions.decide(
                selection.upto(shown.last), action, reason=reason, rate=options["rate"], who=by_shell(by)
            )
        except Refused as refusal:
            raise CommandError(f"{refusal.detail} Nothing was done.") from None
        if isinstance(outcome, Approval):
            raise CommandError(ASKED.format(id=outcome.pk), returncode=ASKED_STATUS)
        self.work_off(outcome, by=by)

    def go_on(self, number: int, *, by: str) -> None:
        """Resume a stopped resolution, or join in one whose worker has died."""
        decisions.resume(number, who=by_shell(by), in_background=False)
        resolution = Resolution.objects.filter(pk=number, state=Resolution.State.RUNNING).first()
        if resolution is None:
            raise CommandError(f"There is no resolution {number} that has anything left to do; nothing was done.")
        self.work_off(resolution, by=by)

    def work_off(self, resolution: Resolution, *, by: str) -> None:
        """Chunk after chunk, until it is done or somebody stops it."""
        try:
            with tqdm(total=resolution.total, initial=resolution.taken, unit="letter", disable=None) as bar:
                for state in resolutions.work_off_all(resolution.pk):
                    bar.update(state.taken - bar.n)
        except KeyboardInterrupt:
            decisions.stop(resolution.pk, who=by_shell(by))
            self.stdout.write(f"Stopped. Go on with: manage.py replay_dead_letters --resume {resolution.pk}")
        except Error as error:
            said = " ".join(str(error).split()) or type(error).__name__
            goes_on = f"a worker goes on with resolution {resolution.pk} within a minute"
            raise CommandError(f"Interrupted: {said}. Nothing is lost: {goes_on}.") from error
        resolution.refresh_from_db()
        self.stdout.write(result_of(resolution))


def refuse_beside_resume(options: dict[str, Any]) -> None:
    """A resumed resolution has its letters, its reason and its rate already."""
    if given := [name for name in DECIDED if options[name]]:
        names = ", ".join("the ids" if name == "ids" else f"--{name.replace('_', '-')}" for name in given)
        raise CommandError(f"--resume goes on with what was decided; leave {names} out. Nothing was done.")


def describe(shown: Preview, *, discard: bool) -> str:
    """A preview in lines."""
    in_hand = [f"A running resolution has {shown.in_hand} that match in hand; they are left to it."]
    lines = in_hand if shown.in_hand else []
    if not shown.total:
        return "\n".join([*lines, f"No {'other ' if lines else ''}open dead letter matches."])
    lines += [f"{tally.total:>7}  {tally.cause}  ({tally.actor or tally.queue})" for tally in shown.tallies]
    if discard:
        return "\n".join([*lines, f"To discard: {shown.total}."])
    money = ", ".join(f"{to_major_units(sum_, code)} {code}" for code, sum_ in sorted(shown.sums.items()))
    goes, settled, blocked = (shown.count(verdict) for verdict in Verdict)
    lines.append(f"To replay: {goes}{f', worth {money}' if money else ''}.")
    lines.append(f"Settled already, to be skipped: {settled}. Blocked, to stay open: {blocked}.")
    return "\n".join([*lines, *(f"{count:>7}  {note}" for note, count in sorted(shown.notes.items()))])


def result_of(resolution: Resolution) -> str:
    """What has come of it, in a line."""
    return (
        f"Resolution {resolution.pk} is {resolution.state}: {resolution.taken} of {resolution.total} taken in hand; "
        f"replayed {resolution.replayed}, discarded {resolution.discarded}, settled already {resolution.superseded}, "
        f"blocked {resolution.blocked}."
    )


def moment(text: str) -> datetime:
    """`2h` ago, or a moment in ISO 8601."""
    if ago := AGO.fullmatch(text):
        return timezone.now() - timedelta(**{UNITS[ago[2]]: int(ago[1])})
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise ArgumentTypeError("write 30m, 2h, 7d, or a moment such as 2026-01-31T12:00:00Z")
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def rate(text: str) -> int:
    """Letters per second."""
    number = int(text)
    if not 1 <= number <= HIGHEST_RATE:
        raise ArgumentTypeError(f"it must be from 1 to {HIGHEST_RATE}")
    return number
