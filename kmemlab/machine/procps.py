"""What `free` and `top` show, worked out of /proc/meminfo as procps 4.0 does: they know nothing else of memory.

column        from                                  what it means
total         MemTotal                              what the page allocator manages
used          MemTotal - MemAvailable               what programs could not get without swapping
free          MemFree                               what nobody uses at all: little, on a machine that works
shared        Shmem                                 files that live in memory alone
buff/cache    Buffers + Cached + SReclaimable       the disk's own blocks, pages of files, slabs that can shrink
available     MemAvailable                          free, and what of buff/cache could go, without the reserves

With cache, used + free is less than total; used + free + buff/cache may be more or less: the columns overlap.
"""

from __future__ import annotations

from collections.abc import Mapping

from kmemlab.machine.kernel import Kernel
from kmemlab.machine.procfs import meminfo
from kmemlab.sim.kernel import invented

COLUMNS = ("total", "used", "free", "shared", "buff/cache", "available")


@invented("procps reads /proc/meminfo so")
def meminfo_fields(text: str) -> dict[str, int]:
    """The sizes that a meminfo tells, in KiB; lines without a size are left out.

    >>> meminfo_fields("MemTotal:         983756 kB\\nHugePages_Total:       0\\n")
    {'MemTotal': 983756}
    """
    lines = (line.split() for line in text.splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) == 3 and words[2] == "kB"}


@invented("procps works the columns out of /proc/meminfo")
def free_columns(fields: Mapping[str, int]) -> dict[str, int]:
    """The columns of `free`, in KiB.

    >>> fields = {"MemTotal": 1000, "MemFree": 300, "MemAvailable": 600, "Cached": 350, "SReclaimable": 50}
    >>> free_columns(fields)
    {'total': 1000, 'used': 400, 'free': 300, 'shared': 0, 'buff/cache': 400, 'available': 600}
    """
    total, available = fields["MemTotal"], fields["MemAvailable"]
    return {
        "total": total,
        # More may be available than there is, as it is an estimate.
        "used": total - available if available <= total else total - fields["MemFree"],
        "free": fields["MemFree"],
        "shared": fields.get("Shmem", 0),
        "buff/cache": sum(fields.get(name, 0) for name in ("Buffers", "Cached", "SReclaimable")),
        "available": available,
    }


@invented("`free`, the program")
def free_text(told: Kernel | str) -> str:
    """What `free` prints, in KiB: of a machine, or of the text of a /proc/meminfo."""
    fields = meminfo_fields(told if isinstance(told, str) else meminfo(told))
    columns = free_columns(fields)
    total, free = fields.get("SwapTotal", 0), fields.get("SwapFree", 0)
    lines = [
        f"{'':8}" + "".join(f"{name:>12}" for name in COLUMNS),
        f"{'Mem:':8}" + "".join(f"{columns[name]:12}" for name in COLUMNS),
        f"{'Swap:':8}" + "".join(f"{size:12}" for size in (total, total - free, free)),
    ]
    return "".join(f"{line}\n" for line in lines)


@invented("`top`, the program")
def top_text(told: Kernel | str) -> str:
    """The two lines about memory that `top` prints, in MiB: of a machine, or of the text of a /proc/meminfo."""
    fields = meminfo_fields(told if isinstance(told, str) else meminfo(told))
    columns = free_columns(fields)
    total, free = fields.get("SwapTotal", 0), fields.get("SwapFree", 0)
    mem = [f"{columns[name] / 1024:9.1f} {name}" for name in ("total", "free", "used", "buff/cache")]
    swap = [f"{size / 1024:9.1f} {name}" for size, name in ((total, "total"), (free, "free"), (total - free, "used"))]
    return f"MiB Mem :{','.join(mem)}\nMiB Swap:{','.join(swap)}.{columns['available'] / 1024:9.1f} avail Mem\n"
