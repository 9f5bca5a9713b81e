"""What every other room stands on: files and JSON documents read without trust, limits, whose fault an error is."""
