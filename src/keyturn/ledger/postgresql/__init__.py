"""The log of a team in a PostgreSQL database: the same tables and promises as in a file, and a term for its governor.

Never decides who governs: it hands out terms, and writes nothing for a governor whose term is over.
"""
