"""Users, projects and how they sign in."""
