"""What the machine has: free ports, a folder that is ours, and an end to everything we started."""

import contextlib
import ctypes
import fcntl
import os
import secrets
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import IO, Final

#: Where servers of a run listen: registered ports (RFC 6335), and below Linux' range of outgoing ones (32768).
FIRST_PORT: Final = 20_000
PORTS: Final = 12_000
#: prctl(2): the signal a process gets when its parent dies.
PR_SET_PDEATHSIG: Final = 1


class CannotStart(Exception):
    """Why the system cannot start on this machine: one line that says the mend."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now.

    Below those that systems take for outgoing connections: while a server is down, one of its own clients that tries
    to reach it could be given that very port, and the server could not come back.
    """
    for _ in range(100):
        port = FIRST_PORT + secrets.randbelow(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise CannotStart(f"No port of 127.0.0.1 between {FIRST_PORT} and {FIRST_PORT + PORTS} is free.")


def require_free(port: int, *, patience: float = 0.0) -> None:
    """Raise CannotStart when somebody still listens on the port after so many seconds."""
    ends = time.monotonic() + patience
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                reason = error.strerror
            else:
                return
        if time.monotonic() > ends:
            raise CannotStart(f"Port {port} cannot be used ({reason}). Choose another: PORT=8001 make run")
        time.sleep(0.1)


def own_folder(folder: Path) -> IO[str]:
    """Make the data folder, for us alone as long as the returned file stays open.

    Raises:
        CannotStart: another run uses it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise CannotStart(f"The data folder {folder} cannot be used ({error.strerror}); set DATA_DIR.") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise CannotStart(
            f"Another run (process {lock.read().strip() or '?'}) uses {folder}. Stop it, or set DATA_DIR and PORT."
        ) from None
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


def die_with_parent() -> None:
    """Called in a child before it becomes its program: on Linux it ends when we do, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def as_nobody(argv: list[str]) -> list[str]:
    """The command as the user `nobody`, for servers that refuse to run as root.

    It keeps the right to read our folders, which root's umask or a private parent folder may hide from it.
    """
    if os.geteuid() != 0:
        return argv
    if sys.platform != "linux" or not shutil.which("setpriv"):
        raise CannotStart("PostgreSQL refuses to run as root: run this as another user, or set DATABASE_URL.")
    capability = "+dac_override"
    user = ["--reuid=nobody", "--regid=65534", "--clear-groups"]
    rights = [f"--inh-caps={capability}", f"--ambient-caps={capability}", "--pdeathsig=KILL"]
    return ["setpriv", *user, *rights, *argv]
