"""An export is written whole, never over somebody's work, and removed without touching it."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pulpo import exports
from pulpo.errors import EditedFileError, ExportError
from pulpo.exports import MANIFEST, remove_export, signed, write_export

FILES = {"operations.py": "A = 1\n", "orchestration/main_flow.py": "B = 2\n"}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    write_export(tmp_path / "one", FILES, {"pulpo": "1"})
    write_export(tmp_path / "two", FILES, {"pulpo": "1"})
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_every_file_carries_its_hash(tmp_path: Path) -> None:
    write_export(tmp_path / "out", FILES, {})
    text = (tmp_path / "out/operations.py").read_text()
    assert text.startswith("A = 1\n# pulpo:sha256=")
    assert text == signed("A = 1\n")
    assert set(json.loads((tmp_path / "out" / MANIFEST).read_text())["files"]) == set(FILES)


def test_writing_again_changes_nothing_and_leaves_no_other_folder(tmp_path: Path) -> None:
    write_export(tmp_path / "out", FILES, {})
    before = tree(tmp_path)
    write_export(tmp_path / "out", FILES, {})
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_of_flows_that_are_gone_are_removed_and_others_stay(tmp_path: Path) -> None:
    write_export(tmp_path / "out", {**FILES, "orchestration/old_flow.py": "C = 3\n"}, {})
    (tmp_path / "out/notes.txt").write_text("mine")
    written = write_export(tmp_path / "out", FILES, {})
    assert written.removed == ("orchestration/old_flow.py",)
    assert not (tmp_path / "out/orchestration/old_flow.py").exists()
    assert (tmp_path / "out/notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["operations.py", "orchestration/main_flow.py", MANIFEST])
def test_a_file_edited_by_hand_is_not_overwritten(tmp_path: Path, name: str) -> None:
    write_export(tmp_path / "out", FILES, {"pulpo": "1"})
    path = tmp_path / "out" / name
    path.write_text(path.read_text().replace("1", "9", 1).replace("2", "9", 1))
    before = tree(tmp_path)
    with pytest.raises(EditedFileError, match=r"edited by hand.*--force") as caught:
        write_export(tmp_path / "out", FILES, {})
    assert caught.value.files == (name,)
    assert tree(tmp_path) == before


def test_a_manifest_that_was_only_laid_out_anew_is_not_edited(tmp_path: Path) -> None:
    write_export(tmp_path / "out", FILES, {"pulpo": "1"})
    path = tmp_path / "out" / MANIFEST
    content = json.loads(path.read_text())
    assert path.read_text() == json.dumps(content, indent=2) + "\n"
    path.write_text(json.dumps(content, indent=4))
    assert write_export(tmp_path / "out", FILES, {"pulpo": "2"}).backed_up == ()


def test_what_is_added_behind_a_manifest_s_seal_is_an_edit(tmp_path: Path) -> None:
    write_export(tmp_path / "out", FILES, {"pulpo": "1"})
    path = tmp_path / "out" / MANIFEST
    path.write_text(path.read_text().replace('"\n}\n', '",\n  "more": 1\n}\n'))
    with pytest.raises(EditedFileError, match=MANIFEST):
        write_export(tmp_path / "out", FILES, {})


def test_force_keeps_the_edited_file_under_another_name(tmp_path: Path) -> None:
    write_export(tmp_path / "out", FILES, {})
    path = tmp_path / "out/operations.py"
    for number, text in enumerate(("first", "second"), start=1):
        path.write_text(text)
        written = write_export(tmp_path / "out", FILES, {}, force=True)
        backup = "operations.py.bak" if number == 1 else f"operations.py.bak{number}"
        assert written.backed_up == (backup,)
        assert (tmp_path / "out" / backup).read_text() == text
    assert path.read_text() == signed("A = 1\n")


def test_a_file_that_pulpo_did_not_write_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/operations.py").write_text("precious = True\n")
    with pytest.raises(EditedFileError, match=r"operations\.py"):
        write_export(tmp_path / "out", FILES, {})
    assert tree(tmp_path / "out") == {"operations.py": b"precious = True\n"}


def test_an_edited_file_of_a_flow_that_is_gone_is_not_removed(tmp_path: Path) -> None:
    write_export(tmp_path / "out", {**FILES, "orchestration/old_flow.py": "C = 3\n"}, {})
    (tmp_path / "out/orchestration/old_flow.py").write_text("C = 4\n")
    with pytest.raises(EditedFileError, match="old_flow"):
        write_export(tmp_path / "out", FILES, {})


def test_a_failure_in_the_middle_leaves_the_old_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_export(tmp_path / "out", FILES, {})
    before = tree(tmp_path)

    def full(self: Path, *args: object, **kwargs: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ExportError, match="No space left on device"):
        write_export(tmp_path / "out", {"operations.py": "A = 5\n"}, {})
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_swap_that_fails_puts_the_old_export_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_export(tmp_path / "out", FILES, {})
    before = tree(tmp_path)
    rename, calls = Path.rename, []
    monkeypatch.setattr(exports, "_exchanged", lambda new, folder: False)

    def second_fails(self: Path, target: str | os.PathLike[str]) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(ExportError, match="busy"):
        write_export(tmp_path / "out", {"operations.py": "A = 5\n"}, {})
    monkeypatch.undo()
    assert tree(tmp_path) == before


KILLED = """
import os, pathlib, signal, sys
from pulpo import exports

folder, step, two_steps = pathlib.Path(sys.argv[1]), [0], sys.argv[2] == "two steps"
EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.chmod",
          "shutil.copyfile", "tempfile.mkdtemp", "the swap")

def died_at(stop, files):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] != 0
    seen = [0]
    def hook(event, arguments):
        if event in EVENTS:
            seen[0] += 1
            if seen[0] == stop:
                os.kill(os.getpid(), signal.SIGKILL)
    swap = exports._exchanged
    def exchanged(new, folder):
        hook("the swap", ())
        done = swap(new, folder) if not two_steps else False
        hook("the swap", ())
        return done
    exports._exchanged = exchanged
    sys.addaudithook(hook)
    exports.write_export(folder, files, {})
    os._exit(0)

NEW = {"operations.py": "A = 5\\n", "orchestration/other_flow.py": "C = 3\\n"}
stop = 1
while died_at(stop, NEW):
    print(stop, sorted((p.relative_to(folder).as_posix(), p.read_text()) for p in
          folder.rglob("*") if p.is_file()), flush=True)
    # Whatever was left there, the next one can be written, and looks the same.
    exports.write_export(folder, {"operations.py": "A = 1\\n"}, {})
    stop += 1
"""


@pytest.mark.parametrize("way", ["one step", "two steps"])
def test_an_export_that_is_killed_anywhere_leaves_the_old_one_or_the_new(
    tmp_path: Path, way: str
) -> None:
    folder = tmp_path / "out"
    new = {"operations.py": "A = 5\n", "orchestration/other_flow.py": "C = 3\n"}
    write_export(tmp_path / "new", new, {})
    write_export(folder, {"operations.py": "A = 1\n"}, {})
    (folder / "notes.txt").write_text("mine")
    whole = {**tree(tmp_path / "new"), "notes.txt": b"mine"}
    old_and_new = [told(tree(folder)), told(whole)]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, folder, way], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    found = [line.partition(" ")[2] for line in done.stdout.splitlines()]
    assert len(found) > 20
    lost = [place for place, text in enumerate(found) if text not in old_and_new]
    # Between two steps there is none, and the next export puts the old one back.
    assert [found[place] for place in lost] == ([] if way == "one step" else ["[]"] * len(lost))
    assert len(lost) <= 2
    assert set(old_and_new) <= set(found)
    assert tree(folder) == whole


def told(files: dict[str, bytes]) -> str:
    return repr(sorted((name, content.decode()) for name, content in files.items()))


def test_what_a_killed_export_left_is_removed_in_time(tmp_path: Path) -> None:
    for name, age in ((".out-abc", 7200), (".out-new", 60), (".other-abc", 7200)):
        (tmp_path / name).mkdir()
        then = time.time() - age
        os.utime(tmp_path / name, (then, then))
    write_export(tmp_path / "out", FILES, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other-abc", ".out-new", "out"]


AT_ONCE = """
import pathlib, sys
from pulpo.exports import write_export

folder, own = pathlib.Path(sys.argv[1]), sys.argv[2]
for number in range(25):
    files = {f"orchestration/{own}_{n}_flow.py": f"{number}" for n in range(5)}
    write_export(folder, {"operations.py": f"{own} = {number}", **files}, {})
"""


def test_two_exports_at_once_are_one_or_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write_export(folder, FILES, {})
    (folder / "notes.txt").write_text("mine")
    children = [
        subprocess.Popen([sys.executable, "-c", AT_ONCE, folder, name], stderr=subprocess.PIPE)
        for name in ("one", "two")
    ]
    while any(child.poll() is None for child in children):
        assert (folder / "operations.py").exists()
        assert (folder / "notes.txt").read_text() == "mine"
    said = [child.communicate()[1].decode() for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    names = {path.name for path in folder.glob("orchestration/*_flow.py")}
    winner = (folder / "operations.py").read_text()[:3]
    assert names == {f"{winner}_{n}_flow.py" for n in range(5)}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_export_that_waits_too_long_for_another_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_PATIENCE", 0.1)
    with (
        exports._locked(tmp_path / "other"),
        pytest.raises(ExportError, match=r"another export beside out/ .* Try again"),
    ):
        write_export(tmp_path / "out", FILES, {})
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_the_old_export(tmp_path: Path) -> None:
    write_export(tmp_path / "out", FILES, {})
    before = tree(tmp_path)
    code = (
        "import pathlib, resource, signal, sys\n"
        "from pulpo.exports import write_export\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write_export(pathlib.Path(sys.argv[1]), {'operations.py': 'A = 1\\n' * 10_000}, {})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out"], capture_output=True, text=True, timeout=60
    )
    assert "ExportError: cannot write out/: File too large" in done.stderr
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


READ_ONLY = """
import ctypes, pathlib, sys
from pulpo.exports import write_export

library = ctypes.CDLL(None)
if hasattr(library, "capset"):  # root without its powers is held by permissions, too
    nobody_s = (ctypes.c_uint32 * 6)()
    assert library.capset((ctypes.c_uint32 * 2)(0x20080522, 0), nobody_s) == 0
write_export(pathlib.Path(sys.argv[1]), {"operations.py": "A = 5\\n"}, {})
"""


@pytest.mark.parametrize("read_only", [".", "out", "out/orchestration"])
def test_a_read_only_folder_is_left_as_it_is(tmp_path: Path, read_only: str) -> None:
    write_export(tmp_path / "out", FILES, {})
    before = tree(tmp_path)
    (tmp_path / read_only).chmod(0o555)
    try:
        command = [sys.executable, "-c", READ_ONLY, tmp_path / "out"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        (tmp_path / read_only).chmod(0o755)
    assert "ExportError: cannot write out/: Permission denied. The export there is" in done.stderr
    assert tree(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


UNREADABLE = READ_ONLY.replace(
    'write_export(pathlib.Path(sys.argv[1]), {"operations.py": "A = 5\\n"}, {})',
    """
from pulpo.exports import read_export, remove_export
folder = pathlib.Path(sys.argv[1])
for call in (
    lambda: write_export(folder, {"operations.py": "A = 5"}, {}),
    lambda: read_export(folder),
    lambda: remove_export(folder),
):
    try:
        call()
    except Exception as error:
        print(type(error).__name__, error)
""",
)


@pytest.mark.parametrize("unreadable", ["out", "out/orchestration", "out/operations.py"])
def test_a_folder_that_cannot_be_read_is_left_as_it_is(tmp_path: Path, unreadable: str) -> None:
    write_export(tmp_path / "out", FILES, {})
    before = tree(tmp_path)
    mode = stat.S_IMODE((tmp_path / unreadable).stat().st_mode)
    (tmp_path / unreadable).chmod(0)
    try:
        command = [sys.executable, "-c", UNREADABLE, tmp_path / "out"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        (tmp_path / unreadable).chmod(mode)
    wrote, read, *removed = done.stdout.splitlines()
    assert wrote == (
        "ExportError cannot write out/: Permission denied. The export there is as it was. Name a "
        "folder that you may read and write."
    )
    assert read == "ExportError cannot read out/: Permission denied."
    # The folder itself: nobody can say what pulpo wrote, so that nothing is removed.
    wanted = [] if unreadable == "out" else ["ExportError cannot remove out/: Permission denied."]
    assert removed == wanted
    assert tree(tmp_path) == before


def test_a_folder_that_something_is_mounted_on_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_export(tmp_path / "out", FILES, {})

    def busy(new: Path, folder: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(exports, "_swap", busy)
    monkeypatch.setattr(os.path, "ismount", lambda path: path == tmp_path / "out")
    with pytest.raises(ExportError, match=r"mounted there, .*: export to out/…"):
        write_export(tmp_path / "out", FILES, {})


def test_an_export_keeps_who_may_read_it(tmp_path: Path) -> None:
    write_export(tmp_path / "out", FILES, {})
    (tmp_path / "out").chmod(0o700)
    write_export(tmp_path / "out", {"operations.py": "A = 5\n"}, {})
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o700


def test_a_file_in_the_folder_s_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ExportError, match="it is a file"):
        write_export(tmp_path / "out", FILES, {})


def test_a_link_to_the_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real")
    write_export(tmp_path / "out", FILES, {})
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real/operations.py").exists()


def test_clean_removes_what_pulpo_wrote_and_nothing_else(tmp_path: Path) -> None:
    write_export(tmp_path / "out", FILES, {})
    (tmp_path / "out/notes.txt").write_text("mine")
    removed = remove_export(tmp_path / "out")
    assert removed == sorted([*FILES, MANIFEST])
    assert tree(tmp_path) == {"out/notes.txt": b"mine"}
    (tmp_path / "out/notes.txt").unlink()
    write_export(tmp_path / "out", FILES, {})
    remove_export(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_clean_removes_what_killed_exports_left(tmp_path: Path) -> None:
    write_export(tmp_path / "out", FILES, {})
    for name, age in ((".out-killed", exports._ABANDONED + 60), (".out-at-work", 0)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_export(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == [".out-at-work"]


def test_clean_refuses_when_a_file_was_edited(tmp_path: Path) -> None:
    write_export(tmp_path / "out", FILES, {})
    (tmp_path / "out/operations.py").write_text("A = 7\n")
    before = tree(tmp_path)
    with pytest.raises(EditedFileError, match=r"operations\.py"):
        remove_export(tmp_path / "out")
    assert tree(tmp_path) == before
    assert "operations.py" in remove_export(tmp_path / "out", force=True)


def test_clean_of_what_is_not_there_removes_nothing(tmp_path: Path) -> None:
    assert remove_export(tmp_path / "out") == []
    assert exports.MANIFEST == "manifest.json"
