"""Chapter 02: what to expect before reading on, and what to take away."""

from kmemlab.course.quiz import gate, question, quiz

WHERE = gate(
    "Boot is young, there is no page allocator yet, and a function needs 32 KiB for a table that it will keep for "
    "ever. Of a machine with 128 MiB, which 32 KiB should it get?",
    {
        "the lowest that are free": "The old bootmem did that. But low memory is rare: devices of the ISA bus reach "
        "only the first 16 MiB, many others only the first 4 GiB. A table can lie anywhere.",
        "the highest that are free": "So does memblock. What stays free is one large piece below, with all of the "
        "low memory that devices need.",
        "those behind the kernel's image": "There is room there, as a rule. But it is in the middle: what is free "
        "would be cut into two.",
    },
    right="the highest that are free",
)

TWICE = gate(
    "The boot code reserves the BIOS's area from 636 KiB to 1 MiB. Later another function reserves 16 bytes within it, "
    "and a third one all of the first MiB. What should memblock make of that?",
    {
        "an error: it is taken already": "Nobody would know whom to ask first. Boot code reserves what it knows must "
        "not be given away, and must not care who else knew.",
        "three entries, one for each": "Then each search would have to look at all of them, and a sum of the "
        "reserved bytes would be too large.",
        "one entry, with each byte counted once": "Only what isn't covered yet is added, and neighbours that touch "
        "become one. To reserve twice does no harm.",
    },
    right="one entry, with each byte counted once",
)

QUIZ = quiz(
    question(
        "memblock keeps two lists. What is free?",
        {
            "what is in a third list": "There is none. It is worked out while searching.",
            "what is in memory, and not in reserved": "The lists may overlap in any way; free is the one without the "
            "other.",
            "what is in neither list": "Of that memblock knows nothing: it may be a hole or a device.",
        },
        right="what is in memory, and not in reserved",
    ),
    question(
        "Free is [0x100000, 0x7f8c800). A function wants 4 KiB, aligned to 4 KiB. Where does it get them?",
        {
            "0x7f8c000": "There they would end at 0x7f8d000, behind the end of what is free.",
            "0x7f8b800": "That is the end less the size. It must be rounded down to a multiple of 4 KiB.",
            "0x7f8b000": "The end less the size is 0x7f8b800; rounded down to a multiple of 0x1000 it is 0x7f8b000.",
        },
        right="0x7f8b000",
    ),
    question(
        "memblock_reserve is called for a range that is no memory at all. What happens?",
        {
            "it goes into the list all the same": "The two lists know nothing of each other. On most machines ACPI "
            "tables are reserved that lie in ranges of type ACPI data, which are not memory for memblock.",
            "the kernel stops": "Nothing is wrong with it. Nobody would be given that range anyway.",
            "it is added to memory": "Only memblock_add does that.",
        },
        right="it goes into the list all the same",
    ),
    question(
        "An MTRR says uncachable for a range, the page-table entry says write-back. How is the memory accessed?",
        {
            "write-back: the page table is nearer": "Then a stray mapping could put a device's registers into the "
            "cache. Write-back in the entry means: whatever the MTRR says.",
            "uncachable": "No entry can make an uncachable range cached. It can only go the other way, or ask for "
            "write-combining.",
            "write-through, as a compromise": "That is what two MTRRs come to, one write-back and one write-through.",
        },
        right="uncachable",
    ),
    question(
        "The free pages 5, 6, 7, 8, 9 are handed to the page allocator. In which blocks?",
        {
            "4 + 1 pages": "A block of four pages starts at a multiple of four. There is no room for one.",
            "1 + 2 + 2 pages": "Page 5 alone, for 5 is odd; 6 and 7; 8 and 9. The blocks get larger, then smaller.",
            "five single pages": "It would do, for the buddy system would join them. But it would take longer.",
        },
        right="1 + 2 + 2 pages",
    ),
)
