"""Whether everything that is downloaded is named by its content: packages by hash, images by digest. Works offline."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
#: `name[extra]==1.2.3 ; marker --hash=sha256:…`, one or several hashes, joined to one line.
PINNED: Final = re.compile(
    r"[a-z0-9][a-z0-9._-]*(?:\[[a-z0-9,._-]+\])?==[^\s;]+(?: ; [^\\]+?)?(?: --hash=sha256:[0-9a-f]{64})+"
)
#: What makes pip look elsewhere than in the index of the machine that installs.
ELSEWHERE: Final = re.compile(
    r"--(?:index-url|extra-index-url|find-links|trusted-host|no-index)|\bfile:|https?://|git\+| @ "
)
DIGEST: Final = re.compile(r"[a-z0-9./_-]+:[A-Za-z0-9._-]+@sha256:[0-9a-f]{64}")
FROM: Final = re.compile(r"^FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", re.IGNORECASE | re.MULTILINE)
#: The image that Compose builds itself; no registry has it.
BUILT_HERE: Final = "payments:local"


def pin_faults(root: Path = ROOT) -> list[str]:
    """Return one line for each package without a hash and each image without a digest."""
    faults = []
    for path in sorted(root.glob("requirements*.txt")):
        faults += [f"{path.name}: {fault}" for fault in requirement_faults(path.read_text(encoding="utf-8"))]
    dockerfile = (root / "Dockerfile").read_text(encoding="utf-8")
    compose = yaml.safe_load((root / "docker-compose.yml").read_text(encoding="utf-8"))
    for name, images in (("Dockerfile", built_on(dockerfile)), ("docker-compose.yml", pulled(compose))):
        faults += [f"{name}: {image} has no digest." for image in images if not DIGEST.fullmatch(image)]
    return faults


def requirement_faults(text: str) -> Iterator[str]:
    """Yield what is wrong with a compiled requirements file."""
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines()]
    for line in lines:
        if ELSEWHERE.search(line):
            yield f"`{line[:80]}` names a place to install from."
        elif line and not line.startswith("#") and not PINNED.fullmatch(re.sub(r"\s+", " ", line)):
            yield f"`{line[:80]}` is no version with its hashes; run `make lock`."


def built_on(dockerfile: str) -> list[str]:
    """Return the images that a Dockerfile begins with; not its own stages."""
    stages = FROM.findall(dockerfile)
    own = {name.lower() for _, name in stages if name}
    return [image for image, _ in stages if image.lower() not in own]


def pulled(compose: dict[str, Any]) -> list[str]:
    """Return the images that Compose pulls, by service."""
    images = {str(service["image"]) for service in compose["services"].values()}
    return sorted(images - {BUILT_HERE})
