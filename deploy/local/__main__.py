"""`make run`: the whole system on this machine, under one supervisor, until Ctrl-C or SIGTERM.

Environment: `PORT` (8000) of the console and API, `DATA_DIR` (.data), `DATABASE_URL` and `RABBITMQ_URL` for
servers of your own; `RABBITMQ_URL=none` asks for the in-process broker; `DEMO_PAYMENTS` (3000) of the past that a new
database gets.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from deploy.local import demo
from deploy.local.machine import CannotStart, free_port, own_folder, require_free
from deploy.local.servers import Servers, start_servers
from deploy.local.supervisor import Process, Supervisor

ROOT: Final = Path(__file__).resolve().parents[2]
#: To ourselves we speak without the proxy that the machine may need for the rest of the world.
DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
IN_PROCESS_BANNER: Final = """
  No RabbitMQ on this machine: messages travel in the memory of the relay process, which also runs the
  workers. Payments are as safe (the truth is in PostgreSQL; what a stop loses is staged again within
  minutes), but nothing can be consumed from outside. Install rabbitmq-server or set RABBITMQ_URL for the
  real thing.
"""


def main() -> int:
    """Run until told to stop; 1 if the system cannot start here."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    data = Path(os.environ.get("DATA_DIR") or ".data").resolve()
    supervisor = Supervisor(say=say)
    try:
        port = read_port()
        with own_folder(data):
            # The web processes of a run that was killed need a moment to notice.
            require_free(port, patience=5.0 if (data / "demo.json").exists() else 0.0)
            try:
                run(supervisor, data=data, port=port)
            finally:
                stop(supervisor, data)
    except CannotStart as reason:
        say(str(reason))
        return 1
    except OSError as error:
        say(f"The data folder {data} cannot be used ({error}). Make room or repair it, or set DATA_DIR.")
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


def stop(supervisor: Supervisor, data: Path) -> None:
    """Stop everything; a second Ctrl-C does not interrupt that."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if supervisor.processes:
        say("Stopping.")
    supervisor.stop_all()
    (data / "demo.json").unlink(missing_ok=True)


def read_port() -> int:
    """The setting `PORT`."""
    text = os.environ.get("PORT") or "8000"
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CannotStart(f"PORT is {text!r}; it must be a number from 1 to 65535.")
    return int(text)


def run(supervisor: Supervisor, *, data: Path, port: int) -> None:
    """Start everything in order, tell the user, and look after it."""
    (data / "demo.json").unlink(missing_ok=True)  # of a run that was killed
    secrets = demo.keep_secrets(data / "secrets.json")
    servers = start_servers(supervisor, data)
    if servers.rabbitmq_url is None:
        print(IN_PROCESS_BANNER, flush=True)
    sandbox_port = free_port()
    info: dict[str, Any] = {
        "url": f"http://127.0.0.1:{port}",
        "console_url": f"http://127.0.0.1:{port}/{os.environ.get('ADMIN_PATH') or 'admin'}/",
        "api_key": secrets.api_key,
        "admin_user": demo.ADMIN_USER,
        "admin_password": secrets.admin_password,
        "sandbox_url": f"http://127.0.0.1:{sandbox_port}",
        "database_url": servers.database_url,
        "rabbitmq_url": servers.rabbitmq_url,
        "encryption_key": secrets.encryption_key,
    }
    env = environment(info, secrets, servers, data)
    logs = data / "logs"
    sandbox = [sys.executable, "-m", "sandbox", "--port", str(sandbox_port), "--data", str(data / "sandbox")]
    sandbox += ["--webhooks", f"{info['url']}/api/v1/gateways/sandbox/webhooks"]
    supervisor.start(Process("sandbox", sandbox, logs, env={"SANDBOX_WEBHOOK_SECRET": secrets.webhook_secret}))
    prepare(env)
    metrics = data / "metrics"
    shutil.rmtree(metrics, ignore_errors=True)  # counters begin at zero with their processes
    metrics.mkdir()
    web_env = {**env, "PROMETHEUS_MULTIPROC_DIR": str(metrics)}
    web_process = supervisor.start(Process("web", web_command(port), logs, env=web_env))
    servers.await_rabbitmq()
    manage = [sys.executable, str(ROOT / "manage.py")]
    relay = supervisor.start(Process("relay", [*manage, "relay"], logs, env=env))
    if servers.rabbitmq_url:
        supervisor.start(Process("intake", [*manage, "intake"], logs, env=env))
        relay = supervisor.start(Process("worker", [*manage, "worker"], logs, env=env))
    supervisor.start(Process("cron", ["sh", str(ROOT / "deploy/cron/run.sh")], logs, env=cron_environment(env)))
    web_process.await_ready(lambda: healthy(info["url"], "/readyz"))
    relay.await_ready(lambda: healthy(info["url"], "/health"))
    publish(supervisor, info, data)
    print(demo.table(info, data=data), flush=True)
    while True:
        time.sleep(0.2)
        if supervisor.restart_dead():
            publish(supervisor, info, data)


def web_command(port: int) -> list[str]:
    """How the web process is started, here and where it is measured."""
    config = str(ROOT / "deploy/gunicorn.conf.py")
    return [sys.executable, "-m", "gunicorn", "--config", config, "--bind", f"127.0.0.1:{port}", "config.asgi"]


def environment(info: dict[str, Any], secrets: demo.Secrets, servers: Servers, data: Path) -> dict[str, str]:
    """The variables of our own processes."""
    return {
        "ENVIRONMENT": "development",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONPATH": str(ROOT),
        "SECRET_KEY": secrets.secret_key,
        "JWT_SIGNING_KEY": secrets.jwt_signing_key,
        "ENCRYPTION_KEYS": secrets.encryption_key,
        "DATABASE_URL": servers.database_url,
        "RABBITMQ_URL": servers.rabbitmq_url or "",
        "INTAKE_DEFAULT_MERCHANT": "demo",
        "SANDBOX_URL": info["sandbox_url"],
        "SANDBOX_WEBHOOK_SECRET": secrets.webhook_secret,
        "EMAIL_FOLDER": str(data / "mail"),
        "SMS_FOLDER": str(data / "sms"),
        "DEMO_ADMIN_USER": info["admin_user"],
        "DEMO_ADMIN_PASSWORD": secrets.admin_password,
        "DEMO_API_KEY": secrets.api_key,
    }


def cron_environment(env: dict[str, str]) -> dict[str, str]:
    """Numbers that are no older than half a minute: whoever tries the system out wants to see them move."""
    return {**env, "METRICS_EVERY": "30", "PYTHON": sys.executable}


def prepare(env: dict[str, str]) -> None:
    """Bring the database up to date and see to it that the demo merchant is there."""
    argv = [sys.executable, str(ROOT / "manage.py"), "seed_demo"]
    argv += ["--payments", os.environ.get("DEMO_PAYMENTS") or "3000"]
    done = subprocess.run(argv, env={**os.environ, **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotStart(f"The database cannot be prepared:\n{done.stdout}{done.stderr}")


def healthy(url: str, path: str) -> bool:
    """Whether a health address says `healthy`."""
    try:
        with DIRECT.open(url + path, timeout=2) as response:
            return b'"status": "healthy"' in response.read(30)
    except OSError:
        return False


def publish(supervisor: Supervisor, info: dict[str, Any], data: Path) -> None:
    """Write `demo.json`, with the process ids of the moment."""
    info["processes"] = {process.name: process.pid for process in supervisor.processes}
    demo.write_private(data / "demo.json", info)


def say(line: str) -> None:
    """One line to the user."""
    print(f"make run: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
