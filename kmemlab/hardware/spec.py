"""MachineSpec: what a machine, its firmware, its boot loader and the kernel image give, before Linux does anything.

The JSON form is one object. Addresses are numbers of bytes, ranges are [start, end] with `end` inclusive, and only
`e820` is required (an empty list is a BIOS that doesn't know the call):

    name, arch (x86_64 | i386), kernel (amd64-6.1 | …), kernel_version, firmware (BIOS | UEFI), cmdline
    e820            [[start, end, type name], …] in the order in which the firmware gives them; a range whose end is
                    below its start wraps around the end of the address space, as broken firmwares do
    e801            {"ax": KiB from 1 to 16 MiB, "bx": blocks of 64 KiB above 16 MiB, "cx": …, "dx": …},
                    or a list [ax, bx] or [ax, bx, cx, dx]
    e88             KiB above 1 MiB (16 bits). A BIOS doesn't know the calls that its machine leaves out
    int15           raw replies, call by call, that override the above; see `Int15Reply`
    cpus            present, possible, node_of {cpu: node}, flags, cache_line, phys_bits, virt_bits, and what tells old
                    CPUs apart: vendor, family, model
    numa            nodes, hotplug: [[node, start, end], …] of the SRAT; slit: the matrix of distances
    acpi_tables     [[signature, start, end], …]      smp_table [[start, end], …]     initrd [start, end] or null
    mtrr            lines as /proc/mtrr shows them at boot
    mtrr_default    the type of what they leave out: write-back, or uncachable if one of them is write-back
    bad_ram         [[start, end, bits], …] words of 8 bytes in which these bits always read as 0
    image           ranges of code, rodata, data, bss, brk; kib (sizes that the kernel prints); percpu_static,
                    percpu_reserved, percpu_dynamic, real_mode in bytes; smp_locks_kib, decrypted_kib; and where
                    KASLR put things, if that is known: text, page_offset_base, vmalloc_base, vmemmap_base
    ioapics, hpet   the number of I/O APICs; whether there is an HPET table
    dimms           [[start, end], …] memory that ACPI announces after boot
    efi_memory_map, efi_reserved    [[type or who, start, end], …]
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from kmemlab.hardware.checked_json import Range, Value, names_of, parse_json
from kmemlab.hardware.image_spec import ImageSpec, image_of
from kmemlab.sim.kernel import invented
from kmemlab.types.e820_type import E820_TYPE_RAM, e820_type_names, e820_type_number
from kmemlab.types.errors import BadSpec
from kmemlab.types.units import U64_MAX

SMAP = 0x534D4150  # what EAX says after a sound answer to E820h


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
    vendor: str = ""
    family: int = 0
    model: int = 0


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
class NamedRange:
    """A range that bears a name: an ACPI table, an EFI region."""

    name: str
    start: int
    end: int


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class BadRam:
    """Memory that does not keep what is written: `bits` of each of its words of 8 bytes always read as 0."""

    start: int
    end: int
    bits: int = U64_MAX


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
    mtrr_default: str = ""
    bad_ram: tuple[BadRam, ...] = ()
    image: ImageSpec = field(default_factory=ImageSpec)
    ioapics: int = 1
    hpet: bool = True
    dimms: tuple[Range, ...] = ()
    efi_memory_map: tuple[NamedRange, ...] = ()
    efi_reserved: tuple[NamedRange, ...] = ()


PRESETS = resources.files("kmemlab.hardware") / "presets"


@invented("the machines that come with the package", traced=False)
def preset_names() -> tuple[str, ...]:
    """The names that `load_spec` knows, in alphabetical order."""
    return tuple(sorted(file.name.removesuffix(".json") for file in PRESETS.iterdir() if file.name.endswith(".json")))


@invented("a machine described from outside: C has no such thing", traced=False)
def load_spec(source: str | Path | Mapping[str, Any] | MachineSpec) -> MachineSpec:
    """The machine that `source` describes: a preset's name, a path to a hardware.json, its parsed object, or itself.

    Raises `BadSpec` that names the file, the place in it and what to do.

    >>> load_spec("laptop-8g").e820[1]
    E820Range(start=360448, end=364543, type=2)
    """
    if isinstance(source, MachineSpec):
        return source
    if isinstance(source, Mapping):
        return spec_of(Value(dict(source), "the description given"), "custom")
    if isinstance(source, str) and source in preset_names():
        return spec_of(Value(parse_json((PRESETS / f"{source}.json").read_text("utf-8"), source), source), source)
    if not isinstance(source, (str, Path)):
        raise BadSpec(
            f"a machine can't be described by a {type(source).__name__}",
            where="load_spec",
            remedy="give a preset's name, a path, a dict or a MachineSpec",
        )
    path = Path(source)
    try:
        if path.is_dir():
            path = path / "hardware.json"
        looks_like_path = isinstance(source, Path) or path.suffix or len(path.parts) > 1 or path.exists()
        if not looks_like_path:
            raise BadSpec(f"no such preset: {source!r}", where="load_spec", remedy=f"try {', '.join(preset_names())}")
        text = path.read_text("utf-8")
    except OSError as error:
        raise BadSpec(
            f"can't read this file: {error.strerror or error}", where=short(str(path)), remedy="check the path"
        ) from None
    except UnicodeDecodeError:
        raise BadSpec("this file is no text", where=str(path), remedy="give a hardware.json") from None
    except ValueError as error:  # a name with a zero byte
        raise BadSpec(f"no file can be named so: {error}", where=repr(str(path)), remedy="check the path") from None
    return spec_of(Value(parse_json(text, str(path)), str(path)), path.parent.name or "custom")


@invented("a name may be longer than a screen", traced=False)
def short(name: str) -> str:
    """A name for a message; of a very long one its beginning and its length."""
    return name if len(name) <= 255 else f"{name[:60]}… ({len(name)} characters)"


@invented("the JSON form of a machine", traced=False)
def spec_of(machine: Value, name: str) -> MachineSpec:
    """The machine of one JSON object; `name` is used where it has none."""
    machine.only(*names_of(MachineSpec))
    return MachineSpec(
        name=machine.optional("name", Value.text, name),
        e820=tuple(e820_of(entry) for entry in machine["e820"]),
        arch=machine.optional("arch", lambda value: value.one_of("x86_64", "i386"), "x86_64"),
        kernel=machine.optional("kernel", Value.text, "amd64-6.1"),
        kernel_version=machine.optional("kernel_version", Value.text, "6.1.0-50-amd64"),
        firmware=machine.optional("firmware", lambda value: value.one_of("BIOS", "UEFI"), "BIOS"),
        cmdline=machine.optional("cmdline", Value.text, ""),
        e801=machine.optional("e801", e801_of, None),
        e88=machine.optional("e88", lambda value: value.number(most=0xFFFF), None),
        int15=machine.optional("int15", int15_of, Int15Spec()),
        cpus=machine.optional("cpus", cpus_of, CpuSpec()),
        numa=machine.optional("numa", numa_of, NumaSpec()),
        acpi_tables=machine.optional("acpi_tables", named_ranges_of, ()),
        smp_table=machine.optional("smp_table", ranges_of, ()),
        initrd=machine.optional("initrd", Value.range, None),
        mtrr=machine.optional("mtrr", lambda value: tuple(line.text() for line in value), ()),
        mtrr_default=machine.optional("mtrr_default", mtrr_default_of, ""),
        bad_ram=machine.optional("bad_ram", bad_ram_of, ()),
        image=machine.optional("image", image_of, ImageSpec()),
        ioapics=machine.optional("ioapics", lambda value: value.number(most=255), 1),
        hpet=machine.optional("hpet", Value.flag, True),
        dimms=machine.optional("dimms", ranges_of, ()),
        efi_memory_map=machine.optional("efi_memory_map", named_ranges_of, ()),
        efi_reserved=machine.optional("efi_reserved", named_ranges_of, ()),
    )


@invented("the JSON form of a machine", traced=False)
def e820_of(entry: Value) -> E820Range:
    """One entry [start, end, type name]; any two addresses will do, for that is what broken firmwares say."""
    start, end, type = entry.items(3)
    number = e820_type_number(type.text())
    if number is None:
        known = ", ".join(e820_type_names())
        type.bad(f"{type.raw!r} is no type of an e820 entry", f"use one of: {known}, or 'type 9' for another number")
    return E820Range(start.number(), end.number(), number)


@invented("the JSON form of a machine", traced=False)
def e801_of(value: Value) -> tuple[int, int, int, int]:
    """The four registers that E801h answers in, by name or as a list of two or four."""
    if isinstance(value.raw, list):
        given = [item.number(most=0xFFFF) for item in value.items(2 if len(value.raw) < 4 else 4)]
        ax, bx, cx, dx = given + [0] * (4 - len(given))
        return ax, bx, cx, dx
    value.only("ax", "bx", "cx", "dx")
    ax, bx, cx, dx = (
        value.optional(register, lambda given: given.number(most=0xFFFF), 0) for register in ("ax", "bx", "cx", "dx")
    )
    return ax, bx, cx, dx


@invented("the JSON form of a machine", traced=False)
def int15_of(value: Value) -> Int15Spec:
    """Raw replies of the three calls."""
    value.only("e820", "e801", "e88")
    return Int15Spec(
        e820=value.optional("e820", lambda list: tuple(reply_of(reply, SMAP) for reply in list), None),
        e801=value.optional("e801", lambda reply: reply_of(reply, 0), None),
        e88=value.optional("e88", lambda reply: reply_of(reply, 0), None),
    )


@invented("the JSON form of a machine", traced=False)
def reply_of(value: Value, eax: int) -> Int15Reply:
    """One raw reply; `eax` is what a sound BIOS says there."""
    value.only("range", "buffer", "carry", "eax", "ebx", "ecx", "edx")

    def register(name: str, default: int) -> int:
        return value.optional(name, lambda given: given.number(most=0xFFFFFFFF), default)

    entry = value.optional("range", e820_of, None)
    buffer = value.optional("buffer", hex_bytes_of, b"")
    if entry is not None:
        buffer = struct.pack("<QQI", entry.start, entry.size, entry.type)
    ecx = register("ecx", 20 if eax == SMAP else 0)
    carry = value.optional("carry", Value.flag, False)
    return Int15Reply(register("eax", eax), register("ebx", 0), ecx, register("edx", 0), carry, buffer)


@invented("the JSON form of a machine", traced=False)
def hex_bytes_of(value: Value) -> bytes:
    """Bytes written as pairs of hexadecimal digits."""
    try:
        return bytes.fromhex(value.text())
    except ValueError:
        value.bad(f"{value.name} holds what is no hexadecimal digit", 'write bytes such as "00fc0900"')


@invented("the JSON form of a machine", traced=False)
def cpus_of(value: Value) -> CpuSpec:
    """The CPUs; those present that `node_of` doesn't name are of node 0, others are of none that is known."""
    value.only(*names_of(CpuSpec))
    present = value.optional("present", lambda given: given.number(1, 8192), 1)
    possible = value.optional("possible", lambda given: given.number(1, 8192), present)
    node_of = [0] * present + [-1] * (possible - present)
    for cpu, node in (value.optional("node_of", Value.members, None) or {}).items():
        if not re.fullmatch("[0-9]{1,4}", cpu) or int(cpu) >= len(node_of):
            node.bad(f"{cpu[:40]!r} is no CPU of this machine", f"number CPUs from 0 to {len(node_of) - 1}")
        node_of[int(cpu)] = node.number(most=1023)
    return CpuSpec(
        present=present,
        possible=possible,
        node_of=tuple(node_of),
        flags=value.optional("flags", lambda given: tuple(flag.text() for flag in given), ()),
        cache_line=value.optional("cache_line", lambda given: given.number(1, 4096), 64),
        phys_bits=value.optional("phys_bits", lambda given: given.number(32, 52), 40),
        virt_bits=value.optional("virt_bits", lambda given: given.number(32, 57), 48),
        vendor=value.optional("vendor", Value.text, ""),
        family=value.optional("family", Value.number, 0),
        model=value.optional("model", Value.number, 0),
    )


@invented("the JSON form of a machine", traced=False)
def numa_of(value: Value) -> NumaSpec:
    """The SRAT and the SLIT."""
    value.only(*names_of(NumaSpec))
    no_slit: tuple[tuple[int, ...], ...] = ()
    slit = value.optional(
        "slit", lambda rows: tuple(tuple(cell.number(most=255) for cell in row) for row in rows), no_slit
    )
    if any(len(row) != len(slit) for row in slit):
        value["slit"].bad("the matrix of distances is not square", "give one row a node, with one distance a node")
    return NumaSpec(value.optional("nodes", nodes_of, ()), value.optional("hotplug", nodes_of, ()), slit)


@invented("the JSON form of a machine", traced=False)
def nodes_of(value: Value) -> tuple[NumaRange, ...]:
    """A list of [node, start, end]."""
    rows = [(row, row.items(3)) for row in value]
    return tuple(NumaRange(items[0].number(most=1023), *tail_range(row, items)) for row, items in rows)


@invented("the JSON form of a machine", traced=False)
def tail_range(row: Value, items: list[Value]) -> Range:
    """The range that the last two items of a row are."""
    return Value([item.raw for item in items[-2:]], row.file, row.path).range()


@invented("the JSON form of a machine", traced=False)
def ranges_of(value: Value) -> tuple[Range, ...]:
    """A list of [start, end]."""
    return tuple(row.range() for row in value)


@invented("the JSON form of a machine", traced=False)
def named_ranges_of(value: Value) -> tuple[NamedRange, ...]:
    """A list of [name, start, end]."""
    rows = [(row, row.items(3)) for row in value]
    return tuple(NamedRange(items[0].text(), *tail_range(row, items)) for row, items in rows)


@invented("the JSON form of a machine", traced=False)
def mtrr_default_of(value: Value) -> str:
    """The name of a memory type."""
    return value.one_of("uncachable", "write-combining", "write-through", "write-protect", "write-back")


@invented("the JSON form of a machine", traced=False)
def bad_ram_of(value: Value) -> tuple[BadRam, ...]:
    """A list of [start, end, bits]."""
    rows = [(row, row.items(3)) for row in value]
    return tuple(BadRam(*tail_range(row, items[:2]), items[2].number(1)) for row, items in rows)
