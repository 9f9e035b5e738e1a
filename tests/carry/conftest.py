"""Puts back what notebooks of these tests stand in for."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def real_main(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
