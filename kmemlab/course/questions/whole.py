"""Chapter 09: what to expect before reading on, and what to take away."""

from kmemlab.course.quiz import gate, question, quiz

MALLOC = gate(
    "39 MiB are free. A program calls malloc(20 MiB), and gets an address. How much is free now?",
    {
        "19 MiB": "Then a program that asks for much, to be on the safe side, would take it from all others. The "
        "kernel waits until it is used.",
        "nearly 39 MiB": "malloc gives addresses. A page frame comes with the first touch of each page, by a fault.",
        "39 MiB minus the page tables for 20 MiB": "Tables are made at the fault, too, for the pages that are touched.",
    },
    right="nearly 39 MiB",
)

FORK = gate(
    "A process has touched 1,000 pages, and forks. How many page frames does the fork take?",
    {
        "about 1,000": "That was so in the first Unix. The copy would be thrown away a moment later, when the child "
        "loads another program.",
        "none": "Nearly; but the child needs page tables, a task_struct, a stack in the kernel.",
        "a few": "Page tables and structs. The 1,000 pages are shared, and read only for both from now on.",
    },
    right="a few",
)

REPLAY = gate(
    "The model is told what programs asked for, and nothing of what reclaim did. How near will its free pages come to "
    "those of the real machine?",
    {
        "to the page": "There are two threads, and a disk. When each has its turn no model can know exactly.",
        "within about 1 % of memory": "The rules are the kernel's own: watermarks, lists, batches. Only the moments "
        "differ.",
        "hardly at all": "If the rules were only roughly the kernel's, errors would add up over 158,000 events.",
    },
    right="within about 1 % of memory",
)

WHICH = gate(
    "A driver for a network card needs a ring of 64 descriptors of 16 bytes, which the card reads by itself, and a "
    "table of 3 MiB, which only the driver reads. Which allocator for which?",
    {
        "kmalloc for both": "3 MiB is no longer a few pages: kmalloc would need 4 MiB in a row, if it can have them.",
        "vmalloc for both": "The card knows no page tables: behind one page of vmalloc lies somebody else's.",
        "pages in a row for the ring, vmalloc for the table": "1 KiB in a row (kmalloc or alloc_pages; drivers take "
        "dma_alloc_coherent, which calls it) for the card, and any page frames for the table.",
    },
    right="pages in a row for the ring, vmalloc for the table",
)

QUIZ = quiz(
    question(
        "Two processes map the same frame, read only, after a fork. One of them writes. What are the mapcounts then?",
        {
            "2 and 1": "The writer leaves the old frame: its mapcount falls.",
            "1 and 1": "The writer has a frame of its own, the other one keeps the old frame alone.",
            "2, as before": "Then the other process would read what was written.",
        },
        right="1 and 1",
    ),
    question(
        "And if the other one writes afterwards?",
        {
            "another copy": "For whom? Nobody else has the old frame any more.",
            "a fault, and no copy": "The entry is still read only, so there is a fault; do_wp_page sees that nobody "
            "else refers to the frame, and gives the right to write back.",
            "nothing: it may write": "Nobody has changed its entry. It learns of it by the fault.",
        },
        right="a fault, and no copy",
    ),
    question(
        "MemFree falls by 100 MiB in an hour; Cached, AnonPages, Slab, PageTables and VmallocUsed stay as they are. "
        "Who has it?",
        {
            "the page cache": "That would be in Cached.",
            "a program": "That would be in AnonPages.",
            "somebody who calls alloc_pages": "Pages that are taken directly have no row: a driver, most likely.",
        },
        right="somebody who calls alloc_pages",
    ),
    question(
        "An interrupt handler needs 64 bytes. What does it call?",
        {
            "kmalloc with GFP_KERNEL": "That may sleep, and an interrupt handler must not.",
            "kmalloc with GFP_ATOMIC": "It doesn't sleep, may dip into the reserve below min, and may fail: look at "
            "what it returns.",
            "vmalloc": "It may sleep, and takes a page and page tables for 64 bytes.",
        },
        right="kmalloc with GFP_ATOMIC",
    ),
    question(
        "A machine has 2 % free, and swap is half full. Is it short of memory?",
        {
            "yes": "Neither says so. A cache fills all memory, and what went to swap may never be needed again.",
            "that can't be said from this": "Look at MemAvailable, and at what changes: refaults, pswpin, allocstall.",
            "no": "It may well be: look whether pages come back from swap.",
        },
        right="that can't be said from this",
    ),
)
