"""The Prefect server that outlives a session: real servers, and runs that find them."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from recorded import Notebook
from runner_sample import CleanedJobs, RawJobs, sample

from pulpo import CLI, runner
from pulpo.errors import ServerError, SettingsError, UsageError
from pulpo.prefect_server import (
    KeptServer,
    PrivateServer,
    find_kept,
    kept_server,
    remember_kept,
)
from pulpo.runs import Run
from pulpo.services import prefect

HERE = Path(__file__).parent
ON_PREFECT = [
    pytest.mark.prefect,
    pytest.mark.slow,
    # Prefect's client leaves a connection to the garbage collector now and then.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

Pulpo = Callable[..., subprocess.CompletedProcess[str]]


def command(state: Path) -> Pulpo:
    """Return ``pulpo prefect …`` with a state folder of its own."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pulpo.cli", "prefect", *arguments],
            env={**os.environ, "PULPO_STATE_DIR": str(state)},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def any_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state folder; what was started with it is stopped at the end."""
    folder = tmp_path / "state"
    monkeypatch.setenv("PULPO_STATE_DIR", str(folder))
    yield folder
    kept = kept_server()
    if kept is not None and kept.is_running:
        psutil.Process(kept.pid).kill()


@pytest.fixture
def pulpo(state: Path) -> Pulpo:
    return command(state)


@pytest.fixture(scope="module")
def kept_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The state folder of one server with pages for the whole file."""
    folder = tmp_path_factory.mktemp("kept")
    pulpo = command(folder)
    try:
        started = pulpo("start", "--port", str(any_port()))
        assert started.returncode == 0, started.stderr
        assert "Prefect's server runs at http://127.0.0.1:" in started.stdout
        yield folder
    finally:
        stopped = pulpo("stop")
        gc.collect()
    assert stopped.stdout.startswith("Stopped Prefect's server at")
    assert pulpo("status").returncode == 1


@pytest.fixture
def kept(kept_state: Path, monkeypatch: pytest.MonkeyPatch) -> KeptServer:
    monkeypatch.setenv("PULPO_STATE_DIR", str(kept_state))
    found = find_kept()
    assert found is not None
    return found


class Never(PrivateServer):
    """A private server that nobody may start."""

    def url(self) -> str:
        raise AssertionError("a private server was asked for")


def run(server: PrivateServer, /, **replaced: Any) -> Run:
    the = sample({name.replace("_", "."): function for name, function in replaced.items()})
    given, options = the.arguments(query="python")
    return runner.run_flow_blocking(*given, **options, server=server)


def opened(url: str | None) -> int:
    """Open a page as a browser does, and return its status."""
    assert url is not None
    request = urllib.request.Request(url, headers={"Accept": "text/html"})
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request) as page:
        return int(page.status)


# --- Without a server -----------------------------------------------------------------------------


def test_nothing_runs_at_first_and_stopping_nothing_is_fine(pulpo: Pulpo, state: Path) -> None:
    status = pulpo("status")
    assert status.returncode == 1
    assert "Start one with 'pulpo prefect start'" in status.stdout
    told = json.loads(pulpo("status", "--json").stdout)
    assert (told["running"], told["health"], told["pid"]) == (False, "stopped", 0)
    stopped = pulpo("stop")
    assert (stopped.returncode, stopped.stderr) == (0, "")
    assert pulpo("logs").stdout == "There is no log: no server was started yet.\n"
    assert not state.exists()


def test_a_taken_port_is_named_with_the_fix(pulpo: Pulpo) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        refused = pulpo("start", "--port", str(port))
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"pulpo: port {port} of 127.0.0.1 is taken by another program")
    assert "Give another --port, or none" in refused.stderr
    assert kept_server() is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": 99999}, "--port 99999: a port is a number from 1 to 65535"),
        ({"database": "jobs.db"}, "no URL of a database"),
        ({"database": "mysql://u:geheim@host/db"}, "'mysql'.*postgresql\\+asyncpg://user"),
        ({"database": "postgresql://u:geheim@host/db"}, "cannot be 'postgresql'"),
    ],
)
@pytest.mark.usefixtures("state")
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        prefect.start(**options)
    assert "geheim" not in str(caught.value)


def test_a_state_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PULPO_STATE_DIR", str(tmp_path / "file/state"))
    with pytest.raises(SettingsError, match="PULPO_STATE_DIR names another"):
        prefect.start()
    assert find_kept() is None


def test_the_python_face_runs_the_same_code(state: Path) -> None:
    cli = CLI()
    assert "No Prefect server of pulpo's is running" in cli.prefect("status")
    assert cli.prefect("stop") == "No Prefect server that pulpo started is running."
    with pytest.raises(UsageError, match=r"no command 'prefect strat'\. Did you mean 'start'\?"):
        cli.prefect("strat")


def told_of(pid: int, token: str = "nobody's") -> KeptServer:
    return KeptServer(
        port=any_port(),
        pid=pid,
        token=token,
        since="2026-01-01T00:00:00+00:00",
        database="memory",
        ui=True,
        version="3",
    )


def test_the_process_of_somebody_else_is_never_stopped(state: Path, pulpo: Pulpo) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
    with sleeper:
        try:
            remember_kept(told_of(sleeper.pid))
            assert find_kept() is None
            assert pulpo("status").returncode == 1
            refused = pulpo("stop")
            assert refused.returncode == 1
            assert f"its process id {sleeper.pid} belongs to another process" in refused.stderr
            assert sleeper.poll() is None
        finally:
            sleeper.kill()
    assert pulpo("stop").returncode == 0


def test_the_state_file_is_the_users_alone_and_whole(state: Path) -> None:
    remember_kept(told_of(1))
    remember_kept(told := told_of(2))
    assert kept_server() == told
    assert stat.S_IMODE((state / "prefect.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert [path.name for path in state.iterdir()] == ["prefect.json"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"port": 1}', "\x00", '{"pid": "1", "port": []}']
)
def test_a_state_file_that_cannot_be_understood_is_none(state: Path, text: str) -> None:
    state.mkdir()
    (state / "prefect.json").write_text(text)
    assert kept_server() is None
    assert find_kept() is None
    assert prefect.status().health == "stopped"


def test_the_link_to_prefects_page_is_in_html_alone_and_is_sanitised() -> None:
    import configparser
    import re

    made = Run("main_flow", ["a"])
    plain, page = str(made), made._repr_html_()
    made.url = 'http://127.0.0.1:4200/runs/flow-run/1"<'
    assert (str(made), repr(made)) == (plain, repr(Run("main_flow", ["a"])))
    assert 'href="http://127.0.0.1:4200/runs/flow-run/1&quot;&lt;"' in made._repr_html_()
    rules = configparser.RawConfigParser()
    rules.read(Path(prefect.__file__).parents[1] / "nbval.cfg")

    def sanitised(text: str) -> str:
        for section in rules.sections():
            text = re.sub(rules[section]["regex"], rules[section]["replace"], text)
        return text

    assert sanitised(made._repr_html_()) == sanitised(page)


# --- One server for all of these ------------------------------------------------------------------


class TestTheKeptServer:
    pytestmark = ON_PREFECT

    def test_its_status_tells_what_a_person_and_a_machine_ask(
        self, kept: KeptServer, kept_state: Path
    ) -> None:
        pulpo = command(kept_state)
        shown = pulpo("status")
        assert shown.returncode == 0
        assert kept.address in shown.stdout
        told = json.loads(pulpo("status", "--json").stdout)
        assert told["running"] is True
        assert told["health"] == "ok"
        assert (told["address"], told["api"]) == (kept.address, kept.url)
        assert told["pid"] == kept.pid
        assert told["ui"] is True
        assert told["database"] == f"sqlite+aiosqlite:///{kept_state / 'prefect/prefect.db'}"
        assert told["since"] == kept.since
        assert told["version"] == kept.version
        assert kept.address in pulpo("logs").stdout

    def test_a_second_start_finds_it(self, kept: KeptServer, kept_state: Path) -> None:
        pulpo = command(kept_state)
        again = pulpo("start")
        assert again.returncode == 0
        assert again.stdout.startswith(f"It runs already, at {kept.address}.")
        assert kept_server() == kept
        other = pulpo("start", "--port", str(any_port()))
        assert other.returncode == 1
        assert f"runs already, on port {kept.port}. 'pulpo prefect restart'" in other.stderr
        other = pulpo("start", "--database", "memory")
        assert "runs already, on sqlite+aiosqlite:///" in other.stderr
        assert kept.is_running

    def test_it_is_in_no_session_of_ours(self, kept: KeptServer) -> None:
        assert os.getsid(kept.pid) == kept.pid

    def test_runs_find_it_and_say_where_prefect_shows_them(self, kept: KeptServer) -> None:
        done = run(Never())
        assert (done.state, done.server) == ("done", "kept")
        assert done.url is not None
        assert done.url.startswith(f"{kept.address}/runs/flow-run/")
        assert opened(done.url) == 200
        flow_run = done.url.rpartition("/")[2]
        assert opened(f"{kept.url}/flow_runs/{flow_run}") == 200
        assert done.url in done._repr_html_()
        assert str(kept.port) not in str(done)
        assert run(Never()).url != done.url

    def test_its_pages_may_talk_to_it_alone(self, kept: KeptServer) -> None:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        asked = urllib.request.Request(f"{kept.address}/runs", headers={"Accept": "text/html"})
        with direct.open(asked) as page:
            policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'self' ")
        hosts = [word for word in policy.split() if "://" in word]
        assert {host.partition("://")[2].split(":")[0] for host in hosts} == {
            "127.0.0.1",
            "localhost",
        }

    @pytest.mark.browser
    def test_a_real_browser_shows_the_run_and_reaches_nothing_else(
        self, kept: KeptServer, chromium: str
    ) -> None:
        done = run(Never())
        code = "import sys; sys.path.insert(0, sys.argv[1]); import test_services as t; "
        code += "t.browse(*sys.argv[2:])"
        seen = subprocess.run(
            [sys.executable, "-c", code, str(HERE), chromium, str(done.url), "scraping_flow"],
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert seen.returncode == 0, seen.stderr
        assert json.loads(seen.stdout) == [f"127.0.0.1:{kept.port}"]

    @pytest.mark.parametrize("where", ["threads", "process"])
    def test_task_runners_find_it_too(self, kept: KeptServer, where: str) -> None:
        if where == "process":
            code = "import sys; sys.path.insert(0, sys.argv[1]); import test_services as t; "
            code += "t.on_processes()"
            done = subprocess.run(
                [sys.executable, "-c", code, str(HERE)], capture_output=True, text=True, timeout=240
            )
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith(f"kept {kept.address}/runs/flow-run/")
            return
        book = Notebook()
        book.operation("load", "def load() -> int:\n    return 1")
        made = book.session.run(runner=where)
        assert (made.state, made.server) == ("done", "kept")
        assert opened(made.url) == 200

    def test_the_status_of_a_session_says_which_server(self, kept: KeptServer) -> None:
        book = Notebook()
        book.operation("load", "def load() -> int:\n    return 1")
        assert "Prefect     the server of 'pulpo prefect start'" in str(book.session.status())
        book.session.run()
        status = str(book.session.status())
        assert "main_flow: done, on the server of 'pulpo prefect start'" in status
        assert str(kept.port) not in status

    def test_a_configured_server_wins(
        self, kept: KeptServer, monkeypatch: pytest.MonkeyPatch, free_port: int
    ) -> None:
        monkeypatch.setenv("PREFECT_API_URL", kept.url)
        done = run(Never())
        assert (done.state, done.server) == ("done", "configured")
        assert opened(done.url) == 200
        monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port}/api")
        with pytest.raises(ServerError, match="does not answer"):
            run(Never())

    def test_concurrent_subflows_do_not_collide_in_its_database(self, kept: KeptServer) -> None:
        answers = asyncio.run(_subflows(kept.url))
        assert answers
        assert [status for status in answers if status >= 500] == []

    def test_two_processes_run_on_it_at_once(self, kept: KeptServer) -> None:
        code = "import sys; sys.path.insert(0, sys.argv[1]); import test_services as t; "
        code += "done = t.run(t.Never()); print(done.state, done.server, done.url)"
        both = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(HERE)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(2)
        ]
        said = [each.communicate(timeout=240)[0].split() for each in both]
        assert [words[:2] for words in said] == [["done", "kept"]] * 2
        assert len({words[2] for words in said}) == 2


async def _subflows(url: str) -> list[int]:
    """Run 5 flows at once with 10 tasks each; return the status of each answer."""
    import httpx
    from prefect import flow, task
    from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_LEVEL, temporary_settings

    answers: list[int] = []
    send = httpx.AsyncClient.send

    async def noted(self: httpx.AsyncClient, *args: Any, **options: Any) -> httpx.Response:
        response = await send(self, *args, **options)
        answers.append(response.status_code)
        return response

    @task
    async def nothing(number: int) -> int:
        return number

    @flow
    async def inner() -> int:
        return sum(await asyncio.gather(*[nothing(number) for number in range(10)]))

    @flow
    async def outer() -> int:
        return sum(await asyncio.gather(*[inner() for _ in range(5)]))

    httpx.AsyncClient.send = noted  # type: ignore[method-assign]
    try:
        with temporary_settings({PREFECT_API_URL: url, PREFECT_LOGGING_LEVEL: "WARNING"}):
            assert await outer() == 5 * 45
    finally:
        httpx.AsyncClient.send = send  # type: ignore[method-assign]
    return answers


def browse(chromium: str, url: str, text: str) -> None:
    """Open a page, wait for what it shows, and print which hosts answered; in a process alone."""
    from urllib.parse import urlparse

    from playwright.sync_api import sync_playwright

    hosts = set()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        refused: list[str] = []
        page.on("requestfailed", lambda request: refused.append(request.failure or ""))
        page.on("response", lambda response: hosts.add(urlparse(response.url).netloc))
        page.goto(url)
        page.get_by_text("Subflow Runs").first.click()
        page.get_by_text(text).first.wait_for()
        page.wait_for_load_state("networkidle")
        browser.close()
    assert [why for why in refused if why not in ("csp", "net::ERR_ABORTED")] == [], refused
    print(json.dumps(sorted(hosts - {""})))


def on_processes() -> None:
    """Run on a process pool; called in a process of its own."""
    book = Notebook()
    book.operation("load", "def load() -> int:\n    return 1")
    made = book.session.run(runner="process")
    made.raise_for_failure()
    print(made.server, made.url)


# --- Servers of their own -------------------------------------------------------------------------


class TestServersOfTheirOwn:
    pytestmark = ON_PREFECT

    def test_a_server_is_restarted_with_what_it_had_and_stopped(self, pulpo: Pulpo) -> None:
        database = ("--database", "memory")
        started = pulpo("start", "--port", str(any_port()), "--no-ui", *database)
        assert started.returncode == 0, started.stderr
        assert "(without pages). Its history is in memory, and ends with it" in started.stdout
        first = kept_server()
        assert first is not None
        done = run(Never())
        assert (done.state, done.server, done.url) == ("done", "kept", None)
        assert pulpo("restart").returncode == 0
        second = kept_server()
        assert second is not None
        assert not first.is_running
        assert second.is_running
        assert second.pid != first.pid
        assert (second.port, second.ui, second.database) == (first.port, False, "memory")
        stopped = pulpo("stop")
        assert stopped.stdout == (
            f"Stopped Prefect's server at {second.address} (process {second.pid}).\n"
        )
        assert not second.is_running
        assert kept_server() is None

    def test_a_run_whose_server_dies_goes_on_with_a_private_one(self, pulpo: Pulpo) -> None:
        started = pulpo("start", "--port", str(any_port()), "--no-ui", "--database", "memory")
        assert started.returncode == 0, started.stderr
        kept = kept_server()
        assert kept is not None
        calls: list[RawJobs] = []

        def clean(data: RawJobs) -> CleanedJobs:
            calls.append(data)
            if len(calls) == 2:
                return CleanedJobs(titles=data.titles)
            os.kill(kept.pid, signal.SIGKILL)
            while True:
                time.sleep(0.02)

        private = PrivateServer()
        try:
            done = run(private, parsing_clean=clean)
        finally:
            private.stop()
        assert done.state == "done"
        assert calls[0] is calls[1] is done["scraping.merge"]  # that had finished, and was kept
        assert str(done).endswith(
            f"the Prefect server at {kept.address} ended during the run, which went on with "
            "another one; parsing.clean ran again"
        )
        assert (done.server, done.url) == ("private", None)
        assert prefect.status().health == "stopped"  # the state file is there, and stale

    def test_a_server_that_cannot_start_shows_the_end_of_its_log(
        self, pulpo: Pulpo, tmp_path: Path
    ) -> None:
        url = f"sqlite+aiosqlite:///{tmp_path / 'no' / 'folder.db'}"
        failed = pulpo("start", "--port", str(any_port()), "--database", url)
        assert failed.returncode == 1
        assert "pulpo: the Prefect server ended before it answered." in failed.stderr
        assert "unable to open database file" in failed.stderr
        assert "Prefect's server is starting on port" in failed.stderr
        assert kept_server() is None
