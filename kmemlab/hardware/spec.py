"""MachineSpec: what a machine, its firmware, its boot loader and the kernel image give, before Linux does anything.

The JSON form is one object. Addresses are numbers of bytes, ranges are [start, end] with `end` inclusive, and only
`e820` is required (an empty list is a BIOS that doesn't know the call):

    name, arch (x86_64 | i386), kernel (amd64-6.1 | …), kernel_version, firmware (BIOS | UEFI), cmdline
    e820            [[start, end, type name], …] in the order in which the firmware gives them; a range whose end is
                    below its start wraps around the end of the address space, as broken firmwares do
    e801            {"ax": KiB from 1 to 16 MiB, "bx": blocks of 64 KiB above 16 MiB, "cx": …, "dx": …}
    e88             KiB above 1 MiB (16 bits). A BIOS doesn't know the calls that its machine leaves out
    int15           raw replies, call by call, that override the above; see `Int15Reply`
    cpus            present, possible, node_of {cpu: node}, flags, cache_line, phys_bits, virt_bits
    numa            nodes, hotplug: [[node, start, end], …] of the SRAT; slit: the matrix of distances
    acpi_tables     [[signature, start, end], …]      smp_table [[start, end], …]     initrd [start, end] or null
    mtrr            lines as /proc/mtrr shows them at boot
    image           ranges of code, rodata, data, bss, brk; kib (sizes that the kernel prints); percpu_static,
                    percpu_reserved, percpu_dynamic, real_mode in bytes; smp_locks_kib, decrypted_kib
    ioapics, hpet   the number of I/O APICs; whether there is an HPET table
    dimms           [[start, end], …] memory that ACPI announces after boot
    efi_memory_map, efi_reserved    [[type or who, start, end], …]
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kmemlab.sim.kernel import invented
from kmemlab.types.e820_type import E820_TYPE_RAM
from kmemlab.types.units import U64_MAX

Range = tuple[int, int]  # start and inclusive end of a physical range, in bytes


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class E820Range:
    """One range as the firmware gives it: `end` is inclusive, modulo 2**64."""

    start: int
    end: int
    type: int = E820_TYPE_RAM

    @property
    def size(self) -> int:
        """Bytes; a range that ends below its start goes around the end of the address space.

        >>> E820Range(0x1000, 0x1FFF).size, hex(E820Range(U64_MAX - 0xFFF, 0xFFF).size)
        (4096, '0x2000')
        """
        return (self.end - self.start + 1) & U64_MAX


@invented("a broken BIOS is described by what it answers")
@dataclass(frozen=True, slots=True)
class Int15Reply:
    """One raw answer of `int 0x15`: registers as the BIOS leaves them, `buffer` the bytes that it writes to ES:DI.

    In JSON: {"eax": …, "ebx": …, "ecx": …, "edx": …, "carry": true, "range": [start, end, type]}, all optional; instead
    of "range", "buffer" gives the bytes in hex. For E820h, EAX is "SMAP" unless said otherwise, and ECX 20.
    """

    eax: int
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    carry: bool = False
    buffer: bytes = b""


@invented("a broken BIOS is described by what it answers")
@dataclass(frozen=True, slots=True)
class Int15Spec:
    """Raw answers, call by call: `e820` in the order in which they are given; None where the ordinary keys hold."""

    e820: tuple[Int15Reply, ...] | None = None
    e801: Int15Reply | None = None
    e88: Int15Reply | None = None


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class CpuSpec:
    """The CPUs: how many there are and may come, the node of each, and what CPUID says."""

    present: int = 1
    possible: int = 1
    node_of: tuple[int, ...] = (0,)
    flags: tuple[str, ...] = ()
    cache_line: int = 64
    phys_bits: int = 40
    virt_bits: int = 48


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class NumaRange:
    """Memory of one node, as a line of the SRAT says; `end` is inclusive."""

    node: int
    start: int
    end: int


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class NumaSpec:
    """The SRAT (which memory is of which node, hot-pluggable ranges too) and the SLIT (how far nodes are apart)."""

    nodes: tuple[NumaRange, ...] = ()
    hotplug: tuple[NumaRange, ...] = ()
    slit: tuple[tuple[int, ...], ...] = ()


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class ImageSizes:
    """The KiB of the kernel image's parts, as the `Memory:` line prints them."""

    code: int = 14343
    rwdata: int = 2338
    rodata: int = 9116
    init: int = 2820
    bss: int = 17356


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Where the boot loader put the kernel, and the sizes that the build fixed.

    The defaults are those of Debian's 6.1.0 amd64 build, loaded at 16 MiB (no KASLR).
    """

    code: Range = (0x1000000, 0x1E01D31)
    rodata: Range = (0x2000000, 0x28E6FFF)
    data: Range = (0x2A00000, 0x2C489BF)
    bss: Range = (0x330D000, 0x43FFFFF)
    brk: Range = (0x4400000, 0x4410FFF)
    kib: ImageSizes = field(default_factory=ImageSizes)
    percpu_static: int = 217088
    percpu_reserved: int = 8192
    percpu_dynamic: int = 28672
    real_mode: int = 28672
    smp_locks_kib: int = 36
    decrypted_kib: int = 2036


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class NamedRange:
    """A range that bears a name: an ACPI table, an EFI region."""

    name: str
    start: int
    end: int


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class MachineSpec:
    """All that is known of a machine before it boots. Two machines with equal specs boot alike."""

    name: str
    e820: tuple[E820Range, ...]
    arch: str = "x86_64"
    kernel: str = "amd64-6.1"
    kernel_version: str = "6.1.0-50-amd64"
    firmware: str = "BIOS"
    cmdline: str = ""
    e801: tuple[int, int, int, int] | None = None  # AX, BX, CX, DX
    e88: int | None = None
    int15: Int15Spec = field(default_factory=Int15Spec)
    cpus: CpuSpec = field(default_factory=CpuSpec)
    numa: NumaSpec = field(default_factory=NumaSpec)
    acpi_tables: tuple[NamedRange, ...] = ()
    smp_table: tuple[Range, ...] = ()
    initrd: Range | None = None
    mtrr: tuple[str, ...] = ()
    image: ImageSpec = field(default_factory=ImageSpec)
    ioapics: int = 1
    hpet: bool = True
    dimms: tuple[Range, ...] = ()
    efi_memory_map: tuple[NamedRange, ...] = ()
    efi_reserved: tuple[NamedRange, ...] = ()
