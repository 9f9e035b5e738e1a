"""Who may import whom: the table is the architecture, and changing it changes the design."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "pulpo"
ROOT = Path(__file__).parent.parent / PACKAGE


class Room(NamedTuple):
    """What a module, or a folder of modules, may import."""

    rooms: str = ""
    libraries: str = ""


BELOW_SESSION = (
    "errors engines names models operations registry dataflow plan compiler backends carry checks "
    "exports loading parameters runner settings reports changes runs run_logs reuse "
    "prefect_server"
)
# Every other room's errors reach the front ends too, and settings has its own to raise.
FRONT_END = "session errors"
# "backends.dot" goes before "backends"; modules of one folder may import each other. A room that
# is not built yet may stand here; a module that does not stand here fails.
TABLE = {
    "": Room(BELOW_SESSION + " session cli magics widgets"),
    "__main__": Room("cli"),
    "errors": Room(),
    "engines": Room(),
    "names": Room("errors"),
    "models": Room("errors", "pydantic"),
    # The task options of an operation go into the plan as they are.
    "operations": Room("names models plan errors"),
    "registry": Room("names operations errors"),
    "dataflow": Room("names models operations errors", "networkx"),
    # A plan carries its problems, and a Problem is as plain as a plan.
    "plan": Room("engines errors"),
    "compiler": Room("names operations dataflow plan errors", "networkx"),
    "backends": Room("plan errors"),
    # Identifiers are spelled by the same rule as the names of flows.
    "backends.flow_code": Room("names plan errors"),
    "backends.render": Room("plan errors", "graphviz pygraphviz"),
    # Nothing that looks like a credential goes into what people store and send.
    "backends.document": Room("plan carry errors", "pydantic"),
    # The text of an export's own helper: it has to run where pulpo is not installed.
    # (cloudpickle comes with Prefect.)
    "backends.prefect_runtime": Room("", "prefect pydantic cloudpickle"),
    "carry": Room("errors", "IPython pydantic"),
    # What a session should hear of itself, which takes its operations, its plan and its record.
    "checks": Room("names models operations plan carry errors"),
    # Not "export": `pulpo.export` is the function.
    "exports": Room("plan backends carry errors"),
    # Modules and exports come back as cells; both are read here.
    "loading": Room("plan operations registry backends carry exports errors", "nbformat"),
    # A report is JSON too, and what changed comes as an answer.
    "reports": Room("plan backends errors", "pygments"),
    "changes": Room("backends carry reports"),
    "runs": Room("errors plan backends reuse", "pandas"),
    # What calls gave, by their inputs; Prefect's storage keeps it.
    "reuse": Room("", "prefect"),
    "run_logs": Room("runs"),
    # How the engine without Prefect, which knows of plans and functions alone, tells its run.
    "local_runs": Room("plan backends runs run_logs errors"),
    "run_view": Room("runs backends"),
    "parameters": Room("models plan errors", "pydantic"),
    "threads": Room(),
    # What Prefect imports draws random numbers.
    "seeds": Room(),
    # In the process of a private server.
    "migrated": Room("", "prefect"),
    # Here, not in services: a run has to find the server that is kept.
    "prefect_server": Room("settings errors", "psutil"),
    "runner": Room(
        "models plan parameters backends runs run_logs local_runs reuse seeds threads "
        "prefect_server errors",
        "prefect anyio httpx",
    ),
    "settings": Room("errors", "pydantic pydantic_settings platformdirs"),
    "session": Room(BELOW_SESSION, "IPython"),
    "services": Room(
        "session settings prefect_server errors",
        "prefect fastapi uvicorn httpx asyncpg psutil sqlalchemy",
    ),
    # `pulpo clean` needs no session.
    "cli": Room(
        FRONT_END + " services settings exports loading",
        "typer click rich nbclient nbformat traitlets",
    ),
    "magics": Room(FRONT_END + " run_view", "IPython traitlets"),
    # The panel says what the session answers in its own HTML, with the pictures of the cells.
    "widgets": Room(
        FRONT_END + " settings plan reports backends runs run_view parameters",
        "IPython ipywidgets anywidget traitlets",
    ),
}

# Seconds to import, so `import pulpo` and `%load_ext pulpo` must do without them.
SLOW = {"prefect", "networkx", "graphviz", "pygraphviz", "ipywidgets", "anywidget", "matplotlib"}
SLOW |= {"pandas", "numpy", "fastapi", "typer", "rich", "nbclient", "nbformat", "httpx"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One imported module, by its full name, and whether importing the file runs it."""

    target: str
    line: int
    eager: bool


@cache
def modules() -> dict[str, Path]:
    """Every module of the package, by its name below the package ("" is the package itself)."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source: str, module: str, *, is_package: bool, known: set[str]) -> list[Import]:
    """All imports in a text, in functions and under TYPE_CHECKING too, relative ones made full."""
    here = [PACKAGE, *module.split(".")] if module else [PACKAGE]
    base = here if is_package else here[:-1]
    found = []
    for node, eager in _walk(ast.parse(source), eager=True):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = base[: len(base) - node.level + 1] if node.level else []
            prefix = ".".join([*parent, *([node.module] if node.module else [])])
            # `from . import names` brings a module, `from .names import parse` a name of one.
            whole = [f"{prefix}.{alias.name}" for alias in node.names]
            targets = [full if full in known else prefix for full in whole]
        else:
            continue
        found += [Import(target=to, line=node.lineno, eager=eager) for to in dict.fromkeys(targets)]
    return found


def _walk(node: ast.AST, *, eager: bool) -> Iterator[tuple[ast.AST, bool]]:
    yield node, eager
    lazy = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    for name, value in ast.iter_fields(node):
        typing_only = isinstance(node, ast.If) and name == "body" and _is_type_checking(node.test)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _walk(child, eager=eager and not lazy and not typing_only)


def _is_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


@cache
def imports(module: str) -> list[Import]:
    path = modules()[module]
    known = {f"{PACKAGE}.{name}" for name in modules() if name}
    return imports_of(
        path.read_text(encoding="utf-8"),
        module,
        is_package=path.name == "__init__.py",
        known=known,
    )


def room_of(module: str) -> str | None:
    """The row of the table that a module belongs to: the longest that is a prefix of its name."""
    parts = module.split(".")
    prefixes = (".".join(parts[:size]) for size in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in TABLE), None)


def own_module(target: str) -> str | None:
    """The name below the package, or None for a library."""
    if target == PACKAGE:
        return ""
    return target.removeprefix(f"{PACKAGE}.") if target.startswith(f"{PACKAGE}.") else None


def complaint(module: str, found: Import) -> str | None:
    """Why a module may not have this import, or None."""
    room = room_of(module)
    if room is None:
        return None
    allowed = TABLE[room]
    target = own_module(found.target)
    if target is None:
        library = found.target.split(".")[0]
        fine = library in sys.stdlib_module_names or library in allowed.libraries.split()
        return None if fine else f"may not import the library {library}"
    there = room_of(target)
    top = (there or "").split(".")[0]
    same_folder = top == room.split(".")[0] and room != "backends.prefect_runtime"
    if same_folder or {there, top} & set(allowed.rooms.split()):
        return None
    return f"may not import {found.target}"


def test_every_module_has_a_row_in_the_table() -> None:
    assert [module for module in modules() if room_of(module) is None] == []


def test_every_row_speaks_of_rooms_that_have_a_row() -> None:
    spoken = {name for room in TABLE.values() for name in room.rooms.split()}
    assert spoken <= set(TABLE)


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_its_row_allows(module: str) -> None:
    wrong = [(found, complaint(module, found)) for found in imports(module)]
    assert [f"{module}:{found.line} {text}" for found, text in wrong if text] == []


def test_the_rows_make_no_circle() -> None:
    """The face names the front ends, and nobody names the face, so the rest is a DAG."""
    for name, room in TABLE.items():
        if name in ("", "__main__"):
            continue
        for other in room.rooms.split():
            assert not _leads_to(other, name), f"{name} and {other} may import each other"


def _leads_to(start: str, goal: str) -> bool:
    todo, seen = [start], set()
    while todo:
        name = todo.pop()
        if name == goal:
            return True
        if name not in seen:
            seen.add(name)
            todo += TABLE[name].rooms.split()
    return False


CASES = [
    ("import json", "json", True),
    ("import pulpo.names", "pulpo.names", True),
    ("from . import names", "pulpo.names", True),
    ("from .names import parse", "pulpo.names", True),
    ("from ..names import parse", "pulpo.names", True),
    ("def f():\n    import prefect", "prefect", False),
    ("async def f():\n    from prefect.client import x", "prefect.client", False),
    ("if TYPE_CHECKING:\n    import prefect", "prefect", False),
    ("if TYPE_CHECKING:\n    pass\nelse:\n    import prefect", "prefect", True),
    ("try:\n    import prefect\nexcept ImportError:\n    pass", "prefect", True),
    ("class A:\n    import prefect", "prefect", True),
]


@pytest.mark.parametrize(("source", "target", "eager"), CASES)
def test_the_reader_sees_imports_wherever_they_stand(source: str, target: str, eager: bool) -> None:
    module = "backends.dot" if ".." in source else "session"
    known = {"pulpo.names", "pulpo.session", "pulpo.backends"}
    found = imports_of(source, module, is_package=False, known=known)
    assert [(one.target, one.eager) for one in found] == [(target, eager)]


@pytest.mark.parametrize(
    ("module", "target"),
    [
        ("plan", "pulpo.names"),
        ("names", "prefect"),
        ("backends.dot", "pulpo.dataflow"),
        ("backends.prefect_runtime", "pulpo.plan"),
        ("backends.prefect_runtime", "pulpo.backends.dot"),
        ("magics.line", "pulpo.compiler"),
        ("session", "pulpo.magics"),
        ("carry.record", "pulpo"),
    ],
)
def test_a_forbidden_import_is_told(module: str, target: str) -> None:
    assert complaint(module, Import(target=target, line=1, eager=True))


def reached_by_import() -> set[str]:
    """The modules that `import pulpo` runs."""
    todo, seen = [""], set()
    while todo:
        module = todo.pop()
        if module in seen or module not in modules():
            continue
        seen.add(module)
        eager = (own_module(found.target) for found in imports(module) if found.eager)
        todo += [target for target in eager if target is not None]
    return seen


def test_import_pulpo_reaches_no_slow_library() -> None:
    slow = [
        f"{module}:{found.line} {found.target}"
        for module in sorted(reached_by_import())
        for found in imports(module)
        if found.eager and found.target.split(".")[0] in SLOW | {"IPython"}
    ]
    assert slow == []


def run_python(code: str, env: dict[str, str]) -> str:
    run = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:pulpo", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**env, "COLUMNS": "80"},
        cwd=env["HOME"],
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


REPORT = f"print(sorted(set({sorted(SLOW)!r}) & sys.modules.keys()))"


def test_import_pulpo_loads_no_slow_library(private_env: dict[str, str]) -> None:
    loaded = run_python(
        f"import sys, pulpo\n{REPORT}\nprint('IPython' in sys.modules)", private_env
    )
    assert loaded.splitlines() == ["[]", "False"]


def test_load_ext_loads_no_slow_library(private_env: dict[str, str]) -> None:
    code = f"""
import sys
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
before = set(sys.modules)
shell.run_line_magic("load_ext", "pulpo")
assert "pulpo" in sys.modules
print(sorted(set({sorted(SLOW)!r}) & (sys.modules.keys() - before)))
print(shell.find_cell_magic("operation") is not None)
shell.history_manager.end_session()
"""
    assert run_python(code, private_env).splitlines()[-2:] == ["[]", "True"]


def modules_with_all() -> list[str]:
    found = [name for name, path in modules().items() if "__all__" in path.read_text("utf-8")]
    return [PACKAGE] + [f"{PACKAGE}.{name}" for name in found if name]


@pytest.mark.parametrize("name", modules_with_all())
def test_every_name_in_all_exists(name: str) -> None:
    module = importlib.import_module(name)
    listed = module.__all__
    assert len(set(listed)) == len(listed), "a name stands twice in __all__"
    assert [entry for entry in listed if not hasattr(module, entry)] == []


REFERENCE = [
    "operation",
    "OperationRegistry",
    "HierarchyParser",
    "DataFlowAnalyzer",
    "DataFlowGraph",
    "OrchestrationCompiler",
    "Orchestration",
    "FlowDefinition",
    "SyncAsyncDetector",
    "PrefectCodeGenerator",
    "CLI",
]


@pytest.mark.parametrize("name", REFERENCE)
def test_the_names_of_the_reference_design_are_importable(name: str) -> None:
    pulpo = importlib.import_module(PACKAGE)
    assert hasattr(pulpo, name)
    assert name in pulpo.__all__


def test_the_package_ships_its_type_marker() -> None:
    assert (ROOT / "py.typed").exists()
    assert os.fspath(ROOT) == os.path.dirname(importlib.import_module(PACKAGE).__file__ or "")
