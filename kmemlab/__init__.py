"""Linux memory management from the BIOS to the OOM killer, as one machine you can step through."""

__version__ = "0.1.0"
