"""The built-in subjects: small systems that improve themselves, so that the governor has something to govern.

Never imported by another room, and never trusted: they run in the sandbox like anyone else's subject.
"""
