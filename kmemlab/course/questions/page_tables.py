"""Chapter 03: what to expect before reading on, and what to take away."""

from kmemlab.course.quiz import gate, question, quiz

TABLE = gate(
    "A program's addresses have 48 bits, and memory comes in pages of 4 KiB. Suppose one long table had an entry of 8 "
    "bytes for each page that a program could name. How large would that table be, for every single program?",
    {
        "512 KiB": "That would do for 64 Ki pages, 256 MiB of addresses.",
        "512 MiB": "Nearly what a table for 38 bits of address takes.",
        "512 GiB": "48 - 12 bits name 2 to the power of 36 pages; 8 bytes for each are 512 GiB. Nobody has that, and "
        "nearly all of it would say: nothing here. So the table is cut into pieces, and pieces that say nothing are "
        "left out.",
    },
    right="512 GiB",
)

STALE = gate(
    "The kernel takes a page away from a program: it empties the entry in the page table. The CPU has used that page a "
    "moment ago. What does the very next access find?",
    {
        "a fault: the entry is empty": "It would, if the CPU looked at the table. But it remembers translations, and "
        "nobody told it.",
        "the old page": "The CPU remembers the translation and doesn't look at the table. Until it is told to forget, "
        "the page stays usable, even if it belongs to somebody else by then.",
        "it waits until the kernel is done": "The CPU does not know that something is going on.",
    },
    right="the old page",
)

EGG = gate(
    "The kernel wants to map all of RAM. That takes tables, and tables take memory. But memory that isn't mapped can't "
    "be written to. Where do the first tables come from?",
    {
        "from the highest free memory": "That is where memblock would look. But it isn't mapped yet: the kernel could "
        "not write a single entry there.",
        "from a few pages in the kernel's own image": "Those are mapped, or the kernel would not run. They serve to "
        "map a first 2 MiB at the top of memory; the next tables are taken from there, and so on.",
        "paging is switched off meanwhile": "A 64-bit CPU can't run without paging.",
    },
    right="from a few pages in the kernel's own image",
)

QUIZ = quiz(
    question(
        "The kernel's code walks pgd, p4d, pud, pmd and pte. How many tables does the CPU read with four-level paging?",
        {
            "five": "The p4d is folded: its one entry is the pgd's entry itself, so there is no table to read.",
            "four": "Four at most; fewer if an entry maps a large page.",
            "one": "One is enough only for the TLB, and that is no table.",
        },
        right="four",
    ),
    question(
        "A write fails with error code 0x0003. What do you know?",
        {
            "nothing is mapped there": "Then bit 0 would be clear.",
            "a page is there, and may not be written": "Bit 0: the page was there. Bit 1: it was a write. Bit 2 is "
            "clear: it was the kernel's.",
            "a program did it": "Then bit 2 would be set.",
        },
        right="a page is there, and may not be written",
    ),
    question(
        "The kernel empties an entry and writes CR3 with the value that it has. The page was global. What does the "
        "next access find?",
        {
            "a fault": "Writing CR3 makes the CPU forget all pages, except global ones.",
            "the old page": "A write of CR3 leaves global pages. INVLPG, or a change of CR4.PGE, would have reached "
            "it.",
        },
        right="the old page",
    ),
    question(
        "RAM is [1 MiB, 5 MiB). By which pages is it mapped, if the CPU has pages of 2 MiB?",
        {
            "two of 2 MiB": "They would start at 1 MiB and 3 MiB, but a page of 2 MiB starts at a multiple of 2 MiB.",
            "256 of 4 KiB, one of 2 MiB, 256 of 4 KiB": "[2 MiB, 4 MiB) is one whole page; head and tail are 1 MiB "
            "each.",
            "1,024 of 4 KiB": "It would work, with a table more, and with far more to remember for the TLB.",
        },
        right="256 of 4 KiB, one of 2 MiB, 256 of 4 KiB",
    ),
    question(
        "Why does /proc/meminfo say more under DirectMap4k some days after boot than just after it?",
        {
            "somebody plugged in memory": "Then the sum would grow. It stays.",
            "large pages were split": "When a part of a large page is to be read-only, say for a module's code, it is "
            "split into 512 small ones. The sum of all DirectMap lines stays the same.",
            "programs have allocated memory": "Programs' pages are mapped in their own tables; the direct map has all "
            "RAM anyway.",
        },
        right="large pages were split",
    ),
)
