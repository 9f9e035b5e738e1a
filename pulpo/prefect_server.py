"""The Prefect servers of pulpo: a private one for each session, and the one that is kept."""

from __future__ import annotations

import atexit
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from .errors import ServerError

__all__ = [
    "PATIENCE",
    "KeptServer",
    "PrivateServer",
    "end_of_log",
    "find_kept",
    "forget_kept",
    "free_port",
    "keep_loopback_off_proxies",
    "kept_server",
    "leave_server",
    "private_environment",
    "remember_kept",
    "shared",
    "state_folder",
    "turn_to",
    "without_server",
]

#: Seconds until a start is given up. It takes 20 on two idle cores, and slow machines are common.
PATIENCE = 240.0

#: Seconds that a server waits for the last events of runs before it ends.
_LAST_EVENTS = 10.0

# Runs in the child. Its standard input is a pipe whose other end only this process holds, so that
# the read returns when this process ends, however it ends, SIGKILL included. `os.getppid` covers
# a fork of ours that inherited the pipe. There is nothing to save: the database is in memory.
_CHILD = """\
import gc, os, runpy, shutil, sys, threading, time

def end():
    shutil.rmtree(os.environ["PREFECT_HOME"], ignore_errors=True)
    os._exit(0)

def watch_pipe():
    sys.stdin.buffer.read()
    end()

def watch_parent(parent=os.getppid()):
    while os.getppid() == parent:
        time.sleep(2)
    end()

for watch in (watch_pipe, watch_parent):
    threading.Thread(target=watch, daemon=True).start()
gc.set_threshold(50_000, 20, 20)  # the start is mostly imports: a tenth of it was collections
copy = os.environ.pop("PULPO_MIGRATED", "")
if copy:
    try:
        import pathlib
        from pulpo.migrated import use
        use(pathlib.Path(copy))
    except Exception:
        pass  # another version of Prefect: its migrations run as ever
sys.argv[0] = "prefect"
runpy.run_module("prefect", run_name="__main__", alter_sys=True)
"""

# What a server that only keeps the states of one session's runs can do without.
_IDLE_SERVICES = (
    "SCHEDULER",
    "LATE_RUNS",
    "FOREMAN",
    "CANCELLATION_CLEANUP",
    "PAUSE_EXPIRATIONS",
    "TRIGGERS",
)


class PrivateServer:
    """A Prefect server on loopback that starts at the first `url` and is shared from then on.

    It has a database in memory and a temporary home of its own, reads no configuration of the
    user's, serves no pages and sends nothing anywhere.
    """

    def __init__(self, *, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._home: Path | None = None
        self._port = 0
        self._ready = False
        self._pid = 0

    @property
    def is_running(self) -> bool:
        """True while the server's process is there and has answered once."""
        process = self._process
        return self._ready and process is not None and process.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id of the server, None when there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def home(self) -> Path | None:
        """The folder that lives as long as the server; None when there is none."""
        return self._home

    def url(self) -> str:
        """Return the address of the API, having started the server where it does not run.

        Blocks until the server answers; several threads may call it at once.

        Raises
        ------
        ServerError
            When the server ends before it answers, or does not answer in time.
        """
        with self._lock:
            if not self.is_running or not _health(self._port):
                self._stop()
                self._start()
            return f"http://127.0.0.1:{self._port}/api"

    def stop(self) -> None:
        """End the server, if it runs, once it has been told what happened until now."""
        with self._lock:
            if self.is_running and self._pid == os.getpid():
                leave_server(_LAST_EVENTS)
            self._stop()

    def _start(self) -> None:
        keep_loopback_off_proxies()
        log = ""
        for _ in range(5):
            # The same port again, where it is free: Prefect's event client holds on to its address.
            self._port = free_port(self._port)
            self._spawn()
            log = self._wait()
            if not log:
                self._ready = True
                return
            self._stop()
            if "already in use" not in log:
                break
            self._port = 0
        raise ServerError(
            f"the private Prefect server did not start: {log} Run again, or start one yourself "
            "that stays, with 'pulpo prefect start'."
        )

    def _spawn(self) -> None:
        home = Path(tempfile.mkdtemp(prefix="pulpo-prefect-"))
        command = [sys.executable, "-c", _CHILD, "server", "start", "--no-ui"]
        with (home / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--host", "127.0.0.1", "--port", str(self._port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(home),
                cwd=home,
                # Jupyter interrupts the kernel's whole process group; the server is not meant.
                start_new_session=True,
            )
        self._home = home
        if not self._pid:
            # Registered before Prefect's own, hence called after it has sent its last events.
            atexit.register(self._stop)
        self._pid = os.getpid()

    def _wait(self) -> str:
        """Wait until the server answers; return "" then, and what went wrong otherwise."""
        process = self._process
        assert process is not None
        end = time.monotonic() + self._patience
        while time.monotonic() < end:
            if process.poll() is not None:
                return f"it ended with code {process.returncode}.{self._tail()}"
            if _health(self._port):
                return ""
            time.sleep(0.1)
        return f"it did not answer within {self._patience:.0f} seconds.{self._tail()}"

    def _tail(self) -> str:
        assert self._home is not None
        return end_of_log(self._home / "server.log")

    def _stop(self) -> None:
        process, home = self._process, self._home
        self._process = self._home = None
        self._ready = False
        if process is None or self._pid != os.getpid():  # a fork of ours must not end it
            return
        if process.stdin is not None:
            process.stdin.close()  # the child ends by itself, and removes its home
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if home is not None:
            shutil.rmtree(home, ignore_errors=True)


_shared = PrivateServer()


def shared() -> PrivateServer:
    """Return the one server of this process."""
    return _shared


# --- The server that is kept ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptServer:
    """The server that ``pulpo prefect start`` keeps, as its state file tells.

    Parameters
    ----------
    port
        On 127.0.0.1.
    pid, token
        Its process: the token stands in the command line of that process and of no other, so an id
        that the system gave to somebody else is told.
    since
        When it was started, in ISO 8601 with the offset from UTC.
    database
        The URL of its database, with its password; ``"memory"`` when nothing stays.
    ui
        Whether it serves Prefect's pages.
    version
        Prefect's version.
    """

    port: int
    pid: int
    token: str
    since: str
    database: str
    ui: bool
    version: str

    @property
    def address(self) -> str:
        """Where its pages are: ``http://127.0.0.1:4200``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address of its API."""
        return f"{self.address}/api"

    @property
    def is_running(self) -> bool:
        """True while its process is there; costs microseconds."""
        import psutil

        try:
            return self.token in psutil.Process(self.pid).cmdline()  # a zombie has none
        except psutil.Error:
            return False

    @property
    def answers(self) -> bool:
        """True when it answers now."""
        return _health(self.port)


def find_kept() -> KeptServer | None:
    """Return the server that is kept if it runs and answers, else None."""
    kept = kept_server()
    if kept is None or not kept.is_running or not kept.answers:
        return None
    keep_loopback_off_proxies()
    return kept


def kept_server() -> KeptServer | None:
    """Return what the state file tells, None when there is none or it cannot be understood."""
    try:
        told = json.loads((state_folder() / _STATE).read_text("utf-8"))
        kept = KeptServer(**told)
    except (OSError, ValueError, TypeError):
        return None
    kinds = {name: type(value).__name__ for name, value in asdict(kept).items()}
    return kept if kinds == KeptServer.__annotations__ and kept.pid > 0 and kept.token else None


def remember_kept(kept: KeptServer) -> None:
    """Write the state file, whole or not at all, for this user's eyes alone."""
    folder = state_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder, prefix=f"{_STATE}.")  # of mode 0600
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(kept), file, indent=2)
        os.replace(name, folder / _STATE)
    except BaseException:
        os.unlink(name)
        raise


def forget_kept(kept: KeptServer) -> None:
    """Remove the state file, unless it tells of another server by now."""
    if kept_server() == kept:
        (state_folder() / _STATE).unlink(missing_ok=True)


def state_folder() -> Path:
    """Return the folder of this user where pulpo keeps what outlives a session."""
    from .settings import load_settings

    return load_settings().state_dir.expanduser().absolute()


_STATE = "prefect.json"


# --- What both need -------------------------------------------------------------------------------


def _environment(home: Path) -> dict[str, str]:
    idle = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _IDLE_SERVICES}
    # A database in a file collides under concurrent subflows, each time for seconds.
    migrated = {"PULPO_MIGRATED": str(state_folder() / f"prefect-{version('prefect')}.db")}
    return private_environment(home, "sqlite+aiosqlite:///:memory:") | idle | migrated


def private_environment(home: Path, database: str) -> dict[str, str]:
    """Return the environment for a server that takes over nothing and sends nothing anywhere."""
    inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith("PREFECT_")}
    return {
        **inherited,
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": database,
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_CLI_PROMPT": "false",
    }


def end_of_log(path: Path, lines: int = 8) -> str:
    """Return the last lines of a log, as the end of a message."""
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    tail = [line.rstrip() for line in text.split("\n") if line.strip()][-lines:]
    return " The end of its log:\n  " + "\n  ".join(tail) + "\n" if tail else ""


def leave_server(seconds: float) -> None:
    """Have Prefect send what it holds back, and connect anew for what comes later.

    Its one event client keeps the address that it was made with. It would try for minutes to tell a
    server that is gone, and tell the next one nothing.

    Parameters
    ----------
    seconds
        How long that may take.
    """
    worker = sys.modules.get("prefect.events.worker")
    if worker is not None:
        sending = Thread(target=worker.EventsWorker.drain_all, kwargs={"timeout": seconds})
        sending.start()
        sending.join()


@contextmanager
def without_server() -> Iterator[None]:
    """Have Prefect give up what it holds back for a server that is gone, and what comes meanwhile.

    It would try for minutes to deliver it, at the latest when the process ends.
    """
    worker = sys.modules.get("prefect.events.worker")
    if worker is None:
        yield
        return
    clients = sys.modules["prefect.events.clients"]
    worker.EventsWorker.set_client_override(clients.NullEventsClient)
    try:
        _give_up(worker.EventsWorker._instances)
        yield
        _give_up(worker.EventsWorker._instances)
    finally:
        worker.EventsWorker.set_client_override(None)


def _give_up(services: dict[int, Any]) -> None:
    # Prefect can only drain its services (all of them are in one table); their tasks end at once.
    log = logging.getLogger("prefect._internal.concurrency")
    log.disabled = True
    with suppress(AttributeError):  # another version of Prefect: then it takes its minutes
        ending = [each for each in services.values() if each._task is not None]
        for each in ending:
            each._loop.call_soon_threadsafe(each._task.cancel)
        end = time.monotonic() + 1
        while not all(each._done_event.is_set() for each in ending) and time.monotonic() < end:
            time.sleep(0.02)
    log.disabled = False


_turned_to = ""


def turn_to(url: str) -> None:
    """Have Prefect's event client connect anew when the server is another than at the last run."""
    global _turned_to
    if _turned_to not in ("", url):
        leave_server(2.0)
    _turned_to = url


def free_port(wanted: int) -> int:
    """Return this port of 127.0.0.1 if it is free, and any that is free otherwise."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerError("no port on 127.0.0.1 is free for a Prefect server.")


def _health(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == 200
    except (HTTPException, OSError):
        return False
    finally:
        connection.close()


def keep_loopback_off_proxies() -> None:
    """Add 127.0.0.1 to what is reached without a proxy."""
    # Prefect's clients honour HTTP_PROXY, even for the server on this machine.
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        if "127.0.0.1" not in hosts and (hosts or name == "no_proxy"):
            if not hosts:
                hosts = [host for host in os.environ.get("NO_PROXY", "").split(",") if host]
            os.environ[name] = ",".join([*hosts, "127.0.0.1"])
