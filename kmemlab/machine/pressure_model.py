"""The model's memory under a trace's work: each block that the work asks for, and what stands in it.

request ─▶ alloc_pages: the machine's own slow path wakes kswapd, frees pages itself, kills
   │
   ├▶ of a file:     filemap_add_folio      a bit later; what is still in the model's cache is used, not asked for
   ├▶ of a program:  folio_add_lru          mapped once, used once
   └▶ the kernel's:  held until it is freed

The programs of a trace have no page tables here. Reclaim asks whether a page was used, and takes it away from its
program, by the tables of mm/rmap_table.py, in which this file answers for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

from kmemlab.alloc.page_alloc import alloc_pages_inner
from kmemlab.machine.pressure_tasks import TraceTasks
from kmemlab.machine.pressure_work import Content, Kind, Step
from kmemlab.machine.replay_memory import whole_blocks
from kmemlab.machine.saved_state import KPF_ACTIVE, KPF_ANON, KPF_LRU, KPF_PRIVATE, SavedState
from kmemlab.mm.address_space import MAX_MAPPINGS, address_space_init, filemap_get_folio
from kmemlab.mm.context import set_task_comm
from kmemlab.mm.globals import Mm
from kmemlab.mm.lru import folio_activate, folio_add_lru, folio_mark_accessed, lru_add_drain
from kmemlab.mm.lru_list import lruvec_add_folio
from kmemlab.mm.page_cache import filemap_add_folio, filemap_remove_folio
from kmemlab.mm.page_free import free_pages_inner, page_zone, put_page
from kmemlab.mm.page_mapping import anon_mapping
from kmemlab.mm.page_state import page_has_flag, page_ref_inc, set_page_flag
from kmemlab.mm.rmap_table import FOLIO_REFERENCED, TRY_TO_UNMAP
from kmemlab.mm.swap_count import swap_duplicate
from kmemlab.mm.swap_state import folio_swap_entry, folio_test_swapcache, free_swap_and_cache
from kmemlab.mm.wait import folio_lock, folio_unlock
from kmemlab.process.mm_struct import NR_ANON_VMAS
from kmemlab.process.task_struct import Processes, TaskStruct
from kmemlab.process.zap import free_page_and_swap_cache
from kmemlab.sim.kernel import invented
from kmemlab.sim.list_head import init_list_head
from kmemlab.types.errors import BadRequest, KernelPanic, MustWait
from kmemlab.types.gfp import __GFP_NOFAIL as GFP_NOFAIL
from kmemlab.types.pageflags import (
    PG_active,
    PG_lru,
    PG_mlocked,
    PG_referenced,
    PG_swapbacked,
    PG_unevictable,
    PG_uptodate,
)

# Bits of /proc/kpageflags and the page flags that they tell of; dirty pages of files can't be told from others' here.
OLD_FLAGS = {
    2: PG_referenced,
    3: PG_uptodate,
    KPF_ACTIVE: PG_active,
    14: PG_swapbacked,
    18: PG_unevictable,
    33: PG_mlocked,
}
WHICH_LIST = 1 << KPF_ACTIVE | 1 << KPF_ANON | 1 << 14 | 1 << 18  # bits that differ from one LRU list to another
OLD_FILES = "before the trace"
BUFFERS_AT_HAND = 16  # BH_LRU_SIZE: buffers that a CPU was the last to use, and does not let go
NO_VMAS = NR_ANON_VMAS  # the anon_vma of the trace's programs: no page table is found by it


@invented("in which order pages in a row were asked for, as far as their places tell", traced=False)
def parts_by_age(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The parts (order, first page frame, end) of pages in a row: whole blocks, the last of the largest to the end.

    >>> list(parts_by_age(10, 41))
    [(1, 10, 12), (2, 12, 16), (4, 16, 41)]
    """
    blocks = list(whole_blocks(start, end))
    last = max(range(len(blocks)), key=lambda at: (blocks[at][1], at), default=0)
    yield from ((order, pfn, pfn + (1 << order)) for pfn, order in blocks[:last])
    yield from ((order, pfn, end) for pfn, order in blocks[last : last + 1])


@invented("the model of a machine's memory, driven by a trace's work")
class PressureModel:
    """`mm` stands as the real machine stood when its trace began."""

    def __init__(self, processes: Processes, state: SavedState, used: bytes) -> None:
        """`used` tells by a byte a page frame which were in use, and on no CPU's list, when the trace began."""
        self.mm = processes.common.mm
        self.tasks = TraceTasks(processes, self.give_back, self.die)
        anon_vmas = processes.common.anon_vmas
        init_list_head(anon_vmas.same_anon_vma, anon_vmas.head(NO_VMAS))
        self.files: dict[str, int] = {}  # a file of the trace → its mapping
        self.young: set[int] = set()  # mapped pages that were used since reclaim asked last
        self.content_of: dict[int, Content] = {}  # of a program: page → what stands there
        self.swapped: set[Content] = set()  # of programs: what stands in swap
        self.old_cached: set[int] = set()  # pages of files from before the trace
        self.buffers: deque[int] = deque()  # pages of a disk's own mapping, a file system's, whose buffers are at hand
        self.old = bytearray(used)  # frames of the kernel's that nobody has given back since
        self.dying: deque[tuple[TaskStruct, deque[Content]]] = deque()  # who was killed, and what it has left
        self.contradictions: list[Step] = []
        self.requests = self.refused = self.hits = 0
        self.put_old_pages(state)

    # -- the start -----------------------------------------------------------------------------------------------------

    def put_old_pages(self, state: SavedState) -> None:
        """Put the pages that were on the LRU lists on the model's. In which order they stood, nobody saved.

        Whoever fills memory gets the small free blocks first, and each from its low end: pages of small blocks are
        taken for the oldest, and what follows a block for the rest of a larger one, the end of which somebody else has.

        in use          │ 2 │  4  │    16     │ 8 │ 1     pages in a row, in blocks as they are aligned
        came as         │1st│ 2nd │       3rd         │
        """
        mm = self.mm
        for pfn in range(mm.page.max_pfn):
            mm.page.flags[pfn] = 0  # what the model's own boot left there
        bits = {
            pfn: flags
            for start, pages, flags in state.flags
            if flags >> KPF_LRU & 1
            for pfn in range(start, min(start + pages, mm.page.max_pfn))
        }
        parts: list[tuple[int, int, int]] = []
        for _, row in groupby(enumerate(bits), lambda item: (item[1] - item[0], bits[item[1]] & WHICH_LIST)):
            pfns = [pfn for _, pfn in row]
            parts += parts_by_age(pfns[0], pfns[-1] + 1)
        for _, first, end in sorted(parts):
            for pfn in range(first, end):
                flags = bits[pfn]
                mm.page.flags[pfn] = sum(1 << flag for bit, flag in OLD_FLAGS.items() if flags >> bit & 1)
                self.put_old_page(pfn, bool(flags >> KPF_ANON & 1))
                # A page with buffers, in use: a block of a mounted file system's own, which holds it until it goes.
                mm.page.refcount[pfn] += flags >> KPF_PRIVATE & flags >> KPF_ACTIVE & ~flags >> KPF_ANON & 1

    def put_old_page(self, pfn: int, anon: bool) -> None:
        """Put one page on its list; of which file it is, nobody knows."""
        mm, page = self.mm, self.mm.page
        self.old[pfn] = 0
        page.owned[pfn] = page.refcount[pfn] = 1
        if not anon and not page_has_flag(page, pfn, PG_swapbacked):
            filemap_add_folio(mm, self.mapping(OLD_FILES), pfn, pfn, 0)
            put_page(mm, pfn)
            folio_unlock(mm, pfn)
            self.old_cached.add(pfn)
            return
        set_page_flag(page, pfn, PG_lru)
        lruvec_add_folio(mm, pfn)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def become(self, step: Step) -> None:
        """From now on the step's task runs, on its CPU."""
        current = self.mm.current
        current.cpu, current.flags = step.cpu, 0
        if current.pid != step.pid:
            current.pid = step.pid
            set_task_comm(current, step.task)

    def request(self, step: Step) -> None:
        """The work asks for a block: the model's allocator finds one, if need be by reclaim."""
        content = step.content
        assert content is not None
        if self.tasks.is_dead(step.pid):
            return
        if content.kind is Kind.ANON:
            self.tasks.address_space(content.pid, step.task)
        mapping = self.mapping(content.file) if content.kind is Kind.FILE else 0
        cached = filemap_get_folio(self.mm.mappings, mapping, content.index) if mapping else None
        if cached is not None:
            # Linux had let it go and the model had not: here the program finds it.
            self.hits += 1
            folio_mark_accessed(self.mm, cached)
            return
        self.requests += 1
        pfn = self.alloc(content, self.mm.numa.cpu_to_node[step.cpu])
        if pfn is None:
            self.refused += 1
        elif content.kind is Kind.ANON:
            self.bring_anon(content, pfn)
        else:
            content.page = pfn
        self.tasks.end_killed()

    def alloc(self, content: Content, nid: int) -> int | None:
        """A block for it; None if the model has none."""
        try:
            return alloc_pages_inner(self.mm, content.gfp, content.order, nid)
        except (BadRequest, MustWait, KernelPanic):
            # Flags that no caller could give; a wait for what other tasks will free; nobody left to be killed.
            return None

    def add(self, step: Step) -> None:
        """The block that was asked for is a page of a file now, read at once."""
        mm, content = self.mm, step.content
        assert content is not None
        pfn, content.page = content.page, None
        if pfn is None:
            return
        mapping = self.mapping(content.file)
        if filemap_get_folio(mm.mappings, mapping, content.index) is not None:
            put_page(mm, pfn)  # it came into the model's cache meanwhile
            return
        filemap_add_folio(mm, mapping, pfn, content.index, content.gfp)
        set_page_flag(mm.page, pfn, PG_uptodate)
        folio_unlock(mm, pfn)
        if content.mapped:
            mm.page.mapcount[pfn] = 1
            self.young.add(pfn)
        if content.gfp & GFP_NOFAIL:
            self.keep_at_hand(pfn)
        put_page(mm, pfn)

    def keep_at_hand(self, pfn: int) -> None:
        """A file system has read a block of its own, which must not fail: reclaim can't have its page now."""
        page_ref_inc(self.mm.page, pfn)
        self.buffers.append(pfn)
        if len(self.buffers) > BUFFERS_AT_HAND:
            put_page(self.mm, self.buffers.popleft())

    def bring_anon(self, content: Content, pfn: int) -> None:
        """The block is a page of a program now."""
        page = self.mm.page
        if not content.shared:
            page.mapping[pfn] = anon_mapping(NO_VMAS)
            self.tasks.count(content.pid, 1)
        page.flags[pfn] |= 1 << PG_swapbacked | 1 << PG_uptodate
        page.mapcount[pfn] = 1
        self.young.add(pfn)
        content.page = pfn
        self.content_of[pfn] = content
        folio_add_lru(self.mm, pfn)

    def free(self, step: Step) -> None:
        """The work gives a block back; what the model has let go of already is passed over."""
        content = step.content
        assert content is not None
        if content.kind is Kind.FILE:
            self.drop_file(content)
        elif content.kind is Kind.ANON:
            self.drop_anon(content)
        elif content.page is not None:
            pfn, content.page = content.page, None
            if not content.old:
                free_pages_inner(self.mm, pfn, content.order)
            elif page_zone(self.mm, pfn) is not None and not self.drop_old_block(pfn, content.order):
                self.contradictions.append(step)

    def drop_file(self, content: Content) -> None:
        """A page of a file goes with its file."""
        mm = self.mm
        mapping = self.files.get(content.file, 0)
        pfn = filemap_get_folio(mm.mappings, mapping, content.index) if mapping else None
        if pfn is not None:
            self.drop_cached(pfn)

    def drop_cached(self, pfn: int) -> None:
        """Take a page out of the page cache, and free it."""
        mm = self.mm
        lru_add_drain(mm)
        mm.page.mapcount[pfn] = 0
        self.young.discard(pfn)
        if pfn in self.buffers:
            self.buffers.remove(pfn)
            put_page(mm, pfn)
        page_ref_inc(mm.page, pfn)
        folio_lock(mm, pfn)
        filemap_remove_folio(mm, pfn)
        folio_unlock(mm, pfn)
        put_page(mm, pfn)

    def drop_anon(self, content: Content) -> None:
        """A program lets go of a page."""
        pfn, content.page = content.page, None
        entry, content.entry = content.entry, 0
        if entry:
            self.swapped.remove(content)
            self.tasks.count(content.pid, 0, -1)
            free_swap_and_cache(self.mm, entry)
        if pfn is None:
            return
        del self.content_of[pfn]
        self.young.discard(pfn)
        if not content.shared:
            self.tasks.count(content.pid, -1)
        page = self.mm.page
        page.mapcount[pfn] = 0
        if page.refcount[pfn] > 1:
            lru_add_drain(self.mm)
        free_page_and_swap_cache(self.mm, pfn)

    def drop_old_block(self, pfn: int, order: int) -> bool:
        """A block from before the trace goes; False if the model doesn't hold it as one block.

        Linux gave parts of it back then, and asked for the whole again, in events that the trace has lost.
        """
        mm, page = self.mm, self.mm.page
        if pfn in self.old_cached:
            if page.mapping[pfn] == self.files[OLD_FILES] and page.index[pfn] == pfn:
                self.drop_cached(pfn)
            return True
        if page_has_flag(page, pfn, PG_lru) and page.owned[pfn]:
            page.mapcount[pfn] = 0
            put_page(mm, pfn)
            return True
        end = pfn + (1 << order)
        if self.old[pfn:end] != b"\1" * (1 << order):
            return False
        self.old[pfn:end] = bytes(1 << order)
        page.owned[pfn] = 1 + order  # nobody noted who has it
        free_pages_inner(mm, pfn, order)
        return True

    def activate(self, step: Step) -> None:
        """The work used a page again."""
        content = step.content
        assert content is not None
        mapping = self.files.get(content.file, 0)
        pfn = filemap_get_folio(self.mm.mappings, mapping, content.index) if mapping else content.page
        if pfn is not None and self.mm.page.owned[pfn]:
            folio_activate(self.mm, pfn)

    def exit(self, step: Step) -> None:
        """A program ends."""
        task = self.tasks.rows.get(step.pid)
        if task is not None:
            self.tasks.end(task)

    def left_by(self, pid: int) -> list[Content]:
        """What a program has left, in RAM and in swap."""
        left = [content for content in self.content_of.values() if content.pid == pid and not content.shared]
        return left + [content for content in self.swapped if content.pid == pid]

    def give_back(self, pid: int) -> None:
        """What a program has left goes."""
        for content in self.left_by(pid):
            self.drop_anon(content)

    def die(self, task: TaskStruct) -> None:
        """A program was killed. It keeps its row until all is given back, so that nobody else is killed meanwhile."""
        self.dying.append((task, deque(self.left_by(task.pid))))

    def exit_further(self, pages: int) -> int:
        """Whoever was killed first gives back so many pages more; how many all who were killed have left."""
        if self.dying:
            left = self.dying[0][1]
            for _ in range(min(pages, len(left))):
                content = left.popleft()
                if content.page is not None or content.entry:
                    self.drop_anon(content)
        while self.dying and not self.dying[0][1]:
            self.tasks.bury(self.dying.popleft()[0])
        return sum(len(left) for _, left in self.dying)

    def score(self, step: Step) -> None:
        """Somebody makes a task more or less likely to be killed."""
        self.tasks.set_score(step.pid, step.number)

    def mapping(self, file: str) -> int:
        """The mapping of a file of the trace."""
        found = self.files.get(file)
        if found is None:
            if len(self.files) >= MAX_MAPPINGS - 64:
                file = OLD_FILES
            found = self.files[file] = self.files.get(file) or address_space_init(self.mm.mappings, "file")
        return found

    # -- what reclaim asks ---------------------------------------------------------------------------------------------

    def folio_referenced(self, mm: Mm, pfn: int) -> tuple[int, int]:
        """Whether a program of the trace has used a page since this was asked last."""
        if mm is not self.mm or pfn not in self.young:
            return 0, 0
        self.young.discard(pfn)
        return 1, 0

    def try_to_unmap(self, mm: Mm, pfn: int) -> None:
        """Take a page from its program."""
        if mm is not self.mm:
            return
        content = self.content_of.get(pfn)
        if content is None:
            if not page_has_flag(mm.page, pfn, PG_swapbacked):
                mm.page.mapcount[pfn] = 0
        elif folio_test_swapcache(mm, pfn):
            self.swap_out(content, pfn)

    def swap_out(self, content: Content, pfn: int) -> None:
        """A program keeps the entry of a swap area in place of the page."""
        content.entry, content.page = folio_swap_entry(self.mm, pfn), None
        del self.content_of[pfn]
        self.swapped.add(content)
        swap_duplicate(self.mm, content.entry)
        self.mm.page.mapcount[pfn] = 0
        self.tasks.count(content.pid, -1, 1)
        put_page(self.mm, pfn)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """While this lasts reclaim asks here, too."""
        FOLIO_REFERENCED.append(self.folio_referenced)
        TRY_TO_UNMAP.append(self.try_to_unmap)
        try:
            yield
        finally:
            FOLIO_REFERENCED.remove(self.folio_referenced)
            TRY_TO_UNMAP.remove(self.try_to_unmap)
