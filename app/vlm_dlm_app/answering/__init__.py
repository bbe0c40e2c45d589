"""From what a client asks to what it is told: one answer, several, or one in each mode."""
