"""The commands about this machine, and their screens: what it gives, and whether its sandboxes hold.

Never runs a remedy that it shows.
"""
