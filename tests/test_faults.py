"""What operations and servers do wrong, on a real Prefect: the run says it, and the next one works.

Others are where their feature is: failures, exits, interrupts, timeouts, 100,000 lines and a killed
server in test_runner_prefect.py, re-run models in test_runs_kernel.py.
"""

from __future__ import annotations

import gc
import http.server
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from recorded import Notebook

from pulpo.errors import ServerError
from pulpo.prefect_server import PrivateServer
from pulpo.runs import OperationFailedError

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    # Prefect's client leaves a connection to the garbage collector now and then.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

MODELS = """
import asyncio
import numpy as np
from dataclasses import dataclass
from typing import NewType
@dataclass
class Raw:
    number: int
@dataclass
class Clean:
    number: int
Array = NewType("Array", np.ndarray)
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = PrivateServer()
    yield server.url()
    server.stop()
    gc.collect()


@pytest.fixture
def book(url: str, monkeypatch: pytest.MonkeyPatch) -> Notebook:
    monkeypatch.setenv("PREFECT_API_URL", url)
    made = Notebook()
    made.cell(MODELS)
    made.operation("load.fetch", "def fetch() -> Raw:\n    return Raw(1)")
    made.operation("load.clean", "def clean(raw: Raw) -> Clean:\n    return Clean(raw.number)")
    return made


@pytest.mark.parametrize("engine", ["prefect", "local"])
def test_a_wrong_model_is_named_where_it_came_from(book: Notebook, engine: str) -> None:
    book.operation("load.fetch", "def fetch() -> Raw:\n    return {'number': 1}")
    failed = book.session.run(engine=engine)  # type: ignore[arg-type]
    assert failed.failed == ["load.clean"]
    with pytest.raises(OperationFailedError) as caught:
        failed.raise_for_failure()
    lines = caught.value._render_traceback_()
    assert "load.fetch gave a dict, not a Raw." in lines
    # Where nobody minds it is a note.
    book.operation("load.clean", "def clean(raw: Raw) -> Clean:\n    return Clean(2)")
    done = book.session.run(engine=engine)  # type: ignore[arg-type]
    assert done.state == "done"
    assert "load.fetch gave a dict, not a Raw" in str(done).split("\n")


def test_a_list_with_one_wrong_element_is_named(book: Notebook) -> None:
    book.operation("load.fetch", "def fetch() -> list[Raw]:\n    return [Raw(1), 2, Raw(3)]")
    book.operation("load.clean", "def clean(raw: Raw) -> Clean:\n    return Clean(raw.number)")
    failed = book.session.run()
    assert failed.misfits == {"load.fetch": "a list with an int, not a Raw"}
    assert failed.inputs("load.clean") == {"raw": 2}


def test_200_mb_pass_by_reference(book: Notebook) -> None:
    book.operation(
        "load.fetch", "def fetch() -> Array:\n    return Array(np.ones(25_000_000))", identity="f"
    )
    book.operation(
        "use.total",
        "def total(array: Array) -> Clean:\n    array[0] = 7\n    return Clean(int(array.sum()))",
    )
    book.session.remove("load.clean")
    done = book.session.run()
    assert done["use.total"].number == 25_000_006
    assert done["load.fetch"].nbytes == 200_000_000
    assert done["load.fetch"][0] == 7  # the very object, which its consumer changed


def test_an_operation_may_start_an_event_loop_of_its_own(book: Notebook) -> None:
    book.cell("async def later():\n    await asyncio.sleep(0.01)\n    return 5")
    book.operation("load.fetch", "def fetch() -> Raw:\n    return Raw(asyncio.run(later()))")
    assert book.session.run()["load.clean"].number == 5
    book.operation(
        "load.fetch",
        "async def fetch() -> Raw:\n    call = later()\n    try:\n"
        "        return Raw(asyncio.run(call))\n    finally:\n        call.close()",
    )
    error = book.session.run().operations["load.fetch"].error
    assert "cannot be called from a running event loop" in str(error)
    book.operation("load.fetch", "async def fetch() -> Raw:\n    return Raw(await later())")
    assert book.session.run()["load.clean"].number == 5


def test_what_answers_at_the_address_and_is_no_prefect_is_named(
    book: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def log_message(self, *told: object) -> None:
            pass

    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=other.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{other.server_port}/api"
    try:
        with monkeypatch.context() as patch:
            patch.setenv("PREFECT_API_URL", address)
            with pytest.raises(ServerError, match=f"the Prefect server at {address} does not"):
                book.session.run()
    finally:
        other.shutdown()
        thread.join()
        other.server_close()
    assert book.session.run().state == "done"


def test_a_port_that_is_taken_meanwhile_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    ports = [taken.server_port]
    from pulpo import prefect_server

    free = prefect_server.free_port
    monkeypatch.setattr(
        prefect_server, "free_port", lambda wanted: ports.pop() if ports else free(0)
    )
    server = PrivateServer()
    try:
        assert f":{taken.server_port}/" not in server.url()
        assert server.is_running
    finally:
        server.stop()
        taken.server_close()


LOCKING = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
time.sleep(6)
connection.execute("ROLLBACK")
"""


def test_a_server_whose_sqlite_is_locked_for_a_while_loses_nothing(
    book: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_port: int
) -> None:
    database = tmp_path / "prefect.db"
    env = {
        "PREFECT_HOME": str(tmp_path),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        command = [sys.executable, "-m", "prefect", "server", "start", "--no-ui"]
        log = (tmp_path / "log").open("wb")
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(free_port)], stdout=log, stderr=log
        )
    address = f"http://127.0.0.1:{free_port}/api"
    try:
        _wait_for(address)
        monkeypatch.setenv("PREFECT_API_URL", address)
        assert book.session.run().state == "done"
        locker = subprocess.Popen(
            [sys.executable, "-c", LOCKING, str(database)], stdout=subprocess.PIPE
        )
        assert locker.stdout is not None
        assert locker.stdout.readline() == b"locked\n"
        done = book.session.run()
        assert (done.state, done["load.clean"].number) == ("done", 1)
        locker.wait()
        locker.stdout.close()
    finally:
        server.terminate()
        server.wait()
        log.close()
    with sqlite3.connect(database) as connection:
        (count,) = connection.execute("select count(*) from flow_run").fetchone()
    connection.close()
    assert count == 4


def _wait_for(address: str) -> None:
    import httpx

    end = time.monotonic() + 240
    while time.monotonic() < end:
        try:
            if httpx.get(f"{address}/health", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
    pytest.fail("the server did not start")
