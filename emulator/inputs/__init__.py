"""What a user brings as files, in whatever encoding: text, tables, TOML; where the shipped ones lie."""
