"""Runs the real-data notebook headless, shows what came out, and runs its export without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = "02_two_cities.ipynb"
# Kept after the demo, so that it can be looked at.
BUILD = ROOT / "build/demo"
CELL_SECONDS = 600


def main() -> int:
    """Run the demo; the exit status is 0 when the notebook and its export both ran."""
    with tempfile.TemporaryDirectory(prefix="pulpo-demo-") as private:
        os.environ.update(private_settings(Path(private)))
        title(f"notebooks/{NOTEBOOK}, run headless in {BUILD.relative_to(ROOT)}")
        print("this starts a kernel and a Prefect server, and takes a minute or two", flush=True)
        notebook = execute(copy_notebooks(), Path(private))
        if notebook is None:
            return 1
        show_cells(notebook)
        show_files()
        return run_export(Path(private))


def private_settings(private: Path) -> dict[str, str]:
    """The demo neither sees nor changes the user's own Prefect and IPython, and calls nobody."""
    return {
        "PREFECT_HOME": str(private / "prefect"),
        "JUPYTER_RUNTIME_DIR": str(private / "run"),
        "IPYTHONDIR": str(private / "ipython"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # A first start takes longer than Prefect's own 20 seconds on a small machine.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }


def copy_notebooks() -> Path:
    """A copy to run in, because the notebook exports to where it stands."""
    shutil.rmtree(BUILD, ignore_errors=True)
    unwanted = shutil.ignore_patterns("run_cache", ".ipynb_checkpoints", "__pycache__")
    shutil.copytree(ROOT / "notebooks", BUILD, ignore=unwanted)
    return BUILD / NOTEBOOK


def execute(path: Path, private: Path) -> NotebookNode | None:
    """Run all cells and save the outputs; None, with the reason shown, when a cell fails."""
    # Sockets in the private folder: nobody else on the machine can listen in.
    transport = {"transport": "ipc", "ip": str(private / "kernel")}
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        config=Config(KernelManager=transport),
        resources={"metadata": {"path": str(path.parent)}},
    )
    try:
        client.execute()
    except CellExecutionError as error:
        print(error, file=sys.stderr)
        return None
    finally:
        nbformat.write(notebook, path)
    return notebook


# What to show of the notebook: the title, and how the cells to show begin.
SHOWN = [
    ("The graph: nobody wrote an edge", ("%pulpo graph", "%pulpo compile")),
    ("The run, on Prefect in the kernel", ("run = %pulpo run", "%pulpo run")),
    ("The results", ("run[", "temps = run[", "comparison = run[")),
    ("The export", ("%pulpo export",)),
]


def show_cells(notebook: NotebookNode) -> None:
    """Print the plain text of the cells that tell the story."""
    for heading, starts in SHOWN:
        cells = [cell for cell in code_cells(notebook) if cell.source.startswith(starts)]
        texts = [text for cell in cells for text in outputs(cell)]
        if not texts:
            raise SystemExit(f"{NOTEBOOK} has no output to show for: {heading}")
        title(heading)
        print("\n\n".join(texts))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(cell: NotebookNode) -> list[str]:
    """What a cell printed and returned, as plain text; progress and warnings are left out."""
    texts = [
        output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        for output in cell.outputs
        if output.output_type in ("execute_result", "display_data")
        or (output.output_type == "stream" and output.name == "stdout")
    ]
    return [text.rstrip() for text in texts if text.strip()]


def show_files() -> None:
    title("The exported files")
    for path in sorted((BUILD / "run_cache").rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            print(f"{path.stat().st_size:>8,} bytes  {path.relative_to(ROOT)}")


def run_export(elsewhere: Path) -> int:
    """Run the exported main flow in a fresh process, away from the project and the notebook."""
    flow = BUILD / "run_cache/orchestration/main_flow.py"
    title("The export, in a fresh process and another directory")
    print(f"$ python -I {flow.relative_to(ROOT)}")
    sys.stdout.flush()
    status = subprocess.run([sys.executable, "-I", flow], cwd=elsewhere, check=False).returncode
    if status == 0:
        title("Next")
        print("make lab      opens the notebooks in JupyterLab; this one is", NOTEBOOK)
        print(f"{BUILD.relative_to(ROOT)}    keeps this run: the notebook's outputs and run_cache/")
    else:
        print(f"the exported flow ended with status {status}", file=sys.stderr)
    return status


def title(text: str) -> None:
    print(f"\n== {text} ".ljust(96, "="), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
