"""Everything that an installation downloads is named by its content: packages by hash, images by digest."""

import pytest

from deploy.pins import built_on, pin_faults, requirement_faults

HASH = "a" * 64


def test_no_package_of_ours_lacks_a_hash_and_no_image_a_digest():
    assert pin_faults() == []


@pytest.mark.parametrize(
    "line",
    [
        "django==5.2.19",
        "django==5.2.19 \\\n    # via -r requirements.in",
        "django>=5.2 --hash=sha256:" + HASH,
        "django==5.2.19 --hash=md5:" + "a" * 32,
        "django==5.2.19 --hash=sha256:" + HASH[:-1],
        "-r other.txt",
        "--index-url https://index.example/simple",
        "--find-links /wheels",
        "django @ https://files.example/django.whl --hash=sha256:" + HASH,
    ],
)
def test_a_package_that_anybody_could_replace_is_a_fault(line):
    assert list(requirement_faults(f"asgiref==3.13.0 \\\n    --hash=sha256:{HASH}\n    # via django\n{line}\n"))


@pytest.mark.parametrize(
    "line",
    [
        f"psycopg[binary,pool]==3.3.9 \\\n    --hash=sha256:{HASH} \\\n    --hash=sha256:{HASH}\n    # via x",
        f"colorama==0.4.6 ; sys_platform == 'win32' \\\n    --hash=sha256:{HASH}",
        "# a comment",
        "",
    ],
)
def test_what_the_compiler_writes_is_none(line):
    assert not list(requirement_faults(line))


def test_a_stage_of_the_dockerfile_itself_needs_no_digest():
    assert built_on("FROM python:3.11@sha256:1 AS base\nFROM base AS final\nFROM --platform=x other:1\n") == [
        "python:3.11@sha256:1",
        "other:1",
    ]


@pytest.mark.parametrize(
    ("file", "was", "becomes"),
    [
        ("Dockerfile", "@sha256:", "#"),
        ("docker-compose.yml", "postgres:18.6-trixie@sha256:", "postgres:18.6-trixie #"),
        ("requirements.txt", "--hash=sha256:", "#"),
    ],
)
def test_what_is_pinned_no_more_is_told(tmp_path, settings, file, was, becomes):
    for name in ("Dockerfile", "docker-compose.yml", "requirements.txt"):
        text = (settings.BASE_DIR / name).read_text()
        (tmp_path / name).write_text(text.replace(was, becomes) if name == file else text)
    assert [fault for fault in pin_faults(tmp_path) if fault.startswith(file)]
