"""Which results of earlier calls are taken, and which are not."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from pulpo.reuse import Calls, FromRun, _content


class Page(BaseModel):
    text: str
    tags: set[str] = set()


def found(calls: Calls, inputs: dict[str, Any], *called: str) -> tuple[Any, list[str]]:
    reuse = FromRun({"a": calls}, {"a": list(called)})
    answer = asyncio.run(reuse.find("a", inputs))
    return (answer.value if answer else None), reuse.notes


def test_a_call_is_found_by_the_very_objects_and_by_equal_plain_values() -> None:
    calls, page, given = Calls(), Page(text="x"), {"n": 3, "many": [Page(text="y")]}
    calls.add({"page": page, **given}, "made")
    assert found(calls, {"page": page, "n": 3, "many": list(given["many"])}) == ("made", [])
    assert found(calls, {"page": Page(text="x"), **given}) == (None, [])
    assert found(calls, {"page": page, **given, "n": 3.0}) == (None, [])
    assert found(calls, {"page": page, **given, "n": True}) == (None, [])


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([1, 2], lambda value: value.append(3)),
        (Page(text="x"), lambda value: value.tags.add("new")),
        (pd.DataFrame({"a": [1]}), lambda value: value.insert(1, "b", [2])),
        (np.arange(9), lambda value: value.sort() or value.__setitem__(0, 7)),
    ],
)
def test_a_result_that_was_changed_in_place_is_not_taken(
    value: Any, change: Callable[[Any], object]
) -> None:
    calls = Calls()
    calls.add({}, value)
    assert found(calls, {}, "b")[0] is value
    change(value)
    assert found(calls, {}, "b") == (None, ["a ran again: b changed its result in place"])


def test_what_cannot_be_told_of_a_large_result_is_said() -> None:
    calls, large = Calls(), np.zeros(4_000_000)
    calls.add({}, large)
    value, notes = found(calls, {}, "b", "c")
    assert value is large
    assert notes == [
        "a was not run again, and it cannot be told whether b and c changed its result in place "
        "(it is large, or cannot be pickled)"
    ]
    assert found(calls, {})[1] == []  # nobody got it


def test_content_has_one_digest_however_it_was_built() -> None:
    text = "".join(["a", "b"])
    assert _content([text, text]) == _content(["ab", "".join(["a", "b"])])
    assert _content({"a": 1, "b": 2}) != _content({"b": 2, "a": 1})  # who reads it may mind
    frame = pd.DataFrame({"a": [1.5, 2.5], "b": ["x", "y"]})
    assert _content(frame) == _content(frame.copy())
    assert _content(frame) != _content(frame.assign(a=[1.5, 2.6]))
    assert _content(frame["a"].to_numpy()) != _content(frame["a"].to_numpy().astype("float32"))
    with pytest.raises(TypeError, match="pickle"):
        _content(threading.Lock())
