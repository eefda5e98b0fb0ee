"""What people say with their names to it: salted, signed, shown, erased. Never puts their words into an entry."""
