"""Exports and modules become cells; what they export again is the same, byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from test_magics import Notebook, bare  # noqa: F401 - bare is a fixture

from pulpo.errors import ExportError, UnknownNameError, UsageError
from pulpo.loading import cells_of_export, flag_line
from pulpo.magics.arguments import parse_operation
from pulpo.operations import options_from_flags
from pulpo.plan import Node, TaskOptions
from pulpo.session import current

#: Runs cells in a fresh process, as a notebook does, and prints what they print and the last value.
RUN = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in json.load(sys.stdin):
    done = shell.run_cell(cell, store_history=True)
    error = done.error_before_exec or done.error_in_exec
    if error is not None:
        sys.exit(f"{cell}\\n{type(error).__name__}: {error}")
"""
JOBS = '''
"""Jobs, in a module."""

from dataclasses import dataclass

import pulpo
from pulpo import operation as op


@dataclass
class Seed:
    n: int


# makes a seed
@op(name="mod.seed", retries=1, tags=["a", "b"])
def seed(n: int = 3) -> Seed:
    return Seed(n)


@pulpo.operation(name="mod.more")
async def more(seed: Seed) -> "Grown":
    return Grown(seed.n + 1)


@dataclass
class Grown:
    n: int


if __name__ == "__main__":
    print(more)
'''


def run(cells: list[str], folder: Path, *, fails: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(["%load_ext pulpo", *cells]),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stderr if fails else done.stdout


def tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(files)}


def cells_in(path: Path) -> list[str]:
    book = nbformat.read(path, as_version=4)
    nbformat.validate(book)
    return [cell.source for cell in book.cells if cell.cell_type == "code"]


@pytest.fixture
def shell(bare: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Notebook:  # noqa: F811
    """A shell with pulpo, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    bare.run("%load_ext pulpo")
    return bare


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "jobs_to_load.py").write_text(JOBS.lstrip())
    yield tmp_path / "jobs_to_load.py"
    sys.modules.pop("jobs_to_load", None)


# --- There and back -------------------------------------------------------------------------------

PLAIN = [
    "import math\nfrom collections import Counter\n\nfrom pydantic import BaseModel",
    'RATE = 1.5  # euros\n\nclass Raw(BaseModel):\n    """Found."""\n    texts: list[str]',
    "class Jobs(BaseModel):\n    texts: list[str]\n    rate: float = RATE",
    "def clean(text: str) -> str:\n    # strip it\n    return text.strip()",
    "%%operation scraping.fetch --retries 2 --retry-delay 1.5 --tags web\n# fetches\n"
    'def fetch(query: str = "python") -> Raw:\n    """Fetch jobs."""\n'
    '    return Raw(texts=[query, "Go"])',
    "%%operation scraping.merge\ndef merge(raw: Raw) -> Jobs:\n"
    "    return Jobs(texts=[clean(text) for text in raw.texts])",
    "%%operation analysis.count --outputs Counted --cache inputs --after scraping.fetch\n"
    "async def merge(jobs: Jobs) -> Counter:\n    return Counter(jobs.texts)\n\n\n# its last words",
]
# Stand-ins for pulpo, an operation that is an object, one of a module, text that looks like magics.
TRAPS = [
    "from __future__ import annotations\nimport functools\nimport random\nimport pulpo\n"
    "from typing import Annotated\nfrom pulpo import Model\nfrom jobs_to_load import Seed, seed",
    'Raw = Annotated[dict, Model("Raw")]\nClean = Annotated[dict, pulpo.Model("Clean")]',
    "WHO = str(random.random())",
    '%%operation a.fetch --description "it\'s a text # with hash" --tags "one two" --tags three\n'
    "def fetch(seed: Seed) -> Raw:\n    '''Doc\n    %magic and !bang\n%pulpo run\n    '''\n"
    "    display(seed)\n    return {'n': seed.n, 'who': WHO}",
    "class Tool:\n    def __init__(self, by: int) -> None:\n        self.by = by\n"
    "    def __call__(self, raw: Raw) -> Clean:\n        return {**raw, 'by': self.by}\n"
    "tool = Tool(2)\n"
    'pulpo.operation(name="a.tool", description="line one\\nline two")(tool)',
    "def twice(f):\n    @functools.wraps(f)\n    def inner(*args):\n        return f(*args)\n"
    "    return inner",
    "from dataclasses import dataclass\n@dataclass\nclass Total:\n    n: int",
    "%%operation b.count --timeout 2.5\n@twice\ndef count(clean: Clean) -> Total:\n"
    "    return Total(len(clean))",
    "%%operation b.say --in total:Total --bind total=b.count --out text:str\ntext = str(total.n)",
    "%%operation b.x --inputs Total --outputs Out\ndef count(value):\n    return value",
    '%%operation c.y --inputs "list[Total]"\ndef collect(values):\n    return values',
]
#: A function that is needed before its turn, and one that was defined again before a newer one.
ORDER = [
    "from typing import NewType\nA = NewType('A', int)\nB = NewType('B', int)",
    "%%operation one\ndef make(n: int = 1) -> A:\n    return A(n)",
    "%%operation two\ndef grow(a: A) -> B:\n    return B(a + len(TABLE))",
    "TABLE = [grow]",
    "%%operation two\ndef grow(a: A) -> B:\n    return B(a + len(TABLE))",
    "%%operation three\ndef make(b: B) -> int:\n    return b",
    "%%operation one\ndef make(n: int = 1) -> A:\n    return A(n)",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cells", "flags"),
    [(PLAIN, ""), (PLAIN, "--flat --runner threads"), (TRAPS, "--freeze WHO"), (ORDER, "")],
    ids=["plain", "flat", "traps", "order"],
)
def test_what_is_loaded_and_exported_again_is_the_same(
    cells: list[str], flags: str, tmp_path: Path, jobs: Path
) -> None:
    assert jobs.exists()
    run([*cells, f"%pulpo export {flags}"], tmp_path)
    first = tree(tmp_path / "run_cache")
    command = [sys.executable, "-m", "pulpo.cli", "load"]
    said = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert "run_cache.ipynb" in said.stdout
    if flags:
        assert f"Export it as it was: %pulpo export {flags}\n" in said.stdout

    loaded = cells_in(tmp_path / "run_cache.ipynb")
    assert loaded[0] == "%load_ext pulpo"
    assert sum(cell.startswith("%%operation") for cell in loaded) >= 3
    (tmp_path / "run_cache").rename(tmp_path / "before")
    run([*loaded[1:], f"%pulpo export {flags}"], tmp_path)
    assert tree(tmp_path / "run_cache") == first

    (tmp_path / "run_cache").rename(tmp_path / "second")
    run(["%pulpo load before", f"%pulpo export {flags}"], tmp_path)
    assert tree(tmp_path / "run_cache") == first


@pytest.mark.slow
def test_cells_are_what_a_person_would_write(tmp_path: Path) -> None:
    run([*PLAIN, "%pulpo export"], tmp_path)
    run(["%pulpo load -o again.ipynb"], tmp_path)
    assert cells_in(tmp_path / "again.ipynb") == [
        "%load_ext pulpo",
        "from collections import Counter\nfrom pydantic import BaseModel",
        "RATE = 1.5  # euros",
        'class Raw(BaseModel):\n    """Found."""\n    texts: list[str]',
        *PLAIN[2:4],
        PLAIN[4].replace("--retries 2 --retry-delay 1.5 --tags web",
                         "--tags web --retries 2 --retry-delay 1.5"),
        PLAIN[5],
        PLAIN[6].replace("\n\n\n#", "\n#"),
    ]  # fmt: skip
    written = (tmp_path / "again.ipynb").read_bytes()
    run(["%pulpo load -o again.ipynb --force"], tmp_path)
    assert (tmp_path / "again.ipynb").read_bytes() == written


def test_an_edited_export_is_loaded_as_it_is_now(shell: Notebook, tmp_path: Path) -> None:
    run([*PLAIN, "%pulpo export"], tmp_path)
    file = tmp_path / "run_cache/operations.py"
    file.write_text(file.read_text().replace("RATE = 1.5", "RATE = 2.5"))
    answer = shell.run("%pulpo load")
    assert "edited by hand" in answer.text
    assert shell.names["RATE"] == 2.5


# --- Modules --------------------------------------------------------------------------------------


def test_a_module_becomes_cells(shell: Notebook, jobs: Path) -> None:
    answer = shell.run(f"%pulpo load {jobs.name}")
    assert [line for line in answer.text.splitlines() if line] == [
        # What cells print comes first here, what they display after it.
        "2 operations of jobs_to_load loaded",
        "note: 'if __name__ == \"__main__\":' is left out: in a notebook it would run",
        "mod.seed: seed(n: int = 3) -> Seed",
        "mod.more: async more(seed: Seed) -> Grown",
    ]
    assert [o.cell for o in current().operations] == ["cell 2", "cell 2"]
    assert [o.options.retries for o in current().operations] == [1, 0]
    assert shell.names["seed"]().n == 3
    assert "jobs_to_load" not in sys.modules
    assert shell.run("%pulpo load jobs_to_load").error is None  # the same again

    shell.run("%pulpo load jobs_to_load -o jobs.ipynb")
    book = nbformat.read("jobs.ipynb", as_version=4)
    assert book.cells[0].source == "Jobs, in a module."
    assert cells_in(Path("jobs.ipynb"))[3] == (
        "%%operation mod.seed --tags a --tags b --retries 1\n# makes a seed\n"
        "def seed(n: int = 3) -> Seed:\n    return Seed(n)"
    )


def test_what_other_code_of_a_module_declares_is_counted_and_told(
    shell: Notebook, tmp_path: Path
) -> None:
    text = """
        import pulpo

        @pulpo.operation(name="one")
        def one() -> int: return 1

        if True:
            @pulpo.operation(name="two")
            def two() -> int: return 2

        HERE = __import__("os").path.dirname(__file__)
        """
    (tmp_path / "pulpo_mixed.py").write_text(textwrap.dedent(text))
    answer = shell.run("%pulpo load pulpo_mixed.py -o mixed.ipynb")
    assert answer.text.splitlines() == [
        "2 operations of pulpo_mixed written to mixed.ipynb, as 4 cells",
        "note: declared by the module's own code, which is as it was: 'two'",
        "note: line 11 uses '__file__', which a notebook does not have: write the path",
    ]
    path = [*sys.path]
    answer = shell.run("%pulpo load pulpo_mixed.py")
    assert "'__file__' is not defined" in str(answer.error)
    assert answer.text == f"UsageError: {answer.error}"  # once, and nothing of what was undone
    assert current().operations == []
    assert sys.path == path


def test_an_export_can_be_loaded_into_the_session_that_made_it(
    shell: Notebook, tmp_path: Path
) -> None:
    for cell in ["from __future__ import annotations", *PLAIN, "%pulpo export"]:
        assert shell.run(cell).error is None
    for _ in range(2):
        assert shell.run("%pulpo load").error is None
    assert [o.name for o in current().operations] == [
        "scraping.fetch",
        "scraping.merge",
        "analysis.count",
    ]


def test_relative_imports_are_spelled_out(
    shell: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "pulpo_shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "models.py").write_text("from typing import NewType\nA = NewType('A', int)\n")
    text = """
        from .models import A  # the model
        import pulpo

        @pulpo.operation(name="shop.make")
        def make(n: int = 1) -> A:
            from . import models
            return models.A(n)
        """
    (package / "flows.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        answer = shell.run("%pulpo load pulpo_shop/flows.py -o flows.ipynb")
        assert answer.error is None
    finally:
        for name in [name for name in sys.modules if name.startswith("pulpo_shop")]:
            del sys.modules[name]
    assert "run it where 'pulpo_shop' can be imported" in answer.text
    assert cells_in(Path("flows.ipynb"))[1:] == [
        "from pulpo_shop.models import A  # the model",
        "%%operation shop.make\ndef make(n: int = 1) -> A:\n"
        "    from pulpo_shop import models\n    return models.A(n)",
    ]


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("%pulpo load", UnknownNameError, "no export in run_cache/"),
        ("%pulpo load nothere", UnknownNameError, "no export and no module 'nothere'"),
        ("%pulpo load there.py", UnknownNameError, "no file or folder 'there.py'"),
        ("%pulpo load a.ipynb", UsageError, "is a notebook"),
        ("%pulpo load plain.py", UsageError, "declares no operation"),
        ("%pulpo load broken.py", UsageError, "No module named 'nowhere_at_all'"),
        ("%pulpo load folder", UnknownNameError, "name one of its modules"),
        ("%pulpo load pydantic", UsageError, "no single module"),
        ("%pulpo load plain.py -o x.txt", UsageError, "-o takes a notebook"),
        ("%pulpo load plain.py -o there.ipynb", UsageError, "is there already"),
    ],
)
def test_what_cannot_be_loaded_leaves_all_as_it_was(
    shell: Notebook, tmp_path: Path, line: str, kind: type, words: str
) -> None:
    (tmp_path / "plain.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text(
        'import pulpo\n@pulpo.operation(name="z")\ndef z() -> int: ...\nimport nowhere_at_all\n'
    )
    (tmp_path / "folder").mkdir()
    (tmp_path / "there.ipynb").write_text("mine")
    shell.run("%%operation a\ndef f() -> int:\n    return 1")
    before = (dict(shell.names), current().operations)
    answer = shell.run(line)
    assert isinstance(answer.error, kind)
    assert words in str(answer.error)
    assert current().operations == before[1]
    assert {n: v for n, v in shell.names.items() if not n.startswith("_")} == {
        n: v for n, v in before[0].items() if not n.startswith("_")
    }
    assert (tmp_path / "there.ipynb").read_text() == "mine"


def test_names_of_the_session_are_not_given_another_meaning_unasked(
    shell: Notebook, jobs: Path
) -> None:
    shell.run("Seed = 3")
    answer = shell.run(f"%pulpo load {jobs.name}")
    assert isinstance(answer.error, UsageError)
    assert "'Seed'" in str(answer.error)
    assert shell.names["Seed"] == 3
    assert shell.run(f"%pulpo load {jobs.name} --force").error is None
    assert shell.names["Seed"](4).n == 4


def test_names_of_ipython_and_of_comprehensions_are_no_names_of_the_session(
    shell: Notebook, tmp_path: Path
) -> None:
    cells = [
        "from functools import singledispatch\n@singledispatch\ndef show(x): return 'any'\n"
        "@show.register\ndef _(x: int): return 'int'",
        "class Out:\n    size = 2",
        "PAIRS = [[0 for _ in range(2)] for part in range(Out.size)]",
        "%%operation a.b\ndef b(n: int = 1) -> str:\n    return show(n) + str(len(PAIRS))",
        "%pulpo export",
    ]
    run(cells, tmp_path)
    shell.run("part = 3\n1 + 1")
    assert shell.run("%pulpo load").error is None
    assert shell.names["part"] == 3
    assert shell.names["b"]() == "int2"


def test_a_cell_that_fails_undoes_those_before_it(shell: Notebook, tmp_path: Path) -> None:
    run([*PLAIN, "%pulpo export"], tmp_path)
    file = tmp_path / "run_cache/operations.py"
    file.write_text(file.read_text().replace("texts: list[str]\n    rate", "texts: Nope\n    rate"))
    answer = shell.run("%pulpo load")
    assert isinstance(answer.error, UsageError)
    assert "'class Jobs(BaseModel):' failed: NameError" in str(answer.error)
    assert "Raw" not in shell.names
    assert current().operations == []
    shell.run("class Raw: ...")
    assert [one.binds for one in current().recorder.by_name["Raw"]] == [("Raw",)]


def test_an_operation_without_its_source_is_left_out_and_told() -> None:
    text = 'def f(): ...\n\n\nOPERATIONS = {\n    "a": f,\n    "b": _no_source("b"),\n}\n'
    cells = cells_of_export(text, [Node("a", "f"), Node("b", "g")], "there")
    assert cells.operations == ("a",)
    assert cells.notes == ("operation 'b' was exported without its source: left out",)
    with pytest.raises(ExportError, match="no operation 'c'"):
        cells_of_export(text, [Node("c", "f")], "there")
    with pytest.raises(ExportError, match="names 'f' as the function of operation 'a', and does"):
        cells_of_export(text.replace("def f", "def g"), [Node("a", "f")], "there")
    with pytest.raises(ExportError, match=r"the source of there cannot be read: .* \(line 1\)"):
        cells_of_export("def f(:\n", [], "there")
    with pytest.raises(ExportError, match="no table OPERATIONS"):
        cells_of_export("x = 1\n", [], "there")


# --- Flags ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"description": 'it\'s "both" # and \\ more', "tags": ("a b", "c'd")},
        {"description": "-begins with a hyphen"},
        {"retries": 3, "retry_delay": 0.1, "timeout": 1e-7, "cache": "1.5h"},
        {"after": ("a.b", "c"), "bind": (("x", "a.b"), ("x", "c"))},
        {"strategy": "process", "max_concurrency": 4, "on_element_error": "skip"},
        {"tags": tuple(f"a tag that is long {n}" for n in range(9))},
    ],
)
def test_flags_say_what_was_declared(options: dict[str, Any]) -> None:
    wanted = TaskOptions(**options)
    declared = (("inputs", ("Raw", "list[Jobs]")), ("outputs", ("Jobs",)))
    line = flag_line(Node("a.b", "f", options=wanted, declared=declared))
    assert line is not None
    assert all(len(row) <= 100 for row in f"%%operation {line}".split("\n"))
    flags = parse_operation(line.replace(" \\\n    ", " ")).flags
    assert flags.pop("inputs") == ("Raw", "list[Jobs]")
    assert flags.pop("outputs") == ("Jobs",)
    assert options_from_flags(flags) == wanted


@pytest.mark.parametrize(
    ("options", "declared"),
    [
        ({"tags": ("a,b",)}, ()),
        ({"tags": (" a",)}, ()),
        ({"description": "two\nlines"}, ()),
        ({}, (("outputs", ()),)),
        ({}, (("inputs", ("dict[str, Jobs]",)),)),
    ],
)
def test_what_flags_cannot_say_is_left_to_a_call(
    options: dict[str, Any], declared: tuple[tuple[str, tuple[str, ...]], ...]
) -> None:
    assert flag_line(Node("a", "f", options=TaskOptions(**options), declared=declared)) is None


def test_a_name_that_an_import_gives_again_is_the_same(shell: Notebook) -> None:
    shell.run("import math, json\nfrom os import path, sep")
    shell.run(
        "%%operation root\ndef root(n: float = 4) -> str:\n"
        "    return f'{math.sqrt(n)}{sep}{path.sep}'"
    )
    shell.run("%pulpo export")
    assert "1 operation" in shell.run("%pulpo load").text
