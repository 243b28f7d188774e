"""A local network of nodes with the documented behaviour: a pure seeded state machine and a thin HTTP shell."""
