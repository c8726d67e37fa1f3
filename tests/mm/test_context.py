"""The running context: what the kernel says when somebody sleeps where nobody may."""

from kmemlab import Machine
from kmemlab.boot.printk import Printk
from kmemlab.mm.context import (
    Context,
    interrupt,
    might_sleep,
    preempt_disable,
    preempt_enable,
    set_task_comm,
    task_comm,
)


def running() -> Context:
    current = Context(Printk())
    current.system_state = 1
    current.pid = 42
    set_task_comm(current, "a-rather-long-name")
    return current


def test_comm_is_cut_at_15_bytes() -> None:
    assert task_comm(running()) == "a-rather-long-n"


def test_sleeping_is_reported_in_linux_words_only_where_it_is_wrong() -> None:
    current = running()
    assert not might_sleep(current, "mm/slab.h:1")
    preempt_disable(current)
    assert might_sleep(current, "include/linux/sched/mm.h:274")
    preempt_enable(current)
    with interrupt(current):
        assert might_sleep(current, "mm/page_alloc.c:5000")
    assert not might_sleep(current, "mm/page_alloc.c:5000")
    assert current.printk.lines() == (
        "BUG: sleeping function called from invalid context at include/linux/sched/mm.h:274",
        "in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 42, name: a-rather-long-n",
        "preempt_count: 1, expected: 0",
        "BUG: sleeping function called from invalid context at mm/page_alloc.c:5000",
        "in_atomic(): 1, irqs_disabled(): 0, non_block: 0, pid: 42, name: a-rather-long-n",
        "preempt_count: 10000, expected: 0",
    )


def test_before_there_is_a_scheduler_nothing_is_said() -> None:
    current = Context(Printk())
    preempt_disable(current)
    assert not might_sleep(current, "mm/page_alloc.c:5000")


def test_context_rewinds() -> None:
    machine = Machine.boot("tiny-128m")
    assert task_comm(machine.kernel.mm.current) == "swapper/0"
