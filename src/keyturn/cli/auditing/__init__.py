"""The auditor's commands: their words, what they do, their screens.

Never says that a log is good: it says how far it was decided again, and what was illegal.
"""
