"""Keeps processes running: starts them, restarts one that dies, stops all of them in order."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from deploy.local.machine import CannotStart, die_with_parent

#: Waits (s) before a process that dies again and again is started once more.
RESTART_DELAYS: Final = (0.0, 0.5, 1.0, 2.0, 5.0)
#: A process that has lived this long (s) is given its quick first restart again.
STABLE_AFTER: Final = 30.0
#: How long (s) a process may take to stop by itself; above what a worker waits for a gateway call.
STOP_TIMEOUT: Final = 30.0


@dataclass(slots=True)
class Process:
    """A program to keep running. Its output goes to `<log_folder>/<name>.log`."""

    name: str
    argv: list[str]
    log_folder: Path
    env: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    child: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.log_folder / f"{self.name}.log"

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return self.child.pid if self.child and self.child.poll() is None else None

    def start(self) -> None:
        """Start it, in a session of its own: a Ctrl-C at the terminal is ours to pass on."""
        self.log_folder.mkdir(parents=True, exist_ok=True)
        self.started_at = time.monotonic()
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                self.argv,
                env={**os.environ, **self.env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509  # the supervisor has one thread
            )

    def stop(self, timeout: float = STOP_TIMEOUT) -> None:
        """Ask it to stop, wait, and then kill whatever is left of its session."""
        if self.child is None:
            return
        if self.child.poll() is None:
            self.child.send_signal(self.stop_signal)
            try:
                self.child.wait(timeout)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGKILL)
        self.child = None

    def await_ready(self, is_ready: Callable[[], bool], *, timeout: float = 60.0) -> None:
        """Wait until a started process is ready.

        Raises:
            CannotStart: it died or did not become ready in time; with the end of its log.
        """
        ends = time.monotonic() + timeout
        while not is_ready():
            if self.pid is None or time.monotonic() > ends:
                what = "did not become ready" if self.pid else "stopped at once"
                raise CannotStart(f"{self.name} {what}. The end of {self.log}:\n{self.last_words()}")
            time.sleep(0.05)

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])


@dataclass(slots=True)
class Supervisor:
    """The processes, in the order of their start."""

    say: Callable[[str], None]
    processes: list[Process] = field(default_factory=list)

    def start(self, process: Process) -> Process:
        """Start a process and look after it from now on."""
        process.start()
        self.processes.append(process)
        return process

    def restart_dead(self) -> bool:
        """Start again what has died and whose wait is over; True if anything was started."""
        restarted = False
        for process in self.processes:
            if process.child is None or process.child.poll() is None:
                continue
            status = process.child.returncode
            lived = time.monotonic() - process.started_at
            if lived > STABLE_AFTER:
                process.failures = 0
            delay = RESTART_DELAYS[min(process.failures, len(RESTART_DELAYS) - 1)]
            if lived < delay:
                continue
            process.failures += 1
            process.start()
            restarted = True
            self.say(f"{process.name} ended ({describe(status)}) and was started again; see {process.log}")
        return restarted

    def stop_all(self) -> None:
        """Stop everything, last started first."""
        while self.processes:
            self.processes.pop().stop()


def describe(status: int) -> str:
    """How a process ended."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
