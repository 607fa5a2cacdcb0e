"""People, projects and how they get in."""
