"""`python -m prioritizer` is the command line."""

from prioritizer.cli.app import app

if __name__ == "__main__":
    app()
