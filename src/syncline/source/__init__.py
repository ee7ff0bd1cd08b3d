"""The company's database, behind one port."""
