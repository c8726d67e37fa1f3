"""Runs notebooks and stores their outputs so that a second run stores the same bytes. For who writes the course."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kmemlab.course.notebook import BadNotebook, Cell, Notebook, canonical, code_cells, read, write
from kmemlab.types.errors import KmemlabError

# A live widget is known by a number that is another in each run; its picture and its text stay.
_LIVE = ("application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json")


class NotebookFailed(KmemlabError):
    """A cell of a notebook raised an error while it was run."""


def run_notebook(path: Path, seconds_per_cell: int = 120) -> bool:
    """Run the notebook and store its outputs; whether the file changed.

    Raises `NotebookFailed`, with nothing written.
    """
    notebook = execute(read(path), path, seconds_per_cell)
    store_plainly(notebook)
    changed = path.read_bytes() != canonical(notebook).encode()
    if changed:
        write(path, notebook)
    return changed


def execute(notebook: Notebook, path: Path, seconds_per_cell: int) -> Notebook:
    """The notebook with the outputs of a fresh kernel of this Python, started in the notebook's folder."""
    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    except ImportError:
        raise KmemlabError("nbclient is not installed", remedy="pip install 'kmemlab[lab]'") from None
    node = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]
    client = NotebookClient(
        node, timeout=seconds_per_cell, kernel_name="python3", record_timing=False, coalesce_streams=True
    )
    try:
        client.execute(cwd=str(path.resolve().parent), env=kernel_environment())
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        raise NotebookFailed(
            _told(node, error), where=str(path), remedy="run the notebook up to this cell in JupyterLab"
        ) from None
    ran: Notebook = node
    return ran


def kernel_environment() -> dict[str, str]:
    """This process's environment, in which a kernel also finds this very kmemlab, installed or not."""
    import kmemlab

    home = str(Path(kmemlab.__file__).resolve().parents[1])
    paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def store_plainly(notebook: Notebook) -> None:
    """Drop from the outputs what differs between two runs, and number the runs of the cells from 1."""
    count = 0
    for _, cell in code_cells(notebook):
        if cell["source"].strip():
            count += 1
            cell["execution_count"] = count
        outputs = [_plain_output(output, count) for output in cell["outputs"]]
        cell["outputs"] = [output for output in outputs if output]


def _plain_output(output: dict[str, Any], count: int) -> dict[str, Any]:
    if output["output_type"] == "stream":
        return output
    if output["output_type"] == "error":
        # The frames name temporary files; the message says it all.
        return {**output, "traceback": [f"{output['ename']}: {output['evalue']}"]}
    data = {mime: value for mime, value in output["data"].items() if mime not in _LIVE}
    plain = {**output, "data": data, "metadata": {}}
    if "execution_count" in output:
        plain["execution_count"] = count
    return plain if data else {}


def _told(notebook: Notebook, error: Exception) -> str:
    for number, cell in code_cells(notebook):
        for output in cell["outputs"]:
            if output["output_type"] == "error" and "raises-exception" not in cell["metadata"].get("tags", []):
                raised = f"{output['ename']}: {output['evalue']}"
                return f"code cell {number} ({cell.get('id')}) raised {raised}\n{_shown(cell)}"
    return f"the notebook stopped: {str(error).strip().splitlines()[0]}"


def _shown(cell: Cell) -> str:
    return "\n".join(f"    {line}" for line in cell["source"].splitlines())


def format_notebook(path: Path) -> bool:
    """Write the notebook in its one spelling; whether the file changed."""
    notebook = read(path)
    if not all(cell.get("id") for cell in notebook["cells"]):
        raise BadNotebook(f"{path} has cells without an id", remedy="save it once in JupyterLab")
    changed = path.read_bytes() != canonical(notebook).encode()
    if changed:
        write(path, notebook)
    return changed
