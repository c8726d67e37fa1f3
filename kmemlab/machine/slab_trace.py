"""One sequence of requests for objects, played on two machines that differ in their allocator only: SLUB and SLAB.

create task 1504        make a cache: its name, the size of an object, and, if need be, hwcache, reclaim, align=N
alloc task 20           take 20 objects of it: they are called task:0 to task:19
kmalloc 200 5 as buf    take 5 times 200 bytes: buf:0 to buf:4
free task:3-9           give back objects that were taken; `free buf` gives back all that are left
free task:10-19/2       every second one
cpu 1                   from here on another CPU asks
wait 4                  seconds pass: what is done from time to time is done
shrink task             give back what slabs are empty
destroy task            the cache goes
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kmemlab.alloc.kmalloc import kmalloc_slab
from kmemlab.alloc.kmem_cache import SLAB_HWCACHE_ALIGN, SLAB_RECLAIM_ACCOUNT
from kmemlab.machine.machine import Machine, Source
from kmemlab.machine.slab_snapshot import CacheShot, cache_shot, find_cache
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.sim.kernel import invented
from kmemlab.types.errors import BadRequest, OutOfMemory
from kmemlab.types.gfp import GFP_KERNEL

FLAGS = {"hwcache": SLAB_HWCACHE_ALIGN, "reclaim": SLAB_RECLAIM_ACCOUNT}
_PICK = re.compile(r"(?P<tag>[^:]+)(:(?P<first>\d+)(-(?P<last>\d+))?(/(?P<step>[1-9]\d*))?)?")

EXAMPLE = """\
create task 1504
alloc task 20
kmalloc 200 30 as buf
kmalloc 32 40 as small
free task:0-19/2
free buf:0-24
free small:0-9
wait 8
"""


@invented("the play, which C would have from its drivers")
@dataclass(frozen=True, slots=True)
class SlabEvent:
    """One line of a trace: a verb and its words."""

    line: int
    verb: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.verb, *self.words))


@invented("one play's end, on one allocator")
@dataclass(frozen=True, slots=True)
class AllocatorShot:
    """What one allocator made of a trace: the caches that it touched, /proc/slabinfo, and what could not be met."""

    name: str
    caches: tuple[CacheShot, ...]
    slabinfo: str
    failed: tuple[str, ...]

    @property
    def pages(self) -> int:
        """The pages of all these caches."""
        return sum(cache.pages for cache in self.caches)

    @property
    def waste(self) -> int:
        """The bytes of these pages that no object can use."""
        return sum(cache.waste for cache in self.caches)


_SHAPES = {
    "create": (2, 9),
    "alloc": (2, 2),
    "kmalloc": (4, 4),
    "free": (1, 9),
    "cpu": (1, 1),
    "wait": (1, 1),
    "shrink": (1, 1),
    "destroy": (1, 1),
}


@invented("a trace is text, so that it can be written in a notebook")
def parse_slab_trace(text: str) -> tuple[SlabEvent, ...]:
    """The events of a trace; empty lines and what follows a # are passed over. Raises `BadRequest` with the line.

    >>> [str(event) for event in parse_slab_trace("create a 64  # one cache")]
    ['create a 64']
    """
    events = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        least, most = _SHAPES.get(words[0], (0, -1))
        if not least <= len(words) - 1 <= most:
            raise BadRequest(
                f"line {number} of the trace can't be read: {line.strip()}",
                where="parse_slab_trace",
                remedy=f"write one of {', '.join(_SHAPES)}, and what belongs to it, as in `alloc task 20`",
            )
        events.append(SlabEvent(number, words[0], tuple(words[1:])))
    return tuple(events)


class _Player:
    """Plays events on a machine; remembers who holds what."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.cpu = 0
        self.held: dict[str, dict[int, tuple[str, int]]] = {}  # by tag and number: the cache ("": kmalloc), the address
        self.caches: list[str] = []
        self.kmallocs: set[str] = set()
        self.failed: list[str] = []

    def play(self, event: SlabEvent) -> None:
        """One line."""
        try:
            with self.machine.on_cpu(self.cpu):
                getattr(self, f"do_{event.verb}")(*event.words)
        except ValueError:
            raise _bad(event, "a number is wanted where there is none") from None
        except KeyError as error:
            raise _bad(event, f"nothing is called {error.args[0]}") from None
        except OutOfMemory:
            self.failed.append(str(event))

    def do_create(self, name: str, size: str, *options: str) -> None:
        """Make a cache."""
        flags = align = 0
        for option in options:
            if option.startswith("align="):
                align = int(option.removeprefix("align="))
            else:
                flags |= FLAGS[option]
        self.caches.append(self.machine.kmem_cache_create(name, int(size), align, flags))

    def do_alloc(self, cache: str, count: str) -> None:
        """Take objects of a cache."""
        for _ in range(int(count)):
            self._hold(cache, cache, self.machine.kmem_cache_alloc(cache, GFP_KERNEL, caller="the trace"))

    def do_kmalloc(self, size: str, count: str, as_: str, tag: str) -> None:
        """Take bytes."""
        if as_ != "as":
            raise KeyError(as_)
        self.kmallocs.add(kmalloc_slab(self.machine.kernel.slab, int(size), GFP_KERNEL).name)
        for _ in range(int(count)):
            self._hold(tag, "", self.machine.kmalloc(int(size), GFP_KERNEL, caller="the trace"))

    def _hold(self, tag: str, cache: str, address: int) -> None:
        held = self.held.setdefault(tag, {})
        held[max(held, default=-1) + 1] = (cache, address)

    def do_free(self, *picks: str) -> None:
        """Give objects back, in the order of their numbers."""
        for pick in picks:
            tag, numbers = self._picked(pick)
            for number in numbers:
                if number not in self.held[tag]:
                    raise KeyError(f"{tag}:{number}")
                cache, address = self.held[tag].pop(number)
                if cache:
                    self.machine.kmem_cache_free(cache, address, caller="the trace")
                else:
                    self.machine.kfree(address, caller="the trace")

    def _picked(self, pick: str) -> tuple[str, list[int]]:
        found = _PICK.fullmatch(pick)
        if found is None or found["tag"] not in self.held:
            raise KeyError(pick)
        if found["first"] is None:
            return found["tag"], list(self.held[found["tag"]])
        first = int(found["first"])
        last = int(found["last"] or first)
        return found["tag"], list(range(first, last + 1, int(found["step"] or 1)))

    def do_cpu(self, cpu: str) -> None:
        """Another CPU asks from here on."""
        with self.machine.on_cpu(int(cpu)):
            self.cpu = int(cpu)

    def do_wait(self, seconds: str) -> None:
        """Seconds pass."""
        self.machine.wait(int(seconds))

    def do_shrink(self, cache: str) -> None:
        """Empty slabs go."""
        self.machine.kmem_cache_shrink(cache)

    def do_destroy(self, cache: str) -> None:
        """The cache goes."""
        self.machine.kmem_cache_destroy(cache, caller="the trace")

    def shot(self) -> AllocatorShot:
        """What became of it: the caches in the order in which they were made, kmalloc's behind them."""
        common = self.machine.kernel.slab
        names = [*self.caches, *sorted(self.kmallocs, key=lambda name: (len(name), name))]
        found = {name: find_cache(common, name) for name in dict.fromkeys(names)}
        caches = tuple(cache_shot(cache) for cache in found.values() if cache is not None)
        lines = slabinfo(self.machine.kernel).splitlines(keepends=True)
        shown = "".join(line for line in lines[1:] if line.startswith("#") or line.split()[0] in found)
        return AllocatorShot(common.engine.name, caches, shown, tuple(self.failed))


def _bad(event: SlabEvent, why: str) -> BadRequest:
    return BadRequest(
        f"line {event.line} of the trace can't be played: {event} ({why})",
        where="play_slab_trace",
        remedy="create a cache before its objects are taken, and free what was taken, once",
    )


@invented("the play on one machine")
def play_slab_trace(machine: Machine, trace: str | tuple[SlabEvent, ...]) -> AllocatorShot:
    """Play a trace on a machine that has booted; what became of its caches.

    Raises `BadRequest` with the line that can't be read or played. A request without memory is noted, and the play
    goes on.
    """
    player = _Player(machine)
    for event in parse_slab_trace(trace) if isinstance(trace, str) else trace:
        player.play(event)
    return player.shot()


@invented("both allocators, for who compares them")
def play_on_both(source: Source, trace: str = EXAMPLE) -> tuple[AllocatorShot, AllocatorShot]:
    """Boot the same machine with SLUB and with SLAB, and play the trace on both.

    >>> slub, slab = play_on_both("tiny-128m", "kmalloc 96 1 as a")
    >>> slub.caches[0].size, slab.caches[0].size
    (96, 128)
    """
    events = parse_slab_trace(trace)
    left, right = (play_slab_trace(Machine.boot(source, slab=name), events) for name in ("SLUB", "SLAB"))
    return left, right
