"""Sentences for the steps of fork and of copy on write: whose entry names which page now, and who counts it."""

from __future__ import annotations

from kmemlab.views.told import Tell, Told


def _folded(sentence: str) -> Tell:
    """A sentence about the caller, which needs nothing but its name."""
    return lambda t: f"{t.by} {sentence}."


def _page_shared(t: Told) -> str:
    return (
        f"{t.by} gives the child the same entry as its parent's: the page's mapcount goes up (the zero page has none), "
        "and in a private VMA neither may write any more."
    )


def _got_page(t: Told) -> str:
    if not isinstance(t.call.value, int):
        return f"{t.by} asks for a page, and there is none."
    return f"{t.by} gets a page frame of its own for the process: pfn {t.call.value}."


def _copied(t: Told) -> str:
    return f"{t.by} copies the 4,096 bytes of pfn {t.args['source']} to pfn {t.args['to']}."


def _new_mapped(t: Told) -> str:
    return f"{t.by} counts pfn {t.args['pfn']}: one page table is about to map it, and it is this process's alone."


def _unmapped(t: Told) -> str:
    return f"{t.by} counts pfn {t.args['pfn']}: one page table less maps it."


def _put(t: Told) -> str:
    return f"{t.by} drops a reference on pfn {t.args['pfn']}; the last one would free it."


def _on_lru(t: Told) -> str:
    return f"{t.by} sends pfn {t.args['pfn']} on its way to the LRU lists."


def _reused(t: Told) -> str:
    return f"{t.by} needs no copy: nobody else has the page, and the entry says so now (W)."


def _alone(t: Told) -> str:
    answer = "nobody else has it" if t.call.value else "somebody else has it, too"
    return f"{t.by} looks who refers to pfn {t.args['pfn']}: {answer}."


def _pid(t: Told) -> str:
    return f"{t.by} gives the child a pid: {t.call.value}."


def _tables(t: Told) -> str:
    return f"{t.by} sees that there are page tables on the way to {t.args['address']:#x}."


FORK_FOLDED: dict[str, Tell] = {
    "copy_present_pte": _page_shared,
    "copy_nonpresent_pte": _folded("lets the child hold a swap entry, too: its slot counts one user more"),
    "alloc_zeroed_user_highpage_movable": _got_page,
    "copy_user_highpage": _copied,
    "page_add_new_anon_rmap": _new_mapped,
    "page_remove_rmap": _unmapped,
    "put_page": _put,
    "lru_cache_add_inactive_or_unevictable": _on_lru,
    "wp_page_reuse": _reused,
    "nobody_else_has": _alone,
    "alloc_pid": _pid,
    "__pte_alloc": _tables,
    "dup_task_struct": _folded("makes a task_struct and a kernel stack for the child"),
    "mm_init": _folded("makes an address space for the child, with nothing in it but the kernel's half"),
    "vm_area_alloc": _folded("makes a VMA for the child, the twin of its parent's"),
    "anon_vma_clone": _folded("lets the child's VMA join the anon_vma of its parent's: pages are found from there"),
    "vma_link": _folded("puts the VMA in its place among the child's"),
    "__vm_enough_memory": _folded("promises the pages of a VMA once more, as the child may write them all"),
    "switch_mm_irqs_off": _folded("lets the CPU use other page tables"),
    "mm_account_fault": _folded("counts the fault with the process"),
    "free_pgd_range": _folded("frees the page tables that nobody needs any more"),
    "unlink_anon_vmas": _folded("takes a VMA off its anon_vma"),
    "vm_area_free": _folded("frees a VMA"),
    "__mmdrop": _folded("frees the top table and the mm_struct"),
    "exit_notify": _folded("tells the parent"),
    "finish_task_switch": _folded("frees the stack of the dead task"),
}
TOLD_AS_ONE = tuple(FORK_FOLDED)
"""What a player of fork folds: `Player(…, folded=TOLD_AS_ONE)`."""


def _clone(t: Told) -> str:
    return f"{t.name} is to make a child of process {t.args['pid']}."


def _access(t: Told) -> str:
    what = "reads" if t.args.get("data") is None else "writes"
    count = "1 byte" if t.args["size"] == 1 else f"{t.args['size']:,} bytes"
    return f"{t.name} is our CPU running process {t.args['pid']}, which {what} {count} at {t.args['address']:#x}."


def _fault(t: Told) -> str:
    code = t.args["error_code"]
    what = "write" if code & 2 else "read"
    why = "the entry doesn't allow it" if code & 1 else "there is no page"
    return f"{t.name} takes the page fault: a {what} at {t.args['address']:#x}, but {why}."


def _entry(sentence: str) -> Tell:
    """A sentence about the function that is entered."""
    return lambda t: f"{t.name} {sentence}."


FORK_ENTRIES: dict[str, Tell] = {
    "kernel_clone": _clone,
    "copy_process": _entry("makes the child, piece by piece"),
    "copy_mm": _entry("is to give the child an address space"),
    "dup_mm": _entry("copies the parent's address space: its tables, not its pages"),
    "dup_mmap": _entry("goes through the parent's VMAs, and gives the child each one's twin"),
    "copy_page_range": _entry("goes through the parent's entries for this VMA"),
    "user_access": _access,
    "do_user_addr_fault": _fault,
    "handle_pte_fault": _entry("looks at the entry: empty, or on a swap area, or there but not for writing"),
    "do_anonymous_page": _entry("finds an empty entry, in a VMA without a file"),
    "do_wp_page": _entry("finds a page that is only read so far, in a VMA that may be written: copy on write"),
    "wp_page_copy": _entry("gives the process a page of its own, with the same bytes"),
    "replace_page": _entry("lets the entry name the new page instead of the old one"),
    "zap_pte_range": _entry("clears the entries, and lets go of what they name"),
}
