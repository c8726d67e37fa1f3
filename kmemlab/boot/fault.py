"""The kernel's last words about an access that it can't mend: the first lines of an oops."""

from __future__ import annotations

from kmemlab.boot.pgtable import PageTables, entry_leaf, get_entry, lookup_address, pgd_offset, table_offset
from kmemlab.boot.printk import Printk
from kmemlab.sim.kernel import kernel
from kmemlab.types.pgtable import P4D, PAGE_NX, PAGE_PRESENT, PGD, PTE
from kmemlab.types.trap_pf import X86_PF_INSTR, X86_PF_USER, X86_PF_WRITE, error_code_text
from kmemlab.types.units import PAGE_SIZE


@kernel("arch/x86/mm/fault.c", "show_fault_oops", left_out="SMEP's hint; the descriptor tables")
def show_fault_oops(
    printk: Printk, tables: PageTables, error_code: int, address: int, user_mode: bool = False, uid: int = 0
) -> None:
    """Say what was tried, why it failed, and what the page tables have there.

    >>> from kmemlab.hardware.ram import Ram
    >>> printk = Printk()
    >>> show_fault_oops(printk, PageTables(Ram(16), levels=4), X86_PF_WRITE, 0x10)
    >>> print(printk.lines()[0], printk.lines()[2], sep=chr(10))
    BUG: kernel NULL pointer dereference, address: 0000000000000010
    #PF: error_code(0x0002) - not-present page
    """
    digits = 16 if tables.layout.virt_bits > 32 else 8
    if error_code & X86_PF_INSTR and not_executable(tables, address):
        printk.info(f"kernel tried to execute NX-protected page - exploit attempt? (uid: {uid})")
    if address < PAGE_SIZE and not user_mode:
        printk.info(f"BUG: kernel NULL pointer dereference, address: {address:0{digits}x}")
    else:
        printk.info(f"BUG: unable to handle page fault for address: {address:0{digits}x}")
    who = "user" if error_code & X86_PF_USER else "supervisor"
    what = "write access" if error_code & X86_PF_WRITE else "read access"
    if error_code & X86_PF_INSTR:
        what = "instruction fetch"
    printk.info(f"#PF: {who} {what} in {'user' if user_mode else 'kernel'} mode")
    printk.info(f"#PF: error_code(0x{error_code:04x}) - {error_code_text(error_code)}")
    if tables.layout.virt_bits > 32:
        dump_pagetable(printk, tables, address)
    else:
        dump_pagetable_32(printk, tables, address)


@kernel("arch/x86/include/asm/pgtable.h", "pte_exec", traced=False)
def not_executable(tables: PageTables, address: int) -> bool:
    """Whether a page is there, and its entry forbids execution."""
    found = lookup_address(tables, address)
    entry = get_entry(tables, found[0]) if found else 0
    return bool(entry & PAGE_PRESENT and entry & PAGE_NX)


@kernel("arch/x86/mm/fault.c", "dump_pagetable", left_out="tables outside of RAM ('BAD')")
def dump_pagetable(printk: Printk, tables: PageTables, address: int) -> None:
    """Print the entries on the way to an address, down to the first that leads no further (64 bit)."""
    text, entryp = "", pgd_offset(tables, address)
    for level, name in enumerate(("PGD", "P4D", "PUD", "PMD", "PTE")):
        if level != PGD:
            entryp = table_offset(tables, level, entryp, address)
        entry = get_entry(tables, entryp)
        text += f"{name} {entry:x}" + (" " if level != PTE else "")
        # pgd_present() is always true while the P4D is folded: an empty entry is then printed under both names.
        if level == PGD and tables.layout.levels[P4D].folded:
            continue
        if not entry & PAGE_PRESENT or (level >= P4D and entry_leaf(tables, level, entryp)):
            break
    printk.info(text)


@kernel("arch/x86/mm/fault.c", "dump_pagetable", left_out="tables outside of low memory")
def dump_pagetable_32(printk: Printk, tables: PageTables, address: int) -> None:
    """Print the entries on the way to an address (i386): C has a second function of the same name."""
    text, entryp = "", pgd_offset(tables, address)
    digits = 2 * tables.layout.entry_size
    if tables.layout.name == "PAE":
        entry = get_entry(tables, entryp)
        text = f"*pdpt = {entry:016x} "
        if not entry & PAGE_PRESENT:
            printk.info(text)
            return
    for level in range(P4D, PTE):
        entryp = table_offset(tables, level, entryp, address)
    entry = get_entry(tables, entryp)
    text += f"*pde = {entry:0{digits}x} "
    if entry & PAGE_PRESENT and not entry_leaf(tables, PTE - 1, entryp):
        text += f"*pte = {get_entry(tables, table_offset(tables, PTE, entryp, address)):0{digits}x} "
    printk.info(text)
