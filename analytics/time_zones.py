"""Time zones in SQL."""

from typing import Final

#: Time zones that observe summer time and whose names are abbreviations to PostgreSQL, which reads them as fixed
#: offsets -> the regions that they are links to since tzdata 2024b. Merchants may have them from before
#: `validate_time_zone` refused them. All other names mean the same to PostgreSQL and Python, which a test compares.
REGIONS: Final = {
    "CET": "Europe/Brussels",
    "EET": "Europe/Athens",
    "MET": "Europe/Brussels",
    "WET": "Europe/Lisbon",
}


def region_of(column: str) -> str:
    """Return an SQL expression for the name in `column`, or for its region's name where it is an abbreviation."""
    cases = " ".join(f"WHEN '{name}' THEN '{region}'" for name, region in REGIONS.items())
    return f"CASE {column} {cases} ELSE {column} END"
