"""Secrets from files: `NAME_FILE` names the file that holds what `NAME` would, as Docker and Kubernetes mount them."""

import os
from pathlib import Path
from typing import Any

from environs import FileAwareEnv


class EnvOrFiles(FileAwareEnv):
    """The environment, and the files that it names. `file_faults` tells what is wrong with those, by variable."""

    def __init__(self) -> None:
        # A file mostly ends in a line break, which is none of the secret's.
        super().__init__(eager=False, strip_whitespace=True)
        self.file_faults: dict[str, list[str]] = {}

    def _get_value(self, env_key: str, default: Any) -> Any:
        """The parent would end at the first file that it cannot read; the other variables' faults shall be told too."""
        if fault := fault_of_file(env_key):
            self.file_faults[env_key] = [fault]
            return default
        return super()._get_value(env_key, default)


def fault_of_file(name: str) -> str:
    """Why a variable's file cannot be taken; empty when it can, or when there is none.

    What `NAME_FILE` says is not quoted: it may be the secret itself, put there by mistake.
    """
    path = os.environ.get(f"{name}_FILE", "")
    if not path:
        return ""
    if os.environ.get(name):
        return f"is set, and so is {name}_FILE: set one of them."
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return f"cannot be read: {name}_FILE must name a text file that this process may read."
    return "" if text.strip() else f"is empty: the file that {name}_FILE names has nothing in it."
