"""Chapter 01: what to expect before reading on, and what to take away."""

from kmemlab.course.quiz import gate, question, quiz
from kmemlab.hardware.spec import load_spec

RANGES = len(load_spec("laptop-8g").e820)

HOW_MANY = gate(
    "A laptop has 8 GiB of memory. Its firmware describes to the kernel which physical addresses are memory. "
    "In how many ranges, do you expect?",
    {
        "1: from 0 to 8 GiB": "Then a screen, a network card and the firmware itself would have no addresses left "
        "below 8 GiB. They need some, and they need them low.",
        "2: below and above the hole at 640 KiB": "That was true of the first PCs, and two is still the least that "
        "Linux believes. But much has settled in the address space since.",
        "more than 10": f"It is {RANGES}. Memory is cut by tables that the firmware left in it, by what the firmware "
        "keeps for itself, and by devices; what is displaced below 4 GiB appears again above.",
    },
    right="more than 10",
)

OVERLAP = gate(
    "Two ranges of a firmware's map overlap: one says usable (type 1), the other reserved (type 2). "
    "What should the kernel make of the addresses that both claim?",
    {
        "reserved": "The kernel loses some memory and keeps its life. That is why the higher type number wins: the "
        "numbers happen to grow with the doubt.",
        "usable": "If the firmware does need them, the kernel will overwrite it. That machine crashes some day, and "
        "nobody will know why.",
        "stop with an error": "The machine would not start, because of a firmware that its owner can't mend.",
    },
    right="reserved",
)

QUIZ = quiz(
    question(
        "The setup code calls int 0x15 with EAX = E820h. What does it put into EBX?",
        {
            "the number of the range that it wants": "Many BIOSes count, but no one promises it. EBX is whatever "
            "the BIOS said last time, 0 at first.",
            "the address of the buffer": "That is in ES:DI.",
            "what the BIOS left there after the last call": "The BIOS finds its place again by it. The kernel may "
            "not read anything into the value, except that 0 means the end.",
        },
        right="what the BIOS left there after the last call",
    ),
    question(
        "A BIOS gives six good ranges and then an answer without the signature SMAP. What does Linux use?",
        {
            "what E801h or 88h said": "The count goes back to 0, the map has fewer than two entries, and the kernel "
            "falls back to the larger of the two old numbers.",
            "the six ranges": "That is what happens after an error (carry flag). Without the signature nothing is "
            "believed any more, not even what came before.",
            "nothing: it stops": "Some memory is better than none.",
        },
        right="what E801h or 88h said",
    ),
    question(
        "The highest usable range ends at 0x7fe0800 (the first address behind it). What is last_pfn?",
        {
            "0x7fdf": "That is the last frame that is wholly memory. last_pfn is the one behind it, as the end of a "
            "range in Python.",
            "0x7fe0": "0x7fe0800 shifted right by 12 bits. The half frame at the end is lost.",
            "0x7fe1": "That would count a frame of which only a half is memory.",
        },
        right="0x7fe0",
    ),
    question(
        "You boot the 8 GiB laptop with mem=4G. How much memory do you have?",
        {
            "4 GiB": "mem= is an address, not an amount: nothing above address 4 GiB is used. Below it there is a hole "
            "for devices.",
            "8 GiB: the BIOS knows better": "The command line has the last word.",
            "less than 4 GiB": "Memory above address 4 GiB is forgotten. Below it devices have their hole, so less "
            "than 4 GiB is left.",
        },
        right="less than 4 GiB",
    ),
    question(
        "A map has reserved from 0 to 0x2000 and usable from 0x1000 to 0x3000. How many entries are left when it is in "
        "order?",
        {
            "1": "Then one type would have swallowed the other.",
            "2": "Reserved from 0 to 0x2000, usable from 0x2000 to 0x3000.",
            "3": "Reserved up to 0x1000 and reserved up to 0x2000 are neighbours of one type: they become one.",
        },
        right="2",
    ),
)
