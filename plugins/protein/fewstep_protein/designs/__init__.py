"""What a user does with a backbone generator: ask for lengths, keep what passes, get files and a table."""
