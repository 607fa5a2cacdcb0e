"""Apprise (https://appriseit.com): a hundred services more, asked in processes of their own that reach nothing but us.

Apprise blocks, and holes were found in it, so it is never imported by a process of ours: `workers` starts a fork server
when it is first needed, which costs about 50 MB, and ends it when it was idle. Each request is a child of it that is
confined (`confinement`), ends with its one answer (`worker`), and opens connections by asking us (`way_out`).
"""
