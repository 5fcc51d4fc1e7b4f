"""Who runs a command, for the log: the person at the terminal, or the user of the container."""

import getpass
import os


def runs_this() -> str:
    """The name of the operating system's user, or its number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
