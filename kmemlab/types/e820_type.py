"""enum e820_type: what a firmware says a range of physical addresses is good for, and what the kernel calls it."""

from __future__ import annotations

import re

E820_TYPE_RAM = 1
E820_TYPE_RESERVED = 2
E820_TYPE_ACPI = 3  # tables that may be read once and then used as memory
E820_TYPE_NVS = 4  # the firmware keeps it over sleep: hands off
E820_TYPE_UNUSABLE = 5
E820_TYPE_PMEM = 7
E820_TYPE_PRAM = 12
E820_TYPE_RESERVED_KERN = 128  # RAM that the boot loader put something into
E820_TYPE_SOFT_RESERVED = 0xEFFFFFFF

# type: (what the boot log prints, what /proc/iomem prints)
_NAMES = {
    E820_TYPE_RAM: ("usable", "System RAM"),
    E820_TYPE_RESERVED_KERN: ("usable", "System RAM"),
    E820_TYPE_RESERVED: ("reserved", "Reserved"),
    E820_TYPE_SOFT_RESERVED: ("soft reserved", "Soft Reserved"),
    E820_TYPE_ACPI: ("ACPI data", "ACPI Tables"),
    E820_TYPE_NVS: ("ACPI NVS", "ACPI Non-volatile Storage"),
    E820_TYPE_UNUSABLE: ("unusable", "Unusable memory"),
    E820_TYPE_PMEM: ("persistent (type 7)", "Persistent Memory"),
    E820_TYPE_PRAM: ("persistent (type 12)", "Persistent Memory (legacy)"),
}
_TYPES = {printed: number for number, (printed, _) in _NAMES.items() if number != E820_TYPE_RESERVED_KERN}


def e820_type_text(type: int) -> str:
    """What the boot log prints for a type.

    >>> e820_type_text(1), e820_type_text(9)
    ('usable', 'type 9')
    """
    return _NAMES[type][0] if type in _NAMES else f"type {type}"


def e820_type_resource(type: int) -> str:
    """What /proc/iomem prints for a type.

    >>> e820_type_resource(4), e820_type_resource(9)
    ('ACPI Non-volatile Storage', 'Unknown E820 type')
    """
    return _NAMES[type][1] if type in _NAMES else "Unknown E820 type"


def e820_type_number(text: str) -> int | None:
    """The type that a name of the boot log means, or None.

    >>> e820_type_number("ACPI NVS"), e820_type_number("type 9"), e820_type_number("good")
    (4, 9, None)
    """
    numbered = re.fullmatch(r"type (\d{1,10})", text)
    if numbered and int(numbered[1]) < 1 << 32:
        return int(numbered[1])
    return _TYPES.get(text)


def e820_type_names() -> tuple[str, ...]:
    """Every name that `e820_type_number` knows, but the numbered ones."""
    return tuple(_TYPES)
