"""The sub-commands that come with the sinks."""
