"""Write docs/plan.md from the classes that it documents: ``python scripts/plan_page.py``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pulpo.backends.document import HIDDEN, SCHEMA, Manifest, describe, lasting, plain
from pulpo.compiler import compile_plan
from pulpo.operations import make_operation
from pulpo.reports import Change, Diff, FileChange

PAGE = Path(__file__).parent.parent / "docs/plan.md"

HEAD = f"""# The plan as JSON

<!-- Written by scripts/plan_page.py from pulpo/backends/document.py; edit those. -->

The plan is what Pulpo makes of a session before it writes code, draws or runs: operations, edges,
flows, problems. As JSON it can be read by other programs, kept, and compared.

| | |
|---|---|
| in a notebook | `%pulpo compile --json`, or `pulpo.compile().document().text()` |
| in a terminal | `pulpo compile --json [SOURCE]...` (with `--dry-run` it writes no export) |
| of an export | `manifest.json`, under `plan` |
| its JSON Schema | `PlanDocument.model_json_schema()` |
| back into Python | `PlanDocument.model_validate_json(text)` |

`PlanDocument` and `Manifest` are pydantic models in `pulpo.backends.document`.

What readers may rely on:

- Equal sessions give equal bytes: the order of keys and lists is fixed, and there are no times,
  ids or paths. An export leaves out, besides, where an operation was declared, what is stale, and
  the problems, so that running a cell once more changes nothing in it.
- A field without a default is always there. One that has a default is left out while it has that.
- `schema_version` is {SCHEMA}. It is raised when a key goes or changes its meaning. A new key with
  a default does not raise it: ignore keys that you do not know.
- What looks like a credential is not there: the text that holds it is `{HIDDEN}`.

"""

DIFF = """## What `diff --json` says

`pulpo diff --json` compares the session with the last export. `-` is the export, `+` the session.
The exit status is 0 when nothing differs, and 1 when something does.

"""

DIFF_FIELDS = {
    "differs": "Whether anything below is a difference; notes are none.",
    "folder": "The export folder, as it was called.",
    "exported": "Whether there is an export in it.",
    "operations": "The operations that are other than there.",
    "edges": "The edges that came or went.",
    "flows": "The flows that are other than there.",
    "files": "The files that an export would write otherwise.",
    "edited": "Files that were changed by hand since the export.",
    "deleted": "Files that were deleted by hand since the export.",
    "refused": "Why the session cannot be exported as it is; no file is compared then.",
    "notes": "What else there is to know.",
}
CHANGE_FIELDS = {
    "kind": "added, removed or changed.",
    "name": "The operation or flow; the edge, written as source -[model]-> target(port).",
    "details": "What it is or was; for what changed, what of it. For people to read.",
}
FILE_FIELDS = {
    "kind": "added, removed or changed.",
    "name": "Its path in the export folder.",
    "lines": "Its unified diff, without lines that look like credentials.",
}


def page() -> str:
    """Return the text of docs/plan.md."""
    schema = Manifest.model_json_schema()
    definitions = schema["$defs"]
    order = _order("PlanDocument", definitions)
    parts = [HEAD, "## An example\n\n", _example()]
    for name in order:
        parts.append(_section(name, definitions[name]))
    parts += [_section("Manifest", schema)]
    parts += [_section(name, part) for name, part in definitions.items() if name not in order]
    parts += [DIFF, _told("Diff", ("differs", *_names(Diff)), DIFF_FIELDS)]
    parts += [_told("Change", _names(Change), CHANGE_FIELDS)]
    parts += [_told("FileChange", _names(FileChange), FILE_FIELDS)]
    return "".join(parts).rstrip() + "\n"


def _names(of: Any) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(of))


def _told(title: str, names: tuple[str, ...], meanings: dict[str, str]) -> str:
    rows = "".join(f"| `{name}` | {meanings[name]} |\n" for name in names)
    return f"### {title}\n\n| key | meaning |\n|---|---|\n{rows}\n"


def _example() -> str:
    scope: dict[str, Any] = {"__name__": "__main__"}
    exec("async def fetch(query: str, pages: int = 3) -> None: ...", scope)
    fetch = make_operation(scope["fetch"], name="scraping.fetch")
    content = plain(describe(lasting(compile_plan([fetch]))))
    content["flows"] = content["flows"][:1]
    text = json.dumps(content, indent=2)
    return (
        f"One operation, `scraping.fetch`, and the flow of its group:\n\n```json\n{text}\n```\n\n"
    )


def _order(root: str, definitions: dict[str, Any]) -> list[str]:
    """Return the parts of a schema, each below the first that speaks of it."""
    found, todo = [root], [root]
    while todo:
        for name in _spoken_of(definitions[todo.pop(0)]):
            if name not in found:
                found.append(name)
                todo.append(name)
    return found


def _spoken_of(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"].rpartition("/")[2]
        for inner in part.values():
            yield from _spoken_of(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _spoken_of(inner)


def _section(name: str, part: dict[str, Any]) -> str:
    required = part.get("required", [])
    rows = "".join(
        f"| `{key}` | {_type(field)} | {_default(field) if key not in required else 'always there'}"
        f" | {_escape(field['description'])} |\n"
        for key, field in part["properties"].items()
    )
    return (
        f"## {name}\n\n{part['description']}\n\n"
        f"| key | type | when left out | meaning |\n|---|---|---|---|\n{rows}\n"
    )


def _escape(text: str) -> str:
    """The one place where text becomes Markdown."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("*", "\\*").replace("|", "\\|")


def _default(field: dict[str, Any]) -> str:
    return f"`{json.dumps(field['default'])}`"


def _type(field: dict[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in field:
            return " or ".join(_type(one) for one in field[several])
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{word}`" for word in field["enum"])
    if field["type"] == "array":
        inner = _type(field["items"])
        return f"list of ({inner})" if " or " in inner else f"list of {inner}"
    if field["type"] == "object":
        return f"object of {_type(field['additionalProperties'])}"
    return str(field["type"])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
