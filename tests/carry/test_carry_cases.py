"""The case table: what is carried gives, elsewhere, what the session gives."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from .notebook import Notebook, run_elsewhere, run_here


class Case(NamedTuple):
    """Cells whose last one defines ``op``, and what the text must (not) hold."""

    cells: list[str]
    call: str = "op()"
    holds: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    warns: tuple[str, ...] = ()


MODEL = "from pydantic import BaseModel"
CASES = {
    "a small array": Case(
        [
            "import numpy as np\nW = np.linspace(0, 1, 5)\nK = np.int64(3) * 2",
            "def op(): return W, K",
        ],
        holds=("W = np.linspace(0, 1, 5)",),
    ),
    "an array that lines change": Case(
        ["import numpy as np\nW = np.zeros((2, 3)) + np.nan", "W[0] = 7", "def op(): return W"],
        holds=("W[0] = 7",),
    ),
    "a small table": Case(
        [
            "import pandas as pd\n"
            "rates = pd.DataFrame({'to': ['EUR', 'USD'], 'rate': [1.0, None]})",
            "rates.loc[2] = ['CHF', 3.5]",
            "low = pd.Series({'a': 1, 'b': 2}, name='n')\nfew = low[low > 1]",
            "def op(): return rates.to_dict('list'), few.to_dict(), few.name",
        ],
        holds=("rates.loc[2] = ['CHF', 3.5]",),
    ),
    "a name that its cell binds again": Case(
        [
            "path = 'data'\ntrain = path + '/train'\ntest = train + path\npath = 'out'",
            "def op(): return path, train, test",
        ],
        holds=("path = 'data'\n", "path = 'out'"),
    ),
    "a name that its cell binds twice again": Case(
        ["n = 1\na = n\nn = 2\nb: int = n + a\nn = 3\nc = [n, b]", "def op(): return a, b, c, n"],
    ),
    "a name that its cell makes something new of": Case(
        ["n = 1\na = n\nn = n + 1\nb = n\nn = n * 5", "def op(): return a, b, n"],
    ),
    "a name that only another uses": Case(
        ["n = 1\na = n + 1\nn = 'x' * 3", "def op(): return a"],
        lacks=("'x'",),
    ),
    "an aliased import": Case(
        ["import json as j, math as m, sys", "def op(): return j.dumps(m.floor(2.5))"],
        holds=("import json as j, math as m",),
        lacks=("sys",),
    ),
    "an attribute chain and a submodule": Case(
        [
            "import os.path, xml.dom.minidom\nimport xml.etree.ElementTree",
            "def op(): return os.path.join('a', xml.etree.ElementTree.Element('b').tag)",
        ],
        holds=("import os.path",),
        lacks=("posixpath",),
    ),
    "two submodules of one package": Case(
        [
            "import xml.etree.ElementTree",
            "import xml.sax.saxutils",
            "def op(): return xml.sax.saxutils.escape(xml.etree.ElementTree.Element('b').tag)",
        ],
        holds=("import xml.etree.ElementTree", "import xml.sax.saxutils"),
    ),
    "only the names needed of a from import": Case(
        [
            "# maths\nfrom math import (\n    floor,\n    ceil as up,\n    pi,\n)  # three",
            "def op(): return up(pi)",
        ],
        holds=("from math import ceil as up, pi", "# maths"),
        lacks=("floor",),
    ),
    "a comment behind an import": Case(
        ["import json  # fast enough", "def op(): return json.dumps(1)"],
        holds=("import json  # fast enough",),
    ),
    "a star import": Case(
        ["from math import *", "def op(): return floor(pi)"],
        holds=("from math import floor, pi",),
    ),
    "a conditional import": Case(
        [
            "try:\n    import not_there_json as json\nexcept ImportError:\n    import json",
            "def op(): return json.dumps([1])",
        ],
        holds=("except ImportError:",),
    ),
    "an import by version": Case(
        [
            "import sys\nif sys.version_info >= (3, 11):\n    import tomllib\n"
            "else:\n    import tomli as tomllib",
            "def op(): return tomllib.loads('a = 1')",
        ],
    ),
    "an import for type checkers": Case(
        [
            "from __future__ import annotations\nfrom typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n    from decimal import Decimal",
            "def op(x: Decimal | None = None): return x",
        ],
        holds=("from decimal import Decimal", "from __future__ import annotations"),
    ),
    "an import inside a body": Case(
        ["def op():\n    import json\n    from math import pi\n    return json.dumps(pi)"]
    ),
    "an import shadowed by a definition": Case(
        ["from math import floor", "def floor(x): return 'mine'", "def op(): return floor(2.5)"],
        lacks=("import",),
    ),
    "helpers of helpers": Case(
        [
            "def a(x): return b(x) + 1",
            "def b(x): return c(x) * 2",
            "def c(x): return x\ndef unused(): pass",
            "def op(): return a(3)",
        ],
        lacks=("unused",),
    ),
    "mutual recursion": Case(
        [
            "def even(n): return n == 0 or odd(n - 1)",
            "def odd(n): return n != 0 and even(n - 1)",
            "def op(): return [even(n) for n in range(4)]",
        ]
    ),
    "a decorator with a helper of its own": Case(
        [
            "import functools",
            "def twice(f):\n    @functools.wraps(f)\n    def inner(*a): return mark(f(f(*a)))\n"
            "    return inner",
            "def mark(x): return ('m', x)",
            "@twice\ndef inc(x): return (x, 1)",
            "def op(): return inc(1)",
        ]
    ),
    "a decorator that calls a helper when it decorates": Case(
        [
            "@__import__('functools').lru_cache\ndef slow(x): return x * 2",
            "def name_it(f):\n    f.label = label(f)\n    return f",
            "def label(f): return prefix() + f.__name__",
            "def prefix(): return '> '",
            "@name_it\ndef inc(x): return slow(x) + 1",
            "def op(): return inc(1), inc.label",
        ]
    ),
    "a factory and its closures": Case(
        [
            "def make(n):\n    def add(x): return x + n + BASE\n    return add",
            "BASE = 10",
            "add2, add3 = make(2), make(3)\nadd5 = make(5)",
            "def op(): return add2(1), add3(1), add5(1)",
        ]
    ),
    "lambdas": Case(
        ["square = lambda x: x * K", "K = 4", "key = lambda p: -p", "def op(): return square(3)"],
        lacks=("key",),
    ),
    "partials": Case(
        [
            "from functools import partial\nimport operator",
            "def power(x, n): return x ** n",
            "cube = partial(power, n=3)\ndouble = partial(operator.mul, 2)",
            "def op(): return cube(2), double(4)",
        ]
    ),
    "caches": Case(
        [
            "from functools import cache, lru_cache",
            "@lru_cache(maxsize=None)\ndef fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)",
            "def raw(x): return x + 1\ncached = cache(raw)",
            "fib(20), cached(3)",
            "def op(): return fib(30), cached(1)",
        ]
    ),
    "an async helper": Case(
        [
            "import asyncio",
            "async def get(x):\n    await asyncio.sleep(0)\n    return x",
            "async def op(): return [await get(i) for i in range(3)]",
        ],
        call="asyncio.run(op())",
        holds=("import asyncio",),
    ),
    "generators": Case(
        [
            "def numbers(n):\n    yield from range(n)",
            "def op(): return list(numbers(3)), list(x for x in numbers(2))",
        ]
    ),
    "a default that is defined further down": Case(
        [
            "LIMIT = 3",
            "def op(n=LIMIT): return n",
            "LIMIT = 3  # set again",
        ],
        holds=("# set again",),
    ),
    "bases and decorators that ran again later": Case(
        [
            f"{MODEL}\nclass Base(BaseModel):\n    x: int = 1",
            "class Child(Base):\n    y: int = 2",
            "from pydantic import BaseModel\nclass Base(BaseModel):\n    x: int = 1",
            "def op(): return Child().model_dump()",
        ],
    ),
    "forward references": Case(
        [
            f"{MODEL}\nclass Tree(BaseModel):\n    leaves: list['Leaf'] = []\n"
            "    parent: 'Tree | None' = None",
            "class Leaf(BaseModel):\n    n: int",
            "Tree.model_rebuild();",
            "def op(): return Tree(leaves=[Leaf(n=1)], parent=Tree()).model_dump()",
        ],
        holds=("Tree.model_rebuild()",),
    ),
    "forward references without a rebuild": Case(
        [
            f"{MODEL}\nclass Tree(BaseModel):\n    leaves: list['Leaf'] = []",
            "class Leaf(BaseModel):\n    n: int",
            "def op(): return Tree(leaves=[Leaf(n=1)]).model_dump()",
        ],
    ),
    "models that refer to each other": Case(
        [
            f"from __future__ import annotations\n{MODEL}",
            "class A(BaseModel):\n    b: B | None = None",
            "class B(BaseModel):\n    a: A | None = None",
            "def op() -> A: return A(b=B(a=A())).model_dump()",
        ],
        holds=("from __future__ import annotations",),
    ),
    "a field named like its type": Case(
        [
            "from dataclasses import dataclass\nfrom datetime import date",
            "@dataclass\nclass Ad:\n    date: date = date(2024, 1, 2)",
            "def op(): return Ad().date",
        ],
        holds=("from datetime import date",),
    ),
    "generics": Case(
        [
            f"{MODEL}\nfrom typing import Generic, TypeVar\nT = TypeVar('T', bound='Item')",
            "class Item(BaseModel):\n    n: int",
            "class Page(BaseModel, Generic[T]):\n    items: list[T]",
            "def op(): return Page[Item](items=[Item(n=1)]).model_dump()",
        ]
    ),
    "NewType and Annotated": Case(
        [
            f"{MODEL}\nfrom typing import Annotated, Literal, NewType\nfrom pydantic import Field",
            "LOW = 0",
            "UserId = NewType('UserId', int)\nAge = Annotated[int, Field(gt=LOW)]",
            "class User(BaseModel):\n    id: UserId\n    age: Age\n    kind: Literal['a', 'LOW']",
            "def op(): return User(id=UserId(1), age=2, kind='a').model_dump()",
        ]
    ),
    "enums": Case(
        [
            "from enum import Enum, IntEnum, auto\nclass Color(Enum):\n    RED = auto()\n"
            "    BLUE = auto()\nSize = IntEnum('Size', 'S M L')",
            "DEFAULT = Color.BLUE",
            "def op(c=DEFAULT): return c.name, Color(1).name, int(Size.M)",
        ]
    ),
    "dataclasses, named tuples and typed dicts": Case(
        [
            "from dataclasses import dataclass, field\nfrom typing import NamedTuple, TypedDict\n"
            "from collections import namedtuple",
            "@dataclass(frozen=True)\nclass P:\n    x: int\n    tags: tuple = field(default=())",
            "class Q(NamedTuple):\n    y: int = 2\nR = namedtuple('R', 'a b', defaults=[1])\n"
            "class D(TypedDict):\n    z: int",
            "ORIGIN = P(0)\nEMPTY = R(a=0)",
            "def op(): return ORIGIN, Q(), EMPTY, D(z=1)",
        ]
    ),
    "computed constants": Case(
        [
            "import re\nfrom pathlib import Path\nfrom datetime import timedelta, date\n"
            "from decimal import Decimal",
            "WORD = re.compile(r'\\w+', re.I)\nDATA = Path('data') / 'in.csv'",
            "DAY = timedelta(days=1)\nWEEK = DAY * 7\nSTART = date(2024, 1, 1) + WEEK",
            "NAMES = [n.upper() for n in ('a', 'b')]\nINDEX = {n: i for i, n in enumerate(NAMES)}",
            "LABEL = f'{NAMES[0]}-{WEEK.days:03}'\nRATE = Decimal('0.1') * 3\n"
            "SET = frozenset(NAMES) | {'z'}\nTOTAL = sum(INDEX.values()) ** 2 - 1",
            "def op(): return (WORD.findall('a b'), DATA.as_posix(), START, INDEX, LABEL, RATE,"
            " sorted(SET), TOTAL)",
        ]
    ),
    "model instances": Case(
        [
            f"{MODEL}\nfrom pydantic import TypeAdapter\nclass S(BaseModel):\n    url: str\n"
            "    n: int = 3",
            "CONF = S(url='x')\nWIDE = CONF.model_copy(update={'n': 5})\n"
            "MANY = [S(url=u) for u in 'ab']",
            "NUMBERS = TypeAdapter(list[int])",
            "def op(): return CONF, WIDE, MANY, NUMBERS.validate_python(['1'])",
        ]
    ),
    "constants from a pure helper": Case(
        [
            "def slug(text):\n    parts = []\n    for word in text.split():\n"
            "        parts.append(word.lower())\n    return '-'.join(parts)",
            "NAME = slug('A Title')",
            "def op(): return NAME",
        ]
    ),
    "loggers, locks and context variables": Case(
        [
            "import logging, threading, asyncio\nfrom contextvars import ContextVar",
            "log = logging.getLogger('jobs')\nlock = threading.Lock()\n"
            "LIMIT = asyncio.Semaphore(3)\ncurrent = ContextVar('current', default=1)",
            "def op():\n    log.debug('x')\n    with lock: return current.get(), LIMIT.locked()",
        ]
    ),
    "a counter": Case(
        [
            "count = 0",
            "def bump():\n    global count\n    count += 1\n    return count",
            "def op(): return bump() >= 1",
            "bump(); bump()",
        ],
        holds=("count = 0",),
        warns=("'count' was changed by bump since it was set in cell 1",),
    ),
    "a counter that its own cell changes": Case(
        [
            "count = 0\ndef bump():\n    global count\n    count += 1\n    return count\nbump()",
            "def op(): return bump() >= 1",
        ],
        holds=("count = 0",),
        warns=("'count' was changed by bump",),
    ),
    "a cache": Case(
        [
            "CACHE: dict[str, int] = {}",
            "def length(text):\n    if text not in CACHE:\n        CACHE[text] = len(text)\n"
            "    return CACHE[text]",
            "length('abc')",
            "def op(): return length('abcd')",
        ],
        holds=("CACHE: dict[str, int] = {}",),
        warns=("'CACHE' was changed by length",),
    ),
    "a list changed in a later cell": Case(
        [
            "# the cities\nCITIES = ['berlin']",
            "CITIES.append('köln')",
            "CITIES += ['ulm']\nCITIES.sort()",
            "def op(): return CITIES",
        ],
        holds=("# the cities\nCITIES = ['berlin', 'köln', 'ulm']",),
        warns=("'CITIES' was changed in cell 2, 3",),
    ),
    "a dict changed in a later cell": Case(
        [
            "CONF = {'a': 1}",
            "CONF['b'] = 2\ndel CONF['a']\nCONF.update(c=3)",
            "def op(): return CONF",
        ],
        holds=("CONF = {'b': 2, 'c': 3}",),
        warns=("'CONF' was changed in cell 2",),
    ),
    "a number that was added to": Case(
        ["n = 1", "n += 2", "n += 2", "def op(): return n"],
        holds=("n = 5",),
        warns=("'n' was changed in cell 2, 3",),
    ),
    "a number that was set from itself": Case(
        ["n = 1", "n = n + 2", "def op(): return n"], holds=("n = 1\nn = n + 2",)
    ),
    "a list of functions changed in a later cell": Case(
        [
            "STEPS = []",
            "def a(x): return x + 1\ndef b(x): return x * 2",
            "STEPS.append(a)\nSTEPS.extend([b, a])",
            "def op():\n    x = 1\n    for step in STEPS: x = step(x)\n    return x",
        ]
    ),
    "a table of functions": Case(
        [
            "def a(): return 1\ndef b(): return 2",
            "TABLE = {'a': a, 'b': b}",
            "def op(): return [f() for f in TABLE.values()]",
        ]
    ),
    "a patched model": Case(
        [
            f"{MODEL}\nclass M(BaseModel):\n    n: int = 1",
            "def shout(self): return '!' * (self.n + EXTRA)\nEXTRA = 2",
            "M.shout = shout\nsetattr(M, 'loud', lambda self: True)",
            "def op(): return M().shout(), M().loud()",
        ],
        holds=("M.shout = shout", "setattr(M, 'loud'"),
    ),
    "a patched model that ran again": Case(
        [
            "class M:\n    def a(self): return 1",
            "M.a = lambda self: 2",
            "class M:\n    def a(self): return 3",
            "def op(): return M().a()",
        ],
        lacks=("lambda",),
    ),
    "function attributes": Case(
        ["def f(): return f.rate\nf.rate = 3", "def op(): return f()"], holds=("f.rate = 3",)
    ),
    "single dispatch": Case(
        [
            "from functools import singledispatch",
            "@singledispatch\ndef show(x): return 'any'",
            "@show.register\ndef _(x: int): return 'int'",
            "@show.register(list)\ndef _(x): return [show(one) for one in x]",
            "def show_str(x): return 'str'\nshow.register(str, show_str)",
            "def op(): return show([1, 'a', None])",
        ]
    ),
    "a registry by decorator": Case(
        [
            "REGISTRY = {}",
            "def register(name):\n    def deco(f):\n        REGISTRY[name] = f\n        return f\n"
            "    return deco",
            "@register('a')\ndef a(): return 1",
            "@register('b')\ndef b(): return 2",
            "def c(): return 3\nregister('c')(c)",
            "def op(): return [f() for f in REGISTRY.values()]",
        ]
    ),
    "a registry of subclasses": Case(
        [
            "class Base:\n    kinds = {}\n    def __init_subclass__(cls, **kw):\n"
            "        Base.kinds[cls.__name__] = cls",
            "class A(Base): v = 1",
            "class B(Base): v = 2",
            "def op(): return [k.v for k in Base.kinds.values()]",
        ]
    ),
    "classes that are asked for their subclasses": Case(
        [
            "class B: pass\nclass C(B): pass\nclass D(C): pass",
            "def count(k): return [k.__name__] + [n for s in k.__subclasses__() for n in count(s)]",
            "def op(): return count(B)",
        ]
    ),
    "a wrap chain": Case(
        [
            "def f(x): return x + 1",
            "old = f",
            "def f(x): return old(x) * 10",
            "def op(): return f(1)",
        ],
        holds=("old = f",),
    ),
    "a function wrapped in place": Case(
        [
            "from functools import lru_cache\ndef deco(g):\n    def inner(x): return g(x) + 1\n"
            "    return inner",
            "def f(x): return x * 2\nf = deco(f)\nf = lru_cache(f)",
            "def op(): return f(4)",
        ]
    ),
    "an alias of an older function": Case(
        [
            "def f(): return 'old'",
            "g = f",
            "def f(): return 'new'",
            "def op(): return f(), g()",
        ]
    ),
    "a class extended in place": Case(
        [
            "class A:\n    def one(self): return 1",
            "class A(A):\n    def two(self): return self.one() + 1",
            "def op(): return A().two()",
        ]
    ),
    "the newest definition": Case(
        ["def f(): return 1", "def f(): return 2", "def op(): return f()"], lacks=("return 1",)
    ),
    "what stands in front of a failing line": Case(
        ["def f(): return 1", "def op(): return f(), X", "X = 5"], holds=("X = 5",)
    ),
    "names that are only local": Case(
        [
            "data = object()\nx = iter([])",
            "def op():\n    data = [x for x in range(3)]\n    total = sum(y for y in data)\n"
            "    try: raise ValueError('e')\n    except ValueError as data2: pass\n"
            "    match data:\n        case [a, *rest]: return a, rest, total\n",
        ],
        lacks=("object()", "iter("),
    ),
    "semicolons and comments": Case(
        [
            "A = 1; B = A + 1  # both\n# about c\nC = 'ü'; D = 3",
            "def op():\n    # in the body\n    return B, C  # end\n    # after it",
        ],
        holds=("B = A + 1  # both", "# in the body", "    # after it"),
        lacks=("D = 3",),
    ),
    "an environment variable": Case(
        ["import os\nHOST = os.environ.get('PULPO_TEST_HOST', 'local')", "def op(): return HOST"],
        holds=("os.environ.get('PULPO_TEST_HOST', 'local')",),
        warns=("'HOST' reads the environment variable PULPO_TEST_HOST",),
    ),
    "magics beside it": Case(
        [
            "get_ipython = lambda: type('S', (), {'run_line_magic': print})\n"
            "get_ipython().run_line_magic('matplotlib', 'inline')\ndef f(): return 1",
            "__pulpo_operation__('x --retries 2')\ndef op(): return f()",
        ],
        lacks=("get_ipython", "__pulpo_"),
    ),
    "a default computed when its cell ran": Case(
        [
            "from datetime import date",
            "def op(d=date.today()): return d.year > 2000",
        ],
        warns=("the default of 'd' in 'op' was computed by date.today()",),
    ),
    "a class counter": Case(
        [
            "class C:\n    made = 0\n    def __init__(self): C.made += 1",
            "C(); C()",
            "def op():\n    C()\n    return C.made > 0",
        ],
        warns=("C.made is not what its text gives now",),
    ),
    "package options": Case(
        [
            "import decimal",
            "decimal.getcontext().prec = 50\ndecimal.DefaultContext.prec = 9",
            "def op(): return decimal.DefaultContext.prec",
        ],
        holds=("decimal.DefaultContext.prec = 9",),
        warns=("cell 2 ran decimal.getcontext().prec = …",),
    ),
    "a branch by version": Case(
        [
            "import sys\nif sys.version_info >= (3, 2):\n    def f(): return 'new'\n"
            "else:\n    def f(): return unknown_here()",
            "def op(): return f()",
        ]
    ),
    "an import cell that got another name": Case(
        [
            "from dataclasses import dataclass",
            "@dataclass\nclass A:\n    n: int = 1",
            "from dataclasses import dataclass, field",
            "def op(): return A()",
        ],
        lacks=("field",),
    ),
    "a list that a branch made and a later cell changed": Case(
        ["if True:\n    xs = [1]", "xs.append(2)", "def op(): return xs"],
        holds=("xs = [1, 2]",),
        warns=("'xs' was changed in cell 2",),
    ),
    "an environment variable in a branch": Case(
        [
            "import os\nif os.environ.get('PULPO_TEST_X'):\n    mode = 'x'\nelse:\n    mode = 'y'",
            "def op(): return mode",
        ],
        warns=("'mode' reads the environment variable PULPO_TEST_X",),
    ),
    "a value that is newer than what used it": Case(
        ["N = 1", "def op(n=N): return n > 0", "N = 2"],
        warns=(
            "'op' (cell 2) was made with an older 'N'",
            "the default of 'n' in 'op' is not what its text gives now",
        ),
    ),
    "a wide range of scopes": Case(
        [
            "a = b = 1\n(c, [d, *e]) = 1, [2, 3, 4]",
            "class K:\n    z = [i * a for i in range(b)]\n"
            "    def m(self): return __class__.__name__",
            "def op(*, k=lambda q: q + c): return k(d), e, K.z, K().m(), [w := 3, w]",
        ]
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_it_gives_elsewhere_what_it_gives_here(name: str) -> None:
    case = CASES[name]
    notebook = Notebook(*case.cells)
    live = repr(eval(case.call, notebook.names))
    carried = notebook.carry("op")
    assert run_here(carried, case.call) == live
    for part in case.holds:
        assert part in carried.text
    for part in case.lacks:
        assert part not in carried.text
    for part in case.warns:
        assert any(part in warning for warning in carried.warnings), carried.warnings
    assert bool(carried.warnings) == bool(case.warns), carried.warnings


PROCESSES = [
    "models that refer to each other",
    "single dispatch",
    "a registry by decorator",
    "computed constants",
    "a wrap chain",
    "an async helper",
]


@pytest.mark.parametrize("name", PROCESSES)
def test_it_gives_it_in_a_fresh_process_too(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    notebook = Notebook(*case.cells)
    live = repr(eval(case.call, notebook.names))
    assert run_elsewhere(notebook.carry("op"), case.call, tmp_path) == live


@pytest.mark.parametrize("name", CASES)
def test_the_same_session_gives_the_same_text(name: str) -> None:
    cells = CASES[name].cells
    assert Notebook(*cells).carry("op").text == Notebook(*cells).carry("op").text
