"""SMS for development and tests: kept in a file, one JSON object a line."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from django.utils import timezone

from notifications.outcomes import Delivered, Failed, Result

#: The file's name inside the folder.
FILE_NAME: Final = "sms.jsonl"


@dataclass(frozen=True, slots=True)
class FileSms:
    """Appends each SMS to `sms.jsonl`. Several processes may: each line is one write to a file opened for appending."""

    folder: str

    def send(self, *, to: str, text: str) -> Result:
        line = json.dumps({"at": timezone.now().isoformat(), "to": to, "text": text}, ensure_ascii=False) + "\n"
        try:
            append(Path(self.folder), line.encode())
        except OSError as error:
            return Failed(detail=f"The file of SMS cannot be written: {type(error).__name__}.")
        return Delivered()


def append(folder: Path, line: bytes) -> None:
    """One write, so that lines of several processes never mix. Only the owner may read: these are personal data."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / FILE_NAME, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        if os.write(descriptor, line) < len(line):
            raise OSError("the disk is full")
    finally:
        os.close(descriptor)
