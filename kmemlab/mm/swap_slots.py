"""mm/swap_slots.c: each CPU has slots in store, so that it need not lock an area for each page.

area ── 64 at once ─▶ slots       ─▶ one page each            only while there is plenty: more than 5 · 64 free slots
area ◀─ 64 at once ── slots_ret   ◀─ one page each            a CPU; with fewer than 2 · 64 the stores are emptied

A slot in store is in use: SwapFree in /proc/meminfo does not count it.
"""

from __future__ import annotations

from kmemlab.boot.smp import num_online_cpus
from kmemlab.mm.globals import Mm
from kmemlab.mm.swap_info import SWAP_SLOTS_CACHE_SIZE, has_usable_swap
from kmemlab.mm.swap_range import swapcache_free_entries
from kmemlab.sim.kernel import invented, kernel

THRESHOLD_ACTIVATE_SWAP_SLOTS_CACHE = 5 * SWAP_SLOTS_CACHE_SIZE
THRESHOLD_DEACTIVATE_SWAP_SLOTS_CACHE = 2 * SWAP_SLOTS_CACHE_SIZE


@invented("two parts of drain_slots_cache_cpu", traced=False)
def take_stored_slots(mm: Mm, cpu: int) -> list[int]:
    """The slots that a CPU has for pages to come; it has none any more."""
    slots, base = mm.swap.slots, cpu * SWAP_SLOTS_CACHE_SIZE + mm.swap.slots.cur[cpu]
    taken = list(slots.slots[base : base + slots.nr[cpu]])
    slots.cur[cpu] = slots.nr[cpu] = 0
    return taken


@invented("two parts of drain_slots_cache_cpu", traced=False)
def take_returned_slots(mm: Mm, cpu: int) -> list[int]:
    """The slots that pages have given back to a CPU; it has none any more."""
    slots, base = mm.swap.slots, cpu * SWAP_SLOTS_CACHE_SIZE
    taken = list(slots.slots_ret[base : base + slots.n_ret[cpu]])
    slots.n_ret[cpu] = 0
    return taken


@kernel("mm/swap_slots.c", "__drain_swap_slots_cache", formerly=("drain_slots_cache_cpu",))
def drain_swap_slots_cache(mm: Mm) -> None:
    """Return all slots that CPUs have in store."""
    for cpu in range(mm.swap.nr_cpus):
        swapcache_free_entries(mm, take_stored_slots(mm, cpu))
        swapcache_free_entries(mm, take_returned_slots(mm, cpu))


@kernel(
    "mm/swap_slots.c", "check_cache_active", formerly=("deactivate_swap_slots_cache", "reactivate_swap_slots_cache")
)
def check_cache_active(mm: Mm) -> bool:
    """Whether stores are used: switch them on where slots are many, off where they are few."""
    swap, cpus = mm.swap, num_online_cpus(mm.boot)
    if not swap.swap_slot_cache_enabled:
        return False
    if not swap.swap_slot_cache_active:
        if mm.nr_swap_pages > cpus * THRESHOLD_ACTIVATE_SWAP_SLOTS_CACHE:
            swap.swap_slot_cache_active = 1
    elif mm.nr_swap_pages < cpus * THRESHOLD_DEACTIVATE_SWAP_SLOTS_CACHE:
        swap.swap_slot_cache_active = 0
        drain_swap_slots_cache(mm)
    return bool(swap.swap_slot_cache_active)


@kernel("mm/swap_slots.c", "free_swap_slot")
def free_swap_slot(mm: Mm, entry: int) -> None:
    """Nobody has a slot any more: it comes to this CPU's store, which is returned when it is full."""
    swap, slots, cpu = mm.swap, mm.swap.slots, mm.current.cpu
    if not (swap.swap_slot_cache_active and swap.swap_slot_cache_enabled):
        swapcache_free_entries(mm, (entry,))
        return
    if slots.n_ret[cpu] >= SWAP_SLOTS_CACHE_SIZE:
        swapcache_free_entries(mm, take_returned_slots(mm, cpu))
    slots.slots_ret[cpu * SWAP_SLOTS_CACHE_SIZE + slots.n_ret[cpu]] = entry
    slots.n_ret[cpu] += 1


@kernel("mm/swap_slots.c", "disable_swap_slots_cache_lock", lock="swap_slots_cache_enable_mutex")
def disable_swap_slots_cache(mm: Mm) -> None:
    """An area goes: no CPU may have any of its slots in store."""
    mm.swap.swap_slot_cache_enabled = 0
    drain_swap_slots_cache(mm)


@kernel("mm/swap_slots.c", "enable_swap_slots_cache", formerly=("reenable_swap_slots_cache_unlock",))
def enable_swap_slots_cache(mm: Mm) -> None:
    """Stores may be used again, if there is any area."""
    mm.swap.swap_slot_cache_enabled = int(has_usable_swap(mm.swap))
