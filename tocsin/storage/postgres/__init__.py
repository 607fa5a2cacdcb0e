"""The database itself: connections, the embedded server, migrations, secrets at rest."""
