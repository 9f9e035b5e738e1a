"""A real JupyterLab, Jupyter Notebook or Voilà in a real Chromium.

    def test_a_button_does_something(lab):
        lab.write("story.ipynb", ["%load_ext pulpo", "%pulpo panel"])
        page = lab.open("story.ipynb")
        lab.run_all(page)
        page.get_by_role("button", name="Export flows").click()

`notebook7` has the methods of `lab`; Voilà runs a notebook by itself when a page asks for it:

    def test_a_dashboard_has_a_panel(voila):
        voila.write("story.ipynb", ["%load_ext pulpo", "%pulpo panel"])
        page = voila.open("story.ipynb", theme="dark")

Each server has its own HOME and Jupyter folders, serves a folder of its own (`lab.folder`) on a
free port, and is gone with its kernels when the test ends. What its pages asked for and complained
of is in `lab.requests` and `lab.complaints`. No page reaches the network.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, sync_playwright

_SERVER = (
    "--no-browser",
    "--allow-root",
    "--ServerApp.ip=127.0.0.1",
    "--ServerApp.port_retries=0",
    "--IdentityProvider.token=",
    # Notebook 7 serves JupyterLab too.
    "--LabApp.news_url=",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)
_LAB = ("jupyterlab", *_SERVER, "--LabApp.expose_app_in_browser=True")
_NOTEBOOK = ("notebook", *_SERVER, "--JupyterNotebookApp.expose_app_in_browser=True")
_VOILA = ("voila", "--no-browser", "--Voila.ip=127.0.0.1", "--Voila.port_retries=0")
# Whatever a page asks of the world fails at once, on every machine.
_CHROMIUM = ("--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
# Voilà logs in the name of the page; the stack tells who called.
_TRACE = """
    const { error } = console;
    console.error = (...words) => error(...words, new Error("logged").stack);
"""
# Outputs that are no widget hold no element of this class.
_WIDGET = ".jp-OutputArea-output > .lm-Widget"
_START = 90  # seconds; a cold start on a busy machine takes twenty
_STEP = 120  # seconds that one step in the page may take


# Not for the session: while playwright is open, an event loop counts as running in this thread, and
# later tests that use asyncio.run would fail.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A Chromium without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*_CHROMIUM])
        yield browser
        browser.close()


@dataclass
class Host:
    """A running server of notebooks; its methods take the `Page` that `open` returned."""

    base: str
    folder: Path
    browser: Browser
    pages: list[Page] = field(default_factory=list)
    #: The URL of everything that a page asked for.
    requests: list[str] = field(default_factory=list)
    #: What went wrong in a page, each with where it came from.
    complaints: list[str] = field(default_factory=list)

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

    def screenshot(self, page: Page, path: Path) -> Path:
        """Save what the page shows."""
        page.screenshot(path=path)
        return path

    def new_page(self, width: int, height: int) -> Page:
        """Make an empty page whose requests and complaints are noted."""
        page = self.browser.new_page(viewport={"width": width, "height": height})
        self.pages.append(page)
        page.set_default_timeout(_STEP * 1000)
        page.add_init_script(_TRACE)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: self.requests.append(socket.url))
        page.on("console", self._on_console)
        page.on("pageerror", self._on_error)
        return page

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.location['url']}: {message.text}")

    def _on_error(self, error: Error) -> None:
        self.complaints.append(error.stack or error.message)


@dataclass
class Lab(Host):
    """A running JupyterLab, or another front end with its commands."""

    route: str = "/doc/tree/{name}?reset"

    def open(self, name: str, *, width: int = 1200, height: int = 1000) -> Page:
        """Open a notebook alone in the page and wait for its kernel."""
        page = self.new_page(width, height)
        page.goto(self.base + self.route.format(name=name))
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

    def _command(self, page: Page, command: str, arguments: dict[str, str] | None = None) -> None:
        page.evaluate(
            "async ([name, given]) => { await jupyterapp.commands.execute(name, given) }",
            [command, arguments or {}],
        )


@dataclass
class Voila(Host):
    """A running Voilà."""

    def open(
        self, name: str, theme: str = "light", *, width: int = 1200, height: int = 1000
    ) -> Page:
        """Run a notebook in a kernel of its own, and wait until its first widget is there.

        ``theme`` is ``"light"`` or ``"dark"``.
        """
        page = self.new_page(width, height)
        page.goto(f"{self.base}/voila/render/{name}?theme={theme}")
        page.locator(_WIDGET).first.wait_for(state="visible")
        return page


@pytest.fixture
def lab(
    browser: Browser, free_port: int, private_env: dict[str, str], tmp_path: Path
) -> Iterator[Lab]:
    """A JupyterLab on an empty folder."""
    _want_no_news(Path(private_env["JUPYTER_CONFIG_DIR"]))
    lab = Lab(f"http://127.0.0.1:{free_port}", tmp_path / "lab", browser)
    command = [*_LAB, f"--ServerApp.port={free_port}"]
    with _serving(lab, command, private_env, "/api/status"):
        yield lab


@pytest.fixture
def notebook7(
    browser: Browser, free_port: int, private_env: dict[str, str], tmp_path: Path
) -> Iterator[Lab]:
    """A Jupyter Notebook 7 on an empty folder."""
    _want_no_news(Path(private_env["JUPYTER_CONFIG_DIR"]))
    base = f"http://127.0.0.1:{free_port}"
    notebook = Lab(base, tmp_path / "notebook", browser, route="/notebooks/{name}")
    command = [*_NOTEBOOK, f"--ServerApp.port={free_port}"]
    with _serving(notebook, command, private_env, "/api/status"):
        yield notebook


@pytest.fixture
def voila(
    browser: Browser, free_port: int, private_env: dict[str, str], tmp_path: Path
) -> Iterator[Voila]:
    """A Voilà on an empty folder."""
    voila = Voila(f"http://127.0.0.1:{free_port}", tmp_path / "voila", browser)
    # A server that had to be killed leaves its connection files behind.
    command = [*_VOILA, f"--Voila.port={free_port}", f"--Voila.connection_dir_root={tmp_path}"]
    with _serving(voila, command, private_env, "/"):
        yield voila


def _want_no_news(config: Path) -> None:
    """Answer the question whether to fetch news, which else stands in front of the page."""
    settings = config / "lab/user-settings/@jupyterlab/apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')


@contextmanager
def _serving(host: Host, command: Sequence[str], env: dict[str, str], ready: str) -> Iterator[None]:
    """Run ``python -m`` with a command in the host's folder, until the block ends."""
    host.folder.mkdir()
    log = host.folder.with_suffix(".log")
    with log.open("wb") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", *command], cwd=host.folder, env=env, stdout=out, stderr=out
        )
    try:
        _wait(server, host.base + ready, log)
        yield
    finally:
        for page in host.pages:
            page.close()
        _end(server)


def _wait(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"{log.stem} did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _end(server: subprocess.Popen[bytes]) -> None:
    """End a server and its kernels; on SIGTERM it stops the kernels itself."""
    try:
        kernels = psutil.Process(server.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        kernels = []
    server.terminate()
    try:
        server.wait(timeout=30)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    for kernel in psutil.wait_procs(kernels, timeout=10)[1]:
        kernel.kill()
