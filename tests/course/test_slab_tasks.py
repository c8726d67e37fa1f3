"""The tasks of chapter 06: right answers hold; for five wrong ones each the verdict names the law and a small input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmemlab.alloc.slab_geometry import calculate_order as kernels_calculate_order
from kmemlab.course.desk import result_of
from kmemlab.course.student import Student
from kmemlab.course.tasks import load_all
from kmemlab.course.tasks.slab import PAGE, params_with, real_rows, ruled_order
from kmemlab.course.tasks.slab_index import BETWEEN, FITS, NONE, STORES, number_of
from kmemlab.course.tasks.slab_leak import leak_truth
from kmemlab.course.tasks.slab_numbers import colour_truth, kmalloc_truth
from kmemlab.course.tasks.slab_report import CRIMES, LATE, LAWS, OVERRUN, TWICE, UNDERRUN, report_of
from kmemlab.course.tasks.slab_variant import VARIANTS
from kmemlab.machine.machine import Machine
from kmemlab.machine.slab_snapshot import cache_shot, find_cache
from tests.course.judged import ADA, given_to, student_with

# -- right and wrong functions -----------------------------------------------------------------------------------------


def order_with(**wrong: Any) -> Callable[..., Any]:
    """The right `calculate_order`; each keyword makes it wrong."""
    parts = wrong.get("parts", (16, 8, 4))
    last = wrong.get("last", 10)

    def lowest(wanted: int, part: int, low: int, most: int, size: int) -> int | None:
        orders = range(low, most + 1)
        for order in reversed(orders) if wrong.get("highest") else orders:
            count, rest = divmod(PAGE << order, size)
            if count >= wanted and rest * part <= PAGE << order:
                return order
        return None

    def calculate_order(params: Any, size: int) -> int | None:
        most = params.slub_max_order
        wanted = params.slub_min_objects or 4 * (wrong.get("cpus") or params.nr_cpus.bit_length() + 1)
        wanted = min(wanted, (PAGE << most) // size)
        while wanted > wrong.get("two", 1):
            for part in parts:
                order = lowest(wanted, part, params.slub_min_order, most, size)
                if order is not None:
                    return order
            wanted -= 1
        order = lowest(1, 1, params.slub_min_order, most, size)
        return lowest(1, 1, params.slub_min_order, last, size) if order is None else order

    return calculate_order


def walk_with(**wrong: Any) -> Callable[..., Any]:
    """The right walk; each keyword makes it wrong."""

    def walk(read: Callable[[int], int], first: int, offset: int, random: int) -> Any:
        objects: list[int] = []
        obj = first
        while obj and len(objects) < 200:
            if obj in (objects[:1] if wrong.get("only_first") else objects):
                return ([*objects, obj] if wrong.get("again") else objects), not wrong.get("never")
            objects.append(obj)
            at = obj if wrong.get("no_offset") else obj + offset
            mixed = 0 if wrong.get("no_swap") else int.from_bytes(at.to_bytes(8, "little"), "big")
            obj = read(at) ^ random ^ mixed
        return objects, False

    return walk


def array_by(rule: str) -> Callable[..., Any]:
    """A student's answer to the variant, straight from its words; "linux" is what SLAB does."""

    def array_free(entries: list[int], objp: int, limit: int, batch: int) -> Any:
        if len(entries) < limit:
            return [*entries, objp], []
        if rule == "straight":
            return entries[batch - 1 :], [objp, *entries[: batch - 1]]
        back = {
            "linux": entries[:batch],
            "newest": list(reversed(entries))[:batch],
            "half": entries[: (len(entries) + 1) // 2],
            "every_other": [item for at, item in enumerate(entries) if at % 2 == 0][:batch],
        }[rule]
        return [item for item in entries if item not in back] + [objp], back

    return array_free


BOB = student_with("slab.array_cache", "newest")


def index_with(*, off: int = 1, odd: bool = True, least: int = 3, most: int = 8192, strict: bool = False) -> Any:
    """The right `__kmalloc_index`; each keyword makes it wrong."""

    def kmalloc_index(size: int) -> int | None:
        if size > most:
            return None
        if odd and 64 + strict <= size - 1 < 96:
            return 1
        if odd and 128 < size <= 192:
            return 2
        return max(least, (size - off).bit_length())

    return kmalloc_index


RIGHT = {
    "slab.order": (order_with(), ADA),
    "slab.walk": (walk_with(), ADA),
    "slab.array_cache": (array_by("newest"), BOB),
    "slab.kmalloc_index": (index_with(), ADA),
}
WASTE = "a slab has as many objects as are wanted and wastes at most the part that is allowed"
LOWEST = "no lower order suits the same try"
MIXED = "a pointer is what stands there XOR random XOR its own address"
RULE = "a full array gives back what your rule says"


def lose(entries: list[int], objp: int, limit: int, batch: int) -> Any:
    return ([*entries, objp], []) if len(entries) < limit else ([*entries[:-batch], objp], [])


def grow(entries: list[int], objp: int, limit: int, batch: int) -> Any:
    return [*entries, objp], []


def hasty(entries: list[int], objp: int, limit: int, batch: int) -> Any:
    return array_by("newest")(entries, objp, len(entries), batch) if entries else ([objp], [])


def bottom(entries: list[int], objp: int, limit: int, batch: int) -> Any:
    array, back = array_by("newest")(entries, objp, limit, batch)
    return [array[-1], *array[:-1]], back


WRONG = [
    ("slab.order", order_with(parts=(16,)), WASTE, "objects of"),
    ("slab.order", order_with(parts=(4,)), WASTE, "objects of"),
    ("slab.order", order_with(parts=(15, 8, 4)), WASTE, "1096 bytes"),
    ("slab.order", order_with(parts=(16, 8, 5)), WASTE, "8200 bytes"),
    ("slab.order", order_with(parts=(16, 8, 3)), "", "11000 bytes"),
    ("slab.order", order_with(two=2), WASTE, "16384 bytes"),
    ("slab.order", order_with(highest=True), LOWEST, "objects of 8 bytes, 1 CPUs"),
    ("slab.order", order_with(cpus=1), WASTE, "objects of"),
    ("slab.order", order_with(last=3), "the result is an order", "40000 bytes"),
    ("slab.walk", walk_with(no_swap=True), MIXED, "0; random 0x0"),
    ("slab.walk", walk_with(no_offset=True), MIXED, "0; random 0x0"),
    ("slab.walk", walk_with(only_first=True), "each object stands in the result once", "again"),
    ("slab.walk", walk_with(again=True), "each object stands in the result once", "0, then 0 again"),
    ("slab.walk", walk_with(never=True), "a list is a circle when", "0, then 0 again"),
    ("slab.array_cache", array_by("linux"), RULE, "limit 2, batch 1"),
    ("slab.array_cache", lose, "every object is in the array or has gone back", "the array: [10]"),
    ("slab.array_cache", grow, "the array never holds more than `limit`", "the array: [10]"),
    ("slab.array_cache", hasty, "while there is room, nothing goes back", "the array: [10"),
    ("slab.array_cache", bottom, "the others keep their order", "limit 2"),
    ("slab.kmalloc_index", index_with(off=0), FITS, "8 bytes"),
    ("slab.kmalloc_index", index_with(odd=False), BETWEEN, "65 bytes"),
    ("slab.kmalloc_index", index_with(least=0), FITS, "1 bytes"),
    ("slab.kmalloc_index", index_with(most=1 << 20), NONE, "8193 bytes"),
    ("slab.kmalloc_index", index_with(strict=True), BETWEEN, "65 bytes"),
]  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_holds_and_gets_all_points(name: str) -> None:
    answer, student = RIGHT[name]
    result = result_of(name, answer, student)
    assert result.passed, (result.case, result.verdict)
    assert result.points == load_all().find(name).points


@pytest.mark.parametrize(("name", "answer", "law", "case"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_answer_breaks_a_law_on_a_small_input(name: str, answer: Any, law: str, case: str) -> None:
    result = result_of(name, answer, RIGHT[name][1])
    assert result.verdict is not None
    assert result.case is not None
    assert result.verdict.law.startswith(law)
    assert case in result.case.text
    assert result.case.size < 100_000, "the whole machine is not the smallest input"
    assert result.points < load_all().find(name).points


# -- what the tasks know is true ---------------------------------------------------------------------------------------


def test_the_numbers_of_the_stores_are_those_of_the_machines_caches() -> None:
    """kmalloc of each size takes an object of just that store."""
    machine = Machine.boot("tiny-128m")
    size_of = {number: size for size, number in STORES.items()}
    for size in (1, 8, 9, 64, 65, 96, 97, 128, 129, 192, 193, 256, 1025, 8192):
        number = number_of(size)
        assert number is not None
        assert machine.ksize(machine.kmalloc(size)) == size_of[number]


def test_the_rule_in_words_is_what_a_real_machine_did() -> None:
    rows = list(real_rows())
    assert len(rows) > 140
    for name, size, objects, pages in rows:
        order = ruled_order(size, 2)
        assert order is not None
        assert (1 << order, (PAGE << order) // size) == (pages, objects), name


@pytest.mark.parametrize("cpus", [1, 2, 4, 64])
def test_the_rule_in_words_is_the_kernels_function(cpus: int) -> None:
    params = params_with(cpus)
    for size in [*range(8, 9000, 88), 20_000, 32_768, 40_000, 3_000_000, 4 << 20, 5_000_000]:
        assert ruled_order(size, cpus) == kernels_calculate_order(params, size), size


def test_only_a_boot_finds_an_answer_that_forgets_the_command_line_or_breaks_the_machine() -> None:
    def never_more_than_one_page(params: Any, size: int) -> int | None:
        return ruled_order(size, params.nr_cpus) if params.cmdline == "" else 0

    result = result_of("slab.order", never_more_than_one_page, ADA)
    assert result.case is not None
    assert "machine" in result.case.text
    assert 0 < result.points < 20


def test_kmalloc_is_met_by_the_cache_that_is_named() -> None:
    machine = Machine.boot("tiny-128m")
    for size in (1, 8, 9, 65, 96, 97, 192, 193, 512, 513, 5000, 8192, 8193, 9000, 100_000):
        assert kmalloc_truth(size, "GFP_KERNEL")[1] == machine.ksize(machine.kmalloc(size)), size
    assert kmalloc_truth(1500, "GFP_KERNEL | __GFP_DMA") == ("dma-kmalloc-2k", 2048)


@pytest.mark.parametrize("student", ["ada", "bob", "eve", "dan"])
def test_the_colours_are_those_of_a_machine_with_slab(student: str) -> None:
    given = given_to("slab.colour", Student(student))
    truth = colour_truth(given)
    machine = Machine.boot("tiny-128m", slab="SLAB")
    machine.kmem_cache_create("mine", given["size"])
    cache = find_cache(machine.kernel.slab, "mine")
    assert cache is not None
    begins: dict[int, int] = {}  # by slab, in the order in which they come
    for _ in range(truth["objects"] * given["slabs"]):
        machine.kmem_cache_alloc("mine")
        shot = cache_shot(cache)
        begins |= {slab.pfn: slab.start for slab in shot.slabs if slab.pfn not in begins}
    assert (shot.num, 1 << shot.order) == (truth["objects"], given["pages"])
    assert list(begins.values())[: given["slabs"]] == truth["begins"]


# -- numbers -----------------------------------------------------------------------------------------------------------


def test_each_request_is_judged_for_itself() -> None:
    right = {name: kmalloc_truth(*request) for name, request in given_to("slab.kmalloc").items()}
    assert result_of("slab.kmalloc", right, ADA).passed
    first = next(name for name, (cache, _) in right.items() if cache.startswith("kmalloc"))
    cache, room = right[first]
    for wrong, law in (
        ((cache, room * 2), "a request is met from the smallest"),
        ((cache, room - 1), "a request is met from the smallest"),
        ((f"dma-{cache}", room), "each kind of request has caches of its own"),
        (room, "the answer has (the cache's name"),
        (None, "the answer has (the cache's name"),
    ):
        result = result_of("slab.kmalloc", right | {first: wrong}, ADA)
        assert result.verdict is not None
        assert result.verdict.law.startswith(law)
        assert result.points == 5
    large = next(name for name, (cache, _) in right.items() if cache == "pages")
    result = result_of("slab.kmalloc", right | {large: ("pages", given_to("slab.kmalloc")[large][0])}, ADA)
    assert result.verdict is not None
    assert "2**n pages" in result.verdict.law


def test_each_part_of_the_colours_is_judged_for_itself() -> None:
    right = colour_truth(given_to("slab.colour"))
    assert result_of("slab.colour", right, ADA).points == 9
    mistakes = {
        "objects": right["objects"] - 1,
        "left_over": right["left_over"] % 64,
        "colours": right["colours"] + 1,
        "begins": [64 * (nth % right["colours"]) for nth in range(8)],  # from 0 on
    }
    for part, value in mistakes.items():
        result = result_of("slab.colour", right | {part: value}, ADA)
        assert result.case is not None
        assert result.case.text.startswith(part)
        assert 0 < result.points < 9
    no_wrap = result_of("slab.colour", right | {"begins": [64 * nth for nth in range(1, 9)]}, ADA)
    assert no_wrap.verdict is not None
    assert "after the last colour at 0" in no_wrap.verdict.law


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_held_by_its_own_rule_and_by_no_other(variant: str) -> None:
    student = student_with("slab.array_cache", variant)
    assert result_of("slab.array_cache", array_by(variant), student).passed
    for other in {*VARIANTS, "linux"} - {variant}:
        assert not result_of("slab.array_cache", array_by(other), student).passed, other


def test_the_leak_is_the_one_that_was_put_in_and_each_part_is_judged() -> None:
    given = given_to("slab.leak")
    truth = leak_truth(given)
    # By the texts alone: all other lines are those of the real machine, and its own growth is smaller.
    before = {line.split()[0]: line.split() for line in given["before"].splitlines()[2:]}
    after = {line.split()[0]: line.split() for line in given["after"].splitlines()[2:]}
    grown = {name: (int(row[14]) - int(before[name][14])) * int(row[5]) * 4 for name, row in after.items()}
    first, second = sorted(grown, key=lambda name: -grown[name])[:2]
    assert (truth["cache"], truth["kib"]) == (first, grown[first])
    assert grown[first] > 1.5 * grown[second] > 0
    assert second == "radix_tree_node"
    assert result_of("slab.leak", truth, ADA).points == 10
    mistakes: list[tuple[str, Any]] = [
        ("cache", "radix_tree_node"),
        ("objects", int(after[first][1])),
        ("objects", int(after[first][2]) - int(before[first][2])),
        ("kib", truth["objects"] * int(after[first][3]) // 1024 + 1),
        ("minutes_left", given["available_kib"] // truth["kib"]),
    ]
    for part, value in mistakes:
        result = result_of("slab.leak", truth | {part: value}, ADA)
        assert result.case is not None
        assert result.case.text.startswith(part)
    largest = max(after, key=lambda name: int(after[name][14]) * int(after[name][5]))
    assert result_of("slab.leak", truth | {"cache": largest}, ADA).points == 6


def test_each_report_is_judged_for_itself_and_tells_enough() -> None:
    given = given_to("slab.report")
    truth = dict(given["truth"])
    assert sorted(crime for crime, _ in truth.values()) == sorted(CRIMES)
    assert result_of("slab.report", truth, ADA).points == 8
    for name, (crime, count) in truth.items():
        text = given["reports"][name]
        assert not any(word in text for word in ("overwritten", "already free", "instead of", "FIX"))
        assert ("Freed in" in text) == (crime in (LATE, TWICE))
        other = next(item for item in CRIMES if item != crime)
        mistakes = {LAWS[crime]: (other, count), "a wrong byte is one": (crime, count + 1), "the answer has": crime}
        for law, wrong in mistakes.items():
            result = result_of("slab.report", truth | {name: wrong}, ADA)
            assert result.verdict is not None
            assert result.verdict.law.startswith(law)
            assert result.points == 6


def test_the_bytes_of_a_report_are_those_that_were_written() -> None:
    text = report_of(OVERRUN, "packet_head", 40, b"Hello", 0)
    redzones = [line for line in text.splitlines() if line.startswith("Redzone")]
    assert "48 65 6c 6c 6f cc cc cc" in redzones[1]
    text = report_of(UNDERRUN, "packet_head", 40, b"Hello", 0)
    redzones = [line for line in text.splitlines() if line.startswith("Redzone")]
    assert "cc cc cc 48 65 6c 6c 6f" in redzones[0]
    assert "6b 6b 48 65 6c 6c 6f 6b" in report_of(LATE, "packet_head", 40, b"Hello", 2)


def test_students_get_numbers_of_their_own() -> None:
    for name in ("slab.kmalloc", "slab.colour", "slab.leak", "slab.report"):
        assert len({str(given_to(name, Student(str(nth)))) for nth in range(6)}) > 3
