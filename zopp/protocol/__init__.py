"""What client and server say to each other, pure: bytes in, values out; time and randomness are passed in.

Both sides import the same module for each message, so that there is one description of it. Sockets, storage, policy
decisions and what a user reads are the edges': `client`, the server, `cli`.
"""
