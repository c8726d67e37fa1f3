"""What a BIOS answers when real-mode code executes `int 0x15`: the three calls that tell how much memory there is.

AX=E820h   one range a call: EBX says which comes next (0: none), ES:DI where to put it, EDX = "SMAP" as a password
AX=E801h   AX, CX: KiB from 1 to 16 MiB      BX, DX: blocks of 64 KiB above 16 MiB
AH=88h     AX: KiB above 1 MiB, 65535 at most
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from itertools import pairwise

from kmemlab.hardware.spec import SMAP, Int15Reply, MachineSpec
from kmemlab.sim.kernel import invented

UNSUPPORTED = 0x8600  # AH of a call that the BIOS doesn't know


@invented("the CPU's registers in real mode, as far as memory detection uses them")
@dataclass(frozen=True, slots=True)
class Registers:
    """Registers before and after an interrupt; `es_di` are the bytes at ES:DI, `carry` is CF, the error flag."""

    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    es_di: bytes = bytes(20)
    carry: bool = False

    @property
    def ax(self) -> int:
        """The lower half of EAX."""
        return self.eax & 0xFFFF

    @property
    def bx(self) -> int:
        """The lower half of EBX."""
        return self.ebx & 0xFFFF

    @property
    def cx(self) -> int:
        """The lower half of ECX."""
        return self.ecx & 0xFFFF

    @property
    def dx(self) -> int:
        """The lower half of EDX."""
        return self.edx & 0xFFFF


@invented("firmware is no part of the kernel")
@dataclass(frozen=True, slots=True)
class Bios:
    """The firmware of one machine. It keeps no state between calls: all that it knows of the last one is EBX.

    >>> from kmemlab.hardware.spec import E820Range
    >>> bios = Bios(MachineSpec("one", (E820Range(0, 0x9FBFF, 1), E820Range(0x100000, 0x7FFFFFF, 1))))
    >>> first = bios.int15(Registers(eax=0xE820, edx=SMAP, ecx=20))
    >>> first.es_di.hex(), first.ebx
    ('000000000000000000fc09000000000001000000', 1)
    """

    spec: MachineSpec

    def int15(self, regs: Registers) -> Registers:
        """The registers after the call; one that the BIOS doesn't know comes back with the carry flag set."""
        if regs.ax == 0xE820:
            return self.e820(regs)
        if regs.ax == 0xE801:
            return self.e801(regs)
        if regs.ax >> 8 == 0x88:
            return self.e88(regs)
        return refused(regs)

    def e820(self, regs: Registers) -> Registers:
        """AX=E820h: the range that EBX stands for."""
        if self.spec.int15.e820 is not None:
            return replay(regs, self.spec.int15.e820)
        ranges = self.spec.e820
        if regs.edx != SMAP or regs.ecx < 20 or regs.ebx >= len(ranges):
            return refused(regs)
        this = ranges[regs.ebx]
        following = (regs.ebx + 1) % len(ranges)  # the last range is followed by 0
        written = struct.pack("<QQI", this.start, this.size, this.type) + regs.es_di[20:]
        return replace(regs, eax=SMAP, ebx=following, ecx=20, es_di=written, carry=False)

    def e801(self, regs: Registers) -> Registers:
        """AX=E801h: memory below and above 16 MiB."""
        if self.spec.int15.e801 is not None:
            return replied(regs, self.spec.int15.e801)
        if self.spec.e801 is None:
            return refused(regs)
        ax, bx, cx, dx = self.spec.e801
        return replace(regs, eax=ax, ebx=bx, ecx=cx, edx=dx, carry=False)

    def e88(self, regs: Registers) -> Registers:
        """AH=88h: memory above 1 MiB, in 16 bits."""
        if self.spec.int15.e88 is not None:
            return replied(regs, self.spec.int15.e88)
        if self.spec.e88 is None:
            return replace(regs, eax=0, carry=True)  # Linux doesn't look at the carry flag here
        return replace(regs, eax=min(self.spec.e88, 0xFFFF), carry=False)


@invented("firmware is no part of the kernel")
def refused(regs: Registers) -> Registers:
    """The answer of a BIOS that doesn't know the call: carry set, AH = 86h."""
    return replace(regs, eax=UNSUPPORTED, carry=True)


@invented("firmware is no part of the kernel")
def replied(regs: Registers, reply: Int15Reply) -> Registers:
    """The registers of a raw answer; bytes of the buffer that the BIOS does not write stay as they were."""
    written = reply.buffer + regs.es_di[len(reply.buffer) :]
    return Registers(reply.eax, reply.ebx, reply.ecx, reply.edx, written, reply.carry)


@invented("firmware is no part of the kernel")
def replay(regs: Registers, replies: tuple[Int15Reply, ...]) -> Registers:
    """The raw answer that follows the one whose EBX the caller hands back; a new walk (EBX = 0) begins at the first."""
    if regs.ebx == 0:
        return replied(regs, replies[0]) if replies else refused(regs)
    for reply, following in pairwise(replies):
        if reply.ebx == regs.ebx:
            return replied(regs, following)
    return refused(regs)
