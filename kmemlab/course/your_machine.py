"""Your machine: what the computer in front of you says in /proc, /sys and its log; or one that ships with the course.

A capture is a folder with the same paths (proc/buddyinfo, sys/firmware/memmap/0/start, …), so both are read alike.
The shipped one is the default: its numbers are the same for every reader. Set KMEMLAB_MACHINE=mine, or call
`your_machine(mine=True)`, to look at your own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from kmemlab.hardware.spec import E820Range
from kmemlab.machine.adopt import TUNABLES
from kmemlab.types.e820_type import e820_type_names, e820_type_number, e820_type_resource
from kmemlab.types.errors import BadRequest

VARIABLE = "KMEMLAB_MACHINE"
CAPTURES = Path(__file__).parent / "captures"
SHIPPED = "amd64-4g-2cpu"
MEMMAP = "/sys/firmware/memmap"
NODES = "/sys/devices/system/node"
LOG = "/dmesg"  # in a capture
FILES = (
    LOG,
    *(f"/proc/{name}" for name in ("meminfo", "zoneinfo", "buddyinfo", "pagetypeinfo", "slabinfo", "iomem", "mtrr")),
    *(f"/proc/{name}" for name in ("vmallocinfo", "vmstat", "cmdline", "cpuinfo", "version")),
    *(f"/proc/sys/vm/{name}" for name in TUNABLES),
    "/sys/devices/system/cpu/online",
    "/sys/devices/system/cpu/possible",
)
"""What tells about memory on a running Linux; the firmware's map and the nodes' CPUs have folders of their own."""
LOG_LINE = re.compile(r"(?:BIOS-\w+): \[mem 0x([0-9a-f]+)-0x([0-9a-f]+)\] (.+)$")


class YourMachine:
    """A tree of files as Linux shows them: pasted, or under `root` if it may be read there, else the shipped one's."""

    def __init__(self, name: str, root: Path | None, pasted: Mapping[str, str] | None = None) -> None:
        """Without a `root` there is only what was pasted, by the path that it was copied from."""
        self.name = name
        self.root = root
        self.pasted = dict(pasted or {})
        self.notes: list[str] = []

    @property
    def is_live(self) -> bool:
        """Whether this is the computer that the notebook runs on."""
        return self.root == Path("/")

    def read(self, path: str) -> str:
        """The text of a file such as "/proc/buddyinfo".

        Where this computer doesn't show it, the text is the shipped machine's, and `notes` says so. Raises
        `BadRequest` if that has none either.
        """
        try:
            return self._own(path)
        except OSError as error:
            return self._shipped(path, error)

    def dmesg(self) -> str:
        """The kernel log."""
        try:
            return self._own_log()
        except OSError as error:
            return self._shipped(LOG, error)

    def e820(self) -> tuple[E820Range, ...]:
        """The firmware's map: from /sys/firmware/memmap, else from the kernel log, else the shipped machine's."""
        found = tuple(self._memmap()) or tuple(self._logged())
        if found:
            return found
        self._note(f"{MEMMAP} and the kernel log")
        return shipped().e820()

    def own(self, path: str) -> str:
        """The text of a file of this very machine ("/dmesg" is its log); empty where it doesn't show it."""
        try:
            return self._own_log() if path == LOG else self._own(path)
        except OSError:
            return ""

    def texts(self) -> dict[str, str]:
        """All files of this very machine that tell about memory and may be read, by path."""
        paths = [*FILES, *self._node_files(), *self.pasted]
        return {path: text for path in dict.fromkeys(paths) if (text := self.own(path))}

    def hidden(self) -> dict[str, str]:
        """The files that this machine doesn't show, each with the reason why."""
        return {path: reason for path in FILES if (reason := self._why_hidden(path))}

    def shows_map(self) -> bool:
        """Whether the firmware's map may be read."""
        return bool(tuple(self._memmap()) or tuple(self._logged()))

    def shows_addresses(self) -> bool:
        """Whether /proc/iomem tells addresses; who isn't root sees zeros."""
        return re.search(r"^\s*[0-9a-f]*[1-9a-f][0-9a-f]*-", self.own("/proc/iomem"), re.M) is not None

    def kernel_version(self) -> str:
        """The kernel's version, such as "6.1.0-50-amd64"; "unknown" where nothing tells it."""
        found = re.search(r"Linux version (\S+)", self.own("/proc/version") or self.own(LOG))
        return found[1] if found else "unknown"

    def config(self) -> dict[str, str]:
        """The options that the kernel was built with, from /boot/config-…; empty where that is not to be read."""
        text = self.own(f"/boot/config-{self.kernel_version()}")
        return dict(re.findall(r"^(CONFIG_\w+)=(.*)$", text, re.M))

    def text(self) -> str:
        """Whose numbers these are."""
        whose = "this computer" if self.is_live else f"{self.name}, a real machine that ships with the course"
        if self.pasted:
            whose = f"what was pasted ({', '.join(self.pasted)})"
        return "\n".join([f"Read from {whose}.", *self.notes])

    def __repr__(self) -> str:
        return self.text()

    def _own(self, path: str) -> str:
        if path in self.pasted:
            return self.pasted[path]
        if self.root is None:
            raise FileNotFoundError(path)
        return (self.root / path.lstrip("/")).read_text(encoding="utf-8", errors="replace")

    def _own_log(self) -> str:
        return kernel_log() if self.is_live and LOG not in self.pasted else self._own(LOG)

    def _node_files(self) -> list[str]:
        folder = Path() if self.root is None else self.root / NODES.lstrip("/")
        names = sorted(path.name for path in folder.glob("node*")) if self.root else []
        return [f"{NODES}/{name}/cpulist" for name in names]

    def _why_hidden(self, path: str) -> str:
        try:
            text = self._own_log() if path == LOG else self._own(path)
        except PermissionError:
            return "only root may read it"
        except FileNotFoundError:
            return "it was not pasted" if self.root is None else "there is no such file here"
        except OSError as error:
            return error.strerror or "it can't be read"
        if path == "/proc/iomem" and not self.shows_addresses():
            return "all addresses are 0: only root is told the true ones"
        return "" if text.strip() else "it is empty"

    def _logged(self) -> Iterator[E820Range]:
        try:
            yield from ranges_of_log(self._own_log())
        except OSError:
            return

    def _memmap(self) -> Iterator[E820Range]:
        if self.root is None:
            return
        folder = self.root / MEMMAP.lstrip("/")
        try:
            entries = sorted((entry for entry in folder.iterdir() if entry.name.isdecimal()), key=lambda e: int(e.name))
            for entry in entries:
                start, end, kind = ((entry / name).read_text().strip() for name in ("start", "end", "type"))
                yield E820Range(int(start, 16), int(end, 16), type_of_resource(kind))
        except (OSError, ValueError):
            return

    def _shipped(self, path: str, error: OSError) -> str:
        if self.root == CAPTURES / SHIPPED:
            raise BadRequest(
                f"{path} is not among the files of {self.name}",
                where="your_machine",
                remedy=f"set {VARIABLE}=mine on a Linux computer that has it",
            ) from error
        self._note("the kernel log" if path == LOG else path)
        return shipped().read(path)

    def _note(self, what: str) -> None:
        note = f"This computer does not let you read {what}: shown is {SHIPPED}, a machine that ships with the course."
        if note not in self.notes:
            self.notes.append(note)


def shipped() -> YourMachine:
    """The real machine whose files ship with the course: 4 GiB, two CPUs, kernel 6.1."""
    return YourMachine(SHIPPED, CAPTURES / SHIPPED)


def your_machine(mine: bool | None = None, pasted: Mapping[str, str] | None = None) -> YourMachine:
    """The computer that this runs on if `mine`, or if KMEMLAB_MACHINE=mine; else the one that ships with the course.

    With `pasted` it is a machine of which there is only what was copied: `pasted={"/proc/zoneinfo": "Node 0, …"}`.
    Raises `BadRequest` for anything but texts by their paths.

    >>> your_machine(mine=False)
    Read from amd64-4g-2cpu, a real machine that ships with the course.
    """
    if pasted is not None:
        rows = pasted.items() if isinstance(pasted, Mapping) else ((None, pasted),)
        if not all(isinstance(path, str) and isinstance(text, str) for path, text in rows):
            raise BadRequest(
                "what is pasted must be texts by the paths that they were copied from",
                where="your_machine(pasted=…)",
                remedy='write pasted={"/proc/zoneinfo": """…""", "/proc/meminfo": """…"""}',
            )
        return YourMachine("a machine whose files were pasted", None, pasted)
    if mine is None:
        mine = os.environ.get(VARIABLE, "capture") == "mine"
    return YourMachine("this computer", Path("/")) if mine else shipped()


def ranges_of_log(log: str) -> Iterator[E820Range]:
    """The ranges of a log's BIOS-e820 lines (BIOS-e801 and BIOS-88, too), in their order.

    >>> list(ranges_of_log("[    0.000000] BIOS-e820: [mem 0x0000000000000000-0x000000000009fbff] usable"))
    [E820Range(start=0, end=654335, type=1)]
    """
    for line in log.splitlines():
        said = LOG_LINE.search(line)
        number = e820_type_number(said[3].strip()) if said else None
        if said and number is not None:
            yield E820Range(int(said[1], 16), int(said[2], 16), number)


def type_of_resource(name: str) -> int:
    """The e820 type that a resource's name means, as /sys/firmware/memmap and /proc/iomem print it.

    >>> type_of_resource("System RAM"), type_of_resource("ACPI Tables")
    (1, 3)
    """
    for printed in e820_type_names():
        number = e820_type_number(printed)
        if number is not None and e820_type_resource(number) == name:
            return number
    raise ValueError(f"no e820 type is named {name!r}")


def kernel_log() -> str:
    """The kernel log of this computer, as far as it is still kept. Raises OSError where it may not be read."""
    records = []
    log = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                record = os.read(log, 8192)
            except BlockingIOError:  # that was the last one
                break
            except BrokenPipeError:  # overwritten while we read: the next one is whole again
                continue
            records.append(record.decode("utf-8", "replace").split(";", 1)[-1].split("\n", 1)[0])
    finally:
        os.close(log)
    return "\n".join(records)
