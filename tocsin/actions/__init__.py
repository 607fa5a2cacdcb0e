"""What may be done, and by whom: one verb for people, programs, commands and files alike."""
