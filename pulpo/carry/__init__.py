"""Carries source out of a notebook: exactly what its operations need, or a refusal."""

from __future__ import annotations

from pulpo.carry.record import Recorder
from pulpo.carry.write import Carried, carry, verify

__all__ = ["Carried", "Recorder", "carry", "verify"]
