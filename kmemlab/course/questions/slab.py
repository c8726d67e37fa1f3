"""Chapter 06: what to expect before reading on, and what to take away."""

from kmemlab.course.quiz import gate, question, quiz

CLASSES = gate(
    "A driver calls kmalloc(100, GFP_KERNEL). How many bytes of memory are gone for everybody else?",
    {
        "100": "Then objects of every size would lie side by side, and a gap of 100 bytes would fit nobody else.",
        "104": "Whole words of 8 bytes: so it is in a cache that was made for objects of 100 bytes. kmalloc has "
        "thirteen sizes only.",
        "128": "The next of thirteen sizes: 8, 16, 32, 64, 96, 128, … 28 bytes are lost, but any object of 97 to 128 "
        "bytes can have the place afterwards.",
        "4,096": "The page allocator has nothing smaller, but kmalloc cuts its pages into pieces.",
    },
    right="128",
)

QUIZ = quiz(
    question(
        "Where does SLUB keep the list of a slab's free objects?",
        {
            "in the free objects": "Nobody needs their bytes; each holds the address of the next.",
            "in an array at the slab's start": "SLAB had such bytes, at the end of a slab or elsewhere.",
            "in struct page": "Only the head of the list stands there.",
        },
        right="in the free objects",
    ),
    question(
        "CPU 1 frees an object that lies in CPU 0's slab. Where does it go?",
        {
            "to CPU 0's freelist": "Only CPU 0 may touch that: this is why it needs no lock.",
            "to CPU 1's freelist": "A CPU's freelist has objects of its own slab only.",
            "to the slab's own freelist": "CPU 0 takes that list over when its own is empty.",
        },
        right="to the slab's own freelist",
    ),
    question(
        "An interrupt handler needs 64 bytes. It calls kmalloc with …",
        {
            "GFP_KERNEL": "That may sleep, and a handler has no task that could be put to sleep.",
            "GFP_ATOMIC": "It never sleeps, may use reserves, and may fail: the handler must be ready for that.",
            "GFP_KERNEL | __GFP_ZERO": "Zeros don't make it safe.",
        },
        right="GFP_ATOMIC",
    ),
    question(
        "slub_debug reports bytes 6b 6b 6f 6f 70 73 6b in an object that nobody holds. What happened?",
        {
            "an overrun": "That would show in a red zone, bb or cc.",
            "a use after free": "6b is the poison of free objects; somebody wrote four bytes into it afterwards.",
            "a double free": "That writes nothing into the object; it is found on the freelist.",
        },
        right="a use after free",
    ),
    question(
        "When is a cache's constructor called?",
        {
            "at each kmem_cache_alloc": "Then it would save nothing.",
            "when a slab is made": "For each of its objects, once. Owners must give them back as they got them.",
            "at each kmem_cache_free": "That was never so; even destructors ran only when a slab was taken away.",
        },
        right="when a slab is made",
    ),
)
