"""How good and how fast the modes are on held-out drawn scenes."""
