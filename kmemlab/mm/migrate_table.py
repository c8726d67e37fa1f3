"""What migration asks about pages that programs have mapped, and who answers: whoever keeps page tables enters here.

try_to_migrate ─▶ entry: "page 0x1234 is on the move"  …  remove_migration_ptes ─▶ entry: page 0x5678

As with mm/rmap_table.py, page tables of programs lie on a floor above. With nobody entered no mapped page moves.
"""

from __future__ import annotations

from collections.abc import Callable

from kmemlab.mm.globals import Mm
from kmemlab.sim.kernel import kernel

# Filled when modules are loaded, like the kernel's initcalls; not part of any machine's state.
TRY_TO_MIGRATE: list[Callable[[Mm, int], None]] = []
"""(mm, pfn): put migration entries in place of all entries that map a page."""
REMOVE_MIGRATION_PTES: list[Callable[[Mm, int, int], None]] = []
"""(mm, src, dst): let all entries that wait for page `src` map page `dst`."""


@kernel("mm/rmap.c", "try_to_migrate", left_out="who does it: see TRY_TO_MIGRATE", traced=False)
def try_to_migrate(mm: Mm, pfn: int) -> bool:
    """Put migration entries in place of all entries that map a locked page; whether none maps it any more."""
    for migrate in TRY_TO_MIGRATE:
        migrate(mm, pfn)
    return not mm.page.mapcount[pfn]


@kernel("mm/migrate.c", "remove_migration_ptes", left_out="who does it: see REMOVE_MIGRATION_PTES", traced=False)
def remove_migration_ptes(mm: Mm, src: int, dst: int) -> None:
    """Let all entries that wait for page `src` map page `dst`: the new page, or the old one if it could not move."""
    for remove in REMOVE_MIGRATION_PTES:
        remove(mm, src, dst)
