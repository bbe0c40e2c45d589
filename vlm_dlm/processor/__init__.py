"""Images and prompts to token ids and pixels, and token ids back to text; imports no torch."""
