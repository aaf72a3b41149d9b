"""What a process tells its operators of itself: metrics, and traces where they are wanted.

A file for each subject, with its metrics and what counts them. Labels hold names of the contract
and of this code: never an id, and nothing of what a person wrote. A metric costs about a
microsecond, so they are always counted; `exposition.py` shows them where a setting says so.
"""
