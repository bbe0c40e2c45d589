"""The page: Gradio's parts around our own live view, all over the public HTTP interface."""
