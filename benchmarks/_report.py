"""RESULTS.md: each script has a part of its own, under a heading of the first level."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from _peers import installed

RESULTS = Path(__file__).with_name("RESULTS.md")


def write_part(title: str, parts: Sequence[str]) -> None:
    """Write a script's part, and leave those of the others as they are."""
    text = RESULTS.read_text("utf-8") if RESULTS.is_file() else ""
    found = re.split(r"^# (.+)\n", text, flags=re.MULTILINE)[1:]
    known = dict(zip(found[::2], map(str.strip, found[1::2]), strict=True))
    known[title] = "\n\n".join(parts)
    whole = "\n\n".join(f"# {name}\n\n{body}" for name, body in sorted(known.items()))
    RESULTS.write_text(f"{whole}\n", "utf-8")


def circumstances(script: str, distributions: Mapping[str, str]) -> str:
    """Say by what, and with which versions, a part was written."""
    known = [f"{label} {installed(n) or '(not installed)'}" for label, n in distributions.items()]
    return (
        f"Written by `benchmarks/{script}`. {platform.python_implementation()} "
        f"{platform.python_version()}, {os.cpu_count()} cores; {', '.join(known)}."
    )
