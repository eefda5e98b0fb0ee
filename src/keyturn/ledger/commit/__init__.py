"""From a client's hand to a witnessed head: entries of many clients in one data sync, and the states they pass.

Never acknowledges what is not durable, and never looks at what an entry says.
"""
