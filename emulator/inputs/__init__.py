"""What a user brings as files, in whatever encoding: text, tables, TOML; where the shipped ones lie.

shipped      Where the profiles and traces lie that ship with the project
text_files   Text that a user brings, whatever program wrote it: UTF-8 or UTF-16 with its byte order mark
text_tables  Tables in text files: rows of cells under the names of their columns, whatever separates them
toml_files   The one reader of TOML files: profiles, experiments and whatever else is written in it
"""
