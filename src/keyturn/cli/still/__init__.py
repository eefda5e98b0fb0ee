"""Freeze and thaw from the terminal: hold everything still, look at it, let it go on.

Never decides whether something may go on.
"""
