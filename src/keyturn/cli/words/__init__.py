"""The words of nouns that have many: the grammar alone, so that `main` can be read in one sitting.

Never does anything, and never imports what a command needs.
"""
