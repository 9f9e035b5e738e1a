"""``--resume`` and ``--changed`` on a real Prefect server, one for the whole file."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_LOCAL_STORAGE_PATH,
    temporary_settings,
)
from recorded import Notebook

from pulpo.errors import MissingInputError, UsageError
from pulpo.prefect_server import PrivateServer
from pulpo.runs import Run

pytestmark = [
    pytest.mark.prefect,
    pytest.mark.slow,
    # Prefect's client leaves a connection to the garbage collector now and then.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = PrivateServer()
    yield server.url()
    server.stop()
    gc.collect()


@contextmanager
def storage(url: str, folder: Path) -> Iterator[None]:
    with temporary_settings({PREFECT_API_URL: url, PREFECT_LOCAL_STORAGE_PATH: folder}):
        yield


@pytest.fixture
def book(url: str, tmp_path: Path) -> Iterator[Notebook]:
    made = Notebook()
    made.cell(
        "from typing import NewType\nUrls = NewType('Urls', list)\nRaw = NewType('Raw', dict)\n"
        "Clean = NewType('Clean', dict)\nScore = NewType('Score', int)\nK = 2"
    )
    made.cell("def times(n):\n    return n * K")
    made.operation("load.fetch", "def fetch(n: int = 3) -> Raw:\n    return Raw({'xs': [n]})")
    made.operation(
        "load.clean",
        "def clean(raw: Raw) -> Clean:\n    return Clean({'xs': [times(x) for x in raw['xs']]})",
    )
    made.operation("score", "def score(clean: Clean) -> Score:\n    return Score(sum(clean['xs']))")
    with storage(url, tmp_path):
        yield made


def ran(book: Notebook, **how: Any) -> tuple[list[str], Run]:
    """Run, and return the short names of the operations that were called."""
    done = book.session.run(**how)
    called = [name for name, each in done.operations.items() if each.attempts]
    return [name.rpartition(".")[2] for name in called], done


def test_changed_runs_what_has_other_code_parameters_or_inputs(book: Notebook) -> None:
    assert ran(book, changed=True)[0] == ["fetch", "clean", "score"]
    called, done = ran(book, changed=True)
    assert called == []
    assert set(done.states.values()) == {"cached"}
    assert (done.state, done["score"], done.inputs("score")) == (
        "done", 6, {"clean": {"xs": [6]}},
    )  # fmt: skip
    assert ran(book, changed=True, parameters={"n": 4})[0] == ["fetch", "clean", "score"]
    assert ran(book, changed=True)[0] == []
    book.cell("K = 3")
    called, done = ran(book, changed=True)
    assert (called, done["score"]) == (["clean", "score"], 9)
    # Another text, and the same result: what needs it need not run.
    book.operation(
        "load.fetch", "def fetch(n: int = 3) -> Raw:\n    return Raw({'xs': [n, 0][:1]})"
    )
    assert ran(book, changed=True)[0] == ["fetch"]
    book.operation(
        "load.fetch", "def fetch(n: int = 3) -> Raw:\n    # Why.\n    return Raw({'xs': [n,0][:1]})"
    )
    assert ran(book, changed=True)[0] == []
    assert ran(book)[0] == ["fetch", "clean", "score"]


def test_changed_runs_only_the_elements_that_are_new(book: Notebook) -> None:
    for name in ("load.fetch", "load.clean", "score"):
        book.session.remove(name)
    book.cell("Item = NewType('Item', dict)\nSUM = NewType('Sum', int)")
    find = "def find() -> list[Item]:\n    return [Item({{'n': n}}) for n in {}]"
    book.operation("find", find.format([1, 2]))
    book.operation(
        "look",
        "def look(item: Item) -> Score:\n    calls.append(item['n'])\n    return Score(item['n'])",
    )
    calls = book.namespace["calls"] = []
    book.operation("add", "def add(scores: list[Score]) -> SUM:\n    return SUM(sum(scores))")
    book.cell("calls = []  # pulpo: carry")
    calls = book.namespace["calls"]
    assert ran(book, changed=True)[1]["add"] == 3
    book.operation("find", find.format([2, 5, 1]))
    del calls[:]
    called, done = ran(book, changed=True)
    assert (calls, called, done["add"]) == ([5], ["find", "look", "add"], 8)
    assert done.operations["look"].summary() == "list of 3 (2 of 3 cached)"
    del calls[:]
    called, done = ran(book, changed=True)
    assert (calls, called, done["add"], done.states["look"]) == ([], [], 8, "cached")


def test_what_cannot_be_kept_runs_each_time_and_is_said(book: Notebook) -> None:
    book.operation(
        "load.clean",
        "def clean(raw: Raw) -> Clean:\n    return Clean({'xs': raw['xs'], 'how': lambda: 1})",
    )
    assert ran(book, changed=True)[0] == ["fetch", "clean", "score"]
    called, done = ran(book, changed=True)
    assert called == ["clean", "score"]
    assert "load.clean runs each time: its result cannot be kept (" in str(done)
    assert "lambda" in str(done)


def kept_in(folder: Path) -> dict[str, list[Path]]:
    """Return the files that are kept, by operation."""
    found = {each.name.rpartition("-")[0]: sorted(each.iterdir()) for each in folder.iterdir()}
    assert all(files for files in found.values())
    return found


def outside(book: Notebook, value: int) -> None:
    """Have an operation read what no run can see."""
    Path(book.namespace["where"]).write_text(str(value), "utf-8")


@pytest.fixture
def reading(book: Notebook, tmp_path: Path) -> Notebook:
    book.cell(f"where = {str(tmp_path / 'outside.txt')!r}")
    outside(book, 1)
    book.operation(
        "load.fetch",
        "def fetch(n: int = 3) -> Raw:\n    return Raw({'xs': [int(open(where).read())]})",
    )
    return book


def test_a_plain_run_renews_what_is_kept_so_that_changed_compares_with_it(
    reading: Notebook, tmp_path: Path
) -> None:
    assert ran(reading, changed=True)[1]["score"] == 2
    before = kept_in(tmp_path / "pulpo")
    outside(reading, 5)
    assert ran(reading, changed=True)[1]["score"] == 2  # which is what a person may want
    called, done = ran(reading)
    assert (called, done["score"], done.all_notes()) == (["fetch", "clean", "score"], 10, [])
    after = kept_in(tmp_path / "pulpo")
    assert {name: len(files) for name, files in after.items()} == {
        "load.fetch": 1, "load.clean": 2, "score": 2,
    }  # fmt: skip
    assert after["load.fetch"] == before["load.fetch"]
    called, done = ran(reading, changed=True)
    assert (called, done["score"]) == ([], 10)
    # Other code is kept, too: what was ever kept is, by every run.
    reading.cell("K = 3")
    assert ran(reading)[1]["score"] == 15
    assert ran(reading, changed=True)[0] == []


def test_a_storage_that_cannot_be_used_keeps_no_run_from_its_end(
    book: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**options: Any) -> None:
        raise ImportError("No module named 's3fs'\nand more")

    monkeypatch.setattr("prefect.results.get_default_result_storage", fails)
    called, done = ran(book, changed=True)
    assert (called, done["score"]) == (["fetch", "clean", "score"], 6)
    said = "nothing is kept: Prefect's storage of results cannot be used (No module named 's3fs')"
    assert done.all_notes() == [said]


def test_a_resumed_run_renews_what_is_kept(reading: Notebook) -> None:
    assert ran(reading, changed=True)[1]["score"] == 2
    reading.operation("score", "def score(clean: Clean) -> Score:\n    raise ValueError('no')")
    outside(reading, 5)
    assert ran(reading)[1].state == "failed"
    reading.operation("score", "def score(clean: Clean) -> Score:\n    return sum(clean['xs'])")
    called, done = ran(reading, resume=True)
    assert (called, done["score"]) == (["score"], 10)
    assert ran(reading, changed=True)[0] == []


def test_a_plain_run_keeps_nothing_where_nothing_is_kept(book: Notebook, tmp_path: Path) -> None:
    assert ran(book)[0] == ["fetch", "clean", "score"]
    assert not (tmp_path / "pulpo").exists()
    assert ran(book, changed=True, flow="load_flow")[0] == ["fetch", "clean"]
    assert ran(book)[0] == ["fetch", "clean", "score"]
    assert set(kept_in(tmp_path / "pulpo")) == {"load.fetch", "load.clean"}


def test_what_a_plain_run_cannot_renew_is_kept_no_more(reading: Notebook, tmp_path: Path) -> None:
    assert ran(reading, changed=True)[1]["score"] == 2
    reading.cell("class Odd(dict):\n    def __reduce__(self): raise TypeError('never')")
    reading.operation(
        "load.fetch",
        "def fetch(n: int = 3) -> Raw:\n    x = int(open(where).read())\n"
        "    return Raw(Odd(xs=[x]) if x == 5 else {'xs': [x]})",
    )
    assert ran(reading, changed=True)[0] == ["fetch"]
    outside(reading, 5)
    assert ran(reading)[1]["score"] == 10
    called, done = ran(reading, changed=True)
    assert (called, done["score"]) == (["fetch", "clean"], 10)


def test_what_nobody_used_for_long_and_what_is_too_much_is_removed(
    book: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_with(n: int, day: int) -> None:
        ran(book, changed=True, parameters={"n": n})
        for files in kept_in(folder).values():
            for file in files:
                if file not in seen:
                    os.utime(file, (time.time() - day * 24 * 3600,) * 2)
                    seen.add(file)

    folder, seen = tmp_path / "pulpo", set[Path]()
    run_with(1, 29)
    run_with(2, 31)
    old = folder / ("0" * 64)  # as an earlier version kept them
    old.write_text("{}", "utf-8")
    os.utime(old, (0, 0))
    (tmp_path / "of-prefect").write_text("{}", "utf-8")
    assert ran(book, changed=True, parameters={"n": 3})[0] == ["fetch", "clean", "score"]
    assert {len(files) for files in kept_in(folder).values()} == {2}
    assert not old.exists()
    assert (tmp_path / "of-prefect").exists()
    assert ran(book, changed=True, parameters={"n": 1})[0] == []
    assert ran(book, changed=True, parameters={"n": 2})[0] == ["fetch", "clean", "score"]

    monkeypatch.setattr("pulpo.reuse._MOST_KEPT", 0)
    book.session.remove("score")
    assert ran(book, changed=True, parameters={"n": 1})[0] == []
    assert {name: len(files) for name, files in kept_in(folder).items()} == {
        "load.fetch": 1, "load.clean": 1,
    }  # fmt: skip


def test_resume_goes_on_after_the_fix(book: Notebook) -> None:
    book.operation("score", "def score(clean: Clean) -> Score:\n    return Score(clean['ys'])")
    called, failed = ran(book, parameters={"n": 5})
    assert (called, failed.failed) == (["fetch", "clean", "score"], ["score"])
    raw = failed["load.fetch"]
    with pytest.raises(UsageError, match="leave out FLOW, and what selects"):
        book.session.run("load", resume=True)
    assert ran(book, resume=True)[0] == ["score"]
    book.operation("score", "def score(clean: Clean) -> Score:\n    return Score(clean['xs'][0])")
    called, done = ran(book, resume=True)
    assert (called, done.state, done["score"]) == (["score"], "done", 10)
    assert done["load.fetch"] is raw
    assert done.states == {"load.fetch": "cached", "load.clean": "cached", "score": "done"}
    with pytest.raises(UsageError, match="nothing to resume: the last run, of main_flow, is done"):
        book.session.run(resume=True)


def test_resume_runs_again_what_was_changed_in_place_or_has_other_code(book: Notebook) -> None:
    spoil = "def score(clean: Clean) -> Score:\n    clean['xs'].append(100)\n    raise ValueError"
    mended = "def score(clean: Clean) -> Score:\n    return Score(sum(clean['xs']))"
    book.operation("score", spoil)
    ran(book)
    book.operation("score", mended)
    called, done = ran(book, resume=True)
    assert (called, done["score"]) == (["clean", "score"], 6)
    assert "load.clean ran again: score changed its result in place" in str(done)
    book.operation("score", spoil)
    ran(book)
    book.operation("score", mended)
    book.cell("K = 5")
    assert ran(book, resume=True)[1]["score"] == 15
    book.operation("score", spoil)
    ran(book)
    book.operation("score", mended)
    called, done = ran(book, resume=True, parameters={"n": 1})
    assert (called, done["score"]) == (["fetch", "clean", "score"], 5)


def test_resume_runs_only_the_elements_that_failed(
    book: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("load.fetch", "load.clean", "score"):
        book.session.remove(name)
    book.cell("import os\nItem = NewType('Item', dict)")
    find = "def find() -> list[Item]:\n    return [Item({'n': n}) for n in [1, 2, 3]]"
    book.operation("find", find)
    book.operation(
        "look",
        "def look(item: Item) -> Score:\n    if str(item['n']) == os.environ['DOWN']:\n"
        "        raise OSError('down')\n    return Score(item['n'])",
    )
    monkeypatch.setenv("DOWN", "2")
    _, failed = ran(book)
    assert (failed.failed, failed.operations["look"].attempts) == (["look"], 3)
    monkeypatch.setenv("DOWN", "")
    called, done = ran(book, resume=True)
    look = done.operations["look"]
    assert (called, look.attempts, look.reused, look.value) == (["look"], 1, 2, [1, 2, 3])


def test_a_part_does_not_take_what_was_changed_in_place(book: Notebook) -> None:
    spoil = "def clean(raw: Raw) -> Clean:\n    raw['xs'].append(9)\n    return Clean(raw)"
    book.operation("load.clean", spoil)
    assert ran(book)[1].state == "done"
    with pytest.raises(MissingInputError, match="has changed in place since"):
        book.session.run(from_="load.clean")
    ran(book, upto="load.fetch")
    assert ran(book, from_="load.clean")[1]["load.clean"] == {"xs": [3, 9]}


def test_an_operation_that_is_gone_does_not_stop_a_resume(book: Notebook) -> None:
    book.operation("score", "def score(clean: Clean) -> Score:\n    raise ValueError")
    book.operation("other", "def other(raw: Raw) -> str:\n    return 'made'")
    ran(book)
    book.session.remove("other")
    book.operation("score", "def score(clean: Clean) -> Score:\n    return Score(1)")
    assert ran(book, resume=True)[0] == ["score"]


@pytest.mark.parametrize("engine", ["prefect", "local"])
def test_an_operation_cannot_run_flows(book: Notebook, engine: str) -> None:
    book.namespace["session"] = book.session
    book.operation("score", "def score(clean: Clean) -> Score:\n    return session.run()")
    failed = book.session.run(engine=engine)  # type: ignore[arg-type]
    assert failed.failed == ["score"]
    assert "score is running, and an operation cannot run flows" in str(failed.error)


def test_a_generator_is_told(book: Notebook) -> None:
    book.operation("load.fetch", "def fetch() -> Raw:\n    return (n for n in [1, 2])")
    book.operation("load.clean", "def clean(raw: Raw) -> Clean:\n    return Clean({'xs': []})")
    told = "load.fetch gave a generator, which can be read once only: return a list"
    assert told in str(ran(book)[1])


def test_one_cannot_ask_for_both_nor_with_another_runner(book: Notebook) -> None:
    with pytest.raises(UsageError, match="give one"):
        book.session.run(resume=True, changed=True)
    with pytest.raises(UsageError, match="works with --runner async, the default: with threads"):
        book.session.run(changed=True, runner="threads")
    with pytest.raises(UsageError, match="nothing to resume: nothing has run yet"):
        book.session.run(resume=True)


# --- Random edits ---------------------------------------------------------------------------------


@dataclass
class Model:
    """What a session of chained and joined operations is, and when each has to be called.

    ``memo`` has what each call gave: by the operation, its text with all it uses, and its inputs.
    """

    sources: list[tuple[int, ...]]
    factors: list[int]
    helper: int = 1
    start: int = 1
    memo: dict[Any, int] = field(default_factory=dict)

    def text(self, place: int) -> str:
        takes = ", ".join(f"a{source}: M{source}" for source in self.sources[place])
        terms = [f"a{source}['n']" for source in self.sources[place]]
        terms += [] if terms else ["start"]
        takes = takes or "start: int = 1"
        # Modulo: another text often gives the same result.
        sum_ = f"({' + '.join(terms)}) * {self.factors[place]} % 3"
        sum_ = f"help_({sum_})" if place % 2 else sum_
        return f"def op{place}({takes}) -> M{place}:\n    return M{place}({{'n': {sum_}}})"

    def run(self) -> tuple[list[int], list[int]]:
        """Return all results, and the places of the operations that have to be called."""
        values: list[int] = []
        called = []
        for place, sources in enumerate(self.sources):
            inputs = [values[source] for source in sources] if sources else [self.start]
            key = (place, self.factors[place], self.helper if place % 2 else 0, tuple(inputs))
            if key not in self.memo:
                called.append(place)
                value = sum(inputs) * self.factors[place] % 3
                self.memo[key] = value + self.helper if place % 2 else value
            values.append(self.memo[key])
        return values, called


EDITS = ("operation", "again", "helper", "start", "comment")


@st.composite
def sessions(draw: st.DrawFn) -> tuple[Model, list[tuple[str, int, int]]]:
    count = draw(st.integers(2, 6))
    sources = [
        tuple(sorted(draw(st.sets(st.integers(0, place - 1), max_size=3)))) if place else ()
        for place in range(count)
    ]
    factors = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count))
    edit = st.tuples(st.sampled_from(EDITS), st.integers(0, count - 1), st.integers(1, 4))
    return Model(sources, factors), draw(st.lists(edit, min_size=1, max_size=3))


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sessions())
def test_after_any_edit_exactly_what_changed_runs_and_the_results_are_those_of_a_full_run(
    url: str,
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[Model, list[tuple[str, int, int]]],
) -> None:
    model, edits = case
    with storage(url, tmp_path_factory.mktemp("results")):
        book = Notebook()
        names = "\n".join(f"M{p} = NewType('M{p}', dict)" for p in range(len(model.sources)))
        book.cell(f"from typing import NewType\n{names}")
        help_ = "def help_(n):\n    return n + {}"
        book.cell(help_.format(model.helper))
        for place in range(len(model.sources)):
            book.operation(f"g{place % 3}.op{place}", model.text(place))
        check(book, model)
        for what, place, number in edits:
            match what:
                case "operation":
                    model.factors[place] = number
                    book.operation(f"g{place % 3}.op{place}", model.text(place))
                case "again":
                    book.operation(f"g{place % 3}.op{place}", model.text(place))
                case "helper":
                    model.helper = number
                    book.cell(help_.format(number))
                case "start":
                    model.start = number
                case "comment":
                    text = model.text(place).replace("\n", "\n    # Said.\n")
                    book.operation(f"g{place % 3}.op{place}", text)
            check(book, model)


def check(book: Notebook, model: Model) -> None:
    values, expected = model.run()
    plan = book.session.plan()
    takes = {p.name for flow in plan.flows if flow.name == "main_flow" for p in flow.parameters}
    given: Mapping[str, Any] = {"start": model.start} if "start" in takes else {}
    called, done = ran(book, changed=True, parameters=given)
    assert done.state == "done", done.error
    assert called == [f"op{place}" for place in expected]
    assert [value["n"] for value in dict(done).values()] == values
