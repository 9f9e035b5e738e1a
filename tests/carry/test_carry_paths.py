"""What a text looks for in the folder that it is run in is told, where something is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from .notebook import Notebook

LOOKED_FOR = "is looked for in the folder that the export is run in, not beside the notebook"
MEANS = "means the folder that the export is run in, not that of the notebook"
IMPORTS = (
    "import glob, os\nfrom glob import iglob\nfrom pathlib import Path\nimport pandas as pd\n"
    "BASE = '.'\nDATA = 'data'\nENV = 'dev'\nDIR = '/tmp'"
)
# How the operation reads, what is told, and how that goes on.
TOLD = {
    "a file": ("open('rows.csv')", "'rows.csv'", LOOKED_FOR),
    "a folder": ("Path('data')", "'data'", LOOKED_FOR),
    "a folder by a name": ("os.path.join(DATA, n)", "'data'", LOOKED_FOR),
    "a pattern": ("glob.glob('*.csv')", "'*.csv'", LOOKED_FOR),
    "a pattern of an import": ("iglob('data/*.json')", "'data/*.json'", LOOKED_FOR),
    "a name that is put together": ("open(f'conf_{n}.txt')", "f'conf_{n}.txt'", LOOKED_FOR),
    "in a folder that is put together": (
        "pd.read_csv(f'data/{n}/rows.csv')",
        "f'data/{n}/rows.csv'",
        LOOKED_FOR,
    ),
    "with a name of the session": ("open(f'{DATA}/{n}')", "f'{DATA}/{n}'", LOOKED_FOR),
    "a name that is put together for a path": (
        "Path(f'conf_{n}.txt').read_text()",
        "f'conf_{n}.txt'",
        LOOKED_FOR,
    ),
    "the folder": ("os.listdir('.')", "os.listdir('.')", MEANS),
    "the folder by nothing": ("os.scandir()", "os.scandir()", MEANS),
    "all below the folder": ("list(os.walk('.'))", "os.walk('.')", MEANS),
    "a path of the folder": ("list(Path('.').glob('*.csv'))", "Path('.')", MEANS),
    "an empty path": ("list(Path().rglob('*.csv'))", "Path()", MEANS),
    "beside the folder": ("Path('..') / n", "Path('..')", MEANS),
    "a name of the folder": (
        "os.path.isfile(os.path.join(BASE, n))",
        "os.path.join(BASE, n)",
        MEANS,
    ),
    "where it is": ("os.getcwd()", "os.getcwd()", MEANS),
    "where it is, as a path": ("Path.cwd() / n", "Path.cwd()", MEANS),
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").touch()
    (tmp_path / "conf_dev.txt").touch()
    (tmp_path / "data" / "one").mkdir(parents=True)
    (tmp_path / "data" / "rows.json").touch()
    (tmp_path / "data" / "one" / "rows.csv").touch()


@pytest.mark.parametrize("name", TOLD)
def test_what_is_looked_for_where_the_export_runs_is_told(name: str) -> None:
    used, shown, how = TOLD[name]
    told = Notebook(IMPORTS, f"def op(n='x'): return {used}").carry("op").warnings
    assert told == (f"{shown} (in 'op') {how}",)


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("folder='data'", f"'data' (in 'op') {LOOKED_FOR}"),
        ("*, data_dir: str = 'data'", f"'data' (in 'op') {LOOKED_FOR}"),
        ("path='.'", f"'.' (in 'op') {MEANS}"),
    ],
)
def test_a_folder_that_is_a_default_is_told(parameter: str, said: str) -> None:
    assert Notebook(f"def op({parameter}): return 1").carry("op").warnings == (said,)


@pytest.mark.parametrize(
    "operation",
    [
        "def op(): return glob.glob('/tmp/*.csv'), glob.glob('*.nothing')",
        "def op(folder): return list(Path(folder).glob('*.csv')), os.listdir(folder)",
        "def op(): return glob.glob('*.csv', root_dir='/tmp')",
        "def op(n): return open(f'/tmp/{n}.txt'), open(f'{n}.txt'), open(f'{DIR}/{n}')",
        "def op(n): return open(f'other_{n}.txt', 'w')",
        "def op(n): return pd.read_csv(f'https://example.org/{n}.csv'), f'conf_{n}.txt'",
        "def op(): return os.listdir('/'), os.path.join('a', '.'), '.'.join(['data'])",
        "def op(kind='data', sep='.'): return kind, os.environ.get('data')",
        "def op(own): return own.getcwd(), own.cwd(), own.listdir('.')",
        "def op(): return ' '.join(['rows', '*.csv'])",
    ],
)
def test_what_names_no_file_of_the_folder_is_not_told(operation: str) -> None:
    told = Notebook(IMPORTS, operation).carry("op").warnings
    assert [one for one in told if LOOKED_FOR in one or MEANS in one] == []


# --- Pickles of what the notebook defines ---------------------------------------------------------


@pytest.mark.parametrize("read", ["pickle.loads(Path(NAME).read_bytes())", "load(NAME)"])
def test_a_pickle_of_the_notebook_s_class_is_told(
    read: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    book = Notebook(
        "import pickle\nfrom pathlib import Path\nNAME = 'model.pkl'\nclass Model: pass\n"
        "def load(name):\n    with open(name, 'rb') as file: return pickle.load(file)",
        f"def op() -> Model: return {read}",
    )
    says = "'model.pkl' (in 'NAME') is a pickle of what the notebook defines"
    for value, expected in (("[1, 2]", 0), ("Model()", 1)):
        book.run(f"Path(NAME).write_bytes(pickle.dumps({value})) and None")
        warnings = book.carry("op").warnings
        assert sum(one.startswith(says) for one in warnings) == expected


def test_a_file_that_only_looks_like_a_pickle_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.txt").write_text("if __name__ == '__main__'")
    book = Notebook("def op(): return open('page.txt').read(), 'download'")
    assert not any("pickle" in one for one in book.carry("op").warnings)
