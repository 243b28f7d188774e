"""A process of its own on the master: receives spool frames, acknowledges them, writes Parquet."""
