"""Runs in a private Prefect server: its database in memory comes from a copy, already migrated.

Prefect makes a new database by all of its migrations, one by one, which is nearly half of the time
that a private server takes to start. What they give is the same each time.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

__all__ = ["use"]


def use(copy: Path) -> None:
    """Have Prefect take a new database from a copy, and leave one there where none is.

    Parameters
    ----------
    copy
        An SQLite file, for this version of Prefect alone.
    """
    from prefect.server.database import interface

    database_of: Any = interface.PrefectDBInterface
    migrate = database_of.run_migrations_upgrade

    async def upgrade(database: Any) -> None:
        if not await _is_restored(database, copy):
            await migrate(database)
            await _save(database, copy)

    database_of.run_migrations_upgrade = upgrade


async def _is_restored(database: Any, copy: Path) -> bool:
    try:
        with closing(_opened(copy)) as source:
            if source.execute("PRAGMA quick_check").fetchone() != ("ok",):
                return False
            if not source.execute("SELECT version_num FROM alembic_version").fetchone():
                return False
            await _with_connection(database, source.backup)
    except Exception:  # there is none, or it is damaged: the migrations do it
        return False
    return True


async def _save(database: Any, copy: Path) -> None:
    new = copy.with_name(f"{copy.name}.{os.getpid()}")
    with suppress(Exception):  # the next one takes its time, too
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            with closing(sqlite3.connect(new, check_same_thread=False)) as target:
                await _with_connection(database, lambda own: own.backup(target))
            new.replace(copy)
        finally:
            new.unlink(missing_ok=True)


def _opened(copy: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{copy.as_uri()}?mode=ro", uri=True, check_same_thread=False)


async def _with_connection(database: Any, work: Callable[[sqlite3.Connection], object]) -> None:
    """Call ``work`` with the one connection of a database in memory, in its own thread."""
    engine = await database.engine()
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        await driver._execute(work, driver._conn)  # aiosqlite has no other way to write into it
