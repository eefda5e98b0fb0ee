"""The shell: each stage reads, decides, records the intent, acts, and records the outcome.

Never acts before it has recorded, except to halt, and never decides for itself: `core` does.
"""
