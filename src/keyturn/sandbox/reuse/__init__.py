"""One sandbox for several programs, one after another.

Never takes the sandbox at its word: what counts is what the kernel tells of it from outside.
"""

from __future__ import annotations
