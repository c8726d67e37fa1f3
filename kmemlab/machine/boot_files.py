"""What a booted machine shows, as files: the same names and formats as those saved from real machines."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from kmemlab.machine.firmware_memmap import firmware_memmap
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.procfs import buddyinfo, dmesg, iomem, meminfo, mtrr, sys_vm, zoneinfo
from kmemlab.machine.procfs_lists import pagetypeinfo, vmstat
from kmemlab.machine.slab_sysfs import slab_table
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.machine.swaps import swaps
from kmemlab.machine.vmallocinfo import vmallocinfo
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import KmemlabError

FILES: dict[str, Callable[[Kernel], str | None]] = {
    "dmesg.txt": dmesg,
    "iomem.txt": iomem,
    "buddyinfo.txt": buddyinfo,
    "zoneinfo.txt": zoneinfo,
    "meminfo.txt": meminfo,
    "sys_vm.txt": sys_vm,
    "slab_table.txt": slab_table,
    "mtrr.txt": mtrr,
    "firmware_memmap.txt": firmware_memmap,
    "pagetypeinfo.txt": pagetypeinfo,
    "slabinfo.txt": slabinfo,
    "vmallocinfo.txt": vmallocinfo,
    "vmstat.txt": vmstat,
    "swaps.txt": swaps,
}


@invented("a booted machine is compared with a real one by its files")
def boot_files(kernel: Kernel) -> dict[str, str]:
    """The text of each file that the machine has, by its name."""
    texts = {name: text_of(kernel) for name, text_of in FILES.items()}
    return {name: text for name, text in texts.items() if text is not None}


@invented("a half-written set of files would look like a machine")
def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write all files into the folder, or none; other files in it stay.

    The texts are written beside the folder first. Of a folder that exists, the old files are kept aside until all new
    ones are in place, and put back if that fails. Raises `KmemlabError` if it can't be written.
    """
    folder = folder.expanduser().absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            new = beside / "new"
            new.mkdir()
            for name, text in files.items():
                (new / name).write_text(text, encoding="utf-8", newline="\n")
            if folder.exists():
                exchange(new, folder, beside)
            else:
                os.replace(new, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise KmemlabError(
            f"{folder} can't be written: {error.strerror}",
            where="writing what the machine shows",
            remedy="name a folder that you may write into",
        ) from None


@invented("a part of write_files")
def exchange(new: Path, folder: Path, beside: Path) -> None:
    """Move every file of `new` into `folder`; if one can't be moved, the folder is as it was."""
    old = beside / "old"
    old.mkdir()
    names = sorted(path.name for path in new.iterdir())
    for name in names:
        if (folder / name).is_dir():
            raise IsADirectoryError(errno.EISDIR, f"{name} in it is a folder")
    moved: list[str] = []
    try:
        for name in names:
            moved.append(name)
            if (folder / name).exists():
                os.replace(folder / name, old / name)
            os.replace(new / name, folder / name)
    except BaseException:  # Ctrl-C, too
        for name in moved:
            if (old / name).exists():
                os.replace(old / name, folder / name)
            elif not (new / name).exists():
                (folder / name).unlink(missing_ok=True)
        raise
