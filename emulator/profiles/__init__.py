"""Networks, devices and scenarios in ns, bytes and bit/s, read and checked from TOML files in human units."""
