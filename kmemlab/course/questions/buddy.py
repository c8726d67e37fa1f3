"""Chapter 05: what to expect before reading on, and what to take away."""

from kmemlab.course.quiz import gate, question, quiz

BLOCKS = gate(
    "A zone has one free block of 1,024 pages and nothing else. Somebody takes a single page. "
    "How many free blocks are there afterwards?",
    {
        "1": "One block of 1,023 pages would be no block any more: its size is no power of two, and it has no buddy.",
        "10": "The block is halved ten times, and each time one half is given back: 512, 256, 128, … 2, 1 pages. "
        "The last page is yours.",
        "11": "Close. Ten halvings leave eleven pieces, but one of them is the page that was taken.",
        "1,023": "Single pages would be simple, but then nobody could find two in a row again without searching.",
    },
    right="10",
)

QUIZ = quiz(
    question(
        "What is the buddy of pfn 40 at order 3?",
        {
            "32": "40 is 101000. Bit 3 is set; flipping it gives 100000.",
            "44": "That flips bit 2: the buddy at order 2.",
            "48": "48 begins where the block ends, but the two are halves of different blocks.",
        },
        right="32",
    ),
    question(
        "A zone has free blocks of order 3 and order 5 only. A request for order 1 takes from …",
        {
            "order 3": "The smallest order that is large enough is taken, so that large blocks stay whole.",
            "order 5": "That would spoil the larger block without need.",
            "nowhere": "A larger block can always be split.",
        },
        right="order 3",
    ),
    question(
        "Pfn 12 (order 2) is freed. Pfn 8 (order 2) is free, and pfn 0 is free as a block of order 3. "
        "What is free afterwards?",
        {
            "8 and 12, order 2": "They are buddies: 01000 and 01100 differ in bit 2 only.",
            "8, order 3": "They are joined, but look once more: 8 and 0 are buddies at order 3.",
            "0, order 4": "8 and 12 become 8 at order 3, then 8 and 0 become 0 at order 4.",
        },
        right="0, order 4",
    ),
    question(
        "Half of a zone's pages are free, yet a request for two pages in a row fails. How can that be?",
        {
            "the counter is wrong": "The machine checks it after each command.",
            "no two free pages are buddies": "Each free page has a taken buddy, so none could be joined.",
            "order 1 is reserved": "There is a reserve, but it is not kept by order.",
        },
        right="no two free pages are buddies",
    ),
    question(
        "Unmovable pages are wanted, and their lists are empty. Both lenders have blocks of order 2 and of order 8. "
        "Which is taken over?",
        {
            "order 2": "That would do; but with each such block another pageblock gets mixed.",
            "order 8": "The largest: its pageblock is mostly free, and may change hands as a whole.",
            "none": "An empty list is what fallback is for.",
        },
        right="order 8",
    ),
    question(
        "The min mark of a zone is 200 pages, and 150 are free. Who may still have a single page?",
        {
            "nobody": "Below min are reserves, and they are there for somebody.",
            "GFP_KERNEL": "It may wait, so it has to: memory must be freed first.",
            "GFP_ATOMIC": "It goes down to three eighths of the mark: 75 pages.",
        },
        right="GFP_ATOMIC",
    ),
    question(
        "Two gigabytes are free, no block is larger than order 3, and extfrag_index says 0.99 for order 9. What helps?",
        {
            "freeing more memory": "There is plenty. It lies in crumbs.",
            "compaction": "Movable pages are moved to one end, until the free ones lie in a row.",
            "a larger min_free_kbytes": "More would be kept free, but no less scattered.",
        },
        right="compaction",
    ),
)
