"""Starts, stops and describes the Prefect server that is kept across sessions."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Literal

from ..errors import MissingProgramError, ServerError, SettingsError, UsageError
from ..prefect_server import (
    PATIENCE,
    KeptServer,
    end_of_log,
    forget_kept,
    free_port,
    keep_loopback_off_proxies,
    kept_server,
    private_environment,
    remember_kept,
    state_folder,
)

__all__ = ["MEMORY", "Status", "log_file", "restart", "start", "status", "stop"]

Say = Callable[[str], None]

#: Prefect's own port, taken where it is free.
_PORT = 4200
#: Stands for a database that ends with the server.
MEMORY = "memory"
#: Seconds that a server has to end by itself.
_GRACE = 15.0
_CHILD = Path(__file__).with_name("prefect_child.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is known of the server that is kept; it is JSON too.

    Parameters
    ----------
    health
        ``"ok"``, ``"no answer"`` when its process is there, ``"stopped"`` when there is none.
    address, api
        Of its pages and of its API; empty when there is none, as all below.
    pid
        0 when there is none.
    database
        Its URL without the password.
    """

    health: Literal["ok", "no answer", "stopped"]
    address: str = ""
    api: str = ""
    ui: bool = False
    pid: int = 0
    database: str = ""
    since: str = ""
    version: str = ""
    log: str = ""

    def __str__(self) -> str:
        if self.health == "stopped":
            return "No Prefect server of pulpo's is running. Start one with 'pulpo prefect start'."
        rows = {name: str(value) for name, value in asdict(self).items() if name != "ui"}
        rows["address"] += "" if self.ui else " (without pages: --no-ui)"
        rows["since"] = self.since.replace("T", " ")
        return "\n".join(f"{name:<8}  {value}" for name, value in rows.items())

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {"running": self.health != "stopped", **asdict(self)}


def start(
    *,
    port: int | None = None,
    database: str | None = None,
    ui: bool = True,
    say: Say = print,
    patience: float = PATIENCE,
) -> tuple[Status, bool]:
    """Start a server that outlives this process, unless one runs; return it, and whether it is new.

    Parameters
    ----------
    port
        4200, or any that is free when that is taken, where left out.
    database
        An SQLAlchemy URL of SQLite or PostgreSQL, or ``"memory"``; a file in the state folder
        where left out.
    ui
        Whether it serves Prefect's pages.
    say
        Told what is happening, when it takes longer than a second.
    patience
        Seconds until a start is given up.

    Raises
    ------
    UsageError
        For a port or database that makes no sense, or when the server that runs has another.
    ServerError
        When the port is taken, or the server ends before it answers.
    SettingsError
        When the state folder cannot be made.
    """
    url = _checked_database(database)
    if port is not None and not 0 < port < 65536:
        raise UsageError(f"--port {port}: a port is a number from 1 to 65535.")
    keep_loopback_off_proxies()
    with _alone(say):
        kept = kept_server()
        if kept is not None and kept.is_running:
            _refuse_another(kept, port, url if database else None)
            if not kept.answers:
                _wait(kept, say, patience)  # whoever started it did not live to see it
            return status(), False
        kept = KeptServer(
            port=_choose_port(port),
            pid=0,
            token=secrets.token_hex(16),
            since=datetime.now().astimezone().isoformat(timespec="seconds"),
            database=url,
            ui=ui,
            version=version("prefect"),
        )
        kept = _spawn(kept)
        try:
            remember_kept(kept)
            _wait(kept, say, patience)
        except BaseException:  # an interrupt, too
            _end(kept)
            forget_kept(kept)
            raise
    return status(), True


def stop() -> Status:
    """Stop the server that `start` started, and nothing else; return what it was.

    Raises
    ------
    ServerError
        When its process id is another process by now, or it cannot be ended.
    """
    kept = kept_server()
    if kept is None:
        return Status(health="stopped")
    was = _described(kept)
    if not kept.is_running:
        forget_kept(kept)
        if _exists(kept.pid):
            raise ServerError(
                f"the Prefect server at {kept.address} is gone, and its process id {kept.pid} "
                "belongs to another process by now, which was left alone. Nothing needs stopping."
            )
        return Status(health="stopped")
    _end(kept)
    forget_kept(kept)
    return was


def restart(
    *,
    port: int | None = None,
    database: str | None = None,
    ui: bool | None = None,
    say: Say = print,
) -> Status:
    """Stop the server, if it runs, and start it with what it had, but for what is given here.

    Raises
    ------
    UsageError, ServerError
        As `start` and `stop` do.
    """
    kept = kept_server()
    database = database or (kept.database if kept is not None else None)
    _checked_database(database)
    if kept is not None:
        if kept.is_running:
            stop()
        port = port or free_port(kept.port)
        ui = kept.ui if ui is None else ui
    return start(port=port, database=database, ui=ui is not False, say=say)[0]


def status() -> Status:
    """Return what is known of the server that is kept."""
    kept = kept_server()
    if kept is None or not kept.is_running:
        return Status(health="stopped")
    return _described(kept)


def log_file() -> Path:
    """Return where the server's log is, whether it runs or not."""
    return state_folder() / "prefect.log"


def _described(kept: KeptServer) -> Status:
    return Status(
        health="ok" if kept.answers else "no answer",
        address=kept.address,
        api=kept.url,
        ui=kept.ui,
        pid=kept.pid,
        database=_without_password(kept.database),
        since=kept.since,
        version=kept.version,
        log=str(log_file()),
    )


# --- The process ----------------------------------------------------------------------------------

#: Those that this process started; collected, one that runs would be complained of.
_children: list[subprocess.Popen[bytes]] = []


def _spawn(kept: KeptServer) -> KeptServer:
    folder = state_folder()
    home = folder / "prefect"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    command = [sys.executable, "-P", str(_CHILD), kept.token, "server", "start"]
    command += ["--host", "127.0.0.1", "--port", str(kept.port), "--ui" if kept.ui else "--no-ui"]
    handle = os.open(log_file(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(handle, "wb") as log:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(kept, home),
            cwd=home,
            start_new_session=True,  # it outlives the terminal, and Ctrl-C there is not meant
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    _children.append(child)
    return KeptServer(**(asdict(kept) | {"pid": child.pid}))


def _environment(kept: KeptServer, home: Path) -> dict[str, str]:
    from sqlalchemy.engine import make_url

    database = "sqlite+aiosqlite:///:memory:"
    if kept.database != MEMORY:
        url = make_url(kept.database)
        if url.get_backend_name() == "sqlite":
            url = url.update_query_pairs([("plugin", "pulpo_one")])
        database = url.render_as_string(hide_password=False)
    return {
        **private_environment(home, database),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(kept.port),
        "PREFECT_SERVER_UI_API_URL": kept.url,
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # Prefect would write them into its own package.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
    }


def _wait(kept: KeptServer, say: Say, patience: float) -> None:
    """Wait until the server answers."""
    begun, told = time.monotonic(), 0.0
    while not kept.answers:
        seconds = time.monotonic() - begun
        if not kept.is_running:
            raise ServerError(f"the Prefect server ended before it answered.{_end_of_log(kept)}")
        if seconds > patience:
            raise ServerError(
                f"the Prefect server did not answer within {patience:.0f} seconds."
                f"{_end_of_log(kept)}"
            )
        if not told and seconds > 1:
            say(f"Prefect's server is starting on port {kept.port}; that takes up to half a minute")
            told = seconds
        elif told and seconds > told + 30:
            say(f"still starting, after {seconds:.0f} seconds")
            told = seconds
        time.sleep(0.1)


def _end(kept: KeptServer) -> None:
    """End the server's process, and see it gone."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(kept.pid)
        if kept.is_running:
            process.terminate()
            try:
                process.wait(_GRACE)
            except psutil.TimeoutExpired:
                process.kill()
                process.wait(_GRACE)
    for child in [child for child in _children if child.pid == kept.pid]:
        child.poll()
        _children.remove(child)


def _end_of_log(kept: KeptServer) -> str:
    from sqlalchemy.engine import make_url

    text = end_of_log(log_file(), 12)
    password = None if kept.database == MEMORY else make_url(kept.database).password
    return text.replace(str(password), "***") if password else text


def _exists(pid: int) -> bool:
    import psutil

    return bool(psutil.pid_exists(pid))


# --- What is asked for ----------------------------------------------------------------------------


def _checked_database(given: str | None) -> str:
    """Return the URL of the database, in full."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    if given == MEMORY:
        return MEMORY
    if given is None:
        return f"sqlite+aiosqlite:///{(state_folder() / 'prefect' / 'prefect.db').as_posix()}"
    forms = (
        "It is postgresql+asyncpg://user:password@host/name, sqlite+aiosqlite:////path/file.db, "
        "or memory."
    )
    try:
        url = make_url(given)
    except ArgumentError:
        raise UsageError(f"--database is no URL of a database. {forms}") from None
    if url.drivername not in ("postgresql+asyncpg", "sqlite+aiosqlite"):
        raise UsageError(f"--database cannot be {url.drivername!r} for Prefect. {forms}")
    if url.drivername == "postgresql+asyncpg" and find_spec("asyncpg") is None:
        raise MissingProgramError("PostgreSQL needs asyncpg: pip install 'pulpo[postgres]'.")
    if url.drivername == "sqlite+aiosqlite":
        if not url.database or ":memory:" in url.database:
            return MEMORY
        url = url.set(database=Path(url.database).expanduser().absolute().as_posix())
    return url.render_as_string(hide_password=False)


def _without_password(database: str) -> str:
    from sqlalchemy.engine import make_url

    return database if database == MEMORY else make_url(database).render_as_string()


def _refuse_another(kept: KeptServer, port: int | None, database: str | None) -> None:
    """Raise when what is asked for is not what runs."""
    other = []
    if port is not None and port != kept.port:
        other.append(f"on port {kept.port}")
    if database is not None and database != kept.database:
        other.append(f"on {_without_password(kept.database)}")
    if other:
        raise UsageError(
            f"a server runs already, {' and '.join(other)}. 'pulpo prefect restart' takes the same "
            "options, and replaces it."
        )


def _choose_port(wanted: int | None) -> int:
    if wanted is None:
        return free_port(_PORT)
    if _taken(wanted):
        raise ServerError(
            f"port {wanted} of 127.0.0.1 is taken by another program. Give another --port, or none "
            "at all: then one that is free is chosen."
        )
    return wanted


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


@contextmanager
def _alone(say: Say) -> Iterator[None]:
    """Let no two processes start a server at once; the second finds what the first started."""
    folder = state_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"the folder for the server's state cannot be made: {error}. PULPO_STATE_DIR names "
            "another."
        ) from None
    with (folder / "prefect.lock").open("wb") as file:
        _lock(file, say)
        yield


def _lock(file: IO[bytes], say: Say) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        say("another process is starting the server; waiting for it")
        fcntl.flock(file, fcntl.LOCK_EX)
