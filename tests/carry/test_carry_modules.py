"""Modules beside the notebook: what an export says of them, needs because of them, or refuses."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulpo import registry
from pulpo.carry import carry, verify
from pulpo.errors import CarryError, NoSourceError

from .notebook import Notebook

Project = Callable[[dict[str, str]], Path]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Write files, by their paths, into a folder that is on ``sys.path``."""
    before = set(sys.modules)
    root = tmp_path / "project"

    def write(files: dict[str, str]) -> Path:
        for name, text in files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()
        return root

    write({})
    monkeypatch.syspath_prepend(str(root))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield write
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def test_what_a_module_imports_has_to_be_there_too(project: Project) -> None:
    root = project(
        {
            "pulpo_steps/__init__.py": "",
            "pulpo_steps/work.py": "import bs4, json\nfrom . import deep\n"
            "from .more import X\ndef never():\n    from . import old\n",
            "pulpo_steps/more.py": "import pulpo_side\nX = 1\n",
            "pulpo_steps/deep/__init__.py": "def f():\n    import httpx\n",
            "pulpo_steps/not_asked_for.py": "import pandas\n",
            "pulpo_steps/old.py": "print 'Python 2'\n",
            "pulpo_side.py": "import typing\nimport pulpo\n"
            "try:\n    import nowhere_at_all\nexcept ImportError:\n    pass\n"
            "if typing.TYPE_CHECKING:\n    import polars\nelse:\n    import yaml\n",
        }
    )
    book = Notebook("from pulpo_steps import work", "def op(): return work.X")
    carried = carry(book.recorder, {"op": book["op"]}, root=root)
    assert carried.packages == ("bs4", "httpx", "pulpo", "yaml")
    assert carried.warnings == (
        "'pulpo_side' is imported, not copied: take pulpo_side.py along with the export",
        "'pulpo_steps' is imported, not copied: take pulpo_steps/ along with the export",
    )


def test_a_module_whose_own_import_stands_elsewhere_is_refused(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far/pulpo_far.py").write_text("Y = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path / "far"))
    root = project({"pulpo_near.py": "import pulpo_far\n"})
    book = Notebook("import pulpo_near", "def op(): return pulpo_near.pulpo_far.Y")
    with pytest.raises(CarryError) as refusal:
        carry(book.recorder, {"op": book["op"]}, root=root)
    assert str(refusal.value) == (
        f"cannot import 'pulpo_far' (used by pulpo_near): it is a module in {tmp_path}/far/"
        "pulpo_far.py, which the export cannot import. Move it beside the notebook, or install it."
    )


def test_a_module_that_was_edited_after_its_import_is_told(project: Project) -> None:
    root = project({"pulpo_steps/__init__.py": "", "pulpo_steps/work.py": "X = 1\n"})
    book = Notebook("import pulpo_steps.work", "def op(): return pulpo_steps.work.X")

    def edited() -> list[str]:
        carried = carry(book.recorder, {"op": book["op"]}, root=root)
        told = verify(carried.text, root, kept=carried.kept)
        return [each.partition(":")[0] for each in told]

    assert edited() == []
    (root / "pulpo_steps/work.py").touch()
    assert edited() == []
    (root / "pulpo_steps/work.py").write_text("# As it was.\nX = 1\n")
    assert edited() == []
    project({"pulpo_steps/work.py": "X = 22\n"})
    assert edited() == [
        "'pulpo_steps.work' was edited after it was imported here, and the export imports it as "
        "it is now"
    ]
    book.run("import importlib\nimportlib.reload(pulpo_steps.work)")
    assert edited() == []
    book.run(
        "from pulpo_steps.work import X",
    )
    book.run("def op(): return X")
    project({"pulpo_steps/work.py": "X = 333\n"})
    book.run("importlib.reload(pulpo_steps.work)")
    assert edited() == ["'X' is not in the export what is here"]


def test_an_edited_module_that_only_a_function_imports_is_told(project: Project) -> None:
    root = project({"pulpo_edited.py": "def f(x): return x * 2\n"})
    book = Notebook(
        "import pulpo_edited", "def op():\n    from pulpo_edited import f\n    return f(2)"
    )
    project({"pulpo_edited.py": "# now\ndef f(x): return x - 2\n"})
    carried = carry(book.recorder, {"op": book["op"]}, root=root)
    [said] = verify(carried.text, root, kept=carried.kept)
    assert said.startswith("'pulpo_edited' was edited after it was imported here")


RENEWED = """
import functools
FACTOR = 2
def plain(f):
    def inner(x): return f(x)
    return inner
def scale(x): return x * FACTOR
@functools.cache
def kept(x): return x + 1
@plain
def wrapped(x): return x + 1
@plain
def same(x): return x + 7
class Base:
    def go(self): return 1
"""
HOLDS_OLD = {
    "an imported function": ("from pulpo_helpers import scale", "scale(2)", "pulpo_helpers.scale"),
    "under another name": (
        "from pulpo_helpers import scale as s",
        "s(2)",
        "pulpo_helpers.scale",
    ),
    "a cached one": ("from pulpo_helpers import kept", "kept(2)", "pulpo_helpers.kept"),
    "a wrapped one": ("from pulpo_helpers import wrapped", "wrapped(2)", "pulpo_helpers.wrapped"),
    "a base": (
        "import pulpo_helpers\nclass My(pulpo_helpers.Base): pass",
        "My().go()",
        "pulpo_helpers.Base",
    ),
    "a default": (
        "import pulpo_helpers\ndef f(x, by=pulpo_helpers.scale): return by(x)",
        "f(2)",
        "pulpo_helpers.scale",
    ),
    "an attribute": (
        "import pulpo_helpers\nclass Table:\n    by = staticmethod(pulpo_helpers.scale)",
        "Table.by(2)",
        "pulpo_helpers.scale",
    ),
}
EDITS = (
    ("x * FACTOR", "x + FACTOR"),
    ("x + 1", "1 - x"),
    ("return 1\n", "return 2\n"),
)


@pytest.mark.parametrize("how", ["reload", "import"])
@pytest.mark.parametrize("case", HOLDS_OLD)
def test_what_holds_a_module_of_before_it_was_loaded_again_is_told(
    project: Project, case: str, how: str
) -> None:
    cell, call, old = HOLDS_OLD[case]
    root = project({"pulpo_helpers.py": RENEWED})
    book = Notebook(cell, f"def op(): return {call}")
    text = RENEWED
    for one, other in EDITS:
        text = text.replace(one, other)
    project({"pulpo_helpers.py": text})
    again = {
        "reload": "import importlib, pulpo_helpers\nimportlib.reload(pulpo_helpers)",
        "import": "import sys\ndel sys.modules['pulpo_helpers']\nimport pulpo_helpers",
    }
    book.run(again[how])

    def told() -> list[str]:
        carried = carry(book.recorder, {"op": book["op"]}, root=root)
        found = [*carried.warnings, *verify(carried.text, root, kept=carried.kept)]
        return [one for one in found if "take pulpo_helpers.py along" not in one]

    names = {n for n, value in book.names.items() if n[0] != "_"} - {"op", "sys", "importlib"}
    [holder] = {one.split("'")[1] for one in told() if " holds " in one}
    assert holder in names
    assert (
        f"{holder!r} (cell 1) holds {old!r} as it was before 'pulpo_helpers' was loaded again, "
        "and the export imports it as it is now: run cell 1 again"
    ) in told()
    book.run(cell)
    assert told() == []


def test_a_module_that_took_from_one_that_was_loaded_again_is_told(project: Project) -> None:
    outer = "from pulpo_inner import f\ndef go(x): return f(x)\n"
    root = project({"pulpo_inner.py": "def f(x): return x * 2\n", "pulpo_outer.py": outer,
                    "pulpo_never.py": "X = 1\n"})  # fmt: skip
    book = Notebook("import importlib, pulpo_inner, pulpo_outer")
    book.run("def op(n=0):\n    if n: import pulpo_never\n    return pulpo_outer.go(2)")
    project({"pulpo_inner.py": "# now\ndef f(x): return x - 2\n"})
    book.run("importlib.reload(pulpo_inner)")
    warnings = carry(book.recorder, {"op": book["op"]}, root=root).warnings
    assert any(
        one.startswith("'pulpo_outer' holds 'pulpo_inner.f' as it was before")
        and "importlib.reload(pulpo_outer)" in one
        for one in warnings
    )
    book.run("importlib.reload(pulpo_outer)")
    warnings = carry(book.recorder, {"op": book["op"]}, root=root).warnings
    assert not any(" holds " in one for one in warnings)


@pytest.mark.parametrize("how", ["kept", "wrapped", "same", "scale"])
def test_a_module_that_was_loaded_again_as_it_was_is_nothing_to_tell(
    project: Project, how: str
) -> None:
    root = project({"pulpo_helpers.py": RENEWED})
    book = Notebook(f"from pulpo_helpers import {how}", f"def op(): return {how}(2)")
    project({"pulpo_helpers.py": RENEWED + "\nMORE = 1\n"})
    book.run("import importlib, pulpo_helpers\nimportlib.reload(pulpo_helpers)")
    carried = carry(book.recorder, {"op": book["op"]}, root=root)
    assert len(carried.warnings) == 1
    assert "take pulpo_helpers.py along" in carried.warnings[0]
    assert verify(carried.text, root, kept=carried.kept) == ()


RATES = """
import functools
@functools.singledispatch
def show(x):
    return "any"
K = 1
CONF = {}
HOOKS = []
class Base:
    kinds = []
    def __init_subclass__(cls):
        Base.kinds.append(cls.__name__)
def conf(n):
    CONF["n"] = n
def hook(f):
    HOOKS.append(f)
    return f
def h(x):
    return x + K
"""


@pytest.mark.parametrize(
    ("cell", "differs"),
    [
        ("vars(pulpo_rates).update(K=30)", "'pulpo_rates.K' is"),
        ("other = pulpo_rates\nother.K = 9", "'pulpo_rates.K' is"),
        ("for n in ['K']: setattr(pulpo_rates, n, 4)", "'pulpo_rates.K' is"),
        (
            "from unittest import mock\nmock.patch.object(pulpo_rates, 'K', 7).start()",
            "'pulpo_rates.K'",
        ),
        ("pulpo_rates.conf(90)", "'pulpo_rates.CONF' is"),
        ("@pulpo_rates.hook\ndef mine(x): return x", "'pulpo_rates.HOOKS' is"),
        ("class Mine(pulpo_rates.Base): pass", "'pulpo_rates.Base.kinds' is"),
        ("import pulpo_plugs", "'pulpo_rates.CONF' is"),
        ("@pulpo_rates.show.register\ndef _(x: int): return 'int'", "'pulpo_rates.show' is"),
        ("other = pulpo_rates\nother.h = lambda x: x * 100", "'pulpo_rates.h' is"),
        ("other = pulpo_rates\nother.h = other.h", ""),
        ("pulpo_rates.K = 50", ""),  # is carried
        ("pulpo_rates.h(3)", ""),
    ],
)
def test_what_cells_did_to_a_module_is_carried_or_told(
    project: Project, cell: str, differs: str
) -> None:
    root = project(
        {"pulpo_rates.py": RATES, "pulpo_plugs.py": "import pulpo_rates as r\nr.conf(1)\n"}
    )
    book = Notebook("import pulpo_rates", cell, "def op(): return pulpo_rates.h(1)")
    carried = carry(book.recorder, {"op": book["op"]}, root=root)
    told = verify(carried.text, root, kept=carried.kept)
    if not differs:
        assert told == ()
    else:
        [warning] = told
        assert warning.startswith(differs)
        assert "not in the export what is here" in warning


MAKERS = """
import pulpo

def plain(f):
    def inner(n: int = 1) -> int:
        return f(n)
    return inner

@pulpo.operation(name="below")
@plain
def below(n: int = 1) -> int:
    return n

@pulpo.operation(name="twice.a")
def same(n: int = 1) -> int:
    return n

@pulpo.operation(name="twice.b")
def same(n: int = 1) -> int:
    return n + 1

@pulpo.operation(name="gone")
def gone(n: int = 1) -> int:
    return n
del gone
"""


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "below",
            r"it was made inside of pulpo_makers\.plain\. Define it at the top .*functools\.wraps",
        ),
        ("twice.a", r"pulpo_makers\.same is something else now\. Give each function .* its own"),
        (
            "gone",
            r"the module pulpo_makers has no gone any more\. Forget it with '%pulpo remove gone'",
        ),
    ],
)
def test_a_module_s_function_without_a_name_of_its_own_is_refused(
    project: Project, name: str, why: str
) -> None:
    root = project({"pulpo_makers.py": MAKERS})
    registry.default_registry().clear()
    importlib.import_module("pulpo_makers")
    operations = {each.name: each.function for each in registry.default_registry().list_all()}
    registry.default_registry().clear()
    with pytest.raises(NoSourceError, match=why):
        carry(Notebook().recorder, {name: operations[name]}, root=root)


STEPS = """
import pulpo
from .models import Clean, Raw
from shared_rates import RATE

@pulpo.operation
def load(n: int = 2) -> Raw:
    return Raw(n=n)

@pulpo.operation(name="parse.clean", retries=1)
def clean(raw: Raw) -> Clean:
    return Clean(n=raw.n * RATE)

def helper(text: str) -> str:
    return text.upper()
"""
CELLS = [
    "%load_ext pulpo",
    "import jobs_project.steps\nfrom jobs_project.models import Clean",
    "from pydantic import BaseModel\nclass Report(BaseModel):\n    text: str",
    "%%operation report.make\ndef make(c: Clean) -> Report:\n"
    "    return Report(text=jobs_project.steps.helper(f'n={c.n}'))",
    "import pulpo\nrun = pulpo.run()\nprint(run['report.make'].model_dump_json())",
    "%pulpo export",
]
RUN = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in {cells!r}:
    shell.run_cell(cell, store_history=True).raise_error()
"""


@pytest.mark.prefect
@pytest.mark.slow
def test_operations_of_modules_and_of_cells_run_together_here_and_there(
    private_env: dict[str, str], tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    (here / "jobs_project").mkdir(parents=True)
    (here / "jobs_project/__init__.py").touch()
    (here / "jobs_project/steps.py").write_text(STEPS)
    (here / "jobs_project/models.py").write_text(
        "from pydantic import BaseModel\n"
        "class Raw(BaseModel):\n    n: int\nclass Clean(BaseModel):\n    n: int\n"
    )
    (here / "shared_rates.py").write_text("RATE = 3\n")

    def run(command: list[str], folder: Path) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=private_env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (here / "cells.py").write_text(RUN.format(cells=CELLS))
    said = run(["cells.py"], here)
    assert '{"text":"N=6"}' in said
    assert "take jobs_project/ along" in said
    assert "take shared_rates.py along" in said
    there.mkdir()
    for name in ("run_cache", "jobs_project", "shared_rates.py"):
        shutil.move(here / name, there / name)
    (tmp_path / "elsewhere").mkdir()
    flow = str(there / "run_cache/orchestration/main_flow.py")
    given = run(["-I", flow, "--n", "2"], tmp_path / "elsewhere")
    assert json.loads(given) == {"text": "N=6"}
