"""Copies of released weights that are loaded on this machine and known to the governor: who they are, and their end.

It knows only who came by itself. A copy that never registered is nobody's to stop, and no receipt speaks of it.
"""
