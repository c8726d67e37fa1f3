"""enum zone_type, as the three configurations of Debian 6.1 have it.

x86-64 has no HighMem (all memory is in the direct map), i386 no DMA32 (nothing there is worth it).
"""

from kmemlab.types.units import GIB, MIB, PAGE_SHIFT

MAX_NR_ZONES = 5
ZONE_NAMES_AMD64 = ("DMA", "DMA32", "Normal", "Movable", "Device")
ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE, ZONE_DEVICE = range(5)

# Movable has the same number in both; of the others, only code for x86-64 uses the numbers above.
ZONE_NAMES_I386 = ("DMA", "Normal", "HighMem", "Movable")

MAX_DMA_ADDRESS = 16 * MIB  # what an ISA card reaches
MAX_DMA_PFN = MAX_DMA_ADDRESS >> PAGE_SHIFT
MAX_DMA32_PFN = 4 * GIB >> PAGE_SHIFT  # what a device with 32 address lines reaches
