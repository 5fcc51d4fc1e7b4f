"""`python -m tests.chaos.guards`: is the suite itself awake? Takes away one guard at a time, and a test must go red.

Each guard is changed in a copy of the tree, and the tests that should notice are run there. A guard whose
removal nobody notices, a test that fails for another reason than an assertion, and a text that is no longer
in the code as it is here, all end this with exit status 1. Arguments are parts of names: only those guards.
"""

import os
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import psycopg

ROOT = Path(__file__).resolve().parents[2]
#: At once: as many as a small machine has cores.
WORKERS = 2
#: Seconds for one run on a busy machine; a guard whose removal makes a test hang is not caught by an assertion.
PATIENCE = 600
#: What a test says when it is the test that found the fault, and not Python.
ASSERTIONS = ("AssertionError", "assert ", "Failed:", "Failed ")

EVERY_STEP = "tests/chaos/test_every_step.py::test_a_crash_at_any_step_neither_loses_nor_doubles_a_payment"
ACCEPT = "tests/integration/test_accept.py::"
PROCESS = "tests/integration/test_process.py::"
RELAY = "tests/integration/test_relay.py::"
EVENTS_OUT = "tests/integration/test_events_out.py::"
MODEL = "tests/chaos/test_model.py::"
DATABASE_ERRORS = "tests/integration/test_database_errors.py::"
LISTS = "tests/integration/test_lists.py::"
BREAKER = "tests/integration/test_breaker.py::"
INBOX = "tests/integration/test_inbox.py::"
UNMATCHED = "tests/integration/test_unmatched_charges.py::"
UNMATCHED_OPERATED = "tests/integration/test_unmatched_charges_operated.py::"
RECONCILE = "tests/integration/test_reconcile.py::"
REPLAY = "tests/integration/test_replay.py::"
RESOLUTIONS = "tests/integration/test_resolutions.py::"
DEAD_LETTERS = "tests/integration/test_dead_letters.py::"
CONSUMER = "tests/integration/test_consumer.py::"
INTAKE = "tests/integration/test_intake.py::"
API_DEAD_LETTERS = "tests/integration/test_api_dead_letters.py::"
SUBSCRIBERS = "tests/e2e/test_subscribers.py"
FAN_OUT = "tests/integration/test_fan_out.py::"
DELIVERIES = "tests/integration/test_deliveries.py::"
BUCKETS = "tests/integration/test_buckets.py::"
LIMITS = "tests/integration/test_limits.py::"
VELOCITY = "tests/integration/test_velocity.py::"
EVIDENCE = "tests/integration/test_evidence.py::"
IDENTIFIERS = "tests/integration/test_identifiers.py::"
EXACT_TEXTS = "tests/integration/test_exact_texts.py::"
CLOCK_STEPS = "tests/integration/test_clock_steps.py::"
FAST_DOOR = "tests/integration/test_fast_door.py::"
BROKER = "tests/unit/test_broker.py::"
ROLE_ATTACKS = "tests/integration/test_role_attacks.py::"
LOCK_ORDER = "tests/integration/test_lock_order.py::"
TRANSPORT = "tests/unit/test_gateway_transport.py::"
LEASE = "tests/unit/test_lease.py::"
FIRST_MIGRATION = "payments/migrations/0001_initial.py"


@dataclass(frozen=True)
class Change:
    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Guard:
    """One guard, what takes it away, and the tests of which one must notice."""

    name: str
    changes: tuple[Change, ...]
    tests: str

    @property
    def changes_tables(self) -> bool:
        return any("migrations" in change.file for change in self.changes)


def guard(name: str, file: str, old: str, new: str, tests: str) -> Guard:
    return Guard(name, (Change(file, old, new),), tests)


GUARDS = [
    Guard(
        "an order has one holder: the unique index",
        (
            Change(
                FIRST_MIGRATION,
                "fields=('merchant', 'mode', 'order_id'), name='one_payment_holds_an_order'",
                "fields=('id', 'order_id'), name='one_payment_holds_an_order'",
            ),
            Change(
                "payments/models.py",
                'fields=["merchant", "mode", "order_id"],\n                condition=Q(holds_order=True)',
                'fields=["id", "order_id"],\n                condition=Q(holds_order=True)',
            ),
        ),
        ACCEPT + "test_an_order_that_is_being_taken_at_this_moment_takes_no_second_payment",
    ),
    guard(
        "identifiers are compared in NFC",
        "merchants/characters.py",
        'return text if text.isascii() else unicodedata.normalize("NFC", text)',
        "return text",
        IDENTIFIERS + "test_an_order_in_two_unicode_forms_is_one_order_by_message_and_api",
    ),
    guard(
        "identifiers with invisible characters are refused",
        "merchants/strict.py",
        "if fault := find_identifier_fault(text):",
        "if fault := None:",
        IDENTIFIERS + "test_an_identifier_with_an_invisible_character_is_refused",
    ),
    guard(
        "texts are kept as they were sent",
        "merchants/strict.py",
        "        return data\n\n\nclass NameField",
        "        return data.strip()\n\n\nclass NameField",
        EXACT_TEXTS + "test_a_request_with_other_white_space_is_another_request",
    ),
    guard(
        "messages have JSON booleans only",
        "payments/messages.py",
        "simulate_transient_failure = StrictBooleanField(",
        "simulate_transient_failure = serializers.BooleanField(",
        EXACT_TEXTS + "test_a_message_has_json_booleans_only",
    ),
    Guard(
        "a key has one request: the unique index",
        (
            Change(
                FIRST_MIGRATION,
                "fields=('merchant', 'key'), name='one_request_per_idempotency_key'",
                "fields=('merchant', 'key', 'payment'), name='one_request_per_idempotency_key'",
            ),
            Change(
                "payments/idempotency.py",
                "ON CONFLICT (merchant_id, key) DO UPDATE\n",
                "ON CONFLICT (merchant_id, key, payment_id) DO UPDATE\n",
            ),
        ),
        ACCEPT + "test_the_same_request_again_gets_the_same_bytes_and_does_nothing",
    ),
    guard(
        "two idempotency keys in two headers are not taken for one key",
        "payments/idempotency.py",
        r'r"[!#-+\--\[\]-~]{1,255}"',
        'r"[!-~]{1,255}"',
        "tests/unit/test_idempotency_key.py::test_a_key_that_could_be_read_in_two_ways_is_refused",
    ),
    guard(
        "an empty filter does not show every payment",
        "merchants/query.py",
        "elif not values[0].strip():",
        "elif False:",
        "tests/integration/test_query_parameters.py::test_an_empty_or_repeated_parameter_is_refused_by_its_name",
    ),
    guard(
        "a key belongs to one request: the fingerprint",
        "payments/idempotency.py",
        "if bytes(stored_print) != print_:",
        "if False:",
        ACCEPT + "test_a_key_with_another_request_is_refused",
    ),
    Guard(
        "an order is held while the outcome is unknown",
        (
            Change(
                FIRST_MIGRATION,
                "('status__in', ['authorized', 'pending', 'processing', 'succeeded', 'unknown']), _negated=True), "
                "('holds_order', True), _connector='OR')",
                "('amount__gt', 0)))",
            ),
            Change(
                "payments/operations/schedule.py",
                "transitions.move(payment, Status.UNKNOWN, now=now, look_up_first=False, **error)",
                "transitions.move(payment, Status.UNKNOWN, now=now, look_up_first=False, holds_order=False, **error)",
            ),
        ),
        PROCESS + "test_a_charge_without_an_answer_is_looked_up_and_never_sent_again",
    ),
    guard(
        "the message is of the payment's own transaction",
        "payments/operations/insert.py",
        '    rows["messages"] += [message_of(candidate.payment) for candidate in candidates]\n',
        "    for each in candidates:\n"
        '        due = {"ids": [str(each.payment.pk)]}\n'
        '        transaction.on_commit(lambda due=due: transaction.atomic(outbox.stage)("payment.due", due))\n',
        f"{EVERY_STEP}[pm_ok-accept]",
    ),
    guard(
        "the event is of the move's own transaction",
        "payments/transitions.py",
        "UPDATE if news is None else MOVE), parameters)",
        "UPDATE), parameters)\n"
        '            later = "WITH happened AS (SELECT id FROM json_to_recordset(%(changes)s::json) AS it (id uuid))"\n'
        '            later += f", {NEW_EVENTS}, {outbox.STAGED} SELECT 1"\n'
        "            if news is not None:\n"
        "                transaction.on_commit(lambda: connection.cursor().execute(later, parameters))",
        f"{EVERY_STEP}[pm_ok-accept-process]",
    ),
    *(
        guard(
            f"the announcement of {what} is of its own transaction",
            "payments/transitions.py",
            '        rows["messages"] += [{"about"',
            f"        if kind {which} EventType.CREATED:\n"
            "            told = list(outbox.rows_of(announcement))\n"
            "            insert = transaction.atomic(records.insert)\n"
            "            transaction.on_commit(lambda told=told: insert(outbox.OutboxMessage, told))\n"
            "            continue\n"
            '        rows["messages"] += [{"about"',
            f"{EVERY_STEP}[{how}]",
        )
        for what, which, how in [("an event", "!=", "pm_ok-accept-process"), ("a new payment", "==", "pm_ok-accept")]
    ),
    guard(
        "of a list only what is settled is acknowledged",
        "messaging/consumer.py",
        "    if head:\n        channel.basic_ack(head, multiple=True)",
        "    if settled:\n        channel.basic_ack(max([head, *(each.tag for each in inbox)]), multiple=True)",
        "tests/integration/test_consumer.py::test_of_a_list_only_what_is_settled_is_acknowledged",
    ),
    guard(
        "a change that failed is taken back in memory, too",
        "payments/transitions.py",
        "        apply(before)\n",
        "",
        "tests/integration/test_transitions.py::test_a_change_that_fails_leaves_the_payment_as_it_was_read",
    ),
    guard(
        "in a list, of those that claim the same the first goes first",
        "payments/operations/accept.py",
        "if candidate.refusal is None and not claims & claimed:",
        "if candidate.refusal is None:",
        "tests/integration/test_accept_lists.py",
    ),
    guard(
        "a list waits for nobody who hangs",
        "payments/operations/insert.py",
        "wait = None if patience is None else",
        "wait = None if True or patience is None else",
        "tests/integration/test_accept_lists.py::test_what_many_share_waits_for_nobody_who_hangs",
    ),
    guard(
        "only what is named leaves the house",
        "payments/cloud_events.py",
        "**{name: shown[name] for name in SHARED}",
        "**shown",
        EVENTS_OUT + "test_what_people_wrote_never_leaves_the_house",
    ),
    guard(
        "a claim is committed before the call",
        "payments/operations/process.py",
        "        return claim_payments(payment_ids)\n",
        "        with transaction.atomic():\n"
        "            claims = claim_payments.__wrapped__(payment_ids)\n"
        "            transaction.set_rollback(True)\n"
        "        return claims\n",
        f"{EVERY_STEP}[pm_timeout_charged-accept-process]",
    ),
    guard(
        "a live lease is respected",
        "payments/operations/claims.py",
        "return AttemptKind.LOOKUP if payment.lease_expires_at <= now else None",
        "return AttemptKind.LOOKUP",
        PROCESS + "test_claim_under_a_live_lease_is_left_alone",
    ),
    guard(
        "an expired lease is looked up before anything is sent",
        "payments/operations/claims.py",
        "return AttemptKind.LOOKUP if payment.lease_expires_at <= now else None",
        "return AttemptKind.CHARGE if payment.lease_expires_at <= now else None",
        PROCESS + "test_claim_with_an_expired_lease_looks_first_and_never_sends",
    ),
    guard(
        "an unknown outcome is looked up before anything is sent",
        "payments/operations/claims.py",
        "return charge if payment.status == Status.PROCESSING else AttemptKind.LOOKUP",
        "return charge",
        PROCESS + "test_a_charge_without_an_answer_is_looked_up_and_never_sent_again",
    ),
    guard(
        "payments of a list that fails are claimed one by one",
        "payments/operations/process.py",
        "    return [claim for payment_id in payment_ids for claim in claim_each([payment_id], failures)]",
        "    return []",
        LISTS + "test_a_payment_that_cannot_be_written_holds_up_no_other[processing-pending]",
    ),
    guard(
        "answers of a list that fails are settled one by one",
        "payments/operations/process.py",
        "following += [claim for one in together for claim in settle_each([one], failures, ends=ends)]",
        "failures |= {one.claim.request.payment_id: failure for one in together}",
        LISTS + "test_an_answer_that_cannot_be_stored_keeps_no_other_of_its_list_from_it",
    ),
    guard(
        "an answer to a locked payment holds up no other",
        "payments/operations/settle.py",
        "lock_payments(ids_of(answered), skip_locked=len(answered) > 1)",
        "lock_payments(ids_of(answered))",
        LISTS + "test_an_answer_to_a_payment_that_somebody_has_locked_holds_up_no_other",
    ),
    guard(
        "a lock fails the claim of one payment and of no other",
        "payments/operations/process.py",
        "return is_retryable(failure) and not is_contention(failure)",
        "return is_retryable(failure)",
        LISTS + "test_a_lock_that_one_payment_cannot_have_fails_the_claim_of_no_other",
    ),
    guard(
        "a reply survives a read-only or aborted transaction",
        "messaging/database_errors.py",
        '    "25": RETRY,',
        '    "25": DEAD_LETTER,',
        DATABASE_ERRORS + "test_a_reply_survives_a_session_that_only_reads",
    ),
    guard(
        "a reply is stored over a new session",
        "messaging/database_errors.py",
        "        on_retry()\n        connection.close()\n",
        "        on_retry()\n",
        DATABASE_ERRORS + "test_a_reply_survives_a_session_that_only_reads",
    ),
    guard(
        "a reply is stored at a later try",
        "messaging/database_errors.py",
        "if not is_retryable(error) or (pause := next(waits, None)) is None:",
        "if (pause := next(waits, None)) is not None:",
        DATABASE_ERRORS + "test_a_reply_survives_a_freeze_inside_the_settling_transaction",
    ),
    guard(
        "what the database is at fault for becomes no dead letter",
        "messaging/escapes.py",
        "(escapes >= LIMIT and not is_retryable(part.failure))",
        "escapes >= LIMIT",
        DATABASE_ERRORS + "test_a_message_that_may_succeed_later_comes_again_for_ever_every_five_minutes",
    ),
    guard(
        "a message is kept whatever error storing its dead letter meets",
        "messaging/consumer.py",
        "        except Error as error:\n            connection.close()",
        "        except OSError as error:\n            connection.close()",
        DATABASE_ERRORS + "test_a_dead_letter_that_cannot_be_written_is_kept_and_ends_no_process",
    ),
    guard(
        "what failed of a list comes again alone",
        "messaging/escapes.py",
        "exception.failures if isinstance(exception, Escaped) else {str(id_): exception for id_ in ids}",
        "{str(id_): exception for id_ in ids}",
        "tests/integration/test_escapes.py::test_only_what_failed_of_a_message_comes_again_and_each_by_itself",
    ),
    guard(
        "what has a story of its own travels alone",
        "messaging/relay.py",
        " or row.options or",
        " or",
        LISTS + "test_what_has_a_story_of_its_own_travels_alone",
    ),
    guard(
        "each payment of a list that RabbitMQ gave up has its letter",
        "messaging/dead_messages.py",
        'for id_ in message.kwargs["ids"]]',
        'for id_ in message.kwargs["ids"][:1]]',
        DEAD_LETTERS + "test_each_payment_of_a_list_that_rabbitmq_gave_up_has_its_letter_and_one_only",
    ),
    guard(
        "a worker with too little lease does not call",
        "payments/operations/process.py",
        "if claim.lease_ends - began < deadline:",
        "if False:",
        LEASE + "test_a_call_begins_only_if_the_lease_outlasts_its_deadline",
    ),
    guard(
        "the fence in the conditional update",
        "payments/transitions.py",
        " AND payment.fence = new.old_fence",
        "",
        "tests/integration/test_transitions.py::test_a_move_with_a_fence_of_yesterday_is_lost",
    ),
    guard(
        "the fence where an answer is stored",
        "payments/operations/settle.py",
        "return payment.fence == one.claim.fence",
        "return True",
        PROCESS + "test_a_late_refusal_is_recorded_and_changes_nothing",
    ),
    guard(
        "an answer is stored once",
        "payments/operations/settle.py",
        " AND attempt.outcome IN ('', 'abandoned')",
        "",
        f"{EVERY_STEP}[pm_ok-accept-process]",
    ),
    guard(
        "not found counts only after the grace period",
        "payments/operations/settle.py",
        "if believable_at is not None and claimed_at < believable_at:",
        "if False:",
        PROCESS + "test_not_found_within_the_grace_period_is_not_believed",
    ),
    guard(
        "not found counts by when it was asked",
        "payments/operations/settle.py",
        "if believable_at is not None and claimed_at < believable_at:",
        "if believable_at is not None and now < believable_at:",
        f"{MODEL}test_a_not_found_of_within_the_grace_period_is_not_believed_when_it_is_stored_after_it",
    ),
    guard(
        "the gateway's key derives from the client's request",
        "payments/operations/wishes.py",
        "key=wish.idempotency_key\n        ),",
        "key=str(uuid7())\n        ),",
        EVIDENCE + "test_a_request_that_is_accepted_again_after_a_lost_commit_is_charged_once",
    ),
    guard(
        "a charge under our key is ours, whichever payment it names",
        "payments/gateways/sandbox.py",
        "if key is None else key == request.key",
        "if True else key == request.key",
        EVIDENCE + "test_a_request_that_is_accepted_again_after_a_lost_commit_is_charged_once",
    ),
    guard(
        "a charge under our key of another amount is no approval",
        "payments/gateways/sandbox.py",
        'return is_ours and type(amount) is int and (amount, charge.get("currency"))',
        'return is_ours and type(amount) is int and (request.amount, charge.get("currency"))',
        "tests/unit/test_sandbox_adapter.py::test_a_charge_under_our_key_of_another_amount_is_evidence_and_no_approval",
    ),
    guard(
        "a rejected request proves nothing about an earlier one",
        "payments/operations/evidence.py",
        "        RequestRejected: Consequence.LOOK_UP_LATER,\n        Unavailable: Consequence.LOOK_UP_LATER,\n"
        "        OutcomeUnknown: Consequence.LOOK_UP_LATER,\n    },\n}\n_LOOKED_UP",
        "        RequestRejected: Consequence.FAIL_REJECTED,\n        Unavailable: Consequence.LOOK_UP_LATER,\n"
        "        OutcomeUnknown: Consequence.LOOK_UP_LATER,\n    },\n}\n_LOOKED_UP",
        EVIDENCE + "test_a_rejected_repetition_does_not_free_the_order_of_a_charge_that_may_have_been_taken",
    ),
    guard(
        "a decline proves nothing about an earlier request",
        "payments/operations/evidence.py",
        "        Declined: Consequence.LOOK_UP_NOW,\n",
        "        Declined: Consequence.FAIL_DECLINED,\n",
        EVIDENCE + "test_a_declined_repetition_is_looked_up_before_the_payment_fails",
    ),
    guard(
        "a refused request is not sent again",
        "payments/operations/evidence.py",
        "{**_LOOKED_UP, NotFound: Consequence.LOOK_UP_LATER}",
        "_LOOKED_UP",
        EVIDENCE + "test_a_rejected_request_is_not_sent_a_third_time",
    ),
    guard(
        "an abandoned request may be under way for one more lease",
        "payments/operations/settle.py",
        'then=F("finished_at") + lease',
        'then=F("finished_at")',
        CLOCK_STEPS + "test_a_step_forward_during_a_call_sends_nothing_twice",
    ),
    guard(
        "a clock that was set back does not lengthen the key window",
        "payments/operations/settle.py",
        "claim.gateway.adapter.key_window - CLOCK_MARGIN",
        "claim.gateway.adapter.key_window",
        CLOCK_STEPS + "test_a_clock_that_was_set_back_by_an_hour_does_not_lengthen_the_key_window",
    ),
    guard(
        "a clock that was set back delays nothing",
        "messaging/clock_steps.py",
        "if step > TOLERANCE:",
        "if False:",
        CLOCK_STEPS + "test_a_step_back_delays_no_retry_and_no_look_up",
    ),
    guard(
        "leases are measured by a clock that counts suspension",
        "messaging/clock.py",
        'getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)',
        "time.CLOCK_MONOTONIC",
        "tests/unit/test_clock.py::test_durations_include_the_time_for_which_the_machine_was_suspended",
    ),
    guard(
        "an approval of a lost payment is recorded",
        "payments/operations/settle.py",
        "        outcomes.record_lost_payment(answered[0].claim, approval_of(answered[0]))\n",
        "        pass\n",
        EVIDENCE + "test_an_approval_of_a_payment_that_was_lost_during_the_call_is_recorded",
    ),
    guard(
        "an approval whose attempt was lost is proof",
        "payments/operations/settle.py",
        "            outcomes.learn(by_id[one.claim.request.payment_id], one.answer, now=now)\n",
        "            pass\n",
        EVIDENCE + "test_an_approval_settles_a_payment_whose_claim_was_lost_during_the_call",
    ),
    guard(
        "nothing is sent again past the key window",
        "payments/operations/settle.py",
        "if now + claim.gateway.lease >= window_ends or is_too_old(payment, now=now):",
        "if is_too_old(payment, now=now):",
        PROCESS + "test_past_the_key_window_nothing_is_ever_sent_again",
    ),
    guard(
        "what is sent again has the same key",
        "payments/models.py",
        'return f"{self.gateway_key_base or self.pk}:charge:{self.key_number}"',
        'return f"{self.gateway_key_base or self.pk}:charge:{self.fence}"',
        PROCESS + "test_not_found_after_the_grace_period_sends_again_with_the_same_key",
    ),
    guard(
        "no failure while a charge may have arrived",
        "payments/operations/schedule.py",
        "if may_have_been_taken(payment):",
        "if False:",
        PROCESS + "test_exhausted_retries_do_not_fail_a_payment_that_may_have_been_charged",
    ),
    guard(
        "an approval must be of this very charge",
        "payments/gateways/sandbox.py",
        "    if _is_requested(charge, request):\n",
        "    if True:\n",
        "tests/unit/test_sandbox_adapter.py",
    ),
    guard(
        "the rescue",
        "payments/rescue.py",
        "SELECT id FROM payments_payment\n        WHERE revive_at <= statement_timestamp()",
        "SELECT id FROM payments_payment\n        WHERE false",
        f"{EVERY_STEP}[pm_ok-accept-lose_message-wait-rescue]",
    ),
    guard(
        "the rescue of what a gateway told",
        "payments/rescue.py",
        "SELECT id FROM payments_gatewayevent\n        WHERE revive_at <= statement_timestamp()",
        "SELECT id FROM payments_gatewayevent\n        WHERE false",
        INBOX + "test_an_event_whose_message_was_lost_is_rescued",
    ),
    guard(
        "a webhook must be signed",
        "payments/gateways/sandbox.py",
        "except (WebhookVerificationError, ValueError, RecursionError):\n                continue",
        "except (WebhookVerificationError, ValueError, RecursionError):\n                pass",
        INBOX + "test_what_the_gateway_did_not_sign_just_now_is_not_stored",
    ),
    guard(
        "a webhook without a reference is no approval",
        "payments/gateways/sandbox_documents.py",
        '    return value if isinstance(value, str) else ""\n',
        "    return str(value)\n",
        INBOX + "test_an_event_that_does_not_fit_changes_nothing_and_is_kept",
    ),
    guard(
        "a webhook must speak of this very amount",
        "payments/operations/inbox.py",
        "if (news.amount, news.currency) != (payment.amount, payment.currency):",
        "if False:",
        INBOX + "test_an_event_that_does_not_fit_changes_nothing_and_is_kept",
    ),
    guard(
        "an approval by another way ends the claim under way",
        "payments/operations/outcomes.py",
        "succeed_all([(payment, answer)], now=now, fence=payment.fence + 1)",
        "succeed_all([(payment, answer)], now=now)",
        INBOX + "test_an_approval_before_the_answer_to_the_call_settles_and_the_answer_changes_nothing",
    ),
    guard(
        "a gateway in trouble is not called",
        "payments/operations/claims.py",
        "    if not admission.admitted:\n",
        "    if False:\n",
        BREAKER + "test_a_new_payment_waits_in_processing_and_burns_no_retry",
    ),
    guard(
        "no charge begins after the pause",
        "payments/operations/settle.py",
        "    if in_trouble:\n",
        "    if in_trouble and consequence is not Consequence.SEND_AGAIN:\n",
        BREAKER + "test_no_charge_begins_after_the_pause_though_a_look_up_was_under_way",
    ),
    guard(
        "a look-up that is refused is no decline",
        "payments/gateways/sandbox.py",
        "            return NotFound()\n        return read_decision(answer, request)",
        "            return NotFound()\n        return read_answer(answer, request)",
        "tests/unit/test_sandbox_adapter.py::test_a_look_up_that_is_refused_says_nothing_of_the_charge",
    ),
    guard(
        "a late success is never dropped",
        "payments/operations/outcomes.py",
        "if payment.amount_captured and answer.reference in",
        "if answer.reference in",
        INBOX + "test_an_approval_under_the_reference_of_the_decline_is_a_late_success",
    ),
    guard(
        "what waited for a gateway is released",
        "payments/release.py",
        "return LIMIT if state is State.IN_ORDER else 0",
        "return 0",
        BREAKER + "test_what_waited_is_released_when_it_closes_oldest_first",
    ),
    guard(
        "quick answers hide no slow failures from the breaker",
        "payments/breaker.py",
        "        ORDER BY finished_at DESC -- not by id",
        "        ORDER BY id DESC -- not by finished_at",
        BREAKER + "test_slow_failures_are_not_hidden_by_quick_answers_to_calls_that_began_later",
    ),
    guard(
        "one probe at a time",
        "payments/breaker.py",
        "idle = Q(probing_until=None) | Q(probing_until__lte=now)",
        "idle = Q()",
        BREAKER + "test_one_call_probes_and_the_others_wait",
    ),
    guard(
        "nothing is charged past its age",
        "payments/operations/claims.py",
        "if kind == AttemptKind.CHARGE and is_too_old(payment, now=now):",
        "if False:",
        "tests/integration/test_retries.py::test_a_payment_nobody_took_up_in_time_is_never_charged_and_becomes_a_dead_letter",
    ),
    guard(
        "a key is kept while its payment is not final",
        "payments/idempotency.py",
        "(stored.payment_id IS NULL OR payment.status = ANY(%(final)s))",
        "true",
        "tests/integration/test_idempotency.py::test_a_key_whose_payment_is_not_final_is_never_forgotten",
    ),
    guard(
        "a payment that the bucket has not admitted is not stored",
        "payments/operations/wishes.py",
        "        if not admitted:\n",
        "        if False:\n",
        BUCKETS + "test_payments_beyond_the_bucket_are_refused_and_nothing_is_stored",
    ),
    guard(
        "a repetition is answered before the bucket is asked for",
        "payments/operations/insert.py",
        "if candidate.refusal is not None and is_new(settled.get(number)):",
        "if candidate.refusal is not None:",
        BUCKETS + "test_a_repetition_is_answered_when_the_bucket_is_empty_and_costs_nothing",
    ),
    guard(
        "a repetition gives its token back",
        "payments/views.py",
        "if answer.replayed and ticket.granted:",
        "if False:",
        BUCKETS + "test_a_repetition_is_answered_when_the_bucket_is_empty_and_costs_nothing",
    ),
    guard(
        "in a batch, a payment that the bucket has not admitted is not stored",
        "payments/batch_views.py",
        "        admitted=ticket.granted,\n",
        "",
        "tests/integration/test_api_batch.py::test_each_payment_takes_one_token_and_those_beyond_the_bucket_are_refused",
    ),
    guard(
        "many tokens are taken together or none of them",
        "merchants/buckets.py",
        "    if taken is None or not taken[0]:\n        return [None] * number\n",
        "    if taken is None:\n        return [None] * number\n",
        BUCKETS + "test_tokens_asked_for_together_are_as_many_as_one_by_one_and_each_ticket_tells_its_own",
    ),
    guard(
        "the fast door asks for the scope",
        "payments/fast_path.py",
        "caller is None or NEEDED not in caller.scopes",
        "caller is None",
        FAST_DOOR + "test_whoever_may_not_is_refused_by_the_house",
    ),
    guard(
        "of what came over TLS, the fast door believes what Django does",
        "config/fast_door.py",
        'said.split(",", 1)[0].strip() == wanted',
        "wanted in said",
        FAST_DOOR + "test_in_production_only_what_came_over_tls_is_accepted_and_told_to_stay_there",
    ),
    guard(
        "the fast door leaves what is unusual to the house",
        "config/fast_door.py",
        "        and not any(name in environ for name in UNUSUAL)\n",
        "",
        FAST_DOOR + "test_an_unusual_form_goes_into_the_house_untouched",
    ),
    guard(
        "the fast door gives tokens back that made no payment",
        "payments/fast_path.py",
        "        give_back_unused(tickets, outcomes)\n",
        "        pass\n",
        FAST_DOOR + "test_only_new_payments_cost_tokens",
    ),
    guard(
        "requests are counted in one statement",
        "merchants/counters.py",
        "THEN counter.count ELSE 0 END + excluded.count",
        "THEN (SELECT other.count FROM merchants_counter AS other WHERE other.key = excluded.key) ELSE 0 END\n"
        "            + excluded.count",
        LIMITS + "test_of_1000_requests_at_once_exactly_100_pass",
    ),
    guard(
        "a declined payment counts against its payer",
        "payments/operations/outcomes.py",
        "    velocity.count_decline(payment, now=now)\n",
        "",
        VELOCITY + "test_a_payer_with_too_many_declines_gets_no_more_payments",
    ),
    guard(
        "a blocked payer gets no payment accepted",
        "payments/operations/wishes.py",
        "        velocity.require_unblocked(payment, now=payment.created_at)\n",
        "",
        VELOCITY + "test_a_payer_with_too_many_declines_gets_no_more_payments",
    ),
    guard(
        "a token that was verified ends when it ends",
        "merchants/signing.py",
        'if claims and signed_by == keys and claims["iat"] <= time.time() < claims["exp"] else None',
        "if claims and signed_by == keys else None",
        "tests/unit/test_verified_tokens.py",
    ),
    guard(
        "a token is remembered with the keys that it was verified by",
        "merchants/signing.py",
        "if claims and signed_by == keys and",
        "if claims and",
        "tests/unit/test_verified_tokens.py",
    ),
    guard(
        "decisions about dead letters are made one after the other",
        "messaging/resolutions.py",
        'cursor.execute("SELECT pg_advisory_xact_lock(%s)", [DECIDING])',
        "pass",
        f"{API_DEAD_LETTERS}test_a_decision_waits_for_the_one_that_is_being_made_and_takes_none_of_its_letters",
    ),
    guard(
        "a decision has one request: its key is claimed in its own commit",
        "console/decisions.py",
        "if not answer.replayed:",
        "if True:",
        f"{API_DEAD_LETTERS}test_the_same_request_again_gets_the_same_bytes_and_decides_nothing",
    ),
    guard(
        "only what was confirmed is deleted",
        "messaging/relay.py",
        "confirmed = [row.id for row in contents(parcels, published.confirmed)]",
        "confirmed = [row.id for row in rows]",
        f"{EVERY_STEP}[pm_ok-accept-relay]",
    ),
    guard(
        "rows are deleted by id",
        "messaging/relay.py",
        "    outbox.remove(confirmed)\n",
        "    outbox.OutboxMessage.objects.all().delete()\n",
        RELAY + "test_a_large_outbox_leaves_in_batches_in_order",
    ),
    guard(
        "relays lock their rows and skip those of others",
        "messaging/lanes.py",
        " LIMIT {batch:d} FOR UPDATE SKIP LOCKED",
        " LIMIT {batch:d}",
        RELAY + "test_several_relays_share_the_work_and_publish_each_message_once",
    ),
    guard(
        "an accepted payment wakes an idle relay",
        "payments/operations/insert.py",
        "        doorbell.bell.ring()\n",
        "        pass\n",
        "tests/integration/test_doorbell.py",
    ),
    guard(
        "mandatory: what no queue takes comes back",
        "messaging/publisher.py",
        "            mandatory=message.mandatory,\n",
        "",
        RELAY + "test_a_message_that_no_queue_takes_is_kept_and_goes_out_once_there_is_one",
    ),
    guard(
        "a block ends with the connection that was blocked",
        "messaging/publisher.py",
        '        self._blocked = ""  # by what is gone\n',
        "",
        RELAY + "test_a_block_ends_with_the_connection_that_was_blocked",
    ),
    guard(
        "what came back is not confirmed",
        "messaging/publisher.py",
        "self._outcome.refused.add(str(properties.message_id))",
        "pass",
        RELAY + "test_a_message_that_no_queue_takes_is_kept_and_goes_out_once_there_is_one",
    ),
    guard(
        "what RabbitMQ rejects is not confirmed",
        "messaging/publisher.py",
        "accepted = isinstance(frame.method, Basic.Ack)",
        "accepted = True",
        "tests/unit/test_publisher.py",
    ),
    guard(
        "an acknowledgement hits only its own connection's message",
        "messaging/broker.py",
        "if message.consumer_stamp == self.stamp:",
        "if True:",
        "tests/unit/test_broker.py::test_a_message_of_an_earlier_connection_never_acknowledges_another",
    ),
    guard(
        "messages: a worker checks each before Dramatiq decodes it",
        "messaging/broker.py",
        "message_check.read_message(body, queue=self.queue_name)",
        "Message.decode(body)",
        BROKER + "test_a_message_that_dramatiq_could_not_bear_is_rejected_before_it_is_decoded",
    ),
    guard(
        "messages: one that names another queue is refused",
        "messaging/message_check.py",
        'if fields["queue_name"] != queue:',
        "if False:",
        BROKER + "test_a_message_that_dramatiq_could_not_bear_is_rejected_before_it_is_decoded",
    ),
    guard(
        "messages: one with an eta is refused",
        "messaging/message_check.py",
        '    "request_id": (_is_request_id,',
        '    "eta": (lambda _value: True, ""),\n    "request_id": (_is_request_id,',
        BROKER + "test_a_message_that_dramatiq_could_not_bear_is_rejected_before_it_is_decoded",
    ),
    guard(
        "messages: the number of ids that become dead letters is bounded",
        "messaging/message_check.py",
        "not 1 <= len(ids) <= most:",
        "not ids:",
        DEAD_LETTERS + "test_of_a_message_with_too_many_ids_no_byte_is_lost_and_one_row_is_made",
    ),
    guard(
        "messages: what workers refuse is not replayed",
        "messaging/judgements.py",
        "if letter.queue == settings.INTAKE_QUEUE:",
        "if True:",
        RESOLUTIONS + "test_what_the_workers_would_refuse_again_is_blocked_and_says_so",
    ),
    guard(
        "messages: they are checked without RabbitMQ, too",
        "messaging/in_process.py",
        "message_check.read_message(envelope.body, queue=envelope.routing_key)",
        "dramatiq.Message.decode(envelope.body)",
        EVENTS_OUT + "test_without_rabbitmq_what_no_worker_accepts_is_a_dead_letter_and_stops_nothing",
    ),
    guard(
        "a message whose escape cannot be stored is failed",
        "messaging/escapes.py",
        "            message.fail()\n",
        "",
        "tests/integration/test_escapes.py::test_a_message_is_not_acknowledged_when_its_escape_cannot_be_stored",
    ),
    guard(
        "an order that was paid late is held when its next payment fails",
        "payments/operations/orders.py",
        "    if late is not None:\n",
        "    if False:\n",
        REPLAY + "test_an_order_that_was_paid_late_goes_to_its_payer_once_it_is_free",
    ),
    guard(
        "a replay asks again for a payment that is locked for an instant",
        "payments/operations/replay.py",
        "TRIES: Final = 10",
        "TRIES: Final = 1",
        REPLAY + "test_a_stray_message_that_holds_a_payment_for_an_instant_leaves_no_letter_behind",
    ),
    guard(
        "a replay asks before it charges",
        "payments/operations/replay.py",
        "look_up_first=payment.fence > 0,",
        "look_up_first=False,",
        REPLAY + "test_a_replay_never_charges_before_the_gateway_was_asked_about_the_key",
    ),
    guard(
        "what was declined is never asked for under the same key",
        "payments/operations/settle.py",
        "transitions.stay(payment, key_number=payment.key_number + 1)",
        "pass",
        REPLAY + "test_what_the_gateway_has_declined_is_charged_under_the_next_key",
    ),
    guard(
        "what was paid late is settled and not replayed",
        "payments/operations/replay.py",
        "if payment.amount_captured or payment.status in",
        "if payment.status in",
        REPLAY + "test_a_payment_that_was_paid_late_is_settled_and_not_charged_again",
    ),
    guard(
        "an order that was paid late, and is not held, is not charged by a replay",
        "payments/operations/replay.py",
        "    if is_paid_otherwise(payment):\n",
        "    if False:\n",
        REPLAY + "test_an_order_that_was_paid_late_without_being_held_is_not_charged_again",
    ),
    guard(
        "a replay charges nothing at a gateway that was paused meanwhile",
        "payments/operations/settle.py",
        "    if in_trouble:\n",
        "    if in_trouble and consequence is not Consequence.SEND_UNDER_NEXT_KEY:\n",
        REPLAY + "test_nothing_is_charged_at_a_gateway_that_was_paused_during_the_look_up",
    ),
    guard(
        "a death has one row: its message id",
        "messaging/dead_letters.py",
        "letter.message_id = input.message_id)",
        "false)",
        DEAD_LETTERS + "test_an_old_copy_of_a_message_reopens_no_letter_and_touches_no_other",
    ),
    guard(
        "a letter is in one running resolution's hand",
        "messaging/resolutions.py",
        "pk__in=selection.free().values",
        "pk__in=selection.letters().values",
        RESOLUTIONS + "test_what_another_running_resolution_has_in_hand_is_left_to_it",
    ),
    guard(
        "one worker at a time is at a resolution: its lock",
        "messaging/resolutions.py",
        "resolution = running.select_for_update(no_key=True, skip_locked=True).first()",
        "resolution = running.first()",
        RESOLUTIONS + "test_two_workers_at_one_resolution_take_no_letter_twice",
    ),
    guard(
        "only a whole body is replayed",
        "messaging/judgements.py",
        "return letter.body_size > dead_letters.MOST_KEPT",
        "return False",
        RESOLUTIONS + "test_half_a_body_is_never_sent",
    ),
    guard(
        "a stranger's message never becomes a call of an actor",
        "messaging/collector.py",
        "if queue == settings.INTAKE_QUEUE:",
        "if False:",
        DEAD_LETTERS + "test_a_stranger_cannot_have_an_actor_called_by_way_of_a_replay",
    ),
    guard(
        "an event that is never confirmed makes way for the next",
        "messaging/publisher.py",
        "self._outcome.refused.update(patient & late)",
        "del late",
        SUBSCRIBERS,
    ),
    guard(
        "intake: a message is acknowledged after its handler",
        "messaging/consumer.py",
        "                if self.try_once(inbox[0]):\n",
        "                channel.basic_ack(inbox[0].tag)\n                if self.try_once(inbox[0]):\n",
        CONSUMER + "test_a_message_is_not_acknowledged_before_its_handler_returns",
    ),
    guard(
        "intake: a queue that is gone is noticed beside others",
        "messaging/consumer.py",
        "if len(channel.consumer_tags) < len(self.read):",
        "if not channel.consumer_tags:",
        CONSUMER + "test_a_deleted_queue_is_declared_again_and_read",
    ),
    guard(
        "intake: headers that Python cannot hold are read all the same",
        "messaging/broker.py",
        "foreign_headers.install()\n",
        "",
        CONSUMER + "test_no_header_that_python_cannot_hold_ends_the_process",
    ),
    guard(
        "intake: a message waits for the database",
        "payments/intake.py",
        "            if is_retryable(error):\n                raise\n            # A defect must not",
        "            # A defect must not",
        INTAKE + "test_a_message_that_only_has_to_wait_is_not_buried",
    ),
    guard(
        "intake: a letter that is closed hides no later message",
        "messaging/collector.py",
        "exclude(state=DeadLetter.State.OPEN).exists()",
        "none().exists()",
        INTAKE + "test_an_equal_message_does_not_vanish_behind_a_letter_that_is_closed",
    ),
    guard(
        "intake: no card number is kept",
        "payments/intake.py",
        "return messages.without_cards(document, body)",
        "return body",
        INTAKE + "test_no_card_number_is_ever_stored",
    ),
    *(
        guard(
            f"{error} does not prove that nothing was sent",
            "payments/gateways/transport.py",
            "NOTHING_SENT_ERRORS: Final = (",
            f"NOTHING_SENT_ERRORS: Final = (httpx2.{error}, ",
            f"{TRANSPORT}test_no_error_but_those_before_a_connection_counts_as_not_sent[{error}]",
        )
        for error in ("WriteError", "WriteTimeout", "ReadError", "RemoteProtocolError")
    ),
    guard(
        "a request of which a part was read may have arrived",
        "payments/gateways/transport.py",
        "NOTHING_SENT_ERRORS: Final = (",
        "NOTHING_SENT_ERRORS: Final = (httpx2.NetworkError, ",
        TRANSPORT + "test_a_request_of_which_a_part_was_read_never_counts_as_not_sent",
    ),
    guard(
        "payments are locked in one order",
        "payments/operations/claims.py",
        "    ORDER BY payment.id\n",
        "",
        LOCK_ORDER + "test_payments_are_locked_in_the_order_of_their_ids",
    ),
    guard(
        "idempotency keys are claimed in one order",
        "payments/idempotency.py",
        "        ORDER BY merchant_id, key\n",
        "",
        LOCK_ORDER + "test_keys_are_claimed_in_their_order",
    ),
    guard(
        "orders are taken in one order",
        "payments/transitions.py",
        "        ORDER BY payment.merchant_id, payment.mode, payment.order_id\n",
        "",
        LOCK_ORDER + "test_orders_are_taken_in_their_order",
    ),
    guard(
        "a lease ends at the instant of its expiry",
        "payments/operations/claims.py",
        "if payment.lease_expires_at <= now else None",
        "if payment.lease_expires_at < now else None",
        LEASE + "test_a_lease_is_live_until_the_instant_at_which_it_expires",
    ),
    guard(
        "a call begins with a lease that is exactly as long as its deadline",
        "payments/operations/process.py",
        "if claim.lease_ends - began < deadline:",
        "if claim.lease_ends - began <= deadline:",
        LEASE + "test_a_call_begins_only_if_the_lease_outlasts_its_deadline",
    ),
    # --- who is told
    guard(
        "an event and its row for our own rooms are one commit",
        "messaging/outbox.py",
        "    for subscriber, (topic, _) in settings.EVENT_SUBSCRIBERS.items():",
        "    for subscriber, (topic, _) in ():",
        FAN_OUT + "test_an_endpoint_is_told_of_every_event_once",
    ),
    guard(
        "what a room makes of an event and the end of its row are one commit",
        "messaging/subscribers.py",
        "    taken = {row.id for row in hand_over(rows, take)}\n",
        "    taken = {row.id for row in rows}\n    transaction.on_commit(lambda: hand_over(rows, take))\n",
        "tests/integration/test_subscribers.py::test_while_the_database_is_away_no_event_is_passed_on",
    ),
    guard(
        "one poisonous event does not hold up the others",
        "messaging/subscribers.py",
        "for one in rows for row in hand_over([one], take)] if len(rows) > 1 else []",
        "for one in [] for row in hand_over([one], take)]",
        "tests/integration/test_subscribers.py",
    ),
    guard(
        "the relay leaves alone what our own rooms take",
        "messaging/lanes.py",
        "EVERYTHING: Final = \"subscriber = ''\"",
        'EVERYTHING: Final = "true"',
        "tests/integration/test_subscribers.py::test_the_relay_never_publishes_what_a_room_takes",
    ),
    guard(
        "notifications have a lane of their own to RabbitMQ",
        "messaging/outbox.py",
        "return queue in settings.PATIENT_QUEUES",
        "return False",
        SUBSCRIBERS + "::test_a_queue_of_notifications_that_never_confirms_holds_up_no_payment",
    ),
    Guard(
        "an event has one delivery to a recipient: the unique index",
        (
            Change(
                "notifications/migrations/0001_initial.py",
                "fields=('event_id', 'channel', 'recipient')",
                "fields=('id', 'event_id')",
            ),
            Change(
                "notifications/models.py",
                'fields=["event_id", "channel", "recipient"]',
                'fields=["id", "event_id"]',
            ),
        ),
        FAN_OUT + "test_every_message_twice_and_out_of_order_changes_nothing",
    ),
    guard(
        "a delivery is in one worker's hands: the lease",
        "notifications/attempts.py",
        "return Q(state=Delivery.State.PENDING, next_attempt_at__lte=now) & free",
        "return Q(state=Delivery.State.PENDING, next_attempt_at__lte=now)",
        DELIVERIES + "test_a_delivery_whose_worker_died_is_sent_again_when_its_lease_is_over",
    ),
    guard(
        "a late failure is nobody's: the fence of a delivery",
        "notifications/attempts.py",
        "state=Delivery.State.PENDING, fence=claim.number)",
        "state=Delivery.State.PENDING)",
        DELIVERIES + "test_a_late_failure_changes_nothing",
    ),
    guard(
        "an endpoint has a cap, exact among all workers",
        "notifications/endpoint_health.py",
        "return settings.WEBHOOKS_PER_ENDPOINT if",
        "return 10**6 if",
        "tests/integration/test_endpoint_health.py",
    ),
    guard(
        "one that fails is called once at a time",
        "notifications/endpoint_health.py",
        "if locked.failing_since is None else 1",
        "if locked.failing_since is None else settings.WEBHOOKS_PER_ENDPOINT",
        "tests/integration/test_endpoint_health.py",
    ),
    guard(
        "whoever settles a call takes what waits next",
        "notifications/webhooks/dispatch.py",
        "            self._begin_next(endpoint_id)\n        except",
        "            self._slots.release()\n        except",
        "tests/integration/test_webhook_dispatch.py::test_one_endpoint_is_never_called_more_often_at_once_than_its_cap",
    ),
    guard(
        "a dead delivery has its letter",
        "notifications/attempts.py",
        "    queue, actor = settings.MESSAGE_ROUTES[topic_of(delivery.channel)]\n",
        "    return\n    queue, actor = settings.MESSAGE_ROUTES[topic_of(delivery.channel)]\n",
        DELIVERIES + "test_what_no_repetition_mends_is_not_repeated",
    ),
    guard(
        "a redirect is no delivery",
        "notifications/webhooks/answers.py",
        "if 200 <= status < 300:",
        "if 200 <= status < 400:",
        "tests/unit/test_webhook_caller.py",
    ),
    guard(
        "every address of a host is public, and not only one",
        "notifications/webhooks/caller.py",
        "return all(is_public(ip_address(address)) for address in addresses)",
        "return any(is_public(ip_address(address)) for address in addresses)",
        "tests/unit/test_webhook_targets.py",
    ),
    guard(
        "only checked addresses are connected to",
        "notifications/webhooks/caller.py",
        "if not (self._private or all_public(found)):",
        "if False:",
        "tests/unit/test_webhook_targets.py",
    ),
    guard(
        "a reply is recorded on the attempt of its own payment",
        "payments/operations/settle.py",
        "attempt.id = answer.id AND attempt.payment_id = answer.payment_id AND",
        "attempt.id = answer.id AND",
        PROCESS + "test_an_answer_is_never_recorded_on_the_attempt_of_another_payment",
    ),
    guard(
        "the gateway recognises a request whose payment a failover has lost",
        "payments/models.py",
        'return f"{self.gateway_key_base or self.pk}:charge:{self.key_number}"',
        'return f"{self.pk}:charge:{self.key_number}"',
        "tests/chaos/test_failover.py::test_a_failover_to_an_asynchronous_standby_charges_no_order_twice",
    ),
    guard(
        "our connections wait for the commit to be durable",
        "messaging/apps.py",
        "        commit_durability.install()\n",
        "",
        "tests/integration/test_commit_durability.py::test_a_session_never_waits_for_less_than_a_durable_commit",
    ),
    guard(
        "webhook secrets are encrypted at rest",
        "notifications/vault.py",
        "return ring(tuple(settings.ENCRYPTION_KEYS)).encrypt(secret.encode()).decode()",
        "return secret",
        "tests/integration/test_webhook_dispatch.py::test_secrets_are_never_in_the_clear_in_the_database",
    ),
    guard(
        "unmatched: a webhook of a charge without a payment is recorded",
        "payments/operations/inbox.py",
        "    record_unmatched(event, news, None)\n",
        "",
        INBOX + "test_a_charge_of_an_unknown_payment_is_never_only_a_log_line",
    ),
    guard(
        "unmatched: a webhook of a charge with another amount is recorded",
        "payments/operations/inbox.py",
        '        record_unmatched(event, news, payment)\n        return "contradicts',
        '        return "contradicts',
        INBOX + "test_a_charge_of_other_terms_than_its_payment_is_recorded",
    ),
    guard(
        "unmatched: a second charge of a payment is recorded",
        "payments/operations/unmatched_charges.py",
        "return None if payment.gateway_reference == facts.reference else Reason.SECOND_CHARGE",
        "return None",
        RECONCILE + "test_every_charge_without_its_payment_is_found_and_recorded_once",
    ),
    guard(
        "unmatched: another charge under a payment's key is recorded",
        "payments/operations/outcomes.py",
        "    record_unless_matched(facts, payment, source=Source.LOOK_UP)\n",
        "",
        UNMATCHED + "test_another_charge_under_a_payments_key_is_recorded",
    ),
    guard(
        "unmatched: a second charge that a late answer names is recorded",
        "payments/operations/outcomes.py",
        "        record_unless_matched(second_charge_of(payment, answer.reference), payment, source=Source.LOOK_UP)\n",
        "",
        UNMATCHED + "test_a_second_charge_that_a_late_answer_names_is_recorded",
    ),
    guard(
        "unmatched: the key of a refund is stable",
        "payments/unmatched_charge.py",
        'f"{self.gateway}:{self.reference}".encode()',
        'f"{self.gateway}:{self.pk}".encode()',
        UNMATCHED + "test_the_key_of_a_refund_survives_a_database_that_forgot_the_review",
    ),
    guard(
        "unmatched: a refund that may have been taken is looked up before it is sent again",
        "payments/operations/refund_unmatched_charge.py",
        "    if claim.attempt > 1:\n        earlier",
        "    if False:\n        earlier",
        UNMATCHED + "test_a_refund_past_the_key_window_is_never_sent_again",
    ),
    guard(
        "unmatched: a refund is never sent again past the key window",
        "payments/operations/refund_unmatched_charge.py",
        "if not claim.may_send:",
        "if False:",
        UNMATCHED + "test_a_refund_past_the_key_window_is_never_sent_again",
    ),
    guard(
        "unmatched: a refusal of a second refund request is looked up",
        "payments/operations/refund_unmatched_charge.py",
        "if isinstance(answer, RefundRefused) and claim.attempt > 1:",
        "if False:",
        UNMATCHED + "test_a_refusal_after_a_request_without_an_answer_proves_nothing_by_itself",
    ),
    guard(
        "unmatched: attempts of a refund are fenced",
        "payments/operations/refund_unmatched_charge.py",
        "pk=claim.charge_id, state=State.REFUNDING, refund_attempts=claim.attempt\n",
        "pk=claim.charge_id, state=State.REFUNDING\n",
        UNMATCHED + "test_a_late_answer_never_settles_the_attempt_of_another_worker",
    ),
    guard(
        "unmatched: a refund waits while its attempt is under way",
        "payments/operations/refund_unmatched_charge.py",
        "pk=charge_id, state=State.REFUNDING, next_attempt_at__lte=Now()",
        "pk=charge_id, state=State.REFUNDING",
        UNMATCHED + "test_a_refund_without_an_answer_is_looked_up_and_never_sent_twice",
    ),
    guard(
        "unmatched: a paused gateway makes no refunds",
        "payments/operations/refund_unmatched_charge.py",
        "if charge.gateway in breaker.troubles(now=now):",
        "if False:",
        UNMATCHED + "test_a_paused_gateway_refunds_nothing",
    ),
    guard(
        "unmatched: nothing is decided while a payment may take the charge",
        "payments/operations/resolve_unmatched_charge.py",
        "if (awaiting := _payment_under_way(charge)) is not None:",
        "if (awaiting := None) is not None:",
        UNMATCHED + "test_nothing_is_decided_while_a_payment_may_still_take_the_charge",
    ),
    guard(
        "unmatched: a taken order is not adopted again",
        "payments/operations/resolve_unmatched_charge.py",
        'raise AdoptionRefused(f"Payment {holder} has',
        'print(f"Payment {holder} has',
        UNMATCHED + "test_an_order_that_another_payment_holds_is_never_paid_twice",
    ),
    guard(
        "unmatched: a review is closed only by a payment of its terms",
        "payments/unmatched_charge_jobs.py",
        "            AND payment.amount_captured = charge.amount AND payment.currency = charge.currency\n",
        "",
        UNMATCHED + "test_a_charge_of_another_amount_matches_no_payment",
    ),
    guard(
        "unmatched: a payment that gets a resolved charge is flagged",
        "payments/unmatched_charge_jobs.py",
        "return len(closed) + flag_claimed_again(limit=limit)",
        "return len(closed)",
        UNMATCHED + "test_a_payment_that_gets_a_resolved_charge_is_flagged_once",
    ),
    guard(
        "unmatched: refunds above the threshold need a second approver",
        "payments/operations/refund_approval.py",
        "if not needs_second_approver(REFUND_REQUESTED, sums, who):",
        "if True:",
        UNMATCHED_OPERATED + "test_a_refund_above_the_threshold_waits_for_a_second_approver",
    ),
    guard(
        "reconcile: a payment whose charge is unknown to the gateway is reported",
        "payments/operations/reconcile.py",
        "if payment.gateway_reference not in self.listed:",
        "if False:",
        RECONCILE + "test_a_payment_whose_charge_the_gateway_does_not_know_is_a_difference",
    ),
    guard(
        "reconcile: no payment but an unknown one is called earlier",
        "payments/operations/retry.py",
        "if found is not None and found.payment.status == Status.UNKNOWN:",
        "if found is not None:",
        RECONCILE + "test_no_payment_but_an_unknown_one_is_called_earlier",
    ),
    guard(
        "reconcile: a page that cannot be read hides no charge",
        "payments/gateways/sandbox_refunds.py",
        "charges=[read_listed(charge) for charge in data]",
        'charges=[read_listed(charge) for charge in data if len(charge["currency"]) == 3]',
        RECONCILE + "test_a_page_that_cannot_be_read_fails_the_comparison_instead_of_hiding_charges",
    ),
    guard(
        "no role sets a trigger aside: its function asks no setting",
        "core/triggers.py",
        """                BEGIN
                    {func}
                END;
            $$ LANGUAGE plpgsql SET""",
        """                BEGIN
                    IF strpos(current_setting('pgtrigger.ignore', true), TG_NAME) > 0 THEN RETURN NEW; END IF;
                    {func}
                END;
            $$ LANGUAGE plpgsql SET""",
        ROLE_ATTACKS + "test_a_paid_payment_is_not_rewritten_whatever_is_set",
    ),
    guard(
        "what was captured is kept, also from the process that records it",
        "payments/migrations/0016_enforced_triggers.py",
        "WHEN (OLD.amount_captured > 0 AND",
        "WHEN (OLD.amount_captured < 0 AND",
        ROLE_ATTACKS + "test_a_paid_payment_is_not_rewritten_whatever_is_set",
    ),
    guard(
        "a recorded answer is kept, also from the process that records it",
        "payments/migrations/0016_enforced_triggers.py",
        "WHEN (OLD.outcome NOT IN ('', 'abandoned') AND",
        "WHEN (OLD.fence < 0 AND",
        ROLE_ATTACKS + "test_a_paid_payment_is_not_rewritten_whatever_is_set",
    ),
    guard(
        "no process creates a payment that is paid already",
        "payments/migrations/0016_enforced_triggers.py",
        "WHEN (NEW.status <> 'pending' OR NEW.amount_captured <> 0 OR NEW.amount_refunded <> 0 OR NEW.fence <> 0)",
        "WHEN (NEW.fence < 0)",
        ROLE_ATTACKS + "test_no_payment_is_created_that_is_paid_already",
    ),
    guard(
        "a role changes the columns of its process: not the amount",
        "deploy/postgres/roles.sql",
        "' charge_before key_number amount_captured",
        "' amount charge_before key_number amount_captured",
        ROLE_ATTACKS + "test_no_edit_of_the_file_gives_away_money_records_credentials_or_powers",
    ),
    guard(
        "a refund is refused only by a code",
        "payments/gateways/sandbox_refunds.py",
        'code = text_of(error, "code")[:50]',
        'code = str(error.get("code") or "")[:50]',
        "tests/unit/test_sandbox_adapter_refunds.py::test_a_code_that_is_no_text_proves_nothing",
    ),
]


# --- copies of the tree, one for each run at a time


@dataclass(frozen=True)
class Copy:
    """A copy of the tree with databases of its own."""

    folder: Path
    number: int

    def make(self) -> None:
        argv = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True).stdout.split(b"\0")
        # Compiled catalogues are not in the repository; without them no management command runs.
        catalogues = [str(path.relative_to(ROOT)) for path in ROOT.glob("locale/*/LC_MESSAGES/*.mo")]
        for name in [*filter(None, map(os.fsdecode, files)), *catalogues]:
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_file():
                target.write_bytes((ROOT / name).read_bytes())

    def run(self, tests: list[str], *, fresh_tables: bool) -> tuple[int, str, ET.Element | None]:
        """Run tests here; the exit status, the output, and the report if there is one."""
        report = self.folder / "report.xml"
        report.unlink(missing_ok=True)
        database = f"guards_{os.getpid()}_{self.number}{'_changed' if fresh_tables else ''}"
        env = {
            **os.environ,
            "DATABASE_URL": f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/{database}",
            "PYTHONPATH": str(self.folder),
            "PYTHONDONTWRITEBYTECODE": "1",  # a mutation made within a second must not run from a stale cache
            "CHAOS_ROUNDS": "10",
            "CHAOS_SEED": "1",
        }
        tables = "--create-db" if fresh_tables else "--reuse-db"
        argv = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", tables]
        try:
            ended = subprocess.run(
                [*argv, f"--junitxml={report}", *tests],
                cwd=self.folder,
                env=env,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return -1, f"not done within {PATIENCE} s", None
        return ended.returncode, ended.stdout + ended.stderr, ET.parse(report).getroot() if report.exists() else None

    def drop_databases(self) -> None:
        url = f"{os.environ['DATABASE_URL'].rpartition('/')[0]}/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            for suffix in ("", "_changed"):
                name = f"test_guards_{os.getpid()}_{self.number}{suffix}"
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


# --- one guard


@dataclass(frozen=True)
class Verdict:
    guard: Guard
    caught_by: str
    trouble: str
    seconds: float

    def line(self) -> str:
        told = self.caught_by if not self.trouble else f"NOT CAUGHT: {self.trouble}"
        return f"{self.guard.name:<58} {self.seconds:5.1f} s  {told}"


def try_without(guard: Guard, copy: Copy) -> Verdict:
    """Take the guard away in the copy, run its tests, and put it back."""
    began = time.monotonic()
    if gone := [change.file for change in guard.changes if (ROOT / change.file).read_text().count(change.old) != 1]:
        return Verdict(guard, "", f"its text does not occur once in {', '.join(gone)}", 0.0)
    try:
        for change in guard.changes:
            text = (copy.folder / change.file).read_text()
            (copy.folder / change.file).write_text(text.replace(change.old, change.new))
        status, output, report = copy.run([guard.tests], fresh_tables=guard.changes_tables)
    finally:
        for change in guard.changes:
            (copy.folder / change.file).write_text((ROOT / change.file).read_text())
    caught_by, trouble = judge(status, output, report)
    return Verdict(guard, caught_by, trouble, time.monotonic() - began)


def judge(status: int, output: str, report: ET.Element | None) -> tuple[str, str]:
    """Which test caught it, or why none did."""
    if status == 0:
        return "", "all tests pass without it"
    failed = [] if report is None else [case for case in report.iter("testcase") if case.find("failure") is not None]
    if status != 1 or not failed:
        return "", f"the tests did not run: {output.strip().splitlines()[-1] if output.strip() else status}"
    message = failed[0].find("failure").get("message", "")
    if not message.startswith(ASSERTIONS):
        return "", f"{failed[0].get('name')} failed, but not by an assertion: {message.splitlines()[0]}"
    return failed[0].get("name"), ""


def main(parts: list[str]) -> int:
    """Try all guards, or those named; print the table; 0 if each was missed by somebody."""
    chosen = [guard for guard in GUARDS if not parts or any(part in guard.name for part in parts)]
    # Those with tables of their own make a database each time: first, so that they do not end alone.
    chosen.sort(key=lambda guard: not guard.changes_tables)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="guards-") as folder:
        copies = [Copy(Path(folder) / str(number), number) for number in range(WORKERS)]
        try:
            return try_all(chosen, copies)
        finally:
            for copy in copies:
                copy.drop_databases()
            print(f"{time.monotonic() - began:.0f} s in all")


def try_all(chosen: list[Guard], copies: list[Copy]) -> int:
    free: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        copy.make()
        free.put(copy)

    def in_a_free_copy(work):
        copy = free.get()
        try:
            return work(copy)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        unchanged = pool.submit(in_a_free_copy, lambda copy: copy.run(all_tests(chosen), fresh_tables=False))
        verdicts = []
        for verdict in pool.map(lambda guard: in_a_free_copy(lambda copy: try_without(guard, copy)), chosen):
            print(verdict.line(), flush=True)
            verdicts.append(verdict)
        status, output, _ = unchanged.result()
    print("with all guards in place:", "all these tests pass" if status == 0 else f"RED\n{output[-3000:]}")
    return int(status != 0 or any(verdict.trouble for verdict in verdicts))


def all_tests(chosen: list[Guard]) -> list[str]:
    return sorted({guard.tests for guard in chosen})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
