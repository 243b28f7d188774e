"""The test stand: a C server that knows the truth, clients in processes of their own, and what comes out."""
