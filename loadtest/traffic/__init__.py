"""What is sent and when. Pure: no sockets, no sleeping, no clock; everything follows from (profile, seed).

`profile` reads the TOML file, `schedule` is the face of the folder, `tokens` loads the stated encoding and
`replay` reads a recorded trace. The rest serves these.
"""
