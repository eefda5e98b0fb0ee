"""Say whether these weights may load, here, now, offline.

Never asks a server, never takes its trust root from what it checks, and never clears what it cannot read.
"""
