"""A private RabbitMQ node from the machine's own `rabbitmq-server`, with its own ports, cookie and data."""

import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pika
import pika.exceptions

from deploy.local.machine import free_port
from deploy.local.supervisor import Process

#: Debian's `rabbitmq-server` in PATH insists on root or the rabbitmq user and on its own folder; the script
#: underneath does not.
SCRIPTS: Final = Path("/usr/lib/rabbitmq/bin")
NODE: Final = "payments@localhost"


def find_server() -> Path | None:
    """The machine's rabbitmq-server, if it has one."""
    debian = SCRIPTS / "rabbitmq-server"
    if debian.exists():
        return debian
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


@dataclass(slots=True)
class RabbitMQ:
    """One node; `url` reaches it."""

    folder: Path
    log_folder: Path
    server: Path
    port: int = field(default_factory=free_port)
    distribution_port: int = field(default_factory=free_port)
    epmd_port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """How to connect; `guest` is let in from this machine only."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"

    @property
    def env(self) -> dict[str, str]:
        """What keeps the node private, and apart from any other on the machine."""
        return {
            "HOME": str(self.folder),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": NODE,
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self.folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(self.folder / "generated"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(self.log_folder),
            # The scripts then become the server instead of waiting beside it, so its pid is the one we know.
            "RUNNING_UNDER_SYSTEMD": "true",
            # An idle node shall not spin while it waits for work.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none -kernel inet_dist_use_interface {127,0,0,1}",
        }

    def processes(self) -> list[Process]:
        """Erlang's port mapper, which would else stay behind as a daemon, and the node."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "rabbitmq.conf").write_text("loopback_users.guest = true\nlog.console.level = warning\n")
        (self.folder / "enabled_plugins").write_text("[].\n")
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(mode=0o600)
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)
        node = Process("rabbitmq", [str(self.server)], self.log_folder, env=self.env)
        epmd = shutil.which("epmd")
        if epmd is None:
            return [node]
        mapper = [epmd, "-port", str(self.epmd_port), "-address", "127.0.0.1"]
        return [Process("epmd", mapper, self.log_folder, env=self.env), node]

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        with socket.socket() as probe:  # a refused connection tells at once, where pika would retry
            if probe.connect_ex(("127.0.0.1", self.port)):
                return False
        try:
            pika.BlockingConnection(pika.URLParameters(self.url)).close()
        except pika.exceptions.AMQPError:
            return False
        return True

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl` against this node."""
        script = self.server.parent / "rabbitmqctl"
        argv = [str(script), "--node", NODE, *arguments]
        environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **self.env}
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout
