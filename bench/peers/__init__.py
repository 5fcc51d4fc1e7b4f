"""What the field usually writes, as small references; each runs with the packages of `.venv-bench`."""

from pathlib import Path
from typing import Final

#: The tables that all of them use, and the limit of PostgreSQL as well.
SCHEMA: Final = Path(__file__).parent / "schema.sql"
