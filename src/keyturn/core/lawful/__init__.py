"""What each kind of entry must be to be lawful, for `replay` to ask; decides again and never repairs."""
