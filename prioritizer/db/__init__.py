"""The ledger: SQLAlchemy is imported in this folder only."""
