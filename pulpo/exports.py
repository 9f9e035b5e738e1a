"""Writes ``run_cache/``: atomically, never over a file that somebody edited."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import EditedFileError, ExportError

__all__ = ["MANIFEST", "Written", "remove_export", "signed", "write_export"]

MANIFEST = "manifest.json"
_MARK = "# pulpo:sha256="


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
    old = _Old.read(folder)
    edited = old.edited(texts)
    if edited and not force:
        raise EditedFileError(
            f"not exported: {', '.join(edited)} in {folder.name}/ was edited by hand, or is not "
            "pulpo's. Move it away, or export with --force, which keeps it as NAME.bak.",
            files=tuple(edited),
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _beside(folder) as new:
            backed_up = old.keep(new, texts, edited)
            for path, text in texts.items():
                target = new / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text, encoding="utf-8", newline="\n")
            _swap(new, folder)
    except OSError as error:
        raise ExportError(
            f"cannot write {folder.name}/: {error.strerror or error}. The export there is as it "
            "was. Make room, or name a folder that you may write to."
        ) from error
    return Written(
        folder=folder,
        files=tuple((path, len(text.encode())) for path, text in sorted(texts.items())),
        removed=tuple(sorted(old.written - set(texts))),
        backed_up=tuple(backed_up),
    )


def signed(text: str) -> str:
    """Return ``text`` with a last line that holds its hash, by which an edit is noticed."""
    text = text if text.endswith("\n") else f"{text}\n"
    return f"{text}{_MARK}{_hash(text)}\n"


def _hash(text: str) -> str:
    text = text if text.endswith("\n") else f"{text}\n"
    return hashlib.sha256(text.encode()).hexdigest()


def _manifest_text(content: Mapping[str, object]) -> str:
    plain = json.dumps(content, indent=2, ensure_ascii=False)
    return json.dumps({**content, "sha256": _hash(plain)}, indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class _Old:
    """The export that is there: which files pulpo wrote, and which of them were edited since."""

    folder: Path
    written: frozenset[str]
    changed: frozenset[str]

    @classmethod
    def read(cls, folder: Path) -> _Old:
        try:
            content = json.loads((folder / MANIFEST).read_text("utf-8"))
            names = list(content["files"])
            recorded = content.pop("sha256", "")
            whole = recorded == _hash(json.dumps(content, indent=2, ensure_ascii=False))
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
    except (OSError, UnicodeDecodeError):
        return False
    body, mark, recorded = text.rpartition(_MARK)
    return bool(mark) and recorded.strip() == _hash(body)


def _backup_name(folder: Path, relative: str) -> str:
    name, number = f"{relative}.bak", 1
    while (folder / name).exists():
        number += 1
        name = f"{relative}.bak{number}"
    return name


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Give a new folder on the same file system, which is gone afterwards unless swapped in."""
    new = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    new.chmod(0o777 & ~_umask())  # mkdtemp's is private, an export is not
    try:
        yield new
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _swap(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``; put the old one back when that fails."""
    if not folder.exists():
        new.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
    folder.rename(old / folder.name)
    try:
        new.rename(folder)
    except BaseException:
        (old / folder.name).rename(folder)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove_export(folder: Path, *, force: bool = False) -> list[str]:
    """Remove the files that pulpo wrote, and folders that this leaves empty; return the files.

    Raises
    ------
    EditedFileError
        When one was edited by hand and ``force`` is not given; nothing is removed then.
    """
    old = _Old.read(folder)
    if old.changed and not force:
        raise EditedFileError(
            f"not removed: {', '.join(sorted(old.changed))} in {folder.name}/ was edited by hand. "
            "Move it away, or remove it with --force.",
            files=tuple(sorted(old.changed)),
        )
    try:
        for name in old.written:
            (folder / name).unlink(missing_ok=True)
        for inner in (folder / "orchestration", folder) if old.written else ():
            shutil.rmtree(inner / "__pycache__", ignore_errors=True)
            with contextlib.suppress(OSError):
                inner.rmdir()  # kept while somebody else's files are in it
    except OSError as error:
        raise ExportError(f"cannot remove {folder.name}/: {error.strerror or error}.") from error
    return sorted(old.written)
