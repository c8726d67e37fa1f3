"""The bytes that a watched object, or a page of a reserve, is full of while nobody has written it."""

POISON_INUSE = 0x5A  # held, and not written yet
POISON_FREE = 0x6B  # free
POISON_END = 0xA5  # the last byte of a free one: who runs beyond the object before it shows here
