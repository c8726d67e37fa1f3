"""Chapter 04: what to expect before reading on, and what to take away."""

from kmemlab.course.quiz import gate, question, quiz

ZONES = gate(
    "A machine has 8 GiB of memory, all of it alike. Linux cuts it into zones at 16 MiB and at 4 GiB. Why just there?",
    {
        "memory above is slower": "Memory is equally fast at every address. How far a *node* is, matters; not how high "
        "an address.",
        "some devices reach no higher": "An ISA card has 24 address lines and many PCI devices have 32. Memory that "
        "they can reach must not be spent on those who could use any other.",
        "the kernel lies below, programs above": "Both get their pages from any zone. On 64 bits the kernel sees all "
        "memory at all times.",
        "the page tables are smaller that way": "Page tables know nothing of zones.",
    },
    right="some devices reach no higher",
)

QUIZ = quiz(
    question(
        "A zone has 1,000,000 spanned, 800,000 present and 780,000 managed pages. What are the 20,000?",
        {
            "holes": "Holes are the difference of spanned and present: 200,000.",
            "kept by boot": "Memory that boot took for good, the memory map for one, was never given to the page "
            "allocator.",
            "in use by programs": "Programs use managed pages. Those are managed, but not free.",
        },
        right="kept by boot",
    ),
    question(
        "A driver on node 1 asks for any page (GFP_KERNEL). In which zone of the preset numa-2x4g does Linux look "
        "first?",
        {
            "node 0, DMA": "That is the very last one: it is far, and it is the scarcest.",
            "node 0, Normal": "A node comes first in its own list.",
            "node 1, Normal": "The own node first, and on it the highest zone that fits.",
        },
        right="node 1, Normal",
    ),
    question(
        "Under SPARSEMEM_VMEMMAP, what must be read to go from a page frame number to its struct page?",
        {
            "a table of sections": "That is classic SPARSEMEM. With VMEMMAP the page tables do that work.",
            "page->flags": "Those are needed for the way back, under classic SPARSEMEM.",
            "one base address": "vmemmap_base + pfn times the size of struct page: an addition.",
        },
        right="one base address",
    ),
    question(
        "The line protection: (0, 3000, 8000, …) stands in zone DMA. Who must leave 8,000 pages free there?",
        {
            "everybody": "A request that can only use DMA must leave the first number, 0.",
            "requests that could use Normal": "They have all of DMA32 and Normal to choose from, so DMA is defended "
            "against them.",
            "requests for DMA": "They have nowhere else to go: for them nothing is kept back.",
        },
        right="requests that could use Normal",
    ),
)
