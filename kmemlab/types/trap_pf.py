"""The error code of a page fault: what was tried, and why it failed."""

from __future__ import annotations

X86_PF_PROT = 1 << 0  # 0: a page was not present; 1: it was, and something else forbids the access
X86_PF_WRITE = 1 << 1  # a write
X86_PF_USER = 1 << 2  # from user mode
X86_PF_RSVD = 1 << 3  # a reserved bit is set in an entry
X86_PF_INSTR = 1 << 4  # an instruction was fetched
X86_PF_PK = 1 << 5  # the page's protection key forbids it


def error_code_text(error_code: int) -> str:
    """Why the access failed, as the kernel's log says it.

    >>> error_code_text(X86_PF_WRITE), error_code_text(X86_PF_PROT | X86_PF_RSVD)
    ('not-present page', 'reserved bit violation')
    """
    if not error_code & X86_PF_PROT:
        return "not-present page"
    if error_code & X86_PF_RSVD:
        return "reserved bit violation"
    return "protection keys violation" if error_code & X86_PF_PK else "permissions violation"
