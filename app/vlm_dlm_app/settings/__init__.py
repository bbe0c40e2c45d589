"""What an operator may set, where it comes from, and what follows from it."""
