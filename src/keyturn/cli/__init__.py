"""The terminal: `keyturn NOUN VERB`, for people and for scripts.

Never decides anything, and never shows a claim stronger than what was checked.
"""
