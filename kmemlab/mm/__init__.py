"""Floor 4: one data structure a file: mem_map, zone, node, zonelist, buddy, watermark."""
