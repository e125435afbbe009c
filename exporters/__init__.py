"""Writers of deployable files, one module a format. Must never know devices, tables or search."""
