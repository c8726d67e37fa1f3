"""Chapter 08: what to expect before reading on, and what to take away."""

from kmemlab.course.quiz import gate, question, quiz

FULL = gate(
    "After the film about 2 % of memory are free. What happens when the next program asks for 10 MiB?",
    {
        "it gets them": "Pages that hold a file's contents, unchanged, can be given up at once: the disk has them. "
        "MemAvailable says how much there is of that kind.",
        "it has to wait until the film's program ends": "It has ended. What is left of it are pages that nobody "
        "needs, kept because nobody else needs the memory.",
        "the OOM killer ends a program": "That is the last resort, when nothing can be given up. Here nearly "
        "everything can.",
    },
    right="it gets them",
)

FILM = gate(
    "A program has read 1,000 pages of a file, twice. Then a film of 15,000 pages is read once, which is more than "
    "memory has. How many of the 1,000 are still there?",
    {
        "none: the film's pages are newer": "So it would be with one list in the order of the last access.",
        "about 700: the lists share memory by size": "No share is worked out. It matters on which list a page is.",
        "all": "The second reading has made them active. Pages that are read once go through the inactive list, and "
        "reclaim takes from the active one only when it has become too long for the inactive one.",
    },
    right="all",
)

VICTIM = gate(
    "A fifth program with a leak has reached nearly 4,700 pages (oom_score_adj 0) when memory runs out. Who is killed?",
    {
        "the leak": "Nearly 4,700 pages are more than the 3,453 points of the editor.",
        "the editor": "It has the most points now, because of its +300. But the leak has grown past it.",
        "the browser": "The most memory of the four, but others have more points.",
        "sshd": "-1000 means never.",
    },
    right="the leak",
)

QUIZ = quiz(
    question(
        "free says: total 16,000, free 300, buff/cache 9,000, available 8,500 (MiB). Is the machine short of memory?",
        {
            "yes, 2 % are free": "What is free is of no use to anybody; the cache is.",
            "no, 8,500 are available": "That is the kernel's own estimate of what programs can have without swapping.",
            "only swap could tell": "Swap in use says what happened some day. Look at available, and at what changes.",
        },
        right="no, 8,500 are available",
    ),
    question(
        "A page of a file on the inactive list has PG_referenced, and is read once more by read(). What happens?",
        {
            "it moves to the active list": "The second access, as the flag says; and the flag is cleared.",
            "it moves to the head of the inactive list": "Then a page that is used all the time would still come to "
            "the tail again and again.",
            "nothing, it has the flag already": "That is so on the active list.",
        },
        right="it moves to the active list",
    ),
    question(
        "A zone has min 205, low 256 and high 307 pages. How far does kswapd go when it was woken?",
        {
            "until 256 are free": "Then it would be woken again by the next request.",
            "until 307 are free": "The distance between low and high is the time that it may sleep.",
            "until the list is empty": "Then there would be no cache.",
        },
        right="until 307 are free",
    ),
    question(
        "Which counter says that a machine thrashes?",
        {
            "pgscan_kswapd": "It grows on each machine that reads much, whether that is needed again or not.",
            "workingset_refault_file": "Pages that come back soon after they were given up.",
            "pgfault": "Each first access to a page of a program counts there, even on an idle machine.",
        },
        right="workingset_refault_file",
    ),
    question(
        "A machine without swap has 3 GiB of anonymous pages that nobody has touched for days, and 200 MiB of cache, "
        "and thrashes. What would help?",
        {
            "echo 1 > /proc/sys/vm/drop_caches": "The cache is what is missing.",
            "a swap area": "Then the pages that nobody touches could make room for the cache.",
            "a larger vm.min_free_kbytes": "That keeps still more memory unused.",
        },
        right="a swap area",
    ),
    question(
        "oom_score_adj is +500 for a program that has 1 % of memory. Another has 40 %. Who goes first?",
        {
            "the one with 40 %": "+500 thousandths count as half of all memory.",
            "the one with 1 %": "1 % and 50 % are more than 40 %.",
        },
        right="the one with 1 %",
    ),
)
