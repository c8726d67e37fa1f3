"""JupyterLab on loopback in a home of its own, and a browser that looks at it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
TIMEOUT = 120_000  # milliseconds; a slow machine is no failure


def find_browser() -> str | None:
    """Chromium's program, where there is one; KMEMLAB_CHROMIUM names another."""
    return os.environ.get("KMEMLAB_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Lab:
    """`jupyter lab` over a folder, without the user's settings and without news."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.port, self.token = free_port(), secrets.token_hex(16)
        self.log = home / "lab.log"
        settings = home / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        quiet = {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
        # JupyterLab takes cells that are out of sight out of the page; a test wants to see them all.
        notebook = home / "settings" / "@jupyterlab" / "notebook-extension"
        notebook.mkdir(parents=True)
        (notebook / "tracker.jupyterlab-settings").write_text(json.dumps({"windowingMode": "none"}))
        environment = {
            **os.environ,
            "HOME": str(home),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_DATA_DIR": str(home / "data"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "IPYTHONDIR": str(home / "ipython"),
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
        }
        command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={self.port}"]
        command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}"]
        command += [f"--ServerApp.root_dir={folder}", "--LabApp.news_url=None"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def wait(self, seconds: float = 90) -> None:
        """Until it answers; raises with its log when it doesn't."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/api/status?token={self.token}", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        raise RuntimeError(f"JupyterLab did not answer:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """End it and its kernels."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, how)
                self.process.wait(15)
                return
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue


def open_notebook(page: Any, lab: Lab, path: str) -> None:
    """Open a notebook and wait until its kernel is idle."""
    workspace = Path(path).stem  # a workspace of its own: else the tabs of the last test come back
    page.goto(f"{lab.url}/lab/workspaces/{workspace}/tree/{path}?token={lab.token}", wait_until="domcontentloaded")
    page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook").first.wait_for(timeout=TIMEOUT)
    # The dialog comes up when the kernel is not known in time; its choice is the right one.
    dialog = page.locator('.jp-Dialog:has-text("Select Kernel")')
    # It may come up twice in a row: waiting for it to be gone would wait for ever.
    accept = "button.jp-mod-accept"
    page.add_locator_handler(dialog, lambda found: found.locator(accept).click(), no_wait_after=True)
    page.wait_for_timeout(500)
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=TIMEOUT)


def run_all(page: Any, code_cells: int) -> None:
    """Run all cells, and wait until each has its number and the kernel is idle."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
    page.wait_for_function(
        r"""wanted => {
            const prompts = document.querySelectorAll('.jp-CodeCell .jp-InputPrompt');
            const texts = [...prompts].map(node => node.textContent);
            return new Set(texts.filter(text => /\[\d+\]/.test(text))).size >= wanted;
        }""",
        arg=code_cells,
        timeout=TIMEOUT,
    )
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', timeout=TIMEOUT)
