"""What pip-audit knows about the packages that go into production, and whether it could know anything at all."""

import json
import re
from typing import Any, Final

#: What pip-audit says when it cannot reach its data. It ends with the same exit status as with a finding.
UNREACHABLE: Final = re.compile(
    r"ConnectionError|ConnectTimeout|ReadTimeout|Max retries|ServiceError|resolve|Network|timed out|50[0-9] Server"
)


class NoData(Exception):
    """Nothing could be found out, and so nothing was."""


def complaint_of(stdout: str, stderr: str) -> str:
    """What is wrong with our packages; empty when they were all looked up and nothing is known against them.

    Raises:
        NoData: not one, or not all, of them could be looked up.
    """
    report = read(stdout)
    if report is None:
        if UNREACHABLE.search(stderr):
            raise NoData("no vulnerability data: the index cannot be reached from here")
        return stderr.strip() or "pip-audit said nothing."
    packages = report["dependencies"]
    if known := [line for package in packages for line in described(package)]:
        return "\n".join(known)
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    if unknown:
        raise NoData(f"no vulnerability data for {len(unknown)} of {len(packages)} packages")
    return ""


def read(text: str) -> dict[str, Any] | None:
    """pip-audit's report, if there is one."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) and found.get("dependencies") else None


def described(package: dict[str, Any]) -> list[str]:
    """One line for each thing that is known against a package."""
    return [
        f"{package['name']} {package['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'none'}"
        for found in package.get("vulns", [])
    ]
