"""enum zone_type, as the three configurations of Debian 6.1 have it.

x86-64 has no HighMem (all memory is in the direct map), i386 no DMA32 (nothing there is worth it).
"""

MAX_NR_ZONES = 5
ZONE_NAMES_AMD64 = ("DMA", "DMA32", "Normal", "Movable", "Device")
ZONE_DMA, ZONE_DMA32, ZONE_NORMAL, ZONE_MOVABLE, ZONE_DEVICE = range(5)

# Movable has the same number in both; of the others, only code for x86-64 uses the numbers above.
ZONE_NAMES_I386 = ("DMA", "Normal", "HighMem", "Movable")
