"""`deploy/cron/run.sh`: the jobs one after the other, and nothing left behind when it is told to go."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "cron" / "run.sh"


@pytest.fixture
def cron(tmp_path):
    """Starts the script with a program in place of Python."""
    started = []

    def start(program, **environment):
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\n{program}\n")
        python.chmod(0o755)
        env = {**os.environ, "PYTHON": str(python), **environment}
        process = subprocess.Popen(["sh", SCRIPT], env=env, stdout=-1, stderr=-1, text=True, start_new_session=True)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("every", ["0", "-5", "1.5", "soon", "1000000"])
def test_a_pause_that_makes_no_sense_never_becomes_none_at_all(cron, every):
    process = cron("echo worked", METRICS_EVERY=every)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (2, "")
    assert "whole number" in err


def test_a_job_is_never_waited_for_when_it_is_time_to_go(cron):
    process = cron("echo $2 $$; exec sleep 600")
    job, pid = process.stdout.readline().split()
    assert job == "compute_daily_metrics"
    process.terminate()
    assert process.wait(timeout=10) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_the_books_are_compared_every_hour_and_not_while_the_gateway_may_be_starting(cron, tmp_path):
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "sleep").chmod(0o755)
    process = cron("echo $2 $3 $4", METRICS_EVERY="1800", PATH=f"{tmp_path}:{os.environ['PATH']}")
    jobs = [process.stdout.readline().strip() for _ in range(6)]
    process.terminate()
    compute, reconcile = "compute_daily_metrics", "reconcile --since 3h"
    assert jobs == [compute, "prune", compute, compute, reconcile, compute]


def test_a_pause_never_outlives_the_script(cron):
    process = cron('echo $2; [ "$2" = prune ] && exit 3', METRICS_EVERY="999")
    assert [process.stdout.readline().strip() for _ in range(2)] == ["compute_daily_metrics", "prune"]
    process.terminate()
    out, _ = process.communicate(timeout=10)  # the pipe is closed by the last who holds it
    assert out == ""
