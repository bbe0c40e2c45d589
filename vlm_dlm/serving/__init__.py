"""Around an engine: who waits, who runs next, and what happens when the engine dies. No HTTP."""
