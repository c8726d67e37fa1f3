"""early_memtest: write patterns into all free memory, read them back, and reserve what does not keep them.

pattern 5555555555555555   ──▶   │55…55│55…55│55…54│55…54│55…55│
                                              └── bad: reserved ──┘   nobody will ever get these words

A simulated word is bad if the machine's description says so (`bad_ram`). Good words keep whatever is written, so only
those that are described are looked at.
"""

from __future__ import annotations

from kmemlab.boot.cmdline import early_param
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import for_each_free_mem_range, memblock_reserve
from kmemlab.hardware.spec import BadRam
from kmemlab.sim.kernel import invented, kernel
from kmemlab.types.errors import BadParameter
from kmemlab.types.units import round_down, round_up

PATTERNS = (
    0,  # the first one is used last, and leaves zeros behind
    0xFFFFFFFFFFFFFFFF,
    0x5555555555555555,
    0xAAAAAAAAAAAAAAAA,
    0x1111111111111111,
    0x2222222222222222,
    0x4444444444444444,
    0x8888888888888888,
    0x3333333333333333,
    0x6666666666666666,
    0x9999999999999999,
    0xCCCCCCCCCCCCCCCC,
    0x7777777777777777,
    0xBBBBBBBBBBBBBBBB,
    0xDDDDDDDDDDDDDDDD,
    0xEEEEEEEEEEEEEEEE,
    0x7A6C7258554E494C,
)
WORD = 8  # bytes that are tested at once
MAX_TESTS = 1 << 16


@early_param("memtest")
@kernel("mm/memtest.c", "parse_memtest")
def parse_memtest(boot: Boot, value: str) -> None:
    """memtest=N: test with N patterns, one after the other; memtest: with all of them. Raises `BadParameter`."""
    if not value:
        boot.memtest_pattern = len(PATTERNS)
        return
    try:
        number = int(value, 8 if value[0] == "0" and value.isdecimal() else 0)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 32:
        raise BadParameter(f"memtest={value} is no number", where="the command line", remedy="write memtest=4")
    boot.memtest_pattern = number


@kernel("mm/memtest.c", "early_memtest")
def early_memtest(boot: Boot, start: int, end: int) -> None:
    """Test what is free of the bytes [start, end), if memtest= asks for it.

    Raises `BadParameter` for a test that would go on for days.
    """
    tests = boot.memtest_pattern
    if not tests:
        return
    if tests > MAX_TESTS:
        raise BadParameter(
            f"memtest={tests} would write all of memory {tests} times",
            where="the command line",
            remedy=f"memtest={len(PATTERNS)} uses each pattern once",
        )
    boot.printk.info(f"early_memtest: # of tests: {tests}")
    for number in reversed(range(tests)):
        do_one_pass(boot, PATTERNS[number % len(PATTERNS)], start, end)


@kernel("mm/memtest.c", "do_one_pass")
def do_one_pass(boot: Boot, pattern: int, start: int, end: int) -> None:
    """Test every free range with one pattern. What is reserved meanwhile parts the range that it was found in."""
    for free_start, free_end, _ in for_each_free_mem_range(boot.memblock):
        this_start, this_end = max(free_start, start), min(free_end, end)
        if this_start < this_end:
            boot.printk.info(f"  {phys(boot, this_start)} - {phys(boot, this_end)} pattern {cpu_to_be64(pattern):016x}")
            memtest(boot, pattern, this_start, this_end - this_start)


@kernel("mm/memtest.c", "memtest", left_out="writing: only words that the description calls bad are looked at")
def memtest(boot: Boot, pattern: int, start_phys: int, size: int) -> None:
    """Find the words of a free range that do not keep the pattern, and reserve them, run by run."""
    start = round_up(start_phys, WORD)
    end = start + round_down(start_phys + size - start, WORD)
    for start_bad, end_bad in bad_runs(boot.spec.bad_ram, pattern, start, end):
        reserve_bad_mem(boot, pattern, start_bad, end_bad)


@invented("what reading back would show", traced=False)
def bad_runs(bad_ram: tuple[BadRam, ...], pattern: int, start: int, end: int) -> list[tuple[int, int]]:
    """The runs of words within [start, end) that read back as something else.

    >>> bad_runs((BadRam(0x1004, 0x100B, 1), BadRam(0x1010, 0x1010, 2)), 0x5555, 0, 0x2000)
    [(4096, 4112)]
    """
    runs: list[tuple[int, int]] = []
    for bad in sorted(bad_ram, key=lambda bad: bad.start):
        first, last = max(round_down(bad.start, WORD), start), min(round_up(bad.end + 1, WORD), end)
        if not pattern & bad.bits or first >= last:
            continue
        if runs and first <= runs[-1][1]:
            runs[-1] = runs[-1][0], max(runs[-1][1], last)
        else:
            runs.append((first, last))
    return runs


@kernel("mm/memtest.c", "reserve_bad_mem")
def reserve_bad_mem(boot: Boot, pattern: int, start_bad: int, end_bad: int) -> None:
    """Say which bytes are bad, and keep everybody off them."""
    where = f"{phys(boot, start_bad)} - {phys(boot, end_bad)}"
    boot.printk.info(f"  {cpu_to_be64(pattern):016x} bad mem addr {where} reserved")
    memblock_reserve(boot.memblock, start_bad, end_bad - start_bad, caller="memtest")


@kernel("include/linux/byteorder/generic.h", "cpu_to_be64", traced=False)
def cpu_to_be64(number: int) -> int:
    """A number of 8 bytes with its bytes in the opposite order: printed so, the last pattern can be read as text.

    >>> bytes.fromhex(f"{cpu_to_be64(PATTERNS[-1]):016x}")
    b'LINUXrlz'
    """
    return int.from_bytes(number.to_bytes(8, "little"), "big")


@invented("C's format %pa", traced=False)
def phys(boot: Boot, addr: int) -> str:
    """A physical address with as many digits as the kernel's type for it."""
    return f"0x{addr:0{boot.config.phys_addr_bits // 4}x}"
