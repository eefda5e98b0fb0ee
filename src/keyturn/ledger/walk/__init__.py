"""The whole log computed again from its entries, in parts that do not need each other, by one process or two.

Never repairs, and never skips a part because a helper failed.
"""
