"""What a notebook shows of a session and lets a person click."""
