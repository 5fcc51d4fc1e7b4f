"""The published schema of our events, for tests that hold against it what really goes out."""

import json

from jsonschema import Draft202012Validator

from tests.system import ROOT

SCHEMA = json.loads((ROOT / "docs/events.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA)


def complaints(body: bytes) -> list[str]:
    """What is wrong with an event's bytes by the schema; nothing, it is to be hoped."""
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(json.loads(body))]
