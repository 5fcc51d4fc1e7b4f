"""`python -m deploy.local`, started as a user would; and a node of RabbitMQ for what could disturb others."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pika
import pytest

from deploy.local.machine import free_port
from tests.hosts import hosts_of, node_in, running
from tests.system import ROOT, eventually

#: How many payments of the past a run begins with.
PAST = 40


@dataclass
class Run:
    """One run over a data folder; servers that the tests themselves use are not its servers."""

    data: Path
    port: int
    broker: str = ""

    def popen(self) -> subprocess.Popen[str]:
        env = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "RABBITMQ_URL"}}
        env |= {"PORT": str(self.port), "DATA_DIR": str(self.data), "PYTHONPATH": str(ROOT), "DEMO_PAYMENTS": str(PAST)}
        env |= {"http_proxy": "http://127.0.0.1:9"}  # as where pip needs a proxy; this one would swallow everything
        env |= {"RABBITMQ_URL": self.broker} if self.broker else {}
        argv = [sys.executable, "-m", "deploy.local"]
        return subprocess.Popen(argv, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def start(self) -> None:
        file = self.data / "demo.json"
        stale = file.exists() and file.stat().st_ino
        self.process = self.popen()
        eventually(
            lambda: self.process.poll() is not None or (file.exists() and file.stat().st_ino != stale),
            within=120,
            what="the run is ready",
        )
        assert self.process.poll() is None, self.process.communicate()[0]
        self.demo = json.loads(file.read_text())

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=60)
        return out

    def reload(self) -> dict:
        self.demo = json.loads((self.data / "demo.json").read_text())
        return self.demo

    def get(self, path: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.demo['api_key']}"}
        return httpx2.get(self.demo["url"] + path, headers=headers, trust_env=False, timeout=10)

    def charges(self, payment_id: str) -> list[dict]:
        return httpx2.get(f"{self.demo['sandbox_url']}/journal?payment_id={payment_id}", trust_env=False).json()


def make_run(folder: Path, broker: str = "") -> Run:
    return Run(folder / "data", free_port(), broker)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A fresh node, with nothing on it."""
    folder = tmp_path_factory.mktemp("node")
    with running(node_in(folder, folder / "logs")) as made:
        yield made


@pytest.fixture(scope="module")
def hosts(node):
    return hosts_of(node)


@pytest.fixture
def rabbitmq_url(hosts):
    """An empty virtual host of the node for each test."""
    return next(hosts).url


@pytest.fixture
def channel(rabbitmq_url):
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connected:
        yield connected.channel()
