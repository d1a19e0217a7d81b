"""Records to strings; nothing here prints or writes."""
