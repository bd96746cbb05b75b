"""Looking into a program that runs: a live page of its loop, and a watchdog over it.

Both are for whoever runs the program.  They change nothing, and cost nothing while nobody looks.
"""

from .inspector import Inspector, InspectorOptions
from .watchdog import Watchdog

__all__ = ["Inspector", "InspectorOptions", "Watchdog"]
