"""Chapter 06: how many pages a slab gets, and a walk along a freelist that may have no end.

The rule of `calculate_order` is told as a search through all (objects, waste, order), and by what a real machine's
/proc/slabinfo says; freelists are built from the list of their objects. Only the last cases compare a machine with the
same machine unpatched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from random import Random

from kmemlab.alloc.kmem_cache import SlubParams
from kmemlab.alloc.slab_geometry import calculate_order
from kmemlab.course.answer import Answer
from kmemlab.course.inside import Inside, ending, survives
from kmemlab.course.task import Case, Task, Verdict, register
from kmemlab.course.tasks.slab_watched import inside_watched
from kmemlab.course.your_machine import CAPTURES, SHIPPED
from kmemlab.machine.machine import Machine
from kmemlab.machine.slabinfo import slabinfo
from kmemlab.mm.check_zone import BrokenLaw
from kmemlab.sim.livepatch import livepatch
from kmemlab.types.errors import KmemlabError

CHAPTER = "06_slab"
PRESET = "tiny-128m"
PAGE = 4096
LARGEST_ORDER = 10

# -- slab.order --------------------------------------------------------------------------------------------------------


def params_with(nr_cpus: int) -> SlubParams:
    """What SLUB knows of a machine with so many CPUs, when the command line says nothing."""
    params = SlubParams("", 8, 64)
    params.slub_max_order, params.nr_cpus = 3, nr_cpus
    return params


def ruled_order(size: int, nr_cpus: int) -> int | None:
    """The order by the rule's words: the first that suits of all tries, in the order in which they are made."""
    wanted = min(4 * (nr_cpus.bit_length() + 1), (PAGE << 3) // size)
    tries = [(objects, part, 3) for objects in range(wanted, 1, -1) for part in (16, 8, 4)]
    tries += [(1, 1, 3), (1, 1, LARGEST_ORDER)]
    for objects, part, most in tries:
        for order in range(most + 1):
            count, rest = divmod(PAGE << order, size)
            if count >= objects and rest * part <= PAGE << order:
                return order
    return None


def real_rows() -> Iterator[tuple[str, int, int, int]]:
    """The caches of a real machine with 2 CPUs: name, slot size, objects and pages of a slab."""
    for line in (CAPTURES / SHIPPED / "proc" / "slabinfo").read_text().splitlines()[2:]:
        name, _, _, size, objects, pages = line.split()[:6]
        yield name, int(size), int(objects), int(pages)


def judge_order(answer: Answer, case: Case) -> Verdict | None:
    """The order that the rule, or the real machine, has."""
    if isinstance(case.value, str):
        return boots_the_machine(answer, case.value)
    size, nr_cpus, want = case.value
    got = answer(params_with(nr_cpus), size)
    if got == want and type(got) is type(want):
        return None
    if want is None:
        return Verdict("where no slab can hold a single object, the result is None", f"it returned {got!r}")
    if type(got) is not int or not 0 <= got <= LARGEST_ORDER:
        return Verdict("the result is an order: 0 to 10, as a whole number", f"it returned {got!r}")
    slab = PAGE << got
    count, rest = divmod(slab, size)
    seen = f"a slab of order {got} holds {count}, and {rest} of {slab} bytes are left over"
    if not count:
        return Verdict("a slab holds at least one object", seen)
    law = (
        "no lower order suits the same try: orders are tried from the lowest up"
        if got > want
        else "a slab has as many objects as are wanted and wastes at most the part that is allowed"
    )
    return Verdict(law, seen)


def twelve_caches(machine: Machine, seed: str) -> Iterator[str]:
    """Twelve caches more, and some objects of each; yields each cache."""
    rng = Random(seed)
    for number in range(12):
        size = rng.randrange(8, 6000)
        machine.kmem_cache_create(f"cache_{number}", size, caller_size(size))
        for _ in range(rng.randrange(1, 20)):
            machine.kmem_cache_alloc(f"cache_{number}", caller="a driver")
        yield f"cache_{number}"


def inside_machine(case: Case) -> Inside | None:
    """For the case that is a seed: boot and the twelve caches, step by step."""
    if not isinstance(case.value, str):
        return None
    return Inside(calculate_order, partial(Machine, PRESET), partial(twelve_caches, seed=case.value), compared=ending)


def caches_after(seed: str) -> list[str]:
    """What a machine's caches look like after boot and some requests, a line a cache."""
    machine = Machine.boot(PRESET)
    list(twelve_caches(machine, seed))
    machine.check()
    return slabinfo(machine.kernel).splitlines()[2:]


def caller_size(size: int) -> int:
    """An alignment that keeps caches from being shared: none for small objects, a cache line for others."""
    return 64 if size > 512 else 8


def boots_the_machine(answer: Answer, seed: str) -> Verdict | None:
    """Boot a machine with the answer in the kernel's place; its /proc/slabinfo is that of the same machine without."""
    law = "a machine that boots with your function has the same slabs"
    reference = caches_after(seed)
    try:
        with livepatch(calculate_order, answer.function):
            found = caches_after(seed)
    except BrokenLaw as error:
        return Verdict(error.what, "while a machine ran")
    except KmemlabError as error:
        return Verdict(law, error.what)
    for want, have in zip(reference, found, strict=False):
        if want != have:
            return Verdict(law, f"/proc/slabinfo has the line {have.partition(' :')[0]}, for {want.split()[0]}")
    return None


def cases_order(_given: None, rng: Random) -> list[Case]:
    """Plain sizes first, then sizes that waste, those too large for order 3, some of a real machine, then a boot."""
    sizes = [8, 64, 512, 504, 640, 1024, 2048, 4096, 700, 1504, 6208, 8192, 20_000, 40_000, 3_000_000, 5_000_000]
    sizes += [1096, 8200, 11_000, 16_384]  # a waste of nearly a 16th, nearly a quarter, more at any order, none
    plain = [(size, cpus) for size in sizes for cpus in (1, 4)]
    drawn = [(rng.randrange(8, 9000) & -8 or 8, rng.choice((1, 2, 3, 8, 16, 64))) for _ in range(12)]
    cases = [order_case(size, cpus) for size, cpus in plain + drawn]
    real = rng.sample(sorted(real_rows()), 8)
    for name, size, _objects, pages in real:
        cases.append(Case(f"{name} of a real machine: {size} bytes, 2 CPUs", (size, 2, pages.bit_length() - 1), size))
    whole = Case(f"a machine ({PRESET}) that boots, and twelve more caches", str(rng.random()), 1 << 30, len(cases))
    return [*cases, whole]


def order_case(size: int, cpus: int) -> Case:
    """A size and a number of CPUs."""
    return Case(f"objects of {size} bytes, {cpus} CPUs", (size, cpus, ruled_order(size, cpus)), size + cpus)


def smaller_order(case: Case) -> Iterable[Case]:
    """The same size with fewer CPUs, and half of it."""
    if not isinstance(case.value, str):
        size, cpus, _ = case.value
        yield from (order_case(size, fewer) for fewer in (1, cpus // 2) if 0 < fewer < cpus)
        if size >= 32:
            yield order_case(size // 2 & -8, cpus)


register(
    Task(
        "slab.order",
        CHAPTER,
        "implement",
        20,
        (
            "Write a helper first: the lowest order, from that of `wanted * size` bytes up, at which at most a given "
            "part of the slab is left over. Then two loops around it: fewer and fewer objects, and 16, 8, 4.",
            "Don't forget that `wanted` can be 0 or 1 from the start: no slab of order 3 holds two. Then one object is "
            "enough, whatever is left over; first up to order 3, then up to 10.",
        ),
        judge_order,
        cases_order,
        smaller=smaller_order,
        inside=inside_machine,
        seconds=20.0,
    )
)

# -- slab.walk ---------------------------------------------------------------------------------------------------------

Chain = tuple[tuple[int, ...], int]  # the objects by number, and to which of them the last one leads (-1: to none)
SIZE, OFFSET, BASE = 64, 32, 0xFFFF888004852000


def stored_pointers(chain: Chain, random: int) -> dict[int, int]:
    """What stands in memory: for each free object the next one's address, mixed."""
    numbers, back = chain
    objects = [BASE + SIZE * number for number in numbers]
    following = [*objects[1:], objects[back] if back >= 0 else 0][: len(objects)]
    memory = {}
    for obj, pointer in zip(objects, following, strict=True):
        at = obj + OFFSET
        swapped = sum((at >> 8 * byte & 0xFF) << 8 * (7 - byte) for byte in range(8))
        memory[at] = pointer ^ random ^ swapped
    return memory


def reader(memory: dict[int, int], random: int) -> Callable[[int], int]:
    """Memory to read: 8 bytes at an address; elsewhere it holds something else."""

    def read(address: int) -> int:
        return memory.get(address, random ^ 0x5A5A5A5A5A5A5A5A)

    return read


def judge_walk(answer: Answer, case: Case) -> Verdict | None:
    """Each object once, in order, and whether the list comes back to one of them; then a machine."""
    if inside := inside_watched(case):
        return survives(inside, answer)
    chain, random = case.value
    numbers, back = chain
    first = BASE + SIZE * numbers[0] if numbers else 0
    got = answer(reader(stored_pointers(chain, random), random), first, OFFSET, random)
    if not isinstance(got, (tuple, list)) or len(got) != 2 or not isinstance(got[0], (tuple, list)):
        return Verdict("the result is a pair: the objects, and whether the list is a circle", f"it returned {got!r}")
    want = [BASE + SIZE * number for number in numbers]
    have = list(got[0])
    if len(set(map(repr, have))) < len(have):
        return Verdict("each object stands in the result once", f"{len(have)} objects, some of them again")
    if have != want:
        at = next((at for at, pair in enumerate(zip(have, want, strict=False)) if pair[0] != pair[1]), -1)
        if at < 0 and len(have) < len(want):
            what = f"{len(have)} objects, the list has {len(want)}"
            return Verdict("the walk ends behind the last object, not before", what)
        told = [f"{item:#x}" if type(item) is int else repr(item) for item in have]
        end = f"; behind the last object it goes on to {told[len(want)]}" if at < 0 else f", not {want[at]:#x}"
        law = "a pointer is what stands there XOR random XOR its own address with the bytes reversed"
        return Verdict(law, f"object {max(at, 0)} is {told[max(at, 0)]}{end}")
    if got[1] is not (back >= 0):
        law = "a list is a circle when it comes back to an object that it has passed"
        return Verdict(law, f"it ends with {'an object again' if back >= 0 else '0'}; it returned {got[1]!r}")
    return None


def cases_walk(_given: None, rng: Random) -> list[Case]:
    """Empty, short, unmixed; then circles: of one, of all, and with a way in; then a machine."""
    plain: list[tuple[Chain, int]] = [
        (((), -1), 0),
        (((0,), -1), 0),
        (((2, 1), -1), 0),
        (((0,), 0), 0),
        (((1, 3), 0), 0),
        (((4, 1, 3), 1), 0),
        (((2,), -1), 0x1234),
    ]
    for length in (2, 3, 6, 20, 64):
        for back in (-1, rng.randrange(length)):
            numbers = tuple(rng.sample(range(64), length))
            plain.append(((numbers, back), rng.randrange(1 << 40, 1 << 63)))
    text = f"a machine ({PRESET}, slub_debug=F) that walks a freelist each time an object comes back"
    whole = Case(text, rng.randrange(1 << 30), 1 << 20, points=len(plain) // 2)
    return [*(walk_case(chain, random) for chain, random in plain), whole]


def walk_case(chain: Chain, random: int) -> Case:
    """A list and what it is mixed with."""
    numbers, back = chain
    told = " > ".join(map(str, numbers)) if len(numbers) < 8 else f"{len(numbers)} objects"
    end = f", then {numbers[back]} again" if back >= 0 else ""
    text = f"{told or 'an empty list'}{end}; random {random:#x}"
    return Case(text, (chain, random), 4 * len(numbers) + 2 * (back >= 0) + bool(random))


def smaller_walk(case: Case) -> Iterable[Case]:
    """Without mixing, or with the first object left out."""
    if isinstance(case.value, int):
        return
    (numbers, back), random = case.value
    if random:
        yield walk_case((numbers, back), 0)
    if len(numbers) > 1 and back != 0:
        yield walk_case((numbers[1:], max(back - 1, -1)), random)


register(
    Task(
        "slab.walk",
        CHAPTER,
        "implement",
        15,
        (
            "Read at obj + offset, undo the mixing, go on there; stop at 0. Bytes are reversed by "
            'int.from_bytes(address.to_bytes(8, "little"), "big").',
            "Keep the objects that you have passed in a list. Before you add one, ask if it is there already: "
            "then you know that the list is a circle, and can stop.",
        ),
        judge_walk,
        cases_walk,
        smaller=smaller_walk,
        inside=inside_watched,
        seconds=15.0,
    )
)
