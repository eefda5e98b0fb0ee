"""What is true and what may happen next: nouns, events, the fold, and the rules of every gate.

Never reads a clock, a file, the environment or dice; whatever it needs to know is handed in.
"""
