"""What spans the rooms: health, metrics, the admin's home and commands for people."""
