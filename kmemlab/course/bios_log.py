"""A BIOS that is listened to: every `int 0x15`, the registers before and after, as a table.

call   EBX in    CF  EAX out   EBX out   what came back
E820h  00000000   0  534d4150  00000001  0000000000000000 0080050000000000 01000000   0x0 + 0x58000 usable
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from kmemlab.boot.boot_params import BootParams, unpack_boot_e820_entry
from kmemlab.boot.detect import detect_memory
from kmemlab.hardware.bios import Bios, Registers
from kmemlab.hardware.spec import SMAP, load_spec
from kmemlab.types.e820_type import e820_type_text

Call = tuple[Registers, Registers]


@dataclass(frozen=True, slots=True)
class BiosLog(Bios):
    """The firmware of a machine, with a list of the calls that it answered: (registers before, registers after)."""

    calls: list[Call] = field(default_factory=list)

    def int15(self, regs: Registers) -> Registers:
        """Answer as the BIOS does, and write the call down."""
        after = Bios.int15(self, regs)
        self.calls.append((regs, after))
        return after

    def text(self, decoded: bool = True) -> str:
        """All calls, one a line; E820h's 20 bytes also decoded if asked for."""
        head = f"{'call':<6} {'EBX in':<9} {'CF':<3} {'EAX out':<9} {'EBX out':<9} what came back"
        return "\n".join([head, *(line.rstrip() for line in self._lines(decoded))])

    def call_text(self, number: int) -> str:
        """One call in full: each register before and after."""
        before, after = self.calls[number]
        lines = [f"{'':<6}{'before':>10}{'after':>10}"]
        for name in ("eax", "ebx", "ecx", "edx"):
            value = getattr(after, name)
            password = '   "SMAP"' if SMAP in (value, getattr(before, name)) else ""
            lines.append(f"{name.upper():<6}{getattr(before, name):>10x}{value:>10x}{password}")
        lines += [f"{'CF':<6}{'':>10}{after.carry:>10d}", f"ES:DI before  {packed(before)}"]
        return "\n".join([*lines, f"ES:DI after   {packed(after)}"])

    def _lines(self, decoded: bool) -> Iterator[str]:
        for before, after in self.calls:
            name = "88h" if before.ax >> 8 == 0x88 else f"{before.ax:X}h"
            yield (
                f"{name:<6} {before.ebx:08x}  {after.carry:d}   {after.eax:08x}  {after.ebx:08x}  "
                f"{said(name, after, decoded)}"
            )


def said(name: str, after: Registers, decoded: bool) -> str:
    """What the caller may read from an answer; after an error there is nothing."""
    if name == "88h":
        return f"AX {after.ax:04x}"
    if after.carry:
        return "-"
    if name == "E801h":
        return f"AX {after.ax:04x}  BX {after.bx:04x}  CX {after.cx:04x}  DX {after.dx:04x}"
    entry = unpack_boot_e820_entry(after.es_di[:20])
    meaning = f"   {entry.addr:#x} + {entry.size:#x} {e820_type_text(entry.type)}" if decoded else ""
    return packed(after) + meaning


def packed(regs: Registers) -> str:
    """The 20 bytes at ES:DI, with a space after addr and after size."""
    digits = regs.es_di[:20].hex()
    return f"{digits[:16]} {digits[16:32]} {digits[32:]}"


def ask(source: object) -> tuple[BiosLog, BootParams]:
    """Run the setup code's memory detection on a machine: the calls that it made, and the zero page that it filled.

    >>> log, boot_params = ask("old-bios-e801")
    >>> [before.ax for before, after in log.calls] == [0xE820, 0xE801, 0x8800]
    True
    >>> boot_params.e820_entries, boot_params.alt_mem_k
    (0, 130048)
    """
    log, boot_params = BiosLog(load_spec(source)), BootParams()  # type: ignore[arg-type]
    detect_memory(log, boot_params)
    return log, boot_params
