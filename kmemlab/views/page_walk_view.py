"""The page walk as a player: accesses one after the other, each step by step; and a form to ask for more of them.

Every step travels with it, as in any player. Asking for one more address needs a running Python: the MMU answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kmemlab.hardware.mmu import Mmu
from kmemlab.types.errors import BadParameter, KmemlabError
from kmemlab.types.trap_pf import X86_PF_INSTR, X86_PF_USER, X86_PF_WRITE
from kmemlab.types.units import size_text
from kmemlab.views.page_walk import NOTHING, Moment, digits_of, entries_on_the_way, moments_of, slot_of, tlb_lines
from kmemlab.views.page_walk_svg import alt_of, walk_svg
from kmemlab.views.panel import Sight
from kmemlab.views.player import Player
from kmemlab.views.steps import Step
from kmemlab.views.widget import make_widget, page

ACCESSES = {"read": 0, "write": X86_PF_WRITE, "fetch": X86_PF_INSTR}
MODES = {"kernel": 0, "program": X86_PF_USER}
MOST_KEPT = 80  # steps, some twenty accesses: all travel with every answer, so of a long run the oldest go
SCRIPTS = ("player.js", "pagewalk.js")


class PageWalk(Player):
    """Walks over the tables of one MMU. `access` adds one, `act` adds a deed of the kernel's between two of them."""

    def __init__(self, mmu: Mmu, title: str = "From a virtual address to a physical one", shown: int = -1) -> None:
        """`shown` is the step of the still picture (the last one)."""
        self.mmu = mmu
        self.steps: list[Step] = []
        self._moments: list[Moment] = []
        self.stage, self.proc_name = "page tables", "dmesg, if nobody mends the fault"
        self.tree_name = "entries read"
        self.title = title
        self.shown = shown
        self._widget: Any = None

    def access(self, address: int, what: str = "read", who: str = "kernel") -> PageWalk:
        """Let the kernel or a program read, write or fetch an instruction at an address. A fault is shown, not raised.

        Raises `BadParameter` for what is no access.
        """
        if what not in ACCESSES or who not in MODES or not 0 <= address < 1 << 4 * digits_of(self.mmu):
            raise BadParameter(
                f"no access: {what!r} by {who!r} at {address:#x}",
                where="PageWalk.access",
                remedy=f"choose one of {', '.join(ACCESSES)} by {' or '.join(MODES)}, and an address that fits",
            )
        self._add(moments_of(self.mmu, address, ACCESSES[what] | MODES[who]))
        return self

    def act(self, said: str, deed: Callable[[], object]) -> PageWalk:
        """Do something between two accesses, and tell it; the address of the last one stays in sight."""
        before = self._last
        was = tlb_lines(self.mmu)
        deed()
        now = tlb_lines(self.mmu)
        address = before.address if before else 0
        digits = digits_of(self.mmu)
        changed = tuple(f"TLB forgets  {line.text(digits)}" for line in was if line.slot not in {n.slot for n in now})
        changed += tuple(f"now stale    {line.text(digits)}" for line in now if line.stale and line not in was)
        moment = Moment(
            said,
            address,
            before.access if before else 0,
            tuple(entries_on_the_way(self.mmu, address)),
            NOTHING,
            now,
            slot_of(self.mmu, address),
            changed=changed,
            starts=True,
        )
        self._add([moment])
        return self

    def flush(self) -> PageWalk:
        """Let the TLB forget everything, as `__flush_tlb_all` does."""
        return self.act("`__flush_tlb_all` empties the TLB, global pages included.", self.mmu.tlb.flush_all)

    @property
    def results(self) -> list[str]:
        """What came of each access, as text: a physical address, or the fault."""
        return [moment.result for moment in self._moments if moment.result]

    @property
    def _last(self) -> Moment | None:
        return self._moments[-1] if self._moments else None

    def _add(self, moments: Iterable[Moment]) -> None:
        for moment in moments:
            self._moments.append(moment)
            self.steps.append(self._step_of(moment))

    def _step_of(self, moment: Moment) -> Step:
        picture, alt = walk_svg(self.mmu, moment), alt_of(moment)
        stack = tuple(f"{p.name}[{p.index}]  {p.says}" for p in moment.passed) or ("none",)
        depth = 0 if moment.starts or moment.result else 1
        tick = 2 if moment.starts else 1 if moment.result else 0
        sight = Sight(picture, alt, moment.log, ())
        return Step(moment.said, sight, None, -1, stack, moment.changed, None, depth, tick)

    # -- the widget ----------------------------------------------------------------------------------------------------

    @property
    def widget(self) -> Any:
        """The live widget, with the form; raises `KmemlabError` where anywidget is missing."""
        if self._widget is None:
            self._widget = make_widget(SCRIPTS, "mountPageWalk", self.data(), 0, {"asked": {}, "problem": ""})
            self._widget.observe(self._answer, names=["asked"])
        return self._widget

    def html(self) -> str:
        """A page that plays without Python and without a network; its form says that it needs Python."""
        return page(SCRIPTS, "mountPageWalk", self.data(), 0, self.title, self.svg())

    def data(self) -> dict[str, Any]:
        """All that the widget needs: the steps, and what its form offers."""
        layout = self.mmu.layout
        last = self._last
        strides = [level for level in reversed(layout.levels) if not level.folded]
        return {
            **super().data(),
            "address": f"{last.address if last else 0:#0{digits_of(self.mmu) + 2}x}",
            "accesses": list(ACCESSES),
            "modes": list(MODES),
            "digits": digits_of(self.mmu),
            "strides": [[size_text(level.size), str(level.size)] for level in strides],
        }

    def _answer(self, change: dict[str, Any]) -> None:
        """Do what the form asks for. What goes wrong is told in the form."""
        asked, first = change["new"], len(self.steps)
        problem = ""
        try:
            if asked.get("flush"):
                self.flush()
            else:
                self.access(address_of(str(asked.get("address", ""))), str(asked.get("what")), str(asked.get("who")))
        except KmemlabError as error:
            problem = error.what
        dropped = max(0, len(self.steps) - MOST_KEPT)
        del self.steps[:dropped]
        with self._widget.hold_sync():
            self._widget.problem = problem
            if not problem:
                self._widget.cursor = first - dropped
                self._widget.data = self.data()


def address_of(text: str) -> int:
    """An address as people write it: hexadecimal, with or without 0x, underscores allowed. Raises `BadParameter`.

    >>> hex(address_of(" ffff8880_00201234 "))
    '0xffff888000201234'
    """
    try:
        return int(text.strip().lower().removeprefix("0x"), 16)
    except ValueError:
        raise BadParameter(
            f"{text!r} is no hexadecimal number", where="the address", remedy="write for example 0xffff888000201234"
        ) from None
