"""Files that a user brings, in whatever encoding: text, tables, TOML; the folders of the shipped ones.

shipped      Folders of the profiles and traces that ship with the project
text_files   Text that a user brings, whatever program wrote it: UTF-8 or UTF-16 with its byte order mark
text_tables  Tables in text files: rows of cells under the names of their columns, whatever separates them
toml_files   The one reader of TOML files: profiles, experiments and whatever else is written in it
"""
