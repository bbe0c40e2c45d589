"""`python -m vlm_dlm` is the command line."""

from vlm_dlm.cli.entry import main

if __name__ == "__main__":
    main()
