"""A real JupyterLab in a real browser: a server on a temporary folder, and a page on one notebook of it."""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from patience import PATIENCE

# JupyterLab asks for these and the server says that there are none; it does so without any notebook of ours.
HARMLESS = re.compile(
    r"favicon|api/settings|api/translations|/lab/api/(news|update|workspaces)|api/me|nbconvert|source map",
    re.IGNORECASE,
)


def smoke_copy(notebook: Path, folder: Path) -> Path:
    """A copy of the notebook in `folder` without outputs and with PRESET at "smoke", if it has a preset."""
    copy = nbformat.read(notebook, as_version=4)
    for cell in copy.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if "parameters" in cell.metadata.get("tags", []):
                cell.source = re.sub(
                    r'^(PRESET\b[^=\n]*= *)"\w*"', r'\1"smoke"', cell.source, flags=re.MULTILINE
                )
    nbformat.write(copy, folder / notebook.name)
    return folder / notebook.name


@contextmanager
def jupyter_server(folder: Path):
    """The address of a `jupyter lab` that serves folder/tree to everyone on this machine; ended with its
    kernels at exit.
    """
    import psutil

    tree, settings = folder / "tree", folder / "settings" / "@jupyterlab" / "apputils-extension"
    tree.mkdir(exist_ok=True)
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text(
        '{"fetchNews": "false"}'
    )  # else it asks, over the notebook
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    env = os.environ | {
        "JUPYTER_PREFER_ENV_PATH": "1",
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "SDLAB_HEADLESS": "",
        "PATH": str(Path(sys.executable).parent) + os.pathsep + os.environ.get("PATH", ""),
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.ip=127.0.0.1",
        "--IdentityProvider.token=",
        "--LabApp.expose_app_in_browser=True",
        f"--ServerApp.root_dir={tree}",
    ]
    log = folder / "server.log"
    with open(log, "w") as out:
        server = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, cwd=tree)
    try:
        _wait_for(f"http://127.0.0.1:{port}/api/status", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        ours = psutil.Process(server.pid).children(recursive=True) if server.poll() is None else []
        server.terminate()  # the server ends its kernels; what is left of them after that is ended here
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
        for process in psutil.wait_procs(ours, timeout=5)[1]:
            process.kill()


def _wait_for(address: str, server, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if server.poll() is not None:
            raise RuntimeError(f"jupyter lab ended at once: {log.read_text()[-2000:]}")
        try:
            urllib.request.urlopen(address).close()
            return
        except urllib.error.URLError:
            time.sleep(0.3)
    raise RuntimeError(f"jupyter lab did not answer within {PATIENCE} s: {log.read_text()[-2000:]}")


_running: list = []  # the browser of this process: playwright can be started only once at a time


@contextmanager
def chromium():
    """Chromium or Chrome of this machine, else playwright's own; skips the test where there is none.

    Where an outer fixture has it open already, that one is used.
    """
    if _running:
        yield _running[0]
        return
    api = pytest.importorskip("playwright.sync_api", reason='needs playwright: pip install "sdlab[browser]"')
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with api.sync_playwright() as running:
        try:
            browser = running.chromium.launch(executable_path=found, args=["--no-sandbox"] if root else [])
        except api.Error as error:
            pytest.skip(
                f"no Chromium to start (install it, or run `playwright install chromium`): "
                f"{str(error).splitlines()[0]}"
            )
        _running.append(browser)
        try:
            yield browser
        finally:
            _running.clear()
            browser.close()


class Lab:
    """One notebook open in JupyterLab. `complaints`: what the browser's console called an error and no part
    of JupyterLab always does.
    """

    def __init__(self, browser, address: str, name: str):
        self.name, self.address, self.complaints, self.seconds = name, address, [], 0.0
        self.page = browser.new_page(viewport={"width": 1300, "height": 1000})
        self.page.set_default_timeout(300_000)
        self.page.on(
            "console",
            lambda message: self._heard(
                message.type, f"{message.text} {(message.location or {}).get('url', '')}"
            ),
        )
        self.page.on("pageerror", lambda error: self._heard("error", str(error)))
        self.page.goto(
            f"{address}/lab/workspaces/{hashlib.sha256(name.encode()).hexdigest()[:8]}/tree/{name}",
            timeout=PATIENCE * 1000,
        )
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=PATIENCE * 1000)
        self.page.wait_for_function(
            "() => { const s = window.jupyterapp.shell.currentWidget?.context?.sessionContext; return s && "
            "s.isReady && s.session?.kernel?.status === 'idle' }",
            timeout=PATIENCE * 1000,
        )
        self.command("application:toggle-left-area")

    def _heard(self, kind: str, text: str) -> None:
        if kind == "error" and not HARMLESS.search(text):
            self.complaints.append(text)

    def command(self, name: str) -> None:
        """Start a command of JupyterLab without waiting for its end."""
        self.page.evaluate("name => { window.jupyterapp.commands.execute(name) }", name)

    def run_all(self) -> None:
        """Run all cells and wait until the last has ended, or one has failed."""
        began = time.monotonic()
        self.start_all()
        self.wait_until_run()
        self.seconds = time.monotonic() - began

    def start_all(self) -> None:
        self.page.evaluate(
            "() => { window.ran = null; window.jupyterapp.commands.execute('notebook:run-all-cells').then("
            "ok => { window.ran = String(ok) }, error => { window.ran = String(error) }) }"
        )

    def wait_until_run(self) -> None:
        self.page.wait_for_function("() => window.ran !== null", timeout=PATIENCE * 1000)
        self.idle()

    def idle(self) -> None:
        """Wait until the kernel has nothing to do and the page has drawn it."""
        self.page.wait_for_function(
            "() => window.jupyterapp.shell.currentWidget.context.sessionContext.session.kernel.status === "
            "'idle'",
            timeout=PATIENCE * 1000,
        )
        self.page.evaluate(
            "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )

    def cells(self) -> list[dict]:
        """The notebook's cells with their outputs, as they are now."""
        return self.page.evaluate("() => window.jupyterapp.shell.currentWidget.context.model.toJSON().cells")

    def errors(self) -> list[str]:
        """Cells that ended in an error, cells that were not run, and widgets that could not be drawn."""
        found = []
        for i, cell in enumerate(self.cells()):
            if cell["cell_type"] != "code":
                continue
            found += [
                f"cell {i}: {out['ename']}: {out['evalue']}"
                for out in cell["outputs"]
                if out["output_type"] == "error"
            ]
            found += (
                [f"cell {i} was not run"]
                if cell["execution_count"] is None and "".join(cell["source"]).strip()
                else []
            )
        shown = self.page.locator(
            ".jp-OutputArea"
        ).all_text_contents()  # Chromium has no inner text for what is scrolled away
        return found + [
            text[:200]
            for text in shown
            if "Error displaying widget" in text or "Error creating widget" in text or "Traceback" in text
        ]

    def close(self) -> None:
        """End the kernel and close the page."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget?.context.sessionContext.shutdown()")
        self.page.close()
