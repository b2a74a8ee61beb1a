"""Networks, devices and scenarios in ns, bytes and bit/s, read and checked from TOML files in human units.

absence_files  Absences of clients as a file: CSV with the header ``from_s,to_s``, one span a line
availability   Absences of a client: listed spans, or drawn ones, in the order in which they come
capacity       The rate of one direction of a link or a cell over time, and of both where it is half duplex
client_tables  Clients as a table: a row a client, whose columns override keys of its group's device and network
networks       Networks and cells from their profile files: rates, delays and losses as numbers
power          Power of devices and radios: graded numbers in nW, ns and aJ/bit
power_reading  Power numbers from the files of devices and networks
reading        Networks, devices and scenarios: TOML files in human units, typed integers (ns, bytes, bit/s) out
scenario       Networks, devices and scenarios as structs: typed integers (ns, bytes, bit/s)
schema         The format of profile files: keys, types and units, and for every mistake one line with the remedy
"""
