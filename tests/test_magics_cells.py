"""What a ``%%operation`` cell is turned into, without a shell."""

from __future__ import annotations

import ast
import sys
import textwrap
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from pulpo.errors import UsageError
from pulpo.magics.arguments import HelpRequested, parse_operation, split
from pulpo.magics.awaiting import AwaitedRuns
from pulpo.magics.cells import BEGIN, DECLARE, CellText, CellTree, Content, choose_function

# Python words it in two ways.
OLD = sys.version_info < (3, 12)
NO_DEFAULT = "non-default argument" if OLD else "parameter without a default"


def rewritten(cell: str) -> str:
    """The cell after the text step."""
    transform = CellText(TransformerManager().do_token_transforms)
    return "".join(transform(textwrap.dedent(cell).lstrip("\n").splitlines(keepends=True)))


def compiled(cell: str) -> ast.Module:
    """The cell after both steps."""
    tree: Any = CellTree().visit(ast.parse(rewritten(cell)))
    return ast.fix_missing_locations(tree)


def run(cell: str, **namespace: Any) -> dict[str, Any]:
    """Run the cell with stand-ins for the calls, which say when they were made."""
    calls: list[Any] = []
    namespace[BEGIN] = lambda line, **content: calls.append(("begin", line))
    namespace[DECLARE] = lambda line, function: calls.append(("declare", line, function))
    exec(compile(compiled(cell), "cell", "exec"), namespace)
    return namespace | {"calls": calls}


# --- The text step ------------------------------------------------------------------------------

TEXTS = {
    "the line becomes a call on the same line": (
        """
        %%operation scraping.merge --retries 2
        def merge(a): ...
        """,
        """
        __pulpo_operation__('scraping.merge --retries 2')
        def merge(a): ...
        """,
    ),
    "a line magic says the same, below comments": (
        """
        # ruff: noqa

        %operation merge
        def merge(a): ...
        """,
        """
        # ruff: noqa

        __pulpo_operation__('merge')
        def merge(a): ...
        """,
    ),
    "a continued line leaves blank lines, so that numbers stay": (
        """
        %%operation merge \\
            --retries 2
        def merge(a): ...
        """,
        """
        __pulpo_operation__('merge --retries 2')

        def merge(a): ...
        """,
    ),
    "a bare body is wrapped, and its def takes the line's place": (
        """
        %%operation parsing.clean --in raw:Raw --in pages:int=3 --out cleaned:Cleaned
        cleaned = raw
        """,
        """
        def clean(raw: Raw, pages: int = 3) -> Cleaned:
            cleaned = raw
            return cleaned
        __pulpo_operation__('parsing.clean --in raw:Raw --in pages:int=3 --out cleaned:Cleaned')
        """,
    ),
    "a body that awaits makes an async function": (
        """
        %%operation fetch --out page:Page
        page = [await x async for x in feed()]
        """,
        """
        async def fetch() -> Page:
            page = [await x async for x in feed()]
            return page
        __pulpo_operation__('fetch --out page:Page')
        """,
    ),
    "an await in a helper of the body makes nothing async": (
        """
        %%operation fetch --out page:Page
        async def get():
            await nothing
        page = get
        """,
        """
        def fetch() -> Page:
            async def get():
                await nothing
            page = get
            return page
        __pulpo_operation__('fetch --out page:Page')
        """,
    ),
    "several results are a tuple": (
        """
        %%operation split --in raw:Raw --out good:Good --out bad:Bad
        good, bad = raw
        """,
        """
        def split(raw: Raw) -> tuple[Good, Bad]:
            good, bad = raw
            return good, bad
        __pulpo_operation__('split --in raw:Raw --out good:Good --out bad:Bad')
        """,
    ),
    "lines inside a string keep their place": (
        '''
        %%operation note --in raw:Raw --out text:Text
        if raw:
            text = f"""{raw}
        not indented
          so
        """ + "a\\
        b"
        else:
            text = """
        x"""; other = 1
        ''',
        '''
        def note(raw: Raw) -> Text:
            if raw:
                text = f"""{raw}
        not indented
          so
        """ + "a\\
        b"
            else:
                text = """
        x"""; other = 1
            return text
        __pulpo_operation__('note --in raw:Raw --out text:Text')
        ''',
    ),
    "magics in a body become Python before it is wrapped": (
        """
        %%operation note --out text:Text
        text = !echo "it's"
        """,
        """
        def note() -> Text:
            text = get_ipython().getoutput('echo "it\\'s"')
            return text
        __pulpo_operation__('note --out text:Text')
        """,
    ),
    "a body that Python cannot read stays as it is, for Python to say so": (
        """
        %%operation note --out text:Text
        text = = 1
        """,
        """
        __pulpo_operation__('note --out text:Text')
        text = = 1
        """,
    ),
    "asking for help runs nothing else": (
        """
        %%operation scraping.merge --help
        launch()
        """,
        """
        get_ipython().run_line_magic('operation', '--help')
        """,
    ),
    "a magic further down is none of ours": (
        """
        x = 1
        %operation merge
        """,
        """
        x = 1
        %operation merge
        """,
    ),
    "a magic with a longer name is none of ours": ("%%operations x\n", "%%operations x\n"),
    "a question about the magic is IPython's": ("%%operation?\n", "%%operation?\n"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_the_text_step(case: str) -> None:
    before, after = TEXTS[case]
    assert rewritten(before) == textwrap.dedent(after).lstrip("\n")


PIECES = ("a = 1", "if a:", "    a = (", ")", "# no", "", '"""', 'b = f"""{a}', "'x\\", "y'")
MORE = ("    '''", "c = '\u2028'", "a = '''", "\x0c", "\ta", "else:", "    pass")
BODIES = st.lists(st.sampled_from(PIECES + MORE), max_size=9).map("\n".join)


@example("\x0ca")
@example("if a:\n\x0c    b")
@given(BODIES | st.text(alphabet="ab'\"\\\n \t#{}f=()%!x\x0c\u2028", max_size=60))
def test_wrapping_never_changes_what_a_body_says(body: str) -> None:
    cell = f"%%operation f --in a:A --out a:A\n{body}"
    text = "".join(CellText(lambda lines: lines)(cell.splitlines(keepends=True)))
    if text.startswith("def f("):
        (function, _begin) = ast.parse(text).body
        assert isinstance(function, ast.FunctionDef)
        assert [ast.dump(s) for s in function.body[:-1]] == [
            ast.dump(s) for s in ast.parse(body).body
        ]
    else:  # nothing to wrap, or no Python
        assert text.startswith(BEGIN)


# --- The tree step ------------------------------------------------------------------------------


def test_the_check_comes_first_and_the_declaration_after_the_last_binding() -> None:
    ran = run(
        """
        %%operation scraping.merge
        log = []
        def merge(a): return a
        merge = [merge]
        log.append(1)
        """
    )
    assert ran["calls"] == [
        ("begin", "scraping.merge"),
        ("declare", "scraping.merge", ran["merge"]),
    ]
    names = [
        type(statement).__name__ for statement in compiled("%operation f\ndef f(): ...\nf()").body
    ]
    assert names == ["Expr", "FunctionDef", "Expr", "Expr"]


def test_a_function_inside_a_branch_counts() -> None:
    ran = run("%%operation f\nif True:\n    def f(): ...\nelse:\n    def f(x): ...\n")
    assert ran["calls"][1] == ("declare", "f", ran["f"])


def test_methods_and_inner_functions_do_not_count() -> None:
    ran = run(
        """
        %%operation f
        class Helper:
            def method(self): ...
        def f():
            def inner(): ...
        """
    )
    assert ran["calls"][1] == ("declare", "f", ran["f"])


def test_a_wrapped_body_is_checked_before_it_is_defined() -> None:
    ran = run("%%operation a.f --in n:int --out twice:int\ntwice = 2 * n\n")
    assert [call[0] for call in ran["calls"]] == ["begin", "declare"]
    assert ran["f"](4) == 8


def test_other_cells_pass_unchanged() -> None:
    for cell in ("", "x = 1\n", "def f(): ...\n"):
        assert ast.dump(compiled(cell)) == ast.dump(ast.parse(cell))


def test_a_cell_as_deep_as_python_allows_passes() -> None:
    cell = "%operation f\ndef f(): ...\nx = " + "+".join(["1"] * 900)
    assert len(compiled(cell).body) == 4


# --- Which function -----------------------------------------------------------------------------


def choice(line: str, *functions: str, **content: Any) -> str:
    return choose_function(parse_operation(line), Content(functions=functions, **content))


def test_helpers_with_a_leading_underscore_do_not_count() -> None:
    assert choice("merge", "_one", "merge", "_two") == "merge"
    assert choice("merge", "_only") == "_only"


def test_helpers_that_the_operation_uses_do_not_count() -> None:
    cell = """
        %%operation merge
        def twice(x): return x + x
        def merge(a): return twice(a)
        """
    ran = run(cell)
    assert ran["calls"][1] == ("declare", "merge", ran["merge"])


def test_function_picks_one_of_several() -> None:
    assert choice("merge --function b", "a", "b") == "b"


@pytest.mark.parametrize(
    ("line", "functions", "says"),
    [
        ("x", ("a", "b"), "several functions (a, b). Pick one with --function b."),
        ("x --function c", ("a", "b"), "no function 'c', it defines a, b."),
        ("x --function merg", ("merge",), "Did you mean 'merge'?"),
        ("x --function c", (), "it has only 2 imports."),
        ("x", (), "the cell has no function, only 2 imports. Put a def below the line"),
    ],
)
def test_an_unclear_choice_says_what_there_is(
    line: str, functions: tuple[str, ...], says: str
) -> None:
    with pytest.raises(UsageError) as raised:
        choice(line, *functions, summary="2 imports")
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("line", "body", "says"),
    [
        (
            "f --out texd:Text",
            "text = 1",
            "never sets 'texd', which --out gives. Did you mean 'text'?",
        ),
        ("f --in raw:Raw", "", "the cell is empty, so --in and --out have nothing to wrap."),
        ("f --in 1:Raw", "x = 1", "'1:Raw' is no port. Write a name and a model"),
        ("f --in raw:", "x = 1", "'raw:' is no port."),
        ("f --in a:A=1 --in b:B", "x = 1", f"do not make a function ({NO_DEFAULT}"),
        ("f --in 'a:A b'", "x = 1", "do not make a function (invalid syntax"),
        ("f --in class:A", "x = 1", "do not make a function (invalid syntax)"),
        ("f --out a --out b:B", "a = b = 1", "each of several --out needs a model"),
        ("f --out a:A=1", "a = 1", "--out takes a name and a model, no default."),
        ("f --in a:A --function f", "x = 1", "Use one or the other."),
    ],
)
def test_a_body_that_cannot_be_wrapped_is_refused_with_the_reason(
    line: str, body: str, says: str
) -> None:
    tree = compiled(f"%%operation {line}\n{body}\n")
    contents: dict[str, Any] = {}

    def begin(line: str, **content: Any) -> None:
        contents.update(content)
        raise KeyError(line)

    with pytest.raises(KeyError):
        exec(compile(tree, "cell", "exec"), {BEGIN: begin})
    with pytest.raises(UsageError) as raised:
        choose_function(parse_operation(line), Content(**contents))
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


# --- The line -----------------------------------------------------------------------------------


def test_flags_become_python_values() -> None:
    line = (
        "a.b --tags x,y --tags z --retries 2 --retry-delay 1.5 --timeout 30 --after a.c "
        "--after a.d --bind raw=a.e --strategy process --description 'what it does' --cache inputs "
        "--inputs Raw"
    )
    assert parse_operation(line).flags == {
        "tags": ("x", "y", "z"),
        "after": ("a.c", "a.d"),
        "inputs": ("Raw",),
        "bind": (("raw", "a.e"),),
        "description": "what it does",
        "retries": 2,
        "retry_delay": 1.5,
        "timeout": 30.0,
        "cache": "inputs",
        "strategy": "process",
    }


def test_flags_that_were_not_given_are_left_out() -> None:
    assert parse_operation("a.b").flags == {}


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "%%operation needs a name: '%%operation scraping.merge'."),
        ("a.b --retires 2", "there is no flag '--retires'. Did you mean '--retries'?"),
        ("a.b --retries two", "--retries takes a whole number from 0, not 'two'."),
        ("a.b --retries -1", "--retries takes a whole number from 0, not '-1'."),
        ("a.b --timeout 10m", "--timeout takes seconds, such as 30 or 1.5, not '10m'."),
        ("a.b --retry-delay nan", "--retry-delay takes seconds, such as 30 or 1.5, not 'nan'."),
        ("a.b --strategy fork", "--strategy is one of thread, process, not 'fork'."),
        ("a.b --bind raw", "--bind takes port=operation, such as raw=scraping.merge, not 'raw'."),
        ("a.b --tags", "--tags expected one argument."),
        ("a.b c.d", "'c.d' is one word too many."),
        ("a.b 'c", "no closing quotation."),
    ],
)
def test_a_wrong_line_is_one_clear_sentence(line: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_operation(line)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.text(max_size=40))
def test_any_line_is_understood_or_refused_by_us(line: str) -> None:
    with suppress(UsageError, HelpRequested):
        assert parse_operation(line).name


def test_a_comment_ends_the_line_but_not_a_word() -> None:
    assert split("graph   # what's in it") == ["graph"]
    assert split("run --param color=#fff --param 'a # b'") == [
        "run",
        "--param",
        "color=#fff",
        "--param",
        "a # b",
    ]


def test_help_lists_every_flag() -> None:
    with pytest.raises(HelpRequested) as raised:
        parse_operation("a.b --help")
    design = (
        "description tags retries retry-delay timeout cache after bind strategy function in out"
    )
    for flag in design.split():
        assert f"--{flag}" in raised.value.text


# --- Awaited runs -------------------------------------------------------------------------------

RUNS = {
    "get_ipython().run_line_magic('pulpo', 'run')\n": "(await __pulpo_arun__('run'))\n",
    "é = get_ipython().run_line_magic('pulpo', 'run x')\n": "é = (await __pulpo_arun__('run x'))\n",
    "if x:\n    get_ipython().run_line_magic('pulpo', 'run')\n": (
        "if x:\n    (await __pulpo_arun__('run'))\n"
    ),
    "a = get_ipython().run_line_magic('pulpo', 'run')\nb = 1\n"
    "c = get_ipython().run_line_magic('pulpo', 'run')": (
        "a = (await __pulpo_arun__('run'))\nb = 1\nc = (await __pulpo_arun__('run'))"
    ),
}


@pytest.mark.parametrize("before", RUNS)
def test_a_run_at_the_top_level_is_awaited(before: str) -> None:
    lines = AwaitedRuns(lambda: True)(before.splitlines(keepends=True))
    assert "".join(lines) == RUNS[before]


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    get_ipython().run_line_magic('pulpo', 'run')\n",
        "class A:\n    x = get_ipython().run_line_magic('pulpo', 'run')\n",
        "f = lambda: get_ipython().run_line_magic('pulpo', 'run')\n",
        "get_ipython().run_line_magic('pulpo', 'runs')\n",
        "get_ipython().run_line_magic('pulpo', 'graph run')\n",
        "get_ipython().run_line_magic('time', '%pulpo run')\n",
        "text = \"get_ipython().run_line_magic('pulpo', 'run')\"\n",
        "get_ipython().run_line_magic('pulpo', 'run' = 3\n",
    ],
)
def test_any_other_run_is_left_alone(source: str) -> None:
    assert "".join(AwaitedRuns(lambda: True)(source.splitlines(keepends=True))) == source


def test_nothing_is_awaited_where_that_is_not_possible() -> None:
    source = "get_ipython().run_line_magic('pulpo', 'run')\n"
    assert AwaitedRuns(lambda: False)([source]) == [source]
