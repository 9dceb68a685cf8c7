"""`python -m jaxlstm`."""

from jaxlstm.cli import main

if __name__ == "__main__":
    main()
