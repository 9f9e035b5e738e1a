"""One private Prefect server for a session: a child process that ends with this one."""

from __future__ import annotations

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Lock, Thread

from .errors import ServerError

__all__ = ["PrivateServer", "shared"]

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
            if not self.is_running or not _answers(self._port):
                self._stop()
                self._start()
            return f"http://127.0.0.1:{self._port}/api"

    def stop(self) -> None:
        """End the server, if it runs, once it has been told what happened until now."""
        with self._lock:
            if self.is_running and self._pid == os.getpid():
                _send_last_events()
            self._stop()

    def _start(self) -> None:
        _keep_loopback_off_proxies()
        log = ""
        for _ in range(5):
            # The same port again, where it is free: Prefect's event client holds on to its address.
            self._port = _free_port(self._port)
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
            "with 'prefect server start' and set PREFECT_API_URL to its address."
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
            if _answers(self._port):
                return ""
            time.sleep(0.1)
        return f"it did not answer within {self._patience:.0f} seconds.{self._tail()}"

    def _tail(self) -> str:
        assert self._home is not None
        lines = (self._home / "server.log").read_text("utf-8", "replace").split("\n")
        tail = [line.rstrip() for line in lines if line.strip()][-8:]
        return " The end of its log:\n  " + "\n  ".join(tail) + "\n" if tail else ""

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


def _environment(home: Path) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith("PREFECT_")}
    idle = {f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _IDLE_SERVICES}
    return {
        **inherited,
        **idle,
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # A database in a file collides under concurrent subflows, each time for seconds.
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///:memory:",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_CLI_PROMPT": "false",
    }


def _send_last_events() -> None:
    """Have Prefect send what it holds back, and connect anew for what comes later.

    Its one event client keeps the address that it was made with. It would try for minutes to tell a
    server that is gone, and tell the next one nothing.
    """
    worker = sys.modules.get("prefect.events.worker")
    if worker is not None:
        sending = Thread(target=worker.EventsWorker.drain_all, kwargs={"timeout": _LAST_EVENTS})
        sending.start()
        sending.join()


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ServerError("no port on 127.0.0.1 is free for the private Prefect server.")


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/health")
        return connection.getresponse().status == 200
    except (HTTPException, OSError):
        return False
    finally:
        connection.close()


def _keep_loopback_off_proxies() -> None:
    # Prefect's clients honour HTTP_PROXY, even for the server on this machine.
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host for host in os.environ.get(name, "").split(",") if host]
        if "127.0.0.1" not in hosts and (hosts or name == "no_proxy"):
            if not hosts:
                hosts = [host for host in os.environ.get("NO_PROXY", "").split(",") if host]
            os.environ[name] = ",".join([*hosts, "127.0.0.1"])
