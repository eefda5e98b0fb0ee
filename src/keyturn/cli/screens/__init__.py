"""What people see: each screen is a function from a state to lines of text, without a terminal.

Never reads a clock, a file or the log, and never prints a word of the subject's that has not passed `safe`.
"""
