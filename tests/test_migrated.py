"""A private server's database: migrated once for each version of Prefect, then copied."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pulpo.prefect_server import PrivateServer, state_folder

pytestmark = [pytest.mark.slow, pytest.mark.prefect]

_MAKES = """
import asyncio, sys
from pathlib import Path
from pulpo.migrated import use

use(Path(sys.argv[1]))

async def main():
    from prefect.server.database import provide_database_interface
    from sqlalchemy import text

    database = provide_database_interface()
    await database.create_db()
    async with (await database.engine()).connect() as connection:
        tables = await connection.execute(text("SELECT name FROM sqlite_master"))
        print(*sorted(name for name, in tables))
        print((await connection.execute(text("SELECT count(*) FROM flow_run"))).scalar())

asyncio.run(main())
"""


def made(copy: Path, home: Path) -> set[str]:
    """Return the tables of a database that Prefect made in a process of its own."""
    env = {name: value for name, value in os.environ.items() if name[:7] != "PREFECT"}
    done = subprocess.run(
        [sys.executable, "-c", _MAKES, str(copy)],
        env={
            **env,
            "PREFECT_HOME": str(home),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///:memory:",
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tables, count = done.stdout.split("\n")[:2]
    assert count == "0"
    return set(tables.split())


def test_a_copy_is_left_and_used_and_a_damaged_one_is_replaced(tmp_path: Path) -> None:
    copy = tmp_path / "of a user" / "prefect.db"
    copy.parent.mkdir()
    copy.write_bytes(b"not a database")
    migrated = made(copy, tmp_path)
    assert {"flow_run", "task_run", "alembic_version"} <= migrated
    with closing(sqlite3.connect(copy)) as file:
        kept = {name for (name,) in file.execute("SELECT name FROM sqlite_master")}
        assert kept == migrated
        file.execute("CREATE TABLE of_the_copy (x)")
        file.commit()
    assert made(copy, tmp_path) == migrated | {"of_the_copy"}
    assert [path.name for path in copy.parent.iterdir()] == ["prefect.db"]


def test_a_private_server_leaves_a_copy_for_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULPO_STATE_DIR", str(tmp_path / "state"))
    server = PrivateServer()
    try:
        server.url()
    finally:
        server.stop()
    [copy] = state_folder().iterdir()
    assert copy.name.startswith("prefect-")
    with closing(sqlite3.connect(copy)) as file:
        assert file.execute("SELECT count(*) FROM flow_run").fetchone() == (0,)
