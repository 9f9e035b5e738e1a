"""A real kernel, driven as a notebook's frontend does it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

__all__ = ["SECONDS", "Kernel", "plain", "started"]

SECONDS = 120


class Kernel:
    """A kernel and its client; `run` gives a cell's outputs."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    def send(self, cell: str, *, identity: str = "") -> str:
        content = {
            "code": textwrap.dedent(cell).strip(),
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        metadata = {"cellId": identity} if identity else {}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        self.client.shell_channel.send(message)
        return str(message["header"]["msg_id"])

    def outputs(self, request: str) -> list[dict[str, Any]]:
        found = []
        while True:
            message = self.client.get_iopub_msg(timeout=SECONDS)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["content"].get("execution_state") == "idle":
                return found
            if message["msg_type"] not in ("status", "execute_input"):
                found.append({"type": message["msg_type"], **message["content"]})

    def run(self, cell: str, *, identity: str = "") -> list[dict[str, Any]]:
        return self.outputs(self.send(cell, identity=identity))

    def text(self, cell: str, *, identity: str = "") -> str:
        return "\n".join(plain(output) for output in self.run(cell, identity=identity)).strip()


def plain(output: dict[str, Any]) -> str:
    if output["type"] == "error":
        return f"{output['ename']}: {output['evalue']}"
    return str(output.get("text", "") or output.get("data", {}).get("text/plain", ""))


@contextmanager
def started(env: Mapping[str, str], folder: Path) -> Iterator[Kernel]:
    """Start a kernel in a folder, and end it afterwards."""
    manager = KernelManager()
    manager.start_kernel(env=dict(env), cwd=str(folder))
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=SECONDS)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
