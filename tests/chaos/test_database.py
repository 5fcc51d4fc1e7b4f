"""PostgreSQL crashes, or cuts sessions off in whatever they are doing: clients wait, and nothing is lost or doubled."""

import threading

from tests.chaos.load import load
from tests.system import eventually


def test_a_crashed_database_loses_no_payment(system, rounds, dice):
    """An immediate shutdown under load: what was answered is there, and what was not is carried out once."""
    system.start("relay")
    system.start("worker")
    moment = threading.Event()
    with load(system, "crashed", dice) as clients:
        for _ in range(rounds):
            moment.wait(dice.uniform(0.3, 1.5))
            system.crash_postgres()
            system.start_postgres()
    system.await_final(clients.ids, within=120)
    system.verify(clients.ids)


def test_sessions_cut_off_at_any_moment_lose_no_payment(system, rounds, dice):
    system.start("relay")
    system.start("worker")
    moment, cut = threading.Event(), 0
    with load(system, "cut", dice, methods=("pm_ok", "pm_declined", "pm_flaky_2")) as clients:
        for _ in range(10 * rounds):
            moment.wait(dice.uniform(0.05, 0.3))
            cut += system.terminate_sessions(share=0.5)
    assert cut > 5 * rounds, "too few sessions were cut to prove anything"
    system.await_final(clients.ids, within=120)
    system.verify(clients.ids)


def test_after_a_crash_limits_are_counted_from_anew(system):
    """The tables that count are not logged: they are empty then, and nothing else is amiss."""

    def read():
        headers = {"Authorization": f"Bearer {system.api_key}"}
        return system.http.get(f"{system.url}/api/v1/payments", headers=headers)

    assert read().status_code == 200
    assert system.query("SELECT count FROM merchants_counter")
    system.crash_postgres()
    system.start_postgres()
    answer = eventually(lambda: (now := read()).status_code == 200 and now, within=30, what="payments are read again")
    assert answer.headers["RateLimit"].startswith('"reads";r=')
    assert system.query("SELECT sum(count)::int AS total FROM merchants_counter")[0]["total"] <= 5, (
        "what was counted before is gone"
    )
