"""Runs as a script: a Prefect server whose SQLite file has a single connection.

Its first argument is the token by which the process is told from others; the rest is Prefect's. Its
pages may talk to this server alone.
"""

from __future__ import annotations

import functools
import gc
import os
import runpy
import sys
from typing import Any

import uvicorn
from sqlalchemy.dialects import plugins
from sqlalchemy.engine import URL, CreateEnginePlugin
from sqlalchemy.pool import AsyncAdaptedQueuePool


class OneConnection(CreateEnginePlugin):
    """Gives an engine one connection, as Prefect does for a database in memory.

    With several, transactions that read first and write then collide in a file ("database is
    locked"), and each collision costs Prefect's clients seconds. Prefect has no setting for it;
    this is SQLAlchemy's way to add to an engine, named in the URL: ``?plugin=pulpo_one``.
    """

    def __init__(self, url: URL, kwargs: dict[str, Any]) -> None:
        super().__init__(url, kwargs)
        # What Prefect gives a database in memory.
        kwargs |= {"poolclass": AsyncAdaptedQueuePool, "pool_size": 1, "max_overflow": 0}

    def update_url(self, url: URL) -> URL:
        """Take our word out of the URL."""
        return url.difference_update_query(["plugin"])


def content_policy(port: str) -> str:
    """Return what a browser may load and call from Prefect's pages.

    They would call an analytics service from the browser, whatever the server's settings say.
    """
    hosts = ("127.0.0.1", "localhost")
    own = " ".join(f"http://{host}:{port} ws://{host}:{port}" for host in hosts)
    return f"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob: {own}"


def main() -> None:
    """Become ``prefect server start …``."""
    policy = content_policy(os.environ["PREFECT_SERVER_API_PORT"])
    uvicorn.run = functools.partial(uvicorn.run, headers=[("Content-Security-Policy", policy)])
    sys.modules["pulpo_one"] = sys.modules[__name__]
    plugins.register("pulpo_one", "pulpo_one", "OneConnection")
    gc.set_threshold(50_000, 20, 20)  # the start is mostly imports: a tenth of it was collections
    sys.argv[:] = ["prefect", *sys.argv[2:]]
    runpy.run_module("prefect", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
