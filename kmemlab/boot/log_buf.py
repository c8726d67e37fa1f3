"""The kernel log's own memory: 128 KiB in the image; log_buf_len= and many CPUs ask for more."""

from __future__ import annotations

from kmemlab.boot.cmdline import early_param
from kmemlab.boot.globals import Boot
from kmemlab.boot.memblock import memblock_alloc, memblock_phys_free
from kmemlab.boot.smp import num_possible_cpus
from kmemlab.sim.kernel import kernel
from kmemlab.types.units import GIB, KIB, memparse

LOG_BUF_LEN = 128 * KIB  # 1 << CONFIG_LOG_BUF_SHIFT
LOG_CPU_MAX_BUF_LEN = 4 * KIB  # 1 << CONFIG_LOG_CPU_MAX_BUF_SHIFT
LOG_BUF_LEN_MAX = 2 * GIB
LOG_ALIGN = 8
PRB_AVGBITS = 5  # a record is 32 bytes on average
LONGS_OF_PRB_DESC, SIZEOF_PRINTK_INFO = 3, 88


@early_param("log_buf_len")
@kernel("kernel/printk/printk.c", "log_buf_len_setup")
def log_buf_len_setup(boot: Boot, value: str) -> None:
    """log_buf_len=SIZE: how many bytes of text the log holds; less than it has changes nothing."""
    log_buf_len_update(boot, memparse(value)[0])


@kernel("kernel/printk/printk.c", "log_buf_len_update")
def log_buf_len_update(boot: Boot, size: int) -> None:
    """Ask for a log of `size` bytes, rounded up to a power of two."""
    if size > LOG_BUF_LEN_MAX:
        size = LOG_BUF_LEN_MAX
        boot.printk.info("printk: log_buf over 2G is not supported.")
    if size:
        size = 1 << (size - 1).bit_length()
    if size > LOG_BUF_LEN:
        boot.new_log_buf_len = size


@kernel("kernel/printk/printk.c", "log_buf_add_cpu")
def log_buf_add_cpu(boot: Boot) -> None:
    """More CPUs say more: each one beyond the first gets 4 KiB, if that makes at least half of the log as it is."""
    cpu_extra = (num_possible_cpus(boot.spec) - 1) * LOG_CPU_MAX_BUF_LEN
    if cpu_extra <= LOG_BUF_LEN // 2:
        return
    say = boot.printk.info
    say(f"printk: log_buf_len individual max cpu contribution: {LOG_CPU_MAX_BUF_LEN} bytes")
    say(f"printk: log_buf_len total cpu_extra contributions: {cpu_extra} bytes")
    say(f"printk: log_buf_len min size: {LOG_BUF_LEN} bytes")
    log_buf_len_update(boot, cpu_extra + LOG_BUF_LEN)


@kernel("kernel/printk/printk.c", "setup_log_buf", left_out="copying the log; how much of the old one was free")
def setup_log_buf(boot: Boot, early: int) -> None:
    """Take memory for a larger log, if one is wanted and none was taken: its text, and two tables of its records."""
    if boot.log_buf_len:
        return
    if not early and not boot.new_log_buf_len:
        log_buf_add_cpu(boot)
    if not boot.new_log_buf_len:
        return
    records = boot.new_log_buf_len >> PRB_AVGBITS
    sizeof_prb_desc = LONGS_OF_PRB_DESC * boot.config.sizeof_pointer
    sizes = (boot.new_log_buf_len, records * sizeof_prb_desc, records * SIZEOF_PRINTK_INFO)
    taken: list[tuple[int, int]] = []
    for size, what in zip(sizes, ("text", "desc", "info"), strict=True):
        addr = memblock_alloc(boot.memblock, size, LOG_ALIGN, "setup_log_buf")
        if not addr:
            boot.printk.info(f"printk: log_buf_len: {size} {what} bytes not available")
            for old, old_size in reversed(taken):
                memblock_phys_free(boot.memblock, old, old_size, caller="setup_log_buf")
            return
        taken.append((addr, size))
    boot.log_buf_len, boot.new_log_buf_len = boot.new_log_buf_len, 0
    boot.printk.info(f"printk: log_buf_len: {boot.log_buf_len} bytes")
