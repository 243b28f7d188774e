"""Puts this folder on the path, so that test folders share `made_rows`."""
