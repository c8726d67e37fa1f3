"""What is wrong with an object that is given back, whether or not the kernel would notice; and who had it."""

from __future__ import annotations

from kmemlab.alloc.kmem_cache import KmemCache
from kmemlab.alloc.slab_bug import BAD_POINTER, DOUBLE_FREE, LEAK, OVERRUN, USE_AFTER_FREE, WRONG_CACHE, SlabBug
from kmemlab.alloc.slab_common import SlabCommon
from kmemlab.alloc.slab_pages import virt_to_slab
from kmemlab.sim.kernel import invented
from kmemlab.sim.timeline import Timeline
from kmemlab.types.errors import (
    BadRequest,
    DoubleFree,
    KmemlabError,
    ObjectsRemain,
    Overrun,
    SlabCorruption,
    UseAfterFree,
    WrongCache,
)
from kmemlab.types.units import U64_MAX

ERRORS: dict[str, type[KmemlabError]] = {
    DOUBLE_FREE: DoubleFree,
    WRONG_CACHE: WrongCache,
    OVERRUN: Overrun,
    USE_AFTER_FREE: UseAfterFree,
    LEAK: ObjectsRemain,
    BAD_POINTER: BadRequest,
}
HOW_TO_KNOW = "call machine.record() before the run, or boot with slub_debug=U, and both call sites are told"
TAKES = ("kmalloc", "kzalloc", "krealloc", "kmem_cache_alloc", "kmem_cache_alloc_bulk")
GIVES_BACK = ("kfree", "kmem_cache_free", "kmem_cache_free_bulk")


@invented("most kernels don't look")
def look_before_free(common: SlabCommon, cache: KmemCache | None, address: int) -> SlabBug | None:
    """What will go wrong when an address is given back to a cache (None: by kfree); None if nothing."""
    slab = virt_to_slab(common.pages, address)
    if slab is None:
        return None  # a large block, or nothing at all: the kernel will find out
    owner = common.caches[common.pages.slab_cache[slab]]
    engine, name = owner.engine, owner.name
    sites = engine.call_sites(owner, address)
    obj = engine.find_object(owner, address)
    if obj != address:
        lies = "behind the last object" if obj is None else f"{address - obj} bytes into object {obj:#x}"
        return SlabBug(BAD_POINTER, f"{address:#x} is no object of {name}: it lies {lies}", name, address, sites)
    if cache is not None and owner is not cache:
        what = f"object {address:#x} of {name} was given back to {cache.name}"
        return SlabBug(WRONG_CACHE, what, name, address, sites)
    if engine.object_is_free(owner, address):
        return SlabBug(DOUBLE_FREE, f"object {address:#x} of {name} is free already", name, address, sites)
    return None


@invented("errors that teach")
def error_of(bug: SlabBug, where: str, timeline: Timeline | None) -> KmemlabError:
    """Our error for a finding, with both call sites if they can be known."""
    sites = bug.sites or (sites_recorded(timeline, bug.address) if timeline else "")
    what = f"{bug.what} ({sites})" if sites else bug.what
    remedy = "give each object back once, to the cache that it is from, and write only within it while it is yours"
    return ERRORS.get(bug.kind, SlabCorruption)(what, where=where, remedy=remedy if sites else HOW_TO_KNOW)


@invented("the journal knows who called")
def sites_recorded(timeline: Timeline, address: int) -> str:
    """Who took an object last and who gave it back before now, from the recorded commands."""
    taken = freed = ""
    for number in range(len(timeline.commands) - 2, -1, -1):
        command = timeline.commands[number]
        if command.name in GIVES_BACK and not freed and address in held_by(command.args):
            freed = f"freed by {command.args[-1]}"
        if command.name in TAKES and any(given == address for given in results(timeline, number)):
            taken = f"allocated by {command.args[-1]}"
            break
    return ", ".join(site for site in (taken, freed) if site)


@invented("a bulk free names many", traced=False)
def held_by(args: tuple[object, ...]) -> list[object]:
    """The arguments of a command, those in tuples, too."""
    return [inner for arg in args for inner in (arg if isinstance(arg, tuple) else (arg,))]


@invented("what a recorded command returned, from its calls", traced=False)
def results(timeline: Timeline, number: int) -> list[int]:
    """The addresses that the functions of a command returned."""
    found: list[int] = []
    calls = list(timeline.calls(number))
    while calls:
        call = calls.pop()
        calls += call.calls
        if isinstance(call.value, int):
            found.append(call.value & U64_MAX)
    return found
