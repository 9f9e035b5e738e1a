"""A real JupyterLab in a real Chromium.

    def test_a_button_does_something(lab):
        lab.write("story.ipynb", ["%load_ext pulpo", "%pulpo panel"])
        page = lab.open("story.ipynb")
        lab.run_all(page)
        page.get_by_role("button", name="Export flows").click()

The server has its own HOME and Jupyter folders, serves a folder of its own (`lab.folder`) on a free
port, and is gone with its kernels when the test ends.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_FLAGS = (
    "--no-browser",
    "--allow-root",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port_retries=0",
    "--IdentityProvider.token=",
    "--LabApp.news_url=",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
    "--LabApp.expose_app_in_browser=True",
)
_START = 90  # seconds; a cold start on a busy machine takes twenty
_STEP = 120  # seconds that one step in the page may take


# Not for the session: while playwright is open, an event loop counts as running in this thread, and
# later tests that use asyncio.run would fail.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A Chromium without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@dataclass
class Lab:
    """A running JupyterLab; its methods take the `Page` that `open` returned."""

    base: str
    folder: Path
    browser: Browser
    pages: list[Page] = field(default_factory=list)

    def write(self, name: str, cells: Sequence[str], outputs: Sequence[Any] = ()) -> Path:
        """Write a notebook of code cells; ``outputs`` are what the first cells already show.

        Nobody has signed the notebook, so JupyterLab does not trust these outputs.
        """
        notebook = nbformat.v4.new_notebook(
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        )
        notebook.cells = [nbformat.v4.new_code_cell(source) for source in cells]
        for cell, output in zip(notebook.cells, outputs, strict=False):
            cell.outputs = [nbformat.v4.new_output("execute_result", data=output)]
            cell.outputs[0].execution_count = cell.execution_count = 1
        path = self.folder / name
        nbformat.write(notebook, path)
        return path

    def open(self, name: str, *, width: int = 1200, height: int = 1000) -> Page:
        """Open a notebook alone in the page and wait for its kernel."""
        page = self.browser.new_page(viewport={"width": width, "height": height})
        self.pages.append(page)
        page.set_default_timeout(_STEP * 1000)
        page.goto(f"{self.base}/doc/tree/{name}?reset")
        page.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.sessionContext", timeout=_STEP * 1000
        )
        page.evaluate(
            """async () => {
                const notebook = jupyterapp.shell.currentWidget;
                await notebook.revealed;
                await notebook.sessionContext.ready;
                await notebook.sessionContext.session.kernel.info;
            }"""
        )
        return page

    def run_all(self, page: Page) -> None:
        """Run every cell and wait until all have run (clicking "Run All" races the kernel)."""
        self._command(page, "notebook:run-all-cells")

    def start_all(self, page: Page) -> None:
        """Begin to run every cell, and wait for none."""
        page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells') }")

    def interrupt(self, page: Page) -> None:
        """Interrupt the kernel, as the button in the toolbar does."""
        self._command(page, "notebook:interrupt-kernel")

    def run_cell(self, page: Page, index: int) -> None:
        """Run one cell, counted from 0, and wait until it has run."""
        page.evaluate("i => { jupyterapp.shell.currentWidget.content.activeCellIndex = i }", index)
        self._command(page, "notebook:run-cell")

    def theme(self, page: Page, name: str) -> None:
        """Change to the ``"Light"`` or the ``"Dark"`` theme."""
        self._command(page, "apputils:change-theme", {"theme": f"JupyterLab {name}"})
        light = "true" if name == "Light" else "false"
        page.wait_for_selector(f'body[data-jp-theme-light="{light}"]', state="attached")
        page.wait_for_selector("#jupyterlab-splash", state="detached")

    def screenshot(self, page: Page, path: Path) -> Path:
        """Save what the page shows."""
        page.screenshot(path=path)
        return path

    def _command(self, page: Page, command: str, arguments: dict[str, str] | None = None) -> None:
        page.evaluate(
            "async ([name, given]) => { await jupyterapp.commands.execute(name, given) }",
            [command, arguments or {}],
        )


@pytest.fixture
def lab(
    browser: Browser, free_port: int, private_env: dict[str, str], tmp_path: Path
) -> Iterator[Lab]:
    """A JupyterLab on an empty folder."""
    folder = tmp_path / "lab"
    folder.mkdir()
    _want_no_news(Path(private_env["JUPYTER_CONFIG_DIR"]))
    log = tmp_path / "jupyterlab.log"
    base = f"http://127.0.0.1:{free_port}"
    command = [sys.executable, "-m", "jupyterlab", *_FLAGS, f"--ServerApp.port={free_port}"]
    with log.open("wb") as out:
        server = subprocess.Popen(command, cwd=folder, env=private_env, stdout=out, stderr=out)
    lab = Lab(base, folder, browser)
    try:
        _wait(server, base, log)
        yield lab
    finally:
        for page in lab.pages:
            page.close()
        # On SIGTERM the server stops its kernels first.
        server.terminate()
        try:
            server.wait(timeout=30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _want_no_news(config: Path) -> None:
    """Answer the question whether to fetch news, which else stands in front of the page."""
    settings = config / "lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')


def _wait(server: subprocess.Popen[bytes], base: str, log: Path) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{base}/api/status", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text(errors='replace')[-3000:]}")
