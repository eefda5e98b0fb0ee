"""People and their keys: made, kept encrypted, used in a process of their own; custody is recorded and shown.

Never lets a passphrase or an unlocked key into the governor's process.
"""
