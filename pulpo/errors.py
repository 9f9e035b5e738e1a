"""Every deliberate exception of pulpo, and the problem record that compile and check list.

PulpoError
├── InvalidNameError (ValueError)      an operation's or group's name
├── DeclarationError (TypeError)       a function that cannot be an operation
├── ModelError (TypeError)             a type that cannot carry data
├── UnknownNameError (LookupError)     an operation, flow, model or variable that is missing
├── UsageError (ValueError)            a wrong flag, subcommand or value on a command line
├── CompileError
│   ├── CycleError (ValueError)        operations that need each other in a loop
│   └── BlockedFlowError               a flow that has problems which stop it
├── CarryError                         source that cannot leave the notebook
│   ├── NoSourceError                  a function whose source cannot be reached
│   └── SecretError                    a credential in what would be written
├── ExportError
│   └── EditedFileError                a generated file that was edited by hand
├── RunError
│   ├── MissingInputError              a flow parameter without a value
│   ├── OperationFailedError           an operation raised
│   └── ServerError                    Prefect's server could not be reached or started
├── SettingsError (ValueError)         [tool.pulpo] or PULPO_* that make no sense
└── MissingProgramError                a program or extra that is not installed
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

__all__ = [
    "SEVERITIES",
    "BlockedFlowError",
    "CarryError",
    "CompileError",
    "CycleError",
    "DeclarationError",
    "EditedFileError",
    "ExportError",
    "InvalidNameError",
    "MissingInputError",
    "MissingProgramError",
    "ModelError",
    "NoSourceError",
    "OperationFailedError",
    "Problem",
    "PulpoError",
    "RunError",
    "SecretError",
    "ServerError",
    "SettingsError",
    "Severity",
    "UnknownNameError",
    "UsageError",
    "did_you_mean",
]

Severity = Literal["error", "warning", "note"]
#: The worst first.
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that ``compile`` or ``check`` has to say.

    Parameters
    ----------
    code
        A short, stable word for the kind, such as ``"ambiguous-port"``.
    severity
        ``"error"`` blocks the flows that contain the operation; others do not.
    message
        What is wrong, on what.
    fix
        What to do about it; empty when nothing needs doing.
    operation, port
        Where; empty when the problem belongs to no single one.
    cell
        The number of the cell (or the file and line) that declares the operation.
    candidates
        The names among which to choose.
    """

    code: str
    severity: Severity
    message: str
    fix: str = ""
    operation: str = ""
    port: str = ""
    cell: str = ""
    candidates: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f" [{self.cell}]" if self.cell else ""
        fix = f" {self.fix}" if self.fix else ""
        return f"{self.severity}: {self.message}{where}{fix}"


class PulpoError(Exception):
    """Base of every error that pulpo raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks the exception for its traceback: one clean line, none of our frames.
        # UsageError would print the same, but sends no error message, so notebook tests pass it.
        return [f"{type(self).__name__}: {self}"]


class InvalidNameError(PulpoError, ValueError):
    """A name that is no dotted identifier; ``suggestion`` is the nearest valid one."""

    def __init__(self, message: str, *, suggestion: str = "") -> None:
        super().__init__(message)
        self.suggestion = suggestion


class DeclarationError(PulpoError, TypeError):
    """A function, cell or decorator that cannot declare an operation."""


class ModelError(PulpoError, TypeError):
    """A type that cannot be used as a data model."""


class UnknownNameError(PulpoError, LookupError):
    """A name that nothing bears; ``candidates`` are those that exist."""

    def __init__(self, message: str, *, candidates: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.candidates = candidates


class UsageError(PulpoError, ValueError):
    """A command line that cannot be understood."""


class CompileError(PulpoError):
    """A session that cannot be compiled; ``problems`` says why."""

    def __init__(self, message: str, *, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class CycleError(CompileError, ValueError):
    """Operations that need each other in a loop; ``cycle`` names them in order."""

    def __init__(
        self, message: str, *, cycle: tuple[str, ...] = (), problems: tuple[Problem, ...] = ()
    ) -> None:
        super().__init__(message, problems=problems)
        self.cycle = cycle


class BlockedFlowError(CompileError):
    """A flow that contains an operation with an error."""


class CarryError(PulpoError):
    """Source that cannot be carried out of the notebook.

    Parameters
    ----------
    message
        What, where it is used, and why.
    fix
        What to do about it; the error's text has it after the message.
    operation
        The operation's name; empty when it is not for a single one.
    """

    def __init__(self, message: str, *, fix: str = "", operation: str = "") -> None:
        super().__init__(f"{message} {fix}".rstrip())
        self.message = message
        self.fix = fix
        self.operation = operation


class NoSourceError(CarryError):
    """A function whose source text cannot be reached."""


class SecretError(CarryError):
    """What would be written looks like it holds a credential."""


class ExportError(PulpoError):
    """An export that could not be written; the old one is as it was."""


class EditedFileError(ExportError):
    """A generated file was edited by hand since it was written; ``files`` names it."""

    def __init__(self, message: str, *, files: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.files = files


class RunError(PulpoError):
    """A run that could not start or finish."""


class MissingInputError(RunError):
    """A flow parameter that has no value; ``missing`` names them all."""

    def __init__(self, message: str, *, missing: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.missing = missing


class OperationFailedError(RunError):
    """An operation raised; ``operation`` is its name, ``__cause__`` the user's own exception."""

    def __init__(self, message: str, *, operation: str = "") -> None:
        super().__init__(message)
        self.operation = operation


class ServerError(RunError):
    """Prefect's server could not be started, or does not answer."""


class SettingsError(PulpoError, ValueError):
    """A setting that makes no sense."""


class MissingProgramError(PulpoError):
    """A program or an extra that is not installed; the message says how to get it."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known word nearest to ``word``, or ``""``."""
    import difflib  # rarely wanted, and `import pulpo` is quicker without

    options = list(known)
    close = difflib.get_close_matches(word, options, n=1, cutoff=0.6)
    if not close:  # a last part typed alone, or upper case: 'merge' for 'scraping.merge'
        close = [o for o in options if o.lower().endswith("." + word.lower())][:1]
        close = close or [o for o in options if o.lower() == word.lower()][:1]
    return f" Did you mean {close[0]!r}?" if close else ""
