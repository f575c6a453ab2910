"""One structure a file: the class and everything known about it."""
