"""Start JupyterLab and print its address last; standard library only."""

from __future__ import annotations

import atexit
import json
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

FIRST_PAGE = "chapters/00_start_here.ipynb"
PATIENCE = 60  # seconds until the server must answer for its address to be printed
QUIET_JUPYTERLAB = [  # its server asks no other host: for news, updates, a list of extensions
    "--ip=127.0.0.1",
    "--log-level=WARN",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
]
QUIET_SETTINGS = {  # and its page does not ask the learner whether it may
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}
}


def run_server(command: list[str], root: Path, environment: dict[str, str]) -> subprocess.Popen:
    """Start JupyterLab with `command` and return its process once its address is printed.

    The server writes its address and token into a private runtime folder, which is removed when
    this program ends. Without an answer in PATIENCE seconds nothing is printed: the server's own
    messages then say why.
    """
    runtime = Path(tempfile.mkdtemp(prefix="openmodels-jupyter-"))
    atexit.register(shutil.rmtree, runtime, ignore_errors=True)
    values = {**environment, "JUPYTER_RUNTIME_DIR": str(runtime)}
    if not values.get("JUPYTER_TOKEN") and not values.get("JUPYTER_TOKEN_FILE"):
        # A token of its own: the server logs its address only if it generated the token itself.
        values["JUPYTER_TOKEN"] = secrets.token_hex(24)
    process = subprocess.Popen(command, cwd=root, env=values)
    try:
        address = wait_for_address(process, runtime)
    except KeyboardInterrupt:  # the server got it too
        return process
    if address:
        print(framed(address), flush=True)
    return process


def wait_for_address(process: subprocess.Popen, runtime: Path, patience: float = PATIENCE) -> str:
    """Return the address of the first page once the server answers there; "" if it does not."""
    ends = time.monotonic() + patience
    while time.monotonic() < ends and process.poll() is None:
        info = server_info(runtime)
        if info and answers(info["url"]):
            query = f"?token={info['token']}" if info.get("token") else ""
            return f"{info['url']}lab/tree/{FIRST_PAGE}{query}"
        time.sleep(0.1)
    return ""


def server_info(runtime: Path) -> dict | None:
    """Return what the server wrote about itself into its runtime folder; None before it did."""
    for file in runtime.glob("jpserver-*.json"):
        try:
            info = json.loads(file.read_text(encoding="utf-8"))
            return info if isinstance(info["url"], str) else None
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is being written
    return None


def answers(url: str) -> bool:
    """Return whether a server answers at `url`, with whatever status, without a proxy."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(f"{url}api", timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True


def framed(address: str) -> str:
    """Return the address in a frame, with what to do with it."""
    lines = ["JupyterLab is running. Its address, for your browser:", address]
    lines.append("To stop it, press Ctrl-C here.")
    rule = "=" * max(map(len, lines))
    return "\n".join(["", rule, *lines, rule, ""])
