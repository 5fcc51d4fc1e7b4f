"""The production shape gives each process what it needs, and nothing that it could lose or misuse."""

import os
import re
import stat
import subprocess

import pytest

from config.process_secrets import NEEDED_BY, PROCESSES
from tests.compose import MOUNTED, NETWORKS, ROOT, SECRETS, compose, environment_of, table, user_of

SERVICES = compose()["services"]
OURS = [name for name in PROCESSES if name]
#: Secrets that come as variables: none of them is needed by everybody, and each is in one service only.
VARIABLES = {
    "SECRET_KEY_FALLBACKS": "web",
    "JWT_SIGNING_KEY_FALLBACKS": "web",
    "EMAIL_HOST_PASSWORD": "notifier",
    "ANYMAIL": "notifier",
    "TWILIO_AUTH_TOKEN": "notifier",
    "DEMO_ADMIN_PASSWORD": "migrate",
    "DEMO_API_KEY": "migrate",
}


def given(name):
    """A service's own variables."""
    return SERVICES[name].get("environment", {})


def test_each_service_has_exactly_the_secrets_that_it_needs():
    assert {name: set(service.get("secrets", [])) for name, service in SERVICES.items()} == SECRETS


def test_each_service_is_in_exactly_its_networks():
    assert {name: set(service["networks"]) for name, service in SERVICES.items()} == NETWORKS


@pytest.mark.parametrize("name", OURS)
def test_a_process_reads_all_secrets_that_are_mounted_and_no_others(name):
    files = {value for variable, value in given(name).items() if variable.endswith("_FILE")}
    assert files == {MOUNTED + secret for secret in SECRETS[name]}


@pytest.mark.parametrize("secret", NEEDED_BY)
def test_what_the_settings_want_of_a_process_it_is_given(secret):
    assert {name for name in OURS if {secret, f"{secret}_FILE"} & given(name).keys()} == NEEDED_BY[secret]


@pytest.mark.parametrize("name", OURS)
def test_the_settings_know_which_process_they_are_read_by(name):
    assert given(name)["PROCESS"] == name


def test_no_secret_is_a_variable_of_a_service_that_does_not_need_it():
    secret = re.compile(r"PASS|SECRET|TOKEN|_KEY|ANYMAIL")
    for name in SERVICES:
        for variable, value in given(name).items():
            if secret.search(variable) and not variable.endswith("_FILE"):
                assert VARIABLES[variable] == name, variable
                assert value is None, "it comes from .env"
            assert not re.search(r"://[^/]*:[^/]*@", str(value or "")), f"{variable} has a password in it"


def test_no_two_services_share_a_role_of_postgresql_or_a_user_of_rabbitmq():
    for variable in ("DATABASE_URL", "RABBITMQ_URL"):
        users = [user_of(given(name)[variable]) for name in OURS]
        known = [user for user in users if user]
        assert len(known) == len(set(known)), variable
    roles = {name: user_of(given(name)["DATABASE_URL"]) for name in OURS}
    assert roles.pop("migrate") == "payments", "the owner of the tables"
    assert roles == {name: f"payments_{name}" for name in roles}
    brokers = {name: user_of(given(name)["RABBITMQ_URL"]) for name in OURS}
    assert brokers == {name: name if name in {"relay", "worker", "notifier", "intake"} else None for name in OURS}


def test_only_web_is_reached_from_outside_and_only_the_notifier_reaches_out():
    assert [name for name, service in SERVICES.items() if service.get("ports")] == ["web"]
    networks = compose()["networks"]
    open_ = {name for name, network in networks.items() if not network.get("internal")}
    assert open_ == {"edge", "internet"}
    assert networks["edge"]["driver_opts"] == {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    assert {name: [each for each in SERVICES if name in NETWORKS[each]] for name in (*open_, "gateway", "cache")} == {
        "edge": ["web"],
        "internet": ["notifier"],
        "gateway": ["worker", "cron", "sandbox"],
        "cache": ["redis", "web"],
    }
    assert set(networks) == set().union(*NETWORKS.values())


@pytest.mark.parametrize("name", SERVICES)
def test_no_container_has_root_capabilities_or_a_file_system_to_write_to(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not {"cap_add", "privileged", "network_mode", "pid", "ipc", "devices", "userns_mode"} & service.keys()
    if service["image"] == "payments:local":
        assert "\nUSER 10001:10001\n" in (ROOT / "Dockerfile").read_text()
        assert "user" not in service
    else:
        assert service["user"] == "999:999"
    for mount in service.get("volumes", []):
        assert not mount.startswith((".", "/", "~")), "no folder of the host's"


def test_redis_and_rabbitmq_have_no_user_without_a_password():
    assert SERVICES["redis"]["command"] == SERVICES["rabbitmq"]["command"] == ["sh", "/start.sh"]
    assert "user default off" in (ROOT / "deploy/redis/start.sh").read_text()
    assert "environment" not in SERVICES["rabbitmq"], "no default user"
    assert user_of(environment_of(SERVICES["web"])["REDIS_URL"]) == "limits"


def test_every_file_that_is_mounted_is_there():
    for config in compose()["configs"].values():
        assert (ROOT / config["file"]).is_file()
    for name, service in SERVICES.items():
        for config in service.get("configs", []):
            assert config["source"] in compose()["configs"], name


def test_the_secrets_are_made_once_each_for_its_owner_alone(tmp_path):
    folder = tmp_path / "secrets"
    run = ["sh", str(ROOT / "deploy/secrets.sh")]
    env = {**os.environ, "SECRETS_DIR": str(folder)}
    subprocess.run(run, env=env, check=True, capture_output=True)
    made = {file.name: file.read_text() for file in folder.iterdir()}
    assert made.keys() == compose()["secrets"].keys() == set().union(*SECRETS.values())
    assert len(set(made.values())) == len(made)
    assert min(len(secret.strip()) for secret in made.values()) >= 32
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    again = subprocess.run(run, env=env, check=True, capture_output=True, text=True)
    assert again.stdout == ""
    assert {file.name: file.read_text() for file in folder.iterdir()} == made


def test_the_documentation_has_this_very_table():
    assert table() in (ROOT / "docs/deployment.md").read_text()
