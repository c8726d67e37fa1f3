"""Chapter 00: what to expect before reading on, and what to take away."""

from kmemlab.course.quiz import gate, question, quiz

WHERE = gate(
    "A laptop has 8 GiB of memory. Nothing runs yet but the kernel, and the command free counts 7.7 GiB in all. "
    "Where is the rest?",
    {
        "programs have it": "Programs use memory that is counted. What is missing here isn't in the sum at all.",
        "the maker counts in other units": "That is true of disks. Memory is sold in powers of two: 8 GiB are 8 GiB.",
        "it was taken before counting began": "The firmware kept some, and the kernel took more during boot: for "
        "itself, and for tables that describe the memory. What it took for good is not counted.",
        "it is broken": "Then it would be said in the kernel's log, and it would be an address or two, not 300 MiB.",
    },
    right="it was taken before counting began",
)

QUIZ = quiz(
    question(
        "Which of these comes first when a machine boots?",
        {
            "memblock": "It needs a map: which addresses are memory?",
            "the firmware's map": "Nothing else can be known before it: the map says what is memory.",
            "the page allocator": "It needs a description of each page, and somebody who gives memory for that.",
            "zones": "They are cut out of memory that is known already.",
        },
        right="the firmware's map",
    ),
    question(
        "MemTotal of /proc/meminfo is smaller than the memory that is built in. It counts …",
        {
            "all that the firmware called usable": "Part of that was taken during boot and never came back.",
            "the pages that the page allocator manages": "Handed over by boot, and those that came back when it was "
            "over. Who holds them now doesn't matter.",
            "the pages that are free": "That is MemFree.",
        },
        right="the pages that the page allocator manages",
    ),
    question(
        "A check in an exercise fails and names a law and an input. What do you know?",
        {
            "the code that would be right": "It never tells. But there are two hints.",
            "the smallest input on which your answer breaks that law": "It was searched for: smaller ones hold, as far "
            "as the check could find.",
            "only that something is wrong": "It says more: which law, and on what.",
        },
        right="the smallest input on which your answer breaks that law",
    ),
)
