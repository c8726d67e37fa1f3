"""fork and copy on write: the entries of some processes left, page frames right, a line from each to what it names.

pid 3 sh                                  ┌ pfn 10750 ────────────────┐
 …9000 │W│ ───────────────────────────────│ mapcount 1   refcount 2   │
 …a000 │R│ ──┐                            └───────────────────────────┘
pid 4 sh      ├───────────────────────────┌ pfn 10751 ────────────────┐
 …a000 │R│ ──┘                            │ mapcount 2   refcount 3   │
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kmemlab.machine.fork_snapshot import (
    EMPTY,
    MOVING,
    NO_ACCESS,
    NO_VMA,
    READ_ONLY,
    SWAPPED,
    WRITABLE,
    ForkEntry,
    ForkFrame,
    ForkSlot,
    ForkSnapshot,
    ForkSpace,
    fork_snapshot,
)
from kmemlab.machine.kernel import Kernel
from kmemlab.machine.proc_pid import proc_pid_smaps
from kmemlab.sim.timeline import Call, Event
from kmemlab.views.colours import INK, LINE, SOFT_INK
from kmemlab.views.figure import Figure
from kmemlab.views.panel import Sight, What
from kmemlab.views.svg import HATCHED, Svg

MOST_SPACES = 4
_WIDE, _TOP, _TITLE, _ROW, _GAP = 510, 66, 20, 21, 10
_LEFT, _ADDRESS, _LETTER = 10, 116, 26  # the column of entries: where it begins, and its two parts
_FRAME_AT, _FRAME_WIDE, _FRAME_HIGH, _FRAME_STEP = 276, 224, 40, 48
_ALONE, _SHARED, _OTHER = "#9fd8c5", "#f3cf85", "#b3dcf5"
_SAID = {
    WRITABLE: "may write",
    READ_ONLY: "only read",
    SWAPPED: "swapped out",
    MOVING: "on the move",
    NO_ACCESS: "no access",
    EMPTY: "no page yet",
    NO_VMA: "in no VMA",
}
_SMAPS = ("Rss:", "Pss:", "Shared_Clean:", "Shared_Dirty:", "Private_Clean:", "Private_Dirty:", "Swap:")
Place = tuple[str, int, int]  # "pfn", number, 0; or "slot", area, offset


class ForkPanel:
    """Some pages of some processes, for a player: `pages` from `address` on, of those `pids`, or of all that have any.

    Pass `folded=TOLD_AS_ONE` of phrases_fork.py to the player.
    """

    stage = "fork"
    proc_name = "from /proc/PID/smaps, the VMA of these pages"

    def __init__(self, kernel: Kernel, address: int, pages: int, pids: Collection[int] = ()) -> None:
        self.kernel = kernel
        self.address, self.pages, self.pids = address, pages, tuple(pids)
        self._places: list[Place] = []  # what was seen once keeps its place, so that nothing jumps

    def prepare(self, calls: list[Call]) -> None:
        """Nothing to choose: the addresses are given."""

    def sight(self, stack: tuple[Call, ...], what: What | None) -> Sight:
        """Read the entries, and what they name."""
        seen = fork_snapshot(self.kernel, self.address, self.pages, self.pids)
        self._places += [place for place in places_of(seen) if place not in self._places]
        pids = [pid for space in seen.spaces for pid in space.pids]
        proc = "\n".join(smaps_lines(proc_pid_smaps(self.kernel.processes, pid), self.address, pid) for pid in pids)
        return Sight(fork_drawing(seen, self._places), fork_alt(seen), proc, facts_of(seen))

    def wrote(self, event: Event) -> What | None:
        """No single write is worth a step: entries and counts change by calls."""
        return None

    def write_sentence(self, by: str, what: What) -> str:
        """Never asked for, as no write is a step."""
        return by


def facts_of(seen: ForkSnapshot) -> tuple[tuple[str, str], ...]:
    """Each entry and each frame by name, for the list of what changed."""
    facts = [(f"mm {space.number}", space.title) for space in seen.spaces]
    facts += [
        (f"mm {space.number}, {entry.address:#x}", entry_text(entry))
        for space in seen.spaces
        for entry in space.entries
    ]
    facts += [(f"pfn {frame.pfn}", counts_text(frame)) for frame in seen.frames]
    facts += [(slot_name(slot.area, slot.offset), users_text(slot)) for slot in seen.slots]
    return tuple(facts)


def smaps_lines(smaps: str, address: int, pid: int) -> str:
    """Of /proc/PID/smaps what tells of sharing, of the VMA that an address is in; "" where it is in none."""
    lines, inside = [], False
    for line in smaps.splitlines():
        first, _, _ = line.partition(" ")
        if "-" in first:
            low, high = (int(part, 16) for part in first.split("-"))
            inside = low <= address < high
            lines += [f"# /proc/{pid}/smaps", line] if inside else []
        elif inside and first in _SMAPS:
            lines.append(line)
    return "\n".join(lines)


def places_of(seen: ForkSnapshot) -> list[Place]:
    """What the entries name, in the order in which they name it: the frames first, then the slots."""
    entries = [entry for space in seen.spaces for entry in space.entries]
    frames: list[Place] = [("pfn", entry.pfn, 0) for entry in entries if entry.pfn is not None]
    slots: list[Place] = [("slot", *entry.slot) for entry in entries if entry.slot is not None]
    return list(dict.fromkeys(frames + slots))


def slot_name(area: int, offset: int) -> str:
    """What a slot is called.

    >>> slot_name(0, 12)
    'swap area 0, slot 12'
    """
    return f"swap area {area}, slot {offset}"


def users_text(slot: ForkSlot) -> str:
    """How many entries hold a slot."""
    return "1 entry holds it" if slot.count == 1 else f"{slot.count} entries hold it"


def entry_text(entry: ForkEntry) -> str:
    """An entry in words.

    >>> entry_text(ForkEntry(0x1000, READ_ONLY, 77, may_write=True)), entry_text(ForkEntry(0x1000, EMPTY))
    ('R, pfn 77', 'no page yet')
    """
    if entry.slot is not None:
        return f"{entry.state}, {slot_name(*entry.slot)}"
    return f"{entry.state}, pfn {entry.pfn}" if entry.pfn is not None else _SAID[entry.state]


def counts_text(frame: ForkFrame) -> str:
    """The counts of a frame.

    >>> counts_text(ForkFrame(7, "anonymous", 2, 3, False, True, b""))
    'mapcount 2, refcount 3'
    """
    return f"mapcount {frame.mapcount}, refcount {frame.refcount}" if frame.counted else "its users are not counted"


def whose_text(frame: ForkFrame) -> str:
    """What kind of page a frame holds, and whose. One that others have let go of keeps no mark: a write looks again.

    >>> whose_text(ForkFrame(7, "anonymous", 1, 1, False, True, b""))
    'anonymous, was shared'
    """
    if frame.kind != "anonymous":
        return frame.kind
    if frame.exclusive:
        return "anonymous, one process's alone"
    return "anonymous, shared" if frame.mapcount > 1 else "anonymous, was shared"


def held_text(frame: ForkFrame) -> str:
    """The first bytes of a frame: as text where they are that, else in hex.

    >>> held_text(ForkFrame(7, "anonymous", 1, 1, True, True, b"Jello" + bytes(3)))
    '"Jello"'
    """
    text = frame.first_bytes.rstrip(b"\0")
    if text and all(32 <= byte < 127 for byte in text):
        return f'"{text.decode()}"'
    return frame.first_bytes[:4].hex(" ")


def fork_text(seen: ForkSnapshot) -> str:
    """All of it as lines: each process with its entries, then each frame with its counts."""
    lines = []
    for space in seen.spaces:
        lines.append(space.title)
        lines += [f"  {entry.address:#x}  {entry_text(entry)}" for entry in space.entries]
    lines += [f"pfn {f.pfn}: {counts_text(f)}; {whose_text(f)}; begins with {held_text(f)}" for f in seen.frames]
    lines += [f"{slot_name(slot.area, slot.offset)}: {users_text(slot)}" for slot in seen.slots]
    return "\n".join(lines)


def fork_alt(seen: ForkSnapshot) -> str:
    """The picture in a few sentences, written from the state."""
    said = []
    for space in seen.spaces:
        counts = [(sum(entry.state == state for entry in space.entries), word) for state, word in _SAID.items()]
        said.append(f"{space.title}: " + ", ".join(f"{count} {word}" for count, word in counts if count))
    shared = [frame for frame in seen.frames if frame.counted and frame.mapcount > 1]
    many = f"{len(seen.frames)} page frames, {len(shared)} of them with a mapcount of 2 or more"
    return f"{seen.pages} pages from {seen.address:#x} on. " + "; ".join([*said, many]) + "."


def fork_figure(seen: ForkSnapshot) -> Figure:
    """The entries of at most four processes and what they name, with the same facts as text."""
    return Figure.drawn(fork_drawing(seen), fork_text(seen))


def fork_drawing(seen: ForkSnapshot, places: Sequence[Place] = ()) -> Svg:
    """Entries left, frames and slots right; `places` says in which order, and keeps room for those that are gone."""
    places = places or places_of(seen)
    shown = seen.spaces[:MOST_SPACES]
    left_high = len(shown) * (_TITLE + seen.pages * _ROW + _GAP)
    high = _TOP + max(left_high, len(places) * _FRAME_STEP) + 6
    drawing = Svg(_WIDE, high, "Pages of several processes", fork_alt(seen))
    more = f", and {len(seen.spaces) - len(shown)} processes more" if len(seen.spaces) > len(shown) else ""
    drawing.text(10, 20, f"{seen.pages} pages from {seen.address:#x} on{more}", size=13, bold=True)
    drawing.text(
        10, 38, "W may write   R only read   S swapped out   M on the move   N no access", size=10.5, fill=SOFT_INK
    )
    drawing.text(
        10,
        52,
        "blank: no page yet   dashed: in no VMA   R with a bar: copy on write",
        size=10.5,
        fill=SOFT_INK,
    )
    tops = {place: _TOP + at * _FRAME_STEP for at, place in enumerate(places)}
    ends = _draw_lines(drawing, shown, seen.pages, tops)
    for at, space in enumerate(shown):
        _draw_space(drawing, space, _space_top(at, seen.pages))
    for frame in seen.frames:
        if ("pfn", frame.pfn, 0) in ends:
            _draw_frame(drawing, frame, tops["pfn", frame.pfn, 0])
    for slot in seen.slots:
        if ("slot", slot.area, slot.offset) in ends:
            _draw_slot(drawing, slot, tops["slot", slot.area, slot.offset])
    return drawing


def _space_top(at: int, pages: int) -> float:
    return _TOP + at * (_TITLE + pages * _ROW + _GAP)


def _draw_lines(drawing: Svg, shown: Sequence[ForkSpace], pages: int, tops: Mapping[Place, float]) -> set[Place]:
    """A line from each entry to what it names: thick where it may be written, dashed to a swap slot."""
    ends: dict[Place, int] = {}
    for at, space in enumerate(shown):
        for page, entry in enumerate(space.entries):
            place: Place | None = ("slot", *entry.slot) if entry.slot is not None else None
            if entry.pfn is not None:
                place = ("pfn", entry.pfn, 0)
            if place is None:
                continue
            y = _space_top(at, pages) + _TITLE + (page + 0.5) * _ROW
            end = tops[place] + 10 + 6 * min(ends.get(place, 0), 4)  # side by side where several arrive
            ends[place] = ends.get(place, 0) + 1
            line = 2.2 if entry.state == WRITABLE else 1.1
            drawing.line(
                _LEFT + _ADDRESS + _LETTER, y, _FRAME_AT, end, stroke=INK, line=line, dash=entry.slot is not None
            )
    return set(ends)


def _draw_space(drawing: Svg, space: ForkSpace, y: float) -> None:
    drawing.text(_LEFT, y + 14, space.title, size=12, bold=True)
    drawing.text(_LEFT + _ADDRESS + _LETTER, y + 14, f"mm {space.number}", size=10.5, anchor="end", fill=SOFT_INK)
    for page, entry in enumerate(space.entries):
        top = y + _TITLE + page * _ROW
        nowhere = entry.state == NO_VMA
        note = f"{space.title}, {entry.address:#x}: {entry_text(entry)}"
        drawing.rect(_LEFT, top, _ADDRESS, _ROW - 2, stroke=LINE, dash=nowhere, note=note)
        drawing.text(_LEFT + _ADDRESS - 6, top + 14, f"{entry.address:#x}", size=10.5, mono=True, anchor="end",
                     fill=SOFT_INK if entry.pfn is None else INK)  # fmt: skip
        copies = entry.state == READ_ONLY and entry.may_write
        x = _LEFT + _ADDRESS
        drawing.rect(x, top, _LETTER, _ROW - 2, stroke=LINE, dash=nowhere, note=note)
        if entry.state not in (EMPTY, NO_VMA):
            drawing.text(x + _LETTER / 2, top + 14, entry.state, size=11.5, bold=True, mono=True, anchor="middle")
        if copies:
            drawing.line(x + 6, top + 16.5, x + _LETTER - 6, top + 16.5, stroke=INK, line=1.6)


def _draw_frame(drawing: Svg, frame: ForkFrame, y: float) -> None:
    fill = _OTHER if frame.kind != "anonymous" else _ALONE if frame.exclusive else _SHARED
    note = f"pfn {frame.pfn}: {counts_text(frame)}, {whose_text(frame)}"
    drawing.rect(_FRAME_AT, y, _FRAME_WIDE, _FRAME_HIGH, fill=fill, stroke=INK, line=1.4, note=note)
    drawing.text(_FRAME_AT + 8, y + 16, f"pfn {frame.pfn}", size=11, mono=True, bold=True)
    drawing.text(_FRAME_AT + _FRAME_WIDE - 8, y + 16, held_text(frame), size=10.5, mono=True, anchor="end")
    counts = f"mapcount {frame.mapcount}  ref {frame.refcount}" if frame.counted else "not counted"
    drawing.text(_FRAME_AT + 8, y + 32, counts, size=11, bold=True)
    whose = "alone" if frame.exclusive else whose_text(frame).removeprefix("anonymous, ")
    drawing.text(_FRAME_AT + _FRAME_WIDE - 8, y + 32, whose, size=10.5, anchor="end")


def _draw_slot(drawing: Svg, slot: ForkSlot, y: float) -> None:
    drawing.rect(_FRAME_AT, y, _FRAME_WIDE, _FRAME_HIGH, fill=HATCHED, stroke=INK, line=1.4)
    drawing.text(_FRAME_AT + 8, y + 16, slot_name(slot.area, slot.offset), size=11, bold=True)
    drawing.text(_FRAME_AT + 8, y + 32, users_text(slot), size=11)
