"""Other projects' files of head scores: read, written, checked. What a format cannot carry is declared, not invented.

`records` holds the one type that all formats go through; each format has a module with its reader and its writer, and
`formats` knows them by name. `measures` says whether numbers can be copy rates, `names` what a quantised variant is
called. `folder` keeps an import on disk; `audit` says what is wrong with a foreign file; `reports` and `eee` write what
other sites read of a run.
"""
