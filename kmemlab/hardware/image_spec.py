"""ImageSpec: the kernel image as the boot loader placed it, and the sizes that its build fixed."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from kmemlab.hardware.checked_json import Range, Value, names_of
from kmemlab.sim.kernel import invented
from kmemlab.types.units import GIB, MIB


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class ImageSizes:
    """The KiB of the kernel image's parts, as the `Memory:` line prints them."""

    code: int = 14343
    rwdata: int = 2338
    rodata: int = 9116
    init: int = 2820
    bss: int = 17356


@invented("a machine described from outside: C has no such thing")
@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Where the boot loader put the kernel, and the sizes that the build fixed.

    The defaults are those of Debian's 6.1.0 amd64 build, loaded at 16 MiB (no KASLR).
    """

    code: Range = (0x1000000, 0x1E01D31)
    rodata: Range = (0x2000000, 0x28E6FFF)
    data: Range = (0x2A00000, 0x2C489BF)
    bss: Range = (0x330D000, 0x43FFFFF)
    brk: Range = (0x4400000, 0x4410FFF)
    kib: ImageSizes = field(default_factory=ImageSizes)
    percpu_static: int = 217088
    percpu_reserved: int = 8192
    percpu_dynamic: int = 28672
    real_mode: int = 28672
    smp_locks_kib: int = 36
    decrypted_kib: int = 2036
    # The addresses that KASLR gave to the image and to what it moves; None where nobody has told.
    text: int | None = None
    page_offset_base: int | None = None
    vmalloc_base: int | None = None
    vmemmap_base: int | None = None


@invented("the JSON form of a machine", traced=False)
def image_of(value: Value) -> ImageSpec:
    """The kernel image; what is not said is as in Debian's build."""
    value.only(*names_of(ImageSpec))
    given: dict[str, Any] = {}
    for key in ("code", "rodata", "data", "bss", "brk"):
        given[key] = value.optional(key, Value.range, None)
    for key in ("percpu_static", "percpu_reserved", "percpu_dynamic", "real_mode", "smp_locks_kib", "decrypted_kib"):
        given[key] = value.optional(key, Value.number, None)
    for key in ("text", "page_offset_base", "vmalloc_base", "vmemmap_base"):
        given[key] = value.optional(key, Value.number, None)
    given["kib"] = value.optional("kib", image_sizes_of, None)
    for key in ("page_offset_base", "vmalloc_base", "vmemmap_base"):
        if given[key] is not None and (given[key] % GIB or given[key] < 1 << 63):
            value[key].bad("KASLR puts this area at a multiple of 1 GiB among the kernel's addresses", "leave it out")
    image = ImageSpec(**{key: found for key, found in given.items() if found is not None})
    borders = [MIB, *(place for part in (image.code, image.rodata, image.data, image.bss, image.brk) for place in part)]
    if any(low > high for low, high in pairwise(borders)):
        value.bad(
            "the parts of the kernel image overlap, are out of order or lie below 1 MiB",
            "give code, rodata, data, bss, brk behind one another; leave all of them out for Debian's build",
        )
    return image


@invented("the JSON form of a machine", traced=False)
def image_sizes_of(value: Value) -> ImageSizes:
    """The sizes that the kernel prints."""
    value.only(*names_of(ImageSizes))
    given = {key: value.optional(key, Value.number, None) for key in ("code", "rwdata", "rodata", "init", "bss")}
    return ImageSizes(**{key: found for key, found in given.items() if found is not None})
