"""What a governor writes down so that a later one, or another session, knows what may still live.

Never taken for proof: whoever reads it looks for itself, and doubts what cannot be read.
"""

from __future__ import annotations
