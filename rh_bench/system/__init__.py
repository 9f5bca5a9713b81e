"""The foundation of all other rooms: files, JSON documents from untrusted sources, limits, error reports."""
