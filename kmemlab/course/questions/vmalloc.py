"""Chapter 07: what to expect before reading on, and what to take away."""

from kmemlab.course.quiz import gate, question, quiz

PIECES = gate(
    "A driver needs a buffer of 1 MiB whose bytes follow one another. 30 MiB are free, but no two free pages lie side "
    "by side. Can it be had?",
    {
        "no: the memory isn't there": "The memory is there, 30 times over. What isn't there is a row.",
        "yes, by moving pages about": "Compaction tries that, and it helps where the pages in between are movable. But "
        "it takes long, and here nobody needs it.",
        "yes, by other addresses": "Only the addresses must follow one another, not the page frames. A page table can "
        "lead each page of addresses to any frame, so 256 single pages do.",
    },
    right="yes, by other addresses",
)

STALE = gate(
    "An area of vmalloc has just been read. Then vfree is called, and in the very next moment somebody reads the same "
    "address again, by mistake. What is found?",
    {
        "a fault: nothing is mapped there": "The entries in the page table are empty, that is true. But does the CPU "
        "look at them?",
        "the old page": "The entries are cleared, but the TLB still knows the page, and nobody has told it to forget. "
        "vfree leaves that to a purge, which is much later.",
        "zeros": "Nobody clears a page that is freed (unless the kernel was told to, by init_on_free=1).",
    },
    right="the old page",
)

SMALL = gate(
    "An i386 machine with 1 GiB has 800 MiB of free memory. Drivers ask vmalloc for 16 MiB at a time. How many such "
    "areas can they have?",
    {
        "about 50": "There is memory for 50. But each needs addresses, too.",
        "7": "The kernel has 1 GiB of addresses, and nearly all of it is the direct map. For vmalloc 120 MiB are left: "
        "seven areas with their guard pages.",
        "none": "16 MiB are a large area, but nothing forbids it.",
    },
    right="7",
)

QUIZ = quiz(
    question(
        "vmalloc(10000): how many page frames does it take, and how many pages of addresses?",
        {
            "3 and 3": "Behind each area a guard page of addresses stays empty.",
            "3 and 4": "10,000 bytes are three pages; the guard page needs an address, but no memory.",
            "4 and 4": "The guard page has no frame: it is there to fault.",
        },
        right="3 and 4",
    ),
    question(
        "A device writes into memory by physical addresses, and knows no page tables. May its buffer of 64 KiB come "
        "from vmalloc?",
        {
            "yes, the addresses follow one another": "The virtual ones do. The device would write 60 KiB into pages "
            "that belong to others.",
            "no": "Only alloc_pages gives frames that follow one another. (With an IOMMU the device has page tables of "
            "its own, and then it may.)",
        },
        right="no",
    ),
    question(
        "Why does vmalloc not use addresses again as soon as they are freed?",
        {
            "a TLB may still lead to the old page": "One flush of all TLBs pays for thousands of frees; until then the "
            "addresses wait.",
            "so that use after free is found": "A welcome side effect; but after the purge the address "
            "may be anybody's.",
            "the tree is too slow": "It takes a few steps, whatever happens.",
        },
        right="a TLB may still lead to the old page",
    ),
    question(
        "On i386, kunmap of a page with one user: what happens to its slot?",
        {
            "it is free at once": "Then the next page in this slot could be reached by a stale translation.",
            "it stays mapped until the round is over": "Its count falls from 2 to 1. At the end of the round all such "
            "slots are unmapped, with one flush.",
            "it is given to the task that waits": "A task that waits is woken, but it must look for a slot itself.",
        },
        right="it stays mapped until the round is over",
    ),
    question(
        "A function recurses too deeply in the kernel. Why is that found at once on x86-64, and not on i386?",
        {
            "stacks are larger on x86-64": "They are (16 KiB and 8 KiB), but each comes to an end.",
            "the stack comes from vmalloc": "Below it lies a page of addresses that is never mapped: the first write "
            "beyond the end faults. On i386 it hits the page of somebody else.",
        },
        right="the stack comes from vmalloc",
    ),
)
