"""The house as the web process loads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = "from config.settings import *\nROOT_URLCONF = {addresses!r}\n"


@pytest.mark.parametrize(
    ("addresses", "error"),
    [
        ("config.urls", ""),
        ("no_such_addresses", "No module named 'no_such_addresses'"),
        ("without_a_view", "No module named 'no_such_view'"),
    ],
)
def test_a_web_process_never_starts_without_one_of_its_pages(tmp_path, addresses, error):
    """It would answer each request for it with a 500."""
    (tmp_path / "these_settings.py").write_text(SETTINGS.format(addresses=addresses))
    (tmp_path / "without_a_view.py").write_text("import no_such_view\n\nurlpatterns = []\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "these_settings", "PYTHONPATH": path}
    loaded = [sys.executable, "-c", "import config.wsgi"]
    ended = subprocess.run(loaded, env=env, capture_output=True, text=True, check=False)
    assert (ended.returncode == 0) is (not error)
    assert error in ended.stderr
