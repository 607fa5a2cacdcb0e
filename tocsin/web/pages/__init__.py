"""The pages: a file each, named as its template is."""
