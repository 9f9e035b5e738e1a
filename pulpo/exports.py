"""Writes ``run_cache/``: atomically, never over an edited file, never at other flows' cost."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .backends.prefect import generate_modules, generate_registry
from .errors import EditedFileError, ExportError, MissingProgramError
from .plan import Orchestration

if TYPE_CHECKING:
    from .backends.document import Manifest

__all__ = [
    "MANIFEST",
    "OWN_FOLDER",
    "EarlierFlow",
    "Existing",
    "Written",
    "earlier_flows",
    "flow_files",
    "headed",
    "locks",
    "read_export",
    "read_manifest",
    "refusal",
    "remove_export",
    "restricted",
    "signed",
    "together",
    "write_export",
]

MANIFEST = "manifest.json"
OWN_FOLDER = "or give this part a folder of its own: --to FOLDER."
_MARK = "# pulpo:sha256="
# Not json.dumps and json.loads: a cell may have patched those.
_PLAIN = json.JSONEncoder()
_ENCODER, _QUOTED = json.JSONEncoder(ensure_ascii=False), json.encoder.encode_basestring
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What an export wrote: paths in the folder, with sizes in bytes."""

    folder: Path
    files: tuple[tuple[str, int], ...]
    removed: tuple[str, ...] = ()
    backed_up: tuple[str, ...] = ()


def write_export(
    folder: Path, files: Mapping[str, str], manifest: Mapping[str, object], *, force: bool = False
) -> Written:
    """Write an export and swap it in for the old one.

    Parameters
    ----------
    folder
        The export folder; files in it that pulpo did not write are kept.
    files
        Text by path in the folder. Each gets a last line with its hash.
    manifest
        What ``manifest.json`` says besides the files and their hashes.
    force
        Replace files that were edited by hand, keeping each as ``NAME.bak``.

    Raises
    ------
    EditedFileError
        When a file would be lost that was edited by hand, or that pulpo did not write.
    ExportError
        When the folder cannot be written. In both cases the old export is as it was.
    """
    folder = folder.resolve() if folder.is_symlink() else folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise ExportError(f"cannot export to {folder.name!r}: it is a file. Name another folder.")
    texts = {path: signed(text) for path, text in files.items()}
    hashes = {path: _hash(text) for path, text in sorted(files.items())}
    texts[MANIFEST] = _manifest_text({**manifest, "files": hashes})
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            old = _Old.read(folder)
            edited = old.edited(texts)
            if edited and not force:
                raise EditedFileError(
                    f"not exported: {', '.join(edited)} in {folder.name}/ was edited by hand, or "
                    "is not pulpo's. Move it away, or export with --force, which keeps it as "
                    "NAME.bak.",
                    files=tuple(edited),
                )
            _refuse_read_only(folder)
            with _beside(folder) as new:
                backed_up = old.keep(new, texts, edited)
                for path, text in texts.items():
                    target = new / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(text, encoding="utf-8", newline="\n")
                _swap(new, folder)
    except OSError as error:
        fix = "Make room, or name a folder that you may write to."
        if os.path.ismount(folder):
            fix = f"Something is mounted there, which cannot be replaced: export to {folder.name}/…"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            fix = "Name a folder that you may read and write."
        raise ExportError(
            f"cannot write {folder.name}/: {error.strerror or error}. The export there is as it "
            f"was. {fix}"
        ) from error
    return Written(
        folder=folder,
        files=tuple((path, len(text.encode())) for path, text in sorted(texts.items())),
        removed=tuple(sorted(old.written - set(texts))),
        backed_up=tuple(backed_up),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """The export that is in a folder.

    Parameters
    ----------
    manifest
        What ``manifest.json`` says.
    texts
        The files that it lists and that are there, without the line that holds their hash.
    edited, deleted
        Files that were changed or deleted by hand since they were written.
    """

    manifest: Mapping[str, Any]
    texts: Mapping[str, str]
    edited: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


def read_export(folder: Path) -> Existing | None:
    """Return the export in ``folder``; None when there is none.

    Raises
    ------
    ExportError
        When its ``manifest.json`` cannot be read.
    """
    try:
        manifest = _DECODER.decode((folder / MANIFEST).read_text("utf-8"))
        names = sorted(map(str, manifest["files"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise ExportError(f"cannot read {folder.name}/: {error.strerror}.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"{MANIFEST} in {folder.name}/ cannot be read ({type(error).__name__}), so nobody can "
            "say what was exported. Export again, with --force."
        ) from None
    try:
        there = [name for name in names if (folder / name).is_file()]
        old = _Old.read(folder)
        texts = {name: _body(folder / name) for name in there}
    except OSError as error:
        raise ExportError(f"cannot read {folder.name}/: {error.strerror or error}.") from error
    return Existing(
        manifest=manifest,
        texts=texts,
        edited=tuple(sorted(old.changed)),
        deleted=tuple(name for name in names if name not in there),
    )


def read_manifest(content: Mapping[str, Any], folder: str) -> Manifest:
    """Return what a ``manifest.json`` says, checked.

    Raises
    ------
    ExportError
        When it is of another version, or damaged.
    """
    from .backends.document import Manifest

    try:
        return Manifest.model_validate(content)
    except ValueError:
        raise ExportError(
            f"manifest.json in {folder}/ is of another version of pulpo, or damaged, so nobody can "
            "say what was exported. Export everything again."
        ) from None


def _body(path: Path) -> str:
    lines = path.read_text("utf-8", errors="replace").split("\n")
    return "\n".join(line for line in lines if not line.startswith(_MARK))


# --- Parts of a session ---------------------------------------------------------------------------


class EarlierFlow(NamedTuple):
    """A flow that the folder has: all that runs when it runs, and the part it was asked for by."""

    name: str
    operations: tuple[str, ...]
    part: Mapping[str, Any]

    @property
    def is_selected(self) -> bool:
        """True when it was cut out of the session by the names of operations."""
        return not {"upto", "from", "only"}.isdisjoint(self.part)


def earlier_flows(folder: Path) -> dict[str, EarlierFlow]:
    """Return the flows of the export that is there, by name, as its manifest tells.

    Raises
    ------
    ExportError
        When there is an export, but nothing that tells of its flows.
    """
    if not folder.is_dir():
        return {}
    try:
        manifest = _DECODER.decode((folder / MANIFEST).read_text("utf-8"))
        entries = {flow["name"]: flow for flow in manifest["plan"]["flows"]}
        parts = manifest["parts"]
        found = {
            name: EarlierFlow(name, _operations_of(name, entries), dict(parts[name]))
            for name in entries
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        with contextlib.suppress(OSError):
            if not (folder / MANIFEST).exists() and not _is_as_written(folder / "operations.py"):
                return {}
        raise refusal(
            f"{folder.name}/{MANIFEST}, which tells of the flows to keep, is missing, damaged or "
            "of another version.",
            f"Export everything, {OWN_FOLDER}",
        ) from error
    return found


def _operations_of(name: str, entries: Mapping[str, Any]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    todo = [name]
    while todo:
        flow = entries[todo.pop()]
        found.update(dict.fromkeys(flow["operations"]))
        todo.extend(flow["subflows"])
    return tuple(found)


def refusal(why: str, fix: str) -> ExportError:
    """Return the error of a partial export that would cost other flows."""
    return ExportError(f"not exported: {why} {fix}")


def restricted(plan: Orchestration, names: Iterable[str]) -> Orchestration:
    """Return the part of a plan that these flows need: them, their subflows, their operations."""
    wanted, todo = set(), list(names)
    flows = {flow.name: flow for flow in plan.flows}
    while todo:
        name = todo.pop()
        wanted.add(name)
        todo.extend(flows[name].subflows)
    kept = tuple(flow for flow in plan.flows if flow.name in wanted)
    covered = {name for flow in kept for name in flow.covers}
    return replace(
        plan,
        flows=kept,
        operations=tuple(node for node in plan.operations if node.name in covered),
        edges=tuple(e for e in plan.edges if e.source in covered and e.target in covered),
    )


def together(whole: Orchestration, plans: Sequence[Orchestration]) -> Orchestration:
    """Return the plans as one, in the order of the whole session; of two flows the first stays."""
    if len(plans) == 1:
        return plans[0]
    order = {flow.name: place for place, flow in enumerate(whole.flows)}
    flows = {flow.name: flow for plan in reversed(plans) for flow in plan.flows}
    names = {node.name for plan in plans for node in plan.operations}
    edges = {edge for plan in plans for edge in plan.edges}
    return replace(
        whole,
        flows=tuple(flows[name] for name in sorted(flows, key=lambda n: (order.get(n, -1), n))),
        operations=tuple(node for node in whole.operations if node.name in names),
        edges=tuple(edge for edge in whole.edges if edge in edges),
    )


def flow_files(
    whole: Orchestration, plans: Sequence[Orchestration], package: str
) -> dict[str, str]:
    """Return the generated files of plans, by path in the export folder, without the operations.

    Parameters
    ----------
    whole
        The plans as one.
    plans
        What is exported first, then what is kept.

    Raises
    ------
    ExportError
        When a flow that is kept calls one that would not be the same any more.
    """
    files: dict[str, str] = {}
    for plan in plans:
        for module, text in generate_modules(plan, package).items():
            if files.setdefault(_path(module, package), text) == text:
                continue
            name = module.rpartition(".")[2]
            if name != "registry":
                raise _differs(name, plans[1:], package)
    files[_path(f"{package}.orchestration.registry", package)] = generate_registry(whole, package)
    return files


# --- What has to be installed ---------------------------------------------------------------------


def headed(
    files: Mapping[str, str], flows: Iterable[str], requirements: Sequence[str], python: str
) -> dict[str, str]:
    """Return files with what their flows need as inline script metadata (PEP 723) above them.

    Parameters
    ----------
    flows
        The names of the flows, each of which can be run as a script.
    requirements
        What has to be installed, as PEP 508 spells it.
    python
        The requirement for Python, such as ``>=3.11``.
    """
    listed = "".join(f"#     {_PLAIN.encode(one)},\n" for one in requirements)
    head = f'# /// script\n# requires-python = "{python}"\n# dependencies = [\n{listed}# ]\n# ///\n'
    paths = {_flow_path(name) for name in flows}
    return {path: head + text if path in paths else text for path, text in files.items()}


def locks(
    files: Mapping[str, str], flows: Iterable[str], there: Existing | None, *, wanted: bool
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return a lock for each flow's script, as ``uv run`` reads it, and warnings.

    When it is not ``wanted``, those of the export that is there are kept, as long as they fit.

    Raises
    ------
    MissingProgramError
        When one is to be made, and there is no uv.
    ExportError
        When uv cannot make one.
    """
    paths = [path for path in map(_flow_path, flows) if path in files]
    if not paths:
        return {}, ()
    head = _head(files[paths[0]])
    if wanted:
        text = _lock(head)
        return {f"{path}.lock": text for path in paths}, ()
    old = {} if there is None else there.texts
    held = {path: text for path, text in old.items() if path.endswith(".py.lock")}
    if not held:
        return {}, ()
    if any(_head(old.get(path.removesuffix(".lock"), "")) == head for path in held):
        return {f"{path}.lock": next(iter(held.values())) for path in paths}, ()
    return {}, ("its packages are not those of the lock any more: make a new one with --lock",)


def _flow_path(name: str) -> str:
    return f"orchestration/{name}.py"


def _head(text: str) -> str:
    head, end, _ = text.partition("# ///\n")
    return head + end


def _lock(head: str) -> str:
    uv = [found] if (found := shutil.which("uv")) else [sys.executable, "-m", "uv"]
    with tempfile.TemporaryDirectory(prefix="pulpo-lock-") as folder:
        script = Path(folder) / "flow.py"
        script.write_text(head, "utf-8")
        done = subprocess.run(
            [*uv, "lock", "--quiet", "--script", str(script)],
            capture_output=True,
            text=True,
            check=False,
        )
        if "No module named uv" in done.stderr:
            raise MissingProgramError("a lock is made by uv, which is not there: pip install uv.")
        if done.returncode != 0:
            said = " ".join(done.stderr.replace(folder, "").split())
            raise ExportError(
                f"not exported: uv finds no set of packages to lock: {said[-500:]} "
                "Export without --lock, or mend that."
            )
        return Path(f"{script}.lock").read_text("utf-8")


def _path(module: str, package: str) -> str:
    parts = module.split(".")[1:]
    is_package = module in (package, f"{package}.orchestration")
    return "/".join([*parts, "__init__.py"]) if is_package else "/".join(parts) + ".py"


def _differs(name: str, kept: Sequence[Orchestration], folder: str) -> ExportError:
    flows = [flow for plan in kept for flow in plan.flows]
    callers = dict.fromkeys(flow.name for flow in flows if name in flow.subflows)
    return refusal(
        f"{', '.join(callers)} in {folder}/ calls {name}, which would become another one.",
        f"Export everything in the same way, {OWN_FOLDER}",
    )


# --- Files ----------------------------------------------------------------------------------------


def signed(text: str) -> str:
    """Return ``text`` with a last line that holds its hash, by which an edit is noticed."""
    text = text if text.endswith("\n") else f"{text}\n"
    return f"{text}{_MARK}{_hash(text)}\n"


def _hash(text: str) -> str:
    text = text if text.endswith("\n") else f"{text}\n"
    return hashlib.sha256(text.encode()).hexdigest()


def _manifest_text(content: Mapping[str, object]) -> str:
    return _sealed(_json(content).removesuffix(_END))


def _json(value: object, before: str = "\n") -> str:
    """Return a value as JSON, each item on a line of its own.

    As Python's encoder writes it with ``indent=2``, but that is no C code, and takes more than a
    tenth of a second for the manifest of a thousand operations: twice as long.
    """
    within = f"{before}  "
    if isinstance(value, str):
        return _QUOTED(value)
    if isinstance(value, dict) and value:
        items = [f"{_QUOTED(key)}: {_json(each, within)}" for key, each in value.items()]
        return f"{{{within}{f',{within}'.join(items)}{before}}}"
    if isinstance(value, (list, tuple)) and value:
        items = [_json(each, within) for each in value]
        return f"[{within}{f',{within}'.join(items)}{before}]"
    return str(value) if type(value) is int else _ENCODER.encode(value)


_END = "\n}"
_SEAL = ',\n  "sha256": "'


def _sealed(body: str) -> str:
    return f'{body}{_SEAL}{_hash(body + _END)}"{_END}\n'


def _is_sealed(text: str, content: Mapping[str, Any]) -> bool:
    """Tell whether a manifest says what it said when it was written, however it is laid out."""
    if text == _sealed(text.rpartition(_SEAL)[0]):
        return True
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return bool(content.get("sha256") == _hash(_json(rest)))


@dataclass(frozen=True, slots=True)
class _Old:
    """The export that is there: which files pulpo wrote, and which of them were edited since."""

    folder: Path
    written: frozenset[str]
    changed: frozenset[str]

    @classmethod
    def read(cls, folder: Path) -> _Old:
        try:
            text = (folder / MANIFEST).read_text("utf-8")
            content = _DECODER.decode(text)
            names = list(content["files"])
            whole = _is_sealed(text, content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls(folder, frozenset(), frozenset())
        changed = {name for name in names if not _is_as_written(folder / name)}
        written = {name for name in names if (folder / name).exists()}
        return cls(
            folder,
            frozenset(written | {MANIFEST}),
            frozenset(changed & written | (set() if whole else {MANIFEST})),
        )

    def edited(self, texts: Mapping[str, str]) -> list[str]:
        """Return the files that would be lost though somebody else's work is in them."""
        foreign = {
            path
            for path in texts
            if path not in self.written
            and (self.folder / path).exists()
            and not _is_as_written(self.folder / path)
        }
        return sorted(self.changed | foreign)

    def keep(self, new: Path, texts: Mapping[str, str], edited: list[str]) -> list[str]:
        """Bring along what pulpo did not write, and back up what was edited."""
        backed_up = []
        if self.folder.is_dir():
            for path in sorted(self.folder.rglob("*")):
                relative = path.relative_to(self.folder).as_posix()
                if path.is_dir() and not path.is_symlink():
                    continue
                if "__pycache__" in path.relative_to(self.folder).parts:
                    continue
                if relative in edited:
                    relative = _backup_name(self.folder, relative)
                    backed_up.append(relative)
                elif relative in texts or relative in self.written:
                    continue
                target = new / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target, follow_symlinks=False)
        return backed_up


def _is_as_written(path: Path) -> bool:
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError):
        return False
    body, mark, recorded = text.rpartition(_MARK)
    return bool(mark) and recorded.strip() == _hash(body)


def _backup_name(folder: Path, relative: str) -> str:
    name, number = f"{relative}.bak", 1
    while (folder / name).exists():
        number += 1
        name = f"{relative}.bak{number}"
    return name


def _refuse_read_only(folder: Path) -> None:
    """Raise where somebody made a folder read-only: an exchange would go around that."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Give a new folder on the same file system, which is gone afterwards unless swapped in."""
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    # mkdtemp's is private, an export is as it was, or as any other folder.
    new.chmod(stat.S_IMODE(folder.stat().st_mode) if folder.exists() else 0o777 & ~_umask())
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one export at a time write into a folder, and clean up after those that were killed."""
    with _locked(folder):
        _recover(folder)
        for left in folder.parent.glob(f".{folder.name}-*"):
            # One that writes on a system without locks is younger than that.
            if time.time() - left.stat().st_mtime > _ABANDONED:
                shutil.rmtree(left, ignore_errors=True)
        yield


_PATIENCE = 60  # seconds
_ABANDONED = 3600


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    # A lock on the folder above needs no file, and ends with the process.
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise ExportError(
                        f"not exported: another export beside {folder.name}/ has been under way "
                        f"for {_PATIENCE} seconds. Try again when it has ended."
                    ) from None
                time.sleep(0.05)
            except OSError:  # a file system that has no locks
                break
        yield
    finally:
        os.close(handle)


def _swap(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``, which at every moment is one of the two, whole."""
    if not folder.exists():
        new.rename(folder)
        return
    if _exchanged(new, folder):
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(old / folder.name)
    # Whoever is killed here leaves it to `_recover`.
    try:
        new.rename(folder)
    except BaseException:
        (old / folder.name).rename(folder)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; return False where the system cannot."""
    import ctypes

    library: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    if hasattr(library, "renameat2"):  # Linux; -100 is the working directory, 2 to exchange
        failed = library.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2)
    elif hasattr(library, "renamex_np"):  # macOS
        failed = library.renamex_np(os.fsencode(one), os.fsencode(other), 2)
    else:
        return False
    if failed and (code := ctypes.get_errno()) not in _CANNOT:
        raise OSError(code, os.strerror(code))
    return not failed


_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


def _recover(folder: Path) -> None:
    """Put back the export of somebody who was killed between the two steps of a swap."""
    if folder.exists():
        return
    for old in folder.parent.glob(f".{folder.name}-old-*/{folder.name}"):
        old.rename(folder)
        old.parent.rmdir()
        return


def remove_export(folder: Path, *, force: bool = False) -> list[str]:
    """Remove the files that pulpo wrote, and folders that this leaves empty; return the files.

    Raises
    ------
    EditedFileError
        When one was edited by hand and ``force`` is not given; nothing is removed then.
    ExportError
        When the folder cannot be read or changed.
    """
    try:
        # What a killed export left beside it goes, too.
        with _alone(folder) if folder.parent.is_dir() else contextlib.nullcontext():
            return _removed(folder, force=force)
    except OSError as error:
        raise ExportError(f"cannot remove {folder.name}/: {error.strerror or error}.") from error


def _removed(folder: Path, *, force: bool) -> list[str]:
    old = _Old.read(folder)
    if old.changed and not force:
        raise EditedFileError(
            f"not removed: {', '.join(sorted(old.changed))} in {folder.name}/ was edited by hand. "
            "Move it away, or remove it with --force.",
            files=tuple(sorted(old.changed)),
        )
    for name in old.written:
        (folder / name).unlink(missing_ok=True)
    for inner in (folder / "orchestration", folder) if old.written else ():
        shutil.rmtree(inner / "__pycache__", ignore_errors=True)
        with contextlib.suppress(OSError):
            inner.rmdir()  # kept while somebody else's files are in it
    return sorted(old.written)
