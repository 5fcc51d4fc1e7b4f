"""The sandbox as a process of its own: the witness, which no crash of ours can impress."""

import sys
from collections import Counter
from pathlib import Path

import httpx2

from deploy.local.machine import free_port
from deploy.local.supervisor import Process
from tests.system import ROOT, eventually


class GatewayProcess:
    """`python -m sandbox`, and what its journal says."""

    def __init__(self, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        argv = [sys.executable, "-m", "sandbox", "--port", str(port), "--data", str(folder / "data")]
        self.process = Process("sandbox", argv, folder, env={"PYTHONPATH": str(ROOT)})
        self.http = httpx2.Client(timeout=10, trust_env=False)

    def start(self) -> None:
        self.process.start()
        eventually(self.is_ready, within=20, what="the sandbox is ready")
        forget_keys(self)

    def is_ready(self) -> bool:
        try:
            return self.http.get(f"{self.url}/livez").status_code == 200
        except httpx2.TransportError:
            return False

    def break_again(self) -> None:
        """What a test has mended is down again."""
        assert self.http.patch(f"{self.url}/settings", json={"mended": []}).status_code == 200

    def stop(self) -> None:
        self.http.close()
        self.process.stop(timeout=10)

    def charges(self, payment_id: str | None = None) -> list[dict]:
        return self.http.get(f"{self.url}/journal", params={"payment_id": payment_id} if payment_id else {}).json()

    def charges_per_order(self) -> Counter[str]:
        return Counter(charge["order_id"] for charge in self.charges())


def forget_keys(gateway: GatewayProcess) -> None:
    """A gateway that honours idempotency keys hides whatever we send twice: so it shall not."""
    answer = gateway.http.patch(f"{gateway.url}/settings", json={"forget_keys": True})
    assert answer.status_code == 200, answer.text
