"""Other projects' files of head scores: read, written, checked. What a format cannot carry is declared, not invented.

`records` holds the one type that all formats go through; `formats` has a reader and a writer for each; `folder` keeps
an import on disk; `audit` says what is wrong with a foreign file; `reports` writes what other sites read of a run.
"""
