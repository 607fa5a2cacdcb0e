"""Actions: what may be done, and by whom; one function for pages, API, commands and files alike."""
