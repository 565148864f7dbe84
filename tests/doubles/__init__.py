"""Stand-ins for remote services: real clients talk to them over HTTP on 127.0.0.1."""
